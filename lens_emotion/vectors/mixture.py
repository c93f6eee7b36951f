"""Mixtures of emotions in words, and the random direction that a mixture is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import regex

from lens_emotion.errors import DoseError
from lens_emotion.user_files import name_of
from lens_emotion.vectors.emotion_vectors import EmotionVector, EmotionVectors

Terms = Sequence[tuple[float, str]]  # weight, emotion
# letters of any script with their marks; a name with spaces or hyphens in quotes
_NAME = r"""[\p{L}_][\p{L}\p{M}\p{N}_]*|'[^']+'|"[^"]+\""""
_TERM = regex.compile(rf"\s*([+-]?)\s*(?:([0-9]*\.?[0-9]+)\s*\*)?\s*({_NAME})\s*")


def parse_mixture(words: str) -> list[tuple[float, str]]:
    """ "calm", or a mixture: "0.5*calm - 0.3*angry" -> [(0.5, "calm"), (-0.3, "angry")].

    Names are of any script; one with spaces or hyphens stands in quotes: "0.5*'in love' - calm".

    Raises:
        DoseError: words that are no such expression.
    """
    terms: list[tuple[float, str]] = []
    at = 0
    while at < len(words):
        match = _TERM.match(words, at)
        if match is None or (terms and not match[1]):
            raise DoseError(f"cannot read {words!r} as an emotion or a mixture such as '0.5*calm - 0.3*angry'")
        terms.append((float(match[2] or 1) * (-1 if match[1] == "-" else 1), name_of(match[3].strip("'\""))))
        at = match.end()
    if not terms:
        raise DoseError("no emotion given; give one, or a mixture such as '0.5*calm - 0.3*angry'")
    return terms


def mixture(vectors: EmotionVectors, terms: Terms) -> EmotionVector:
    """The weighted sum of vectors, in natural units; a single emotion with weight 1 is itself.

    Raises:
        UnknownEmotionError: an emotion without a vector.
        DoseError: no emotion, or weights that are all 0: such a mixture has no direction.
    """
    made = None
    for weight, emotion in terms:
        size = weight if made is None else abs(weight)
        part = vectors[emotion] if size == 1 else size * vectors[emotion]
        made = part if made is None else made + part if weight >= 0 else made - part
    if made is None or not any(weight for weight, _ in terms):
        raise DoseError("no emotion with a weight other than 0; give one, or a mixture such as '0.5*calm - 0.3*angry'")
    return made


def random_like(vectors: EmotionVectors, vector: EmotionVector, seed: int = 0) -> EmotionVector:
    """A random direction of the sizes of `vector`, so that equal doses are equal lengths, in either unit."""
    drawn = vectors.random(seed)
    return replace(vector, name=drawn.name, direction=drawn.direction)
