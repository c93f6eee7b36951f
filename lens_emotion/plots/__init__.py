"""Figures: one function per result, named after it; takes a result object, returns a plotly `Figure`, computes nothing.

>>> le.plots.layer_sweep(le.layer_sweep(acts)).show()  # doctest: +SKIP
"""

from __future__ import annotations

from lens_emotion.plots.curves import anisotropy, decoding, layer_sweep, separation
from lens_emotion.plots.dose import dose_response
from lens_emotion.plots.matrices import confusion, similarity
from lens_emotion.plots.plane import circumplex
from lens_emotion.plots.theme import emotion_colour, on_paper, template

__all__ = [
    "anisotropy",
    "circumplex",
    "confusion",
    "decoding",
    "dose_response",
    "emotion_colour",
    "layer_sweep",
    "on_paper",
    "separation",
    "similarity",
    "template",
]
