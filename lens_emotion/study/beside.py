"""The processes among which a study shares its work: this one, and others beside it.

Work comes in chains, one for each model: it is measured, analysed, drawn. Whoever is free takes what is ready,
beginnings first; whoever writes a model's files, their bytes are the same. A process beside waits on its pipe, and ends
at once with whoever began it, killed or not. Where none can begin, or one ends, its part is done here. They are no
processes of multiprocessing's, which would run a user's script again.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from threading import Condition, Thread
from typing import IO, TYPE_CHECKING, Any

from lens_emotion.display import Brief
from lens_emotion.files.user import shown
from lens_emotion.memory import memory_left

if TYPE_CHECKING:  # a process beside begins before this one has read what takes seconds to read
    from lens_emotion.study.steps import Say

LARGEST = 2**30  # bytes that are sent, which lie in memory twice meanwhile, and that wait to be analysed
EACH = 2 * 2**30  # free bytes for every process beside: Python, PyTorch, TransformerLens, and a small model at work
ASKED = "LENS_EMOTION_PROCESSES"
_BEGIN = "import sys; sys.path[:] = sys.argv[1:]; from lens_emotion.study.beside import serve; serve()"
_SIZE = struct.Struct("<Q")
_CAN_HOLD = hasattr(signal, "pthread_sigmask")  # not on Windows


@dataclass(frozen=True)
class Stage:
    """One step of a chain.

    Attributes:
        rank: what is ready of the lowest rank is taken first; 0 is a beginning, which nothing has to follow.
        call: given what the step before gave, and whom to tell what is being done; found by its name in any process.
        size: bytes of what it is given, where a process beside may do it; None where only this one may.
    """

    rank: int
    call: Callable[[Any, Say], Any]
    size: Callable[[Any], int | None]


@dataclass(eq=False, repr=False)
class Chain(Brief):
    """Steps that follow one another, and what they gave so far; `error` ended them."""

    stages: Sequence[Stage]
    say: Say
    results: list[Any] = field(default_factory=list)
    error: Exception | None = None

    @property
    def over(self) -> bool:
        return self.error is not None or len(self.results) == len(self.stages)


@dataclass(frozen=True, eq=False, repr=False)
class _Ready(Brief):
    """What may be taken: the next stage of a chain, what it is given, and its size where others may take it."""

    rank: int
    number: int
    chain: Chain
    value: Any
    size: int | None

    @property
    def order(self) -> tuple[int, int]:
        return self.rank, self.number


class Crew:
    """This process, and those beside it, for one study; one lock around what is ready and what came of it.

    Attributes:
        others: the processes beside; empty where all is done here.
    """

    def __init__(self) -> None:
        self.others: list[subprocess.Popen[bytes]] = []
        self._ready: list[_Ready] = []
        self._changed, self._numbers = Condition(), count()
        self._first: Exception | None = None
        self._ended = False

    def grow(self, n: int) -> None:
        """Begin processes until there are n in all, this one among them, or as many as there may be."""
        while len(self.others) + 1 < min(n, most()) and (another := _begun()):
            self.join(another)

    def join(self, other: subprocess.Popen[bytes]) -> None:
        """Let a process take a share."""
        with self._changed:
            self.others.append(other)
        Thread(target=self._share, args=(other,), daemon=True).start()

    def begin(self, value: Any, stages: Sequence[Stage], say: Say) -> Chain:
        """A chain that goes on from this value wherever somebody is free."""
        chain = Chain(stages, say)
        self._tell(partial(self._add, chain, value))
        return chain

    def results(self, chain: Chain) -> list[Any]:
        """What the stages of a chain gave; meanwhile this process does its share of all that is ready.

        Raises:
            Exception: what was raised, in this chain, or in the first that failed where this one was not begun then.
        """
        while (taken := self._taken(until=chain)) is not None:
            self._do(taken, lambda call, value: call(value, taken.chain.say))
        if (error := chain.error or (None if chain.over else self._first)) is not None:
            raise error
        return chain.results

    def end(self) -> None:
        """Let go of the processes, whatever they do."""
        with self._changed:
            self._ended, begun = True, list(self.others)
            self._changed.notify_all()
        for other in begun:
            other.kill()
            other.wait()

    def _share(self, other: subprocess.Popen[bytes]) -> None:
        while other.poll() is None and (taken := self._taken()) is not None:
            if not self._do(taken, partial(_sent, other, say=taken.chain.say)):
                break
        with self._changed:
            self.others.remove(other)
            self._changed.notify_all()

    def _do(self, taken: _Ready, do: Callable[[Callable[[Any, Say], Any], Any], Any]) -> bool:
        """Whether whoever was asked is still there."""
        chain = taken.chain
        try:
            found = do(chain.stages[len(chain.results)].call, taken.value)
        except EndedError:
            self._tell(partial(self._ready.append, replace(taken, size=None)))
            return False
        except Exception as error:
            self._tell(partial(self._failed, chain, error))
        else:
            self._tell(partial(self._found, chain, found))
        return True

    def _tell(self, change: Callable[[], None]) -> None:
        with self._changed:
            change()
            self._changed.notify_all()

    def _add(self, chain: Chain, value: Any) -> None:
        stage = chain.stages[len(chain.results)]
        size = stage.size(value)
        size = size if size is not None and size <= LARGEST else None
        self._ready.append(_Ready(stage.rank, next(self._numbers), chain, value, size))

    def _found(self, chain: Chain, found: Any) -> None:
        chain.results.append(found)
        if not chain.over:
            self._add(chain, found)

    def _failed(self, chain: Chain, error: Exception) -> None:
        chain.error, self._first = error, self._first or error

    def _taken(self, until: Chain | None = None) -> _Ready | None:
        """What is to be done next, once there is any; None where that is nothing: a process beside is asked until the
        end, this one until nothing more will come of a chain."""
        with self._changed:
            while not self._ended and not (until and self._over(until)):
                if found := self._next(here=until is not None):
                    self._ready.remove(found)
                    return found
                self._changed.wait()
        return None

    def _over(self, chain: Chain) -> bool:
        """Done, failed, or not begun before another failed."""
        not_begun = any(r.chain is chain and r.rank == 0 for r in self._ready)
        return chain.over or (self._first is not None and not_begun)

    def _next(self, here: bool) -> _Ready | None:
        """Beginnings first, so that the rest is spread evenly at the end; here what nobody else may do before them, and
        what was begun where nobody else is there, or too much would lie in memory."""
        ready = sorted((r for r in self._ready if r.rank or not self._first), key=lambda r: r.order)
        if not here:
            return next((r for r in ready if r.size is not None), None)
        held = sum(r.size or 0 for r in ready if r.rank)
        alone = not self.others or held > LARGEST
        at_once = [r for r in reversed(ready) if r.rank and (alone or r.size is None)]
        return next(iter([*at_once, *(r for r in ready if r.size is None), *ready]), None)


class EndedError(Exception):
    """A process beside is gone, or could not say what it found; its part has to be done here."""


@contextmanager
def crew(n_models: int) -> Iterator[Crew]:
    """Whoever shares the work of a study of several models, for the length of a block: this process, and one beside it.

    Raises:
        ConfigError: LENS_EMOTION_PROCESSES, how many processes there may be in all, is no number of them.
    """
    found = Crew()
    try:
        found.grow(min(n_models, 2))
        yield found
    finally:
        found.end()


def most() -> int:
    """Processes that a study may be: as asked, one for every core, as many more as fit into memory.

    Raises:
        ConfigError: LENS_EMOTION_PROCESSES is no number of them.
    """
    asked, left = os.environ.get(ASKED, ""), memory_left()
    if asked and not (asked.isdecimal() and len(asked) < 10 and int(asked)):
        from lens_emotion.run.config import ConfigError

        raise ConfigError(
            f"{ASKED} is {shown(asked)}; give the number of processes that a study may use, 1 for one alone"
        )
    return min(int(asked or _cores()), 1 + int(left[0] // EACH) if left else sys.maxsize)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _begun() -> subprocess.Popen[bytes] | None:
    path = [str(Path(__file__).parents[2]), *map(os.path.abspath, sys.path)]
    # threads that wait do not hold cores on which others read; bars are drawn here alone
    own = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "LENS_EMOTION_PROGRESS": "0"}
    if torch := sys.modules.get("torch"):  # else this one has as many threads as that one will
        own["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    pipe, before = subprocess.PIPE, None
    try:
        if _CAN_HOLD:  # until it can ignore a Ctrl-C itself
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        return subprocess.Popen([sys.executable, "-c", _BEGIN, *path], stdin=pipe, stdout=pipe, env=own)
    except (OSError, TypeError):  # TypeError: no interpreter is known, as where Python is embedded
        return None
    finally:
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _sent(other: subprocess.Popen[bytes], call: Callable[[Any, Say], Any], value: Any, *, say: Say) -> Any:
    """What a call gives in a process beside.

    Raises:
        EndedError: the process is gone. Exception: what was raised there.
    """
    assert other.stdin and other.stdout
    _passed(_write, other.stdin, (call, value))
    while (answer := _passed(_received, other.stdout))[0] == "say":
        try:
            say(*answer[1:])
        except BaseException:
            other.kill()  # whatever it says after that is no answer to what is asked next
            raise
    _, found, error = answer
    if error is not None:
        raise error
    return found


def _passed(way: Callable[..., Any], *given: Any) -> Any:
    try:
        return way(*given)
    except (OSError, EOFError, pickle.PickleError, AttributeError, TypeError) as gone:  # some have no pickle
        raise EndedError from gone


def _received(pipe: IO[bytes]) -> Any:
    return pickle.loads(_bytes(pipe))


def _write(pipe: IO[bytes], message: Any) -> None:
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.write(_SIZE.pack(len(data)))
    pipe.write(data)
    pipe.flush()


def _bytes(pipe: IO[bytes]) -> bytes:
    """One message, whole.

    Raises:
        EOFError: the pipe ends before.
    """
    head = pipe.read(_SIZE.size)
    size = _SIZE.unpack(head)[0] if len(head) == _SIZE.size else 0
    data = pipe.read(size)
    if not size or len(data) < size:
        raise EOFError
    return data


# The process itself.


def serve() -> None:
    """Do what is sent, one message after the other: a call and what it is given -> lines said, results or an error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who asked, and ends this one by its pipe
    if _CAN_HOLD:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    inbox: SimpleQueue[bytes] = SimpleQueue()
    Thread(target=_listen, args=(inbox,), daemon=True).start()
    import lens_emotion.study.one_model  # noqa: F401 - while whoever asks gets ready

    gc.freeze()  # what was read for good need not be looked through
    with suppress(BrokenPipeError):
        while True:
            call, value = pickle.loads(inbox.get())
            _write(answers, _answer(call, value, lambda model, doing: _write(answers, ("say", model, doing))))


def _listen(inbox: SimpleQueue[bytes]) -> None:
    """Messages as they come; whoever began this process is gone with them, and so is what it asked for."""
    with suppress(EOFError):
        while True:
            inbox.put(_bytes(sys.stdin.buffer))
    os._exit(0)


def _answer(call: Callable[[Any, Say], Any], value: Any, say: Say) -> tuple[str, Any, Exception | None]:
    try:
        return "done", call(value, say), None
    except Exception as error:  # what has no pickle ends this process
        return "done", None, error
