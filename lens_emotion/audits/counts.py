"""k of n, and who counted: successes beside what chance gives, and judges beside their own chance."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.stats import binomtest, fisher_exact

from lens_emotion.audits.finding import CRITICAL, MAJOR, MINOR, Fault, Reply, Seen, Unasked
from lens_emotion.audits.subject import Subject, Table
from lens_emotion.stats.tests import p_text, wilson_interval
from lens_emotion.steering.judges import OWN_STATES, SAME_TEXTS
from lens_emotion.steering.paired import ABLE

ALPHA = 0.05
CONTROLS = (
    "random|other|control|null|unsteered|baseline|no steering"  # what conditions are called that nothing is claimed of
)
GUESS = 0.5  # of "the score rose": random directions reach it in .38 to .62 of the scenarios


def counts(subject: Subject) -> Iterator[Reply]:
    """Successes or right answers without what chance or a control gives, or no more than that."""
    for table in subject.tables:
        rows = _rows(table)
        if rows is None:
            continue
        if "n" not in rows:
            yield Unasked(f"{table.name} has shares, but not out of how many (column n)")
            continue
        keys = [c for c in ("model", "method", "condition") if c in rows]
        for key, group in rows.groupby(keys, dropna=False) if keys else [((), rows)]:
            called = ", ".join(map(str, key if isinstance(key, tuple) else (key,)))
            yield _count(group, f"{table.name}{', ' if called else ''}{called}")


def _rows(table: Table) -> pd.DataFrame | None:
    """k, n and what they are compared with; single texts with true and false are added up. None: no counts."""
    frame = table.frame
    given = next((c for c in ("success", "accuracy", "rate") if table.has(c)), None)
    if given is None or (table.has("text") and table.on_tokens):  # the headline of an experiment has its own table
        return None
    value = frame[given]
    if value.dropna().isin([True, False, "True", "False", "true", "false", "yes", "no"]).all() and "n" not in frame:
        right = value.map(lambda x: str(x).lower() in ("true", "yes", "1", "1.0")).astype(float)
        keys = [c for c in ("model", "method", "condition", "dose") if c in frame]
        if not keys:
            return pd.DataFrame({"k": [right.sum()], "n": [float(len(right))]}).assign(chance=_chance(table, given))
        cells = frame.assign(k=right, n=1.0).groupby(keys, dropna=False)[["k", "n"]].sum().reset_index()
        return _beside(cells.assign(chance=_chance(table, given)))
    value = pd.to_numeric(value, errors="coerce")
    if value.isna().all():
        return None
    if "n" not in frame:
        return pd.DataFrame({"k": value})
    n = frame["n"].astype(float)
    counted = given == "success" and (bool((value > 1).any()) or bool(value.isin([0, 1]).all()))
    kept = frame[[c for c in ("model", "method", "condition", "layer", "dose", "p", "chance") if c in frame]]
    made = kept.assign(k=value if counted else (value * n).round(), n=n)
    if "control" in frame:
        share = not counted or bool(frame["control"].between(0, 1).all() and (frame["control"] % 1 != 0).any())
        made["control"] = (frame["control"] * n).round() if share else frame["control"]
    if "chance" not in made:
        made["chance"] = _chance(table, given)
    return _beside(made.dropna(subset=["k", "n"]))


def _beside(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of a control (random directions, another emotion, no steering) set beside those that they control."""
    if "condition" not in rows:
        return rows
    said = rows["condition"].astype(str).str.casefold()
    is_control = said.str.contains(CONTROLS).to_numpy()
    if not is_control.any() or is_control.all() or "control" in rows:
        return rows
    mine = rows[~is_control].reset_index(drop=True)
    keys = [c for c in ("model", "method", "dose") if c in rows]
    shares = rows[is_control].assign(share=lambda r: r["k"] / r["n"])
    if "dose" in keys and not shares["dose"].isin(mine["dose"]).any():  # the unsteered texts are those of dose 0
        keys.remove("dose")
    if not keys:
        return mine.assign(control=(shares["share"].max() * mine["n"]).round())
    most = shares.groupby(keys, dropna=False)["share"].max().rename("share").reset_index()
    made = mine.merge(most, on=keys, how="left")
    return made.assign(control=(made["share"] * made["n"]).round())


def _chance(table: Table, given: str) -> float:
    """That of naming one of the classes, for an accuracy of so many classes."""
    return 1 / table.n_emotions if given == "accuracy" and table.n_emotions else np.nan


def _count(group: pd.DataFrame, where: str) -> Reply:
    """The best row of a group against its control, or chance; as the best of so many rows."""
    share = group["k"] / group["n"]
    if group.empty or not ((group["n"] >= group["k"]) & (group["k"] >= 0)).all():
        return Unasked(f"{where}: counts that are not between 0 and n")
    best, m = group.iloc[int(share.fillna(-1).to_numpy().argmax())], len(group)
    k, n = round(float(best.k)), round(float(best.n))
    of = f"{k} of {n}" + (f", the best of {m} rows" if m > 1 else "")
    if pd.notna(best.get("control", np.nan)):
        return _against_control(best, k, n, m, where, of)
    if pd.notna(best.get("chance", np.nan)):
        return _against(float(best.chance), k, n, m, where, of)
    p = float(binomtest(k, n, GUESS, alternative="greater").pvalue)
    what = f"{of} without a control or chance; if random directions did it in one half, {p_text(min(1.0, p * m))}"
    return Fault(MAJOR, what, where, GUESS * n, f"of the {k} come of a chance of one half")


def _against_control(best: pd.Series, k: int, n: int, m: int, where: str, of: str) -> Reply:
    c = round(float(best.control))
    told = best.get("p", np.nan)
    p = float(told) if pd.notna(told) else float(fisher_exact([[k, n - k], [c, n - c]], alternative="greater").pvalue)
    p = min(1.0, p * m)
    if p <= ALPHA and k > c:
        return Seen(f"{where}: {of}, control {c} of {n}, {p_text(p)}")
    what = f"{of} is no more than the control explains: {c} of {n} ({p_text(p)})"
    return Fault(MAJOR, what, where, k / n - c / n, "is all that the rate is above its control")


def _against(chance: float, k: int, n: int, m: int, where: str, of: str) -> Reply:
    if chance**n * m > ALPHA:
        return Unasked(f"{where}: {n} of {n} would have p = {min(1.0, chance**n * m):.2f} at chance {chance:.2g}")
    p = min(1.0, m * float(binomtest(k, n, chance, alternative="greater").pvalue))
    if p <= ALPHA:
        return Seen(f"{where}: {of}, chance {chance:.3g}, {p_text(p)} (exact binomial)")
    what = f"{of} is what chance gives: {chance * n:.1f} of {n} expected, {p_text(p)} (exact binomial)"
    return Fault(CRITICAL, what, where, k / n - chance, "is all that the rate is above chance")


def judge(subject: Subject) -> Iterator[Reply]:
    """A judge that labelled texts show at chance, or that is not independent of what it judges."""
    for table in subject.tables:
        if "judge_accuracy" not in table.frame:
            continue
        columns = [c for c in ("judge", "judge_accuracy", "judge_n", "judge_chance", "independent") if c in table.frame]
        for row in table.frame[columns].drop_duplicates().to_dict("records"):
            yield from _judge(row, table)


def _judge(row: dict, table: Table) -> Iterator[Reply]:
    known = {k: np.nan if v is None else v for k, v in row.items()}
    accuracy, chance, n = (float(known.get(f"judge_{c}", np.nan)) for c in ("accuracy", "chance", "n"))
    said, where = str(row.get("judge", "")), table.name
    if np.isnan(chance) and table.n_emotions:
        chance = 1 / table.n_emotions
    if np.isnan(accuracy):
        yield Unasked(f"{where}: the judge's accuracy was never measured on labelled texts")
    elif np.isnan(chance):
        yield Unasked(f"{where}: no chance of the judge (judge_chance, or n_emotions=)")
    else:
        yield _sight(accuracy, chance, n, where)
    if row.get("independent") is False or OWN_STATES in said:
        yield Fault(MINOR, "the judge is the steered model itself", where, 1.0, "judge of its own case")
    if SAME_TEXTS in said:
        yield Fault(
            MINOR, "the judge was made of the texts that made the vectors", where, 1.0, "set of texts on both sides"
        )


def _sight(accuracy: float, chance: float, n: float, where: str) -> Reply:
    low = chance
    if not np.isnan(n) and n >= 1:
        low = wilson_interval(round(accuracy * n), int(n))[0]
        if low <= chance:
            what = f"the judge's accuracy {accuracy:.2f} on {n:g} texts may be {low:.2f}, chance is {chance:.2f}"
            return Fault(CRITICAL, what, where, accuracy - chance, "is all that its accuracy is above chance")
    if accuracy <= chance:
        what = f"the judge's accuracy {accuracy:.2f} is no more than its chance {chance:.2f}"
        return Fault(CRITICAL, what, where, accuracy - chance, "is all that its accuracy is above chance")
    if accuracy < chance + ABLE * (1 - chance):
        what = f"the judge hardly sees: accuracy {accuracy:.2f}, chance {chance:.2f}"
        way = 100 * (accuracy - chance) / (1 - chance)
        return Fault(MAJOR, what, where, way, "% of the way from chance to perfect")
    return Seen(f"{where}: the judge's accuracy {accuracy:.2f}, chance {chance:.2f}")
