"""Stored steps of one model: a folder each, put in place in one rename, addressed by the key of what went into it.

MODEL/STEP/...                 the step's files, with step.json (key, inputs, seconds) and SHA256SUMS
MODEL/.kept/STEP-KEY/          the same step under other inputs; taken back when these are asked for again
MODEL/.set_aside/STEP-KEY-N/   a step that was damaged, as it was found
MODEL/.partial/STEP-KEY.journal  finished batches of a step that is not done
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lens_emotion.artifacts import atomic_write, unwritable
from lens_emotion.checksums import FILE as SUMS
from lens_emotion.checksums import Damage, damages, read_sums, write_sums
from lens_emotion.errors import ArtifactError
from lens_emotion.journal import Journal, Part
from lens_emotion.study.files import Files, write_files
from lens_emotion.study.keys import Inputs, key_of

RECORD, KEPT, ASIDE, PARTIAL = "step.json", ".kept", ".set_aside", ".partial"
SCHEMA = 1


@dataclass(frozen=True)
class StepRecord:
    """What a stored step says of itself.

    Attributes:
        key: of its inputs. inputs: see `keys.step_inputs`.
        seconds: what it took, interrupted sessions included.
        created: when it was complete, ISO 8601.
    """

    name: str
    key: str
    inputs: Inputs
    seconds: float
    created: str


def read_record(folder: Path) -> StepRecord | None:
    """The record of a step's folder, None if there is no readable one."""
    try:
        data = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if data.pop("schema") != SCHEMA:
            return None
        return StepRecord(**data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def step_damages(folder: Path) -> list[Damage]:
    """What is wrong with a step's folder: every file must be there, be what was written, and have a checksum."""
    noted, _ = read_sums(folder)
    found = damages(folder)
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} - {SUMS}
    found += [Damage(folder / name, "it has no checksum") for name in sorted(files - set(noted))]
    if RECORD not in noted and RECORD not in files:
        found.append(Damage(folder / RECORD, "it is missing"))
    return found


def find(root: Path, name: str, key: str) -> Path | None:
    """The folder of a step under this key, in its place or among those kept; not yet checked."""
    for folder in (root / name, root / KEPT / f"{name}-{key}"):
        record = read_record(folder)
        if record is not None and record.key == key:
            return folder
    return None


def keep(root: Path, name: str, inputs: Inputs, save: Callable[[Path], Any], seconds: float) -> Path:
    """Write a step and put it in its place.

    Raises:
        ArtifactError: it cannot be written; what was stored before is untouched.
    """
    key, under_way = key_of(inputs), root / f".{name}.tmp"
    try:
        shutil.rmtree(under_way, ignore_errors=True)
        save(under_way)
        created = datetime.now(UTC).isoformat(timespec="seconds")
        record = {"schema": SCHEMA, "name": name, "key": key, "inputs": inputs}
        record |= {"seconds": round(seconds, 3), "created": created}
        atomic_write(under_way / RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        write_sums(under_way, [str(p.relative_to(under_way)) for p in under_way.rglob("*") if p.is_file()])
        _lay_down(root, under_way, f"{name}-{key}")
    except OSError as error:
        raise unwritable(root / name, error) from None
    finally:
        shutil.rmtree(under_way, ignore_errors=True)
    return put_in_place(root, name, key)


def take_in(root: Path, name: str, files: Files) -> Path:
    """Put a step that another machine wrote in its place.

    Raises:
        ArtifactError: it did not arrive whole, or cannot be written; what was stored before is untouched.
    """
    under_way = root / f".{name}.tmp"
    try:
        shutil.rmtree(under_way, ignore_errors=True)
        write_files(under_way, files)
        record = read_record(under_way)
        if record is None or (wrong := step_damages(under_way)):
            raise ArtifactError(f"the step {name} did not arrive whole: {wrong[0] if record else 'it has no record'}")
        if (there := read_record(root / name)) is None or there.key != record.key:
            _lay_down(root, under_way, f"{name}-{record.key}")
    except OSError as error:
        raise unwritable(root / name, error) from None
    finally:
        shutil.rmtree(under_way, ignore_errors=True)
    drop_journal(root, name, record.key)
    return put_in_place(root, name, record.key)


def step_of(name: str) -> str:
    """The step that a file of a model's folder belongs to, by the file's name from there; "" for none."""
    first, _, rest = name.partition("/")
    if first in (KEPT, PARTIAL):
        return rest.split("/")[0].rsplit("-", 1)[0]
    return first if rest else ""


def _lay_down(root: Path, under_way: Path, kept: str) -> None:
    (root / KEPT).mkdir(exist_ok=True)
    shutil.rmtree(root / KEPT / kept, ignore_errors=True)
    under_way.rename(root / KEPT / kept)  # from here on the step is stored, whatever comes
    _sync(root / KEPT)


def put_in_place(root: Path, name: str, key: str) -> Path:
    """Bring a kept step to its place; the one that was there is kept under its own key."""
    place, kept = root / name, root / KEPT / f"{name}-{key}"
    record = read_record(place)
    if record is not None and record.key == key:
        return place
    try:
        if place.exists():
            if record is None:
                set_aside(root, place)
            else:
                place.rename(_free(root / KEPT / f"{name}-{record.key}"))
        kept.rename(place)
        _sync(root)
        _remove_if_empty(root / KEPT)
    except OSError as error:
        raise unwritable(place, error) from None
    return place


def set_aside(root: Path, folder: Path) -> Path:
    """Move a damaged step out of the way, as it is; returns where it lies."""
    record = read_record(folder)
    name = folder.name if folder.parent == root else folder.name.rsplit("-", 1)[0]
    try:
        (root / ASIDE).mkdir(parents=True, exist_ok=True)
        return folder.rename(_free(root / ASIDE / f"{name}-{record.key if record else 'unknown'}"))
    except OSError as error:
        raise unwritable(folder, error) from None


def open_journal(root: Path, name: str, key: str, part: Part | None = None) -> Journal:
    """The finished batches of a step that is not done."""
    return Journal.open(root / PARTIAL / f"{name}-{key}.journal", part)


def drop_journal(root: Path, name: str, key: str) -> None:
    """Remove the batches of a step that is complete; those under other inputs may still be asked for."""
    (root / PARTIAL / f"{name}-{key}.journal").unlink(missing_ok=True)
    _remove_if_empty(root / PARTIAL)


def _free(path: Path) -> Path:
    """The path, or with the first number that nothing bears yet."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _sync(folder: Path) -> None:
    """Bring a rename to the disk, where the system lets folders be opened."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
