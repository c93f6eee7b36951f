"""Many parts of one table in a few lines: the worst of each kind, and which others there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from lens_emotion.audits.finding import Fault, Reply, Seen

NAMED = 3  # parts that are named beside the worst one


@dataclass(frozen=True)
class Part:
    """What a check replies to one part.

    Attributes:
        bad: the larger, the worse, among parts of one kind. kind: of fault, where a check knows several of one grade.
    """

    name: str
    bad: float
    reply: Reply
    kind: str = ""


def worst(parts: Iterable[Part]) -> Iterator[Reply]:
    """One reply of each kind (grade and kind of a fault; in order; not asked): the worst, and who else."""
    kinds: dict[object, list[Part]] = {}
    for part in parts:
        reply = part.reply
        kind = (reply.severity, part.kind) if isinstance(reply, Fault) else type(reply)
        kinds.setdefault(kind, []).append(part)
    for held in kinds.values():
        held.sort(key=lambda part: -part.bad)
        yield _with(held[0].reply, [part.name for part in held[1:]])


def _with(reply: Reply, others: list[str]) -> Reply:
    if not others:
        return reply
    shown = ", ".join(others[:NAMED]) + (f" and {len(others) - NAMED} more" if len(others) > NAMED else "")
    if isinstance(reply, Fault):
        return replace(reply, where=f"{reply.where} (the worst of {len(others) + 1}; also {shown})")
    if isinstance(reply, Seen):
        return Seen(f"{reply.what} (the worst of {len(others) + 1}; also {shown})")
    return replace(reply, why=f"{reply.why} (and {shown})")
