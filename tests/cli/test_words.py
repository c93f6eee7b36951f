"""What the command line says of names and paths that are none: one line, and what would fit."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
import torch
from conftest import tiny

from lens_emotion.cli import app
from lens_emotion.errors import FingerprintError, NotFiniteError
from lens_emotion.extraction.activations import check_made_on
from lens_emotion.files.user import read_user_file
from lens_emotion.models.access import describe
from lens_emotion.models.conversion import check_conversion, deviations
from lens_emotion.steering.judge_files import JudgeForm

SAID = {
    "study tiny-llama --out|": "--out is empty",
    "study tiny-llama --out=": "--out is empty",
    "extract tiny-llama --out| ": "--out is empty",
    "steer tiny-llama calm --vectors|": "--vectors is empty",
    "init|": "an argument is empty",
    "runs|": "an argument is empty",
    "study tiny-llama --judge nope": "no judge 'nope': it is no file, folder or hub id",
    "study tiny-llama --judge .": "the judge . has no config.json",
    "check tiny-llama --vectors nope": "no file nope; give the path of a file of EmotionVectors",
    "stimuli lint world-en": "'world-en' ships with the package",
    "drift tiny-llama --dtype auto --device cpu": "auto against float32, which is float32 on cpu: give two precisions",
    "figures a.txt": "a.txt is a file, no run",
    "figures nope": "nope is no finished run",
}


@pytest.mark.parametrize("command", SAID)
def test_one_line_and_nothing_written(command, tmp_path, monkeypatch, capsys):
    """An empty path was the folder one works in; a run was written into it."""
    words, *last = command.split("|")
    (tmp_path / "a.txt").write_text("a")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["lens-emotion", *words.split(), *last])
    monkeypatch.setattr("lens_emotion.models.loading.load_model", lambda *a, **k: pytest.fail("a model was loaded"))
    with pytest.raises(SystemExit) as ended:
        app.main()
    said = capsys.readouterr().err
    assert ended.value.code == 2 and SAID[command] in said and said.count("\n") == 1
    assert not any(p.is_file() for p in tmp_path.rglob("*.toml"))


def test_an_empty_prompt_is_a_text_like_any_other():
    app._check_not_empty(["steer", "tiny-llama", "calm", "--prompt", "", "--prompt="])


def test_an_option_that_a_command_lacks_is_not_named(vectors):
    info = describe(tiny("tiny-qwen"))
    with pytest.raises(FingerprintError, match="allow_other_model=True"):
        check_made_on(info, vectors.header)
    with pytest.raises(FingerprintError, match=r"extract on this model$"):
        check_made_on(info, vectors.header, may_allow=False)


def test_a_mark_in_front_of_a_file_is_read_over(tmp_path):
    (tmp_path / "judge.toml").write_text('kind = "encoder"\nmodel = "m"\n', encoding="utf-8-sig")
    assert read_user_file(tmp_path / "judge.toml", JudgeForm).data.kind == "encoder"


def test_nothing_of_nothing_is_no_deviation_and_nan_has_words_of_its_own(monkeypatch):
    from types import SimpleNamespace

    from lens_emotion.models.conversion import Trace

    zero = torch.zeros(1, 2, 4)

    def run(ids, fwd_hooks):
        for _, hook in fwd_hooks:
            hook(zero[0][None], None)
        return zero

    model = SimpleNamespace(cfg=SimpleNamespace(dtype=torch.float32, d_model=4, device="cpu"), run_with_hooks=run)
    trace = Trace((1, 2), zero, zero, zero[0])
    assert [share for _, share in deviations(model, trace)] == [0, 0, 0]
    monkeypatch.setattr("lens_emotion.models.conversion.deviations", lambda *a: [("layer 0", float("nan"))])
    with pytest.raises(NotFiniteError, match="NaN or infinity at layer 0"):
        check_conversion(model, trace, "m", "bridge")


def test_the_summary_and_what_undetermined_claims_would_have_found_fit_80_columns(monkeypatch):
    """Of every claim that is undetermined, the smallest effect of interest and the reach of each model's design."""
    from rich.console import Console
    from rich.text import Text

    from lens_emotion.cli import say
    from lens_emotion.report.build import wanting
    from lens_emotion.stats.decide import Estimate
    from lens_emotion.study.verdict import ALL_MODELS, SUPPORTED, UNDETERMINED, Claim, Claims

    reach = "12 topics find an effect of 0.12 with power .8, 17 topics would find 0.1"
    why = {"a": "at the ceiling", "b": f"open; {reach} (b)"}  # a reason that has the reach says it once
    mine = [Claim("C1", f"model-{i}", UNDETERMINED, why[i], "s", smallest=0.1, reach=f"{reach} ({i})") for i in "ab"]
    over = Claim("C1", ALL_MODELS, UNDETERMINED, "open", "s", smallest=0.1)
    sure = Claim("C5", ALL_MODELS, SUPPORTED, "shown", "s", smallest=0.8, reach=reach)
    claims = Claims((*mine, over, sure))
    lines = wanting(claims, over)
    assert lines == (
        "smallest effect of interest: 0.1 (held-out accuracy)",
        f"model-a: at the ceiling; {reach} (a)",
        f"model-b: open; {reach} (b)",
    )
    assert wanting(claims, sure) == ()
    found = Estimate(0.0, -0.01, 0.01, 0.004, 12, "topics")  # finds 0.02, where 0.1 would matter
    full = [replace(c, reason="the words are at their ceiling", rests_on=found) for c in mine]
    assert wanting(Claims((*full, over)), over)[1:] == (
        "model-a, model-b: the words are at their ceiling; each finds an effect of 0.01 with power .8, less than would "
        "matter",
    )

    screen = Console(width=80, record=True, highlight=False, markup=False, emoji=False, file=io.StringIO())
    monkeypatch.setattr(say, "out", screen)
    for words in (*lines, over.statement * 3, "x" * 100):
        say.say_wrapped(Text("  C1  ").append(Text("undetermined      ", style="dim")), words, "dim")
    shown = screen.export_text().splitlines()
    assert all(len(line) <= 80 for line in shown if "xxx" not in line) and shown[0].startswith("  C1  undetermined")
    assert " ".join(" ".join(shown).split()).count("17 topics would find 0.1") == 2
