"""Recipes on planted truth: what comes out is what was put in."""

import numpy as np
import pytest
import torch
from planted import planted, pooled

from lens_emotion.errors import ArtifactError, FingerprintError, StimulusError
from lens_emotion.vectors.recipes import (
    UnknownRecipeError,
    class_means,
    emotion_vectors,
    minus_mean,
    neutral_components,
)


def _mixed():
    return planted(n_emotions=5, n_topics=12, d_model=256, signal=6.0, common=40.0, n_neutral=12)


@pytest.mark.parametrize("recipe", ["centred", "neutral", "neutral_pca"])
def test_planted_directions_are_recovered_beside_a_large_common_mean(recipe):
    truth = _mixed()
    vectors = emotion_vectors(truth.acts, recipe)
    planted_directions = truth.directions
    if recipe != "neutral":
        planted_directions = planted_directions - planted_directions.mean(0)
    cosine = torch.cosine_similarity(vectors.directions, planted_directions, dim=-1)
    assert cosine.min() > 0.95
    assert vectors.header.recipe == recipe
    torch.testing.assert_close(vectors.directions.norm(dim=-1), torch.ones(5, 2))


def test_norms_are_the_recipes_own_and_natural_is_the_same_for_all():
    acts = _mixed().acts
    by_recipe = {r: emotion_vectors(acts, r) for r in ("centred", "neutral", "neutral_pca")}
    torch.testing.assert_close(by_recipe["centred"].norms, by_recipe["centred"].natural)
    for vectors in by_recipe.values():
        torch.testing.assert_close(vectors.natural, by_recipe["centred"].natural)
    happy = acts.of("happy").values.double().mean(0) - acts.neutral.values.double().mean(0)
    torch.testing.assert_close(by_recipe["neutral"].norms[0], happy.norm(dim=-1).float())


def test_class_means_weigh_topics_equally_however_many_texts_they_have():
    values = torch.tensor([0.0, 0.0, 0.0, 4.0, 1.0, 3.0]).reshape(6, 1, 1)
    names = [("happy", "a"), ("happy", "a"), ("happy", "a"), ("happy", "b"), ("sad", "a"), ("sad", "b")]
    assert class_means(pooled(values, names)).flatten().tolist() == [2.0, 2.0]


def test_neutral_pca_directions_are_orthogonal_to_the_removed_components():
    acts = _mixed().acts
    vectors = emotion_vectors(acts, "neutral_pca")
    for layer, basis in enumerate(neutral_components(acts.neutral.values)):
        assert len(basis) > 0
        assert (vectors.at(layer).double() @ basis.T).abs().max() < 1e-6


def test_neutral_components_are_the_fewest_that_explain_half_the_variance():
    rows = planted(n_neutral=15, d_model=40, seed=3).acts.neutral.values
    for layer, basis in enumerate(neutral_components(rows)):
        centred = (rows[:, layer] - rows[:, layer].mean(0)).double()
        explained = [float(((centred @ basis[:k].T) ** 2).sum() / (centred**2).sum()) for k in range(len(basis) + 1)]
        assert explained[-1] >= 0.5 > explained[-2]


def test_neutral_texts_can_come_from_elsewhere():
    acts = _mixed().acts
    given = emotion_vectors(acts.emotional, "neutral", neutral=acts)
    torch.testing.assert_close(given.directions, emotion_vectors(acts, "neutral").directions)
    with pytest.raises(StimulusError, match="none labelled 'neutral'"):
        emotion_vectors(acts, "neutral", neutral=acts.emotional)


def test_neutral_texts_of_another_model_are_refused():
    acts = _mixed().acts
    other = pooled(acts.values, [(r.emotion, r.topic) for r in acts.records])
    object.__setattr__(other, "header", other.header.with_(fingerprint="1" * 64, model="other"))
    with pytest.raises(FingerprintError, match="same model and pooling"):
        emotion_vectors(acts, "neutral", neutral=other)


@pytest.mark.parametrize("recipe", ["neutral", "neutral_pca"])
def test_a_recipe_without_its_neutral_texts_says_so(recipe):
    with pytest.raises(StimulusError, match="neutral text"):
        emotion_vectors(planted(n_neutral=0).acts, recipe)


def test_a_single_class_is_refused():
    acts = planted().acts
    with pytest.raises(StimulusError, match="single class"):
        emotion_vectors(acts.of("happy", "neutral"))
    with pytest.raises(StimulusError, match="no emotion"):
        emotion_vectors(acts.neutral)


def test_an_unknown_recipe_lists_the_known_ones():
    with pytest.raises(UnknownRecipeError, match="centred, neutral, neutral_pca"):
        emotion_vectors(planted().acts, "jeong")
    with pytest.raises(UnknownRecipeError, match="sequence"):
        emotion_vectors(planted().acts, ())


def test_a_function_or_a_chain_of_functions_is_a_recipe():
    acts = planted().acts

    def minus_first(vectors, neutral):
        return vectors - vectors[:1]

    vectors = emotion_vectors(acts, minus_first)
    assert vectors.header.recipe == "minus_first"
    assert vectors.norms[0].tolist() == [0.0, 0.0]
    chained = emotion_vectors(acts, [minus_first, minus_mean])
    assert chained.header.recipe == "minus_first + minus_mean"
    torch.testing.assert_close(chained.directions, emotion_vectors(acts).directions)


def test_activations_that_overflowed_are_refused():
    acts = planted().acts
    values = acts.values.clone()
    values[0, 1, 0] = np.inf
    with pytest.raises(ArtifactError, match=r"values\[0, 1, 0\] is inf"):
        emotion_vectors(pooled(values, [(r.emotion, r.topic) for r in acts.records]))
