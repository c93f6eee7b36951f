"""Run folders looked at: which there are and how far they have got, whether they are whole, where two of them differ,
and what of one may go."""

from __future__ import annotations

import csv
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lens_emotion.display import Result, panel
from lens_emotion.errors import ArtifactError
from lens_emotion.files.artifacts import unwritable
from lens_emotion.files.checksums import FILE as SUMS
from lens_emotion.files.checksums import Damage, damages, read_sums
from lens_emotion.files.names import is_name
from lens_emotion.files.read import as_path, read_bytes, read_json, whole_path
from lens_emotion.files.user import record
from lens_emotion.run.config import CONTROLS, PUBLISHED, ConfigError, StudyConfig
from lens_emotion.run.lock import FILE as LOCK
from lens_emotion.run.lock import WRITER, writing
from lens_emotion.run.sealed import FILE as SEAL
from lens_emotion.run.sealed import read_seal
from lens_emotion.run.store import ASIDE, KEPT, MANIFEST, PARTIAL, RECORD, read_record, safe_name, step_damages, step_of

LARGEST = 2**24  # bytes of a manifest


@dataclass(frozen=True)
class ModelRow:
    """What a manifest says of a model that was studied."""

    name: str
    fingerprint: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Manifest:
    """A run's manifest.json, as `run.store.manifest` makes it. Versions before 0.2 wrote no `done`.

    Attributes:
        config: settings as written. settings: the same, checked.
        models: one table for each model that is done; all of them once the study is.
        places: name -> source of every model that had a place in the run (see `run.places`), those of its last session
            first and in the order of its settings; empty in older runs.
        machine: threads, instructions and GPU of the last session.
        sampling: how stories were drawn; empty in older runs.
        seal: hash of its sealed.json; "" where it was not sealed.
    """

    config: dict[str, Any]
    created: str = ""
    command: str = ""
    done: bool | None = None
    seconds: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)
    models: tuple[dict[str, Any], ...] = ()
    places: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    sampling: dict[str, float] = field(default_factory=dict)
    seal: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the run's models in the order of its settings; as these have them, where it is older."""
        asked, known = self.settings.models, tuple(self.places)
        return known[: len(asked)] if len(known) >= len(asked) else asked

    @property
    def finished(self) -> bool:
        return bool(self.models) if self.done is None else self.done

    @cached_property
    def settings(self) -> StudyConfig:
        return StudyConfig(**self.config)

    @cached_property
    def rows(self) -> tuple[ModelRow, ...]:
        return tuple(record(ModelRow, row, f"model {i} of {MANIFEST}") for i, row in enumerate(self.models, 1))


def read_manifest(run: Path) -> Manifest:
    """A run's manifest.

    Raises:
        ArtifactError: missing, damaged, or of another form, such as another program's or another version's.
    """
    path = run / MANIFEST
    data = read_json(path, remedy="give the folder of a run", most=LARGEST)
    if not isinstance(data, dict) or not {"config", "created"} & data.keys():
        raise ArtifactError(f"{path} is another program's: it says nothing of a run; give the folder of one")
    found = record(Manifest, data, str(path))
    try:
        n = len(found.settings.models)
    except ConfigError as error:
        raise ArtifactError(f"{path}: settings that this version does not have ({error})") from None
    if found.done is None and "done" in data:  # versions before 0.2 left it out
        raise ArtifactError(f"{path} does not say whether the study is done; run it again, or copy it anew")
    if not all(map(is_name, (*found.settings.models, *found.places))):
        raise ArtifactError(f"{path} names a model by what is no line of text")
    if found.created and not _is_date(found.created):
        raise ArtifactError(f"{path} was made at {ascii(found.created)[:40]}, which is no date")
    if len(found.rows) not in ({n} if found.finished else {0, n}):
        raise ArtifactError(f"{path} speaks of {len(found.rows)} models done where {n} were asked for")
    return found


def _is_date(said: str) -> bool:
    try:
        return bool(datetime.fromisoformat(said))
    except ValueError:
        return False


def places_before(run: Path) -> dict[str, str]:
    """Name -> source of every model that had a place in a run; empty where there is no manifest that says so."""
    try:
        return read_manifest(run).places
    except ArtifactError:
        return {}


def check_is_run(path: str | Path) -> Path:
    """The folder of a run, whose manifest may be damaged or lost.

    Raises:
        ArtifactError: it is none.
    """
    root = as_path(path)
    if not _looks_like_run(root):
        raise ArtifactError(
            f"{root} is no run folder (no {MANIFEST}); `lens-emotion runs FOLDER` lists those there are"
        )
    return root


def runs_in(folder: Path) -> list[Path]:
    """A folder and the folders in it, where they look like runs.

    Raises:
        ArtifactError: no such folder, or one that may not be listed.
    """
    try:
        return [p for p in (folder, *sorted(folder.iterdir())) if _looks_like_run(p)]
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ArtifactError(f"cannot list {folder}: {why}; give one that holds run folders, such as `runs`") from None


def _looks_like_run(path: Path) -> bool:
    """Whether a manifest lies there, or checksums that speak of one, which is lost then."""
    return os.path.lexists(path / MANIFEST) or MANIFEST in read_sums(path)[0]


def step_folders(root: Path) -> list[Path]:
    """Stored steps of all models of a run, those kept under other settings included."""
    places = [p for name in (RECORD, SUMS) for depth in ("*/*", "*/*/*") for p in root.glob(f"{depth}/{name}")]
    return sorted({p.parent for p in places if ASIDE not in p.relative_to(root).parts})


def _files(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Whatever lies in a folder and is none itself; links are not followed."""
    for parent, folders, names in os.walk(root):
        for name in (*names, *(f for f in folders if os.path.islink(os.path.join(parent, f)))):
            path = Path(parent, name)
            try:
                yield path, path.lstat()
            except OSError:  # gone meanwhile
                continue


# List.


@dataclass(frozen=True)
class RunSummary:
    """One run folder at a glance.

    Attributes:
        created: date and time of its last session, ISO 8601.
        done: True if the study got to its end.
        steps_done, steps_total: stored steps of its models, and those its settings ask for.
        n_bytes: all its files. seconds: what its stored steps took, interrupted sessions included.
        unreadable: why its manifest cannot be read, which leaves the rest empty; "" if it can.
    """

    path: Path
    created: str = ""
    models: tuple[str, ...] = ()
    done: bool = False
    steps_done: int = 0
    steps_total: int = 0
    n_bytes: int = 0
    seconds: float = 0.0
    unreadable: str = ""


def list_runs(folder: str | Path) -> tuple[RunSummary, ...]:
    """The runs in a folder (itself, or the folders in it), latest first; last those that cannot be read.

    Raises:
        ArtifactError: no such folder.
    """
    return tuple(sorted(map(_summary, runs_in(as_path(folder))), key=lambda r: r.created, reverse=True))


def _summary(path: Path) -> RunSummary:
    try:
        facts = read_manifest(path)
    except ArtifactError as error:
        return RunSummary(path, n_bytes=_size(path), unreadable=str(error))
    config = facts.settings
    steps = sum(len(_steps(path, config.for_model(model), facts.finished)) for model in config.models)
    stored = [f for f in step_folders(path) if KEPT not in f.relative_to(path).parts]
    records = [r for r in map(read_record, stored) if r is not None]
    return RunSummary(
        path=path,
        created=facts.created,
        models=facts.names,
        done=facts.finished,
        steps_done=min(len(records), steps),
        steps_total=steps,
        n_bytes=_size(path),
        seconds=sum(r.seconds for r in records),
    )


def _size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    own = path.lstat().st_size if not path.is_dir() or path.is_symlink() else 0
    return own or sum(status.st_size for _, status in _files(path) if stat.S_ISREG(status.st_mode))


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
    """Read every file of a run that has a checksum again from the disk, and check it; and that its steps are there.

    Raises:
        ArtifactError: no run folder.
    """
    root = check_is_run(path)
    noted = read_sums(root)[0]
    found, n_files, notes, known = damages(root), len(noted), [], {root / name for name in noted}
    if not os.path.lexists(root / SUMS):
        notes.append("no checksums of tables and figures: written by an older version, or the study has not got so far")
    folders = step_folders(root)
    for folder in folders:
        found += step_damages(folder)
        noted = read_sums(folder)[0]
        n_files, known = n_files + len(noted), known | {folder / name for name in noted}
    named = {damage.path for damage in found}
    try:
        found += [Damage(p, "no step is there, and the study is done") for p in _asked_for(root) if p not in folders]
    except ArtifactError as error:
        found += [Damage(root / MANIFEST, str(error))] * (root / MANIFEST not in named)
        notes.append(f"not checked, without {MANIFEST}: whether every step is there")
    broken, told = _seal(root)
    found += [Damage(root / SEAL, what) for what in broken if root / SEAL not in named]
    notes += told
    left = _unchecked(root, known | named)
    own = [p for p in left if p.is_file() and not p.is_symlink()] if _has_places(root) else []
    if own and root / SUMS not in {damage.path for damage in found}:  # since then every file of a run has a checksum
        found.append(Damage(root / SUMS, f"it speaks of no {_some(root, own)}"))
    elif left:
        notes.append(f"not checked, without a checksum: {_some(root, left)}")
    notes += [f"set aside as damaged earlier: {p}" for at in ("", "*/") for p in sorted(root.glob(f"{at}{ASIDE}/*"))]
    notes += [f"finished batches of a step that is not done: {p}" for p in sorted(root.glob(f"*/{PARTIAL}/*.journal"))]
    return Verification(root, n_files, tuple(found), tuple(notes))


def _seal(root: Path) -> tuple[list[str], list[str]]:
    """What is wrong with the seal of a run, and what is worth knowing of it; the design is not compared here."""
    try:
        noted = read_manifest(root).seal
    except ArtifactError:
        noted = ""
    try:
        seal = read_seal(root)
    except ArtifactError as error:
        return [str(error)], []
    if seal is None:
        return ([f"it is missing, and the run was sealed with {noted[:12]}"] if noted else []), []
    if noted and noted != seal.sha256:
        return [f"it is another one ({seal.sha256[:12]}) than the run was sealed with ({noted[:12]})"], []
    return [], [f"sealed {seal.date}, sha256 {seal.sha256}"]


def _asked_for(root: Path) -> list[Path]:
    """Where a finished study has its steps.

    Raises:
        ArtifactError: its manifest cannot be read.
    """
    facts = read_manifest(root)
    models = zip(facts.rows, facts.settings.models, strict=True) if facts.finished else ()
    return [
        root / safe_name(row.name) / step
        for row, m in models
        for step in _steps(root, facts.settings.for_model(m), facts.finished)
    ]


def _steps(root: Path, config: StudyConfig, finished: bool) -> list[str]:
    """The steps of a run: those of its settings, but for such as a run was finished before there were any."""
    later = [step for step in (CONTROLS, PUBLISHED) if finished and not any(root.glob(f"*/{step}"))]
    return [step for step in config.steps if step not in later]


def _has_places(root: Path) -> bool:
    """Whether a finished run is of a version that notes every file it writes."""
    try:
        return bool((facts := read_manifest(root)).places) and facts.finished
    except ArtifactError:
        return False


def _some(root: Path, files: Sequence[Path]) -> str:
    more = f" and {len(files) - 3} more" if len(files) > 3 else ""
    return ", ".join(p.relative_to(root).as_posix() for p in files[:3]) + more


def _unchecked(root: Path, known: set[Path]) -> list[Path]:
    """Files that no checksum speaks of."""
    own, left = {LOCK, WRITER, SUMS}, []
    for path, _ in _files(root):
        inner = path.relative_to(root).parts
        if path not in known and inner[-1] not in own and not {ASIDE, PARTIAL} & set(inner):
            left.append(path)
    return sorted(left)


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
    """Settings, versions and tables of two runs, cell by cell; settings only where both manifests can be read.

    Raises:
        ArtifactError: one of them is no run folder.
    """
    first, second = check_is_run(a), check_is_run(b)
    bad = {d.path for run in (first, second) for d in damages(run)}
    told = []
    for run in (first, second):
        try:
            told.append(_facts(run))
        except ArtifactError:
            bad.add(run / MANIFEST)
    one, two = told if len(told) == 2 else ({}, {})
    settings = [(n, one.get(n, "-"), two.get(n, "-")) for n in one | two if one.get(n) != two.get(n)]
    left, right = _tables(first), _tables(second)
    rows = []
    for model, table in sorted(left | right):
        name = (model, table)
        pair = [found[name] for found in (left, right) if name in found]
        if len(pair) == 2:
            try:
                row = _row(note="damaged") if bad & {*pair} else compare_tables(_read(pair[0]), _read(pair[1]))
            except ArtifactError as error:
                row = _row(note=f"damaged: {error}")
        else:
            row = _row(note="damaged" if bad & {*pair} else f"only in {'A' if name in left else 'B'}")
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
    return read_table(path, dtype=str, keep_default_na=False)


def read_table(path: Path, **options: Any) -> pd.DataFrame:
    """A table of a run, read with these options of `pandas.read_csv`.

    Raises:
        ArtifactError: missing, no file, or no table: rows of unequal length, a column without a name or named twice,
            all of which pandas puts right in its own way.
    """
    data = read_bytes(path, remedy="run the study again")
    try:
        _check_rows(data)
        return pd.read_csv(BytesIO(data), **options) if data.strip() else pd.DataFrame()
    except (ValueError, csv.Error) as error:
        raise ArtifactError(f"{path} is no table ({' '.join(str(error).split())}); run the study again") from None


def _check_rows(data: bytes) -> None:
    head: list[str] = []
    for i, row in enumerate(filter(None, csv.reader(StringIO(data.decode("utf-8-sig"), newline=""), strict=True))):
        head = head or row
        if len(row) != len(head):
            raise ValueError(f"row {i} has {len(row)} cells, the first line {len(head)}")
    if len(set(head)) < len(head) or not all(name.strip() for name in head):
        raise ValueError("a column has no name, or that of another")


def _facts(run: Path) -> dict[str, str]:
    """What a manifest says of settings, versions and weights, in words."""
    facts = read_manifest(run)
    found = {n: ", ".join(map(str, v)) if isinstance(v, list) else str(v) for n, v in facts.config.items()}
    found |= {f"version of {name}": value for name, value in facts.versions.items()}
    return found | {f"weights of {row.name}": row.fingerprint[:12] for row in facts.rows}


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

    What lies behind a link to a folder is not the run's own, and left out.

    Raises:
        ArtifactError: no run folder.
    """
    root = check_is_run(run)
    found = []
    for part, why in _WHY.items():
        for path in sorted([*root.glob(f"{part}/*"), *root.glob(f"*/{part}/*")]):
            # a journal whose step is not there under any settings: a study may be about to go on
            if not _is_own(root, path):
                continue
            if part != PARTIAL or read_record(path.parent.parent / step_of(f"{PARTIAL}/{path.name}")):
                found.append(Spare(path, why, _size(path)))
    return tuple(found)


def remove(run: str | Path, spare: Sequence[Spare]) -> None:
    """Remove what `spare_in` found.

    Raises:
        RunLockedError: somebody writes into the run. ArtifactError: it cannot be written; something is not the run's
            own, and then nothing is removed.
    """
    if foreign := [found.path for found in spare if not _is_own(Path(run), found.path)]:
        raise ArtifactError(f"{foreign[0]} is not what {run} can spare, or lies behind a link; remove it by hand")
    with writing(run):
        for found in spare:
            try:
                folder = found.path.is_dir() and not found.path.is_symlink()  # of a link, the link is removed
                shutil.rmtree(found.path) if folder else found.path.unlink()
                if not any(found.path.parent.iterdir()):
                    found.path.parent.rmdir()
            except OSError as error:
                raise unwritable(found.path, error) from None


def _is_own(root: Path, path: Path) -> bool:
    """Whether a path is RUN/MODEL/PART/NAME or RUN/PART/NAME, and no link leads out of the run on the way there."""
    try:
        inner = path.relative_to(root).parts
        named = len(inner) in (2, 3) and inner[-2] in _WHY and ".." not in inner
        return named and whole_path(path.parent) == whole_path(root) / Path(*inner[:-1])
    except (OSError, ValueError, RuntimeError):
        return False
