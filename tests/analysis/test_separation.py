"""Separation and reliability: noise is called noise, signal is called signal."""

from itertools import combinations

import numpy as np
import pytest
import torch
from planted import planted, pooled
from scipy.stats import kstest
from test_decoding import DESIGNS

from lens_emotion import plots
from lens_emotion.analysis.decoding import decoding
from lens_emotion.analysis.reliability import reliability
from lens_emotion.analysis.separation import _named, cosine_null, separation
from lens_emotion.errors import AnalysisError, StimulusError
from lens_emotion.stats.cosines import corrected_cosine, mean_pairwise_cosine, recipe_grams, topic_means
from lens_emotion.stats.design import design_of, label_permutations
from lens_emotion.stats.gram import Labellings
from lens_emotion.vectors.recipes import RECIPES, apply_steps, class_means, emotion_vectors, minus_mean, minus_neutral


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


@pytest.mark.parametrize("recipe", ["neutral", "centred", "neutral_pca"])
@pytest.mark.parametrize("shape", ["unbalanced", "copies", "nested"])
def test_every_design_has_the_cosines_of_its_relabelled_vectors_and_the_decoding_of_decoding(shape, recipe):
    acts = DESIGNS[shape]()
    result, design = separation(acts, recipe, 5, seed=3), design_of(acts)
    every = [design.label, *label_permutations(design, 5, 3)]
    for labels, values in zip(every, [_named(acts, recipe, 5, 3).observed, *result.null], strict=True):
        vectors = emotion_vectors(_relabelled(acts, np.array(acts.emotions)[labels]), recipe)
        np.testing.assert_allclose(values, mean_pairwise_cosine(vectors.directions.transpose(0, 1)), atol=1e-6)
    alone = decoding(acts, 5, seed=3)
    np.testing.assert_array_equal(result.decoding.predicted, alone.predicted)
    np.testing.assert_array_equal(result.decoding.null, alone.null)
    np.testing.assert_allclose(result.table["reliability"], reliability(acts, 20, 3, 1).by_layer["reliability"])


def _halved_cosine(acts, recipe):
    """The definition: inner products of vectors from opposite halves, averaged over all halvings, then cosines."""
    emotional, neutral = sorted({*acts.emotional.topic}), sorted({*acts.neutral.topic})
    products = []
    for a in combinations(emotional, len(emotional) // 2):
        for b in combinations(neutral, len(neutral) // 2):
            first = np.isin(acts.topic, [*a, *b])
            u, v = (class_vectors(acts.only(keep), recipe) for keep in (first, ~first))
            products.append(np.einsum("kld,jld->lkj", u, v))
    mean = np.mean(products, axis=0)
    size = np.sqrt(np.diagonal(mean, axis1=1, axis2=2))
    cosine = mean / size[:, :, None] / size[:, None, :]
    k = mean.shape[1]
    return (cosine.sum((1, 2)) - k) / (k * (k - 1))


def class_vectors(acts, recipe):
    return apply_steps(RECIPES[recipe], class_means(acts), acts.neutral.values.double()).numpy()


@pytest.mark.parametrize("recipe", ["neutral", "centred"])
def test_the_corrected_cosine_is_the_average_over_all_ways_to_halve_the_topics(recipe):
    acts = planted(n_emotions=3, n_topics=6, signal=3.0, common=5.0, topic_effect=1.0, n_neutral=4, d_model=16).acts
    free = [at.corrected for at in _named(acts, recipe, 2, 0).corrected]
    np.testing.assert_allclose(free, _halved_cosine(acts, recipe), atol=1e-5)


@pytest.mark.parametrize("common", [0.0, 60.0])
def test_the_corrected_cosine_recovers_the_truth_where_the_raw_one_is_far_off(common):
    raw, corrected, truth = [], [], []
    for seed in range(10):
        made = planted(
            n_emotions=6, n_topics=24, d_model=512, n_layers=1, signal=1.0, noise=3.0, topic_effect=1.0, common=common,
            rogue=0.1, n_neutral=24, seed=seed,
        )  # fmt: skip
        if common:
            assert anisotropy_of(made.acts) > 0.99
        row = separation(made.acts, "neutral", 1).table.iloc[0]
        raw.append(row.mean_cosine)
        corrected.append(row.disattenuated)
        truth.append(float(mean_pairwise_cosine(made.directions[:, 0])))
    assert abs(np.mean(raw) - np.mean(truth)) > 0.1
    assert np.mean(corrected) == pytest.approx(np.mean(truth), abs=0.02)


def anisotropy_of(acts):
    return float(mean_pairwise_cosine(acts.neutral.values[:, 0]))


def test_both_intervals_cover_what_they_should():
    inside, rows, truth = [], [], []
    for seed in range(250):
        made = planted(n_emotions=4, n_topics=12, d_model=48, n_layers=1, signal=1.0, n_neutral=12, seed=seed)
        design = design_of(made.acts)
        means = topic_means(made.acts, design, Labellings(design, design.label[None]).weights[0], "neutral")
        rows.append(corrected_cosine(next(recipe_grams(made.acts, "neutral")).numpy(), means, "neutral"))
        truth.append(float(mean_pairwise_cosine(made.directions[:, 0])))
    expected = np.mean([r.raw - t for r, t in zip(rows, truth, strict=True)])
    inside = [abs(r.raw - t - expected) <= r.raw_half for r, t in zip(rows, truth, strict=True)]
    corrected = [abs(r.corrected - t) <= r.corrected_half for r, t in zip(rows, truth, strict=True)]
    assert 0.92 <= np.mean(inside) <= 0.98
    assert 0.92 <= np.mean(corrected) <= 0.98


def test_a_cosine_that_cannot_be_corrected_is_nan_and_the_summary_says_why():
    noise = separation(planted(n_emotions=8, signal=0.0, n_layers=1, n_neutral=4).acts, "neutral", 9)
    assert noise.table["disattenuated"].isna().all()
    assert "halves of the topics do not agree on" in noise.summary()
    acts = planted(signal=6.0).acts
    one = pooled(acts.values, [(r.emotion, "plain" if r.emotion == "neutral" else r.topic) for r in acts.records])
    assert "the neutral texts share one topic" in separation(one, "neutral", 9).summary()
    assert not any(at.why_not for at in _named(one, "centred", 9, 0).corrected)
    assert "the recipe is a function" in separation(acts, minus_neutral, 9).summary()
    good = separation(acts, "neutral", 9)
    assert "corrected for noise, 95%" in good.summary() and good.why_uncorrected == ("", "")


@pytest.mark.parametrize("recipe", ["centred", "neutral", "neutral_pca"])
def test_directions_are_recovered_beside_anisotropy_a_rogue_dimension_and_topic_effects(recipe):
    truth = planted(
        n_emotions=6, n_topics=24, d_model=256, signal=6.0, common=60.0, rogue=2.0, topic_effect=3.0, n_neutral=24
    )
    assert anisotropy_of(truth.acts) > 0.99
    directions = truth.directions if recipe == "neutral" else truth.directions - truth.directions.mean(0)
    cosine = torch.cosine_similarity(emotion_vectors(truth.acts, recipe).directions, directions, dim=-1)
    assert cosine.min() > 0.95


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
        "layer", "depth", "mean_cosine", "cosine_low", "cosine_high", "null_low", "null_high", "p", "disattenuated",
        "disattenuated_low", "disattenuated_high", "accuracy", "chance", "accuracy_p", "accuracy_p_corrected",
        "accuracy_standardised", "accuracy_p_standardised", "accuracy_p_corrected_standardised", "reliability",
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
        separation(acts.emotional, "neutral", n_permutations=2)


@pytest.mark.parametrize(
    "recipe", [None, "centred", "neutral_pca", minus_mean, lambda v, n: v - v.mean(0), [minus_neutral, minus_mean]]
)
def test_a_cosine_that_the_recipe_forces_is_not_shown(recipe):
    acts = planted(n_neutral=4).acts
    acts = acts.emotional if recipe is None else acts  # for want of neutral texts the default is centred
    result = separation(acts, recipe, 2)
    assert result.forced and result.table.filter(regex="cosine|null|^p$|disatt").isna().all(axis=None)
    assert "forces it near -1/(n-1) = -0.33" in result.summary() and "cosine is" not in result.summary()
    assert result.table.filter(regex="accuracy|reliability").notna().all(axis=None)
    shown = plots.separation(result)
    assert any("not shown" in str(a.text) for a in shown.layout.annotations)


def test_separation_by_default_is_by_the_neutral_recipe_where_there_are_neutral_texts():
    acts = planted(n_neutral=4).acts
    result = separation(acts, n_permutations=2)
    assert result.recipe == "neutral" and not result.forced
    assert result.table.equals(separation(acts, "neutral", 2).table)
