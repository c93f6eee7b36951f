"""Regimes over layer and dose: a map of the emotion vectors beside the same map of random directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
from pandas import DataFrame
from plotly.subplots import make_subplots

from lens_emotion.plots.contracts_steering import RegimeMapLike
from lens_emotion.plots.halves import lowered
from lens_emotion.plots.theme import GREY, REGIME_COLOURS, TILE_INK, titled
from lens_emotion.plots.words import plain, wrapped

LETTERS = {"inert": "I", "surgical": "S", "repetitive collapse": "R", "explosive": "E"}
PANELS = {"emotion": "emotion vectors", "random": "random directions, same length"}


def regime_map(result: RegimeMapLike) -> go.Figure:
    """One cell per layer and dose with the regime's colour and letter, and one of its texts on hover."""
    conditions = [c for c in PANELS if (result.table["condition"] == c).any()]
    doses = sorted(float(d) for d in result.table["dose"].unique())
    layers = sorted(int(x) for x in result.table["layer"].unique())
    figure = make_subplots(
        1, len(conditions), shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=[PANELS[c] for c in conditions]
    )
    for col, condition in enumerate(conditions, 1):
        rows = result.table[result.table["condition"] == condition]
        texts = result.texts[result.texts["condition"] == condition]
        figure.add_trace(_map(rows, texts, layers, doses), row=1, col=col)
    figure.add_trace(_onsets(result, layers), row=1, col=1)
    for name, colour in REGIME_COLOURS.items():
        key = {"symbol": "square", "size": 11, "color": colour}
        label = f"<b>{LETTERS[name]}</b> {name}"
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", marker=key, name=label))
    _axes(figure, result, layers, doses)
    n = sorted({int(x) for x in result.table["n"]})
    facts = (
        f"{result.model} ({result.millions:,.3g}M parameters, {result.family})",
        f"n = {n[0]} texts per cell" if len(n) == 1 else f"n = {n[0]} to {n[-1]} texts per cell",
        "* also loops",
        f"explosive above a perplexity ratio of {result.thresholds.explosive_ratio:.2g}",
        f"judge: {result.judge}",
    )
    titled(figure, "Regimes over layer and dose", facts, height=max(400, 210 + 26 * len(layers)), wide=True)
    return lowered(figure)


def _map(rows: DataFrame, texts: DataFrame, layers: list[int], doses: list[float]) -> go.Heatmap:
    kinds = list(REGIME_COLOURS)
    cells = {(int(r["layer"]), float(r["dose"])): r for r in rows.to_dict("records")}
    first = texts.drop_duplicates(["layer", "dose"]).to_dict("records")
    samples = {(int(r["layer"]), float(r["dose"])): r for r in first}
    codes, letters, hovers = [], [], []
    for layer in layers:
        found = [cells.get((layer, dose)) for dose in doses]
        codes.append([None if r is None else kinds.index(str(r["regime"])) for r in found])
        letters.append(["" if r is None else LETTERS[str(r["regime"])] + "*" * bool(r["looping"]) for r in found])
        shown = zip(found, [samples.get((layer, dose)) for dose in doses], strict=True)
        hovers.append(["" if r is None else _hover(r, sample) for r, sample in shown])
    steps = [[(i + side) / len(kinds), colour] for i, colour in enumerate(REGIME_COLOURS.values()) for side in (0, 1)]
    return go.Heatmap(
        z=codes, x=list(range(len(doses))), y=list(range(len(layers))), text=letters, texttemplate="%{text}",
        customdata=hovers, hovertemplate="%{customdata}<extra></extra>", textfont={"size": 12, "color": TILE_INK},
        colorscale=steps, zmin=-0.5, zmax=len(kinds) - 0.5, showscale=False, xgap=2, ygap=2,
    )  # fmt: skip


def _hover(r: Mapping[Any, Any], sample: Mapping[Any, Any] | None) -> str:
    """The numbers of a cell, and the first of its texts."""
    head = (
        f"layer {r['layer']} (depth {r['depth']:.2f}), dose {r['dose_natural']:.3g} natural = "
        f"{r['dose_relative']:.2g} relative<br><b>{r['regime']}</b>{' (loops)' * bool(r['looping'])}: success "
        f"{r['success_rate']:.2f} [{r['success_low']:.2f}, {r['success_high']:.2f}], random {r['control_rate']:.2f}"
        f"<br>perplexity ratio {r['perplexity_ratio']:.3g}, distinct-2 {r['distinct_2']:.2f}, loop share "
        f"{r['loop_share']:.2f}, n = {r['n']}"
    )
    if sample is None:
        return head
    return f"{head}<br><br><i>{plain(sample['emotion'])}:</i> {wrapped(str(sample['prompt']) + str(sample['text']))}"


def _onsets(result: RegimeMapLike, layers: list[int]) -> go.Scatter:
    """A small mark in every row at the dose where text breaks, between the doses that were run."""
    mine = result.table[result.table["condition"] == "emotion"]
    rows = result.onsets[result.onsets["onset_natural"].notna()]
    x, words = [], []
    for layer, natural, relative in zip(rows["layer"], rows["onset_natural"], rows["onset_relative"], strict=True):
        doses = np.sort(mine.loc[mine["layer"] == layer, "dose_natural"].to_numpy(dtype=float))
        x.append(float(np.interp(np.log(natural), np.log(doses), np.arange(len(doses)))))
        words.append(f"layer {layer}: text breaks at {natural:.3g} natural = {relative:.2g} relative")
    edge = {"color": GREY, "width": 1}  # the key lies on the page, which may be as dark as the mark
    mark = {"symbol": "triangle-up", "size": 9, "color": TILE_INK, "line": edge}
    return go.Scatter(
        x=x, y=[layers.index(int(layer)) - 0.38 for layer in rows["layer"]], mode="markers", marker=mark,
        name="text breaks (interpolated)", text=words, hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip


def _axes(figure: go.Figure, result: RegimeMapLike, layers: list[int], doses: list[float]) -> None:
    mine = result.table[result.table["condition"] == "emotion"]
    middle = layers[len(layers) // 2]
    units = mine[mine["layer"] == middle].sort_values("dose")
    words = [f"{n:.3g}<br>({r:.2g})" for n, r in zip(units["dose_natural"], units["dose_relative"], strict=True)]
    title = f"dose, natural units (relative to E‖h‖ at layer {middle})"
    figure.update_xaxes(tickvals=list(range(len(doses))), ticktext=words, tickangle=0, title_text=title)
    figure.update_xaxes(showgrid=False, showline=False, ticks="")
    depth = dict(zip(mine["layer"], mine["depth"], strict=True))
    named = [f"{layer} ({depth[layer]:.2f})" for layer in layers]
    # with many layers every other one is named, or fewer, so that names stay apart
    step = 1 + (len(layers) - 1) // 24
    figure.update_yaxes(tickvals=list(range(0, len(layers), step)), ticktext=named[::step], showgrid=False)
    figure.update_yaxes(showline=False, ticks="")
    figure.update_yaxes(title_text="layer (depth)", row=1, col=1)
