"""The command line under hostile arguments: one line and the right exit code, and nothing written elsewhere.

    python -m benchmarks.fuzz_cli [--n 2000] [--seed 0]

Each command is one that works, with one to three of its values replaced by hostile ones: names, paths, numbers and
words of the wrong kind. It runs in this process, with its working directory in a folder of its own. What takes long
(reading, writing, a study, the hub) is replaced by a mark that it began; models are loaded once. A failure is
a traceback, an exit code that does not fit, more than one line of error, an error after long work began, a model that
was not named, or a file outside the folders that the command may write to.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.fuzz_subjects import HangError, limit

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is asked of the hub

LONGEST = 30.0  # seconds for one command; more is a hang
MODEL = "tiny-llama"
OUTS = ("{out}/a", "{out}/b/c")

NAMES = (
    "", " ", ".", "/", "//", "...", "./", "~", "~nobody/x", "tiny-lama", "TINY-GPT3", "gpt2 ", "a/b/c", "org/model/",
    "org/mo del", "-", "x" * 300, "org/" + "x" * 300, "ö/ü", "a\nb", "C:\\models\\x", "[bold]x[/]", "[/]", ":smile:",
    "https://huggingface.co/a/b", "x.gguf", "{in}/broken", "{in}/list", "{in}/moe", "{in}/bert", "{in}/cut",
    "{in}/lies", "{in}/text.txt", "{in}/bad.gguf", "gpt2", "\udc80", "nul\0", "*", "$(x)", "{in}", "{in}/dangling",
)  # fmt: skip
PATHS = (
    "", "/", ".", "..", "/dev/null", "/proc/nothing/x", "{in}/text.txt", "{in}/text.txt/x", "{in}/none", "x" * 300,
    "{in}/dangling", "{in}/broken", "a\nb/[/]", "{in}/cut/model.safetensors", "nul\0", "\udc80.json", "{in}/bad.gguf",
    "~nobody/y", "{in}/empty.json", "{in}/list.toml",
)  # fmt: skip
NUMBERS = ("", "x", "-1", "nan", "inf", "-inf", "1e999", "9" * 40, "0x10", "1,5", "½", "--", "[1]", "-0.5e-400")
WORDS = (
    "", " ", "no such", "gpu", "cuda:7", "cpu:3", "tpu", "meta", "fp16", "int8", "auto ", "NONE", "[red]", "[/red]",
    "a\nb", "\0", "99", "-99", "3-1", "10-20-30", "0.5*", "0*calm", "calm - calm", "''", "x" * 5000, "{out}", "\udcff",
)  # fmt: skip


@dataclass(frozen=True)
class Value:
    """A place in a command: values that fit, and hostile ones, which must be refused unless anything goes there."""

    good: tuple[str, ...]
    hostile: tuple[str, ...]
    free: bool = False


def _name(*good: str) -> Value:
    return Value(good or (MODEL,), NAMES)


def _word(*good: str) -> Value:
    return Value(good, WORDS)


def _number(*good: str) -> Value:
    return Value(good, NUMBERS)


def _path(*good: str) -> Value:
    return Value(good, PATHS)


def _free(*good: str) -> Value:
    return Value(good, (*WORDS, "[/]", "x " * 999, "\udc80"), free=True)


OUT = Value(
    OUTS,
    ("/dev/null/x", "{in}/text.txt", "{in}/text.txt/x", "/proc/nothing/x", "{out}/" + "x" * 300, "nul\0"),
    free=True,
)


def _file(good: str) -> Value:
    return replace(OUT, good=(good,), hostile=tuple(p for p in OUT.hostile if p != "{in}/text.txt"))


PLACED = {"--backend": _word("auto", "bridge"), "--dtype": _word("float32", "bfloat16"), "--device": _word("cpu")}

# arguments by position, then options; a flag has no value
COMMANDS: dict[str, tuple[tuple[Value, ...], dict[str, Value | None]]] = {
    "models": ((), {"--family": _word("qwen"), "--hub": None}),
    "extract": (
        (_name(),),
        {"--out": OUT, "--method": _word("comprehension", "jeong"), "--recipe": _word("centred", "neutral"),
         "--stimuli": _path("world-en", "passages"), "--quantise": Value((), WORDS), **PLACED},
    ),
    "steer": (
        (_name(), _word("calm", "0.5*calm - angry")),
        {"--prompt": _free("She said"), "--dose": _number("2", "-1"), "--unit": _word("natural", "relative"),
         "--layer": _word("3", "1-2", "all"), "--positions": _word("all"),
         "--mode": _word("add", "clamp"), "--vectors": _path("{in}/vectors.safetensors"), "--tokens": _number("3"),
         "--temperature": _number("0", "0.7"), "--seed": _number("1"), **PLACED},
    ),
    "drift": ((_name(),), {"--dtype": _word("bfloat16"), "--against": _word("float32"), "--stimuli": _path("world-en"),
                           "--backend": _word("auto"), "--device": _word("cpu"), "--quantise": Value((), WORDS)}),
    "check": ((_name(),), {"--vectors": _path("{in}/vectors.safetensors"), "--no-compare": None, **PLACED}),
    "play": ((_name(),), {"--vectors": _path("{in}/vectors.safetensors"), "--port": _number("0"), "--no-browser": None,
                          **PLACED}),
    "study": (
        (Value((MODEL, "tiny-gpt2", "paper"), tuple(n for n in NAMES if n not in ("{in}/lies", "gpt2"))),),
        {"--out": OUT, "--config": _path("{in}/mine/study.toml"), "--stimuli": Value((), PATHS),
         "--prompts": Value((), PATHS), "--scenarios": _path("{in}/mine/scenarios.toml"),
         "--judge": Value((), PATHS), "--seed": _number("1"), "--permutations": _number("20"),
         "--story-tokens": _number("16"), "--doses": Value(("1,2",), ("", "x", "-1", "nan", "1,,2", "1;2")),
         "--no-generation": None, "--no-steering": None, "--executor": _word("local"), "--gpus": Value((), NUMBERS),
         "--cpus": _number("1"), "--plan": None, "--quantise": Value((), WORDS), **PLACED},
    ),
    "init": ((OUT,), {}),
    "figures": ((_path("{in}/norun"),), {"--out": OUT, "--across": Value(("both",), ("../x", "/x", "", ".", "a/b")),
                                         "--no-images": None, "--model": _name()}),
    "runs list": ((Value(("{in}",), PATHS, free=True),), {}),
    "runs verify": ((_path("{in}/norun"),), {}),
    "runs compare": ((_path("{in}/norun"), _path("{in}/norun")), {}),
    "runs prune": ((_path("{in}/norun"),), {"--delete": None}),
    "stimuli list": ((), {}),
    "stimuli format": ((), {}),
    "stimuli lint": ((_path("{in}/mine/stimuli.toml"),), {"--min-words": _number("3"), "--max-words": _free("90")}),
    "stimuli preview": ((_name(), _free("Anna smiled.")),
                        {"--start": _number("0")}),
    "vectors export": (
        (_path("{in}/vectors.safetensors"), _word("calm", "calm - angry")),
        {"--format": _word("gguf", "steering-vectors"), "--dose": _number("2"), "--layer": _word("2", "all"),
         "--out": _file("{out}/v.bin")},
    ),
    "vectors import": ((_path("{in}/good.gguf"),), {"--model": _name(), "--out": _file("{out}/i.st"),
                                                    "--name": _free("mine")}),
    "vectors push": ((_path("{in}/vectors.safetensors"), _name("me/moods")), {"--licence": _free("mit"),
                                                                              "--public": None}),
    "vectors pull": ((_name("me/moods"),), {"--out": _file("{out}/p.st"), "--model": _name(),
                                            "--revision": _word("main")}),
}  # fmt: skip
NEEDED = {"--out", "--model", "--licence", "--no-images"}  # always given: nothing is written beside, no browser begun
MAY_FAIL = {
    "figures",
    "runs verify",
    "runs compare",
    "runs prune",
    "vectors pull",
    "vectors push",
}  # also as they stand


class BeganError(BaseException):
    """Long work began."""


@dataclass
class Tally:
    """What came of the commands."""

    codes: Counter[int | str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0


def drawn(rng: random.Random, command: str, n_hostile: int) -> tuple[list[str], bool]:
    """Words of a command with this many hostile values, and whether it must be refused."""
    places, options = COMMANDS[command]
    fits = {o for o, v in options.items() if v is None or v.good or n_hostile}
    flags = [o for o in options if o in NEEDED or (o in fits and rng.random() < 0.3)]
    slots = [*((None, v) for v in places), *((o, options[o]) for o in flags)]
    valued = [i for i, (_, v) in enumerate(slots) if v is not None]
    bad = set(rng.sample(valued, min(n_hostile, len(valued))))
    words = command.split()
    for i, (option, value) in enumerate(slots):
        words += [option] if option else []
        if value is not None:
            hostile = [h for h in value.hostile if h not in value.good]
            words.append(rng.choice(hostile if i in bad or not value.good else value.good))
    return words, any(not slots[i][1].free for i in bad)  # type: ignore[union-attr]


def fixtures(folder: Path) -> None:
    """The files that commands are given: good ones, and some of every kind of broken model."""
    from benchmarks.fuzz_subjects import small_activations
    from lens_emotion.models.loading import resolve
    from lens_emotion.run.config import write_example
    from lens_emotion.vectors.interchange import to_gguf
    from lens_emotion.vectors.recipes import emotion_vectors

    vectors = emotion_vectors(small_activations())
    to_gguf(vectors["calm"], vectors.save(folder / "vectors.safetensors").with_name("good.gguf"), 3.0, [2, 3])
    write_example(folder / "mine")
    (folder / "norun").mkdir()
    (folder / "dangling").symlink_to(folder / "nowhere")
    for name, text in {
        "text.txt": "x",
        "empty.json": "",
        "list.toml": "a = [1",
        "bad.gguf": "GGUF and no more",
    }.items():
        (folder / name).write_text(text)
    source = Path(resolve(MODEL).location)
    config = (source / "config.json").read_text()
    changed = {
        "broken": "{", "list": "[]", "moe": config.replace('"LlamaFor', '"MixtralFor'), "cut": config,
        "bert": config.replace("LlamaForCausalLM", "BertModel"),
        "lies": config.replace('"num_hidden_layers": 6', '"num_hidden_layers": 9'),
    }  # fmt: skip
    for name, text in changed.items():
        shutil.copytree(source, folder / name)
        (folder / name / "config.json").write_text(text)
    weights = folder / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def _began(*_: Any, **__: Any) -> None:
    raise BeganError


def _study(config: Any, *_: Any, **__: Any) -> None:
    from lens_emotion.run.inputs import check_inputs

    check_inputs(config)  # as a study begins
    raise BeganError


LONG = (
    "extraction.comprehension.extract_comprehension", "extraction.generation.extract_generation",
    "steering.generate.generate_steered", "laws.check.apply_law", "play.launch.serve",
    "play.launch.open_session",
)  # fmt: skip


@contextlib.contextmanager
def nothing_long(loaded: list[str]) -> Iterator[None]:
    """Long work is only begun; good models are loaded once, and every load is noted by its name."""
    from lens_emotion.models import loading

    real: Callable[..., Any] = loading.load_model
    kept: dict[Any, Any] = {}

    def load(name: Any, **options: Any) -> Any:
        key = (str(name), *sorted((k, str(v)) for k, v in options.items()))
        kept[key] = kept.get(key) or real(name, **options)
        loaded.append(str(name))
        return kept[key]

    with contextlib.ExitStack() as stack:
        for path in LONG:
            stack.enter_context(mock.patch(f"lens_emotion.{path}", _began))
        stack.enter_context(mock.patch("lens_emotion.study.pipeline.run_study", _study))
        for room in ("models.loading", "laws.check"):
            stack.enter_context(mock.patch(f"lens_emotion.{room}.load_model", load))
        stack.enter_context(mock.patch("webbrowser.open", lambda *_: None))
        yield


def called(words: list[str]) -> tuple[int | str, str]:
    """Exit code ("began" for long work) and stderr of a command."""
    from lens_emotion.cli.app import main

    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    code: int | str = "no exit"
    with (
        mock.patch.object(sys, "argv", ["lens-emotion", *words]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BeganError:
            code = "began"
    return code, err.buffer.getvalue().decode()  # type: ignore[attr-defined]


def seen(root: Path) -> set[str]:
    """Every file and folder below."""
    return {str(p) for p in root.rglob("*")}


def fault(code: int | str, err: str, n_hostile: int, command: str) -> str:
    """What is wrong with the answer, or ""."""
    if "Traceback" in err or "unforeseen" in err or code not in (0, 1, 2, "began"):
        return f"{code}: {err.strip()[-300:]}"
    if code == 1 and command not in ("stimuli lint", "check", "runs verify"):
        return f"exit code 1 of {command}"
    lines = err.strip().splitlines()
    if code == 2 and (len(lines) != 1 or not err.startswith("lens-emotion: ")):
        return f"{len(lines)} lines of error: {err[:200]!r}"
    if code == 2 and not n_hostile and command not in MAY_FAIL:
        return f"refused, though nothing is wrong: {err.strip()}"
    return ""


def run(n: int, seed: int) -> Tally:
    """Try n commands, every tenth as it should be."""
    rng, tally, loaded, home = random.Random(seed), Tally(), [], os.getcwd()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary).resolve()
        for name in ("in", "out", "here"):
            (root / name).mkdir()
        fixtures(root / "in")
        before = seen(root)
        os.chdir(root / "here")
        try:
            with nothing_long(loaded):
                for i in range(n):
                    command, n_hostile = rng.choice(list(COMMANDS)), 0 if i % 10 == 0 else rng.choice((1, 1, 2, 3))
                    _try(rng, command, n_hostile, root, before, loaded, tally)
        finally:
            os.chdir(home)
    return tally


def _try(
    rng: random.Random, command: str, n_hostile: int, root: Path, before: set[str], loaded: list[str], tally: Tally
) -> None:
    words, refuse = drawn(rng, command, n_hostile)
    words = [w.replace("{in}", str(root / "in")).replace("{out}", str(root / "out")) for w in words]
    loaded.clear()
    start = time.perf_counter()
    try:
        with limit(LONGEST):
            code, err = called(words)
        wrong = fault(code, err, n_hostile, command)
        if refuse and code in (0, "began"):
            wrong = wrong or f"{code}, though a value makes no sense"
    except (Exception, HangError) as error:
        code, wrong = "crash", f"{type(error).__name__}: {str(error)[:300]}"
    tally.slowest = max(tally.slowest, time.perf_counter() - start)
    tally.codes[code] += 1
    if others := [name for name in loaded if not name.startswith("tiny-") or name not in words]:
        wrong = wrong or f"loaded {others}"
    strays = {p for p in seen(root) - before if not p.startswith(str(root / "out"))}
    if strays and not (command == "init" and n_hostile):
        wrong = wrong or f"wrote {sorted(strays)[:3]}"
    for path in (root / "out", root / "here"):
        shutil.rmtree(path)
        path.mkdir()
    os.chdir(root / "here")
    if wrong:
        tally.failures.append(f"{' '.join(w if w.isalnum() else repr(w[:80]) for w in words)}\n    {wrong}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz_cli", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    start, tally = time.perf_counter(), run(args.n, args.seed)
    for failure in tally.failures[:40]:
        print(f"  {failure.encode('ascii', 'backslashreplace').decode()}")
    codes = ", ".join(f"{count} x {code}" for code, count in sorted(tally.codes.items(), key=str))
    print(f"{args.n} commands ({codes}), {len(tally.failures)} failures, slowest {tally.slowest:.1f} s, ", end="")
    print(f"{time.perf_counter() - start:.0f} s")
    return int(bool(tally.failures))


if __name__ == "__main__":
    sys.exit(main())
