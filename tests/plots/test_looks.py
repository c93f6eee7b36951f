"""What every figure owes its reader: contrast, colours that all can tell apart, references, one word for one thing."""

from __future__ import annotations

import ast
import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn import claims_result, read

import lens_emotion as le
from lens_emotion import plots
from lens_emotion.display import said
from lens_emotion.plots import _findings
from lens_emotion.plots.theme import (
    BLUE,
    GREEN,
    GREY,
    INKS,
    LINE,
    ORANGE,
    PURPLE,
    REGIME_COLOURS,
    SKY,
    TILE_INK,
    TILES,
    TILES_BOTH,
    VERMILLION,
    band,
    emotion_colour,
)
from lens_emotion.stimuli.emotions import EMOTIONS
from lens_emotion.study.verdict import ALL_MODELS, UNDETERMINED, Claim, Claims, Effect

ROOT = Path(__file__).parents[2]
PAPERS = {"light": "#ffffff", "dark": INKS["dark"][0], "the report, light": "#fbfbf9", "its cards, dark": "#1b1f24"}
# Machado, Oliveira & Fernandes 2009, "A Physiologically-based Model for Simulation of Color Vision Deficiency", IEEE
# TVCG 15(6), table of matrices: deuteranomaly of severity 1.0, which is deuteranopia; on linear RGB
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)
# sRGB to XYZ under D65 (IEC 61966-2-1)
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> np.ndarray:
    v = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def contrast(a: str, b: str) -> float:
    """WCAG 2.2: ratio of relative luminances."""
    low, high = sorted(float(XYZ[1] @ linear(c)) for c in (a, b))
    return (high + 0.05) / (low + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    x = XYZ @ rgb / np.array([0.9505, 1.0, 1.089])
    f = np.where(x > 216 / 24389, np.cbrt(x), (24389 / 27 * x + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def seen(colour: str) -> np.ndarray:
    """In Lab, as a deuteranope sees it."""
    return lab(np.clip(DEUTERANOPIA @ linear(colour), 0, 1))


@pytest.mark.parametrize(("a", "b"), list(itertools.combinations(REGIME_COLOURS, 2)))
def test_regimes_are_told_apart_without_red_and_green_and_in_grey_print(a, b):
    one, other = REGIME_COLOURS[a], REGIME_COLOURS[b]
    assert np.linalg.norm(seen(one) - seen(other)) > 20  # CIE76; 2.3 is just noticeable side by side
    assert abs(lab(linear(one))[0] - lab(linear(other))[0]) > 9  # steps of lightness, of 100


@pytest.mark.parametrize("paper", PAPERS.values(), ids=PAPERS)
@pytest.mark.parametrize("line", [BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE, GREY, LINE])
def test_lines_have_a_contrast_of_three(line, paper):
    assert contrast(line, paper) >= 3


@pytest.mark.parametrize("paper", PAPERS.values(), ids=PAPERS)
def test_the_colours_of_emotions_have_a_contrast_of_three(paper):
    assert min(contrast(emotion_colour(e), paper) for e in EMOTIONS) >= 2.95


def test_text_has_a_contrast_of_four_and_a_half():
    for paper, *inks in INKS.values():
        assert min(contrast(ink, paper) for ink in inks) >= 4.5
    tiles = [*REGIME_COLOURS.values(), *(c for _, c in (*TILES, *TILES_BOTH))]
    assert min(contrast(TILE_INK, tile) for tile in tiles) >= 4.5


@pytest.mark.parametrize("dark", [False, True])
def test_a_figure_brings_its_paper_and_ink(figures, dark):
    for figure in figures.values():
        paper, ink, soft = INKS["dark" if dark else "light"]
        layout = plots.on_paper(figure, dark).layout
        assert (layout.paper_bgcolor, layout.font.color, layout.title.subtitle.font.color) == (paper, ink, soft)
        shared = figure.layout.template.layout
        assert (shared.paper_bgcolor, shared.font.color) == INKS["light"][:2]


C1 = "accuracy, writing less reading"
OLD = (
    "Layer sweep:",
    "Held-out decoding",
    "Anisotropy",
    "Circumplex",
    "Opposite emotions",
    "Probe:",
    "Methods compared",
)


def test_the_title_is_a_finding_and_what_it_is_of_stands_below(figures):
    for name, figure in figures.items():
        title = figure.layout.title.text.replace("<br>", " ")
        assert title not in OLD and len(title) > 20, name
        assert re.search(r"\d|not|no|all|none|every|neither|follow", title, re.I), (name, title)
        lines = figure.layout.title.text.split("<br>")
        assert max(map(len, lines)) <= (112 if figure.layout.meta["wide"] else 68), name
        room = figure.layout.title.pad.t - 12
        assert room == 9 * (len(lines) - 1), name  # two lines begin lower, or the first would be cut


NOTHING, SOMETHING = read(signal=0.0, seed=3), read(signal=1.5)


@pytest.mark.parametrize(
    ("figure", "analyse", "empty", "found"),
    [
        ("layer_sweep", lambda a: le.layer_sweep(a, n_permutations=40), "at no layer", "told apart at every"),
        ("separation", lambda a: le.separation(a, n_permutations=40), "Not distinguishable from noise", "unseen"),
        ("decoding", lambda a: le.decoding(a, n_permutations=40), "at no layer", "at every layer"),
        ("reliability", lambda a: le.reliability(a, n_splits=4, n_permutations=40), "No more alike", "all 5 emotions"),
        ("compare", lambda a: le.compare(a, NOTHING, n_permutations=40), "no difference that is not", "better than"),
    ],
)  # fmt: skip
def test_what_the_null_explains_is_no_finding(figure, analyse, empty, found):
    titles = [
        getattr(plots, figure)(analyse(acts)).layout.title.text.replace("<br>", " ") for acts in (NOTHING, SOMETHING)
    ]
    assert empty in titles[0] and found in titles[1], titles


REFERENCES = {
    "layer_sweep": ("chance (0.2)", "middle third of the layers", "permuted labels"),
    "decoding": ("chance (0.2)", "middle third of the layers", "permuted labels"),
    "separation": ("chance (0.2)", "zero", "permuted labels"),
    "compare": ("chance (0.2)", "zero"),
    "reliability": ("zero", "permuted labels"),
    "anisotropy": ("zero",),
    "opposites": ("zero", "relabelled emotions"),
    "base_vs_instruct": ("chance (0.2)", "zero"),
    "drift": ("chance (0.2)",),
    "probe": ("chance (0.2)", "permuted labels"),
    "transfer": ("chance (0.2)", "permuted labels"),
    "dose_response": ("random direction",),
    "leakage": ("random direction",),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_the_reference_is_drawn(figures, name):
    drawn = [t for t in figures[name].data if t.x is not None and any(x is not None for x in t.x)]
    for reference in REFERENCES[name]:
        assert any((t.name or "").startswith(reference) for t in drawn), reference


def test_a_test_that_looks_one_way_has_a_band_with_one_edge(results, figures):
    table = results["decoding"].table
    for name, opens, column in (("layer_sweep", "down", "null_high"), ("separation", "up", "null_low")):
        low, high = (t for t in figures[name].data if (t.name or "").startswith("permuted") and t.yaxis in (None, "y"))
        open_side, edge = (low, high) if opens == "down" else (high, low)
        assert open_side.line.width == 0 and edge.line.width > 0 and len(set(open_side.y)) == 1, name
        np.testing.assert_allclose(edge.y, results[name].table[column])
    both = band(table, "null_low", "null_high", "n")
    assert [t.line.width > 0 for t in both] == [True, True]


def test_no_entry_of_a_legend_is_without_content(figures):
    for name, figure in figures.items():
        entries = [t for t in figure.data if t.type == "scatter" and t.showlegend is not False and t.name]
        shown = json.dumps(json.loads(figure.to_json())["data"])
        for t in entries:
            if t.x is None or not any(x is not None for x in t.x):  # a key: something else in the figure bears its look
                assert shown.count(str(t.marker.color or t.line.color)) > 1 or "shapes" in figure.layout, (name, t.name)
    verdicts = {t.name for t in figures["claims"].data}
    assert "not supported" not in verdicts  # no claim of this run has it


def test_only_regimes_that_occur_are_in_the_key(results):
    grid = results["regime_map"]
    keys = [t.name for t in plots.regime_map(replace(grid, table=grid.table.assign(regime="inert"))).data if t.name]
    assert any("inert" in k for k in keys) and not any("explosive" in k for k in keys)


def test_an_interval_wider_than_any_difference_is_said_and_not_drawn(results):
    result = results["compare"]
    wide = {"low": -2.3, "high": 1.8}
    result = replace(result, table=result.table.assign(**wide), overall=result.overall.assign(**wide))
    figure = plots.compare(result)
    assert figure.layout.title.text.startswith("Too few topics (8) to compare writing with reading")
    assert any("too few topics (n = 8)" in a.text for a in figure.layout.annotations)
    assert not [t for t in figure.data if t.error_y.array is not None]
    assert "-2.3" not in figure.layout.title.subtitle.text
    models = results["compare_models"]
    models = replace(models, tests=models.tests.assign(**wide))
    assert "Too few models (3)" in plots.compare_models(models).layout.title.text
    claims = Claims(
        (Claim("C1", "m", UNDETERMINED, "wide", "s", Effect("accuracy, writing less reading", 0.1, -2.3, 1.8)),)
    )
    drawn = plots.claims(claims)
    assert not [t for t in drawn.data if t.error_x.array is not None]
    assert "too few" in " ".join(w for t in drawn.data if t.name == "in words" for w in t.text)


def test_over_one_model_there_is_no_row_of_all_models_and_no_sentence_is_cut():
    reason = "because " + "of a long reason that nobody may cut short " * 8 + "end"
    rows = [c for c in claims_result().claims if c.scope in ("m2", ALL_MODELS)]
    rows = [replace(c, reason=reason) if c.effect is None else c for c in rows]
    figure = plots.claims(Claims(tuple(rows)))
    assert [t for axis in figure.select_yaxes() for t in axis.ticktext] == ["m2"] * 2 * 2
    words = " ".join(w for t in figure.data if t.name == "in words" for w in t.text)
    assert "end" in words and "…" not in words
    shades = [s for s in figure.layout.shapes if s.type == "rect"]
    assert not shades or all(s.x0 < s.x1 for s in shades)


def test_claims_shade_what_is_too_small_to_matter_and_the_middle_third():
    effects = (
        ("C1", Effect("accuracy, writing less reading", 0.3, 0.2, 0.4)),
        ("C2", Effect("best depth", 0.5, 0.4, 0.6)),
    )
    rows = tuple(Claim(code, "m", UNDETERMINED, "r", "s", effect, smallest=0.1) for code, effect in effects)
    rects = [(round(s.x0, 3), round(s.x1, 3)) for s in plots.claims(Claims(rows)).layout.shapes if s.type == "rect"]
    assert rects == [(-0.1, 0.1), (0.333, 0.667)]


# The words that the glossary does not choose, in what is shown: pages, figures, captions, claims, the report.
NOT_CHOSEN = re.compile(r"\bcomprehension\b|\bJ preset|\bjeong preset|\bgeneration(?! settings)(?!\.)(?!_)\b", re.I)
PROSE = [
    p
    for p in (*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md")
    if p.name not in ("glossary.md", "changelog.md")
]
SHOWN = ("report/*.py", "plots/*.py", "study/exhibits.py", "study/methods.py", "study/verdict.py", "study/claims/*.py")
NAMES = re.compile(r"comprehension, generation or jeong|[a-z_]*(comprehension|generation)(_[a-z]+)+|--(no-)?generation")


def prose(page: Path) -> str:
    text = re.sub(r"^```.*?^```|^    .*?$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`]*`|\]\([^)]*\)|<[^>]*>", "", text)


@pytest.mark.parametrize("page", PROSE, ids=lambda p: p.name)
def test_pages_use_the_words_of_the_glossary(page):
    text = re.sub(r"text-generation|title\s*=.*", "", prose(page))
    assert not [line for line in text.splitlines() if NOT_CHOSEN.search(line) and "Extracting and Steering" not in line]


def strings(path: Path) -> list[str]:
    """What stands between quotes and has a space: words for people, without docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = {
        id(n.body[0].value)
        for n in ast.walk(tree)
        if isinstance(n, ast.Module | ast.FunctionDef | ast.ClassDef) and n.body and isinstance(n.body[0], ast.Expr)
    }
    found = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return [n.value for n in found if id(n) not in documented and " " in n.value.strip()]


@pytest.mark.parametrize("where", SHOWN)
def test_what_the_package_shows_uses_the_words_of_the_glossary(where):
    addresses = {"generation, conditioned", "generation, reread"}  # names of stored results, which `said` puts in words
    for path in sorted((ROOT / "lens_emotion").glob(where)):
        shown = [NAMES.sub("", text) for text in strings(path) if text not in addresses]
        assert not [text for text in shown if NOT_CHOSEN.search(text)], path.name


def test_figures_and_the_report_use_the_words_of_the_glossary(figures, results):
    for name, figure in figures.items():
        words = " ".join(re.findall(r'"(?:text|name|ticktext)":\s*"([^"]*)"', figure.to_json()))
        assert not NOT_CHOSEN.search(words), name
    page = (ROOT / "lens_emotion/report/assets/report.html.j2").read_text(encoding="utf-8")
    assert not NOT_CHOSEN.search(re.sub(r"\{[{%#].*?[}%#]\}|<[^>]*>", "", page, flags=re.DOTALL))
    assert not NOT_CHOSEN.search(results["compare"].summary())


def test_names_of_methods_in_words():
    assert said("generation, reread") == "writing, reread"
    assert said("comprehension") == "reading"
    assert said("my method") == "my method"


def test_every_figure_has_its_finding():
    drawn = set(plots.__all__) - {"about", "emotion_colour", "on_paper", "panels", "template"}
    assert drawn <= {name for name in vars(_findings) if callable(getattr(_findings, name))}


@pytest.mark.slow
def test_the_gallery_runs_and_has_a_thumbnail_for_every_figure():
    import sys

    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from make_docs_gallery import IMAGES, PAGE, figures
    finally:
        sys.path.pop(0)
    page = PAGE.read_text(encoding="utf-8")
    names = [name for name, figure in figures() if figure.layout.title.text]
    assert len(names) == len(set(names)) == 20
    for name in names:
        assert f"](images/gallery/{name}.webp)](#{name})" in page and f"{{: #{name} }}" in page, name
        assert (IMAGES / f"{name}.webp").stat().st_size < 80_000
    images = sum(p.stat().st_size for p in (ROOT / "docs" / "images").rglob("*") if p.is_file())
    assert images < 2_000_000
