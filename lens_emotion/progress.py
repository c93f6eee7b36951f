"""One progress bar for terminal and notebook; silent unwatched, in tests, and with LENS_EMOTION_PROGRESS=0."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from threading import get_ident
from typing import Any, TypeVar, cast

T = TypeVar("T")


def in_notebook() -> bool:
    """True in a Jupyter kernel, not where its libraries are merely imported. Imports nothing."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return "ipykernel" in sys.modules and getattr(shell, "kernel", None) is not None


def _wanted() -> bool:
    asked = os.environ.get("LENS_EMOTION_PROGRESS")
    if asked in ("0", "1"):
        return asked == "1"
    if "PYTEST_CURRENT_TEST" in os.environ:
        return False
    return in_notebook() or sys.stderr.isatty()


def _bar() -> Any:
    """tqdm's widget in a notebook that has ipywidgets, its line of text anywhere else."""
    if in_notebook() and find_spec("ipywidgets"):
        from tqdm.notebook import tqdm
    else:
        from tqdm.std import tqdm
    return tqdm


@contextmanager
def above_bars() -> Iterator[None]:
    """Bars give way to what is printed inside, and come back below it: other threads print while one is drawn."""
    bar = getattr(sys.modules.get("tqdm.std"), "tqdm", None)
    with bar.external_write_mode() if bar else nullcontext():
        yield


class _Unheard:
    """Standard output that takes nothing from one thread, and from the others all."""

    def __init__(self, kept: Any) -> None:
        self._kept, self._thread = kept, get_ident()

    def write(self, text: str) -> int:
        return len(text) if get_ident() == self._thread else self._kept.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kept, name)


@contextmanager
def unheard() -> Iterator[None]:
    """What this thread prints inside is dropped: libraries' banners; others may print meanwhile what is to be read."""
    kept = sys.stdout
    sys.stdout = cast(Any, _Unheard(kept))
    try:
        yield
    finally:
        sys.stdout = kept


def track(
    items: Iterable[T], label: str, total: int | None = None, step: Callable[[T], int] = lambda _: 1, show: bool = True
) -> Iterator[T]:
    """Iterate with a progress bar that advances by `step(item)`; leaves no bar behind when done."""
    if not (show and _wanted()):
        yield from items
        return
    with _bar()(total=total, desc=label, leave=False, dynamic_ncols=True) as bar:
        for item in items:
            yield item
            bar.update(step(item))
