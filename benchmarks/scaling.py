"""Does reading scale as it should? Time linear in texts and layers, memory that does not grow with the texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import lens_emotion as le
from benchmarks.measure import Options, Row, Sample, interleaved
from benchmarks.subjects import random_model, texts
from benchmarks.table import run_alone

NAME = "scaling"
REPEATS = 3
BUDGET = 2048  # padded tokens of a batch: small, so that the fewest texts fill one as the most do
SLACK = (0.0, 1.15)  # an exponent of 1 is linear


@dataclass(frozen=True)
class Growth:
    """Seconds (or MiB) against size.

    Attributes:
        exponent: slope of log y on log x: 1 is linear, 2 quadratic, 0 flat.
        slope, start: least-squares line y = start + slope * x.
        r2: share of the variance of y that the line explains.
    """

    exponent: float
    slope: float
    start: float
    r2: float


def growth(x: Sequence[float], y: Sequence[float]) -> Growth:
    slope, start = np.polyfit(x, y, 1)
    left = np.asarray(y) - (start + slope * np.asarray(x))
    spread = float(np.var(y))
    r2 = 1 - float(np.var(left)) / spread if spread > 0 else 1.0
    exponent = float(np.polyfit(np.log(x), np.log(np.maximum(y, 1e-9)), 1)[0])
    return Growth(exponent, float(slope), float(start), r2)


def rows(options: Options) -> list[Row]:
    """Reading 100 to 1,000 texts (3,000 with --full), and models of more layers and width."""
    return [*_more_texts(options), *_larger_models(options)]


def _read(model: Any, n: int) -> Callable[[], Any]:
    chosen = texts(n, real=False)
    return lambda: le.extract_comprehension(model, chosen, token_budget=BUDGET, progress=False)


def _more_texts(options: Options) -> list[Row]:
    sizes = (60, 120) if options.quick else (100, 300, 1000, 3000) if options.full else (100, 300, 1000)
    layers, width = 4, 128
    model = random_model(layers, width)
    samples = interleaved({str(n): _read(model, n) for n in sizes}, REPEATS)
    times = [samples[str(n)].seconds for n in sizes]
    what = f"reading {sizes[0]} to {sizes[-1]} texts, {layers} layers of {width}"
    result = [n * layers * width * 4 / 2**20 for n in sizes]  # the rows themselves have to grow
    return [
        _exponent(f"{what}: time", sizes, times, "s per text", SLACK),
        *_memory(what, sizes, [samples[str(n)] for n in sizes], result),
    ]


def _memory(what: str, sizes: Sequence[int], samples: Sequence[Sample], result: Sequence[float]) -> list[Row]:
    peaks = [s.peak_mib for s in samples]
    if any(p is None for p in peaks):
        return []
    beyond = [max(float(p or 0) - r, 1.0) for p, r in zip(peaks, result, strict=True)]
    shown = ", ".join(f"{p:.0f}" for p in beyond)
    note = f"MiB beyond the result: {shown}; the goal is half as much again at most"
    times = beyond[-1] / beyond[0]
    return [Row(NAME, f"{what}: peak memory at most / at fewest texts", times, unit="x", limit=(0.0, 1.5),
                repeats=REPEATS, note=note)]  # fmt: skip


def _larger_models(options: Options) -> list[Row]:
    n = 20 if options.quick else 50
    depths = (2, 4) if options.quick else (4, 8, 16, 32)
    widths = (64, 128) if options.quick else (128, 256, 512, 1024)
    found = []
    for label, shapes, sizes, limit in (
        ("layers", [(d, 128) for d in depths], depths, SLACK),
        ("width", [(4, w) for w in widths], widths, (0.0, 2.15)),  # weights grow with the square
    ):
        models = [random_model(layers, width) for layers, width in shapes]
        calls = {str(size): _read(model, n) for size, model in zip(sizes, models, strict=True)}
        samples = interleaved(calls, REPEATS)
        times = [samples[str(size)].seconds for size in sizes]
        what = f"reading {n} texts, {label} {sizes[0]} to {sizes[-1]}: time"
        found.append(_exponent(what, sizes, times, f"s per unit of {label}", limit))
    return found


def _exponent(what: str, sizes: Sequence[int], y: Sequence[float], unit: str, limit: tuple[float, float]) -> Row:
    fit = growth(sizes, y)
    times = ", ".join(f"{value:.3g}" for value in y)
    note = f"s: {times}; line {fit.start:.3g} + {fit.slope:.3g} {unit}, R2 {fit.r2:.3f}"
    return Row(NAME, what, fit.exponent, unit="exponent", limit=limit, repeats=REPEATS, note=note)


if __name__ == "__main__":
    run_alone(rows)
