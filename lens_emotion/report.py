"""One self-contained HTML page per run: no network, figures drawn when they come into view, model output escaped.

The page computes nothing. A study hands over words, numbers, figures and tables; every finding comes with the null
or control it is to be read against.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from numbers import Integral, Real
from pathlib import Path

import plotly.graph_objects as go
from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup
from pandas import DataFrame
from pandas.api.types import is_numeric_dtype
from plotly.offline import get_plotlyjs

from lens_emotion.artifacts import atomic_write
from lens_emotion.report_json import cells_json, figure_json, layers_json, template_json
from lens_emotion.report_parts import TONES, Cell, RunReport

ROWS_SHOWN = 12


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
        columns=_columns(run.summary_rows),
        css=Markup(_asset("report.css")),
        script=Markup(_asset("report.js")),
        plotly=Markup(get_plotlyjs()),
        template=template_json(),
        figure_ids=_counter(),
    )


def number(value: object) -> str:
    """A value as the tables print it: three significant digits, an en dash for what is missing."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, Real):
        return str(value)
    if isinstance(value, Integral):
        return f"{int(value):,}" if abs(int(value)) >= 100_000 else str(value)
    real = float(value)
    if math.isnan(real):
        return "–"
    return f"{real:.3f}" if 0.001 <= abs(real) < 1 else f"{real:.4g}"


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


def _columns(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """Every column that any row has, in order of appearance."""
    return list(dict.fromkeys(column for row in rows for column in row))


def _counter() -> Iterator[int]:
    number = 0
    while True:
        number += 1
        yield number


def _is_wide(figure: go.Figure) -> bool:
    """Whether the figure asked for the whole width of the page."""
    meta = figure.layout.meta
    return isinstance(meta, Mapping) and bool(meta.get("wide"))


def _is_numeric(frame: DataFrame, position: int) -> bool:
    """Whether a column is set flush right."""
    return is_numeric_dtype(frame.dtypes.iloc[position])


def _asset(name: str) -> str:
    return resources.files("lens_emotion").joinpath("report_assets", name).read_text(encoding="utf-8")


@cache
def _template() -> Template:
    """The page, with everything escaped that is not explicitly Markup."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(number=number, anchor=anchor, cell=as_cell)
    environment.filters.update(figure_json=figure_json, layers_json=layers_json, cells_json=cells_json)
    environment.tests.update(wide=_is_wide, numeric=_is_numeric)
    environment.globals.update(TONES=TONES, ROWS_SHOWN=ROWS_SHOWN, flattened=flattened, next=next)
    return environment.from_string(_asset("report.html.j2"))
