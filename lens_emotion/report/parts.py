"""The parts of a run's page and of a gallery: plain values, handed over by a study, set by `report`; and how an exhibit
becomes a figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import plotly.graph_objects as go
from markupsafe import Markup
from pandas import DataFrame

Tone = Literal["good", "noise", "plain"]
Verdict = Literal["above its null", "not distinguishable from noise", "not testable", "reported"]
Table = tuple[str, DataFrame] | tuple[str, DataFrame, str]

TONES: dict[str, Tone] = {
    "above its null": "good",
    "not distinguishable from noise": "noise",
    "not testable": "plain",
    "reported": "plain",
}


@dataclass(frozen=True)
class Embedded:
    """A figure as it stands in a page: JSON, and what is said around it (its title, whether it takes the page's whole
    width, its height in pixels)."""

    json: Markup
    title: str
    wide: bool
    height: float | None


Picture = tuple[str, go.Figure | Embedded] | tuple[str, go.Figure | Embedded, str]


@dataclass(frozen=True)
class Bar:
    """A share on a scale from 0 to 1, with its interval, over the zone that its null covers.

    Attributes:
        value: the mark. low, high: its interval, None where it has none.
        zone: (from, to) of the null: chance and permuted labels, a control, the middle third.
        name: of the model, where one number has a bar per model.
    """

    value: float
    zone: tuple[float, float]
    low: float | None = None
    high: float | None = None
    name: str = ""


@dataclass(frozen=True)
class Cell:
    """One cell of the summary table.

    Attributes:
        value: what is written; numbers are rounded to three significant digits.
        tone: "good" for a result above its null, "noise" for one that is not, "plain" otherwise.
        note: one smaller line: the null, the control, the p-value.
        why: what else there is to say, folded away.
        bar: the number beside its null.
    """

    value: object
    tone: Tone = "plain"
    note: str = ""
    why: str = ""
    bar: Bar | None = None

    @property
    def said(self) -> str:
        """Note and the rest, where nothing can be folded."""
        return "; ".join(filter(None, (self.note, self.why)))


@dataclass(frozen=True)
class Chip:
    """One verdict on the first screen: a claim's code, its name in a few words, and what became of it."""

    code: str
    name: str
    verdict: str


@dataclass(frozen=True)
class KeyNumber:
    """One of the numbers of the first screen.

    Attributes:
        label: what was asked. value: the number. line: of what, over how many. null: what it is read against.
        bars: one per model.
    """

    label: str
    value: str
    line: str
    null: str
    bars: tuple[Bar, ...] = ()


@dataclass(frozen=True)
class Headline:
    """What the page says first.

    Attributes:
        finding: one sentence, made of the verdicts. caution: that it is none, of toy models.
        chips: one per claim. numbers: with their nulls.
    """

    finding: str
    caution: str = ""
    chips: tuple[Chip, ...] = ()
    numbers: tuple[KeyNumber, ...] = ()


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


@dataclass(frozen=True)
class LayerStop:
    """One stop of the layer slider.

    Attributes:
        label: what is said there ("layer 2 of 4, depth 75%: held-out accuracy 0.62, chance 0.05").
        value: height of its bar, from 0 to 1. null: height of the null's mark.
    """

    label: str
    value: float
    null: float


Layer: TypeAlias = go.Figure | Embedded | None


@dataclass(frozen=True, eq=False)
class LayerSlider:
    """Figures that show one layer each and move together.

    Attributes:
        stops: one per layer. best: the stop to start at, and its name for readers. measure: what the bars show.
        figures: (caption, one figure per layer, and where their CSV lies in the run folder) each. versions: all of them
            as they stand in a page, which keeps only those of the best layer beside it.
    """

    stops: tuple[LayerStop, ...]
    best: int
    measure: str
    figures: tuple[tuple[str, Sequence[Layer]] | tuple[str, Sequence[Layer], str], ...]
    versions: str = ""


@dataclass(frozen=True)
class SteeredText:
    """One text behind a cell, with the judge's verdict and its measures; `scenario` counts the table's scenarios."""

    scenario: int
    text: str
    judged: str
    regime: str
    success: bool
    target_score: float
    perplexity_ratio: float
    distinct_2: float
    loop_share: float


@dataclass(frozen=True)
class PlainText:
    """A scenario: the emotion steered towards, the prompt, and the unsteered text with its verdict and score."""

    emotion: str
    prompt: str
    text: str
    judged: str
    target_score: float


@dataclass(frozen=True)
class TextCell:
    """One cell: what it says, its class (a regime, or ""), its numbers in a line, and its texts."""

    label: str
    note: str
    kind: str
    facts: str
    texts: tuple[SteeredText, ...]


@dataclass(frozen=True)
class TextCells:
    """A table of conditions by doses whose cells open their texts.

    Attributes:
        caption: what the cells say. columns: (dose, its other unit) each. keys: the conditions' short names, as figures
            write them.
        rows: (condition, its cells) each.
        opened: (row, column) that is open when the page opens.
    """

    caption: str
    columns: tuple[tuple[str, str], ...]
    keys: tuple[str, ...]
    rows: tuple[tuple[str, tuple[TextCell, ...]], ...]
    scenarios: tuple[PlainText, ...]
    opened: tuple[int, int] = (0, 0)


@dataclass(frozen=True, eq=False)
class Section:
    """A part of a model's card that can be folded away.

    Attributes:
        title: its heading.
        text: what the reader sees here; empty lines part paragraphs.
        figures: (caption, figure) each, or (caption, figure, where the CSV behind it lies in the run folder).
        tables: (caption, frame) each, or (caption, frame, where its CSV lies in the run folder).
        pairs: steered texts beside unsteered ones.
        opened: whether it is open when the page opens.
        layers: figures that one slider drives.
        cells: a table whose cells open the texts behind them.
    """

    title: str
    text: str = ""
    figures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    pairs: tuple[TextPair, ...] = ()
    opened: bool = False
    layers: LayerSlider | None = None
    cells: TextCells | None = None


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
    """A claim under test.

    Attributes:
        overall: verdict over all models, with the reason. effect, null, n: what the verdict rests on.
        models: verdict on each model. sentences: behind the verdicts.
        wanting: of an undetermined claim, what would have mattered and what this design finds.
        sealed: "sealed", "broken", "exploratory"; "" in a run without a seal, which says so once.
    """

    code: str
    statement: str
    overall: Cell
    models: tuple[Cell, ...]
    sentences: tuple[str, ...]
    effect: str = ""
    null: str = ""
    n: str = ""
    wanting: tuple[str, ...] = ()
    sealed: str = ""


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
        claims: the paper's claims, tested; their cells stand in the order of `models`. claims_figure: beside them.
        over_models: what sets the models side by side.
        methods: what was done, in paragraphs to paste into a paper.
        headline: what is said first; the title, where there is none.
        floors: the smallest p that this run's permutations can give, by their number.
        seal: what becomes of the run's seal, in a sentence. sealed: "sealed", "broken", or "" where there is none.
    """

    title: str
    created: str
    command: str
    summary_rows: Sequence[Mapping[str, object]]
    models: tuple[ModelReport, ...]
    provenance: Mapping[str, object]
    lead: str = ""
    claims: tuple[ClaimRow, ...] = ()
    claims_figure: go.Figure | None = None
    over_models: tuple[Section, ...] = ()
    methods: str = ""
    headline: Headline | None = None
    floors: tuple[float, ...] = ()
    seal: str = ""
    sealed: str = ""


@dataclass(frozen=True, eq=False)
class Drawn:
    """One figure of a set.

    Attributes:
        name: of its files, such as "layers".
        question: what it answers, the heading in the gallery.
        says: the analysis's own sentence, with its null; what a reader should see.
        figure: what is drawn.
        tables: its data; "" is the main table (NAME.csv), any other part becomes NAME.PART.csv.
    """

    name: str
    question: str
    says: str
    figure: go.Figure
    tables: Mapping[str, DataFrame]


@dataclass(frozen=True, eq=False)
class FigureSet:
    """The figures of one run, or of the models of several.

    Attributes:
        name: of its folder. models: whose figures. shown: the model of the figures that show only one.
        made_by: the commands that make the runs, without folders of one machine. drawn_by: that which draws the set.
        missing: figures that these runs cannot give, and why.
    """

    name: str
    models: tuple[str, ...]
    shown: str
    made_by: tuple[str, ...]
    figures: tuple[Drawn, ...]
    drawn_by: str = ""
    missing: Mapping[str, str] = field(default_factory=dict)
