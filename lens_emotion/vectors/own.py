"""A direction of one's own: an array, a tensor, or a vector of another tool, as an `EmotionVector` of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lens_emotion.errors import ArtifactError, LayerError, UnsupportedModelError
from lens_emotion.files.names import check_label
from lens_emotion.files.user import shown
from lens_emotion.models.access import Model, describe
from lens_emotion.models.layers import Layers, resolve_layers, whole_numbers
from lens_emotion.vectors.emotion_vectors import EmotionVector
from lens_emotion.vectors.interchange import from_displacements

USAGE = "give an array of length d_model, one of [n_layers, d_model], or {layer: array}"


def vector(
    array: Any, model: Model, layer: Layers = None, name: str = "own", *, allow_processed: bool = False
) -> EmotionVector:
    """A direction of your own, to be steered with, ablated, mixed, saved and compared like any other.

        direction = probe.coef_[0]  # or a difference of means, a row of a decoder, ...
        with le.steer(model, le.vector(direction, model, layer=12, name="probe"), dose=2):
            ...

    Its natural unit is its own length: dose 1 adds the array as it is. The relative unit, E||h||, is measured on
    neutral sentences.

    Args:
        array: numbers of any kind (NumPy, torch on any device, a list, a pandas Series): `[d_model]`,
            `[n_layers, d_model]`, or a mapping of layers to `[d_model]`; in raw units of `resid_post`. Also an object
            of steering-vectors (`layer_activations`) or repeng (`directions`).
        model: the model that it belongs to.
        layer: where an array of `[d_model]` stands: a layer, several (the same direction at each), "all"; None for the
            middle layer. Layers of the other forms are their own; those named here are kept, the others left out.
        name: what it is called in tables and files.
        allow_processed: accept a model with folded or centred weights.

    Raises:
        UnsupportedModelError: another width or depth than the model. LayerError: a layer that is not there.
        ArtifactError: no numbers, NaN or infinity among them, or nothing but zeros; a name that is none.

    Example:
        >>> le.vector([1.0] * model.cfg.d_model, model, layer=2, name="ones").layers
        (2,)
    """
    check_label("a vector's name", name)
    info = describe(model)
    parts = _by_layer(array, layer, info.n_layers, info.d_model)
    for k, part in parts.items():
        if part.shape != (info.d_model,):
            raise UnsupportedModelError(
                f"'{name}' has {'x'.join(map(str, part.shape))} numbers at layer {k}; {info.name} has d_model "
                f"{info.d_model} and {info.n_layers} layers: {USAGE}"
            )
    if not any(bool(part.any()) for part in parts.values()):
        raise ArtifactError(f"'{name}' is zero everywhere, which is no direction; {USAGE}")
    return from_displacements(parts, model, name, "a direction of the user's own", allow_processed=allow_processed)


def is_array(given: Any) -> bool:
    """Whether this is what `vector` takes: numbers, or vectors by layer."""
    if isinstance(given, Mapping):
        return bool(given) and not any(isinstance(key, str) and not key.lstrip("-").isdecimal() for key in given)
    if isinstance(given, Sequence):
        return bool(given) and all(isinstance(x, Real) or (hasattr(x, "dtype") and np.ndim(x) == 0) for x in given[:2])
    return hasattr(given, "__array__") or _of_other_tool(given) is not None


def names_layers(given: Any) -> bool:
    """Whether an array of one's own says at which layers it stands."""
    return _of_other_tool(given) is not None or (isinstance(given, Mapping) and is_array(given))


def _of_other_tool(given: Any) -> Mapping[Any, Any] | None:
    """What a vector of steering-vectors or repeng adds at each layer."""
    kept = getattr(given, "layer_activations", None) or getattr(given, "directions", None)
    if isinstance(kept, Mapping) and (kind := getattr(given, "layer_type", "decoder_block")) != "decoder_block":
        raise UnsupportedModelError(f"the vector is of layer type {kind!r}; train one at 'decoder_block'")
    return kept if isinstance(kept, Mapping) else None


def _by_layer(given: Any, layer: Layers, n_layers: int, d_model: int) -> dict[int, Float[Tensor, " d_model"]]:
    """The rows of any form by layer, from 0."""
    given = other if (other := _of_other_tool(given)) is not None else given
    if isinstance(given, Mapping):
        parts = {_layer(key, n_layers): numbers(row).squeeze() for key, row in given.items()}
        if len(parts) < len(given):
            raise LayerError(f"two of the layers {', '.join(map(str, given))} are one; give each once")
    else:
        rows = numbers(given)
        if rows.ndim < 2 or rows.shape[0] == 1:  # scikit-learn's coef_ is [1, d_model]
            return dict.fromkeys(resolve_layers(layer, n_layers), rows.squeeze(0) if rows.ndim > 1 else rows)
        if rows.shape == (n_layers + 1, d_model):
            raise UnsupportedModelError(
                f"{n_layers + 1} rows for {n_layers} layers: Hugging Face's hidden_states begin with the embeddings; "
                "leave them out: array[1:]"
            )
        if rows.shape != (n_layers, d_model):
            one = "; of several directions give one row: array[i]" if rows.shape[-1] == d_model else ""
            raise UnsupportedModelError(
                f"the array is {list(rows.shape)}; the model has {n_layers} layers and d_model {d_model}: {USAGE}{one}"
            )
        parts = {k: row for k, row in enumerate(rows) if bool(row.any())}
    if layer is None:
        return parts
    wanted = resolve_layers(layer, n_layers)
    if missing := [k for k in wanted if k not in parts]:
        raise LayerError(f"no direction for layer {missing[0]}; those given are {', '.join(map(str, sorted(parts)))}")
    return {k: parts[k] for k in wanted}


def _layer(key: Any, n_layers: int) -> int:
    """A layer's number, also in digits, counted from 0."""
    try:
        (found,) = whole_numbers(int(key) if isinstance(key, str) else key)
    except (TypeError, ValueError):
        raise LayerError(f"{shown(key)} is no layer; {USAGE}") from None
    return resolve_layers(found, n_layers)[0]


def _array(given: Any) -> np.ndarray:
    """An array of its own; numbers held as objects, as a mixed column of pandas has them, as floats."""
    made = np.array(given)
    if made.dtype == object and all(isinstance(x, Real) for x in made.flat):
        return made.astype(np.float64)
    return made


def numbers(given: Any) -> Float[Tensor, "..."]:
    """Numbers of any kind as float32 on the CPU, detached.

    Raises:
        ArtifactError: no real numbers, or NaN or infinity among them.
    """
    try:
        made = given.detach().to_dense() if isinstance(given, Tensor) else torch.from_numpy(_array(given))
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ArtifactError(f"{shown(given)} holds no numbers ({error!s:.80}); {USAGE}") from None
    if made.is_complex() or made.dtype == torch.bool:
        raise ArtifactError(f"the array is of {str(made.dtype).removeprefix('torch.')}; {USAGE}, of real numbers")
    made = made.to("cpu", torch.float32, copy=True)
    if not bool(made.isfinite().all()):
        raise ArtifactError("the array holds NaN or infinity (or numbers beyond single precision); give finite numbers")
    return made
