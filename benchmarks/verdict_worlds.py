"""Planted worlds for `benchmarks.verdicts`: activations and steered texts whose truth is known, claim by claim."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from lens_emotion.extraction.activations import Header, PooledActivations, TextRecord
from lens_emotion.models.access import ModelInfo
from lens_emotion.steering.dose_result import DoseResponse
from lens_emotion.steering.judges import Judge
from lens_emotion.steering.outcomes import dose_table, with_targets
from lens_emotion.steering.regimes import thresholds_from
from lens_emotion.stimuli.emotions import EMOTIONS, NEUTRAL
from lens_emotion.stimuli.prompts import Scenario
from lens_emotion.study.results import Evidence

HEADER = Header(
    "planted", "0" * 64, "llama", "bridge", "3.9.0", "float32", "comprehension", "story_mean(start=0)", "planted",
    "0" * 64,
)  # fmt: skip
DOSES = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
OPENINGS = 2


@dataclass(frozen=True)
class States:
    """A planted set of states: emotion x topic crossed, one text a cell.

    Attributes:
        signal: length of each emotion's displacement, one or per layer. noise: of each text's own vector. topic: of
            what texts of a topic share. tokens: pooled per text. tail: degrees of freedom of a factor that stretches
            whole texts (0: none). massive: mean of three dimensions, whose SD is a tenth of it.
        subspace: dimensions in which neutral texts vary beside their noise, of size `spread`; where: "inside",
            "outside" or "both" of it lies the signal. doubled: this many topics repeat the texts of others.
    """

    signal: float | tuple[float, ...] = 1.3
    noise: float = 3.0
    topic: float = 1.0
    tokens: int = 60
    tail: float = 0.0
    massive: float = 0.0
    subspace: int = 0
    spread: float = 4.0
    where: str = "both"
    doubled: int = 0
    n_emotions: int = 20
    n_topics: int = 12
    n_layers: int = 4
    n_neutral: int = 12
    d_model: int = 64


def states(world: States, seed: int) -> PooledActivations:
    """A draw: emotions, topics and texts all new."""
    rng, w = np.random.default_rng(seed), world
    shape = (w.n_layers, w.d_model)

    def draw(*n: int) -> np.ndarray:
        return rng.standard_normal((*n, *shape)) / np.sqrt(w.d_model)

    axes = np.linalg.qr(rng.standard_normal((w.d_model, w.d_model)))[0].T
    inside, outside = axes[: w.subspace], axes[w.subspace :]
    basis = {"inside": inside, "outside": outside, "both": axes}[w.where]
    directions = rng.standard_normal((w.n_emotions, w.n_layers, len(basis))) @ basis
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    label, topic = np.repeat(np.arange(w.n_emotions), w.n_topics), np.tile(np.arange(w.n_topics), w.n_emotions)
    strength = np.broadcast_to(np.asarray(w.signal, dtype=float), (w.n_layers,))[:, None]

    def vary(n: int) -> np.ndarray:
        if not w.subspace:
            return np.zeros((n, *shape))
        sizes = np.linspace(1.5, 0.5, w.subspace) * w.spread / np.sqrt(w.subspace)
        return np.repeat(((rng.standard_normal((n, w.subspace)) * sizes) @ inside)[:, None], w.n_layers, 1)

    own = w.noise * draw(len(label)) + 0.5 * vary(len(label))
    rows = strength * directions[label] + w.topic * draw(w.n_topics)[topic] + own
    plain = w.topic * draw(w.n_neutral) + w.noise * draw(w.n_neutral) + vary(w.n_neutral)
    texts = [f"text {seed} {i}" for i in range(len(rows))]
    for k in range(w.doubled):  # the texts of one topic again under another
        here, there = (np.flatnonzero(topic == t) for t in (2 * k, 2 * k + 1))
        rows[there] = rows[here]
        for a, b in zip(here, there, strict=True):
            texts[b] = texts[a] = f"a story of {label[a]} that is told once more, word for word, number {k} {seed}"
    every = np.concatenate([rows, plain])
    if w.tail:
        every *= 0.5 + np.abs(rng.standard_t(w.tail, (len(every), 1, 1)))
    if w.massive:
        every[..., :3] += w.massive + w.massive / 10 * rng.standard_normal((*every.shape[:2], 3))
    names = [(EMOTIONS[k], f"topic{t}") for k, t in zip(label, topic, strict=True)]
    names += [(NEUTRAL, f"plain{i}") for i in range(w.n_neutral)]
    texts += [f"plain {seed} {i}" for i in range(w.n_neutral)]
    records = tuple(
        TextRecord(f"t{i}", e, t, text, n_total=w.tokens + 1, n_pooled=w.tokens, n_special=1)
        for i, ((e, t), text) in enumerate(zip(names, texts, strict=True))
    )
    values = torch.from_numpy(every).float()
    return PooledActivations(values, records, values.norm(dim=-1).mean(0), HEADER)


def evidence(name: str, kind: str, bare: PooledActivations, passages: PooledActivations) -> Evidence:
    """What C8 is asked of."""
    info = ModelInfo(name, "llama", "bridge", 4, 64, 256, 1000, "float32", "cpu", "0" * 64, False, "3.9.0")
    return Evidence(info, kind, 1.0, passages, passages, bare, bare, None, None, "planted")


def flat(dose: float) -> float:
    return 0.0


def rising(size: float, middle: float = 2.0) -> Callable[[float], float]:
    """A gain that reaches `size` as the dose grows."""
    return lambda dose: size * dose / (dose + middle)


def step(size: float) -> Callable[[float], float]:
    """A gain that is there at every dose."""
    return lambda dose: size


@dataclass(frozen=True)
class Steered:
    """A planted steering experiment.

    Attributes:
        own, other: gain of the target's score by dose, under the emotion's vector and under another's, in SDs of the
            scores under random directions. judge: its accuracy. independent: of the model.
        breaks: dose from which texts explode; loops: from which they loop (inf: never). tail: degrees of freedom of
            the scores' noise (0: normal). sd_emotion: spread of the gain between emotions. groups: of the judge.
        doses: those run. controls: whether another emotion's vector was tried.
    """

    own: Callable[[float], float] = flat
    other: Callable[[float], float] = flat
    judge: float | None = 0.6
    independent: bool = True
    breaks: float = 10.0
    loops: float = 7.0
    tail: float = 0.0
    sd_emotion: float = 0.3
    groups: dict[str, str] | None = None
    doses: tuple[float, ...] = DOSES
    controls: bool = True
    n_emotions: int = 20
    openings: int = OPENINGS


def steered(world: Steered, seed: int) -> DoseResponse:
    """A draw of the experiment, through the package's own tables."""
    rng, w = np.random.default_rng(seed), world
    emotions = EMOTIONS[: w.n_emotions]
    scenarios = [Scenario(f"{e}-{k}", e, f"opening {e} {k}") for e in emotions for k in range(w.openings)]
    n = len(scenarios)
    of_emotion = np.repeat(rng.normal(1, w.sd_emotion, w.n_emotions), w.openings)
    level = np.repeat(rng.normal(0, 1, w.n_emotions), w.openings) + rng.normal(0, 0.5, n)  # what a judge says anyway

    def noise() -> np.ndarray:
        return rng.standard_normal(n) if not w.tail else rng.standard_t(w.tail, n)

    def frame(condition: str, dose: float, gain: float) -> pd.DataFrame:
        target = level + noise() + gain * of_emotion
        damaged = condition != "unsteered"
        explodes, loops = damaged and dose >= w.breaks, damaged and w.loops <= dose < w.breaks
        scores = rng.standard_normal((n, w.n_emotions))
        scores[np.arange(n), np.repeat(np.arange(w.n_emotions), w.openings)] = target
        out = pd.DataFrame(scores, columns=[f"score_{e}" for e in emotions])
        out["text"] = [f"words {condition} {dose:g} {i}" for i in range(n)]
        out["nll"] = 1.5 + 0.2 * rng.standard_normal(n) + (3.0 if explodes else 0.0)
        out["entropy"], out["broken"] = 1.5, False
        out["distinct_2"] = np.clip(0.95 + 0.02 * rng.standard_normal(n) - (0.6 if loops else 0.0), 0, 1)
        out["loop_share"] = np.clip(np.abs(0.02 * rng.standard_normal(n)) + (0.7 if loops else 0.0), 0, 1)
        out["edit_distance"] = rng.uniform(0.5, 1, n)
        out["top_emotion"] = emotions[0]
        return out.assign(condition=condition, dose=dose, scenario=np.arange(n))

    unsteered = frame("unsteered", 0.0, 0.0).assign(prompt=[s.opening for s in scenarios])
    conditions: dict[str, Callable[[float], float]] = {"emotion": w.own, "random": flat, "null": flat}
    conditions |= {"other": w.other} if w.controls else {}
    texts = pd.concat([frame(c, d, gain(d)) for d in w.doses for c, gain in conditions.items()], ignore_index=True)
    judge = Judge("planted", emotions, lambda t: np.zeros((len(t), len(emotions))), accuracy=w.judge)
    limits = thresholds_from(*(unsteered[c].to_numpy() for c in ("nll", "distinct_2", "loop_share")))
    texts = with_targets(texts, unsteered, scenarios, judge, limits)
    table = dose_table(texts, {d: (d, d / 10) for d in w.doses}, limits, w.groups)
    kept = texts[texts.condition != "null"]
    scores = kept[["condition", "dose", "scenario", *(f"score_{e}" for e in emotions)]]
    plain: dict[str, Any] = {"layer": 2, "judge": "planted", "judge_accuracy": w.judge}
    return DoseResponse(
        table=table,
        texts=kept[kept.condition != "other"].reset_index(drop=True),
        others=kept[kept.condition == "other"].reset_index(drop=True),
        unsteered=unsteered,
        scores=scores.rename(columns=lambda c: c.removeprefix("score_")).reset_index(drop=True),
        judge_independent=w.independent,
        thresholds=limits,
        n_emotions=w.n_emotions,
        groups=dict(w.groups or {}),
        **plain,
    )


def longer(world: States, times: float) -> States:
    """The same states over more tokens: the noise of a mean falls with their root."""
    return replace(world, tokens=int(world.tokens * times), noise=world.noise / np.sqrt(times))
