"""Dose: how far to push, in two units that are both printed with every result.

natural: multiples of ||mu_e - mu||, the way from the mean of all emotions to the mean of this one. 1 is as far as an
average text of the emotion lies. It carries across architectures and is the default.
relative: multiples of E||h|| at the layer (arXiv 2604.04064, 2604.07729). It does not carry: a few massive dimensions
inflate E||h||, so that strong steering starts at 0.4 in one model and at 0.1 in another.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lens_emotion.errors import DoseError
from lens_emotion.vectors.emotion_vectors import EmotionVector

UNITS = ("natural", "relative")
Layers = int | str | Sequence[int] | None  # what `resolve_layers` takes


@dataclass(frozen=True)
class Dose:
    """A dose with its unit."""

    value: float
    unit: str = "natural"

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise DoseError(f"unknown unit of dose '{self.unit}'; use {' or '.join(UNITS)}")
        if not math.isfinite(self.value):
            raise DoseError(f"dose {self.value} is not a finite number; 0 to 16 natural units is the usual range")

    def length(self, vector: EmotionVector) -> Float[Tensor, " n_layers"]:
        """Length of the added vector at each layer, in raw units of the residual stream."""
        size = vector.natural if self.unit == "natural" else vector.residual_norm
        return self.value * size

    def in_units(self, vector: EmotionVector, layer: int) -> tuple[float, float]:
        """The same length at one layer as (natural, relative)."""
        length = float(self.length(vector)[layer])
        natural, norm = float(vector.natural[layer]), float(vector.residual_norm[layer])
        return (length / natural if natural else math.nan, length / norm if norm else math.nan)


def as_dose(dose: float | Dose, unit: str = "natural") -> Dose:
    return dose if isinstance(dose, Dose) else Dose(float(dose), unit)


def mean_units(vector: EmotionVector, dose: Dose, layers: Sequence[int]) -> tuple[float, float]:
    """A dose as (natural, relative), the mean over the steered layers."""
    pairs = [dose.in_units(vector, layer) for layer in layers]
    return (sum(n for n, _ in pairs) / len(pairs), sum(r for _, r in pairs) / len(pairs))


def resolve_layers(layers: Layers, n_layers: int) -> tuple[int, ...]:
    """Layers in order, each once.

    Args:
        layers: None for the middle layer (n_layers // 2); "all"; one layer; several, as a list, a tuple or
            `range(10, 21)`; or bands in words, both ends included: "10-20", "3,8-11". Negative layers (as numbers)
            count from the end.

    Raises:
        DoseError: a layer the model does not have, words that name none, or no layer at all.
    """
    if layers is None:
        return (n_layers // 2,)
    if isinstance(layers, str):
        chosen = tuple(range(n_layers)) if layers == "all" else _bands(layers, n_layers)
    else:
        chosen = (layers,) if isinstance(layers, int) else tuple(layers)
    if bad := [layer for layer in chosen if not -n_layers <= layer < n_layers]:
        raise DoseError(f"no layer {bad[0]}: the model has layers 0 to {n_layers - 1} (or -{n_layers} to -1)")
    if not chosen:
        raise DoseError("no layer given; give at least one")
    return tuple(sorted({layer % n_layers for layer in chosen}))


def _bands(words: str, n_layers: int) -> tuple[int, ...]:
    """ "10-12,20" -> (10, 11, 12, 20)."""
    chosen: list[int] = []
    for part in words.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", part)
        if match is None:
            raise DoseError(
                f"unknown layers '{words}'; give 'all', a band such as '10-20', a layer or a list of layers"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise DoseError(f"the band '{part.strip()}' ends before it begins; write '{last}-{first}'")
        chosen += range(first, min(last, n_layers) + 1)  # one too many is enough to be refused
    return tuple(chosen)


def layers_in_words(layers: Sequence[int], n_layers: int) -> str:
    """ "all", "12", "10-20" or "3,8-11": what `resolve_layers` reads back."""
    if len(layers) == n_layers:
        return "all"
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def displacement(vector: EmotionVector, dose: Dose) -> Float[Tensor, "n_layers d_model"]:
    """What is added to the residual stream at each layer."""
    return torch.as_tensor(dose.length(vector))[:, None] * vector.direction
