"""Figures: one function per result, named after the analysis it draws; takes a result, returns a plotly `Figure`.

Nothing is computed here. Colours of emotions, marks of significance and the look are the same in all of them (`theme`).

>>> le.plots.layer_sweep(le.layer_sweep(acts)).show()  # doctest: +SKIP
"""

from __future__ import annotations

from lens_emotion.plots._circumplex import circumplex
from lens_emotion.plots._claims import claims
from lens_emotion.plots._compare import compare, compare_models
from lens_emotion.plots._depth import (
    anisotropy,
    base_vs_instruct,
    decoding,
    drift,
    layer_sweep,
    opposites,
    panels,
    probe,
    reliability,
    separation,
    transfer,
    transfer_within,
)
from lens_emotion.plots._maps import confusion, rsa, rsa_human, rsa_many, side_effects, similarity
from lens_emotion.plots._steering import by_architecture, dose_response, leakage, regime_map, regimes, verification
from lens_emotion.plots._tokens import lens, preview, token_scores
from lens_emotion.plots.theme import about, emotion_colour, on_paper, template

__all__ = [
    "about",
    "anisotropy",
    "base_vs_instruct",
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
    "verification",
]
