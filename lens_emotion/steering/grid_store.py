"""Finished rows of a grid as lines of a journal: a batch is appended in one write; a damaged line is made again."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lens_emotion.journal import append, record_bytes, scan

FILE = "steering_grid.jsonl"


def read_rows(path: Path) -> dict[str, tuple[int, ...]]:
    """Key -> token ids of every whole row; lines that are torn or damaged are left out.

    Raises:
        ArtifactError: the file cannot be read.
    """
    found: dict[str, tuple[int, ...]] = {}
    for _, _, values in scan(path):
        with suppress(ValueError, KeyError, TypeError):
            found[str(values["key"])] = tuple(int(i) for i in values["new_ids"])
    return found


def append_rows(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Append whole rows in one write and bring them to the disk.

    Raises:
        ArtifactError: the file cannot be written.
    """
    append(path, [record_bytes(r["key"], {k: v for k, v in r.items() if k != "key"}) for r in records])
