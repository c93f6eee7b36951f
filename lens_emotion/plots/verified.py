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
                figure.add_traces(_points(rows, models, look, col == 1), rows=1, cols=col)
    figure.update_xaxes(title_text="share of scenarios", range=[-0.03, 1.4], tickvals=[0, 0.25, 0.5, 0.75, 1])
    figure.update_yaxes(
        tickvals=list(range(len(models))), ticktext=[plain(m) for m in models],
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


def _points(
    rows: DataFrame, models: list[str], look: tuple[str, str, str, float], first: bool
) -> tuple[go.Scatter, go.Scatter]:
    """Shares with their intervals, and k/n behind each interval."""
    name, colour, symbol, shift = look
    places = [models.index(m) + shift for m in rows["model"]]
    points = go.Scatter(
        x=rows["rate"], y=places, name=name, legendgroup=name, showlegend=first, mode="markers",
        marker={"color": colour, "symbol": symbol, "size": 8}, error_x=bars(rows, "rate") | {"color": colour},
        cliponaxis=False, customdata=rows[["k", "n", "low", "high", "dose"]].to_numpy(),
        hovertemplate="%{customdata[0]}/%{customdata[1]} = %{x:.2f} [%{customdata[2]:.2f}, %{customdata[3]:.2f}], dose "
        f"%{{customdata[4]}}<extra>{name}</extra>",
    )  # fmt: skip
    counts = [f"\u00a0\u00a0\u00a0{k}/{n}" for k, n in zip(rows["k"], rows["n"], strict=True)]
    if shift == max(height for *_, height in LOOKS.values()):
        counts = [f"{count}, dose {dose}" for count, dose in zip(counts, rows["dose"], strict=True)]
    words = go.Scatter(
        x=rows["high"], y=places, mode="text", text=counts, textposition="middle right", textfont={"size": 10},
        showlegend=False, legendgroup=name, hoverinfo="skip", cliponaxis=False,
    )  # fmt: skip
    return points, words
