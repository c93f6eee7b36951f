"""Every reader of foreign files with a small good file, and how to tell whether what it read is what the file says."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Reader:
    """A reader under test.

    Attributes:
        good: bytes of a good file.
        read: reads a file.
        right: is this result what the (changed) bytes say?
        suffix: of the file's name.
        text: where its JSON lies, so that values can be swapped: (bytes before, JSON, function that joins new JSON).
    """

    name: str
    good: bytes
    read: Callable[[Path], Any]
    right: Callable[[bytes, Any], bool]
    text: Callable[[], tuple[Any, Callable[[str], bytes]]] | None = None
    suffix: str = ".json"


def same(a: Any, b: Any) -> bool:
    """Equal, to the bit: tensors, frames, dataclasses of these."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.shape == b.shape and bool((a == b).all())
    if hasattr(a, "equals"):
        return bool(a.equals(b))
    if hasattr(a, "__dataclass_fields__"):
        return type(a) is type(b) and all(same(getattr(a, n), getattr(b, n)) for n in a.__dataclass_fields__)
    return bool(a == b)


def tensor_file(name: str, path: Path, read: Callable[[Path], Any]) -> Reader:
    """A safetensors file of ours: its JSON lies under a key of the header."""
    good, original = path.read_bytes(), read(path)
    size = int.from_bytes(good[:8], "little")

    def text() -> tuple[Any, Callable[[str], bytes]]:
        header = json.loads(good[8 : 8 + size])

        def join(new: str) -> bytes:
            raw = json.dumps({**header, "__metadata__": {"lens_emotion": new}}).encode()
            return len(raw).to_bytes(8, "little") + raw + good[8 + size :]

        return json.loads(header["__metadata__"]["lens_emotion"]), join

    return Reader(name, good, read, lambda _, result: same(result, original), text)


def unsealed_file(name: str, path: Path, read: Callable[[Path], Any], says: Callable[[bytes, Any], bool]) -> Reader:
    """The same as version 0.1 wrote it, without a checksum: only the checks of form stand between a change and us."""
    sealed = tensor_file(name, path, read)
    assert sealed.text is not None
    value, join = sealed.text()
    plain = {k: v for k, v in value.items() if k not in ("format", "sha256")}
    return Reader(name, join(json.dumps(plain)), read, says, lambda: (json.loads(json.dumps(plain)), join))


def as_tensors_say(data: bytes, result: Any) -> bool:
    """Tensors, labels and header are what safetensors and json read in the same bytes."""
    from safetensors.torch import load

    size = int.from_bytes(data[:8], "little")
    meta = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["lens_emotion"])
    held, made = load(data), vars(result)
    told = {**vars(result.header), "notes": list(result.header.notes)}
    if any(told[k] != v for k, v in meta["header"].items()) or list(made.get("emotions", ())) != meta.get(
        "emotions", []
    ):
        return False
    rows = [asdict(r) for r in made.get("records", ())]
    if len(rows) != len(meta.get("records", [])):
        return False
    if any(row[k] != v for row, given in zip(rows, meta.get("records", []), strict=True) for k, v in given.items()):
        return False
    return all(held[k].numpy().tobytes() == made[k].numpy().tobytes() for k in made if k in held)


def json_file(
    name: str, path: Path, read: Callable[[Path], Any], right: Callable[[bytes, Any], bool] | None = None
) -> Reader:
    """A JSON file; with a checksum, only the original is right."""
    good, original = path.read_bytes(), read(path)
    right = right or (lambda _, result: same(result, original))
    return Reader(name, good, read, right, lambda: (json.loads(good), lambda new: new.encode("utf-8", "replace")))


def readers(folder: Path) -> list[Reader]:
    """Every reader of foreign files, each with a small good file."""
    from lens_emotion.extraction.activations import PooledActivations
    from lens_emotion.models.loading import load_model
    from lens_emotion.steering.dose_result import load_dose_response, save_dose_response
    from lens_emotion.stimuli.sets import read_stimulus_file, write_stimulus_file
    from lens_emotion.vectors.emotion_vectors import EmotionVectors
    from lens_emotion.vectors.interchange import ControlFile, from_gguf, read_control_file, to_gguf, write_control_file
    from lens_emotion.vectors.recipes import emotion_vectors

    model = load_model("tiny-llama", device="cpu")
    acts = small_activations(model)
    vectors = emotion_vectors(acts)
    own = to_gguf(vectors["calm"], folder / "own.gguf", 3.0, [2, 3])
    foreign = write_control_file(folder / "foreign.gguf", ControlFile({2: torch.arange(1.0, 9.0)}, "llama"))
    mine = from_gguf(own)
    texts = write_stimulus_file(folder / "texts.json", small_stimuli())
    steering = save_dose_response(small_dose_response(), folder / "steering.json")
    rows = _grid_rows(folder / "grid.jsonl")
    return [
        tensor_file("PooledActivations.load", acts.save(folder / "a.safetensors"), PooledActivations.load),
        tensor_file("EmotionVectors.load", vectors.save(folder / "v.safetensors"), EmotionVectors.load),
        tensor_file("pull_vectors", folder / "v.safetensors", pulled),
        unsealed_file("activations, no checksum", folder / "a.safetensors", PooledActivations.load, as_tensors_say),
        unsealed_file("vectors, no checksum", folder / "v.safetensors", EmotionVectors.load, as_tensors_say),
        Reader("from_gguf, ours", own.read_bytes(), from_gguf, lambda _, result: same(result, mine)),
        Reader("from_gguf, foreign", foreign.read_bytes(), read_control_file, as_gguf_says),
        json_file("read_stimulus_file", texts, read_stimulus_file, as_json_says),
        json_file("load_dose_response", steering, load_dose_response),
        Reader("grid rows", rows.read_bytes(), _read_rows, lambda _, result: result.items() <= ROWS.items()),
    ]


def small_stimuli() -> Any:
    from lens_emotion.stimuli.library import load_stimuli

    return load_stimuli("world-en", per_cell=1).only(emotions=("happy", "calm", "angry"), topics=("cooking", "market"))


def small_activations(model: Any) -> Any:
    from lens_emotion.extraction.comprehension import extract_comprehension

    return extract_comprehension(model, small_stimuli(), progress=False)


def small_dose_response() -> Any:
    import pandas as pd

    from lens_emotion.steering.dose_result import DoseResponse
    from lens_emotion.steering.regimes import Thresholds

    table = pd.DataFrame(
        {"dose": [1.0, 2.0], "condition": ["emotion", "random"], "n": [4, 4], "p_random": [0.125, None]}
    )
    texts = pd.DataFrame({"emotion": ["calm", "sad"], "text": ["She smiled.", "Er weinte."], "success": [True, False]})
    plain = {"layer": 3, "judge": "words", "judge_accuracy": 0.75, "judge_independent": True, "n_emotions": 2}
    frames = {"table": table, "texts": texts, "others": texts, "unsteered": texts, "scores": table}
    return DoseResponse(**frames, **plain, thresholds=Thresholds(5.0, 0.5, 0.25), notes=("small",))  # type: ignore[arg-type]


def pulled(path: Path) -> Any:
    """`pull_vectors` from a Hub that hands out this file."""
    from types import SimpleNamespace

    from lens_emotion.vectors.hub import pull_vectors

    api: Any = SimpleNamespace(hf_hub_download=lambda *_, **__: str(path))
    return pull_vectors("someone/moods", api=api)


ROWS = {f"{i:032x}": tuple(range(i, i + 6)) for i in range(4)}


def _grid_rows(path: Path) -> Path:
    from lens_emotion.steering.grid import append_rows

    append_rows(path, [{"key": key, "new_ids": list(ids), "dose": 1.5} for key, ids in ROWS.items()])
    return path


def _read_rows(path: Path) -> Any:
    from lens_emotion.steering.grid import read_rows

    return read_rows(path)


def as_json_says(data: bytes, result: Any) -> bool:
    """The texts and labels of a stimulus file are those of the JSON as it stands."""
    items = json.loads(data)["items"]
    keys = ("text", "emotion", "topic")
    return [tuple(row[k].strip() if k == "text" else row[k] for k in keys) for row in items] == [
        tuple(asdict(s)[k] for k in keys) for s in result.stimuli.items
    ]


def as_gguf_says(data: bytes, result: Any) -> bool:
    """Directions are what the package gguf, another implementation, reads in the same file."""
    from gguf import GGUFReader

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "v.gguf"
        path.write_bytes(data)
        held = {int(t.name.split(".")[1]): torch.from_numpy(t.data.copy()) for t in GGUFReader(path).tensors}
    return held.keys() == result.directions.keys() and all(same(result.directions[k], held[k]) for k in held)
