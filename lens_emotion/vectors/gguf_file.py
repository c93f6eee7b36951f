"""GGUF files of control vectors, as llama.cpp and repeng read them: `direction.{k}` for the output of block k.

Written with the package `gguf`. Read by own code: that package follows counts and sizes in a file before it has
checked them, so that one flipped byte may keep it busy for ever.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lens_emotion.artifacts import atomic_write
from lens_emotion.errors import ArtifactError

ARCHITECTURE = "controlvector"
HINT = "controlvector.model_hint"
OWN = "lens_emotion.vector"
MAGIC, VERSIONS = b"GGUF", (2, 3)
F32, STRING, ARRAY = 0, 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
MOST = 65536  # keys, tensors or items of an array: far more than any control vector has
Value = str | int | float | bool | list["Value"]


@dataclass(frozen=True, eq=False)
class ControlFile:
    """What a GGUF control vector holds.

    Attributes:
        directions: what is added to the output of block k (counted from 0), in raw units of the residual stream.
        model_hint: the architecture it was made on, in the words of whoever wrote it.
        own: the JSON text that lens_emotion adds, empty in files of others.
    """

    directions: Mapping[int, Float[Tensor, " d_model"]]
    model_hint: str
    own: str = ""


def write_control_file(path: str | Path, content: ControlFile) -> Path:
    """Write a control vector, atomically.

    Raises:
        ArtifactError: the package `gguf` is missing, the file cannot be written, or a direction is none.
    """
    _check_directions(str(path), content.directions)
    try:
        from gguf import GGUFWriter
    except ImportError:
        raise ArtifactError("writing GGUF files needs the package gguf: pip install 'lens-emotion[gguf]'") from None
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "vector.gguf"
        writer = GGUFWriter(made, ARCHITECTURE)
        writer.add_string(HINT, content.model_hint)
        writer.add_uint32("controlvector.layer_count", len(content.directions))
        if content.own:
            writer.add_string(OWN, content.own)
        for layer, direction in sorted(content.directions.items()):
            writer.add_tensor(f"direction.{layer}", direction.detach().cpu().float().contiguous().numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return atomic_write(path, made.read_bytes())


def read_control_file(path: str | Path) -> ControlFile:
    """Read a control vector written by lens_emotion, repeng, llama.cpp or others.

    Raises:
        ArtifactError: no such file, damaged, no control vector, directions of unequal width, not 1-D float32, or not
            finite numbers.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}; give a GGUF file") from None
    try:
        values, tensors = _parse(data)
    except (struct.error, ValueError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} is not a readable GGUF file ({error}); copy it anew") from None
    if values.get("general.architecture") != ARCHITECTURE or not isinstance(values.get(HINT), str):
        raise ArtifactError(f"{path} is no control vector (general.architecture and {HINT} say so); give one")
    _check_directions(str(path), tensors)
    return ControlFile(tensors, str(values[HINT]), str(values.get(OWN, "")))


def _check_directions(path: str, directions: Mapping[int, Tensor]) -> None:
    if not directions:
        raise ArtifactError(f"{path}: a control vector needs at least one layer from 1 on")
    if min(directions) < 1:
        raise ArtifactError(
            f"{path}: llama.cpp takes no direction at the output of block 0; leave layer 0 out (layers=1, '1-5', ...)"
        )
    if len({d.numel() for d in directions.values()}) != 1 or not all(d.numel() for d in directions.values()):
        raise ArtifactError(f"{path}: the directions differ in width")
    for layer, direction in directions.items():
        if not bool(torch.isfinite(direction).all()):
            raise ArtifactError(f"{path}: the direction of layer {layer} holds NaN or infinity")


class _Cursor:
    """A place in the bytes that cannot leave them."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, len(MAGIC)

    def number(self, kind: str) -> int | float | bool:
        (value,) = struct.unpack_from("<" + kind, self.data, self.at)
        self.at += struct.calcsize("<" + kind)
        return value

    def count(self, kind: str = "Q") -> int:
        n = int(self.number(kind))
        if n > MOST:
            raise ValueError(f"it counts {n} items")
        return n

    def text(self) -> str:
        n = int(self.number("Q"))
        if n > len(self.data) - self.at:
            raise ValueError("a text is longer than the file")
        self.at += n
        return self.data[self.at - n : self.at].decode("utf-8")

    def value(self, kind: int, depth: int = 0) -> Value:
        if kind == STRING:
            return self.text()
        if kind == ARRAY and depth < 4:
            inner = int(self.number("I"))
            return [self.value(inner, depth + 1) for _ in range(self.count())]
        if kind not in _SCALARS:
            raise ValueError(f"a value has the unknown type {kind}")
        return self.number(_SCALARS[kind])


def _parse(data: bytes) -> tuple[dict[str, Value], dict[int, Tensor]]:
    """Keys with their values, and the directions by layer."""
    cursor = _Cursor(data)
    if data[: len(MAGIC)] != MAGIC or cursor.number("I") not in VERSIONS:
        raise ValueError(f"no GGUF of version {VERSIONS[0]} or {VERSIONS[1]}, little-endian")
    n_tensors, n_values = cursor.count(), cursor.count()
    values: dict[str, Value] = {}
    for _ in range(n_values):
        key = cursor.text()
        if key in values:
            raise ValueError(f"the key {key!r} occurs twice")
        values[key] = cursor.value(int(cursor.number("I")))
    entries = [_entry(cursor) for _ in range(n_tensors)]
    alignment = values.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1:
        raise ValueError("its alignment is no positive number")
    start = -(-cursor.at // alignment) * alignment
    found: dict[int, Tensor] = {}
    for name, width, offset in entries:
        layer = _layer(name)
        if layer in found:
            raise ValueError(f"layer {layer} occurs twice")
        found[layer] = _floats(data, start + offset, width)
    return values, found


def _entry(cursor: _Cursor) -> tuple[str, int, int]:
    """Name, width and offset of a tensor; llama.cpp refuses all but 1-D float32 in a control vector, and so do we."""
    name, n_dims = cursor.text(), cursor.count("I")
    dims = [int(cursor.number("Q")) for _ in range(n_dims)]
    kind, offset = int(cursor.number("I")), int(cursor.number("Q"))
    if len(dims) != 1 or kind != F32:
        raise ValueError(f"tensor {name!r} is not one-dimensional float32")
    return name, dims[0], offset


def _layer(name: str) -> int:
    word = name.removeprefix("direction.")
    if word == name or not (word.isascii() and word.isdigit()) or str(int(word)) != word:
        raise ValueError(f"tensor {name!r} is no direction.LAYER")
    return int(word)


def _floats(data: bytes, start: int, width: int) -> Tensor:
    if start < 0 or width < 1 or start + 4 * width > len(data):
        raise ValueError("a direction lies beyond the end of the file")
    return torch.from_numpy(np.frombuffer(data, "<f4", width, start).astype(np.float32))
