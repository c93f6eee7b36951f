"""The paper's claims: every effect with its interval and verdict, model by model, each claim on its own axis."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go
from pandas import DataFrame
from plotly.subplots import make_subplots

from lens_emotion.plots.theme import GREEN, GREY, LINE, ORANGE, VERMILLION, lowered, plain, titled, wrapped
from lens_emotion.study.verdict import ALL_MODELS, NOT_SUPPORTED, NOT_TESTABLE, SUPPORTED, UNDETERMINED, Claims

LOOKS = {
    SUPPORTED: (GREEN, "circle"),
    NOT_SUPPORTED: (VERMILLION, "x"),
    UNDETERMINED: (ORANGE, "diamond-open"),
    NOT_TESTABLE: (GREY, "circle-open"),
}

CHARACTERS = 52  # of a line of words in a panel


def claims(result: Claims) -> go.Figure:
    """A forest plot: one panel per claim, one row per model, the verdict as mark and colour, the null on hover.

    Args:
        result: the claims of a run (`run.claims` of `le.run_study`).

    Example:
        >>> figure = le.plots.claims(run.claims)  # doctest: +SKIP
    """
    table = result.table
    codes = list(dict.fromkeys(table["code"]))
    models = [m for m in dict.fromkeys(table["scope"]) if m != ALL_MODELS]
    over = [ALL_MODELS] if ALL_MODELS in set(table["scope"]) else []
    scopes = [*over, *models[::-1]]
    height = 250 + ((len(codes) + 1) // 2) * (128 + 19 * len(scopes))
    figure = make_subplots(
        (len(codes) + 1) // 2, 2, horizontal_spacing=0.06, vertical_spacing=124 / height,
        subplot_titles=[_heading(table[table["code"] == code]) for code in codes],
    )  # fmt: skip
    for i, code in enumerate(codes):
        _panel(figure, table[table["code"] == code], scopes, {"row": i // 2 + 1, "col": i % 2 + 1})
    for verdict, (colour, symbol) in LOOKS.items():
        key = {"color": colour, "symbol": symbol, "size": 9, "line": {"width": 1.6, "color": colour}}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", marker=key, name=verdict))
    figure.update_yaxes(
        tickvals=list(range(len(scopes))), ticktext=[f"<b>{s}</b>" if s in over else plain(s) for s in scopes],
        range=[-0.7, len(scopes) - 0.3], ticks="", showgrid=False, tickfont={"size": 10},
    )  # fmt: skip
    figure.update_yaxes(showticklabels=False, col=2)  # the same rows as on the left, whatever the length of their names
    facts = (
        f"n = {len(models)} model{'s' * (len(models) != 1)}",
        "bars: 95% interval; for all models: least to greatest",
        "every panel in the unit of its own effect",
        "what each is read against is on hover",
    )
    titled(figure, "The paper's claims, tested", facts, height=height, wide=True)
    lowered(figure).update_layout(margin={"t": figure.layout.margin.t + 20})
    return figure


def _heading(rows: DataFrame) -> str:
    """Code, verdict over all models, and the claim in at most two lines."""
    whole = rows[rows["scope"] == ALL_MODELS]
    verdict = f": {whole['verdict'].iloc[0]}" if len(whole) else ""
    claim = "<br>".join(plain(line) for line in textwrap.wrap(str(rows["claim"].iloc[0]), 56))
    return f"<b>{rows['code'].iloc[0]}{verdict}</b><br>{claim}"


def _panel(figure: go.Figure, rows: DataFrame, scopes: list[str], where: dict[str, int]) -> None:
    known = _on_one_axis(rows)
    for verdict, (colour, symbol) in LOOKS.items():
        part = known[known["verdict"] == verdict]
        if len(part):
            figure.add_trace(_effects(part, scopes, colour, symbol, verdict), **where)
    rest, ends = rows.drop(known.index), known[["value", "low", "high"]]
    least, most = (float(ends.min().min()), float(ends.max().max())) if len(known) else (0.0, 0.0)
    if len(rest):
        figure.add_trace(_in_words(rest, scopes, (least + most) / 2), **where)
    if len(known):
        if least <= 0 <= most:
            figure.add_vline(0, line={"color": LINE, "width": 1.2, "dash": "dot"}, **where)
        wide = max(abs(least), 1.0) / 2 if least == most else None  # one point has no scale of its own
        reach = {"range": [least - wide, most + wide]} if wide else {}
        figure.update_xaxes(title_text=plain(_unit(known)), **reach, **where)
    else:
        figure.update_xaxes(showticklabels=False, ticks="", showgrid=False, range=[-1, 1], **where)


def _on_one_axis(rows: DataFrame) -> DataFrame:
    """The effects of one unit: that over all models may be another quantity (say, a ratio of variances)."""
    known = rows[rows["value"].notna()]
    single = known[known["scope"] != ALL_MODELS]
    same = known["effect"].str.startswith(_unit(known)) if len(single) else known["value"].notna()
    return known[same | (known["scope"] != ALL_MODELS)]


def _in_words(rows: DataFrame, scopes: list[str], middle: float) -> go.Scatter:
    """Rows without a number on this axis: their verdict, and the number that they have instead or the reason, in at
    most two lines.
    """
    numbers = [f"{r['effect']} {number}" if (number := _number(r)) else r["reason"] for r in rows.to_dict("records")]
    words = [f"{verdict}: {word}" for verdict, word in zip(rows["verdict"], numbers, strict=True)]
    short = [textwrap.shorten(w, 2 * CHARACTERS - 8, placeholder=" …") for w in words]
    return go.Scatter(
        x=[middle] * len(rows), y=[scopes.index(s) for s in rows["scope"]], mode="text", name="in words",
        text=["<br>".join(map(plain, textwrap.wrap(w, CHARACTERS))) for w in short], textfont={"size": 10},
        showlegend=False, customdata=_notes(rows), hovertemplate="%{customdata}<extra></extra>",
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
