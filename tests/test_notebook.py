"""In a notebook: how objects show themselves, bars of progress, and the explorer's widgets."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
from html.parser import HTMLParser
from threading import Event, Thread
from types import SimpleNamespace

import pandas as pd
import pytest
from conftest import tiny

import lens_emotion as le
from lens_emotion import progress
from lens_emotion.display import SHOWN, panel
from lens_emotion.errors import MissingExtraError

EVIL = "<script>alert(1)</script>"


class Balanced(HTMLParser):
    """HTML whose tags all close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack, self.seen = [], set()
        self.feed(text)
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag


def test_every_result_of_the_package_shows_itself():
    silent = []
    for module in pkgutil.walk_packages(le.__path__, "lens_emotion."):
        if ".tiny" in module.name:
            continue
        home = importlib.import_module(module.name)
        for name, kind in inspect.getmembers(home, inspect.isclass):
            ours = kind.__module__ == module.name and not getattr(kind, "_is_protocol", False)
            if ours and callable(getattr(kind, "summary", None)) and not hasattr(kind, "_repr_html_"):
                silent.append(f"{module.name}.{name}")
    assert silent == []


def test_a_card_says_its_summary_first_and_folds_an_escaped_table():
    table = pd.DataFrame({"text": [EVIL] * (SHOWN + 5), EVIL: 0.123456})
    shown = panel(f"found {EVIL}", table)
    assert shown.startswith("<p>found &lt;script&gt;")
    assert "<script" not in shown
    assert Balanced(shown).seen >= {"p", "details", "summary", "table"}
    assert shown.count("<tr") == SHOWN + 1
    assert f"{SHOWN + 5} rows × 2 columns" in shown
    assert "0.1235" in shown
    assert panel("nothing", table[:0]) == "<p>nothing</p>"


def test_activations_vectors_and_previews_show_themselves(acts, vectors):
    seen = le.preview(tiny(), "Anna was <b>calm</b> in the kitchen.")
    for thing in (acts, vectors, vectors["calm"], vectors["calm"] - 0.5 * vectors["angry"], seen):
        assert {"details", "table"} <= Balanced(thing._repr_html_()).seen
    assert "EmotionVector(&#x27;calm - 0.5*angry&#x27;" in (vectors["calm"] - 0.5 * vectors["angry"])._repr_html_()
    assert len(seen) == len(seen.table) == len(list(seen))
    assert seen[0].role == "special"
    assert seen.summary().startswith(f"{len(seen)} tokens: ")


def test_progress_is_silent_in_tests_and_where_nobody_watches(monkeypatch, capfd):
    monkeypatch.delenv("LENS_EMOTION_PROGRESS", raising=False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert list(progress.track(range(3), "reading")) == [0, 1, 2]
    assert capfd.readouterr().err == ""
    monkeypatch.setenv("LENS_EMOTION_PROGRESS", "1")
    assert list(progress.track(range(3), "reading", total=3)) == [0, 1, 2]
    assert "reading" in capfd.readouterr().err


def test_what_another_thread_prints_while_a_library_is_silenced_is_heard(capsys):
    """As lines of a study are, while a model is loaded here."""
    silenced, printed = Event(), Event()

    def other():
        silenced.wait(30)
        print("from another thread")
        printed.set()

    thread = Thread(target=other)
    thread.start()
    with progress.unheard():
        print("a banner")
        silenced.set()
        assert printed.wait(30)
        print("another banner")
        assert not sys.stdout.isatty()
    thread.join()
    print("afterwards")
    assert capsys.readouterr().out == "from another thread\nafterwards\n"


def test_a_line_printed_while_a_bar_is_drawn_has_a_line_of_its_own(monkeypatch, capsys):
    """Another thread prints: the bar is wiped before, and drawn again below."""
    monkeypatch.setenv("LENS_EMOTION_PROGRESS", "1")
    monkeypatch.setattr(progress, "in_notebook", lambda: False)
    for i in progress.track(range(3), "reading", total=3):
        if i == 1:
            with progress.above_bars():
                print("MARK", file=sys.stderr)
    before, after = capsys.readouterr().err.split("MARK\n")
    assert "reading" in before and before.endswith("\r") and not before.rstrip("\r").rpartition("\r")[2].strip()
    assert "reading" in after


def test_a_bar_is_a_widget_in_a_kernel_only(monkeypatch):
    pytest.importorskip("ipywidgets")
    for module in ("IPython", "ipykernel"):
        monkeypatch.setitem(sys.modules, module, SimpleNamespace(get_ipython=lambda: None))
    assert not progress.in_notebook(), "merely imported"
    assert progress._bar().__module__ == "tqdm.std"
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=1)))
    assert progress.in_notebook()
    assert progress._bar().__module__ == "tqdm.notebook"
    monkeypatch.setattr(progress, "find_spec", lambda _: None)
    assert progress._bar().__module__ == "tqdm.std", "no widgets, no warning"


def test_progress_and_cards_import_nothing_heavy():
    heavy = "{'pandas', 'tqdm', 'torch', 'IPython'}"
    code = f"import lens_emotion.progress, lens_emotion.display, sys; print({heavy} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert ran.stdout.strip() == "set()", ran.stderr


@pytest.fixture(scope="module")
def explorer(vectors, acts):
    pytest.importorskip("ipywidgets")
    return le.explorer(tiny(), vectors, acts)


def test_a_click_writes_steered_beside_unsteered_and_scores_tokens(explorer, vectors):
    explorer.inputs["prompt"].value = "That <b>morning</b> Anna was in the kitchen. She"
    explorer.inputs["emotion"].value = "angry"
    explorer.inputs["tokens"].value = 12
    explorer.write.click()
    with le.steer(tiny(), vectors["angry"], 3, layers=explorer.inputs["layer"].value):
        from lens_emotion.models.decoding import generate_tokens
        from lens_emotion.models.prompting import decode_text, encode

        alone = generate_tokens(tiny(), [encode(tiny(), explorer.inputs["prompt"].value)], 12)[0]
    assert explorer.written["steered"] == decode_text(tiny(), alone)
    shown = {column: widget.value for column, widget in explorer.texts.items()}
    assert len(set(shown.values())) == 3
    for column, html in shown.items():
        assert "That &lt;b&gt;morning" in html
        assert column in html
        Balanced(html)
    assert "from one text" in explorer.status.value
    explorer.read.click()
    assert explorer.heat.value.count("<span") > 12
    assert 'title="angry ' in explorer.heat.value
    Balanced(explorer.heat.value)
    assert not explorer.write.disabled


def test_without_its_control_the_explorer_clears_that_column(explorer):
    explorer.inputs["control"].value = False
    explorer.write.click()
    assert explorer.texts["random"].value == ""
    assert "no control" in explorer.status.value
    explorer.inputs["control"].value = True


def test_what_the_user_can_mend_is_said_in_the_status_line(explorer):
    kept, explorer.inputs["prompt"].value = explorer.inputs["prompt"].value, "word " * 400
    explorer.write.click()
    assert "does not fit into the context of 256 tokens" in explorer.status.value
    assert not explorer.write.disabled
    explorer.inputs["prompt"].value = kept


def test_the_explorer_is_shown_by_a_notebook(explorer):
    bundle = explorer._repr_mimebundle_(include=None, exclude=None)
    assert "application/vnd.jupyter.widget-view+json" in (bundle[0] if isinstance(bundle, tuple) else bundle)


def test_without_ipywidgets_the_error_names_the_extra(vectors, monkeypatch):
    from lens_emotion import errors as extras

    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r'pip install "lens-emotion\[notebooks\]"'):
        le.explorer(tiny(), vectors)
