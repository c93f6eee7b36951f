"""The twenty emotions of the study, the neutral class, and human norms for their names.

Source of the list and of the opposite pairs: Jeong, arXiv 2604.04064. Source of the norms: Warriner, Kuperman and
Brysbaert (2013), Behavior Research Methods 45, 1191-1207 (mean ratings, 1 to 9).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

EMOTIONS: tuple[str, ...] = (
    "happy", "sad", "calm", "desperate", "afraid", "angry", "proud", "guilty", "nervous", "hopeful",
    "brooding", "gloomy", "reflective", "enthusiastic", "hostile", "loving", "exasperated", "blissful",
    "anxious", "grateful",
)  # fmt: skip
NEUTRAL = "neutral"
OPPOSITE_PAIRS: tuple[tuple[str, str], ...] = (
    ("happy", "sad"),
    ("calm", "desperate"),
    ("loving", "hostile"),
    ("proud", "guilty"),
)


@dataclass(frozen=True)
class Norm:
    """Mean human rating of one emotion word, on scales from 1 to 9; None where the norms lack the word."""

    emotion: str
    word: str
    valence: float | None
    arousal: float | None


@cache
def valence_arousal() -> dict[str, Norm]:
    """Human valence and arousal per emotion. `exasperated` is not in the norms and is never imputed."""
    path = resources.files("lens_emotion.stimuli").joinpath("data/valence_arousal.csv")
    rows = csv.DictReader(path.read_text(encoding="utf-8").splitlines())

    def number(text: str) -> float | None:
        return float(text) if text else None

    return {
        row["emotion"]: Norm(row["emotion"], row["norm_word"], number(row["valence"]), number(row["arousal"]))
        for row in rows
    }
