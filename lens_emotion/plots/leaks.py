"""Leakage: letters of another script against dose, beside random directions and another emotion's vector."""

from __future__ import annotations

import plotly.graph_objects as go
from pandas import DataFrame
from plotly.subplots import make_subplots

from lens_emotion.plots.contracts_steering import LeakageLike
from lens_emotion.plots.lines import bars, marks
from lens_emotion.plots.theme import BLUE, GREEN, GREY, ORANGE, titled

LOOKS = {
    "unsteered": ("unsteered", GREEN, "diamond", "solid", 0.0),
    "emotion": ("emotion vector", BLUE, "circle", "solid", -0.06),
    "random": ("random direction", GREY, "square", "dash", 0.0),
    "other": ("another emotion", ORANGE, "triangle-up", "dot", 0.06),
}
WORDS = {
    "target": ("words of the target", BLUE, "circle", "solid"),
    "others": ("words of others", ORANGE, "triangle-up", "dot"),
    "random": ("words, random direction", GREY, "square", "dash"),
}


def leakage(result: LeakageLike) -> go.Figure:
    """Share of foreign letters against dose with intervals and controls; below, foreign words of the emotion."""
    found = result.words
    words = found if found is not None and found[list(WORDS)].to_numpy().any() else None  # nothing to see: no panel
    panels = 1 if words is None else 2
    figure = make_subplots(panels, 1, shared_xaxes=True, vertical_spacing=0.09)
    doses = sorted(float(d) for d in result.table["dose"].unique())
    place = {dose: i for i, dose in enumerate(doses)}
    for condition, look in LOOKS.items():
        rows = result.table[result.table["condition"] == condition].sort_values("dose")
        if len(rows):
            figure.add_trace(_letters(rows, result.scripts, result.home, place, condition, look), row=1, col=1)
    figure.update_yaxes(title_text=f"letters not {result.home}<br>(mean share)", tickformat=".3~%", row=1, col=1)
    if words is not None:
        figure.add_traces([_word_curve(words, place, column) for column in WORDS], rows=2, cols=1)
        figure.update_yaxes(title_text="texts with a word<br>(share)", tickformat=".3~%", row=2, col=1)
    figure.update_yaxes(rangemode="tozero")
    if float(result.table["high"].max()) == 0:
        figure.update_yaxes(range=[-0.0005, 0.01], row=1, col=1)
    figure.update_xaxes(tickvals=list(range(len(doses))), ticktext=[f"{d:g}" for d in doses], showgrid=False)
    figure.update_xaxes(title_text="dose, natural units (0: unsteered)", row=panels, col=1)
    n = sorted({int(x) for x in result.table["n"]})
    onset = "no dose leaks beyond random" if result.onset is None else f"leaks from dose {result.onset:g}"
    facts = (
        f"n = {n[0]} texts per point" if len(n) == 1 else f"n = {n[0]} to {n[-1]} texts per point",
        "bars: 95%",
        onset,
        "none of the emotions' foreign words in any text" if found is not None and words is None else "",
        "filled blue marker: p ≤ 0.05 against the control, corrected over doses",
    )
    return titled(figure, "Leakage into another script", facts, height=400 if panels == 1 else 600)


def _letters(
    rows: DataFrame,
    scripts: DataFrame,
    home: str,
    place: dict[float, int],
    condition: str,
    look: tuple[str, str, str, str, float],
) -> go.Scatter:
    name, colour, symbol, dash, shift = look
    tested = condition == "emotion"
    found = [_scripts(scripts, home, float(dose), condition) for dose in rows["dose"]]
    p = [f", p = {x:.3f}" if x == x else "" for x in rows["p_corrected"]] if tested else [""] * len(rows)
    return go.Scatter(
        x=[place[float(d)] + shift for d in rows["dose"]], y=rows["foreign"], name=name, mode="lines+markers",
        error_y=bars(rows, "foreign"), line={"color": colour, "dash": dash, "width": 1.8},
        marker={"color": colour, "size": 7, "symbol": marks(rows["p_corrected"]) if tested else symbol,
                "line": {"color": colour, "width": 1.4}},
        customdata=list(zip(rows["dose"], rows["n"], rows["texts"], found, p, strict=True)),
        hovertemplate="dose %{customdata[0]:g}, n = %{customdata[1]}: %{y:.2%}%{customdata[4]}"
        f"<br>in %{{customdata[2]:.0%}} of the texts%{{customdata[3]}}<extra>{name}</extra>",
    )  # fmt: skip


def _scripts(scripts: DataFrame, home: str, dose: float, condition: str) -> str:
    """Which scripts the foreign letters belong to."""
    rows = scripts[(scripts["dose"] == dose) & (scripts["condition"] == condition) & (scripts["script"] != home)]
    return "".join(f"<br>{s} {share:.2%}" for s, share in zip(rows["script"], rows["share"], strict=True) if share > 0)


def _word_curve(words: DataFrame, place: dict[float, int], column: str) -> go.Scatter:
    name, colour, symbol, dash = WORDS[column]
    target = column == "target"
    strictest = words[["p_random", "p_others"]].max(axis=1)
    return go.Scatter(
        x=[place[float(d)] for d in words["dose"]], y=words[column], name=name, mode="lines+markers",
        error_y=bars(words, "target") if target else None, line={"color": colour, "dash": dash, "width": 1.8},
        marker={"color": colour, "size": 7, "symbol": marks(strictest) if target else symbol},
        customdata=words[["dose", "n", "p_random", "p_others"]].to_numpy(),
        hovertemplate="dose %{customdata[0]:g}, n = %{customdata[1]}: %{y:.1%}"
        + ("<br>p against random %{customdata[2]:.3f}, others %{customdata[3]:.3f}" if target else "")
        + f"<extra>{name}</extra>",
    )  # fmt: skip
