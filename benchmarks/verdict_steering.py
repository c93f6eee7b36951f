"""The worlds of `benchmarks.verdicts` about steering, C5 to C7, and about verdicts over models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from benchmarks.verdict_cases import BUMP, DIP, FALSE, LATE, TRUE, UNKNOWABLE, World, depth, nine
from benchmarks.verdict_worlds import Foreign, Steered, flat, info, rising, rng_of, steered, step
from lens_emotion.analysis.lens import Lens
from lens_emotion.steering.dose_result import DoseResponse
from lens_emotion.steering.regimes import Thresholds
from lens_emotion.stimuli.emotions import EMOTIONS
from lens_emotion.study.claims.over_models import architecture, entanglement
from lens_emotion.study.claims.steering import causal, leakage_of, other_languages, regimes
from lens_emotion.study.results import ModelStudy
from lens_emotion.study.verdict import SUPPORTED, Claim, combined

T = TypeVar("T")

GROUPED = {e: "joy" if i < 10 else f"g{i // 4}" for i, e in enumerate(EMOTIONS)}  # chance .5
PAIRS = {e: f"g{i // 2}" for i, e in enumerate(EMOTIONS)}  # chance .1
GAIN = rising(3.0)
SMALL = (0.05, 0.1, 0.2)


class NoLens(Lens):
    """A logit lens that nothing was asked of."""

    def summary(self) -> str:
        return "not asked."


def bare(kind: type[T], **fields: Any) -> T:
    """An object that has these fields only: what a verdict reads of it."""
    made = object.__new__(kind)
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    return made


def c5(world: Steered) -> Callable[[int], Claim]:
    return lambda seed: causal("m", steered(world, seed, tabled=False))


def c6(world: Steered) -> Callable[[int], Claim]:
    return lambda seed: regimes("m", steered(world, seed))


def c7(foreign: Foreign, everywhere: Foreign | None = None, **more: Any) -> Callable[[int], Claim]:
    """everywhere: what comes out where the vector is added at all layers; None: that was not run."""

    def run(seed: int) -> Claim:
        made = [steered(Steered(foreign=f, **more), 2 * seed + i) for i, f in enumerate((foreign, everywhere)) if f]
        leaked = [leakage_of(x, "planted") for x in made]
        return other_languages("m", made[0], bare(NoLens), leaked[0], leaked[1] if everywhere else None)

    return run


def worlds() -> Iterator[World]:
    """Every world about steering and about many models."""
    yield from _steered()
    yield from _regimes()
    yield from (replace(w, dear=True) for w in _foreign())
    yield from _families()
    yield from _over()


def _steered() -> Iterator[World]:
    yield World("C5", "gain at the smallest of interest", TRUE, c5(Steered(own=step(0.8))))
    yield World("C5", "large gain", TRUE, c5(Steered(own=GAIN)))
    yield World("C5", "large gain, heavy tails", TRUE, c5(Steered(own=rising(4.0), tail=2.5)))
    yield World("C5", "large gain, skewed scores", TRUE, c5(Steered(own=GAIN, skew=True)))
    yield World("C5", "large gain, scores 0 or 1", TRUE, c5(Steered(own=GAIN, full=True)))
    # .8 in the mean, but with a spread of its own: more than two openings an emotion would be needed to see it
    yield World("C5", "half of the emotions gain", TRUE, c5(Steered(own=step(1.6), gaining=0.5)), powered=False)
    yield World("C5", "half of the emotions gain much", TRUE, c5(Steered(own=step(2.4), gaining=0.5)))
    yield World("C5", "large gain, unequal scenarios", TRUE, c5(Steered(own=GAIN, openings=(2, 5, 3))))
    yield World("C5", "large gain, six emotions", TRUE, c5(Steered(own=GAIN, n_emotions=6)), powered=False)
    yield World("C5", "large gain, three emotions", TRUE, c5(Steered(own=GAIN, n_emotions=3)), powered=False)
    yield World("C5", "large gain, judge of pairs", TRUE, c5(Steered(own=GAIN, groups=PAIRS)))
    yield World(
        "C5", "each opening gains at doses of its own", TRUE, c5(Steered(own=step(2.0), apart=True)), powered=False
    )
    yield World("C5", "no gain", FALSE, c5(Steered()))
    yield World("C5", "no gain, heavy tails", FALSE, c5(Steered(tail=2.0)))
    yield World("C5", "no gain, heavier tails", FALSE, c5(Steered(tail=1.2)))
    yield World("C5", "no gain, skewed scores", FALSE, c5(Steered(skew=True)))
    yield World("C5", "no gain, scores 0 or 1", FALSE, c5(Steered(full=True)))
    yield World("C5", "no gain, some emotions up and some down", FALSE, c5(Steered(scatter=1.5)))
    yield World("C5", "no gain, unequal scenarios", FALSE, c5(Steered(openings=(2, 5, 3))))
    yield World("C5", "no gain, six emotions", FALSE, c5(Steered(n_emotions=6)))
    yield World("C5", "no gain, three emotions", FALSE, c5(Steered(n_emotions=3)))
    yield World("C5", "any direction does as well", FALSE, c5(Steered(common=GAIN)))
    yield World("C5", "another emotion does as well", FALSE, c5(Steered(own=rising(2.0), other=rising(2.0))))
    yield World("C5", "another emotion does as well, half gain", FALSE, c5(Steered(own=GAIN, other=GAIN, gaining=0.5)))
    yield World("C5", "another does as well, skewed", FALSE, c5(Steered(own=GAIN, other=GAIN, skew=True)))
    yield World("C5", "another emotion does better", FALSE, c5(Steered(own=rising(1.0), other=rising(2.0))))
    yield World("C5", "the target is pushed down", FALSE, c5(Steered(own=rising(-1.5))))
    yield World("C5", "it gains only where text is broken", FALSE, c5(Steered(own=lambda d: 4.0 * (d >= 7))))
    yield World("C5", "judge at chance", UNKNOWABLE, c5(Steered(own=rising(2.0), judge=0.06)))
    yield World("C5", "judge at chance, no gain", UNKNOWABLE, c5(Steered(judge=0.06)))
    yield World("C5", "judge not measured", UNKNOWABLE, c5(Steered(own=rising(2.0), judge=None)))
    grouped = Steered(own=rising(2.0), judge=0.5, groups=GROUPED)
    yield World("C5", "grouped judge at its chance", UNKNOWABLE, c5(grouped))
    yield World("C5", "grouped judge at its chance, no gain", UNKNOWABLE, c5(replace(grouped, own=flat)))
    yield World("C5", "the model judges itself", UNKNOWABLE, c5(Steered(own=rising(2.0), independent=False)))
    yield World("C5", "doses too small", UNKNOWABLE, c5(Steered(doses=SMALL)))
    yield World("C5", "doses too small, heavy tails", UNKNOWABLE, c5(Steered(doses=SMALL, tail=2.0)))
    yield World("C5", "every dose breaks", UNKNOWABLE, c5(Steered(own=rising(2.0), breaks=0.1, loops=0.1)))
    yield World("C5", "every dose breaks, no gain", UNKNOWABLE, c5(Steered(breaks=0.1)))
    yield World("C5", "no other emotion tried", UNKNOWABLE, c5(Steered(own=rising(2.0), controls=False)))


def _regimes() -> Iterator[World]:
    yield World("C6", "three regimes in order", TRUE, c6(Steered(own=rising(4.0))))
    yield World("C6", "three regimes in order, heavy tails", TRUE, c6(Steered(own=rising(6.0), tail=2.5)))
    yield World("C6", "broken before it steers", FALSE, c6(Steered(own=lambda d: 3.0 * (d > 9), loops=2.0, breaks=3.0)))
    late = Steered(own=lambda d: 4.0 * (d > 3.5), loops=1.5, mends=3.5, breaks=10.0)
    yield World("C6", "loops, mends, then steers", FALSE, c6(late))
    yield World("C6", "explodes before it loops", FALSE, c6(Steered(own=rising(4.0), breaks=5.0, loops=9.0)))
    yield World("C6", "nothing steers", FALSE, c6(Steered()))
    yield World("C6", "nothing steers, scores 0 or 1", FALSE, c6(Steered(full=True)))
    yield World("C6", "nothing steers, some up and some down", FALSE, c6(Steered(scatter=1.0)))
    yield World("C6", "no repetition seen", UNKNOWABLE, c6(Steered(own=rising(4.0), loops=np.inf)))
    yield World("C6", "nothing breaks", UNKNOWABLE, c6(Steered(own=rising(4.0), loops=np.inf, breaks=np.inf)))
    yield World("C6", "judge at chance", UNKNOWABLE, c6(Steered(own=rising(4.0), judge=0.06)))
    yield World("C6", "judge at chance, no gain", UNKNOWABLE, c6(Steered(judge=0.06)))
    yield World("C6", "the model judges itself", UNKNOWABLE, c6(Steered(own=rising(4.0), independent=False)))
    yield World("C6", "doses too small", UNKNOWABLE, c6(Steered(doses=SMALL)))
    yield World("C6", "every dose breaks", UNKNOWABLE, c6(Steered(own=rising(2.0), breaks=0.1, loops=np.inf)))


def _foreign() -> Iterator[World]:
    fits = Foreign(own=0.5, plain=0.3)
    yield World("C7", "foreign words that fit", TRUE, c7(fits))
    yield World("C7", "foreign words that fit, at all layers only", TRUE, c7(Foreign(), fits))
    yield World("C7", "fitting words in a tenth of the texts", TRUE, c7(Foreign(own=0.1)), powered=False)
    yield World("C7", "foreign letters that do not fit", FALSE, c7(Foreign(plain=0.5)))
    yield World("C7", "another emotion's words as much", FALSE, c7(Foreign(own=0.4, other=0.4)))
    yield World("C7", "words of any emotion, at random", FALSE, c7(Foreign(own=0.03, other=0.5)))
    yield World("C7", "random directions as much", FALSE, c7(Foreign(own=0.4, random=(0.4, 0.1, 0.1))))
    yield World("C7", "random directions bring out letters", FALSE, c7(Foreign(plain=0.2, random=(0.0, 0.0, 0.4))))
    yield World("C7", "nothing foreign", FALSE, c7(Foreign()))
    yield World("C7", "nothing foreign by either protocol", FALSE, c7(Foreign(), Foreign(plain=0.01)))
    yield World("C7", "nothing foreign, doses too small", UNKNOWABLE, c7(Foreign(), doses=SMALL))
    few = {"n_emotions": 3, "openings": (2,)}
    yield World("C7", "nothing foreign in six texts a dose", UNKNOWABLE, c7(Foreign(), **few))
    yield World("C7", "Qwen alone counts: it leaks", TRUE, _qwen(True))
    yield World("C7", "Qwen alone counts: the others leak", FALSE, _qwen(False))


def _qwen(leaks: bool) -> Callable[[int], Claim]:
    """One Qwen and two others, of which either the former or the latter leak."""

    def run(seed: int) -> Claim:
        families = {"q": "qwen", "l": "llama", "g": "gemma"}
        models = [bare(ModelStudy, info=info(n, f)) for n, f in families.items()]
        found = []
        for i, (name, family) in enumerate(families.items()):
            kind = Foreign(own=0.5, plain=0.3) if leaks == (family == "qwen") else Foreign()
            found.append(replace(c7(kind)(3 * seed + i), scope=name))
        return entanglement(models, found)

    return run


# Families against size: onsets of broken text, one model a row.

FAMILIES = ("llama", "qwen", "gemma", "mistral")
TWINS = (  # base models and their instruct versions, of the catalog
    ("qwen2.5-0.5b", "qwen"), ("qwen2.5-1.5b", "qwen"), ("qwen2.5-3b", "qwen"),
    ("llama-3.2-1b", "llama"), ("llama-3.2-3b", "llama"), ("llama-3.1-8b", "llama"),
)  # fmt: skip


def families(
    between: float = 0.0, slope: float = 0.0, noise: float = 0.3, *, each: int = 3, never: float = np.inf,
    confounded: bool = False, twins: bool = False, relative: float = 0.0, turned: int = 0,
) -> Callable[[int], Claim]:  # fmt: skip
    """C6 over models that differ in the dose from which they break.

    Args:
        between: how far families lie apart in log onset, of which half of them are early and half late. slope: per log
            size. noise: SD of models. each: models of a family. never: dose beyond which nothing was run.
        confounded: each family has a size of its own. twins: every checkpoint is there twice, base and instruct.
        relative: how far families lie apart in the relative unit alone. turned: models whose regimes come out of order.
    """

    def run(seed: int) -> Claim:
        rng = rng_of(seed, 7)
        kinds = [TWINS[i % len(TWINS)][1] for i in range(6)] if twins else [f for f in FAMILIES for _ in range(each)]
        order = list(dict.fromkeys(kinds))
        place = np.array([order.index(k) for k in kinds])
        size = np.log(2.0) * (place if confounded else rng.permutation(len(kinds)) * 8 / len(kinds))
        lift = np.where(place % 2, 0.5, -0.5)
        onset = 1.5 + between * lift + slope * (size - size.mean()) + noise * rng.standard_normal(len(kinds))
        models, claims = [], []
        for i, kind in enumerate(kinds):
            copies = (TWINS[i][0], f"{TWINS[i][0]}-instruct") if twins else (f"m{i}",)
            for name in copies:
                log = onset[i] + (0.05 * rng.standard_normal() if twins else 0.0)
                models.append(_model(name, kind, float(np.exp(size[i])) * 100, np.exp(log), relative * lift[i], never))
                wrong = i < turned
                against = (1.0, 0.001) if wrong else (0.001, 1.0)
                verdict = "not supported" if wrong else SUPPORTED
                claims.append(Claim("C6", name, verdict, "planted", "planted", evidence=against))
        return architecture(models, combined("C6", claims, True))

    return run


def _model(name: str, family: str, millions: float, onset: float, shift: float, never: float) -> ModelStudy:
    doses = np.array([d for d in np.geomspace(0.1, 200, 24) if d <= never])
    ratio = np.where(doses < onset, 1.0, 30.0)
    rows = {"condition": "emotion", "dose": doses, "dose_natural": doses, "dose_relative": doses * np.exp(shift) / 10}
    table = pd.DataFrame(rows | {"surprise": ratio})
    steering = bare(DoseResponse, table=table, thresholds=Thresholds(3.0, 0.5, 0.5))
    return bare(ModelStudy, info=info(name, family), millions=millions, steering=steering)


def _families() -> Iterator[World]:
    where = "C6 families"
    yield World(where, "families differ", TRUE, families(1.6))
    yield World(where, "families differ, some never break", TRUE, families(1.6, never=9.0), powered=False)
    yield World(where, "families differ, two of each", TRUE, families(1.6, each=2), powered=False)
    yield World(where, "neither matters", FALSE, families())
    yield World(where, "neither matters, two of each", FALSE, families(each=2))
    yield World(where, "neither matters, some never break", FALSE, families(never=5.0, noise=0.8))
    yield World(where, "neither matters, most never break", FALSE, families(never=2.5, noise=0.8))
    yield World(where, "size alone", FALSE, families(slope=0.5))
    yield World(where, "size alone, weakly", FALSE, families(slope=0.15))
    yield World(where, "size as much as family", FALSE, families(1.6, slope=0.5))
    yield World(where, "twins, neither matters", FALSE, families(twins=True))
    yield World(where, "twins, size alone", FALSE, families(slope=0.4, twins=True))
    yield World(where, "families differ in the relative unit alone", FALSE, families(relative=2.0))
    yield World(where, "one model out of order", FALSE, families(1.6, turned=1))
    yield World(where, "families have sizes of their own", UNKNOWABLE, families(1.6, confounded=True))
    yield World(where, "sizes of their own, size alone", UNKNOWABLE, families(slope=0.8, confounded=True))
    yield World(where, "one model of each family", UNKNOWABLE, families(1.6, each=1))
    yield World(where, "no model breaks", UNKNOWABLE, families(1.6, never=0.3))


# Verdicts of several models combined.

KINDS: dict[str, Callable[[int], Claim]] = {
    "steers": c5(Steered(own=rising(2.5))),
    "steers not": c5(Steered()),
    "cannot say": c5(Steered(own=rising(2.5), judge=0.06)),
    "borderline": c5(Steered(own=step(0.3))),
    "turns": depth("C3", nine(BUMP)),
    "rises": depth("C3", nine(LATE)),
    "flat": depth("C3", nine(1.3)),
    "middle": depth("C2", nine(BUMP)),
    "late": depth("C2", nine(LATE)),
    "ends": depth("C2", nine(DIP)),
    "blind": depth("C2", nine(0.0)),
}
POOL = 30


@cache
def _drawn(kind: str, i: int) -> Claim:
    return KINDS[kind](5000 + i)


def over(code: str, kinds: str, universal: bool) -> Callable[[int], Claim]:
    """Models of the kinds named, with commas, each drawn from a pool of that kind, through the step over models."""

    def run(seed: int) -> Claim:
        rng, names = rng_of(seed, 3), kinds.split(", ")
        draws = {k: iter(rng.permutation(POOL)) for k in names}
        claims = [replace(_drawn(k, int(next(draws[k]))), scope=f"m{i}") for i, k in enumerate(names)]
        return combined(code, claims, universal)

    return run


def _times(n: int, kind: str, *more: str) -> str:
    return ", ".join([kind] * n + list(more))


def _over() -> Iterator[World]:
    o, on = "over models", over
    yield World(o, "C5 typical: all five", TRUE, on("C5", _times(5, "steers"), False))
    yield World(o, "C5 typical: four of five", TRUE, on("C5", _times(4, "steers", "steers not"), False))
    yield World(o, "C5 typical: one model, which does", TRUE, on("C5", "steers", False))
    yield World(
        o, "C5 typical: two of five", FALSE, on("C5", "steers, steers, steers not, steers not, steers not", False)
    )
    yield World(o, "C5 typical: one of five", FALSE, on("C5", _times(4, "steers not", "steers"), False))
    yield World(o, "C5 typical: none of three", FALSE, on("C5", _times(3, "steers not"), False))
    yield World(o, "C5 typical: none of nine", FALSE, on("C5", _times(9, "steers not"), False))
    yield World(o, "C5 typical: none can say", UNKNOWABLE, on("C5", _times(5, "cannot say"), False))
    yield World(
        o, "C5 typical: one does, the others cannot say", UNKNOWABLE, on("C5", _times(4, "cannot say", "steers"), False)
    )
    yield World(
        o,
        "C5 typical: one does not, others cannot say",
        UNKNOWABLE,
        on("C5", _times(4, "cannot say", "steers not"), False),
    )
    yield World(
        o,
        "C5 typical: half and half",
        UNKNOWABLE,
        on("C5", "steers, steers, cannot say, steers not, steers not", False),
    )
    yield World(o, "C5 universal: all five", TRUE, on("C5", _times(5, "steers"), True))
    yield World(o, "C5 universal: four of five", FALSE, on("C5", _times(4, "steers", "steers not"), True))
    yield World(o, "C5 universal: four, one cannot say", UNKNOWABLE, on("C5", _times(4, "steers", "cannot say"), True))
    yield World(o, "C2 universal: all three in the middle", TRUE, on("C2", _times(3, "middle"), True), powered=False)
    yield World(o, "C2 universal: one late", FALSE, on("C2", _times(4, "middle", "late"), True))
    yield World(o, "C2 universal: all late", FALSE, on("C2", _times(5, "late"), True))
    yield World(o, "C2 universal: middle, one blind", UNKNOWABLE, on("C2", _times(4, "middle", "blind"), True))
    yield World(o, "C2 universal: all blind", UNKNOWABLE, on("C2", _times(4, "blind"), True))
    yield World(o, "C3 universal: all four turn", TRUE, on("C3", _times(4, "turns"), True))
    yield World(o, "C3 universal: one rises", FALSE, on("C3", _times(4, "turns", "rises"), True))
    yield World(o, "C3 universal: one flat", FALSE, on("C3", _times(4, "turns", "flat"), True))
    yield World(o, "C3 universal: none turns", FALSE, on("C3", "rises, flat, rises", True))
