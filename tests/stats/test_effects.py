"""Effect sizes: by hand, against simulation, and where the spread is next to nothing."""

import numpy as np
import pytest
from scipy.special import gamma
from scipy.stats import chi2, norm
from statsmodels.stats.power import TTestIndPower

from lens_emotion.errors import AnalysisError
from lens_emotion.stats.tests import bias_correction, cohens_d, hedges_g, noncentral_interval, paired_dz

A, B = np.array([2.0, 4.0, 6.0, 8.0]), np.array([1.0, 2.0, 3.0])


def test_d_g_and_dz_by_hand():
    pooled = np.sqrt((3 * (20 / 3) + 2 * 1) / 5)
    assert cohens_d(A, B).value == pytest.approx(3 / pooled)
    correction = gamma(2.5) / (np.sqrt(2.5) * gamma(2.0))
    assert hedges_g(A, B).value == pytest.approx(3 / pooled * correction)
    assert correction == pytest.approx(1 - 3 / (4 * 5 - 1), rel=0.01)
    gap = A[:3] - B
    assert paired_dz(A[:3], B).value == pytest.approx(gap.mean() / gap.std(ddof=1))
    assert (cohens_d(A, B).n, paired_dz(A[:3], B).n) == (7, 3)


def test_d_turns_with_the_order_and_knows_no_unit():
    d, turned, scaled = cohens_d(A, B), cohens_d(B, A), cohens_d(1e-6 * A + 1, 1e-6 * B + 1)
    assert (turned.value, turned.low, turned.high) == pytest.approx((-d.value, -d.high, -d.low))
    assert (scaled.value, scaled.low) == pytest.approx((d.value, d.low), rel=1e-6)


@pytest.mark.parametrize("df", [1, 7, 14, 158])
@pytest.mark.parametrize("t", [0.0, 1.35, -3.0, 40.0, 499.0, -2000.0])
def test_the_ends_of_the_interval_leave_two_and_a_half_percent_beyond_t(t, df):
    # T = (Z + parameter) / S: integrate over the spread S instead of asking for the noncentral t again
    spread = np.sqrt(chi2.ppf((np.arange(20_000) + 0.5) / 20_000, df) / df)
    low, high = noncentral_interval(t, df)
    assert norm.cdf(t * spread - low).mean() == pytest.approx(0.975, abs=2e-4)
    assert norm.cdf(t * spread - high).mean() == pytest.approx(0.025, abs=2e-4)


def test_the_interval_touches_0_where_the_t_test_says_p_is_5_percent():
    from scipy.stats import t as student

    assert noncentral_interval(float(student.ppf(0.975, 12)), 12)[0] == pytest.approx(0, abs=1e-6)
    # and a true effect at the lower end reaches such a t in 2.5% of samples, says statsmodels
    t = 3.5
    low, _ = noncentral_interval(t, 12)
    power = TTestIndPower().power(low / np.sqrt(3.5), 7, alpha=float(student.sf(t, 12)), alternative="larger")
    assert power == pytest.approx(0.025, abs=1e-4)


@pytest.mark.parametrize("truth", [0.0, 0.8])
@pytest.mark.parametrize("function", [cohens_d, hedges_g, paired_dz])
def test_intervals_cover_95_percent(function, truth):
    rng, hits = np.random.default_rng(5), 0
    for _ in range(250):
        a, b = rng.standard_normal((2, 7))
        found = function(a + truth + (b if function is paired_dz else 0), b)
        hits += found.low <= truth <= found.high
    assert 0.91 <= hits / 250 <= 0.985  # 1,000 draws: benchmarks/statistics_laws.py


def test_g_is_unbiased_where_d_is_not():
    rng = np.random.default_rng(6)
    pairs = rng.standard_normal((4000, 2, 5)) + np.array([1.0, 0.0])[None, :, None]
    t = (pairs[:, 0].mean(1) - pairs[:, 1].mean(1)) / np.sqrt(pairs.var(2, ddof=1).mean(1))
    assert t.mean() > 1.06 and (t * bias_correction(8)).mean() == pytest.approx(1, abs=0.03)


def test_a_spread_next_to_nothing_is_called_degenerate():
    rng = np.random.default_rng(0)
    a, b = 0.1 + 0.003 * rng.standard_normal(7), 0.5 + 0.003 * rng.standard_normal(7)
    d = cohens_d(a, b)
    assert d.value < -50 and d.degenerate and d.low < d.value < d.high
    assert "more about the spread" in d.summary() and hedges_g(a, b).degenerate
    assert not cohens_d(A, B).degenerate and cohens_d(A, B).warning == ""


def test_no_spread_at_all_is_infinite_and_does_not_crash():
    for value, sign in ((2.0, 1), (-2.0, -1)):
        found = cohens_d(np.full(3, value), np.zeros(4))
        assert found.value == sign * np.inf and found.degenerate and found.warning
    assert hedges_g(np.ones(3), np.zeros(3)).value == np.inf
    assert np.isnan(paired_dz(A, A).value) and paired_dz(A, A).degenerate
    rounding = cohens_d(np.array([0.1 + 0.2, 0.3, 0.3]), np.array([0.3, 0.1 + 0.2, 0.3]))
    assert np.isnan(rounding.value)  # differences of rounding are none


def test_too_few_values_are_refused():
    with pytest.raises(AnalysisError, match="at least 2"):
        cohens_d(A, B[:1])
    with pytest.raises(AnalysisError, match="come in pairs"):
        paired_dz(A, B)
