"""Components of neutral texts are of what they differ in, not of what they share."""

from __future__ import annotations

import torch

from lens_emotion.vectors.emotion_vectors import unit_and_length
from lens_emotion.vectors.recipes import neutral_components


def test_what_all_neutral_texts_share_is_no_component():
    rows = 0.1 * torch.randn(9, 2, 6, generator=torch.Generator().manual_seed(0))
    rows[..., 0] += 100  # shared by all
    rows[:, :, 1] += torch.linspace(-5, 5, 9)[:, None]  # what they differ in
    for basis in neutral_components(rows):
        assert basis.shape == (1, 6) and abs(float(basis[0, 1])) > 0.99 and abs(float(basis[0, 0])) < 0.1


def test_lengths_are_right_where_squares_are_beyond_single_precision():
    for size in (1e-25, 1.0, 1e25):
        direction, length = unit_and_length(torch.tensor([[3 * size, 4 * size]]))
        torch.testing.assert_close(direction, torch.tensor([[0.6, 0.8]]))
        assert abs(float(length) / (5 * size) - 1) < 1e-5
