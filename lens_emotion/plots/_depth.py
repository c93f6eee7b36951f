"""Curves over depth, each drawn with its null: sweeps, separation, decoding, anisotropy, reliability, opposites, and
panels of several models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import plotly.graph_objects as go
from pandas import DataFrame
from plotly.subplots import make_subplots

from lens_emotion.analysis.anisotropy import Anisotropy
from lens_emotion.analysis.decoding import Decoding
from lens_emotion.analysis.geometry import Opposites
from lens_emotion.analysis.layers import LayerSweep
from lens_emotion.analysis.reliability import Reliability
from lens_emotion.analysis.separation import Separation
from lens_emotion.analysis.twins import TwinsApart
from lens_emotion.analysis.words import BeyondWords
from lens_emotion.display import said
from lens_emotion.plots import _findings
from lens_emotion.plots._curves import (
    NULL,
    SIGNIFICANCE,
    bars,
    chance_line,
    curve,
    marks,
    middle_third,
    strictest,
    tested_curve,
    within,
    zero_line,
)
from lens_emotion.plots.theme import (
    BLUE,
    GREEN,
    GREY,
    LINE,
    ORANGE,
    PURPLE,
    VERMILLION,
    band,
    by_valence,
    counted,
    depth_axis,
    emotion_colour,
    emotion_ticks,
    lowered,
    plain,
    swatch,
    titled,
)

STANDARDISED = "standardised per dimension"
SHUFFLED = "shuffled states (97.5% in the band)"
UNITS = {
    "decoding": "held-out accuracy (share of texts)",
    "separation": "mean pairwise cosine of vectors",
    "reliability": "split-half reliability",
    "anisotropy": "mean pairwise cosine of neutral states",
}


def layer_sweep(result: LayerSweep) -> go.Figure:
    """A metric at every layer, its permutation null, and the best depth with its bootstrap interval.

    Args:
        result: of `le.layer_sweep`.

    Example:
        >>> figure = le.plots.layer_sweep(le.layer_sweep(acts, n_permutations=5))
    """
    table = result.table
    figure = go.Figure()
    tested = bool(table["null_high"].notna().any())
    if tested:
        figure.add_traces(_null_of(result))
        both = result.standardised is not None
        name = f"{result.metric}, centred cosine" if both else result.metric
        figure.add_traces(tested_curve(table, "value", name, BLUE, strictest(table)))
        if both:
            figure.add_traces(_standardised(table, "value"))
    else:
        figure.add_trace(curve(table, "value", said(result.metric), BLUE, "circle"))
    if result.chance is not None:
        figure.add_traces((chance_line(result.chance), middle_third()))
        figure.update_yaxes(rangemode="tozero")
    elif result.metric in UNITS:
        figure.add_trace(zero_line())
    if result.standardised is None:
        figure.add_trace(_best_depth(result))
    else:  # each in the colour of its curve; one ring around the other where both are best at one layer
        figure.add_trace(_best_depth(result, BLUE, "centred"))
        figure.add_trace(_best_depth(result.standardised, VERMILLION, "standardised", size=20))
    better = "higher" if result.higher_is_better else "lower"
    null = SIGNIFICANCE if tested else "this measure has no label null"
    shape = _shape(result)
    counts = counted(result, "texts", "permutations")
    facts = (f"layer sweep: {said(result.metric)}", counts, f"{len(table)} layers", f"{better} is better", shape, null)
    figure.update_yaxes(title_text=UNITS.get(result.metric, result.metric))
    depth_axis(figure)
    return titled(figure, _findings.layer_sweep(result), facts, height=420)


def _null_of(result: LayerSweep) -> tuple[go.Scatter, go.Scatter]:
    """Permuted labels, open towards the side that the test does not look to."""
    table = result.table
    if result.higher_is_better:
        return band(table, "null_low", "null_high", NULL, "down", min(0.0, float(table["null_low"].min())))
    return band(table, "null_low", "null_high", NULL, "up", float(table[["null_high", "value"]].max().max()))


def _shape(result: LayerSweep) -> str:
    """The verdict of the two-lines test, and that of the other decoder where it differs."""
    if result.shape is None:
        return ""
    other = None if result.standardised is None else result.standardised.shape
    apart = "" if other is None or other.verdict == result.shape.verdict else f" (standardised: {other.verdict})"
    return f"two-lines test: {result.shape.verdict}{apart}"


def _standardised(
    table: DataFrame, value: str, p: str = "p_corrected_standardised", colour: str = VERMILLION
) -> tuple[go.Scatter, go.Scatter]:
    """The curve of the standardised decoder; its null is that of the other, to a hair."""
    return tested_curve(table, f"{value}_standardised", STANDARDISED, colour, p, "square", "dash")


def separation(result: Separation) -> go.Figure:
    """Mean pairwise cosine and held-out decoding on one layer axis: never one without the other.

    Args:
        result: of `le.separation`.

    Example:
        >>> figure = le.plots.separation(result)
    """
    table = result.table
    reliable = "reliability" in table and bool(table["reliability"].notna().any())
    heights = [0.42, 0.34, 0.24] if reliable else [0.55, 0.45]
    figure = make_subplots(len(heights), 1, shared_xaxes=True, vertical_spacing=0.05, row_heights=heights)
    if result.forced:
        words = f"not shown: the {result.recipe} recipe forces it near -1/(n-1)"
        figure.add_annotation(text=words, x=0.5, y=0.5, xref="x domain", yref="y domain", showarrow=False)
    end = float(table[["null_high", "mean_cosine"]].max().max())  # lower is further apart: the band is open above
    figure.add_traces(band(table, "null_low", "null_high", NULL, "up", end), rows=1, cols=1)
    cosine = tested_curve(table, "mean_cosine", "mean pairwise cosine", BLUE, "p")
    accuracy = tested_curve(table, "accuracy", "held-out accuracy", VERMILLION, "accuracy_p", "square")
    given = "accuracy_standardised" in table
    other = _standardised(table, "accuracy", "accuracy_p_standardised", PURPLE) if given else ()
    figure.add_traces(cosine, rows=1, cols=1)
    reach = band(result.decoding.table, "null_low", "null_high", NULL, "down")
    for trace in reach:
        trace.showlegend = False
    figure.add_traces((*reach, chance_line(float(table["chance"].iloc[0])), *accuracy, *other), rows=2, cols=1)
    figure.update_yaxes(title_text="mean pairwise<br>cosine", row=1, col=1)
    figure.update_yaxes(title_text="held-out<br>accuracy", rangemode="tozero", row=2, col=1)
    if reliable:
        figure.add_trace(zero_line(), row=3, col=1)
        figure.add_trace(curve(table, "reliability", "split-half reliability", GREEN, "diamond"), row=3, col=1)
        figure.update_yaxes(title_text="split-half<br>reliability", row=3, col=1)
    for row in range(1, len(heights) + 1):
        depth_axis(figure, row, title=row == len(heights))
    counts, depths = counted(result.decoding, "texts", "topics"), f"{len(table)} layers"
    facts = ("separation, with decoding beside it", counts, depths, SIGNIFICANCE)
    return titled(figure, _findings.separation(result), facts, height=620 if reliable else 500)


def decoding(result: Decoding) -> go.Figure:
    """Held-out decoding accuracy at every layer, with its permutation null and chance.

    Args:
        result: of `le.decoding`.

    Example:
        >>> figure = le.plots.decoding(result)
    """
    table = result.table
    figure = go.Figure()
    figure.add_traces(band(table, "null_low", "null_high", NULL, "down"))
    figure.add_trace(middle_third())
    figure.add_trace(chance_line(float(table["chance"].iloc[0])))
    figure.add_traces(tested_curve(table, "accuracy", "held-out accuracy", BLUE, strictest(table)))
    best = f"best: {result.best_accuracy:.2f} at layer {result.best_layer}"
    if result.standardised is not None:
        figure.add_traces(_standardised(table, "accuracy"))
        best += f"; standardised: {result.standardised.best_accuracy:.2f} at layer {result.standardised.best_layer}"
    figure.update_yaxes(title_text="held-out accuracy (share of texts)", rangemode="tozero")
    depth_axis(figure)
    facts = ("held-out decoding", counted(result, "texts", "topics"), best, SIGNIFICANCE)
    return titled(figure, _findings.decoding(result), facts, height=420)


def beyond_words(result: BeyondWords) -> go.Figure:
    """Accuracy of the state, of the words and of both, and below it what the state adds, with its interval.

    Args:
        result: of `le.beyond_words`.

    Example:
        >>> figure = le.plots.beyond_words(le.beyond_words(acts, n_permutations=5))
    """
    table = result.table
    figure = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.06, row_heights=[0.5, 0.5])
    words = go.Scatter(
        x=[0, 1.02], y=[result.words] * 2, mode="lines", name=f"words alone ({result.words:.2f})",
        line={"color": ORANGE, "width": 2.2}, hoverinfo="skip",
    )  # fmt: skip
    state = tested_curve(table, "state", "state alone", BLUE, "state_p")
    both = curve(table, "both", "words and state", PURPLE, "diamond")
    figure.add_traces((chance_line(result.chance), words, *state, both), rows=1, cols=1)
    figure.add_traces((*band(table, "null_low", "null_high", SHUFFLED, "down"), zero_line()), rows=2, cols=1)
    gains = {"": ("centred cosine", BLUE, "circle"), "_standardised": (STANDARDISED, VERMILLION, "square")}
    for column, (name, colour, symbol) in gains.items():
        line, points = tested_curve(
            table, f"increment{column}", f"increment, {name}", colour, f"p_corrected{column}", symbol
        )
        ends = bars(table, f"increment{column}", f"low{column}", f"high{column}")
        points.error_y = ends | {"color": colour}
        figure.add_traces((line, points), rows=2, cols=1)
    figure.update_yaxes(title_text="held-out<br>accuracy", rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title_text="increment<br>of accuracy", row=2, col=1)
    depth_axis(figure, 1, title=False)
    depth_axis(figure, 2)
    against = f"words: {', '.join(result.against) or 'none'}, stacked"
    facts = (f"beyond words: {counted(result, 'texts', 'topics')}", against, "bars: 95% over topics", SIGNIFICANCE)
    return titled(figure, _findings.beyond_words(result), facts, height=540)


def twins_apart(result: TwinsApart) -> go.Figure:
    """Accuracy of telling an event from its twin at every layer, beside that of the words alone.

    Args:
        result: of `le.twins_apart`.

    Example:
        >>> figure = le.plots.twins_apart(le.twins_apart(acts, twins))  # doctest: +SKIP
    """
    table = result.table
    figure = go.Figure(band(table, "null_low", "null_high", "flipped signs (97.5% in the band)", "down"))
    words = go.Scatter(
        x=[0, 1.02], y=[result.words] * 2, mode="lines", name=f"words alone ({result.words:.2f})",
        line={"color": ORANGE, "width": 2.2}, hoverinfo="skip",
    )  # fmt: skip
    figure.add_traces((chance_line(0.5), words, *tested_curve(table, "accuracy", "state", BLUE, "p_corrected")))
    figure.add_traces(_standardised(table, "accuracy"))
    figure.update_yaxes(title_text="pairs told apart (share)", range=[0, 1.04])
    depth_axis(figure)
    facts = (f"twins: n = {result.n_pairs} pairs, {result.chosen.n} topics", "an event and the same without affect",
             SIGNIFICANCE)  # fmt: skip
    return titled(figure, _findings.twins_apart(result), facts, height=420)


def anisotropy(result: Anisotropy) -> go.Figure:
    """Mean pairwise cosine of states per layer: raw, centred, and of random directions matched in covariance.

    Args:
        result: of `le.anisotropy`.

    Example:
        >>> figure = le.plots.anisotropy(result)
    """
    table = result.table
    curves = {
        "neutral_raw": ("neutral text, raw", BLUE, "solid", "circle"),
        "all_raw": ("all text, raw", VERMILLION, "solid", "square"),
        "neutral_centred": ("neutral text, centred", GREEN, "dash", "diamond"),
        "random_matched": ("random, matched covariance", GREY, "dot", "x"),
    }
    figure = go.Figure(zero_line())
    for column, (name, colour, dash, symbol) in curves.items():
        if column in table:
            figure.add_trace(curve(table, column, name, colour, symbol, dash))
    lowest = float(table[[c for c in curves if c in table]].min().min()) - 0.03
    figure.update_yaxes(title_text="mean pairwise cosine", range=[min(-0.05, lowest), 1.03])
    depth_axis(figure)
    meaning = "1 = all states point one way, 0 = no common direction"
    facts = (f"anisotropy: {counted(result, 'texts')} ({result.n_neutral} neutral)", f"{len(table)} layers", meaning)
    return titled(figure, _findings.anisotropy(result), facts, height=400)


def _best_depth(result: LayerSweep, colour: str = ORANGE, which: str = "", size: int = 15) -> go.Scatter:
    """A ring on the best layer's value and, where known, the interval of its depth as a horizontal bar."""
    row = result.table.loc[result.table["layer"] == result.best_layer].iloc[0]
    low, high = result.best_depth_low, result.best_depth_high
    best = result.best_depth
    interval, error = "", None
    if low is not None and high is not None:
        interval = f" [{low:.2f}, {high:.2f}]"
        reach = {"array": [high - best], "arrayminus": [best - low]}
        error = {"type": "data", "symmetric": False, "color": colour, "thickness": 1.6, "width": 5, **reach}
    words = f"best depth {result.best_depth:.2f}{interval}, layer {result.best_layer}"
    name = f"{which} best {result.best_depth:.2f}{interval}" if which else words  # short: a legend has little room
    return go.Scatter(
        x=[result.best_depth],
        y=[row["value"]],
        error_x=error,
        mode="markers",
        name=name,
        marker={"symbol": "circle-open", "size": size, "color": colour, "line": {"width": 2.4}},
        hovertemplate=f"{which} {words}<extra></extra>",
    )


TARGET = 0.9  # of the reliability, for which the topics needed are told


def reliability(result: Reliability, layer: int | None = None) -> go.Figure:
    """Split-half reliability over depth with its null, and of every emotion at one layer with the topics it needs.

    Args:
        layer: of the right panel; None for the layer of the highest mean, which the null is corrected for.
        result: of `le.reliability`.

    Example:
        >>> figure = le.plots.reliability(result)
    """
    table = result.by_layer
    at = int(table["reliability"].fillna(-1).argmax()) if layer is None else layer
    titles = ("mean over emotions, by layer", f"every emotion at layer {at}")
    figure = make_subplots(1, 2, column_widths=[0.5, 0.5], horizontal_spacing=0.14, subplot_titles=titles)
    end = min(0.0, float(table["null_low"].min()))
    figure.add_traces((*band(table, "null_low", "null_high", NULL, "down", end), zero_line()), rows=1, cols=1)
    line, points = tested_curve(table, "reliability", "split-half reliability", BLUE, "p_corrected")
    points.error_y = bars(within(table, "low", "high", 1), "reliability") | {"color": BLUE}
    figure.add_traces((line, points), rows=1, cols=1)
    depth_axis(figure, 1)
    figure.update_yaxes(title_text="reliability (Spearman-Brown)", row=1, col=1)
    _by_emotion(figure, result.topics_needed(TARGET).merge(result.table), at)
    facts = (
        f"split-half reliability: n = {result.n_topics} topics, {result.n_splits} random halvings",
        f"{result.n_permutations} permutations",
        "0 is noise, 1 is no noise",
        "bars: 95% over topics",
        SIGNIFICANCE,
    )
    titled(figure, _findings.reliability(result, at), facts, height=520, wide=True)
    return lowered(figure)


def _by_emotion(figure: go.Figure, table: DataFrame, layer: int) -> None:
    """One row per emotion, pleasant on top: reliability with its interval, and on the right the topics for 0.9."""
    rows = table[table["layer"] == layer].set_index("emotion")
    names = by_valence(rows.index)
    rows = rows.loc[names]
    places = list(range(len(names)))
    points = go.Scatter(
        x=rows["reliability"], y=places, mode="markers", name="emotion", showlegend=False,
        error_x=bars(within(rows, "low", "high", 2), "reliability") | {"color": LINE},
        marker={"size": 8, "symbol": marks(rows["p"]), "color": [emotion_colour(e) for e in names]},
        customdata=list(zip(names, rows["topics"], rows["texts"], rows["p"], rows["topics_needed"], strict=True)),
        hovertemplate="%{customdata[0]}<br>reliability %{x:.2f}, p = %{customdata[3]:.3f}<br>%{customdata[1]} topics, "
        f"%{{customdata[2]}} texts; %{{customdata[4]}} topics for {TARGET}<extra></extra>",
    )  # fmt: skip
    needed = ["–" if n != n else "∞" if n == float("inf") else f"{n:,.0f}" for n in rows["topics_needed"]]
    words = go.Scatter(x=[1.16] * len(names), y=places, mode="text", text=needed, textposition="middle center",
                       textfont={"size": 11}, hoverinfo="skip", showlegend=False, name="topics needed")  # fmt: skip
    figure.add_traces((points, words), rows=1, cols=2)
    low = max(-1.0, min(0.0, float(rows["low"].min(skipna=True))))
    ticks = [t for t in (-1, -0.5, 0, 0.25, 0.5, 0.75, 1) if t >= low]
    figure.update_xaxes(title_text="reliability", range=[low - 0.04, 1.26], tickvals=ticks, row=1, col=2)
    figure.update_yaxes(**emotion_ticks(names), range=[-0.7, len(names) + 0.2], showgrid=False, row=1, col=2)
    figure.add_vline(0, line={"color": GREY, "width": 1.2, "dash": "dot"}, row=1, col=2)
    figure.add_vline(1.03, line={"color": GREY, "width": 0.8}, row=1, col=2)
    figure.add_annotation(x=1.16, y=len(names) - 0.3, text=f"topics<br>for {TARGET}", showarrow=False, yanchor="bottom",
                          font={"size": 10}, row=1, col=2)  # fmt: skip


def opposites(result: Opposites) -> go.Figure:
    """Mean cosine of opposite and of other pairs over depth, with relabelled emotions; every pair at one layer.

    Args:
        result: of `le.opposites`.

    Example:
        >>> figure = le.plots.opposites(result)
    """
    table = result.by_layer
    headings = ("mean over pairs, by layer", f"every opposite pair at layer {result.layer}")
    figure = make_subplots(1, 2, column_widths=[0.56, 0.44], horizontal_spacing=0.2, subplot_titles=headings)
    end = float(table[["null_high", "opposite", "other"]].max().max())
    null = band(table, "null_low", "null_high", "relabelled emotions (97.5% in the band)", "up", end)
    figure.add_traces((*null, zero_line()), rows=1, cols=1)
    figure.add_trace(curve(table, "other", f"the other {result.n_others} pairs", VERMILLION, "square", "dash"), 1, 1)
    mine = tested_curve(table, "opposite", f"{len(result.table)} opposite pairs", BLUE, "p_corrected")
    figure.add_traces(mine, rows=1, cols=1)
    depth_axis(figure, 1)
    figure.update_yaxes(title_text="mean cosine", row=1, col=1)
    rows = result.table.sort_values("cosine", ascending=False)
    places = list(range(len(rows)))
    dots = go.Scatter(
        x=rows["cosine"], y=places, mode="markers", name="opposite pair", showlegend=False,
        marker={"color": BLUE, "size": 9, "symbol": marks(rows["p"])}, customdata=rows[["rank", "p"]].to_numpy(),
        hovertemplate="cosine %{x:.2f}, rank %{customdata[0]} of all pairs, p = %{customdata[1]:.3f}<extra></extra>",
    )  # fmt: skip
    figure.add_trace(dots, row=1, col=2)
    names = [f"{swatch(a)} {swatch(b, before=True)}" for a, b in zip(rows["emotion"], rows["opposite"], strict=True)]
    figure.update_yaxes(tickvals=places, ticktext=names, range=[-0.7, len(rows) - 0.3], ticks="", row=1, col=2)
    figure.add_vline(0, line={"color": GREY, "width": 1.2, "dash": "dot"}, row=1, col=2)
    figure.update_xaxes(title_text="cosine", range=[-1.05, 1.05], row=1, col=2)
    facts = (
        f"opposites: n = {len(result.table)} pairs, {result.n_permutations:,} relabellings",
        "lower: further apart",
        SIGNIFICANCE,
    )
    return lowered(titled(figure, _findings.opposites(result), facts, height=420, wide=True))


def panels(figures: Mapping[str, go.Figure], title: str) -> go.Figure:
    """Curves over depth of several models, one panel each on one y axis, none laid over another.

    What all of them say below their titles is said once. Names of traces that only one of them bears (its best depth)
    become part of the panel's heading.

    Args:
        figures: model -> a figure of one pair of axes, all by the same function.
        title: of the whole.

    Example:
        >>> figure = le.plots.decoding(le.decoding(acts, n_permutations=5))
        >>> both = le.plots.panels({"one": figure, "two": figure}, "Held-out decoding")
    """
    names = list(figures)
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    common = set.intersection(*({t.name for t in f.data} for f in figures.values()))
    own = {name: [t.name for t in f.data if t.name and t.name not in common] for name, f in figures.items()}
    made = make_subplots(
        rows, columns, shared_yaxes="all", horizontal_spacing=0.03, vertical_spacing=0.42 / rows,
        subplot_titles=["<br>".join([f"<b>{plain(name)}</b>", *own[name]]) for name in names],
    )  # fmt: skip
    for i, name in enumerate(names):
        row, column = i // columns + 1, i % columns + 1
        for trace in figures[name].data:
            copy = go.Figure(trace).data[0]
            copy.showlegend = i == 0 and trace.name in common and trace.showlegend is not False
            copy.legendgroup = trace.name
            made.add_trace(copy, row=row, col=column)
        if column == 1:
            made.update_yaxes(title_text=figures[name].layout.yaxis.title.text, row=row, col=1)
    depth_axis(made)
    made.update_xaxes(showticklabels=True)
    for layout in (f.layout.yaxis for f in figures.values()):
        made.update_yaxes(range=layout.range, rangemode=layout.rangemode)
    titled(made, title, _shared_facts(figures), height=150 + 280 * rows, wide=True)
    return lowered(made).update_layout(margin={"t": made.layout.margin.t + 14})


def _shared_facts(figures: Mapping[str, go.Figure]) -> list[str]:
    """The facts that every one of the figures states, and how many there are."""
    said = [f.layout.title.subtitle.text.replace("<br>", " · ").split(" · ") for f in figures.values()]
    shared = [fact for fact in said[0] if all(fact in other for other in said)]
    return [f"{len(figures)} models, the same y axis", *(fact.replace("&amp;", "&") for fact in shared)]
