"""Curves over depth: layer sweep, separation, decoding, anisotropy. Every curve is drawn with its null."""

from __future__ import annotations

import plotly.graph_objects as go
from pandas import DataFrame
from plotly.subplots import make_subplots

from lens_emotion.plots.contracts import DecodingLike, HasTable, LayerSweepLike
from lens_emotion.plots.lines import NULL, SIGNIFICANCE, chance_line, curve, strictest, tested_curve
from lens_emotion.plots.theme import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    VERMILLION,
    band,
    counted,
    depth_axis,
    titled,
)

UNITS = {
    "decoding": "held-out accuracy (share of texts)",
    "separation": "mean pairwise cosine of vectors",
    "reliability": "split-half reliability",
    "anisotropy": "mean pairwise cosine of neutral states",
}


def layer_sweep(result: LayerSweepLike) -> go.Figure:
    """A metric at every layer, its permutation null, and the best depth with its bootstrap interval."""
    table = result.table
    figure = go.Figure()
    tested = bool(table["null_high"].notna().any())
    if tested:
        figure.add_traces(band(table, "null_low", "null_high", NULL))
        figure.add_traces(tested_curve(table, "value", result.metric, BLUE, strictest(table)))
    else:
        figure.add_trace(curve(table, "value", result.metric, BLUE, "circle"))
    figure.add_trace(_best_depth(result))
    better = "higher" if result.higher_is_better else "lower"
    null = SIGNIFICANCE if tested else "this measure has no label null"
    facts = (
        counted(result, "texts", "permutations"),
        f"{len(table)} layers",
        f"{better} is better",
        _shape(result),
        null,
    )
    figure.update_yaxes(title_text=UNITS.get(result.metric, result.metric))
    depth_axis(figure)
    return titled(figure, f"Layer sweep: {result.metric}", facts, height=400)


def _shape(result: LayerSweepLike) -> str:
    """What the two-lines test says of the curve, where there was one."""
    shape = getattr(result, "shape", None)
    return "" if shape is None else f"two-lines test: {shape.verdict}"


def separation(result: HasTable) -> go.Figure:
    """Mean pairwise cosine and held-out decoding on one layer axis: never one without the other."""
    table = result.table
    reliable = "reliability" in table and bool(table["reliability"].notna().any())
    heights = [0.42, 0.34, 0.24] if reliable else [0.55, 0.45]
    figure = make_subplots(len(heights), 1, shared_xaxes=True, vertical_spacing=0.05, row_heights=heights)
    figure.add_traces(band(table, "null_low", "null_high", NULL), rows=1, cols=1)
    cosine = tested_curve(table, "mean_cosine", "mean pairwise cosine", BLUE, "p")
    accuracy = tested_curve(table, "accuracy", "held-out accuracy", VERMILLION, "accuracy_p", "square")
    figure.add_traces(cosine, rows=1, cols=1)
    figure.add_traces((chance_line(float(table["chance"].iloc[0])), *accuracy), rows=2, cols=1)
    figure.update_yaxes(title_text="mean pairwise<br>cosine", row=1, col=1)
    figure.update_yaxes(title_text="held-out<br>accuracy", rangemode="tozero", row=2, col=1)
    if reliable:
        figure.add_trace(curve(table, "reliability", "split-half reliability", GREEN, "diamond"), row=3, col=1)
        figure.update_yaxes(title_text="split-half<br>reliability", row=3, col=1)
    for row in range(1, len(heights) + 1):
        depth_axis(figure, row, title=row == len(heights))
    facts = (_texts(result), f"{len(table)} layers", SIGNIFICANCE)
    return titled(figure, "Separation, with decoding beside it", facts, height=620 if reliable else 500)


def decoding(result: DecodingLike) -> go.Figure:
    """Held-out decoding accuracy at every layer, with its permutation null and chance."""
    table = result.table
    figure = go.Figure()
    figure.add_traces(band(table, "null_low", "null_high", NULL))
    figure.add_trace(chance_line(float(table["chance"].iloc[0])))
    figure.add_traces(tested_curve(table, "accuracy", "held-out accuracy", BLUE, strictest(table)))
    figure.update_yaxes(title_text="held-out accuracy (share of texts)", rangemode="tozero")
    depth_axis(figure)
    best = f"best: {result.best_accuracy:.2f} at layer {result.best_layer}"
    return titled(figure, "Held-out decoding", (_texts(result), best, SIGNIFICANCE), height=400)


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
            figure.add_trace(curve(table, column, name, colour, symbol, dash))
    figure.update_yaxes(title_text="mean pairwise cosine", range=[min(-0.05, _lowest(table, curves)), 1.03])
    depth_axis(figure)
    meaning = "1 = all states point one way, 0 = no common direction"
    facts = (_texts(result), f"{len(table)} layers", meaning)
    return titled(figure, "Anisotropy", facts, height=400)


def _texts(result: object) -> str:
    """n of the texts, from the result or from the decoding it carries."""
    of = result if hasattr(result, "n_texts") else getattr(result, "decoding", result)
    neutral = getattr(result, "n_neutral", None)
    return counted(of, "texts", "topics") + (f" ({neutral} neutral)" if neutral is not None else "")


def _lowest(table: DataFrame, columns: dict[str, tuple[str, str, str, str]]) -> float:
    return float(table[[c for c in columns if c in table]].min().min()) - 0.03


def _best_depth(result: LayerSweepLike) -> go.Scatter:
    """A ring on the best layer's value and, where known, the interval of its depth as a horizontal bar."""
    row = result.table.loc[result.table["layer"] == result.best_layer].iloc[0]
    low, high = result.best_depth_low, result.best_depth_high
    best = result.best_depth
    interval, error = "", None
    if low is not None and high is not None:
        interval = f" [{low:.2f}, {high:.2f}]"
        reach = {"array": [high - best], "arrayminus": [best - low]}
        error = {"type": "data", "symmetric": False, "color": ORANGE, "thickness": 1.6, "width": 5, **reach}
    name = f"best depth {result.best_depth:.2f}{interval}, layer {result.best_layer}"
    return go.Scatter(
        x=[result.best_depth],
        y=[row["value"]],
        error_x=error,
        mode="markers",
        name=name,
        marker={"symbol": "circle-open", "size": 15, "color": ORANGE, "line": {"width": 2.4}},
        hovertemplate=f"{name}<extra></extra>",
    )
