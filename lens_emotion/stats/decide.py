"""From an interval to a verdict: what a design can show, what it can exclude, and what it could have found.

A difference is shown where its interval excludes 0, and excluded where the interval lies inside a smallest effect of
interest that was stated before (two one-sided tests; Lakens 2017). Between the two nothing is known, and what helps is
to say which effect the design would have found, and how many more units it needs (Altman and Bland 1995).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import t as student

from lens_emotion.errors import AnalysisError
from lens_emotion.stats.intervals import mean_interval

POWER = 0.8
ABOVE, BELOW, NEGLIGIBLE, OPEN = "above", "below", "negligible", "open"


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
        while n < 10**6:
            reach = float(student.ppf(0.975, n - 1) + student.ppf(POWER, n - 1))
            if reach * spread / math.sqrt(n) <= smallest:
                return n
            n = max(n + 1, min(2 * n, math.ceil((reach * spread / smallest) ** 2)))
        return 10**6

    def against(self, smallest: float) -> str:
        """ "above" or "below" zero, "negligible" (the interval lies within +- `smallest`), or "open"."""
        if self.low > 0 or self.high < 0:
            return ABOVE if self.low > 0 else BELOW
        return NEGLIGIBLE if max(-self.low, self.high) < smallest else OPEN

    def design(self, smallest: float) -> str:
        """What this design finds with power .8, and what would find the smallest effect of interest, in words."""
        need = self.needed(smallest)
        more = f"{need} {self.unit} would find {smallest:g}" if need > self.n else f"{smallest:g} is within its reach"
        return f"{self.n} {self.unit} find {self.detectable:.2f} with power .8, {more}"


def estimate(units: Float[np.ndarray, " n"], unit: str, shared: float = 0.0, seed: int = 0) -> Estimate:
    """The mean of the units, with an interval that holds for skewed units and for folds that share their training.

    The interval is a bootstrap-t, nowhere nearer than Student's (`mean_interval`), widened for what the units share.

    Args:
        shared: texts tested over texts learnt from, in one fold: their accuracies vary together with the centroids that
            they share (Nadeau and Bengio 2003). 0 for units that share nothing.

    Raises:
        AnalysisError: fewer than 3 units, or values that are not finite.
    """
    if len(units) < 3 or not np.isfinite(units).all():
        raise AnalysisError(f"an interval needs at least 3 finite {unit}; got {len(units)}")
    found = mean_interval(units, np.arange(len(units)), seed=seed)
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
