"""Vectors for other tools and from them: llama.cpp, repeng (GGUF control vectors) and steering-vectors.

All of them add one vector per layer to the output of a block. Block k, counted from 0, is our layer k (`resid_post`),
`direction.k` in a GGUF file and `layer_activations[k]` of a steering-vectors object. What is written is the
displacement at a dose, so that scale (multiplier, coefficient) 1 there is `le.steer(model, vector, dose)` here.
"""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import regex
import torch
from jaxtyping import Float
from torch import Tensor

from lens_emotion.display import Brief
from lens_emotion.errors import ArtifactError, DoseError, FingerprintError, UnsupportedModelError
from lens_emotion.extraction.activations import Header, TextRecord, check_made_on
from lens_emotion.extraction.pooling import story_mean
from lens_emotion.extraction.reader import Reading, make_header, read_texts
from lens_emotion.files.artifacts import atomic_write, check_replaces, check_seal, check_tensors, from_file, sealed
from lens_emotion.files.names import name_of
from lens_emotion.files.read import check_regular, read_bytes, strict_json
from lens_emotion.files.user import record
from lens_emotion.models.access import Model, architecture_of, describe, family_of
from lens_emotion.models.layers import Layers, resolve_layers
from lens_emotion.models.prompting import tokenise_text
from lens_emotion.stimuli.emotions import NEUTRAL
from lens_emotion.stimuli.prompts import neutral_sentences
from lens_emotion.vectors.emotion_vectors import (
    WITHIN,
    EmotionVector,
    EmotionVectors,
    dose_number,
    joint_header,
    unit_and_length,
)

DECODER_BLOCK = "decoder_block"
KIND = "EmotionVector"
PLAIN = "SteeringVector"  # kind of a safetensors file with one tensor per layer
# llama.cpp's names, where they differ from Hugging Face's less their signs
LLAMA_CPP = {
    "mistral": "llama", "mixtral": "llama", "ministral": "llama", "gptbigcode": "starcoder", "phi": "phi2",
    "cohere": "command-r", "rw": "falcon", "stablelmepoch": "stablelm",
}  # fmt: skip
SIZES = ("norm", "natural", "residual_norm")
HOW_FAR = "give how far scale 1 shall go, in natural units, e.g. 3"


def displacements(vector: EmotionVector, dose: float = 1.0, layers: Layers = None) -> dict[int, Tensor]:
    """What steering at a dose (natural units) adds at each layer, float32, [d_model].

    Args:
        layers: as in `steer`: None for the middle layer; "all"; one layer, several, or bands such as "10-20".

    Raises:
        DoseError: a dose that is 0 or no number up to 1e6. LayerError: a layer that the model does not have, or at
            which the vector has no direction ("all" takes those that have one).
    """
    dose = dose_number(dose)
    if not dose:
        raise DoseError(f"dose 0 makes no vector; {HOW_FAR}")
    chosen = (
        vector.layers
        if isinstance(layers, str) and layers == "all" and vector.layers
        else resolve_layers(layers, vector.n_layers)
    )
    vector.check_layers(chosen)
    return {k: (dose * vector.natural[k] * vector.direction[k]).float() for k in chosen}


def to_gguf(
    vector: EmotionVector,
    path: str | Path,
    dose: float = 1.0,
    layers: Layers = None,
    model_hint: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a GGUF control vector that llama.cpp (`--control-vector`) and repeng (`ControlVector.import_gguf`) read.

    Args:
        dose: in natural units; scale 1 of the other tool is this dose.
        layers: where; None for the middle layer. llama.cpp adds at every layer in the file and takes none at layer 0:
            "all" keeps that for `from_gguf` alone.
        model_hint: default llama.cpp's name of the architecture, as far as the model's name tells (see `hint_of`).
        vector: an emotion's vector, or a mixture.
        path: file to write, atomically.
        overwrite: replace whatever file lies there; without, a control vector is replaced and nothing else is.

    Raises:
        ArtifactError: a file of another kind, such as a model, lies there; layer 0 asked for by number, no package
            gguf, not writable. DoseError: dose 0, or no number.

    Example:
        >>> le.to_gguf(vectors["calm"], "calm.gguf", dose=3, layers="2-4").name
        'calm.gguf'
    """
    check_replaces(path, "control vectors", _is_control_file, overwrite)
    parts = displacements(vector, dose, layers)
    first = parts.pop(0, None) if layers == "all" else None
    own: dict[str, Any] = {"kind": KIND, "name": vector.name, "dose": float(dose), "n_layers": vector.n_layers}
    own |= {"header": vector.header.to_dict(), **{size: getattr(vector, size).tolist() for size in SIZES}}
    own |= {} if first is None else {"layer_0": first.tolist()}
    named = {str(k): v for k, v in parts.items()}
    text = json.dumps(sealed(own, named), ensure_ascii=False, sort_keys=True)
    return write_control_file(
        path, ControlFile(parts, model_hint or hint_of(vector.header.family, vector.header.model), text)
    )


def hint_of(architecture: str, name: str = "") -> str:
    """What llama.cpp calls an architecture (`general.architecture` of its model files, hence `model_hint` of its
    control vectors), from Hugging Face's class or `model_type`, or from our family and the model's name.

    Source: MODEL_ARCH_NAMES of gguf-py; Mistral and Mixtral are "llama" there.
    """
    words = regex.sub(r"forcausallm|forconditionalgeneration|lmheadmodel|text|[^a-z0-9]", "", architecture.lower())
    if words in ("gemma", "qwen") and (found := regex.search(rf"{words}[-_ ]?([234])", name.lower())):
        words += found[1]
    return LLAMA_CPP.get(words, words)


def check_hint(hint: str, model: Model, path: str | Path) -> None:
    """Raises UnsupportedModelError if a file's model hint names another architecture than the model's.

    Tools write llama.cpp's name or Hugging Face's `model_type`; we wrote the family once.
    """
    of_model = architecture_of(model)
    expected = hint_of(of_model)
    if hint and hint_of(hint) not in (expected, family_of(of_model)):
        raise UnsupportedModelError(
            f"{path} was made on a model of the architecture '{hint}', {describe(model).name} is '{expected}'; "
            "load the model it was made on, or pass allow_other_model (--allow-other-model)"
        )


def from_gguf(
    path: str | Path, model: Model | None = None, name: str = "", allow_other_model: bool = False
) -> EmotionVector:
    """Read a GGUF control vector as an EmotionVector; dose 1 is what is in the file.

    Layers that the file does not hold have a zero direction. A file of lens_emotion brings its model, sizes and units
    with it, and dose 1 is one natural unit again.

    Args:
        model: needed for files of other tools, whose model is not known: only the width and depth can be checked, and
            the mean residual norm is measured on neutral sentences. Their model hint must be the architecture's.
        name: default the name in the file, or the file's own.
        allow_other_model: take a file whose hint names another architecture; the notes say so.
        path: a .gguf file.

    Raises:
        ArtifactError: not a readable control vector. FingerprintError: of lens_emotion, but of another model.
        UnsupportedModelError: of another width, depth or architecture than the model, or no model given.

    Example:
        >>> path = le.to_gguf(vectors["calm"], "calm.gguf", dose=3, layers="2-4")
        >>> le.from_gguf(path, model).name
        'calm'
    """
    read = read_control_file(path)
    if read.own:
        return _own(path, read, model, name)
    if model is None:
        raise UnsupportedModelError(f"{path} does not say which model it was made on; give it: from_gguf(path, model)")
    if not allow_other_model:
        check_hint(read.model_hint, model, path)
    note = f"imported from {Path(path).name} (model hint '{read.model_hint}'), which does not name its model"
    return from_displacements(read.directions, model, name or Path(path).stem, note)


@dataclass(frozen=True)
class _Own:
    """What lens_emotion writes beside the directions, as JSON (files/schemas/control_vector.json)."""

    kind: str
    name: str
    dose: float
    n_layers: int
    header: dict[str, Any]
    norm: tuple[float, ...]
    natural: tuple[float, ...]
    residual_norm: tuple[float, ...]
    layer_0: tuple[float, ...] = ()
    format: int = 1
    sha256: str = ""

    def __post_init__(self) -> None:
        if self.kind != KIND:
            raise ArtifactError(f"its kind is {self.kind!r:.60}, expected {KIND!r}")
        if not dose_number(self.dose):
            raise ArtifactError("its dose is 0, which makes no vector")
        for size in SIZES:
            if len(getattr(self, size)) != self.n_layers:
                raise ArtifactError(f"{size} has {len(getattr(self, size))} layers, but n_layers is {self.n_layers}")


def _own(path: str | Path, read: ControlFile, model: Model | None, name: str) -> EmotionVector:
    """A vector that lens_emotion wrote, with its units."""
    with from_file(path, "write the file again with to_gguf"):
        try:
            meta = strict_json(read.own)
            check_seal("it", meta, {str(k): v for k, v in read.directions.items()})
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ArtifactError(f"what lens_emotion wrote beside the directions is damaged ({error})") from None
        own = record(_Own, meta, "what lens_emotion wrote beside the directions")
        norm, natural, residual = (torch.tensor(getattr(own, size), dtype=torch.float64).float() for size in SIZES)
        parts = {**({0: torch.tensor(own.layer_0)} if own.layer_0 else {}), **read.directions}
        direction, length = unit_and_length(_stacked(parts, own.n_layers))
        for k in parts:
            if abs(float(length[k]) - (wanted := abs(own.dose) * float(natural[k]))) > WITHIN * wanted:
                raise ArtifactError(
                    f"the direction of layer {k} has length {length[k]:g}, but dose {own.dose:g} of natural units "
                    f"{natural[k]:g} is {wanted:g}"
                )
        header = Header.from_dict(own.header)
        direction = direction * (1 if own.dose > 0 else -1)
        made = EmotionVector(name or own.name, direction, norm, natural, residual, header)
    if model is not None:
        check_made_on(describe(model), header)
    return made


def _stacked(parts: Mapping[int, Tensor], n_layers: int) -> Float[Tensor, "n_layers d_model"]:
    if max(parts) >= n_layers:
        raise ArtifactError(f"it holds layer {max(parts)}, the model has {n_layers}")
    check_tensors({f"layer {k}": part for k, part in parts.items()}, {f"layer {k}": "d_model" for k in parts})
    stacked = torch.zeros(n_layers, next(iter(parts.values())).numel())
    for layer, part in parts.items():
        stacked[layer] = part.detach().cpu()
    return stacked


def from_displacements(
    parts: Mapping[int, Float[Tensor, " d_model"]], model: Model, name: str, note: str, *, allow_processed: bool = False
) -> EmotionVector:
    """An EmotionVector from what another tool adds at the output of each block; its natural unit is that length.

    Raises:
        UnsupportedModelError: another width or depth than the model. ProcessedModelError: processed weights (unless
            `allow_processed`).
    """
    info = describe(model)
    if not parts:
        raise ArtifactError(f"{name} holds no tensor of a layer ('0', '1', ...); give one at least")
    widths = sorted({part.numel() for part in parts.values()})
    if widths != [info.d_model] or not 0 <= min(parts) <= max(parts) < info.n_layers:
        raise UnsupportedModelError(
            f"{name} has width {', '.join(map(str, widths))} at layers {', '.join(map(str, sorted(parts)))}; "
            f"{info.name} has width {info.d_model} and layers 0 to {info.n_layers - 1}: it was made on another model"
        )
    stacked = _stacked(parts, info.n_layers)
    header = make_header(model, "imported", "", "", "", allow_processed=allow_processed).with_(notes=(note,))
    direction, size = unit_and_length(stacked)
    # E||h|| over neutral sentences: the relative unit of dose of vectors that came without one
    readings = [Reading(tokenise_text(model, t), TextRecord(t, NEUTRAL, "", t)) for t in neutral_sentences()]
    residual = read_texts(model, readings, story_mean(), header, progress=False).residual_norm
    return EmotionVector(name_of(name), direction, size, size, residual, header)


def to_steering_vector(vector: EmotionVector, dose: float = 1.0, layers: Layers = None) -> Any:
    """A `steering_vectors.SteeringVector`, to be applied with multiplier 1.

    Args:
        vector: an emotion's vector, or a mixture.
        dose: in natural units; multiplier 1 of the other tool is this dose.
        layers: where; None for the middle layer.

    Raises:
        ArtifactError: the package steering-vectors is not installed (`displacements` gives the plain dictionary).

    Example:
        >>> le.to_steering_vector(vectors["calm"], dose=3, layers="2-4").layer_type  # doctest: +SKIP
    """
    try:
        from steering_vectors import SteeringVector
    except ImportError:
        raise ArtifactError(
            "no package steering-vectors here; install it, or pass displacements(vector, dose) to its SteeringVector "
            "where it is installed"
        ) from None
    return SteeringVector(layer_activations=displacements(vector, dose, layers), layer_type=DECODER_BLOCK)


def from_steering_vector(steering_vector: Any, model: Model, name: str = "steering-vectors") -> EmotionVector:
    """An EmotionVector from a steering-vectors object (anything with `layer_activations` and `layer_type`).

    Args:
        steering_vector: anything with `layer_activations` and `layer_type`.
        model: whose residual stream it belongs to.
        name: of the result.

    Raises:
        ArtifactError: no vectors by layer, or none of finite numbers.
        UnsupportedModelError: of another layer type than "decoder_block", or of another width or depth than the model.

    Example:
        >>> from types import SimpleNamespace
        >>> trained = SimpleNamespace(layer_activations={3: vectors["calm"].direction[3]}, layer_type="decoder_block")
        >>> le.from_steering_vector(trained, model, name="calm").name
        'calm'
    """
    kind = getattr(steering_vector, "layer_type", None)
    parts = getattr(steering_vector, "layer_activations", None)
    if not isinstance(parts, Mapping) or not parts:
        raise ArtifactError(f"layer_activations is {str(parts)[:40]}; give a dict of layers and their vectors")
    if kind != DECODER_BLOCK:
        raise UnsupportedModelError(
            f"expected a steering vector of layer type '{DECODER_BLOCK}', got {kind!r}; train one at the output of "
            "blocks"
        )
    return from_displacements(
        _by_layer(name, parts), model, name, "imported from a steering-vectors object, which does not name its model"
    )


def from_safetensors(path: str | Path, model: Model, name: str = "") -> EmotionVector:
    """An EmotionVector from what `lens-emotion vectors export --format steering-vectors` writes: a tensor per layer.

    Raises:
        ArtifactError: another kind of file. UnsupportedModelError: of another width or depth than the model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(check_regular(path, remedy="give a safetensors file"))
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"cannot read {path}: {error}; give a safetensors file") from None
    parts = _by_layer(str(path), tensors)
    note = f"imported from {Path(path).name}, which does not name its model"
    return from_displacements(parts, model, name or Path(path).stem, note)


def _by_layer(what: str, parts: Mapping[Any, Any]) -> dict[int, Float[Tensor, " d_model"]]:
    """The vectors of another tool by layer, one row of float32 each.

    Raises:
        ArtifactError: a key that is no layer, or not in plain digits; what is no row of numbers.
    """
    found: dict[int, Tensor] = {}
    for key, part in parts.items():
        layer = _layer(key) if isinstance(key, str) else key
        if isinstance(layer, bool) or not isinstance(layer, int):
            raise ArtifactError(f"{what} holds {key!r:.60}, expected tensors named after layers only ('0', '1', ...)")
        if not isinstance(part, Tensor) or not part.is_floating_point() or part.numel() != part.shape[-1:].numel():
            shape = f"{part.dtype} {list(part.shape)}" if isinstance(part, Tensor) else type(part).__name__
            raise ArtifactError(f"{what}: layer {layer} is {shape}, expected one row of floating-point numbers")
        found[layer] = part.detach().float().flatten()
    return found


def _layer(word: str) -> int | None:
    """The layer that plain digits say: "3", but neither "03" nor "٣"."""
    return int(word) if word.isascii() and word.isdigit() and len(word) < 10 and str(int(word)) == word else None


def as_set(vectors: Sequence[EmotionVector]) -> EmotionVectors:
    """Single vectors of one model as a set, to be saved and steered with.

    Raises:
        FingerprintError: vectors of different models. ArtifactError: none, or two of one name.
    """
    if not vectors or len({v.name for v in vectors}) < len(vectors):
        raise ArtifactError("give at least one vector, each with a name of its own")
    if len({v.header.fingerprint for v in vectors}) > 1:
        raise FingerprintError(f"vectors of different models: {', '.join(sorted({v.header.model for v in vectors}))}")
    first, *_ = vectors
    directions, norms, natural = (
        torch.stack([getattr(v, name) for v in vectors]) for name in ("direction", "norm", "natural")
    )
    names = tuple(v.name for v in vectors)
    header = joint_header([v.header for v in vectors])
    return EmotionVectors(directions, names, norms, natural, first.residual_norm, header)


# GGUF files of control vectors, as llama.cpp and repeng read them: `direction.{k}` for the output of block k.
#
# Written with the package `gguf`. Read by own code: that package follows counts and sizes in a file before it has
# checked them, so that one flipped byte may keep it busy for ever.
ARCHITECTURE = "controlvector"
HINT = "controlvector.model_hint"
OWN = "lens_emotion.vector"
MAGIC, VERSIONS = b"GGUF", (2, 3)
F32, STRING, ARRAY = 0, 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
MOST = 65536  # keys, tensors or items of an array: far more than any control vector has
Value = str | int | float | bool | list["Value"]


@dataclass(frozen=True, eq=False, repr=False)
class ControlFile(Brief):
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


def _is_control_file(path: Path) -> bool:
    try:
        return bool(read_control_file(path).directions)
    except ArtifactError:
        return False


def read_control_file(path: str | Path, *, finite: bool = True) -> ControlFile:
    """Read a control vector written by lens_emotion, repeng, llama.cpp or others.

    Args:
        finite: refuse numbers that are not; an audit reads them to say so.

    Raises:
        ArtifactError: no such file, damaged, no control vector, directions of unequal width, not 1-D float32, or not
            finite numbers.
    """
    data = read_bytes(path, remedy="give a GGUF file")
    try:
        values, tensors = _parse(data)
    except (struct.error, ValueError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} is not a readable GGUF file ({error}); copy it anew") from None
    if values.get("general.architecture") != ARCHITECTURE or not isinstance(values.get(HINT), str):
        raise ArtifactError(f"{path} is no control vector (general.architecture and {HINT} say so); give one")
    if finite or all(bool(d.isfinite().all()) for d in tensors.values()):
        _check_directions(str(path), tensors)
    return ControlFile(tensors, str(values[HINT]), str(values.get(OWN, "")))


def _check_directions(path: str, directions: Mapping[int, Tensor]) -> None:
    if not directions:
        raise ArtifactError(f"{path}: a control vector needs at least one layer from 1 on")
    if min(directions) < 1:
        raise ArtifactError(
            f"{path}: llama.cpp takes no direction at the output of block 0; leave layer 0 out (layers=1, '1-5', ...)"
        )
    with from_file(path, "give finite directions of one width"):
        named = {f"direction.{k}": direction for k, direction in directions.items()}
        check_tensors(named, dict.fromkeys(named, "d_model"))


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
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise ValueError("its alignment is no power of two")
    start = -(-cursor.at // alignment) * alignment
    found: dict[int, Tensor] = {}
    for layer, width, offset in entries:
        if layer in found:
            raise ValueError(f"layer {layer} occurs twice")
        first = start + offset
        if first < 0 or width < 1 or first + 4 * width > len(data):
            raise ValueError("a direction lies beyond the end of the file")
        found[layer] = torch.from_numpy(np.frombuffer(data, "<f4", width, first).astype(np.float32))
    return values, found


def _entry(cursor: _Cursor) -> tuple[int, int, int]:
    """Layer, width and offset of a tensor; llama.cpp refuses all but 1-D float32 in a control vector, and so do we."""
    name, n_dims = cursor.text(), cursor.count("I")
    dims = [int(cursor.number("Q")) for _ in range(n_dims)]
    kind, offset = int(cursor.number("I")), int(cursor.number("Q"))
    if len(dims) != 1 or kind != F32:
        raise ValueError(f"tensor {name!r} is not one-dimensional float32")
    layer = _layer(name.removeprefix("direction.")) if name.startswith("direction.") else None
    if layer is None:
        raise ValueError(f"tensor {name!r} is no direction.LAYER")
    return layer, dims[0], offset
