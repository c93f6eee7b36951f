"""A figure with the tables it was drawn from and the words below it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd
import plotly.graph_objects as go


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
    tables: Mapping[str, pd.DataFrame]


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
