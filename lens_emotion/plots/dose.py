"""Dose and response: success, damage and regime of a steering vector, always beside a random direction."""

from __future__ import annotations

import plotly.graph_objects as go
from pandas import DataFrame
from plotly.subplots import make_subplots

from lens_emotion.plots.contracts import DoseResponseLike
from lens_emotion.plots.theme import BLUE, GREEN, GREY, REGIME_COLOURS, titled

STYLES = {
    "emotion": ("emotion vector", BLUE, "circle", "solid", -0.05),
    "random": ("random direction, same norm", GREY, "square", "dash", 0.05),
}
SHORT = {"repetitive collapse": "repetitive"}


def dose_response(result: DoseResponseLike) -> go.Figure:
    """Success rate with Wilson intervals, perplexity ratio on a log axis, and the regime, for every dose tried.

    Doses stand side by side at equal steps, in natural units, with the relative unit below in brackets.
    """
    table = result.table
    doses = sorted(float(dose) for dose in table["dose"].unique())
    place = {dose: position for position, dose in enumerate(doses)}
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.05, row_heights=[0.44, 0.38, 0.18])
    for condition, style in STYLES.items():
        rows = table[table["condition"] == condition].sort_values("dose")
        figure.add_trace(_success(rows, place, style), row=1, col=1)
        figure.add_trace(_perplexity(rows, place, style), row=2, col=1)
    figure.add_trace(_regimes(table, doses), row=3, col=1)
    figure.add_hline(1, line={"color": GREY, "width": 1.2, "dash": "dot"}, row=2, col=1)
    _mark_surgical(figure, result, place)
    _axes(figure, table, doses)
    titled(figure, "Dose and response", _facts(result), height=620)
    return figure


def _facts(result: DoseResponseLike) -> tuple[str, str, str]:
    """Layer, n per point, and the judge with its measured accuracy."""
    per_point = sorted({int(n) for n in result.table["n"]})
    n = f"{per_point[0]}" if len(per_point) == 1 else f"{per_point[0]} to {per_point[-1]}"
    layer = f"layer {result.layer}" if isinstance(result.layer, int) else f"layers: {result.layer}"
    judge = f"judge: {result.judge}"
    if "accuracy" not in result.judge:
        measured = result.judge_accuracy
        judge += ", accuracy not measured" if measured is None else f", accuracy {measured:.2f}"
    return layer, f"n = {n} texts per point, bars: 95% Wilson", judge


def _success(rows: DataFrame, place: dict[float, int], style: tuple[str, str, str, str, float]) -> go.Scatter:
    name, colour, symbol, dash, shift = style
    bars = {"type": "data", "symmetric": False, "thickness": 1.3, "width": 4,
            "array": rows["success_high"] - rows["success_rate"],
            "arrayminus": rows["success_rate"] - rows["success_low"]}  # fmt: skip
    return go.Scatter(
        x=[place[d] + shift for d in rows["dose"]], y=rows["success_rate"], error_y=bars, name=name, legendgroup=name,
        mode="lines+markers", line={"color": colour, "dash": dash, "width": 1.8},
        marker={"color": colour, "symbol": symbol, "size": 7},
        customdata=rows[["dose", "n", "success_low", "success_high"]].to_numpy(),
        hovertemplate="dose %{customdata[0]:g}, n = %{customdata[1]}<br>success %{y:.2f} "
        f"[%{{customdata[2]:.2f}}, %{{customdata[3]:.2f}}]<extra>{name}</extra>",
    )  # fmt: skip


def _perplexity(rows: DataFrame, place: dict[float, int], style: tuple[str, str, str, str, float]) -> go.Scatter:
    name, colour, symbol, dash, shift = style
    return go.Scatter(
        x=[place[d] + shift for d in rows["dose"]], y=rows["perplexity_ratio"], name=name, legendgroup=name,
        showlegend=False, mode="lines+markers", line={"color": colour, "dash": dash, "width": 1.8},
        marker={"color": colour, "symbol": symbol, "size": 7},
        customdata=rows[["dose", "distinct_2", "loop_share", "regime"]].to_numpy(),
        hovertemplate="dose %{customdata[0]:g}: %{customdata[3]}<br>perplexity ratio %{y:.2f}<br>distinct-2 "
        f"%{{customdata[1]:.2f}}, loop share %{{customdata[2]:.2f}}<extra>{name}</extra>",
    )  # fmt: skip


def _regimes(table: DataFrame, doses: list[float]) -> go.Heatmap:
    """A strip of coloured, worded cells: one row per condition, one cell per dose."""
    kinds = list(REGIME_COLOURS)
    keys = zip(table["condition"], table["dose"].astype(float), strict=True)
    found = dict(zip(keys, table["regime"].astype(str), strict=True))
    conditions = [c for c in ("random", "emotion") if (table["condition"] == c).any()]
    words = [[found.get((condition, dose), "") for dose in doses] for condition in conditions]
    codes = [[kinds.index(word) if word in kinds else None for word in row] for row in words]
    short = [[SHORT.get(word, word) for word in row] for row in words]
    steps = [[(i + side) / len(kinds), colour] for i, colour in enumerate(REGIME_COLOURS.values()) for side in (0, 1)]
    return go.Heatmap(
        z=codes, x=list(range(len(doses))), y=conditions, text=short, texttemplate="%{text}", customdata=words,
        textfont={"size": 10, "color": "#1b1d21"}, colorscale=steps, zmin=-0.5, zmax=len(kinds) - 0.5, showscale=False,
        xgap=2, ygap=2, hovertemplate="%{y}: %{customdata}<extra></extra>",
    )  # fmt: skip


def _mark_surgical(figure: go.Figure, result: DoseResponseLike, place: dict[float, int]) -> None:
    """A line through both panels at the surgical dose, if there is one among the doses tried."""
    dose = result.surgical_dose
    if dose is None or float(dose) not in place:
        return
    name = f"surgical dose {dose:g}"
    figure.add_trace(
        go.Scatter(x=[None], y=[None], mode="lines", line={"color": GREEN, "width": 1.6, "dash": "dot"}, name=name),
        row=1, col=1,
    )  # fmt: skip
    for row in (1, 2):
        figure.add_vline(place[float(dose)], line={"color": GREEN, "width": 1.6, "dash": "dot"}, row=row, col=1)


def _axes(figure: go.Figure, table: DataFrame, doses: list[float]) -> None:
    natural = "dose_natural" if "dose_natural" in table else "dose"
    units = table.groupby("dose")[[natural, "dose_relative"]].first().loc[doses]
    words = [f"{n:.3g}<br>({r:.2g})" for n, r in zip(units[natural], units["dose_relative"], strict=True)]
    title = "dose, natural units (relative to E‖h‖ in brackets)"
    figure.update_xaxes(range=[-0.55, len(doses) - 0.45], tickvals=list(range(len(doses))), showgrid=False)
    figure.update_xaxes(ticktext=words, tickangle=0, title_text=title, row=3, col=1)
    figure.update_yaxes(title_text="success rate<br>(share of texts)", range=[-0.03, 1.03], row=1, col=1)
    ratios = table["perplexity_ratio"]
    ticks = "D2" if ratios.max() < 30 * ratios.min() else 1
    figure.update_yaxes(title_text="perplexity ratio<br>(log, 1 = unsteered)", type="log", dtick=ticks, row=2, col=1)
    figure.update_yaxes(title_text="regime", showgrid=False, showline=False, ticks="", row=3, col=1)
