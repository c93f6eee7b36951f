"""Valid containers with lying contents: right seal, right checksum, right form, and values that no writer gives.

A mutation mostly breaks a checksum, and is refused there. Here the checksum is made anew, so that only the checks of
meaning stand between a lie and a result. What a result may be is said here too (`meaning_of_...`), from the outside:
finite numbers, unit directions, positive sizes, unique names.
"""

from __future__ import annotations

import copy
import json
import math
import os
import random
import re
import shutil
import struct
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

NUMBERS: tuple[Any, ...] = (
    0, -1, 1, 2, True, False, None, 0.5, -0.0, 1e-300, 1e300, -1e300, 2**31, 2**63, -(2**63), 10**6, "1", "nan", [],
    [1.0],    "@@NaN", "@@Infinity", "@@-Infinity", "@@1e999", "@@" + "9" * 400, "@@1" + "0" * 5000,
)  # fmt: skip
WORDS: tuple[Any, ...] = (
    "", " ", "\0", "calm", "neutral", "a\0b", "\ud800", "a\nb", "\x1b[31mred", "x" * 100_000, "e\u0301t\u00e9",
    "../../x", "/etc/passwd", "C:\\x", "[red]x[/red]", "\u202eabc", "nan", "None", "<b>&", "@@null", 0, True, [], {},
    ["calm"], 1.5,
)  # fmt: skip
STRUCTURES: tuple[Any, ...] = ([], {}, [[]], None, "x", 0, True, ["x"], {"": {}}, "@@" + "[" * 60 + "]" * 60)
DEEP = "@@" + "[" * 20_000 + "]" * 20_000
_RAW = re.compile(r'"@@([^"]*)"')
_KEY = re.compile(r'([{,]\s*)"([^"\\@]+)":')
ODD = ("folder", "fifo", "loop", "dangling", "device", "empty")  # what may lie in a file's place


# Files, odd ones included: an input is bytes.


def odd(kind: str) -> bytes:
    """The input that stands for something else in the file's place."""
    return b"\0odd:" + kind.encode()


def is_odd(data: bytes) -> bool:
    return data.startswith(b"\0odd:") and data[5:].decode("ascii", "replace") in ODD


def put(path: Path, data: bytes) -> None:
    """Lay an input in its place, whatever was there."""
    clear(path)
    kind = data[5:].decode() if is_odd(data) else ""
    if kind == "folder":
        path.mkdir()
        (path / "inside").write_bytes(b"x")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind in ("loop", "dangling", "device"):
        path.symlink_to({"loop": path.name, "dangling": "no-such-file", "device": "/dev/zero"}[kind])
    else:
        path.write_bytes(b"" if kind == "empty" else data)


def clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# JSON whose values lie.


def lied(rng: random.Random, value: Any, times: int | None = None, at: Callable[[tuple[Any, ...]], bool] = any) -> str:
    """The JSON text of a value with one or two lies in it: still JSON, as `json.loads` takes it.

    Args:
        at: which places may lie, by their path; default all but the whole.
    """
    value = copy.deepcopy(value)
    for _ in range(times or rng.choice((1, 1, 1, 2))):
        places = [p for p in _places(value) if p and (at is any or at(p))]
        if places:
            _lie(rng, value, _drawn(rng, places))
    try:
        text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    except ValueError:  # two lies that hold each other
        return "[]"
    text = _RAW.sub(lambda found: found[1], text)
    if rng.random() < 0.08 and (keys := list(_KEY.finditer(text))):
        found = rng.choice(keys)
        again = f'{found[1]}"{found[2]}": {rng.choice(("null", "0", "[]", chr(34) * 2))},'
        text = text[: found.start()] + again + text[found.start() + len(found[1]) :]
    return text


def _drawn(rng: random.Random, places: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """A place; those near the root as often as all those deep in a table."""
    depth = rng.choice(sorted({len(p) for p in places}))
    return rng.choice([p for p in places if len(p) == depth])


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterable[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items)[:40]:
        yield from _places(inner, (*path, key))


def _lie(rng: random.Random, value: Any, path: tuple[Any, ...]) -> None:
    parent = value
    for key in path[:-1]:
        parent = parent[key]
    key, said = path[-1], parent[path[-1]]
    kind = rng.random()
    if kind < 0.06:
        del parent[key]
    elif kind < 0.12 and isinstance(parent, dict):
        parent[rng.choice(("extra", "", "__class__", "x" * 1000, f"{key} ", str(key).upper()))] = copy.deepcopy(said)
    elif kind < 0.14:
        parent[key] = copy.deepcopy(DEEP)  # the next lie may lie in it
    elif kind < 0.32 and isinstance(said, list) and said:
        parent[key] = _list_lie(rng, said)
    elif kind < 0.85:
        parent[key] = copy.deepcopy(_like(rng, said))  # some of those are lists, which the next lie would change
    else:
        parent[key] = copy.deepcopy(rng.choice(NUMBERS + WORDS + STRUCTURES))


def _list_lie(rng: random.Random, said: list[Any]) -> list[Any]:
    some = rng.randrange(len(said))
    twice = [*said, copy.deepcopy(said[some])]
    return rng.choice(
        (twice, said[:-1], said[::-1], said * 2, [*said[:some], *said[some + 1 :], None], [said], said[:1])
    )


def _like(rng: random.Random, said: Any) -> Any:
    """A lie of the same kind."""
    if isinstance(said, str):
        twin = unicodedata.normalize(rng.choice(("NFD", "NFC", "NFKD")), said)
        return rng.choice((*WORDS, twin, said + "\n", f" {said}", said.upper(), said * 500))
    if isinstance(said, bool) or said is None:
        return rng.choice((not said, None, 0, 1, "true", "false", [], 2))
    if isinstance(said, int | float):
        return rng.choice((*NUMBERS, said + 1, -said, said * 100, said / 3, float(said), str(said)))
    return copy.deepcopy(rng.choice(STRUCTURES))


def told(text: str | bytes, infinite: bool = False) -> Any:
    """What JSON says, where it has one meaning; `infinite`: Infinity is a number, as in steering results.

    Raises:
        ValueError: a key twice, or what JSON does not have.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({k for k, _ in pairs}) < len(pairs):
            raise ValueError("a key stands twice")
        return dict(pairs)

    def never(name: str) -> Any:
        if infinite and name != "NaN":
            return float(name)
        raise ValueError(f"{name} is no JSON")

    return json.loads(text, object_pairs_hook=once, parse_constant=never)


# Tensors that lie, and files of them with the right seal.

_BENT: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda t: t * 100, lambda t: t * 0, lambda t: -t, lambda t: t * 1e-30, lambda t: t * 1e30, lambda t: t + 1,
    lambda t: t.double(), lambda t: t.long(), lambda t: t.bfloat16(), lambda t: t.half(), lambda t: t > 0,
    lambda t: t[:0], lambda t: t[..., :0], lambda t: t[:-1], lambda t: torch.cat([t, t[:1]]), lambda t: t[..., :-1],
    lambda t: t.transpose(0, -1), lambda t: t.flip(0), lambda t: t.flatten(), lambda t: t[None], lambda t: t.sum(),
    lambda t: t[..., None], lambda t: t * 1.01, lambda t: t[:1].expand_as(t),
)  # fmt: skip
_VALUES = (float("nan"), float("inf"), -float("inf"), -1.0, 0.0, 1e30, 1e-40)


def bent(rng: random.Random, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors, of which one lies: in a value, a row, its sizes, its type, or its name."""
    found = {k: v.clone() for k, v in tensors.items()}
    name, kind = rng.choice(sorted(found)), rng.random()
    if kind < 0.35 and found[name].numel():
        flat = found[name].flatten()
        few = slice(None, rng.choice((1, 1, found[name].shape[-1] if found[name].dim() else 1)))
        flat[few] = torch.tensor(rng.choice(_VALUES)).to(flat.dtype)
        found[name] = flat.reshape(found[name].shape)
    elif kind < 0.85:
        found[name] = rng.choice(_BENT)(found[name]).contiguous()
    elif kind < 0.9:
        del found[name]
    elif kind < 0.95:
        other = rng.choice(sorted(found))
        found[name], found[other] = found[other], found[name]
    else:
        found[rng.choice(("extra", "", "x" * 1000, "\n"))] = torch.zeros(rng.choice((0, 3)))
    return found


def sealed_text(text: str, tensors: Mapping[str, Tensor], seal: Callable[[Any, Any], str]) -> str:
    """A JSON table as text with its checksum; where it cannot be read, without a right one."""
    try:
        data = json.loads(text)
        sha256 = seal(data, tensors) if isinstance(data, dict) else ""
    except (RecursionError, ValueError):
        sha256 = "0" * 64
    body = text.rstrip()
    if not body.endswith("}"):
        return text
    return f'{body[:-1]}{", " if body[1:-1].strip() else ""}"sha256": "{sha256}"}}'


def tensor_bytes(tensors: Mapping[str, Tensor], text: str | None = None) -> bytes:
    """A safetensors file, with our JSON where it is given; written by this file's own code."""
    header: dict[str, Any] = {} if text is None else {"__metadata__": {"lens_emotion": text}}
    block = b""
    for name, tensor in tensors.items():
        raw = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
        place = [len(block), len(block) + len(raw)]
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": place}
        block += raw
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    return len(head).to_bytes(8, "little") + head + block


_NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.bool: "BOOL",
}  # fmt: skip
_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1", "BOOL": "u1"}


def tensors_in(data: bytes) -> tuple[str, dict[str, np.ndarray]]:
    """Our JSON text and the numbers of a safetensors file, read by this file's own code."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    text, found = header.pop("__metadata__", {}).get("lens_emotion", "{}"), {}
    for name, row in header.items():
        a, b = row["data_offsets"]
        raw = data[8 + size + a : 8 + size + b]
        if row["dtype"] == "BF16":
            flat = (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
        else:
            flat = np.frombuffer(raw, _TYPES[row["dtype"]])
        found[name] = flat.reshape(row["shape"])
    return text, found


def gguf_bytes(values: Iterable[tuple[str, int, bytes]], tensors: Iterable[tuple[str, list[int], int, bytes]]) -> bytes:
    """A GGUF file: (key, type, value as bytes), and (name, dimensions, type, bytes), each at its own place."""

    def text(said: str) -> bytes:
        raw = said.encode("utf-8", "surrogatepass")
        return struct.pack("<Q", len(raw)) + raw

    values, tensors, at, table, block = list(values), list(tensors), 0, b"", b""
    for name, dims, kind, raw in tensors:
        table += text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *(d % 2**64 for d in dims), kind, at)
        block += raw + b"\0" * (-len(raw) % 32)
        at = len(block)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values))
    head += b"".join(text(key) + struct.pack("<I", kind) + raw for key, kind, raw in values) + table
    return head + b"\0" * (-len(head) % 32) + block


# What a result may be.


def first(*found: str) -> str:
    """The first fault; "" for none."""
    return next((f for f in found if f), "")


def fault_of_names(names: Iterable[str], what: str = "name") -> str:
    """Names that are empty, not to be told apart, or no text."""
    names = list(names)
    if odd_ones := [n for n in names if not isinstance(n, str) or not _shows(n) or "\0" in n or fault_of_text(n)]:
        return f"the {what} {odd_ones[0]!r:.40} is none"
    if broken := [n for n in names if any(unicodedata.category(c) in ("Cc", "Cs") for c in n)]:
        return f"the {what} {broken[0]!r:.40} holds control characters"
    same = {unicodedata.normalize("NFC", n.strip()) for n in names}
    return "" if len(same) == len(names) else f"two {what}s are the same"


def _shows(text: str) -> bool:
    """Whether a letter, number, sign or symbol stands in it, by Unicode's own classes."""
    return any(unicodedata.category(c)[0] in "LNPS" for c in text)


def fault_of_text(text: str) -> str:
    return "half a character" if any("\ud800" <= c <= "\udfff" for c in text) else ""


def fault_of_texts(value: Any) -> str:
    """Half characters anywhere in plain values."""
    if isinstance(value, str):
        return fault_of_text(value)
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return first(*map(fault_of_texts, items))


def fault_of_numbers(numbers: Any, what: str, least: float | None = None, most: float = math.inf) -> str:
    """Numbers that are none, or outside of their range."""
    found = np.asarray(numbers, dtype=float)
    if not np.isfinite(found).all():
        return f"{what} is not finite"
    if least is not None and found.size and (found.min() < least or found.max() > most):
        return f"{what} is {found.min():g} to {found.max():g}, outside of {least:g} to {most:g}"
    return ""


def fault_of_directions(directions: Any, natural: Any) -> str:
    """Directions that are not of length 1, or have no size. Zeros are no direction there (docs/file-formats.md),
    whatever the sizes: an exported part of the layers keeps those of all, and steering there is refused."""
    length = np.linalg.norm(np.asarray(directions, dtype=float), axis=-1)
    sizes = np.asarray(natural, dtype=float)
    if length.size == 0:
        return "there are no directions"
    if ((np.abs(length - 1) > 1e-3) & (length > 0)).any():
        return f"a direction has length {length.flat[np.argmax(np.abs(length - 1))]:g}"
    return "a direction has no size" if ((length > 0) & (sizes <= 0)).any() else ""


def same_numbers(file: np.ndarray, read: Tensor) -> bool:
    """Whether float32 numbers are those of a file, to the bit of single precision."""
    mine = read.detach().float().numpy()
    return file.shape == mine.shape and bool(np.array_equal(file.astype(np.float32), mine, equal_nan=True))


@dataclass(frozen=True)
class Sums:
    """Lines of a SHA256SUMS, as coreutils writes them: name -> checksums, and whether there are others."""

    noted: dict[str, list[str]]
    others: int


def sums_in(data: bytes) -> Sums:
    """Read by this file's own rule: 64 hex digits, two spaces, a name, a line feed."""
    noted: dict[str, list[str]] = {}
    others = 0
    for line in data.split(b"\n")[:-1]:
        found = re.fullmatch(rb"([0-9a-f]{64})  (.+)", line, re.DOTALL)
        try:
            name = found[2].decode() if found else ""
        except UnicodeDecodeError:
            name = ""
        if found and name and not name.startswith("/") and ".." not in name.split("/") and "\0" not in name:
            noted.setdefault(name, []).append(found[1].decode())
        else:
            others += 1
    return Sums(noted, others)
