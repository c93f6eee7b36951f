"""Token scores: the projection itself, in natural units, and a null that keeps its level."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import BACKENDS, tiny

from lens_emotion.analysis.tokens import token_scores
from lens_emotion.errors import AnalysisError, FingerprintError, StimulusError, UnknownEmotionError
from lens_emotion.models.access import hook_name
from lens_emotion.models.forward import residual_cache
from lens_emotion.models.prompting import tokenise_text
from lens_emotion.vectors.emotion_vectors import unit
from lens_emotion.vectors.recipes import class_means

TEXT = "Anna laughed in the garden. Ben sat down and cried."


def test_a_score_is_the_way_along_the_direction_in_natural_units(acts, vectors):
    result = token_scores(tiny(), vectors, TEXT, ["sad", "happy"], layer=2, acts=acts)
    read = tokenise_text(tiny(), TEXT)
    states = residual_cache(tiny(), torch.tensor([read.ids]))[hook_name(2)][0]
    origin = class_means(acts)[:, 2].mean(0).float()
    for row, name in zip(result.scores, ("sad", "happy"), strict=True):
        v = vectors[name]
        expected = ((states - origin) @ v.at(2)) / v.natural[2]
        np.testing.assert_allclose(row[result.content], expected.numpy()[result.content], rtol=1e-4, atol=1e-4)
    assert result.origin == "mean of all emotions" and result.control == "matched"


def test_special_tokens_and_the_first_position_have_no_score(vectors):
    result = token_scores(tiny(), vectors, TEXT, n_random=19)
    assert not result.content[0] and result.content[1:].all()
    assert np.isnan(result.scores[:, 0]).all() and np.isfinite(result.scores[:, 1:]).all()
    assert len(result.table) == len(result.tokens) * len(result.emotions)
    rows = result.table[result.table.emotion == result.emotions[3]]
    np.testing.assert_allclose(rows["score"], result.scores[3])


def test_without_activations_scores_are_centred_on_the_text(vectors):
    result = token_scores(tiny(), vectors, TEXT, n_random=19)
    np.testing.assert_allclose(np.nanmean(result.scores, axis=1), 0, atol=1e-4)


def test_both_backends_give_the_same_scores(vectors):
    found = [token_scores(tiny("tiny-llama", b), vectors, TEXT, n_random=19).scores for b in BACKENDS]
    np.testing.assert_allclose(found[0], found[-1], rtol=1e-3, atol=1e-3)


def test_random_vectors_are_called_beyond_chance_about_as_rarely_as_they_should(vectors):
    directions = unit(torch.randn(60, vectors.n_layers, vectors.d_model, generator=torch.Generator().manual_seed(7)))
    sizes = torch.ones(60, vectors.n_layers)
    names = tuple(f"e{i}" for i in range(60))
    fake = replace(vectors, directions=directions, emotions=names, norms=sizes, natural=sizes)
    result = token_scores(tiny(), fake, TEXT, n_random=199)
    assert (np.nanmin(result.p_corrected, axis=1) <= 0.05).mean() <= 0.15
    assert 0.01 <= (result.p[:, result.content] <= 0.05).mean() <= 0.12


def test_a_planted_token_is_found_beyond_random_directions(vectors):
    """A vector that points at one token's own state away from the mean of the text."""
    read = tokenise_text(tiny(), TEXT)
    states = residual_cache(tiny(), torch.tensor([read.ids]))[hook_name(3)][0, 1:]
    away = unit(states - states.mean(0))[4]
    directions = vectors.directions.clone()
    directions[0, 3] = away
    result = token_scores(tiny(), replace(vectors, directions=directions), TEXT, layer=3)
    assert result.p_corrected[0, 5] <= 0.05
    assert result.scores[0, 5] > result.null_high[0, 5]
    assert "beyond chance" in result.summary()


def test_mistakes_are_told_before_the_model_runs(vectors, acts):
    with pytest.raises(UnknownEmotionError, match="no vector for 'joy'"):
        token_scores(tiny(), vectors, TEXT, ["joy"])
    with pytest.raises(AnalysisError, match="no layer 99"):
        token_scores(tiny(), vectors, TEXT, layer=99)
    with pytest.raises(AnalysisError, match="n_random is 0"):
        token_scores(tiny(), vectors, TEXT, n_random=0)
    with pytest.raises(AnalysisError, match="no emotion"):
        token_scores(tiny(), vectors, TEXT, [])
    with pytest.raises(StimulusError, match="empty text"):
        token_scores(tiny(), vectors, " ")
    with pytest.raises(FingerprintError):
        token_scores(tiny("tiny-gpt2"), vectors, TEXT)
    other = replace(acts, header=replace(acts.header, fingerprint="0" * 64))
    with pytest.raises(FingerprintError, match="made on tiny-llama"):
        token_scores(tiny(), vectors, TEXT, acts=other)
