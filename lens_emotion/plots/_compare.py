"""Two methods of reading emotion off one model, paired: by layer, by emotion and topic, and over models."""

from __future__ import annotations

import plotly.graph_objects as go
from pandas import DataFrame, Series
from plotly.subplots import make_subplots

from lens_emotion.analysis.compare import Comparison, ModelComparison
from lens_emotion.display import said
from lens_emotion.plots import _findings
from lens_emotion.plots._curves import SIGNIFICANCE, bars, chance_line, curve, tested_curve, within, zero_line
from lens_emotion.plots.theme import (
    BLUE,
    GREEN,
    GREY,
    LINE,
    VERMILLION,
    by_valence,
    depth_axis,
    lowered,
    p_words,
    plain,
    swatch,
    titled,
)

UNITS = {
    "decoding": "held-out<br>accuracy",
    "separation": "mean pairwise<br>cosine",
    "reliability": "split-half<br>reliability",
}
SIGN_FLIPS, RANK_SUM = "sign flips", "Mann-Whitney"  # how the names of the paired and of the paper's test begin
SHORT = {"decoding": "held-out accuracy", "separation": "mean cosine", "reliability": "reliability"}


def compare(result: Comparison) -> go.Figure:
    """Both methods and their difference at every layer; beside it every emotion (and topic) as a pair of dots.

    Where the metric is not held-out accuracy, accuracy stands below it: it alone decides.

    Args:
        result: of `le.compare`.

    Example:
        >>> figure = le.plots.compare(result)
    """
    measures = list(dict.fromkeys((result.metric, "decoding")))
    rows = 2 * len(measures)
    figure = make_subplots(
        rows, 2, column_widths=[0.56, 0.44], horizontal_spacing=0.15, vertical_spacing=0.05,
        specs=[[{}, {"rowspan": rows}], *[[{}, None] for _ in range(rows - 1)]],
    )  # fmt: skip
    names = plain(said(result.name_a)), plain(said(result.name_b))
    chance = 1 / (result.pairs["unit"] == "emotions").sum()
    for i, measure in enumerate(measures):
        _by_layer(figure, result, "" if i == 0 else "accuracy_", measure, names, 2 * i + 1)
        if measure == "decoding":
            figure.add_trace(chance_line(chance), row=2 * i + 1, col=1)
    for row in range(1, rows + 1):
        depth_axis(figure, row, title=row == rows)
        figure.update_xaxes(showticklabels=row == rows, row=row, col=1)
    _dots(figure, result.pairs, names)
    figure.add_vline(chance, line={"color": GREY, "width": 1.4, "dash": "dash"}, row=1, col=2)
    facts = (*(_fact(result, m) for m in measures), _jeong(result), "bars: 95%", SIGNIFICANCE)
    dropped = f"dropped: {result.dropped}" if result.dropped else ""
    return titled(figure, _findings.compare(result), (*facts, dropped), height=580 if rows == 2 else 780, wide=True)


def _fact(result: Comparison, measure: str) -> str:
    row = test_row(result.overall, SIGN_FLIPS, measure=measure)
    if row.high - row.low > 1:
        return f"{SHORT[measure]}: too few {row.unit} (n = {row.n}) for an interval of the difference"
    return (
        f"{SHORT[measure]}, mean over {len(result.table)} layers: {row.a:.2f} against {row.b:.2f}, difference "
        f"{row.estimate:+.3f} [{row.low:+.3f}, {row.high:+.3f}], {p_words(row.p)}, n = {row.n} {row.unit}"
    )


def test_row(tests: DataFrame, begins: str, **where: str) -> Series:
    """The row of a table of tests whose name begins so."""
    chosen = tests["test"].str.startswith(begins)
    for column, value in where.items():
        chosen &= tests[column] == value
    return tests[chosen].iloc[0]


def _jeong(result: Comparison) -> str:
    """The paper's own test, beside the paired one wherever cosines are what is compared."""
    if result.metric != "separation":
        return ""
    row = test_row(result.overall, RANK_SUM, measure="mean cosine")
    if row.p != row.p:
        return ""
    return f"the paper's unpaired test: {p_words(row.p)}, d = {row.d:.2f}{' (degenerate spread)' * bool(row.warning)}"


def _by_layer(
    figure: go.Figure, result: Comparison, prefix: str, measure: str, names: tuple[str, str], row: int
) -> None:
    """Both methods above, their difference with its interval below."""
    for side, name, colour, symbol in zip("ab", names, (BLUE, VERMILLION), ("circle", "square"), strict=True):
        trace = curve(result.table, f"{prefix}{side}", name, colour, symbol)
        figure.add_trace(trace.update(legendgroup=side, showlegend=row == 1), row=row, col=1)
    figure.update_yaxes(title_text=UNITS[measure], row=row, col=1)
    figure.update_yaxes(title_text="difference", row=row + 1, col=1)
    if measure == "decoding":
        figure.update_yaxes(rangemode="tozero", row=row, col=1)
    estimate, corrected = f"{prefix}estimate", f"{prefix}p_corrected"
    low, high = f"{prefix}low", f"{prefix}high"
    table = within(result.table, low, high, 1)
    if table[low].isna().all() and result.table[low].notna().any():
        words = f"too few {result.unit} (n = {result.n_pairs}) for an interval of the difference"
        figure.add_trace(zero_line().update(y=[0.5, 0.5], mode="text", text=["", ""]), row=row + 1, col=1)
        figure.update_yaxes(range=[0, 1], showticklabels=False, showgrid=False, row=row + 1, col=1)
        figure.add_annotation(x=0.5, y=0.5, text=words, showarrow=False, row=row + 1, col=1)
        return
    line, points = tested_curve(
        table, estimate, f"difference ({names[0]} less {names[1]})", GREEN, corrected, "diamond"
    )
    points.error_y = bars(table, estimate, low, high) | {"color": GREEN}
    figure.add_traces((zero_line(), line.update(showlegend=row == 1), points), rows=row + 1, cols=1)


def _dots(figure: go.Figure, pairs: DataFrame, names: tuple[str, str]) -> None:
    """Every emotion (pleasant on top), then every topic: two dots and a line between them."""
    groups = [(str(unit), rows.set_index("name")) for unit, rows in pairs.groupby("unit", sort=False)]
    labels: list[str] = []
    places: list[int] = []
    start = 0
    for unit, rows in reversed(groups):
        order = by_valence(rows.index) if unit == "emotions" else sorted(rows.index, reverse=True)
        at = list(range(start, start + len(order)))
        _dumbbells(figure, rows.loc[order], at, names)
        labels += [swatch(name) if unit == "emotions" else plain(name) for name in order]
        places += at
        start += len(order) + 2
        figure.add_annotation(
            x=0, y=at[-1] + 1, text=f"by {unit[:-1]}, mean over layers", xref="x2 domain", xanchor="left",
            showarrow=False, font={"size": 11}, row=1, col=2,
        )  # fmt: skip
    tight = {"tickfont": {"size": 9}} if start > 30 else {"tickfont": {"size": 10}}
    figure.update_yaxes(tickvals=places, ticktext=labels, range=[-1, start - 0.4], showgrid=False, ticks="", **tight,
                        row=1, col=2)  # fmt: skip
    figure.update_xaxes(title_text="held-out accuracy", row=1, col=2)


def _dumbbells(figure: go.Figure, rows: DataFrame, places: list[int], names: tuple[str, str]) -> None:
    link = {"color": LINE, "width": 1.6}
    x = [value for a, b in zip(rows["a"], rows["b"], strict=True) for value in (a, b, None)]
    y = [value for place in places for value in (place, place, None)]
    figure.add_trace(go.Scatter(x=x, y=y, mode="lines", line=link, hoverinfo="skip", showlegend=False), row=1, col=2)
    shown = [[plain(name), difference] for name, difference in zip(rows.index, rows["difference"], strict=True)]
    for side, name, colour, symbol in zip("ab", names, (BLUE, VERMILLION), ("circle", "square"), strict=True):
        dots = go.Scatter(
            x=rows[side], y=places, mode="markers", name=name, legendgroup=side, showlegend=False, customdata=shown,
            marker={"color": colour, "symbol": symbol, "size": 7},
            hovertemplate="%{customdata[0]}: %{x:.2f}<br>difference %{customdata[1]:+.2f}<extra>" + name + "</extra>",
        )  # fmt: skip
        figure.add_trace(dots, row=1, col=2)


PLACES = ("middle", "best")
GAP = 122  # pixels between panels: an axis title and a heading of three lines
MEASURES = {"accuracy": "accuracy", "mean cosine": "cosine"}


def compare_models(result: ModelComparison, name_a: str = "a", name_b: str = "b") -> go.Figure:
    """Held-out accuracy and mean cosine of both methods in every model, at the middle and at the best layer.

    Args:
        name_a, name_b: what the two methods are called; the result does not keep their names.
        result: of `le.compare_models`.

    Example:
        >>> figure = le.plots.compare_models(result)
    """
    measures = [m for m in MEASURES if (result.tests["measure"] == m).any()]
    known = set(zip(result.tests["measure"], result.tests["place"], strict=True))
    panels = [(m, p) for m in measures for p in PLACES if (m, p) in known]
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
    titled(figure, _findings.compare_models(result, name_a, name_b), facts, height, wide=True)
    return lowered(figure).update_layout(margin={"t": figure.layout.margin.t + 34})


def _heading(result: ModelComparison, measure: str, place: str) -> str:
    paired, theirs = (test_row(result.tests, test, measure=measure, place=place) for test in (SIGN_FLIPS, RANK_SUM))
    ends = f"[{paired.low:+.2f}, {paired.high:+.2f}]"
    if not paired.high - paired.low <= 1:
        ends = f"(too few models for an interval, n = {paired.n})"
    return (
        f"{measure}, {place} layer<br>difference {paired.difference:+.2f} {ends}, "
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
