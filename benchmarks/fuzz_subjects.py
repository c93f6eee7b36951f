"""Every reader of foreign files with a small good file, and how to tell whether what it read is what the file says."""

from __future__ import annotations

import json
import random
import signal
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from benchmarks.fuzz_grammar import (
    bent,
    fault_of_directions,
    fault_of_names,
    fault_of_numbers,
    fault_of_texts,
    first,
    lied,
    same_numbers,
    sealed_text,
    tensor_bytes,
    tensors_in,
    told,
)


class HangError(BaseException):
    """A reader did not come back in time; no `Exception`, which lenient readers pass over."""


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Interrupt what takes longer (main thread of a Unix process only)."""

    def stop(*_: Any) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True)
class Reader:
    """A reader under test.

    Attributes:
        good: bytes of a good file.
        read: reads a file.
        right: is this result what the (changed) bytes say?
        suffix: of the file's name.
        text: where its JSON lies, so that values can be swapped: (bytes before, JSON, function that joins new JSON).
        lies: draws a valid container with lying contents.
        says: what is wrong with a result of such a file, "" if it is what the file says and has a meaning.
        place: where the file lies, if not by itself.
        lenient: gives a result also where there is no file to read; `says` then judges it with b"".
        file: False where bytes, not a file, are read.
        weight: its share of the inputs.
    """

    name: str
    good: bytes
    read: Callable[[Path], Any]
    right: Callable[[bytes, Any], bool]
    text: Callable[[], tuple[Any, Callable[[str], bytes]]] | None = None
    suffix: str = ".json"
    lies: Callable[[random.Random], bytes] | None = None
    says: Callable[[bytes, Any], str] | None = None
    place: Path | None = None
    lenient: bool = False
    file: bool = True
    weight: int = 6


def same(a: Any, b: Any) -> bool:
    """Equal, to the bit: tensors, frames, dataclasses of these."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.shape == b.shape and bool((a == b).all())
    if hasattr(a, "equals"):
        return bool(a.equals(b))
    if hasattr(a, "__dataclass_fields__"):
        return type(a) is type(b) and all(same(getattr(a, n), getattr(b, n)) for n in a.__dataclass_fields__)
    return bool(a == b)


Says = Callable[[bytes, Any], str]


def tensor_file(name: str, path: Path, read: Callable[[Path], Any], says: Says) -> Reader:
    """A safetensors file of ours: its JSON lies under a key of the header."""
    from lens_emotion.files.artifacts import digest

    good, original = path.read_bytes(), read(path)
    size = int.from_bytes(good[:8], "little")

    def text() -> tuple[Any, Callable[[str], bytes]]:
        header = json.loads(good[8 : 8 + size])

        def join(new: str) -> bytes:
            raw = json.dumps({**header, "__metadata__": {"lens_emotion": new}}).encode()
            return len(raw).to_bytes(8, "little") + raw + good[8 + size :]

        return json.loads(header["__metadata__"]["lens_emotion"]), join

    def lies(rng: random.Random) -> bytes:
        plain, held = {k: v for k, v in text()[0].items() if k != "sha256"}, tensors_of(good)
        about = rng.random()
        held = bent(rng, held) if about < 0.6 else held
        words = lied(rng, plain) if about > 0.5 else json.dumps(plain)
        return tensor_bytes(held, sealed_text(words, held, digest))

    return Reader(name, good, read, lambda _, result: same(result, original), text, lies=lies, says=says)


def tensors_of(data: bytes) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(held.copy()) for name, held in tensors_in(data)[1].items()}


def unsealed_file(name: str, path: Path, read: Callable[[Path], Any], says: Says) -> Reader:
    """The same as version 0.1 wrote it, without a checksum: only the checks of form stand between a change and us."""
    sealed = tensor_file(name, path, read, says)
    assert sealed.text is not None
    value, join = sealed.text()
    plain = {k: v for k, v in value.items() if k not in ("format", "sha256")}

    def right(data: bytes, result: Any) -> bool:
        return not says(data, result)

    return Reader(name, join(json.dumps(plain)), read, right, lambda: (json.loads(json.dumps(plain)), join), says=says)


def unjudged(data: bytes, result: Any) -> str:
    """Says nothing: what is read is judged elsewhere."""
    return ""


def as_vectors_say(data: bytes, result: Any) -> str:
    """Directions, sizes, names and header are what stands in the bytes, and can be meant."""
    text, held = tensors_in(data)
    meta = told(text)
    for name in ("directions", "norms", "natural", "residual_norm"):
        if not same_numbers(held[name], getattr(result, name)):
            return f"{name} are not the file's"
    if list(result.emotions) != meta["emotions"]:
        return "the names are not the file's"
    sizes = fault_of_sizes(result, ("natural", "norms"))
    unlike = len(result.emotions) != len(result.directions)
    named = "more names than directions" if unlike else fault_of_names(result.emotions, "emotion")
    return first(fault_of_header(meta, result), sizes, named, fault_of_directions(result.directions, result.natural))


def fault_of_sizes(result: Any, names: tuple[str, ...]) -> str:
    found = [fault_of_numbers(getattr(result, name), name, 0.0) for name in names]
    return first(*found, fault_of_numbers(result.residual_norm, "residual_norm", 1e-44))


def fault_of_header(meta: Any, result: Any) -> str:
    """The header is that of the JSON, with its types."""
    given, mine = meta["header"], {**vars(result.header), "notes": list(result.header.notes)}
    if other := [k for k, v in given.items() if k not in mine or mine[k] != v or type(mine[k]) is not type(v)]:
        return f"the header's {other[0]!r:.40} is not the file's"
    seed = result.header.seed
    return "a seed below 0" if seed is not None and seed < 0 else fault_of_texts(mine)


def as_activations_say(data: bytes, result: Any) -> str:
    """Rows, labels, counts and header are what stands in the bytes, and can be meant."""
    text, held = tensors_in(data)
    meta = told(text)
    for name in ("values", "residual_norm"):
        if not same_numbers(held[name], getattr(result, name)):
            return f"{name} are not the file's"
    rows = [asdict(r) for r in result.records]
    if len(rows) != len(meta["records"]) or len(rows) != len(result.values):
        return "other numbers of texts"
    for row, given in zip(rows, meta["records"], strict=True):
        if any(row[k] != v or type(row[k]) is not type(v) for k, v in given.items()):
            return "a text's labels are not the file's"
        counts = [row[f"n_{k}"] for k in ("total", "pooled", "skipped", "special")]
        if min(counts) < 0 or counts[0] != sum(counts[1:]):
            return f"counts of tokens that do not add up: {counts}"
        labelled = [row["emotion"]] * bool(row["emotion"])  # a text may have no label
        if found := first(fault_of_names(labelled, "emotion"), fault_of_texts(row)):
            return found
    shape = "no layers, or no width" if not all(result.values.shape[1:]) else ""
    sizes = first(fault_of_numbers(result.values, "values"), fault_of_sizes(result, ()))
    return first(fault_of_header(meta, result), shape, sizes)


def json_file(
    name: str,
    path: Path,
    read: Callable[[Path], Any],
    says: Says,
    right: Callable[[bytes, Any], bool] | None = None,
    seal: Callable[[Any, Any], str] | None = None,
    **more: Any,
) -> Reader:
    """A JSON file; with a checksum, only the original is right where bytes were changed."""
    good = path.read_bytes()
    original = read(path) if right is None else None
    right = right or (lambda _, result: same(result, original))
    plain = {k: v for k, v in json.loads(good).items() if k != "sha256"}

    def lies(rng: random.Random) -> bytes:
        text = lied(rng, plain)
        return (sealed_text(text, {}, seal) if seal else text).encode("utf-8", "surrogatepass")

    text = lambda: (json.loads(good), lambda new: new.encode("utf-8", "replace"))  # noqa: E731
    return Reader(name, good, read, right, text, lies=lies, says=says, **more)


def readers(folder: Path) -> list[Reader]:
    """Readers of vectors, activations and results, each with a small good file."""
    from lens_emotion.extraction.activations import PooledActivations
    from lens_emotion.files.artifacts import digest
    from lens_emotion.presets.suppression import load_suppression, save_suppression
    from lens_emotion.steering.dose_result import load_dose_response, save_dose_response
    from lens_emotion.stimuli.sets import read_stimulus_file
    from lens_emotion.vectors.emotion_vectors import EmotionVectors
    from lens_emotion.vectors.recipes import emotion_vectors

    acts = small_activations()
    vectors = emotion_vectors(acts)
    a, v = acts.save(folder / "a.safetensors"), vectors.save(folder / "v.safetensors")
    texts = small_stimuli().save(folder / "texts.json")
    steering = save_dose_response(small_dose_response(), folder / "steering.json")
    suppressed = save_suppression(small_suppression(), folder / "suppression.json")
    return [
        tensor_file("PooledActivations.load", a, PooledActivations.load, as_activations_say),
        tensor_file("EmotionVectors.load", v, EmotionVectors.load, as_vectors_say),
        tensor_file("pull_vectors", v, pulled, as_vectors_say),
        unsealed_file("activations, no checksum", a, PooledActivations.load, as_activations_say),
        unsealed_file("vectors, no checksum", v, EmotionVectors.load, as_vectors_say),
        json_file("read_stimulus_file", texts, read_stimulus_file, as_items_say, as_json_says),
        json_file("load_dose_response", steering, load_dose_response, as_doses_say, seal=digest),
        json_file("load_suppression", suppressed, load_suppression, as_suppression_says, _suppressed_as_said),
    ]


@cache
def tiny() -> Any:
    """The model of all readers, loaded once."""
    from lens_emotion.models.loading import load_model

    return load_model("tiny-llama", device="cpu")


@cache
def small_stimuli() -> Any:
    from lens_emotion.stimuli.library import load_stimuli

    return load_stimuli("world-en", per_cell=1).only(emotions=("happy", "calm", "angry"), topics=("cooking", "market"))


@cache
def small_activations() -> Any:
    from lens_emotion.extraction.comprehension import extract_comprehension

    return extract_comprehension(tiny(), small_stimuli(), progress=False)


@cache
def small_dose_response() -> Any:
    from lens_emotion.run.config import StudyConfig
    from lens_emotion.run.inputs import scenarios_for
    from lens_emotion.steering.experiment import dose_response
    from lens_emotion.study.steps import choose_judge
    from lens_emotion.vectors.recipes import emotion_vectors

    config, texts, vectors = StudyConfig(models=("tiny-llama",)), small_stimuli(), emotion_vectors(small_activations())
    chosen = [s for s in scenarios_for(config, texts) if s.emotion in vectors][:4]
    judge = choose_judge(tiny(), small_activations(), texts, config)
    return dose_response(tiny(), vectors, chosen, judge, doses=(2.0, 4.0), max_new_tokens=4, progress=False)


def pulled(path: Path) -> Any:
    """`pull_vectors` from a Hub that hands out this file."""
    from lens_emotion.vectors.hub import pull_vectors

    api: Any = SimpleNamespace(hf_hub_download=lambda *_, **__: str(path))
    return pull_vectors("someone/moods", api=api)


def as_json_says(data: bytes, result: Any) -> bool:
    """The texts and labels of a stimulus file are those of the JSON as it stands."""
    items = json.loads(data)["items"]
    told = [(row["text"].strip(), *(_named(row[k]) for k in ("emotion", "topic"))) for row in items]
    return told == [(s.text, s.emotion, s.topic) for s in result.stimuli.items]


def _named(name: str) -> str:
    """A name without spaces around it, in composed letters, as the documents say."""
    return unicodedata.normalize("NFC", name.strip())


def as_items_say(data: bytes, result: Any) -> str:
    """The same, with names that can be told apart and texts that are some."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    told(data)
    items, norms = result.stimuli.items, result.stimuli.norms
    ids = fault_of_names([s.text_id for s in items], "id")
    named = first(*(fault_of_names([s.emotion], "emotion") or fault_of_names([s.topic], "topic") for s in items))
    rated = fault_of_numbers([(n.valence, n.arousal) for n in norms], "a rating")
    return first("" if as_json_says(data, result) else "other texts than the file's", ids, named, rated)


_SHARES = ("p_", "p_corrected", "loop_share", "distinct_2")


def as_doses_say(data: bytes, result: Any) -> str:
    """Frames are the file's cell by cell; counts, rates and p-values are some."""
    given = told(data, infinite=True)
    for name in ("table", "texts", "others", "unsteered", "scores"):
        frame, held = getattr(result, name), given[name]
        if [str(c) for c in frame.columns] != held["columns"] or len(frame) != len(held["data"]):
            return f"{name} has other columns or rows than the file"
        cells = frame.astype(object).where(frame.notna(), None).to_numpy().tolist()
        if any(a != b for mine, row in zip(cells, held["data"], strict=True) for a, b in zip(mine, row, strict=True)):
            return f"{name} has other cells than the file"
        if len(set(held["columns"])) < len(held["columns"]):
            return f"{name} has a column twice"
        if found := first(*(_fault_of_column(str(c), frame[c]) for c in frame.columns)):
            return f"{name}: {found}"
    plain = ("layer", "judge", "judge_accuracy", "judge_independent", "n_emotions", "groups")
    if any(getattr(result, k) != given[k] or type(getattr(result, k)) is not type(given[k]) for k in plain):
        return "a plain value is not the file's"
    accuracy = result.judge_accuracy
    least = {"explosive_ratio": 1e-9, "min_gain": -1.0}
    limits = [fault_of_numbers(v, k, least.get(k, 0.0)) for k, v in vars(result.thresholds).items() if v is not None]
    return first(
        "" if accuracy is None else fault_of_numbers(accuracy, "accuracy", 0.0, 1.0),
        fault_of_numbers(result.n_emotions, "n_emotions", 1),
        "a layer below 0" if isinstance(result.layer, int) and result.layer < 0 else "",
        *limits,
        "" if list(result.notes) == given["notes"] else "other notes than the file's",
        fault_of_texts([result.judge, list(result.notes)]),
    )


def _fault_of_column(name: str, column: Any) -> str:
    """A column of numbers that holds others than its name allows; None stands for what was not measured."""
    share = name.startswith("p_") or name.endswith(("_rate", "_low", "_high")) or name in _SHARES
    if not (share or name in ("n", "dose", "success", "moved", "perplexity_ratio")):
        return ""
    values = [v for v in column.tolist() if v is not None and v == v]
    if any(isinstance(v, str | list | dict) for v in values):
        return f"{name} holds what is no number"
    return fault_of_numbers(values, name, 0.0, 1.0 if share else np.inf)


@cache
def small_suppression() -> Any:
    """The published table over two texts."""
    from lens_emotion.presets.suppression import suppression
    from lens_emotion.vectors.recipes import emotion_vectors

    texts, pair = ["Anna ran home.", "The door opened and"], ("calm", "angry")
    return suppression(tiny(), emotion_vectors(small_activations()), texts, pair=pair, n_random=3)


def _suppressed_as_said(data: bytes, result: Any) -> bool:
    """The file has no checksum of its own, that of its step stands beside it: what it says is what counts."""
    return not as_suppression_says(data, result)


def as_suppression_says(data: bytes, result: Any) -> str:
    """Columns and facts are the file's, with their kinds; and can be meant."""
    given = told(data, infinite=True)
    for name, column in given["table"].items():
        if name not in result.table:
            continue  # a column that nobody asked for is left
        mine = result.table[name].tolist()
        if mine != column or any(isinstance(x, bool) for x in column):
            return f"{name} is not the file's"
    for name in ("steered", "suppressed", "dose", "layer", "n_random", "inflation"):
        if getattr(result, name) != given[name] or type(getattr(result, name)) is not type(given[name]):
            return f"{name} is not the file's"
    numbers = result.table.drop(columns=["prompt", "direction"])
    return first(
        fault_of_numbers(result.dose, "dose", 0.0, 1e6),
        fault_of_numbers(result.inflation, "inflation", 1e-300, 1e9),
        fault_of_numbers(result.layer, "layer", 0, 1e9),
        fault_of_numbers(result.n_random, "n_random", 1, 1e9),
        fault_of_numbers(numbers.to_numpy(float), "a projection", -1e9, 1e9),
        fault_of_texts([result.steered, result.suppressed, *result.table["prompt"], *result.table["direction"]]),
    )
