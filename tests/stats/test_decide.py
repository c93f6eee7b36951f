"""From intervals to words: what is shown, what is excluded, at the very limits, and what a design would have found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import nct, norm, t, ttest_1samp

from lens_emotion.errors import AnalysisError
from lens_emotion.stats.decide import EXCLUDED, OPEN, SHOWN, Estimate, estimate
from lens_emotion.stats.intervals import mean_interval

UNITS = np.array([0.1, 0.4, -0.2, 0.5, 0.3, 0.9])


def between(low, high, **more):
    return Estimate(**({"value": (low + high) / 2, "low": low, "high": high, "error": 0.1, "n": 9, "unit": "u"} | more))


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.01, 0.5, SHOWN),
        (0.01, 0.05, SHOWN),  # shown, however small
        (0.0, 0.5, OPEN),  # the interval must lie above 0
        (0.0, 0.09, EXCLUDED),
        (-0.3, 0.0999, EXCLUDED),
        (-0.3, -0.1, EXCLUDED),
        (-0.3, 0.1, OPEN),  # the smallest effect itself is not excluded
        (-0.3, 0.5, OPEN),
    ],
)
def test_shown_above_zero_and_excluded_below_the_smallest(low, high, said):
    assert between(low, high).says(0.1) == said


def test_the_smallest_of_interest_is_whoever_asks_it():
    assert [between(-0.3, 0.3).says(smallest) for smallest in (0.2, 0.3, 0.4)] == [OPEN, OPEN, EXCLUDED]


def test_an_estimate_is_the_mean_with_students_error():
    found, oracle = estimate(UNITS, "topics"), mean_interval(UNITS, np.arange(6))
    assert found.value == pytest.approx(UNITS.mean()) and (found.n, found.unit) == (6, "topics")
    assert found.error == pytest.approx(UNITS.std(ddof=1) / np.sqrt(6))
    assert (found.low, found.high) == pytest.approx((float(oracle.low), float(oracle.high)))
    for limit in (0.0, 0.1):
        assert found.p_above(limit) == pytest.approx(ttest_1samp(UNITS, limit, alternative="greater").pvalue)
        assert found.p_below(limit) == pytest.approx(ttest_1samp(UNITS, limit, alternative="less").pvalue)
    other = estimate(UNITS, "topics", seed=5)
    assert other.value == found.value and (other.low, other.high) != (found.low, found.high)


def test_what_units_share_widens_both_ends_by_the_root_of_nadeau_and_bengio():
    alone, sharing = estimate(UNITS, "topics"), estimate(UNITS, "topics", shared=0.2)
    wider = np.sqrt(1 + 6 * 0.2)
    assert sharing.error == pytest.approx(wider * alone.error)
    assert sharing.value - sharing.low == pytest.approx(wider * (alone.value - alone.low))
    assert sharing.high - sharing.value == pytest.approx(wider * (alone.high - alone.value))


def test_units_that_all_agree_have_no_p_between_and_rounding_is_no_effect():
    sure = estimate(np.full(5, 0.25), "topics")
    assert sure.error == 0 and (sure.p_above(), sure.p_above(0.25), sure.p_below(0.3), sure.p_below(0.2)) == (
        0,
        1,
        0,
        1,
    )
    nothing = estimate(np.full(5, 0.9 - 0.3 - 0.9 + 0.3 + 2e-17), "topics")  # a gain less the same gain
    assert nothing.says(0.1) == EXCLUDED and nothing.p_above() == 1.0


def test_too_few_or_undefined_units_are_refused():
    assert estimate(UNITS[:3], "topics").n == 3
    for units in (UNITS[:2], np.r_[UNITS, np.nan], np.r_[UNITS, np.inf]):
        with pytest.raises(AnalysisError, match="at least 3 finite topics"):
            estimate(units, "topics")


def test_a_larger_error_from_elsewhere_widens_and_a_smaller_one_does_not():
    found = between(0.1, 0.5, value=0.2)
    wide = found.widened(0.3)
    assert (wide.low, wide.high, wide.error, wide.value) == pytest.approx((-0.1, 1.1, 0.3, 0.2))
    assert found.widened(0.05) == found
    sure = replace(found, error=0.0)
    assert sure.widened(0.3).error == 0.3 and sure.widened(0.0) == sure


def test_the_detectable_effect_is_found_with_power_four_fifths():
    """The power of the t test itself (noncentral t), at the effect that is called detectable."""
    for n in (6, 12, 30):
        found = between(0, 1, error=0.1, n=n)
        power = nct.sf(t.ppf(0.975, n - 1), n - 1, found.detectable / found.error)
        assert power == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize(("smallest", "n"), [(0.1, 9), (0.3, 9), (0.05, 30), (0.02, 4), (1.0, 40)])
def test_the_units_needed_are_the_first_number_that_suffices(smallest, n):
    found = between(0, 1, error=0.1, n=n)
    spread = 0.1 * np.sqrt(n)
    reach = (m for m in range(2, 10**5) if (t.ppf(0.975, m - 1) + t.ppf(0.8, m - 1)) * spread / np.sqrt(m) <= smallest)
    first = next(reach)
    assert first <= found.needed(smallest) <= max(first + 1, 1.02 * first)
    assert replace(found, error=1e9).needed(1e-9) == 10**6


def test_hundreds_of_thousands_of_units_are_counted_too():
    """So many are normal: (z + z) SDs over the effect, squared."""
    for smallest in (0.005, 0.002):
        needed = between(0, 1, error=0.1, n=25).needed(smallest)
        assert needed == pytest.approx(((norm.ppf(0.975) + norm.ppf(0.8)) * 0.5 / smallest) ** 2, rel=0.02)


BEYOND = [(0.0, 1e-300), (0.0, 0.1), (0.0, 1e300), (5e-324, 1e-300), (5e-324, 1e300), (1e-200, 0.1), (1e-200, 1e300)]


@pytest.mark.parametrize(("smallest", "error"), BEYOND)
def test_an_effect_beyond_any_number_of_units_is_said_to_be(smallest, error):
    """As it is where most emotions' scores never move under the control, which makes 0 the smallest that matters."""
    found = between(0, 1, error=error, n=9)
    assert found.needed(smallest) == 10**6
    beyond = f"{smallest:.2g}, which would matter here, is beyond any number of them"
    assert (beyond if smallest else "which size would matter cannot be said in this unit") in found.reach(smallest)


def test_the_reach_says_what_is_found_and_how_many_would_do():
    found = between(0, 1, error=0.1, n=9, unit="topics")
    more = f"{found.needed(0.05)} topics would find 0.05"
    assert found.reach(0.05) == f"9 topics find an effect of 0.32 with power .8, {more}"
    assert "which is no more than the smallest of interest, 0.5" in between(0, 1, error=0.1, n=9).reach(0.5)
