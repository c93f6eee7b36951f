"""The command line: quick to start, one clear line for every mistake, exit code 2, no traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from lens_emotion.cli.app import main
from lens_emotion.models.catalog import TINY
from lens_emotion.models.loading import tiny_folder


@pytest.fixture
def run(capsys, monkeypatch):
    """The command line inside this process: starting Python and torch anew for each mistake would take minutes."""

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["lens-emotion", *args])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        printed = capsys.readouterr()
        return SimpleNamespace(returncode=stopped.value.code or 0, stdout=printed.out, stderr=printed.err)

    return call


def test_a_mistake_in_a_process_of_its_own_is_one_line_and_exit_code_2():
    command = [sys.executable, "-m", "lens_emotion.cli.app", "steer", "tiny-llama", "calm", "--unit", "metres"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith("lens-emotion: ") and len(done.stderr.strip().splitlines()) == 1


def test_importing_and_help_do_not_import_torch():
    code = (
        "import sys, lens_emotion\nfrom lens_emotion.cli.app import app\n"
        "from typer.testing import CliRunner\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "heavy = {'torch', 'transformer_lens', 'transformers', 'plotly', 'pandas', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_every_public_name_resolves():
    import lens_emotion as le

    for name in le.__all__:
        assert getattr(le, name) is not None
    with pytest.raises(AttributeError, match="no attribute"):
        _ = le.nonsense


@pytest.fixture
def one_class(tmp_path):
    items = [{"emotion": "happy", "topic": t, "text": "A fine day by the sea."} for t in "ab"]
    path = tmp_path / "one.json"
    path.write_text(json.dumps({"items": items}))
    return str(path)


@pytest.fixture
def alien_vectors(vectors, tmp_path):
    from dataclasses import replace

    header = vectors.header.with_(fingerprint="0" * 64, model="alien")
    return str(replace(vectors, header=header).save(tmp_path / "alien.safetensors"))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["study", "tiny-lama"], "tiny-llama"),
        (["study", "/no/such/folder"], "no folder"),
        (["study", "tiny-llama", "--stimuli", "poems"], "passages"),
        (["study", "tiny-gemma", "--dtype", "float16", "--out", "{tmp}/run"], "bfloat16"),
        (["study", "tiny-llama", "--backend", "fast", "--out", "{tmp}/run"], "backend"),
        (["study", "tiny-llama", "--permutations", "3"], "at least 20"),
        (["study", "tiny-llama", "--out", "{tmp}/file/run"], "cannot write"),
        (["extract", "tiny-llama", "--stimuli", "{one_class}", "--out", "{tmp}/x"], "at least two"),
        (["extract", "tiny-llama", "--method", "magic"], "method"),
        (["extract", "tiny-llama", "--recipe", "soup"], "recipe"),
        (["steer", "tiny-llama", "bored"], "bored"),
        (["steer", "tiny-llama", "calm", "--unit", "metres"], "unit"),
        (["steer", "tiny-llama", "calm", "--layer", "99"], "no layer 99: the model has layers 0 to 5"),
        (["steer", "tiny-llama", "calm", "--vectors", "{alien}"], "alien"),
        (["steer", "tiny-llama", "calm", "--vectors", "{tmp}/none.safetensors"], "no file"),
        (["stimuli", "lint", "{tmp}/none.json"], "no file"),
        (["stimuli", "preview", "tiny-llama", ""], "is empty"),
        (["models", "--family", "bert"], "family"),
    ],
    ids=lambda v: "-".join(v[:3]).replace("/", "_") if isinstance(v, list) else "",
)
def test_mistakes_are_one_line_and_exit_code_2(run, args, words, tmp_path, one_class, alien_vectors):
    (tmp_path / "file").write_text("")
    filled = [a.format(tmp=tmp_path, one_class=one_class, alien=alien_vectors) for a in args]
    done = run(*filled)
    assert done.returncode == 2, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("lens-emotion: ")
    assert words in done.stderr


def test_steer_prints_three_texts_with_both_units(run):
    done = run("steer", "tiny-llama", "angry", "--dose", "5", "--tokens", "12")
    assert done.returncode == 0, done.stderr
    for word in ("unsteered", "angry", "random direction", "natural", "residual norm", "perplexity", "ppl x"):
        assert word in done.stdout


def test_extract_writes_files_that_steer_reads(run, tmp_path):
    done = run("extract", "tiny-llama", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "held-out accuracy" in done.stdout
    file = tmp_path / "comprehension_centred.safetensors"
    done = run("steer", str(tiny_folder(TINY[3])), "calm", "--vectors", str(file), "--tokens", "5")
    assert done.returncode == 0, done.stderr


def test_lint_exits_1_on_faults_and_0_on_a_clean_set(run, tmp_path, one_class):
    assert run("stimuli", "lint", one_class).returncode == 1
    from lens_emotion.stimuli.library import passages_file

    clean = passages_file().stimuli.save(tmp_path / "clean.json")
    done = run("stimuli", "lint", str(clean))
    assert done.returncode == 0, done.stdout
    assert "clean" in done.stdout


def test_models_list_preview_and_format_print_what_they_say(run):
    assert "mistral-7b-instruct-v0.3" in run("models").stdout
    assert "world-en-zh" in run("stimuli", "list").stdout
    assert '"forbidden"' in run("stimuli", "format").stdout
    assert "pooled: " in run("stimuli", "preview", "tiny-llama", "Anna smiled at the cat.").stdout


@pytest.mark.parametrize(
    ("words", "terms"),
    [
        ("calm", [(1.0, "calm")]),
        ("0.5*calm - 0.3*angry", [(0.5, "calm"), (-0.3, "angry")]),
        ("-sad+2 * happy", [(-1.0, "sad"), (2.0, "happy")]),
    ],
)
def test_mixtures_are_read_as_typed(words, terms):
    from lens_emotion.vectors.emotion_vectors import parse_mixture

    assert parse_mixture(words) == terms


@pytest.mark.parametrize("words", ["", "0.5calm", "calm angry", "calm +", "3*"])
def test_words_that_are_no_mixture_are_refused(words):
    from lens_emotion.errors import DoseError
    from lens_emotion.vectors.emotion_vectors import parse_mixture

    with pytest.raises(DoseError, match="mixture"):
        parse_mixture(words)


@pytest.mark.parametrize(
    "options",
    [["--mode", "ablate", "--dose", "1", "--layer", "all"], ["--mode", "clamp", "--layer", "2-4"], ["--layer", "-1"]],
    ids=["ablate", "clamp a band", "last layer"],
)
def test_steer_takes_modes_bands_and_positions(run, options):
    typed = ["steer", "tiny-llama", "0.5*calm - 0.3*angry", "--positions", "generated", "--tokens", "6", *options]
    assert "natural" in run(*typed).stdout


ENDS = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}  # Ctrl-C; a scheduler or container; a terminal that closes
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # tests under nohup, which children inherit
    del ENDS["SIGHUP"]


@contextmanager
def begun(*args):
    """A command in a process of its own, whose stdout can be read as it comes."""
    heed = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}  # also under `nohup &`
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-m", "lens_emotion.cli.app", *args]
    with subprocess.Popen(command, env=os.environ | {"PYTHONUNBUFFERED": "1"}, **pipes, **heed) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is sent otherwise there")
@pytest.mark.parametrize("name", ENDS)
def test_ctrl_c_and_other_ends_say_that_finished_steps_are_kept(tmp_path, name):
    with begun("study", "tiny-llama", "--story-tokens", "16", "--out", str(tmp_path / "run")) as process:
        assert any("writing" in line for line in process.stdout)  # so reading has ended
        process.send_signal(getattr(signal, name))
        _, said = process.communicate(timeout=120)
    assert process.returncode == ENDS[name]
    assert said.strip().splitlines()[-1] == (
        "lens-emotion: interrupted; finished steps are kept, run the same command to go on"
    )
    assert "Traceback" not in said
    assert list((tmp_path / "run").glob("*/comprehension/step.json"))


@pytest.mark.skipif(os.name == "nt", reason="no SIGTERM there")
@pytest.mark.parametrize(("name", "code"), [(name, code * (name != "SIGINT")) for name, code in ENDS.items()])
def test_the_playground_ends_in_one_line(tmp_path, vectors, name, code):
    pytest.importorskip("uvicorn")
    file = str(vectors.save(tmp_path / "v.safetensors"))
    with begun("play", "tiny-llama", "--vectors", file, "--port", "0", "--no-browser") as process:
        assert any(" is at " in line for line in process.stdout)
        process.send_signal(getattr(signal, name))
        printed, said = process.communicate(timeout=120)
    assert (process.returncode, printed.split()[-1:], said) == (code, ["ended"], "")


def test_a_signal_that_is_ignored_stays_ignored(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["lens-emotion", "--version"])
    kept = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with pytest.raises(SystemExit):
            main()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, kept)


def test_an_emotion_that_is_none_is_said_before_the_model_is_loaded(called, monkeypatch):
    monkeypatch.setattr("lens_emotion.models.loading.load_model", lambda *_, **__: pytest.fail("loaded"))
    for model in ("tiny-llama", "gpt2"):
        done = called("steer", model, "0.5*calm - clam")
        assert done.code == 2 and "no emotion 'clam'; did you mean 'calm'?" in done.err
