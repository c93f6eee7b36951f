"""Mixtures, controls and what may be combined: against displacements computed by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from planted import planted

from lens_emotion.errors import DoseError, FingerprintError, UnknownEmotionError
from lens_emotion.extraction.activations import check_same_model
from lens_emotion.vectors.emotion_vectors import mixture, parse_mixture, random_like
from lens_emotion.vectors.interchange import as_set, from_gguf, to_gguf
from lens_emotion.vectors.recipes import emotion_vectors

ACTS = planted(n_emotions=4, n_layers=3, d_model=64).acts
SET = emotion_vectors(ACTS, "neutral")  # where the natural unit is not the recipe's own length
A, B, C, _ = SET.emotions


def moved(vector):
    """What one natural unit adds."""
    return vector.natural[:, None] * vector.direction


def of(acts, **changes):
    return replace(acts, header=acts.header.with_(**changes))


@pytest.mark.parametrize(
    ("words", "terms"),
    [
        (f"{A}", [(1, A)]),
        (f"-{A}", [(-1, A)]),
        (f"-2*{A} + {B}", [(-2, A), (1, B)]),
        (f"0.5*{A} - 0.3*{B} - {C}", [(0.5, A), (-0.3, B), (-1, C)]),
        (f"{A} - {B} + 2*{C}", [(1, A), (-1, B), (2, C)]),
    ],
)
def test_a_mixture_moves_by_the_weighted_sum_of_what_its_emotions_move(words, terms):
    assert parse_mixture(words) == terms
    made = mixture(SET, terms)
    wanted = sum(weight * moved(SET[emotion]) for weight, emotion in terms)
    torch.testing.assert_close(moved(made), wanted, rtol=1e-4, atol=1e-5)
    if len(terms) > 2:  # lengths by the recipe do not add up along directions that natural units made
        return
    own = sum(weight * SET[e].norm[:, None] * SET[e].direction for weight, e in terms)
    torch.testing.assert_close(made.norm, own.norm(dim=-1), rtol=1e-4, atol=1e-5)


def test_random_directions_point_anywhere_and_differ_by_layer_and_seed():
    drawn = torch.stack([SET.random(seed).direction for seed in range(200)])  # draws, layers, width
    flat = drawn.flatten(0, 1)
    torch.testing.assert_close(flat.norm(dim=-1), torch.ones(len(flat)))
    assert flat.mean(0).norm() < 0.1  # 1 / sqrt(600), if they favour no side
    cosines = (flat @ flat.T - torch.eye(len(flat))).abs().amax()
    assert cosines < 0.75 and torch.equal(SET.random(3).direction, drawn[3])


def test_controls_are_as_long_as_what_they_stand_beside():
    for like in SET.emotions:
        mine, others = SET[like], [SET.other(seed, like) for seed in range(40)]
        assert {v.name for v in others} == set(SET.emotions) - {like}
        for control in (SET.random(1, like), *others[:5]):
            assert torch.equal(control.natural, mine.natural) and torch.equal(control.norm, mine.norm)
        assert all(torch.equal(v.direction, SET[v.name].direction) for v in others)
    mixed = SET[A] - 0.5 * SET[B]
    beside = random_like(SET, mixed, 2)
    assert torch.equal(beside.natural, mixed.natural) and torch.equal(beside.direction, SET.random(2).direction)
    assert torch.allclose(SET.random(1).natural, SET.natural.mean(0))


def test_what_was_read_otherwise_is_not_combined():
    other = {"fingerprint": "1" * 64}, {"pooling": "last_token"}, {"processed": True}
    for change in other:
        with pytest.raises(FingerprintError):
            emotion_vectors(ACTS, "neutral", neutral=of(ACTS, **change))
    for change in (other[0], other[2]):
        with pytest.raises(FingerprintError):
            check_same_model(ACTS, of(ACTS, **change))
    check_same_model(ACTS, of(ACTS, backend="hooked", dtype="bfloat16"))
    foreign = replace(SET[B], header=SET.header.with_(fingerprint="1" * 64))  # under the same name
    with pytest.raises(FingerprintError):
        as_set([SET[A], foreign])
    with pytest.raises(FingerprintError):
        SET[A] + foreign
    assert as_set([SET[A], replace(SET[B], header=SET.header.with_(model="a copy"))]).emotions == (A, B)


@pytest.mark.parametrize("dose", [2.0, -0.5])
def test_a_vector_written_at_a_dose_of_either_sign_comes_back_as_it_was(dose, tmp_path):
    pytest.importorskip("gguf")
    path = to_gguf(SET[A], tmp_path / "a.gguf", dose, layers="all")
    back = from_gguf(path)
    torch.testing.assert_close(moved(back), moved(SET[A]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (A[:-1] + A[-1] * 2, f"did you mean '{A}'"),
        (A.upper(), f"did you mean '{A}'"),
        (f" {A} ", f"did you mean '{A}'"),
        (f"0.5*{A} - 0.3*{B}", r"le.mixture\(vectors, '0.5\*"),
        ("xyzzy", "no vector for .xyzzy.; these vectors"),
        (0, f"a name is text, such as '{A}'"),
        (slice(1), "a name is text"),
        ([A, B], r"\[vectors\[e\] for e in names\]"),
        ((A, B), r"\[vectors\[e\] for e in names\]"),
    ],
    ids=range(9),
)
def test_a_name_that_is_none_is_answered_with_the_right_way(asked, says, untyped):
    with pytest.raises(UnknownEmotionError, match=f"{says}.*hold: {A}, {B}"):
        SET[asked]


@pytest.mark.parametrize("terms", [f"0.5*{A} - 0.3*{B}", {A: 0.5, B: -0.3}, [(0.5, A), (-0.3, B)]], ids=type)
def test_a_mixture_in_words_as_a_table_and_as_pairs(terms):
    assert torch.equal(moved(mixture(SET, terms)), moved(0.5 * SET[A] - 0.3 * SET[B]))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ((f"0.5*{A}", SET), "the vectors come first"),
        (({A: 1}, SET), "the vectors come first"),
        ((SET[A], SET[B]), "is no EmotionVectors"),
        ((SET, SET[A]), "is no mixture"),
        ((SET, 0.5), "is no mixture"),
        ((SET, [(A, 0.5)]), "the weight comes first"),
        ((SET, [A, B]), "no weight with an emotion"),
        ((SET, {}), "no emotion"),
    ],
    ids=range(8),
)
def test_arguments_in_another_order_are_answered_with_the_right_one(given, says, untyped):
    with pytest.raises(DoseError, match=says):
        mixture(*given)
