"""Run folders: which there are, how far they have got, and where two of them differ."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lens_emotion.display import Result, panel
from lens_emotion.errors import ArtifactError
from lens_emotion.files.artifacts import unwritable
from lens_emotion.files.checksums import FILE as SUMS
from lens_emotion.files.checksums import Damage, damages, read_sums
from lens_emotion.run.config import StudyConfig
from lens_emotion.run.keys import steps_of
from lens_emotion.run.lock import writing
from lens_emotion.run.store import ASIDE, KEPT, PARTIAL, RECORD, read_record, step_damages, step_of


@dataclass(frozen=True)
class RunSummary:
    """One run folder at a glance.

    Attributes:
        created: date and time of its last session, ISO 8601, "" if its manifest cannot be read.
        done: True if the study got to its end.
        steps_done, steps_total: stored steps of its models, and those its settings ask for.
        n_bytes: all its files. seconds: what its stored steps took, interrupted sessions included.
    """

    path: Path
    created: str
    models: tuple[str, ...]
    done: bool
    steps_done: int
    steps_total: int
    n_bytes: int
    seconds: float


@dataclass(frozen=True, eq=False, repr=False)
class RunComparison(Result):
    """Where two runs differ.

    Attributes:
        settings: what, a, b: settings, versions and model fingerprints that differ.
        tables: one row per table: model, table, cells, differing, largest (difference of numbers), at, note.
        damaged: files that are not what was written; their tables are not compared.
    """

    settings: pd.DataFrame
    tables: pd.DataFrame
    damaged: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether every table of one run is in the other, cell by cell the same."""
        return not self.damaged and not len(self.tables[(self.tables.differing > 0) | (self.tables.note != "")])

    def summary(self) -> str:
        """How many tables are equal, and the largest difference."""
        same = int(((self.tables.differing == 0) & (self.tables.note == "")).sum())
        words = f"{same} of {len(self.tables)} tables are equal; {len(self.settings)} settings or versions differ"
        worst = self.tables[self.tables.largest.notna() & (self.tables.largest > 0)].nlargest(1, "largest")
        if not len(worst):
            return words
        row = worst.iloc[0]
        where = f"{row.table} of {row.model or 'the run'} ({row['at']})"
        return f"{words}; largest difference {row.largest:.3g}, in {where}"

    def _repr_html_(self) -> str:
        return panel(self.summary(), self.tables, what="tables")


def list_runs(folder: str | Path) -> tuple[RunSummary, ...]:
    """The runs in a folder (itself, or the folders in it), latest first.

    Raises:
        ArtifactError: no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ArtifactError(f"no folder {root}; give one that holds run folders, such as `runs`")
    found = [p for p in (root, *sorted(root.iterdir())) if p.is_dir() and (p / MANIFEST).is_file()]
    return tuple(sorted((summarise(p) for p in found), key=lambda r: r.created, reverse=True))


def _steps(config: dict[str, Any]) -> int:
    """How many steps a model's settings ask for; runs of before had the paper's preset always."""
    generation, jeong, steering = (bool(config.get(k, k == "jeong")) for k in ("generation", "jeong", "steering"))
    return len(steps_of(StudyConfig(generation=generation, jeong=jeong, steering=steering)))


def summarise(path: Path) -> RunSummary:
    """One run at a glance."""
    facts = read_manifest(path)
    config = facts.get("config", {})
    models = tuple(str(m) for m in config.get("models", ()))
    steps = sum(_steps(config | config.get("overrides", {}).get(model, {})) for model in models)
    records = [r for f in step_folders(path) if KEPT not in f.parts and (r := read_record(f)) is not None]
    return RunSummary(
        path=path,
        created=str(facts.get("created", "")),
        models=models,
        done=bool(facts.get("done", "models" in facts)),
        steps_done=min(len(records), steps),
        steps_total=steps,
        n_bytes=sum(p.stat().st_size for p in path.rglob("*") if p.is_file()),
        seconds=sum(r.seconds for r in records),
    )


def read_manifest(path: Path) -> dict[str, Any]:
    """A run's manifest, empty if it cannot be read."""
    try:
        found = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        return dict(found) if isinstance(found.get("config"), dict) else {}
    except (OSError, ValueError, AttributeError):
        return {}


def compare_runs(a: str | Path, b: str | Path) -> RunComparison:
    """Settings, versions and tables of two runs, cell by cell.

    Raises:
        ArtifactError: one of them is no run folder.
    """
    first, second = check_is_run(a), check_is_run(b)
    one, two = dict(_facts(first)), dict(_facts(second))
    names = [n for n in {**one, **two} if one.get(n) != two.get(n)]
    settings = [{"what": n, "a": one.get(n, "-"), "b": two.get(n, "-")} for n in names]
    bad = {d.path for run in (first, second) for d in damages(run)}
    left, right = _tables(first), _tables(second)
    rows = []
    for name in sorted({**left, **right}):
        place = {"model": name[0], "table": name[1]}
        if bad & {left.get(name), right.get(name)}:
            rows.append({**place, **_row(note="damaged")})
        elif name not in left or name not in right:
            rows.append({**place, **_row(note=f"only in {'A' if name in left else 'B'}")})
        else:
            rows.append({**place, **compare_tables(_read(left[name]), _read(right[name]))})
    columns = ["model", "table", *_row()]
    frame = pd.DataFrame(rows, columns=columns)
    return RunComparison(
        pd.DataFrame(settings, columns=["what", "a", "b"]), frame, tuple(sorted(str(path) for path in bad))
    )


def compare_tables(a: pd.DataFrame, b: pd.DataFrame) -> dict[str, Any]:
    """Cells that differ (as written, so to the last digit), the largest difference of numbers, and where it is."""
    if a.shape != b.shape or list(a.columns) != list(b.columns):
        return _row(note=f"{a.shape[0]} x {a.shape[1]} against {b.shape[0]} x {b.shape[1]} cells")
    other = a.to_numpy() != b.to_numpy()
    gap = np.full(a.shape, np.nan)
    for k in range(a.shape[1]):
        values = [pd.to_numeric(t.iloc[:, k], errors="coerce").to_numpy(dtype=float) for t in (a, b)]
        gap[:, k] = np.abs(values[0] - values[1])
    gap = np.where(other, gap, np.nan)
    if np.isnan(gap).all():
        where = np.argwhere(other)
        return _row(a.size, int(other.sum()), at=_place(a, where[0]) if len(where) else "")
    row, column = np.unravel_index(np.nanargmax(gap), gap.shape)
    return _row(a.size, int(other.sum()), float(gap[row, column]), _place(a, (row, column)))


def _place(table: pd.DataFrame, cell: Any) -> str:
    return f"row {int(cell[0]) + 1}, {table.columns[int(cell[1])]}"


def _row(cells: int = 0, differing: int = 0, largest: float = np.nan, at: str = "", note: str = "") -> dict[str, Any]:
    return {"cells": cells, "differing": differing, "largest": largest, "at": at, "note": note}


def _read(path: Path) -> pd.DataFrame:
    """A table as it was written: every cell a string."""
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except pd.errors.EmptyDataError:
        return pd.DataFrame()


def _facts(run: Path) -> Iterator[tuple[str, str]]:
    facts = read_manifest(run)
    for name, value in facts.get("config", {}).items():
        yield name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    yield from ((f"version of {name}", str(value)) for name, value in facts.get("versions", {}).items())
    for model in facts.get("models", []):
        yield f"weights of {model.get('name')}", str(model.get("fingerprint"))[:12]


def _tables(run: Path) -> dict[tuple[str, str], Path]:
    """(model, table) -> file; the model is "" for tables over all models."""
    found = {("", p.stem): p for p in run.glob("tables/*.csv")}
    return found | {(p.parts[-3], p.stem): p for p in run.glob("*/tables/*.csv")}


# What a run folder holds beside its study: steps under other settings, damaged steps, batches nobody waits for.


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


# verify_run: every checksum of a run folder, read again from the disk.


MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Verification:
    """What a run folder's checksums say.

    Attributes:
        n_files: files that have a checksum.
        damages: those that are not what was written.
        notes: what is no damage, but worth knowing.
    """

    path: Path
    n_files: int
    damages: tuple[Damage, ...]
    notes: tuple[str, ...]


def check_is_run(path: str | Path) -> Path:
    """The folder of a run.

    Raises:
        ArtifactError: it is none.
    """
    root = Path(path)
    if not (root / MANIFEST).is_file():
        raise ArtifactError(
            f"{root} is no run folder (no {MANIFEST}); `lens-emotion runs FOLDER` lists those there are"
        )
    return root


def step_folders(root: Path) -> list[Path]:
    """Stored steps of all models of a run, those kept under other settings included."""
    places = [*root.glob(f"*/*/{RECORD}"), *root.glob(f"*/*/{SUMS}"), *root.glob(f"*/*/*/{RECORD}")]
    folders = {p.parent for p in places} | {p.parent for p in root.glob(f"*/*/*/{SUMS}")}
    return sorted(f for f in folders if ASIDE not in f.parts and f.parent != root)


def verify_run(path: str | Path) -> Verification:
    """Check every file of a run that has a checksum.

    Raises:
        ArtifactError: no run folder.
    """
    root = check_is_run(path)
    found, n_files, notes = damages(root), len(read_sums(root)[0]), []
    if not (root / SUMS).is_file():
        notes.append("no checksums of tables and figures: written by an older version, or the study has not got so far")
    for folder in step_folders(root):
        found += step_damages(folder)
        n_files += len(read_sums(folder)[0])
    notes += [f"set aside as damaged earlier: {p}" for p in sorted(root.glob(f"*/{ASIDE}/*"))]
    notes += [f"finished batches of a step that is not done: {p}" for p in sorted(root.glob(f"*/{PARTIAL}/*.journal"))]
    return Verification(root, n_files, tuple(found), tuple(notes))
