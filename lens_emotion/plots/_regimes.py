"""Regimes of steered text: over layer and dose, by model and dose, and where text breaks by architecture and size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
from pandas import DataFrame, Series
from plotly.subplots import make_subplots

from lens_emotion.plots import _findings
from lens_emotion.plots.theme import (
    BLUE,
    GREEN,
    GREY,
    LINE,
    ORANGE,
    PURPLE,
    REGIME_COLOURS,
    SKY,
    TILE_INK,
    VERMILLION,
    lowered,
    plain,
    span,
    titled,
    wrapped,
)
from lens_emotion.steering.architecture import ArchitectureTest
from lens_emotion.steering.dose_result import DoseResponse
from lens_emotion.steering.regime_map import RegimeMap

REGIME_SCALE = [
    [(i + side) / len(REGIME_COLOURS), colour] for i, colour in enumerate(REGIME_COLOURS.values()) for side in (0, 1)
]
LETTERS = {"inert": "I", "surgical": "S", "repetitive collapse": "R", "explosive": "E"}
PANELS = {"emotion": "emotion vectors", "random": "random directions, same length"}


def regime_map(result: RegimeMap) -> go.Figure:
    """One cell per layer and dose with the regime's colour and letter, and one of its texts on hover.

    Args:
        result: of `le.regime_map`.

    Example:
        >>> figure = le.plots.regime_map(result)
    """
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
    breaks = _onsets(result, layers)
    if len(breaks.x):
        figure.add_trace(breaks, row=1, col=1)
    figure.add_traces(_regime_key(result.table["regime"]))
    _map_axes(figure, result, layers, doses)
    facts = (
        f"{result.model} ({result.millions:,.3g}M parameters, {result.family})",
        f"regimes over layer and dose: n = {span(result.table['n'])} texts per cell",
        "* also loops",
        f"explosive above {result.thresholds.explosive_ratio:.2g} times the expected perplexity",
        f"judge: {result.judge}",
    )
    titled(figure, _findings.regime_map(result), facts, height=max(400, 210 + 26 * len(layers)), wide=True)
    return lowered(figure)


def _regime_key(found: Iterable[str]) -> list[go.Scatter]:
    """Entries of the legend that say what the letters and colours of a map mean, for those that it has."""
    seen = set(found)
    return [
        go.Scatter(
            x=[None], y=[None], mode="markers", name=f"<b>{LETTERS[name]}</b> {name}",
            marker={"symbol": "square", "size": 11, "color": colour, "line": {"width": 1, "color": LINE}},
        )
        for name, colour in REGIME_COLOURS.items()
        if name in seen
    ]  # fmt: skip


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
    return go.Heatmap(
        z=codes, x=list(range(len(doses))), y=list(range(len(layers))), text=letters, texttemplate="%{text}",
        customdata=hovers, hovertemplate="%{customdata}<extra></extra>", textfont={"size": 12, "color": TILE_INK},
        colorscale=REGIME_SCALE, zmin=-0.5, zmax=len(kinds) - 0.5, showscale=False, xgap=2, ygap=2,
    )  # fmt: skip


def _hover(r: Mapping[Any, Any], sample: Mapping[Any, Any] | None) -> str:
    """The numbers of a cell, and the first of its texts."""
    head = (
        f"layer {r['layer']} (depth {r['depth']:.2f}), dose {r['dose_natural']:.3g} natural = "
        f"{r['dose_relative']:.2g} relative<br><b>{r['regime']}</b>{' (loops)' * bool(r['looping'])}: success "
        f"{r['success_rate']:.2f} [{r['success_low']:.2f}, {r['success_high']:.2f}], random {r['control_rate']:.2f}"
        f"<br>perplexity ratio {r['perplexity_ratio']:.3g}, "
        f"surprise {r['surprise']:.3g}, distinct-2 {r['distinct_2']:.2f}, "
        f"loop share {r['loop_share']:.2f}, n = {r['n']}"
    )
    if sample is None:
        return head
    return f"{head}<br><br><i>{plain(sample['emotion'])}:</i> {wrapped(str(sample['prompt']) + str(sample['text']))}"


def _onsets(result: RegimeMap, layers: list[int]) -> go.Scatter:
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


def _map_axes(figure: go.Figure, result: RegimeMap, layers: list[int], doses: list[float]) -> None:
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


FAMILY_LOOKS = ((BLUE, "circle"), (VERMILLION, "square"), (GREEN, "diamond"), (ORANGE, "triangle-up"), (PURPLE, "x"),
         (SKY, "cross"))  # fmt: skip
AXES = {"natural": "onset dose, natural units", "relative": "onset dose, relative to E‖h‖"}


def by_architecture(result: ArchitectureTest) -> go.Figure:
    """The dose at which text breaks in every model, by size and family, with what either explains.

    Args:
        result: of `le.by_architecture`.

    Example:
        >>> figure = le.plots.by_architecture(result)
    """
    models = result.models
    figure = make_subplots(1, 2, horizontal_spacing=0.1, subplot_titles=[_heading(result, u) for u in AXES])
    for i, (family, rows) in enumerate(models.groupby("family", sort=False)):
        colour, symbol = FAMILY_LOOKS[i % len(FAMILY_LOOKS)]
        for col, unit in enumerate(AXES, 1):
            points = go.Scatter(
                x=rows["size"], y=rows[f"onset_{unit}"], mode="markers", name=plain(family), legendgroup=str(family),
                showlegend=col == 1, marker={"color": colour, "symbol": symbol, "size": 10},
                customdata=[plain(m) for m in rows["model"]],
                hovertemplate="%{customdata}<br>%{x:.3g}, breaks at %{y:.3g}<extra>" + plain(family) + "</extra>",
            )  # fmt: skip
            figure.add_trace(points, row=1, col=col)
    for col, unit in enumerate(AXES, 1):
        figure.update_xaxes(**_scale(models["size"], "size, millions of parameters"), row=1, col=col)
        figure.update_yaxes(**_scale(models[f"onset_{unit}"], AXES[unit]), row=1, col=col)
    ratio = result.variance_ratio
    units = (
        "too few models to compare the units"
        if ratio != ratio
        else f"variance of log onset, natural over relative: {ratio:.2f} [{result.low:.2f}, {result.high:.2f}]"
    )
    facts = (f"n = {len(models)} models with an onset", units)
    titled(figure, _findings.by_architecture(result), facts, height=440, wide=True)
    return lowered(figure).update_layout(margin={"t": figure.layout.margin.t + 14})


def _scale(values: Series, title: str) -> dict[str, object]:
    """Logarithmic where the values span a factor of 5, which ticks at 1, 2 and 5 can show."""
    if float(values.max()) < 5 * float(values.min()):
        return {"title_text": title}
    return {"title_text": f"{title} (log)", "type": "log", "dtick": "D2"}


def _heading(result: ArchitectureTest, unit: str) -> str:
    """What family and size explain, in two lines."""
    return "<br>".join(
        f"{row['factor']}: {row['verdict']}"
        if row["share"] != row["share"]
        else f"{row['factor']}: {row['share']:.0%} of the variance, {row['null_mean']:.0%} by chance, {row['verdict']}"
        for row in result.table[result.table["unit"] == unit].to_dict("records")
    )


def regimes(results: Mapping[str, DoseResponse]) -> go.Figure:
    """One cell per model and dose: the regime's colour and letter, the perplexity ratio; beside random directions.

    Args:
        results: model -> its dose-response experiment; doses in natural units.

    Example:
        >>> figure = le.plots.regimes({"tiny-llama": steered})
    """
    doses = sorted({float(d) for r in results.values() for d in r.table["dose"]})
    models = list(results)[::-1]
    headings = list(PANELS.values())
    figure = make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=headings)
    for col, condition in enumerate(PANELS, 1):
        figure.add_trace(_cells(results, models, doses, condition), row=1, col=col)
    figure.add_traces(_regime_key(regime for r in results.values() for regime in r.table["regime"]))
    figure.update_xaxes(tickvals=list(range(len(doses))), ticktext=[f"{d:g}" for d in doses], showgrid=False)
    figure.update_xaxes(showline=False, ticks="", title_text="dose, natural units")
    ticks = [f"{plain(m)}, layer {results[m].layer}" for m in models]
    figure.update_yaxes(tickvals=list(range(len(models))), ticktext=ticks, showgrid=False, showline=False, ticks="")
    facts = (
        f"n = {span(x for r in results.values() for x in r.table['n'])} texts per cell",
        "number: perplexity ratio (1 = unsteered)",
        "* also loops",
        "blank: dose not run",
    )
    return lowered(titled(figure, _findings.regimes(results), facts, max(300, 180 + 46 * len(models)), wide=True))


def _cells(results: Mapping[str, DoseResponse], models: list[str], doses: list[float], condition: str) -> go.Heatmap:
    kinds = list(REGIME_COLOURS)
    codes, words = [], []
    for model in models:
        table = results[model].table
        rows = table[table["condition"] == condition].to_dict("records")
        found = {float(r["dose"]): r for r in rows}
        codes.append([kinds.index(str(found[d]["regime"])) if d in found else None for d in doses])
        ratios = {d: float(r["perplexity_ratio"]) for d, r in found.items()}
        numbers = {d: f"{ratio:.1f}" if ratio < 100 else f"{ratio:,.0f}" for d, ratio in ratios.items()}
        letters = {d: LETTERS[str(r["regime"])] + "*" * bool(r["looping"]) for d, r in found.items()}
        words.append([f"<b>{letters[d]}</b><br>{numbers[d]}" if d in found else "" for d in doses])
    return go.Heatmap(
        z=codes, x=list(range(len(doses))), y=list(range(len(models))), text=words, texttemplate="%{text}",
        textfont={"size": 11, "color": TILE_INK}, colorscale=REGIME_SCALE, zmin=-0.5, zmax=len(kinds) - 0.5,
        showscale=False, xgap=2, ygap=2, hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip
