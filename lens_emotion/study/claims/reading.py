"""Claims about reading: C2 (where), C3 (the shape over depth), C4 (more than anisotropy)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from lens_emotion.analysis.decoding import Decoding, decoding
from lens_emotion.analysis.layers import LayerSweep, curve_shape
from lens_emotion.analysis.separation import Separation
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.stats.intervals import mean_interval
from lens_emotion.stats.tests import ALPHA, p_text
from lens_emotion.stimuli.emotions import NEUTRAL
from lens_emotion.study.verdict import NOT_SUPPORTED, SUPPORTED, UNDETERMINED, Claim, Effect, untestable
from lens_emotion.vectors.recipes import neutral_components

MIDDLE = (1 / 3, 2 / 3)  # "the middle": the middle third of the depth; the paper says about 50%


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
    return Claim("C2", name, verdict, reason, sentence, effect, null, float(best.p_corrected), n)


def u_shape(name: str, sweep: LayerSweep, separated: Separation) -> Claim:
    """C3: the two-lines test on held-out accuracy by topic (best in the middle: an inverted U), and on the cosine.

    The accuracy decides, since noise moves a cosine too: supported if it is an inverted U, not supported if it is
    monotone, flat, or a U; undetermined otherwise. The shape of the mean cosine (one curve, weaker) is told beside it.
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
    if shape.verdict == "inverted U":
        verdict, reason = SUPPORTED, "accuracy rises, then falls, both beyond chance"
    elif shape.verdict == "undetermined":
        verdict, reason = UNDETERMINED, "neither an inverted U nor its absence is established"
    else:
        verdict, reason = NOT_SUPPORTED, f"accuracy over depth is {shape.verdict}"
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
    )


def hangs_on_decoder(cosine: Claim, standardised: Claim) -> Claim:
    """One verdict from those by either decoder (see `analysis.decoding`): undetermined where they differ."""
    said = f"centred cosine: {cosine.verdict}, {cosine.reason}; standardised: {standardised.verdict}"
    if cosine.verdict == standardised.verdict:
        return replace(cosine, sentence=f"{cosine.sentence} Standardised per dimension: {standardised.sentence}")
    reason = f"it hangs on the decoder ({said}, {standardised.reason})"
    sentence = f"{cosine.sentence} Standardised per dimension: {standardised.sentence}"
    return replace(cosine, verdict=UNDETERMINED, reason=reason, sentence=f"{sentence} It hangs on the decoder.")


def beyond_anisotropy(name: str, acts: PooledActivations, before: Decoding, n_permutations: int, seed: int) -> Claim:
    """C4: does decoding survive when the main directions of neutral text are projected out?

    Decoding is centred, so a common direction cannot help it; the top components of neutral text (half of its
    variance) are the rest of what every text shares. Supported if held-out accuracy stays above its null without
    them.
    """
    if before.table.p_corrected.min() > ALPHA:
        return untestable("C4", name, "emotion cannot be decoded above chance to begin with")
    after = decoding(without_neutral_components(acts), n_permutations, seed)
    layer = before.best_layer
    row, was = after.table.iloc[after.best_layer], float(before.table.accuracy[layer])
    kept = after.correct[layer].astype(float) - before.correct[layer].astype(float)
    change = mean_interval(kept, before.topic, seed=seed)
    effect = Effect("change in accuracy at the best layer", float(change.value), float(change.low), float(change.high))
    holds = bool(row.p_corrected <= ALPHA)
    reason = (
        f"accuracy {was:.2f} becomes {after.table.accuracy[layer]:.2f} at layer {layer} without the neutral components "
        f"(best {row.accuracy:.2f}, permuted labels to {row.null_high:.2f})"
    )
    return Claim(
        "C4",
        name,
        SUPPORTED if holds else NOT_SUPPORTED,
        reason,
        f"In {name}, {reason}, {p_text(row.p_corrected)} corrected over layers.",
        effect,
        f"permuted labels to {row.null_high:.2f}, chance {row.chance:.2f}",
        float(row.p_corrected),
        f"{before.n_texts} texts, {before.n_topics} topics",
    )


def without_neutral_components(acts: PooledActivations) -> PooledActivations:
    """All texts with the top principal components of the neutral texts (half of their variance) projected out."""
    neutral = acts.values[torch.from_numpy(np.flatnonzero(acts.emotion == NEUTRAL))]
    values = acts.values.clone()
    for layer, basis in enumerate(neutral_components(neutral)):
        basis = basis.to(values.dtype)
        values[:, layer] -= (values[:, layer] @ basis.T) @ basis
    return replace(acts, values=values)
