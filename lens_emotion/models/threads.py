"""Threads: Python's take turns on a model, PyTorch's are one where several would wait for each other.

Hooks, and parts that step aside, are the model's and not the thread's. Reading and writing wait for each other. Who
meets a model that another thread steers is refused instead: what it would read is steered, and how long it would wait
nobody knows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from threadpoolctl import ThreadpoolController

from lens_emotion.errors import ModelBusyError

T = TypeVar("T")
R = TypeVar("R")
POLL = 0.2  # seconds between looks at whether the thread in front has begun to steer


@dataclass
class _Turn:
    lock: Any = field(default_factory=threading.RLock)
    steering: list[str] = field(default_factory=list)  # the thread that steers, once for each block it is in


_TURNS: WeakKeyDictionary[Any, _Turn] = WeakKeyDictionary()
_GUARD = threading.Lock()


@contextmanager
def turn(model: Any, *, steering: bool = False) -> Iterator[None]:
    """The model for this thread alone, inside the block; again within the same thread is fine.

    Raises:
        ModelBusyError: another thread steers it.
    """
    with _GUARD:
        mine = _TURNS.setdefault(model, _Turn())
    while not mine.lock.acquire(timeout=POLL):
        if mine.steering:
            raise ModelBusyError(
                f"the model is being steered by the thread '{mine.steering[-1]}', so what is read now would be steered "
                "too; leave its `with` block first, or load the model a second time for this thread"
            )
    try:
        if steering:
            mine.steering.append(threading.current_thread().name)
        yield
    finally:
        if steering:
            mine.steering.pop()
        mine.lock.release()


@contextmanager
def one_thread(when: bool = True) -> Iterator[None]:
    """One CPU thread of PyTorch's inside the block, the user's setting otherwise and afterwards.

    For work in small pieces: on a busy machine two threads took up to twenty times as long as one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1 if when else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def one_core(when: bool = True) -> Iterator[None]:
    """The same, and one thread of the BLAS behind NumPy and SciPy; Python threads begun inside have one each, too.

    Each of them keeps threads of its own, which spin while they wait: over small pieces, beside others that do the
    same, that took five times the processor time of the work.
    """
    if not when:
        yield
        return
    with one_thread(), _blas().limit(limits=1, user_api="blas"):
        yield


def over_cores(call: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """A call for every item, as many at once as PyTorch has threads here, each on one core.

    With a single one it is this thread that calls: a thread begun for it has the system's number of threads, which
    spin against those of other processes (measured: twelve times as long beside one).
    """
    threads = min(torch.get_num_threads(), len(items))
    with one_core():
        if threads < 2:
            return [call(item) for item in items]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(call, items))


@cache
def _blas() -> ThreadpoolController:
    import scipy.linalg.blas  # noqa: F401 - SciPy's is another one than NumPy's, and not found before it is loaded

    return ThreadpoolController()
