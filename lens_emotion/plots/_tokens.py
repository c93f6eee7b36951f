"""A text token by token: what was averaged, and how far each token lies towards several emotions at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from pandas import DataFrame
from plotly.subplots import make_subplots

from lens_emotion.analysis.lens import Lens
from lens_emotion.analysis.tokens import TokenScores
from lens_emotion.extraction.comprehension import TokenRole
from lens_emotion.plots import _findings
from lens_emotion.plots._curves import marks
from lens_emotion.plots.theme import (
    BLUE,
    DIVERGING,
    GREY,
    LINE,
    TILE_INK,
    TILES,
    by_valence,
    colour_bar,
    emotion_ticks,
    lowered,
    plain,
    titled,
    token_text,
)

ROLES = {
    "pooled": ("#8FC1E6", "averaged", "solid"),
    "skipped": ("#E4E6EA", "content, not averaged", "solid"),
    "special": ("#F0C56B", "special (BOS, first position, template): never averaged", "dot"),
}
COLUMNS = 118  # characters of a line of the strip
LONGEST = 12
PER_LINE = 36  # tokens of a line of the heat map


def preview(result: Sequence[TokenRole], text: str = "") -> go.Figure:
    """The strip of "what was averaged": every token of a text in a tile that says what became of it.

    Args:
        result: of `lens_emotion.preview`.
        text: a name for the text, for the title.

    Example:
        >>> figure = le.plots.preview(le.preview(model, "The door opened."))
    """
    lines = _flow([token_text(r.token) for r in result])
    figure = go.Figure()
    for role, (colour, label, dash) in ROLES.items():
        mine = [(r, place) for r, place in zip(result, lines, strict=True) if r.role == role]
        if not mine:
            continue
        edge = {"color": GREY, "width": 1, "dash": dash}
        for _, (row, left, width) in mine:
            figure.add_shape(type="rect", x0=left, x1=left + width - 0.4, y0=row - 0.4, y1=row + 0.4, fillcolor=colour,
                             line=edge, layer="below")  # fmt: skip
        words = go.Scatter(
            x=[left + (width - 0.4) / 2 for _, (_, left, width) in mine], y=[row for _, (row, _, _) in mine],
            mode="text", text=[token_text(r.token) for r, _ in mine], textfont={"size": 12, "color": TILE_INK},
            showlegend=False, name=role, customdata=[[r.position, plain(repr(r.token))] for r, _ in mine],
            hovertemplate=f"position %{{customdata[0]}}: %{{customdata[1]}}<br>{role}<extra></extra>",
        )  # fmt: skip
        figure.add_trace(words)
        key = {"symbol": "square", "size": 12, "color": colour, "line": {"color": GREY, "width": 1}}
        name = f"{label} ({len(mine)})"
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", marker=key, name=name, hoverinfo="skip"))
    rows = 1 + max((row for row, _, _ in lines), default=0)
    figure.update_xaxes(visible=False, showticklabels=False, range=[-0.5, COLUMNS + 0.5], fixedrange=True)
    figure.update_yaxes(visible=False, showticklabels=False, range=[rows - 0.4, -0.6], fixedrange=True)
    counts = [f"{sum(r.role == role for r in result)} {role}" for role in ROLES]
    facts = (f"n = {len(result)} tokens: {', '.join(counts)}",)
    titled(figure, _findings.preview(result), (text, *facts), height=150 + 34 * rows, wide=True)
    return figure.update_layout(margin={"l": 14, "b": 56})


def _flow(words: Sequence[str]) -> list[tuple[int, float, float]]:
    """Line, left edge and width of every tile, in characters, as in running text."""
    places, row, left = [], 0, 0.0
    for word in words:
        width = min(len(word) * 1.0 + 2.0, float(COLUMNS))
        if left + width > COLUMNS:
            row, left = row + 1, 0.0
        places.append((row, left, width))
        left += width
    return places


def token_scores(result: TokenScores) -> go.Figure:
    """A heat map of a text: tokens in reading order, one row per emotion, dotted where random directions do not reach.

    Long texts break into lines of tokens that share one scale.

    Args:
        result: of `le.token_scores`.

    Example:
        >>> figure = le.plots.token_scores(result)
    """
    names = by_valence(result.emotions)
    rows = [result.emotions.index(name) for name in names]
    n = len(result.tokens)
    starts = range(0, n, PER_LINE)
    tall = len(names) * (13 if len(names) > 12 else 18)  # pixels of a line; above it are its tokens
    gap = 0.0 if len(starts) == 1 else min(74 / (len(starts) * (tall + 74)), 1 / (len(starts) - 1))
    figure = make_subplots(len(starts), 1, vertical_spacing=gap)
    most = max(float(np.nanmax(np.abs(result.scores))), 1e-6)
    for line, start in enumerate(starts, 1):
        part = slice(start, min(start + PER_LINE, n))
        figure.add_trace(_heat(result, rows, names, part, most, tall, line == 1), row=line, col=1)
        figure.add_trace(_dots(result, rows, part), row=line, col=1)
        words = [_tick(*pair) for pair in zip(result.tokens[part], result.content[part].tolist(), strict=True)]
        ticks = {"tickmode": "array", "tickvals": list(range(len(words))), "ticktext": words, "tickangle": -60}
        where = {"row": line, "col": 1}
        figure.update_xaxes(**ticks, range=[-0.5, min(PER_LINE, n) - 0.5], tickfont={"size": 11}, side="top", **where)
    figure.update_xaxes(showgrid=False, showline=False, ticks="")
    small = {"tickfont": {"size": 9 if len(names) > 12 else 11}}
    figure.update_yaxes(**emotion_ticks(names), **small, range=[-0.5, len(names) - 0.5], showgrid=False, showline=False)
    figure.update_yaxes(title_text="emotion", row=1, col=1)
    facts = (
        f"token by token: {result.model}, layer {result.layer} (depth {(result.layer + 1) / result.n_layers:.2f})",
        f"n = {int(result.content.sum())} tokens scored, {n - int(result.content.sum())} special (◇) not",
        f"natural units from the {result.origin} (1: an average text of the emotion; blue towards it, orange away)",
        f"dot: beyond {result.n_random} {result.control} random directions, p ≤ 0.05 corrected over tokens, not over "
        "emotions",
    )
    titled(figure, _findings.token_scores(result), facts, height=170 + len(starts) * (tall + 74), wide=True)
    return figure.update_layout(margin={"t": figure.layout.margin.t + 64, "b": 50})


def _tick(token: str, content: bool) -> str:
    """A token as a tick: special ones by a sign, long ones cut (hovering has them whole)."""
    if not content:
        return "◇"
    return token_text(token if len(token) <= LONGEST else token[: LONGEST - 1] + "…")


def _heat(
    result: TokenScores, rows: list[int], names: list[str], part: slice, most: float, tall: int, first: bool
) -> go.Heatmap:
    drawn = (result.scores, result.null_low, result.null_high, result.p, result.p_corrected)
    scores, *nulls = (values[rows][:, part] for values in drawn)
    places = range(part.start, part.stop)
    length = max(90, min(240, tall))
    words = [[f"{i}: {plain(repr(result.tokens[i]))}, {plain(name)}" for i in places] for name in names]
    return go.Heatmap(
        z=scores, x=list(range(len(places))), y=list(range(len(names))), customdata=np.stack(nulls, axis=-1),
        text=words, colorscale=DIVERGING, zmin=-most, zmid=0, zmax=most, showscale=first, hoverongaps=False, xgap=1,
        ygap=1, colorbar=colour_bar("natural units") | {"len": length, "lenmode": "pixels", "y": 1, "yanchor": "top"},
        hovertemplate="%{text}<br>%{z:.2f} natural units (random directions %{customdata[0]:.2f} to "
        "%{customdata[1]:.2f})<br>p = %{customdata[2]:.3f}, corrected over tokens %{customdata[3]:.3f}<extra></extra>",
    )  # fmt: skip


def _dots(result: TokenScores, rows: list[int], part: slice) -> go.Scatter:
    held = np.argwhere(result.p_corrected[rows][:, part] <= 0.05)
    return go.Scatter(
        x=held[:, 1], y=held[:, 0], mode="markers", marker={"color": TILE_INK, "size": 5, "line": {"color": "white",
        "width": 1}}, name="beyond random directions", showlegend=False, hoverinfo="skip",
    )  # fmt: skip


LONGEST_PROMOTED = 11


def lens(result: Lens, side: str = "up", n: int = 8) -> go.Figure:
    """Top tokens of every emotion in rank order, coloured by z; beside them the script it promotes most.

    Args:
        side: "up", what the vector raises, or "down", what it lowers.
        n: tokens per emotion.
        result: of `le.lens`.

    Example:
        >>> figure = le.plots.lens(result)
    """
    table = result.table[(result.table["side"] == side) & (result.table["rank"] <= n)]
    names = by_valence(dict.fromkeys(table["emotion"]))
    figure = make_subplots(
        1, 2, shared_yaxes=True, column_widths=[0.76, 0.24], horizontal_spacing=0.02,
        subplot_titles=("tokens, best first", f"script beyond chance: share of the top {result.k}"),
    )  # fmt: skip
    figure.add_trace(_tokens(table, names, side), row=1, col=1)
    control = str(result.scripts["control"].iloc[-1])  # the strictest comes last
    rows = result.scripts[(result.scripts["control"] == control) & (result.scripts["side"] == side)]
    best = rows.loc[rows.groupby("emotion", sort=False)["p_corrected"].idxmin()].set_index("emotion").loc[names]
    _scripts(figure, best, names, f"{result.n_random} {control} random directions (97.5% within)")
    figure.update_yaxes(**emotion_ticks(names), range=[-0.6, len(names) - 0.4], showgrid=False, showline=False)
    figure.update_xaxes(title_text="rank", dtick=1, showgrid=False, showline=False, ticks="", row=1, col=1)
    form = "vector alone" if result.form == "direction" else result.form
    verb = "brings out" if side == "up" else "pushes down"
    facts = (
        f"what every vector {verb} (logit lens)",
        f"{result.model}, layer {result.layer} (depth {(result.layer + 1) / result.n_layers:.2f}), {form}",
        f"n = {result.n_random} random directions ({control}) read in the same way",
        "z: logit standardised over the vocabulary",
        "filled: p ≤ 0.05, corrected over scripts (title: over vectors, too)",
    )
    title = _findings.lens(best, side)
    return lowered(titled(figure, title, facts, height=max(400, 170 + 25 * len(names)), wide=True))


def _tokens(table: DataFrame, names: list[str], side: str) -> go.Heatmap:
    """One tile per token; long tokens are cut, whole on hover."""
    z, words, hovers = [], [], []
    for name in names:
        rows = table[table["emotion"] == name].sort_values("rank")
        z.append(rows["z"].tolist())
        words.append([_short(str(t)) for t in rows["token"]])
        shown = zip(rows["token"], rows["script"], rows["token_id"], strict=True)
        hovers.append([f"{plain(repr(str(t)))}, {s}, id {i}" for t, s, i in shown])
    # rows of a table that holds fewer tokens for one emotion than for another
    width = max(map(len, z))
    for row, fill in ((z, None), (words, ""), (hovers, "")):
        for values in row:
            values += [fill] * (width - len(values))
    scale = TILES if side == "up" else [[0.0, TILES[1][1]], [1.0, TILES[0][1]]]
    bar = colour_bar("z") | {"x": 1.01}
    return go.Heatmap(
        z=z, x=list(range(1, width + 1)), y=list(range(len(names))), text=words, texttemplate="%{text}",
        textfont={"size": 11, "color": TILE_INK}, customdata=hovers, colorscale=scale, colorbar=bar, xgap=2, ygap=2,
        hovertemplate="%{customdata}<br>z = %{z:.1f}<extra></extra>",
    )  # fmt: skip


def _short(token: str) -> str:
    text = token.strip(" ")
    return token_text(token if len(text) <= LONGEST_PROMOTED else text[: LONGEST_PROMOTED - 1] + "…")


def _scripts(figure: go.Figure, best: DataFrame, names: list[str], null: str) -> None:
    """The script of the lowest corrected p: its share, and how far random directions reach."""
    places = list(range(len(names)))
    x = [v for high in best["null_high"] for v in (0.0, high, None)]  # from nothing on: the test looks upwards
    y = [v for place in places for v in (place, place, None)]
    line = {"color": LINE, "width": 4}
    figure.add_trace(go.Scatter(x=x, y=y, mode="lines", line=line, name=null, hoverinfo="skip"), row=1, col=2)
    points = go.Scatter(
        x=best["share"], y=places, mode="markers", name="the vector",
        marker={"color": BLUE, "size": 8, "symbol": marks(best["p_corrected"])}, cliponaxis=False,
        customdata=best[["script", "base_rate", "null_mean", "p_corrected"]].to_numpy(),
        hovertemplate="%{customdata[0]}: %{x:.0%} (random %{customdata[2]:.0%}, vocabulary %{customdata[1]:.0%})"
        "<br>p corrected %{customdata[3]:.3f}<extra></extra>",
    )  # fmt: skip
    words = go.Scatter(
        x=[1.08] * len(names), y=places, mode="text", text=best["script"], textposition="middle right",
        textfont={"size": 10}, hoverinfo="skip", showlegend=False, name="script",
    )  # fmt: skip
    figure.add_traces((points, words), rows=1, cols=2)
    ticks = {"tickformat": ".0%", "tickvals": [0, 0.5, 1], "range": [-0.04, 1.6]}  # room for names on the right
    figure.update_xaxes(title_text="share of tokens", **ticks, row=1, col=2)
