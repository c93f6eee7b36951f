"""Steps that go on from a journal: what they give must be what they give without one."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.fuzz_grammar import fault_of_numbers, lied, tensor_bytes
from benchmarks.fuzz_subjects import Reader, same, small_activations, small_stimuli, tiny

KEYS = tuple(f"{i:032x}" for i in range(4))


def step_readers(folder: Path) -> list[Reader]:
    """Journals read by themselves, and three steps that are resumed over one."""
    from lens_emotion.extraction.comprehension import extract_poolings
    from lens_emotion.extraction.generation import write_stories
    from lens_emotion.extraction.pooling import last_token, story_mean
    from lens_emotion.files.journal import Journal
    from lens_emotion.models.sampling import GREEDY
    from lens_emotion.steering.dose import as_dose
    from lens_emotion.steering.generate import Condition, generate_steered
    from lens_emotion.steering.grid import FILE, read_rows, steering_grid
    from lens_emotion.stimuli.prompts import story_prompts
    from lens_emotion.vectors.recipes import emotion_vectors

    model, stimuli, vectors = tiny(), small_stimuli(), emotion_vectors(small_activations())
    calm, prompts = vectors["calm"], story_prompts("topic-crossed", "world-en")[:2]
    conditions = [Condition("She said", calm, as_dose(d, "natural"), seed=0) for d in (1.0, 2.0, 3.0)]

    def reading(path: Path | None) -> Any:
        journal = Journal.open(path) if path else None
        poolings = [story_mean(), last_token()]
        return extract_poolings(model, poolings, stimuli, token_budget=64, progress=False, journal=journal)

    def steering(path: Path | None) -> Any:
        journal = Journal.open(path) if path else None
        return tuple(
            generate_steered(model, conditions, (3,), max_new_tokens=3, token_budget=8, progress=False, journal=journal)
        )

    def writing(path: Path | None) -> Any:
        journal = Journal.open(path) if path else None
        stories = write_stories(model, prompts, 3, GREEDY, progress=False, journal=journal)
        return tuple((s.prompt.prompt_id, tuple(s.new_ids), s.text) for s in stories)

    def grid(path: Path | None) -> Any:
        more: dict[str, Any] = {"max_new_tokens": 3, "controls": (), "progress": False}
        found = steering_grid(
            model, vectors, ["She said"], ["calm"], doses=(2.0, 3.0), folder=path and path.parent, **more
        )
        return found.table, found.new_ids, found.prompt_ids

    steps: list[tuple[str, Callable[[Path | None], Any], str]] = [
        ("resumed reading", reading, "reading.journal"),
        ("resumed steering", steering, "steering.journal"),
        ("resumed writing", writing, "writing.journal"),
        ("steering_grid, resumed", grid, FILE),
    ]
    return [
        _journal_reader(folder / "some.journal"),
        _rows_reader(folder / "rows.jsonl", read_rows),
        *(_step(name, step, folder / name.replace(" ", "_") / file) for name, step, file in steps),
    ]


def _step(name: str, step: Callable[[Path | None], Any], place: Path) -> Reader:
    place.parent.mkdir()
    alone = step(None)
    step(place)
    good = place.read_bytes()
    records = records_in(good)
    assert _equal(step(place), alone), f"{name} gives other results over its own journal"
    right = lambda _, result: _equal(result, alone)  # noqa: E731
    says = lambda _, result: "" if _equal(result, alone) else "other results than without a journal"  # noqa: E731
    return Reader(
        name, good, step, right, lies=partial(_lying, records), says=says, place=place, lenient=True, weight=3
    )


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(_equal, a, b))
    return same(a, b)


# Records: a line of JSON with a checksum at its end, and a block of tensors.


def records_in(data: bytes) -> list[tuple[dict[str, Any], dict[str, Tensor]]]:
    """Whole records of a good journal, by this file's own code."""
    from safetensors.torch import load

    found, at = [], 0
    while at < len(data):
        end = data.index(b"\n", at)
        values = json.loads(data[at:end])
        values.pop("sha256")
        size = values.pop("n_bytes", 0)
        found.append((values, load(data[end + 1 : end + 1 + size]) if size else {}))
        at = end + 1 + (size + 1 if size else 0)
    return found


def record_of(text: str, tensors: dict[str, Tensor]) -> bytes:
    """A record whose line is this JSON, with the right checksum."""
    block = tensor_bytes(tensors) if tensors else b""
    head = text.rstrip().removesuffix("}").encode("utf-8", "surrogatepass")
    head += f', "n_bytes": {len(block)}'.encode() if block else b""
    digest = hashlib.sha256(head + block).hexdigest()
    return head + f', "sha256": "{digest}"}}\n'.encode() + (block + b"\n" if block else b"")


_ROWS: tuple[Any, ...] = (-1, 10**9, 2**40, "3", 1.5, True, None, [1], {})
_BENT: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda t: t[:1] if len(t) > 1 else t[:0], lambda t: torch.cat([t, t[:1]]), lambda t: t[..., :-1],
    lambda t: t[None], lambda t: t.double(), lambda t: t.long(), lambda t: t.flatten(), lambda t: t.transpose(0, -1),
    lambda t: t.sum(), lambda t: torch.full_like(t.float(), float("nan")), lambda t: t[..., :1], lambda t: t[:0],
    lambda t: t.float() - 1e6,
)  # fmt: skip


def _lying(records: list[tuple[dict[str, Any], dict[str, Tensor]]], rng: random.Random) -> bytes:
    """A journal of which one record lies in form. (A record of right form, checksum and key is believed.)"""
    found = [record_of(json.dumps(v), t) for v, t in records]
    i = rng.randrange(len(records))
    values, tensors = json.loads(json.dumps(records[i][0])), dict(records[i][1])
    kind = rng.random()
    if tensors and kind < 0.7:
        name = rng.choice(sorted(tensors))
        if kind < 0.1:
            tensors[f"{name}_"] = tensors.pop(name)
        else:
            tensors[name] = _of_other_form(rng, name, tensors[name])
    elif "new_ids" in values and kind < 0.6:
        _bend_ids(rng, values["new_ids"])
    else:
        found[i] = record_of(lied(rng, values, at=lambda path: _in_form(values, path)), tensors)
        return b"".join(found)
    found[i] = record_of(json.dumps(values), tensors)
    return b"".join(found if kind < 0.9 else [*found, found[i][: len(found[i]) // 2]])


def _of_other_form(rng: random.Random, name: str, tensor: Tensor) -> Tensor:
    """Of another shape or type, or NaN. Norms are as many as a batch was halved: any number fits."""
    bent = rng.choice(_BENT)(tensor)
    if bent.is_floating_point() and bool(bent.isnan().any()):
        return bent
    same_form = bent.dtype == tensor.dtype and bent.shape[name == "norms" :] == tensor.shape[name == "norms" :]
    return tensor[..., :-1] if same_form else bent


def _in_form(values: Any, path: tuple[Any, ...]) -> bool:
    """Places where any lie is one of form: not the ids, of which others of the vocabulary are as good."""
    return path[0] != "new_ids" and path[0] != "key" and path[0] != "broken"


def _bend_ids(rng: random.Random, rows: list[Any]) -> None:
    where = rng.randrange(len(rows)) if rows else 0
    kind = rng.randrange(4)
    if kind == 0 and rows and isinstance(rows[where], list) and rows[where]:
        rows[where][rng.randrange(len(rows[where]))] = rng.choice(_ROWS)
    elif kind == 1:
        rows.append(list(rows[where]) if rows and isinstance(rows[where], list) else 3)
    elif kind == 2 and rows:
        rows[where] = rng.choice((*(r for r in _ROWS if r != [1]), [1] * 1000, "123"))
    elif rows:  # none at all is in form where rows are single tokens
        rows[:] = rng.choice(([None] * len(rows), [[]] * (len(rows) + 1), [] if isinstance(rows[0], list) else [None]))


# Journals by themselves.


def _journal_reader(place: Path) -> Reader:
    from lens_emotion.files.journal import Journal, record_bytes

    rows = [
        ({"seconds": 1.5 * i, "texts": ["She smiled."] * i}, {"rows": torch.arange(6.0).reshape(2, 3) + i})
        for i in range(3)
    ]
    good = b"".join(record_bytes(k, v, t) for k, (v, t) in zip(KEYS, rows, strict=False))
    records = records_in(good)

    def read(path: Path) -> Any:
        journal = Journal.open(path)
        return {key: journal.recall(key) for key in journal.places}, journal.spent

    def says(data: bytes, result: Any) -> str:
        found, spent = result
        for key, record in found.items():
            if record is not None and not _stands_in(data, record):
                return f"a record of {key!r:.40} that the file does not hold"
        return fault_of_numbers(spent, "seconds spent", 0.0)

    def lies(rng: random.Random) -> bytes:
        parts = [record_of(json.dumps(v), t) for v, t in records]
        i = rng.randrange(3)
        parts[i] = record_of(lied(rng, records[i][0]), records[i][1])
        return b"".join(rng.choice((parts, [*parts, parts[i]], parts[::-1])))

    right = lambda data, result: not says(data, result)  # noqa: E731
    return Reader("Journal.open, recall", good, read, right, lies=lies, says=says, place=place, lenient=True)


def _stands_in(data: bytes, record: Any) -> bool:
    """Whether a record's line stands in the file, with the right checksum, and says these values and tensors."""
    from safetensors.torch import load

    sha256 = str(record.values.get("sha256", ""))
    for end in _ends(data, f', "sha256": "{sha256}"}}'.encode()):
        head = data[data.rfind(b'{"key"', 0, end) : end]
        line = json.loads(head + b"}")
        size = line.get("n_bytes", 0)
        block = data[end + len(sha256) + 16 :][:size] if size else b""
        if hashlib.sha256(head + block).hexdigest() == sha256 and {**line, "sha256": sha256} == dict(record.values):
            held = load(block) if size else {}
            return held.keys() == record.tensors.keys() and all(same(held[k], record.tensors[k]) for k in held)
    return False


def _ends(data: bytes, seal: bytes) -> list[int]:
    found, at = [], data.find(seal)
    while at >= 0:
        found.append(at)
        at = data.find(seal, at + 1)
    return found


ROWS = {key: tuple(range(i, i + 6)) for i, key in enumerate(KEYS)}


def _rows_reader(place: Path, read: Callable[[Path], Any]) -> Reader:
    from lens_emotion.files.journal import record_bytes

    values = {key: {"new_ids": list(ids), "dose": 1.5} for key, ids in ROWS.items()}
    good = b"".join(record_bytes(key, v) for key, v in values.items())

    def says(data: bytes, result: Any) -> str:
        said: dict[str, list[Any]] = {}
        for line in data.split(b"\n"):
            try:
                row = json.loads(line)
                said.setdefault(row["key"], []).append(row["new_ids"])
            except (ValueError, KeyError, TypeError, RecursionError):
                continue
        for key, ids in result.items():
            if not any(
                isinstance(s, list) and [type(x) for x in s] == [int] * len(ids) and s == list(ids)
                for s in said.get(key, [])
            ):
                return f"ids of {key!r:.40} that the file does not hold"
            if any(i < 0 for i in ids):
                return "a token below 0"
        return ""

    def lies(rng: random.Random) -> bytes:
        rows = [json.loads(json.dumps({"key": k, **v})) for k, v in values.items()]
        i = rng.randrange(len(rows))
        if rng.random() < 0.5:
            _bend_ids(rng, rows[i]["new_ids"])
            return b"".join(record_of(json.dumps(r), {}) for r in rows)
        lines = [record_of(json.dumps(r), {}) for r in rows]
        lines[i] = record_of(lied(rng, rows[i]), {})
        return b"".join(lines)

    right = lambda _, result: result.items() <= ROWS.items()  # noqa: E731
    return Reader("grid rows", good, read, right, lies=lies, says=says, place=place, lenient=True)
