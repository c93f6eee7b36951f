"""What tables of other projects say in words: regimes, verdicts, control arms, and emotions by their word families."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import regex
from jaxtyping import Bool

from lens_emotion.stimuli.lexicon import UNSPACED

ARMS = ("condition", "method")  # columns that may say which arm a row is of
FAILED = "failed"  # a regime that is none of the three, and no good one
# a word that says what is wrong goes before one that says what is fine; each is the beginning of a word, or all of it
_KINDS = {
    "explosive": r"explo\w*|incoheren\w*|broken|garbage|garbled|degenera\w*|gibberish",
    "repetitive": r"repet\w*|repeat\w*|loop\w*|collaps\w*",
    FAILED: r"unsuccess\w*|invalid|ineffective\w*|abnormal\w*|fail\w*|bad|poor",
    "surgical": r"surgical\w*|ok|okay|coheren\w*|fine|success\w*|clean|normal|valid|good|effective\w*|inert|pass\w*",
}
_NOT = r"(?:(?:not|no|non|never|without|isn t|is not)\s+(?:very\s+|a\s+|any\s+)?)"
_KIND = {kind: regex.compile(rf"\b(?P<no>{_NOT})?(?:{words})\b") for kind, words in _KINDS.items()}
_UNSTEERED = regex.compile(
    r"\b(?:unsteered|unmodified|baseline|vanilla|none|(?:no|not|without) (?:steer\w*|intervention|vector))\b"
)
NAMES_OF_CONTROLS = ("condition", "method", "emotion", "model")  # columns in which a row can be called a control
# what a row is called that nothing is claimed of, in whole words; "control vector" is a name of steering vectors, and a
# random forest is a classifier
_CONTROL = regex.compile(
    r"\b(?:random(?:i[sz]ed)?(?! (?:forests?|seeds?|splits?))|shuffled|placebo|sham|un ?steered"
    r"|(?:no|without) (?:steering|vectors?|intervention)|controls?(?! vectors?\b))\b"
)
# words that mean something else as an emotion or in a model's name
_BARE = regex.compile(
    r"^(?:none|null|others?)$|\bbaseline\b"
    r"|\b(?:null|another|other) (?:emotions?|vectors?|directions?|concepts?|conditions?|texts?)\b"
)
_RIGHT = regex.compile(r"true|yes|y|t|1(?:\.0)?|pass|passed|passes|success|successful|ok|hit|correct")
_WRONG = regex.compile(r"false|no|n|f|0(?:\.0)?|fail|failed|fails|failure|unsuccessful|miss|wrong|incorrect")
MISSING = {"", "nan", "none", "null", "na", "n/a", "<na>"}
_REFUSAL = regex.compile(
    r"^\W*(?:i m sorry|i am sorry|sorry|i can ?not|i can t|i won t|i m unable|i am unable|as an ai)\b"
)
# endings of one word family, the longest first; "less" is another emotion
_ENDING = regex.compile(
    r"(?:fulness|iousness|ousness|liness|iness|edness|ingly|ously|fully|ness|iety|ious|ousy|ment|ation|ating|ated|ate"
    r"|tion|ance|ence|ably|able|ible|edly|ened|rily|ily|ied|ies|ing|dom|ful|ous|ity|ly|ed|er|ry|al|es|en|y|e|s)$"
)
LEAST_STEM = 3  # letters; so short a stem keeps its "e", as "hate" is no "hat"
_OF_E = ("e", "ed", "es", "ing")
_IRREGULAR = {
    "grieving": "grief", "grieve": "grief", "grieved": "grief", "grieves": "grief", "pride": "proud", "fury": "furious",
    "terror": "terrified", "horror": "horrified", "delight": "delighted", "scorn": "scornful", "loathing": "loathe",
    "hatred": "hate", "relieved": "relief", "relieve": "relief", "ashamed": "shame",
}  # fmt: skip


def plain_words(said: object) -> str:
    """In lower case, one blank between words: "Random_Direction-2" is "random direction 2"."""
    apart = regex.sub(r"(?<=\p{Ll})(?=\p{Lu})", " ", str(said))
    return " ".join(regex.findall(r"\p{L}+|\p{N}+", apart.casefold()))


def regime_kind(said: object) -> str:
    """A table's own word for a regime as one of the three, or `FAILED`; empty if it is none.

    Whole words count, so that "invalid" is not "valid"; a negation turns them round.
    """
    words, hits = plain_words(said), {}
    for kind, pattern in _KIND.items():
        hits[kind] = [bool(m.group("no")) for m in pattern.finditer(words)]
    for kind in ("explosive", "repetitive", FAILED):
        if False in hits[kind]:
            return kind
    if True in hits["surgical"]:
        return "explosive" if "coheren" in words else FAILED
    fine = hits["surgical"] or any(hits.values())  # "no loops" is fine too
    return "surgical" if fine else ""


def verdict(said: object) -> bool | None:
    """Yes or no in words and numbers; None for a score, or for no answer."""
    words = str(said).strip().casefold()
    return True if _RIGHT.fullmatch(words) else False if _WRONG.fullmatch(words) else None


def is_score(said: object) -> bool:
    """Whether this is a number that is neither yes nor no."""
    try:
        return math.isfinite(float(str(said).strip().rstrip("%"))) and verdict(said) is None
    except ValueError:
        return False


def unsteered(frame: pd.DataFrame) -> Bool[np.ndarray, " rows"]:
    """Rows of no steering, by their dose or by what an arm is called."""
    none = frame["dose"].eq(0).to_numpy() if "dose" in frame else np.zeros(len(frame), dtype=bool)
    return none | _called(frame, _UNSTEERED)


def is_control(rows: pd.DataFrame) -> Bool[np.ndarray, " rows"]:
    """Rows of an arm that nothing is claimed of, such as random directions, in whichever column says so."""
    return _called(rows, _CONTROL, NAMES_OF_CONTROLS) | _called(rows, _BARE, ARMS)


def _called(frame: pd.DataFrame, names: regex.Pattern[str], columns: Sequence[str] = ARMS) -> Bool[np.ndarray, " rows"]:
    found = np.zeros(len(frame), dtype=bool)
    for column in (c for c in columns if c in frame):
        hit = {x: names.search(plain_words(x)) is not None for x in frame[column].dropna().unique()}
        found |= frame[column].map(lambda x, hit=hit: hit.get(x, False)).to_numpy(bool)
    return found


def is_missing(text: object) -> bool:
    """Whether there is no text: a missing cell, or a word for one."""
    return str(text).strip().casefold() in MISSING


def is_refusal(text: str) -> bool:
    """Whether a model's answer begins by declining."""
    return _REFUSAL.match(plain_words(text)) is not None


def nameable(emotion: object) -> bool:
    """Whether a label is a word that a text could hold: numbers are none."""
    return regex.search(r"\p{L}", str(emotion)) is not None


def names_emotion(text: str, emotion: str) -> bool:
    """Whether a text holds a word of the emotion's family ("angry" of "anger"), however its words are joined."""
    if UNSPACED.search(emotion):
        return emotion.casefold() in text.casefold()
    label, held = _stems(emotion), _stems(text)
    return any(held[i : i + len(label)] == label for i in range(len(held) - len(label) + 1))


def _stems(text: str) -> list[str]:
    return [_stem(w) for w in plain_words(text).split()]


def _stem(word: str) -> str:
    """The word without its endings, one after the other, as long as enough of it is left."""
    word = _IRREGULAR.get(word, word)
    while (cut := _ENDING.search(word)) and cut.start() >= LEAST_STEM:
        word = word[: cut.start()]
        if len(word) == LEAST_STEM and cut.group() in _OF_E:
            return f"{word}e"
    return word if len(word) <= LEAST_STEM or word[-1] != word[-2] else word[:-1]


def listed(names: Iterable[object], most: int = 3) -> str:
    """Names as people write them, the first alone where there are many."""
    held = list(dict.fromkeys(f"{x:g}" if isinstance(x, float) else str(x) for x in names))
    more = len(held) - most
    return ", ".join(held) if more <= 1 else f"{', '.join(held[:most])} and {more} more"


def spread(values: Sequence[float], digits: str = ".2f") -> str:
    """One number, or the range of several that differ."""
    low, high = format(min(values), digits), format(max(values), digits)
    return low if low == high else f"{low} to {high}"
