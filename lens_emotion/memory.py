"""Memory that runs out: known for what it is whoever says so, and said in one line with how much, and how to go on.

Every library has an error of its own for it, and some have none: they pass on what the system said. `room_for` stands
at the doors (loading, a batch, the analyses, a study, the report); the command line asks `out_of_memory` last.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lens_emotion.errors import LensEmotionError, OutOfMemoryError

if TYPE_CHECKING:
    import torch

_ACCELERATOR = re.compile(r"\b(CUDA|HIP|MPS|XPU|CUBLAS|CUDNN|CUSOLVER)", re.I)
_WORDS = re.compile(
    r"out[ _]?of[ _]?memory|(can't|cannot|could not|unable to|failed to) (allocate|mmap)(?!.*static TLS)"
    r"|not enough memory"
    r"|bad[_ ]alloc|ALLOC_FAILED|memory allocation of|insufficient memory|failed to map segment|can't start new thread"
    r"|paging file is too small",
    re.I,
)
_ASKED = re.compile(
    r"(?:allocate:?|mmap|allocation of|alloc of size)\s+([\d.]+)\s*([KMGTPE]?)(i?)(?:B\b|bytes\b|\s|$)", re.I
)
_FREE = re.compile(r"capacity of ([\d.]+ [KMGT]iB) of which ([\d.]+ [KMGT]iB) is free")


@contextmanager
def room_for(doing: str, remedy: Callable[[], str] = str, kept: str = "") -> Iterator[None]:
    """Inside, whatever says that memory ran out becomes an OutOfMemoryError; any other error passes as it is.

    Doors may stand in one another: what was being done, and the remedy, are the innermost's, what is kept the first's
    that says so.

    Args:
        doing: "loading gpt2", as it follows "while". remedy: asked only then. kept: what is, and how to go on.

    Raises:
        OutOfMemoryError: memory ran out.
    """
    try:
        yield
    except Exception as error:
        if (found := out_of_memory(error)) is None:
            raise
        words = {"doing": doing, "short": found.short, "kept": kept, "remedy": remedy()}
        raise OutOfMemoryError(**{k: getattr(found, k) or said for k, said in words.items()}) from error


def out_of_memory(error: BaseException) -> OutOfMemoryError | None:
    """What an error says of memory; None where neither it nor what it came from says that memory ran out."""
    for each in _chain(error):
        if isinstance(each, OutOfMemoryError):
            return each
        if _says_so(each):
            return OutOfMemoryError(short=_short(str(each), bool(_ACCELERATOR.search(str(each)))))
    return None


def pass_on(error: BaseException) -> None:
    """Raise it again if memory ran out: for those who take any error for a fault of what they look at."""
    if out_of_memory(error) is not None:
        raise error


def on_accelerator(error: BaseException) -> bool:
    """Whether a device's own memory ran out, where a part of a batch may fit."""
    if not isinstance(error, RuntimeError) or isinstance(error, LensEmotionError):
        return False
    named = type(error).__name__ == "OutOfMemoryError"  # torch's, which only devices raise
    return named or (_says_so(error) and bool(_ACCELERATOR.search(str(error))))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it came from; libraries wrap what the system said into errors about files."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _says_so(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ in ("OutOfMemoryError", "ArrowMemoryError"):
        return True
    if isinstance(error, OSError) and (error.errno is not None or type(error) is not OSError):
        return error.errno == errno.ENOMEM  # its words may be a file's name
    if isinstance(error, SystemError):  # C code that met a limit without saying so
        return "without exception set" in str(error) and _limit() is not None
    return not isinstance(error, (LensEmotionError, ValueError, LookupError)) and bool(_WORDS.search(str(error)))


def _short(said: str, accelerator: bool) -> str:
    """What was asked for, and what there is, as far as it is known."""
    asked, parts = _ASKED.search(said), []
    if asked:
        scale = (1024 if asked[3] or not asked[2] else 1000) ** " KMGTPE".index(asked[2].upper() or " ")
        parts.append(f"{in_binary(float(asked[1].rstrip('.')) * scale)} were asked for")
    if accelerator:
        found = _FREE.search(said)
        parts.append(f"{found[2]} of the GPU's {found[1]} were free" if found else "by the accelerator")
    elif left := memory_left():
        parts.append(f"{in_binary(left[0])} are left {left[1]}")
    return ", ".join(parts)


def in_binary(n_bytes: float) -> str:
    """Bytes as the allocators count them."""
    for unit in ("bytes", "KiB", "MiB"):
        if n_bytes < 1024:
            return f"{n_bytes:.0f} {unit}" if unit == "bytes" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.1f} GiB"


def memory_left() -> tuple[float, str] | None:
    """Bytes that this process may still take, and of what: its own limit, its container's, or the machine's memory.

    None where the system does not say.
    """
    found = []
    with suppress(OSError, ValueError, LookupError):
        found.append((1024.0 * int(_line("/proc/meminfo", "MemAvailable")), "of this machine's memory"))
    with suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        most, used = (int((group / f"memory.{kind}").read_text()) for kind in ("max", "current"))
        found.append((float(max(most - used, 0)), f"of this container's {in_binary(most)}"))
    with suppress(OSError, ValueError, LookupError):
        if (limit := _limit()) is not None:
            taken = 1024 * int(_line("/proc/self/status", "VmSize"))
            found.append(
                (float(max(limit - taken, 0)), f"of the limit on address space, {in_binary(limit)} (ulimit -v)")
            )
    return min(found, default=None)


def free_on(device: torch.device) -> float | None:
    """Bytes that tensors may still take on a device, those included that PyTorch holds in reserve; None if unknown."""
    if device.type == "cpu":
        return left[0] if (left := memory_left()) else None
    import torch

    if device.type == "mps":
        return float(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    of = getattr(torch, device.type, None)
    if of is None or not hasattr(of, "mem_get_info"):
        return None
    return float(of.mem_get_info(device)[0] + of.memory_reserved(device) - of.memory_allocated(device))


def _line(path: str, name: str) -> str:
    lines = Path(path).read_text().splitlines()
    return next(line for line in lines if line.startswith(f"{name}:")).split()[1]


def _limit() -> int | None:
    """The limit on this process's address space, in bytes."""
    try:
        import resource
    except ImportError:  # there are none on Windows
        return None
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if soft == resource.RLIM_INFINITY else soft
