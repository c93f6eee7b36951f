"""Permutation p-values, intervals and corrections: the small statistics every result carries."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.stats import binomtest

from lens_emotion.analysis.results import AnalysisError

ALTERNATIVES = ("greater", "less", "two-sided")


def permutation_p(
    observed: Float[np.ndarray, " *shape"] | float,
    null: Float[np.ndarray, m * shape],
    alternative: str = "greater",
) -> Float[np.ndarray, " *shape"]:
    """p = (b + 1) / (m + 1), with b of the m null draws at least as extreme as the observed value: never 0.

    Ties count as extreme, within rounding error, and so does a null draw that is NaN (undefined cannot speak
    against the null). "two-sided" doubles the smaller tail. NaN where `observed` is NaN.

    Raises:
        AnalysisError: an unknown alternative, or no null draws.
    """
    if alternative not in ALTERNATIVES:
        raise AnalysisError(f"alternative is one of {', '.join(ALTERNATIVES)}; got {alternative!r}")
    if len(null) == 0:
        raise AnalysisError("a permutation p-value needs null draws; got none: set n_permutations to 1 or more")
    observed = np.asarray(observed, dtype=float)
    if alternative == "two-sided":
        tails = [permutation_p(observed, null, side) for side in ("greater", "less")]
        return np.asarray(np.minimum(1.0, 2 * np.minimum(*tails)))
    sign = 1.0 if alternative == "greater" else -1.0
    slack = 1e-12 * np.maximum(1.0, np.abs(observed))
    b = (~(sign * null < sign * observed - slack)).sum(axis=0)
    return np.where(np.isnan(observed), np.nan, (b + 1) / (len(null) + 1))


def max_corrected_p(
    observed: Float[np.ndarray, " n"],
    null: Float[np.ndarray, "m n"],
    alternative: str = "greater",
    standardise: bool = False,
) -> Float[np.ndarray, " n"]:
    """p-values that hold for the best of n (say, layers): each value against the null of the most extreme of
    the n.

    Args:
        null: row i must come from ONE permutation applied to all n, so that their dependence is kept.
        alternative: "greater" or "less"; "two-sided" for values whose null is centred on 0 (uses |value|).
        standardise: put the n on one scale by their null mean and SD first. Needed where their nulls differ
            in place or width. The moments include the observed value, which keeps the test exact.
    """
    if alternative == "two-sided":
        return max_corrected_p(np.abs(observed), np.abs(null), "greater", standardise)
    sign = -1.0 if alternative == "less" else 1.0
    pooled = sign * np.concatenate([observed[None], null])
    if standardise:
        spread = pooled.std(axis=0)
        pooled = (pooled - pooled.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    extreme = pooled[1:].max(axis=1)
    return permutation_p(pooled[0], np.broadcast_to(extreme[:, None], null.shape), "greater")


def percentile_band(
    draws: Float[np.ndarray, m * shape], level: float = 0.95
) -> tuple[Float[np.ndarray, " *shape"], Float[np.ndarray, " *shape"]]:
    """Lower and upper percentile over the first axis, between which `level` of the draws lie."""
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    return np.asarray(low), np.asarray(high)


def spearman_brown(r: Float[np.ndarray, " *shape"] | float) -> Float[np.ndarray, " *shape"]:
    """Reliability of the whole from the correlation r of its halves: 2r / (1 + r).

    A negative r is returned as it is: the formula presumes halves that share a true score, and runs to minus
    infinity at r = -1.
    """
    r = np.asarray(r, dtype=float)
    return np.where(r > 0, 2 * r / (1 + np.maximum(r, 0)), r)


def wilson_interval(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of the proportion k/n.

    Raises:
        AnalysisError: k is not between 0 and n, or n is 0.
    """
    if not 0 <= k <= n or n == 0:
        raise AnalysisError(f"a proportion needs 0 <= k <= n and n > 0; got k = {k}, n = {n}")
    interval = binomtest(k, n).proportion_ci(confidence_level=level, method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_over_groups(
    values: Float[np.ndarray, n * shape], groups: np.ndarray, n_draws: int = 2000, seed: int = 0
) -> Float[np.ndarray, n_draws * shape]:
    """Means of `values` when whole groups (topics) are redrawn: texts of a topic are not independent.

    Returns the draws; `percentile_band` makes an interval of them.

    Raises:
        AnalysisError: fewer than 2 groups.
    """
    names, code = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise AnalysisError(f"a bootstrap over groups needs at least 2 groups; got {len(names)}")
    member = (code[None] == np.arange(len(names))[:, None]).astype(float)
    rng = np.random.default_rng(seed)
    times = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n_draws).astype(float)
    sums = np.tensordot(times, np.tensordot(member, values, axes=1), axes=1)
    counts = times @ member.sum(axis=1)
    return sums / counts.reshape(-1, *[1] * (values.ndim - 1))
