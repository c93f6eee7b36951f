"""What the report turns over by layer, and the provenance that it prints."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import tiny

from lens_emotion.analysis.tokens import token_scores, token_scores_by_layer
from lens_emotion.errors import FingerprintError
from lens_emotion.report.build import portable
from lens_emotion.run.config import StudyConfig
from lens_emotion.study.atlas import atlas, texts_by_layer
from lens_emotion.vectors.recipes import emotion_vectors

TEXT = "Mark came to the kitchen. He was merry when he cut the bread."


def test_one_pass_gives_what_one_pass_per_layer_gives(acts, vectors):
    found = token_scores_by_layer(tiny(), vectors, TEXT, ("happy", "sad"), acts, n_random=30)
    assert [s.layer for s in found] == list(range(vectors.n_layers))
    for layer, mine in enumerate(found):
        alone = token_scores(tiny(), vectors, TEXT, ("happy", "sad"), layer, acts, n_random=30)
        for name in ("scores", "null_low", "p", "p_corrected"):
            np.testing.assert_allclose(getattr(mine, name), getattr(alone, name), rtol=1e-6)
        assert mine.model == alone.model


def test_scores_by_layer_refuse_vectors_of_another_model(acts, vectors):
    with pytest.raises(FingerprintError):
        token_scores_by_layer(tiny("tiny-gpt2"), vectors, TEXT)


def test_texts_shown_are_opposites_scored_by_vectors_that_never_saw_their_topic(acts, monkeypatch):
    made = []

    def spy(part):
        made.append(part)
        return emotion_vectors(part)

    monkeypatch.setattr("lens_emotion.study.atlas.emotion_vectors", spy)
    happy, sad = texts_by_layer(tiny(), acts)
    assert (happy.emotion, sad.emotion) == ("happy", "sad") and happy.topic == sad.topic
    assert all(happy.topic not in part.topics for part in made) and len(made) == 2


def test_atlas_has_every_layer_and_the_full_result_at_the_best(acts, vectors):
    from lens_emotion.analysis.circumplex import circumplex

    config = StudyConfig(models=("tiny-llama",), n_permutations=20)
    found = atlas(tiny(), acts, config)
    n = vectors.n_layers
    assert [len(x) for x in (found.similarity.layers, found.circumplex, found.texts[0].scores)] == [n, n, n]
    best = circumplex(vectors, 1, n_permutations=20, acts=acts, n_draws=20)
    assert found.with_best(best).circumplex[1] is best
    assert found.with_best(best).circumplex[0] is found.circumplex[0]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("lens-emotion study /home/me/models/smol --out ~/runs/a", "lens-emotion study smol --out a"),
        ("/data/x.json", "x.json"),
        (r"C:\Users\me\model", "model"),
        ("lens-emotion study org/Llama-3.2-1B --doses 1,2", "lens-emotion study org/Llama-3.2-1B --doses 1,2"),
        ("runs/study", "runs/study"),
        ("natural / relative", "natural / relative"),
    ],
)
def test_provenance_names_no_folder_of_this_machine(given, shown):
    assert portable(given) == shown
