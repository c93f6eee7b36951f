"""How every benchmark measures: calls in turn in one process, medians, peak memory, and a row that says all of it.

Times of single runs on a shared machine mean little. Here the ways to be compared take turns, run after run, so that a
busy minute hits all of them; each is warmed up once and the median counts.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

Call = Callable[[], Any]


class Skipped(Exception):  # noqa: N818 - not an error
    """A benchmark that cannot run here; the message says why."""


@dataclass(frozen=True)
class Options:
    """What the command line asked for.

    Attributes:
        quick: tiny models and small sizes only, in seconds.
        full: the largest sizes too.
        models: folders of real models; empty for the tiny ones and random weights in GPT-2-small shape.
        peers: install other packages into an environment of their own and run them too.
        threads: CPU threads of every way.
    """

    quick: bool = False
    full: bool = False
    models: tuple[str, ...] = ()
    peers: bool = False
    threads: int = 1
    seed: int = 0

    @property
    def repeats(self) -> int:
        return 3 if self.quick else 5


@dataclass(frozen=True)
class Sample:
    """Every repetition of one way.

    Attributes:
        times: seconds of each repetition, in their order.
        cpu: processor seconds of each repetition, which a busy machine inflates less.
        peaks: memory each held at most beyond what was there before it, in MiB; empty where that cannot be measured.
    """

    times: tuple[float, ...]
    peaks: tuple[float, ...] = ()
    cpu: tuple[float, ...] = ()

    @property
    def seconds(self) -> float:
        return median(self.times)

    @property
    def peak_mib(self) -> float | None:
        return median(self.peaks) if self.peaks else None


@dataclass(frozen=True)
class Row:
    """One line of the table: less is better for `ours` and `baseline`, in the same unit.

    Attributes:
        what: what was done, on which model, at what size.
        goal: the least baseline / ours that counts as met; None if there is none.
        limit: the range `ours` has to lie in, for what has no baseline (laws, slopes); None if there is none.
        repeats: repetitions behind each median.
        note: what a reader has to know to read the numbers.
    """

    benchmark: str
    what: str
    ours: float
    baseline: float | None = None
    baseline_name: str = ""
    unit: str = "s"
    goal: float | None = None
    limit: tuple[float, float] | None = None
    repeats: int = 1
    note: str = ""
    threads: int = field(default_factory=torch.get_num_threads)
    load: float | None = field(default_factory=lambda: load())

    @property
    def ratio(self) -> float | None:
        """Baseline over ours: 2 is twice as fast, or half the memory."""
        return self.baseline / self.ours if self.baseline is not None and self.ours > 0 else None

    @property
    def met(self) -> bool | None:
        """Whether goal and limit are met; None where there are none."""
        found = []
        if self.goal is not None and self.ratio is not None:
            found.append(self.ratio >= self.goal)
        if self.limit is not None:
            found.append(self.limit[0] <= self.ours <= self.limit[1])
        return all(found) if found else None

    @staticmethod
    def measured(
        benchmark: str, what: str, samples: Mapping[str, Sample], ours: str, baseline: str, goal: float | None = None,
        note: str = "",
    ) -> Row:  # fmt: skip
        """Seconds of two of the ways that `interleaved` ran."""
        a, b = samples[ours], samples[baseline]
        ran_here = a.cpu and b.cpu and median(a.cpu) > 0 and median(b.cpu) > 0.05 * b.seconds  # not in another process
        cpu = f"{median(b.cpu) / median(a.cpu):.2f}x of CPU seconds" if ran_here else ""
        note = "; ".join(part for part in (note, cpu) if part)
        return Row(benchmark, what, a.seconds, b.seconds, baseline, "s", goal, repeats=len(a.times), note=note)

    @staticmethod
    def peak(
        benchmark: str, what: str, samples: Mapping[str, Sample], ours: str, baseline: str, goal: float | None = None,
        note: str = "",
    ) -> list[Row]:  # fmt: skip
        """Peak memory of two of the ways that `interleaved` ran, or no row where memory cannot be measured."""
        a, b = samples[ours].peak_mib, samples[baseline].peak_mib
        if a is None or b is None:
            return []
        n = len(samples[ours].peaks)
        return [Row(benchmark, what, max(a, 0.1), max(b, 0.1), baseline, "MiB", goal, repeats=n, note=note)]


def interleaved(calls: Mapping[str, Call], repeats: int, warm_up: bool = True) -> dict[str, Sample]:
    """Run the calls in turn `repeats` times; time and peak memory of every run.

    A call on an accelerator has to bring its result back to the processor, or it would be measured before it is done.
    """
    runs: dict[str, list[Run]] = {name: [] for name in calls}
    for turn in range(-1 if warm_up else 0, repeats):
        order = list(calls) if turn % 2 == 0 else list(calls)[::-1]  # nobody always comes after the same one
        for name in order:
            run = run_once(calls[name])
            if turn >= 0:
                runs[name].append(run)
    return {name: _sample(found) for name, found in runs.items()}


def _sample(runs: list[Run]) -> Sample:
    peaks = tuple(r.peak_mib for r in runs if r.peak_mib is not None)
    return Sample(tuple(r.seconds for r in runs), peaks, tuple(r.cpu_seconds for r in runs))


class Run(NamedTuple):
    """One call: seconds on the clock and of the processors, and MiB held at most beyond the start (None: unknown)."""

    seconds: float
    cpu_seconds: float
    peak_mib: float | None


def run_once(call: Call) -> Run:
    before = _reset_peak()
    start, cpu = time.perf_counter(), time.process_time()
    result = call()
    _finish()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = None if before is None else _peak() - before
    del result
    return Run(seconds, cpu, peak)


def _on_accelerator() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_initialized()


def _finish() -> None:
    if _on_accelerator():
        torch.cuda.synchronize()


def _reset_peak() -> float | None:
    """Give memory back to the system, start the peak anew, and say in MiB what is held now."""
    gc.collect()
    if _on_accelerator():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 2**20
    try:
        ctypes.CDLL(None).malloc_trim(0)  # freed memory that the allocator keeps would hide the next peak
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM (Linux)
        return _status("VmRSS")
    except (OSError, AttributeError):
        return None


def _peak() -> float:
    return torch.cuda.max_memory_allocated() / 2**20 if _on_accelerator() else _status("VmHWM")


def _status(key: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    raise OSError(f"no {key} in /proc/self/status")


def load() -> float | None:
    """Processes that wanted to run in the last minute, all users; None where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def facts(options: Options) -> dict[str, Any]:
    """What the numbers depend on: machine, versions, threads, load."""
    packages = ("lens-emotion", "torch", "transformers", "transformer-lens", "numpy", "scipy")
    return {
        "options": asdict(options),
        "date": time.strftime("%Y-%m-%d"),
        "machine": platform.machine(),
        "system": platform.system(),
        "processors": os.cpu_count(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "load": load(),
        "versions": {name: _version(name) for name in packages},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="tiny models and small sizes, in seconds")
    parser.add_argument("--full", action="store_true", help="the largest sizes too")
    parser.add_argument("--model", nargs="+", action="extend", default=[], metavar="FOLDER", help="real models")
    parser.add_argument("--peers", action="store_true", help="install other packages in a place of their own, run them")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of every way (default 1)")
    parser.add_argument("--seed", type=int, default=0)


def options_from(args: argparse.Namespace) -> Options:
    return Options(args.quick, args.full, tuple(args.model), args.peers, args.threads, args.seed)
