"""Claims about the two methods: C1 (writing against reading) and C8 (what instruction tuning changes).

Both go by the bare story read again, since the states under the instruction hold the instruction, which names the
emotion; by texts on the same topics, as many of them, and over as many tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lens_emotion.analysis.compare import PAIRED, Comparison, unpaired
from lens_emotion.analysis.decoding import DECODERS
from lens_emotion.analysis.matched import TopicAccuracy, alike, blind, comparable, odds, topic_accuracy, weighed
from lens_emotion.errors import AnalysisError, StimulusError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.stats.decide import EXCLUDED, SHOWN, Estimate
from lens_emotion.stats.tests import p_text
from lens_emotion.study.results import Evidence, JeongStudy, ModelStudy
from lens_emotion.study.verdict import (
    NOT_SUPPORTED,
    SUPPORTED,
    UNDETERMINED,
    Claim,
    Effect,
    combined,
    hangs_on_decoder,
    untestable,
)

NO_WRITING = "the model was not asked to write"


def better_by_writing(
    name: str,
    bare: PooledActivations | None,
    passages: PooledActivations,
    beside: Sequence[str] = (),
    smallest: float = 0.1,
    why: str = "",
    seed: int = 0,
) -> Claim:
    """C1: held-out accuracy of the bare story read again against that of passages, paired by topic, mean over layers.

    Supported if the whole interval of the difference lies above 0. Not supported if it lies below the smallest effect
    of interest, and a difference could have shown: one of the two decodes, and neither is at its ceiling. Undetermined
    otherwise, where the side that does better pools more tokens, and where the decoders differ.

    Args:
        bare: the model's own stories without the instruction; None if it was not asked to write.
        beside: sentences on other readings, which decide nothing.
        smallest: see `claims.smallest`. why: why there is nothing to compare although the model was asked to write.
    """
    if bare is None:
        return untestable("C1", name, why or NO_WRITING)
    try:
        sets = alike(bare, passages)
        both = [[topic_accuracy(x, seed, decoder) for x in sets] for decoder in DECODERS]
    except (StimulusError, AnalysisError) as error:
        return untestable("C1", name, f"too few stories can be compared: {error}")
    if tied := next((x.tied for x in both[0] if x.tied), ""):
        return untestable("C1", name, tied)
    claim = hangs_on_decoder(*(_against_reading(name, a, b, smallest, seed) for a, b in both))
    return replace(claim, sentence=" ".join([claim.sentence, *beside]))


def _against_reading(name: str, written: TopicAccuracy, read: TopicAccuracy, smallest: float, seed: int) -> Claim:
    """C1 by one decoder."""
    found = weighed(((1, written), (-1, read)), seed)
    unseen, said = blind(smallest, written, read), found.says(smallest)
    fit = dict(zip((SHOWN, EXCLUDED), comparable(written, read), strict=True)).get(said, True)
    if not fit:
        verdict = UNDETERMINED
        reason = f"the stories pool {written.tokens:.0f} tokens a text, the passages {read.tokens:.0f}"
    elif said == SHOWN:
        verdict, reason = SUPPORTED, "writing tells the emotions apart better"
    elif said == EXCLUDED and not unseen:
        verdict = NOT_SUPPORTED
        reason = "reading tells them apart better" if found.high < 0 else f"writing gains less than {smallest:g}"
    else:
        verdict, reason = UNDETERMINED, unseen or f"neither a gain nor its absence is shown; {found.reach(smallest)}"
    sentence = (
        f"In {name}, held-out accuracy, mean over layers, is {written.value:.2f} for the model's own stories without "
        f"their instruction and {read.value:.2f} for passages (difference {_signed(found)}, {found.n} topics, "
        f"{written.n_texts} texts each): {reason}."
    )
    return Claim(
        "C1",
        name,
        verdict,
        reason,
        sentence,
        Effect("accuracy, writing less reading", found.value, found.low, found.high),
        f"0; no less than {smallest:g} would matter",
        found.p_above(),
        f"{found.n} topics",
        smallest,
        found.reach(smallest),
        (found.p_above(), found.p_below(smallest)),
        found,
    )


def _signed(found: Estimate) -> str:
    return f"{found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def other_readings(versus: Comparison | None, written: JeongStudy | None, read: JeongStudy) -> tuple[str, ...]:
    """What the reading under the instruction and the paper's presets say, for the sentence of C1."""
    said = []
    if versus is not None:
        row = versus.row(PAIRED)
        said.append(
            f"With the instruction in front, which names the emotion, writing has {row.a:.2f} (difference "
            f"{row.difference:+.2f} [{row.low:+.2f}, {row.high:+.2f}])."
        )
    if written is not None:
        said.append(
            f"By the paper's presets at layer {written.layer} the mean cosine is {written.mean_cosine:.2f} written and "
            f"{read.mean_cosine:.2f} read; held-out accuracy of the same states is {written.accuracy:.2f} and "
            f"{read.accuracy:.2f}."
        )
    return tuple(said)


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


def tuning(base: Evidence, instruct: Evidence, smallest: float = 0.15, seed: int = 0) -> Claim:
    """C8 for one pair: change in accuracy of the bare stories against that of passages, paired by topic.

    Supported if writing gains (interval above 0) and gains more than reading (interval of the difference above 0, in
    accuracy and in log odds).
    Not supported if one of the two lies below the smallest effect of interest where it could have shown. Undetermined
    otherwise: also where reading is at its floor or ceiling, for then it could not have gained as much, and where the
    decoders differ.
    """
    scope = f"{base.name} -> {instruct.name}"
    bare = base.bare, instruct.bare
    if bare[0] is None or bare[1] is None:
        return untestable("C8", scope, next(iter((*base.lacking.values(), *instruct.lacking.values())), NO_WRITING))
    try:
        sets = alike(bare[0], bare[1], base.comprehension, instruct.comprehension)
        both = [[topic_accuracy(x, seed, decoder) for x in sets] for decoder in DECODERS]
    except (StimulusError, AnalysisError) as error:  # too few stories are left to hold topics out
        return untestable("C8", scope, str(error))
    if tied := next((x.tied for x in both[0] if x.tied), ""):
        return untestable("C8", scope, tied)
    return hangs_on_decoder(*(_gained(base.name, instruct.name, four, smallest, seed) for four in both))


def _gained(base: str, instruct: str, four: Sequence[TopicAccuracy], smallest: float, seed: int) -> Claim:
    """C8 by one decoder: of writing before and after, then of reading before and after."""
    before, after, read_before, read_after = four
    gain = weighed(((1, after), (-1, before)), seed)
    parts = (1, after), (-1, before), (-1, read_after), (1, read_before)
    more = weighed(parts, seed)
    verdict, reason = _tuned(gain, more, odds(parts, seed), smallest, (before, after), (read_before, read_after))
    weaker = max((gain, more), key=lambda e: e.p_above())
    return Claim(
        "C8",
        f"{base} -> {instruct}",
        verdict,
        reason,
        f"From {base} to {instruct} accuracy, mean over layers, changes by {_signed(gain)} in writing "
        f"({before.value:.2f} to {after.value:.2f}) and by {read_after.value - read_before.value:+.2f} in reading "
        f"({read_before.value:.2f} to {read_after.value:.2f}): {reason}.",
        Effect("gain of writing less gain of reading", more.value, more.low, more.high),
        f"0; no less than {smallest:g} would matter",
        weaker.p_above(),
        f"{gain.n} topics",
        smallest,
        more.reach(smallest),
        (weaker.p_above(), min(1.0, 2 * min(e.p_below(smallest) for e in (gain, more)))),  # either would do
        more,
    )


def _tuned(
    gain: Estimate,
    more: Estimate,
    in_odds: Estimate,
    smallest: float,
    written: tuple[TopicAccuracy, TopicAccuracy],
    read: tuple[TopicAccuracy, TopicAccuracy],
) -> tuple[str, str]:
    unseen = blind(smallest, *written)
    reading = blind(smallest, *read)
    before, after = written
    aye, nay = comparable(after, before)
    shown, excluded = ([e.says(smallest) == x for e in (gain, more)] for x in (SHOWN, EXCLUDED))
    if (all(shown) and not aye) or (any(excluded) and not nay):
        told = f"{before.tokens:.0f} tokens a text, the other's {after.tokens:.0f}"
        return UNDETERMINED, f"the base model's stories pool {told}"
    if all(shown):
        if reading:
            return UNDETERMINED, f"writing gains, but reading could not have: {reading}"
        if in_odds.low <= 0:
            return UNDETERMINED, f"writing gains more in accuracy, but not in odds (log odds {_signed(in_odds)})"
        return SUPPORTED, "writing gains, and gains more than reading"
    if excluded[0] and not unseen:
        return NOT_SUPPORTED, f"writing gains less than {smallest:g}"
    if excluded[1] and not (unseen or reading):
        return NOT_SUPPORTED, f"writing gains less than {smallest:g} more than reading"
    return (
        UNDETERMINED,
        unseen or f"a gain of writing over reading is neither shown nor excluded; {more.reach(smallest)}",
    )
