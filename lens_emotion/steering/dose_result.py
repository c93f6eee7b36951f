"""DoseResponse: what a steering experiment found, in both units, beside its controls."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from lens_emotion.display import Result
from lens_emotion.errors import AnalysisError, ArtifactError, DoseError
from lens_emotion.files.artifacts import atomic_write, check_each, check_is, check_whole, digest
from lens_emotion.files.names import check_name
from lens_emotion.files.read import read_text, strict_json
from lens_emotion.files.user import record
from lens_emotion.pictures import Line
from lens_emotion.stats.tests import p_text, wilson_interval
from lens_emotion.steering.outcomes import CONDITIONS, condition_row, mcnemar_p, thresholds_of, with_text_regimes
from lens_emotion.steering.paired import PairedOutcome, able, paired_outcome
from lens_emotion.steering.regimes import REGIMES, SURGICAL, Thresholds
from lens_emotion.steering.side_effects import SideEffects, side_effects_of
from lens_emotion.stimuli.sets import has_text
from lens_emotion.vectors.emotion_vectors import LARGEST

NO_HEADLINE = "no success rate can be given, since with one opening an emotion every dose is chosen on its own texts"
LEAST_TOLD = 0.5  # share of texts that hold any, below which nothing can be said of them


@dataclass(frozen=True, eq=False, repr=False)
class DoseResponse(Result):
    """Result of a steering experiment.

    Attributes:
        table: one row per dose and condition ("emotion", "random"): dose in both units, n, success and moved (counts,
            rates, Wilson intervals), the same for the other-emotion control (other_...; in rows of "emotion"), exact
            McNemar p against random (p_random, p_moved; p_corrected: Holm over doses) and against the other emotion
            (p_other), top_emotions (emotions of which the target ranks first), perplexity ratio, surprise, entropy,
            distinct-2, loop share, edit distance, looping, changed, regime; no_text and broken count texts that hold
            nothing, and those that ended since the model's numbers overflowed.
        texts: one row per text of these two conditions. others: the same for the other-emotion control.
        unsteered: the texts of dose 0.
        scores: the judge's scores of all of them (condition, dose, scenario, one column per emotion).
        layer: steered layer, or "all" or several.
        judge: name and accuracy of the judge.
        judge_accuracy: measured accuracy, None if unknown.
        judge_independent: False if the judge is the steered model itself.
        thresholds: where the regimes begin.
        n_emotions: number of emotions steered towards.
        groups: label groups of the judge, empty if it tells all its emotions apart.

    Raises:
        ArtifactError: numbers that are no such: a share or p-value outside of 0 to 1, a count above n, a rate that
            is not its count, a dose that is not finite or in neither unit, an unknown condition or regime.
    """

    _picture = Line("dose", "success_rate", "success_low", "success_high", band="95% intervals", group="condition")

    table: pd.DataFrame
    texts: pd.DataFrame
    others: pd.DataFrame
    unsteered: pd.DataFrame
    scores: pd.DataFrame
    layer: int | str
    judge: str
    judge_accuracy: float | None
    judge_independent: bool
    thresholds: Thresholds
    n_emotions: int
    groups: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        for name in _FRAMES:
            _check_frame(name, getattr(self, name))
        check_whole("n_emotions", self.n_emotions, 1)
        check_name("judge", self.judge)
        check_is("judge_independent", self.judge_independent, (bool, np.bool_))
        check_is("judge_accuracy", self.judge_accuracy, (float, int, np.floating, type(None)))
        check_is("thresholds", self.thresholds, Thresholds)
        check_is("groups", self.groups, dict)
        check_each("notes", self.notes, str)
        if isinstance(self.layer, str):
            check_name("layer", self.layer)
        else:
            check_whole("layer", self.layer)
        if self.judge_accuracy is not None and not 0 <= self.judge_accuracy <= 1:
            raise ArtifactError(f"judge_accuracy is {self.judge_accuracy}; it is a share from 0 to 1")
        if "dose" in self.table:
            known = {0.0, *_numbers("table", "dose", self.table)}
            for name in [n for n in ("texts", "others", "scores") if "dose" in getattr(self, n)]:
                if other := set(_numbers(name, "dose", getattr(self, name))) - known:
                    raise ArtifactError(f"{name} has a dose {other.pop():g}, which the table does not know")
        if {"dose", "dose_natural", "dose_relative"} <= set(self.table):
            units = np.stack([_numbers("table", c, self.table) for c in ("dose_natural", "dose_relative")])
            apart = np.abs(units - _numbers("table", "dose", self.table)) > WITHIN * np.abs(units)
            if apart.any(1).all():
                raise ArtifactError("in table, dose is neither dose_natural nor dose_relative in every row")

    @property
    def surgical_dose(self) -> float | None:
        """The surgical dose with the highest success rate (the smaller of equals), None if no dose is surgical.

        Picked on the scenarios of its own success, which is therefore no result; that is `headline`.
        """
        rows = self.table[(self.table.condition == "emotion") & (self.table.regime == SURGICAL)]
        if rows.empty:
            return None
        best = rows.sort_values(["success_rate", "top_emotions", "dose"], ascending=[False, False, True])
        return float(best.iloc[0].dose)

    @property
    def forms(self) -> pd.DataFrame:
        """The paper's form (target score above unsteered: k/n) beside the controlled one (the success rule).

        One row per dose and form: emotion, random and other as counts out of n, rate of the emotion condition with
        interval, McNemar p of emotion against random.
        """
        rows = []
        random = self.table[self.table.condition == "random"].set_index("dose")
        for row in self.table[self.table.condition == "emotion"].to_dict("records"):
            for form, name, p in (("paper", "moved", "p_moved"), ("controlled", "success", "p_random")):
                kept = {k: row[f"{name}_{k}"] for k in ("rate", "low", "high")}
                counts = {"emotion": row[name], "random": random.loc[row["dose"], name]}
                counts["other"] = row.get(f"other_{name}", np.nan)
                rows.append({"dose": row["dose"], "form": form, "n": row["n"], **counts, **kept, "p": row[p]})
        return pd.DataFrame(rows)

    @property
    def by_emotion(self) -> pd.DataFrame:
        """Dose-response curve of every emotion: emotion, dose, n, mean target score steered (target_score), unsteered,
        with random directions (random) and with another emotion's vector (other), and successes."""
        keys = ["emotion", "dose"]
        mine = self.texts[self.texts.condition == "emotion"].groupby(keys)
        table = mine.agg(
            n=("success", "size"),
            target_score=("target_score", "mean"),
            unsteered=("unsteered_score", "mean"),
            success=("success", "sum"),
        )
        control = self.texts[self.texts.condition == "random"].groupby(keys)
        table["random"], table["random_success"] = control["target_score"].mean(), control["success"].sum()
        table["other"] = self.others.groupby(keys)["target_score"].mean() if len(self.others) else np.nan
        order = list(dict.fromkeys(self.texts.emotion))
        table = table.reset_index()
        return table.sort_values(
            keys, key=lambda c: c.map(order.index) if c.name == "emotion" else c, ignore_index=True
        )

    @cached_property  # page, tables, claims and sentences ask
    def headline(self) -> CrossFitted | None:
        """What steering does, in one number: success at doses that other openings chose. None where no emotion has a
        second opening: the best of the doses on the texts that chose it would say more than it knows."""
        try:
            return self.cross_fitted()
        except AnalysisError:
            return None

    @property
    def shown_dose(self) -> float:
        """The dose whose texts are shown: the first that `headline` tests, else the middle one of those run."""
        doses = sorted(float(d) for d in self.table["dose"].unique())
        found = self.headline
        return found.doses[0] if found is not None and found.doses else doses[len(doses) // 2]

    def cross_fitted(self) -> CrossFitted:
        """The dose chosen on one opening of each emotion and tested on the other, and the other way round.

        Raises:
            AnalysisError: fewer than two openings per emotion.
        """
        return cross_fit(self.texts, self.others, self.thresholds)

    def paired(self) -> PairedOutcome:
        """Gains of the target's score over both controls, over emotions, at doses that other openings chose.

        Raises:
            AnalysisError: fewer than two openings per emotion, or fewer than three emotions.
        """
        return paired_outcome(self.texts, self.others)

    @property
    def sight(self) -> float:
        """How far the judge's scores move beside those of a judge that is half way from its chance to perfect, up to 1:
        what would matter to the text is less to a judge that hardly sees it."""
        sees, chance = self.able
        return min(1.0, 2 * ((self.judge_accuracy or 0.0) - chance) / (1 - chance)) if sees and chance < 1 else 1.0

    @property
    def able(self) -> tuple[bool, float]:
        """Whether the judge can tell the emotions apart that it looked for, and its own chance."""
        judged = [c for c in self.scores.columns if c not in ("condition", "dose", "scenario")]
        return able(self.judge_accuracy, judged, self.groups)

    def side_effects(self, dose: float | None = None) -> SideEffects:
        """Steered emotion x judged emotion: mean change in score against the random control.

        Args:
            dose: one of those run; None for the surgical dose.

        Raises:
            DoseError: the dose was not run, or none is given and no dose is surgical.
        """
        chosen = self.surgical_dose if dose is None else dose
        if chosen is None:
            raise DoseError("no dose was surgical; give the dose whose side effects you want")
        self.at(chosen)
        emotions = self.texts.drop_duplicates("scenario").set_index("scenario")["emotion"].sort_index()
        return side_effects_of(self.scores, emotions, chosen, self.groups)

    def at(self, dose: float, condition: str = "emotion") -> pd.Series:
        """The table's row of one dose and condition."""
        rows = self.table[np.isclose(self.table.dose, dose) & (self.table.condition == condition)]
        if rows.empty:
            known = ", ".join(f"{d:g}" for d in sorted(self.table.dose.unique()))
            raise DoseError(f"dose {dose:g} ({condition}) was not run; this result holds {known}")
        return rows.iloc[0]

    @property
    def silent(self) -> str:
        """Why these texts say nothing about steering, "" if they do: fewer than half of the unsteered ones hold text,
        or at every dose of the steered ones."""
        rows = self.table[(self.table.condition == "emotion") & (self.table.dose > 0)]
        told = self.unsteered["text"].map(has_text)
        if told.mean() < LEAST_TOLD:
            which, empty, n = "unsteered", int((~told).sum()), len(told)
        elif "no_text" in rows and (1 - rows.no_text / rows.n).max() < LEAST_TOLD:
            which, empty, n = "steered", int(rows.no_text.sum()), int(rows.n.sum())
        else:
            return ""
        return f"{empty} of {n} {which} texts hold no text"

    @property
    def spoilt(self) -> str:
        """How many steered texts hold no text, or broke off, in words; nothing if none."""
        rows = self.table[self.table.condition == "emotion"]
        said = {"no_text": "hold no text", "broken": "broke off (NaN or infinite logits)"}
        parts = []
        for column, words in said.items():
            if column in rows and (k := int(rows[column].sum())):
                doses = ", ".join(f"{d:g}" for d in rows.dose[rows[column] > 0])
                parts.append(f"; {k} of {int(rows.n.sum())} steered texts {words} (dose {doses})")
        return "".join(parts)

    def summary(self) -> str:
        """Success at doses that other openings chose, with its interval and both controls; the table has every dose."""
        found = self.headline
        if found is None:
            said = f"{NO_HEADLINE}; the table has what came of each"
        else:
            said = found.summary()
            if found.doses:
                rows = [[self.at(d, c).perplexity_ratio for d in found.doses] for c in CONDITIONS[:2]]
                mine, control = (" and ".join(f"{x:.2f}" for x in row) for row in rows)
                said += f"; perplexity ratio {mine} (random {control})"
        return f"steering at layer {self.layer}: {said}; judge: {self.judge}{self.spoilt}"


# The best dose without picking it on the scenarios it is reported on.
@dataclass(frozen=True, eq=False, repr=False)
class CrossFitted(Result):
    """Success at a dose that was chosen on other openings of the same emotions.

    Attributes:
        table: one row per half: opening tested on, dose (None if no dose was surgical on the other half), n, success,
            random, other (successes of the controls on the same scenarios; nan if other was not run).
        success, n: over both halves; a half without a surgical dose counts as failures.
        low, high: 95% Wilson interval of success / n.
        random, other: successes of the controls at the same doses.
        p: exact McNemar of emotion against random directions on the same scenarios.
    """

    table: pd.DataFrame
    success: int
    n: int
    low: float
    high: float
    random: int
    other: int | None
    p: float

    @property
    def doses(self) -> tuple[float, ...]:
        """The doses that were tested, each once."""
        return tuple(dict.fromkeys(float(d) for d in self.table["dose"].dropna()))

    @property
    def told(self) -> str:
        """Those of both halves in words: "3", "2 and 4", "3 and none"."""
        return " and ".join(dict.fromkeys("none" if pd.isna(d) else f"{d:g}" for d in self.table["dose"]))

    @property
    def rate(self) -> str:
        """Success with its 95% interval, in words."""
        return f"{self.success}/{self.n} = {self.success / self.n:.2f} [{self.low:.2f}, {self.high:.2f}]"

    @property
    def controls(self) -> str:
        """Successes of the controls, in words."""
        other = "" if self.other is None else f", another emotion's vector {self.other}/{self.n}"
        return f"random directions {self.random}/{self.n}{other}"

    @property
    def beyond(self) -> bool:
        """Whether the interval of success lies above those of both controls."""
        tops = [wilson_interval(k, self.n)[1] for k in (self.random, self.other) if k is not None]
        return self.low > max(tops)

    def summary(self) -> str:
        if not self.doses:
            return "no dose was surgical on either half of the openings, so that none was tested on the other"
        return (
            f"{self.rate} scenarios succeed, {self.controls} (dose chosen on one opening of each emotion, tested on "
            f"the other: {self.told}; McNemar {p_text(self.p)})"
        )


def cross_fit(texts: pd.DataFrame, others: pd.DataFrame, thresholds: Thresholds) -> CrossFitted:
    """Choose the best surgical dose on one opening of each emotion, test it on the other, and the other way round.

    Args:
        texts: of conditions "emotion" and "random". others: of the other-emotion control, perhaps empty.

    Raises:
        AnalysisError: fewer than two openings per emotion.
    """
    parity = texts.get("opening", pd.Series(dtype=int)) % 2  # a table without its texts has none
    if parity.nunique() < 2:
        raise AnalysisError("cross-fitting needs two openings per emotion; give two scenarios of each")
    rows, mine_all, random_all = [], [], []
    for half in (0, 1):
        dose = best_dose(texts[parity != half], thresholds)
        tested = texts[parity == half]
        n = int(tested["scenario"].nunique())
        row: dict[str, float] = {"opening": half, "dose": float("nan"), "n": n, "success": 0, "random": 0, "other": 0}
        if dose is not None:
            hits = pd.concat([tested, others[others["opening"] % 2 == half]]) if len(others) else tested
            hits = hits[hits.dose == dose].sort_values("scenario")
            mine, random, other = (hits[hits.condition == c]["success"].astype(bool) for c in CONDITIONS)
            row |= {"dose": dose, "success": int(mine.sum()), "random": int(random.sum()), "other": int(other.sum())}
            mine_all += mine.tolist()
            random_all += random.tolist()
        rows.append(row)
    table = pd.DataFrame(rows)
    success, n_all = int(table.success.sum()), int(table.n.sum())
    low, high = wilson_interval(success, n_all)
    p = mcnemar_p(pd.Series(mine_all, dtype=bool).to_numpy(), pd.Series(random_all, dtype=bool).to_numpy())
    other_total = None if others.empty else int(table.other.sum())
    return CrossFitted(table, success, n_all, low, high, int(table.random.sum()), other_total, p)


def best_dose(texts: pd.DataFrame, thresholds: Thresholds) -> float | None:
    """The surgical dose with most successes (the smaller of equals); None if no dose is surgical."""
    found: dict[float, int] = {}
    for dose, group in texts.groupby("dose"):
        mine, random = (group[group.condition == c].sort_values("scenario") for c in ("emotion", "random"))
        if condition_row(mine, random, None, thresholds)["regime"] == SURGICAL:
            found[float(str(dose))] = int(mine.success.sum())
    return max(sorted(found), key=lambda d: found[d]) if found else None


# A DoseResponse as a JSON file: tables and texts, to be read back without running anything again.
SCHEMA = 4  # raised whenever a file of before cannot be read as the present DoseResponse
_FRAMES = ("table", "texts", "others", "unsteered", "scores")
_PLAIN = ("layer", "judge", "judge_accuracy", "judge_independent", "n_emotions", "groups")


_COUNTS = ("success", "moved", "other_success", "other_moved", "no_text", "broken")
WITHIN = 1e-3  # of a dose, which went through single precision
_SHARES = ("p_", "success_", "moved_", "other_success_", "other_moved_", "share_")
_BIG = float(np.finfo(float).max)
# what a number may be, by its column; a text that broke off has an infinite NLL and perplexity ratio
_LIMITS = {
    "dose": (-LARGEST, LARGEST), "dose_natural": (-np.inf, np.inf), "dose_relative": (-np.inf, np.inf), "n": (1, _BIG),
    "loop_share": (0, 1), "distinct_2": (0, 1), "edit_distance": (0, 1), "entropy": (-WITHIN, _BIG),
    "perplexity_ratio": (0, np.inf), "surprise": (0, np.inf), "nll": (-WITHIN, np.inf),
    "unsteered_nll": (-WITHIN, np.inf),
    **dict.fromkeys(_COUNTS, (0, _BIG)), "top_emotions": (0, _BIG),
}  # fmt: skip
_NAMED = {"condition": {*CONDITIONS, "unsteered"}, "regime": {*REGIMES, ""}, "text_regime": set(REGIMES)}


def _check_frame(name: str, frame: pd.DataFrame) -> None:
    """Raises ArtifactError with the first column whose numbers are not what they are called (missing: unknown)."""
    if not isinstance(frame, pd.DataFrame) or not frame.columns.is_unique:
        raise ArtifactError(f"{name} is no table with each column once")
    for column in [c for c in _NAMED if c in frame]:
        if other := sorted(set(map(str, frame[column].astype(object).dropna())) - _NAMED[column]):
            raise ArtifactError(f"{column} in {name} is {other[0][:60]!a}; known: {', '.join(sorted(_NAMED[column]))}")
    for column in [c for c in map(str, frame.columns) if c in _LIMITS or c.startswith(_SHARES)]:
        (low, high), values = _LIMITS.get(column, (0, 1)), _numbers(name, column, frame)
        if (bad := values[(values < low) | (values > high)]).size:
            raise ArtifactError(f"{column} in {name} is {bad[0]:g}; it lies from {low:g} to {high:g}")
    for column in [c for c in ("dose",) if c in frame]:  # in the other unit it may be beyond any number
        if np.isinf(_numbers(name, column, frame)).any():
            raise ArtifactError(f"{column} in {name} is infinite; a dose is a number")
    for column in [c for c in _COUNTS if c in frame and "n" in frame]:
        k, n = _numbers(name, column, frame), _numbers(name, "n", frame)
        share = _numbers(name, f"{column}_rate", frame) if f"{column}_rate" in frame else k / n
        if (k > n).any() or (np.abs(share - k / n) > WITHIN).any():
            raise ArtifactError(f"{column} in {name} is no count out of n, or {column}_rate is not its share")


def _numbers(name: str, column: str, frame: pd.DataFrame) -> Float[np.ndarray, " rows"]:
    try:
        return frame[column].to_numpy(dtype=float, na_value=np.nan)
    except (TypeError, ValueError, OverflowError):
        raise ArtifactError(f"{column} in {name} holds what is no number") from None


def save_dose_response(result: DoseResponse, path: str | Path) -> Path:
    """Write a result as JSON, atomically."""
    result.__post_init__()  # a table may have been written into
    data = {"schema": SCHEMA} | {name: getattr(result, name) for name in _PLAIN}
    data |= {name: _frame_to_json(getattr(result, name)) for name in _FRAMES}
    data |= {"thresholds": asdict(result.thresholds), "notes": list(result.notes)}
    data["sha256"] = digest(data, {})
    return atomic_write(path, json.dumps(data, ensure_ascii=False) + "\n")


def load_dose_response(path: str | Path) -> DoseResponse:
    """Read a file written by `save_dose_response`.

    Raises:
        ArtifactError: missing, truncated, changed since, of another kind, or written by a version with other columns.
    """
    try:
        data = strict_json(read_text(path), infinite=True)  # of texts that broke off
        if data["schema"] != SCHEMA:
            raise ValueError(f"its schema is {data['schema']}, this version reads {SCHEMA}")
        if "sha256" in data and data["sha256"] != digest(data, {}):
            raise ValueError("its content does not match its checksum")
        held: dict[str, Any] = {name: _frame_from_json(data[name]) for name in _FRAMES}
        held |= {name: data[name] for name in _PLAIN}
        thresholds = record(Thresholds, data["thresholds"], "its thresholds")
        notes = data["notes"]
        if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
            raise ValueError("its notes are no list of texts")
        if "surprise" not in held["table"]:
            thresholds = _judged_anew(held)
        return DoseResponse(**held, thresholds=thresholds, notes=tuple(notes))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, ArtifactError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ArtifactError(f"{path} is not a readable steering result ({what}); run the step again") from None


def _judged_anew(held: dict[str, Any]) -> Thresholds:
    """Give a file from before regimes rested on surprise those of today: its texts hold all that they take."""
    thresholds = thresholds_of(held["unsteered"])
    for name in ("texts", "others"):
        if len(held[name]):
            held[name] = with_text_regimes(held[name], thresholds)
    table, texts, found = held["table"], held["texts"], list[dict[str, Any]]()
    for dose, condition in zip(table["dose"], table["condition"], strict=True):
        of_dose = dict(list(texts[texts["dose"] == dose].sort_values("scenario").groupby("condition")))
        found.append(condition_row(of_dose[condition], of_dose["random"], None, thresholds))
    held["table"] = table.assign(**{name: [row[name] for row in found] for name in ("surprise", "looping", "regime")})
    regimes = held["table"].set_index(["condition", "dose"])["regime"]
    held["texts"]["regime"] = [regimes[of] for of in zip(texts["condition"], texts["dose"], strict=True)]
    return thresholds


def _frame_to_json(frame: pd.DataFrame) -> dict[str, Any]:
    """Exact: floats to the last bit, and with their types, so that a column of 1.0 and 2.0 does not become integers."""
    types = {str(name): kind.name for name, kind in frame.dtypes.items() if kind.kind in "bif"}
    rows = frame.astype(object).where(frame.notna(), None).to_numpy().tolist()
    return {"columns": [str(c) for c in frame.columns], "types": types, "data": rows}


_FLOAT = (int, float, type(None))  # judges score in the precision that they have
_HELD = {"bool": (bool,), "int32": (int,), "int64": (int,), "float16": _FLOAT, "float32": _FLOAT, "float64": _FLOAT}


def _frame_from_json(data: dict[str, Any]) -> pd.DataFrame:
    if unknown := set(data["types"].values()) - _HELD.keys():
        raise ValueError(f"a column is of the unknown type {min(map(str, unknown))[:40]}")
    if not all(isinstance(name, str) for name in data["columns"]):
        raise ValueError("its columns are not named by texts")
    if not isinstance(data["data"], list) or not all(isinstance(row, list) for row in data["data"]):
        raise ValueError("its rows are no lists")
    if wrong := next((i for i, row in enumerate(data["data"]) if len(row) != len(data["columns"])), None):
        raise ValueError(f"row {wrong} has another length than the columns")
    plain = pd.DataFrame(data["data"], columns=data["columns"], dtype=object)
    for name, kind in data["types"].items():
        if not plain[name].map(lambda x, fits=_HELD[kind]: type(x) in fits).all():
            raise ValueError(f"column {name} holds what is no {kind}")
    return plain.infer_objects().astype(data["types"])
