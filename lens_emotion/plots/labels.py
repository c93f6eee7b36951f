"""Where to write the names of points so that no name covers another name or another point."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

Boxes = Float[np.ndarray, "... 4"]
Points = Float[np.ndarray, "... 2"]
Numbers = Float[np.ndarray, "*any"]
LETTER, LINE_HEIGHT, DOT = 6.2, 13.0, 5.0
RADII = np.array([9.0, 15.0, 23.0, 33.0, 45.0, 60.0])
ANGLES = np.radians(np.arange(0.0, 360.0, 30.0))


def place_labels(points: Points, texts: Sequence[str], width: float, height: float) -> Points:
    """Offsets, in pixels from each point to the centre of its name, y downwards.

    Each name in turn takes the cheapest of the places around its point (overlap with other names and points costs
    most, then leaving the panel, then lying nearer to another point than to its own, then distance); three rounds
    let early names yield to late ones.

    Args:
        points: pixel positions in the panel, y downwards.
        texts: one name per point.
        width: panel width in pixels.
        height: panel height in pixels.
    """
    n = len(texts)
    half = np.array([(LETTER * len(text) / 2, LINE_HEIGHT / 2) for text in texts]).reshape(n, 2)
    dots = around(points, np.full_like(points, DOT))
    offsets = np.zeros((n, 2))
    boxes = np.full((n, 4), np.nan)
    for _ in range(3):
        for i in range(n):
            options = _candidates(half[i])
            places = around(points[i] + options, np.broadcast_to(half[i], options.shape))
            others = np.delete(np.arange(n), i)
            taken = np.concatenate([boxes[others], dots])
            best = int(_cost(places, points[i], points[others], taken, (width, height)).argmin())
            offsets[i], boxes[i] = options[best], places[best]
    return offsets


def around(centres: Points, half: Points) -> Boxes:
    """Boxes (left, top, right, bottom) around centres."""
    return np.concatenate([centres - half, centres + half], axis=-1)


def overlap(a: Boxes, b: Boxes) -> Numbers:
    """Common area of boxes; 0 for a box that is not placed yet (NaN)."""
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    return np.nan_to_num(sides.clip(0)).prod(axis=-1)


def _candidates(half: Points) -> Points:
    """Places around a point at which the near edge of the name keeps one of the radii as its distance."""
    direction = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=-1)
    return (direction * (RADII[:, None, None] + half)).reshape(-1, 2)


def _distance(boxes: Boxes, points: Points) -> Numbers:
    """From points to the nearest edges of boxes."""
    gap = np.maximum(boxes[..., :2] - points, points - boxes[..., 2:])
    return np.hypot(*np.moveaxis(gap.clip(0), -1, 0))


def _cost(places: Boxes, own: Points, others: Points, taken: Boxes, panel: tuple[float, float]) -> Numbers:
    """What speaks against each place for a name, in pixels."""
    outside = (-places[:, :2]).clip(0).sum(1) + (places[:, 2:] - panel).clip(0).sum(1)
    covered = overlap(places[:, None], taken).sum(1)
    reach = _distance(places, own)
    mistaken = (reach[:, None] + 5 - _distance(places[:, None], others)).clip(0).sum(1)
    return 10 * covered + 50 * outside + 2 * mistaken + reach
