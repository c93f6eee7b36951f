"""The page of a run: one file, no request, everything escaped, small, and complete."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pandas as pd
import plotly.graph_objects as go
import pytest
from plotly.offline import get_plotlyjs
from test_plots import every_figure, sweep_result

from lens_emotion import plots
from lens_emotion.report.page import anchor, figure_json, flattened, render_report, write_report
from lens_emotion.report.parts import Cell, Finding, ModelReport, RunReport, Section, TextPair
from lens_emotion.report.words import number

EVIL = "<script>alert(1)</script>"


def model(name: str, figures: tuple[tuple[str, go.Figure], ...] = ()) -> ModelReport:
    findings = (
        Finding("decoding", "0.62", "chance 0.05", "above its null", f"best at layer 12 {EVIL}"),
        Finding("the paper's preset", "0.36", "0.31 to 0.47", "not distinguishable from noise"),
        Finding("anisotropy", "0.91", "0.02 centred", "reported"),
    )
    texts = pd.DataFrame({"prompt": ["The door"] * 30, "text": [EVIL] * 30, "score": [0.123456] * 30})
    pair = TextPair("The door opened and", f"plain {EVIL}", f"steered {EVIL}", "calm", "dose 2", f"random {EVIL}")
    section = Section(
        "Steering", f"first\n\nsecond {EVIL}", figures, (("Texts", texts, "tables/texts.csv"),), (pair,), opened=True
    )
    return ModelReport(name, "gpt2", "base", "passages", 12, 768, 83.25, findings, (section, Section("Empty")))


def run_of(models: tuple[ModelReport, ...]) -> RunReport:
    rows = [{"model": m.name, "decoding": Cell(0.62, "good", "chance 0.05"), "odd": float("nan")} for m in models]
    facts = {"versions": {"torch": "2.13.0"}, "seeds": [0, 1], "text": EVIL}
    return RunReport(f"A run {EVIL}", "2026-11-22", f"study {EVIL}", rows, models, facts, "A lead.")


class Page(HTMLParser):
    """What a browser would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.scripts = 0
        self.styles = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.styles += tag == "style"
        if tag == "a":  # fetches nothing by itself
            self.links += [v or "" for k, v in attrs if k == "href"]
            return
        self.fetched += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "data", "action", "poster")]
        if tag in ("link", "iframe", "object", "embed", "base", "img"):
            self.fetched.append(tag)


@pytest.fixture(scope="module")
def page() -> str:
    figure = plots.layer_sweep(sweep_result())
    figure.update_layout(title=f"{EVIL}</script>")
    return render_report(run_of((model("gpt2", (("a caption <b>", figure),)), model(f"evil {EVIL}"))))


@pytest.fixture(scope="module")
def own(page: str) -> str:
    """The page without the text of the plotly library."""
    assert page.count(get_plotlyjs()) == 1
    return page.replace(get_plotlyjs(), "")


def test_plotly_is_embedded_once(page, own):
    assert page.count("plotly.js v") == 1
    assert "plotly.js v" not in own


def test_page_asks_the_network_for_nothing(own):
    for pattern in (r"(src|href)\s*=\s*[\"']?\s*(https?:|//)", r"@import", r"url\(", r"cdn\.", r"fetch\(", "XMLHttp"):
        assert not re.search(pattern, own), pattern
    parsed = Page()
    parsed.feed(own)
    assert parsed.fetched == []
    assert {link for link in parsed.links if not link.startswith("#")} == {"tables/texts.csv"}
    assert "default-src 'none'" in own
    assert "showSendToCloud: false" in own


def test_model_output_and_names_are_escaped(own):
    assert EVIL not in own
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in own
    parsed = Page()
    parsed.feed(own)
    assert parsed.scripts == 4, "one figure, the template, the library, our own"
    assert "a caption &lt;b&gt;" in own


def test_figure_json_survives_the_escape():
    figure = go.Figure(go.Scatter(x=[1, 2], y=[3, 4], text=["</script>", "a & b <!-- c"]))
    text = str(figure_json(figure))
    assert not set("<>&") & set(text)
    assert json.loads(text)["data"][0]["text"] == ["</script>", "a & b <!-- c"]


def test_everything_a_reader_needs_is_there(own):
    for words in (
        "0.62", "against chance 0.05", "above its null", "not distinguishable from noise", "12 layers × 768",
        "First 12 of 30 rows", "tables/texts.csv", "versions.torch", "2.13.0", "0, 1", "random direction",
        'class="tone-good"', "prefers-color-scheme: dark", "@media print", "beforeprint",
    ):  # fmt: skip
        assert words in own, words
    assert own.count("0.123") == 2 * 12
    ids = re.findall(r'\bid="([^"]+)"', own)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', own)) <= set(ids)


def test_five_models_with_ten_figures_are_one_file_below_8_mb(tmp_path):
    figures = tuple(every_figure(36, 20).items())
    figures += (("again", figures[0][1]), ("and again", figures[1][1]))
    models = tuple(model(f"model-{i}", figures) for i in range(5))
    path = write_report(run_of(models), tmp_path / "deep" / "report.html")
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    assert path.stat().st_size < 8e6
    text = path.read_text(encoding="utf-8")
    assert text.count('class="plot"') == 50
    assert text.count("plotly.js v") == 1


def test_a_report_of_nothing_is_still_a_page():
    page = render_report(RunReport("Empty", "today", "none", [], (), {}))
    assert "0 models" in page


def test_numbers_as_printed():
    shown = [number(x) for x in (None, float("nan"), 0.05, 0.00042, 12, 1_234_567, 3.14159, True, "x", float("inf"))]
    assert shown == ["–", "–", "0.050", "0.00042", "12", "1,234,567", "3.142", "True", "x", "inf"]


def test_anchor_and_flattened():
    assert anchor("meta-llama/Llama 3.2") == "meta-llama-llama-3-2"
    assert anchor("模型") == "model"
    assert list(flattened({"a": {"b": 1}, "c": (1, 2)})) == [("a.b", "1"), ("c", "1, 2")]
