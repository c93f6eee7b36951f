"""Onset of broken text by architecture and scale, in both units of dose."""

from __future__ import annotations

import plotly.graph_objects as go
from pandas import Series
from plotly.subplots import make_subplots

from lens_emotion.plots.contracts_models import ArchitectureTestLike
from lens_emotion.plots.halves import lowered
from lens_emotion.plots.theme import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION, titled
from lens_emotion.plots.words import plain

LOOKS = ((BLUE, "circle"), (VERMILLION, "square"), (GREEN, "diamond"), (ORANGE, "triangle-up"), (PURPLE, "x"),
         (SKY, "cross"))  # fmt: skip
AXES = {"natural": "onset dose, natural units", "relative": "onset dose, relative to E‖h‖"}


def by_architecture(result: ArchitectureTestLike) -> go.Figure:
    """The dose at which text breaks in every model, by size and family, with what either explains."""
    models = result.models
    figure = make_subplots(1, 2, horizontal_spacing=0.1, subplot_titles=[_heading(result, u) for u in AXES])
    for i, (family, rows) in enumerate(models.groupby("family", sort=False)):
        colour, symbol = LOOKS[i % len(LOOKS)]
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
    titled(figure, "Where text breaks, by architecture and size", facts, height=440, wide=True)
    return lowered(figure).update_layout(margin={"t": figure.layout.margin.t + 14})


def _scale(values: Series, title: str) -> dict[str, object]:
    """Logarithmic where the values span a factor of 5, which ticks at 1, 2 and 5 can show."""
    if float(values.max()) < 5 * float(values.min()):
        return {"title_text": title}
    return {"title_text": f"{title} (log)", "type": "log", "dtick": "D2"}


def _heading(result: ArchitectureTestLike, unit: str) -> str:
    """What family and size explain, in two lines."""
    return "<br>".join(
        f"{row['factor']}: {row['verdict']}"
        if row["share"] != row["share"]
        else f"{row['factor']}: {row['share']:.0%} of the variance, {row['null_mean']:.0%} by chance, {row['verdict']}"
        for row in result.table[result.table["unit"] == unit].to_dict("records")
    )
