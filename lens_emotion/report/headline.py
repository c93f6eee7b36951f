"""What a page says first: a sentence made of the verdicts by rule, the verdicts, and three numbers beside their nulls.

Nothing is computed here but medians over models, and which layers are alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from lens_emotion.analysis.layers import LayerSweep
from lens_emotion.models.catalog import TINY
from lens_emotion.presets.protocol import MIDDLE
from lens_emotion.report.parts import Bar, Chip, Headline, KeyNumber
from lens_emotion.report.words import at_floor
from lens_emotion.stats.tests import p_text, wilson_interval
from lens_emotion.study.results import MethodStudy, ModelStudy, StudyRun
from lens_emotion.study.verdict import NOT_SUPPORTED, NOT_TESTABLE, SUPPORTED, UNDETERMINED, Claims

# a claim in a few words; whole in `study.verdict.STATEMENTS`
NAMES = {
    "C1": "writing above reading",
    "C2": "middle layers",
    "C3": "U-shape over depth",
    "C4": "more than anisotropy",
    "C5": "steering is causal",
    "C6": "regimes by architecture",
    "C7": "another language",
    "C8": "instruction tuning",
    "X1": "more than words",
}
SHAPE = {
    SUPPORTED: "accuracy over depth is best in the middle (an inverted U)",
    NOT_SUPPORTED: "no U-shape over depth",
    UNDETERMINED: "its shape over depth stays open",
}
WRITING = {
    SUPPORTED: "writing separates better than reading",
    NOT_SUPPORTED: "writing separates no better than reading",
}
UNSTEERED = {
    NOT_SUPPORTED: "steering does no more than its controls",
    UNDETERMINED: "whether it can be steered stays open",
    NOT_TESTABLE: "steering was not tested",
}
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
PRESENT, ABSENT, HANGS, UNTOLD = "above its null", "not distinguishable from noise", "undetermined", "not testable"


def headline(run: StudyRun) -> Headline:
    """The first screen of a run."""
    names = [m.info.name for m in run.models]
    found = [reads(m.comprehension) for m in run.models]
    return Headline(
        finding(names, found, run.claims),
        caution(names),
        tuple(Chip(c.code, NAMES[c.code], c.verdict) for c in run.claims.overall),
        tuple(n for n in (_reading(run.models), _steering(run.models), _depth(run.models)) if n is not None),
    )


def reads(method: MethodStudy) -> str:
    """Whether emotion can be read off these states, by both decoders."""
    decoding = method.decoding
    if decoding.tied:
        return UNTOLD
    return HANGS if decoding.hangs() else PRESENT if decoding.above_chance() else ABSENT


def finding(names: Sequence[str], found: Sequence[str], claims: Claims) -> str:
    """One sentence: in which models emotion is read and steered, then what C3 and C1 came to.

    Args:
        names: of the models. found: what `reads` says of each.
    """
    if not names:
        return "Nothing was studied"
    overall = {c.code: c.verdict for c in claims.overall}
    read = [name for name, said in zip(names, found, strict=True) if said == PRESENT]
    steered = [c.scope for c in claims.claims if c.code == "C5" and c.scope in names and c.verdict == SUPPORTED]
    parts = [_main(names, found, read, steered, overall.get("C5", NOT_TESTABLE))]
    if read:
        parts += [
            words for code, said in (("C3", SHAPE), ("C1", WRITING)) if (words := said.get(overall.get(code, "")))
        ]
    return "; ".join(parts)


def _main(names: Sequence[str], found: Sequence[str], read: list[str], steered: list[str], over: str) -> str:
    where = _where(len(read), names)
    if read and set(read) == set(steered):
        return f"Emotion can be read and steered in {where}"
    said = f"Emotion can be read in {where}" if read else _unread(names, found)
    if not steered:
        return f"{said}; {UNSTEERED.get(over, UNSTEERED[UNDETERMINED])}"
    if read and set(steered) < set(read):
        return f"{said} and steered in {_spelt(len(steered))} of them"
    return f"{said}; it can be steered in {_where(len(steered), names)}"


def _unread(names: Sequence[str], found: Sequence[str]) -> str:
    """What is said where emotion is read in no model."""
    where = _where(len(names), names)
    if set(found) == {ABSENT}:
        return f"Emotion cannot be told from noise in {where}"
    if set(found) == {UNTOLD}:
        return f"Whether emotion can be read is not testable in {where}"
    return f"Whether emotion can be read stays open in {where}"


def _where(k: int, names: Sequence[str]) -> str:
    """ "tiny-llama", "both models", "all five models", "two of five models"."""
    n = len(names)
    if n == 1:
        return names[0]
    if k == n:
        return "both models" if n == 2 else f"all {_spelt(n)} models"
    return f"{_spelt(k)} of {_spelt(n)} models"


def _spelt(n: int) -> str:
    return NUMBERS[n] if n < len(NUMBERS) else str(n)


def caution(names: Sequence[str]) -> str:
    """That a result on toy models is none, naming them where others are in the run too."""
    tiny = {spec.name for spec in TINY}
    toys = [name for name in names if name in tiny]
    if not toys:
        return ""
    if len(toys) == len(names):
        which = "a toy model that ships" if len(toys) == 1 else "toy models that ship"
        return f"A check of the tool, not a finding: {which} with it."
    which = f"{', '.join(toys)} {'is a toy model' if len(toys) == 1 else 'are toy models'}"
    return f"{which}: there, this is a check of the tool, not a finding."


def alike(sweep: LayerSweep) -> str:
    """Layers that cannot be told from the best one (their accuracy lies in its 95% interval over texts), in words;
    "" if the best stands alone, or if nothing is above chance."""
    table = sweep.table
    best, n = table.iloc[sweep.best_layer], sweep.n_texts
    if sweep.metric != "decoding" or n == 0 or not best.p_corrected <= 0.05:
        return ""
    low, _ = wilson_interval(min(n, round(float(best.value) * n)), n)
    tied = table[table.value >= low]
    if len(tied) < 2:
        return ""
    which = "all layers" if len(tied) == len(table) else f"{len(tied)} of {len(table)} layers alike,"
    return f"{which} at least {math.floor(100 * tied.value.min() + 1e-9) / 100:.2f}"


def level(sweep: LayerSweep) -> bool:
    """Whether no layer can be told from the best: then there is no best one."""
    return alike(sweep).startswith("all ")


# The three numbers: of one model with its interval, of several their median, least and greatest.


def _over(values: Sequence[float], digits: str = ".2f") -> tuple[str, str]:
    """A number over models, and of how many it is."""
    if len(values) == 1:
        return format(values[0], digits), ""
    return format(median(values), digits), f"median of {len(values)} models, {_ends(values, digits)}"


def _ends(values: Sequence[float], digits: str = ".2f") -> str:
    low, high = format(min(values), digits), format(max(values), digits)
    return low if low == high else f"{low} to {high}"


def _reading(models: Sequence[ModelStudy]) -> KeyNumber | None:
    able = [m for m in models if not m.comprehension.decoding.tied]
    if not able:
        return None
    rows = [m.comprehension.decoding.table.iloc[m.comprehension.decoding.best_layer] for m in able]
    value, over = _over([float(r.accuracy) for r in rows])
    emotions = _ends([len(m.comprehension.decoding.emotions) for m in able], "d")
    bars = tuple(
        Bar(float(r.accuracy), (0.0, float(r.null_high)), name=m.info.name) for m, r in zip(able, rows, strict=True)
    )
    ps = {
        floored(float(r.p_corrected), m.comprehension.decoding.n_permutations) for m, r in zip(able, rows, strict=True)
    }
    null = (
        f"chance {_ends([float(r.chance) for r in rows])}, permuted labels up to {max(r.null_high for r in rows):.2f}"
    )
    line = f"of texts on unseen topics given the right one of {emotions} emotions"
    return KeyNumber("reads", value, _joined(line, over), f"{null}; {ps.pop()}" if len(ps) == 1 else null, bars)


def _steering(models: Sequence[ModelStudy]) -> KeyNumber | None:
    found = [(m.info.name, h) for m in models if m.steering and not m.steering.silent and (h := m.steering.headline)]
    found = [(name, h) for name, h in found if h.doses]
    if not found:
        return None
    value, over = _over([h.success / h.n for _, h in found])
    if len(found) == 1:
        h = found[0][1]
        over = f"{h.success}/{h.n}, 95% {h.low:.2f} to {h.high:.2f}"
    random = _ends([h.random / h.n for _, h in found])
    others = [h.other / h.n for _, h in found if h.other is not None]
    null = f"random directions {random}" + (f", another emotion's vector {_ends(others)}" if others else "")
    bars = tuple(
        Bar(h.success / h.n, (0.0, max(h.random, h.other or 0) / h.n), h.low, h.high, name) for name, h in found
    )
    line = "of steered scenarios succeed, at a dose chosen on other openings"
    return KeyNumber("steers", value, _joined(line, over), null, bars)


def _depth(models: Sequence[ModelStudy]) -> KeyNumber | None:
    sweeps = [(m.info.name, m.comprehension.sweep) for m in models if reads(m.comprehension) == PRESENT]
    if not sweeps:
        return None
    found = [s for _, s in sweeps]
    bars = tuple(Bar(s.best_depth, MIDDLE, s.best_depth_low, s.best_depth_high, name) for name, s in sweeps)
    middle = f"the middle third is {MIDDLE[0]:.0%} to {MIDDLE[1]:.0%}"
    if all(level(s) for s in found):
        return KeyNumber(
            "best depth", "none", alike(found[0]) if len(found) == 1 else "all layers are alike", middle, bars
        )
    value, over = _over([s.best_depth for s in found], ".0%")
    ends = [e for s in found for e in (s.best_depth_low, s.best_depth_high) if e is not None]
    line = "of the layers" + (f", 95% over topics {_ends(ends, '.0%')}" if ends else "")
    tied = alike(found[0]) if len(found) == 1 else _levelled(found)
    return KeyNumber("best depth", value, _joined(line, over, tied), middle, bars)


def _levelled(sweeps: Sequence[LayerSweep]) -> str:
    k = sum(level(s) for s in sweeps)
    return f"in {_spelt(k)} all layers are alike" if k else ""


def _joined(*parts: str) -> str:
    return "; ".join(filter(None, parts))


def floored(p: float, n_permutations: int) -> str:
    """p in words; one that no number of hits could have made smaller says so: "p <= 0.005 (floor)"."""
    least = 1 / (n_permutations + 1)
    return f"p {at_floor(least)}" if p <= least * (1 + 1e-9) else p_text(p)
