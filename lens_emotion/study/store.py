"""The run folder: one folder per model for what took long, and tables and figures that are made anew each time.

    RUN/manifest.json                 settings, versions, what ran and when
    RUN/report.html
    RUN/MODEL/comprehension.safetensors, generation_conditioned.safetensors, ..., vectors.safetensors, steering.json
    RUN/MODEL/tables/*.csv            every number in the report
    RUN/MODEL/figures/*.json          plotly figures

A step whose inputs have not changed is read back instead of run again, so that an interrupted study goes on where it
stopped. Every file is written atomically.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from lens_emotion.artifacts import atomic_write, ensure_writable
from lens_emotion.errors import ArtifactError
from lens_emotion.study.config import StudyConfig

T = TypeVar("T")
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


@dataclass(frozen=True)
class Store:
    """A run folder, or one model's folder in it."""

    root: Path

    @staticmethod
    def open(folder: str | Path) -> Store:
        """Raises ArtifactError if the folder cannot be made or written."""
        return Store(ensure_writable(folder))

    def model(self, name: str) -> Store:
        """The folder of one model; the name is made safe for a file system and cannot leave the run folder."""
        safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in name).strip(".") or "model"
        return Store(self.root / safe)

    def step(
        self, name: str, key: str, load: Callable[[Path], T], run: Callable[[], T], save: Callable[[T, Path], Any]
    ) -> T:
        """Read a step back if it was stored under the same key and can be read, else run and store it."""
        path, mark = self.root / name, self.root / f".{name}.key"
        if path.exists() and mark.exists() and mark.read_text(encoding="utf-8") == key:
            try:
                return load(path)
            except (ArtifactError, ValueError, KeyError):
                pass  # damaged: made again below
        result = run()
        mark.unlink(missing_ok=True)
        save(result, path)
        atomic_write(mark, key)
        return result

    def table(self, name: str, frame: pd.DataFrame) -> Path:
        return atomic_write(self.root / "tables" / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"))

    def figure(self, name: str, figure: Any) -> Path:
        return atomic_write(self.root / "figures" / f"{name}.json", str(figure.to_json()))

    def json(self, name: str, data: Any) -> Path:
        return atomic_write(self.root / name, json.dumps(data, indent=1, ensure_ascii=False, default=str) + "\n")


def manifest(config: StudyConfig, command: str, models: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """What a reader needs to make the run again."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "seconds": round(seconds, 1),
        "config": asdict(config),
        "versions": versions(),
        "models": models,
    }
