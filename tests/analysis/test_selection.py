"""The best of many layers is a choice: p-values are corrected for it, by a rule that is said plainly here."""

from __future__ import annotations

import numpy as np
import pytest
from planted import planted

from lens_emotion.analysis.decoding import decoding
from lens_emotion.analysis.layers import Curve, _sweep, layer_sweep
from lens_emotion.analysis.separation import separation
from lens_emotion.stats.tests import bootstrap_over_groups

N = 39


@pytest.fixture(scope="module")
def noise():
    """Eight layers of noise, of which one is better than the others by chance."""
    return planted(n_emotions=4, n_topics=6, n_layers=8, d_model=12, signal=0.0, seed=8).acts


def of_the_best(observed, null):
    """(b + 1) / (m + 1), b being the permutations whose own best layer is at least as good."""
    return [(sum(row.max() >= x - 1e-12 for row in null) + 1) / (len(null) + 1) for x in observed]


def alone(observed, null):
    return [((column >= x - 1e-12).sum() + 1) / (len(null) + 1) for x, column in zip(observed, null.T, strict=True)]


def on_one_scale(observed, null):
    """Observed and permuted values in SDs of their layer, the observed one among them."""
    every = np.vstack([observed, null])
    every = (every - every.mean(0)) / every.std(0)
    return every[0], every[1:]


def test_p_values_of_decoding_are_corrected_for_the_best_layer(noise):
    found = decoding(noise, N)
    for made in (found, found.standardised):
        table = made.table
        assert table.p.tolist() == pytest.approx(alone(table.accuracy, made.null))
        assert table.p_corrected.tolist() == pytest.approx(of_the_best(table.accuracy, made.null))
        assert (table.p_corrected > table.p).any() and (table.p_corrected >= table.p).all()
        assert table.null_low.tolist() == pytest.approx(np.quantile(made.null, 0.025, axis=0).tolist())
        assert table.null_high.tolist() == pytest.approx(np.quantile(made.null, 0.975, axis=0).tolist())
        assert table.null_mean.tolist() == pytest.approx(made.null.mean(0).tolist())
    other = found.standardised.table
    for column in ("p", "p_corrected", "accuracy", "null_low", "null_high"):
        assert found.table[f"{column}_standardised"].tolist() == other[column].tolist()


def test_what_was_chosen_is_judged_by_the_corrected_p_and_what_was_not_by_its_own(noise):
    found = decoding(noise, N)
    best = found.best_layer
    table = found.table.assign(p=0.01, p_corrected=0.06)
    object.__setattr__(found, "table", table)
    assert not found.above_chance() and found.above_chance(best)
    object.__setattr__(found, "table", table.assign(p=0.06, p_corrected=[0.01] * 8))
    assert found.above_chance() and not found.above_chance(best)
    object.__setattr__(found, "table", table.assign(p=0.05, p_corrected=0.05))
    assert found.above_chance() and found.above_chance(0)


def test_separation_tells_both_p_values_and_never_one_for_the_other(noise):
    found, decoded = separation(noise, n_permutations=N), decoding(noise, N)
    table = found.table
    assert table.accuracy_p.tolist() == decoded.table.p.tolist()
    assert table.accuracy_p_corrected.tolist() == decoded.table.p_corrected.tolist()
    assert table.accuracy_p_standardised.tolist() == decoded.standardised.table.p.tolist()
    assert table.accuracy_p_corrected_standardised.tolist() == decoded.standardised.table.p_corrected.tolist()
    assert table.p.tolist() == pytest.approx(alone(-table.mean_cosine, -found.null))
    assert table.null_low.tolist() == pytest.approx(np.quantile(found.null, 0.025, axis=0).tolist())
    best = table.iloc[found.best_layer]
    assert best.accuracy_p < best.accuracy_p_corrected
    assert f"p = {best.accuracy_p_corrected:.3f} corrected over layers" in found.summary()
    assert f"p = {best.accuracy_p:.3f}; standardised" in found.summary(found.best_layer)


def test_a_sweep_is_corrected_over_layers_on_the_scale_of_its_metric(noise):
    found, decoded = layer_sweep(noise, n_permutations=N), decoding(noise, N)
    assert found.table.p_corrected.tolist() == pytest.approx(of_the_best(found.table.value, decoded.null))
    cosines, separated = layer_sweep(noise, "separation", N), separation(noise, n_permutations=N)
    expected = of_the_best(*on_one_scale(-separated.table.mean_cosine, -separated.null))
    assert cosines.table.p_corrected.tolist() == pytest.approx(expected)
    assert cosines.table.p_corrected.tolist() != pytest.approx(of_the_best(-cosines.table.value, -separated.null))
    assert (cosines.table.p_corrected >= cosines.table.p).all() and cosines.best_layer == cosines.table.value.argmin()


def test_a_standardised_sweep_is_that_of_the_standardised_decoder(noise):
    sweep, decoded = layer_sweep(noise, n_permutations=N), decoding(noise, N).standardised
    for made, source in ((sweep, decoding(noise, N)), (sweep.standardised, decoded)):
        assert made.table.value.tolist() == source.table.accuracy.tolist()
        assert made.table.p_corrected.tolist() == source.table.p_corrected.tolist()
        draws = bootstrap_over_groups(source.correct.T.astype(float), source.topic)
        depths = np.sort(made.table.depth.to_numpy()[draws.argmax(1)])
        ends = depths[[int(np.ceil(q * len(depths))) - 1 for q in (0.025, 0.975)]]
        assert [made.best_depth_low, made.best_depth_high] == ends.tolist()
    assert sweep.table.value_standardised.tolist() == sweep.standardised.table.value.tolist()
    assert (
        sweep.standardised.standardised is None
        and sweep.table.value.tolist() != sweep.standardised.table.value.tolist()
    )


def test_the_first_of_equal_layers_is_the_best():
    acts = planted(n_emotions=3, n_topics=4, n_layers=3, d_model=12, signal=9.0).acts
    assert decoding(acts, 1).table.accuracy.tolist() == [1.0] * 3
    assert decoding(acts, 1).best_layer == layer_sweep(acts, n_permutations=1).best_layer == 0


def test_the_ends_of_the_best_depth_are_the_quantiles_of_the_draws():
    """Of 200 draws 6 are best at the first layer and 6 at the last: 95% reach both, 90% would reach neither."""
    for rare, ends in ((6, (1 / 9, 1.0)), (4, (5 / 9, 5 / 9))):
        best = np.r_[np.zeros(rare), np.full(200 - 2 * rare, 4), np.full(rare, 8)].astype(int)
        draws = np.eye(9)[best]
        for higher in (True, False):
            curve = Curve(draws.mean(0), None, higher, draws if higher else -draws)
            found = _sweep("mine", curve, np.arange(1, 10) / 9, 20)
            assert (found.best_depth_low, found.best_depth_high) == pytest.approx(ends)
