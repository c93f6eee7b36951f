"""The page on real screens, in one Chromium: a phone without a scroll sideways, both themes without a serious finding
of axe, all by the keyboard, print in few pages of legible text, quiet and offline.
"""

from __future__ import annotations

import base64
import re
import zlib
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
from browser import CHROMIUM, Browser, browser
from test_browser import page_of
from test_plots import every_figure

from lens_emotion.report.page import render_report
from lens_emotion.report.parts import (
    Bar,
    Cell,
    Chip,
    ClaimRow,
    Finding,
    Headline,
    KeyNumber,
    ModelReport,
    RunReport,
    Section,
)
from lens_emotion.study.verdict import STATEMENTS, VERDICTS

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason="no Chromium here")]
MODELS = tuple(f"organisation-{i}/a-model-with-a-long-name-{i}B-Instruct" for i in range(5))
WORDS = "held-out accuracy is 0.62 of 20 emotions, against permuted labels of 0.03 to 0.08, over 12 topics; "
WIDTHS = (1900, 1440, 768, 390)


def claim(i: int, code: str) -> ClaimRow:
    cells = tuple(Cell(VERDICTS[(i + j // 3) % 4], note=WORDS) for j in range(5))
    verdict = Cell(VERDICTS[i % 4], note=WORDS * 2)
    said = tuple(f"In {name}: {WORDS * 3}" for name in MODELS)
    return ClaimRow(
        code, STATEMENTS[code], verdict, cells, said, "difference 0.06 [0.04, 0.22]", "0", "5 models", (WORDS,)
    )


def model(name: str, figures) -> ModelReport:
    wide = pd.DataFrame({f"null_low_{i}": [0.123456] * 3 for i in range(16)})
    findings = tuple(Finding("decoding", "0.62 at depth 50%", WORDS, v, WORDS) for v in ("above its null", "reported"))
    sections = (
        Section("Where", WORDS, figures, (("A wide table", wide, "m/tables/x.csv"),), opened=True),
        Section("Folded", WORDS),
    )
    return ModelReport(name, "llama", "base", "passages", 12, 768, 83.2, findings, sections)


@pytest.fixture(scope="module")
def page() -> str:
    drawn = list(every_figure(12, 20).items())
    some = tuple((f"caption of {name}", figure, f"m/tables/{name}.csv") for name, figure in drawn[:3])
    every = tuple((f"caption of {name}", figure, f"m/tables/{name}.csv") for name, figure in drawn)
    zone = (0.0, 0.08)
    bars = tuple(Bar(0.6, zone, 0.5, 0.7, name) for name in MODELS)
    numbers = tuple(KeyNumber(n, "0.62", WORDS, "chance 0.05", bars) for n in ("reads", "steers", "best depth"))
    chips = tuple(Chip(code, "a few words", VERDICTS[i % 4]) for i, code in enumerate(STATEMENTS))
    first = Headline(
        "Emotion can be read and steered in all five models; no U-shape over depth", "A check.", chips, numbers
    )
    rows = [
        {
            "model": Cell(m, note="llama"),
            "reads": Cell(0.62, "good", "chance 0.05", WORDS, bars[0]),
            "writes": Cell("noise", "noise"),
        }
        for m in MODELS
    ]
    models = (model(MODELS[0], every), *(model(m, some) for m in MODELS[1:]))
    claims = tuple(claim(i, code) for i, code in enumerate(STATEMENTS))
    over = Section("Do the models agree?", WORDS, some[:1])
    return render_report(
        RunReport(
            "A run", "2026-11-27T00:00:00", f"study {' '.join(MODELS)}", rows, models, {"torch": "2" * 200},
            WORDS, claims, drawn[0][1], (over,), WORDS * 20, first, (1 / 201,),
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def path(page, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def show(chromium: Browser, path: Path, width: int, dark: bool = False) -> None:
    theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 800}
    chromium.call("Emulation.setDeviceMetricsOverride", **size)
    chromium.call("Emulation.setEmulatedMedia", media="", features=[theme])
    chromium.call("Page.navigate", url=path.as_uri())
    chromium.until("document.readyState === 'complete' && !!document.getElementById('open-all')")


def unfold(chromium: Browser) -> None:
    chromium.js("document.querySelectorAll('details').forEach(d => { d.open = true; })")


# opens what is over models, the first model, and its first section
FIRST = "[...document.querySelectorAll('.block, .section')].slice(0, 3).forEach(d => { d.open = true; })"
SIDEWAYS = """(() => { const w = innerWidth; return [document.documentElement.scrollWidth - w,
  [...document.querySelectorAll('main *, header *')].filter(e => !e.closest('.scroll, pre, svg, .plot, .hidden, .bar')
    && e.getBoundingClientRect().right > w + 1).slice(0, 5).map(e => e.tagName + '.' + e.className)]; })()"""


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_screen(chromium, path, width):
    show(chromium, path, width)
    folded = chromium.js(SIDEWAYS)
    height = chromium.js("document.documentElement.scrollHeight")
    unfold(chromium)
    assert (folded[1], chromium.js(SIDEWAYS)[1]) == ([], [])
    assert folded[0] <= 0
    assert height < 14_000, "folded, five models are a few screens"


def test_on_a_phone_every_figure_is_drawn_within_the_screen(chromium, path):
    show(chromium, path, 390)
    chromium.js(FIRST)
    # so high that all of it is in view, and drawn
    chromium.call("Emulation.setDeviceMetricsOverride", width=390, height=16_000, deviceScaleFactor=1, mobile=True)
    shown = "[...document.querySelectorAll('.plot')].filter(p => p.checkVisibility())"
    chromium.until(f"{shown}.every(p => p.querySelector('svg, .failed') || p.getBoundingClientRect().top > 15_000)", 60)
    assert chromium.js("document.querySelectorAll('.plot .failed').length") == 0
    assert chromium.js("document.querySelectorAll('.plot svg.main-svg').length") > 10
    ends = "[...document.querySelectorAll('.plot svg.main-svg')].map(s => s.getBoundingClientRect().right)"
    assert chromium.js(f"Math.max(...{ends})") <= 391


@pytest.mark.skipif(find_spec("axe_core_python") is None, reason="axe-core is not here")
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1440, 390])
def test_axe_finds_nothing_serious(chromium, path, width, dark):
    axe = Path(find_spec("axe_core_python").submodule_search_locations[0], "axe.min.js").read_text(encoding="utf-8")
    show(chromium, path, width, dark)
    unfold(chromium)
    chromium.js(f"{axe}; 1")
    found = chromium.js(
        "axe.run(document, {resultTypes: ['violations']}).then(r => r.violations.map("
        "v => [v.id, v.impact, v.nodes.length, v.nodes[0].html.slice(0, 200)]))"
    )
    assert [v for v in found if v[1] in ("serious", "critical")] == []


def test_all_is_reached_by_the_keyboard(chromium, path):
    show(chromium, path, 768)
    unfold(chromium)
    stuck = chromium.js(
        "[...document.querySelectorAll('.scroll, pre, .behind')].filter(e => e.tabIndex < 0).map(e => e.className)"
    )
    assert stuck == []
    chromium.js(
        "document.querySelector('details.why').open = false; document.querySelector('details.why summary').focus()"
    )
    for kind in ("keyDown", "keyUp"):
        chromium.call(
            "Input.dispatchKeyEvent",
            type=kind,
            key="Enter",
            code="Enter",
            windowsVirtualKeyCode=13,
            text="\r" * (kind == "keyDown"),
        )
    assert chromium.until("document.querySelector('details.why').open", 5)


def test_figures_have_a_name_and_a_way_to_their_data(chromium, path):
    show(chromium, path, 1440)
    assert chromium.js(
        "[...document.querySelectorAll('.plot')].every(p => p.getAttribute('role') === 'img' && p.ariaLabel)"
    )
    assert (
        chromium.js(
            "[...document.querySelectorAll('figcaption')].filter(c => c.querySelector('a[href$=\".csv\"]')).length"
        )
        > 20
    )
    unlinked = chromium.js(
        "[...document.querySelectorAll('main > section[id], .fold[id]')].filter(s => s.id !== 'appendix' && "
        "!s.querySelector(`:scope > a.anchor[href='#${s.id}']`)).map(s => s.id)"
    )
    assert unlinked == []


def test_a_link_to_a_folded_part_opens_it(chromium, path):
    show(chromium, path, 1440)
    part = chromium.js("document.querySelectorAll('.fold .fold')[1].id")
    assert not chromium.js(f"document.getElementById('{part}').checkVisibility()")
    chromium.js(f"location.hash = '{part}'")
    assert chromium.until(f"document.getElementById('{part}').querySelector('.prose').checkVisibility()", 10)


def printed(chromium: Browser) -> tuple[int, set[tuple[int, int]]]:
    """How many pages, and which sizes they have."""
    data = base64.b64decode(chromium.call("Page.printToPDF", preferCSSPageSize=True)["data"])
    text = data + b"".join(_inflated(data))
    boxes = re.findall(rb"/MediaBox\s*\[\s*0 0 ([\d.]+) ([\d.]+)\s*\]", text)
    return len(boxes), {(round(float(w)), round(float(h))) for w, h in boxes}


def _inflated(data: bytes):
    for found in re.finditer(rb"stream\r?\n(.*?)endstream", data, re.S):
        try:
            yield zlib.decompress(found.group(1))
        except zlib.error:
            continue


def test_summary_and_claims_print_on_few_pages(chromium, path):
    show(chromium, path, 1280)
    pages, sizes = printed(chromium)
    assert pages <= 12 and sizes == {(595, 842)}
    assert chromium.js("document.getElementById('appendix').hidden && !document.querySelector('#appendix .said')")
    assert chromium.js("document.querySelectorAll('ol.claims .why .said').length") == 9, "the reasons are back in place"


def test_what_is_opened_is_printed_wide_tables_turned_text_of_seven_points(chromium, path):
    show(chromium, path, 1280)
    chromium.js(FIRST)
    _, sizes = printed(chromium)
    assert (842, 595) in sizes and (595, 842) in sizes
    chromium.call("Emulation.setDeviceMetricsOverride", width=682, height=900, deviceScaleFactor=1, mobile=False)
    chromium.call("Emulation.setEmulatedMedia", media="print")
    chromium.js("dispatchEvent(new Event('beforeprint'))")
    chromium.until(
        "[...document.querySelectorAll('.plot')].filter(p => p.checkVisibility()).every(p => p.querySelector('svg'))"
    )
    small = chromium.js("""[...document.querySelectorAll('body *')].filter(e => e.checkVisibility()
      && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())
      && parseFloat(getComputedStyle(e).fontSize) < 9.3
      ).map(e => e.tagName + ' ' + getComputedStyle(e).fontSize + ' ' + e.textContent.slice(0, 40)).slice(0, 8)""")
    assert small == [], "7 points are 9.33 pixels"
    assert chromium.js("document.documentElement.scrollWidth") <= 682, (
        "Chromium shrinks all pages if one thing is wider"
    )


def test_pages_were_quiet_and_asked_nobody(chromium, path, tmp_path):
    other = tmp_path / "other.html"
    other.write_text(page_of(), encoding="utf-8")
    show(chromium, other, 1440)
    assert chromium.complaints == []
    assert [r for r in chromium.requests if not r.startswith(("file:", "data:", "blob:"))] == []
