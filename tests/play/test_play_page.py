"""The playground's page in a browser: what it marks, keeps, restores and refuses, on a desk and on a phone."""

from __future__ import annotations

import csv
import io
import json
from contextlib import ExitStack

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
from browser import CHROMIUM, browser
from conftest import tiny
from served import served

from lens_emotion.play.session import session_of

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chrome or Chromium")]


@pytest.fixture(scope="module")
def page(vectors, acts, tmp_path_factory):
    """The page, before anything was written, with whatever complaint it made checked at the end."""
    with ExitStack() as stack:
        up = stack.enter_context(served(session_of(tiny(), vectors, acts)))
        shown = stack.enter_context(browser(tmp_path_factory.mktemp("profile")))
        shown.call("Page.navigate", url=f"http://127.0.0.1:{up.port}/#tokens=10")
        shown.until("typeof byId == 'function' && !!byId('go') && !byId('go').disabled")
        shown.js("byId('live').checked = false; state.pace = true")  # until its own test
        yield shown
        assert [c for c in shown.complaints if "400 (Bad Request)" not in c] == []
        assert {address.split("/")[2] for address in shown.requests if "//" in address} == {f"127.0.0.1:{up.port}"}


def change(page, name: str, value) -> None:
    page.js(f"byId('{name}').value = {json.dumps(value)}")
    page.js(f"byId('{name}').dispatchEvent(new Event('input', {{bubbles: true}}))")


def write(page) -> None:
    page.js("run()")
    page.until("!state.running && !!state.shown?.verdict", 60)


def settings(page) -> dict:
    return page.js("asked()")


HOSTILE = (
    "dose=1e9", "dose=NaN", "dose=-1", "dose=0x10", "dose=3&dose=4", "dose=", "unit=pounds", "mix=constructor:1",
    "mix=__proto__:1", "mix=calm:1:2", "mix=calm:9", "mix=calm,calm", "mix=", "mix=%25zz", "prompt=%20",
    "prompt=" + "a" * 8001,
    "tokens=2.5", "tokens=0", "temperature=3", "seed=99999999999", "positions=odd", "first_layer=6", "layer=1",
    "control=yes", "constructor=1", "__proto__=1", "x" * 50 + "=1", "run=2", "<b>=1", "text=%20",
)  # fmt: skip


def written(page):
    """Texts to go on from, whichever test came before."""
    page.js("state.shown || run()")
    page.until("state.shown?.verdict && !state.running", 60)


def test_a_link_is_checked_part_by_part_and_what_does_not_fit_is_said(page):
    before = settings(page)
    tried = page.js(f"""{json.dumps(list(HOSTILE))}.map((link) => {{
        history.replaceState(null, "", `#${{link}}`);
        follow();
        const errors = document.querySelectorAll(".error");
        return [asked(), errors.length, errors[0]?.textContent ?? "", document.querySelectorAll(".error *").length];
    }})""")
    for link, (after, n, said, markup) in zip(HOSTILE, tried, strict=True):
        assert (after, n, markup) == (before, 1, 0), link
        assert said.startswith("the link's "), link


def test_a_link_carries_every_setting_and_markup_in_it_stays_text(page):
    evil = '<img src=x onerror="document.title=\'hit\'"> & "quotes" #=+%'
    given = {
        "prompt": evil, "mix": {"angry": 0.5, "calm": -1.5}, "dose": 1.25, "unit": "relative", "first_layer": 1,
        "last_layer": 4, "tokens": 7, "temperature": 0.7, "seed": 12, "positions": "generated", "control": False,
        "test": True, "chat": False,
    }  # fmt: skip
    kept = settings(page)
    page.js(f"history.replaceState(null, '', toAddress({json.dumps(given)})); follow()")
    assert settings(page) == given
    assert page.js("document.querySelectorAll('.error, img').length") == 0
    assert page.js("document.title") != "hit"
    page.js(f"put({json.dumps(kept)})")


def test_settings_that_differ_from_what_is_shown_are_marked(page):
    write(page)
    assert page.js("document.querySelectorAll('.changed').length") == 0 and page.js("byId('stale').hidden")
    change(page, "dose", 6)
    page.js("addEmotion('angry'); settingsChanged()")
    assert page.js("[...document.querySelectorAll('.changed')].map((x) => x.dataset.field)") == ["mix", "dose"]
    assert page.js("document.querySelector('[data-field=dose] > .was').textContent") == "shown: dose 3"
    assert page.js("byId('stale').textContent") == "2 settings differ from the texts shown."
    change(page, "dose", 3)
    page.js("removeEmotion('angry')")
    assert page.js("document.querySelectorAll('.changed, .was').length") == 0


def test_an_error_stands_beside_the_control_that_caused_it(page):
    change(page, "tokens", 999)
    page.js("run()")
    page.until("!!byId('error-sampling')")
    assert page.js("byId('tokens').getAttribute('aria-errormessage')") == "error-sampling"
    assert page.js("byId('more').open") and "999" in page.js("byId('error-sampling').textContent")
    change(page, "tokens", 10)
    page.js("byId('text').value = ' '; readTokens()")
    page.until("!!byId('error-text') && !byId('error-sampling')")
    page.js("byId('seeds').click()")
    page.until("byId('error-sampling')?.textContent.startsWith('temperature 0 writes the same')")
    page.js("clearProblems()")


def test_earlier_runs_are_a_strip_and_a_click_puts_one_back(page):
    written(page)
    first = settings(page), page.js("byId('columns').textContent")
    change(page, "dose", 8)
    write(page)
    assert page.js("byId('columns').textContent") != first[1]
    page.js("byId('strip').children[byId('strip').children.length - 2].click()")
    assert (settings(page), page.js("byId('columns').textContent")) == first
    assert page.js("document.querySelectorAll('.changed').length") == 0
    assert page.js("byId('strip').querySelector('[aria-current]').textContent").endswith("+1.0 calm · 3 · L3")


def test_texts_are_files_that_no_spreadsheet_runs(page):
    written(page)
    runs = page.js("earlier.map((run) => run.texts.texts)")
    rows = list(csv.DictReader(io.StringIO(page.js("toCsv(earlier)"), newline="")))
    assert [row["text"].strip() for row in rows] == [text.strip() for run in runs for text in run.values()]
    assert json.loads(page.js("toJson(earlier)"))["runs"][0]["texts"][1]["column"] == "steered"
    for begun in ("=1+1", "+1", "-1", "@a", "\t=1"):
        assert page.js(f"cell({json.dumps(begun)})").startswith("'")
    assert page.js("cell(-1.5)") == "-1.5" and page.js("cell('a\"b,c')") == '"a""b,c"'


def test_emotions_are_picked_on_the_circumplex_with_keys_too(page):
    point = "byId('circumplex').querySelector('[data-emotion=happy]')"
    press = f"{point}.dispatchEvent(new KeyboardEvent('keydown', {{key: 'Enter'}}))"
    page.js(press)
    assert page.js(f"{point}.getAttribute('aria-checked')") == "true" and "happy" in settings(page)["mix"]
    page.js(press)
    assert "happy" not in settings(page)["mix"]
    assert page.js("byId('circumplex').querySelectorAll('.emotion').length") == 19, "all that people rated"


def test_a_sweep_is_a_chart_above_the_slider_whose_marks_set_the_dose(page):
    page.js("byId('doses').click()")
    page.until("!byId('sweep').hidden && !state.running", 60)
    assert page.js("document.querySelectorAll('#sweep .mark').length") >= 18
    above = page.js("byId('sweep').getBoundingClientRect().bottom <= byId('dose').getBoundingClientRect().top")
    assert above and "NaN" not in page.js("byId('sweep').outerHTML")
    page.js("document.querySelectorAll('#sweep .mark')[8].dispatchEvent(new Event('click'))")
    assert settings(page)["dose"] == 16
    change(page, "dose", 3)


def test_it_writes_by_itself_only_where_a_run_was_measured_to_be_quick(page):
    written(page)
    page.js("byId('live').checked = true; pace.clear()")
    change(page, "dose", 4)
    assert page.js("state.timer === undefined || !(expected() < 1)"), "nothing is assumed of a model not yet measured"
    page.js("pace.set(false, 9); settingsChanged()")
    assert page.js("byId('live').disabled") and "press Write" in page.js("byId('live-text').textContent")
    page.js("pace.set(false, 0.01); settingsChanged()")
    for dose in (5, 6, 7):  # debounced: one run, with the last
        change(page, "dose", dose)
    n = page.js("earlier.length")
    page.until("state.shown?.live && !state.running && !!state.shown.verdict", 60)
    assert page.js("[earlier.length, state.shown.asked.dose]") == [n + 1, 7]
    page.js("byId('live').checked = false")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_its_words_can_be_read(page, scheme):
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    change(page, "dose", 9)  # so that changes are marked
    for width in (1440, 768, 390):
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=False)
        assert page.js("document.documentElement.scrollWidth <= innerWidth"), width
    assert page.js(FAINT) == []
    page.call("Emulation.setDeviceMetricsOverride", width=1280, height=900, deviceScaleFactor=1, mobile=False)


# words whose contrast with the first opaque ground behind them is below 4.5:1
FAINT = """(() => {
  const parse = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const found = new Set();
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walk.nextNode()); ) {
    const home = node.parentElement;
    if (!node.data.trim() || !home.checkVisibility({ visibilityProperty: true })) continue;
    if (home.closest("button:disabled, option, .hidden, .skip, title")) continue;
    const ink = parse(home.closest("svg") ? getComputedStyle(home).fill : getComputedStyle(home).color);
    let ground = home;
    while (ground && (parse(getComputedStyle(ground).backgroundColor)[3] ?? 1) < 1) ground = ground.parentElement;
    const behind = parse(getComputedStyle(ground ?? document.body).backgroundColor);
    const [a, b] = [light(ink), light(behind)].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < 4.5) found.add(`${node.data.trim().slice(0, 30)} ${contrast.toFixed(2)}`);
  }
  return [...found];
})()"""
