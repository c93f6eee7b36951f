"""Cosines between emotion vectors in Gram space, and what they would be without noise.

A named recipe subtracts and projects: applied to the texts, or to their class means, it is the same. So the inner
products of the vectors are those of class means of displaced texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lens_emotion.display import Brief
from lens_emotion.extraction.activations import PooledActivations, codes
from lens_emotion.stats.design import Design, inner_products
from lens_emotion.stats.intervals import half_width
from lens_emotion.stimuli.emotions import NEUTRAL
from lens_emotion.vectors.emotion_vectors import unit
from lens_emotion.vectors.recipes import RECIPES, apply_steps, minus_mean, minus_neutral

ROUNDING = 1e-13  # squared lengths below this share of a text's own are rounding errors


def mean_pairwise_cosine(directions: Float[Tensor, "*batch n d_model"]) -> Float[Tensor, "*batch"]:
    """Mean cosine over all pairs of the n rows, in closed form: (||sum u||^2 - n) / (n (n - 1)), ||u|| = 1.

    Rows are scaled to length 1 here. The cost is O(n d); float64 inside, float64 out. A row of zeros has
    cosine 0 with every other. NaN for n = 1.
    """
    u = unit(directions.double())
    n = directions.shape[-2]
    own = (u**2).sum((-2, -1))  # n, less the rows of zeros
    total = (u.sum(-2) ** 2).sum(-1)
    return (total - own) / (n * (n - 1)) if n > 1 else torch.full_like(total, torch.nan)


def recipe_grams(acts: PooledActivations, recipe: str) -> Iterator[Float[Tensor, "n_texts n_texts"]]:
    """Layer by layer, inner products of all texts after the steps of a named recipe, float64.

    Raises:
        StimulusError: the recipe needs neutral texts that are not there.
    """
    neutral = torch.from_numpy(acts.emotion == NEUTRAL)
    for layer in acts.values.detach().cpu().split(1, dim=1):
        rows = layer.double()
        yield inner_products(apply_steps(RECIPES[recipe], rows, rows[neutral])[:, 0])


def vector_products(recipe: str, products: Float[np.ndarray, "*b k k"]) -> Float[np.ndarray, "*b k k"]:
    """Inner products of the recipe's vectors, from those of the class means of its displaced texts."""
    if minus_mean not in RECIPES[recipe]:
        return products
    across = products.mean(-1, keepdims=True)
    return products - across - across.swapaxes(-1, -2) + products.mean((-1, -2), keepdims=True)


def mean_cosine(products: Float[np.ndarray, "*b k k"], least: float = 0.0) -> Float[np.ndarray, "*b"]:
    """Mean cosine over all pairs of k vectors. One whose squared length is not above `least` counts as zero."""
    k = products.shape[-1]
    square = np.diagonal(products, axis1=-2, axis2=-1)
    scale = np.where(square > least, 1 / np.sqrt(np.maximum(square, np.finfo(float).tiny)), 0.0)
    cosines = products * scale[..., None] * scale[..., None, :]
    own = np.diagonal(cosines, axis1=-2, axis2=-1).sum(-1)
    return np.asarray((cosines.sum((-1, -2)) - own) / (k * (k - 1)))


@dataclass(frozen=True, eq=False, repr=False)
class Corrected(Brief):
    """The mean pairwise cosine of one layer as it is, and as it would be without noise.

    Attributes:
        raw: as it is. raw_half: half its 95% interval.
        corrected: noise-free estimate, NaN where there is none. corrected_half: half its 95% interval.
        why_not: why there is no noise-free estimate, or empty.
    """

    raw: float
    raw_half: float
    corrected: float
    corrected_half: float
    why_not: str


@dataclass(frozen=True, eq=False, repr=False)
class TopicMeans(Brief):
    """What the noise correction needs of a design: class means as weights, and the topics behind them.

    Attributes:
        weights: of every text in the mean of every class; a last row for the neutral texts, if the recipe
            subtracts their mean.
        topic: of every text, neutral ones too.
        strata: topics that are samples of their own: those with emotional texts (of one emotion each, where topics
            are nested), and those with neutral texts alone.
        emotions: names of the classes.
    """

    weights: Float[np.ndarray, "c n_texts"]
    topic: np.ndarray
    strata: list[np.ndarray]
    emotions: tuple[str, ...]


def topic_means(
    acts: PooledActivations, design: Design, weights: Float[np.ndarray, " n_emotional"], recipe: str
) -> TopicMeans:
    """From the weights of the emotional texts in their class means."""
    emotional = acts.emotion != NEUTRAL
    named = acts.topic.copy()
    named[emotional] = np.array(design.topics)[design.home]  # topics that share copies are no two topics
    for old, new in {*zip(acts.topic[emotional], named[emotional], strict=True)}:
        named[~emotional & (acts.topic == old)] = new
    topic = codes(named)
    needs_neutral = minus_neutral in RECIPES[recipe]
    every = np.zeros((design.n_classes + needs_neutral, len(acts)))
    every[design.label, np.flatnonzero(emotional)] = weights
    of_emotion = [np.unique(topic[emotional][design.label == k]) for k in range(design.n_classes)]
    strata = of_emotion if design.nested else [np.unique(topic[emotional])]
    if needs_neutral:
        every[-1, ~emotional] = 1 / max(1, (~emotional).sum())
        strata = [*strata, np.setdiff1d(topic[~emotional], topic[emotional])]
    # one topic alone has no variance that could be seen
    return TopicMeans(every, topic, [s for s in strata if len(s) > 1], design.emotions)


def corrected_cosine(gram: Float[np.ndarray, "n n"], means: TopicMeans, recipe: str) -> Corrected:
    """Mean pairwise cosine corrected for attenuation (Spearman 1904), with jackknife intervals over topics.

    The squared length of a mean of noisy texts contains their noise, and differences from one neutral mean share that
    mean's noise; both bias the cosine. Inner products between two halves of the topics contain neither. So

        cos_kj = <a_k(1), a_j(2)> / sqrt(<a_k(1), a_k(2)> <a_j(1), a_j(2)>)

    with a(1), a(2) the vectors from the two halves (neutral texts halved by their topics too) and every inner product
    averaged over the ways to halve the topics BEFORE the ratio is taken. That average has a closed form: the mean
    inner product over pairs of texts of two different topics, which is what is computed. The mean over pairs k < j is
    returned; it is consistent as topics grow (a ratio of estimates, so biased by about its own sampling variance), and
    may lie outside -1..1. For "neutral_pca" the components of the neutral texts are taken as given.
    """
    k, c = len(means.emotions), len(means.weights)
    contrast, least = np.eye(k, c), ROUNDING * float(np.diagonal(gram).mean())  # the vectors as sums of class means
    if minus_mean in RECIPES[recipe]:
        contrast[:, :k] -= 1 / k
    elif c > k:
        contrast[:, k] = -1
    (raw, between), (raw_left, between_left) = (
        tuple(contrast @ x @ contrast.T for x in products) for products in _class_products(gram, means)
    )
    value = float(mean_cosine(raw, least))
    raw_half = float(half_width(mean_cosine(raw_left, least), means.strata))
    why_not = _why_not(np.diagonal(between), least, means.emotions)
    if why_not:
        return Corrected(value, raw_half, np.nan, np.nan, why_not)
    defined = (np.diagonal(between_left, axis1=-2, axis2=-1) > least).all(-1)
    half = half_width(np.where(defined, mean_cosine(between_left, least), np.nan), means.strata)
    return Corrected(value, raw_half, float(mean_cosine(between, least)), float(half), "")


def _why_not(squares: np.ndarray, least: float, emotions: tuple[str, ...]) -> str:
    if np.isnan(squares).any():
        return "the neutral texts share one topic, so they have no halves"
    unreliable = [emotion for emotion, square in zip(emotions, squares, strict=True) if square <= least]
    if not unreliable:
        return ""
    rest = f" and {len(unreliable) - 3} more" * (len(unreliable) > 3)
    return f"halves of the topics do not agree on {', '.join(unreliable[:3])}{rest}"


def _class_products(
    gram: Float[np.ndarray, "n n"], means: TopicMeans
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Inner products of class means over all pairs of texts, and of two topics; both again without each topic."""
    w = means.weights
    with_class = gram @ w.T
    of_topic = [np.flatnonzero(means.topic == t) for t in range(int(means.topic.max()) + 1)]
    cross = np.stack([w[:, at] @ with_class[at] for at in of_topic])
    within = np.stack([w[:, at] @ gram[np.ix_(at, at)] @ w[:, at].T for at in of_topic])
    mass = np.stack([w[:, at].sum(1) for at in of_topic])
    shared = mass[:, :, None] * mass[:, None, :]
    total = w @ with_class
    left = total - cross - cross.swapaxes(1, 2) + within
    rest = 1 - mass
    pairs = rest[:, :, None] * rest[:, None, :]
    full = total, _ratio(total - within.sum(0), 1 - shared.sum(0))
    return full, (_ratio(left, pairs), _ratio(left - within.sum(0) + within, pairs - shared.sum(0) + shared))


def _ratio(products: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    return np.where(pairs > 1e-9, products / np.where(pairs > 1e-9, pairs, 1.0), np.nan)
