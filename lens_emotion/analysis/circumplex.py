"""The circumplex: do the main axes of the emotion vectors carry human valence and arousal?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from lens_emotion.display import Result
from lens_emotion.errors import AnalysisError, StimulusError
from lens_emotion.extraction.activations import PooledActivations, codes
from lens_emotion.files.user import numbers_fit
from lens_emotion.models.layers import place, resolve_layer
from lens_emotion.pictures import Scatter
from lens_emotion.stats.tests import check_permutations, null_columns, p_text, percentile_band, redrawn
from lens_emotion.stimuli.emotions import NEUTRAL, Norm, valence_arousal
from lens_emotion.vectors.emotion_vectors import EmotionVectors, unit
from lens_emotion.vectors.recipes import RECIPES, apply_steps, class_weights

BLOCK = 4_000_000  # numbers of class means held at once
AXES = ("pc1", "pc2")
NORMS = ("valence", "arousal")
LEAST_RATED = 4
CANDIDATES = 4  # components of a redrawn sample among which the two axes are looked for


@dataclass(frozen=True, eq=False, repr=False)
class Circumplex(Result):
    """The two main axes of the emotion vectors at one layer, against human valence and arousal.

    Attributes:
        table: emotion, pc1, pc2 (scores), valence, arousal (norms, 1 to 9; NaN where there are none).
        correlations: component, norm, r (its sign is the sign convention's, without meaning), abs_r, low, high (95%
            bootstrap, in the direction of r: a low below 0 means that even the direction is unsure), p (permutation,
            on |r|), p_corrected (best of the four), n (emotions that have norms).
        plane: the same question free of rotation: each norm regressed on both scores. norm, r2, r2_adjusted,
            r2_held_out (leave one emotion out; below 0 is worse than the mean), null_low, null_high (95% of its
            permutations), p, p_corrected (best of the two), n.
        explained: share of variance of pc1 and pc2.
        layer: the layer. n_layers: of how many.
        n_permutations: permutations behind p.
        bootstrap: what was redrawn for low and high: "topics" or "emotions".
    """

    _picture = Scatter("pc1", "pc2", "emotion")

    table: pd.DataFrame
    correlations: pd.DataFrame
    plane: pd.DataFrame
    explained: tuple[float, float]
    layer: int
    n_layers: int
    n_permutations: int
    bootstrap: str

    def summary(self) -> str:
        """PC1 against valence, PC2 against arousal, and the plane of both against each."""
        by_axis = {(row["component"], row["norm"]): row for _, row in self.correlations.iterrows()}
        parts = []
        for axis, share in zip(zip(AXES, NORMS, strict=True), self.explained, strict=True):
            row = by_axis[axis]
            found = f"|r| = {row['abs_r']:.2f} ({row['low']:.2f} to {row['high']:.2f}), {p_text(row['p'])}"
            parts.append(f"{axis[0].upper()} ({share:.0%} of variance) against {axis[1]} {found}")
        crossed = [by_axis[axis] for axis in zip(AXES, NORMS[::-1], strict=True)]
        if sum(row["abs_r"] for row in crossed) > sum(by_axis[axis]["abs_r"] for axis in zip(AXES, NORMS, strict=True)):
            better = [
                f"{row['component'].upper()} against {row['norm']} {row['abs_r']:.2f} ({p_text(row['p_corrected'])})"
                for row in crossed
            ]
            parts.append(f"better the other way round: {', '.join(better)}, corrected for the best of the four")
        n = self.correlations["n"].iloc[0]
        plane = ", ".join(
            f"{row['norm']} R2 = {row['r2_held_out']:.2f} ({p_text(row['p'])})" for _, row in self.plane.iterrows()
        )
        return (
            f"At {place(self.layer, self.n_layers)}: {'; '.join(parts)} (n = {n} emotions, 95% over {self.bootstrap}). "
            f"From the plane of both, for an emotion held out: {plane}."
        )


@numbers_fit(AnalysisError)
def circumplex(
    vectors: EmotionVectors,
    layer: int | None = None,
    n_permutations: int = 2000,
    seed: int = 0,
    acts: PooledActivations | None = None,
    n_draws: int = 1000,
    ratings: Sequence[Norm] | None = None,
) -> Circumplex:
    """PCA of the unit emotion vectors, and how PC1 and PC2 go with human norms (S: r = 0.81, 0.66).

    The sign of a component is arbitrary; here its loading of largest magnitude is positive. To choose the
    sign by the norms would be circular, so |r| is what counts, and the permutations (norms shuffled over
    emotions) take the same absolute value. Emotions without norms enter the PCA but not the correlation;
    nothing is imputed.

    Which component comes first depends on their sizes alone, so PC1 and PC2 may swap between models; `plane` asks what
    both together know, whatever their rotation.

    Args:
        vectors: emotion vectors of any recipe.
        layer: default n_layers // 2; negative counts from the end.
        n_permutations: shuffles of the norms.
        seed: of permutations and bootstrap.
        acts: the activations behind the vectors. The bootstrap then redraws topics, makes the vectors and their axes
            anew, and takes from the first four components those two that go best with the axes of the full sample, with
            their sign. Without `acts`, emotions are redrawn with the axes as they are.
        n_draws: of the bootstrap.
        ratings: people's ratings of these emotions, from a stimulus set's `norms`; default those of the package.

    Raises:
        StimulusError: fewer than 4 emotions with norms; with `acts`, a single topic.
        AnalysisError: no such layer, n_permutations or n_draws below 1, or `acts` do not give these vectors.

    Example:
        >>> result = le.circumplex(vectors, n_permutations=50, n_draws=50)
        >>> result.layer
        3
    """
    check_permutations(n_permutations)
    at = resolve_layer(layer, vectors.n_layers, vectors.n_layers // 2)
    rated = {n.emotion: (n.valence, n.arousal) for n in ratings or valence_arousal().values()}
    norms = np.array([rated.get(e, (None, None)) for e in vectors], dtype=float)
    known = ~np.isnan(norms).any(axis=1)
    if known.sum() < LEAST_RATED:
        raise StimulusError(missing_norms(vectors.emotions, ratings))
    scores, explained = principal_scores(vectors.at(at))
    columns = {"pc1": scores[:, 0], "pc2": scores[:, 1], "valence": norms[:, 0], "arousal": norms[:, 1]}
    table = pd.DataFrame({"emotion": list(vectors.emotions), **columns})
    if acts is None:
        index = np.random.default_rng(seed).integers(0, known.sum(), (n_draws, known.sum()))
        draws = _correlate(scores[known][index], norms[known][index])
    else:
        redrawn = redrawn_directions(vectors, acts, at, n_draws, seed)
        draws = _correlate(aligned_scores(redrawn, scores)[:, known], norms[known][None])
    return Circumplex(
        table=table,
        correlations=_correlations(scores[known], norms[known], draws, n_permutations, seed),
        plane=_plane(scores[known], norms[known], n_permutations, seed),
        explained=explained,
        layer=at,
        n_layers=vectors.n_layers,
        n_permutations=n_permutations,
        bootstrap="emotions" if acts is None else "topics",
    )


def missing_norms(emotions: Sequence[str], ratings: Sequence[Norm] | None = None) -> str:
    """What keeps these emotions from the circumplex, in one sentence; empty if nothing does."""
    known = {n.emotion: n for n in ratings} if ratings else valence_arousal()
    lacking = [e for e in emotions if e not in known or known[e].valence is None or known[e].arousal is None]
    rated = len(emotions) - len(lacking)
    if rated >= LEAST_RATED:
        return ""
    return (
        f"only {rated} of these {len(emotions)} emotions have valence and arousal norms; at least {LEAST_RATED} are "
        f"needed. Missing: {', '.join(lacking) or 'more emotions'}. Give ratings as norms in the stimulus file"
    )


def principal_scores(rows: Float[Tensor, "n d_model"]) -> tuple[Float[np.ndarray, "n 2"], tuple[float, float]]:
    """Scores on the first two principal components, and their shares of the variance."""
    rows = rows.double()
    rows = rows - rows.mean(0)
    _, size, axes = torch.linalg.svd(rows, full_matrices=False)
    axes = axes[:2] * torch.sign(axes[:2].gather(1, axes[:2].abs().argmax(1, keepdim=True)))
    share = size**2 / (size**2).sum()
    return (rows @ axes.T).numpy(), (float(share[0]), float(share[1]))


def aligned_scores(grams: Float[Tensor, "b n n"], reference: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "b n 2"]:
    """Principal scores of redrawn samples, from inner products of the centred rows, matched to reference axes.

    Of the first four components of each sample, the two different ones with the largest sum of |correlation| to the
    reference scores, each with the sign of that correlation.
    """
    size, axes = torch.linalg.eigh(grams)
    m = min(CANDIDATES, grams.shape[1] - 1)
    scores = (axes[..., -m:] * size[:, None, -m:].clamp_min(0).sqrt()).flip(-1).numpy()
    r = np.nan_to_num(_correlate(scores, reference[None]))  # [b, m, 2]
    pairs = np.array(list(permutations(range(m), 2)))
    best = pairs[np.abs(r[:, pairs, [0, 1]]).sum(-1).argmax(1)]
    sign = np.where(np.take_along_axis(r, best[:, None], axis=1)[:, 0] < 0, -1.0, 1.0)
    return np.take_along_axis(scores, best[:, None], axis=2) * sign[:, None]


def _correlate(a: Float[np.ndarray, "b n k"], b: Float[np.ndarray, "c n j"]) -> Float[np.ndarray, "d k j"]:
    """Pearson r of every column of a with every column of b, sample by sample; NaN where a column is constant."""
    a, b = (x - x.mean(1, keepdims=True) for x in (a, b))
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = (x / np.sqrt((x**2).sum(1, keepdims=True)) for x in (a, b))
        return np.asarray(a.transpose(0, 2, 1) @ b)


def _correlations(
    scores: Float[np.ndarray, "n 2"],
    norms: Float[np.ndarray, "n 2"],
    draws: Float[np.ndarray, "b 2 2"],
    n_permutations: int,
    seed: int,
) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    shuffled = np.stack([rng.permutation(norms) for _ in range(n_permutations)])
    r = _correlate(scores[None], norms[None]).ravel()
    null = _correlate(scores[None], shuffled).reshape(n_permutations, 4)
    draws = draws.reshape(-1, 4) * np.sign(r)
    low, high = percentile_band(draws[~np.isnan(draws).any(axis=1)])
    tested = null_columns(np.abs(r), np.abs(null))
    return pd.DataFrame(
        {
            "component": np.repeat(AXES, 2),
            "norm": np.tile(NORMS, 2),
            "r": r,
            "abs_r": np.abs(r),
            "low": low,
            "high": high,
            "p": tested["p"],
            "p_corrected": tested["p_corrected"],
            "n": len(scores),
        }
    )


def _plane(
    scores: Float[np.ndarray, "n 2"], norms: Float[np.ndarray, "n 2"], n_permutations: int, seed: int
) -> pd.DataFrame:
    """Each norm regressed on both scores; permutations shuffle the norms as in `_correlations`."""
    rng, n = np.random.default_rng(seed), len(scores)
    r2, held_out = _explained(scores, norms)
    shuffled = np.concatenate([rng.permutation(norms) for _ in range(n_permutations)], axis=1)
    null = _explained(scores, shuffled)[1].reshape(n_permutations, 2)
    fit = {"norm": NORMS, "r2": r2, "r2_adjusted": 1 - (1 - r2) * (n - 1) / (n - 3), "r2_held_out": held_out}
    return pd.DataFrame({**fit, **null_columns(held_out, null), "n": n})


def _explained(
    scores: Float[np.ndarray, "n 2"], norms: Float[np.ndarray, "n k"]
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """R2 of the least-squares fit, and R2 of leave-one-out predictions (against the mean of the others)."""
    n = len(scores)
    design = np.linalg.qr(np.column_stack([np.ones(n), scores]))[0]
    error = norms - design @ (design.T @ norms)
    leverage = (design**2).sum(1, keepdims=True)
    left_out = error / np.maximum(1 - leverage, 1e-9)
    total = ((norms - norms.mean(0)) ** 2).sum(0)
    return 1 - (error**2).sum(0) / total, 1 - (left_out**2).sum(0) / (total * (n / (n - 1)) ** 2)


def redrawn_directions(
    vectors: EmotionVectors, acts: PooledActivations, layer: int, n_draws: int, seed: int
) -> Float[Tensor, "b n_emotions n_emotions"]:
    """Inner products of the centred unit directions at a layer, for each bootstrap sample of topics.

    Neutral texts are not redrawn. Draws that leave an emotion without texts are dropped.

    Raises:
        StimulusError: a single topic.
        AnalysisError: n_draws below 1, a recipe without a name, or `acts` do not give these vectors.
    """
    if n_draws < 1:
        raise AnalysisError(f"n_draws is {n_draws}; give at least 1 (1000 is usual)")
    steps = RECIPES.get(vectors.header.recipe)
    if steps is None or vectors.emotions != acts.emotions:
        raise AnalysisError(
            f"vectors by recipe '{vectors.header.recipe}' of {len(vectors)} emotions cannot be made again from these "
            f"activations of {len(acts.emotions)}; a bootstrap over topics needs the activations behind the vectors "
            f"and one of the recipes {', '.join(RECIPES)}; leave acts out to redraw emotions"
        )
    neutral = acts.emotion == NEUTRAL
    rows = acts.values[:, layer].cpu().double()
    texts, plain = rows[torch.from_numpy(~neutral)], rows[torch.from_numpy(neutral)][:, None]
    weights = _weights(acts, n_draws, seed)
    per_block, grams = max(1, BLOCK // (len(vectors) * texts.shape[1])), []
    for start in range(0, len(weights), per_block):
        means = torch.from_numpy(weights[start : start + per_block]) @ texts
        made = unit(apply_steps(steps, means[:, :, None], plain)[:, :, 0])
        if start == 0:
            same = float((made[0] * vectors.at(layer).cpu().double()).sum(-1).min()) >= 0.999
            if not same:
                raise AnalysisError(
                    "these activations do not give these vectors at this layer (another model, pooling, layer order or "
                    "neutral texts); pass the activations that the vectors were made from"
                )
        made = made - made.mean(1, keepdim=True)
        grams.append(made @ made.transpose(1, 2))
    return torch.cat(grams)[1:]


def _weights(acts: PooledActivations, n_draws: int, seed: int) -> Float[np.ndarray, "b k n"]:
    """Weights of the texts in topic-balanced class means: all topics first, then each draw of topics."""
    emotional = acts.emotion != NEUTRAL
    topic = codes(acts.topic[emotional])
    n_topics = int(topic.max()) + 1
    if n_topics < 2:
        raise StimulusError("a bootstrap over topics needs texts of at least 2 topics; leave acts out")
    weights = class_weights(codes(acts.emotion[emotional], acts.emotions), topic, len(acts.emotions))
    rng = np.random.default_rng(seed)
    drawn = np.concatenate([np.ones((1, n_topics)), redrawn(n_topics, n_draws, rng)])[:, None, topic] * weights
    total = drawn.sum(-1, keepdims=True)
    whole = (total > 0).all(axis=(1, 2))
    drawn, total = (drawn, total) if whole.all() else (drawn[whole], total[whole])
    return np.divide(drawn, total, out=drawn)  # in place: there are as many numbers as draws x emotions x texts
