"""Who runs the tasks of a study, by name. Ray itself is in `ray_executor`, which only its users need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

from lens_emotion.study.config import ConfigError

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
    from lens_emotion.study.ray_executor import ray_executor

    with ray_executor(gpus, cpus) as found:
        yield found
