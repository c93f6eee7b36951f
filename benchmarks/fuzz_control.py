"""Control vectors: GGUF files of ours and of other tools, and safetensors files with a tensor per layer."""

from __future__ import annotations

import json
import random
import struct
import tempfile
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from benchmarks.fuzz_grammar import (
    bent,
    fault_of_directions,
    fault_of_names,
    fault_of_numbers,
    first,
    gguf_bytes,
    lied,
    same_numbers,
    sealed_text,
    tensor_bytes,
    tensors_in,
    told,
)
from benchmarks.fuzz_subjects import Reader, fault_of_header, fault_of_sizes, same, small_activations, tiny


def control_readers(folder: Path) -> list[Reader]:
    """Each with a small good file."""
    from safetensors.torch import save_file

    from lens_emotion.vectors.interchange import (
        ControlFile,
        displacements,
        from_gguf,
        from_safetensors,
        read_control_file,
        to_gguf,
        write_control_file,
    )
    from lens_emotion.vectors.recipes import emotion_vectors

    model, vectors = tiny(), emotion_vectors(small_activations())
    own = to_gguf(vectors["calm"], folder / "own.gguf", 3.0, [2, 3])
    foreign = write_control_file(folder / "foreign.gguf", ControlFile({2: torch.arange(1.0, 9.0)}, "llama"))
    mine, parts = from_gguf(own), displacements(vectors["calm"], 3.0, [2, 3])
    plain = folder / "plain.safetensors"
    save_file({str(k): v for k, v in parts.items()}, plain)
    kept: list[Any] = []  # the neutral sentences are read once

    def imported(path: Path) -> Any:
        from lens_emotion.vectors import interchange

        def once(*given: Any, **more: Any) -> Any:
            kept[:] = kept or [real(*given, **more)]
            return kept[0]

        real = interchange.read_texts
        with mock.patch.object(interchange, "read_texts", once):
            return from_safetensors(path, model, "x")

    right = imported(plain)

    def of_plain(rng: random.Random) -> bytes:
        return tensor_bytes(_named(rng, bent(rng, {str(k): v for k, v in parts.items()})), "{}")

    return [
        Reader(
            "from_gguf, ours", own.read_bytes(), from_gguf, lambda _, result: same(result, mine), suffix=".gguf",
            lies=partial(_own_lie, read_control_file(own)), says=as_own_gguf_says,
        ),
        Reader(
            "from_gguf, foreign", foreign.read_bytes(), read_control_file, as_gguf_says, suffix=".gguf",
            lies=_foreign_lie, says=lambda data, result: first(_fault_of_parts(data, result)),
        ),
        Reader(
            "from_safetensors", plain.read_bytes(), imported,
            lambda data, result: same(result, right) or not as_parts_say(data, result),
            suffix=".safetensors", lies=of_plain, says=as_parts_say, weight=3,
        ),
    ]  # fmt: skip


_HINTS = ("llama", "", "qwen2", "\0", "x" * 100_000, "a\nb", "calm\u202e")


def _text(said: str) -> bytes:
    raw = said.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(raw)) + raw


def _named(rng: random.Random, held: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A layer renamed now and then: out of range, written otherwise, twice the same number."""
    if held and rng.random() < 0.4:
        name = rng.choice(sorted(held))
        other = rng.choice(("0", "-1", "99", "02", "\u0662", "2.0", "x", "", "1" * 30, " 3", "4294967296"))
        held = {(other if k == name else k): v for k, v in held.items()} | (
            {} if rng.random() < 0.5 else {name: held[name]}
        )
    return held


def _gguf(rng: random.Random, parts: dict[str, torch.Tensor], own: str | None) -> bytes:
    """A control vector of these directions, with keys that lie now and then."""
    types = {torch.float32: 0, torch.float16: 1, torch.float64: 28, torch.int64: 27, torch.bfloat16: 30, torch.bool: 24}
    values = [
        ("general.architecture", 8, _text("controlvector")),
        ("controlvector.model_hint", 8, _text(rng.choice(_HINTS) if rng.random() < 0.15 else "llama")),
        ("controlvector.layer_count", 4, struct.pack("<I", rng.choice((len(parts), len(parts), 0, 2**32 - 1)))),
    ]
    values += [("lens_emotion.vector", 8, _text(own))] if own is not None else []
    if rng.random() < 0.2:
        alignment = struct.pack("<I", rng.choice((32, 0, 1, 7, 2**31, 64)))
        values.append(rng.choice((values[0], ("general.alignment", 4, alignment), ("x", 9, struct.pack("<IQ", 9, 3)))))
    tensors = []
    for name, t in parts.items():
        raw = (
            t.float().numpy().tobytes()
            if t.dtype not in types
            else t.contiguous().view(torch.uint8).numpy().tobytes()
            if t.dim()
            else t.reshape(1).contiguous().view(torch.uint8).numpy().tobytes()
        )
        tensors.append((f"direction.{name}", list(t.shape)[::-1], types.get(t.dtype, 0), raw))
    return gguf_bytes(values, tensors)


def _foreign_lie(rng: random.Random) -> bytes:
    good = {"2": torch.arange(1.0, 9.0), "3": torch.arange(2.0, 10.0)}
    return _gguf(rng, _named(rng, bent(rng, good) if rng.random() < 0.8 else good), None)


def _own_lie(good: Any, rng: random.Random) -> bytes:
    from lens_emotion.files.artifacts import digest

    plain = {k: v for k, v in json.loads(good.own).items() if k != "sha256"}
    parts = {str(k): v for k, v in good.directions.items()}
    about = rng.random()
    parts = _named(rng, bent(rng, parts)) if about < 0.5 else parts
    words = lied(rng, plain) if about > 0.4 else json.dumps(plain)
    return _gguf(rng, parts, sealed_text(words, parts, digest))


def parts_in(data: bytes) -> tuple[dict[int, torch.Tensor], dict[str, Any]]:
    """Directions and texts as the package gguf, another implementation, reads them."""
    from gguf import GGUFReader

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "v.gguf"
        path.write_bytes(data)
        read = GGUFReader(path)
        texts = {k: f.contents() for k, f in read.fields.items() if f.types and int(f.types[0]) == 8}
        parts = {int(t.name.split(".")[1]): torch.from_numpy(t.data.copy()) for t in read.tensors}
    return parts, texts


def as_gguf_says(data: bytes, result: Any) -> bool:
    """Directions are what the package gguf, another implementation, reads in the same file."""
    held, _ = parts_in(data)
    return held.keys() == result.directions.keys() and all(same(result.directions[k], held[k]) for k in held)


def _fault_of_parts(data: bytes, result: Any) -> str:
    held, texts = parts_in(data)
    if held.keys() != result.directions.keys() or not all(same(result.directions[k], held[k]) for k in held):
        return "other directions than the file's"
    if result.model_hint != texts.get("controlvector.model_hint"):
        return "another hint than the file's"
    if not any(bool(d.any()) for d in held.values()):
        return "every direction is zero"
    return first(*(fault_of_numbers(d, f"layer {k}") for k, d in held.items()))


def as_own_gguf_says(data: bytes, result: Any) -> str:
    """At its dose, the vector adds what the file adds at scale 1; sizes and header are those of its JSON."""
    held, texts = parts_in(data)
    meta = told(texts["lens_emotion.vector"])
    held |= {0: torch.tensor(meta["layer_0"])} if "layer_0" in meta else {}
    for layer in range(result.n_layers):
        added = meta["dose"] * result.natural[layer] * result.direction[layer]
        if layer in held and (added - held[layer].float()).norm() > 2e-3 * held[layer].float().norm():
            return f"steering at the file's dose adds something else than the file at layer {layer}"
        if layer not in held and bool(result.direction[layer].any()):
            return f"layer {layer} has a direction that the file lacks"
    if set(held) - set(range(result.n_layers)):
        return "the file holds layers that the vector lacks"
    if other := [
        k for k in ("norm", "natural", "residual_norm") if not same_numbers(np.array(meta[k]), getattr(result, k))
    ]:
        return f"{other[0]} is not the file's"
    # a layer that the file leaves out has its size all the same
    there = sorted(held)
    sizes = fault_of_sizes(result, ("natural", "norm"))
    unit = fault_of_directions(result.direction[there], result.natural[there])
    name = "another name than the file's" if result.name != meta["name"] else fault_of_names([result.name])
    return first(fault_of_header(meta, result), sizes, unit, name)


def as_parts_say(data: bytes, result: Any) -> str:
    """A displacement per layer: length and direction are those of the file's tensors."""
    _, held = tensors_in(data)
    parts = {int(k): v for k, v in held.items() if k.isdecimal()}
    if sorted(map(str, parts)) != sorted(k for k in held if k.isdecimal()):
        return "a layer's name that is written in another way than numbers are, or twice"
    added = (result.natural[:, None] * result.direction).numpy()
    for layer in range(result.n_layers):
        if layer not in parts and added[layer].any():
            return f"layer {layer} has a direction that the file lacks"
        if layer in parts and not np.allclose(added[layer], parts[layer].astype(float).flatten(), rtol=1e-4, atol=1e-6):
            return f"layer {layer} is not the file's"
    if set(parts) - set(range(result.n_layers)):
        return "the file holds layers that the vector lacks"
    there = sorted(parts)
    unit = fault_of_directions(result.direction[there], result.natural[there])
    return first(fault_of_sizes(result, ("natural", "norm")), unit)
