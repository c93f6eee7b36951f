"""Reliability: do two halves of the topics give the same directions, and how many topics would?"""

from __future__ import annotations

import plotly.graph_objects as go
from pandas import DataFrame
from plotly.subplots import make_subplots

from lens_emotion.plots.contracts_more import ReliabilityLike
from lens_emotion.plots.lines import NULL, SIGNIFICANCE, bars, marks, tested_curve
from lens_emotion.plots.theme import BLUE, GREY, LINE, band, depth_axis, emotion_colour, titled
from lens_emotion.plots.words import by_valence, emotion_ticks

TARGET = 0.9


def reliability(result: ReliabilityLike, layer: int | None = None) -> go.Figure:
    """Split-half reliability over depth with its null, and of every emotion at one layer with the topics it needs.

    Args:
        layer: of the right panel; None for the layer of the highest mean, which the null is corrected for.
    """
    table = result.by_layer
    at = int(table["reliability"].fillna(-1).argmax()) if layer is None else layer
    titles = ("mean over emotions, by layer", f"every emotion at layer {at}")
    figure = make_subplots(1, 2, column_widths=[0.5, 0.5], horizontal_spacing=0.14, subplot_titles=titles)
    figure.add_traces(band(table, "null_low", "null_high", NULL), rows=1, cols=1)
    line, points = tested_curve(table, "reliability", "split-half reliability", BLUE, "p_corrected")
    points.error_y = bars(table, "reliability") | {"color": BLUE}
    figure.add_traces((line, points), rows=1, cols=1)
    depth_axis(figure, 1)
    figure.update_yaxes(title_text="reliability (Spearman-Brown)", row=1, col=1)
    _by_emotion(figure, result.topics_needed(TARGET).merge(result.table), at)
    facts = (
        f"n = {result.n_topics} topics, {result.n_splits} random halvings, {result.n_permutations} permutations",
        "0 is noise, 1 is no noise",
        "bars: 95% over topics",
        SIGNIFICANCE,
    )
    titled(figure, "Split-half reliability", facts, height=520, wide=True)
    return lowered(figure)


def lowered(figure: go.Figure) -> go.Figure:
    """Room between the subtitle and the headings of panels, which are left-aligned and small."""
    for heading in figure.layout.annotations[: len(list(figure.select_xaxes()))]:
        heading.update(font={"size": 12})
    return figure.update_layout(margin={"t": figure.layout.margin.t + 24})


def _by_emotion(figure: go.Figure, table: DataFrame, layer: int) -> None:
    """One row per emotion, pleasant on top: reliability with its interval, and on the right the topics for 0.9."""
    rows = table[table["layer"] == layer].set_index("emotion")
    names = by_valence(rows.index)
    rows = rows.loc[names]
    places = list(range(len(names)))
    points = go.Scatter(
        x=rows["reliability"], y=places, mode="markers", name="emotion", showlegend=False,
        error_x=bars(rows, "reliability") | {"color": LINE},
        marker={"size": 8, "symbol": marks(rows["p"]), "color": [emotion_colour(e) for e in names]},
        customdata=list(zip(names, rows["topics"], rows["texts"], rows["p"], rows["topics_needed"], strict=True)),
        hovertemplate="%{customdata[0]}<br>reliability %{x:.2f}, p = %{customdata[3]:.3f}<br>%{customdata[1]} topics, "
        f"%{{customdata[2]}} texts; %{{customdata[4]}} topics for {TARGET}<extra></extra>",
    )  # fmt: skip
    needed = [_topics(n) for n in rows["topics_needed"]]
    words = go.Scatter(x=[1.16] * len(names), y=places, mode="text", text=needed, textposition="middle center",
                       textfont={"size": 11}, hoverinfo="skip", showlegend=False, name="topics needed")  # fmt: skip
    figure.add_traces((points, words), rows=1, cols=2)
    low = min(0.0, float(rows["low"].min(skipna=True)))
    ticks = [t for t in (-1, -0.5, 0, 0.25, 0.5, 0.75, 1) if t >= low]
    figure.update_xaxes(title_text="reliability", range=[low - 0.04, 1.26], tickvals=ticks, row=1, col=2)
    figure.update_yaxes(**emotion_ticks(names), range=[-0.7, len(names) + 0.2], showgrid=False, row=1, col=2)
    figure.add_vline(1.03, line={"color": GREY, "width": 0.8}, row=1, col=2)
    figure.add_annotation(x=1.16, y=len(names) - 0.3, text=f"topics<br>for {TARGET}", showarrow=False, yanchor="bottom",
                          font={"size": 10}, row=1, col=2)  # fmt: skip


def _topics(needed: float) -> str:
    if needed != needed:
        return "–"
    return "∞" if needed == float("inf") else f"{needed:,.0f}"
