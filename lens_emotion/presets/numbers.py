"""Numbers that were published on emotion vectors, as data with their sources, to stand beside ours by that protocol.

They are of the author's public code and reports beside arXiv 2604.04064 (Neural-MRI: metadata of April, GPT-2 report of
4 April), on texts that are not ours. "Reproduced" is said within a tolerance stated before: 0.05 of a cosine, one tenth
of the depth, the same signs of a table; it is a choice, as no interval was published.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from lens_emotion.models.catalog import find_spec

REPRODUCED, NOT_REPRODUCED, NOT_HERE = "reproduced", "not reproduced", "not testable here"
PAPER, CODE, REPORT = "arXiv 2604.04064", "Neural-MRI, public code of April", "Neural-MRI, GPT-2 report of 4 April"


@dataclass(frozen=True)
class Published:
    """A published number.

    Attributes:
        model: name in the catalog; "" for one over models.
        what: which number, as a key of what a study measures.
        values: the number; several where it is not public which of two checkpoints it is of.
        tolerance: within which ours is the same number.
        source: where it stands.
    """

    model: str
    what: str
    values: tuple[float, ...]
    tolerance: float
    source: str = CODE


def _row(models: Mapping[str, tuple[float, ...]], names: tuple[str, ...], tolerance: float) -> tuple[Published, ...]:
    return tuple(
        Published(model, name, (value,), tolerance)
        for model, values in models.items()
        for name, value in zip(names, values, strict=True)
    )


_DEPTHS = {
    "qwen2.5-1.5b-instruct": (0.54,), "smollm2-1.7b-instruct": (0.46, 0.54), "llama-3.2-3b-instruct": (0.39,),
    "gemma-3-1b-it": (0.58, 0.35), "mistral-7b-instruct-v0.3": (0.41, 0.25), "llama-3.1-8b-instruct": (0.38,),
}  # fmt: skip
NUMBERS: tuple[Published, ...] = (
    *_row(
        {"qwen2.5-1.5b-instruct": (0.863, 0.848, 0.819), "gemma-3-1b-it": (0.994, 0.988, 0.968)},
        ("anisotropy at 25% depth", "anisotropy at 50% depth", "anisotropy at 75% depth"),
        0.05,
    ),
    *(Published(model, "best depth", values, 0.1) for model, values in _DEPTHS.items()),
    *_row(
        {
            "llama-3.1-8b-instruct": (0.457, 0.396, 0.310, 0.430, 0.496),
            "mistral-7b-instruct-v0.3": (0.406, 0.414, 0.514, 0.311, 0.503),
        },
        ("mean cosine, writing", "cosine happy/sad", "cosine calm/desperate", "cosine loving/hostile",
         "cosine proud/guilty"),
        0.05,
    ),
    Published("gpt2", "calm before steering to calm", (-15.9,), 10.0, REPORT),
    Published("gpt2", "calm after steering to calm", (39.9,), 10.0, REPORT),
    Published("gpt2", "hostile before steering to calm", (21.8,), 10.0, REPORT),
    Published("gpt2", "hostile after steering to calm", (-5.0,), 10.0, REPORT),
    Published("", "geometry between models of other families, least rho", (0.74,), 0.1),
    Published("", "geometry between models of other families, greatest rho", (0.95,), 0.1),
    Published("", "geometry between base and instruct, least rho", (0.918,), 0.05),
    Published("", "scenarios whose target score rose", (37 / 40,), 0.1, PAPER),
)  # fmt: skip


def compared(measured: Mapping[str, Mapping[str, float]], over_models: Mapping[str, float]) -> pd.DataFrame:
    """Every published number beside ours: model, what, published, ours, tolerance, status, why, source.

    Args:
        measured: model of a run -> what -> our number by the same protocol. over_models: of all of them.

    Example:
        >>> table = le.presets.numbers.compared({"gpt2": {"calm after steering to calm": 41.0}}, {})
        >>> table.status.value_counts().to_dict()
        {'not testable here': 29, 'reproduced': 1}
    """
    known = {spec.name: found for name, found in measured.items() if (spec := find_spec(name)) is not None}
    rows = []
    for number in NUMBERS:
        found = known.get(number.model) if number.model else over_models
        ours = float((found or {}).get(number.what, float("nan")))
        status, why = NOT_HERE, f"{number.model} is not among this run's models"
        if found is not None:
            why = "this run did not measure it" if number.model else "no models of this run that were published on"
        if ours == ours:  # a number
            near = min(number.values, key=lambda value: abs(value - ours))
            status = REPRODUCED if abs(near - ours) <= number.tolerance else NOT_REPRODUCED
            why = f"{abs(near - ours):.2g} apart; texts are ours" + (", base or instruct" * (len(number.values) > 1))
        said = " or ".join(f"{value:.3g}" for value in number.values)
        row = {"model": number.model or "all models", "what": number.what, "published": said, "ours": ours}
        rows.append(row | {"tolerance": number.tolerance, "status": status, "why": why, "source": number.source})
    return pd.DataFrame(rows)
