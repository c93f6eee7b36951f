"""What a figure reads of a result object: any object with these attributes can be drawn.

The real results live in `analysis` and `steering`. Naming only the attributes that are drawn keeps this room free of
torch, and lets a stored table be drawn again by any small object that carries it.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from pandas import DataFrame


@runtime_checkable
class HasTable(Protocol):
    """A result with a tidy table of one row per layer: Separation, Anisotropy."""

    @property
    def table(self) -> DataFrame: ...


@runtime_checkable
class LayerSweepLike(HasTable, Protocol):
    """One value per layer with its null band, and the depth of the best layer with its interval."""

    @property
    def metric(self) -> str: ...

    @property
    def best_layer(self) -> int: ...

    @property
    def best_depth(self) -> float: ...

    @property
    def best_depth_low(self) -> float | None: ...

    @property
    def best_depth_high(self) -> float | None: ...

    @property
    def higher_is_better(self) -> bool: ...


@runtime_checkable
class DecodingLike(HasTable, Protocol):
    """Held-out accuracy per layer with its null, and the confusion matrix (true x predicted) of the best layer."""

    @property
    def best_layer(self) -> int: ...

    @property
    def best_accuracy(self) -> float: ...

    @property
    def confusion(self) -> DataFrame: ...

    @property
    def n_texts(self) -> int: ...


@runtime_checkable
class SimilarityLike(Protocol):
    """Cosines between the emotions' vectors at one layer, and the order that puts like beside like."""

    @property
    def matrix(self) -> DataFrame: ...

    @property
    def order(self) -> tuple[str, ...]: ...

    @property
    def layer(self) -> int: ...

    @property
    def mean_pairwise_cosine(self) -> float: ...


@runtime_checkable
class CircumplexLike(HasTable, Protocol):
    """One row per emotion; how the components go with human norms (component, norm, abs_r, p, n); their shares."""

    @property
    def correlations(self) -> DataFrame: ...

    @property
    def explained(self) -> tuple[float, float]: ...

    @property
    def layer(self) -> int: ...


@runtime_checkable
class DoseResponseLike(HasTable, Protocol):
    """One row per dose x condition; the layer steered, the surgical dose, and the judge with its accuracy."""

    @property
    def layer(self) -> int | str: ...

    @property
    def surgical_dose(self) -> float | None: ...

    @property
    def judge(self) -> str: ...

    @property
    def judge_accuracy(self) -> float | None: ...
