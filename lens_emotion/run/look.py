"""Run folders looked at: which there are and how far they have got, whether they are whole, where two of them differ,
and what of one may go."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
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
from lens_emotion.run.lock import writing
from lens_emotion.run.store import ASIDE, KEPT, MANIFEST, PARTIAL, RECORD, names_in, read_record, step_damages, step_of


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


def read_manifest(path: Path) -> dict[str, Any]:
    """A run's manifest, empty if it cannot be read."""
    try:
        found = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        return dict(found) if isinstance(found.get("config"), dict) else {}
    except (OSError, ValueError, AttributeError):
        return {}


def step_folders(root: Path) -> list[Path]:
    """Stored steps of all models of a run, those kept under other settings included."""
    places = [p for name in (RECORD, SUMS) for depth in ("*/*", "*/*/*") for p in root.glob(f"{depth}/{name}")]
    return sorted({p.parent for p in places if ASIDE not in p.parts})


# List.


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


def list_runs(folder: str | Path) -> tuple[RunSummary, ...]:
    """The runs in a folder (itself, or the folders in it), latest first.

    Raises:
        ArtifactError: no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ArtifactError(f"no folder {root}; give one that holds run folders, such as `runs`")
    found = [_summary(p) for p in (root, *sorted(root.iterdir())) if (p / MANIFEST).is_file()]
    return tuple(sorted(found, key=lambda r: r.created, reverse=True))


def _summary(path: Path) -> RunSummary:
    facts = read_manifest(path)
    config = facts.get("config", {})
    models = tuple(str(m) for m in config.get("models", ()))
    steps = sum(_steps(config | config.get("overrides", {}).get(model, {})) for model in models)
    records = [r for f in step_folders(path) if KEPT not in f.parts and (r := read_record(f)) is not None]
    return RunSummary(
        path=path,
        created=str(facts.get("created", "")),
        models=names_in(facts),
        done=bool(facts.get("done", "models" in facts)),
        steps_done=min(len(records), steps),
        steps_total=steps,
        n_bytes=_size(path),
        seconds=sum(r.seconds for r in records),
    )


def _steps(config: dict[str, Any]) -> int:
    """How many steps a model's settings ask for; runs of before had the paper's preset always."""
    generation, jeong, steering = (bool(config.get(k, k == "jeong")) for k in ("generation", "jeong", "steering"))
    return len(StudyConfig(generation=generation, jeong=jeong, steering=steering).steps)


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(f.stat().st_size for f in (path, *path.rglob("*")) if f.is_file())


# Verify.


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


def verify_run(path: str | Path) -> Verification:
    """Read every file of a run that has a checksum again from the disk, and check it.

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
    notes += [f"set aside as damaged earlier: {p}" for at in ("", "*/") for p in sorted(root.glob(f"{at}{ASIDE}/*"))]
    notes += [f"finished batches of a step that is not done: {p}" for p in sorted(root.glob(f"*/{PARTIAL}/*.journal"))]
    return Verification(root, n_files, tuple(found), tuple(notes))


# Compare.


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
    def different(self) -> pd.DataFrame:
        """The tables that are not equal, or stand in one run only."""
        return self.tables[(self.tables.differing > 0) | (self.tables.note != "")]

    @property
    def equal(self) -> bool:
        """Whether every table of one run is in the other, cell by cell the same."""
        return not self.damaged and self.different.empty

    def summary(self) -> str:
        """How many tables are equal, and the largest difference."""
        same = len(self.tables) - len(self.different)
        words = f"{same} of {len(self.tables)} tables are equal; {len(self.settings)} settings or versions differ"
        apart = self.tables[self.tables.largest > 0]
        if apart.empty:
            return words
        row = apart.nlargest(1, "largest").iloc[0]
        where = f"{row.table} of {row.model or 'the run'} ({row['at']})"
        return f"{words}; largest difference {row.largest:.3g}, in {where}"

    def _repr_html_(self) -> str:
        return panel(self.summary(), self.tables, what="tables")


def compare_runs(a: str | Path, b: str | Path) -> RunComparison:
    """Settings, versions and tables of two runs, cell by cell.

    Raises:
        ArtifactError: one of them is no run folder.
    """
    first, second = check_is_run(a), check_is_run(b)
    one, two = _facts(first), _facts(second)
    settings = [(n, one.get(n, "-"), two.get(n, "-")) for n in one | two if one.get(n) != two.get(n)]
    bad = {d.path for run in (first, second) for d in damages(run)}
    left, right = _tables(first), _tables(second)
    rows = []
    for model, table in sorted(left | right):
        name = (model, table)
        if bad & {left.get(name), right.get(name)}:
            row = _row(note="damaged")
        elif name not in left or name not in right:
            row = _row(note=f"only in {'A' if name in left else 'B'}")
        else:
            row = compare_tables(_read(left[name]), _read(right[name]))
        rows.append({"model": model, "table": table, **row})
    return RunComparison(
        pd.DataFrame(settings, columns=["what", "a", "b"]),
        pd.DataFrame(rows, columns=["model", "table", *_row()]),
        tuple(sorted(str(path) for path in bad)),
    )


def compare_tables(a: pd.DataFrame, b: pd.DataFrame) -> dict[str, Any]:
    """Cells that differ (as written, so to the last digit), the largest difference of numbers, and where it is."""
    if a.shape != b.shape or list(a.columns) != list(b.columns):
        return _row(note=f"{a.shape[0]} x {a.shape[1]} against {b.shape[0]} x {b.shape[1]} cells")
    other = np.asarray(a.to_numpy() != b.to_numpy())
    if not other.any():
        return _row(a.size)
    gap = np.full(a.shape, np.nan)
    for k in range(a.shape[1]):
        values = [pd.to_numeric(t.iloc[:, k], errors="coerce").to_numpy(dtype=float) for t in (a, b)]
        gap[:, k] = np.where(other[:, k], np.abs(values[0] - values[1]), np.nan)
    in_words = np.isnan(gap).all()
    row, column = np.argwhere(other)[0] if in_words else np.unravel_index(np.nanargmax(gap), gap.shape)
    place = f"row {int(row) + 1}, {a.columns[int(column)]}"
    return _row(a.size, int(other.sum()), float(gap[row, column]), place)


def _row(cells: int = 0, differing: int = 0, largest: float = np.nan, at: str = "", note: str = "") -> dict[str, Any]:
    return {"cells": cells, "differing": differing, "largest": largest, "at": at, "note": note}


def _read(path: Path) -> pd.DataFrame:
    """A table as it was written: every cell a string."""
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except pd.errors.EmptyDataError:
        return pd.DataFrame()


def _facts(run: Path) -> dict[str, str]:
    """What a manifest says of settings, versions and weights, in words."""
    facts = read_manifest(run)
    found = {n: ", ".join(map(str, v)) if isinstance(v, list) else str(v) for n, v in facts.get("config", {}).items()}
    found |= {f"version of {name}": str(value) for name, value in facts.get("versions", {}).items()}
    return found | {f"weights of {m.get('name')}": str(m.get("fingerprint"))[:12] for m in facts.get("models", [])}


def _tables(run: Path) -> dict[tuple[str, str], Path]:
    """(model, table) -> file; the model is "" for tables over all models."""
    found = {("", p.stem): p for p in run.glob("tables/*.csv")}
    return found | {(p.parts[-3], p.stem): p for p in run.glob("*/tables/*.csv")}


# Prune.

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
        for path in sorted([*root.glob(f"{part}/*"), *root.glob(f"*/{part}/*")]):
            # a journal whose step is not there under any settings: a study may be about to go on
            if part != PARTIAL or read_record(path.parent.parent / step_of(f"{PARTIAL}/{path.name}")):
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
