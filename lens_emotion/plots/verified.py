"""Steering as an outside judge sees it: k of n scenarios with Wilson intervals, beside random directions."""

from __future__ import annotations

import plotly.graph_objects as go
from pandas import DataFrame
from plotly.subplots import make_subplots

from lens_emotion.plots.contracts import HasTable
from lens_emotion.plots.halves import lowered
from lens_emotion.plots.lines import bars
from lens_emotion.plots.theme import BLUE, GREY, ORANGE, titled
from lens_emotion.plots.words import plain

LOOKS = {
    "emotion": ("emotion vector", BLUE, "circle", 0.22),
    "random": ("random direction, same length", GREY, "square", 0.0),
    "other": ("another emotion's vector", ORANGE, "triangle-up", -0.22),
}


def verification(result: HasTable) -> go.Figure:
    """One panel per form of success, one row per model: share of scenarios, its interval and k/n."""
    table = result.table
    forms = list(dict.fromkeys(table["form"]))
    models = list(dict.fromkeys(table["model"]))[::-1]
    figure = make_subplots(
        1, len(forms), shared_yaxes=True, horizontal_spacing=0.05, subplot_titles=[plain(f) for f in forms]
    )
    for col, form in enumerate(forms, 1):
        for condition, look in LOOKS.items():
            rows = table[(table["form"] == form) & (table["condition"] == condition)]
            if len(rows):
                figure.add_trace(_points(rows, models, look, col == 1), row=1, col=col)
    figure.update_xaxes(title_text="share of scenarios", range=[-0.03, 1.16], tickvals=[0, 0.25, 0.5, 0.75, 1])
    figure.update_yaxes(
        tickvals=list(range(len(models))), ticktext=[_model(table, m) for m in models],
        range=[-0.6, len(models) - 0.4], showgrid=False, ticks="",
    )  # fmt: skip
    n = sorted({int(x) for x in table["n"]})
    facts = (
        f"n = {n[0] if len(n) == 1 else f'{n[0]} to {n[-1]}'} scenarios per model",
        "bars: 95% Wilson",
        *(f"judge: {j}" for j in dict.fromkeys(table["judge"])),
        f"guessing: {table['chance'].iloc[0]:.2f}",
    )
    titled(figure, "Steering, verified by a judge", facts, height=max(300, 190 + 64 * len(models)), wide=True)
    return lowered(figure)


def _points(rows: DataFrame, models: list[str], look: tuple[str, str, str, float], first: bool) -> go.Scatter:
    name, colour, symbol, shift = look
    return go.Scatter(
        x=rows["rate"], y=[models.index(m) + shift for m in rows["model"]], name=name, legendgroup=name,
        showlegend=first, mode="markers+text", marker={"color": colour, "symbol": symbol, "size": 8},
        error_x=bars(rows, "rate") | {"color": colour},
        text=[f"{k}/{n}" for k, n in zip(rows["k"], rows["n"], strict=True)], textposition="top center",
        textfont={"size": 10}, cliponaxis=False, customdata=rows[["low", "high", "dose"]].to_numpy(),
        hovertemplate="%{text} = %{x:.2f} [%{customdata[0]:.2f}, %{customdata[1]:.2f}], dose %{customdata[2]}"
        f"<extra>{name}</extra>",
    )  # fmt: skip


def _model(table: DataFrame, model: str) -> str:
    """The model, and the doses (of one form, then of the other)."""
    doses = dict.fromkeys(f"{d}" for d in table.loc[table["model"] == model, "dose"])
    return f"{plain(model)}<br><i>dose {'; '.join(doses)}</i>"
