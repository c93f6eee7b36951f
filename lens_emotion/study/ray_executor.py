"""Ray as the one who runs a study's tasks: a cluster that is there already, or one on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from lens_emotion.errors import LensEmotionError
from lens_emotion.extras import need_extra
from lens_emotion.study.config import ConfigError
from lens_emotion.study.worker import WorkerError

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
            _connect(self.address)
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


def _connect(address: str | None) -> None:
    environment = {"env_vars": {"LENS_EMOTION_PROGRESS": "0"}}
    try:
        _ray().init(address=address, log_to_driver=False, logging_level="ERROR", runtime_env=environment)
    except (ConnectionError, TimeoutError, RuntimeError, ValueError) as error:
        raise WorkerError(f"no Ray cluster: {error}; check RAY_ADDRESS, or unset it to begin one here") from None


def _plain(name: str, error: BaseException) -> BaseException:
    """The worker's own error if it says what to do, else one that names the task."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, LensEmotionError):
        return cause
    words = str(error).strip().splitlines() or [type(error).__name__]
    return WorkerError(f"{name} failed on a worker: {words[-1].strip()} ({type(error).__name__})")


def _ray() -> Any:
    import ray

    return ray
