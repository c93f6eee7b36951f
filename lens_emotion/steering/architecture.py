"""By architecture rather than scale? (arXiv 2604.04064, claim C6), asked in both units of dose.

The relative unit does not carry from one architecture to another (see `dose`), so differences between families may be
its doing. The onset of broken text is therefore compared in both. Family and size are asked in one model, each given
the other, since large models come from some families. A base model and its instruct version are one checkpoint, not
two. A model that does not break within its doses says that its onset lies beyond them, which is kept (Gehan 1965).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.stats import f, ncf, t

from lens_emotion.display import Result
from lens_emotion.errors import AnalysisError
from lens_emotion.files.user import numbers_fit
from lens_emotion.pictures import Dots
from lens_emotion.stats.tests import ALPHA, check_permutations, p_text, percentile_band, permutation_p
from lens_emotion.steering.regime_map import RegimeMap

UNITS = ("natural", "relative")
NOT_TESTABLE = "not testable"
MIN_MODELS = 4
END = 0.1  # beyond either end: two ends that do not overlap then go with a test at about .04


@dataclass(frozen=True, eq=False, repr=False)
class ArchitectureTest(Result):
    """What the onset dose goes with.

    Attributes:
        table: one row per unit (natural, relative) and factor (family, log size): share (of the variance of log onset
            that the other factor leaves: partial eta squared), null_mean (the same by permutation: with few models it
            is large by chance), p (Freedman and Lane 1983), verdict ("p = ...", or "not testable" and why); spread (SD
            between models of what goes with the factor, given the other), least (of family: its lower end, 90%
            one-sided) and most (of size: its upper end, over all sizes); NaN where it is not testable.
        models: the rows that went in, one per checkpoint.
        variance_ratio: variance of log onset between models in the natural unit over that in the relative unit; low,
            high: 95% bootstrap over models. nan with fewer than four models. Below 1: the natural unit carries better.
    """

    _picture = Dots(("unit", "factor"), "share")

    table: pd.DataFrame
    models: pd.DataFrame
    variance_ratio: float
    low: float
    high: float

    def summary(self) -> str:
        n, found = len(self.models), []
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
        return f"onset of broken text in {n} model{'s' * (n != 1)}: {'; '.join(found)}; {units}"


@numbers_fit(AnalysisError)
def by_architecture(onsets: Iterable[RegimeMap] | pd.DataFrame, n_draws: int = 4999, seed: int = 0) -> ArchitectureTest:
    """Test family and size against the onset dose, in both units.

    Args:
        onsets: regime maps (their middle layers), or a table with one row per model: model, family, size (any unit),
            onset_natural, onset_relative. Models without an onset (nan) are left out, unless low_natural, high_natural,
            low_relative and high_relative say between which doses it lies (0 and inf where one end is not known).
            Models of one `checkpoint` (a column, if there is one) count as one: their mean log onset.
        n_draws: permutations behind each p-value, and bootstrap draws.
        seed: of whatever is drawn at random.

    Raises:
        AnalysisError: a table without these columns, or no model with an onset.

    Example:
        >>> import pandas as pd
        >>> rows = [("a", "gpt2", 100, 2.0, 0.3), ("b", "gpt2", 300, 2.5, 0.4), ("c", "llama", 100, 4.0, 0.5)]
        >>> rows += [("d", "llama", 200, 5.0, 0.6)]
        >>> names = ["model", "family", "size", "onset_natural", "onset_relative"]
        >>> result = le.by_architecture(pd.DataFrame(rows, columns=names), n_draws=99)
        >>> len(result.table)
        4
    """
    table = onsets if isinstance(onsets, pd.DataFrame) else pd.DataFrame([m.onset_row() for m in onsets])
    if missing := {"model", "family", "size", "onset_natural", "onset_relative"} - set(table.columns):
        raise AnalysisError(
            f"the table of onsets lacks {', '.join(sorted(missing))}; give one row per model with these"
        )
    models = _checkpoints(table)
    if models["onset_natural"].notna().sum() == 0:
        raise AnalysisError("no model has an onset within its doses; give larger doses")
    check_permutations(n_draws)
    rng = np.random.default_rng(seed)
    family, size = models["family"].to_numpy(dtype=str), models["size"].to_numpy(dtype=float)
    rows = []
    for unit in UNITS:
        onset = _scores(models, unit)
        for factor, why in (("family", _no_family(family, size)), ("log size", _no_size(family, size))):
            found: np.ndarray | str = why or _partial(onset, family, size, factor, n_draws, rng)
            rows.append({"unit": unit, "factor": factor} | _tested(found) | _spread(onset, family, size, factor))
    ratio, low, high = _variance_ratio(models.dropna(subset=["onset_natural", "onset_relative"]), n_draws, rng)
    return ArchitectureTest(pd.DataFrame(rows), models, ratio, low, high)


def _checkpoints(table: pd.DataFrame) -> pd.DataFrame:
    """One row per checkpoint, with the ends between which each log onset lies; those of which nothing is known left
    out."""
    out = table.copy()
    for unit in UNITS:
        for end in ("low", "high"):
            known = out[f"{end}_{unit}"] if f"{end}_{unit}" in out else pd.Series(np.nan, out.index)
            out[f"{end}_{unit}"] = known.where(out[f"onset_{unit}"].isna(), out[f"onset_{unit}"])
    ends = [f"{end}_{unit}" for unit in UNITS for end in ("low", "high")]
    out = out.dropna(subset=ends)
    if "checkpoint" not in out:
        return out.reset_index(drop=True)
    onsets = [f"onset_{unit}" for unit in UNITS]
    means = {c: (c, lambda x: float(np.exp(np.log(x).mean(skipna=False)))) for c in onsets}
    bounds = {c: (c, "min" if c.startswith("low") else "max") for c in ends}
    first = {c: (c, "first") for c in ("model", "family", "size")}
    out = out.groupby("checkpoint", sort=False).agg(**first, **means, **bounds).reset_index(drop=True)
    for unit in UNITS:  # twins that both broke have a mean onset; else only the ends are known
        for end in ("low", "high"):
            out[f"{end}_{unit}"] = out[f"{end}_{unit}"].where(out[f"onset_{unit}"].isna(), out[f"onset_{unit}"])
    return out


def _scores(models: pd.DataFrame, unit: str) -> Float[np.ndarray, " n"]:
    """Log onsets; where some are known by their ends only, how many others lie surely below less how many above."""
    low, high = (models[f"{end}_{unit}"].to_numpy(dtype=float) for end in ("low", "high"))
    if (low == high).all():
        return np.log(low)
    return ((high[None] < low[:, None]).sum(1) - (low[None] > high[:, None]).sum(1)).astype(float)


def _tested(shares: Float[np.ndarray, " m"] | str) -> dict[str, object]:
    """Share explained, beside its permutations (the observed one is the last), or why it is not testable."""
    if isinstance(shares, str):
        return {"share": np.nan, "null_mean": np.nan, "p": np.nan, "verdict": f"{NOT_TESTABLE} ({shares})"}
    p = float(permutation_p(shares[-1], shares[:-1]))
    return {"share": float(shares[-1]), "null_mean": float(shares[:-1].mean()), "p": p, "verdict": p_text(p)}


def _no_family(family: np.ndarray, size: np.ndarray) -> str:
    names, counts = np.unique(family, return_counts=True)
    if len(names) < 2 or (counts > 1).sum() < 2:
        return "needs two families with two models each"
    return ""


def _no_size(family: np.ndarray, size: np.ndarray) -> str:
    if len(size) < MIN_MODELS or len(np.unique(size)) < 3 or not np.isfinite(size).all():
        return f"needs {MIN_MODELS} models of at least three sizes"
    return ""


def _partial(
    onset: Float[np.ndarray, " n"],
    family: np.ndarray,
    size: np.ndarray,
    factor: str,
    n_draws: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, " m"] | str:
    """Partial eta squared of one factor given the other, for permuted residuals (Freedman and Lane), then as it is."""
    if np.ptp(onset) == 0:
        return "all onsets are equal"
    one = np.ones((len(onset), 1))
    dummies = (family[:, None] == np.unique(family)[None, 1:]).astype(float)
    usable = not _no_size(family, size)
    line = np.log(size)[:, None] - np.log(size).mean() if usable else one[:, :0]
    if factor != "family" and _no_family(family, size):
        dummies = one[:, :0]
    base, extra = (line, dummies) if factor == "family" else (dummies, line)
    reduced, full = np.hstack([one, base]), np.hstack([one, base, extra])
    rank = np.linalg.matrix_rank(full)
    if rank == np.linalg.matrix_rank(reduced) or rank >= len(onset):
        return "families and sizes go together, or too few models for both"
    fitted = reduced @ np.linalg.lstsq(reduced, onset, rcond=None)[0]
    residual = onset - fitted
    drawn = np.concatenate([rng.permuted(np.tile(residual, (n_draws, 1)), axis=1), residual[None]]) + fitted
    left = [((drawn - drawn @ (x @ np.linalg.pinv(x)).T) ** 2).sum(1) for x in (reduced, full)]
    return np.where(left[0] > 1e-12, 1 - left[1] / np.maximum(left[0], 1e-12), 0.0)


def _spread(onset: Float[np.ndarray, " n"], family: np.ndarray, size: np.ndarray, factor: str) -> dict[str, float]:
    """How far models lie apart by one factor, both being fitted; of size, how far they might.

    Size is allowed all that its slope may be, over all sizes, so that sizes which nearly go with the families leave it
    open; family is left what no size explains.
    """
    none = {"spread": np.nan, "least": np.nan, "most": np.nan}
    if _no_family(family, size) or _no_size(family, size):
        return none
    line = np.log(size)[:, None] - np.log(size).mean()
    dummies = (family[:, None] == np.unique(family)[None, 1:]).astype(float)
    known = np.hstack([np.ones_like(line), line])
    full = np.hstack([known, dummies])
    free = len(onset) - full.shape[1]
    if free < 1 or np.linalg.matrix_rank(full) < full.shape[1]:
        return none
    beta = np.linalg.lstsq(full, onset, rcond=None)[0]
    noise = float(((onset - full @ beta) ** 2).sum() / free)
    if factor == "family":
        part = dummies @ beta[2:]
        spread = float((part - known @ np.linalg.lstsq(known, part, rcond=None)[0]).std())
        least = _noncentral(len(onset) * spread**2 / max(noise, 1e-12), dummies.shape[1], free)
        return none | {"spread": spread, "least": float(np.sqrt(least * noise / len(onset)))}
    error = float(np.sqrt(noise * np.linalg.inv(full.T @ full)[1, 1]))
    slope = abs(float(beta[1]))
    ends = {"spread": slope, "most": slope + float(t.ppf(1 - END, free)) * error}
    return none | {name: value * float(line.std()) for name, value in ends.items()}


def _noncentral(chi: float, df: int, free: int) -> float:
    """Lower end of the noncentrality behind a sum of squares over the error's mean square; 0 if it may be none."""
    if not f.sf(chi / df, df, free) < END:
        return 0.0
    if chi > 1e4 * df:  # hardly any error
        return chi
    return float(brentq(lambda x: float(ncf.sf(chi / df, df, free, x)) - END, 0.0, chi))


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
