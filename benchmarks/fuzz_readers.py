"""Damaged and lying files through every reader of foreign files: a typed error or a right answer, nothing else.

    python -m benchmarks.fuzz_readers [--inputs 20000] [--seed 0] [--only NAME] [--keep DIR | --replay FILE]

Half of the inputs are good files that were changed: bytes flipped, cut off, doubled or overwritten, a value of the JSON
replaced by one of another type. The others are valid: form, seal and checksum are right, and contents lie (see
`fuzz_grammar`); or something else lies in the file's place, a folder or a FIFO. A reader must raise a
`LensEmotionError` or return what the file, as it now stands, says, where that has a meaning. All else is a failure:
another exception, a hang, other numbers, or more memory than a small file may cost.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import re
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.fuzz_grammar import ODD, clear, is_odd, odd, put
from benchmarks.fuzz_subjects import HangError, Reader, limit
from lens_emotion.errors import LensEmotionError

os.environ.setdefault("RUST_BACKTRACE", "0")  # a panic of a library is told by its line here

LONGEST = 10.0  # seconds for one small file; more is a hang
MOST = 500 * 2**20  # bytes that a small file may make the process grow by
ROOM = 3 * 2**29  # bytes of addresses beside those in use, so that a hostile size ends in an error here
LYING, ODDLY = 0.5, 0.04  # shares of the inputs that are valid and lie, and that are no files
OTHER_TYPES: tuple[Any, ...] = (None, True, 0, -1, 1e308, 10**40, "", "x", "\ud800", [], {}, [[]], float("nan"))


@dataclass
class Tally:
    """What came of a reader's inputs."""

    inputs: int = 0
    lies: int = 0
    errors: int = 0
    right: int = 0
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0


@contextmanager
def little_room() -> Iterator[None]:
    """Addresses are bounded inside: a file that asks for a petabyte gets a MemoryError, not the machine."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with suppress(OSError, ValueError):
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, hard))
    try:
        yield
    finally:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def peak() -> int:
    """Bytes of memory that the process held at most, since `forget_peak` where the system has it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def forget_peak() -> int:
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak()


def flipped(rng: random.Random, good: bytes) -> bytes:
    data = bytearray(good)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def in_front(rng: random.Random, good: bytes) -> bytes:
    """A change near the beginning, where headers and counts are."""
    n = min(len(good), 400)
    return flipped(rng, good[:n]) + good[n:]


def cut(rng: random.Random, good: bytes) -> bytes:
    a, b = sorted(rng.randrange(len(good) + 1) for _ in range(2))
    return rng.choice((good[:a], good[a:], good[:a] + good[b:], good[:b] + good[a:], good + good[a:b]))


def overwritten(rng: random.Random, good: bytes) -> bytes:
    a, n = rng.randrange(len(good)), rng.choice((1, 4, 8, 64))
    filler = rng.choice((b"\x00" * n, b"\xff" * n, rng.randbytes(n), b"9" * n, b"[" * n))
    return good[:a] + filler + good[a + n :]


def swapped(rng: random.Random, value: Any) -> Any:
    """The same JSON with one value, anywhere in it, replaced, removed or moved."""
    paths = list(_paths(value))
    path = rng.choice(paths)
    if not path:
        return copy.deepcopy(rng.choice(OTHER_TYPES))
    parent = value
    for key in path[:-1]:
        parent = parent[key]
    kind = rng.randrange(3)
    if kind == 0 and isinstance(parent, dict):
        parent[rng.choice((f"{path[-1]}_", path[-1].upper()))] = parent.pop(path[-1])
    elif kind == 1:
        del parent[path[-1]]
    else:
        parent[path[-1]] = copy.deepcopy(rng.choice(OTHER_TYPES))
    return value


def _paths(value: Any, limit: int = 400) -> Iterator[tuple[Any, ...]]:
    yield ()
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items)[:limit]:
        for path in _paths(inner, 12):
            yield (key, *path)


BYTES = (flipped, in_front, cut, overwritten)


def mutated(rng: random.Random, reader: Reader) -> bytes:
    """One changed file."""
    if reader.text is not None and rng.random() < 0.4:
        value, join = reader.text()
        return join(json.dumps(swapped(rng, value)))
    return rng.choice(BYTES)(rng, reader.good)


def drawn(reader: Reader, i: int, seed: int) -> tuple[str, bytes]:
    """What the i-th input of a reader is, "lie", "odd" or "change", and its bytes; a function of the seed alone."""
    rng = random.Random(f"{seed}-{reader.name}-{i}")
    kind = rng.random()
    if reader.lies is not None and kind < LYING:
        return "lie", reader.lies(rng)
    if reader.file and kind > 1 - ODDLY:
        return "odd", odd(rng.choice(ODD))
    return "change", mutated(rng, reader)


def tried(reader: Reader, kind: str, data: bytes, path: Path, tally: Tally) -> str:
    """One input through a reader: what is wrong with the answer, or ""."""
    start, before = time.perf_counter(), peak()
    wrong = ""
    try:
        with limit(LONGEST):
            put(path, data)
            result = reader.read(path)
        wrong = _judged(reader, kind, data, result)
        tally.right += not wrong
    except LensEmotionError as error:
        tally.errors += 1
        wrong = "" if str(error).strip() else "wrong: an error without words"
    except HangError:
        wrong = f"hang: no answer within {LONGEST:g} s"
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if type(error).__name__ == "TypeCheckError":  # of the tests' checker of shapes, which comes before our checks
            tally.errors += 1
            return ""
        wrong = f"crash: {type(error).__name__}: {str(error)[:200]}"
    taken, grown = time.perf_counter() - start, peak() - before
    tally.slowest = max(tally.slowest, taken)
    if taken > LONGEST:
        wrong = wrong or f"hang: {taken:.1f} s"
    if grown > MOST:
        wrong = wrong or f"memory: {grown / 2**20:.0f} MiB for {len(data)} bytes"
        forget_peak()
    return wrong


def _judged(reader: Reader, kind: str, data: bytes, result: Any) -> str:
    """What is wrong with a result; whatever the judge stumbles over should not have been read."""
    held = b"" if is_odd(data) else data
    try:
        if kind == "change":
            return (
                "" if reader.right(held, result) else f"wrong: other content than the file {_why(reader, held, result)}"
            )
        if kind == "odd" and not reader.lenient:
            return f"wrong: a result of what is no file, or an empty one ({data[5:].decode()})"
        found = reader.says(held, result) if reader.says else ""
        return f"wrong: {found}" if found else ""
    except Exception as error:
        return f"wrong: a result of what cannot be read ({type(error).__name__}: {str(error)[:120]})"


def _why(reader: Reader, data: bytes, result: Any) -> str:
    try:
        found = reader.says(data, result) if reader.says else ""
    except Exception as error:
        found = f"{type(error).__name__}: {str(error)[:120]}"
    return f"({found})" if found else ""


def fuzz(reader: Reader, inputs: int, seed: int, folder: Path, keep: Path | None = None) -> Tally:
    """Try a reader on `inputs` changed files."""
    tally, path = Tally(), reader.place or folder / f"file{reader.suffix}"
    forget_peak()
    for i in range(inputs):
        kind, data = drawn(reader, i, seed)
        tally.inputs += 1
        tally.lies += kind == "lie"
        if wrong := tried(reader, kind, data, path, tally):
            tally.failures.append(f"{kind} {i}: {wrong}")
            if keep is not None:
                (keep / f"{slug(reader.name)}.{kind}.{seed}-{i}").write_bytes(data)
    put(path, reader.good)
    if reader.place is None:
        clear(path)
    return tally


def slug(name: str) -> str:
    """A reader's name in a file's name."""
    return re.sub(r"\W+", "_", name).strip("_")


def all_readers(folder: Path) -> list[Reader]:
    """Every reader, each with its good file in a part of the folder."""
    from benchmarks.fuzz_control import control_readers
    from benchmarks.fuzz_models import model_readers
    from benchmarks.fuzz_own import own_readers
    from benchmarks.fuzz_runs import run_readers
    from benchmarks.fuzz_steps import step_readers
    from benchmarks.fuzz_stored import stored_readers
    from benchmarks.fuzz_subjects import readers

    found: list[Reader] = []
    for make in (readers, control_readers, own_readers, run_readers, stored_readers, step_readers, model_readers):
        part = folder / make.__name__
        part.mkdir()
        found += make(part)
    return found


def shared(found: Sequence[Reader], inputs: int) -> dict[str, int]:
    """How many inputs each reader gets, by the weights."""
    turns = [r.name for k in range(max(r.weight for r in found)) for r in found if k < r.weight]
    return Counter(turns[i % len(turns)] for i in range(inputs))


def run(
    inputs: int, seed: int, only: str = "", keep: Path | None = None, found: Sequence[Reader] = ()
) -> dict[str, Tally]:
    """Share the inputs between the readers, all or those given."""
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(temporary).resolve()
        found = [r for r in (found or all_readers(folder)) if only in r.name]
        shares = shared(found, inputs)
        with little_room():
            return {r.name: fuzz(r, shares.get(r.name, 0), seed, folder, keep) for r in found}


def replay(file: Path) -> int:
    """One kept input again, with all that comes of it shown."""
    name, kind, _ = file.name.split(".")
    with tempfile.TemporaryDirectory() as temporary, little_room():
        folder = Path(temporary).resolve()
        reader = next(r for r in all_readers(folder) if slug(r.name) == name)
        path, tally = reader.place or folder / f"file{reader.suffix}", Tally()
        wrong = tried(reader, kind, file.read_bytes(), path, tally)
    print(f"{reader.name}: {wrong or ('a typed error' if tally.errors else 'right')}")
    return int(bool(wrong))


def shown(tallies: dict[str, Tally], most: int) -> None:
    head = f"{'inputs':>8}{'lying':>8}{'typed errors':>14}{'right':>8}{'failures':>10}{'slowest':>10}"
    print(f"{'reader':<28}{head}")
    for name, t in tallies.items():
        counts = f"{t.inputs:>8}{t.lies:>8}{t.errors:>14}{t.right:>8}{len(t.failures):>10}{t.slowest:>9.2f}s"
        print(f"{name:<28}{counts}")
        for failure in t.failures[:most]:
            print(f"  {failure.encode('ascii', 'backslashreplace').decode()}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fuzz_readers", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="readers whose name holds this")
    parser.add_argument("--keep", type=Path, help="a folder for the inputs that fail")
    parser.add_argument("--replay", type=Path, help="an input that was kept")
    parser.add_argument("--show", type=int, default=10, help="failures shown of each reader")
    args = parser.parse_args(arguments)
    if args.replay:
        return replay(args.replay)
    if args.keep:
        args.keep.mkdir(parents=True, exist_ok=True)
    start, tallies = time.perf_counter(), run(args.inputs, args.seed, args.only, args.keep)
    shown(tallies, args.show)
    failed = sum(len(t.failures) for t in tallies.values())
    print(f"{sum(t.inputs for t in tallies.values())} inputs, {failed} failures, {time.perf_counter() - start:.0f} s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
