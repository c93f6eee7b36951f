"""Two methods over models: every model is one pair of dots."""

from __future__ import annotations

import plotly.graph_objects as go
from pandas import DataFrame
from plotly.subplots import make_subplots

from lens_emotion.plots.contracts_models import ModelComparisonLike
from lens_emotion.plots.halves import lowered
from lens_emotion.plots.paired import RANK_SUM, SIGN_FLIPS, test_row
from lens_emotion.plots.theme import BLUE, GREY, LINE, VERMILLION, titled
from lens_emotion.plots.words import p_words, plain

PLACES = ("middle", "best")
GAP = 122  # pixels between panels: an axis title and a heading of three lines
MEASURES = {"accuracy": "accuracy", "mean cosine": "cosine"}


def compare_models(result: ModelComparisonLike, name_a: str = "a", name_b: str = "b") -> go.Figure:
    """Held-out accuracy and mean cosine of both methods in every model, at the middle and at the best layer.

    Args:
        name_a, name_b: what the two methods are called; the result does not keep their names.
    """
    measures = [m for m in MEASURES if (result.tests["measure"] == m).any()]
    panels = [(m, p) for m in measures for p in PLACES if _known(result, m, p)]
    models = list(dict.fromkeys(result.table["model"]))[::-1]
    columns = len(PLACES)
    height = max(400, 170 + len(measures) * (180 + 24 * len(models)))
    figure = make_subplots(
        len(measures), columns, shared_yaxes=True, horizontal_spacing=0.05, vertical_spacing=GAP / (height - 222),
        subplot_titles=[_heading(result, m, p) for m, p in panels],
    )  # fmt: skip
    for i, (measure, place) in enumerate(panels):
        where = {"row": i // columns + 1, "col": i % columns + 1}
        at = result.table[result.table["place"] == place].set_index("model").loc[models]
        _pair_of_dots(figure, at, MEASURES[measure], (plain(name_a), plain(name_b)), where, i == 0)
        unit = "held-out accuracy" if measure == "accuracy" else "mean pairwise cosine (lower: apart, or noisier)"
        figure.update_xaxes(title_text=unit, **where)
        if measure == "accuracy":
            figure.update_xaxes(rangemode="tozero", **where)
            chance = float(at["chance"].iloc[0])
            figure.add_vline(chance, line={"color": GREY, "width": 1.4, "dash": "dash"}, **where)
    figure.update_yaxes(
        tickvals=list(range(len(models))), ticktext=[plain(m) for m in models], range=[-0.6, len(models) - 0.4],
        showgrid=False, ticks="",
    )  # fmt: skip
    facts = (
        f"n = {len(models)} models, each one pair",
        "brackets: 95% over models",
        "dashed: chance",
        "d and the unpaired p are the paper's form",
    )
    titled(figure, f"Methods compared over models: {name_a} against {name_b}", facts, height, wide=True)
    return lowered(figure).update_layout(margin={"t": figure.layout.margin.t + 34})


def _known(result: ModelComparisonLike, measure: str, place: str) -> bool:
    return bool(((result.tests["measure"] == measure) & (result.tests["place"] == place)).any())


def _heading(result: ModelComparisonLike, measure: str, place: str) -> str:
    paired, theirs = (test_row(result.tests, test, measure=measure, place=place) for test in (SIGN_FLIPS, RANK_SUM))
    return (
        f"{measure}, {place} layer<br>difference {paired.difference:+.2f} [{paired.low:+.2f}, {paired.high:+.2f}], "
        f"paired {p_words(paired.p)}<br>unpaired {p_words(theirs.p)}, d = {theirs.d:.2f}"
    )


def _pair_of_dots(
    figure: go.Figure, rows: DataFrame, column: str, names: tuple[str, str], where: dict[str, int], first: bool
) -> None:
    places = list(range(len(rows)))
    a, b = rows[f"{column}_a"], rows[f"{column}_b"]
    x = [value for pair in zip(a, b, strict=True) for value in (*pair, None)]
    y = [value for place in places for value in (place, place, None)]
    line = {"color": LINE, "width": 1.6}
    figure.add_trace(go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False), **where)
    looks = zip((a, b), names, (BLUE, VERMILLION), ("circle", "square"), strict=True)
    for values, name, colour, symbol in looks:
        dots = go.Scatter(
            x=values, y=places, mode="markers", name=name, legendgroup=symbol, showlegend=first,
            marker={"color": colour, "symbol": symbol, "size": 8}, customdata=rows[["layer", "depth"]].to_numpy(),
            hovertemplate="layer %{customdata[0]} (depth %{customdata[1]:.2f}): %{x:.3f}<extra>" + name + "</extra>",
        )  # fmt: skip
        figure.add_trace(dots, **where)
