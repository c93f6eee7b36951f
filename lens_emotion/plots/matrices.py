"""Square figures: who was taken for whom (confusion) and which vectors lie close together (similarity)."""

from __future__ import annotations

import plotly.graph_objects as go

from lens_emotion.plots.contracts import DecodingLike, SimilarityLike
from lens_emotion.plots.theme import DIVERGING, SEQUENTIAL, counted, titled
from lens_emotion.plots.words import by_valence, swatch


def confusion(result: DecodingLike) -> go.Figure:
    """Counts of true emotion (rows) against predicted emotion (columns), ordered from unpleasant to pleasant."""
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
    facts = (f"layer {result.best_layer}", counted(result, "texts"), scored, "ordered by human valence")
    return titled(figure, "Confusion, held-out texts", facts, height=560)


def similarity(result: SimilarityLike) -> go.Figure:
    """Cosine between every two emotion vectors at one layer, in clustered order, on a scale centred at 0."""
    order = list(result.order)
    matrix = result.matrix.loc[order, order]
    heat = go.Heatmap(
        z=matrix.to_numpy(), x=order, y=order, colorscale=DIVERGING, zmin=-1, zmax=1, zmid=0,
        hovertemplate="%{y} and %{x}<br>cosine %{z:.3f}<extra></extra>", colorbar=colour_bar("cosine"), xgap=1, ygap=1,
    )  # fmt: skip
    figure = square(heat, "emotion", "emotion")
    mean = f"mean pairwise cosine {result.mean_pairwise_cosine:.3f}"
    facts = (f"layer {result.layer}", f"n = {len(order)} emotions", mean, "clustered order")
    return titled(figure, "Similarity of emotion vectors", facts, height=560)


def colour_bar(title: str) -> dict[str, object]:
    """A thin colour bar with its unit."""
    words = {"text": title, "side": "top", "font": {"size": 12}}
    return {"title": words, "tickfont": {"size": 10}, "thickness": 10, "outlinewidth": 0, "len": 0.9, "ypad": 0}


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
