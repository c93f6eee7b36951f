"""Opposite pairs: do they point apart more than any two emotions do?"""

from __future__ import annotations

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lens_emotion.plots.contracts_more import OppositesLike
from lens_emotion.plots.halves import lowered
from lens_emotion.plots.lines import SIGNIFICANCE, curve, marks, tested_curve
from lens_emotion.plots.theme import BLUE, GREY, VERMILLION, band, depth_axis, titled
from lens_emotion.plots.words import swatch


def opposites(result: OppositesLike) -> go.Figure:
    """Mean cosine of opposite and of other pairs over depth, with relabelled emotions; every pair at one layer."""
    table = result.by_layer
    headings = ("mean over pairs, by layer", f"every opposite pair at layer {result.layer}")
    figure = make_subplots(1, 2, column_widths=[0.56, 0.44], horizontal_spacing=0.2, subplot_titles=headings)
    figure.add_traces(band(table, "null_low", "null_high", "relabelled emotions (95%)"), rows=1, cols=1)
    figure.add_trace(curve(table, "other", f"the other {result.n_others} pairs", VERMILLION, "square", "dash"), 1, 1)
    mine = tested_curve(table, "opposite", f"{len(result.table)} opposite pairs", BLUE, "p_corrected")
    figure.add_traces(mine, rows=1, cols=1)
    depth_axis(figure, 1)
    figure.update_yaxes(title_text="mean cosine", row=1, col=1)
    rows = result.table.sort_values("cosine", ascending=False)
    places = list(range(len(rows)))
    dots = go.Scatter(
        x=rows["cosine"], y=places, mode="markers", name="opposite pair", showlegend=False,
        marker={"color": BLUE, "size": 9, "symbol": marks(rows["p"])}, customdata=rows[["rank", "p"]].to_numpy(),
        hovertemplate="cosine %{x:.2f}, rank %{customdata[0]} of all pairs, p = %{customdata[1]:.3f}<extra></extra>",
    )  # fmt: skip
    figure.add_trace(dots, row=1, col=2)
    names = [f"{swatch(a)} {swatch(b, before=True)}" for a, b in zip(rows["emotion"], rows["opposite"], strict=True)]
    figure.update_yaxes(tickvals=places, ticktext=names, range=[-0.7, len(rows) - 0.3], ticks="", row=1, col=2)
    figure.add_vline(0, line={"color": GREY, "width": 1.2, "dash": "dot"}, row=1, col=2)
    figure.update_xaxes(title_text="cosine", range=[-1.05, 1.05], row=1, col=2)
    facts = (
        f"n = {len(result.table)} opposite pairs, {result.n_permutations:,} relabellings",
        "lower: further apart",
        SIGNIFICANCE,
    )
    return lowered(titled(figure, "Opposite emotions", facts, height=420, wide=True))
