"""One writer at a time in a run folder. The system frees the lock of a process that was killed."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from lens_emotion.errors import ArtifactError
from lens_emotion.files.artifacts import atomic_write, ensure_writable, unwritable

FILE, WRITER = ".lock", ".writer.json"


class RunLockedError(ArtifactError):
    """Another process writes into the run folder."""


@contextmanager
def writing(folder: str | Path) -> Iterator[Path]:
    """Hold the run folder for writing; again within the same thread is fine.

    Raises:
        RunLockedError: another process holds it; says which, where, since when, and what to do.
        ArtifactError: the folder cannot be made or written.
    """
    root = ensure_writable(folder)
    lock = FileLock(root.resolve() / FILE, is_singleton=True)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise _locked(root) from None
    except (OSError, NotImplementedError) as error:
        raise unwritable(root / FILE, error if isinstance(error, OSError) else OSError(str(error))) from None
    try:
        if lock.lock_counter == 1:
            atomic_write(root / WRITER, json.dumps(_me()) + "\n")
        yield root
    finally:
        if lock.lock_counter == 1:
            (root / WRITER).unlink(missing_ok=True)
        lock.release()


def _me() -> dict[str, object]:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200]
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since, "command": command}


def _locked(root: Path) -> RunLockedError:
    try:
        who = json.loads((root / WRITER).read_text(encoding="utf-8"))
        pid, host = int(who["pid"]), str(who["host"])
        by = f"process {pid} on {host} since {who['since']} ({who['command']})"
        end = f"end it (kill {pid}" + ("" if host == socket.gethostname() else f", on {host}") + ")"
    except (OSError, ValueError, KeyError, TypeError):
        by, end = "another process", "end it"
    return RunLockedError(f"{root} is being written by {by}; wait until it is done, {end}, or give another folder")
