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
    most, then leaving the panel, then lying nearer to another point than to its own, then distance); three rounds
    let early names yield to late ones.

    Args:
        points: pixel positions in the panel, y downwards.
        texts: one name per point.
        width: panel width in pixels.
        height: panel height in pixels.
    """
    boxes: list[Box | None] = [None] * len(texts)
    chosen = [(0.0, 0.0)] * len(texts)
    for _ in range(3):
        for i, text in enumerate(texts):
            others = [p for j, p in enumerate(points) if j != i]
            taken = [box for j, box in enumerate(boxes) if box is not None and j != i]
            taken += [(x - DOT, y - DOT, x + DOT, y + DOT) for x, y in points]
            options = [(_box(points[i], offset, text), offset) for offset in _candidates(text)]
            costs = [_cost(box, points[i], others, taken, (width, height)) for box, _ in options]
            boxes[i], chosen[i] = options[costs.index(min(costs))]
    return chosen


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


def _distance(box: Box, point: tuple[float, float]) -> float:
    """From a point to the nearest edge of a box."""
    across = max(box[0] - point[0], point[0] - box[2], 0.0)
    down = max(box[1] - point[1], point[1] - box[3], 0.0)
    return math.hypot(across, down)


def _cost(
    box: Box,
    own: tuple[float, float],
    others: Sequence[tuple[float, float]],
    taken: Sequence[Box],
    panel: tuple[float, float],
) -> float:
    """What speaks against a place for a name, in pixels."""
    outside = max(0.0, -box[0]) + max(0.0, -box[1]) + max(0.0, box[2] - panel[0]) + max(0.0, box[3] - panel[1])
    covered = sum(_overlap(box, other) for other in taken)
    reach = _distance(box, own)
    mistaken = sum(max(0.0, reach + 5 - _distance(box, other)) for other in others)
    return 10 * covered + 50 * outside + 2 * mistaken + reach
