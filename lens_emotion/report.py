"""One self-contained HTML page per run: no network, figures drawn when they come into view, model output escaped.

The page computes nothing. A study hands over words, numbers, figures and tables; every finding comes with the null
or control it is to be read against.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from numbers import Integral, Real
from pathlib import Path
from typing import Literal

import plotly.graph_objects as go
from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup
from pandas import DataFrame
from pandas.api.types import is_numeric_dtype
from plotly.offline import get_plotlyjs

from lens_emotion.artifacts import atomic_write

Tone = Literal["good", "noise", "plain"]
Verdict = Literal["above its null", "not distinguishable from noise", "reported"]
Table = tuple[str, DataFrame] | tuple[str, DataFrame, str]

TONES: dict[str, Tone] = {"above its null": "good", "not distinguishable from noise": "noise", "reported": "plain"}
ROWS_SHOWN = 12


@dataclass(frozen=True)
class Cell:
    """One cell of the summary table.

    Attributes:
        value: what is written; numbers are rounded to three significant digits.
        tone: "good" for a result above its null, "noise" for one that is not, "plain" otherwise.
        note: a second, smaller line: the null, the control, the p-value.
    """

    value: object
    tone: Tone = "plain"
    note: str = ""


@dataclass(frozen=True)
class Finding:
    """One number with what it is to be compared with, and the verdict of that comparison."""

    label: str
    value: str
    control: str
    verdict: Verdict
    explanation: str = ""


@dataclass(frozen=True)
class TextPair:
    """A steered text beside the unsteered text of the same prompt, and beside a random direction where there is one."""

    prompt: str
    unsteered: str
    steered: str
    label: str
    note: str = ""
    control: str | None = None


@dataclass(frozen=True, eq=False)
class Section:
    """A part of a model's card that can be folded away.

    Attributes:
        title: its heading.
        text: what the reader sees here; empty lines part paragraphs.
        figures: (caption, figure) each.
        tables: (caption, frame) each, or (caption, frame, where its CSV lies in the run folder).
        pairs: steered texts beside unsteered ones.
        opened: whether it is open when the page opens.
    """

    title: str
    text: str = ""
    figures: tuple[tuple[str, go.Figure], ...] = ()
    tables: tuple[Table, ...] = ()
    pairs: tuple[TextPair, ...] = ()
    opened: bool = False


@dataclass(frozen=True, eq=False)
class ModelReport:
    """Everything about one model; `kind` is base or instruct, `stimuli` names the texts it read."""

    name: str
    family: str
    kind: str
    stimuli: str
    n_layers: int
    d_model: int
    seconds: float
    findings: tuple[Finding, ...]
    sections: tuple[Section, ...] = ()


@dataclass(frozen=True)
class ClaimRow:
    """A claim under test: over all models, per model, and the sentences behind the verdicts."""

    code: str
    statement: str
    overall: Cell
    models: tuple[Cell, ...]
    sentences: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class RunReport:
    """A whole run.

    Attributes:
        title: heading of the page.
        created: when, as it is to be printed.
        command: the command or call that repeats the run.
        summary_rows: one mapping of column to value or `Cell` per model; the first row names the columns.
        models: one report per model, in the order of the page.
        provenance: versions, seeds, hashes; may be nested.
        lead: an optional sentence or two under the heading.
        claims: the paper's claims, tested; their cells stand in the order of `models`.
    """

    title: str
    created: str
    command: str
    summary_rows: Sequence[Mapping[str, object]]
    models: tuple[ModelReport, ...]
    provenance: Mapping[str, object]
    lead: str = ""
    claims: tuple[ClaimRow, ...] = ()


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
        figure_ids=_counter(),
    )


def figure_json(figure: go.Figure) -> Markup:
    """A figure as JSON that cannot end the script element it stands in."""
    text = figure.to_json()
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


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
    environment.filters.update(number=number, anchor=anchor, figure_json=figure_json, cell=as_cell)
    environment.tests.update(wide=_is_wide, numeric=_is_numeric)
    environment.globals.update(TONES=TONES, ROWS_SHOWN=ROWS_SHOWN, flattened=flattened, next=next)
    return environment.from_string(_asset("report.html.j2"))
