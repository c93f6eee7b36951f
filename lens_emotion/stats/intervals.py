"""Intervals over topics: whole topics are redrawn, because texts of one topic are not independent.

With 8 topics the usual intervals of a mean are too narrow: nominal 95% intervals cover 88% (BCa) and 95% (Student's t
over topics) of normal topics, 85% and 91% of exponential ones. The default for means is therefore bootstrap-t, kept at
least as wide at either end as Student's t: 96% and 94%. BCa is for statistics that have no standard error.
`benchmarks/statistics_laws.py` measures this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import norm
from scipy.stats import t as student

from lens_emotion.display import Brief
from lens_emotion.errors import AnalysisError
from lens_emotion.stats.tests import group_sums, redrawn

METHODS = ("bootstrap-t", "t", "bca")


@dataclass(frozen=True, eq=False, repr=False)
class Interval(Brief):
    """A value with its interval over groups; arrays where the statistic has several values (layers).

    Attributes:
        value: the statistic on all groups.
        low, high: ends of the interval, NaN where the statistic is not finite.
        level: nominal coverage.
        method: "bootstrap-t", "t" or "bca".
        n_groups: groups (topics) that were redrawn.
    """

    value: Float[np.ndarray, " *shape"]
    low: Float[np.ndarray, " *shape"]
    high: Float[np.ndarray, " *shape"]
    level: float
    method: str
    n_groups: int


def mean_interval(
    values: Float[np.ndarray, " n *shape"],
    groups: np.ndarray,
    method: str = "bootstrap-t",
    level: float = 0.95,
    n_draws: int = 2000,
    seed: int = 0,
    floor: float = 0.0,
) -> Interval:
    """Mean over texts, with an interval over groups.

    Args:
        values: one row per text; further axes (layers) are treated alike, with the same redrawn groups.
        groups: group (topic) of each text.
        method: "bootstrap-t" (studentised by the groups' own spread, neither end nearer than Student's; the default,
            which also holds for few and skewed groups), "t" (the group means taken as normal: narrower) or "bca"
            (too narrow below some 20 groups).
        floor: least standard error of a draw, as a share of that of all groups. Where all groups but a few are alike,
            draws of the alike ones have next to none, and an interval without it says nothing.

    Raises:
        AnalysisError: fewer than 2 groups (3 for a bootstrap), or an unknown method.
    """
    if method not in METHODS:
        raise AnalysisError(f"no interval method '{method}'; known: {', '.join(METHODS)}")
    sums, sizes = group_sums(values, groups)
    n_groups = len(sizes)
    check_groups(n_groups, 2 if method == "t" else 3)
    if method == "bca":
        tall = _tall(sizes, values)
        return bca_interval(lambda s, n: s.sum(0) / n.sum(0), sums, tall, n_draws=n_draws, level=level, seed=seed)
    mean = sums.sum(0) / sizes.sum()
    scatter = sums - np.multiply.outer(sizes, mean)
    error = _standard_error(scatter, sizes, np.ones((1, n_groups)))[0]
    tail = (1 - level) / 2
    reach = student.ppf(1 - tail, n_groups - 1)
    lower, upper = np.full(mean.shape, -reach), np.full(mean.shape, reach)
    if method == "bootstrap-t":
        lowest, highest = _studentised(scatter, sizes, error, tail, n_draws, seed, floor)
        lower, upper = np.minimum(lowest, lower), np.maximum(highest, upper)
    low, high = np.asarray(mean - upper * error), np.asarray(mean - lower * error)
    return Interval(np.asarray(mean), low, high, level, method, n_groups)


def _standard_error(
    scatter: Float[np.ndarray, " g *shape"], sizes: Float[np.ndarray, " g"], times: Float[np.ndarray, "b g"]
) -> Float[np.ndarray, " b *shape"]:
    """Of the mean, if group j stands in the sample times[:, j] times; linearised, for groups of unequal size.

    scatter: sum of the group's values minus its size times the mean of all.
    """
    n, total = len(sizes), _tall(times @ sizes, scatter)
    shift = np.tensordot(times, scatter, axes=1) / total
    squares = np.tensordot(times, scatter**2, axes=1)
    cross = np.tensordot(times, scatter * _tall(sizes, scatter), axes=1)
    spread = squares - 2 * shift * cross + shift**2 * _tall(times @ sizes**2, scatter)
    return np.sqrt(np.maximum(spread, 0) * n / (n - 1)) / total


def _tall(x: np.ndarray, like: np.ndarray) -> np.ndarray:
    return x.reshape(-1, *[1] * (like.ndim - 1))


def _studentised(
    scatter: Float[np.ndarray, " g *shape"],
    sizes: Float[np.ndarray, " g"],
    error: Float[np.ndarray, " *shape"] | np.floating,
    tail: float,
    n_draws: int,
    seed: int,
    floor: float = 0.0,
) -> tuple[Float[np.ndarray, " *shape"], Float[np.ndarray, " *shape"]]:
    """Quantiles of (mean of the draw - mean) / standard error of the draw.

    A draw whose groups are all alike has no standard error and is left out; where more than `tail` of the draws are
    so, both quantiles are 0.
    """
    times = redrawn(len(sizes), n_draws, np.random.default_rng(seed))
    errors = np.maximum(_standard_error(scatter, sizes, times), floor * error)
    shift = np.tensordot(times, scatter, axes=1) / _tall(times @ sizes, scatter)
    usable = errors > 1e-6 * error
    t = np.where(usable, shift / np.where(usable, errors, 1.0), np.nan)
    t = np.where(usable.mean(axis=0) >= 1 - tail, t, 0.0)
    low, high = np.nanquantile(t, [tail, 1 - tail], axis=0)
    return np.asarray(low), np.asarray(high)


def bca_interval(
    statistic: Callable[..., Any], *grouped: np.ndarray, n_draws: int = 2000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Bias-corrected and accelerated bootstrap over groups (Efron 1987), of any statistic.

    Args:
        statistic: function of the arrays `grouped`, each cut to the redrawn groups on its first axis, to a number or
            an array (layers). For groups of unequal size give sums and counts:
            `bca_interval(lambda s, n: s.sum(0) / n.sum(0), sums, counts)`.
        grouped: one row per group (topic); all arrays keep their rows together.

    With fewer than some 20 groups it is too narrow: for means use `mean_interval`. NaN where the statistic is not
    finite on some draw, and an interval of no width where it is the same on all.

    Raises:
        AnalysisError: fewer than 3 groups, arrays with different numbers of groups.
    """
    sizes = {len(x) for x in grouped}
    if len(sizes) != 1:
        raise AnalysisError(f"every array needs one row per group; got {sorted(sizes)} rows")
    n = sizes.pop()
    check_groups(n, 3)
    rng = np.random.default_rng(seed)

    def on(rows: Int[np.ndarray, " k"]) -> np.ndarray:
        return np.asarray(statistic(*(x[rows] for x in grouped)), dtype=float)

    value = on(np.arange(n))
    draws = np.stack([on(rows) for rows in rng.integers(n, size=(n_draws, n))])
    without = np.stack([on(np.delete(np.arange(n), i)) for i in range(n)])
    low, high = _bca_ends(value.ravel(), draws.reshape(n_draws, -1), without.reshape(n, -1), (1 - level) / 2)
    return Interval(value, low.reshape(value.shape), high.reshape(value.shape), level, "bca", n)


def _bca_ends(
    value: Float[np.ndarray, " k"], draws: Float[np.ndarray, "b k"], without: Float[np.ndarray, "g k"], tail: float
) -> Float[np.ndarray, "2 k"]:
    # a draw equal to the value counts half; kept off 0 and 1, where the correction is infinite
    below = ((draws < value).mean(0) + (draws <= value).mean(0)) / 2
    bias = norm.ppf(np.clip(below, 0.5 / len(draws), 1 - 0.5 / len(draws)))
    gap = without.mean(0) - without
    scale = (gap**2).sum(0) ** 1.5
    acceleration = (gap**3).sum(0) / (6 * np.where(scale > 0, scale, 1.0))
    z = bias + norm.ppf([[tail], [1 - tail]])
    at = norm.cdf(bias + z / (1 - acceleration * z))
    finite = np.isfinite(draws).all(0) & np.isfinite(without).all(0)
    columns = [np.quantile(d, q) if ok else [np.nan] * 2 for d, q, ok in zip(draws.T, at.T, finite, strict=True)]
    return np.array(columns).T


def check_groups(n: int, least: int) -> None:
    """Raises AnalysisError for fewer than `least` groups."""
    if n < least:
        raise AnalysisError(f"an interval over groups needs at least {least} groups (topics); got {n}")


# Leave-one-topic-out intervals.


def half_width(
    replicates: Float[np.ndarray, "n_groups *shape"], strata: Sequence[np.ndarray] | None = None, level: float = 0.95
) -> Float[np.ndarray, "*shape"]:
    """Half the width of a jackknife interval: t times the jackknife standard error.

    Unlike in a bootstrap, no topic stands twice in a replicate, so that noise is not taken for agreement. Sources:
    Tukey 1958; for several samples (strata: indices of the groups of each), the variances add, with Satterthwaite's
    degrees of freedom. NaN where a replicate is NaN.
    """
    parts = [replicates[s] for s in strata] if strata is not None else [replicates]
    variance = np.stack([(len(x) - 1) / len(x) * ((x - x.mean(0)) ** 2).sum(0) for x in parts])
    total, free = variance.sum(0), np.array([max(1, len(x) - 1) for x in parts])
    share = (variance**2 / free.reshape(-1, *[1] * total.ndim)).sum(0)
    freedom = np.where(total > 0, total**2 / np.where(share > 0, share, 1.0), free[0])
    return np.asarray(np.sqrt(total) * student.ppf((1 + level) / 2, freedom))
