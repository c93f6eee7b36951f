"""What a worker does of a study: a part of a method's batches, or a model's analyses. Knows no cluster.

A worker shares no folder with whoever sends it: files of the model's folder come and go as bytes. It works in a
temporary run folder by the very code that runs in one process, so both find the same.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from lens_emotion.errors import LensEmotionError
from lens_emotion.journal import Part, PartDone
from lens_emotion.models.access import Model
from lens_emotion.models.loading import load_model
from lens_emotion.study.config import StudyConfig
from lens_emotion.study.files import Files, read_files, write_files
from lens_emotion.study.keys import PRESET, READING, STEERING, WRITING
from lens_emotion.study.outcome import Outcome, study_model
from lens_emotion.study.step_store import PARTIAL
from lens_emotion.study.steps import ModelRun, open_model, read, steer, write
from lens_emotion.study.store import Store, versions

SURVEY = Part(0, 0)
METHODS: dict[str, Callable[[ModelRun], Any]] = {
    READING: read,
    WRITING: write,
    STEERING: lambda run: steer(run, read(run)[0]),
}
STEPS = {  # that a method reads or writes
    READING: (READING,),
    WRITING: (WRITING, PRESET),
    STEERING: (READING, STEERING),
}


class WorkerError(LensEmotionError):
    """A worker cannot take part in the study."""


@dataclass(frozen=True)
class Job:
    """One model of a study, as a worker needs to know it.

    Attributes:
        model: name, folder or hub id, the same on every machine.
        config: the settings of this model. names: all models of the study.
        versions: of the packages, where the study was begun; a worker has to have the same.
    """

    model: str
    config: StudyConfig
    names: tuple[str, ...]
    versions: Mapping[str, str] = field(default_factory=versions)


@dataclass(frozen=True)
class Found:
    """What a worker did.

    Attributes:
        missing: batches that were missing when it began; 0 if the method is complete.
        records: journal -> what this worker has to add to it.
        steps: the files of the method's steps, if it is complete.
    """

    missing: int
    records: Files
    steps: Files


def run_part(job: Job, method: str, files: Files, part: Part) -> Found:
    """This worker's part of the batches that a method lacks; where it lacks none, the method is brought to its end.

    Args:
        files: of the model's folder: finished steps, and journals of those that are not.
        part: `SURVEY` only counts what is missing.

    Raises:
        WorkerError: other packages than where the study was begun.
    """
    with _folder(job, files, part) as (run, folder):
        before = {name: len(data) for name, data in files.items() if name.startswith(f"{PARTIAL}/")}
        missing = 0
        try:
            METHODS[method](run)
        except PartDone as done:
            missing = done.missing
        journals = read_files(folder, lambda name: name.startswith(f"{PARTIAL}/"))
        added = {name: data[before.get(name, 0) :] for name, data in journals.items()}
        steps = {} if missing else read_files(folder, lambda name: name.split("/")[0] in STEPS[method])
        return Found(missing, {name: data for name, data in added.items() if data}, steps)


def finish(job: Job, files: Files) -> tuple[Outcome, Files]:
    """Analyse a model whose steps are complete: what was found, and the files to lay beside the steps."""
    with _folder(job, files, None) as (run, folder):
        outcome = study_model(lambda: run.model, job.config, job.names, Store(folder.parent), _silent)
        return outcome, read_files(folder, lambda name: name not in files and not name.startswith("."))


@contextmanager
def _folder(job: Job, files: Files, part: Part | None) -> Iterator[tuple[ModelRun, Path]]:
    """The model, and a run folder that holds these files of its folder."""
    if (here := versions()) != job.versions:
        other = [f"{p} {v} here, {job.versions.get(p)} there" for p, v in here.items() if v != job.versions.get(p)]
        raise WorkerError(f"a worker has other packages: {', '.join(other)}; install the same on every machine")
    with tempfile.TemporaryDirectory(prefix="lens-emotion-") as temporary:
        config = job.config
        model = _loaded(job.model, config.backend, config.dtype, config.device, config.quantise)
        run = open_model(model, config, Store(Path(temporary), part=part), _silent)
        write_files(run.store.root, files)
        yield run, run.store.root


@lru_cache(maxsize=1)
def _loaded(name: str, backend: str, dtype: str, device: str | None, quantise: str | None) -> Model:
    """A worker keeps its last model: the next task is most likely of the same one."""
    return load_model(name, backend=backend, dtype=dtype, device=device, quantise=quantise)


def _silent(model: str, doing: str) -> None:
    return None
