"""A process beside this one that analyses a model while the next one reads, writes and steers.

It runs `Measured.judged` as this process would, with as many threads, and sends back the results, which are written
here: one writer in a run folder, the same bytes. It waits on its pipe and goes with whoever began it, killed or not;
where it cannot begin, or ends, the analyses are done here. Begun as a command of its own, not by multiprocessing, which
would run a user's script again.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lens_emotion.extraction.activations import PooledActivations

if TYPE_CHECKING:
    from lens_emotion.study.one_model import Measured
    from lens_emotion.study.results import ModelStudy

LARGEST = 2**30  # bytes of activations, which lie in memory twice while they are analysed there
_BEGIN = "import sys; sys.path[:] = sys.argv[1:]; from lens_emotion.study.beside import serve; serve()"


@contextmanager
def analyst(n_models: int) -> Iterator[Analyst]:
    """An analyst for the length of a block; one without a process for a single model, and on a single core."""
    found = Analyst(_begun() if n_models > 1 and _cores() > 1 else None)
    try:
        yield found
    finally:
        found.end()


class Analyst:
    """Analyses in its process, one model at a time, or at once in this one where it has none."""

    def __init__(self, process: subprocess.Popen[bytes] | None) -> None:
        self.process, self._waits = process, ThreadPoolExecutor(1)

    def judged(self, measured: Measured, at_once: bool = False) -> Future[ModelStudy]:
        """The results of a model; done when this returns if `at_once`, for large activations and without a process."""
        if self.process and not at_once and _bytes_of(measured) <= LARGEST and self.process.poll() is None:
            return self._waits.submit(self._exchange, measured)
        done: Future[ModelStudy] = Future()
        done.set_result(measured.judged())
        return done

    def _exchange(self, measured: Measured) -> ModelStudy:
        """Raises EndedError if the process is gone, else what the analyses raised there."""
        assert self.process and self.process.stdin and self.process.stdout
        try:
            pickle.dump(measured, self.process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
            self.process.stdin.flush()
            study, error = pickle.load(self.process.stdout)
        except (OSError, EOFError, ValueError, pickle.UnpicklingError) as gone:
            raise EndedError from gone
        if error is not None:
            raise error
        return study

    def end(self) -> None:
        """Let go of the process, whatever it does."""
        if self.process:
            self.process.kill()
            self.process.wait()
        self._waits.shutdown()


class EndedError(Exception):
    """The process beside this one is gone, or could not say what it found; the analyses have to be done here."""


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _bytes_of(measured: Measured) -> int:
    held = [getattr(measured.evidence, f.name) for f in fields(measured.evidence)]
    return sum(acts.values.nbytes for acts in held if isinstance(acts, PooledActivations))


def _begun() -> subprocess.Popen[bytes] | None:
    import torch

    path = [str(Path(__file__).parents[2]), *map(os.path.abspath, sys.path)]
    # threads that wait do not hold cores on which others read
    own = {"OMP_NUM_THREADS": str(torch.get_num_threads()), "OMP_WAIT_POLICY": "PASSIVE"}
    pipe = subprocess.PIPE
    try:
        return subprocess.Popen([sys.executable, "-c", _BEGIN, *path], stdin=pipe, stdout=pipe, env=os.environ | own)
    except OSError:
        return None


# The process itself.


def serve() -> None:
    """Analyse what is sent: one pickle after the other -> (results or None, error or None)."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who asked, and ends this one by its pipe
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    import torch

    import lens_emotion.study.one_model  # noqa: F401 - while the first model is measured

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    with suppress(EOFError, BrokenPipeError):
        while True:
            answers.write(_answer(pickle.load(sys.stdin.buffer)))
            answers.flush()


def _answer(measured: Any) -> bytes:
    answer: tuple[Any, Exception | None]
    try:
        answer = measured.judged(), None
    except Exception as error:
        answer = None, error
    return pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL)  # what has no pickle ends this process
