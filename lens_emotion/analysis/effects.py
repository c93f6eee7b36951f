"""Standardised effect sizes with exact intervals, and a warning where the standardiser is what one sees.

A standardised difference divides by a spread. Where the spread is next to nothing the quotient is huge and says little
about the difference: the published d of -107.5 between two sets of mean cosines (arXiv 2604.04064) is such a case.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite, nan, sqrt

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.special import gammaln
from scipy.stats import nct

from lens_emotion.analysis.stats import check_samples
from lens_emotion.display import panel

HUGE = 10.0  # |d| beyond which the spread, not the difference, makes the number
ROUNDING = 1e-10  # an SD below this share of the means is rounding error
FAR = 500.0  # |t| beyond which the interval grows in proportion to t


@dataclass(frozen=True)
class EffectSize:
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

    def _repr_html_(self) -> str:
        return panel(self.summary())


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
    return _effect("d", float(a.mean() - b.mean()), sd, root, df, len(a) + len(b), _size(a, b))


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
    return _effect("d_z", float(gap.mean()), float(gap.std(ddof=1)), sqrt(len(a)), len(a) - 1, len(a), _size(a, b))


def bias_correction(df: int) -> float:
    """J(df), by which Hedges' g is smaller than Cohen's d; about 1 - 3 / (4 df - 1). Source: Hedges 1981."""
    return float(np.exp(gammaln(df / 2) - gammaln((df - 1) / 2)) / sqrt(df / 2)) if df > 1 else 0.0


def noncentral_interval(t: float, df: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of the noncentrality parameter of which t, with df degrees of freedom, is one draw.

    Its ends are the parameters under which a t this large (this small) has probability (1 - level) / 2.
    """
    tail = (1 - level) / 2
    scale = max(1.0, abs(t) / FAR)
    low, high = (_noncentrality(t / scale, df, q) * scale for q in (1 - tail, tail))
    return low, high


def _noncentrality(t: float, df: int, q: float) -> float:
    """The parameter under which P(T <= t) = q."""
    reach = 10 + 10 * abs(t)
    return float(brentq(_miss, t - reach, t + reach, args=(t, df, q), xtol=1e-10))


def _miss(parameter: float, t: float, df: int, q: float) -> float:
    below = float(nct.cdf(t, df, parameter))
    if np.isnan(below):  # scipy's way of saying that t lies far out in a tail
        below = float(parameter < t)
    return below - q


def _size(a: np.ndarray, b: np.ndarray) -> float:
    return float(max(np.abs(a).max(), np.abs(b).max()))


def _effect(name: str, difference: float, sd: float, root: float, df: int, n: int, size: float) -> EffectSize:
    if sd <= ROUNDING * size:
        sd = 0.0
    if abs(difference) <= ROUNDING * size and sd == 0:
        return EffectSize(name, nan, -inf, inf, n, True, "neither a difference nor a spread, so no effect size exists")
    value = difference / sd if sd else float(np.copysign(inf, difference))
    low, high = (x / root for x in noncentral_interval(value * root, df)) if isfinite(value) else (-inf, inf)
    degenerate = abs(value) > HUGE
    return EffectSize(name, value, low, high, n, degenerate, _warning(difference, sd) if degenerate else "")


def _warning(difference: float, sd: float) -> str:
    share = f"{sd / abs(difference):.1%} of" if sd else "0 beside"
    return (
        f"degenerate, the SD is {share} the difference of {difference:.3g}, so that this number says more about the "
        "spread than about the effect; report the difference itself"
    )
