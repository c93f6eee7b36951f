"""Steering by dose: success, damage and regime, leakage and a judge's verdicts, always beside a random direction."""

from __future__ import annotations

import plotly.graph_objects as go
from pandas import DataFrame
from plotly.subplots import make_subplots

from lens_emotion.plots import _findings
from lens_emotion.plots._curves import bars, marks
from lens_emotion.plots._regimes import REGIME_SCALE
from lens_emotion.plots.theme import BLUE, GREEN, GREY, ORANGE, REGIME_COLOURS, lowered, plain, span, titled
from lens_emotion.steering.dose_result import DoseResponse
from lens_emotion.steering.leakage import Leakage
from lens_emotion.steering.verification import PAPER, Verification

STYLES = {
    "emotion": ("emotion vector", BLUE, "circle", "solid", -0.05),
    "random": ("random direction, same norm", GREY, "square", "dash", 0.05),
}
SHORT = {"repetitive collapse": "repetitive"}


def dose_response(result: DoseResponse) -> go.Figure:
    """Success rate with Wilson intervals, perplexity ratio on a log axis, and the regime, for every dose tried.

    Doses stand side by side at equal steps, in natural units, with the relative unit below in brackets.

    Args:
        result: of `le.dose_response`.

    Example:
        >>> figure = le.plots.dose_response(result)
    """
    table = result.table
    doses = sorted(float(dose) for dose in table["dose"].unique())
    place = {dose: position for position, dose in enumerate(doses)}
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.05, row_heights=[0.44, 0.38, 0.18])
    for condition, style in STYLES.items():
        rows = table[table["condition"] == condition].sort_values("dose")
        figure.add_traces(_responses(rows, place, style), rows=[1, 2], cols=[1, 1])
    figure.add_trace(_regimes(table, doses), row=3, col=1)
    figure.add_hline(1, line={"color": GREY, "width": 1.2, "dash": "dot"}, row=2, col=1)
    found = result.headline
    if found is not None and found.doses:
        line = {"color": GREEN, "width": 1.6, "dash": "dot"}
        words = f"dose chosen on other openings: {found.told}"
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="lines", line=line, name=words), row=1, col=1)
        for dose in found.doses:
            for row in (1, 2):
                figure.add_vline(place[dose], line=line, row=row, col=1)
    _axes(figure, table, doses)
    titled(figure, _findings.dose_response(result), _facts(result), height=620)
    return figure


def _facts(result: DoseResponse) -> tuple[str, ...]:
    """Success at doses chosen on other openings, layer, n per point, and the judge with its measured accuracy."""
    found = result.headline
    if found is None:
        said = "one opening an emotion: no dose chosen on other texts"
    elif not found.doses:
        said = "no dose was surgical on either half of the openings"
    else:
        said = f"dose chosen on other openings: {found.rate} succeed"
    layer = f"layer {result.layer}" if isinstance(result.layer, int) else f"layers: {result.layer}"
    judge = f"judge: {result.judge}"
    if "accuracy" not in result.judge:
        measured = result.judge_accuracy
        judge += ", accuracy not measured" if measured is None else f", accuracy {measured:.2f}"
    explosive = f"explosive above {result.thresholds.explosive_ratio:.1f} times the expected perplexity"
    controls = found.controls if found is not None and found.doses else ""
    return (
        said,
        controls,
        f"dose and response at {layer}",
        f"n = {span(result.table['n'])} texts per point, bars: 95% Wilson",
        explosive,
        judge,
    )


def _responses(
    rows: DataFrame, place: dict[float, int], style: tuple[str, str, str, str, float]
) -> tuple[go.Scatter, go.Scatter]:
    """Success with its interval, and the perplexity ratio."""
    name, colour, symbol, dash, shift = style
    common = {
        "x": [place[d] + shift for d in rows["dose"]], "name": name, "legendgroup": name, "mode": "lines+markers",
        "line": {"color": colour, "dash": dash, "width": 1.8},
        "marker": {"color": colour, "symbol": symbol, "size": 7},
    }  # fmt: skip
    wilson = bars(rows, "success_rate", "success_low", "success_high") | {"thickness": 1.3, "width": 4}
    success = go.Scatter(
        y=rows["success_rate"], error_y=wilson,
        customdata=rows[["dose", "n", "success_low", "success_high"]].to_numpy(),
        hovertemplate="dose %{customdata[0]:g}, n = %{customdata[1]}<br>success %{y:.2f} "
        f"[%{{customdata[2]:.2f}}, %{{customdata[3]:.2f}}]<extra>{name}</extra>", **common,
    )  # fmt: skip
    perplexity = go.Scatter(
        y=rows["perplexity_ratio"], showlegend=False,
        customdata=rows[["dose", "distinct_2", "loop_share", "regime"]].to_numpy(),
        hovertemplate="dose %{customdata[0]:g}: %{customdata[3]}<br>perplexity ratio %{y:.2f}<br>distinct-2 "
        f"%{{customdata[1]:.2f}}, loop share %{{customdata[2]:.2f}}<extra>{name}</extra>", **common,
    )  # fmt: skip
    return success, perplexity


def _regimes(table: DataFrame, doses: list[float]) -> go.Heatmap:
    """A strip of coloured, worded cells: one row per condition, one cell per dose."""
    kinds = list(REGIME_COLOURS)
    keys = zip(table["condition"], table["dose"].astype(float), strict=True)
    found = dict(zip(keys, table["regime"].astype(str), strict=True))
    conditions = [c for c in ("random", "emotion") if (table["condition"] == c).any()]
    words = [[found.get((condition, dose), "") for dose in doses] for condition in conditions]
    codes = [[kinds.index(word) if word in kinds else None for word in row] for row in words]
    short = [[SHORT.get(word, word) for word in row] for row in words]
    return go.Heatmap(
        z=codes, x=list(range(len(doses))), y=conditions, text=short, texttemplate="%{text}", customdata=words,
        textfont={"size": 10, "color": "#1b1d21"}, colorscale=REGIME_SCALE, zmin=-0.5, zmax=len(kinds) - 0.5,
        showscale=False, xgap=2, ygap=2, hovertemplate="%{y}: %{customdata}<extra></extra>",
    )  # fmt: skip


def _axes(figure: go.Figure, table: DataFrame, doses: list[float]) -> None:
    natural = "dose_natural" if "dose_natural" in table else "dose"
    units = table.groupby("dose")[[natural, "dose_relative"]].first().loc[doses]
    words = [f"{n:.3g}<br>({r:.2g})" for n, r in zip(units[natural], units["dose_relative"], strict=True)]
    title = "dose, natural units (relative to E‖h‖ in brackets)"
    figure.update_xaxes(range=[-0.55, len(doses) - 0.45], tickvals=list(range(len(doses))), showgrid=False)
    figure.update_xaxes(ticktext=words, tickangle=0, title_text=title, row=3, col=1)
    figure.update_yaxes(title_text="success rate<br>(share of texts)", range=[-0.03, 1.03], row=1, col=1)
    ratios = table["perplexity_ratio"]
    ticks = "D2" if ratios.max() < 30 * ratios.min() else 1
    figure.update_yaxes(title_text="perplexity ratio<br>(log, 1 = unsteered)", type="log", dtick=ticks, row=2, col=1)
    figure.update_yaxes(title_text="regime", showgrid=False, showline=False, ticks="", row=3, col=1)


LEAK_LOOKS = {
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


def leakage(result: Leakage) -> go.Figure:
    """Share of foreign letters against dose with intervals and controls; below, foreign words of the emotion.

    Args:
        result: of `le.leakage`.

    Example:
        >>> figure = le.plots.leakage(result)
    """
    found = result.words
    words = found if found is not None and found[list(WORDS)].to_numpy().any() else None  # nothing to see: no panel
    panels = 1 if words is None else 2
    figure = make_subplots(panels, 1, shared_xaxes=True, vertical_spacing=0.09)
    doses = sorted(float(d) for d in result.table["dose"].unique())
    place = {dose: i for i, dose in enumerate(doses)}
    for condition, look in LEAK_LOOKS.items():
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
    onset = "no dose leaks beyond random" if result.onset is None else f"leaks from dose {result.onset:g}"
    facts = (
        f"leakage: n = {span(result.table['n'])} texts per point",
        "bars: 95%",
        onset,
        "none of the emotions' foreign words in any text" if found is not None and words is None else "",
        "filled blue marker: p ≤ 0.05 against the control, corrected over doses",
    )
    return titled(figure, _findings.leakage(result), facts, height=400 if panels == 1 else 600)


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


COIN = 0.5  # a score is as likely to rise as to fall
GUESS = {"color": GREY, "width": 1.4, "dash": "dash"}
VERIFIED_LOOKS = {
    "emotion": ("emotion vector", BLUE, "circle", 0.22),
    "random": ("random direction, same length", GREY, "square", 0.0),
    "other": ("another emotion's vector", ORANGE, "triangle-up", -0.22),
}


def verification(result: Verification) -> go.Figure:
    """One panel per form of success, one row per model: share of scenarios, its interval and k/n.

    Args:
        result: of `steering.verification.verification`.

    Example:
        >>> result = le.steering.verification.verification({"tiny-llama": steered})
        >>> figure = le.plots.verification(result)
    """
    table = result.table
    forms = list(dict.fromkeys(table["form"]))
    models = list(dict.fromkeys(table["model"]))[::-1]
    figure = make_subplots(
        1, len(forms), shared_yaxes=True, horizontal_spacing=0.05, subplot_titles=[plain(f) for f in forms]
    )
    for col, form in enumerate(forms, 1):
        for condition, look in VERIFIED_LOOKS.items():
            rows = table[(table["form"] == form) & (table["condition"] == condition)]
            if len(rows):
                figure.add_traces(_points(rows, models, look, col == 1), rows=1, cols=col)
    for col, form in enumerate(forms, 1):
        guessed = COIN if form == PAPER else float(table["chance"].iloc[0])
        figure.add_vline(guessed, line=GUESS, row=1, col=col)
    figure.update_xaxes(title_text="share of scenarios", range=[-0.03, 1.4], tickvals=[0, 0.25, 0.5, 0.75, 1])
    figure.update_yaxes(
        tickvals=list(range(len(models))), ticktext=[plain(m) for m in models],
        range=[-0.6, len(models) - 0.4], showgrid=False, ticks="",
    )  # fmt: skip
    facts = (
        f"n = {span(table['n'])} scenarios per model",
        "bars: 95% Wilson",
        *(f"judge: {j}" for j in dict.fromkeys(table["judge"])),
        f"dashed: guessing ({table['chance'].iloc[0]:.2f}, or {COIN} for which of two scores is higher)",
    )
    titled(figure, _findings.verification(result), facts, height=max(300, 190 + 64 * len(models)), wide=True)
    return lowered(figure)


def _points(
    rows: DataFrame, models: list[str], look: tuple[str, str, str, float], first: bool
) -> tuple[go.Scatter, go.Scatter]:
    """Shares with their intervals, and k/n behind each interval."""
    name, colour, symbol, shift = look
    places = [models.index(m) + shift for m in rows["model"]]
    points = go.Scatter(
        x=rows["rate"], y=places, name=name, legendgroup=name, showlegend=first, mode="markers",
        marker={"color": colour, "symbol": symbol, "size": 8}, error_x=bars(rows, "rate") | {"color": colour},
        cliponaxis=False, customdata=rows[["k", "n", "low", "high", "dose"]].to_numpy(),
        hovertemplate="%{customdata[0]}/%{customdata[1]} = %{x:.2f} [%{customdata[2]:.2f}, %{customdata[3]:.2f}], dose "
        f"%{{customdata[4]}}<extra>{name}</extra>",
    )  # fmt: skip
    counts = [f"\u00a0\u00a0\u00a0{k}/{n}" for k, n in zip(rows["k"], rows["n"], strict=True)]
    if shift == max(height for *_, height in VERIFIED_LOOKS.values()):
        counts = [f"{count}, dose {dose}" for count, dose in zip(counts, rows["dose"], strict=True)]
    words = go.Scatter(
        x=rows["high"], y=places, mode="text", text=counts, textposition="middle right", textfont={"size": 10},
        showlegend=False, legendgroup=name, hoverinfo="skip", cliponaxis=False,
    )  # fmt: skip
    return points, words
