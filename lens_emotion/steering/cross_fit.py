"""The best dose without picking it on the scenarios it is reported on."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from lens_emotion.analysis.results import AnalysisError, p_text, result_html
from lens_emotion.analysis.stats import wilson_interval
from lens_emotion.steering.outcomes import condition_row, mcnemar_p
from lens_emotion.steering.regimes import SURGICAL, Thresholds


@dataclass(frozen=True, eq=False)
class CrossFitted:
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

    def summary(self) -> str:
        doses = ", ".join("none" if pd.isna(d) else f"{d:g}" for d in self.table.dose)
        other = "" if self.other is None else f", another emotion's vector {self.other}/{self.n}"
        return (
            f"dose chosen on one opening of each emotion, tested on the other: {self.success}/{self.n} "
            f"[{self.low:.2f}, {self.high:.2f}] (doses {doses}); random directions {self.random}/{self.n}{other}; "
            f"McNemar {p_text(self.p)}"
        )

    def _repr_html_(self) -> str:
        return result_html(self)


def cross_fit(texts: pd.DataFrame, others: pd.DataFrame, thresholds: Thresholds) -> CrossFitted:
    """Choose the best surgical dose on one opening of each emotion, test it on the other, and the other way round.

    Args:
        texts: of conditions "emotion" and "random". others: of the other-emotion control, perhaps empty.

    Raises:
        AnalysisError: fewer than two openings per emotion.
    """
    parity = texts["opening"] % 2
    if parity.nunique() < 2:
        raise AnalysisError("cross-fitting needs two openings per emotion; give two scenarios of each")
    rows, mine_all, random_all = [], [], []
    for half in (0, 1):
        dose = best_dose(texts[parity != half], thresholds)
        tested = texts[parity == half]
        n = int(tested["scenario"].nunique())
        row: dict[str, float] = {"opening": half, "dose": float("nan"), "n": n, "success": 0, "random": 0, "other": 0}
        if dose is not None:
            mine, random = (_hits(tested, dose, c) for c in ("emotion", "random"))
            other = _hits(others[others["opening"] % 2 == half], dose, "other")
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


def _hits(texts: pd.DataFrame, dose: float, condition: str) -> pd.Series:
    rows = texts[(texts.dose == dose) & (texts.condition == condition)].sort_values("scenario")
    return rows["success"].astype(bool)
