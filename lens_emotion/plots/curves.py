"""Curves over depth: layer sweep, separation, decoding, anisotropy. Every curve is drawn with its null."""

from __future__ import annotations

import plotly.graph_objects as go
from pandas import DataFrame
from plotly.subplots import make_subplots

from lens_emotion.plots.contracts import DecodingLike, HasTable, LayerSweepLike
from lens_emotion.plots.theme import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    VERMILLION,
    band,
    counted,
    depth_axis,
    joined,
    titled,
)

SIGNIFICANCE = "filled marker: p ≤ 0.05, hollow: not"


def layer_sweep(result: LayerSweepLike) -> go.Figure:
    """A metric at every layer, its permutation null, and the best depth with its bootstrap interval."""
    table = result.table
    figure = go.Figure()
    figure.add_traces(band(table, "null_low", "null_high", "null band (label permutation)"))
    if "chance" in table:
        figure.add_trace(_chance(table))
    corrected = "p_corrected" in table
    figure.add_trace(_curve(table, "value", result.metric, BLUE, "p_corrected" if corrected else "p"))
    figure.add_traces(_best_depth(result))
    better = "higher" if result.higher_is_better else "lower"
    subtitle = joined(counted(result), f"{len(table)} layers", f"{better} is better", SIGNIFICANCE)
    figure.update_yaxes(title_text=result.metric)
    depth_axis(figure)
    return titled(figure, f"Layer sweep: {result.metric}", subtitle, height=400)


def separation(result: HasTable) -> go.Figure:
    """Mean pairwise cosine and held-out decoding on one layer axis: never one without the other."""
    table = result.table
    reliable = "reliability" in table and bool(table["reliability"].notna().any())
    heights = [0.42, 0.34, 0.24] if reliable else [0.55, 0.45]
    figure = make_subplots(rows=len(heights), cols=1, shared_xaxes=True, vertical_spacing=0.05, row_heights=heights)
    figure.add_traces(band(table, "null_low", "null_high", "null band (label permutation)"), rows=1, cols=1)
    figure.add_trace(_curve(table, "mean_cosine", "mean pairwise cosine", BLUE, "p"), row=1, col=1)
    figure.add_trace(_chance(table), row=2, col=1)
    figure.add_trace(_curve(table, "accuracy", "held-out accuracy", VERMILLION, "accuracy_p", "square"), row=2, col=1)
    figure.update_yaxes(title_text="mean pairwise<br>cosine", row=1, col=1)
    figure.update_yaxes(title_text="held-out<br>accuracy", rangemode="tozero", row=2, col=1)
    if reliable:
        figure.add_trace(_curve(table, "reliability", "split-half reliability", GREEN, None, "diamond"), row=3, col=1)
        figure.update_yaxes(title_text="split-half<br>reliability", row=3, col=1)
    for row in range(1, len(heights) + 1):
        depth_axis(figure, row, title=row == len(heights))
    subtitle = joined(counted(result), f"{len(table)} layers", SIGNIFICANCE)
    return titled(figure, "Separation, with decoding beside it", subtitle, height=620 if reliable else 500)


def decoding(result: DecodingLike) -> go.Figure:
    """Held-out decoding accuracy at every layer, with its permutation null and chance."""
    table = result.table
    figure = go.Figure()
    figure.add_traces(band(table, "null_low", "null_high", "null band (label permutation)"))
    figure.add_trace(_chance(table))
    corrected = "p_corrected" if "p_corrected" in table else "p"
    figure.add_trace(_curve(table, "accuracy", "held-out accuracy", BLUE, corrected))
    figure.update_yaxes(title_text="held-out accuracy (share of texts)", rangemode="tozero")
    depth_axis(figure)
    best = f"best: {result.best_accuracy:.2f} at layer {result.best_layer}"
    return titled(figure, "Held-out decoding", joined(counted(result), best, SIGNIFICANCE), height=400)


def anisotropy(result: HasTable) -> go.Figure:
    """Mean pairwise cosine of states per layer: raw, centred, and of random directions matched in covariance."""
    table = result.table
    curves = {
        "neutral_raw": ("neutral text, raw", BLUE, "solid", "circle"),
        "all_raw": ("all text, raw", VERMILLION, "solid", "square"),
        "neutral_centred": ("neutral text, centred", GREEN, "dash", "diamond"),
        "random_matched": ("random, matched covariance", GREY, "dot", "x"),
    }
    figure = go.Figure()
    for column, (name, colour, dash, symbol) in curves.items():
        if column in table:
            trace = _curve(table, column, name, colour, None, symbol)
            trace.line.dash = dash
            figure.add_trace(trace)
    figure.update_yaxes(title_text="mean pairwise cosine", range=[min(-0.05, _lowest(table, curves)), 1.03])
    depth_axis(figure)
    subtitle = joined(counted(result), f"{len(table)} layers", "1 = all states point one way, 0 = no common direction")
    return titled(figure, "Anisotropy", subtitle, height=400)


def _lowest(table: DataFrame, columns: dict[str, tuple[str, str, str, str]]) -> float:
    return float(table[[c for c in columns if c in table]].min().min()) - 0.03


def _curve(table: DataFrame, column: str, name: str, colour: str, p: str | None, symbol: str = "circle") -> go.Scatter:
    """One line over depth; markers are hollow where the p column says the null explains the value."""
    hover = "layer %{customdata[0]} (depth %{x:.2f})<br>%{y:.3f}"
    extra = table[["layer"]]
    symbols: str | list[str] = symbol
    if p is not None and p in table:
        symbols = [symbol if value <= 0.05 else f"{symbol}-open" for value in table[p]]
        extra = table[["layer", p]]
        hover += f"<br>{p.replace('_', ' ')} = %{{customdata[1]:.4f}}"
    return go.Scatter(
        x=table["depth"],
        y=table[column],
        name=name,
        mode="lines+markers",
        line={"color": colour, "width": 1.8},
        marker={"color": colour, "size": 7 if len(table) <= 24 else 6, "symbol": symbols, "line": {"width": 1.4}},
        customdata=extra.to_numpy(),
        hovertemplate=hover + f"<extra>{name}</extra>",
    )


def _chance(table: DataFrame) -> go.Scatter:
    """The line a guesser would reach, drawn from edge to edge."""
    chance = float(table["chance"].iloc[0])
    name = f"chance ({chance:.3g})"
    line = {"color": GREY, "width": 1.4, "dash": "dash"}
    return go.Scatter(x=[0, 1.02], y=[chance, chance], name=name, mode="lines", line=line, hoverinfo="skip")


def _best_depth(result: LayerSweepLike) -> list[go.Scatter]:
    """A ring on the best layer's value and, where known, the interval of its depth as a horizontal bar."""
    row = result.table.loc[result.table["layer"] == result.best_layer].iloc[0]
    known = result.best_depth_low is not None and result.best_depth_high is not None
    interval = f" [{result.best_depth_low:.2f}, {result.best_depth_high:.2f}]" if known else ""
    error = None
    if known:
        reach = {"array": [result.best_depth_high - result.best_depth],
                 "arrayminus": [result.best_depth - result.best_depth_low]}  # fmt: skip
        error = {"type": "data", "symmetric": False, "color": ORANGE, "thickness": 1.6, "width": 5, **reach}
    marker = {"symbol": "circle-open", "size": 15, "color": ORANGE, "line": {"width": 2.4}}
    name = f"best depth {result.best_depth:.2f}{interval}, layer {result.best_layer}"
    return [
        go.Scatter(x=[result.best_depth], y=[row["value"]], mode="markers", marker=marker, name=name, error_x=error,
                   hovertemplate=name + "<extra></extra>")
    ]  # fmt: skip
