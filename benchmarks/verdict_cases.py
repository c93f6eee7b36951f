"""The worlds of `benchmarks.verdicts` about states: C1, C2, C3, C4, C8, X1, and models side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

from benchmarks.verdict_worlds import States, Worded, evidence, longer, shared_texts, states, worded
from lens_emotion.analysis.decoding import decoding
from lens_emotion.analysis.layers import decoding_sweep
from lens_emotion.analysis.rsa import rsa_activations
from lens_emotion.analysis.separation import Separation, separation
from lens_emotion.analysis.words import beyond_words
from lens_emotion.study.claims.methods import better_by_writing, tuning
from lens_emotion.study.claims.reading import (
    beyond_anisotropy,
    middle_layers,
    more_than_words,
    u_shape,
    without_neutral,
)
from lens_emotion.study.verdict import SUPPORTED, UNDETERMINED, Claim

TRUE, FALSE, UNKNOWABLE = "true", "false", "unknowable"


class Said(NamedTuple):
    """What a test that is no claim says."""

    verdict: str
    reason: str


@dataclass(frozen=True)
class World:
    """code: of the claim; truth: of it in this world; run: a draw by seed; powered: whether a true one is to be seen in
    80% of the runs; dear: takes long, so that fewer runs do."""

    code: str
    name: str
    truth: str
    run: Callable[[int], Claim | Said]
    powered: bool = True
    dear: bool = False


def c1(written: States, read: States, *beside: str) -> Callable[[int], Claim]:
    return lambda seed: better_by_writing("m", states(written, 2 * seed), states(read, 2 * seed + 1), beside)


def c8(
    base: States, instruct: States, read: States, read_after: States | None = None, told: States | None = None
) -> Callable[[int], Claim]:
    """told: the instruct model's stories read with their instruction in front."""

    def run(seed: int) -> Claim:
        sets = [states(w, 5 * seed + i) for i, w in enumerate((base, instruct, read, read_after or read))]
        more = states(told, 5 * seed + 4) if told else None
        return tuning(evidence("b", "base", sets[0], sets[2]), evidence("i", "instruct", sets[1], sets[3], more))

    return run


def c4(world: States) -> Callable[[int], Claim]:
    def run(seed: int) -> Claim:
        acts = states(replace(world, n_layers=1), seed)
        return beyond_anisotropy("m", without_neutral(acts, decoding(acts, 40), None, 40, 0))

    return run


@cache
def _cosines() -> Separation:
    """The mean cosine, which C3 tells beside its verdict."""
    return separation(states(nine(1.0), 0), n_permutations=1)


def depth(code: str, world: States) -> Callable[[int], Claim]:
    def run(seed: int) -> Claim:
        sweep = decoding_sweep(decoding(states(world, seed), 40))
        return middle_layers("m", sweep) if code == "C2" else u_shape("m", sweep, _cosines())

    return run


def rsa(world: States, shape: str = "own", texts: float = 1.0) -> Callable[[int], Said]:
    """Two models that read the same texts. shape: whether the distances of the emotions are "shared" or each model's
    "own"; texts: how much of a text's own state both have."""

    def run(seed: int) -> Said:
        a, b = shared_texts(world, shape, texts, seed)
        p = rsa_activations(a, b, n_splits=10, n_permutations=200).p
        return Said(SUPPORTED if p <= 0.05 else UNDETERMINED, f"p = {p:.3f}")

    return run


def x1(world: Worded) -> Callable[[int], Claim]:
    def run(seed: int) -> Claim:
        acts, static = worded(world, seed)
        return more_than_words("m", beyond_words(acts, static))

    return run


def nine(signal: float | tuple[float, ...], **more: float) -> States:
    return States(signal=signal, n_layers=9, **more)  # type: ignore[arg-type]


PLAIN, SILENT, FULL = States(), States(signal=0.0), States(signal=6.0)
BETTER = States(signal=1.5)  # .12 of accuracy more than PLAIN (.74)
LEAST, LEAST_GAIN = States(signal=1.46), States(signal=1.56)  # .10 and .15 more: the smallest of interest of C1, of C8
BUMP = (0.0, 0.4, 0.9, 1.5, 1.9, 1.5, 0.9, 0.4, 0.0)
RISE = (0.0, 0.3, 0.5, 0.8, 1.0, 1.2, 1.4, 1.7, 2.0)
LATE = (0.0, 0.0, 0.0, 0.0, 0.0, 0.3, 0.8, 1.5, 2.2)
FALLS = tuple(reversed(RISE))
DIP = (1.9, 1.5, 0.9, 0.4, 0.0, 0.4, 0.9, 1.5, 1.9)
HUMPS, PEAKS = (0.2, 1.2, 1.6, 1.0, 0.3, 1.0, 1.6, 1.2, 0.2), (0.0, 0.4, 0.9, 1.6, 0.9, 0.4, 0.9, 1.6, 0.4)
SATURATES = (0.0, 0.5, 1.0, 2.0, 6.0, 6.0, 6.0, 6.0, 6.0)
PLATEAU = (0.0, 0.5, 1.2, 6.0, 6.0, 6.0, 1.2, 0.5, 0.0)
NARROW = States(subspace=8, noise=2.0, spread=4.0, signal=2.0, d_model=96, n_neutral=40)
HIDDEN = replace(NARROW, where="inside")
CONDITIONED = "With the instruction in front, writing has 0.99 (difference +0.25 [+0.20, +0.30])."


def both(world: States, **more: object) -> tuple[States, States]:
    return replace(world, **more), replace(world, **more)  # type: ignore[arg-type]


def worlds() -> Iterator[World]:
    """Every world about states."""
    for part in (_writing(), _depth(), _anisotropy(), _tuning()):
        yield from (replace(w, dear=True) for w in part)
    yield from _words()
    yield from _geometry()


def _writing() -> Iterator[World]:
    yield World("C1", "writing better by the smallest of interest", TRUE, c1(LEAST, PLAIN))
    yield World("C1", "writing better by .12", TRUE, c1(BETTER, PLAIN))
    yield World("C1", "writing better, heavy tails", TRUE, c1(replace(FULL, tail=2.0), replace(PLAIN, tail=2.0)))
    yield World("C1", "writing better, uneven cells", TRUE, c1(replace(BETTER, uneven=True), PLAIN))
    massive = (replace(w, massive=10.0) for w in (FULL, PLAIN))
    yield World("C1", "writing better, massive dimensions", TRUE, c1(*massive), powered=False)
    yield World("C1", "alike", FALSE, c1(PLAIN, PLAIN))
    yield World("C1", "alike, heavy tails", FALSE, c1(*both(BETTER, tail=2.0)))
    yield World("C1", "alike, heavier tails", FALSE, c1(*both(BETTER, tail=1.5)))
    yield World("C1", "alike, topics with heavy tails", FALSE, c1(*both(BETTER, topic_tail=1.5)))
    yield World("C1", "alike, massive dimensions", FALSE, c1(*both(PLAIN, massive=10.0)))
    yield World("C1", "alike, massive dimensions when written", FALSE, c1(PLAIN, replace(PLAIN, massive=100.0)))
    yield World("C1", "alike, six topics", FALSE, c1(*both(PLAIN, n_topics=6)))
    yield World("C1", "alike, three topics", FALSE, c1(*both(PLAIN, n_topics=3)))
    yield World("C1", "alike, three emotions", FALSE, c1(*both(States(signal=0.8), n_emotions=3)))
    yield World("C1", "alike, uneven cells", FALSE, c1(*both(PLAIN, uneven=True)))
    yield World("C1", "alike, three texts a cell when written", FALSE, c1(replace(PLAIN, uneven=True), PLAIN))
    yield World("C1", "alike, better with the instruction", FALSE, c1(PLAIN, PLAIN, CONDITIONED))
    yield World("C1", "reading better", FALSE, c1(PLAIN, BETTER))
    yield World("C1", "three times the tokens", FALSE, c1(longer(PLAIN, 3), PLAIN))
    yield World("C1", "a fifth more tokens", FALSE, c1(longer(PLAIN, 1.2), PLAIN))
    yield World("C1", "half as many tokens more", FALSE, c1(longer(PLAIN, 1.5), PLAIN))
    yield World("C1", "stories told twice", FALSE, c1(replace(PLAIN, doubled=2), PLAIN))
    yield World("C1", "every story told twice", FALSE, c1(replace(PLAIN, doubled=6), PLAIN))
    yield World(
        "C1", "every story told twice, but for a word", FALSE, c1(replace(PLAIN, doubled=6, nearly=True), PLAIN)
    )
    yield World("C1", "neither decodable", UNKNOWABLE, c1(SILENT, SILENT))
    yield World("C1", "neither decodable, stories told twice", UNKNOWABLE, c1(replace(SILENT, doubled=6), SILENT))
    yield World("C1", "both at the ceiling", UNKNOWABLE, c1(FULL, FULL))


def _depth() -> Iterator[World]:
    yield World("C2", "best in the middle", TRUE, depth("C2", nine(BUMP)))
    yield World("C2", "best in the middle, heavy tails", TRUE, depth("C2", nine(BUMP, tail=2.0)), powered=False)
    yield World("C2", "best in the middle, massive", TRUE, depth("C2", nine(BUMP, massive=10.0)), powered=False)
    yield World("C2", "best at the end", FALSE, depth("C2", nine(LATE)))
    yield World("C2", "rising", FALSE, depth("C2", nine(RISE)))
    yield World("C2", "falling", FALSE, depth("C2", nine(FALLS)))
    yield World("C2", "falling, massive dimensions", FALSE, depth("C2", nine(FALLS, massive=10.0)))
    yield World("C2", "best at both ends", FALSE, depth("C2", nine(DIP)))
    yield World("C2", "the same everywhere", UNKNOWABLE, depth("C2", nine(1.3)))
    yield World("C2", "the same everywhere, heavy tails", UNKNOWABLE, depth("C2", nine(1.5, tail=2.0)))
    yield World("C2", "two equal peaks, one in the middle", UNKNOWABLE, depth("C2", nine(PEAKS)))
    yield World("C2", "two equal peaks, five topics", UNKNOWABLE, depth("C2", nine(PEAKS, n_topics=5)))
    yield World("C2", "at the ceiling everywhere", UNKNOWABLE, depth("C2", nine(6.0)))
    yield World("C2", "nothing decodable", UNKNOWABLE, depth("C2", nine(0.0)))
    yield World("C3", "best in the middle", TRUE, depth("C3", nine(BUMP)))
    yield World("C3", "at the ceiling in the middle", TRUE, depth("C3", nine(PLATEAU)))
    yield World("C3", "best in the middle, massive", TRUE, depth("C3", nine(BUMP, massive=10.0)), powered=False)
    yield World("C3", "best in the middle, four topics", TRUE, depth("C3", nine(BUMP, n_topics=4)), powered=False)
    yield World("C3", "rising", FALSE, depth("C3", nine(RISE)))
    yield World("C3", "rising, heavy tails", FALSE, depth("C3", nine(RISE, tail=2.0)))
    yield World("C3", "rising, massive dimensions", FALSE, depth("C3", nine(RISE, massive=10.0)))
    yield World("C3", "rising to the ceiling", FALSE, depth("C3", nine(SATURATES)))
    yield World("C3", "late", FALSE, depth("C3", nine(LATE)))
    yield World("C3", "best at both ends", FALSE, depth("C3", nine(DIP)))
    yield World("C3", "two humps", FALSE, depth("C3", nine(HUMPS)))
    yield World("C3", "the same everywhere", FALSE, depth("C3", nine(1.3)))
    yield World("C3", "the same everywhere, heavy tails", FALSE, depth("C3", nine(1.5, tail=2.0)))
    yield World("C3", "the same everywhere, four topics", FALSE, depth("C3", nine(1.3, n_topics=4)))
    yield World("C3", "nothing decodable", UNKNOWABLE, depth("C3", nine(0.0)))
    yield World("C3", "at the ceiling", UNKNOWABLE, depth("C3", nine(6.0)))


def _anisotropy() -> Iterator[World]:
    yield World("C4", "outside neutral variance", TRUE, c4(replace(NARROW, where="outside")))
    yield World("C4", "partly outside", TRUE, c4(NARROW))
    yield World("C4", "outside, 12 neutral texts", TRUE, c4(replace(NARROW, where="outside", n_neutral=12)))
    yield World("C4", "outside, heavy tails", TRUE, c4(replace(NARROW, where="outside", tail=3.0)), powered=False)
    yield World("C4", "outside, massive dimensions", TRUE, c4(replace(NARROW, where="outside", massive=10.0)), False)
    yield World("C4", "wholly inside", FALSE, c4(HIDDEN))
    yield World("C4", "wholly inside, 12 neutral texts", FALSE, c4(replace(HIDDEN, n_neutral=12)))
    yield World("C4", "wholly inside, 6 neutral texts", FALSE, c4(replace(HIDDEN, n_neutral=6)))
    yield World("C4", "wholly inside, strong", FALSE, c4(replace(HIDDEN, signal=4.0)))
    yield World("C4", "wholly inside, heavy tails", FALSE, c4(replace(HIDDEN, tail=3.0)))
    yield World("C4", "wholly inside, heavier tails", FALSE, c4(replace(HIDDEN, tail=1.5, signal=4.0)))
    yield World("C4", "wholly inside, long neutral texts", FALSE, c4(replace(HIDDEN, plain=0.3)))
    yield World("C4", "wholly inside, clear texts", FALSE, c4(replace(HIDDEN, noise=0.7, signal=3.0)))
    yield World("C4", "wholly inside, four dimensions", FALSE, c4(replace(HIDDEN, subspace=4)))
    yield World("C4", "wholly inside, four topics", FALSE, c4(replace(HIDDEN, n_topics=4)))
    yield World("C4", "wholly inside, massive dimensions", FALSE, c4(replace(HIDDEN, massive=10.0, signal=4.0)))
    yield World("C4", "wholly inside, more massive", FALSE, c4(replace(HIDDEN, massive=100.0, signal=4.0)))
    yield World("C4", "neutral text varies in every direction", UNKNOWABLE, c4(replace(PLAIN, n_neutral=40)))
    every = replace(PLAIN, n_neutral=40, massive=10.0, signal=2.0)
    yield World("C4", "neutral text varies everywhere, massive", UNKNOWABLE, c4(every))
    yield World("C4", "nothing decodable", UNKNOWABLE, c4(replace(NARROW, signal=0.0)))


def _tuning() -> Iterator[World]:
    yield World("C8", "writing gains by the smallest of interest", TRUE, c8(PLAIN, LEAST_GAIN, PLAIN))
    yield World("C8", "writing gains by .12", TRUE, c8(PLAIN, BETTER, PLAIN), powered=False)
    yield World("C8", "writing gains, heavy tails", TRUE, c8(*(replace(w, tail=2.0) for w in (PLAIN, FULL, PLAIN))))
    yield World("C8", "both gain alike", FALSE, c8(PLAIN, BETTER, PLAIN, BETTER))
    yield World("C8", "reading alone gains", FALSE, c8(PLAIN, PLAIN, PLAIN, BETTER))
    yield World("C8", "neither gains", FALSE, c8(PLAIN, PLAIN, PLAIN))
    yield World("C8", "neither gains, better with the instruction", FALSE, c8(PLAIN, PLAIN, PLAIN, told=FULL))
    yield World("C8", "neither gains, heavy tails", FALSE, c8(*[replace(BETTER, tail=2.0)] * 3))
    yield World("C8", "neither gains, massive dimensions", FALSE, c8(*[replace(PLAIN, massive=10.0)] * 3))
    yield World("C8", "neither gains, six topics", FALSE, c8(*[replace(PLAIN, n_topics=6)] * 3))
    yield World("C8", "neither gains, stories told twice after", FALSE, c8(PLAIN, replace(PLAIN, doubled=6), PLAIN))
    nearly = replace(PLAIN, doubled=6, nearly=True)
    yield World("C8", "neither gains, told twice but for a word", FALSE, c8(PLAIN, nearly, PLAIN))
    yield World("C8", "neither gains, uneven cells", FALSE, c8(PLAIN, replace(PLAIN, uneven=True), PLAIN))
    yield World("C8", "longer stories", FALSE, c8(PLAIN, longer(PLAIN, 3), PLAIN))
    yield World("C8", "nothing decodable", UNKNOWABLE, c8(SILENT, SILENT, SILENT))
    yield World("C8", "all at the ceiling", UNKNOWABLE, c8(FULL, FULL, FULL))
    yield World("C8", "reading at the ceiling", UNKNOWABLE, c8(PLAIN, BETTER, FULL))
    yield World("C8", "reading at the floor", UNKNOWABLE, c8(PLAIN, BETTER, SILENT))


def _words() -> Iterator[World]:
    yield World("X1", "emotion beyond the words", TRUE, x1(Worded(more=0.7)))
    yield World("X1", "emotion beyond the words, which tell nothing", TRUE, x1(Worded(own=0.0, more=0.7)))
    yield World("X1", "emotion beyond the words, six topics", TRUE, x1(Worded(more=0.7, n_topics=6)), powered=False)
    yield World("X1", "the words turned", FALSE, x1(Worded()))
    yield World("X1", "the words turned, no noise", FALSE, x1(Worded(noise=0.0)))
    yield World("X1", "the words turned, much noise", FALSE, x1(Worded(noise=1.0)))
    yield World("X1", "the words turned and stretched", FALSE, x1(Worded(stretch=1.0)))
    yield World("X1", "the words turned, six topics", FALSE, x1(Worded(n_topics=6)))
    yield World("X1", "clear words turned", FALSE, x1(Worded(own=0.10)))
    yield World("X1", "the words turned, embeddings unknown", FALSE, x1(Worded(given=False)), powered=False)
    yield World("X1", "emotion beyond the words, three topics", UNKNOWABLE, x1(Worded(more=0.2, n_topics=3)))
    yield World("X1", "emotion nowhere", UNKNOWABLE, x1(Worded(own=0.0)))
    yield World("X1", "the words at their ceiling", UNKNOWABLE, x1(Worded(own=0.3)))


def _geometry() -> Iterator[World]:
    clear, dim = States(signal=2.0, n_layers=1), States(signal=0.0, n_layers=1)
    yield World("RSA", "shared distances", TRUE, rsa(clear, "shared"))
    yield World("RSA", "shared distances, other texts", TRUE, rsa(clear, "shared", 0.0))
    yield World("RSA", "shared distances, six topics", TRUE, rsa(replace(clear, n_topics=6), "shared"), powered=False)
    yield World("RSA", "shared distances, massive", TRUE, rsa(replace(clear, massive=10.0), "shared"), powered=False)
    yield World("RSA", "no emotion, the same texts", FALSE, rsa(dim))
    yield World("RSA", "no emotion, the same texts, six topics", FALSE, rsa(replace(dim, n_topics=6)))
    yield World("RSA", "no emotion, the same texts, three topics", FALSE, rsa(replace(dim, n_topics=3)))
    yield World("RSA", "no emotion, massive dimensions", FALSE, rsa(replace(dim, massive=10.0)))
    yield World("RSA", "no emotion, heavy tails", FALSE, rsa(replace(dim, tail=2.0)))
    yield World("RSA", "no emotion, stories told twice", FALSE, rsa(replace(dim, doubled=6)))
    yield World("RSA", "no emotion, uneven cells", FALSE, rsa(replace(dim, uneven=True)))
    yield World("RSA", "each its own distances", FALSE, rsa(clear))
    yield World("RSA", "each its own distances, heavy tails", FALSE, rsa(replace(clear, tail=2.0)))
    yield World("RSA", "each its own distances, six emotions", FALSE, rsa(replace(clear, n_emotions=6)))
