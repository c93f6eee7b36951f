"""Journal: finished batches of a long step, kept one by one, so that an interrupted step goes on where it stopped.

One file, appended to: each record is one line of JSON, {"key": ..., ..., "sha256": ...}, and where it holds tensors a
safetensors block of "n_bytes" bytes after it. A record that a crash cut short or a disk damaged fails its checksum and
is left out, it alone; what it held is computed again.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lens_emotion.errors import ArtifactError
from lens_emotion.files.artifacts import atomic_write, put, unwritable
from lens_emotion.files.read import check_regular

if TYPE_CHECKING:
    from torch import Tensor

LONGEST = 1e9  # seconds of a batch: thirty years
SYNC_EVERY = 1.0  # seconds; to wait for the disk at every batch would cost a tiny model more than the batch
B = TypeVar("B")
_START = b'{"key"'
_SEAL = len(b', "sha256": ""}') + 64  # the checksum ends the line, and covers all before it and the block after it


@dataclass(frozen=True, eq=False)
class Record:
    """One finished piece: plain values, and tensors where there are any."""

    values: Mapping[str, Any]
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """A worker's share of a step: every `of`-th batch that the journal lacks, from `index` on; 0 of 0 is none."""

    index: int = 0
    of: int = 0


class PartDone(Exception):  # noqa: N818 - not an error
    """Ends a step whose journal still lacked batches, once this worker's part of them is done.

    Attributes:
        missing: batches that the journal lacked when the part began, those of other workers included.
    """

    def __init__(self, missing: int) -> None:
        super().__init__(f"{missing} batches were missing")
        self.missing = missing


@dataclass(eq=False)
class Journal:
    """An open journal.

    Attributes:
        path: its file, made with the first record.
        places: key -> where its record lies in the file; the records themselves stay on the disk.
        part: the share of the batches that this worker does; None for all.
        spent: seconds spent on the records of earlier sessions.
        began, last, synced: when this session began, its last record came, the file was last brought to the disk.
        told: it was said that records do not fit.
    """

    path: Path
    places: dict[str, tuple[int, int]]
    part: Part | None = None
    spent: float = 0.0
    began: float = field(default_factory=time.monotonic)
    last: float = field(default_factory=time.monotonic)
    synced: float = field(default_factory=time.monotonic)
    told: bool = False

    @staticmethod
    def open(path: str | Path, part: Part | None = None) -> Journal:
        """Open or begin a journal; damaged records are left out.

        Raises:
            ArtifactError: the file cannot be read.
        """
        places, spent = {}, 0.0
        for start, end, values in scan(Path(path)):
            places[values["key"]] = (start, end)
            spent += values.get("seconds", 0.0)
        return Journal(Path(path), places, part, spent)

    def __contains__(self, key: str) -> bool:
        return key in self.places

    @property
    def seconds(self) -> float:
        """Seconds spent on the step so far, interrupted sessions included up to their last record."""
        return self.spent + time.monotonic() - self.began

    def recall(self, key: str) -> Record | None:
        """The record of a key, read from the disk; None if there is none or it has been damaged meanwhile."""
        if key not in self.places:
            return None
        from safetensors import SafetensorError
        from safetensors.torch import load

        start, end = self.places[key]
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                raw = file.read(end - start)
            head, _, block = raw.partition(b"\n")
            whole = _whole(head, block[:-1] if block else b"")
            return Record(json.loads(head), load(block[:-1]) if block else {}) if whole else None
        except (OSError, SafetensorError):
            return None

    def say_unfit(self) -> None:
        """Say, once, that a record is whole and yet not of the form that its step writes."""
        if not self.told:
            self.told = True
            warnings.warn(
                f"{self.path} holds batches of another form than this step's; they are made again", stacklevel=2
            )

    def add(self, key: str, record: Record) -> None:
        """Append a record in one write, which outlives the process; a power cut may cost the last second's records.

        Raises:
            ArtifactError: the file cannot be written.
        """
        now = time.monotonic()
        values = {**record.values, "seconds": round(now - self.last, 3)}
        self.last = now
        sync = now - self.synced >= SYNC_EVERY
        if sync:
            self.synced = now
        start = append(self.path, [record_bytes(key, values, record.tensors)], sync)
        self.places[key] = (start, self.path.stat().st_size)


def remembered_batches(
    journal: Journal | None,
    batches: Sequence[B],
    key: Callable[[B], str],
    run: Callable[[B], Record],
    fits: Callable[[B, Record], bool],
) -> Iterator[tuple[B, Record]]:
    """Every batch with its record, from the journal or made now.

    Args:
        key: of all that a batch's result depends on.
        run: makes a batch.
        fits: whether a record holds what `run` gives: a whole one may still be of another program, or of another batch.
            One that does not is made again.

    Raises:
        PartDone: the journal is a worker's, and lacked batches; this worker's are there now.
    """
    if journal is not None and journal.part is not None:
        missing = [batch for batch in batches if key(batch) not in journal]
        part = journal.part
        for batch in missing[part.index :: part.of] if part.of else ():
            _remembered(journal, key(batch), partial(run, batch), partial(fits, batch))
        if missing:
            raise PartDone(len(missing))
    for batch in batches:
        if journal is None:
            yield batch, run(batch)
        else:
            yield batch, _remembered(journal, key(batch), partial(run, batch), partial(fits, batch))


def _remembered(journal: Journal, key: str, run: Callable[[], Record], fits: Callable[[Record], bool]) -> Record:
    """What the journal holds under the key, else what `run` gives, which is added."""
    found = journal.recall(key)
    if found is not None and fits(found):
        return found
    if found is not None:
        journal.say_unfit()
    made = run()
    journal.add(key, made)
    return made


# Forms, for `fits`.


def is_count(value: object, below: float = math.inf) -> bool:
    """Whether a plain value is a whole number from 0 to `below`, exclusive."""
    return type(value) is int and 0 <= value < below


def are_ids(rows: object, n: int, longest: int, below: int) -> bool:
    """Whether plain values are `n` lists of at most `longest` token ids below `below`."""
    if not isinstance(rows, list) or len(rows) != n:
        return False
    return all(isinstance(row, list) and len(row) <= longest and all(is_count(i, below) for i in row) for row in rows)


def are_tensors(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether tensors are these by name and shape."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()} == dict(shapes)


def batch_key(*parts: object) -> str:
    """Key of a batch: a hash of all that its result depends on, its rows and their order included."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def record_bytes(key: str, values: Mapping[str, Any], tensors: Mapping[str, Tensor] | None = None) -> bytes:
    """A record as bytes, its checksum included."""
    from safetensors.torch import save

    block = save({n: t.detach().cpu().contiguous() for n, t in tensors.items()}) if tensors else b""
    size = {"n_bytes": len(block)} if block else {}
    head = json.dumps({"key": key, **values, **size}, ensure_ascii=False).encode()[:-1]
    digest = hashlib.sha256(head + block).hexdigest()
    return head + f', "sha256": "{digest}"}}\n'.encode() + (block + b"\n" if block else b"")


def append(path: Path, records: Sequence[bytes], sync: bool = True) -> int:
    """Append records in one write; returns where they begin.

    Raises:
        ArtifactError: the file cannot be written.
    """
    data = b"".join(records)
    if not path.exists():
        atomic_write(path, data)
        return 0
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            torn = bool(size) and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n"
        with path.open("ab", buffering=0) as file:
            put(file.fileno(), b"\n" * torn + data, sync)  # a torn line must not swallow the next one
    except OSError as error:
        raise unwritable(path, error) from None
    return size + torn


def scan(path: Path) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Start, end and plain values of every whole record, one in memory at a time; what is damaged is passed over.

    Raises:
        ArtifactError: the file cannot be read.
    """
    try:
        if not os.path.lexists(path) or (check_regular(path, remedy="move it away") and path.stat().st_size == 0):
            return
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            at = 0 if data[: len(_START)] == _START else _next(data, 0)
            while at >= 0:
                end, values = _record_at(data, at)
                if values is not None:
                    yield at, end, values
                at = end if values is not None and data[end : end + len(_START)] == _START else _next(data, end - 1)
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}; give another folder") from None


def _next(data: mmap.mmap, after: int) -> int:
    found = data.find(b"\n" + _START, max(after, 0))
    return found + 1 if found >= 0 else -1


def _record_at(data: mmap.mmap, start: int) -> tuple[int, dict[str, Any] | None]:
    """End and values of the record at `start`; a damaged one has no values and ends where the search goes on."""
    line = data.find(b"\n", start)
    head = data[start : line if line >= 0 else len(data)]
    try:
        values = json.loads(head)  # not strict: the dose of a row of a grid may be NaN
    except (ValueError, RecursionError):
        return start + 1, None
    if not _is_head(values):
        return start + 1, None
    n_bytes = values.get("n_bytes", 0)
    block = data[line + 1 : line + 1 + n_bytes] if n_bytes else b""
    if line < 0 or len(block) != n_bytes or not _whole(head, block):
        return start + 1, None
    return line + 1 + (n_bytes + 1 if n_bytes else 0), values


def _is_head(values: object) -> bool:
    """Whether a line is the head of a record: a key, and counts where there are any."""
    if not isinstance(values, dict) or not isinstance(values.get("key"), str):
        return False
    seconds = values.get("seconds", 0.0)
    return is_count(values.get("n_bytes", 0)) and type(seconds) in (int, float) and 0 <= seconds < LONGEST


def _whole(head: bytes, block: bytes) -> bool:
    digest = hashlib.sha256(head[:-_SEAL])
    digest.update(block)
    return head[-66:-2] == digest.hexdigest().encode() and head[-_SEAL:-66] == b', "sha256": "'
