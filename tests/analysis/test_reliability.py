"""Reliability: against the loop, against the truth, and against its null."""

import numpy as np
import pytest
from planted import planted, pooled
from scipy.stats import kstest
from test_decoding import DESIGNS

from lens_emotion.analysis.layers import layer_sweep
from lens_emotion.analysis.reliability import reliability
from lens_emotion.errors import AnalysisError
from lens_emotion.stats.design import design_of, label_permutations
from lens_emotion.stats.split_half import half_cosines, topic_halves
from lens_emotion.stats.tests import spearman_brown


def loop_reliability(acts, halves):
    """Half class means by hand, centred on their mean over emotions."""
    texts = acts.emotional
    rows, found = texts.values.double().numpy(), []
    for half in halves:
        means = []
        for topics in (half, ~half):
            keep = np.isin(texts.topic, np.array(texts.topics)[topics])
            m = np.stack([rows[keep & (texts.emotion == e)].mean(0) for e in acts.emotions])
            means.append(m - m.mean(0))
        a, b = means
        found.append((a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1))
    return np.mean(found, axis=0)


def test_reliability_equals_a_plain_loop():
    acts = planted(n_emotions=4, n_topics=5, per_cell=2, signal=1.0, topic_effect=3.0, common=50.0).acts
    result = reliability(acts, n_splits=4, seed=2, n_permutations=1)
    expected = loop_reliability(acts, topic_halves(5, 4, 2).astype(bool))
    np.testing.assert_allclose(result.table["r"].to_numpy().reshape(2, 4).T, expected, atol=1e-6)


def test_reliability_is_one_without_noise_and_zero_for_noise():
    clean = reliability(planted(noise=0.01, signal=1.0).acts, n_permutations=1).by_layer["reliability"]
    assert clean.min() > 0.99
    noisy = [
        reliability(planted(signal=0.0, d_model=64, seed=s).acts, n_permutations=1).by_layer["r"].mean()
        for s in range(30)
    ]
    assert abs(np.mean(noisy)) < 0.03


def test_reliability_does_not_mistake_topic_effects_for_emotion():
    values = [
        reliability(planted(signal=0.0, topic_effect=30.0, d_model=64, seed=s).acts, n_permutations=1)
        .by_layer["r"]
        .mean()
        for s in range(20)
    ]
    assert abs(np.mean(values)) < 0.05


def test_reliability_leaves_out_splits_in_which_an_emotion_is_missing():
    acts = planted(n_emotions=3, n_topics=4, signal=3.0, d_model=48).acts
    thin = acts.only((acts.emotion != "sad") | np.isin(acts.topic, ["topic0", "topic1"]))
    result = reliability(thin, n_permutations=9)
    assert result.table["r"].notna().all() and result.table["r"].min() > 0.3
    with pytest.raises(AnalysisError, match="n_splits"):
        reliability(acts, n_splits=0)
    assert "Spearman-Brown" in result.summary()


@pytest.mark.parametrize("shape", ["crossed", "copies", "unbalanced", "nested"])
def test_the_null_is_the_reliability_of_relabelled_texts(shape):
    acts = DESIGNS[shape]()
    design, result = design_of(acts), reliability(acts, 4, 1, 5)
    halves = topic_halves(len(design.topics), 4, 1)
    for labels, null in zip(label_permutations(design, 5, 1), result.null, strict=True):
        names = iter(np.array(acts.emotions)[labels])
        renamed = [(r.emotion if r.emotion == "neutral" else str(next(names)), r.topic) for r in acts.records]
        again = pooled(acts.values, renamed, [r.text for r in acts.records])
        order = [design.emotions.index(e) for e in again.emotions]
        assert sorted(order) == list(range(design.n_classes))
        r = half_cosines(again, design_of(again), design_of(again).label[None], halves)[:, 0]
        np.testing.assert_allclose(null, spearman_brown(np.nanmean(r, axis=1)), atol=1e-9)


@pytest.mark.parametrize("noise, topic_effect, common", [(2.0, 0.0, 0.0), (4.0, 3.0, 40.0)])
def test_reliability_is_signal_over_signal_plus_noise_of_the_mean(noise, topic_effect, common):
    found, truth = [], []
    for seed in range(12):
        made = planted(
            n_emotions=5, n_topics=12, n_layers=1, d_model=256, signal=1.0, noise=noise, topic_effect=topic_effect,
            common=common, seed=seed,
        )  # fmt: skip
        found.append(reliability(made.acts, 60, seed, 1).table["reliability"])
        directions = (made.directions - made.directions.mean(0))[:, 0].double().numpy()
        signal, error = (directions**2).sum(1), noise**2 * 4 / 5  # centring takes one part in five of the noise
        truth.append(signal / (signal + error / 12))
    assert np.mean(found) == pytest.approx(np.mean(truth), abs=0.02)


def test_the_interval_over_topics_covers_the_truth():
    inside = []
    for seed in range(60):
        made = planted(n_emotions=4, n_topics=16, n_layers=1, d_model=96, signal=1.0, noise=2.0, seed=seed)
        table = reliability(made.acts, 20, seed, 1).table
        directions = (made.directions - made.directions.mean(0))[:, 0].double().numpy()
        signal = (directions**2).sum(1)
        truth = signal / (signal + 4 * 0.75 / 16)
        inside.append((table["low"] <= truth) & (truth <= table["high"]))
        assert (table["low"] < table["reliability"]).all() and (table["reliability"] < table["high"]).all()
    assert 0.92 <= np.mean(inside) <= 0.98


def test_p_of_the_reliability_is_uniform_under_the_null_and_least_for_signal():
    rng, p = np.random.default_rng(0), []
    for seed in range(150):
        p.append(
            reliability(planted(3, 4, n_layers=1, d_model=8, signal=0.0, seed=seed).acts, 5, seed, 19).by_layer["p"][0]
        )
    assert min(p) >= 1 / 20
    assert kstest(np.array(p) - rng.random(150) / 20, "uniform").pvalue > 0.01
    result = reliability(planted(n_layers=3, signal=[0.0, 6.0, 0.0]).acts, n_permutations=39)
    assert result.by_layer["p_corrected"][1] == 1 / 40 and "noise: " not in result.summary()
    assert (result.by_layer["p_corrected"] >= result.by_layer["p"]).all()
    assert (result.table.set_index("layer").loc[1, "p"] == 1 / 40).all()


def test_noise_is_called_noise_and_the_sweep_agrees_with_the_result():
    acts = planted(n_layers=3, signal=0.0, seed=4).acts
    result, sweep = reliability(acts, n_permutations=39), layer_sweep(acts, "reliability", 39).table
    assert result.summary().endswith("not distinguishable from noise.")
    for column, other in (("reliability", "value"), ("null_low", "null_low"), ("p_corrected", "p_corrected")):
        np.testing.assert_allclose(result.by_layer[column], sweep[other])
    with pytest.raises(AnalysisError, match="n_permutations is 0"):
        reliability(acts, n_permutations=0)


def test_topics_needed_are_those_of_the_prophecy():
    acts = planted(n_emotions=4, n_topics=8, per_cell=2, signal=[1.0, 0.0], noise=3.0, d_model=128).acts
    result = reliability(acts, n_permutations=1)
    needed = result.topics_needed(0.95)
    for _, row in needed.iterrows():
        if row.reliability <= 0:
            assert np.isinf(row.topics_needed) and np.isinf(row.texts_needed)
            continue
        assert row.texts_needed == 2 * row.topics_needed and row.topics == 8 and row.texts == 16
        m = np.array([row.topics_needed - 1, row.topics_needed]) / 8
        below, reached = m * row.reliability / (1 + (m - 1) * row.reliability)
        assert below < 0.95 <= reached + 1e-12
    assert (needed["reliability"] <= 0).any() and (needed["reliability"] > 0).any()
    for target in (0.0, 1.0):
        with pytest.raises(AnalysisError, match="between 0 and 1"):
            result.topics_needed(target)
