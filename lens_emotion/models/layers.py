"""Layers: which ones a user means, and how they are named in sentences. Counted from 0; -1 is the last."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from operator import index
from typing import Any

from lens_emotion.errors import LayerError

Layers = int | str | Sequence[int] | None  # what `resolve_layers` takes


def resolve_layer(layer: int | None, n_layers: int, default: int) -> int:
    """A layer from 0: `default` for None, counted from the end if negative.

    Raises:
        LayerError: no such layer.
    """
    if layer is None:
        return default
    if isinstance(layer, bool) or not hasattr(layer, "__index__"):
        raise LayerError(f"layer is {layer!r}; give a whole number, counted from 0, or from the end if negative")
    layer = index(layer)
    if not -n_layers <= layer < n_layers:
        raise no_layer(layer, n_layers)
    return layer % n_layers


def resolve_layers(layers: Layers, n_layers: int) -> tuple[int, ...]:
    """Layers in order, each once.

    Args:
        layers: None for the middle layer (n_layers // 2); "all"; one layer; several, as a list, a tuple or
            `range(10, 21)`; or bands in words, both ends included: "10-20", "3,8-11". A negative layer counts from
            the end.

    Raises:
        LayerError: a layer the model does not have, words that name none, or no layer at all.
    """
    if layers is None:
        return (n_layers // 2,)
    if isinstance(layers, str) and re.fullmatch(r"-\d{1,9}", layers.strip()):
        layers = int(layers)
    if isinstance(layers, str):
        chosen = list(range(n_layers)) if layers == "all" else _bands(layers, n_layers)
    else:
        try:
            chosen = whole_numbers(layers)
        except (TypeError, ValueError) as error:
            raise LayerError(
                f"unknown layers {layers!r:.60} ({error}); give 'all', a band such as '10-20', a layer or several"
            ) from None
    if not chosen:
        raise LayerError("no layer given; give at least one")
    return tuple(sorted({resolve_layer(layer, n_layers, 0) for layer in chosen}))


def whole_numbers(given: int | Iterable[int]) -> list[int]:
    """One whole number or several, also of NumPy and torch, as a list.

    Raises:
        TypeError, ValueError: a fraction, text or truth value among them.
    """
    listed: Any = given.tolist() if hasattr(given, "tolist") else given
    numbers = list(listed) if isinstance(listed, Iterable) and not isinstance(listed, (str, bytes)) else [listed]
    if wrong := [n for n in numbers if isinstance(n, bool) or type(n).__name__ in ("bool_", "bool")]:
        raise TypeError(f"{wrong[0]!r} is no whole number")
    return [index(n) for n in numbers]


def _bands(words: str, n_layers: int) -> list[int]:
    """ "10-12,20" -> [10, 11, 12, 20]."""
    chosen: list[int] = []
    for part in words.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", part)
        if match is None:
            raise LayerError(
                f"unknown layers '{words}'; give 'all', a band such as '10-20', a layer or a list of layers"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise LayerError(f"the band '{part.strip()}' ends before it begins; write '{last}-{first}'")
        chosen += range(first, min(last, max(first, n_layers)) + 1)  # one too many is enough to be refused
    return chosen


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


def place(layer: int, n_layers: int, best: bool = False) -> str:
    """A layer in words: 'layer 12 (depth 0.54, best of 24)'."""
    return f"layer {layer} (depth {(layer + 1) / n_layers:.2f}{f', best of {n_layers}' * best})"


def no_layer(layer: int, n_layers: int) -> LayerError:
    """The error for a layer that a model of n_layers does not have."""
    return LayerError(f"no layer {layer}: the model has layers 0 to {n_layers - 1} (or -{n_layers} to -1)")
