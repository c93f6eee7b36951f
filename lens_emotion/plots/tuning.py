"""Base against instruct: what instruction tuning changed, layer by layer."""

from __future__ import annotations

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lens_emotion.plots.contracts_models import BaseVsInstructLike
from lens_emotion.plots.lines import SIGNIFICANCE, bars, curve, tested_curve
from lens_emotion.plots.theme import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILLION, depth_axis, titled
from lens_emotion.plots.words import plain


def base_vs_instruct(result: BaseVsInstructLike) -> go.Figure:
    """Likeness of the vectors, held-out accuracy of both models, and its change with an interval."""
    table = result.table
    figure = make_subplots(3, 1, shared_xaxes=True, vertical_spacing=0.06)
    if table["cosine"].notna().any():
        figure.add_trace(curve(table, "cosine_null", "relabelled emotions, 95th percentile", GREY, "x", "dot"), 1, 1)
        own = tested_curve(table, "cosine", "cosine with its own vector", BLUE, "cosine_p_corrected")
        figure.add_traces(own, rows=1, cols=1)
    alike = tested_curve(table, "rho", "rho of the distances (RSA)", PURPLE, "rho_p_corrected", "diamond", "dash")
    figure.add_traces(alike, rows=1, cols=1)
    figure.add_trace(curve(table, "accuracy_base", f"base: {plain(result.base)}", VERMILLION, "square"), row=2, col=1)
    figure.add_trace(
        curve(table, "accuracy_instruct", f"instruct: {plain(result.instruct)}", GREEN, "circle"), row=2, col=1
    )
    change = curve(table, "difference", "instruct less base", ORANGE, "triangle-up")
    change.error_y = bars(table, "difference") | {"color": ORANGE}
    figure.add_trace(change, row=3, col=1)
    figure.add_hline(0, line={"color": GREY, "width": 1.2, "dash": "dot"}, row=3, col=1)
    for row, title in enumerate(("likeness", "held-out<br>accuracy", "change in<br>accuracy"), 1):
        figure.update_yaxes(title_text=title, row=row, col=1)
        depth_axis(figure, row, title=row == 3)
    counts = f"n = {len(result.emotions)} emotions, {len(result.topics)} topics, {result.n_permutations:,} relabellings"
    facts = (counts, "bars: 95% over topics, paired", SIGNIFICANCE)
    return titled(figure, f"Base and instruct: {result.base}, {result.instruct}", facts, height=640)
