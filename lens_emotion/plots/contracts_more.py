"""What the figures of reliability, opposites, readings and tokens read of their results (see `contracts`)."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from typing import Protocol, runtime_checkable

import numpy as np
from pandas import DataFrame

from lens_emotion.plots.contracts import HasTable


@runtime_checkable
class ReliabilityLike(HasTable, Protocol):
    """One row per layer and emotion; means by layer with their null; the topics that a reliability would need."""

    @property
    def by_layer(self) -> DataFrame: ...

    @property
    def n_topics(self) -> int: ...

    @property
    def n_splits(self) -> int: ...

    @property
    def n_permutations(self) -> int: ...

    def topics_needed(self, target: float = 0.9) -> DataFrame: ...


@runtime_checkable
class OppositesLike(HasTable, Protocol):
    """Every opposite pair at one layer; means of opposite and other pairs by layer."""

    @property
    def by_layer(self) -> DataFrame: ...

    @property
    def layer(self) -> int: ...

    @property
    def n_others(self) -> int: ...

    @property
    def n_permutations(self) -> int: ...


@runtime_checkable
class DriftLike(Protocol):
    """Two readings of the same texts: vectors, states and accuracy by layer."""

    @property
    def by_layer(self) -> DataFrame: ...

    @property
    def differs(self) -> str: ...

    @property
    def n_texts(self) -> int: ...


@runtime_checkable
class ProbeLike(HasTable, Protocol):
    """Held-out accuracy of a fitted decoder at some layers, with its null."""

    @property
    def kind(self) -> str: ...

    @property
    def n_layers(self) -> int: ...

    @property
    def label(self) -> Sized: ...

    @property
    def topic(self) -> Iterable[object]: ...

    @property
    def null(self) -> Sized: ...


@runtime_checkable
class TransferLike(HasTable, Protocol):
    """Accuracy per centring and layer on texts that nothing was learned on."""

    @property
    def emotions(self) -> tuple[str, ...]: ...

    @property
    def shared_topics(self) -> tuple[str, ...]: ...

    @property
    def excluded(self) -> bool: ...

    @property
    def label(self) -> Sized: ...

    @property
    def train(self) -> str: ...

    @property
    def test(self) -> str: ...


@runtime_checkable
class TransferWithinLike(HasTable, Protocol):
    """Accuracy per training level, tested level, centring and layer."""

    @property
    def by(self) -> str: ...

    @property
    def emotions(self) -> tuple[str, ...]: ...

    @property
    def n_layers(self) -> int: ...

    def matrix(self, layer: int | None = None, centring: str = "own mean") -> DataFrame: ...


@runtime_checkable
class LensLike(HasTable, Protocol):
    """Top tokens of every vector; shares of scripts against random directions."""

    @property
    def scripts(self) -> DataFrame: ...

    @property
    def layer(self) -> int: ...

    @property
    def n_layers(self) -> int: ...

    @property
    def model(self) -> str: ...

    @property
    def k(self) -> int: ...

    @property
    def n_random(self) -> int: ...

    @property
    def form(self) -> str: ...


@runtime_checkable
class TokenRoleLike(Protocol):
    """One token of a previewed text, and whether it was pooled, skipped or special."""

    @property
    def position(self) -> int: ...

    @property
    def token(self) -> str: ...

    @property
    def role(self) -> str: ...


@runtime_checkable
class TokenScoresLike(Protocol):
    """Scores [emotion, token] of a text, with the band of random directions."""

    @property
    def tokens(self) -> tuple[str, ...]: ...

    @property
    def content(self) -> np.ndarray: ...

    @property
    def emotions(self) -> tuple[str, ...]: ...

    @property
    def scores(self) -> np.ndarray: ...

    @property
    def null_low(self) -> np.ndarray: ...

    @property
    def null_high(self) -> np.ndarray: ...

    @property
    def p(self) -> np.ndarray: ...

    @property
    def p_corrected(self) -> np.ndarray: ...

    @property
    def layer(self) -> int: ...

    @property
    def n_layers(self) -> int: ...

    @property
    def model(self) -> str: ...

    @property
    def origin(self) -> str: ...

    @property
    def control(self) -> str: ...

    @property
    def n_random(self) -> int: ...
