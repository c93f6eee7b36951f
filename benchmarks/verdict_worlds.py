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
from lens_emotion.steering.outcomes import dose_table, thresholds_of, with_targets
from lens_emotion.stimuli.emotions import EMOTIONS, NEUTRAL
from lens_emotion.stimuli.lexicon import lexicon
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
        topic_tail: the same for whole topics, some of which are told wildly.
        plain: noise of neutral texts, as a share of that of emotional ones; long texts have little.
        subspace: dimensions in which neutral texts vary beside their noise, of size `spread`; where: "inside",
            "outside" or "both" of it lies the signal. doubled: this many topics repeat the texts of others, word for
            word, or but for a word and a little noise if `nearly`. uneven: one to three texts a cell, as it comes.
    """

    signal: float | tuple[float, ...] = 1.3
    noise: float = 3.0
    topic: float = 1.0
    tokens: int = 60
    tail: float = 0.0
    topic_tail: float = 0.0
    massive: float = 0.0
    plain: float = 1.0
    subspace: int = 0
    spread: float = 4.0
    where: str = "both"
    doubled: int = 0
    nearly: bool = False
    uneven: bool = False
    n_emotions: int = 20
    n_topics: int = 12
    n_layers: int = 4
    n_neutral: int = 12
    d_model: int = 64


def rng_of(*seed: int) -> np.random.Generator:
    return np.random.default_rng([int(x) for x in seed])


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
    if w.uneven:
        label, topic = (np.repeat(x, rng_of(seed).integers(1, 4, w.n_emotions * w.n_topics)) for x in (label, topic))
    strength = np.broadcast_to(np.asarray(w.signal, dtype=float), (w.n_layers,))[:, None]

    def vary(n: int) -> np.ndarray:
        if not w.subspace:
            return np.zeros((n, *shape))
        sizes = np.linspace(1.5, 0.5, w.subspace) * w.spread / np.sqrt(w.subspace)
        return np.repeat(((rng.standard_normal((n, w.subspace)) * sizes) @ inside)[:, None], w.n_layers, 1)

    own = w.noise * draw(len(label)) + 0.5 * vary(len(label))
    rows = strength * directions[label] + w.topic * draw(w.n_topics)[topic] + own
    plain = w.topic * draw(w.n_neutral) + w.plain * w.noise * draw(w.n_neutral) + vary(w.n_neutral)
    texts = [f"text {seed} {i}" for i in range(len(rows))]
    for k in range(w.doubled):  # the texts of one topic again under another
        here, there = (np.flatnonzero(topic == t) for t in (2 * k, 2 * k + 1))
        rows[there] = rows[here] + (0.05 * w.noise * draw(len(here)) if w.nearly else 0.0)
        for a, b in zip(here, there, strict=True):
            texts[a] = texts[b] = " ".join(f"w{rng_of(seed, label[a], k, i).integers(10**6)}" for i in range(40))
            texts[b] += " indeed" * w.nearly
    every = np.concatenate([rows, plain])
    if w.tail:
        every *= 0.5 + np.abs(rng.standard_t(w.tail, (len(every), 1, 1)))
    if w.topic_tail:
        every[: len(rows)] *= (0.5 + np.abs(rng.standard_t(w.topic_tail, w.n_topics)))[topic, None, None]
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


@dataclass(frozen=True)
class Worded:
    """Texts made of words, the static embeddings of these, and states that are a rotation of them, stretched along some
    axes, with noise, and more of the emotion than the words hold.

    Attributes:
        own: share of a text's words that are its emotion's own. more: size of what the states add; noise: of theirs.
        stretch: spread of the axes' sizes (log), which a state may weigh otherwise than the embedding does.
        given: whether static embeddings are known.
    """

    own: float = 0.06
    more: float = 0.0
    noise: float = 0.3
    stretch: float = 0.5
    given: bool = True
    n_words: int = 50
    n_emotions: int = 10
    n_topics: int = 12
    n_layers: int = 3
    d_model: int = 48


def worded(world: Worded, seed: int) -> tuple[PooledActivations, PooledActivations | None]:
    """A draw: states and static embeddings of new texts on new words."""
    rng, w = rng_of(seed, 7), world
    common, mine, local = 300, 12, 10  # words of all texts, of each emotion, of each topic
    names = [f"w{chr(97 + i // 26 % 26)}{chr(97 + i % 26)}{chr(97 + i // 676)}" for i in range(2000)]
    n = w.n_emotions * w.n_topics
    vectors = rng.standard_normal((common + mine * w.n_emotions + local * w.n_topics, w.d_model))
    label, topic = np.repeat(np.arange(w.n_emotions), w.n_topics), np.tile(np.arange(w.n_topics), w.n_emotions)
    kind = rng.random((n, w.n_words))
    word = rng.integers(common, size=(n, w.n_words))
    word = np.where(kind < w.own, common + mine * label[:, None] + rng.integers(mine, size=word.shape), word)
    at = common + mine * w.n_emotions + local * topic[:, None] + rng.integers(local, size=word.shape)
    word = np.where(kind > 0.85, at, word)
    static = vectors[word].mean(1)
    static -= static.mean(0)
    static /= np.sqrt((static**2).sum(1).mean())
    layers = []
    for _ in range(w.n_layers):
        turn = np.linalg.qr(rng.standard_normal((w.d_model, w.d_model)))[0] * np.exp(
            w.stretch * rng.standard_normal(w.d_model)
        )
        own = rng.standard_normal((w.n_emotions, w.d_model))
        own *= w.more / np.linalg.norm(own, axis=1, keepdims=True)
        layers.append(static @ turn + own[label] + w.noise * rng.standard_normal(static.shape) / np.sqrt(w.d_model))
    records = tuple(
        TextRecord(
            f"t{i}", EMOTIONS[k], f"topic{t}", " ".join(names[j] for j in word[i]), n_total=2, n_pooled=1, n_special=1
        )
        for i, (k, t) in enumerate(zip(label, topic, strict=True))
    )

    def acts(rows: np.ndarray) -> PooledActivations:
        values = torch.from_numpy(rows).float()
        return PooledActivations(values, records, values.norm(dim=-1).mean(0), HEADER)

    return acts(np.stack(layers, 1)), acts(static[:, None]) if w.given else None


def shared_texts(world: States, shape: str, texts: float, seed: int) -> tuple[PooledActivations, PooledActivations]:
    """Two models that read the same texts: what is a text's own in both (times `texts`), turned another way in each,
    beside noise of their own, and the emotions.

    shape: "shared", the emotions' displacements too are turned only; "own", each model's are drawn anew.
    """
    rng, w = rng_of(seed, 1), world
    common = states(replace(w, signal=0.0, massive=0.0), seed)
    code = np.array([EMOTIONS.index(r.emotion) if r.emotion in EMOTIONS else -1 for r in common.records])

    def drawn() -> np.ndarray:
        made = rng.standard_normal((w.n_emotions + 1, w.d_model))
        made /= np.linalg.norm(made, axis=1, keepdims=True)
        made[-1] = 0  # neutral
        return made

    emotions, found = drawn(), []
    for _ in range(2):
        turned = np.linalg.qr(rng.standard_normal((w.d_model, w.d_model)))[0]
        mine = emotions if shape == "shared" else drawn()
        own = w.noise / np.sqrt(w.d_model) * rng.standard_normal((len(code), w.d_model))
        rows = (texts * common.values[:, 0].numpy() + float(np.max(w.signal)) * mine[code]) @ turned + 0.5 * own
        if w.massive:
            rows[:, :3] += w.massive + w.massive / 10 * rng.standard_normal((len(code), 3))
        values = torch.from_numpy(rows[:, None]).float()
        found.append(replace(common, values=values, residual_norm=values.norm(dim=-1).mean(0)))
    return found[0], found[1]


def evidence(
    name: str, kind: str, bare: PooledActivations, passages: PooledActivations, told: PooledActivations | None = None
) -> Evidence:
    """What C8 is asked of. told: the stories read with their instruction in front, if not as the bare ones."""
    return Evidence(info(name), kind, 1.0, passages, passages, told or bare, bare, None, None, "planted")


def info(name: str, family: str = "llama") -> ModelInfo:
    return ModelInfo(name, family, "bridge", 4, 64, 256, 1000, "float32", "cpu", "0" * 64, False, "3.9.0")


def flat(dose: float) -> float:
    return 0.0


def rising(size: float, middle: float = 2.0) -> Callable[[float], float]:
    """A gain that reaches `size` as the dose grows."""
    return lambda dose: size * dose / (dose + middle)


def step(size: float) -> Callable[[float], float]:
    """A gain that is there at every dose."""
    return lambda dose: size


@dataclass(frozen=True)
class Foreign:
    """What steered texts hold in another script, from some dose on: shares of the texts with a word of their emotion
    (own), of another one (other), of none (plain); random: the same three under random directions."""

    own: float = 0.0
    other: float = 0.0
    plain: float = 0.0
    random: tuple[float, float, float] = (0.0, 0.0, 0.0)
    start: float = 3.0

    def written(self, emotions: list[str], shares: tuple[float, ...], rng: np.random.Generator) -> list[str]:
        names, words = list(dict.fromkeys(emotions)), lexicon("zh").words
        out = []
        for emotion in emotions:
            own, other, plain = rng.random(3) < shares
            another = names[(names.index(emotion) + 1 + rng.integers(len(names) - 1)) % len(names)]
            said = [rng.choice(words[e]) for e, there in ((emotion, own), (another, other)) if there]
            out.append(" ".join(map(str, said + ["椅子"] * bool(plain))))
        return out


@dataclass(frozen=True)
class Steered:
    """A planted steering experiment.

    Attributes:
        own, other: gain of the target's score by dose, under the emotion's vector and under another's, in SDs of the
            scores under random directions; common: under any direction. judge: its accuracy. independent: of the model.
        breaks: dose from which texts explode; loops: from which they loop, up to `mends` (inf: never).
        tail: degrees of freedom of the scores' noise (0: normal); skew: it is exponential; full: scores are 0 or 1.
        sd_emotion: spread of the gain between emotions, as a share of it; scatter: the same in SDs, whatever the gain
            is; gaining: share of the emotions that gain at all. groups: of the judge.
        doses: those run. controls: whether another emotion's vector was tried. openings: of the emotions, in turn.
    """

    own: Callable[[float], float] = flat
    other: Callable[[float], float] = flat
    common: Callable[[float], float] = flat
    judge: float | None = 0.6
    independent: bool = True
    breaks: float = 10.0
    loops: float = 7.0
    mends: float = np.inf
    tail: float = 0.0
    skew: bool = False
    full: bool = False
    sd_emotion: float = 0.3
    scatter: float = 0.0
    gaining: float = 1.0
    groups: dict[str, str] | None = None
    apart: bool = False
    doses: tuple[float, ...] = DOSES
    controls: bool = True
    n_emotions: int = 20
    openings: tuple[int, ...] = (OPENINGS,)
    foreign: Foreign | None = None


def steered(world: Steered, seed: int, tabled: bool = True) -> DoseResponse:
    """A draw of the experiment, through the package's own tables. tabled: whether the rates and regimes of all doses
    are made too, which C5 does without."""
    rng, w = np.random.default_rng(seed), world
    emotions = EMOTIONS[: w.n_emotions]
    turns = [w.openings[k % len(w.openings)] for k in range(w.n_emotions)]
    scenarios = [
        Scenario(f"{e}-{k}", e, f"opening {e} {k}") for e, m in zip(emotions, turns, strict=True) for k in range(m)
    ]
    code = np.repeat(np.arange(w.n_emotions), turns)
    n = len(scenarios)
    of_emotion = (rng.normal(1, w.sd_emotion, w.n_emotions) * (np.arange(w.n_emotions) < w.gaining * w.n_emotions))[
        code
    ]
    opening = np.concatenate([np.arange(m) for m in turns])
    shift = (w.scatter * rng.normal(size=w.n_emotions))[code]  # some gain, some lose: nothing in the mean
    level = rng.normal(0, 1, w.n_emotions)[code] + rng.normal(0, 0.5, n)  # what a judge says anyway

    def noise() -> np.ndarray:
        return rng.exponential(size=n) if w.skew else rng.standard_t(w.tail, n) if w.tail else rng.standard_normal(n)

    def block(condition: str, dose: float, gain: float) -> dict[str, np.ndarray]:
        mine = gain * of_emotion
        if w.apart and dose:
            mine = np.where(opening % 2 == w.doses.index(dose) % 2, mine, 0.0)
        target = level + noise() + mine + (w.common(dose) if dose else 0) + shift * (condition == "emotion")
        explodes, loops = w.breaks <= dose, w.loops <= dose < w.mends
        explodes, loops = (explodes, loops and not explodes) if w.loops < w.breaks else (explodes and not loops, loops)
        scores = rng.standard_normal((n, w.n_emotions))
        scores[np.arange(n), code] = target
        if w.full:
            scores = (scores > 0.5).astype(float)
        words = [f"words {condition} {dose:g} {i}" for i in range(n)]
        if w.foreign and dose >= w.foreign.start and condition in ("emotion", "random"):
            f = w.foreign
            shares = (f.own, f.other, f.plain) if condition == "emotion" else f.random
            said = f.written([s.emotion for s in scenarios], shares, rng)
            words = [f"{a} {b}" for a, b in zip(words, said, strict=True)]
        return {
            **{f"score_{e}": scores[:, k] for k, e in enumerate(emotions)},
            "text": np.array(words, dtype=object),
            "nll": 1.5 + 0.2 * rng.standard_normal(n) + (3.0 if explodes else 0.0),
            "distinct_2": np.clip(0.95 + 0.02 * rng.standard_normal(n) - (0.6 if loops else 0.0), 0, 1),
            "loop_share": np.clip(np.abs(0.02 * rng.standard_normal(n)) + (0.7 if loops else 0.0), 0, 1),
            "edit_distance": rng.uniform(0.5, 1, n),
            "condition": np.full(n, condition, dtype=object),
            "dose": np.full(n, dose),
            "scenario": np.arange(n),
        }

    def frame(blocks: list[dict[str, np.ndarray]]) -> pd.DataFrame:
        made = pd.DataFrame({c: np.concatenate([b[c] for b in blocks]) for c in blocks[0]})
        return made.assign(entropy=1.5, broken=False, top_emotion=emotions[0])

    unsteered = frame([block("unsteered", 0.0, 0.0)]).assign(prompt=[s.opening for s in scenarios])
    conditions: dict[str, Callable[[float], float]] = {"emotion": w.own, "random": flat, "null": flat}
    conditions |= {"other": w.other} if w.controls else {}
    texts = frame([block(c, d, gain(d)) for d in w.doses for c, gain in conditions.items()])
    judge = Judge("planted", emotions, lambda t: np.zeros((len(t), len(emotions))), accuracy=w.judge)
    limits = thresholds_of(unsteered)
    texts = with_targets(texts, unsteered, scenarios, judge, limits)
    kept = texts[texts.condition != "null"]
    scores = kept[["condition", "dose", "scenario", *(f"score_{e}" for e in emotions)]]
    plain: dict[str, Any] = {"layer": 2, "judge": "planted", "judge_accuracy": w.judge}
    places = [{"dose": d, "condition": c, "regime": ""} for d in w.doses for c in ("emotion", "random")]
    return DoseResponse(
        table=dose_table(texts, {d: (d, d / 10) for d in w.doses}, limits, w.groups)
        if tabled
        else pd.DataFrame(places),
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
