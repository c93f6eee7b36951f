"""A law, what came of it, and what it means when it does not hold."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from lens_emotion.laws.subject import Subject


@dataclass(frozen=True)
class LawResult:
    """One law on one model.

    Attributes:
        deviation: measured; nan if the law could not be tried.
        tolerance: largest deviation at which it holds; 0 where equality is to the bit.
        unit: what the deviation counts.
        meaning: what a failure would mean, and what to do.
        note: what happened, where that is more than a number.
        skipped: why the law does not apply here; empty if it was tried.
    """

    law: str
    deviation: float
    tolerance: float
    unit: str = "relative"
    meaning: str = ""
    note: str = ""
    skipped: str = ""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """True if it holds or does not apply; nan never holds."""
        return bool(self.skipped) or self.deviation <= self.tolerance


Measure = Callable[[Subject], LawResult]


@dataclass(frozen=True)
class Law:
    """A law's name, how it is measured, and what a failure means."""

    name: str
    measure: Measure
    meaning: str


def found(deviation: float, tolerance: float, unit: str = "relative", note: str = "") -> LawResult:
    """What a measure returns; `apply_law` adds the law's name and meaning."""
    return LawResult("", deviation, tolerance, unit, note=note)


def not_here(why: str) -> LawResult:
    """The law does not apply to this model or this installation."""
    return LawResult("", float("nan"), 0.0, skipped=why)


def apply_law(law: Law, subject: Subject) -> LawResult:
    """Try one law; one that cannot be tried has failed, and the others are still tried."""
    started = time.perf_counter()
    try:
        result = law.measure(subject)
    except Exception as error:  # anything the model raises is the finding
        lines = str(error).strip().splitlines() or [""]
        result = found(float("nan"), 0.0, note=f"{type(error).__name__}: {lines[0]}"[:300])
    return replace(result, law=law.name, meaning=law.meaning, seconds=time.perf_counter() - started)
