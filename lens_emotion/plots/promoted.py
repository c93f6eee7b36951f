"""The logit lens: the tokens that every vector brings out, and the script that it promotes most."""

from __future__ import annotations

import plotly.graph_objects as go
from pandas import DataFrame
from plotly.subplots import make_subplots

from lens_emotion.plots.contracts_more import LensLike
from lens_emotion.plots.halves import lowered
from lens_emotion.plots.lines import marks
from lens_emotion.plots.matrices import colour_bar
from lens_emotion.plots.theme import BLUE, LINE, TILE_INK, TILES, titled
from lens_emotion.plots.words import by_valence, emotion_ticks, plain, token_text

LONGEST = 11


def lens(result: LensLike, side: str = "up", n: int = 8) -> go.Figure:
    """Top tokens of every emotion in rank order, coloured by z; beside them the script it promotes most.

    Args:
        side: "up", what the vector raises, or "down", what it lowers.
        n: tokens per emotion.
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
    _scripts(figure, rows, names, f"{result.n_random} {control} random directions (95%)")
    figure.update_yaxes(**emotion_ticks(names), range=[-0.6, len(names) - 0.4], showgrid=False, showline=False)
    figure.update_xaxes(title_text="rank", dtick=1, showgrid=False, showline=False, ticks="", row=1, col=1)
    form = "vector alone" if result.form == "direction" else result.form
    verb = "brings out" if side == "up" else "pushes down"
    facts = (
        f"{result.model}, layer {result.layer} (depth {(result.layer + 1) / result.n_layers:.2f}), {form}",
        f"n = {result.n_random} random directions ({control}) read in the same way",
        "z: logit standardised over the vocabulary",
        "filled: p ≤ 0.05, corrected over scripts",
    )
    title = f"What every emotion vector {verb} (logit lens)"
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
    return token_text(token if len(text) <= LONGEST else text[: LONGEST - 1] + "…")


def _scripts(figure: go.Figure, rows: DataFrame, names: list[str], null: str) -> None:
    """The script of the lowest corrected p: its share, and where random directions lie."""
    best = rows.loc[rows.groupby("emotion", sort=False)["p_corrected"].idxmin()].set_index("emotion").loc[names]
    places = list(range(len(names)))
    x = [v for low, high in zip(best["null_low"], best["null_high"], strict=True) for v in (low, high, None)]
    y = [v for place in places for v in (place, place, None)]
    line = {"color": LINE, "width": 5}
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
