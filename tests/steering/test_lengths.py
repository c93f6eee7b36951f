"""How long a push is, in either unit, and which seed a text is drawn with: by hand."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny
from steered import EMOTIONS, OTHER, PROMPT, vectors_of

from lens_emotion.models.decoding import Sampling
from lens_emotion.steering.dose import Dose, displacement
from lens_emotion.steering.generate import Condition, generate_steered
from lens_emotion.vectors.emotion_vectors import EmotionVectors


def test_a_dose_is_a_multiple_of_the_natural_unit_or_of_the_residual_norm_and_of_nothing_else():
    held = vectors_of(tiny())
    natural, own, residual = (torch.full_like(held.norms, x) for x in (3.0, 5.0, 7.0))
    header = held.header.with_(recipe="neutral")  # whose own lengths are not the natural unit
    made = EmotionVectors(held.directions, held.emotions, own, natural, residual[0], header)[EMOTIONS[0]]
    for unit, size in (("natural", 3.0), ("relative", 7.0)):
        for value in (2.0, -0.5):
            torch.testing.assert_close(displacement(made, Dose(value, unit)), value * size * made.direction)
    assert Dose(2.0).in_units(made, 0) == pytest.approx((2.0, 6 / 7))
    assert Dose(2.0, "relative").in_units(made, 0) == pytest.approx((14 / 3, 2.0))


def test_a_text_is_drawn_with_its_own_seed_whatever_its_place():
    model, vector = tiny(), vectors_of(tiny())[EMOTIONS[0]]
    conditions = [Condition(p, vector, Dose(1.0), seed=s) for p in (PROMPT, OTHER) for s in (3, 8)]
    run = {"max_new_tokens": 10, "sampling": Sampling(1.2, 1.0, 1), "progress": False}
    whole = [c.new_ids for c in generate_steered(model, conditions, [2], **run)]
    assert [c.new_ids for c in generate_steered(model, conditions[::-1], [2], **run)] == whole[::-1]
    assert whole[0] != whole[1] and whole[2] != whole[3]
