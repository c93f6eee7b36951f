"""A study on many workers: one task per model, method and part of the batches; the run folder stays with one writer.

Of a method whose batches are not all in its journal, every worker does a part and sends back the records, which are
added to the journal here as they come: a worker that dies costs its part, an interrupted study none of those that came
back. Once nothing is missing, one worker brings the method to its end. So tables are those of a study in one process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Event
from time import monotonic
from typing import Any, TypeVar

from lens_emotion.journal import Part, append
from lens_emotion.models.loading import resolve
from lens_emotion.study.config import StudyConfig
from lens_emotion.study.executors import Executor
from lens_emotion.study.files import Files, check_inside, read_files
from lens_emotion.study.keys import READING, STEERING, WRITING
from lens_emotion.study.outcome import Outcome
from lens_emotion.study.step_store import step_of, take_in
from lens_emotion.study.steps import Say
from lens_emotion.study.store import Store
from lens_emotion.study.worker import STEPS, SURVEY, Found, Job, WorkerError, finish, run_part

PARTS_PER_SLOT = 2  # parts that are not equally long even out, and a worker that dies costs less
T = TypeVar("T")


class _Stopped(Exception):  # noqa: N818 - only ends a thread
    pass


def distributed(config: StudyConfig, store: Store, say: Say, executor: Executor) -> Iterator[Outcome]:
    """Every model's outcome, in the order of the models; models and methods run side by side.

    Raises:
        LensEmotionError: what a worker raised, or a worker that cannot take part. All that came back is kept.
    """
    stop = Event()
    say("workers", f"{executor.slots} tasks at once")
    try:
        models = [_Distributed(name, config, store, say, executor, stop) for name in config.models]
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

    name: str
    config: StudyConfig
    run_store: Store
    say: Say
    executor: Executor
    stop: Event
    began: float = field(default_factory=monotonic)

    @property
    def label(self) -> str:
        return resolve(self.name).label

    @property
    def store(self) -> Store:
        return self.run_store.model(self.label, lambda said: self.say(self.label, said))

    @property
    def job(self) -> Job:
        return Job(self.name, self.config.for_model(self.name), self.config.models)

    def run(self) -> Outcome:
        self.say(self.label, "loading on a worker")
        self.store.only_sound_steps(_all_steps())
        self.complete(READING)
        wanted = {WRITING: self.job.config.generation, STEERING: self.job.config.steering}
        _together([partial(self.complete, method) for method, asked in wanted.items() if asked], self.stop)
        self.say(self.label, "analysing")
        outcome, files = self.result(finish, self.job, self.files(_all_steps()))
        self.lay_down(files)
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

    def lay_down(self, files: Files) -> None:
        """Write what the analyses gave."""
        check_inside(self.store.root, files)
        for name, data in files.items():
            self.store.write(name, data)
        self.store.only_tables(name.removeprefix("tables/").removesuffix(".csv") for name in files)

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


def _all_steps() -> list[str]:
    return list(dict.fromkeys(step for steps in STEPS.values() for step in steps))
