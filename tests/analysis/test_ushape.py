"""The two-lines test: finds turns that are there, and says no where there are none."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from lens_emotion.analysis.ushape import _turns_again, two_lines
from lens_emotion.errors import AnalysisError

ONE_LINE = {
    "linear": lambda x: x,
    "falling": lambda x: -x,
    "logarithm": lambda x: np.log1p(20 * x) / np.log(21),
    "saturating": lambda x: np.minimum(2 * x, 1),
    "sigmoid": lambda x: 1 / (1 + np.exp(-15 * (x - 0.4))),
    "flat": lambda x: 0 * x,
}


def _curves(rng, shape, n=8, n_layers=12, rho=0.6, noise=0.1, topic=0.1):
    """A rise of 0.4 over depth, a level per topic, and noise correlated between layers."""
    errors = rng.standard_normal((n, n_layers))
    for layer in range(1, n_layers):
        errors[:, layer] = rho * errors[:, layer - 1] + np.sqrt(1 - rho**2) * errors[:, layer]
    depth = (np.arange(n_layers) + 1) / n_layers
    return 0.4 * shape(depth) + topic * rng.standard_normal((n, 1)) + noise * errors


def _hill(x):
    return 1 - (2 * x - 1) ** 2


@pytest.mark.parametrize("name", ONE_LINE)
def test_monotone_and_flat_curves_are_called_u_in_6_percent_at_most(name):
    rng = np.random.default_rng(1)
    found = [two_lines(_curves(rng, ONE_LINE[name], rho=rho)).verdict for rho in (0.3, 0.9) for _ in range(60)]
    assert np.mean([v in ("U", "inverted U") for v in found]) <= 0.06


@pytest.mark.parametrize(("sign", "verdict"), [(1, "inverted U"), (-1, "U")])
@pytest.mark.parametrize("n_layers", [6, 12, 24])
def test_true_turns_are_found(sign, verdict, n_layers):
    rng = np.random.default_rng(2)
    found = [two_lines(_curves(rng, lambda x: sign * _hill(x), n_layers=n_layers)) for _ in range(20)]
    assert np.mean([f.verdict == verdict for f in found]) > 0.8
    assert abs(np.median([f.break_depth for f in found]) - 0.5) < 0.2


def _humps(x):
    """Two of the same height; between them it falls to the level of the ends."""
    return np.abs(np.sin(2 * np.pi * x))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("size", "verdict"), [(3.0, "several turns"), (0.0, "monotone or flat")])
def test_two_humps_are_no_u(sign, size, verdict):
    rng = np.random.default_rng(3)
    found = [two_lines(_curves(rng, lambda x: sign * size * _humps(x), noise=0.05), margin=0.1) for _ in range(20)]
    assert np.mean([f.verdict in ("U", "inverted U") for f in found]) == 0.0
    turned = [f for f in found if f.p_again < 1]
    assert (len(turned) > 10) == bool(size) and all(f.verdict == verdict for f in turned)


def test_a_second_turn_is_one_that_no_single_turn_explains_and_its_p_counts_pairs():
    """Every layer is tried as the one turn, with every pair of layers on its sides."""
    rng = np.random.default_rng(0)
    curves = np.array([0.0, 0.2, 1.0, 0.4, 0.1, 0.5, 0.9, 0.4, 0.0]) + 0.05 * rng.standard_normal((8, 9))
    p, corrected = _turns_again(curves, 0.1)
    steps = {(i, j): curves[:, j] - curves[:, i] for i in range(9) for j in range(i + 1, 9)}
    tests = {k: (v.mean(), ttest_1samp(v, 0, alternative="greater").pvalue) for k, v in steps.items()}

    def clearest(at):
        falls = [1 - p for (i, j), (m, p) in tests.items() if j <= at and m < -0.1]
        rises = [p for (i, j), (m, p) in tests.items() if i >= at and m > 0.1]
        return min([1.0, *falls, *rises])

    assert p == pytest.approx(max(clearest(at) for at in range(9)), rel=1e-6)
    assert corrected == pytest.approx(min(1.0, 36 * p))
    assert _turns_again(curves, 2.0) == (1.0, 1.0)  # a step below the margin is none
    hill = curves[:, [0, 1, 2, 2, 3, 3, 4, 8, 8]]
    assert _turns_again(hill, 0.1) == (1.0, 1.0)


def test_a_second_turn_that_is_not_sure_leaves_it_open():
    rng = np.random.default_rng(5)
    noise = rng.standard_normal((5, 9))
    curves = np.array([0, 1.5, 3, 1.6, 1.1, 1.5, 1.2, 0.7, 0.0]) + 0.3 * (noise - noise.mean(0))
    found = two_lines(curves, margin=0.1)
    p, corrected = _turns_again(curves, 0.1)
    assert p <= 0.05 < corrected and found.p_again == corrected and found.verdict == "undetermined"


def test_a_saturating_curve_fools_the_quadratic_but_not_the_lines():
    rng = np.random.default_rng(3)
    found = [two_lines(_curves(rng, ONE_LINE["saturating"])) for _ in range(20)]
    assert np.mean([f.quadratic.p < 0.05 and f.quadratic.value < 0 for f in found]) > 0.8
    assert np.mean(["U" in f.verdict for f in found]) < 0.1


def test_choosing_the_break_on_the_same_topics_would_find_turns_in_noise():
    # slopes at the break of all topics: significant more often than those that two_lines reports
    rng, same, other = np.random.default_rng(4), 0, 0
    for _ in range(300):
        curves = _curves(rng, ONE_LINE["saturating"], rho=0.3, n_layers=24)
        found = two_lines(curves)
        depth = (np.arange(24) + 1) / 24
        at = int(np.argmin(np.abs(depth - found.break_depth)))
        slopes = [np.polyfit(depth[at:], c[at:], 1)[0] for c in curves]
        same += ttest_1samp(slopes, 0, alternative="less").pvalue < 0.025
        other += found.second.p < 0.05 and found.second.value < 0
    assert other < same


def test_slopes_by_hand_without_noise():
    depth = np.arange(1.0, 10) / 9
    tent = np.where(depth <= 5 / 9, 2 * depth, 2 * 5 / 9 - (depth - 5 / 9))
    found = two_lines(tent + np.arange(6.0)[:, None])
    assert found.verdict == "inverted U" and found.break_depth == pytest.approx(5 / 9)
    assert (found.first_slope, found.second_slope) == pytest.approx((2, -1))
    assert 0 < found.first_p < 1e-6 and found.first_low == pytest.approx(2) and found.n_units == 6
    assert found.quadratic.value == pytest.approx(np.polyfit(depth, tent, 2)[0])


def test_the_verdict_turns_with_the_sign_and_knows_no_unit_and_no_level():
    curves = _curves(np.random.default_rng(5), _hill)
    found, turned, scaled = two_lines(curves), two_lines(-curves), two_lines(1000 * curves)
    assert (found.verdict, turned.verdict, scaled.verdict) == ("inverted U", "U", "inverted U")
    assert (turned.first_p, turned.break_depth) == pytest.approx((found.first_p, found.break_depth))
    assert scaled.second_slope == pytest.approx(1000 * found.second_slope)
    levels = np.arange(8.0)[:, None]  # topics differ in level: no matter
    assert two_lines(curves + levels, margin=0.1).second_p == pytest.approx(found.second_p)


def test_a_steady_rise_is_monotone_and_noise_is_undetermined():
    rng = np.random.default_rng(6)
    assert two_lines(_curves(rng, ONE_LINE["linear"], noise=0.02)).verdict == "monotone or flat"
    flat = two_lines(0.5 + _curves(rng, ONE_LINE["flat"], noise=0.01))
    assert flat.verdict == "monotone or flat"
    noise = two_lines(_curves(rng, ONE_LINE["flat"], topic=0))
    assert noise.verdict == "undetermined" and "neither a turn nor its absence" in noise.summary()
    assert two_lines(_curves(np.random.default_rng(6), ONE_LINE["flat"], topic=0), margin=9.0).verdict != "undetermined"


def test_a_single_curve_is_the_weaker_form_and_says_so():
    rng = np.random.default_rng(7)
    hill = two_lines(_curves(rng, _hill, n_layers=24, rho=0.3, noise=0.03, topic=0)[0])
    assert hill.verdict == "inverted U" and hill.form == "single curve" and "weaker form" in hill.summary()
    found = [two_lines(_curves(rng, ONE_LINE["saturating"], n=1, n_layers=24, rho=0.3)).verdict for _ in range(80)]
    assert np.mean(["U" in v for v in found]) <= 0.06
    steady = two_lines(np.linspace(0, 1, 12))
    assert steady.verdict == "monotone or flat" and steady.first_slope == pytest.approx(12 / 11)


def test_the_result_is_a_tidy_table_and_one_sentence():
    found = two_lines(_curves(np.random.default_rng(8), _hill))
    assert list(found.table.columns) == ["term", "value", "low", "high", "p"]
    assert found.table.term.tolist() == ["first line", "second line", "quadratic"]
    assert (found.table.low <= found.table.value).all() and found.form == "over units"
    assert found.summary().endswith(").") and "inverted U" in found.summary() and "<table" in found._repr_html_()


def test_curves_that_cannot_answer_are_refused_with_what_fits():
    with pytest.raises(AnalysisError, match="at least 5 layers; got 4"):
        two_lines(np.zeros((8, 4)))
    with pytest.raises(AnalysisError, match="at least 8 layers of a single curve"):
        two_lines(np.zeros(7))
    with pytest.raises(AnalysisError, match="at least 3 units"):
        two_lines(np.zeros((2, 9)))
    with pytest.raises(AnalysisError, match="finite"):
        two_lines(np.full((4, 9), np.nan))


def test_a_plateau_of_perfect_accuracy_is_no_turn():
    curves = np.minimum(1, np.linspace(0.2, 1.8, 9) + np.random.default_rng(9).choice([0, 0.1, 0.2], (10, 9)))
    found = two_lines(curves)
    assert found.verdict == "monotone or flat" and found.second_p > 0.05


def test_curves_without_any_noise_or_change_do_not_crash():
    assert two_lines(np.ones((5, 9))).verdict == "monotone or flat"
    assert two_lines(np.ones((5, 9))).first_p == 1.0
    assert two_lines(np.zeros(9)).second_p == 1.0
