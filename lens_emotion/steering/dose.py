"""Dose: how far to push, in two units that are both printed with every result.

natural: multiples of ||mu_e - mu||, the way from the mean of all emotions to the mean of this one. 1 is as far as an
average text of the emotion lies. It carries across architectures and is the default.
relative: multiples of E||h|| at the layer (arXiv 2604.04064, 2604.07729). It does not carry: a few massive dimensions
inflate E||h||, so that strong steering starts at 0.4 in one model and at 0.1 in another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lens_emotion.errors import DoseError
from lens_emotion.models.layers import resolve_layers
from lens_emotion.vectors.emotion_vectors import EmotionVector, dose_number

UNITS = ("natural", "relative")


@dataclass(frozen=True)
class Dose:
    """A dose with its unit.

    Attributes:
        value: how far; negative pushes the other way.
        unit: "natural", or "relative" for shares of the mean residual norm.

    Example:
        >>> le.Dose(0.4, "relative")
        Dose(value=0.4, unit='relative')
    """

    value: float
    unit: str = "natural"

    def __post_init__(self) -> None:
        if not isinstance(self.unit, str) or self.unit not in UNITS:
            raise DoseError(f"unknown unit of dose {self.unit!r:.40}; use {' or '.join(UNITS)}")
        dose_number(self.value)

    def at(self, layer: int) -> float:
        """The dose at one layer."""
        return self.value

    def length(self, vector: EmotionVector) -> Float[Tensor, " n_layers"]:
        """Length of the added vector at each layer, in raw units of the residual stream."""
        size = vector.natural if self.unit == "natural" else vector.residual_norm
        return self.value * size

    def in_units(self, vector: EmotionVector, layer: int) -> tuple[float, float]:
        """The same length at one layer as (natural, relative)."""
        length = float(self.length(vector)[layer])
        natural, norm = float(vector.natural[layer]), float(vector.residual_norm[layer])
        return (length / natural if natural else math.nan, length / norm if norm else math.nan)


@dataclass(frozen=True)
class LayerDose(Dose):
    """Another dose at every layer; `value` is the one that is largest in size, and there is none at other layers.

    Attributes:
        by_layer: layer -> dose there, in order.
    """

    by_layer: tuple[tuple[int, float], ...] = ()

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(layer for layer, _ in self.by_layer)

    def at(self, layer: int) -> float:
        return dict(self.by_layer).get(layer, 0.0)

    def length(self, vector: EmotionVector) -> Float[Tensor, " n_layers"]:
        size = vector.natural if self.unit == "natural" else vector.residual_norm
        return torch.tensor([self.at(layer) for layer in range(vector.n_layers)]) * size


AnyDose = float | Dose | Mapping[int, float]  # a dose as users say it


def as_doses(dose: Any, unit: str, n_layers: int) -> Dose:
    """What `as_dose` takes, or one dose per layer: {12: 2, 14: 1}.

    Raises:
        DoseError: see `as_dose`; two units, a layer twice, none at all. LayerError: no such layer.
    """
    if not isinstance(dose, Mapping):
        if isinstance(dose, list | tuple):
            raise DoseError(f"dose {repr(dose)[:40]} is no number; give one, or one per layer: {{12: 2, 14: 1}}")
        return as_dose(dose, unit)
    found: dict[int, Dose] = {}
    for key, one in dose.items():
        layers = resolve_layers(key, n_layers) if key is not None else ()
        if not layers or set(layers) & set(found):
            raise DoseError(
                f"layer {key} of the doses {repr(dict(dose))[:60]} stands twice, or is none; give each once"
            )
        found |= dict.fromkeys(layers, as_dose(one, unit))
    units = {one.unit for one in found.values()}
    if len(units) != 1:
        raise DoseError(f"the doses are of {len(units)} units; give one number per layer, and one unit")
    largest = max((one.value for one in found.values()), key=abs)
    return LayerDose(largest, units.pop(), tuple((layer, found[layer].value) for layer in sorted(found)))


def as_dose(dose: Any, unit: str = "natural") -> Dose:
    """A dose of a number, as it comes (also a NumPy or torch scalar), or the dose given.

    Raises:
        DoseError: no number (nor are True and "3"), or an unknown unit.
    """
    if isinstance(dose, Dose):
        return dose
    return Dose(dose_number(dose), unit)


def mean_units(vector: EmotionVector, dose: Dose, layers: Sequence[int]) -> tuple[float, float]:
    """A dose as (natural, relative), the mean over the steered layers."""
    natural, relative = zip(*(dose.in_units(vector, layer) for layer in layers), strict=True)
    return sum(natural) / len(layers), sum(relative) / len(layers)


def displacement(vector: EmotionVector, dose: Dose) -> Float[Tensor, "n_layers d_model"]:
    """What is added to the residual stream at each layer."""
    return torch.as_tensor(dose.length(vector))[:, None] * vector.direction
