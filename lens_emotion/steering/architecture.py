"""By architecture rather than scale? (arXiv 2604.04064, claim C6), asked in both units of dose.

The relative unit does not carry from one architecture to another (see `dose`), so differences between families may be
its doing. The onset of broken text is therefore compared in both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from lens_emotion.display import Result
from lens_emotion.errors import AnalysisError
from lens_emotion.files.user import numbers_fit
from lens_emotion.stats.tests import ALPHA, check_permutations, p_text, percentile_band, permutation_p
from lens_emotion.steering.regime_map import RegimeMap

UNITS = ("natural", "relative")
NOT_TESTABLE = "not testable"
MIN_MODELS = 4


@dataclass(frozen=True, eq=False, repr=False)
class ArchitectureTest(Result):
    """What the onset dose goes with.

    Attributes:
        table: one row per unit (natural, relative) and factor (family, log size): share (of the variance of log onset:
            eta squared between families, R squared of a line in log size), null_mean (the same with labels permuted:
            with few models it is large by chance), p (permutation), verdict ("p = ...", or "not testable" and why).
        models: the rows that went in.
        variance_ratio: variance of log onset between models in the natural unit over that in the relative unit; low,
            high: 95% bootstrap over models. nan with fewer than four models. Below 1: the natural unit carries better.
    """

    table: pd.DataFrame
    models: pd.DataFrame
    variance_ratio: float
    low: float
    high: float

    def summary(self) -> str:
        found = []
        for row in self.table.to_dict("records"):
            words = str(row["verdict"])
            if not words.startswith(NOT_TESTABLE):
                words += ", not distinguishable from noise" if row["p"] > ALPHA else ""
                words = f"explains {row['share']:.0%} of its variance (by chance {row['null_mean']:.0%}, {words})"
            found.append(f"{row['factor']} ({row['unit']} unit): {words}")
        units = "the units cannot be compared with so few models"
        if not np.isnan(self.variance_ratio):
            sure = "" if self.high < 1 or self.low > 1 else ": no difference between the units is shown"
            units = (
                f"the variance between models in the natural unit is {self.variance_ratio:.2f} "
                f"[{self.low:.2f}, {self.high:.2f}] of that in the relative unit{sure}"
            )
        return f"onset of broken text in {len(self.models)} models: {'; '.join(found)}; {units}"


@numbers_fit(AnalysisError)
def by_architecture(onsets: Iterable[RegimeMap] | pd.DataFrame, n_draws: int = 4999, seed: int = 0) -> ArchitectureTest:
    """Test family and size against the onset dose, in both units.

    Args:
        onsets: regime maps (their middle layers), or a table with one row per model: model, family, size (any unit),
            onset_natural, onset_relative. Models without an onset (nan) are left out.
        n_draws: permutations behind each p-value, and bootstrap draws.

    Raises:
        AnalysisError: a table without these columns, or no model with an onset.
    """
    table = onsets if isinstance(onsets, pd.DataFrame) else pd.DataFrame([m.onset_row() for m in onsets])
    if missing := {"model", "family", "size", "onset_natural", "onset_relative"} - set(table.columns):
        raise AnalysisError(
            f"the table of onsets lacks {', '.join(sorted(missing))}; give one row per model with these"
        )
    models = table.dropna(subset=["onset_natural", "onset_relative"]).reset_index(drop=True)
    if models.empty:
        raise AnalysisError("no model has an onset within its doses; give larger doses")
    check_permutations(n_draws)
    rng = np.random.default_rng(seed)
    rows = []
    for unit in UNITS:
        onset = np.log(models[f"onset_{unit}"].to_numpy(dtype=float))
        # the observed order comes last, behind its permutations
        drawn = np.concatenate([rng.permuted(np.tile(onset, (n_draws, 1)), axis=1), onset[None]])
        family = _family(drawn, models["family"].to_numpy(dtype=str))
        size = _size(drawn, models["size"].to_numpy(dtype=float))
        rows += [{"unit": unit, "factor": f} | _tested(s) for f, s in (("family", family), ("log size", size))]
    ratio, low, high = _variance_ratio(models, n_draws, rng)
    return ArchitectureTest(pd.DataFrame(rows), models, ratio, low, high)


def _tested(shares: Float[np.ndarray, " m"] | str) -> dict[str, object]:
    """Share explained, beside its permutations (the observed one is the last), or why it is not testable."""
    if isinstance(shares, str):
        return {"share": np.nan, "null_mean": np.nan, "p": np.nan, "verdict": f"{NOT_TESTABLE} ({shares})"}
    p = float(permutation_p(shares[-1], shares[:-1]))
    return {"share": float(shares[-1]), "null_mean": float(shares[:-1].mean()), "p": p, "verdict": p_text(p)}


def _family(drawn: Float[np.ndarray, "m n"], family: np.ndarray) -> Float[np.ndarray, " m"] | str:
    """Eta squared: variance between family means over all variance."""
    names, code, counts = np.unique(family, return_inverse=True, return_counts=True)
    if len(names) < 2 or (counts > 1).sum() < 2:
        return "needs two families with two models each"
    if drawn.std() == 0:
        return "all onsets are equal"
    centred = drawn - drawn[-1].mean()
    means = centred @ np.eye(len(names))[code] / counts
    return (means**2 @ counts) / (centred[-1] @ centred[-1])


def _size(drawn: Float[np.ndarray, "m n"], size: Float[np.ndarray, " n"]) -> Float[np.ndarray, " m"] | str:
    """R squared of a line in log size."""
    if len(size) < MIN_MODELS or len(np.unique(size)) < 3:
        return f"needs {MIN_MODELS} models of at least three sizes"
    if drawn.std() == 0:
        return "all onsets are equal"
    x = np.log(size) - np.log(size).mean()
    centred = drawn - drawn[-1].mean()
    return (centred @ x) ** 2 / (x @ x) / (centred[-1] @ centred[-1])


def _variance_ratio(models: pd.DataFrame, n_draws: int, rng: np.random.Generator) -> tuple[float, float, float]:
    """Natural over relative, with a bootstrap over models; resamples of a single model have no variance."""
    both = np.log(models[["onset_natural", "onset_relative"]].to_numpy(dtype=float))
    if len(both) < MIN_MODELS or both[:, 1].std() == 0:
        return float("nan"), float("nan"), float("nan")
    rows = rng.integers(len(both), size=(n_draws, len(both)))
    spread = both[rows].var(axis=1, ddof=1)
    kept = spread[spread[:, 1] > 1e-12]
    low, high = percentile_band(kept[:, 0] / kept[:, 1])
    observed = both.var(axis=0, ddof=1)
    return float(observed[0] / observed[1]), float(low), float(high)
