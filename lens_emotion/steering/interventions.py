"""What is done to `resid_post`: add a vector, ablate directions, or clamp the projection on one.

All three are one form, h -> h - (h B^T) B + delta, so that the rows of a batch may differ in kind: `add` has no B,
`ablate` no delta, `clamp` takes the projection out and puts the target in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lens_emotion.errors import DoseError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.steering.dose import Dose, displacement
from lens_emotion.vectors.emotion_vectors import EmotionVector, EmotionVectors

MODES = ("add", "ablate", "clamp")
SAME = 1e-4  # directions whose part outside the others' span is shorter than this add nothing to the span
Vectors = EmotionVector | EmotionVectors | Sequence[EmotionVector]
Centre = float | Float[Tensor, " n_layers"]


@dataclass(frozen=True, eq=False)
class Edit:
    """h -> h - (h B^T) B + delta at one layer, the same for all rows of a batch or one per row (leading axis)."""

    delta: Float[Tensor, "*rows d_model"] | None = None
    basis: Float[Tensor, "*rows k d_model"] | None = None

    def apply(self, residual: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        if self.basis is None:
            return residual if self.delta is None else residual + self._added(residual)
        h = residual.float()  # a projection is a difference of large numbers in deep layers
        basis = self.basis.to(h.device, h.dtype)
        h = h - (h @ basis.mT) @ basis
        return (h if self.delta is None else h + self._added(h)).to(residual.dtype)

    def _added(self, like: Tensor) -> Tensor:
        assert self.delta is not None
        return (self.delta if self.delta.ndim == 1 else self.delta[:, None, :]).to(like.device, like.dtype)

    def keep(self, rows: Tensor) -> Edit:
        """These rows of a batch."""
        return Edit(*(None if x is None else x[rows.to(x.device)] for x in (self.delta, self.basis)))


@dataclass(frozen=True, eq=False)
class Intervention:
    """One thing done at some layers.

    Attributes:
        vectors: one vector; several for "ablate" (their span).
        dose: "add": how far. "clamp": how far from `centre` the projection is set. "ablate": the share of the
            projection that is taken out, 1 for all of it (no unit).
        layers: layers it is done at.
        mode: "add", "ablate" or "clamp".
        centre: for "clamp", the projection at dose 0, in raw units of the residual stream: one number or one per layer
            (see `projection_centre`). 0 is the origin of the residual stream, not the mean of texts.
    """

    vectors: tuple[EmotionVector, ...]
    dose: Dose
    layers: tuple[int, ...]
    mode: str = "add"
    centre: Centre = 0.0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise DoseError(f"unknown mode '{self.mode}'; use {', '.join(MODES)}")
        if not self.vectors:
            raise DoseError("no vector given; give at least one")
        if self.mode != "ablate" and len(self.vectors) > 1:
            raise DoseError(f"mode '{self.mode}' takes one vector; mix several into one: 0.5 * v['calm'] + v['happy']")
        if self.mode == "ablate" and not 0 <= self.dose.value <= 1:
            raise DoseError(
                f"dose {self.dose.value:g} for mode 'ablate': it is the share of the projection taken out, from 0 to 1"
            )

    @property
    def idle(self) -> bool:
        """True if it leaves everything as it is, to the bit: dose 0 (a clamp at dose 0 still sets the projection)."""
        return bool(self.mode != "clamp" and self.dose.value == 0)

    def at(self, layer: int) -> Edit:
        """What it does at one of its layers."""
        if self.mode == "add":
            return Edit(delta=displacement(self.vectors[0], self.dose)[layer])
        if self.mode == "ablate":
            return Edit(basis=self.dose.value**0.5 * span([v.at(layer) for v in self.vectors]))
        direction = self.vectors[0].at(layer)
        centre = torch.as_tensor(self.centre).expand(self.vectors[0].n_layers)[layer]
        return Edit((centre + self.dose.length(self.vectors[0])[layer]) * direction, direction[None])


def as_vectors(vectors: Vectors) -> tuple[EmotionVector, ...]:
    """One vector, several, or all of a set."""
    if isinstance(vectors, EmotionVector):
        return (vectors,)
    if isinstance(vectors, EmotionVectors):
        return tuple(vectors[emotion] for emotion in vectors.emotions)
    return tuple(vectors)


def span(directions: Sequence[Float[Tensor, " d_model"]]) -> Float[Tensor, "k d_model"]:
    """Orthonormal rows that span the directions; k is their rank."""
    _, sizes, rows = torch.linalg.svd(torch.stack(list(directions)).double(), full_matrices=False)
    return rows[sizes > SAME * sizes.max().clamp_min(SAME)].float()


def stack_edits(edits: Sequence[Edit], d_model: int) -> Edit:
    """Edits of single rows as the edit of a batch; what a row lacks is filled with zeros, which do nothing."""
    rank = max((e.basis.shape[0] for e in edits if e.basis is not None), default=0)
    zero = torch.zeros(d_model)
    delta = torch.stack([zero if e.delta is None else e.delta for e in edits])
    if rank == 0:
        return Edit(delta)
    basis = torch.zeros(len(edits), rank, d_model)
    for row, edit in enumerate(edits):
        if edit.basis is not None:
            basis[row, : edit.basis.shape[0]] = edit.basis
    return Edit(delta, basis)


def projection_centre(acts: PooledActivations, vector: EmotionVector) -> Float[Tensor, " n_layers"]:
    """Mean projection of texts on a direction, per layer: the mean of the emotions' means (the origin of the natural
    unit), so that a clamp at dose 1 sets what an average text of the emotion has. `acts.of("neutral")` gives the
    neutral texts' own centre."""
    groups = acts.emotions or tuple(dict.fromkeys(str(e) for e in acts.emotion))
    means = torch.stack([acts.values[acts.emotion == e].mean(0) for e in groups]).mean(0)
    return (means * vector.direction).sum(-1)
