"""One progress bar for terminal and notebook; silent when output is not watched or LENS_EMOTION_PROGRESS=0."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def _wanted() -> bool:
    if os.environ.get("LENS_EMOTION_PROGRESS") == "0":
        return False
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def track(
    items: Iterable[T],
    label: str,
    total: int | None = None,
    step: Callable[[T], int] = lambda _: 1,
    show: bool = True,
) -> Iterator[T]:
    """Iterate with a progress bar that advances by `step(item)`; leaves no bar behind when done."""
    if not (show and _wanted()):
        yield from items
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc=label, leave=False, dynamic_ncols=True) as bar:
        for item in items:
            yield item
            bar.update(step(item))
