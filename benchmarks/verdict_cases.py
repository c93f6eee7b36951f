"""The worlds of `benchmarks.verdicts`, claim by claim: what is planted, and what is true of the claim in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.verdict_worlds import States, Steered, evidence, flat, longer, rising, states, steered, step
from lens_emotion.analysis.decoding import decoding
from lens_emotion.analysis.layers import layer_sweep
from lens_emotion.analysis.separation import separation
from lens_emotion.stimuli.emotions import EMOTIONS
from lens_emotion.study.claims.methods import better_by_writing, tuning
from lens_emotion.study.claims.reading import beyond_anisotropy, middle_layers, u_shape, without_neutral
from lens_emotion.study.claims.steering import causal, regimes
from lens_emotion.study.verdict import Claim, combined

TRUE, FALSE, UNKNOWABLE = "true", "false", "unknowable"


@dataclass(frozen=True)
class World:
    """code: of the claim; truth: of it in this world; run: a draw by seed; powered: whether a true one is to be seen in
    80% of the runs; dear: takes long, so that fewer runs do."""

    code: str
    name: str
    truth: str
    run: Callable[[int], Claim]
    powered: bool = True
    dear: bool = False


def c1(written: States, read: States) -> Callable[[int], Claim]:
    return lambda seed: better_by_writing("m", states(written, 2 * seed), states(read, 2 * seed + 1))


def c8(base: States, instruct: States, read: States, read_after: States | None = None) -> Callable[[int], Claim]:
    def run(seed: int) -> Claim:
        sets = [states(w, 4 * seed + i) for i, w in enumerate((base, instruct, read, read_after or read))]
        return tuning(evidence("b", "base", sets[0], sets[2]), evidence("i", "instruct", sets[1], sets[3]))

    return run


def c4(world: States) -> Callable[[int], Claim]:
    def run(seed: int) -> Claim:
        acts = states(replace(world, n_layers=1), seed)
        return beyond_anisotropy("m", without_neutral(acts, decoding(acts, 40), None, 40, 0))

    return run


def depth(code: str, world: States) -> Callable[[int], Claim]:
    def run(seed: int) -> Claim:
        acts = states(world, seed)
        sweep = layer_sweep(acts, "decoding", 40)
        return middle_layers("m", sweep) if code == "C2" else u_shape("m", sweep, separation(acts, n_permutations=1))

    return run


def c5(world: Steered) -> Callable[[int], Claim]:
    return lambda seed: causal("m", steered(world, seed, tabled=False))


def c6(world: Steered) -> Callable[[int], Claim]:
    return lambda seed: regimes("m", steered(world, seed))


def over(code: str, truths: tuple[bool, ...], universal: bool, n_topics: int = 12) -> Callable[[int], Claim]:
    """Several models, each with or without an effect of C5, through the step over models."""

    def run(seed: int) -> Claim:
        claims = [
            causal(f"m{i}", steered(Steered(own=rising(2.5) if real else flat), 50 * seed + i))
            for i, real in enumerate(truths)
        ]
        return combined("C5", claims, universal)

    return run


GROUPED = {e: "joy" if i < 10 else f"g{i // 4}" for i, e in enumerate(EMOTIONS)}
PLAIN, SILENT, FULL = States(), States(signal=0.0), States(signal=6.0)
BETTER = States(signal=1.5)  # about .15 of accuracy more than PLAIN
BUMP = (0.0, 0.4, 0.9, 1.5, 1.9, 1.5, 0.9, 0.4, 0.0)
RISE = (0.0, 0.3, 0.5, 0.8, 1.0, 1.2, 1.4, 1.7, 2.0)
LATE = (0.0, 0.0, 0.0, 0.0, 0.0, 0.3, 0.8, 1.5, 2.2)
NARROW = States(subspace=8, noise=2.0, spread=4.0, signal=2.0, d_model=96, n_neutral=40)


def nine(signal: float | tuple[float, ...], **more: float) -> States:
    return States(signal=signal, n_layers=9, **more)  # type: ignore[arg-type]


def worlds() -> Iterator[World]:
    """Every world, claim by claim."""
    yield World("C1", "writing better by .15", TRUE, c1(BETTER, PLAIN))
    yield World("C1", "writing better, heavy tails", TRUE, c1(replace(FULL, tail=2.0), replace(PLAIN, tail=2.0)))
    yield World("C1", "alike", FALSE, c1(PLAIN, PLAIN))
    yield World("C1", "alike, heavy tails", FALSE, c1(replace(BETTER, tail=2.0), replace(BETTER, tail=2.0)))
    yield World("C1", "alike, heavier tails", FALSE, c1(replace(BETTER, tail=1.5), replace(BETTER, tail=1.5)))
    yield World(
        "C1", "alike, massive dimensions", FALSE, c1(replace(PLAIN, massive=10.0), replace(PLAIN, massive=10.0))
    )
    yield World("C1", "alike, six topics", FALSE, c1(replace(PLAIN, n_topics=6), replace(PLAIN, n_topics=6)))
    yield World("C1", "reading better", FALSE, c1(PLAIN, BETTER))
    yield World("C1", "three times the tokens", FALSE, c1(longer(PLAIN, 3), PLAIN))
    yield World("C1", "half as many tokens more", FALSE, c1(longer(PLAIN, 1.5), PLAIN))
    yield World("C1", "stories told twice", FALSE, c1(replace(PLAIN, doubled=2), PLAIN))
    yield World("C1", "neither decodable", UNKNOWABLE, c1(SILENT, SILENT))
    yield World("C1", "both at the ceiling", UNKNOWABLE, c1(FULL, FULL))
    yield World("C2", "best in the middle", TRUE, depth("C2", nine(BUMP)), powered=False)
    yield World("C2", "best at the end", FALSE, depth("C2", nine(LATE)))
    yield World("C2", "rising", FALSE, depth("C2", nine(RISE)))
    yield World("C2", "the same everywhere", UNKNOWABLE, depth("C2", nine(1.3)))
    yield World("C2", "nothing decodable", UNKNOWABLE, depth("C2", nine(0.0)))
    yield World("C3", "best in the middle", TRUE, depth("C3", nine(BUMP)))
    yield World("C3", "rising", FALSE, depth("C3", nine(RISE)))
    yield World("C3", "late", FALSE, depth("C3", nine(LATE)))
    yield World("C3", "the same everywhere", FALSE, depth("C3", nine(1.3)))
    yield World("C3", "the same everywhere, heavy tails", FALSE, depth("C3", nine(1.5, tail=2.0)))
    yield World("C3", "nothing decodable", UNKNOWABLE, depth("C3", nine(0.0)))
    yield World("C3", "at the ceiling", UNKNOWABLE, depth("C3", nine(6.0)))
    yield World("C4", "outside neutral variance", TRUE, c4(replace(NARROW, where="outside")))
    yield World("C4", "partly outside", TRUE, c4(replace(NARROW, where="both")))
    yield World("C4", "outside, 12 neutral texts", TRUE, c4(replace(NARROW, where="outside", n_neutral=12)))
    yield World("C4", "wholly inside", FALSE, c4(replace(NARROW, where="inside")))
    yield World("C4", "wholly inside, 12 neutral texts", FALSE, c4(replace(NARROW, where="inside", n_neutral=12)))
    yield World("C4", "wholly inside, strong", FALSE, c4(replace(NARROW, where="inside", signal=4.0)))
    yield World("C4", "wholly inside, heavy tails", FALSE, c4(replace(NARROW, where="inside", tail=3.0)))
    yield World("C4", "wholly inside, four dimensions", FALSE, c4(replace(NARROW, where="inside", subspace=4)))
    yield World("C4", "neutral text varies in every direction", UNKNOWABLE, c4(replace(PLAIN, n_neutral=40)))
    yield World("C4", "nothing decodable", UNKNOWABLE, c4(replace(NARROW, signal=0.0)))
    yield World("C5", "gain at the smallest of interest", TRUE, c5(Steered(own=step(0.8))))
    yield World("C5", "large gain", TRUE, c5(Steered(own=rising(3.0))))
    yield World("C5", "large gain, heavy tails", TRUE, c5(Steered(own=rising(4.0), tail=2.5)))
    yield World("C5", "no gain", FALSE, c5(Steered()))
    yield World("C5", "no gain, heavy tails", FALSE, c5(Steered(tail=2.0)))
    yield World("C5", "another emotion does as well", FALSE, c5(Steered(own=rising(2.0), other=rising(2.0))))
    yield World("C5", "another emotion does better", FALSE, c5(Steered(own=rising(1.0), other=rising(2.0))))
    yield World("C5", "the target is pushed down", FALSE, c5(Steered(own=rising(-1.5))))
    yield World("C5", "judge at chance", UNKNOWABLE, c5(Steered(own=rising(2.0), judge=0.06)))
    yield World("C5", "judge at chance, no gain", UNKNOWABLE, c5(Steered(judge=0.06)))
    yield World("C5", "judge not measured", UNKNOWABLE, c5(Steered(own=rising(2.0), judge=None)))
    yield World(
        "C5", "grouped judge at its chance", UNKNOWABLE, c5(Steered(own=rising(2.0), judge=0.5, groups=GROUPED))
    )
    yield World("C5", "the model judges itself", UNKNOWABLE, c5(Steered(own=rising(2.0), independent=False)))
    yield World("C5", "doses too small", UNKNOWABLE, c5(Steered(doses=(0.05, 0.1, 0.2))))
    yield World("C5", "every dose breaks", UNKNOWABLE, c5(Steered(own=rising(2.0), breaks=0.1, loops=0.1)))
    yield World("C5", "no other emotion tried", UNKNOWABLE, c5(Steered(own=rising(2.0), controls=False)))
    yield World("C6", "three regimes in order", TRUE, c6(Steered(own=rising(4.0))))
    yield World("C6", "broken before it steers", FALSE, c6(Steered(own=lambda d: 3.0 * (d > 9), loops=2.0, breaks=3.0)))
    yield World("C6", "nothing steers", FALSE, c6(Steered()))
    yield World("C6", "no repetition seen", UNKNOWABLE, c6(Steered(own=rising(4.0), loops=np.inf)))
    yield World("C6", "nothing breaks", UNKNOWABLE, c6(Steered(own=rising(4.0), loops=np.inf, breaks=np.inf)))
    yield World("C6", "judge at chance, no gain", UNKNOWABLE, c6(Steered(judge=0.06)))
    yield World("C6", "doses too small", UNKNOWABLE, c6(Steered(doses=(0.05, 0.1, 0.2))))
    yield World("C8", "writing gains by .15", TRUE, c8(PLAIN, BETTER, PLAIN))
    yield World("C8", "writing gains, heavy tails", TRUE, c8(*(replace(w, tail=2.0) for w in (PLAIN, FULL, PLAIN))))
    yield World("C8", "both gain alike", FALSE, c8(PLAIN, BETTER, PLAIN, BETTER))
    yield World("C8", "neither gains", FALSE, c8(PLAIN, PLAIN, PLAIN))
    yield World("C8", "neither gains, heavy tails", FALSE, c8(*[replace(BETTER, tail=2.0)] * 3))
    yield World("C8", "longer stories", FALSE, c8(PLAIN, longer(PLAIN, 3), PLAIN))
    yield World("C8", "nothing decodable", UNKNOWABLE, c8(SILENT, SILENT, SILENT))
    yield World("C8", "all at the ceiling", UNKNOWABLE, c8(FULL, FULL, FULL))
    yield World("C8", "reading at the ceiling", UNKNOWABLE, c8(PLAIN, BETTER, FULL))
    yield World("over models", "typical: all five", TRUE, over("C5", (True,) * 5, False))
    yield World("over models", "typical: one of five", FALSE, over("C5", (True,) + (False,) * 4, False))
    yield World("over models", "typical: none of three", FALSE, over("C5", (False,) * 3, False))
    yield World("over models", "universal: all five", TRUE, over("C5", (True,) * 5, True))
    yield World("over models", "universal: four of five", FALSE, over("C5", (True,) * 4 + (False,), True))
