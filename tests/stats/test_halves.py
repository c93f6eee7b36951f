"""Halves of the topics: a split in which an emotion is all on one side says nothing of that emotion."""

from __future__ import annotations

import numpy as np
import pytest
from planted import planted

from lens_emotion.stats.design import design_of
from lens_emotion.stats.split_half import class_halves, half_cosines
from lens_emotion.stats.tests import bias_correction, cohens_d, hedges_g

TOPICS = 6


@pytest.fixture(scope="module")
def few():
    """Two emotions on six topics, of which the second has the first two only."""
    acts = planted(n_emotions=2, n_topics=TOPICS, n_layers=1, n_neutral=0).acts
    second = acts.emotion == acts.emotions[1]
    kept = ~second | np.isin(acts.topic, acts.topics[:2])
    return acts.only(kept)


@pytest.mark.parametrize(
    ("first", "lacking"), [([1, 1, 0, 0, 0, 1], True), ([0, 0, 1, 1, 1, 0], True), ([1, 0, 1, 0, 1, 0], False)]
)
def test_a_split_that_leaves_a_half_without_texts_is_left_out(few, first, lacking):
    design = design_of(few)
    halves = np.array([first], dtype=float)
    made = class_halves(design, design.label[None], halves)
    assert [bool(half.lacking) for half in made] == [False, lacking]
    found = half_cosines(few, design, design.label[None], halves)[0, 0]
    assert np.isnan(found).tolist() == [False, lacking]


def test_hedges_g_is_smaller_than_d_by_the_exact_correction():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(4) + 2, rng.standard_normal(5)
    d, g = cohens_d(a, b).value, hedges_g(a, b).value
    assert 0 < g < d and g / d == pytest.approx(bias_correction(7)) == pytest.approx(1 - 3 / (4 * 7 - 1), abs=2e-3)
