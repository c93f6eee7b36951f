"""What all results share: the level of significance, layers in words, and the look in a notebook."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import pandas as pd

from lens_emotion.display import panel
from lens_emotion.errors import LensEmotionError

ALPHA = 0.05
NOISE = "not distinguishable from noise"


class AnalysisError(LensEmotionError, ValueError):
    """An option of an analysis that makes no sense: an unknown metric, no such layer, no permutations."""


@runtime_checkable
class Result(Protocol):
    """Frozen, with a tidy `.table` and a `.summary()` of one sentence."""

    @property
    def table(self) -> pd.DataFrame: ...

    def summary(self) -> str: ...


def result_html(result: Result) -> str:
    """The summary above the folded table, for notebooks."""
    return panel(result.summary(), result.table)


def resolve_layer(layer: int | None, n_layers: int, default: int) -> int:
    """A layer from 0: `default` for None, counted from the end if negative.

    Raises:
        AnalysisError: no such layer.
    """
    if layer is None:
        return default
    if not -n_layers <= layer < n_layers:
        raise AnalysisError(f"no layer {layer}; the model has {n_layers}: 0 to {n_layers - 1}, or -1 for the last")
    return layer % n_layers


def place(layer: int, n_layers: int, best: bool = False) -> str:
    """A layer in words: 'layer 12 (depth 0.54, best of 24)'."""
    return f"layer {layer} (depth {(layer + 1) / n_layers:.2f}{f', best of {n_layers}' * best})"


def p_text(p: float) -> str:
    """'p = 0.005'; small values keep their first digit."""
    return f"p = {p:.3f}" if p >= 0.001 else f"p = {p:.1g}"


def check_permutations(n_permutations: int) -> None:
    """Raises AnalysisError unless at least one permutation is asked for: no number without its null."""
    if n_permutations < 1:
        raise AnalysisError(f"n_permutations is {n_permutations}; give at least 1 (19 for p = 0.05 to be possible)")
