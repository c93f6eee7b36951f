"""What a figure reads of a result object: any object with these attributes can be drawn.

The real results live in `analysis` and `steering`. Naming only the attributes that are drawn keeps this room free of
torch, and lets a stored table be drawn again by any small object that carries it.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from pandas import DataFrame


@runtime_checkable
class HasTable(Protocol):
    """A result with a tidy table; Separation and Anisotropy: one row per layer. Circumplex: one row per emotion."""

    table: DataFrame


@runtime_checkable
class LayerSweepLike(HasTable, Protocol):
    """One value per layer with its null band, and the depth of the best layer with its interval."""

    metric: str
    best_layer: int
    best_depth: float
    best_depth_low: float | None
    best_depth_high: float | None
    higher_is_better: bool


@runtime_checkable
class DecodingLike(HasTable, Protocol):
    """Held-out accuracy per layer with its null, and the confusion matrix (true x predicted) of the best layer."""

    best_layer: int
    best_accuracy: float
    confusion: DataFrame
    n_texts: int


@runtime_checkable
class SimilarityLike(Protocol):
    """Cosines between the emotions' vectors at one layer, and the order that puts like beside like."""

    matrix: DataFrame
    order: tuple[str, ...]
    layer: int
    mean_pairwise_cosine: float


@runtime_checkable
class DoseResponseLike(HasTable, Protocol):
    """One row per dose x condition; the layer steered, the largest surgical dose, and the judge with its accuracy."""

    layer: int | str
    surgical_dose: float | None
    judge: str
    judge_accuracy: float | None
