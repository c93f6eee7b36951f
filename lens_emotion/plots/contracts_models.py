"""What the figures that set methods or models side by side read of their results (see `contracts`)."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from pandas import DataFrame

from lens_emotion.plots.contracts import HasTable


@runtime_checkable
class ComparisonLike(HasTable, Protocol):
    """Two methods on one model: by layer, over layers (one row per test), and for every emotion and topic."""

    @property
    def overall(self) -> DataFrame: ...

    @property
    def pairs(self) -> DataFrame: ...

    @property
    def metric(self) -> str: ...

    @property
    def name_a(self) -> str: ...

    @property
    def name_b(self) -> str: ...

    @property
    def dropped(self) -> str: ...


@runtime_checkable
class ModelComparisonLike(HasTable, Protocol):
    """Two methods over models: one row per model and place, and the tests."""

    @property
    def tests(self) -> DataFrame: ...


@runtime_checkable
class CeilingLike(Protocol):
    """How high a correlation between two models can be."""

    @property
    def ceiling(self) -> float: ...

    @property
    def disjoint(self) -> float: ...

    @property
    def disjoint_ceiling(self) -> float: ...


@runtime_checkable
class RSALike(HasTable, Protocol):
    """Every layer of one model with every layer of another."""

    @property
    def matrix(self) -> DataFrame: ...

    @property
    def layer_a(self) -> int: ...

    @property
    def layer_b(self) -> int: ...

    @property
    def n_layers_a(self) -> int: ...

    @property
    def n_layers_b(self) -> int: ...

    @property
    def model_a(self) -> str: ...

    @property
    def model_b(self) -> str: ...

    @property
    def emotions(self) -> tuple[str, ...]: ...

    @property
    def n_permutations(self) -> int: ...

    @property
    def rho(self) -> float: ...

    @property
    def p(self) -> float: ...

    @property
    def ceiling(self) -> CeilingLike | None: ...


@runtime_checkable
class RSAMatrixLike(HasTable, Protocol):
    """Every two of several models: one row per pair."""

    @property
    def matrix(self) -> DataFrame: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def n_permutations(self) -> int: ...


@runtime_checkable
class HumanRSALike(HasTable, Protocol):
    """A model with human ratings: one row per layer and space."""

    @property
    def layer(self) -> int: ...

    @property
    def n_layers(self) -> int: ...

    @property
    def model(self) -> str: ...

    @property
    def emotions(self) -> tuple[str, ...]: ...

    @property
    def n_permutations(self) -> int: ...


@runtime_checkable
class BaseVsInstructLike(HasTable, Protocol):
    """What instruction tuning changed: one row per layer."""

    @property
    def base(self) -> str: ...

    @property
    def instruct(self) -> str: ...

    @property
    def emotions(self) -> tuple[str, ...]: ...

    @property
    def topics(self) -> tuple[str, ...]: ...

    @property
    def n_permutations(self) -> int: ...


@runtime_checkable
class ArchitectureTestLike(HasTable, Protocol):
    """What the onset dose goes with: one row per unit and factor, and the models."""

    @property
    def models(self) -> DataFrame: ...

    @property
    def variance_ratio(self) -> float: ...

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...


@runtime_checkable
class ClaimsLike(HasTable, Protocol):
    """One row per claim and model, and over all models."""

    @property
    def table(self) -> DataFrame: ...
