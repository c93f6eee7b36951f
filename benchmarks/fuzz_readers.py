"""Damaged files through every reader of foreign files: a typed error or a right answer, nothing else.

    python -m benchmarks.fuzz_readers [--inputs 10000] [--seed 0]

Each input is a good file that was changed: bytes flipped, cut off, doubled or overwritten, its header edited, a value
of its JSON replaced by one of another type. A reader must raise a `LensEmotionError` or return what the file, as it now
stands, says (where a file carries a checksum: what was written). Anything else is a failure: another exception, a hang,
or other numbers.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.fuzz_own import own_readers
from benchmarks.fuzz_subjects import Reader, readers
from lens_emotion.errors import LensEmotionError

LONGEST = 10.0  # seconds for one small file; more is a hang
OTHER_TYPES: tuple[Any, ...] = (None, True, 0, -1, 1e308, 10**40, "", "x", "\ud800", [], {}, [[]], float("nan"))


@dataclass
class Tally:
    """What came of a reader's inputs."""

    inputs: int = 0
    errors: int = 0
    right: int = 0
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0


class HangError(Exception):
    """A reader did not come back in time."""


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Interrupt what takes longer (main thread of a Unix process only)."""

    def stop(*_: Any) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


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
        return rng.choice(OTHER_TYPES)
    parent = value
    for key in path[:-1]:
        parent = parent[key]
    kind = rng.randrange(3)
    if kind == 0 and isinstance(parent, dict):
        parent[rng.choice((f"{path[-1]}_", path[-1].upper()))] = parent.pop(path[-1])
    elif kind == 1:
        del parent[path[-1]]
    else:
        parent[path[-1]] = rng.choice(OTHER_TYPES)
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


def fuzz(reader: Reader, inputs: int, seed: int, folder: Path) -> Tally:
    """Try a reader on `inputs` changed files."""
    rng, tally, path = random.Random(f"{seed}-{reader.name}"), Tally(), folder / f"file{reader.suffix}"
    for i in range(inputs):
        data = mutated(rng, reader)
        path.write_bytes(data)
        tally.inputs += 1
        start = time.perf_counter()
        try:
            with limit(LONGEST):
                result = reader.read(path)
            if reader.right(data, result):
                tally.right += 1
            else:
                tally.failures.append(f"input {i}: other content than the file")
        except LensEmotionError as error:
            tally.errors += 1
            if not str(error).strip():
                tally.failures.append(f"input {i}: an error without words")
        except (Exception, HangError) as error:
            tally.failures.append(f"input {i}: {type(error).__name__}: {str(error)[:200]}")
        tally.slowest = max(tally.slowest, time.perf_counter() - start)
    return tally


def run(inputs: int, seed: int) -> dict[str, Tally]:
    """Share the inputs evenly between all readers."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        found = [*readers(folder), *own_readers(folder)]
        shares = Counter(found[i % len(found)].name for i in range(inputs))
        return {reader.name: fuzz(reader, shares[reader.name], seed, folder) for reader in found}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fuzz_readers", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    start, tallies = time.perf_counter(), run(args.inputs, args.seed)
    print(f"{'reader':<24}{'inputs':>8}{'typed errors':>14}{'right':>8}{'failures':>10}{'slowest':>10}")
    for name, t in tallies.items():
        print(f"{name:<24}{t.inputs:>8}{t.errors:>14}{t.right:>8}{len(t.failures):>10}{t.slowest:>9.2f}s")
        for failure in t.failures[:10]:
            print(f"  {failure}")
    failed = sum(len(t.failures) for t in tallies.values())
    print(f"{sum(t.inputs for t in tallies.values())} inputs, {failed} failures, {time.perf_counter() - start:.0f} s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
