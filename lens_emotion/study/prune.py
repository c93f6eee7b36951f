"""What a run folder holds beside its study: steps under other settings, damaged steps, batches nobody waits for."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lens_emotion.artifacts import unwritable
from lens_emotion.study.lock import writing
from lens_emotion.study.run_check import check_is_run
from lens_emotion.study.step_store import ASIDE, KEPT, PARTIAL, read_record, step_of

_WHY = {KEPT: "under other settings", ASIDE: "set aside as damaged", PARTIAL: "batches of a step that is stored by now"}


@dataclass(frozen=True)
class Spare:
    """A folder or file that the study does not need.

    Attributes:
        why: what it is, in words. n_bytes: that it takes.
    """

    path: Path
    why: str
    n_bytes: int


def spare_in(run: str | Path) -> tuple[Spare, ...]:
    """Everything in a run folder that its finished steps do not need, and an unfinished one cannot go on from.

    Raises:
        ArtifactError: no run folder.
    """
    root = check_is_run(run)
    found = []
    for part, why in _WHY.items():
        for path in sorted(root.glob(f"*/{part}/*")):
            if part != PARTIAL or _stored(path):
                found.append(Spare(path, why, _size(path)))
    return tuple(found)


def remove(run: str | Path, spare: Sequence[Spare]) -> None:
    """Remove what `spare_in` found.

    Raises:
        RunLockedError: somebody writes into the run. ArtifactError: it cannot be written.
    """
    with writing(run):
        for found in spare:
            try:
                shutil.rmtree(found.path) if found.path.is_dir() else found.path.unlink()
                if not any(found.path.parent.iterdir()):
                    found.path.parent.rmdir()
            except OSError as error:
                raise unwritable(found.path, error) from None


def _stored(journal: Path) -> bool:
    """Whether the journal's step is there under any settings; without one, a study may be about to go on."""
    model = journal.parent.parent
    return read_record(model / step_of(f"{PARTIAL}/{journal.name}")) is not None


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(f.stat().st_size for f in files if f.is_file())
