"""What the command line prints at 80 columns, at 100 and in a pipe: words, numbers, ids and verdicts stay whole."""

from __future__ import annotations

import io
import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pytest
from rich.console import Console
from rich.text import Text

from lens_emotion.cli import say
from lens_emotion.cli.app import RESTS_ON
from lens_emotion.models.catalog import CATALOG


@pytest.fixture(params=[None, 40, 80, 100], ids=["pipe", "40", "80", "100"])
def wide(request, monkeypatch):
    """How wide the terminal is; None in a pipe."""
    monkeypatch.setattr(say, "out", Console(width=request.param, highlight=False, markup=False, emoji=False))
    if request.param is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", str(request.param))
    return request.param


COMMANDS = {"models": [s.name for s in CATALOG], "models --hub": [s.hub_id for s in CATALOG]}


@pytest.mark.parametrize("command", COMMANDS)
def test_names_and_ids_are_found_whole_and_lines_fit(command, called, wide):
    said = called(*command.split()).out
    assert all(word in said for word in COMMANDS[command])
    if wide and wide >= 80:
        longest = max((line.rstrip() for line in said.splitlines()), key=len)
        assert len(longest) <= wide, longest


def report():
    """Of `check`: laws of many words, deviations, and each verdict."""
    law = "adding a vector at layer L moves the projection on it at L by as much, whatever else is done at other layers"
    rows = [
        SimpleNamespace(law=law, deviation=1.23e-7, tolerance=1e-4, unit="relative", passed=True, skipped="", note=""),
        SimpleNamespace(law=law, deviation=0.5, tolerance=1e-4, unit="relative", passed=False, skipped="", note="calm",
                        meaning="every number rests on it " * 9),
        SimpleNamespace(law=law, deviation=0.0, tolerance=0.0, unit="", passed=True, skipped="not asked " * 9, note=""),
    ]  # fmt: skip
    return SimpleNamespace(results=rows, half_precision=False, seconds=1.0, summary=lambda: "1 of 2 laws hold")


def test_check_folds_no_number_and_no_verdict(wide, capsys):
    from lens_emotion.cli.model import print_report

    print_report(report())
    said = capsys.readouterr().out
    lines = [line.split() for line in said.splitlines()]
    words = {word for line in lines for word in line}
    assert {"1.2e-07", "5.0e-01", "1.0e-04", "holds", "BROKEN"} <= words and "not tried" in said
    if wide:
        assert max(map(len, said.splitlines())) <= wide
    else:  # a law and its verdict are one line
        assert any({"layers", "BROKEN"} <= set(line) for line in lines)


def test_a_row_without_room_is_set_below_the_last(wide, capsys):
    made = say.table("run", "where", "date", "steps", right=(3,), prose=(1,))
    name = "a-run-with-a-name-of-forty-characters-xx"
    made.add_row(Text(name), "a place of several words " * 3, "2026-01-01 10:00", "3/5")
    say.say_table(made)
    said = capsys.readouterr().out
    assert all(word in said for word in (name, "2026-01-01 10:00", "3/5"))
    assert (said.splitlines()[0].strip() == name) == (wide == 40) or wide == 80


def test_sentences_break_between_words_and_never_inside_one(wide, capsys):
    path = "/a/path/of/more/than/forty/characters/without/a/space/report.html"
    say.say_prose(("note: ", "yellow"), "a sentence of some words " * 6, path, "\n", "and another line")
    lines = capsys.readouterr().out.splitlines()
    assert any(path in line for line in lines) and lines[-1] == "and another line"
    assert len(lines) == 2 if wide is None else all(len(line) <= wide for line in lines if path not in line)


def test_without_colours_the_roles_of_tokens_are_still_said(called, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    said = called("stimuli", "preview", "tiny-llama", "Anna was calm.", "--start", "1").out
    assert said.startswith("[<|begin_of_text|>]|(") and "[special]: 1" in said and "(skipped): " in said


def test_a_table_prints_what_it_holds_whatever_the_console(monkeypatch):
    """No cell is shortened, also where several columns are of prose."""
    screen = Console(width=60, file=io.StringIO(), highlight=False)
    monkeypatch.setattr(say, "out", screen)
    monkeypatch.setenv("COLUMNS", "60")
    made = say.table("what", "A", "B", prose=(1, 2))
    made.add_row("n_permutations", "words " * 10, "incomprehensibilities " * 3)
    assert all("…" not in text.plain for row in made.words() for text in row)


def test_the_package_runs_as_a_module_and_names_the_versions_that_matter_without_loading_them():
    code = (
        "import sys, runpy; sys.argv = ['x', '--version']\ntry: runpy.run_module('lens_emotion', run_name='__main__')\n"
    )
    code += "except SystemExit as end: print('code', end.code, *({'torch', 'numpy', 'pandas'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert lines[-1] == "code 0", done.stderr
    assert [line.split()[0] for line in lines[:-1]] == ["lens-emotion", "python", *RESTS_ON]
    assert all(line.split()[1][0].isdigit() for line in lines[:-1])


@pytest.mark.parametrize(
    ("words", "among"),
    [("lens-emotion steer tiny-", "tiny-llama"), ("lens-emotion steer gpt2 ca", "calm"), ("lens-emotion ru", "runs")],
)
def test_a_shell_completes_commands_models_and_emotions(words, among, called, monkeypatch):
    monkeypatch.setenv("_LENS_EMOTION_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    assert among in called().out.split()


def test_the_script_for_completion_is_printed(called, monkeypatch):
    monkeypatch.setattr("shellingham.detect_shell", lambda *_: ("bash", "/bin/bash"))  # a test has none around it
    assert "_LENS_EMOTION_COMPLETE" in called("--show-completion", "bash").out


NO_TORCH = """
import sys
sys.modules["torch"] = None  # whoever imports it fails
from lens_emotion.cli.app import main
for words in (["list", "."], ["verify", "one"], ["compare", "one", "two"], ["prune", "one"]):
    sys.argv = ["lens-emotion", "runs", *words]
    try:
        main()
    except SystemExit as end:
        print("code", end.code)
"""


def test_the_runs_commands_do_not_need_torch(tmp_path):
    from lens_emotion.run.config import StudyConfig
    from lens_emotion.run.store import MANIFEST, Store, manifest

    for name in ("one", "two"):
        store = Store.open(tmp_path / name)
        facts = manifest(
            StudyConfig(models=("tiny-llama",)), "pytest", [], 0.0, {"tiny-llama": "tiny-llama"}, done=False
        )
        store.json(MANIFEST, facts)
        store.table("claims", pd.DataFrame({"verdict": ["open"]}))
        store.close()
    command = [sys.executable, "-c", NO_TORCH]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.count("code 0") == 4, done.stderr + done.stdout
    assert "0/6*" in done.stdout and "* not finished" in done.stdout  # without colours too
