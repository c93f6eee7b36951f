"""One self-contained HTML page per run: no network, figures drawn when they come into view, model output escaped.

The page computes nothing. A study hands over words, numbers, figures and tables; every finding comes with the null
or control it is to be read against.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from html import unescape
from importlib import resources
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup
from pandas.api.types import is_numeric_dtype
from plotly.offline import get_plotlyjs

from lens_emotion.display import visible
from lens_emotion.files.artifacts import atomic_write
from lens_emotion.plots import template
from lens_emotion.report.parts import (
    TONES,
    Cell,
    ClaimRow,
    Embedded,
    LayerSlider,
    ModelReport,
    RunReport,
    Section,
    SteeredText,
    TextCells,
)
from lens_emotion.report.words import entry, header, number
from lens_emotion.study.verdict import VERDICTS

ROWS_SHOWN = 12
WIDE_TABLE = 10  # columns from which a table lies on its side in print


def write_report(run: RunReport, path: str | Path) -> Path:
    """Write the page of a run as one HTML file that needs nothing else, and return its path.

    Raises:
        ArtifactError: the file cannot be written.
    """
    return atomic_write(path, render_report(run))


def render_report(run: RunReport) -> str:
    """The page of a run as a string."""
    return _template().render(
        run=run,
        columns=list(dict.fromkeys(column for row in run.summary_rows for column in row)),
        css=Markup(_asset("report.css")),
        script=Markup(_asset("report.js")),
        plotly=Markup(get_plotlyjs()),
        template=safe_json(_shared_template()),
        figure_ids=count(1),
    )


def anchor(name: str) -> str:
    """A name as an HTML id."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in name).strip("-").lower() or "model"


def flattened(mapping: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Provenance as rows: nested keys joined with dots, sequences with commas."""
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple | set):
            yield f"{prefix}{key}", ", ".join(str(item) for item in value)
        else:
            yield f"{prefix}{key}", str(value)


def as_cell(value: object) -> Cell:
    """A summary value as a cell."""
    return value if isinstance(value, Cell) else Cell(value)


def by_verdict(claim: ClaimRow, models: Sequence[ModelReport]) -> list[tuple[str, str]]:
    """The verdicts on models, each with whose it is; "all five" where they are of one mind."""
    said = [(model.name, str(cell.value)) for model, cell in zip(models, claim.models, strict=True)]
    found = {v: [name for name, verdict in said if verdict == v] for v in VERDICTS}
    return [
        (v, f"{v} in all {len(names)}" if len(names) == len(models) else ", ".join(names))
        for v, names in found.items()
        if names
    ]


def label(figure: Embedded, caption: str) -> str:
    """A figure in a sentence, for those who do not see it: its title, then its caption."""
    title = figure.title
    return f"{title.rstrip('.')}. {caption}" if title and title != caption else caption


def day(created: str) -> str:
    """The day of a time as it is stored."""
    return created.split("T")[0]


def capitalised(words: str) -> str:
    """Words as the beginning of a sentence, without its end."""
    return (words[:1].upper() + words[1:]).rstrip(".")


def _asset(name: str) -> str:
    return resources.files("lens_emotion.report").joinpath("assets", name).read_text(encoding="utf-8")


@cache
def _template() -> Template:
    """The page, with everything escaped that is not explicitly Markup."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    environment.filters.update(number=number, anchor=anchor, cell=as_cell, header=header, entry=entry, label=label)
    environment.filters.update(by_verdict=by_verdict, day=day, capitalised=capitalised)
    environment.filters.update(cells_json=cells_json, embedded=embedded, slides=slides)
    environment.tests.update(numeric=lambda frame, i: is_numeric_dtype(frame.dtypes.iloc[i]))
    environment.globals.update(TONES=TONES, ROWS_SHOWN=ROWS_SHOWN, WIDE_TABLE=WIDE_TABLE)
    environment.globals.update(flattened=flattened, next=next, zip=zip)
    return environment.from_string(_asset("report.html.j2"))


# Figures and texts as the JSON that stands in a page: it cannot end its element, and it is small. Numbers keep six
# digits, arrays single precision, the template is written once, and of the figures that a slider drives only the first
# is whole: the others are lists of what differs from it.
Route = list[str | int]


def figure_json(figure: go.Figure) -> Markup:
    """A figure as JSON that cannot end the script element it stands in."""
    return safe_json(compact(figure))


def embedded(figure: go.Figure | Embedded) -> Embedded:
    """A figure as it stands in a page."""
    if isinstance(figure, Embedded):
        return figure
    title = re.sub(r"<[^>]*>", " ", unescape(figure.layout.title.text or "")).strip()
    meta = figure.layout.meta
    wide = isinstance(meta, Mapping) and bool(meta.get("wide"))  # it asked for the whole width
    return Embedded(figure_json(figure), title, wide, figure.layout.height)


def slides(slider: LayerSlider) -> LayerSlider:
    """All figures of a slider as they stand in a page: the one of the best layer, and for every layer what differs from
    it."""
    if slider.versions:
        return slider
    versions: list[dict[str, Any]] = []
    kept: list[Any] = []
    for caption, figures, *csv in slider.figures:
        plain = [compact(f) for f in figures]
        base = plain[slider.best]
        versions.append({"base": base, "changes": [differences(base, other) for other in plain]})
        best = [embedded(f) if i == slider.best else None for i, f in enumerate(figures)]
        kept.append((caption, best, *csv))
    found = {"best": slider.best, "labels": [s.label for s in slider.stops], "figures": versions}
    return replace(slider, figures=tuple(kept), versions=safe_json(found))


def with_figures_embedded(model: ModelReport) -> ModelReport:
    """The same, as small as it stands in the page, so that another process can send it."""

    def of(section: Section) -> Section:
        figures: Any = tuple((caption, embedded(figure), *csv) for caption, figure, *csv in section.figures)
        return replace(section, figures=figures, layers=section.layers and slides(section.layers))

    return replace(model, sections=tuple(map(of, model.sections)))


def cells_json(table: TextCells) -> Markup:
    """The texts behind a table of cells."""
    words: dict[str, int] = {}  # weak doses write the same texts again

    def row(t: SteeredText) -> list[float | str]:
        said = [words.setdefault(w, len(words)) for w in (t.text, t.judged, t.regime)]
        numbers = (t.target_score, t.perplexity_ratio, t.distinct_2, t.loop_share)
        return [t.scenario, *said, int(t.success), *(_measure(x) for x in numbers)]

    cells = [[{"facts": c.facts, "rows": [row(t) for t in c.texts]} for c in cells] for _, cells in table.rows]
    scenarios = [(s.emotion, s.prompt, s.text, s.judged, _measure(s.target_score)) for s in table.scenarios]
    return safe_json({"words": list(words), "scenarios": scenarios, "keys": table.keys, "cells": cells})


def _measure(x: float) -> float | str:
    """Three digits; a text that holds nothing, or broke off, has measures that JSON has no number for."""
    return _digits(x, 3) if math.isfinite(x) else "∞" if x == math.inf else "none"


def safe_json(data: Any) -> Markup:
    """JSON without the three characters by which HTML could begin, nor any that turns a line round."""
    text = visible(json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False), r"\\")
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def compact(figure: go.Figure) -> dict[str, Any]:
    """A figure as plain values, shortened; without its template where that is the package's own."""
    plain: dict[str, Any] = _shortened(json.loads(figure.to_json()))
    if plain.get("layout", {}).get("template") == _shared_template():
        del plain["layout"]["template"]
    return plain


def differences(base: Any, other: Any, at: Route | None = None) -> list[tuple[Route, Any]]:
    """What must be set, and where, to turn one into the other."""
    at = at or []
    if base == other:
        return []
    if isinstance(base, dict) and isinstance(other, dict) and base.keys() == other.keys() and "bdata" not in base:
        return [d for key in base for d in differences(base[key], other[key], [*at, key])]
    alike = isinstance(base, list) and isinstance(other, list) and len(base) == len(other)
    if alike and any(isinstance(v, dict) for v in base):
        return [d for i, pair in enumerate(zip(base, other, strict=True)) for d in differences(*pair, [*at, i])]
    return [(at, other)]


@cache
def _shared_template() -> dict[str, Any]:
    """The template that figures of this package share, which `compact` leaves out of each."""
    return _shortened(json.loads(go.Figure(layout={"template": template()}).to_json()))["layout"]["template"]


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
