"""Statistics: laws of p-values and intervals."""

import numpy as np
import pytest
from scipy.stats import binom, kstest

from lens_emotion.analysis.results import AnalysisError
from lens_emotion.analysis.stats import (
    bootstrap_over_groups,
    max_corrected_p,
    percentile_band,
    permutation_p,
    spearman_brown,
    wilson_interval,
)

RNG = np.random.default_rng(0)


def test_p_counts_ties_and_is_never_zero():
    null = np.array([0.0, 1.0, 2.0, 3.0])
    assert permutation_p(9.0, null) == 1 / 5
    assert permutation_p(2.0, null) == 3 / 5
    assert permutation_p(0.0, null, "less") == 2 / 5
    assert permutation_p(9.0, null, "two-sided") == 2 / 5
    assert permutation_p(3.0, null, "two-sided") == 4 / 5


def test_p_forgives_rounding_in_ties_and_lets_nan_speak_for_the_null():
    assert permutation_p(0.1 + 0.2, np.full(9, 0.3)) == 1.0
    assert permutation_p(0.3, np.full(9, 0.1 + 0.2), "less") == 1.0
    assert permutation_p(9.0, np.array([np.nan, 1.0, 1.0])) == 2 / 4
    assert np.isnan(permutation_p(np.nan, np.ones(3)))


def test_p_refuses_an_empty_null_and_an_unknown_alternative():
    with pytest.raises(AnalysisError, match="n_permutations"):
        permutation_p(1.0, np.empty(0))
    with pytest.raises(AnalysisError, match="two-sided"):
        permutation_p(1.0, np.ones(3), "bigger")


@pytest.mark.parametrize("alternative", ["greater", "less"])
def test_p_is_uniform_under_the_null(alternative):
    draws = RNG.standard_normal((40, 500))
    p = permutation_p(draws[0], draws[1:], alternative)
    assert kstest(p - RNG.random(500) / 40, "uniform").pvalue > 0.01


@pytest.mark.parametrize("standardise", [False, True])
def test_corrected_p_of_the_best_layer_is_uniform_where_the_raw_one_is_not(standardise):
    shared = RNG.standard_normal((300, 40, 1))
    draws = shared + RNG.standard_normal((300, 40, 12))
    best = np.array([max_corrected_p(d[0], d[1:], standardise=standardise).min() for d in draws])
    raw = np.array([permutation_p(d[0], d[1:]).min() for d in draws])
    assert kstest(best - RNG.random(300) / 40, "uniform").pvalue > 0.01
    assert kstest(raw - RNG.random(300) / 40, "uniform").pvalue < 1e-6


def test_standardising_lets_a_quiet_layer_win_beside_a_loud_one():
    null = RNG.standard_normal((199, 2)) * [100.0, 0.01]
    observed = np.array([0.0, 1.0])
    assert max_corrected_p(observed, null)[1] > 0.2
    assert max_corrected_p(observed, null, standardise=True)[1] == 1 / 200
    assert max_corrected_p(-observed, null, "less", standardise=True)[1] == 1 / 200


def test_percentile_band_holds_the_share_it_says():
    low, high = percentile_band(np.arange(1001.0)[:, None] * [1, 2])
    np.testing.assert_allclose([low, high], [[25, 50], [975, 1950]])


def test_spearman_brown_steps_up_and_leaves_negatives_alone():
    np.testing.assert_allclose(spearman_brown(np.array([0.0, 0.5, 1.0, -0.5])), [0, 2 / 3, 1, -0.5])


@pytest.mark.parametrize("truth", [0.1, 0.5, 0.925])
def test_wilson_interval_covers_about_95_percent(truth):
    n = 200
    inside = [k for k in range(n + 1) if wilson_interval(k, n)[0] <= truth <= wilson_interval(k, n)[1]]
    assert 0.93 < binom.pmf(inside, n, truth).sum() < 0.97


def test_wilson_interval_of_37_in_40_and_of_nothing():
    low, high = wilson_interval(37, 40)
    assert (round(low, 3), round(high, 3)) == (0.801, 0.974)
    with pytest.raises(AnalysisError, match="n > 0"):
        wilson_interval(0, 0)


def test_bootstrap_over_groups_covers_where_texts_of_a_topic_agree():
    groups = np.repeat(np.arange(40), 5)
    hits, naive = 0, 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        values = rng.standard_normal(40)[groups] + 0.3 * rng.standard_normal(200)
        low, high = percentile_band(bootstrap_over_groups(values, groups, 300, seed))
        hits += bool(low <= 0 <= high)
        naive += bool(abs(values.mean()) <= 1.96 * values.std() / np.sqrt(200))
    assert 0.89 <= hits / 200 <= 0.99
    assert naive / 200 < 0.75


def test_bootstrap_draws_of_unequal_groups_are_weighted_means():
    draws = bootstrap_over_groups(np.array([[0.0], [0.0], [3.0]]), np.array(["a", "a", "b"]), 200)
    assert set(np.round(draws.ravel(), 6)) == {0.0, 1.0, 3.0}
    with pytest.raises(AnalysisError, match="at least 2 groups"):
        bootstrap_over_groups(np.ones(3), np.zeros(3))
