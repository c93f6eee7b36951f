"""Readings and decoders beside each other: drift, fitted probes, transfer to other texts, base and instruct."""

from __future__ import annotations

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lens_emotion.analysis.drift import Drift
from lens_emotion.analysis.families import BaseVsInstruct
from lens_emotion.analysis.probes import Probe
from lens_emotion.analysis.transfer import Transfer, TransferWithin
from lens_emotion.display import said
from lens_emotion.plots import _findings
from lens_emotion.plots._curves import NULL, SIGNIFICANCE, bars, chance_line, curve, tested_curve, within, zero_line
from lens_emotion.plots.theme import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    TILE_INK,
    TILES,
    VERMILLION,
    band,
    colour_bar,
    depth_axis,
    plain,
    span,
    titled,
)

# the stricter use of the test texts first
LOOKS = {"own mean": (BLUE, "circle", "solid"), "train mean": (VERMILLION, "square", "dash")}


def drift(result: Drift) -> go.Figure:
    """How far two readings of the same texts lie apart: vectors, states, and held-out accuracy, at every layer.

    Args:
        result: of `le.drift`.

    Example:
        >>> figure = le.plots.drift(result)
    """
    table = result.by_layer
    figure = make_subplots(3, 1, shared_xaxes=True, vertical_spacing=0.06)
    figure.add_trace(curve(table, "cosine_mean", "cosine of the vectors, mean", BLUE, "circle"), row=1, col=1)
    figure.add_trace(curve(table, "cosine_min", "smallest of the emotions", ORANGE, "triangle-down", "dot"), 1, 1)
    figure.add_trace(curve(table, "relative_mean", "states apart, mean", GREEN, "diamond"), row=2, col=1)
    figure.add_trace(curve(table, "relative_max", "most of any text", GREY, "x", "dot"), row=2, col=1)
    figure.add_traces(tested_curve(table, "accuracy_a", "accuracy, first reading", BLUE, "p", "square"), 3, 1)
    figure.add_trace(curve(table, "accuracy_b", "second reading", VERMILLION, "square", "dash"), row=3, col=1)
    figure.add_trace(curve(table, "agreement", "same emotion given", GREY, "cross", "dot"), row=3, col=1)
    figure.update_yaxes(title_text="cosine of<br>emotion vectors", row=1, col=1)
    figure.update_yaxes(title_text="‖a − b‖ / ‖a‖<br>of states", type="log", exponentformat="e", row=2, col=1)
    figure.update_yaxes(title_text="held-out accuracy,<br>share of texts", rangemode="tozero", row=3, col=1)
    for row in (1, 2, 3):
        depth_axis(figure, row, title=row == 3)
    figure.add_trace(chance_line(1 / result.table["emotion"].nunique()), row=3, col=1)
    facts = (
        f"drift: n = {result.n_texts} texts",
        result.differs,
        "filled blue square: accuracies differ, McNemar p ≤ 0.05",
    )
    return titled(figure, _findings.drift(result), facts, height=660)


def probe(result: Probe) -> go.Figure:
    """Held-out accuracy of a fitted decoder beside the nearest centroid, at the layers used, with the null.

    Args:
        result: of `le.probe`.

    Example:
        >>> figure = le.plots.probe(result)
    """
    table = result.table
    null = go.Scatter(
        x=table["depth"], y=table["null_mean"], mode="markers", name="permuted labels, mean and 97.5%",
        error_y=bars(table.assign(zero=0), "null_mean", "zero", "null_high")
        | {"thickness": 6, "color": "rgba(128,132,142,0.4)"},
        marker={"color": GREY, "symbol": "line-ew-open", "size": 10}, hoverinfo="skip",
    )  # fmt: skip
    figure = go.Figure([null, chance_line(float(table["chance"].iloc[0]))])
    figure.add_trace(curve(table, "nearest_centroid", "nearest centroid", VERMILLION, "square", "dash"))
    figure.add_traces(tested_curve(table, "accuracy", f"{result.kind}, fitted", BLUE, "p_corrected"))
    figure.update_yaxes(title_text="held-out accuracy (share of texts)", rangemode="tozero")
    depth_axis(figure)
    facts = (
        f"probe {result.kind}: n = {len(result.label)} texts, {len(set(result.topic))} topics",
        f"{len(result.null)} permutations",
        f"{len(table)} of {result.n_layers} layers",
        SIGNIFICANCE,
    )
    return titled(figure, _findings.probe(result), facts, height=420)


def transfer(result: Transfer) -> go.Figure:
    """Accuracy, at every layer, of directions learned on some texts and tested on others, by both centrings.

    Args:
        result: of `le.transfer`.

    Example:
        >>> figure = le.plots.transfer(result)
    """
    figure = make_subplots(len(LOOKS), 1, shared_xaxes=True, vertical_spacing=0.07)
    for row, centring in enumerate(LOOKS, 1):
        table = result.table[result.table["centring"] == centring]
        colour, symbol, dash = LOOKS[centring]
        for trace in (*band(table, "null_low", "null_high", NULL, "down"), chance_line(float(table["chance"].iloc[0]))):
            figure.add_trace(trace.update(showlegend=bool(trace.showlegend is not False and row == 1)), row=row, col=1)
        line, points = tested_curve(
            table, "accuracy", f"centred on the {centring}", colour, "p_corrected", symbol, dash
        )
        points.error_y = bars(within(table, "low", "high", 1), "accuracy") | {"color": colour}
        figure.add_traces((line, points), rows=row, cols=1)
        figure.update_yaxes(title_text="accuracy<br>(share of texts)", rangemode="tozero", row=row, col=1)
        depth_axis(figure, row, title=row == len(LOOKS))
    together = "never together" if result.excluded else "together"
    facts = (
        f"transfer: learned on {said(result.train)}",
        f"tested on {said(result.test)}",
        f"n = {len(result.label)} texts, {len(result.emotions)} shared emotions",
        f"{len(result.shared_topics)} shared topics, trained and tested on {together}" if result.shared_topics else "",
        "bars: 95% over topics",
        SIGNIFICANCE,
    )
    return titled(figure, _findings.transfer(result), facts, height=560)


def transfer_within(result: TransferWithin, layer: int | None = None, centring: str = "own mean") -> go.Figure:
    """Accuracy on every level of centroids learned on every other, and on all others, at one layer.

    Args:
        layer: default the middle one.
        centring: "own mean" or "train mean" of the tested texts.
        result: of `le.transfer_within`.

    Example:
        >>> figure = le.plots.transfer_within(result)
    """
    at = result.n_layers // 2 if layer is None else layer
    grid = result.matrix(at, centring)
    rows = result.table[(result.table["layer"] == at) & (result.table["centring"] == centring)]
    p = rows.pivot(index="train", columns="test", values="p_corrected").reindex(index=grid.index, columns=grid.columns)
    words = [
        ["" if v != v else f"{v:.2f}" if q <= 0.05 else f"({v:.2f})" for v, q in zip(a, b, strict=True)]
        for a, b in zip(grid.values, p.values, strict=True)
    ]
    heat = go.Heatmap(
        z=grid.to_numpy(), x=[plain(c) for c in grid.columns], y=[plain(r) for r in grid.index], text=words,
        texttemplate="%{text}", textfont={"size": 11, "color": TILE_INK}, customdata=p.to_numpy(), colorscale=TILES,
        zmin=0, zmax=1, xgap=2, ygap=2, colorbar=colour_bar("accuracy"), hoverongaps=False,
        hovertemplate="learned on %{y}, tested on %{x}<br>%{z:.2f}, p corrected %{customdata:.3f}<extra></extra>",
    )  # fmt: skip
    figure = go.Figure(heat)
    figure.update_xaxes(title_text=f"tested on ({result.by})", showgrid=False, showline=False, ticks="")
    figure.update_yaxes(title_text=f"learned on ({result.by})", showgrid=False, showline=False, ticks="",
                        autorange="reversed")  # fmt: skip
    facts = (
        f"layer {at}, centred on the {centring}",
        f"n = {span(rows['n_texts'])} texts per column, {len(result.emotions)} emotions",
        f"chance {float(rows['chance'].iloc[0]):.2f}",
        "in brackets: p > 0.05, corrected over cells and layers",
    )
    titled(figure, _findings.transfer_within(rows, result.by), facts, height=max(400, 150 + 34 * len(grid)))
    return figure.update_layout(margin={"b": 60})


def base_vs_instruct(result: BaseVsInstruct) -> go.Figure:
    """Likeness of the vectors, held-out accuracy of both models, and its change with an interval.

    Args:
        result: of `le.base_vs_instruct`.

    Example:
        >>> figure = le.plots.base_vs_instruct(result)
    """
    table = result.table
    figure = make_subplots(3, 1, shared_xaxes=True, vertical_spacing=0.06)
    if table["cosine"].notna().any():
        figure.add_trace(curve(table, "cosine_null", "relabelled emotions, 95th percentile", GREY, "x", "dot"), 1, 1)
        name = "cosine with its own vector, other topics"
        own = tested_curve(table, "cosine_disjoint", name, BLUE, "cosine_p_corrected")
        figure.add_traces(own, rows=1, cols=1)
    name = "rho of the distances (RSA), other topics"
    alike = tested_curve(table, "rho_disjoint", name, PURPLE, "rho_p_corrected", "diamond", "dash")
    figure.add_traces(alike, rows=1, cols=1)
    figure.add_trace(curve(table, "accuracy_base", f"base: {plain(result.base)}", VERMILLION, "square"), row=2, col=1)
    figure.add_trace(
        curve(table, "accuracy_instruct", f"instruct: {plain(result.instruct)}", GREEN, "circle"), row=2, col=1
    )
    change = curve(table, "difference", "instruct less base", ORANGE, "triangle-up")
    change.error_y = bars(within(table, "low", "high", 1), "difference") | {"color": ORANGE}
    figure.add_traces((zero_line(), chance_line(1 / len(result.emotions)), zero_line()), rows=[1, 2, 3], cols=[1, 1, 1])
    figure.add_trace(change, row=3, col=1)
    for row, title in enumerate(("likeness", "held-out<br>accuracy", "change in<br>accuracy"), 1):
        figure.update_yaxes(title_text=title, row=row, col=1)
        depth_axis(figure, row, title=row == 3)
    counts = f"n = {len(result.emotions)} emotions, {len(result.topics)} topics, {result.n_permutations:,} relabellings"
    facts = (f"base {result.base}, instruct {result.instruct}", counts, "bars: 95% over topics, paired", SIGNIFICANCE)
    return titled(figure, _findings.base_vs_instruct(result), facts, height=640)
