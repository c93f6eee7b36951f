"""The page in a real browser: quiet, offline, a slider that moves every figure, cells that open their texts."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape

import pandas as pd
import plotly.graph_objects as go
import pytest

from lens_emotion import plots
from lens_emotion.report.page import figure_json, render_report
from lens_emotion.report.parts import (
    LayerSlider,
    LayerStop,
    ModelReport,
    PlainText,
    RunReport,
    Section,
    SteeredText,
    TextCell,
    TextCells,
)

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
EVIL = "</script><img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>"
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--window-size=1300,2400", "--virtual-time-budget=9000"),
)

# runs before the page's own scripts: collects whatever goes wrong or leaves the page
WATCH = """<script>
window.noise = [];
for (const name of ["error", "warn"]) { const plain = console[name]; console[name] = (...words) => {
  window.noise.push(name + ": " + words.join(" ")); plain(...words); }; }
addEventListener("error", event => window.noise.push("thrown: " + event.message));
addEventListener("unhandledrejection", event => window.noise.push("rejected: " + event.reason));
addEventListener("securitypolicyviolation", event => window.noise.push("request: " + event.blockedURI));
</script>"""
# uses the page as a reader would, and leaves what it saw in the title's place
USE = """<script>
const wait = ms => new Promise(done => setTimeout(done, ms));
const shown = () => [...document.querySelectorAll(".slides .plot")].map(plot =>
  JSON.stringify(plot.data[0].z ?? plot.data[0].y) + plot.layout.title.text);
addEventListener("load", async () => {
  const seen = {};
  try {
    await wait(1500);
    const slider = document.querySelector("input[type=range]");
    seen.start = {layer: slider.value, figures: shown(), said: slider.getAttribute("aria-valuetext")};
    slider.value = 0;
    slider.dispatchEvent(new Event("input", {bubbles: true}));
    await wait(1500);
    seen.moved = {layer: slider.value, figures: shown(), said: document.querySelector("output").textContent};
    document.querySelector(".layers button").click();
    await wait(1500);
    seen.back = {layer: slider.value, figures: shown()};
    document.querySelectorAll("details.section")[1].open = true;
    await wait(1000);
    const behind = document.querySelector(".behind");
    const cells = [...document.querySelectorAll("button.cell")];
    seen.first = behind.textContent;
    cells[0].click();
    seen.clicked = behind.textContent;
    cells[0].focus();
    cells[0].dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowDown", bubbles: true, cancelable: true}));
    seen.keyed = behind.textContent;
    seen.focused = cells.indexOf(document.activeElement);
    seen.pressed = cells.map(cell => cell.getAttribute("aria-pressed"));
    seen.markup = behind.querySelectorAll("img, script").length;
    document.querySelectorAll("details.section")[1].open = false;
    dispatchEvent(new Event("beforeprint"));
    await wait(500);
    seen.printed = [...document.querySelectorAll("details.section")].map(section => section.open);
    dispatchEvent(new Event("afterprint"));
    await wait(500);
    seen.loaded = performance.getEntriesByType("resource").map(entry => entry.name);
    seen.sections = [...document.querySelectorAll("details.section")].map(section => section.open);
  } catch (error) { window.noise.push("while used: " + error); }
  seen.noise = window.noise;
  seen.title = document.title;
  const report = document.createElement("pre");
  document.body.replaceChildren(Object.assign(report, {id: "seen", textContent: JSON.stringify(seen)}));
});
</script>"""


def _figure(layer: int, kind: str) -> go.Figure:
    values = [[layer, 1.0], [0.5, layer / 10]]
    trace = go.Heatmap(z=values) if kind == "heat" else go.Scatter(x=[1, 2], y=values[0], text=["a", EVIL])
    return go.Figure(trace, layout={"title": {"text": f"layer {layer}"}, "template": plots.template()})


def _cell(name: str) -> TextCell:
    texts = tuple(
        SteeredText(i, f"{name} text {i} {EVIL}", "happy", "surgical", True, 0.9, 1.2, 0.8, 0.0) for i in (0, 1)
    )
    return TextCell(name, "2/2, ×1.2", "surgical", f"facts of {name}", texts)


def page_of(n_layers: int = 3, best: int = 2) -> str:
    stops = tuple(LayerStop(f"stop {i}", i / 4, 0.1) for i in range(n_layers))
    kinds = ("heat", "points", "heat")
    figures = tuple((f"{k} {EVIL}", tuple(_figure(i, k) for i in range(n_layers))) for k in kinds)
    rows = tuple((name, tuple(_cell(f"{name} {dose}") for dose in (1, 2))) for name in ("mine", "random"))
    scenarios = tuple(PlainText("happy", f"prompt {i} {EVIL}", f"plain {i} {EVIL}", "sad", 0.05) for i in (0, 1))
    cells = TextCells("cells", (("1", "0.1"), ("2", "0.2")), ("emotion", "random"), rows, scenarios, (0, 1))
    frame = pd.DataFrame({"text": [EVIL]})
    sections = (
        Section("Layers", layers=LayerSlider(stops, best, "accuracy", figures), opened=True),
        Section("Steering", cells=cells, tables=(("table", frame),), figures=(("strip", _figure(1, "heat")),)),
    )
    model = ModelReport(f"m {EVIL}", "llama", "base", "world", n_layers, 8, 1.0, (), sections)
    return render_report(RunReport("A run", "today", f"study {EVIL}", [{"model": EVIL}], (model,), {"x": EVIL}))


def used(page: str, folder) -> dict:
    """What a browser saw of the page while it was used."""
    path = folder / "page.html"
    path.write_text(page.replace("<head>", "<head>" + WATCH, 1) + USE, encoding="utf-8")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--dump-dom", path.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=280, check=True).stdout
    found = re.search(r'<pre id="seen">(.*?)</pre>', dom, re.S)
    assert found, dom[-2000:]
    return json.loads(unescape(found.group(1)))


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    if not CHROMIUM:
        pytest.skip("no Chromium here")
    return used(page_of(), tmp_path_factory.mktemp("browser"))


@pytest.mark.slow
def test_page_is_quiet_and_asks_nobody(seen):
    assert seen["noise"] == []
    assert seen["loaded"] == []
    assert seen["title"] == "A run", "what a model wrote has run"


@pytest.mark.slow
def test_slider_begins_at_the_best_layer_and_moves_all_figures(seen):
    start, moved, back = (seen[k]["figures"] for k in ("start", "moved", "back"))
    assert (seen["start"]["layer"], seen["start"]["said"]) == ("2", "stop 2")
    assert (seen["moved"]["layer"], seen["moved"]["said"]) == ("0", "stop 0")
    assert len(start) == 3
    assert all(a != b for a, b in zip(start, moved, strict=True))
    assert all("layer 0" in figure for figure in moved)
    assert back == start and seen["back"]["layer"] == "2"


@pytest.mark.slow
def test_cells_open_their_texts_by_click_and_by_key_as_plain_text(seen):
    assert "facts of mine 2" in seen["first"]
    assert "facts of mine 1" in seen["clicked"] and "mine 1 text 1" in seen["clicked"]
    assert "judged happy; score of happy 0.9; perplexity ratio 1.2" in seen["clicked"]
    assert "plain 1" in seen["clicked"] and EVIL in seen["clicked"]
    assert "facts of random 1" in seen["keyed"]
    assert seen["focused"] == 2
    assert seen["pressed"] == ["false", "false", "true", "false"]
    assert seen["markup"] == 0


@pytest.mark.slow
def test_printing_leaves_sections_as_the_reader_has_them(seen):
    assert seen["printed"] == [True, False]
    assert seen["sections"] == [True, False]


def test_a_single_layer_needs_no_slider():
    page = page_of(1, 0)
    assert 'type="range"' not in page and page.count('data-slides="') == 3


def test_what_a_model_wrote_cannot_leave_the_json():
    page = page_of()
    assert EVIL not in page
    for found in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.S):
        assert not set("<>&") & set(found)
        json.loads(found)


def test_figures_of_other_layers_are_differences_and_arrays_are_single():
    page = page_of()
    found = re.search(r'class="versions">(.*?)</script>', page, re.S)
    slider = json.loads(found.group(1))
    assert slider["figures"][0]["changes"][slider["best"]] == []
    assert ["layout", "title", "text"] in [path for path, _ in slider["figures"][1]["changes"][0]]
    wide = go.Figure(go.Scatter(y=pd.Series([0.1, 0.2, 0.3]).to_numpy()), layout={"template": plots.template()})
    assert '"f4"' in figure_json(wide) and '"f8"' not in figure_json(wide)
    assert "template" not in json.loads(figure_json(wide))["layout"]
