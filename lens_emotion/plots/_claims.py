"""The paper's claims: every effect with its interval and verdict, model by model, each claim on its own axis."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from pandas import DataFrame, Series
from plotly.subplots import make_subplots

from lens_emotion.plots import _findings
from lens_emotion.plots.theme import BAND, GREEN, GREY, ORANGE, VERMILLION, lowered, plain, titled, wrapped
from lens_emotion.study.verdict import ALL_MODELS, NOT_SUPPORTED, NOT_TESTABLE, SUPPORTED, UNDETERMINED, Claims

LOOKS = {
    SUPPORTED: (GREEN, "circle"),
    NOT_SUPPORTED: (VERMILLION, "x"),
    UNDETERMINED: (ORANGE, "diamond-open"),
    NOT_TESTABLE: (GREY, "circle-open"),
}

CHARACTERS = 46  # of a line of words in a panel
MIDDLE = (1 / 3, 2 / 3)
TOO_WIDE = 1.0  # an interval of a difference of accuracies that is wider says nothing: too few made it


def claims(result: Claims) -> go.Figure:
    """A forest plot: one panel per claim, one row per model, the verdict as mark and colour, the null on hover.

    A shaded band is what the verdict is read against: effects that are too small to matter, or the middle third.

    Args:
        result: the claims of a run (`run.claims` of `le.run_study`).

    Example:
        >>> figure = le.plots.claims(run.claims)  # doctest: +SKIP
    """
    table = _rows(result.table)
    codes = list(dict.fromkeys(table["code"]))
    models = [m for m in dict.fromkeys(table["scope"]) if m != ALL_MODELS]
    over = [ALL_MODELS] if ALL_MODELS in set(table["scope"]) else []
    scopes = [*over, *models[::-1]]
    lines = max((w.count("<br>") + 1 for w in _words(table)), default=1)
    height = 250 + ((len(codes) + 1) // 2) * (134 + (19 + 13 * (lines - 1)) * max(2, len(scopes)))
    figure = make_subplots(
        (len(codes) + 1) // 2, 2, horizontal_spacing=0.06, vertical_spacing=130 / height,
        subplot_titles=[_heading(table[table["code"] == code]) for code in codes],
    )  # fmt: skip
    for i, code in enumerate(codes):
        _panel(figure, table[table["code"] == code], scopes, {"row": i // 2 + 1, "col": i % 2 + 1})
    drawn = {t.name for t in figure.data}
    for verdict, (colour, symbol) in LOOKS.items():
        if verdict in drawn:
            key = {"color": colour, "symbol": symbol, "size": 9, "line": {"width": 1.6, "color": colour}}
            figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", marker=key, name=verdict))
    figure.update_yaxes(
        tickvals=list(range(len(scopes))), ticktext=[f"<b>{s}</b>" if s in over else plain(s) for s in scopes],
        range=[-0.7, len(scopes) - 0.3], ticks="", showgrid=False, tickfont={"size": 10},
    )  # fmt: skip
    figure.update_yaxes(showticklabels=False, col=2)  # the same rows as on the left, whatever the length of their names
    facts = (
        f"n = {len(models)} model{'s' * (len(models) != 1)}",
        f"bars: 95% interval{'; for all models: least to greatest' * bool(over)}",
        "every panel in the unit of its own effect",
        "shaded: too small to matter (C2: the middle third)",
        "what each is read against is on hover",
    )
    titled(figure, _findings.claims(result), facts, height=height, wide=True)
    lowered(figure).update_layout(margin={"t": figure.layout.margin.t + 20})
    return figure


def _rows(table: DataFrame) -> DataFrame:
    """The rows to draw. Over a single model "all models" would repeat it: it gets the verdict over the run instead."""
    models = table.loc[table["scope"] != ALL_MODELS, "scope"].unique()
    if len(models) != 1:
        return table
    mine, whole = table[table["scope"] != ALL_MODELS], table[table["scope"] == ALL_MODELS]
    verdicts = dict(zip(whole["code"], whole["verdict"], strict=True))
    mine = mine.assign(verdict=[verdicts.get(c, v) for c, v in zip(mine["code"], mine["verdict"], strict=True)])
    rest = whole[~whole["code"].isin(mine["code"])].assign(scope=models[0])
    return pd.concat([mine, rest], ignore_index=True).sort_values("code", kind="stable")


def _heading(rows: DataFrame) -> str:
    """Code, verdict over all models or the one there is, and the claim in as many lines as it takes."""
    whole = rows[rows["scope"] == ALL_MODELS] if rows["scope"].nunique() > 1 else rows
    verdict = f": {whole['verdict'].iloc[0]}" if len(whole) else ""
    claim = "<br>".join(plain(line) for line in textwrap.wrap(str(rows["claim"].iloc[0]), 54))
    return f"<b>{rows['code'].iloc[0]}{verdict}</b><br>{claim}"


def _panel(figure: go.Figure, rows: DataFrame, scopes: list[str], where: dict[str, int]) -> None:
    known = _on_one_axis(rows)
    for verdict, (colour, symbol) in LOOKS.items():
        part = known[known["verdict"] == verdict]
        if len(part):
            figure.add_trace(_effects(part, scopes, colour, symbol, verdict), **where)
    rest = rows.drop(known.index)
    if known.empty:
        figure.add_trace(_in_words(rest, scopes, 0.0), **where)
        figure.update_xaxes(showticklabels=False, ticks="", showgrid=False, range=[-1, 1], **where)
        return
    ends = _reference(figure, known, where)
    if len(rest):
        figure.add_trace(_in_words(rest, scopes, sum(ends) / 2), **where)
    figure.update_xaxes(title_text=plain(_unit(known)), range=ends, **where)


def _reference(figure: go.Figure, known: DataFrame, where: dict[str, int]) -> list[float]:
    """Draw what the effects are read against, and give the ends of an axis that shows both."""
    shown, dotted = known[["value", "low", "high"]].to_numpy(), {"color": GREY, "width": 1.2, "dash": "dot"}
    low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
    shade = {"fillcolor": BAND, "line_width": 0, "layer": "below"}
    if known["code"].iloc[0] == "C2":
        figure.add_vrect(*MIDDLE, **shade, **where)
        return [-0.02, 1.04]
    if known["code"].iloc[0] != "C6":  # a dose at which text breaks has no zero to be read against
        smallest = known["smallest"].dropna().unique()
        least = float(smallest[0]) if len(smallest) == 1 else 0.0
        if least:
            figure.add_vrect(-least if known["code"].iloc[0] == "C1" else 0, least, **shade, **where)
        figure.add_vline(0, line=dotted, **where)
        low, high = min(low, -least if known["code"].iloc[0] == "C1" else 0.0), max(high, least, 0.0)
    room = 0.06 * (high - low) or max(abs(low), 1.0) / 2  # one point has no scale of its own
    return [low - room, high + room]


def _on_one_axis(rows: DataFrame) -> DataFrame:
    """The effects of one unit: that over all models may be another quantity (say, a ratio of variances).

    An interval that is wider than any difference of accuracies is said in words: it would set the scale of all.
    """
    known = rows[rows["value"].notna() & ~_too_wide(rows)]
    single = known[known["scope"] != ALL_MODELS]
    same = known["effect"].str.startswith(_unit(known)) if len(single) else known["value"].notna()
    return known[same | (known["scope"] != ALL_MODELS)]


def _too_wide(rows: DataFrame) -> Series:
    return rows["effect"].astype(str).str.startswith("accuracy") & ((rows["high"] - rows["low"]) > TOO_WIDE)


def _words(rows: DataFrame) -> list[str]:
    """Verdict, and the number that a row has in another unit or the reason why it has none, in lines."""
    told = []
    for r, wide in zip(rows.to_dict("records"), _too_wide(rows), strict=True):
        number = _number(r)
        said = f"{r['effect']} {number}" if number and not wide else str(r["reason"])
        said = f"too few ({r['n']}) for an interval; {said}" if wide else said
        told.append("<br>".join(map(plain, textwrap.wrap(f"{r['verdict']}: {said}", CHARACTERS))))
    return told


def _in_words(rows: DataFrame, scopes: list[str], middle: float) -> go.Scatter:
    """Rows without a number on this axis."""
    return go.Scatter(
        x=[middle] * len(rows), y=[scopes.index(s) for s in rows["scope"]], mode="text", name="in words",
        text=_words(rows), textfont={"size": 10}, showlegend=False, customdata=_notes(rows),
        hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip


def _unit(known: DataFrame) -> str:
    """The name of the effect, without the layer or dose that differs between models (hover has it whole)."""
    single = known[known["scope"] != ALL_MODELS]
    names = list(dict.fromkeys((single if len(single) else known)["effect"]))
    return str(names[0]) if len(names) == 1 else str(names[0]).split(" at ")[0]


def _effects(rows: DataFrame, scopes: list[str], colour: str, symbol: str, verdict: str) -> go.Scatter:
    reach = {"array": (rows["high"] - rows["value"]).fillna(0), "arrayminus": (rows["value"] - rows["low"]).fillna(0)}
    return go.Scatter(
        x=rows["value"], y=[scopes.index(s) for s in rows["scope"]], mode="markers", name=verdict, showlegend=False,
        marker={"color": colour, "symbol": symbol, "size": 9, "line": {"width": 1.6, "color": colour}},
        error_x={"type": "data", "symmetric": False, "thickness": 1.4, "width": 3, "color": colour, **reach},
        customdata=_notes(rows), hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip


def _notes(rows: DataFrame) -> list[str]:
    return [
        f"<b>{plain(r['scope'])}: {r['verdict']}</b><br>{plain(r['effect'])} {_number(r)}"
        f"<br>against {wrapped(r['null'] or '–')}<br>n: {plain(r['n'] or '–')}<br>{wrapped(r['reason'])}"
        for r in rows.to_dict("records")
    ]


def _number(row: Mapping[Any, Any]) -> str:
    value, low, high = (float(row[name]) for name in ("value", "low", "high"))
    if value != value:
        return ""
    return f"{value:.3g}" + (f" [{low:.3g}, {high:.3g}]" if low == low and high == high else "")
