"""How long a push is, in either unit, and which seed a text is drawn with: by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import tiny
from steered import EMOTIONS, OTHER, PROMPT, vectors_of

from lens_emotion.models.access import describe
from lens_emotion.models.sampling import Sampling
from lens_emotion.steering.dose import Dose, displacement
from lens_emotion.steering.generate import Condition, generate_steered, row_key
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


def test_a_condition_is_done_at_its_own_layers_else_at_those_of_the_call():
    vector = vectors_of(tiny())[EMOTIONS[0]]
    for own, done in ((None, (2,)), (4, (4,)), ("1-2", (1, 2)), ("all", tuple(range(vector.n_layers)))):
        what = Condition(PROMPT, vector, Dose(1.0), layers=own).intervention((2,), vector.n_layers)
        assert what.layers == done, own


def test_equal_pushes_at_other_layers_have_other_keys():
    """One vector that stands at every layer: what is added is the same, where it is added is not."""
    vector = vectors_of(tiny())[EMOTIONS[0]]
    held = {name: getattr(vector, name)[:1] for name in ("norm", "natural", "residual_norm")}
    same = {name: x.repeat(vector.n_layers) for name, x in held.items()}
    everywhere = replace(vector, direction=vector.direction[:1].repeat(vector.n_layers, 1), **same)
    told = {"prompt_ids": (1, 2), "sampling": Sampling(), "positions": "all", "max_new_tokens": 4}
    condition = Condition(PROMPT, everywhere, Dose(1.0))
    keys = {row_key(describe(tiny()), condition, layers=layers, **told) for layers in ((2,), (3,), (2, 3), (2, 4))}
    assert len(keys) == 4
