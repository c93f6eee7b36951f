"""Claims about reading: C2 (where), C3 (the shape over depth), C4 (more than anisotropy), X1 (more than words)."""

from __future__ import annotations

from dataclasses import replace

from scipy.stats import norm

from lens_emotion.analysis.decoding import Decoding
from lens_emotion.analysis.layers import LayerSweep, curve_shape
from lens_emotion.analysis.removal import Removal, removal
from lens_emotion.analysis.separation import Separation
from lens_emotion.analysis.ushape import SEVERAL, UShape
from lens_emotion.analysis.words import BeyondWords
from lens_emotion.errors import StimulusError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.presets.protocol import MIDDLE
from lens_emotion.stats.decide import EXCLUDED, SHOWN
from lens_emotion.stats.tests import ALPHA, p_text
from lens_emotion.study.verdict import (
    NOT_SUPPORTED,
    SUPPORTED,
    UNDETERMINED,
    Claim,
    Effect,
    hangs_on_decoder,
    untestable,
)


def middle_layers(name: str, sweep: LayerSweep) -> Claim:
    """C2: the interval of the best depth (bootstrap over topics) against the middle third.

    Supported if the whole interval lies inside, not supported if it lies outside; undetermined if it straddles an end
    or nothing can be decoded at all.
    """
    if sweep.standardised is not None:
        return hangs_on_decoder(
            *(middle_layers(name, x) for x in (replace(sweep, standardised=None), sweep.standardised))
        )
    best = sweep.table.iloc[sweep.best_layer]
    low, high = sweep.best_depth_low, sweep.best_depth_high
    effect = Effect("best depth", sweep.best_depth, low, high)
    null = f"permuted labels reach {best.null_high:.2f} there (accuracy {best.value:.2f})"
    n = f"{len(sweep.table)} layers, {sweep.n_permutations} permutations"
    if not best.p_corrected <= ALPHA:
        verdict, reason = UNDETERMINED, "emotion cannot be decoded above chance at any layer"
    elif low is None or high is None:
        verdict, reason = UNDETERMINED, "the best depth has no interval"
    elif MIDDLE[0] <= low and high <= MIDDLE[1]:
        verdict, reason = SUPPORTED, "the interval of the best depth lies in the middle third"
    elif high < MIDDLE[0] or low > MIDDLE[1]:
        verdict, reason = NOT_SUPPORTED, "the interval of the best depth lies outside the middle third"
    else:
        verdict, reason = UNDETERMINED, "the interval of the best depth reaches beyond the middle third"
    sentence = (
        f"In {name}, held-out decoding is best at depth {sweep.best_depth:.0%}"
        + (f" (95% over topics: {low:.0%} to {high:.0%})" if low is not None and high is not None else "")
        + f", accuracy {best.value:.2f}, {p_text(best.p_corrected)} corrected over layers: {reason}."
    )
    known = _evidence_of_place(sweep, float(best.p_corrected))
    return Claim("C2", name, verdict, reason, sentence, effect, null, float(best.p_corrected), n, evidence=known)


def _evidence_of_place(sweep: LayerSweep, decoded: float) -> tuple[float, float] | None:
    """Shares of the draws in which a best depth lies outside the middle third, and inside it."""
    if sweep.best_draws is None:
        return None
    inside = (sweep.best_draws >= MIDDLE[0]) & (sweep.best_draws <= MIDDLE[1])
    out, within = ((1 + int(x.sum())) / (1 + len(inside)) for x in (~inside.all(1), inside.any(1)))
    return (out, within) if decoded <= ALPHA else (1.0, 1.0)


def u_shape(name: str, sweep: LayerSweep, separated: Separation) -> Claim:
    """C3: the two-lines test on held-out accuracy by topic (best in the middle: an inverted U), and on the cosine.

    The accuracy decides, since noise moves a cosine too: supported if it is an inverted U, not supported if it is
    monotone or flat (a turn of the margin or more is excluded), a U, or turns several times; undetermined otherwise,
    and where accuracy is at its floor or ceiling at every layer, so that no shape could show. The shape of the mean
    cosine (one curve, weaker) is told beside it.
    """
    if sweep.standardised is not None:
        return hangs_on_decoder(
            *(u_shape(name, x, separated) for x in (replace(sweep, standardised=None), sweep.standardised))
        )
    cosine = curve_shape(separated.table["mean_cosine"].to_numpy(), separated.table["depth"].to_numpy())
    shape = sweep.shape
    if shape is None:
        return untestable("C3", name, "the model has too few layers for the two-lines test")
    beside = f"the mean cosine, as one curve: {cosine.verdict}" if cosine else "the mean cosine has no shape here"
    best, least = sweep.table.iloc[sweep.best_layer], float(sweep.table.value.min())
    if not best.p_corrected <= ALPHA:
        verdict, reason = UNDETERMINED, "emotion cannot be decoded above chance at any layer"
    elif least > 1 - shape.margin:
        verdict, reason = UNDETERMINED, f"accuracy is at its ceiling at every layer (at least {least:.2f})"
    elif shape.verdict == "inverted U":
        verdict, reason = SUPPORTED, "accuracy rises, then falls, both beyond chance"
    elif shape.verdict == "undetermined":
        verdict, reason = UNDETERMINED, "neither an inverted U nor its absence is established"
    elif full := _at_ceiling(sweep, shape):
        verdict, reason = UNDETERMINED, f"accuracy is at its ceiling {full} the break, so that no turn could show"
    else:
        verb = "takes" if shape.verdict == SEVERAL else "is"
        verdict, reason = NOT_SUPPORTED, f"accuracy over depth {verb} {shape.verdict}"
    rise = f"{shape.first_slope:+.2f} ({p_text(shape.first_p)})"
    fall = f"{shape.second_slope:+.2f} ({p_text(shape.second_p)})"
    return Claim(
        "C3",
        name,
        verdict,
        f"{reason}; {beside}",
        f"In {name}, accuracy changes by {rise} per unit depth before the break at {shape.break_depth:.0%} and by "
        f"{fall} after it (two-lines test: {shape.verdict}); {beside}.",
        Effect("slope after the break", shape.second_slope, shape.second_low, shape.second_high),
        "slope 0",
        max(shape.first_p, shape.second_p),
        f"{shape.n_units} topics, {len(sweep.table)} layers",
        shape.margin,
        evidence=(1.0, shape.p_again)
        if shape.verdict == SEVERAL
        else (max(shape.first_p, shape.second_p) / 2, shape.p_no_turn(rising=True)),
    )


def _at_ceiling(sweep: LayerSweep, shape: UShape) -> str:
    """On which side of the break accuracy is at its ceiling at every layer, "" on none."""
    depth, value = sweep.table.depth.to_numpy(), sweep.table.value.to_numpy()
    sides = {"before": value[depth <= shape.break_depth], "after": value[depth >= shape.break_depth]}
    return next((side for side, x in sides.items() if len(x) > 1 and x.min() > 1 - shape.margin), "")


def beyond_anisotropy(name: str, left: Removal | str, smallest: float = 0.1) -> Claim:
    """C4: is emotion more than the main directions in which texts without emotion vary?

    Supported if more is left of the emotions' displacement than of what held-out neutral texts differ by, once nine
    tenths of neutral variance are projected out, or 95 or 99 hundredths (all three intervals of the difference above
    0), and emotion is still decoded there, p <= 0.05. Not supported if what is decoded without nine tenths lies less
    than the smallest effect of interest above chance. Undetermined otherwise: neutral texts may vary in every direction
    alike, or be too few to say; and where the answer hangs on the decoder.

    Args:
        left: see `analysis.removal`; in words, why it cannot be had.
    """
    if isinstance(left, str):
        return untestable("C4", name, left)
    if left.standardised is not None:
        either = replace(left, standardised=None), left.standardised
        return hangs_on_decoder(*(beyond_anisotropy(name, x, smallest) for x in either))
    most = left.least
    kept = most.low > 0
    if kept and most.p <= ALPHA:
        verdict, reason = SUPPORTED, "emotion lies outside the main directions of neutral text"
    elif left.before_p > ALPHA:
        verdict, reason = UNDETERMINED, "emotion cannot be decoded above chance to begin with"
    elif left.after.high < smallest and not kept:
        verdict, reason = NOT_SUPPORTED, f"what is decoded without them lies less than {smallest:g} above chance"
    else:
        verdict = UNDETERMINED
        reason = "not shown to lie outside the main directions of neutral text: as much is left of neutral text itself"
        reason = f"{reason}; {left.n_neutral} neutral texts" if most.high > 0 else reason
    p_left = float(norm.sf(most.more / max((most.high - most.more) / norm.ppf(0.975), 1e-12)))
    return Claim(
        "C4",
        name,
        verdict,
        reason,
        f"In {name}: {left.summary()} {reason[0].upper()}{reason[1:]}.",
        Effect("share left of emotion less that of neutral text", float(most.more), float(most.low), float(most.high)),
        f"0; permuted labels to {most.null_high:.2f}, chance {left.chance:.2f}",
        float(most.p),
        f"{left.after.n} topics, {left.n_neutral} neutral texts",
        smallest,
        left.after.reach(smallest),
        (max(p_left, float(most.p) / 2), left.after.p_below(smallest)),
        left.after,
    )


def more_than_words(name: str, found: BeyondWords | str, smallest: float = 0.1) -> Claim:
    """X1 (ours): do the states tell more of a text's emotion than its words do?

    Supported if the increment of the state over the words, at layers chosen on other topics, lies above 0 and above
    what shuffled states add (p <= 0.05). Not supported if it lies below the smallest effect of interest, where the
    states do decode and the words leave them room. Undetermined otherwise; and where the answer hangs on the decoder.

    Args:
        found: see `analysis.words`; in words, why it cannot be had.
    """
    if isinstance(found, str):
        return untestable("X1", name, found)
    if found.tied:
        return untestable("X1", name, f"copies leave nothing to test: {found.copies}")
    if found.standardised is not None:
        either = replace(found, standardised=None), found.standardised
        return hangs_on_decoder(*(more_than_words(name, x, smallest) for x in either))
    e, said = found.chosen, found.chosen.says(smallest)
    if said == SHOWN and found.p <= ALPHA:
        verdict, reason = SUPPORTED, "the state tells emotion that the words do not"
    elif found.words > 1 - smallest:
        verdict, reason = UNDETERMINED, "the words are at their ceiling, so that nothing could be added"
    elif not float(found.table["state_p"].min()) <= ALPHA:
        verdict, reason = UNDETERMINED, "emotion cannot be decoded from the states to begin with"
    elif said == EXCLUDED:
        verdict, reason = NOT_SUPPORTED, f"what the state adds lies below {smallest:g}"
    else:
        verdict, reason = UNDETERMINED, "neither an increment nor its absence is established"
    return Claim(
        "X1",
        name,
        verdict,
        reason,
        f"In {name}: {found.summary()} {reason[0].upper()}{reason[1:]}.",
        Effect("accuracy with the state less that of words alone", e.value, e.low, e.high),
        f"0; shuffled states to {found.null_high:.2f}",
        found.p,
        f"{e.n} topics, {found.n_texts} texts, {found.n_permutations} permutations",
        smallest,
        e.reach(smallest),
        (max(e.p_above(), found.p / 2), e.p_below(smallest)),
        e,
    )


def without_neutral(
    acts: PooledActivations, before: Decoding, neutral: PooledActivations | None, n_permutations: int, seed: int
) -> Removal | str:
    """What is left at the layer that decodes best, by either decoder, or why that cannot be asked."""
    if before.tied:
        return f"copies leave nothing to test: {before.copies}"
    either = [d for d in (before, before.standardised) if d is not None]
    if not any(d.above_chance() for d in either):
        return "emotion cannot be decoded above chance to begin with"
    try:
        found = [removal(acts, neutral, d.best_layer, n_permutations, seed, d.decoder) for d in either]
        return replace(found[0], standardised=found[1] if len(found) > 1 else None)
    except StimulusError as error:
        return str(error)
