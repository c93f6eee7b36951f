"""The command line under hostile arguments (a small run of benchmarks/fuzz_cli.py), and what it says when it fails."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # the suite is no part of the package

from benchmarks import fuzz_cli
from lens_emotion.cli import app


def test_100_hostile_commands_are_one_line_and_the_right_exit_code():
    tally = fuzz_cli.run(100, seed=0)
    assert tally.failures == []
    assert sum(tally.codes.values()) == 100 and tally.codes[0] and tally.codes[2] > 40


@pytest.mark.parametrize("broken", ["rich.text.Text.assemble", "lens_emotion.errors.LensEmotionError.__str__"])
def test_the_fuzz_sees_a_crash(broken, monkeypatch):
    monkeypatch.setattr(broken, lambda *_: 1 / 0)
    assert fuzz_cli.run(30, seed=1).failures


@pytest.fixture
def end(monkeypatch, capsys):
    """Exit code and stderr of a command whose work raises this."""

    def ended(error, *more):
        def fail(*_, **__):
            raise error

        monkeypatch.setattr("lens_emotion.run.look.list_runs", fail)
        monkeypatch.setattr(sys, "argv", ["lens-emotion", *more, "runs", "list"])
        with pytest.raises(SystemExit) as stopped:
            app.main()
        return stopped.value.code, capsys.readouterr().err

    return ended


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ZeroDivisionError("division\nby zero"), 2, "unforeseen ZeroDivisionError: division; this is a fault"),
        (PermissionError(13, "Permission denied", "/x"), 2, "Permission denied: /x"),
        (OSError(28, "No space left on device"), 2, "No space left"),
        (MemoryError(), 2, "out of memory"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes"),
            2,
            "4.0 KiB were",
        ),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), 2, "out of memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (app.LensEmotionError("two\nlines \x1b[31m [bold]x[/]"), 2, r"two\nlines \x1b[31m [bold]x[/]"),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, BaseException) else "",
)
def test_whatever_happens_is_one_line(end, error, code, words):
    got, err = end(error)
    assert got == code and words in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), app.LensEmotionError("x")])
def test_traceback_prints_the_rest(end, error):
    code, err = end(error, "--traceback")
    assert (
        code == 2 and "Traceback (most recent call last)" in err and err.splitlines()[-1].startswith("lens-emotion: ")
    )


def test_markup_in_names_is_printed_as_it_is(capsys):
    from lens_emotion.cli.say import out, say_line, table

    say_line("[bold]a[/] :smile: [/]", (" [red]b", "bold"))
    made = table("c")
    made.add_row("[/bold]")
    out.print(made)
    printed = capsys.readouterr().out
    assert "[bold]a[/] :smile: [/] [red]b" in printed and "[/bold]" in printed


HOSTILE = ["\x1b[31mred", "\u202egpj.exe", "\u2066a", "\x9b2J", "a\rb", "a\x08b"]


@pytest.mark.parametrize("name", HOSTILE)
def test_control_and_bidi_characters_in_names_are_spelled_out(name, capsys):
    """In lines, styled parts, cells, heads and titles of tables, notebooks, the report, its figures and its JSON."""
    from rich.text import Text

    from lens_emotion.cli.say import out, printable, say_line, table
    from lens_emotion.display import panel
    from lens_emotion.report.page import safe_json

    say_line("a ", name, (name, "bold"), Text("b", style="red").append(printable(name)))
    made = table("c", name, title=name)
    made.add_row(name, Text(name))
    out.print(made)
    printed = capsys.readouterr().out
    assert all(c.isprintable() or c == "\n" for c in printed)
    assert printed.count(repr(name)[1:-1]) >= 6  # rich drops a few controls of a Text that is made of them
    if "\r" not in name:
        page = panel(name, pd.DataFrame({"x": [name], name: [1]})) + safe_json([name])
        assert not set("\x1b\u202e\u2066\x9b\x08") & set(page)
        assert not set("\u202e\u2066\x9b") & set(json.loads(safe_json([name]))[0])


def test_the_report_spells_them_out():
    from lens_emotion.report.page import render_report
    from lens_emotion.report.parts import RunReport

    name = "[b]\u202egpj\x1b<b>"
    made = render_report(RunReport(name, name, name, [{"model": name}], (), {name: name}))
    body = made[made.index("<title>") : made.index("<style>")] + made[made.index("<body>") : made.rindex("<script>")]
    assert not {"\u202e", "\x1b"} & set(body)
    assert r"[b]\u202egpj\u001b&lt;b&gt;" in body


@pytest.mark.parametrize("name", ["../x", "/x", "", "..", "a/b"])
def test_figures_across_stay_inside_their_folder(name, tmp_path):
    from lens_emotion.cli.runs import figures
    from lens_emotion.report.gallery import FiguresError

    with pytest.raises(FiguresError, match="is the name of a folder inside"):
        figures([tmp_path], out=tmp_path / "out", across=name)
    assert not (tmp_path / "out").exists()
