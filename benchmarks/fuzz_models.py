"""The readers of model folders, chat templates and requests, and the command line given a file."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.fuzz_grammar import fault_of_numbers, fault_of_texts, first, lied, told
from benchmarks.fuzz_runs import json_reader
from benchmarks.fuzz_subjects import Reader, small_activations, small_stimuli, tiny

MODEL = "tiny-llama"


def model_readers(folder: Path) -> list[Reader]:
    """Each over a copy of a tiny model's folder of its own; no weights are loaded."""
    from lens_emotion.models.loading import resolve

    source = Path(resolve(MODEL).location)

    def copy(name: str) -> Path:
        return Path(shutil.copytree(source, folder / name))

    return [
        _config(copy("config")),
        _index(copy("index")),
        _header(copy("header")),
        *_tokenizers(copy("tokenizer")),
        _template(tiny()),
        *_requests(),
        *_commands(folder / "commands"),
    ]


# A folder: config, index, header, tokenizer.


def _config(folder: Path) -> Reader:
    from lens_emotion.models.checkpoint import check_folder

    def says(data: bytes, result: Any) -> str:
        if result != told(data.removeprefix(b"\xef\xbb\xbf")):
            return "other settings than the file's"
        named = result.get("architectures")
        if not (isinstance(named, list) and named and isinstance(named[0], str) and named[0].endswith("ForCausalLM")):
            return "no decoder, or none named"
        sizes = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size", "intermediate_size")
        wrong = [
            k for k in sizes if result.get(k) is not None and (type(result[k]) is not int or not 0 < result[k] < 10**9)
        ]
        return f"{wrong[0]} is {result[wrong[0]]!r:.30}" if wrong else fault_of_texts(result)

    return json_reader(
        "check_folder, config", folder / "config.json", lambda path: check_folder(path.parent, "x"), says
    )


def _index(folder: Path) -> Reader:
    from safetensors.torch import load_file, save_file

    from lens_emotion.models.checkpoint import weight_files

    held = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names, parts = sorted(held), ("a.safetensors", "b.safetensors")
    index: dict[str, Any] = {
        "metadata": {"total_size": 1},
        "weight_map": {n: parts[i % 2] for i, n in enumerate(names[:12])},
    }
    for k, part in enumerate(parts):
        save_file({n: held[n] for n in names[k::2]}, folder / part)
    place = folder / "model.safetensors.index.json"
    place.write_text(json.dumps(index))
    (folder.parent / "c.safetensors").write_bytes((folder / "a.safetensors").read_bytes())
    outside = (
        "../c.safetensors",
        str(folder / "a.safetensors"),
        "./a.safetensors",
        "config.json",
        ".",
        "a.safetensors/",
    )

    def says(data: bytes, result: Any) -> str:
        shards = told(data.removeprefix(b"\xef\xbb\xbf"))["weight_map"]
        if sorted(p.name for p in result) != sorted({Path(s).name for s in shards.values()}):
            return "other files than the index names"
        beyond = [s for s in shards.values() if "/" in s or "\\" in s]
        return f"a file of weights outside of the folder: {beyond[0]!r:.40}" if beyond else ""

    reader = json_reader("weight_files, index", place, lambda path: weight_files(path.parent), says)

    def lies(rng: random.Random) -> bytes:
        if rng.random() < 0.3:
            shards = {**index["weight_map"], rng.choice(names): rng.choice(outside)}
            return json.dumps({**index, "weight_map": shards}).encode()
        return lied(rng, index).encode("utf-8", "surrogatepass")

    return Reader(**{**vars(reader), "lies": lies})


def _header(folder: Path) -> Reader:
    from safetensors.torch import save_file

    from lens_emotion.models.checkpoint import check_folder
    from lens_emotion.models.skeleton import shapes_of

    place = folder / "model.safetensors"
    import torch

    save_file({"a": torch.zeros(2, 3), "b": torch.ones(4)}, place, {"format": "pt"})
    good = place.read_bytes()
    size = int.from_bytes(good[:8], "little")
    plain = json.loads(good[8 : 8 + size])

    def read(path: Path) -> Any:
        check_folder(path.parent, "x")
        return shapes_of([path])

    def says(data: bytes, result: Any) -> str:
        n = int.from_bytes(data[:8], "little")
        rows = {k: v for k, v in told(data[8 : 8 + n]).items() if k != "__metadata__"}
        if {k: list(v) for k, v in result.items()} != {k: v["shape"] for k, v in rows.items()}:
            return "other shapes than the file's"
        return first(*(fault_of_numbers(s, "a shape", 0) for s in result.values()), fault_of_texts(list(result)))

    def lies(rng: random.Random) -> bytes:
        raw = lied(rng, plain).encode("utf-8", "surrogatepass")
        raw += b" " * (-len(raw) % 8)
        n = rng.choice((len(raw), len(raw), len(raw), len(raw) + 8, 2**40, 2**63, 0, 10**8))
        return n.to_bytes(8, "little") + raw + good[8 + size :]

    right = lambda data, result: not says(data, result)  # noqa: E731
    return Reader("shapes_of, header", good, read, right, lies=lies, says=says, place=place)


def _tokenizers(folder: Path) -> list[Reader]:
    from lens_emotion.models.checkpoint import check_folder
    from lens_emotion.models.first_token import measure_rule
    from lens_emotion.models.loading import resolve, tokenizer_of_source

    def read(path: Path) -> Any:
        check_folder(path.parent, "x")
        tokenizer = tokenizer_of_source(resolve(str(path.parent)), None)
        measure_rule(tokenizer)  # as loading goes on
        return tokenizer

    def says(data: bytes, tokenizer: Any) -> str:
        """It cuts a text into ids of its vocabulary; which ones is the tokenizer's own matter."""
        ids = tokenizer("She said that she was happy.").input_ids
        return fault_of_numbers(ids, "an id", 0, max(len(tokenizer), 1) - 1)

    return [
        json_reader("tokenizer.json", folder / "tokenizer.json", read, says, weight=1),
        json_reader("tokenizer_config.json", folder / "tokenizer_config.json", read, says, weight=1, lenient=True),
    ]


# Chat templates: programs.

GOOD = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
SAID = "{{ messages[0].content }}"
TEMPLATES = (
    SAID, "", "{{", "{% for %}", "nothing", "{{ messages }}", "{{ raise_exception('no') }}", "{{ 1 / 0 }}",
    "{{ x.y.z }}",
    "{{ messages[0].content | upper }}", "{{ messages[0].content * 1000000 }}", "{{ range(10**9) | list }}",
    "{{ 'a' * 10**10 }}", "{{ ''.__class__.__mro__ }}", "{{ range(9) | random }}" + SAID, "{{ lipsum() }}" + SAID,
    "{{ strftime_now('%H:%M:%S %f') }}" + SAID, "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "{{ 10**10**8 }}",
    "{% set x = namespace(v=1) %}" + SAID, "{% include 'x' %}", "{% import 'os' as os %}", "\0" + SAID, SAID + "\ud800",
    "{{ cycler('a').__init__.__globals__ }}", "{{ messages[1].content }}", "{{ '%999999999d' | format(1) }}" + SAID,
)  # fmt: skip
ASKED = "Write about a market."


def _template(model: Any) -> Reader:
    """A model with this template; those that run for ever are given little time."""
    from lens_emotion.models import rendering, templates

    tokenizer = model.tokenizer

    def read(path: Path) -> Any:
        before, tokenizer.chat_template = tokenizer.chat_template, path.read_bytes().decode("utf-8", "surrogateescape")
        try:
            with mock.patch.object(rendering, "SECONDS", 0.5):
                return templates.chat_prompt(model, ASKED)
        finally:
            tokenizer.chat_template = before

    def says(data: bytes, result: Any) -> str:
        if not data.strip():
            return "" if result == ASKED else "another prompt, without a template"
        return "the instruction is left out" if ASKED not in result else fault_of_texts(result)

    lies = lambda rng: rng.choice(TEMPLATES).encode("utf-8", "surrogatepass")  # noqa: E731
    right = lambda data, result: not says(data, result)  # noqa: E731
    return Reader("chat_prompt", GOOD.encode(), read, right, lies=lies, says=says, file=False, weight=2)


# Requests of the playground's page.


def _requests() -> list[Reader]:
    from lens_emotion.play.asks import read_ask, read_look

    ask = {
        "prompt": "She said", "mix": {"calm": 1.0, "angry": -0.5}, "dose": 3.0, "unit": "natural", "first_layer": 2,
        "last_layer": 3, "tokens": 40, "temperature": 0.7, "seed": 1, "positions": "all", "control": True,
        "test": False, "chat": False,
    }  # fmt: skip
    look = {"text": "She smiled.", "emotions": ["calm"], "layer": 3}

    def ask_says(data: bytes, found: Any) -> str:
        given = told(data)
        plain = ("prompt", "mix", "dose", "unit", "tokens", "temperature", "seed", "positions")
        if other := [k for k in plain if k in given and getattr(found, k) != given[k]]:
            return f"{other[0]} is not the request's"
        if other := [k for k in ("control", "test", "chat") if getattr(found, k) != given.get(k, False)]:
            return f"{other[0]} is not the request's"
        layers = sorted(given.get(k, 0) for k in ("first_layer", "last_layer"))
        if list(found.layers) != layers:
            return "the layers are not the request's"
        numbers = (found.dose, found.temperature, *found.mix.values(), found.tokens, found.seed)
        return first(fault_of_numbers(numbers, "a number"), fault_of_texts([found.prompt, list(found.mix)]))

    def look_says(data: bytes, found: Any) -> str:
        given = told(data)
        same = (found.text, list(found.emotions), found.layer) == (given["text"], given["emotions"], given.get("layer"))
        return "" if same and all(isinstance(e, str) for e in given["emotions"]) else "other values than the request's"

    def reader(name: str, plain: Any, parse: Callable[[bytes], Any], says: Callable[[bytes, Any], str]) -> Reader:
        good = json.dumps(plain).encode()
        lies = lambda rng: lied(rng, plain).encode("utf-8", "surrogatepass")  # noqa: E731
        right = lambda data, result: not says(data, result)  # noqa: E731
        text = lambda: (json.loads(good), lambda new: new.encode("utf-8", "replace"))  # noqa: E731
        read = lambda path: parse(path.read_bytes())  # noqa: E731
        return Reader(name, good, read, right, text, lies=lies, says=says, file=False)

    return [reader("read_ask", ask, read_ask, ask_says), reader("read_look", look, read_look, look_says)]


# The command line, given a file.


def _commands(folder: Path) -> list[Reader]:
    """Exit codes 0, 1 and 2, one line of error, no traceback; what is read is judged by the readers above."""
    from benchmarks.fuzz_runs import stored_run
    from benchmarks.fuzz_subjects import tensor_file, unjudged
    from lens_emotion.vectors.emotion_vectors import EmotionVectors
    from lens_emotion.vectors.recipes import emotion_vectors

    folder.mkdir()
    run = stored_run(folder / "runs" / "one")
    texts = small_stimuli().save(folder / "texts.json")
    vectors = emotion_vectors(small_activations()).save(folder / "v.safetensors")
    out = str(folder / "out.gguf")
    spread = tensor_file("", vectors, EmotionVectors.load, unjudged)
    common: dict[str, Any] = {"weight": 1, "lenient": True}
    listed, verified = lambda _: _called("runs", "list", str(run.parent)), lambda _: _called("runs", "verify", str(run))
    compared, linted = lambda _: _called("runs", "compare", str(run), str(run)), lambda p: _called("stimuli", "lint", p)
    exported = lambda p: _called("vectors", "export", p, "calm", "--out", out)  # noqa: E731
    right = lambda _, result: not _said(0, 2)(_, result)  # noqa: E731
    return [
        json_reader("cli: runs", run / "manifest.json", listed, _said(0, 2), **common),
        json_reader("cli: runs verify", run / MODEL / "steering" / "step.json", verified, _said(0, 1, 2), **common),
        json_reader("cli: runs compare", run / MODEL / "model.json", compared, _said(0, 2), **common),
        json_reader("cli: stimuli lint", texts, linted, _said(0, 1, 2), **common),
        Reader(
            "cli: vectors export", spread.good, exported, right, spread.text, lies=spread.lies, says=_said(0, 2),
            place=vectors, **common,
        ),
    ]  # fmt: skip


def _called(*words: Any) -> Any:
    from benchmarks.fuzz_cli import called

    return called([str(word) for word in words])


def _said(*codes: int) -> Callable[[bytes, Any], str]:
    def says(_: bytes, result: Any) -> str:
        code, err = result
        if code not in codes or "Traceback" in err or "unforeseen" in err:
            return f"exit code {code}: {err.strip()[-200:]}"
        lines = err.strip().splitlines()
        return f"{len(lines)} lines of error" if code == 2 and len(lines) != 1 else ""

    return says
