"""Claims about steering: C5 (causal, seen by a judge from outside the model), C6 (regimes), C7 (other languages)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import ttest_1samp

from lens_emotion.analysis.lens import Lens
from lens_emotion.errors import AnalysisError
from lens_emotion.stats.decide import EXCLUDED, SHOWN, Estimate
from lens_emotion.stats.tests import ALPHA, p_text
from lens_emotion.steering.dose_result import DoseResponse
from lens_emotion.steering.judges import world_words
from lens_emotion.steering.leakage import LEVEL, Leakage, leakage
from lens_emotion.steering.paired import CONTROLS, PairedOutcome
from lens_emotion.steering.regimes import ABOVE, BELOW, COLLAPSE, EXPLOSIVE, SURGICAL, onset_dose
from lens_emotion.stimuli.lexicon import Lexicon, lexicon
from lens_emotion.stimuli.library import WORLDS
from lens_emotion.study.verdict import NOT_SUPPORTED, SUPPORTED, UNDETERMINED, Claim, Effect, untestable

NO_STEERING = "the steering experiment was not run"
MOST_OVER = 3.0  # nats above the limit that a text counts with; one that broke off has no number
PAPER = "37/40"  # scenarios whose target score rose, arXiv 2604.04064


def causal(name: str, steering: DoseResponse | None, smallest: float = 0.8) -> Claim:
    """C5: the judge's scores for the target, paired by opening, at a dose that other openings chose, over emotions.

    Supported if they gain over random directions of equal length AND over another emotion's vector (both intervals
    above 0), seen by a judge from outside the model that can tell emotions apart. Not supported if either gain lies
    below the smallest effect of interest (a weak judge moves less: it is scaled by what this one sees), an able judge
    looked, and the doses run from whole texts to broken ones without a gap. Undetermined otherwise.
    """
    if steering is None:
        return untestable("C5", name, NO_STEERING)
    if steering.silent:
        return untestable("C5", name, steering.silent)
    try:
        found = steering.paired()
    except AnalysisError as error:
        return untestable("C5", name, str(error))
    random = found.random
    if random is None:
        reason = "every dose breaks the text, of the emotion or of a control; give smaller doses"
        return Claim("C5", name, UNDETERMINED, reason, f"In {name}, {reason}.", smallest=smallest)
    weaker = max(found.over.values(), key=lambda e: e.p_above())
    smallest *= steering.sight * found.typical
    verdict, reason = _steered(steering, found, weaker, smallest)
    return Claim(
        "C5",
        name,
        verdict,
        reason,
        f"In {name} {found.summary()}: {reason}. {_in_paper_form(steering)}Judge: {steering.judge}.",
        Effect("gain of the target's score, in SDs under random directions", random.value, random.low, random.high),
        f"0, for random directions and for another emotion's vector; {_matters(smallest)}",
        weaker.p_above(),
        f"{random.n} emotions, {int(found.table.n.sum())} scenarios",
        smallest,
        weaker.reach(smallest),
        (weaker.p_above(), min(1.0, 2 * min(found.p_below(c, smallest) for c in found.over))),
        weaker,
    )


def _matters(smallest: float) -> str:
    if smallest == 0:
        return "most emotions' scores never move under random directions, so that what would matter has no unit"
    return f"no less than {smallest:.2g} would matter"


def _steered(steering: DoseResponse, found: PairedOutcome, weaker: Estimate, smallest: float) -> tuple[str, str]:
    """Verdict and reason; what could not have shown either way comes first."""
    able, chance = steering.able
    measured = "not measured" if steering.judge_accuracy is None else f"{steering.judge_accuracy:.2f}"
    known = found.over
    excluded = [  # either would do, so that they share the level
        c for c in known if found.excludes(c, smallest) and len(known) * found.p_below(c, smallest) <= LEVEL
    ]
    if not able:
        return UNDETERMINED, f"the judge can hardly tell emotions apart (accuracy {measured}, its chance {chance:.2f})"
    if all(e.says(smallest) == SHOWN for e in known.values()):
        if found.other is None:
            return UNDETERMINED, "another emotion's vector was not tried, which may do as well"
        if not steering.judge_independent:
            return UNDETERMINED, "it succeeds, but only the model itself says so"
        return SUPPORTED, "the emotion's own vector raises its score beyond both controls, seen by a judge from outside"
    sensitive = found.random is not None and found.random.low > 0 and found.random.value >= smallest
    if excluded and (found.spans or sensitive):
        return NOT_SUPPORTED, f"the gain over {CONTROLS[excluded[0]]} is below {smallest:.2g}"
    if excluded:
        return UNDETERMINED, "there is no gain, but the doses stop before the text breaks; give larger doses"
    return UNDETERMINED, f"a gain is neither shown nor excluded; {weaker.reach(smallest)}"


def _in_paper_form(steering: DoseResponse) -> str:
    """The paper's own count beside it: scenarios whose score rose, at the best dose of the same scenarios."""
    if steering.surgical_dose is None:
        return ""
    best, control = steering.at(steering.surgical_dose), steering.at(steering.surgical_dose, "random")
    return (
        f"In the paper's form (target score above unsteered, dose chosen on the same scenarios): "
        f"{best.moved:.0f}/{best.n:.0f}, random directions {control.moved:.0f}/{control.n:.0f}, where the paper has "
        f"{PAPER}. "
    )


def regimes(name: str, steering: DoseResponse | None, smallest: float = 0.8, steers: Claim | None = None) -> Claim:
    """C6 for one model: do surgical, repetitive and explosive texts occur, in this order, as the dose grows?

    Supported if all three are seen in this order, and `causal` finds that it steers: surgical doses come by chance too.
    Not supported if a broken dose precedes a surgical one, or an explosive dose all repetitive ones, or if doses that
    run from whole to broken texts hold none that steers (`causal` excludes it). Undetermined if one of the three was
    not seen (it may lie between two doses, or beyond the last), and where the judge cannot tell emotions apart.

    Args:
        steers: what `causal` says of it, where that is known.
    """
    if steering is None:
        return untestable("C6", name, NO_STEERING)
    if steering.silent:
        return untestable("C6", name, steering.silent)
    rows = steering.table[steering.table.condition == "emotion"].sort_values("dose")
    seen: list[str] = rows.regime.tolist()
    path = " -> ".join(dict.fromkeys(seen))
    broken = [i for i, r in enumerate(seen) if r in (COLLAPSE, EXPLOSIVE)]
    surgical = [i for i, r in enumerate(seen) if r == SURGICAL]
    unseen = [r for r in (SURGICAL, COLLAPSE, EXPLOSIVE) if r not in seen]
    steers = steers or causal(name, steering, smallest)
    sure = rows.p_corrected.to_numpy() <= ALPHA
    late = [i for i in surgical if broken and i > min(broken) and sure[i] and steering.able[0]]
    turned = EXPLOSIVE in seen and COLLAPSE in seen and seen.index(EXPLOSIVE) < seen.index(COLLAPSE)
    p_turned = _p_turned(steering, seen)
    for_it, against = steers.evidence or (1.0, 1.0)
    if late or p_turned <= LEVEL:
        against = min([p_turned, *(rows.p_corrected.iloc[late] / 2)])
        verdict, reason = NOT_SUPPORTED, f"the regimes do not follow each other as the dose grows ({path})"
    elif not surgical and steers.verdict == NOT_SUPPORTED:
        verdict, reason = NOT_SUPPORTED, f"no dose steers without breaking the text ({path})"
    elif turned:
        verdict, reason = UNDETERMINED, f"which of repetitive and explosive comes first is not clear ({path})"
    elif unseen:
        verdict, reason = UNDETERMINED, f"not seen at these doses: {', '.join(unseen)} ({path})"
    elif steers.verdict != SUPPORTED:
        verdict, reason = UNDETERMINED, f"it is not shown that it steers: {steers.reason} ({path})"
    else:
        verdict, reason = SUPPORTED, f"the regimes follow each other as the dose grows ({path})"
    control = steering.table[steering.table.condition == "random"].sort_values("dose").regime
    limit = steering.thresholds.explosive_ratio
    natural, relative, censored = onset_of(steering)
    at = f"at dose {natural:.1f} natural, {relative:.2f} of the norm"
    at = {ABOVE: "at no dose", BELOW: "at every dose"}.get(censored, at)
    where = f"perplexity passes {limit:.1f} times the expected one {at}"
    return Claim(
        "C6",
        name,
        verdict,
        reason,
        f"In {name}, {reason}; {where}.",
        None if censored else Effect("explosive from dose (natural)", natural),
        f"random directions: {' -> '.join(dict.fromkeys(control))}",
        None,
        f"{len(seen)} doses, {rows.n.iloc[0]:.0f} scenarios each",
        evidence=(for_it, against),
    )


def _p_turned(steering: DoseResponse, seen: Sequence[str]) -> float:
    """One-sided p-value of "no dose before the first repetitive one is explosive": its texts' surprise against the
    limit. 1 where none seems to be."""
    if COLLAPSE not in seen:
        return 1.0
    texts, limit = steering.texts[steering.texts.condition == "emotion"], np.log(steering.thresholds.explosive_ratio)
    doses = sorted(set(texts.dose))
    early = [d for d, r in zip(doses, seen[: seen.index(COLLAPSE)], strict=False) if r == EXPLOSIVE]
    found = [np.clip(np.log(texts.surprise[texts.dose == d].dropna()), None, limit + MOST_OVER) for d in early]
    p = [
        float(ttest_1samp(x, limit, alternative="greater").pvalue) if np.ptp(x) else float(x.mean() <= limit)
        for x in found
    ]
    return min([1.0, *(len(p) * x for x in p)])


def onset_of(steering: DoseResponse) -> tuple[float, float, str]:
    """Dose (natural, relative) at which surprise passes the explosive threshold, and why it is NaN if it is."""
    rows = steering.table[steering.table.condition == "emotion"].sort_values("dose")
    ratio, limit = rows.surprise.to_numpy(), steering.thresholds.explosive_ratio
    natural, censored = onset_dose(rows.dose_natural.to_numpy(), ratio, limit)
    relative, _ = onset_dose(rows.dose_relative.to_numpy(), ratio, limit)
    return natural, relative, censored


def other_languages(
    name: str,
    steering: DoseResponse | None,
    lens: Lens | None,
    leaked: Leakage | None,
    everywhere: Leakage | None = None,
    smallest: float = 0.1,
) -> Claim:
    """C7: foreign letters under the emotion's vector against random directions, and whether they fit the emotion.

    Supported if both exceed their controls, by either protocol (the level is shared between them); not supported if by
    each, over doses that reach from whole to broken text, fitting words in the smallest share of the texts that would
    matter are excluded; else undetermined.

    Args:
        leaked: of one steered layer. everywhere: of one layer's vector at all layers, None where that was not run.
        smallest: see `claims.smallest`.
    """
    if steering is None or leaked is None or lens is None:
        return untestable("C7", name, NO_STEERING)
    if steering.silent:
        return untestable("C7", name, steering.silent)
    asked = [x for x in (leaked, everywhere) if x is not None]
    outcomes = [x.outcome(smallest, LEVEL / len(asked)) for x in asked]
    shown = min(asked, key=lambda x: x.p_shown)
    if SHOWN in outcomes:
        verdict, reason = SUPPORTED, "foreign letters come out above random directions, in words of the right emotion"
    elif set(outcomes) == {EXCLUDED}:
        verdict, reason = NOT_SUPPORTED, f"foreign words of the emotion in {smallest:.0%} of the texts are excluded"
    elif any(x.onset is not None for x in asked):
        verdict, reason = UNDETERMINED, "foreign letters come out above random directions, but not known to fit"
    else:
        verdict, reason = UNDETERMINED, "no foreign letters above random directions, but they are not excluded"
    peak, reach = shown.peak, "; ".join(x.design() for x in asked)
    rows = shown.table[(shown.table.dose == peak.dose) & (shown.table.condition == "random")]
    told = "; ".join(f"{x.protocol}: {x.summary()}" for x in asked)
    only = "" if everywhere else " Asked with one layer only."
    return Claim(
        "C7",
        name,
        verdict,
        f"{reason} ({', '.join(x.protocol for x in asked)})",
        f"In {name}: {told}. Design: {reach}.{only} Logit lens: {lens.summary()}",
        Effect("foreign letters at their peak dose", float(peak.foreign), float(peak.low), float(peak.high)),
        f"random directions {float(rows.foreign.iloc[0]):.1%}, {p_text(float(peak.p_corrected))}",
        float(peak.p_corrected),
        f"{peak.n:.0f} scenarios",
        smallest,
        reach,
        (min(1.0, len(asked) * shown.p_shown), max(x.p_excluded(smallest) for x in asked)),
    )


def leakage_of(steering: DoseResponse | None, stimuli: str) -> Leakage | None:
    """Leakage of a steering experiment, with the words to look for where the emotions have any: those of the tiny
    models' world on its texts, else the lexicon's."""
    if steering is None:
        return None
    known = Lexicon(world_words("world-en-zh", "zh")) if stimuli in WORLDS else lexicon()
    return leakage(steering, known if set(steering.texts.emotion) <= set(known.emotions) else None)
