"""Figures and texts as the JSON that stands in a page: it cannot end its element, and it is small.

Numbers keep six digits, arrays single precision, the template is written once, and of the figures that a slider drives
only the first is whole: the others are lists of what differs from it.
"""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import Any

import numpy as np
import plotly.graph_objects as go
from markupsafe import Markup

from lens_emotion.plots import template
from lens_emotion.report_parts import LayerSlider, SteeredText, TextCells

Path = list[str | int]


def figure_json(figure: go.Figure) -> Markup:
    """A figure as JSON that cannot end the script element it stands in."""
    return safe_json(compact(figure))


def layers_json(slider: LayerSlider) -> Markup:
    """All figures of a slider: the one of the best layer, and for every layer what differs from it."""
    figures = []
    for _, versions in slider.figures:
        plain = [compact(f) for f in versions]
        base = plain[slider.best]
        figures.append({"base": base, "changes": [differences(base, other) for other in plain]})
    return safe_json({"best": slider.best, "labels": [s.label for s in slider.stops], "figures": figures})


def cells_json(table: TextCells) -> Markup:
    """The texts behind a table of cells."""
    words: dict[str, int] = {}  # weak doses write the same texts again

    def row(t: SteeredText) -> list[float]:
        said = [words.setdefault(w, len(words)) for w in (t.text, t.judged, t.regime)]
        numbers = (t.target_score, t.perplexity_ratio, t.distinct_2, t.loop_share)
        return [t.scenario, *said, int(t.success), *(_digits(x, 3) for x in numbers)]

    cells = [[{"facts": c.facts, "rows": [row(t) for t in c.texts]} for c in cells] for _, cells in table.rows]
    scenarios = [(s.emotion, s.prompt, s.text, s.judged, _digits(s.target_score, 3)) for s in table.scenarios]
    return safe_json({"words": list(words), "scenarios": scenarios, "keys": table.keys, "cells": cells})


def template_json() -> Markup:
    """The template that figures of this package share, which `compact` leaves out of each."""
    return safe_json(_template())


def safe_json(data: Any) -> Markup:
    """JSON without the three characters by which HTML could begin."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def compact(figure: go.Figure) -> dict[str, Any]:
    """A figure as plain values, shortened; without its template where that is the package's own."""
    plain: dict[str, Any] = _shortened(json.loads(figure.to_json()))
    layout = plain.get("layout", {})
    if layout.get("template") == _template():
        del layout["template"]
    return plain


def differences(base: Any, other: Any, at: Path | None = None) -> list[tuple[Path, Any]]:
    """What must be set, and where, to turn one into the other."""
    at = at or []
    if base == other:
        return []
    if isinstance(base, dict) and isinstance(other, dict) and base.keys() == other.keys() and "bdata" not in base:
        return [d for key in base for d in differences(base[key], other[key], [*at, key])]
    if isinstance(base, list) and isinstance(other, list) and len(base) == len(other) and _of_objects(base):
        return [d for i, pair in enumerate(zip(base, other, strict=True)) for d in differences(*pair, [*at, i])]
    return [(at, other)]


def _of_objects(values: list[Any]) -> bool:
    return any(isinstance(v, dict) for v in values)


@cache
def _template() -> dict[str, Any]:
    shortened: dict[str, Any] = _shortened(json.loads(go.Figure(layout={"template": template()}).to_json()))
    found: dict[str, Any] = shortened["layout"]["template"]
    return found


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        if value.get("dtype") == "f8" and "bdata" in value:
            numbers = np.frombuffer(base64.b64decode(value["bdata"]), dtype="<f8").astype("<f4")
            return value | {"dtype": "f4", "bdata": base64.b64encode(numbers.tobytes()).decode()}
        return {key: _shortened(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_shortened(v) for v in value]
    return _digits(value, 6) if isinstance(value, float) else value


def _digits(value: float, n: int) -> float:
    short = float(f"{value:.{n}g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short
