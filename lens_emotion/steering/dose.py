"""Dose: how far to push, in two units that are both printed with every result.

natural: multiples of ||mu_e - mu||, the way from the mean of all emotions to the mean of this one. 1 is as far as an
average text of the emotion lies. It carries across architectures and is the default.
relative: multiples of E||h|| at the layer (arXiv 2604.04064, 2604.07729). It does not carry: a few massive dimensions
inflate E||h||, so that strong steering starts at 0.4 in one model and at 0.1 in another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lens_emotion.errors import DoseError
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
        if self.unit not in UNITS:
            raise DoseError(f"unknown unit of dose '{self.unit}'; use {' or '.join(UNITS)}")
        dose_number(self.value)

    def length(self, vector: EmotionVector) -> Float[Tensor, " n_layers"]:
        """Length of the added vector at each layer, in raw units of the residual stream."""
        size = vector.natural if self.unit == "natural" else vector.residual_norm
        return self.value * size

    def in_units(self, vector: EmotionVector, layer: int) -> tuple[float, float]:
        """The same length at one layer as (natural, relative)."""
        length = float(self.length(vector)[layer])
        natural, norm = float(vector.natural[layer]), float(vector.residual_norm[layer])
        return (length / natural if natural else math.nan, length / norm if norm else math.nan)


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
