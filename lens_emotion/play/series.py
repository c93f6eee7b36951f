"""Many texts for one click: a sweep over doses, and a grid of seeds, each beside random directions of its length."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from lens_emotion.play.asks import AskError
from lens_emotion.play.session import Emit, Event, Session, check, plain
from lens_emotion.stats.tests import p_text
from lens_emotion.steering.comparison import (
    BASELINE_LOOP,
    RANDOM,
    STEERED,
    UNSTEERED,
    Push,
    measure_texts,
    read_along,
    text_regime,
)
from lens_emotion.steering.dose import Dose
from lens_emotion.steering.generate import Condition, Continuation, generate_steered
from lens_emotion.steering.regimes import INERT, SURGICAL, Thresholds
from lens_emotion.vectors.emotion_vectors import random_like

N_SEEDS, N_RANDOM = 8, 3
DOSES = {
    "natural": (0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0),
    "relative": (0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.9, 1.3, 2.0),
}
Measure = Callable[[Sequence[Continuation], Thresholds], Event]


def sweep_doses(session: Session, push: Push, emit: Emit, stop: threading.Event) -> None:
    """The push at nine doses, each beside three random directions of its length, on one prompt and one seed.

    Raises:
        StoppedError: `stop` was set; the model is as it was.
    """
    doses = [Dose(value, push.dose.unit) for value in DOSES[push.dose.unit]]
    seed = push.sampling.seed
    drawn = [random_like(session.vectors, push.vector, seed + 1 + i) for i in range(N_RANDOM)]
    conditions = [Condition(push.prompt, seed=seed)]
    conditions += [Condition(push.prompt, vector, dose, seed) for dose in doses for vector in (push.vector, *drawn)]

    def measure(texts: Sequence[Continuation], limits: Thresholds) -> Event:
        readings = read_along(session.model, push, texts)
        readings = readings - readings[0]
        named = {str(i): text for i, text in enumerate(texts)}
        table = measure_texts(session.model, push.prompt, named, readings, limits)
        rows = [_dose_row(dose, table.iloc[at : at + 1 + N_RANDOM], limits) for dose, at in _blocks(doses)]
        looped = float(table.loop_share.iloc[0])
        found = {"unreliable": looped > BASELINE_LOOP, "explosive": limits.explosive_ratio}
        return {"rows": rows, "summary": _sweep_sentence(rows, looped), **found}

    _series(session, push, conditions, measure, emit, stop)


def write_seeds(session: Session, push: Push, emit: Emit, stop: threading.Event) -> None:
    """The same push under eight seeds, each beside its own unsteered text and a random direction of its own.

    Raises:
        StoppedError: `stop` was set; the model is as it was.
    """
    seeds = [push.sampling.seed + i for i in range(N_SEEDS)]
    drawn = [random_like(session.vectors, push.vector, seed) for seed in seeds]
    conditions = [
        Condition(push.prompt, vector, push.dose, seed)
        for seed, random in zip(seeds, drawn, strict=True)
        for vector in (None, push.vector, random)
    ]

    def measure(texts: Sequence[Continuation], limits: Thresholds) -> Event:
        readings, rows = read_along(session.model, push, texts).reshape(-1, 3), []
        for i, seed in enumerate(seeds):
            named = dict(zip((UNSTEERED, STEERED, RANDOM), texts[3 * i : 3 * i + 3], strict=True))
            table = measure_texts(session.model, push.prompt, named, readings[i] - readings[i, 0], limits)
            rows.append(_seed_row(seed, table, limits))
        return {"rows": rows, "summary": _seeds_sentence(rows)}

    _series(session, push, conditions, measure, emit, stop)


def check_seeds(push: Push) -> Push:
    """The push, if seeds make a difference to it.

    Raises:
        AskError: greedy texts do not depend on a seed; seeds run beyond the largest.
    """
    if push.sampling.greedy:
        raise AskError("temperature 0 writes the same text for every seed; raise it, for example to 0.8", "temperature")
    if push.sampling.seed + N_SEEDS > 2**31 - 1:
        raise AskError(f"{N_SEEDS} seeds from {push.sampling.seed} on go beyond 2147483647; give a lower one", "seed")
    return push


def _series(
    session: Session, push: Push, conditions: list[Condition], measure: Measure, emit: Emit, stop: threading.Event
) -> None:
    """All conditions as few batches; tells how far it is, at most ten times a second, and the rows at the end."""
    with session.turns.take(stop):
        emit({"type": "start", "texts": len(conditions)})
        started, told, most = time.monotonic(), [0.0], len(conditions) * push.max_new_tokens
        lengths: dict[int, int] = {}

        def tick(ids: Any = None) -> None:
            check(stop)
            lengths.update({i: len(row) for i, row in (ids or {}).items()})
            if time.monotonic() - told[0] > 0.1:
                told[0] = time.monotonic()
                emit({"type": "progress", "share": min(1.0, sum(lengths.values()) / most)})

        texts = generate_steered(
            session.model, conditions, push.layers, max_new_tokens=push.max_new_tokens,
            sampling=replace(push.sampling, seed=0), positions=push.positions, progress=False, on_ids=tick,
        )  # fmt: skip
        emit({"type": "measuring"})
        found = measure(texts, session.limits(push.sampling.temperature, lambda *_: check(stop)))
        check(stop)
        emit({"type": "rows", **found, "seconds": time.monotonic() - started})


def _blocks(doses: Sequence[Dose]) -> list[tuple[Dose, int]]:
    """Each dose, and the row where its texts begin: the unsteered one is row 0."""
    return [(dose, 1 + i * (1 + N_RANDOM)) for i, dose in enumerate(doses)]


def _dose_row(dose: Dose, part: pd.DataFrame, limits: Thresholds) -> Event:
    steered, random = part.iloc[0], part.iloc[1:]
    drawn = [float(x) for x in random.reading]
    known = [x for x in drawn if np.isfinite(x)]
    return {
        "dose": dose.value,
        "regime": text_regime(steered, drawn, None, limits),
        "random_low": plain(min(known, default=np.nan)),
        "random_high": plain(max(known, default=np.nan)),
        **_told(steered),
    }


def _seed_row(seed: int, table: pd.DataFrame, limits: Thresholds) -> Event:
    steered, random = table.iloc[1], table.iloc[2]
    return {
        "seed": seed,
        "regime": text_regime(steered, [float(random.reading)], None, limits),
        "random": plain(random.reading),
        "texts": dict(zip(table["column"], table["text"], strict=True)),
        **_told(steered),
    }


def _told(row: pd.Series) -> Event:
    names = ("reading", "perplexity_ratio", "surprise", "loop_share", "foreign")
    return {"text": row.text, **{name: plain(row[name]) for name in names}}


def _sweep_sentence(rows: Sequence[Event], looped: float) -> str:
    beyond = [f"{r['dose']:g}" for r in rows if r["regime"] == SURGICAL]
    where = f"at {', '.join(beyond)}" if beyond else "at no dose"
    ratio = f" Ratios are unreliable: {looped:.0%} of the unsteered text is one loop." if looped > BASELINE_LOOP else ""
    return (
        f"One prompt, one seed: whole, and read further along the vector than all {N_RANDOM} random directions {where} "
        f"(at each dose that has a chance of 1 in {N_RANDOM + 1}).{ratio}"
    )


def _seeds_sentence(rows: Sequence[Event]) -> str:
    pairs = [(r["reading"], r["random"]) for r in rows if None not in (r["reading"], r["random"])]
    ahead, apart = sum(a > b for a, b in pairs), sum(a != b for a, b in pairs)
    p = float(binomtest(ahead, apart, alternative="greater").pvalue) if apart else 1.0
    whole = sum(r["regime"] in (SURGICAL, INERT) for r in rows)
    return (
        f"{len(rows)} seeds, one prompt: the steered text is read further along the vector than its random direction "
        f"in {ahead} of {len(rows)} (sign test, one-sided, {p_text(p)}); {whole} of {len(rows)} are whole."
    )
