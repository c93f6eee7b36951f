"""Tests, p-values, bands, corrections and effect sizes: the small statistics every result carries.

A standardised difference divides by a spread. Where the spread is next to nothing the quotient is huge and says
little about the difference: the published d of -107.5 between two sets of mean cosines (arXiv 2604.04064) is such.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb, inf, isfinite, nan, sqrt

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import brentq
from scipy.special import gammaln
from scipy.stats import binomtest, false_discovery_control, mannwhitneyu, nct

from lens_emotion.display import Result
from lens_emotion.errors import AnalysisError

ALPHA = 0.05
NOISE = "not distinguishable from noise"
UNTOLD = "not testable, since copies leave no text that was not also learnt"
ALTERNATIVES = ("greater", "less", "two-sided")
MAX_EXACT_RANKS = 40  # texts per side up to which Mann-Whitney's exact distribution is used
HUGE = 10.0  # |d| beyond which the spread, not the difference, makes the number
ROUNDING = 1e-10  # an SD below this share of the means is rounding error
FAR = 500.0  # |t| beyond which the interval grows in proportion to t


@dataclass(frozen=True)
class PermutationTest:
    """A difference of means, tested by exchanging labels (or signs).

    Attributes:
        statistic: mean(a) - mean(b).
        p: of the observed arrangement among all, or (b + 1) / (m + 1) of m random ones; never 0.
        exact: True if every arrangement was looked at.
        n_arrangements: arrangements behind p, the observed one included.
    """

    statistic: float
    p: float
    exact: bool
    n_arrangements: int


@dataclass(frozen=True)
class RankTest:
    """Mann-Whitney: u (pairs in which a exceeds b, ties half), p, exact, and auc = u / (n_a n_b), the common-language
    effect size: how often a random a exceeds a random b (0.5: no difference)."""

    u: float
    p: float
    exact: bool
    auc: float


@dataclass(frozen=True)
class McNemar:
    """Exact McNemar test: p (two-sided), the discordant counts b and c, odds_ratio b / c with its 95% interval
    (Clopper-Pearson; infinite where c is 0, NaN where nothing is discordant)."""

    p: float
    b: int
    c: int
    odds_ratio: float
    low: float
    high: float


def permutation_p(
    observed: Float[np.ndarray, " *shape"] | float, null: Float[np.ndarray, " m *shape"], alternative: str = "greater"
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
    """p-values that hold for the best of n (say, layers): each value against the null of the most extreme of the n.

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
    draws: Float[np.ndarray, " m *shape"], level: float = 0.95
) -> tuple[Float[np.ndarray, " *shape"], Float[np.ndarray, " *shape"]]:
    """Lower and upper percentile over the first axis, between which `level` of the draws lie."""
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    return np.asarray(low), np.asarray(high)


def null_columns(
    observed: Float[np.ndarray, " n"],
    null: Float[np.ndarray, "m n"],
    alternative: str = "greater",
    standardise: bool = False,
) -> dict[str, np.ndarray]:
    """null_low, null_high (95% of the draws), p (each of the n alone) and p_corrected (best of the n)."""
    low, high = percentile_band(null)
    p, corrected = permutation_p(observed, null, alternative), max_corrected_p(observed, null, alternative, standardise)
    return {"null_low": low, "null_high": high, "p": p, "p_corrected": corrected}


def noise_note(p: float, before: str = ": ", tied: bool = False, draws: int | None = None) -> str:
    """What a sentence on a value adds if it is not distinguishable from noise; empty where p <= 0.05.

    Args:
        tied: copies tie the labels down (`design.tied`): whatever p is, it says nothing.
        draws: permutations behind p, which with fewer than 19 could not be 0.05 whatever was observed.
    """
    return before + UNTOLD if tied else "" if p <= ALPHA else before + noise(draws)


def noise(draws: int | None = None) -> str:
    """What is said of a value that does not stand out; "no" only where the test could have said yes."""
    least = round(1 / ALPHA) - 1
    if draws is None or draws >= least:
        return NOISE
    return f"not testable with {draws} permutations, whose p is at least {1 / (draws + 1):.2f} ({least} are needed)"


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
    values: Float[np.ndarray, " n *shape"], groups: np.ndarray, n_draws: int = 2000, seed: int = 0
) -> Float[np.ndarray, " n_draws *shape"]:
    """Means of `values` when whole groups (topics) are redrawn: texts of a topic are not independent.

    Returns the draws; `percentile_band` makes an interval of them.

    Raises:
        AnalysisError: fewer than 2 groups.
    """
    sums, sizes = group_sums(values, groups)
    if len(sizes) < 2:
        raise AnalysisError(f"a bootstrap over groups needs at least 2 groups; got {len(sizes)}")
    times = redrawn(len(sizes), n_draws, np.random.default_rng(seed))
    return np.tensordot(times, sums, axes=1) / (times @ sizes).reshape(-1, *[1] * (values.ndim - 1))


def group_sums(
    values: Float[np.ndarray, " n *shape"], groups: np.ndarray
) -> tuple[Float[np.ndarray, " g *shape"], Float[np.ndarray, " g"]]:
    """Sum of the values of each group, in the order of the groups' names, and how many there are."""
    names, code = np.unique(groups, return_inverse=True)
    member = (code[None] == np.arange(len(names))[:, None]).astype(float)
    return np.tensordot(member, values, axes=1), member.sum(axis=1)


def redrawn(n_groups: int, n_draws: int, rng: np.random.Generator) -> Float[np.ndarray, "n_draws n_groups"]:
    """How often each group stands in each redrawn sample of as many groups."""
    return rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_draws).astype(float)


def permutation_test(
    a: Float[np.ndarray, " n_a"],
    b: Float[np.ndarray, " n_b"],
    paired: bool = False,
    alternative: str = "two-sided",
    max_exact: int = 20_000,
    n_permutations: int = 9999,
    seed: int = 0,
) -> PermutationTest:
    """Are the means of a and b different? Labels are exchanged; paired values exchange within their pair (sign flips).

    Args:
        max_exact: look at every arrangement if there are at most this many, else at `n_permutations` random ones.
        alternative: "greater" means mean(a) > mean(b); "two-sided" doubles the smaller tail.

    Raises:
        AnalysisError: an empty side, values that are not finite, pairs of unequal number, an unknown alternative.
    """
    check_samples(a, b, paired, least=1)
    statistic = float(a.mean() - b.mean())
    pooled = a - b if paired else np.concatenate([a, b])
    pooled = pooled if paired else pooled - pooled.mean()
    pooled = pooled / (np.abs(pooled).max() or 1.0)  # one scale, so that ties are ties whatever the unit
    total = 2 ** len(a) if paired else comb(len(pooled), len(a))
    exact = total <= max_exact
    m = total - 1 if exact else n_permutations
    if m == 0:  # a single arrangement cannot speak against itself
        return PermutationTest(statistic, 1.0, True, 1)
    rng = np.random.default_rng(seed)
    draws = None if exact else n_permutations
    values = (_sign_flips(len(a), draws, rng) if paired else _splits(len(pooled), len(a), draws, rng)) @ pooled
    return PermutationTest(statistic, float(permutation_p(values[0], values[1:], alternative)), exact, m + 1)


def _sign_flips(n: int, m: int | None, rng: np.random.Generator) -> Float[np.ndarray, "m n"]:
    """The observed signs first, then all others, or m random ones."""
    if m is None:
        return 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    return np.concatenate([np.ones((1, n)), rng.choice([-1.0, 1.0], (m, n))])


def _splits(n: int, n_a: int, m: int | None, rng: np.random.Generator) -> Bool[np.ndarray, "m n"]:
    """Who is in a: the observed split first, then all others, or m random ones."""
    if m is None:
        chosen = np.array(list(combinations(range(n), n_a)))
        member = np.zeros((len(chosen), n), dtype=bool)
        np.put_along_axis(member, chosen, True, axis=1)
        return member
    member = np.tile(np.arange(n) < n_a, (m + 1, 1))
    member[1:] = rng.permuted(member[1:], axis=1)
    return member


def mann_whitney(
    a: Float[np.ndarray, " n_a"], b: Float[np.ndarray, " n_b"], alternative: str = "two-sided"
) -> RankTest:
    """Mann-Whitney test: exact where there are no ties and at most 40 texts a side, else normal with tie correction.

    Raises:
        AnalysisError: an empty side, values that are not finite, an unknown alternative.
    """
    check_samples(a, b, False, least=1)
    if alternative not in ALTERNATIVES:
        raise AnalysisError(f"alternative is one of {', '.join(ALTERNATIVES)}; got {alternative!r}")
    distinct = len(np.unique(np.concatenate([a, b])))
    exact = distinct == len(a) + len(b) and max(len(a), len(b)) <= MAX_EXACT_RANKS
    if distinct == 1:  # all tied: no information, where the normal form divides by 0
        return RankTest(len(a) * len(b) / 2, 1.0, False, 0.5)
    u, p = mannwhitneyu(a, b, alternative=alternative, method="exact" if exact else "asymptotic")
    return RankTest(float(u), float(p), exact, float(u) / (len(a) * len(b)))


def check_samples(a: np.ndarray, b: np.ndarray, paired: bool, least: int) -> None:
    """Raises AnalysisError unless both samples are finite, have `least` values, and are equally long if paired."""
    if min(len(a), len(b)) < least:
        raise AnalysisError(f"each side needs at least {least} values; got {len(a)} and {len(b)}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise AnalysisError("values that are not finite cannot be compared; leave out those that are NaN or infinite")
    if paired and len(a) != len(b):
        raise AnalysisError(f"paired values come in pairs; got {len(a)} and {len(b)}: order both by the same texts")


def mcnemar(b: int, c: int) -> McNemar:
    """Exact McNemar test of paired yes/no outcomes: b pairs where only the first says yes, c where only the second.

    Raises:
        AnalysisError: a negative count.
    """
    if min(b, c) < 0:
        raise AnalysisError(f"counts of discordant pairs are 0 or more; got {b} and {c}")
    if b + c == 0:
        return McNemar(1.0, 0, 0, np.nan, 0.0, np.inf)
    test = binomtest(b, b + c)
    share = test.proportion_ci(method="exact")
    low, high = (float(q / (1 - q)) if q < 1 else np.inf for q in (share.low, share.high))
    return McNemar(float(test.pvalue), b, c, b / c if c else np.inf, low, high)


def benjamini_hochberg(p: Float[np.ndarray, " *shape"]) -> Float[np.ndarray, " *shape"]:
    """p-values adjusted for the false discovery rate (Benjamini and Hochberg 1995); NaN stays NaN and does not count.

    Raises:
        AnalysisError: a p outside 0 to 1.
    """
    known = ~np.isnan(p)
    if ((p[known] < 0) | (p[known] > 1)).any():
        raise AnalysisError("p-values lie between 0 and 1; got some that do not")
    adjusted = np.full(p.shape, np.nan)
    if known.any():
        adjusted[known] = false_discovery_control(p[known])
    return adjusted


def p_text(p: float) -> str:
    """'p = 0.005'; small values keep their first digit."""
    return f"p = {p:.3f}" if p >= 0.001 else f"p = {p:.1g}"


def check_permutations(n_permutations: int) -> None:
    """Raises AnalysisError unless at least one permutation is asked for: no number without its null."""
    if n_permutations < 1:
        raise AnalysisError(f"n_permutations is {n_permutations}; give at least 1 (19 for p = 0.05 to be possible)")


# Standardised effect sizes with exact intervals, and a warning where the standardiser is what one sees.


@dataclass(frozen=True, repr=False)
class EffectSize(Result):
    """A standardised difference of means.

    Attributes:
        name: "d" (Cohen), "g" (Hedges) or "d_z" (paired).
        value: in SDs; infinite where the SD is 0, NaN where difference and SD are both 0.
        low, high: 95% interval of the population value (noncentral t).
        n: values behind it, both sides together; pairs for d_z.
        degenerate: True if the SD is so small that the value says more about the spread than about the difference.
        warning: that, in words; empty otherwise.
    """

    name: str
    value: float
    low: float
    high: float
    n: int
    degenerate: bool
    warning: str

    def summary(self) -> str:
        """One sentence, with the warning if there is one."""
        text = f"{self.name} = {self.value:.2f} (95% {self.low:.2f} to {self.high:.2f}, n = {self.n})"
        return f"{text}: {self.warning}." if self.warning else f"{text}."


def cohens_d(a: Float[np.ndarray, " n_a"], b: Float[np.ndarray, " n_b"]) -> EffectSize:
    """Cohen's d: (mean(a) - mean(b)) / pooled SD, for independent samples.

    The interval is exact for normal values of one variance: that of the noncentral t distribution's parameter.
    Source: Steiger and Fouladi 1997; Cumming and Finch 2001.

    Raises:
        AnalysisError: fewer than 2 values a side, or values that are not finite.
    """
    check_samples(a, b, paired=False, least=2)
    df = len(a) + len(b) - 2
    sd = sqrt(((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)) / df)
    root = sqrt(len(a) * len(b) / (len(a) + len(b)))
    return _effect("d", float(a.mean() - b.mean()), sd, root, df, len(a) + len(b), a, b)


def hedges_g(a: Float[np.ndarray, " n_a"], b: Float[np.ndarray, " n_b"]) -> EffectSize:
    """Hedges' g: Cohen's d without its small-sample bias (exact correction).

    d and g estimate the same population value, so they share d's exact interval. Errors: as `cohens_d`.
    """
    d = cohens_d(a, b)
    value = d.value * bias_correction(len(a) + len(b) - 2)
    return EffectSize("g", value, d.low, d.high, d.n, d.degenerate, d.warning)


def paired_dz(a: Float[np.ndarray, " n_a"], b: Float[np.ndarray, " n_b"]) -> EffectSize:
    """d_z: mean of the paired differences a - b over their SD.

    Not comparable with d: the more alike the pairs, the larger d_z for the same difference. Exact interval.

    Raises:
        AnalysisError: fewer than 2 pairs, unequal numbers, or values that are not finite.
    """
    check_samples(a, b, paired=True, least=2)
    gap = a - b
    return _effect("d_z", float(gap.mean()), float(gap.std(ddof=1)), sqrt(len(a)), len(a) - 1, len(a), a, b)


def bias_correction(df: int) -> float:
    """J(df), by which Hedges' g is smaller than Cohen's d; about 1 - 3 / (4 df - 1). Source: Hedges 1981."""
    return float(np.exp(gammaln(df / 2) - gammaln((df - 1) / 2)) / sqrt(df / 2)) if df > 1 else 0.0


def noncentral_interval(t: float, df: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of the noncentrality parameter of which t, with df degrees of freedom, is one draw.

    Its ends are the parameters under which a t this large (this small) has probability (1 - level) / 2.
    """
    tail = (1 - level) / 2
    scale = max(1.0, abs(t) / FAR)
    t = t / scale
    reach = 10 + 10 * abs(t)

    def miss(parameter: float, q: float) -> float:
        below = float(nct.cdf(t, df, parameter))  # NaN is scipy's way of saying that t lies far out in a tail
        return (float(parameter < t) if np.isnan(below) else below) - q

    low, high = (float(brentq(miss, t - reach, t + reach, args=(q,), xtol=1e-10)) * scale for q in (1 - tail, tail))
    return low, high


def _effect(
    name: str, difference: float, sd: float, root: float, df: int, n: int, a: np.ndarray, b: np.ndarray
) -> EffectSize:
    size = float(max(np.abs(a).max(), np.abs(b).max()))
    if sd <= ROUNDING * size:
        sd = 0.0
    if abs(difference) <= ROUNDING * size and sd == 0:
        return EffectSize(name, nan, -inf, inf, n, True, "neither a difference nor a spread, so no effect size exists")
    value = difference / sd if sd else float(np.copysign(inf, difference))
    low, high = (x / root for x in noncentral_interval(value * root, df)) if isfinite(value) else (-inf, inf)
    if abs(value) <= HUGE:
        return EffectSize(name, value, low, high, n, False, "")
    share = f"{sd / abs(difference):.1%} of" if sd else "0 beside"
    warning = (
        f"degenerate, the SD is {share} the difference of {difference:.3g}, so that this number says more about the "
        "spread than about the effect; report the difference itself"
    )
    return EffectSize(name, value, low, high, n, True, warning)
