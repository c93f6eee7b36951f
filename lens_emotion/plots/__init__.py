"""Figures: one function per result, named after the analysis it draws; takes a result, returns a plotly `Figure`.

Nothing is computed here. Colours of emotions, marks of significance and the look are the same in all of them (`theme`).

>>> le.plots.layer_sweep(le.layer_sweep(acts)).show()  # doctest: +SKIP
"""

from __future__ import annotations

from lens_emotion.plots.cells import regime_map
from lens_emotion.plots.curves import anisotropy, decoding, layer_sweep, separation
from lens_emotion.plots.dose import dose_response
from lens_emotion.plots.families import by_architecture
from lens_emotion.plots.forest import claims
from lens_emotion.plots.halves import reliability
from lens_emotion.plots.leaks import leakage
from lens_emotion.plots.matrices import confusion, similarity
from lens_emotion.plots.moved import drift, probe, transfer, transfer_within
from lens_emotion.plots.opposed import opposites
from lens_emotion.plots.paired import compare
from lens_emotion.plots.paired_models import compare_models
from lens_emotion.plots.panels import panels
from lens_emotion.plots.plane import circumplex
from lens_emotion.plots.promoted import lens
from lens_emotion.plots.representations import rsa, rsa_human, rsa_many
from lens_emotion.plots.spread import side_effects
from lens_emotion.plots.strips import regimes
from lens_emotion.plots.theme import about, emotion_colour, on_paper, template
from lens_emotion.plots.tokens import preview, token_scores
from lens_emotion.plots.tuning import base_vs_instruct
from lens_emotion.plots.verified import verification

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
