"""Claims about steering: C5 (causal, seen by an outside judge), C6 (regimes), C7 (other languages)."""

from __future__ import annotations

from lens_emotion.analysis.lens import Lens
from lens_emotion.errors import AnalysisError
from lens_emotion.stats.decide import ABOVE, NEGLIGIBLE
from lens_emotion.stats.tests import ALPHA, p_text
from lens_emotion.steering.dose_result import DoseResponse
from lens_emotion.steering.judges import world_words
from lens_emotion.steering.leakage import SMALLEST, Leakage, leakage
from lens_emotion.steering.regimes import COLLAPSE, EXPLOSIVE, SURGICAL, onset_dose
from lens_emotion.stimuli.lexicon import Lexicon, lexicon
from lens_emotion.stimuli.library import WORLDS
from lens_emotion.study.verdict import NOT_SUPPORTED, SUPPORTED, UNDETERMINED, Claim, Effect, untestable

NO_STEERING = "the steering experiment was not run"
PAPER = "37/40"  # scenarios whose target score rose, arXiv 2604.04064


def causal(name: str, steering: DoseResponse | None) -> Claim:
    """C5: success on scenarios that had no say in the dose, against random directions of the same length (McNemar).

    Supported if the emotion's direction succeeds more often, p <= 0.05, by a judge independent of the model and
    at least twice as good as chance; not supported if it succeeds no more often; undetermined without such a judge.
    """
    if steering is None:
        return untestable("C5", name, NO_STEERING)
    if steering.silent:
        return untestable("C5", name, steering.silent)
    if steering.surgical_dose is None:
        return Claim(
            "C5", name, NOT_SUPPORTED, "no dose was surgical", f"In {name}, no dose steers without breaking the text."
        )
    try:
        fitted = steering.cross_fitted()
    except AnalysisError:
        return untestable("C5", name, "the scenarios hold one opening per emotion, two are needed to choose a dose")
    outside = steering.judge_independent
    able = steering.judge_accuracy is not None and steering.judge_accuracy > 2 / steering.n_emotions
    if not (fitted.p <= ALPHA and fitted.success > fitted.random):
        verdict, reason = NOT_SUPPORTED, "it succeeds no more often than random directions"
    elif not (outside and able):
        verdict, reason = UNDETERMINED, "it succeeds, but no able judge from outside the model says so"
    else:
        verdict, reason = SUPPORTED, "it succeeds more often than random directions, seen by an outside judge"
    best = steering.at(steering.surgical_dose)
    control = steering.at(steering.surgical_dose, "random")
    sentence = (
        f"In {name}: {fitted.summary()}. In the paper's form (target score above unsteered, dose chosen on the same "
        f"scenarios): {best.moved:.0f}/{best.n:.0f}, random directions {control.moved:.0f}/{control.n:.0f}, where the "
        f"paper has {PAPER}. Judge: {steering.judge}."
    )
    return Claim(
        "C5",
        name,
        verdict,
        reason,
        sentence,
        Effect("success rate", fitted.success / fitted.n, fitted.low, fitted.high),
        f"random directions {fitted.random}/{fitted.n}",
        fitted.p,
        f"{fitted.n} scenarios, {steering.n_emotions} emotions",
    )


def regimes(name: str, steering: DoseResponse | None) -> Claim:
    """C6 for one model: do the regimes occur, in the order inert, surgical, then broken, as the dose grows?

    Supported if surgical doses are followed by broken ones (repetitive or explosive); not supported if no dose is
    surgical or a broken dose precedes a surgical one; undetermined if the doses stop before the text breaks.
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
    if not surgical:
        verdict, reason = NOT_SUPPORTED, f"no dose is surgical ({path})"
    elif not broken:
        verdict, reason = UNDETERMINED, f"the doses stop before the text breaks ({path})"
    elif min(broken) < max(surgical):
        verdict, reason = NOT_SUPPORTED, f"the regimes do not follow each other as the dose grows ({path})"
    else:
        verdict, reason = SUPPORTED, f"the regimes follow each other as the dose grows ({path})"
    control = steering.table[steering.table.condition == "random"].sort_values("dose").regime
    limit = steering.thresholds.explosive_ratio
    natural, relative, censored = onset_of(steering)
    where = (
        f"the perplexity ratio passes {limit:.1f} " + censored
        if censored
        else f"the perplexity ratio passes {limit:.1f} at dose {natural:.1f} natural, {relative:.2f} of the norm"
    )
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
    )


def onset_of(steering: DoseResponse) -> tuple[float, float, str]:
    """Dose (natural, relative) at which perplexity passes the explosive threshold, and why it is NaN if it is."""
    rows = steering.table[steering.table.condition == "emotion"].sort_values("dose")
    ratio, limit = rows.perplexity_ratio.to_numpy(), steering.thresholds.explosive_ratio
    natural, censored = onset_dose(rows.dose_natural.to_numpy(), ratio, limit)
    relative, _ = onset_dose(rows.dose_relative.to_numpy(), ratio, limit)
    return natural, relative, censored


def other_languages(
    name: str,
    steering: DoseResponse | None,
    lens: Lens | None,
    leaked: Leakage | None,
    everywhere: Leakage | None = None,
) -> Claim:
    """C7: foreign letters under the emotion's vector against random directions, and whether they fit the emotion.

    Supported if both exceed their controls, by either protocol (the level is shared between them); not supported if by
    each, over doses that reach from whole to broken text, fitting words in `SMALLEST` of the texts are excluded; else
    undetermined, with what the design would have found.

    Args:
        leaked: of one steered layer. everywhere: of one layer's vector at all layers, None where that was not run.
    """
    if steering is None or leaked is None or lens is None:
        return untestable("C7", name, NO_STEERING)
    if steering.silent:
        return untestable("C7", name, steering.silent)
    asked = [x for x in (leaked, everywhere) if x is not None]
    outcomes = {x.protocol: x.outcome(ALPHA / len(asked)) for x in asked}
    shown = next((x for x in asked if outcomes[x.protocol] == ABOVE), leaked)
    if ABOVE in outcomes.values():
        verdict, reason = SUPPORTED, "foreign letters come out above random directions, in words of the right emotion"
    elif set(outcomes.values()) == {NEGLIGIBLE}:
        verdict, reason = NOT_SUPPORTED, f"foreign words of the emotion in {SMALLEST:.0%} of the texts are excluded"
    elif any(x.onset is not None for x in asked):
        verdict, reason = UNDETERMINED, "foreign letters come out above random directions, but not known to fit"
    else:
        verdict, reason = (UNDETERMINED, "no foreign letters above random directions, but they are not excluded")
    peak = shown.peak
    rows = shown.table[(shown.table.dose == peak.dose) & (shown.table.condition == "random")]
    control = float(rows.foreign.iloc[0])
    told = "; ".join(f"{x.protocol}: {x.summary()}" for x in asked) if everywhere else f"{leaked.summary()}"
    only = "" if everywhere else " Asked with one layer only."
    return Claim(
        "C7",
        name,
        verdict,
        f"{reason} ({', '.join(outcomes)})",
        f"In {name}: {told}. {'. '.join(x.design() for x in asked)}.{only} Logit lens: {lens.summary()}",
        Effect("foreign letters at their peak dose", float(peak.foreign), float(peak.low), float(peak.high)),
        f"random directions {control:.1%}, {p_text(float(peak.p_corrected))}",
        float(peak.p_corrected),
        f"{peak.n:.0f} scenarios",
    )


def leakage_of(steering: DoseResponse | None, stimuli: str) -> Leakage | None:
    """Leakage of a steering experiment, with the words to look for where the emotions have any: those of the tiny
    models' world on its texts, else the lexicon's."""
    if steering is None:
        return None
    known = Lexicon(world_words("world-en-zh", "zh")) if stimuli in WORLDS else lexicon()
    return leakage(steering, known if set(steering.texts.emotion) <= set(known.emotions) else None)
