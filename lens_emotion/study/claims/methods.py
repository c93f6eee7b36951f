"""Claims about the two methods: C1 (writing against reading) and C8 (what instruction tuning changes)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float
from scipy.stats import t as student

from lens_emotion.analysis.compare import PAIRED, Comparison, decoding_contributions, unpaired
from lens_emotion.analysis.decoding import decoding
from lens_emotion.errors import AnalysisError, StimulusError
from lens_emotion.extraction.activations import PooledActivations, restricted, shared_emotions
from lens_emotion.stats.tests import ALPHA, p_text
from lens_emotion.study.results import Evidence, JeongStudy, ModelStudy
from lens_emotion.study.verdict import NOT_SUPPORTED, SUPPORTED, UNDETERMINED, Claim, Effect, combined, untestable

NO_WRITING = "the model was not asked to write"
EQUIVALENT = 0.05  # a difference in accuracy that does not matter


def better_by_writing(
    name: str,
    versus: Comparison | None,
    preset: Comparison | None,
    written: JeongStudy | None,
    read: JeongStudy,
    why: str = "",
) -> Claim:
    """C1: held-out accuracy of written against read states, paired by topic, mean over layers.

    Supported if writing decodes better (p <= 0.05), not supported if reading does, or if the whole interval lies
    within 0.05 of zero. The paper's cosine of its two presets is told beside it and decides nothing: noise lowers it.

    Args:
        why: why there is nothing to compare although the model was asked to write.
    """
    if versus is None or preset is None or written is None:
        return untestable("C1", name, why or NO_WRITING)
    row = versus.row(PAIRED)
    effect = Effect("accuracy, writing less reading", float(row.difference), float(row.low), float(row.high))
    if row.p <= ALPHA and abs(row.difference) > 0:
        better = row.difference > 0
        verdict = SUPPORTED if better else NOT_SUPPORTED
        reason = "writing tells the emotions apart better" if better else "reading tells the emotions apart better"
    elif row.low > -EQUIVALENT and row.high < EQUIVALENT:
        verdict, reason = NOT_SUPPORTED, "the two methods decode alike"
    else:
        verdict, reason = UNDETERMINED, "neither method decodes better beyond chance"
    return Claim("C1", name, verdict, reason, _sentence(name, row, reason, written, read), effect,
                 "0, method swapped within topics", float(row.p), f"{row.n} {row.unit}")  # fmt: skip


def _sentence(name: str, row: object, reason: str, written: JeongStudy, read: JeongStudy) -> str:
    r: dict[str, float] = dict(row)  # type: ignore[call-overload]
    lower = "writing" if written.mean_cosine < read.mean_cosine else "reading"
    return (
        f"In {name}, held-out accuracy, mean over layers, is {r['a']:.2f} for writing and {r['b']:.2f} for reading "
        f"(difference {r['difference']:+.2f} [{r['low']:.2f}, {r['high']:.2f}], {p_text(r['p'])}, {r['n']:.0f} "
        f"{r['unit']}): {reason}. By the paper's presets at layer {written.layer} the mean cosine is "
        f"{written.mean_cosine:.2f} written and {read.mean_cosine:.2f} read, lower for {lower}; "
        f"held-out accuracy of the same states is {written.accuracy:.2f} written and {read.accuracy:.2f} read."
    )


def over_models(models: Sequence[ModelStudy], per_model: Sequence[Claim]) -> Claim:
    """C1 over models: the verdicts combined, and the paper's own unpaired test of cosines told beside them."""
    whole = combined("C1", per_model, universal=False)
    pairs = [(m.jeong.mean_cosine, m.jeong_reading.mean_cosine) for m in models if m.jeong is not None]
    if len(pairs) < 2:
        return whole
    a, b = np.array(pairs, dtype=float).T
    test = unpaired(a, b)
    beside = (
        f"The paper's own test, mean cosines of {len(pairs)} models by its presets, unpaired: {a.mean():.2f} written, "
        f"{b.mean():.2f} read, Mann-Whitney {p_text(float(str(test['p'])))}, Cohen's d {float(str(test['d'])):.2f}"
        + (f" ({test['warning']})" if test["warning"] else "")
        + "; a lower cosine may be noise."
    )
    return replace(whole, sentence=f"{whole.sentence} {beside}")


def tuning(base: Evidence, instruct: Evidence, n_permutations: int, seed: int) -> Claim:
    """C8 for one pair: change in accuracy of written states against that of read states, paired by topic.

    Supported if writing gains (interval above 0) and gains more than reading (interval of the difference above 0);
    not supported if writing does not gain or gains no more than reading, both beyond the intervals; else undetermined.
    """
    scope = f"{base.name} -> {instruct.name}"
    if base.conditioned is None or instruct.conditioned is None:
        return untestable("C8", scope, next(iter((*base.lacking.values(), *instruct.lacking.values())), NO_WRITING))
    try:
        writing = _gain(base.conditioned, instruct.conditioned, seed)
        reading = _gain(base.comprehension, instruct.comprehension, seed)
    except (StimulusError, AnalysisError) as error:  # too few stories are left to hold topics out
        return untestable("C8", scope, str(error))
    if shared := sorted(writing.keys() & reading.keys()):  # else topics of one's own, in order of name
        writing, reading = ({topic: gain[topic] for topic in shared} for gain in (writing, reading))
    topics = min(len(writing), len(reading))
    if topics < 2:
        return untestable("C8", scope, f"writing and reading share {topics} topics of both models, two are needed")
    gains = [np.array([*gain.values()]) for gain in (writing, reading)]
    w, r = _interval(gains[0]), _interval(gains[1])
    more = _interval(gains[0][:topics] - gains[1][:topics])
    if w[1] > 0 and more[1] > 0:
        verdict, reason = SUPPORTED, "writing gains, and gains more than reading"
    elif w[2] < EQUIVALENT or more[2] < EQUIVALENT:
        verdict, reason = NOT_SUPPORTED, "writing does not gain, or no more than reading"
    else:
        verdict, reason = UNDETERMINED, "a gain of writing over reading is neither shown nor excluded"
    return Claim(
        "C8",
        scope,
        verdict,
        reason,
        f"From {base.name} to {instruct.name} accuracy, mean over layers, changes by {w[0]:+.2f} "
        f"[{w[1]:.2f}, {w[2]:.2f}] in writing and by {r[0]:+.2f} [{r[1]:.2f}, {r[2]:.2f}] in reading: {reason}.",
        Effect("gain of writing less gain of reading", *more),
        "0",
        None,
        f"{topics} topics",
    )


def _gain(base: PooledActivations, instruct: PooledActivations, seed: int) -> dict[str, float]:
    """Instruct minus base: accuracy on each topic that both have, mean over layers; topics in order of name."""
    x, y, _ = shared_emotions(instruct, base)
    topics = sorted(set(x.topics) & set(y.topics))
    x, y = (restricted(of, x.emotions, topics) for of in (x, y))
    found = decoding_contributions(decoding(x, 1, seed), decoding(y, 1, seed), "topics")
    return dict(zip(topics, found.over_layers.units[:, 0].tolist(), strict=True))


def _interval(units: Float[np.ndarray, " n"]) -> tuple[float, float, float]:
    """Mean and its 95% t interval over topics."""
    half = student.ppf(0.975, len(units) - 1) * units.std(ddof=1) / np.sqrt(len(units))
    mean = float(units.mean())
    return mean, mean - float(half), mean + float(half)
