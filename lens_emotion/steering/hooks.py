"""Hooks on `resid_post` that add, ablate or clamp, and the context manager that leaves nothing behind.

A hook is bound to its layer in a closure, never to `hook.name`: inside a hook the Bridge reports another name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from lens_emotion.errors import FingerprintError, UnsupportedModelError
from lens_emotion.models.access import Model, check_raw_basis, describe, hook_name
from lens_emotion.steering.dose import Dose, Layers, as_dose, resolve_layers
from lens_emotion.steering.interventions import Centre, Edit, Intervention, Vectors, as_vectors, stack_edits
from lens_emotion.steering.positions import Hook, Positions, Tracker
from lens_emotion.vectors.emotion_vectors import EmotionVector


def steering_hooks(
    vector: Vectors,
    dose: float | Dose = 1.0,
    *,
    unit: str = "natural",
    layers: Layers = None,
    positions: Positions = "all",
    mode: str = "add",
    centre: Centre = 0.0,
    prompt_length: int | Sequence[int] | None = None,
) -> list[Hook]:
    """Hooks for `model.hooks(fwd_hooks=...)` or `model.run_with_hooks`. Dose 0 gives no hooks: the identity to the bit.

    Args:
        vector: what to add; a mixture such as 0.5 * v["calm"] - 0.3 * v["angry"] is one too. Several for "ablate".
        dose: in natural units unless `unit` says "relative"; negative pushes the other way.
        layers: None for the middle layer, "all", a band such as "10-20", one layer or several.
        positions: "all", "generated", "prompt", or positions of the prompt (see `positions.Tracker`). All but "all"
            count tokens, which takes two more hooks in the first block.
        mode: "add", "ablate" or "clamp"; what dose and centre mean there says `interventions.Intervention`.
        prompt_length: tokens of the prompt, where a growing text is read again at every step (no cache).

    Raises:
        DoseError: an unknown unit, layer, position or mode.
    """
    vectors = as_vectors(vector)
    n_layers = vectors[0].n_layers if vectors else 1
    done = Intervention(vectors, as_dose(dose, unit), resolve_layers(layers, n_layers), mode, centre)
    tracker = Tracker(positions, prompt_length)
    if done.idle:
        return []
    return tracker.hooks() + [(hook_name(layer), _edit_hook(done.at(layer), tracker)) for layer in done.layers]


def _edit_hook(edit: Edit, tracker: Tracker) -> Any:
    def hook_fn(residual: Float[Tensor, "batch pos d_model"], hook: Any) -> Float[Tensor, "batch pos d_model"]:
        return edited(residual, edit, tracker)

    return hook_fn


def edited(
    residual: Float[Tensor, "batch pos d_model"], edit: Edit, tracker: Tracker
) -> Float[Tensor, "batch pos d_model"]:
    """The residual stream with the edit done at the tracker's positions, elsewhere as it was to the bit."""
    where = tracker.steered(residual)
    changed = edit.apply(residual)
    return changed if where is None else changed.where(where[:, :, None], residual)


@contextmanager
def steer(
    model: Model,
    vector: Vectors,
    dose: float | Dose = 1.0,
    *,
    unit: str = "natural",
    layers: Layers = None,
    positions: Positions = "all",
    mode: str = "add",
    centre: Centre = 0.0,
    prompt_length: int | Sequence[int] | None = None,
    allow_other_model: bool = False,
    allow_processed: bool = False,
) -> Iterator[list[Hook]]:
    """Steer everything the model does inside the `with` block; hooks are gone afterwards, also after an exception.

        with le.steer(model, vectors["calm"], dose=3):
            print(model.generate("The door opened and", max_new_tokens=40))

    Args: see `steering_hooks`.

    Yields:
        The hooks in place.

    Raises:
        FingerprintError: the vector comes from another model (unless `allow_other_model`).
        ProcessedModelError: the model's weights are processed (unless `allow_processed`).
        UnsupportedModelError: the vector has another shape than the model.
        DoseError: an unknown unit, layer, position or mode.
    """
    check_fits(model, *as_vectors(vector), allow_other_model=allow_other_model, allow_processed=allow_processed)
    hooks = steering_hooks(
        vector,
        dose,
        unit=unit,
        layers=layers,
        positions=positions,
        mode=mode,
        centre=centre,
        prompt_length=prompt_length,
    )
    with model.hooks(fwd_hooks=hooks):
        yield hooks


def ablate(
    model: Model,
    vectors: Vectors,
    layers: Layers = "all",
    *,
    positions: Positions = "all",
    allow_other_model: bool = False,
    allow_processed: bool = False,
) -> AbstractContextManager[list[Hook]]:
    """Take directions out of the residual stream inside the `with` block: one vector, several, or a whole set.

        with le.ablate(model, [vectors["angry"], vectors["hostile"]]):
            print(model.generate("The door opened and", max_new_tokens=40))

    Raises: see `steer`.
    """
    return steer(
        model,
        vectors,
        layers=layers,
        positions=positions,
        mode="ablate",
        allow_other_model=allow_other_model,
        allow_processed=allow_processed,
    )


def check_fits(
    model: Model, *vectors: EmotionVector, allow_other_model: bool = False, allow_processed: bool = False
) -> None:
    """Raise unless the vectors belong into this model's residual stream (see `steer`)."""
    check_raw_basis(model, allow_processed)
    info = describe(model)
    shape = (info.n_layers, info.d_model)
    for vector in vectors:
        if tuple(vector.direction.shape) != shape:
            raise UnsupportedModelError(
                f"the vector has shape {tuple(vector.direction.shape)} (layers, d_model), the model {shape}; "
                "extract vectors on this model"
            )
        if not allow_other_model and vector.header.fingerprint != info.fingerprint:
            raise FingerprintError(
                f"the vector was made on {vector.header.model}, not on {info.name}; extract vectors on this model, or "
                "pass allow_other_model=True"
            )


class RowEdits:
    """Another intervention for every row of a batch (None: none): many conditions in one forward pass.

    Rows may differ in vector, dose, mode and layers. When rows leave the batch, `keep` tells which go on.
    """

    def __init__(self, rows: Sequence[Intervention | None], d_model: int, positions: Positions = "all") -> None:
        active = [row if row is not None and not row.idle else None for row in rows]
        layers = sorted({layer for row in active if row is not None for layer in row.layers})
        self._tracker = Tracker(positions)
        self._edits: dict[int, Edit] = {}
        for layer in layers:
            edits = [row.at(layer) if row is not None and layer in row.layers else Edit() for row in active]
            self._edits[layer] = stack_edits(edits, d_model)

    def hooks(self) -> list[Hook]:
        """Hooks for the whole batch; none if no row is steered."""
        own = [(hook_name(layer), self._hook(layer)) for layer in self._edits]
        return self._tracker.hooks() + own if own else []

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Go on with these rows only."""
        self._tracker.keep(rows)
        self._edits = {layer: edit.keep(rows) for layer, edit in self._edits.items()}

    def _hook(self, layer: int) -> Any:
        def hook_fn(residual: Float[Tensor, "batch pos d_model"], hook: Any) -> Float[Tensor, "batch pos d_model"]:
            return edited(residual, self._edits[layer], self._tracker)

        return hook_fn
