"""One writer at a time in a run folder. The system frees the lock of a process that was killed."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from lens_emotion.errors import ArtifactError
from lens_emotion.files.artifacts import atomic_write, ensure_writable, unwritable
from lens_emotion.files.read import read_json, whole_path
from lens_emotion.files.user import record

FILE, WRITER = ".lock", ".writer.json"


class RunLockedError(ArtifactError):
    """Another process writes into the run folder."""


@dataclass(frozen=True)
class Writer:
    """Who writes into a run folder, and since when."""

    pid: int
    host: str
    since: str
    command: str


@contextmanager
def writing(folder: str | Path) -> Iterator[Path]:
    """Hold the run folder for writing; again within the same thread is fine.

    Raises:
        RunLockedError: another process holds it; says which, where, since when, and what to do.
        ArtifactError: the folder cannot be made or written.
    """
    root = ensure_writable(folder)
    if os.path.lexists(root / FILE) and (not (root / FILE).is_file() or (root / FILE).is_symlink()):
        raise ArtifactError(f"{root / FILE} is no file that a study made; remove it, or give another folder")
    lock = FileLock(whole_path(root) / FILE, is_singleton=True)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise _locked(root) from None
    except (OSError, NotImplementedError) as error:
        raise unwritable(root / FILE, error if isinstance(error, OSError) else OSError(str(error))) from None
    try:
        if lock.lock_counter == 1:
            atomic_write(root / WRITER, json.dumps(asdict(_me())) + "\n")
        yield root
    finally:
        if lock.lock_counter == 1:
            (root / WRITER).unlink(missing_ok=True)
        lock.release()


def _me() -> Writer:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    said = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    command = "".join(c if c.isprintable() else " " for c in said)[:200]
    return Writer(os.getpid(), socket.gethostname(), since, command)


def _locked(root: Path) -> RunLockedError:
    by, end = "another process", "end it"
    try:
        who = record(Writer, read_json(root / WRITER, most=2**16), WRITER)
        if who.pid > 1 and all(x.isprintable() and len(x) <= 200 for x in (who.host, who.since, who.command)):
            # 0 and below are whole groups of processes
            by = f"process {who.pid} on {who.host} since {who.since} ({who.command})"
            end = f"end it (kill {who.pid}" + ("" if who.host == socket.gethostname() else f", on {who.host}") + ")"
    except ArtifactError:
        pass  # being written, or damaged
    return RunLockedError(f"{root} is being written by {by}; wait until it is done, {end}, or give another folder")
