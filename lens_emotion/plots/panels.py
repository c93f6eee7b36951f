"""Small multiples: one figure per model on shared axes, so that models are compared and none is laid over another."""

from __future__ import annotations

import math
from collections.abc import Mapping

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lens_emotion.plots.halves import lowered
from lens_emotion.plots.theme import depth_axis, titled
from lens_emotion.plots.words import plain


def panels(figures: Mapping[str, go.Figure], title: str) -> go.Figure:
    """Curves over depth of several models, one panel each on one y axis.

    What all of them say below their titles is said once. Names of traces that only one of them bears (its best depth)
    become part of the panel's heading.

    Args:
        figures: model -> a figure of one pair of axes, all by the same function.
    """
    names = list(figures)
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    named = [{t.name for t in f.data} for f in figures.values()]
    common = set.intersection(*named)
    made = make_subplots(
        rows, columns, shared_yaxes="all", horizontal_spacing=0.03, vertical_spacing=0.42 / rows,
        subplot_titles=[_heading(name, figures[name], common) for name in names],
    )  # fmt: skip
    for i, name in enumerate(names):
        row, column = i // columns + 1, i % columns + 1
        for trace in figures[name].data:
            copy = go.Figure(trace).data[0]
            copy.showlegend = i == 0 and trace.name in common and trace.showlegend is not False
            copy.legendgroup = trace.name
            made.add_trace(copy, row=row, col=column)
        if column == 1:
            made.update_yaxes(title_text=figures[name].layout.yaxis.title.text, row=row, col=1)
    depth_axis(made)
    made.update_xaxes(showticklabels=True)
    for layout in (f.layout.yaxis for f in figures.values()):
        made.update_yaxes(range=layout.range, rangemode=layout.rangemode)
    titled(made, title, _shared_facts(figures), height=150 + 280 * rows, wide=True)
    return lowered(made).update_layout(margin={"t": made.layout.margin.t + 14})


def _heading(name: str, figure: go.Figure, common: set[str]) -> str:
    own = [t.name for t in figure.data if t.name and t.name not in common]
    return "<br>".join([f"<b>{plain(name)}</b>", *own])


def _shared_facts(figures: Mapping[str, go.Figure]) -> list[str]:
    """The facts that every one of the figures states, and how many there are."""
    said = [f.layout.title.subtitle.text.replace("<br>", " · ").split(" · ") for f in figures.values()]
    shared = [fact for fact in said[0] if all(fact in other for other in said)]
    return [f"{len(figures)} models, the same y axis", *(fact.replace("&amp;", "&") for fact in shared)]
