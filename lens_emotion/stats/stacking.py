"""What does one source of scores add to others? Held-out scores of several decoders, combined, and the increment.

A stack (Wolpert 1992) gives every source one weight, the same for all classes, so that a source that says nothing new
gets none and hardly anything can be learnt by heart:

    log p(class | text) = sum_s w_s score_s(text, class) - log sum_classes exp(...)

Its weights for a fold are learnt on the other folds. The increment is what a text's held-out outcome is with one source
more, less what it was without; its units are topics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import eigh

from lens_emotion.display import Brief
from lens_emotion.stats.decide import Estimate, estimate
from lens_emotion.stats.tests import null_columns, percentile_band, permutation_p

PRIOR = 1.0  # precision of the weights around 0, where scores have SD 1: no weight is infinite
STEPS, SMALL, FAR = 12, 1e-3, 2.0  # of Newton's method: at most, a step that ends it, and the longest
ROUNDING = 1e-9  # of predictions of targets of about 1
STRENGTHS = (0.1, 1.0, 10.0)  # of ridge penalties, in mean squared lengths of a text
RIGHT, SURE = 0, 1  # the two outcomes of a held-out text: whether it is told, and the log-probability of its class


def evened(scores: Float[np.ndarray, "*b n k"]) -> Float[np.ndarray, "*b n k"]:
    """Scores of a source on one scale: each text's mean 0, all SD 1; -inf (a class unseen) is the text's least."""
    known = np.where(np.isfinite(scores), scores, np.inf).min(-1, keepdims=True)
    found = np.where(np.isfinite(scores), scores, np.where(np.isfinite(known), known, 0.0))
    found = found - found.mean(-1, keepdims=True)
    spread = np.sqrt((found**2).mean((-2, -1), keepdims=True))
    return found / np.where(spread > 0, spread, 1.0)


def stacked(
    sources: Float[np.ndarray, "b s n k"],
    label: Int[np.ndarray, " n"],
    fold: Int[np.ndarray, " n"],
    start: Sequence[float] = (),
    steps: int = STEPS,
) -> Float[np.ndarray, "b n k"]:
    """Held-out log-probabilities of each stack. The weights of a fold are those of all texts less one Newton step
    without it: with a handful of weights that is what fitting it anew would give, to a hair.

    Args:
        start: weights to begin with; 0 if not given. steps: of Newton's method, at most.
    """
    b, s, *_ = sources.shape
    weights, eye = np.tile(np.array(start or [0.0] * s), (b, 1)), PRIOR * np.eye(s)
    for _ in range(steps):
        slope, bend = _derivatives(sources, label, weights)
        step = _solved(bend.sum(1) + eye, slope.sum(1) - PRIOR * weights)
        weights += np.clip(step, -FAR, FAR)
        if np.abs(step).max(initial=0) < SMALL:
            break
    slope, bend = _derivatives(sources, label, weights)
    held = (fold == np.arange(int(fold.max()) + 1)[:, None]).astype(float)
    rest = 1 - held
    without = np.einsum("fn,bns->bfs", rest, slope) - PRIOR * weights[:, None]
    matrix = np.einsum("fn,bnst->bfst", rest, bend) + eye
    own = (weights[:, None] + np.clip(_solved(matrix, without), -FAR, FAR)).astype(sources.dtype)
    return _log_softmax(np.einsum("bns,bsnk->bnk", own[:, fold], sources))


def _solved(matrix: Float[np.ndarray, "*b s s"], right: Float[np.ndarray, "*b s"]) -> Float[np.ndarray, "*b s"]:
    return np.asarray(np.linalg.solve(matrix, right[..., None])[..., 0])


def _log_softmax(logits: Float[np.ndarray, "*b k"]) -> Float[np.ndarray, "*b k"]:
    shifted = logits - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def _derivatives(
    sources: Float[np.ndarray, "b s n k"], label: Int[np.ndarray, " n"], weights: Float[np.ndarray, "b s"]
) -> tuple[Float[np.ndarray, "b n s"], Float[np.ndarray, "b n s s"]]:
    """Gradient and negative Hessian of each text's log-likelihood."""
    b, s, n, _ = sources.shape
    logits = np.einsum("bs,bsnk->bnk", weights.astype(sources.dtype), sources)
    p = np.exp(_log_softmax(logits))
    weighed = sources * p[:, None]
    mean = weighed.sum(-1)
    true = sources[:, :, np.arange(n), label]
    bend = np.empty((b, n, s, s))
    for i in range(s):
        for j in range(i + 1):
            second = np.einsum("bnk,bnk->bn", weighed[:, i], sources[:, j])
            bend[:, :, i, j] = bend[:, :, j, i] = second - mean[:, i] * mean[:, j]
    return (true - mean).transpose(0, 2, 1).astype(float), bend


def outcomes(log_p: Float[np.ndarray, "*b n k"], label: Int[np.ndarray, " n"]) -> Float[np.ndarray, "*b n 2"]:
    """Of each held-out text: whether its class is put first (equals share), and the log-probability of its class."""
    first = log_p == log_p.max(-1, keepdims=True)
    at = np.arange(len(label))
    return np.stack([first[..., at, label] / first.sum(-1), log_p[..., at, label]], axis=-1).astype(float)


def ridge_scores(
    gram: Float[np.ndarray, "n n"], target: Float[np.ndarray, "n c"], fold: Int[np.ndarray, " n"], strength: float
) -> Float[np.ndarray, "n c"]:
    """Held-out predictions of a linear regression of the targets, with an L2 penalty, from inner products.

    Leaving a fold out needs no new fit: its residuals are those of all texts, divided by what is not of itself.
    """
    values, axes = eigh(gram)
    values = np.maximum(values, 0)
    shrunk = values / (values + max(strength * float(values.mean()), np.finfo(float).tiny))
    hat = (axes * shrunk) @ axes.T
    residual, found = target - hat @ target, np.array(target, dtype=float)
    for f in range(int(fold.max()) + 1):
        at = np.flatnonzero(fold == f)
        found[at] -= np.linalg.solve(np.eye(len(at)) - hat[np.ix_(at, at)], residual[at])
    return np.where(np.abs(found) > ROUNDING, found, 0.0)  # whose rounding knows the target


def shuffled_within(fold: Int[np.ndarray, " n"], n: int, seed: int) -> Int[np.ndarray, "b n"]:
    """Orders of the texts: as they are, then n in which every text's place is taken by one of its fold."""
    rng = np.random.default_rng(seed)
    order = np.tile(np.arange(len(fold)), (n + 1, 1))
    groups = [np.flatnonzero(fold == f) for f in range(int(fold.max()) + 1)]
    for row in order[1:]:
        for group in groups:
            row[group] = rng.permutation(group)
    return order


@dataclass(frozen=True, eq=False, repr=False)
class Increment(Brief):
    """What a source of scores adds to others: layer by layer, and at layers that were chosen on other folds.

    Attributes:
        columns: by layer: both (accuracy with it), increment (of accuracy), low, high (95% over topics), null_low,
            null_high, p, p_corrected (best of the layers), bits (increment of the log score per text), bits_low,
            bits_high.
        chosen: the increment of accuracy, each fold at the layer that has the best log score on the other folds.
        p, null_high: of it, by the same choice among shuffled scores.
        layers: the layer chosen for each fold.
        base: accuracy without the source. both: with it, at the layers chosen.
    """

    columns: dict[str, np.ndarray]
    chosen: Estimate
    p: float
    null_high: float
    layers: tuple[int, ...]
    base: float
    both: float


def increment(
    base: Float[np.ndarray, "n 2"],
    joint: Float[np.ndarray, "b n_layers n 2"],
    fold: Int[np.ndarray, " n"],
    block: Int[np.ndarray, " n"],
    seed: int = 0,
) -> Increment:
    """The increment, from the outcomes (`outcomes`) of each text without a source and with it.

    Args:
        joint: as observed, then with the source's scores shuffled. fold, block: of each text; blocks are the units.

    Raises:
        AnalysisError: fewer than 3 blocks.
    """
    n_folds = int(fold.max()) + 1
    shared = 1 / max(n_folds - 1, 1)
    units = (block == np.arange(int(block.max()) + 1)[:, None]).astype(float)
    units /= units.sum(1, keepdims=True)

    def over_units(gain: Float[np.ndarray, " n"]) -> Estimate:
        return estimate(units @ gain, "topics", shared, seed)

    gain = joint - base
    mean = gain[..., RIGHT].mean(-1)
    by_layer = [over_units(layer) for layer in gain[0, :, :, RIGHT]]
    bits = [over_units(layer / np.log(2)) for layer in gain[0, :, :, SURE]]
    at = _chosen(joint[..., SURE], fold, n_folds)
    mine = np.take_along_axis(gain[..., RIGHT], at[:, None, :], 1)[:, 0]
    columns = {
        "both": joint[0, :, :, RIGHT].mean(-1),
        "increment": np.array([e.value for e in by_layer]),
        "low": np.array([e.low for e in by_layer]),
        "high": np.array([e.high for e in by_layer]),
        **null_columns(mean[0], mean[1:]),
        "bits": np.array([e.value for e in bits]),
        "bits_low": np.array([e.low for e in bits]),
        "bits_high": np.array([e.high for e in bits]),
    }
    value, null = mine[0].mean(), mine[1:].mean(-1)
    layers = tuple(int(at[0, np.flatnonzero(fold == f)[0]]) for f in range(n_folds))
    before = float(base[:, RIGHT].mean())
    p, null_high = float(permutation_p(value, null)), float(percentile_band(null)[1])
    return Increment(columns, over_units(mine[0]), p, null_high, layers, before, before + float(value))


def _chosen(sure: Float[np.ndarray, "b n_layers n"], fold: np.ndarray, n_folds: int) -> Int[np.ndarray, "b n"]:
    """The layer for each text: that of the best log score over the texts of other folds."""
    held = (fold[:, None] == np.arange(n_folds)).astype(float)
    within = sure @ held
    return np.asarray((within.sum(-1, keepdims=True) - within).argmax(1)[:, fold])
