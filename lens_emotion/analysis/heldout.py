"""Nearest centroids on held-out topics, from inner products alone, for many labellings at once.

A centroid is a mean of texts, so that its inner products and its length are linear and quadratic forms in the Gram
matrix. The sums over all texts are made once; each fold subtracts the part of its own held-out texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from lens_emotion.analysis.class_sums import Labellings, class_totals, slabs
from lens_emotion.analysis.design import Design

TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True, eq=False)
class FoldedGram:
    """Inner products of the texts of one layer, cut by fold.

    Attributes:
        design: labels and folds.
        columns: per fold, the Gram matrix's columns of its held-out texts.
        with_mean: inner product of each text with the mean of the training texts of each fold.
        mean_mean: squared length of that mean.
        square: squared length of each text.
    """

    design: Design
    columns: list[Float[np.ndarray, "n _"]]
    with_mean: Float[np.ndarray, "n n_folds"]
    mean_mean: Float[np.ndarray, " n_folds"]
    square: Float[np.ndarray, " n"]


def fold_gram(design: Design, gram: Float[Tensor, "n n"]) -> FoldedGram:
    """Cut a layer's Gram matrix (any common vector subtracted from the texts: the scores do not depend on it)."""
    columns = slabs(design, gram)
    n = len(gram)
    total = sum(c.sum(1) for c in columns)
    n_train = np.array([n - len(held) for held in design.held])
    with_mean = np.stack([total - c.sum(1) for c in columns], axis=1) / n_train
    mean_mean = with_mean.sum(0) - np.array([with_mean[held, f].sum() for f, held in enumerate(design.held)])
    return FoldedGram(design, columns, with_mean, mean_mean / n_train, gram.diagonal().numpy())


def class_slabs(folded: FoldedGram, block: Labellings) -> list[Float[np.ndarray, "b k _"]]:
    """Per fold, inner products of its held-out texts with the sum of ALL texts of each class."""
    return [block.sums(block.member, c) for c in folded.columns]


def scores(
    folded: FoldedGram, block: Labellings, sums: list[Float[np.ndarray, "b k _"]]
) -> Iterator[Float[np.ndarray, "b k _"]]:
    """Per fold: cosines of held-out texts with training centroids, both less the training mean.

    The texts' own lengths are left out (argmax ignores them). -inf where a class has no training text.
    """
    held = folded.design.held
    inside = [block.sums(m, c[h]) for m, c, h in zip(block.held, folded.columns, held, strict=True)]
    with_own = [_own_totals(block, part, at) for part, at in zip(sums, held, strict=True)]
    within_own = [_own_totals(block, part, at) for part, at in zip(inside, held, strict=True)]
    square = np.sum(with_own, axis=0)
    for f, at in enumerate(held):
        count = block.count - class_totals(np.ones((len(block), len(at))), block.label[:, at], folded.design.n_classes)
        per_text = 1 / np.maximum(count, 1)
        train = np.delete(np.arange(len(folded.square)), at)
        # x . m and m . m, with m the mean of the training texts: all that centring needs
        with_mean, mean_mean = folded.with_mean[:, f], folded.mean_mean[f]
        means = np.broadcast_to(with_mean[train], (len(block), len(train)))
        offset = class_totals(means, block.label[:, train], folded.design.n_classes) * per_text
        own = square - 2 * with_own[f] + within_own[f]
        norm = np.sqrt(np.maximum(own * per_text**2 - 2 * offset + mean_mean, TINY))
        product = (sums[f] - inside[f]) * per_text[..., None]
        product -= (offset - mean_mean)[..., None]
        product -= with_mean[at]
        product /= norm[..., None]
        product[count == 0] = -np.inf
        yield product


def predict(
    folded: FoldedGram, block: Labellings, sums: list[Float[np.ndarray, "b k _"]] | None = None
) -> Int[np.ndarray, "b n"]:
    """Class of the nearest centroid for each text when its fold is held out; the first of equals."""
    guess = np.empty_like(block.label)
    found = scores(folded, block, class_slabs(folded, block) if sums is None else sums)
    for at, score in zip(folded.design.held, found, strict=True):
        guess[:, at] = score.argmax(1)
    return guess


def accuracies(
    folded: FoldedGram, block: Labellings, sums: list[Float[np.ndarray, "b k _"]] | None = None
) -> Float[np.ndarray, " b"]:
    """Share of texts whose nearest centroid is that of their class."""
    return (predict(folded, block, sums) == block.label).mean(1)


def observed_scores(folded: FoldedGram) -> Float[np.ndarray, "n k"]:
    """Cosine of every text, held out, with the training centroid of every class, under the labels as they are."""
    design = folded.design
    block = Labellings(design, design.label[None])
    found = np.empty((len(design.label), design.n_classes))
    for f, (at, score) in enumerate(zip(design.held, scores(folded, block, class_slabs(folded, block)), strict=True)):
        length = folded.square[at] - 2 * folded.with_mean[at, f] + folded.mean_mean[f]
        found[at] = score[0].T / np.sqrt(np.maximum(length, TINY))[:, None]
    return found


def _own_totals(block: Labellings, part: Float[np.ndarray, "b k h"], at: Int[np.ndarray, " h"]) -> np.ndarray:
    """Sum over the held-out texts of a class of their inner product with that class."""
    label = block.label[:, at]
    own = np.take_along_axis(part, label[:, None], 1)[:, 0]
    return class_totals(own, label, block.design.n_classes)
