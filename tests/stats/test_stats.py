"""Statistics: laws of p-values and intervals."""

import numpy as np
import pytest
import scipy.stats
from scipy.stats import binom, kstest
from statsmodels.stats.contingency_tables import mcnemar as oracle_mcnemar
from statsmodels.stats.multitest import multipletests

from lens_emotion.errors import AnalysisError
from lens_emotion.stats.intervals import bca_interval, mean_interval
from lens_emotion.stats.tests import (
    benjamini_hochberg,
    bootstrap_over_groups,
    mann_whitney,
    max_corrected_p,
    mcnemar,
    percentile_band,
    permutation_p,
    permutation_test,
    redrawn,
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


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("alternative", ["greater", "less", "two-sided"])
def test_exact_permutation_p_is_that_of_scipy_whatever_the_unit(paired, alternative):
    a, b = RNG.standard_normal(6).round(1) + 0.5, RNG.standard_normal(6).round(1)
    kind = "samples" if paired else "independent"
    oracle = scipy.stats.permutation_test(
        (a, b), lambda x, y: x.mean() - y.mean(), permutation_type=kind, alternative=alternative, n_resamples=np.inf
    )
    test = permutation_test(a, b, paired, alternative)
    assert test.exact and test.n_arrangements == (64 if paired else 924)
    assert test.p == pytest.approx(oracle.pvalue) and test.statistic == pytest.approx(oracle.statistic)
    assert permutation_test(1e6 * a, 1e6 * b, paired, alternative).p == test.p
    assert permutation_test(a + 2**10, b + 2**10, paired, alternative).p == test.p


@pytest.mark.parametrize("paired", [False, True])
def test_random_permutations_agree_with_all_of_them_and_repeat_with_the_seed(paired):
    a, b = RNG.standard_normal(8) + 0.7, RNG.standard_normal(8)
    exact, drawn = (permutation_test(a, b, paired, max_exact=m, seed=3) for m in (20_000, 10))
    assert exact.exact and not drawn.exact and drawn.n_arrangements == 10_000
    assert drawn.p == pytest.approx(exact.p, abs=0.015)
    assert drawn == permutation_test(a, b, paired, max_exact=10, seed=3)
    assert permutation_test(a + 99, b, paired, max_exact=10, n_permutations=99).p == pytest.approx(
        2 / 100, abs=0 if not paired else 0.04
    )


@pytest.mark.parametrize(("n", "paired"), [(5, False), (15, False), (8, True), (30, True)])
def test_permutation_p_is_uniform_under_the_null_exact_or_random(n, paired):
    rng, p = np.random.default_rng(n), []
    for seed in range(500):
        a, b = rng.standard_normal((2, n)) + paired * rng.exponential(size=n)
        test = permutation_test(a, b, paired, "greater", max_exact=300, n_permutations=99, seed=seed)
        p.append(test.p - rng.random() / test.n_arrangements)
    assert test.exact == (n < 10)
    assert kstest(p, "uniform").pvalue > 0.01


def test_samples_that_cannot_be_compared_are_refused_with_the_remedy():
    two, three = np.ones(2), np.ones(3)
    with pytest.raises(AnalysisError, match="come in pairs"):
        permutation_test(two, three, paired=True)
    with pytest.raises(AnalysisError, match="not finite"):
        permutation_test(two, np.array([np.nan, 1.0]))
    with pytest.raises(AnalysisError, match="at least 1"):
        mann_whitney(two, np.empty(0))
    with pytest.raises(AnalysisError, match="two-sided"):
        mann_whitney(two, three, "bigger")


def test_mann_whitney_is_exact_without_ties_and_auc_is_the_share_of_pairs_won():
    a, b = np.array([3.0, 5.0, 6.0, 8.0, 9.0, 10.0, 11.0]), np.array([0.0, 1.0, 2.0, 4.0, 7.0, -1.0, -2.0])
    test = mann_whitney(a, b)
    splits = [permutation_test(x, y, max_exact=4000) for x, y in [(np.argsort(np.argsort(np.r_[a, b]))[:7] * 1.0,
              np.argsort(np.argsort(np.r_[a, b]))[7:] * 1.0)]]  # fmt: skip
    assert test.exact and test.p == pytest.approx(splits[0].p)  # a permutation test of the ranks
    assert test.auc == pytest.approx((a[:, None] > b).mean()) and test.u == test.auc * 49
    assert mann_whitney(b, a, "less").p == pytest.approx(mann_whitney(a, b, "greater").p)


def test_mann_whitney_corrects_for_ties_and_survives_nothing_but_ties():
    a, b = np.array([1.0, 2.0, 2.0, 3.0, 5.0]), np.array([2.0, 2.0, 1.0, 0.0])
    test = mann_whitney(a, b)
    assert not test.exact and test.p == scipy.stats.mannwhitneyu(a, b, method="asymptotic").pvalue
    assert test.auc == pytest.approx(((a[:, None] > b) + 0.5 * (a[:, None] == b)).mean())
    assert mann_whitney(np.ones(3), np.ones(4)).p == 1.0
    assert not mann_whitney(np.arange(50.0), np.arange(50) + 0.5).exact


@pytest.mark.parametrize(("b", "c"), [(12, 3), (0, 5), (7, 7), (5, 0), (1, 0)])
def test_mcnemar_is_that_of_statsmodels(b, c):
    oracle = oracle_mcnemar([[10, b], [c, 9]], exact=True)
    test = mcnemar(b, c)
    assert test.p == pytest.approx(oracle.pvalue)
    assert test.odds_ratio == (b / c if c else np.inf) and test.low <= test.odds_ratio <= test.high
    assert (test.low <= 1 <= test.high) or test.p <= 0.05


def test_mcnemar_of_nothing_discordant_says_nothing():
    assert mcnemar(0, 0).p == 1.0 and np.isnan(mcnemar(0, 0).odds_ratio)
    with pytest.raises(AnalysisError, match="0 or more"):
        mcnemar(-1, 2)


def test_benjamini_hochberg_is_that_of_statsmodels_and_leaves_nan_out():
    p = np.array([[0.001, np.nan, 0.04], [0.03, 0.8, 0.02]])
    known = ~np.isnan(p)
    np.testing.assert_allclose(benjamini_hochberg(p)[known], multipletests(p[known], method="fdr_bh")[1])
    assert np.isnan(benjamini_hochberg(p)[0, 1]) and np.isnan(benjamini_hochberg(np.full(2, np.nan))).all()
    with pytest.raises(AnalysisError, match="between 0 and 1"):
        benjamini_hochberg(np.array([0.5, 1.5]))


def test_bca_over_single_texts_is_that_of_scipy():
    x = np.random.default_rng(1).exponential(size=30)
    ours = bca_interval(lambda v: v.std(0), x, n_draws=20_000)
    oracle = scipy.stats.bootstrap((x,), lambda v, axis: v.std(axis), n_resamples=20_000, rng=0).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((oracle.low, oracle.high), rel=1e-9)
    plain = percentile_band(bootstrap_over_groups(x, np.arange(30), 20_000))
    moved = bca_interval(lambda v: v.mean(0), x, n_draws=20_000)
    assert moved.low > plain[0] + 0.01 and moved.high > plain[1] + 0.02  # towards the long tail


def test_bca_keeps_the_rows_of_a_topic_together_and_does_layers_at_once():
    sums, counts = RNG.standard_normal((10, 3)) + 5, np.arange(1.0, 11)[:, None]
    both = bca_interval(lambda s, n: s.sum(0) / n.sum(0), sums, counts, seed=4)
    one = bca_interval(lambda s, n: s.sum(0) / n.sum(0), sums[:, 1], counts[:, 0], seed=4)
    assert both.value.shape == (3,) and both.n_groups == 10
    np.testing.assert_allclose([both.low[1], both.high[1]], [one.low, one.high], rtol=2e-3)
    same = bca_interval(lambda s: s.mean(0), np.ones(5))
    assert same.low == same.high == 1.0
    assert np.isnan(bca_interval(lambda s: s.sum() / (s.sum() - 5), np.ones(5)).low)
    with pytest.raises(AnalysisError, match="one row per group"):
        bca_interval(lambda s, n: s.sum(), sums, counts[:4])
    with pytest.raises(AnalysisError, match="at least 3 groups"):
        bca_interval(lambda s: s.mean(0), sums[:2])


TOPICS = {"normal": lambda rng, n: rng.standard_normal(n), "skewed": lambda rng, n: rng.exponential(size=n) - 1}


@pytest.mark.parametrize("n_topics", [8, 20])
@pytest.mark.parametrize("kind", TOPICS)
def test_the_interval_of_a_mean_over_topics_covers_95_percent(n_topics, kind):
    # 1,000 draws at once, as if they were layers of their own; one set of redrawn topics serves all
    rng, groups = np.random.default_rng(n_topics), np.repeat(np.arange(n_topics), 3)
    topic = np.stack([TOPICS[kind](rng, n_topics) for _ in range(1000)], axis=1)
    values = topic[groups] + 0.5 * rng.standard_normal((len(groups), 1000))
    found = mean_interval(values, groups, n_draws=1000)
    assert 0.93 <= ((found.low <= 0) & (found.high >= 0)).mean() <= 0.97
    narrow = mean_interval(values[:, :200], groups, "bca", n_draws=500)
    covered = ((narrow.low <= 0) & (narrow.high >= 0)).mean()
    assert covered < 0.93 or n_topics == 20  # why BCa is not the default


def test_the_interval_of_a_mean_holds_topics_of_unequal_size():
    rng, hits = np.random.default_rng(0), 0
    groups = np.repeat(np.arange(10), [1, 2, 2, 3, 3, 4, 4, 5, 6, 6])
    topic = rng.standard_normal((10, 1000))
    values = topic[groups] + 0.3 * rng.standard_normal((len(groups), 1000))
    found = mean_interval(values, groups, n_draws=800)
    hits = ((found.low <= 0) & (found.high >= 0)).mean()
    assert 0.92 <= hits <= 0.975
    np.testing.assert_allclose(found.value, values.mean(0))


def test_the_t_interval_of_equal_topics_is_that_of_the_topic_means():
    values, groups = RNG.standard_normal(24), np.repeat(list("abcdefgh"), 3)
    means = values.reshape(8, 3).mean(1)
    oracle = scipy.stats.ttest_1samp(means, 0).confidence_interval()
    found = mean_interval(values, groups, "t")
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high))
    wide = mean_interval(values, groups)
    assert wide.low <= found.low and wide.high >= found.high and wide.method == "bootstrap-t"


def test_the_interval_of_topics_that_all_agree_has_no_width():
    found = mean_interval(np.ones((8, 2)), np.arange(8))
    np.testing.assert_allclose([found.low, found.high], 1.0)
    nearly = mean_interval(np.r_[np.ones(7), 0.9], np.arange(8))
    assert 0.9 < nearly.low < nearly.high < 1.1
    with pytest.raises(AnalysisError, match="bootstrap-t, t, bca"):
        mean_interval(np.ones(4), np.arange(4), "normal")


def test_groups_that_are_alike_but_for_a_few_have_an_interval_with_a_floor():
    """Thirteen gain 5.7 and three nothing: the mean is 11 of Student's errors away from 0 on the alike ones alone."""
    values = np.array([5.7] * 13 + [0.0, 0.3, 2.9]) + 0.001 * np.arange(16)
    wild, floored = (mean_interval(values, np.arange(16), floor=f) for f in (0.0, 0.3))
    assert wild.low < 0 < floored.low < float(mean_interval(values, np.arange(16), method="t").low)
    times = redrawn(16, 2000, np.random.default_rng(0))
    draws = [np.repeat(values, t.astype(int)) for t in times]
    error = values.std(ddof=1) / 4
    least = np.maximum([d.std(ddof=1) / 4 for d in draws], 0.3 * error)
    t = np.array([d.mean() - values.mean() for d in draws]) / least
    assert floored.low == pytest.approx(values.mean() - np.quantile(t, 0.975) * error)
    skewed = np.random.default_rng(0).exponential(size=20)  # a spread of its own: the floor is not met
    assert mean_interval(skewed, np.arange(20), floor=0.05).low == mean_interval(skewed, np.arange(20)).low
