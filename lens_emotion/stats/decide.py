"""From an interval to a verdict: what a design can show, what it can exclude, and what it could have found.

An effect is shown where its interval lies above 0, and excluded where the interval lies below a smallest effect of
interest that was stated before (the one-sided half of an equivalence test; Lakens 2017). Between the two nothing is
known; it helps to say which effect the design finds, and how many units more it needs (Altman and Bland 1995).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.stats import norm
from scipy.stats import t as student

from lens_emotion.errors import AnalysisError
from lens_emotion.stats.intervals import mean_interval

POWER, ROUNDING = 0.8, 1e-12
MANY = 10**6  # units; more than any design has
AT_LEAST = float(norm.ppf(0.975) + norm.ppf(POWER))  # errors that the smallest effect found is away from 0
SHOWN, EXCLUDED, OPEN = "shown", "excluded", "open"


@dataclass(frozen=True)
class Estimate:
    """A mean over independent units with its 95% interval.

    Attributes:
        value, low, high: the mean, and the ends of its interval.
        error: standard error behind the interval. n: units; unit: what they are ("topics").
    """

    value: float
    low: float
    high: float
    error: float
    n: int
    unit: str

    @property
    def detectable(self) -> float:
        """Smallest effect that a design of this spread and size finds with power .8 (two-sided, level .05)."""
        return float(student.ppf(0.975, self.n - 1) + student.ppf(POWER, self.n - 1)) * self.error

    def needed(self, smallest: float) -> int:
        """Units that would find an effect of size `smallest` with power .8, their spread being what it is here."""
        spread, n = self.error * math.sqrt(self.n), 2
        if AT_LEAST * spread >= math.sqrt(MANY) * smallest:  # a smallest effect of 0 needs more than anybody has
            return MANY
        while n < MANY:
            reach = float(student.ppf(0.975, n - 1) + student.ppf(POWER, n - 1))
            if reach * spread / math.sqrt(n) <= smallest:
                return n
            n = max(n + 1, min(2 * n, math.ceil((reach * spread / smallest) ** 2)))
        return MANY

    def widened(self, error: float) -> Estimate:
        """With an error known from elsewhere, where it is the larger one."""
        wider = max(1.0, error / self.error) if self.error else 1.0
        low, high = (self.value + wider * (end - self.value) for end in (self.low, self.high))
        return replace(self, low=low, high=high, error=max(self.error, error))

    def p_above(self, limit: float = 0.0) -> float:
        """One-sided p-value of "the mean is no larger than `limit`" (t on the units)."""
        return self._tail(self.value - limit)

    def p_below(self, limit: float) -> float:
        """One-sided p-value of "the mean is no smaller than `limit`"."""
        return self._tail(limit - self.value)

    def _tail(self, distance: float) -> float:
        if self.error == 0:
            return float(distance <= 0)
        return float(student.sf(distance / self.error, self.n - 1))

    def says(self, smallest: float) -> str:
        """What is known of "the mean is above 0, and it matters": SHOWN (the interval lies above 0), EXCLUDED (it lies
        below `smallest`, on whichever side of 0), or OPEN."""
        return SHOWN if self.low > 0 else EXCLUDED if self.high < smallest else OPEN

    def reach(self, smallest: float) -> str:
        """What this design finds with power .8, and what would find the smallest effect of interest, in words."""
        need = self.needed(smallest)
        found = f"{self.n} {self.unit} find an effect of {self.detectable:.2f} with power .8"
        if smallest == 0:
            return f"{found}; which size would matter cannot be said in this unit"
        if need == MANY:
            return f"{found}; {smallest:.2g}, which would matter here, is beyond any number of them"
        more = f"{need} {self.unit} would find" if need > self.n else "which is no more than the smallest of interest,"
        return f"{found}, {more} {smallest:.2g}"


def estimate(
    units: Float[np.ndarray, " n"], unit: str, shared: float = 0.0, seed: int = 0, floor: float = 0.0
) -> Estimate:
    """The mean of the units, with an interval that holds for skewed units and for folds that share their training.

    The interval is a bootstrap-t, nowhere nearer than Student's (`mean_interval`), widened for what the units share.

    Args:
        shared: texts tested over texts learnt from, in one fold: their accuracies vary together with the centroids that
            they share (Nadeau and Bengio 2003). 0 for units that share nothing.
        floor: see `mean_interval`.

    Raises:
        AnalysisError: fewer than 3 units, or values that are not finite.
    """
    if len(units) < 3 or not np.isfinite(units).all():
        raise AnalysisError(f"an interval needs at least 3 finite {unit}; got {len(units)}")
    units = np.where(np.abs(units) > ROUNDING, units, 0.0)  # a difference of equal gains is none
    found = mean_interval(units, np.arange(len(units)), seed=seed, floor=floor)
    wider = math.sqrt(1 + len(units) * shared)
    value = float(found.value)
    error = float(units.std(ddof=1)) / math.sqrt(len(units)) * wider
    return Estimate(
        value,
        value - (value - float(found.low)) * wider,
        value + (float(found.high) - value) * wider,
        error,
        len(units),
        unit,
    )
