"""What lies close to what: confusion, similarity, models and people compared (RSA), side effects of steering."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from lens_emotion.analysis.decoding import Decoding
from lens_emotion.analysis.families import RSAMatrix
from lens_emotion.analysis.geometry import Similarity
from lens_emotion.analysis.rsa import RSA, HumanRSA
from lens_emotion.plots import _findings
from lens_emotion.plots._curves import SIGNIFICANCE, tested_curve
from lens_emotion.plots.theme import (
    BLUE,
    DIVERGING,
    GREEN,
    GREY,
    ORANGE,
    SEQUENTIAL,
    TILE_INK,
    TILES_BOTH,
    by_valence,
    colour_bar,
    counted,
    depth_axis,
    p_words,
    plain,
    span,
    swatch,
    titled,
)
from lens_emotion.steering.side_effects import SideEffects


def confusion(result: Decoding) -> go.Figure:
    """Counts of true emotion (rows) against predicted emotion (columns), ordered from unpleasant to pleasant.

    Args:
        result: of `le.decoding`.

    Example:
        >>> figure = le.plots.confusion(le.decoding(acts, n_permutations=5))
    """
    matrix = result.confusion
    order = by_valence([str(name) for name in matrix.index])
    matrix = matrix.loc[order, [name for name in order if name in matrix.columns]]
    heat = go.Heatmap(
        z=matrix.to_numpy(), x=list(matrix.columns), y=list(matrix.index), colorscale=SEQUENTIAL, zmin=0,
        hovertemplate="true %{y}<br>predicted %{x}<br>%{z} texts<extra></extra>", colorbar=colour_bar("texts"),
        xgap=1, ygap=1,
    )  # fmt: skip
    figure = square(heat, "predicted emotion", "true emotion")
    scored = f"accuracy {result.best_accuracy:.2f}, chance {float(result.table['chance'].iloc[0]):.2f}"
    facts = (f"confusion at layer {result.best_layer}", counted(result, "texts"), scored, "ordered by human valence")
    return titled(figure, _findings.confusion(result), facts, height=560)


def similarity(result: Similarity) -> go.Figure:
    """Cosine between every two emotion vectors at one layer, in clustered order, on a scale centred at 0.

    Args:
        result: of `le.similarity`.

    Example:
        >>> figure = le.plots.similarity(result)
    """
    order = list(result.order)
    matrix = result.matrix.loc[order, order]
    heat = go.Heatmap(
        z=matrix.to_numpy(), x=order, y=order, colorscale=DIVERGING, zmin=-1, zmax=1, zmid=0,
        hovertemplate="%{y} and %{x}<br>cosine %{z:.3f}<extra></extra>", colorbar=colour_bar("cosine"), xgap=1, ygap=1,
    )  # fmt: skip
    figure = square(heat, "emotion", "emotion")
    mean = () if result.forced else (f"mean pairwise cosine {result.mean_pairwise_cosine:.3f}",)
    facts = (
        f"cosine of emotion vectors at layer {result.layer}",
        f"n = {len(order)} emotions",
        *mean,
        "clustered order",
    )
    return titled(figure, _findings.similarity(result), facts, height=560)


def square(heat: go.Heatmap, x: str, y: str) -> go.Figure:
    """A heatmap with square cells, every name readable, first row on top."""
    figure = go.Figure(heat)
    names = max(len(heat.x), len(heat.y))
    ticks = {"size": 10 if names > 12 else 11}
    figure.update_xaxes(title_text=x, showgrid=False, tickangle=-90 if names > 8 else 0, tickfont=ticks, dtick=1)
    figure.update_yaxes(title_text=y, showgrid=False, autorange="reversed", tickfont=ticks, dtick=1)
    figure.update_xaxes(constrain="domain", showline=False, ticks="")
    figure.update_yaxes(scaleanchor="x", constrain="domain", showline=False, ticks="")
    figure.update_xaxes(tickvals=list(heat.x), ticktext=[swatch(name) for name in heat.x])
    figure.update_yaxes(tickvals=list(heat.y), ticktext=[swatch(name) for name in heat.y])
    figure.update_layout(margin={"b": 60})
    return figure


SPACES = {
    "valence and arousal": (BLUE, "circle", "solid"),
    "valence": (GREEN, "square", "dash"),
    "arousal": (ORANGE, "diamond", "dot"),
}


def rsa(result: RSA) -> go.Figure:
    """Correlation of the distances between emotions, every layer of one model with every layer of the other.

    Args:
        result: of `le.rsa`.

    Example:
        >>> figure = le.plots.rsa(result)
    """
    matrix = result.matrix
    p = result.table.pivot(index="layer_a", columns="layer_b", values="p_corrected")
    heat = go.Heatmap(
        z=matrix.to_numpy(), x=list(matrix.columns), y=list(matrix.index), customdata=p.to_numpy(),
        colorscale=DIVERGING, zmin=-1, zmid=0, zmax=1, colorbar=colour_bar("rho"), xgap=1, ygap=1,
        hovertemplate="layer %{y} with layer %{x}<br>rho = %{z:.2f}, p corrected %{customdata:.3f}<extra></extra>",
    )  # fmt: skip
    figure = go.Figure(heat)
    mark = {"symbol": "square-open", "size": 14, "color": ORANGE, "line": {"width": 2.4}}
    chosen = f"the layers asked for ({result.layer_a}, {result.layer_b})"
    place = {"x": [result.layer_b], "y": [result.layer_a]}
    figure.add_trace(go.Scatter(**place, mode="markers", marker=mark, name=chosen, hoverinfo="skip"))
    figure.update_xaxes(title_text=f"layer of {plain(result.model_b)}", showgrid=False, constrain="domain", **_whole(
        result.n_layers_b))  # fmt: skip
    figure.update_yaxes(title_text=f"layer of {plain(result.model_a)}", showgrid=False, **_whole(result.n_layers_a))
    ceiling = result.ceiling
    most = ""
    if ceiling is not None:
        most = f"noise ceiling {ceiling.ceiling:.2f}; on different topics {ceiling.disjoint:.2f} of "
        most += f"{ceiling.disjoint_ceiling:.2f} (Mantel {p_words(result.p)})"
    facts = (
        f"n = {len(result.emotions)} emotions, {result.n_permutations:,} relabellings",
        f"rho = {result.rho:.2f}" + (f" (Mantel {p_words(result.p)})" if not most and result.p == result.p else ""),
        most or ("no test: made of the same texts" if result.p != result.p else ""),
    )
    titled(figure, _findings.rsa(result), (f"{result.model_a} and {result.model_b}", *facts), height=540)
    return figure.update_layout(showlegend=True)


def _whole(n: int) -> dict[str, object]:
    """Ticks at whole layers, and no more of them than fit."""
    return {"tickmode": "linear", "tick0": 0, "dtick": 1 + (n - 1) // 12, "range": [-0.5, n - 0.5]}


def rsa_many(result: RSAMatrix) -> go.Figure:
    """Correlation of every two models, with its q and, where known, the noise ceiling and the value on other topics.

    Args:
        result: of `le.rsa_many`.

    Example:
        >>> figure = le.plots.rsa_many(result)
    """
    names = list(result.names)
    matrix = result.matrix.loc[names, names].to_numpy(dtype=float, copy=True)
    words = [["" for _ in names] for _ in names]
    np.fill_diagonal(matrix, np.nan)
    for row in result.table.to_dict("records"):
        i, j = names.index(row["a"]), names.index(row["b"])
        words[i][j] = words[j][i] = _pair(row)
    heat = go.Heatmap(
        z=matrix, x=[plain(n) for n in names], y=[plain(n) for n in names], text=words, texttemplate="%{text}",
        textfont={"size": 11, "color": TILE_INK}, colorscale=TILES_BOTH, zmin=-1, zmid=0, zmax=1, xgap=2, ygap=2,
        colorbar=colour_bar("rho"), hovertemplate="%{y} and %{x}<br>%{text}<extra></extra>", hoverongaps=False,
    )  # fmt: skip
    figure = go.Figure(heat)
    figure.update_xaxes(title_text="model", showgrid=False, showline=False, ticks="", constrain="domain")
    figure.update_yaxes(title_text="model", showgrid=False, showline=False, ticks="", autorange="reversed")
    layers = dict(zip(result.table["a"], result.table["layer_a"], strict=True))
    layers |= dict(zip(result.table["b"], result.table["layer_b"], strict=True))
    at = "; ".join(f"{name} {int(layers[name])}" for name in names)
    facts = (
        f"n = {span(result.table['n_emotions'])} emotions, {result.n_permutations:,} relabellings",
        "large: rho; below: its noise ceiling, and rho on different topics",
        "q: Mantel on different topics, over pairs; in brackets: q > 0.05 or no test",
        f"layers: {at}",
    )
    titled(figure, _findings.rsa_many(result), facts, height=max(440, 140 + 80 * len(names)))
    return figure.update_layout(margin={"b": 60})


def _pair(row: Mapping[Any, Any]) -> str:
    """rho (in brackets where chance explains it), ceiling and value on other topics, q."""
    rho = f"{row['rho']:.2f}"
    lines = [f"<b>{rho}</b>" if row["q"] <= 0.05 else f"({rho})"]
    if row["ceiling"] == row["ceiling"] or row["disjoint"] == row["disjoint"]:
        lines.append(f"of {row['ceiling']:.2f}; {row['disjoint']:.2f}")
    return "<br>".join([*lines, p_words(row["q"]).replace("p", "q", 1) or "no test"])


def rsa_human(result: HumanRSA) -> go.Figure:
    """Correlation of a model's distances between emotions with those of human ratings, at every layer.

    Args:
        result: of `le.rsa_human`.

    Example:
        >>> figure = le.plots.rsa_human(result)
    """
    figure = go.Figure()
    for space, (colour, symbol, dash) in SPACES.items():
        rows = result.table[result.table["space"] == space]
        if len(rows):
            figure.add_traces(tested_curve(rows, "rho", space, colour, "p_corrected", symbol, dash))
    figure.add_hline(0, line={"color": GREY, "width": 1.2, "dash": "dot"})
    figure.add_vline((result.layer + 1) / result.n_layers, line={"color": ORANGE, "width": 1.4, "dash": "dot"})
    figure.update_yaxes(title_text="rho with human distances (Spearman)")
    depth_axis(figure)
    facts = (
        f"{result.model}, n = {len(result.emotions)} emotions with ratings, {result.n_permutations:,} relabellings",
        f"vertical line: layer {result.layer}",
        f"{SIGNIFICANCE} (Mantel, corrected over layers)",
    )
    return titled(figure, _findings.rsa_human(result), facts, height=420)


def side_effects(result: SideEffects) -> go.Figure:
    """Mean change in every emotion's score against random directions; the target's own change is written in its cell.

    The scale is that of the side effects, so that they can be seen beside targets many times as large.

    Args:
        result: of `DoseResponse.side_effects`.

    Example:
        >>> figure = le.plots.side_effects(steered.side_effects(4.0))
    """
    rows = by_valence([str(e) for e in result.matrix.index])
    columns = [*[e for e in rows if e in result.matrix.columns], *[e for e in result.matrix.columns if e not in rows]]
    matrix = result.matrix.loc[rows, columns]
    on = result.table.pivot(index="steered", columns="judged", values="target").loc[rows, columns].to_numpy(dtype=bool)
    changes = matrix.to_numpy()
    most = max(float(abs(changes[~on]).max(initial=0.0)), 1e-6)
    # one digit fits a cell: .9, 1, -.2
    written = [
        [f"{x:.1f}".replace("0.", ".").removesuffix(".0") if own else "" for x, own in zip(r, o, strict=True)]
        for r, o in zip(changes, on, strict=True)
    ]
    heat = go.Heatmap(
        z=changes, x=[plain(c) for c in columns], y=[plain(r) for r in rows], colorscale=TILES_BOTH, zmin=-most,
        zmid=0, zmax=most, text=written, texttemplate="%{text}", textfont={"size": 9, "color": TILE_INK},
        xgap=1, ygap=1, colorbar=colour_bar("change"),
        hovertemplate="steered to %{y}<br>judged %{x}: %{z:+.3f}<extra></extra>",
    )  # fmt: skip
    figure = square(heat, "judged emotion", "steered towards")
    facts = (
        f"side effects: dose {result.dose:g}, n = {span(result.table['n'])} scenarios per row",
        "against random directions",
        f"targets {result.target:+.3f} ({p_words(result.p_target)})",
        f"others {result.spill:.3f} in absolute value ({p_words(result.p_spill)}, swapped labels to "
        f"{result.null_spill:.3f})",
        "written: the target's own change, off the scale",
    )
    return titled(figure, _findings.side_effects(result), facts, height=580)
