"""The smallest effect of interest of each claim, declared before any data: what "no" is decided against.

"Not supported" needs an interval that lies below it. It is a choice, not a fact: these are the values of this package,
and a study may set its own (`StudyConfig.smallest`, `[smallest]` in a study file), which are printed with the verdicts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lens_emotion.errors import AnalysisError


@dataclass(frozen=True)
class Smallest:
    """value: in the unit of the claim's effect; unit: in words; why: this much and no less."""

    value: float
    unit: str
    why: str


SMALLEST: dict[str, Smallest] = {
    "C1": Smallest(0.10, "held-out accuracy", "one text in ten more is what a change of method is worth"),
    "C4": Smallest(0.10, "held-out accuracy above chance", "what is left would tell one text in ten"),
    "C5": Smallest(0.80, "SDs of the judge's scores under random directions", "a large effect (Cohen 1988)"),
    "C7": Smallest(0.10, "share of texts with foreign words of the emotion", "one text in ten"),
    "C8": Smallest(0.15, "held-out accuracy", "three texts in twenty: a gain of one method over the gain of another"),
    "X1": Smallest(0.10, "held-out accuracy", "the state tells one text in ten that the words do not"),
}


def smallest_of(own: Mapping[str, float] | None = None) -> dict[str, float]:
    """Claim -> smallest effect of interest, with a user's own in place of the package's.

    Raises:
        AnalysisError: a claim that has none, or a value that is no positive number.
    """
    given = dict(own or {})
    if unknown := sorted(given.keys() - SMALLEST.keys()):
        raise AnalysisError(f"no smallest effect of {', '.join(unknown)}; known are {', '.join(SMALLEST)}")
    if wrong := [code for code, value in given.items() if not 0 < value < 1e6]:
        raise AnalysisError(f"the smallest effect of {wrong[0]} is {given[wrong[0]]}; give a positive number")
    return {code: given.get(code, known.value) for code, known in SMALLEST.items()}
