"""The one look of every figure: template, palette, colours of emotions, and the depth axis that curves share.

A figure brings its own paper, white or (`on_paper(figure, dark=True)`) dark: no ink reads at 4.5:1 on both. Colours of
lines come from the Okabe-Ito family, each at 3:1 or more on either paper; those of regimes go from light to dark, so
that they are told apart without red and green and in grey print. No figure tells by colour alone: dashes, symbols or
words always say the same.
"""

from __future__ import annotations

import math
import re
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from numbers import Integral
from typing import Literal

import plotly.graph_objects as go
from pandas import DataFrame

from lens_emotion.display import visible
from lens_emotion.stimuli.emotions import NEUTRAL, valence_arousal

# orange, sky and purple are darker than in the family, whose own fall below 3:1 on white
BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE = "#0072B2", "#D55E00", "#009E73", "#B57B00", "#2E93D1", "#C0669A"
GREY = "#8A8F98"
LINE = GREY  # axes, links, and edges of bands
BAND = "rgba(128,132,142,0.22)"
GRID = "rgba(128,132,142,0.20)"
INKS = {"light": ("#ffffff", "#1b1d21", "#4a4e56"), "dark": ("#14171b", "#e8eaed", "#b4bac2")}  # paper, ink, soft
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

SEQUENTIAL = [[0.0, "rgba(0,114,178,0.03)"], [0.5, "rgba(0,114,178,0.58)"], [1.0, "rgba(0,114,178,1)"]]
DIVERGING = [
    [0.0, "rgba(213,94,0,1)"],
    [0.499, "rgba(213,94,0,0.03)"],
    [0.501, "rgba(0,114,178,0.03)"],
    [1.0, "rgba(0,114,178,1)"],
]

# opaque tiles, so that the dark words on them read on any page
TILE_INK = "#1b1d21"
TILES = [[0.0, "#EDF1F6"], [1.0, "#79AEDB"]]
TILES_BOTH = [[0.0, "#E3935F"], [0.5, "#EFEFEC"], [1.0, "#79AEDB"]]

REGIME_COLOURS = {"inert": "#ECEEF1", "surgical": "#6BB1DE", "repetitive collapse": "#F2CB5C", "explosive": "#D86C38"}
DEPTH_TITLE = "depth (layer + 1) / n_layers"
LINE_LENGTH, WIDE_LINE = 84, 132  # characters below a title: in a column, and on a page 900 pixels wide
TITLE_LENGTH, WIDE_TITLE = 68, 112


AXIS = {
    "gridcolor": GRID, "gridwidth": 0.6, "linecolor": LINE, "linewidth": 0.8, "showline": True, "zeroline": False,
    "ticks": "outside", "ticklen": 3, "tickcolor": LINE, "tickfont": {"size": 11},
    "title": {"standoff": 8, "font": {"size": 12}}, "automargin": True,
}  # fmt: skip


@cache
def template() -> go.layout.Template:
    """The plotly template of this package; it is not made the global default.

    Example:
        >>> le.plots.template().layout.font.size > 0
        True
    """
    paper, ink, soft = INKS["light"]
    layout = {
        "font": {"family": FONT, "size": 12, "color": ink},
        "title": {
            "x": 0, "xref": "container", "xanchor": "left", "pad": {"l": 14, "t": 12},
            "y": 1, "yref": "container", "yanchor": "top",
            "font": {"size": 15, "weight": 600}, "subtitle": {"font": {"size": 11.5, "color": soft}},
        },
        "paper_bgcolor": paper,
        "plot_bgcolor": paper,
        "colorway": [BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, GREY],
        "margin": {"l": 64, "r": 20, "t": 72, "b": 92},
        "legend": {
            "orientation": "h", "x": 0, "xanchor": "left", "y": 0, "yref": "container", "yanchor": "bottom",
            "font": {"size": 11}, "bgcolor": "rgba(0,0,0,0)", "title": {"text": ""},
        },
        "hoverlabel": {"font": {"family": FONT, "size": 12}, "align": "left"},
        # "Share chart" of plotly.js 4 would upload the figure: nothing here leaves the machine
        "modebar": {
            "bgcolor": "rgba(0,0,0,0)", "color": LINE, "activecolor": ink,
            "remove": ["sendChartToCloud", "select2d", "lasso2d", "autoScale2d"],
        },
        "xaxis": AXIS,
        "yaxis": AXIS,
        "colorscale": {"sequential": SEQUENTIAL, "diverging": DIVERGING},
    }  # fmt: skip
    return go.layout.Template(layout=layout)


def titled(figure: go.Figure, title: str, facts: Sequence[str], height: int, wide: bool = False) -> go.Figure:
    """Give a figure the template, what was found as its title, its height in pixels, and a line of n and units below.

    Facts that say nothing are left out; title and facts break where they would leave the figure, which grows by what
    that adds. `wide` asks the report for the full width of the page.
    """
    words = re.sub(r"\[[^\]]*\]", lambda ends: ends[0].replace(" ", "\u00a0"), escape(visible(title), quote=False))
    heading = textwrap.wrap(words, WIDE_TITLE if wide else TITLE_LENGTH)
    lines = _lines([escape(visible(fact), quote=False) for fact in facts if fact], WIDE_LINE if wide else LINE_LENGTH)
    extra = 15 * (len(lines) - 1) + 20 * (len(heading) - 1)
    figure.update_layout(
        template=template(),
        title={
            "text": "<br>".join(heading),
            "subtitle": {"text": "<br>".join(lines)},
            "pad": {"l": 14, "t": 12 + 9 * (len(heading) - 1)},
        },
        height=height + extra,
        margin={"t": template().layout.margin.t + extra},
        meta={"wide": wide},
    )
    return figure


def about(figure: go.Figure, who: str) -> go.Figure:
    """The same figure with words (a model, a method) before the line below its title.

    Args:
        figure: any figure of this package.
        who: words such as a model's name.

    Example:
        >>> figure = le.plots.about(le.plots.similarity(le.similarity(vectors)), "tiny-llama")
    """
    text, who = figure.layout.title.subtitle.text or "", escape(visible(who), quote=False)
    fits = len(text.split("<br>")[0]) + len(who) + 3 <= (WIDE_LINE if figure.layout.meta["wide"] else LINE_LENGTH)
    extra = 0 if fits else 15
    figure.update_layout(
        title={"subtitle": {"text": f"{who} · {text}" if fits else f"{who}<br>{text}"}},
        height=figure.layout.height + extra,
        margin={"t": figure.layout.margin.t + extra},
    )
    return figure


def _lines(facts: Sequence[str], width: int) -> list[str]:
    """Facts joined with middle dots, in as many lines as they need; a fact that is longer than a line is broken."""
    lines: list[str] = []
    for fact in facts:
        if lines and len(lines[-1]) + len(fact) + 3 <= width:
            lines[-1] += f" · {fact}"
        else:
            lines += textwrap.wrap(fact, width, break_long_words=False, break_on_hyphens=False)
    return lines


def on_paper(figure: go.Figure, dark: bool = False) -> go.Figure:
    """A copy on paper of its own, whatever the page: near-black ink on white, or light ink on a dark ground.

    Args:
        figure: any figure of this package.
        dark: for slides and notebooks with a dark ground.

    Example:
        >>> figure = le.plots.on_paper(le.plots.similarity(le.similarity(vectors)), dark=True)
    """
    paper, ink, soft = INKS["dark" if dark else "light"]
    copy = go.Figure(figure)
    copy.update_layout(font={"color": ink}, paper_bgcolor=paper, plot_bgcolor=paper)
    copy.update_layout(title={"subtitle": {"font": {"color": soft}}})
    return copy


def lowered(figure: go.Figure) -> go.Figure:
    """Room between the subtitle and the headings of panels, which are left-aligned and small."""
    for heading in figure.layout.annotations[: len(list(figure.select_xaxes()))]:
        heading.update(font={"size": 12})
    return figure.update_layout(margin={"t": figure.layout.margin.t + 24})


def colour_bar(title: str) -> dict[str, object]:
    """A thin colour bar with its unit."""
    words = {"text": title, "side": "top", "font": {"size": 12}}
    return {"title": words, "tickfont": {"size": 10}, "thickness": 10, "outlinewidth": 0, "len": 0.9, "ypad": 0}


def depth_axis(figure: go.Figure, row: int | None = None, title: bool = True) -> None:
    """Set the x axis (of one row of panels, if given) to the depth of a layer, from 0 to 1."""
    place = {} if row is None else {"row": row, "col": 1}
    figure.update_xaxes(range=[0, 1.02], tickvals=[0, 0.25, 0.5, 0.75, 1], **place)
    if title:
        figure.update_xaxes(title_text=DEPTH_TITLE, **place)


def band(
    table: DataFrame, low: str, high: str, name: str, opens: Literal["up", "down", ""] = "", end: float = 0.0
) -> tuple[go.Scatter, go.Scatter]:
    """The two traces of a grey band between two columns over depth.

    Where the test behind it looks one way, the band has one edge and is open on the other side: a test for higher
    values leaves all below, from `end`, to the null (`opens="down"`).
    """
    common = {"x": table["depth"], "mode": "lines", "hoverinfo": "skip", "legendgroup": name}
    edge, none = {"color": LINE, "width": 0.8}, {"color": LINE, "width": 0}
    flat = [end] * len(table)
    floor, line = (flat, none) if opens == "down" else (table[low], edge)
    lower = go.Scatter(y=floor, showlegend=False, name=name, line=line, **common)
    top, line = (flat, none) if opens == "up" else (table[high], edge)
    upper = go.Scatter(y=top, fill="tonexty", fillcolor=BAND, name=name, line=line, **common)
    return lower, upper


def counted(result: object, *fields: str) -> str:
    """'n = 160 texts, 8 topics' from n_texts and n_topics, for those that the result knows."""
    known = [(getattr(result, f"n_{field}", None), field) for field in fields]
    parts = [f"{n:,} {field}" for n, field in known if isinstance(n, Integral) and int(n) > 0]
    return f"n = {', '.join(parts)}" if parts else ""


def span(counts: Iterable[int]) -> str:
    """'40', or '38 to 40' where counts differ."""
    n = sorted({int(x) for x in counts})
    return f"{n[0]}" if len(n) == 1 else f"{n[0]} to {n[-1]}"


def emotion_colour(emotion: str) -> str:
    """The colour an emotion bears in every figure, as #rrggbb.

    Human valence gives the hue, on a diverging scale that colour-blind readers can tell apart (purplish red for
    unpleasant, greyish in the middle, yellowish green for pleasant); human arousal gives the lightness, more aroused
    being darker and stronger. Emotions without a norm, and neutral, are grey.

    Args:
        emotion: any name.

    Example:
        >>> colour = le.plots.emotion_colour("calm")
        >>> colour.startswith("#")
        True
    """
    norm = valence_arousal().get(emotion)
    if emotion == NEUTRAL or norm is None or norm.valence is None or norm.arousal is None:
        return GREY
    pleasant = max(-1.0, min(1.0, (norm.valence - 5) / 3.2))
    aroused = max(0.0, min(1.0, (norm.arousal - 1.5) / 5))
    hue = 125.0 if pleasant > 0 else 352.0
    chroma = (0.05 + 0.12 * abs(pleasant) ** 0.7) * (0.75 + 0.25 * aroused)
    return _oklch_hex(0.66 - 0.13 * aroused, chroma, hue)


def _oklch_hex(lightness: float, chroma: float, hue: float) -> str:
    """Oklch (perceptual lightness, chroma, hue in degrees) as #rrggbb, clipped to sRGB."""
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    long, medium, short = (
        (lightness + p * a + q * b) ** 3
        for p, q in ((0.3963377774, 0.2158037573), (-0.1055613458, -0.0638541728), (-0.0894841775, -1.2914855480))
    )
    linear = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )

    def encode(x: float) -> int:
        x = max(0.0, min(1.0, x))
        return round(255 * (12.92 * x if x <= 0.0031308 else 1.055 * x ** (1 / 2.4) - 0.055))

    return "#" + "".join(f"{encode(channel):02x}" for channel in linear)


# Words inside figures. Plotly reads labels and hover texts as HTML and TeX: what a model wrote must do neither.
VISIBLE = {"\n": "⏎", "\t": "⇥", "\r": "␍", "\v": "␋", "\f": "␌"}
LONGEST_TEXT = 900  # characters of a text that fit a hover label; sentences of ours are shorter


def plain(text: object) -> str:
    """Any text as it stands: no tags, no entities, no TeX, and nothing invisible that could turn the line round."""
    shown = "".join(VISIBLE.get(c, "" if unicodedata.category(c) in ("Cc", "Cf") else c) for c in str(text))
    return escape(shown, quote=False).replace("$", "&#36;")


def token_text(token: str) -> str:
    """A token in a label: the space that it begins with is shown as a low bar, so that ' a' and 'a' differ."""
    return plain(token.replace(" ", "␣") if not token.strip(" ") else token.strip(" ")) or "∅"


def wrapped(text: object) -> str:
    """A text for a hover label: escaped, in lines, cut with an ellipsis."""
    words = str(text)
    words = words if len(words) <= LONGEST_TEXT else words[:LONGEST_TEXT].rstrip() + " …"
    lines = [line for part in words.splitlines() or [""] for line in textwrap.wrap(part, 64) or [""]]
    return "<br>".join(plain(line) for line in lines)


def swatch(emotion: str, before: bool = False) -> str:
    """An emotion's name with a small square of its colour, for the ticks of an axis."""
    square = f'<span style="color:{emotion_colour(emotion)}">■</span>'
    return f"{square} {plain(emotion)}" if before else f"{plain(emotion)} {square}"


def by_valence(names: Iterable[str]) -> list[str]:
    """From unpleasant to pleasant by human ratings; names without a rating come last, in their own order."""
    norms = valence_arousal()

    def key(name: str) -> tuple[bool, float]:
        valence = norms[name].valence if name in norms else None
        return (valence is None, valence or 0.0)

    return sorted(names, key=key)


def emotion_ticks(names: Sequence[str]) -> dict[str, object]:
    """Options of an axis that names every one of these emotions, with its colour."""
    words = [swatch(name) for name in names]
    return {"tickmode": "array", "tickvals": list(range(len(names))), "ticktext": words, "ticks": ""}


def p_words(p: float) -> str:
    """'p = 0.005', 'p = 3e-07', or nothing where there is no p."""
    if p != p:
        return ""
    return f"p = {p:.3f}" if p >= 0.001 else f"p = {p:.1g}"
