"""Regimes of several models by dose: one strip per model and condition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lens_emotion.plots.cells import LETTERS, PANELS
from lens_emotion.plots.contracts import DoseResponseLike
from lens_emotion.plots.halves import lowered
from lens_emotion.plots.theme import REGIME_COLOURS, TILE_INK, titled
from lens_emotion.plots.words import plain


def regimes(results: Mapping[str, DoseResponseLike]) -> go.Figure:
    """One cell per model and dose: the regime's colour and letter, the perplexity ratio; beside random directions.

    Args:
        results: model -> its dose-response experiment; doses in natural units.
    """
    doses = sorted({float(d) for r in results.values() for d in r.table["dose"]})
    models = list(results)[::-1]
    headings = list(PANELS.values())
    figure = make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=headings)
    for col, condition in enumerate(PANELS, 1):
        figure.add_trace(_cells(results, models, doses, condition), row=1, col=col)
    for name, colour in REGIME_COLOURS.items():
        key = {"symbol": "square", "size": 11, "color": colour}
        label = f"<b>{LETTERS[name]}</b> {name}"
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", marker=key, name=label))
    figure.update_xaxes(tickvals=list(range(len(doses))), ticktext=[f"{d:g}" for d in doses], showgrid=False)
    figure.update_xaxes(showline=False, ticks="", title_text="dose, natural units")
    ticks = [f"{plain(m)}, layer {results[m].layer}" for m in models]
    figure.update_yaxes(tickvals=list(range(len(models))), ticktext=ticks, showgrid=False, showline=False, ticks="")
    n = sorted({int(x) for r in results.values() for x in r.table["n"]})
    facts = (
        f"n = {n[0] if len(n) == 1 else f'{n[0]} to {n[-1]}'} texts per cell",
        "number: perplexity ratio (1 = unsteered)",
        "* also loops",
        "blank: dose not run",
    )
    return lowered(titled(figure, "Regimes by model and dose", facts, max(300, 180 + 46 * len(models)), wide=True))


def _cells(
    results: Mapping[str, DoseResponseLike], models: list[str], doses: list[float], condition: str
) -> go.Heatmap:
    kinds = list(REGIME_COLOURS)
    codes, words = [], []
    for model in models:
        table = results[model].table
        rows = table[table["condition"] == condition].to_dict("records")
        found = {float(r["dose"]): r for r in rows}
        codes.append([kinds.index(str(found[d]["regime"])) if d in found else None for d in doses])
        words.append([_words(found[d]) if d in found else "" for d in doses])
    steps = [[(i + side) / len(kinds), colour] for i, colour in enumerate(REGIME_COLOURS.values()) for side in (0, 1)]
    return go.Heatmap(
        z=codes, x=list(range(len(doses))), y=list(range(len(models))), text=words, texttemplate="%{text}",
        textfont={"size": 11, "color": TILE_INK}, colorscale=steps, zmin=-0.5, zmax=len(kinds) - 0.5, showscale=False,
        xgap=2, ygap=2, hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip


def _words(row: Mapping[Any, Any]) -> str:
    ratio = float(row["perplexity_ratio"])
    number = f"{ratio:.1f}" if ratio < 100 else f"{ratio:,.0f}"
    return f"<b>{LETTERS[str(row['regime'])]}{'*' * bool(row['looping'])}</b><br>{number}"
