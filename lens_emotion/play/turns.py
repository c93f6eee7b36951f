"""One generation at a time: who comes new stops the one that runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


class StoppedError(Exception):
    """The generation was told to stop: by the user, by a newer one, or since nobody listens any more."""


@dataclass
class Turns:
    """The one place at the model."""

    _place: threading.Lock = field(default_factory=threading.Lock)
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _current: threading.Event | None = None

    @contextmanager
    def take(self, stop: threading.Event) -> Iterator[None]:
        """The model for the length of the block, once whoever had it has heard that it must stop.

        Raises:
            StoppedError: `stop` was set while waiting.
        """
        with self._guard:
            if self._current is not None:
                self._current.set()
            self._current = stop
        with self._place:
            check(stop)
            yield

    @contextmanager
    def wait(self) -> Iterator[None]:
        """The model for the length of the block, after whoever has it; nobody is stopped."""
        with self._place:
            yield

    def stop(self) -> None:
        """Stop the one that runs, if one does."""
        with self._guard:
            if self._current is not None:
                self._current.set()


def check(stop: threading.Event) -> None:
    """Raises StoppedError if told to stop."""
    if stop.is_set():
        raise StoppedError
