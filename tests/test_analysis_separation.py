"""Separation and reliability: noise is called noise, signal is called signal."""

import numpy as np
import pytest
import torch
from planted import planted
from scipy.stats import kstest

from lens_emotion.analysis.design import design_of, label_permutations
from lens_emotion.analysis.reliability import reliability
from lens_emotion.analysis.results import AnalysisError
from lens_emotion.analysis.separation import cosine_null, mean_pairwise_cosine, separation
from lens_emotion.errors import StimulusError
from lens_emotion.vectors.recipes import emotion_vectors, minus_mean, minus_neutral


def test_closed_form_equals_the_loop_over_pairs():
    rows = torch.randn(3, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1
    for batch, value in zip(rows, mean_pairwise_cosine(rows), strict=True):
        pairs = [torch.cosine_similarity(batch[i], batch[j], dim=0) for i in range(7) for j in range(i)]
        assert float(value) == pytest.approx(float(sum(pairs)) / 21)


def test_closed_form_of_equal_opposite_and_zero_rows():
    assert float(mean_pairwise_cosine(torch.ones(4, 3))) == pytest.approx(1)
    assert float(mean_pairwise_cosine(torch.tensor([[1.0, 0.0], [-5.0, 0.0]]))) == pytest.approx(-1)
    assert float(mean_pairwise_cosine(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))) == pytest.approx(0)
    assert mean_pairwise_cosine(torch.ones(1, 3)).isnan()


@pytest.mark.parametrize("d_model", [8, 80])
@pytest.mark.parametrize("recipe", ["neutral", "centred", "neutral_pca"])
def test_cosine_and_its_null_equal_the_vectors_of_relabelled_activations(recipe, d_model):
    acts = planted(n_emotions=4, n_topics=4, per_cell=2, d_model=d_model, signal=1.0, common=20.0).acts
    observed, null = cosine_null(acts, recipe, 3, seed=1)
    design = design_of(acts)
    for labels, values in zip([design.label, *label_permutations(design, 3, 1)], [observed, *null], strict=True):
        names = np.array(acts.emotions)[labels]
        relabelled = _relabelled(acts, names)
        vectors = emotion_vectors(relabelled, recipe)
        np.testing.assert_allclose(values, mean_pairwise_cosine(vectors.directions.transpose(0, 1)), atol=1e-6)


def _relabelled(acts, names):
    from dataclasses import replace

    emotional = iter(names)
    records = [r if r.emotion == "neutral" else replace(r, emotion=str(next(emotional))) for r in acts.records]
    return replace(acts, records=tuple(records))


def test_a_function_as_recipe_gives_what_its_name_gives():
    acts = planted(signal=1.0).acts
    for name, function in (("neutral", minus_neutral), ("centred", minus_mean)):
        for a, b in zip(cosine_null(acts, name, 4, 0), cosine_null(acts, function, 4, 0), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_noise_is_reported_as_noise():
    said = []
    for seed in range(20):
        acts = planted(n_emotions=5, n_topics=6, n_layers=3, signal=0.0, common=10.0, seed=seed).acts
        result = separation(acts, n_permutations=39, seed=seed)
        said.append("not distinguishable from noise" in result.summary())
        assert said[-1] != result.distinguishable()
        assert abs(result.table["reliability"]).max() < 0.8
    assert sum(said) >= 17


def test_noise_is_noise_even_where_its_vectors_look_well_separated():
    # many texts' worth of noise and a neutral mean of its own: cosines near 0.5, like a model's
    acts = planted(n_emotions=8, n_topics=6, n_layers=1, d_model=64, signal=0.0, n_neutral=6, seed=3).acts
    result = separation(acts, n_permutations=39)
    assert result.table["mean_cosine"][0] < 0.7
    assert not result.distinguishable(0)
    assert result.summary(0).endswith("not distinguishable from noise.")


def test_signal_is_reported_as_signal_with_everything_beside_it():
    acts = planted(n_emotions=4, n_topics=6, n_layers=3, signal=[0.0, 6.0, 0.0], common=10.0).acts
    result = separation(acts, n_permutations=99)
    assert result.best_layer == 1 and result.distinguishable() and result.distinguishable(-2)
    row = result.table.iloc[1]
    assert row.mean_cosine < row.null_low and row.p == 1 / 100
    assert row.reliability > 0.9 and row.accuracy > 0.9
    text = result.summary()
    for word in ("null", "chance 0.25", "p = 0.010", "reliability", "told apart"):
        assert word in text
    assert list(result.table.columns) == [
        "layer", "depth", "mean_cosine", "null_low", "null_high", "p", "accuracy", "chance", "accuracy_p",
        "accuracy_p_corrected", "reliability",
    ]  # fmt: skip


def test_the_middle_layer_of_noise_stays_noise_when_another_layer_has_signal():
    acts = planted(n_emotions=4, n_topics=6, n_layers=3, signal=[9.0, 0.0, 0.0], seed=1).acts
    result = separation(acts, n_permutations=39)
    assert "told apart" in result.summary(0)
    assert "not distinguishable from noise" in result.summary(1)
    with pytest.raises(AnalysisError, match="no layer 3"):
        result.summary(3)


def test_p_of_the_mean_cosine_is_uniform_under_the_null():
    rng, p = np.random.default_rng(0), []
    for seed in range(200):
        acts = planted(n_emotions=3, n_topics=4, n_layers=1, d_model=6, signal=0.0, n_neutral=4, seed=seed).acts
        observed, null = cosine_null(acts, "neutral", 19, seed)
        p.append((1 + (null[:, 0] <= observed[0]).sum()) / 20)
    assert min(p) >= 1 / 20
    assert kstest(np.array(p) - rng.random(200) / 20, "uniform").pvalue > 0.01


def test_separation_refuses_a_single_class_and_missing_neutral_texts():
    acts = planted().acts
    with pytest.raises(StimulusError, match="single class"):
        separation(acts.of("happy", "neutral"))
    with pytest.raises(StimulusError, match="neutral text"):
        separation(acts.emotional, n_permutations=2)
    assert separation(acts.emotional, "centred", 2).table["mean_cosine"][0] == pytest.approx(-1 / 3, abs=0.1)


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
    from lens_emotion.analysis.reliability import topic_halves

    acts = planted(n_emotions=4, n_topics=5, per_cell=2, signal=1.0, topic_effect=3.0, common=50.0).acts
    result = reliability(acts, n_splits=4, seed=2)
    expected = loop_reliability(acts, topic_halves(5, 4, 2).astype(bool))
    np.testing.assert_allclose(result.table["r"].to_numpy().reshape(2, 4).T, expected, atol=1e-6)


def test_reliability_is_one_without_noise_and_zero_for_noise():
    clean = reliability(planted(noise=0.01, signal=1.0).acts).by_layer["reliability"]
    assert clean.min() > 0.99
    noisy = [reliability(planted(signal=0.0, d_model=64, seed=s).acts).by_layer["r"].mean() for s in range(30)]
    assert abs(np.mean(noisy)) < 0.03


def test_reliability_does_not_mistake_topic_effects_for_emotion():
    values = [
        reliability(planted(signal=0.0, topic_effect=30.0, d_model=64, seed=s).acts).by_layer["r"].mean()
        for s in range(20)
    ]
    assert abs(np.mean(values)) < 0.05


def test_reliability_leaves_out_splits_in_which_an_emotion_is_missing():
    acts = planted(n_emotions=3, n_topics=4, signal=3.0, d_model=48).acts
    thin = acts.only((acts.emotion != "sad") | np.isin(acts.topic, ["topic0", "topic1"]))
    result = reliability(thin)
    assert result.table["r"].notna().all() and result.table["r"].min() > 0.3
    with pytest.raises(AnalysisError, match="n_splits"):
        reliability(acts, n_splits=0)
    assert "Spearman-Brown" in result.summary()
