"""The run folder: one folder per model for what took long, and tables and figures that are made anew each time.

    RUN/manifest.json                 settings, versions, what ran and when
    RUN/report.html, RUN/claims.json, RUN/tables/*.csv
    RUN/sealed.json                   of a study with --seal: what was to be judged how, before any model was read
    RUN/SHA256SUMS                    checksums of all that is made anew each time
    RUN/MODEL/STEP/                   comprehension, generation, generation_jeong, steering (see `step_store`)
    RUN/MODEL/vectors.safetensors
    RUN/MODEL/tables/*.csv            every number in the report
    RUN/MODEL/figures/*.json          plotly figures

A step whose inputs have not changed is read back instead of run again, and an interrupted step goes on from its last
finished batch. What a step gives is always what was read back from the disk, so that a resumed study and an
uninterrupted one see the same. docs/run-folder.md describes the formats.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from lens_emotion.errors import ArtifactError
from lens_emotion.files.artifacts import TEMPORARY, atomic_write, ensure_writable, unwritable
from lens_emotion.files.checksums import FILE as SUMS
from lens_emotion.files.checksums import (
    Damage,
    Files,
    compact,
    damages,
    note,
    read_sums,
    sha256_of,
    write_files,
    write_sums,
)
from lens_emotion.files.journal import Journal, Part
from lens_emotion.files.names import is_name
from lens_emotion.files.read import read_json
from lens_emotion.files.user import record as formed
from lens_emotion.memory import pass_on
from lens_emotion.run.config import STORY_SAMPLING, StudyConfig

T = TypeVar("T")
Inputs = dict[str, Any]  # of a step: all that its result depends on (`inputs.step_inputs`)
Tell = Callable[[str], None]
MANIFEST = "manifest.json"
_FILES = (MANIFEST, SUMS, "claims.json", "sealed.json", "report.html", "tables/claims.csv", "tables/rsa.csv")
LONGEST = 255  # bytes of a file's name on common systems
# what a run folder itself holds, and what Windows keeps for devices
_OWN = re.compile(
    r"tables|figures|report(\.html)?|manifest\.json|claims\.json|sealed\.json|sha256sums|(con|prn|aux|nul|(com|lpt)\d)(\..*)?"
)
_PACKAGES = ("lens-emotion", "transformer-lens", "torch", "transformers", "numpy", "scipy", "scikit-learn", "plotly")


def key_of(inputs: Inputs) -> str:
    """Hex hash of a step's inputs."""
    return hash_of(inputs)[:16]


def hash_of(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def version_of(package: str) -> str:
    """Of an installed package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    return {"python": platform.python_version()} | {package: version_of(package) for package in _PACKAGES}


def machine() -> dict[str, Any]:
    """What of a machine changes last bits (docs/precision.md), and no step's key: threads, instructions, GPU."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    instructions = torch.backends.cpu.get_cpu_capability()
    return {"threads": torch.get_num_threads(), "processor": f"{platform.machine()} {instructions}", "gpu": gpu}


def _silent(said: str) -> None:
    return None


def safe_name(model: str) -> str:
    """A model's name as a folder name: inside the run folder, no longer than file systems take, and none of the run's
    own files."""
    made = "".join(c if c.isalnum() or c in "-_." else "_" for c in model).strip(".") or "model"
    if _OWN.fullmatch(made.casefold()):
        made += "_model"
    if len(made.encode()) > LONGEST:
        kept = made.encode()[: LONGEST - 9].decode(errors="ignore")
        made = f"{kept}-{hashlib.sha256(model.encode(errors='replace')).hexdigest()[:8]}"
    return made


@dataclass(frozen=True)
class Store:
    """A run folder, or one model's folder in it.

    Attributes:
        root: the folder. run: the run folder; None if that is `root`.
        tell: told of damage that was found.
        part: a worker's share of the batches of its steps; None for all of them.
    """

    root: Path
    run: Path | None = None
    tell: Tell = _silent
    part: Part | None = None

    @staticmethod
    def open(folder: str | Path) -> Store:
        """A run folder to write into (hold its lock: `lock.writing`), cleared of files that a crash left half written.

        Raises:
            ArtifactError: the folder cannot be made or written.
        """
        found = Store(ensure_writable(folder))
        for left in found.root.rglob(f".*.{'?' * 8}{TEMPORARY}"):  # as `atomic_write` calls them
            if left.is_file():
                left.unlink(missing_ok=True)
        found._place_for(found.root / SUMS)
        return found

    def model(self, name: str, tell: Tell = _silent) -> Store:
        """The folder of one model."""
        return Store(self.root / safe_name(name), self.root, tell, self.part)

    def step(
        self,
        name: str,
        inputs: Inputs,
        load: Callable[[Path], T],
        run: Callable[[Journal], T],
        save: Callable[[T, Path], Any],
    ) -> T:
        """Read a step back if it is stored under these inputs and undamaged, else run and store it.

        Raises:
            ArtifactError: it cannot be written. Finished batches are kept, and so is all that was stored before.
            PartDone: this store is a worker's, whose part of the step is done.
        """
        key = key_of(inputs)
        self._place_for(self.root / name / RECORD, folder_only=True)
        stored = self._read_back(name, key, load)
        if stored is not None:
            drop_journal(self.root, name, key)
            return stored
        journal = open_journal(self.root, name, key, self.part)
        result = run(journal)
        keep(self.root, name, inputs, lambda folder: save(result, folder), journal.seconds)
        del result  # what was read back takes its place, not a place beside it
        drop_journal(self.root, name, key)
        return load(self.root / name)

    def _read_back(self, name: str, key: str, load: Callable[[Path], T]) -> T | None:
        found = find(self.root, name, key)
        folder = found or self.root / name
        damage = [str(d) for d in step_damages(folder)] if folder.exists() else []
        if found and not damage:
            try:
                return load(put_in_place(self.root, name, key))
            except (ArtifactError, ValueError, KeyError) as error:
                pass_on(error)  # of a sound step, which stays where it is
                folder, damage = self.root / name, [str(error)]
        if damage:
            self._set_aside(folder, damage)
        return None

    def only_sound_steps(self, names: Iterable[str]) -> None:
        """Set steps aside that are damaged: those that nobody here is about to read."""
        for folder in (self.root / name for name in names):
            if folder.exists() and (damage := [str(d) for d in step_damages(folder)]):
                self._set_aside(folder, damage)

    def _set_aside(self, folder: Path, damage: Sequence[str]) -> None:
        aside = set_aside(self.root, folder)
        self.tell(f"damaged, made again: {'; '.join(damage)} (what was found lies in {aside})")

    def digest(self, step: str, file: str) -> str:
        """Checksum of a stored step's file."""
        return sha256_of(self.root / step / file)

    def write(self, name: str, data: str | bytes) -> Path:
        """Write a file that is made anew in every run, and note its checksum."""
        raw = data.encode() if isinstance(data, str) else data
        path = self._place_for(self.root / name)
        ensure = self.run or self.root
        path.parent.mkdir(parents=True, exist_ok=True)
        note(ensure, path.relative_to(ensure).as_posix(), hashlib.sha256(raw).hexdigest())
        return atomic_write(path, raw)

    def save(self, name: str, save: Callable[[Path], Any]) -> Path:
        """Let an object save itself under a name, and note its checksum."""
        path, run = self._place_for(self.root / name), self.run or self.root
        save(path)
        note(run, path.relative_to(run).as_posix(), sha256_of(path))
        return path

    def table(self, name: str, frame: pd.DataFrame) -> Path:
        return self.write(f"tables/{name}.csv", frame.to_csv(index=False, lineterminator="\n"))

    def figure(self, name: str, plotly_json: str) -> Path:
        return self.write(f"figures/{name}.json", plotly_json)

    def json(self, name: str, data: Any) -> Path:
        return self.write(name, json.dumps(data, indent=1, ensure_ascii=False, default=str) + "\n")

    def only_tables(self, names: Iterable[str]) -> None:
        """Remove tables that a study with other settings left behind; files of the user's are not touched."""
        wanted, run = {f"{name}.csv" for name in names}, self.run or self.root
        noted, _ = read_sums(run)
        for path in (self.root / "tables").glob("*.csv"):
            if path.name not in wanted and path.is_file() and path.relative_to(run).as_posix() in noted:
                path.unlink(missing_ok=True)

    def _place_for(self, path: Path, folder_only: bool = False) -> Path:
        """The path, where a file can be written: a folder in its place, or a file in that of its folder, is moved to
        .set_aside as it is."""
        run = self.run or self.root
        below = path.relative_to(run).parts
        steps = [run.joinpath(*below[:n]) for n in range(1, len(below) + (not folder_only))]
        for at in steps:
            if at.is_dir() if at == path else os.path.lexists(at) and not at.is_dir():
                (run / ASIDE).mkdir(exist_ok=True)
                self.tell(f"{at} was no {'file' if at == path else 'folder'}; it lies in {run / ASIDE} now")
                at.rename(_free(run / ASIDE / at.name))
        return path

    def close(self) -> None:
        """Tidy the checksums of a run: one line a file."""
        compact(self.run or self.root)


def check_is_free(folder: str | Path, models: Iterable[str]) -> None:
    """Whether a study may write into a folder: a run, or one that holds nothing of a run's names.

    Args:
        models: their names in the run.

    Raises:
        ArtifactError: files lie there that no study wrote.
    """
    root = Path(folder)
    if _has_config(root / MANIFEST) or MANIFEST in read_sums(root)[0] or any(root.glob(f"*/*/{RECORD}")):
        return
    there = [root / name for name in (*_FILES, *map(safe_name, models))]
    if foreign := [p.name for p in there if os.path.lexists(p) and not (p.name == SUMS and p.stat().st_size == 0)]:
        raise ArtifactError(
            f"{root} holds {', '.join(foreign)}, which no study wrote and a study would write over; give another run "
            "folder (--out), or move them away"
        )


def _has_config(path: Path) -> bool:
    try:
        return isinstance(read_json(path).get("config"), dict)
    except (ArtifactError, AttributeError):
        return False


def manifest(
    config: StudyConfig,
    command: str,
    models: list[dict[str, Any]],
    seconds: float,
    places: Mapping[str, str],
    done: bool = True,
    seal: str = "",
) -> dict[str, Any]:
    """What a reader needs to make the run again.

    Args:
        places: name -> source of every model (see `places`), those of the settings first and in their order.
        seal: hash of the run's seal, "" for none, which is not spoken of then.
    """
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "done": done,
        "seconds": round(seconds, 1),
        "config": asdict(config),
        "sampling": STORY_SAMPLING,
        "versions": versions(),
        "machine": machine(),
        "models": models,
        "places": dict(places),
    } | ({"seal": seal} if seal else {})


# Stored steps of one model: a folder each, put in place in one rename, addressed by the key of what went into it.
#
# MODEL/STEP/...                 the step's files, with step.json (key, inputs, seconds) and SHA256SUMS
# MODEL/.kept/STEP-KEY/          the same step under other inputs; taken back when these are asked for again
# MODEL/.set_aside/STEP-KEY-N/   a step that was damaged, as it was found
# MODEL/.partial/STEP-KEY.journal  finished batches of a step that is not done


RECORD, KEPT, ASIDE, PARTIAL = "step.json", ".kept", ".set_aside", ".partial"
SCHEMA = 1
LONGEST_STEP = 1e9  # seconds: thirty years


@dataclass(frozen=True)
class StepRecord:
    """What a stored step says of itself.

    Attributes:
        key: of its inputs. inputs: see `inputs.step_inputs`.
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
        return record_of(folder)
    except ArtifactError:
        return None


def record_of(folder: Path) -> StepRecord:
    """The record of a step's folder.

    Raises:
        ArtifactError: missing, damaged, of another form or version, or with another key than its inputs have.
    """
    path = folder / RECORD
    data = read_json(path, remedy="run the study again", most=2**24)
    if not isinstance(data, dict) or (schema := data.pop("schema", None)) != SCHEMA or schema is True:
        raise ArtifactError(f"{path} is no record of a step, or one of another version; run the study again")
    found = formed(StepRecord, data, str(path))
    if not is_name(found.name):
        raise ArtifactError(f"{folder / RECORD} has a name that is no line of text; run the step again")
    if not 0 <= found.seconds <= LONGEST_STEP:
        raise ArtifactError(f"{path}: no step takes {found.seconds:g} s; run the study again")
    if found.key != key_of(found.inputs):
        raise ArtifactError(f"{path}: its key is not that of its inputs; run the study again")
    return found


def step_damages(folder: Path) -> list[Damage]:
    """What is wrong with a step's folder: every file must be there, be what was written, and have a checksum."""
    noted, _ = read_sums(folder)
    found = damages(folder)
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} - {SUMS}
    found += [Damage(folder / name, "it has no checksum") for name in sorted(files - set(noted))]
    if folder / RECORD not in {damage.path for damage in found}:
        try:
            record_of(folder)
        except ArtifactError as error:
            found.append(Damage(folder / RECORD, str(error) if os.path.lexists(folder / RECORD) else "it is missing"))
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
    key = key_of(inputs)
    with _under_way(root, name) as under_way:
        save(under_way)
        created = datetime.now(UTC).isoformat(timespec="seconds")
        record = {"schema": SCHEMA, "name": name, "key": key, "inputs": inputs}
        record |= {"seconds": round(seconds, 3), "created": created}
        atomic_write(under_way / RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        write_sums(under_way, [str(p.relative_to(under_way)) for p in under_way.rglob("*") if p.is_file()])
        _lay_down(root, under_way, f"{name}-{key}")
    return put_in_place(root, name, key)


def take_in(root: Path, name: str, files: Files) -> Path:
    """Put a step that another machine wrote in its place.

    Raises:
        ArtifactError: it did not arrive whole, or cannot be written; what was stored before is untouched.
    """
    with _under_way(root, name) as under_way:
        write_files(under_way, files)
        record = read_record(under_way)
        if record is None or (wrong := step_damages(under_way)):
            raise ArtifactError(f"the step {name} did not arrive whole: {wrong[0] if record else 'it has no record'}")
        if (there := read_record(root / name)) is None or there.key != record.key:
            _lay_down(root, under_way, f"{name}-{record.key}")
    drop_journal(root, name, record.key)
    return put_in_place(root, name, record.key)


@contextmanager
def _under_way(root: Path, name: str) -> Iterator[Path]:
    """An empty folder to write a step into, gone afterwards."""
    folder = root / f".{name}.tmp"
    try:
        shutil.rmtree(folder, ignore_errors=True)
        yield folder
    except OSError as error:
        raise unwritable(root / name, error) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
