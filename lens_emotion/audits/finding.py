"""What an audit finds: findings in three grades, what was asked of what, and what could not be asked and why."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lens_emotion.display import Result
from lens_emotion.files.artifacts import atomic_write

if TYPE_CHECKING:
    from lens_emotion.audits.subject import Subject

CRITICAL, MAJOR, MINOR = SEVERITIES = ("critical", "major", "minor")
FOUND, PASSED, UNASKED = "found", "passed", "not asked"
FORMAT = 1
SHOWN = 3  # parts of a check that are told one by one where people read; all of them stand in the table


@dataclass(frozen=True)
class Fault:
    """Something that is wrong, as a check yields it.

    Attributes:
        severity: "critical": the number says nothing of what it is taken for; "major": it moves the number, or what is
            read off it; "minor": to be said beside it.
        what: what is wrong. where: of which set, layers, rows.
        moves: by how much the number moves. unit: of that, in words that can stand behind it.
    """

    severity: str
    what: str
    where: str
    moves: float
    unit: str


@dataclass(frozen=True)
class Seen:
    """Something that was asked and is in order: what, and the number that says so."""

    what: str


@dataclass(frozen=True)
class Unasked:
    """Why something could not be asked: what is missing, or why the fault would not have shown."""

    why: str


Reply = Fault | Seen | Unasked


def _first(parts: tuple[str, ...]) -> tuple[str, ...]:
    more = len(parts) - SHOWN
    return parts if more <= 1 else (*parts[:SHOWN], f"and {more} more")


@dataclass(frozen=True)
class Check:
    """A question to a result.

    Attributes:
        name: as in the documentation. fault: what it looks for, in words. mend: what to do where it is found.
        ask: the question; it replies once for every part that it was put to, and not at all where there is none.
        needs: what must be there for it to be asked at all.
    """

    name: str
    fault: str
    mend: str
    ask: Callable[[Subject], Iterable[Reply]]
    needs: str


@dataclass(frozen=True)
class Outcome:
    """What came of one check."""

    check: Check
    faults: tuple[Fault, ...]
    seen: tuple[str, ...]
    unasked: tuple[str, ...]

    @property
    def status(self) -> str:
        """ "found", "passed", or "not asked": a check that could not have found the fault has not passed."""
        return FOUND if self.faults else PASSED if self.seen else UNASKED

    @property
    def words(self) -> str:
        """What it rests on: the numbers of a pass, the reasons of what was not asked."""
        return f"could not be asked: {self._told}" if self.status == UNASKED else self._told

    @property
    def brief(self) -> str:
        """The same beside a status: with the first parts alone, and how many more there are."""
        return replace(self, seen=_first(self.seen), unasked=_first(tuple(dict.fromkeys(self.unasked))))._told

    @property
    def _told(self) -> str:
        why = "; ".join(dict.fromkeys(self.unasked)) or f"needs {self.check.needs}"
        if self.status == UNASKED:
            return why
        return "; ".join(self.seen) + (f" (not asked: {why})" if self.unasked else "")


@dataclass(frozen=True, eq=False, repr=False)
class Audit(Result):
    """What an audit found.

    Attributes:
        subject: what was audited, in words.
        outcomes: one for every check, in their order. unread: columns of its tables that were not understood.
    """

    subject: str
    outcomes: tuple[Outcome, ...]
    unread: tuple[str, ...] = ()

    @property
    def findings(self) -> pd.DataFrame:
        """One row per finding, the worst first: check, severity, what, where, moves, unit, mend."""
        rows = [
            {"check": o.check.name, **vars(f), "mend": o.check.mend}
            for o in self.outcomes
            for f in self._sorted(o.faults)
        ]
        columns = ["check", "severity", "what", "where", "moves", "unit", "mend"]
        frame = pd.DataFrame(rows, columns=columns)
        return frame.sort_values("severity", key=lambda s: s.map(SEVERITIES.index), kind="stable", ignore_index=True)

    @staticmethod
    def _sorted(faults: Iterable[Fault]) -> Iterator[Fault]:
        return iter(sorted(faults, key=lambda f: SEVERITIES.index(f.severity)))

    @property
    def table(self) -> pd.DataFrame:
        """One row per check: check, fault (what it looks for), status, severity (of its worst finding), findings,
        words (what a pass rests on, or why it could not be asked)."""
        return pd.DataFrame(
            [
                {
                    "check": o.check.name,
                    "fault": o.check.fault,
                    "status": o.status,
                    "severity": next((f.severity for f in self._sorted(o.faults)), ""),
                    "findings": len(o.faults),
                    "words": o.words,
                }
                for o in self.outcomes
            ]
        )

    @property
    def ok(self) -> bool:
        """Whether nothing critical was found: not a proof that nothing is wrong, see `table` for what was asked."""
        return not any(f.severity == CRITICAL for o in self.outcomes for f in o.faults)

    def summary(self) -> str:
        """How many findings of each grade, which is the worst and where, and how much could be asked."""
        found = self.findings
        by_grade = found["severity"].value_counts()
        asked = [o for o in self.outcomes if o.status != UNASKED]
        nothing = "nothing found" if asked else "nothing could be asked"
        counts = ", ".join(f"{by_grade[s]} {s}" for s in SEVERITIES if s in by_grade) or nothing
        worst = f"; the worst: {found['check'][0]} ({found['where'][0]})" if len(found) else ""
        return (
            f"{self.subject}: {counts}{worst}. {len(asked)} of {len(self.outcomes)} checks could be asked, "
            f"{sum(o.status == PASSED for o in asked)} of them passed.{self._passed_over()}"
        )

    def _passed_over(self) -> str:
        held = ", ".join(self.unread[:8]) + (f" and {len(self.unread) - 8} more" if len(self.unread) > 8 else "")
        return f" Not understood: {held}; say what columns are (columns=, --column)." if held else ""

    def to_json(self) -> str:
        """All of it as JSON: format, subject, ok, findings, checks."""
        findings = [
            {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in row.items()}
            for row in self.findings.to_dict("records")
        ]
        data: dict[str, Any] = {"format": FORMAT, "subject": self.subject, "ok": self.ok}
        data |= {"unread": list(self.unread), "findings": findings, "checks": self.table.to_dict("records")}
        return json.dumps(data, indent=1, ensure_ascii=False, default=float) + "\n"

    def save(self, path: str | Path) -> Path:
        """Write the JSON to a file, atomically."""
        return atomic_write(path, self.to_json())


def outcome_of(check: Check, subject: Subject) -> Outcome:
    """Put one check to a subject."""
    replies = list(check.ask(subject))
    return Outcome(
        check,
        tuple(r for r in replies if isinstance(r, Fault)),
        tuple(r.what for r in replies if isinstance(r, Seen)),
        tuple(r.why for r in replies if isinstance(r, Unasked)),
    )


def layer_words(layers: Iterable[int]) -> str:
    """Layers as people write them: "layer 3", "layers 2 to 5", "layers 1, 4 and 6"."""
    held = sorted(layers)
    if len(held) == 1:
        return f"layer {held[0]}"
    if held == list(range(held[0], held[-1] + 1)):
        return f"layers {held[0]} to {held[-1]}"
    shown = ", ".join(map(str, held[:6])) + (f" and {len(held) - 6} more" if len(held) > 6 else "")
    return f"layers {shown}"
