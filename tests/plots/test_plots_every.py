"""What holds for every figure: n, units and template, one colour per emotion, no rainbow, and text that stays text."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import plotly.graph_objects as go

from lens_emotion import plots
from lens_emotion.plots.theme import by_valence


def texts(figure: go.Figure) -> str:
    return json.dumps(json.loads(figure.to_json()), ensure_ascii=False)


def test_every_public_figure_function_has_a_real_result(results):
    functions = set(plots.__all__) - {"about", "emotion_colour", "on_paper", "panels", "template"}
    functions -= {"regimes", "verification"}  # of whole runs: tests/report/test_drawn_runs.py
    assert functions == set(results)


def test_every_figure_has_n_units_and_our_template_and_survives_json_and_paper(figures):
    for name, figure in figures.items():
        assert figure.layout.title.text, name
        assert "n = " in figure.layout.title.subtitle.text, name
        assert figure.layout.template.layout.paper_bgcolor == "#ffffff", name
        assert go.Figure(json.loads(figure.to_json())).layout.height == figure.layout.height, name
        assert plots.on_paper(figure).layout.paper_bgcolor == "#ffffff", name
        axes = [*figure.select_xaxes(), *figure.select_yaxes()]
        named = [a.title.text for a in axes if a.title.text]
        assert named or all(a.showticklabels is False for a in axes), name


def test_no_scale_is_a_rainbow_and_every_signed_scale_is_centred_at_zero(figures):
    for name, figure in figures.items():
        for trace in figure.data:
            if trace.type == "heatmap":
                assert len(trace.colorscale) <= 8, name  # two or three stops, or two per regime
                if trace.zmid == 0:
                    assert trace.zmin == -trace.zmax, name


def test_what_models_and_people_write_is_never_read_as_html_or_tex(figures, results):
    for name in ("token_scores", "preview", "claims"):
        page = texts(figures[name])
        assert not any(tag in page for tag in ("<b>Ben", "<i>and", "<b>reason", "m<1>")), name
    grid = results["regime_map"]
    wild = replace(grid, texts=grid.texts.assign(text="<img src=x> $x^2$ &lt;"), judge="<script>", model="<u>m</u>")
    page = texts(plots.regime_map(wild))
    assert "<img" not in page and "<script" not in page and "<u>" not in page and "$x" not in page
    assert "&lt;img src=x&gt; &#36;x^2&#36; &amp;lt;" in page
    words = results["lens"]
    wild = replace(words, table=words.table.assign(token="<a>\n\u202eb"), model="<u>m</u>")
    page = texts(plots.lens(wild))
    assert "<a>" not in page and "<u>" not in page and "\u202e" not in page and "⏎" in page


def test_an_emotion_has_one_colour_in_every_figure(figures, results):
    reliability = figures["reliability"]
    dots = next(t for t in reliability.data if t.name == "emotion")
    names = [row[0] for row in dots.customdata]
    assert list(dots.marker.color) == [plots.emotion_colour(n) for n in names]
    assert names == by_valence(names)
    for name in (
        "reliability",
        "similarity",
        "confusion",
        "side_effects",
        "lens",
        "token_scores",
        "compare",
        "opposites",
    ):
        ticks = [t for axis in figures[name].select_yaxes() for t in axis.ticktext or ()]
        squares = [t for t in ticks if "■" in t]
        assert squares, name
        for tick in squares:
            words = re.sub("<[^>]*>|■", " ", tick).split()
            assert re.findall("color:(#[0-9a-f]{6}|#8A8F98)", tick) == [plots.emotion_colour(w) for w in words], name
