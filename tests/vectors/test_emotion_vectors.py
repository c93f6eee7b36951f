"""Vectors as values: algebra in natural units, files that know their model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import tiny

from lens_emotion.errors import ArtifactError, DoseError, FingerprintError, UnknownEmotionError
from lens_emotion.extraction.activations import check_made_on
from lens_emotion.models.access import describe
from lens_emotion.vectors.emotion_vectors import EmotionVectors, mixture, parse_mixture


def displacement(vector):
    return vector.natural[:, None] * vector.direction


def test_directions_are_unit_and_sizes_are_kept_apart(vectors):
    torch.testing.assert_close(vectors.directions.norm(dim=-1), torch.ones(len(vectors), vectors.n_layers))
    assert (vectors.norms > 0).all()
    assert vectors.table.shape[0] == len(vectors) * vectors.n_layers


def test_natural_unit_is_the_way_from_the_mean_of_all_emotions(acts, vectors):
    means = torch.stack([acts.of(e).values.mean(0) for e in vectors.emotions])  # one text per topic: balanced
    away = means[vectors.emotions.index("calm")] - means.mean(0)
    torch.testing.assert_close(displacement(vectors["calm"]), away, rtol=1e-3, atol=1e-4)


def test_algebra_acts_on_displacements(vectors):
    calm, angry = vectors["calm"], vectors["angry"]
    mixed = 0.5 * calm - 0.3 * angry
    expected = 0.5 * displacement(calm) - 0.3 * displacement(angry)
    torch.testing.assert_close(displacement(mixed), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mixed.direction.norm(dim=-1), torch.ones(vectors.n_layers))
    torch.testing.assert_close((2 * calm).natural, 2 * calm.natural)
    torch.testing.assert_close((-calm).cosine(calm), -torch.ones(vectors.n_layers))
    torch.testing.assert_close((calm + calm).natural, (calm / 0.5).natural)
    assert mixed.name == "0.5*calm - 0.3*angry"


def test_similarity_matrix_has_ones_on_its_diagonal(vectors):
    matrix = vectors.cosine(3)
    torch.testing.assert_close(matrix.diagonal(), torch.ones(len(vectors)))
    torch.testing.assert_close(matrix[0, 1], vectors["happy"].cosine(vectors["sad"])[3])


def test_random_control_has_the_size_of_its_emotion_and_repeats_with_its_seed(vectors):
    control = vectors.random(3, like="calm")
    assert torch.equal(control.natural, vectors["calm"].natural)
    assert torch.equal(control.direction, vectors.random(3).direction)
    assert not torch.equal(control.direction, vectors.random(4).direction)
    with pytest.raises(UnknownEmotionError):
        vectors.random(0, like="bored")


def test_unknown_emotion_lists_those_there_are(vectors):
    with pytest.raises(UnknownEmotionError, match="happy, sad, calm"):
        vectors["bored"]


def test_vectors_survive_the_disk_bit_for_bit(vectors, tmp_path):
    again = EmotionVectors.load(vectors.save(tmp_path / "v.safetensors"))
    for name in ("directions", "norms", "natural", "residual_norm"):
        assert torch.equal(getattr(again, name), getattr(vectors, name))
    assert (again.emotions, again.header) == (vectors.emotions, vectors.header)


def test_vectors_of_another_model_are_refused_with_both_names(vectors):
    other = describe(tiny("tiny-mistral"))
    with pytest.raises(FingerprintError, match=r"tiny-llama.*tiny-mistral"):
        check_made_on(other, vectors.header)


def test_mixing_models_is_refused(vectors):
    from dataclasses import replace

    alien = replace(vectors["calm"], header=vectors.header.with_(fingerprint="0" * 64, model="alien"))
    with pytest.raises(FingerprintError, match="alien"):
        vectors["calm"] + alien


def test_damaged_vector_file_is_named(vectors, tmp_path):
    path = vectors.save(tmp_path / "v.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match=r"v\.safetensors"):
        EmotionVectors.load(path)


def of_other_weights(vector, fingerprint):
    return replace(vector, header=vector.header.with_(fingerprint=fingerprint))


def test_a_mixture_of_two_models_of_one_name_says_why_and_what_to_do(vectors):
    calm, happy = vectors["calm"], vectors["happy"]
    with pytest.raises(FingerprintError, match=r"before 0\.2, .*: extract it again"):
        calm + of_other_weights(happy, "a" * 64)
    other = "v2-" + "a" * 61
    with pytest.raises(FingerprintError, match=r"v2-aaaaaaaaa\).*one name, but other weights \(.*float16.*both"):
        calm + of_other_weights(happy, other)
    with pytest.raises(FingerprintError, match=r"one name, but other weights \(.*merged adapter.*allow_other_model"):
        check_made_on(describe(tiny()), of_other_weights(happy, other).header)


@pytest.mark.parametrize("weight", ["1000001", "9" * 45, "1" + "0" * 400])
def test_weights_without_end_are_refused_like_doses(weight, vectors):
    with pytest.raises(DoseError, match=r"weight of calm .* is no number up to 1e\+06"):
        parse_mixture(f"{weight}*calm - happy")
    with pytest.raises(DoseError, match="weight"):
        mixture(vectors, [(float(weight), "calm")])
    assert parse_mixture("1000000*calm") == [(1e6, "calm")]
