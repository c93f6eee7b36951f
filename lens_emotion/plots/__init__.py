"""Figures: one function per result, named after the analysis it draws; takes a result, returns a plotly `Figure`.

Nothing is computed here. Colours of emotions, marks of significance and the look are the same in all of them (`theme`).

>>> le.plots.layer_sweep(le.layer_sweep(acts)).show()  # doctest: +SKIP
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from inspect import signature
from typing import Any

from lens_emotion.errors import AnalysisError
from lens_emotion.habits import like
from lens_emotion.plots._circumplex import circumplex
from lens_emotion.plots._claims import claims
from lens_emotion.plots._compare import compare, compare_models
from lens_emotion.plots._depth import (
    anisotropy,
    beyond_words,
    decoding,
    layer_sweep,
    opposites,
    panels,
    reliability,
    separation,
    twins_apart,
)
from lens_emotion.plots._maps import confusion, rsa, rsa_human, rsa_many, side_effects, similarity
from lens_emotion.plots._readings import base_vs_instruct, drift, probe, transfer, transfer_within
from lens_emotion.plots._regimes import by_architecture, regime_map, regimes
from lens_emotion.plots._steering import dose_response, leakage, verification
from lens_emotion.plots._tokens import lens, preview, token_scores
from lens_emotion.plots.theme import about, emotion_colour, on_paper, template

__all__ = [
    "about",
    "anisotropy",
    "base_vs_instruct",
    "beyond_words",
    "by_architecture",
    "circumplex",
    "claims",
    "compare",
    "compare_models",
    "confusion",
    "decoding",
    "dose_response",
    "drift",
    "emotion_colour",
    "layer_sweep",
    "leakage",
    "lens",
    "on_paper",
    "opposites",
    "panels",
    "preview",
    "probe",
    "regime_map",
    "regimes",
    "reliability",
    "rsa",
    "rsa_human",
    "rsa_many",
    "separation",
    "side_effects",
    "similarity",
    "template",
    "token_scores",
    "transfer",
    "transfer_within",
    "twins_apart",
    "verification",
]


def _fits(value: object, kind: str) -> bool:
    """Whether a value is of an annotation such as `Separation` or `Mapping[str, DoseResponse]`."""
    *outer, name = re.findall(r"\w+", kind)
    if outer:
        if not isinstance(value, Mapping if outer[0] == "Mapping" else Sequence) or isinstance(value, str):
            return False
        return all(_fits(one, name) for one in (value.values() if isinstance(value, Mapping) else value))
    return name in {base.__name__ for base in type(value).__mro__}


def _of_its_own(draw: Callable[..., Any], kind: str) -> Callable[..., Any]:
    """A figure that says so when it is given what another one draws, or what no analysis has looked at yet."""

    @wraps(draw)
    def drawing(*given: Any, **how: Any) -> Any:
        result = given[0] if given else next((how[name] for name in ("result", "results") if name in how), None)
        if not _fits(result, kind):
            others = [name for name, drawn in _DRAWN.items() if _fits(result, drawn)]
            way = f"le.plots.{' and '.join(others)} draws that" if others else _way(draw.__name__, kind)
            raise AnalysisError(f"le.plots.{draw.__name__} draws {kind}, not {type(result).__name__}; {way}")
        return draw(*given, **how)

    return drawing


def _way(name: str, kind: str) -> str:
    """How to get what a figure draws."""
    public = sys.modules["lens_emotion"].__all__
    made_by = [
        f for f in (name, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", re.findall(r"\w+", kind)[-1]).lower()) if f in public
    ]
    return f"give what le.{made_by[0]}(...) returns" if made_by else f"give a {kind}"


# what each figure draws, by the name of the type
_DRAWN = {
    name: str(first.annotation)
    for name in __all__
    if (first := next(iter(signature(globals()[name]).parameters.values()), None))
    and first.name in ("result", "results")
}
globals().update({name: _of_its_own(globals()[name], kind) for name, kind in _DRAWN.items()})


def __getattr__(name: str) -> Any:
    raise AttributeError(f"module 'lens_emotion.plots' has no attribute '{name}'{like(name, __all__)}")
