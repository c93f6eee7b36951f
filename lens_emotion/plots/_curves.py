"""What curves over depth are made of: a line, marks that are hollow where the null explains them, bars, bands and
the references that they are read against.
"""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from pandas import DataFrame, Series

from lens_emotion.plots.theme import GREY, ORANGE

SIGNIFICANCE = "filled marker: p ≤ 0.05, hollow: not"
NULL = "permuted labels (97.5% in the band)"  # one edge: the tests behind look one way


def curve(table: DataFrame, column: str, name: str, colour: str, symbol: str, dash: str = "solid") -> go.Scatter:
    """One line with markers over depth; hovering names the layer."""
    size = 7 if len(table) <= 24 else 6
    return go.Scatter(
        x=table["depth"],
        y=table[column],
        name=name,
        mode="lines+markers",
        line={"color": colour, "width": 1.8, "dash": dash},
        marker={"color": colour, "size": size, "symbol": symbol, "line": {"width": 1.4, "color": colour}},
        customdata=table[["layer"]].to_numpy(),
        hovertemplate=f"layer %{{customdata[0]}} (depth %{{x:.2f}})<br>%{{y:.3g}}<extra>{name}</extra>",
    )


def tested_curve(
    table: DataFrame, column: str, name: str, colour: str, p: str, symbol: str = "circle", dash: str = "solid"
) -> tuple[go.Scatter, go.Scatter]:
    """A line, and markers that are hollow where the p column says that the null explains the value."""
    line = curve(table, column, name, colour, symbol, dash).update(mode="lines", hoverinfo="skip", hovertemplate=None)
    points = curve(table, column, name, colour, symbol)
    points.mode, points.showlegend = "markers", False
    points.marker.symbol = marks(table[p], symbol)
    points.customdata = table[["layer", p]].to_numpy()
    extra = f"<br>{p.replace('_', ' ')} = %{{customdata[1]:.4f}}<extra>"
    points.hovertemplate = points.hovertemplate.replace("<extra>", extra)
    for trace in (line, points):
        trace.legendgroup = name
    return line, points


def marks(p: Series, symbol: str = "circle") -> list[str]:
    """The symbol, hollow where p is above 0.05 or unknown."""
    return [symbol if value <= 0.05 else f"{symbol}-open" for value in p]


def bars(table: DataFrame, value: str, low: str = "low", high: str = "high") -> dict[str, object]:
    """Asymmetric error bars from the ends of an interval."""
    return {
        "type": "data", "symmetric": False, "thickness": 1.2, "width": 0,
        "array": table[high] - table[value], "arrayminus": table[value] - table[low],
    }  # fmt: skip


def chance_line(chance: float) -> go.Scatter:
    """The line a guesser would reach, drawn from edge to edge."""
    name = f"chance ({chance:.3g})"
    line = {"color": GREY, "width": 1.4, "dash": "dash"}
    return go.Scatter(x=[0, 1.02], y=[chance, chance], name=name, mode="lines", line=line, hoverinfo="skip")


def strictest(table: DataFrame) -> str:
    """The p-value corrected over layers where there is one."""
    return "p_corrected" if "p_corrected" in table else "p"


def zero_line(name: str = "zero") -> go.Scatter:
    """No effect, drawn from edge to edge; without an entry in the legend, since the axis says 0."""
    line = {"color": GREY, "width": 1.2, "dash": "dot"}
    return go.Scatter(x=[0, 1.02], y=[0, 0], name=name, mode="lines", line=line, hoverinfo="skip", showlegend=False)


MIDDLE = "middle third of the layers"


def middle_third(at: float = 0.0) -> go.Scatter:
    """The depths that the paper names, as a bar along the axis at this height."""
    line = {"color": ORANGE, "width": 5}
    return go.Scatter(x=[1 / 3, 2 / 3], y=[at, at], name=MIDDLE, mode="lines", line=line, hoverinfo="skip", opacity=0.7)


def within(rows: DataFrame, low: str, high: str, most: float) -> DataFrame:
    """The rows without the intervals that are wider than anything they could tell: too few topics made them.

    An interval of a difference of accuracies from -2.3 to 1.8 is no measurement, and would set the scale.
    """
    kept = rows.copy()
    kept.loc[(rows[high] - rows[low]) > most, [low, high]] = np.nan
    return kept
