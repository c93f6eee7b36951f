"""The circumplex: emotions on the first two principal components, next to human valence and arousal."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from pandas import DataFrame, Series
from plotly.subplots import make_subplots

from lens_emotion.analysis.circumplex import Circumplex
from lens_emotion.plots import _findings
from lens_emotion.plots.theme import LINE, emotion_colour, titled

P_VALUES = "p: corrected for the best of two components and two norms"
COLOURS = "colour: human valence (hue) and arousal (darker: more)"
PANEL_WIDTH, PANEL_HEIGHT = 430.0, 400.0


def circumplex(result: Circumplex) -> go.Figure:
    """Scores on PC1 and PC2 on the left, human norms on the right, one colour per emotion in both.

    The component that goes with valence lies across, as valence does, where the other one goes with arousal.

    Args:
        result: of `le.circumplex`.

    Example:
        >>> figure = le.plots.circumplex(result)
    """
    table = result.table
    rated = table.dropna(subset=["valence", "arousal"])
    ordered = result.correlations.sort_values("abs_r", ascending=False).drop_duplicates("norm").to_dict("records")
    best = sorted(ordered, key=lambda row: row["norm"] != "valence")  # of valence, then of arousal
    across, up = (str(row["component"]) for row in best)
    axes = (across, up) if across != up else ("pc1", "pc2")
    shares = dict(zip(("pc1", "pc2"), result.explained, strict=True))
    first, second = (f"{pc.upper()} score ({shares[pc]:.0%} of variance)" for pc in axes)
    panels = ("in the model: principal components", "in people: mean ratings, 1 to 9")
    figure = make_subplots(1, 2, subplot_titles=panels, horizontal_spacing=0.1)
    for heading, x in zip(figure.layout.annotations, (0.0, 0.55), strict=True):
        heading.update(x=x, xanchor="left", font={"size": 12})
    _panel(figure, 1, table, axes, (first, second), 0.0)
    _panel(figure, 2, rated, ("valence", "arousal"), ("valence (9: pleasant)", "arousal (9: excited)"), 5.0)
    # all at once: plotly checks every line again whenever one is added
    figure.layout.shapes = [*_cross("", 0.0), *_cross("2", 5.0)]
    unrated = [str(e) for e in table["emotion"] if e not in set(rated["emotion"])]
    without = f"no human norm: {', '.join(unrated)}" if unrated else ""
    best_r = [
        f"{row['norm']} and {row['component'].upper()}: |r| = {row['abs_r']:.2f}, p = {row['p_corrected']:.2g}"
        for row in best
    ]
    facts = (f"circumplex at layer {result.layer}", f"n = {len(table)} emotions", *best_r, P_VALUES, without, COLOURS)
    titled(figure, _findings.circumplex(result), facts, height=540, wide=True)
    return figure.update_layout(showlegend=False, margin={"b": 60, "t": figure.layout.margin.t + 24})


def _panel(
    figure: go.Figure, col: int, table: DataFrame, columns: tuple[str, str], titles: tuple[str, str], centre: float
) -> None:
    """One scatter with a name beside every point."""
    place, (x, y) = {"row": 1, "col": col}, columns
    x_title, y_title = titles
    emotions = [str(name) for name in table["emotion"]]
    marker = {"size": 10, "color": [emotion_colour(e) for e in emotions], "line": {"width": 0.8, "color": LINE}}
    hover = f"%{{text}}<br>{x} %{{x:.2f}}<br>{y} %{{y:.2f}}<extra></extra>"
    points = go.Scatter(x=table[x], y=table[y], mode="markers", text=emotions, marker=marker, hovertemplate=hover)
    figure.add_trace(points, **place)
    x_range, y_range = _padded(table[x], centre), _padded(table[y], centre)
    figure.update_xaxes(title_text=x_title, range=x_range, **place)
    figure.update_yaxes(title_text=y_title, range=y_range, **place)
    _write_names(figure, col, table[[x, y]].to_numpy(dtype=float), emotions, x_range, y_range)


def _cross(axis: str, centre: float) -> list[dict[str, object]]:
    """Thin lines through the centre of a panel's scales, upright and level."""
    look = {"line": {"color": LINE, "dash": "dot", "width": 0.8}, "type": "line"}
    upright = {"x0": centre, "x1": centre, "xref": f"x{axis}", "y0": 0, "y1": 1, "yref": f"y{axis} domain"}
    level = {"x0": 0, "x1": 1, "xref": f"x{axis} domain", "y0": centre, "y1": centre, "yref": f"y{axis}"}
    return [{**look, **upright}, {**look, **level}]


def _padded(values: Series, centre: float) -> list[float]:
    """A range that holds every point and the centre, with room for names."""
    low, high = min(float(values.min()), centre), max(float(values.max()), centre)
    room = 0.12 * ((high - low) or 1.0)
    return [low - room, high + room]


def _write_names(
    figure: go.Figure, col: int, points: Points, names: list[str], x_range: list[float], y_range: list[float]
) -> None:
    """Names as annotations at places that do not overlap; a thin line leads from a name that had to move away."""
    low, high = np.array([x_range[0], y_range[1]]), np.array([x_range[1], y_range[0]])
    pixels = (points - low) / (high - low) * (PANEL_WIDTH, PANEL_HEIGHT)
    offsets = _placed(tuple(map(tuple, pixels.tolist())), tuple(names))
    names_of_axes = {"xref": f"x{col if col > 1 else ''}", "yref": f"y{col if col > 1 else ''}"}
    look = {"showarrow": True, "arrowhead": 0, "arrowwidth": 0.7, "arrowcolor": LINE, "standoff": 6, "borderpad": 0,
            "xanchor": "center", "yanchor": "middle", "font": {"size": 11}}  # fmt: skip
    written = [
        {"x": x, "y": y, "text": name, "ax": dx, "ay": dy, **names_of_axes, **look}
        for (x, y), name, (dx, dy) in zip(points.tolist(), names, offsets, strict=True)
    ]
    # all at once: plotly checks every annotation again whenever one is added
    figure.layout.annotations = [*(a.to_plotly_json() for a in figure.layout.annotations), *written]


@lru_cache(maxsize=64)
def _placed(pixels: tuple[tuple[float, ...], ...], names: tuple[str, ...]) -> list[list[float]]:
    """`place_labels` in a panel; people's ratings are drawn beside every layer of every model."""
    found: list[list[float]] = place_labels(np.array(pixels).reshape(-1, 2), names, PANEL_WIDTH, PANEL_HEIGHT).tolist()
    return found


# Where to write the names of points so that no name covers another name or another point.
Boxes = Float[np.ndarray, "... 4"]
Points = Float[np.ndarray, "... 2"]
Numbers = Float[np.ndarray, "*any"]
LETTER, LINE_HEIGHT, DOT = 6.2, 13.0, 5.0
RADII = np.array([9.0, 15.0, 23.0, 33.0, 45.0, 60.0])
ANGLES = np.radians(np.arange(0.0, 360.0, 30.0))
DIRECTIONS = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=-1)


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
            options = (DIRECTIONS * (RADII[:, None, None] + half[i])).reshape(-1, 2)  # an edge keeps its distance
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
