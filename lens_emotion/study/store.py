"""The run folder: one folder per model for what took long, and tables and figures that are made anew each time.

    RUN/manifest.json                 settings, versions, what ran and when
    RUN/report.html, RUN/claims.json, RUN/tables/*.csv
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
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from lens_emotion.artifacts import TEMPORARY, atomic_write, ensure_writable
from lens_emotion.checksums import compact, note, sha256_of
from lens_emotion.errors import ArtifactError
from lens_emotion.journal import Journal, Part
from lens_emotion.study import step_store
from lens_emotion.study.config import StudyConfig
from lens_emotion.study.keys import Inputs, key_of

T = TypeVar("T")
Tell = Callable[[str], None]
_PACKAGES = ("lens-emotion", "transformer-lens", "torch", "transformers", "numpy", "scipy", "scikit-learn", "plotly")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _silent(said: str) -> None:
    return None


def safe_name(model: str) -> str:
    """A model's name as a folder name, which cannot lead out of the run folder."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in model).strip(".") or "model"


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
        root = ensure_writable(folder)
        for left in root.rglob(f".*{TEMPORARY}"):
            if left.is_file():
                left.unlink(missing_ok=True)
        return Store(root)

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
        stored = self._read_back(name, key, load)
        if stored is not None:
            step_store.drop_journal(self.root, name, key)
            return stored
        journal = step_store.open_journal(self.root, name, key, self.part)
        result = run(journal)
        step_store.keep(self.root, name, inputs, lambda folder: save(result, folder), journal.seconds)
        del result  # what was read back takes its place, not a place beside it
        step_store.drop_journal(self.root, name, key)
        return load(self.root / name)

    def _read_back(self, name: str, key: str, load: Callable[[Path], T]) -> T | None:
        found = step_store.find(self.root, name, key)
        folder = found or self.root / name
        damage = [str(d) for d in step_store.step_damages(folder)] if folder.exists() else []
        if found and not damage:
            try:
                return load(step_store.put_in_place(self.root, name, key))
            except (ArtifactError, ValueError, KeyError) as error:
                folder, damage = self.root / name, [str(error)]
        if damage:
            self._set_aside(folder, damage)
        return None

    def only_sound_steps(self, names: Iterable[str]) -> None:
        """Set steps aside that are damaged: those that nobody here is about to read."""
        for folder in (self.root / name for name in names):
            if folder.exists() and (damage := [str(d) for d in step_store.step_damages(folder)]):
                self._set_aside(folder, damage)

    def _set_aside(self, folder: Path, damage: Sequence[str]) -> None:
        aside = step_store.set_aside(self.root, folder)
        self.tell(f"damaged, made again: {'; '.join(damage)} (what was found lies in {aside})")

    def digest(self, step: str, file: str) -> str:
        """Checksum of a stored step's file."""
        return sha256_of(self.root / step / file)

    def write(self, name: str, data: str | bytes) -> Path:
        """Write a file that is made anew in every run, and note its checksum."""
        raw = data.encode() if isinstance(data, str) else data
        path = self.root / name
        ensure = self.run or self.root
        path.parent.mkdir(parents=True, exist_ok=True)
        note(ensure, path.relative_to(ensure).as_posix(), hashlib.sha256(raw).hexdigest())
        return atomic_write(path, raw)

    def save(self, name: str, save: Callable[[Path], Any]) -> Path:
        """Let an object save itself under a name, and note its checksum."""
        path, run = self.root / name, self.run or self.root
        save(path)
        note(run, path.relative_to(run).as_posix(), sha256_of(path))
        return path

    def table(self, name: str, frame: pd.DataFrame) -> Path:
        return self.write(f"tables/{name}.csv", frame.to_csv(index=False, lineterminator="\n"))

    def figure(self, name: str, figure: Any) -> Path:
        return self.write(f"figures/{name}.json", str(figure.to_json()))

    def json(self, name: str, data: Any) -> Path:
        return self.write(name, json.dumps(data, indent=1, ensure_ascii=False, default=str) + "\n")

    def only_tables(self, names: Iterable[str]) -> None:
        """Remove tables that other settings left behind."""
        wanted = {f"{name}.csv" for name in names}
        for path in (self.root / "tables").glob("*.csv"):
            if path.name not in wanted:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Tidy the checksums of a run: one line a file."""
        compact(self.run or self.root)


def manifest(
    config: StudyConfig, command: str, models: list[dict[str, Any]], seconds: float, done: bool = True
) -> dict[str, Any]:
    """What a reader needs to make the run again."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "done": done,
        "seconds": round(seconds, 1),
        "config": asdict(config),
        "versions": versions(),
        "models": models,
    }
