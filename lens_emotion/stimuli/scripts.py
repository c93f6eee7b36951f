"""Unicode scripts of text: which writing systems a text's characters belong to, and in what shares."""

from __future__ import annotations

from collections import Counter
from functools import cache

import regex

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
