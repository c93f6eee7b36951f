"""The twenty emotions of the study, the neutral class, and human norms for their names.

Source of the list and of the opposite pairs: Jeong, arXiv 2604.04064. Source of the norms: Warriner, Kuperman and
Brysbaert (2013), Behavior Research Methods 45, 1191-1207 (mean ratings, 1 to 9).
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Annotated, Any

import regex
from pydantic import Field

from lens_emotion.errors import StimulusError
from lens_emotion.files.names import Name

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


Rating = Annotated[float, Field(ge=-1e6, le=1e6)]  # beyond, squares of what differs are lost


@dataclass(frozen=True)
class Norm:
    """Mean human rating of one emotion word, on scales from 1 to 9; None where the norms lack the word."""

    emotion: Name
    word: Name
    valence: Rating | None
    arousal: Rating | None


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


# Unicode scripts of text: which writing systems a text's characters belong to, and in what shares.


COMMON, OTHER, BYTES = "Common", "Other", "bytes"
_NAMES = {
    "Latin": ("Latin",),
    "Han": ("Han",),
    "Cyrillic": ("Cyrillic",),
    "Arabic": ("Arabic",),
    "Hangul": ("Hangul",),
    "Kana": ("Hiragana", "Katakana"),
    "Devanagari": ("Devanagari",),
    "Greek": ("Greek",),
    "Hebrew": ("Hebrew",),
    "Thai": ("Thai",),
}
# Common: digits, punctuation, symbols, emoji. BYTES: tokens that are no whole UTF-8 character.
SCRIPTS: tuple[str, ...] = (*_NAMES, OTHER, COMMON, BYTES)
_PATTERNS = {
    name: regex.compile("[" + "".join(rf"\p{{Script={s}}}" for s in scripts) + "]") for name, scripts in _NAMES.items()
}
_COMMON = regex.compile(r"\p{Script=Common}")
_UNCOUNTED = regex.compile(r"[\s\p{Script=Inherited}\p{C}]")


@cache
def script_of(character: str) -> str | None:
    """Script of one character; None for white space, control characters and marks that belong to another letter."""
    if _UNCOUNTED.match(character):
        return None
    if _COMMON.match(character):
        return COMMON
    return next((name for name, pattern in _PATTERNS.items() if pattern.match(character)), OTHER)


def count_scripts(text: str) -> Counter[str]:
    """Characters of each script; white space, control characters and combining marks are not counted."""
    found = Counter(map(script_of, text))
    return Counter({script: n for script, n in found.items() if script is not None})


def scripts_of(text: str) -> dict[str, float]:
    """Share of each script among the characters of a text, in the order of `SCRIPTS`; absent scripts left out.

    Shares sum to 1. Hiragana and Katakana are one class ("Kana"), every script without a class of its own is
    "Other", digits, punctuation, symbols and emoji are "Common". White space alone is Common; empty text gives {}.
    """
    found = count_scripts(text)
    total = found.total()
    if not total:
        return {COMMON: 1.0} if text else {}
    return {script: found[script] / total for script in SCRIPTS if script in found}


def main_script(text: str) -> str:
    """The script of most letters of a text; Common where it has no letter."""
    letters = count_scripts(text)
    letters.pop(COMMON, None)
    # of equals the first in SCRIPTS, so that the answer does not hang on the order of letters
    return max(letters, key=lambda s: (letters[s], -SCRIPTS.index(s))) if letters else COMMON


def names(given: Iterable[str]) -> tuple[str, ...]:
    """Names as they were given, each once; one string is one name, not its letters.

    Raises:
        StimulusError: what is no name.
    """
    found: list[Any] = [given]
    if not isinstance(given, str) and isinstance(given, Iterable) and getattr(given, "ndim", True):
        found = list(given)
    if wrong := [one for one in found if not isinstance(one, str)]:
        raise StimulusError(f"{wrong[0]!r:.60} is no name; give names, such as ['calm', 'angry']")
    return tuple(dict.fromkeys(found))
