"""A study on many workers: one task per model, method and part of the batches; the run folder stays with one writer.

Of a method whose batches are not all in its journal, every worker does a part and sends back the records, which are
added to the journal here as they come: a worker that dies costs its part, an interrupted study none of those that came
back. Once nothing is missing, one worker brings the method to its end. So tables are those of a study in one process.
"""

from __future__ import annotations

import json
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any, Protocol, TypeVar, runtime_checkable

from lens_emotion.errors import LensEmotionError, OutOfMemoryError, need_extra
from lens_emotion.files.checksums import Files, check_inside, read_files, write_files
from lens_emotion.files.journal import Part, PartDone, append
from lens_emotion.memory import out_of_memory
from lens_emotion.models.access import Model
from lens_emotion.run.config import (
    ALL_STEPS,
    CONTROLS,
    PRESET,
    PUBLISHED,
    READING,
    STEERING,
    WRITING,
    ConfigError,
    StudyConfig,
)
from lens_emotion.run.places import Place
from lens_emotion.run.store import PARTIAL, Store, step_of, take_in, versions
from lens_emotion.study.one_model import LOADED_WITH, Outcome, loaded, study_model
from lens_emotion.study.steps import ModelRun, Say, controls, open_model, published, read, silent, steer, write

PARTS_PER_SLOT = 2  # parts that are not equally long even out, and a worker that dies costs less
T = TypeVar("T")


class _Stopped(Exception):  # noqa: N818 - only ends a thread
    pass


def distributed(
    config: StudyConfig, places: Sequence[Place], store: Store, say: Say, executor: Executor
) -> Iterator[Outcome]:
    """Every model's outcome, in the order of the models; models and methods run side by side.

    Raises:
        LensEmotionError: what a worker raised, or a worker that cannot take part. All that came back is kept.
    """
    stop = Event()
    say("workers", f"{executor.slots} tasks at once")
    try:
        models = [_Distributed(place, config, store, say, executor, stop) for place in places]
        yield from _together([model.run for model in models], stop)
    finally:
        stop.set()
        executor.cancel()


def _together(calls: Sequence[Callable[[], T]], stop: Event) -> list[T]:
    """Run calls in threads of their own; the first that fails stops all."""
    with ThreadPoolExecutor(max(1, len(calls))) as threads:
        try:
            running = [threads.submit(call) for call in calls]
            wait(running, return_when=FIRST_EXCEPTION)
            if any(future.done() and future.exception() for future in running):
                stop.set()
            errors = [error for future in running if (error := future.exception()) is not None]
        except BaseException:  # the user's own interruption
            stop.set()
            raise
    if errors:
        raise next((error for error in errors if not isinstance(error, _Stopped)), errors[0])
    return [future.result() for future in running]


@dataclass(frozen=True)
class _Distributed:
    """One model of a study, run by others; only its own folder is written."""

    place: Place
    config: StudyConfig
    run_store: Store
    say: Say
    executor: Executor
    stop: Event
    began: float = field(default_factory=monotonic)

    @property
    def label(self) -> str:
        return self.place.name

    @property
    def store(self) -> Store:
        return self.run_store.model(self.label, lambda said: self.say(self.label, said))

    @property
    def job(self) -> Job:
        return Job(self.place, self.config.for_model(self.place.asked), self.config.models)

    def run(self) -> Outcome:
        self.say(self.label, f"{self.place.loading} on a worker")
        self.store.only_sound_steps(ALL_STEPS)
        self.complete(READING)
        wanted = [step for step in (WRITING, STEERING, PUBLISHED) if step in self.job.config.steps]
        _together([partial(self.complete, method) for method in wanted], self.stop)
        self.complete(CONTROLS)
        self.say(self.label, "analysing")
        outcome, files = self.result(finish, self.job, self.files(ALL_STEPS))
        check_inside(self.store.root, files)
        for name, data in files.items():
            self.store.write(name, data)
        self.store.only_tables(name.removeprefix("tables/").removesuffix(".csv") for name in files)
        return replace(outcome, study=replace(outcome.study, seconds=monotonic() - self.began))

    def complete(self, method: str) -> None:
        """Round after round what is missing is shared out; a worker that misses nothing ends the method."""
        before = 0
        while True:
            files = self.files(STEPS[method])
            seen: Found = self.result(run_part, self.job, method, files, SURVEY)
            if not seen.missing:
                break
            if seen.missing == before:
                raise WorkerError(
                    f"{self.label}: {before} batches of {method} were run, and none is what the next worker asks for; "
                    "give every worker the same kind of device, and the same weights"
                )
            before = seen.missing
            self.share_out(method, files, seen.missing)
        for step in STEPS[method]:
            mine = {name.split("/", 1)[1]: data for name, data in seen.steps.items() if step_of(name) == step}
            if mine:
                take_in(self.store.root, step, mine)

    def share_out(self, method: str, files: Any, missing: int) -> None:
        parts = min(missing, PARTS_PER_SLOT * max(1, self.executor.slots))
        self.say(self.label, f"{method}: {missing} batches in {parts} parts")
        name = f"{self.label}:{method}"
        waiting = {
            self.executor.submit(f"{name}:{k}", run_part, self.job, method, files, Part(k, parts)) for k in range(parts)
        }
        while waiting:
            done, waiting = self.wait(waiting)
            for future in sorted(done, key=lambda d: d.exception() is not None):  # what came back is kept
                records: Files = future.result().records
                check_inside(self.store.root, records)
                for journal, data in records.items():
                    append(self.store.root / journal, [data])
            self.say(self.label, f"{method}: {parts - len(waiting)} of {parts} parts done")

    def files(self, steps: Sequence[str]) -> Any:
        """What is stored of these steps, where workers find it."""
        return self.executor.put(read_files(self.store.root, lambda name: step_of(name) in steps))

    def result(self, call: Callable[..., Any], *args: Any) -> Any:
        waiting = {self.executor.submit(f"{self.label}:{call.__name__}", call, *args)}
        while waiting:
            done, waiting = self.wait(waiting)
        return next(iter(done)).result()

    def wait(self, waiting: set[Future[Any]]) -> tuple[set[Future[Any]], set[Future[Any]]]:
        """Those that are done and those that are not; ends the thread if the study has ended."""
        while True:
            done, left = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
            if self.stop.is_set():
                raise _Stopped
            if done:
                return done, left


# Who runs the tasks of a study, by name. Ray itself is in `ray_executor`, which only its users need.


NAMES = ("local", "ray")


@runtime_checkable
class Executor(Protocol):
    """Whoever runs functions elsewhere; connects when it is first asked for `slots`."""

    @property
    def slots(self) -> int:
        """Tasks that run at once."""
        ...

    def put(self, value: Any) -> Any:
        """Make a value known to all workers; what it returns may be given to `submit` in the value's place."""

    def submit(self, name: str, call: Callable[..., Any], *args: Any) -> Future[Any]:
        """Run a function elsewhere, again if its worker dies."""

    def cancel(self) -> None:
        """Let go of all that was submitted."""


@contextmanager
def executor_named(name: str, gpus: float | None = None, cpus: float = 1) -> Iterator[Executor | None]:
    """An executor for the length of a block; None for "local", one model after the other in this process.

    Args:
        gpus, cpus: what each task asks for, with "ray".

    Raises:
        ConfigError: an unknown name, or what each task asks for where nobody is asked.
        MissingExtraError: Ray is not installed.
    """
    if name not in NAMES:
        raise ConfigError(f"no executor '{name}'; there are {' and '.join(NAMES)}")
    if name == "local":
        if gpus is not None or cpus != 1:
            raise ConfigError("--gpus and --cpus are what each task asks for, with --executor ray")
        yield None
        return

    with ray_executor(gpus, cpus) as found:
        yield found


# Ray as the one who runs a study's tasks: a cluster that is there already, or one on this machine.


KILLED = ("WorkerCrashedError", "OutOfMemoryError")  # how Ray calls a process that the system, or Ray itself, ended
FEWER = "let fewer tasks share a machine (more --cpus or --gpus each), or take a smaller model"
RETRIES = 3  # of a task whose worker or machine died


class RayExecutor:
    """Tasks on a Ray cluster, which is looked for, or begun, when the first of them is asked for (see `ray_executor`).

    Attributes:
        gpus, cpus: what each task asks for; gpus None is 1 where the cluster has any, else 0.
        address: of the cluster; None takes RAY_ADDRESS, or else begins one on this machine.
        mine: whether this executor connected, and has to let go.
    """

    def __init__(self, gpus: float | None, cpus: float, address: str | None = None) -> None:
        self.gpus, self.cpus, self.address, self.mine = gpus, cpus, address, False
        self._running: dict[Any, str] = {}

    @cached_property
    def slots(self) -> int:
        """Tasks that the cluster can run at once.

        Raises:
            ConfigError: no machine of the cluster could ever run one.
            WorkerError: no cluster answers at the address.
        """
        if not _ray().is_initialized():
            environment = {"env_vars": {"LENS_EMOTION_PROGRESS": "0"}}
            options = {"log_to_driver": False, "logging_level": "ERROR", "runtime_env": environment}
            on_term = signal.getsignal(signal.SIGTERM)
            try:
                _ray().init(address=self.address, **options)
            except (ConnectionError, TimeoutError, RuntimeError, ValueError) as error:
                raise WorkerError(
                    f"no Ray cluster: {error}; check RAY_ADDRESS, or unset it to begin one here"
                ) from None
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, on_term)  # Ray sets its own, which ends this process with code 15
            self.mine = True
        held = _ray().cluster_resources()
        if self.gpus is None:
            self.gpus = float(held.get("GPU", 0) > 0)
        return slots(held, self.gpus, self.cpus)

    def put(self, value: Any) -> Any:
        return _ray().put(value)

    def submit(self, name: str, call: Callable[..., Any], *args: Any) -> Future[Any]:
        wanted = {"num_gpus": self.gpus, "num_cpus": self.cpus, "max_retries": RETRIES, "name": name}
        task = _ray().remote(call).options(**wanted).remote(*args)
        self._running[task] = name
        out: Future[Any] = Future()
        task.future().add_done_callback(lambda done: self._pass_on(task, done, out))
        return out

    def cancel(self) -> None:
        for task in list(self._running):
            _ray().cancel(task, force=True)
        self._running.clear()

    def _pass_on(self, task: Any, done: Future[Any], out: Future[Any]) -> None:
        name, error = self._running.pop(task, "a task"), done.exception()
        if error is None:
            out.set_result(done.result())
        else:
            out.set_exception(_plain(name, error))


@contextmanager
def ray_executor(gpus: float | None = None, cpus: float = 1, address: str | None = None) -> Iterator[RayExecutor]:
    """An executor for the length of a block, at whose end a cluster that began for it ends too (see `RayExecutor`).

    Raises:
        MissingExtraError: Ray is not installed.
    """
    need_extra("ray", "--executor ray", "ray")
    found = RayExecutor(gpus, cpus, address)
    try:
        yield found
    finally:
        if found.mine:
            _ray().shutdown()


def slots(resources: dict[str, float], gpus: float, cpus: float) -> int:
    """Tasks that resources hold at once.

    Raises:
        ConfigError: not one.
    """
    held = [resources.get(kind, 0.0) / each for kind, each in (("CPU", cpus), ("GPU", gpus)) if each > 0]
    found = int(min(held, default=1.0) + 1e-9)
    if found < 1:
        have = f"{resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs"
        raise ConfigError(f"a task asks for {cpus:g} CPUs and {gpus:g} GPUs, the Ray cluster has {have}; ask for less")
    return found


def _plain(name: str, error: BaseException) -> BaseException:
    """The worker's own error if it says what to do, else one that names the task."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, LensEmotionError):
        return cause
    if type(error).__name__ in KILLED:
        return OutOfMemoryError(f"{name} ran on a worker", "it was killed, most likely for want of memory", "", FEWER)
    if short := out_of_memory(cause or error):
        return OutOfMemoryError(f"{name} ran on a worker", short.short, "", short.remedy or FEWER)
    words = str(error).strip().splitlines() or [type(error).__name__]
    return WorkerError(f"{name} failed on a worker: {words[-1].strip()} ({type(error).__name__})")


def _ray() -> Any:
    import ray

    return ray


# What a worker does of a study: a part of a method's batches, or a model's analyses. Knows no cluster.
#
# A worker shares no folder with whoever sends it: files of the model's folder come and go as bytes. It works in a
# temporary run folder by the very code that runs in one process, so both find the same.


SURVEY = Part(0, 0)
METHODS: dict[str, Callable[[ModelRun], Any]] = {
    READING: read,
    WRITING: write,
    CONTROLS: lambda run: controls(run, read(run)[0], write(run)[0] if run.config.generation else None),
    STEERING: lambda run: steer(run, read(run)[0]),
    PUBLISHED: lambda run: published(run, *read(run)),
}
STEPS = {  # that a method reads or writes
    READING: (READING,),
    WRITING: (WRITING, PRESET),
    CONTROLS: (READING, WRITING, PRESET, CONTROLS),
    STEERING: (READING, STEERING),
    PUBLISHED: (READING, PUBLISHED),
}


class WorkerError(LensEmotionError):
    """A worker cannot take part in the study."""


@dataclass(frozen=True)
class Job:
    """One model of a study, as a worker needs to know it.

    Attributes:
        place: the model, found under the same name, folder or hub id on every machine, and its name in the run.
        config: the settings of this model. names: all models of the study.
        versions: of the packages, where the study was begun; a worker has to have the same.
    """

    place: Place
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
        outcome = study_model(lambda: run.model, job.config, job.names, Store(folder.parent), silent)
        return outcome, read_files(folder, lambda name: name not in files and not name.startswith("."))


@contextmanager
def _folder(job: Job, files: Files, part: Part | None) -> Iterator[tuple[ModelRun, Path]]:
    """The model, and a run folder that holds these files of its folder."""
    if (here := versions()) != job.versions:
        other = [f"{p} {v} here, {job.versions.get(p)} there" for p, v in here.items() if v != job.versions.get(p)]
        raise WorkerError(f"a worker has other packages: {', '.join(other)}; install the same on every machine")
    with tempfile.TemporaryDirectory(prefix="lens-emotion-") as temporary:
        model = _loaded(job.place, json.dumps({name: getattr(job.config, name) for name in LOADED_WITH}))
        run = open_model(model, job.config, Store(Path(temporary), part=part), silent)
        write_files(run.store.root, files)
        yield run, run.store.root


@lru_cache(maxsize=1)
def _loaded(place: Place, settings: str) -> Model:
    """A worker keeps its last model: the next task is most likely of the same one."""
    return loaded(place, StudyConfig(**json.loads(settings)))
