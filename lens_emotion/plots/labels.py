"""Where to write the names of points so that no name covers another name or another point."""

from __future__ import annotations

import math
from collections.abc import Sequence

Box = tuple[float, float, float, float]
LETTER, LINE_HEIGHT, DOT = 6.2, 13.0, 5.0
RADII = (9.0, 15.0, 23.0, 33.0, 45.0, 60.0)
ANGLES = tuple(math.radians(a) for a in range(0, 360, 30))


def place_labels(
    points: Sequence[tuple[float, float]], texts: Sequence[str], width: float, height: float
) -> list[tuple[float, float]]:
    """Offsets, in pixels from each point to the centre of its name, y downwards.

    Each name in turn takes the cheapest of the places around its point (overlap with other names and points costs
    most, then leaving the panel, then distance); three rounds let early names yield to late ones.

    Args:
        points: pixel positions in the panel, y downwards.
        texts: one name per point.
        width: panel width in pixels.
        height: panel height in pixels.
    """
    options = [_candidates(text) for text in texts]
    dots = [(x - DOT, y - DOT, x + DOT, y + DOT) for x, y in points]
    chosen: list[tuple[float, float] | None] = [None] * len(texts)
    for _ in range(3):
        for i, text in enumerate(texts):
            taken = [_box(points[j], o, texts[j]) for j, o in enumerate(chosen) if o is not None and j != i]
            obstacles = taken + dots
            chosen[i] = min(
                options[i], key=lambda o, i=i, t=text, obs=obstacles: _cost(points[i], o, t, obs, width, height)
            )
    return [offset for offset in chosen if offset is not None]


def _candidates(text: str) -> list[tuple[float, float]]:
    """Places around a point at which the near edge of the name keeps the given distance."""
    half_width, half_height = LETTER * len(text) / 2, LINE_HEIGHT / 2
    return [
        (math.cos(angle) * (radius + half_width), math.sin(angle) * (radius + half_height))
        for radius in RADII
        for angle in ANGLES
    ]


def _box(point: tuple[float, float], offset: tuple[float, float], text: str) -> Box:
    x, y = point[0] + offset[0], point[1] + offset[1]
    half_width, half_height = LETTER * len(text) / 2, LINE_HEIGHT / 2
    return x - half_width, y - half_height, x + half_width, y + half_height


def _overlap(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _cost(
    point: tuple[float, float],
    offset: tuple[float, float],
    text: str,
    obstacles: Sequence[Box],
    width: float,
    height: float,
) -> float:
    """Overlap in square pixels, what sticks out of the panel, and a mild preference for being near."""
    box = _box(point, offset, text)
    outside = max(0.0, -box[0]) + max(0.0, -box[1]) + max(0.0, box[2] - width) + max(0.0, box[3] - height)
    covered = sum(_overlap(box, other) for other in obstacles)
    reach = max(abs(offset[0]) - LETTER * len(text) / 2, abs(offset[1]) - LINE_HEIGHT / 2)
    return 10 * covered + 50 * outside + reach
