"""Hook functions on `resid_post` that add a vector, and the context manager that leaves nothing behind.

A hook is bound to its layer in a closure, never to `hook.name`: inside a hook the Bridge reports another name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lens_emotion.errors import DoseError, FingerprintError, UnsupportedModelError
from lens_emotion.models.access import Model, check_raw_basis, describe, hook_name
from lens_emotion.steering.dose import Dose, as_dose, displacement, resolve_layers
from lens_emotion.vectors.emotion_vectors import EmotionVector

Hook = tuple[str, Callable[..., Tensor]]
POSITIONS = ("all", "generated")


def add_hook(
    delta: Float[Tensor, "batch d_model"] | Float[Tensor, " d_model"], positions: str = "all"
) -> Callable[..., Tensor]:
    """A hook function that adds `delta` to the residual stream, one vector for all rows or one per row.

    positions "all": every position of every forward pass. "generated": under cached decoding, the last prompt token
    (from which the first new token is predicted) and every generated token.
    """
    if positions not in POSITIONS:
        raise DoseError(f"unknown positions '{positions}'; use {' or '.join(POSITIONS)}")
    per_row = delta if delta.ndim == 1 else delta[:, None, :]

    def hook_fn(residual: Float[Tensor, "batch pos d_model"], hook: Any) -> Float[Tensor, "batch pos d_model"]:
        added = per_row.to(residual.device, residual.dtype)
        if positions == "all":
            return residual + added
        steered = residual.clone()
        steered[:, -1:] += added
        return steered

    return hook_fn


def steering_hooks(
    vector: EmotionVector,
    dose: float | Dose = 1.0,
    *,
    unit: str = "natural",
    layers: int | str | Sequence[int] | None = None,
    positions: str = "all",
) -> list[Hook]:
    """Hooks for `model.hooks(fwd_hooks=...)` or `model.run_with_hooks`. Dose 0 gives no hooks: the identity to the bit.

    Args:
        vector: what to add; a mixture such as 0.5 * v["calm"] - 0.3 * v["angry"] is one too.
        dose: in natural units unless `unit` says "relative"; negative pushes the other way.
        layers: None for the middle layer, "all", one layer or several.
        positions: "all" or "generated" (see `add_hook`).

    Raises:
        DoseError: an unknown unit, layer or position.
    """
    amount = as_dose(dose, unit)
    chosen = resolve_layers(layers, vector.n_layers)
    if positions not in POSITIONS:
        raise DoseError(f"unknown positions '{positions}'; use {' or '.join(POSITIONS)}")
    if amount.value == 0:
        return []
    added = displacement(vector, amount)
    return [(hook_name(layer), add_hook(added[layer], positions)) for layer in chosen]


@contextmanager
def steer(
    model: Model,
    vector: EmotionVector,
    dose: float | Dose = 1.0,
    *,
    unit: str = "natural",
    layers: int | str | Sequence[int] | None = None,
    positions: str = "all",
    allow_other_model: bool = False,
    allow_processed: bool = False,
) -> Iterator[list[Hook]]:
    """Steer everything the model does inside the `with` block; hooks are gone afterwards, also after an exception.

        with le.steer(model, vectors["calm"], dose=3):
            print(model.generate("The door opened and", max_new_tokens=40))

    Yields:
        The hooks in place.

    Raises:
        FingerprintError: the vector comes from another model (unless `allow_other_model`).
        ProcessedModelError: the model's weights are processed (unless `allow_processed`).
        UnsupportedModelError: the vector has another shape than the model.
        DoseError: an unknown unit, layer or position.
    """
    check_fits(model, vector, allow_other_model=allow_other_model, allow_processed=allow_processed)
    hooks = steering_hooks(vector, dose, unit=unit, layers=layers, positions=positions)
    with model.hooks(fwd_hooks=hooks):
        yield hooks


def check_fits(
    model: Model, vector: EmotionVector, *, allow_other_model: bool = False, allow_processed: bool = False
) -> None:
    """Raise unless the vector belongs into this model's residual stream (see `steer`)."""
    check_raw_basis(model, allow_processed)
    info = describe(model)
    shape = (info.n_layers, info.d_model)
    if tuple(vector.direction.shape) != shape:
        raise UnsupportedModelError(
            f"the vector has shape {tuple(vector.direction.shape)} (layers, d_model), the model {shape}; "
            "extract vectors on this model"
        )
    if not allow_other_model and vector.header.fingerprint != info.fingerprint:
        raise FingerprintError(
            f"the vector was made on {vector.header.model}, not on {info.name}; extract vectors on this model, or pass "
            "allow_other_model=True"
        )


def row_hooks(
    deltas: Float[Tensor, "batch n_layers d_model"], layers: Sequence[int], positions: str = "all"
) -> list[Hook]:
    """Hooks that add another displacement to every row of a batch: many conditions in one forward pass."""
    return [
        (hook_name(layer), add_hook(deltas[:, layer], positions)) for layer in layers if torch.any(deltas[:, layer])
    ]
