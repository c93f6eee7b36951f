"""k of n, and who counted: successes beside what chance gives, and judges beside their own chance."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.stats import binomtest, fisher_exact

from lens_emotion.audits.finding import CRITICAL, MAJOR, MINOR, Fault, Reply, Seen, Unasked
from lens_emotion.audits.subject import Subject, Table
from lens_emotion.audits.wording import is_control
from lens_emotion.audits.worst import Part, worst
from lens_emotion.stats.tests import p_text, wilson_interval
from lens_emotion.steering.judges import OWN_STATES, SAME_TEXTS
from lens_emotion.steering.paired import ABLE

ALPHA = 0.05
GUESS = 0.5  # of "the score rose": random directions reach it in .38 to .62 of the scenarios
LEAST_JUDGED = 10  # labelled texts, below which the accuracy of a judge is no measurement; and one text of every class
WORDED = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}
TOLD = 60  # characters of a judge's name that are said
WITHOUT = "is how far the rate is from one half"
GROUPS = ("model", "method", "condition")


def counts(subject: Subject) -> Iterator[Reply]:
    """Successes or right answers without what chance or a control gives, or no more than that."""
    for table in subject.tables:
        rows = _rows(table)
        if isinstance(rows, str):
            yield Unasked(f"{table.name} {rows}")
        elif rows is not None:
            keys = [c for c in ("model", "method", "condition") if c in rows]
            groups = rows.groupby(keys, dropna=False) if keys else [((), rows)]
            yield from worst([_count(group, table.name, ", ".join(map(str, key))) for key, group in groups])


def _rows(table: Table) -> pd.DataFrame | str | None:
    """k, n and what they are compared with, or why there is no such; single texts are added up. None: no counts."""
    frame = table.frame
    given = next((c for c in ("success", "accuracy", "rate") if table.has(c)), None)
    if given is None or (table.has("text") and table.on_tokens):  # the headline of an experiment has its own table
        return None
    single = _single_texts(table, given)
    if single is not None:
        return _beside(_added(frame, single).assign(chance=_chance(table, given)))
    value = pd.to_numeric(frame[given], errors="coerce")
    if value.isna().all():
        return None
    if not table.has("n"):
        return "has shares, but not out of how many (column n)"
    n = frame["n"].astype(float)
    counted = given == "success" and bool((value > 1).any() or (table.has("control") and (frame["control"] > 1).any()))
    small = given == "success" and not counted and bool(value.dropna().isin([0, 1]).all())
    if small and ((value == 1) & (n > 1)).any():
        return "does not say whether a success of 1 is one of n or all of them (give counts such as 1/40)"
    counted = counted or small
    known = (*GROUPS, "emotion", "layer", "dose", "p", "chance")
    kept = frame[[c for c in known if c in frame]]
    made = kept.assign(k=value if counted else (value * n).round(), n=n)
    if "control" in frame:
        share = not counted or bool(frame["control"].between(0, 1).all() and (frame["control"] % 1 != 0).any())
        made["control"] = (frame["control"] * n).round() if share else frame["control"]
        made["control_n"] = n
    if "chance" not in made:
        made["chance"] = _chance(table, given)
    return _beside(made.dropna(subset=["k", "n"]))


def _single_texts(table: Table, given: str) -> pd.Series | None:
    """Which single texts succeed, where rows are texts: true and false, or 0 and 1. None: counts or shares.

    What stands beside true and false as a number is no "out of how many" (a word count, the texts of a whole layer).
    """
    value = table.frame[given]
    said = value.astype("string").str.strip().str.casefold()
    if said.dropna().isin(list(WORDED)).all():
        return said.map(WORDED).astype(float)
    number = pd.to_numeric(value, errors="coerce")
    if given != "success" or not number.dropna().isin([0, 1]).all() or number.isna().all():
        return None
    if table.has("n"):
        return number if table.has("text") or bool((table.frame["n"] == 1).all()) else None
    whole = pd.api.types.is_integer_dtype(value) or number.nunique() == 2  # shares of layers may all be 1.0
    return number if whole else None


def _added(frame: pd.DataFrame, right: pd.Series) -> pd.DataFrame:
    """Texts of one cell added up. Layers are cells of their own: the same texts again, and no further trials."""
    keys = [c for c in (*GROUPS, "emotion", "dose", "layer") if c in frame]
    if "emotion" in keys and not is_control(frame[["emotion"]]).any():
        keys.remove("emotion")
    cells = frame[keys].assign(k=right, n=1.0)[right.notna().to_numpy()]
    if not keys:
        return pd.DataFrame({"k": [cells["k"].sum()], "n": [float(len(cells))]})
    return cells.groupby(keys, dropna=False)[["k", "n"]].sum().reset_index()


def _beside(rows: pd.DataFrame) -> pd.DataFrame | str:
    """Rows of a control (random directions, another emotion, no steering) set beside those that they control."""
    if "control" in rows or not len(rows):
        return rows
    controls = is_control(rows)
    if not controls.any():
        return rows
    if controls.all():
        return "holds controls only, of which nothing is claimed"
    mine = rows[~controls].reset_index(drop=True)
    others = rows[controls & (rows["n"] > 0).to_numpy()]
    keys = [c for c in ("model", "method", "dose") if c in rows and not is_control(rows[[c]]).any()]
    if "dose" in keys and not others["dose"].isin(mine["dose"]).any():  # the unsteered texts are those of dose 0
        keys.remove("dose")
    most = (
        others.assign(share=others["k"] / others["n"])
        .sort_values(["share", "n"])
        .groupby(keys or np.zeros(len(others)))
    )
    found = most.tail(1)[[*keys, "k", "n"]].rename(columns={"k": "control", "n": "control_n"})
    return mine.merge(found, on=keys, how="left") if keys else mine.merge(found, how="cross")


def _chance(table: Table, given: str) -> float:
    """That of naming one of the classes, for an accuracy of so many classes."""
    return 1 / table.n_emotions if given == "accuracy" and table.n_emotions else np.nan


def _count(group: pd.DataFrame, table: str, called: str) -> Part:
    """The row of a group that speaks most clearly, against its control or chance; as the best of so many rows."""
    where = f"{table}{', ' if called else ''}{called}"
    name, m = called or table, len(group)
    if wrong := _impossible(group):
        return Part(name, 0, Unasked(f"{where}: {wrong}"))
    rows = group[group["n"] > 0].to_dict("records")
    if not rows:
        return Part(name, 0, Unasked(f"{where}: 0 of 0"))
    rows = [row for row in rows if _known(row, "control") or _known(row, "chance")] or rows
    row = min(rows, key=lambda r: (_p(r), -r["k"] / r["n"]))
    k, n, p = round(row["k"]), round(row["n"]), min(1.0, m * _p(row))
    of = f"{k} of {n}" + (f", the best of {m} rows" if m > 1 else "")
    reply = _reply(row, k, n, m, where, of, p)
    return Part(name, p, reply, "told" if _known(row, "control") or _known(row, "chance") else "alone")


def _known(row: dict, column: str) -> bool:
    return bool(pd.notna(row.get(column, np.nan)))


def _impossible(group: pd.DataFrame) -> str:
    """Numbers that are no counts of n, or no chance; empty where all is well."""
    if not ((group["n"] >= group["k"]) & (group["k"] >= 0) & np.isfinite(group["n"])).all():
        return "counts that are not between 0 and n"
    if "control" in group:
        given = group.dropna(subset=["control"])
        wrong = given[~given["control"].between(0, given["control_n"])]
        if len(wrong):
            c, n = (float(wrong[column].iloc[0]) for column in ("control", "control_n"))
            return f"a control of {c:g} of {n:g}; give it as the successes are given, count or share"
    if "chance" in group and not (chance := group["chance"].dropna()).between(0, 1).all():
        return f"chance {chance[~chance.between(0, 1)].iloc[0]:g} is no share; give one between 0 and 1"
    return ""


def _p(row: dict) -> float:
    """Of one row: that of the table beside its control, Fisher's, or the exact binomial one."""
    k, n = round(row["k"]), round(row["n"])
    if _known(row, "control"):
        told = row.get("p", np.nan)
        return float(told) if 0 <= told <= 1 else _fisher(k, n, round(row["control"]), round(row["control_n"]))
    chance = float(row["chance"]) if _known(row, "chance") else GUESS
    return float(binomtest(k, n, chance, alternative="greater").pvalue)


def _fisher(k: int, n: int, c: int, of: int) -> float:
    return float(fisher_exact([[k, n - k], [c, of - c]], alternative="greater").pvalue)


def _reply(row: dict, k: int, n: int, m: int, where: str, of: str, p: float) -> Reply:
    if _known(row, "control"):
        return _against_control(row, k, n, m, where, of, p)
    chance = float(row["chance"]) if _known(row, "chance") else GUESS
    if chance**n * m > ALPHA:
        least = min(1.0, chance**n * m)
        return Unasked(f"{where}: {n} of {n} would have p = {least:.2f} at chance {chance:.2g}")
    if not _known(row, "chance"):
        what = f"{of} without a control or chance; if random directions did it in one half, {p_text(p)}"
        return Fault(MAJOR, what, where, abs(k / n - GUESS), WITHOUT)
    if p <= ALPHA:
        return Seen(f"{where}: {of}, chance {chance:.3g}, {p_text(p)} (exact binomial)")
    what = f"{of} is what chance gives: {chance * n:.1f} of {n} expected, {p_text(p)} (exact binomial)"
    return Fault(CRITICAL, what, where, *_above(k / n - chance, "the rate", "chance"))


def _against_control(row: dict, k: int, n: int, m: int, where: str, of: str, p: float) -> Reply:
    c, control_n = round(row["control"]), round(row["control_n"])
    told = bool(0 <= row.get("p", np.nan) <= 1)
    above = k / n - c / control_n
    if p <= ALPHA and above > 0:
        return Seen(f"{where}: {of}, control {c} of {control_n}, {p_text(p)}")
    if not told and (least := min(1.0, m * _fisher(n, n, c, control_n))) > ALPHA and c < control_n:
        return Unasked(f"{where}: {n} of {n} beside a control of {c} of {control_n} would have p = {least:.2f}")
    what = f"{of} is no more than the control explains: {c} of {control_n} ({p_text(p)})"
    return Fault(MAJOR, what, where, *_above(above, "the rate", "its control"))


def _above(by: float, what: str, other: str) -> tuple[float, str]:
    """A difference, and words that are true of its sign."""
    if by < 0:
        return -by, f"is how far {what} is below {other}"
    return by, f"is all that {what} is above {other}"


def judge(subject: Subject) -> Iterator[Reply]:
    """A judge that labelled texts show at chance, or that is not independent of what it judges."""
    for table in subject.tables:
        frame = table.frame
        if "judge_accuracy" not in frame:
            continue
        by = ["judge"] if "judge" in frame else [c for c in ("model", "method") if c in frame]
        columns = [c for c in (*by, "judge_accuracy", "judge_n", "judge_chance", "independent") if c in frame]
        if by[:1] != ["judge"] and "layer" in frame and _differs_by_layer(frame, by):
            yield Unasked(f"{table.name}: accuracies that differ by layer are those of a probe, not of a judge")
            continue
        rows = frame[columns].drop_duplicates().to_dict("records")
        yield from worst([part for row in rows for part in _judge(row, table, by)])


def _differs_by_layer(frame: pd.DataFrame, by: list[str]) -> bool:
    groups = [g for _, g in frame.groupby(by, dropna=False)] if by else [frame]
    return any(g["layer"].nunique() > 1 and g["judge_accuracy"].nunique() > 1 for g in groups)


def _judge(row: dict, table: Table, by: list[str]) -> Iterator[Part]:
    known = {k: np.nan if v is None else v for k, v in row.items()}
    accuracy, chance, n = (float(known.get(f"judge_{c}", np.nan)) for c in ("accuracy", "chance", "n"))
    said = str(row.get("judge", ""))
    called = ", ".join(str(row[c])[:TOLD] for c in by)
    where = f"{table.name}{', ' if called else ''}{called}"
    if np.isnan(chance) and table.n_emotions:
        chance = 1 / table.n_emotions
    yield Part(called or table.name, chance - accuracy, _sight(accuracy, chance, n, where))
    if row.get("independent") is False or OWN_STATES in said:
        own = Fault(MINOR, "the judge is the steered model itself", where, 1.0, "judge of its own case")
        yield Part(called or table.name, 1, own, "own")
    if SAME_TEXTS in said:
        what = "the judge was made of the texts that made the vectors"
        yield Part(called or table.name, 1, Fault(MINOR, what, where, 1.0, "set of texts on both sides"))


def _sight(accuracy: float, chance: float, n: float, where: str) -> Reply:
    if why := _unmeasured(accuracy, chance, n):
        return Unasked(f"{where}: {why}")
    if not np.isnan(n):
        low = wilson_interval(round(accuracy * n), round(n))[0]
        if low <= chance:
            what = f"the judge's accuracy {accuracy:.2f} on {n:g} texts may be {low:.2f}, chance is {chance:.2f}"
            return Fault(CRITICAL, what, where, *_above(accuracy - chance, "its accuracy", "chance"))
    if accuracy <= chance:
        what = f"the judge's accuracy {accuracy:.2f} is no more than its chance {chance:.2f}"
        return Fault(CRITICAL, what, where, *_above(accuracy - chance, "its accuracy", "chance"))
    if accuracy < chance + ABLE * (1 - chance):
        what = f"the judge hardly sees: accuracy {accuracy:.2f}, chance {chance:.2f}"
        way = 100 * (accuracy - chance) / (1 - chance)
        return Fault(MAJOR, what, where, way, "% of the way from chance to perfect")
    return Seen(f"{where}: the judge's accuracy {accuracy:.2f}, chance {chance:.2f}")


def _unmeasured(accuracy: float, chance: float, n: float) -> str:
    """Why an accuracy says nothing of a judge; empty if it does."""
    if np.isnan(accuracy):
        return "the judge's accuracy was never measured on labelled texts"
    if not 0 <= accuracy <= 1:
        return f"the judge's accuracy {accuracy:g} is no share of right answers; give one between 0 and 1"
    if np.isnan(chance):
        return "no chance of the judge (judge_chance, or n_emotions=)"
    if not 0 < chance < 1:
        return f"the judge's chance {chance:g} is none between 0 and 1"
    if not np.isnan(n) and not max(LEAST_JUDGED, 1 / chance) <= n < np.inf:
        return f"{n:g} labelled texts are too few to measure a judge by (at least {max(LEAST_JUDGED, 1 / chance):.0f})"
    if not np.isnan(n) and wilson_interval(round(n), round(n))[0] <= chance:
        return f"even {n:g} of {n:g} labelled texts would not be above a chance of {chance:.2f}"
    return ""
