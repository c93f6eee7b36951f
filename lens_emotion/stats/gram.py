"""Sums over classes, for many labellings of the same texts at once: the bulk of every label-permutation null.

All that decoding and cosines need of a labelling are the sums, over the texts of each class, of the columns of a Gram
matrix. They are made once per layer, fold by fold (a slab of columns fits in the cache), by sparse products: a text
belongs to one class, so a one-hot matrix is all but empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from torch import Tensor
from torch.nn.functional import embedding_bag

from lens_emotion.display import Brief
from lens_emotion.stats.design import Design

TINY = float(np.finfo(float).tiny)
CELLS = 2_000_000  # labellings x classes x texts held at once by one thread: some 16 MB


@dataclass(frozen=True, eq=False, repr=False)
class Labellings(Brief):
    """Some labellings of the same texts.

    Attributes:
        design: of the texts; its folds cut the sums into slabs.
        label: class of each text in each labelling.
    """

    design: Design
    label: Int[np.ndarray, "b n_texts"]

    def __len__(self) -> int:
        return len(self.label)

    @cached_property
    def count(self) -> Float[np.ndarray, "b k"]:
        """Texts per class."""
        return class_totals(np.ones(self.label.shape), self.label, self.design.n_classes)

    @cached_property
    def weights(self) -> Float[np.ndarray, "b n_texts"]:
        """Weight of each text in the topic-balanced mean of its class (`vectors.recipes.class_weights`)."""
        n_classes, n_topics = self.design.n_classes, len(self.design.topics)
        cell = self.label * n_topics + self.design.topic
        in_cell = class_totals(np.ones(cell.shape), cell, n_classes * n_topics)
        n_cells = (in_cell > 0).reshape(len(self), n_classes, n_topics).sum(2)
        return 1 / np.take_along_axis(in_cell, cell, 1) / np.take_along_axis(n_cells, self.label, 1)

    @cached_property
    def balanced(self) -> bool:
        """True if all texts of a class weigh the same, so that its weighted sum is its sum times a number."""
        return bool(np.allclose(self.weights * np.take_along_axis(self.count, self.label, 1), 1, rtol=1e-12))

    @cached_property
    def member(self) -> csr_array:
        """[b * k, n_texts]: 1 where a text is of the class."""
        return _membership(self.label, self.design.n_classes)

    @cached_property
    def weighted(self) -> csr_array:
        """[b * k, n_texts]: the weight of the text where it is of the class."""
        return _membership(self.label, self.design.n_classes, self.weights)

    @cached_property
    def held(self) -> tuple[csr_array, ...]:
        """Per fold, [b * k, held]: 1 where a held-out text is of the class."""
        return tuple(_membership(self.label[:, held], self.design.n_classes) for held in self.design.held)

    def sums(
        self, member: csr_array, columns: Float[np.ndarray, "rows m"]
    ) -> Float[np.ndarray, "b {self.design.n_classes} m"]:
        """Per labelling and class, the sum over its texts of the rows of `columns`.

        The same numbers as `member @ columns`, to the bit, but by torch: scipy's sparse product keeps Python's
        lock, so that a second thread would wait for it.
        """
        index, weight, ends = (torch.from_numpy(x) for x in (member.indices, member.data, member.indptr))
        rows = torch.from_numpy(np.ascontiguousarray(columns))
        bags = embedding_bag(index, rows, ends, mode="sum", per_sample_weights=weight, include_last_offset=True)
        return bags.numpy().reshape(len(self), self.design.n_classes, columns.shape[1])


def labellings(design: Design, labels: Int[np.ndarray, "b n_texts"]) -> list[Labellings]:
    """The labellings in blocks of bounded memory."""
    per_block = max(1, CELLS // (labels.shape[1] * design.n_classes))
    return [Labellings(design, labels[i : i + per_block]) for i in range(0, len(labels), per_block)]


def over_blocks(measure: Callable[[Labellings], np.ndarray], blocks: Sequence[Labellings]) -> np.ndarray:
    """`measure` of every block, one after the other on the first axis; as many at once as torch has threads."""
    threads = min(torch.get_num_threads(), len(blocks))
    if threads == 1:
        return np.concatenate([measure(block) for block in blocks])
    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate(list(pool.map(measure, blocks)))


def slabs(design: Design, gram: Float[Tensor, "n n"]) -> list[Float[np.ndarray, "n held"]]:
    """The columns of each fold's held-out texts."""
    return [np.ascontiguousarray(gram.numpy()[:, held]) for held in design.held]


def mean_products(
    block: Labellings, columns: list[Float[np.ndarray, "n _"]], sums: list[Float[np.ndarray, "b k _"]] | None = None
) -> Float[np.ndarray, "b k k"]:
    """Inner products of the topic-balanced class means, from the slabs of a Gram matrix.

    `sums` are the plain class sums of the slabs, if they have been made already: where classes are balanced, they are
    used again.
    """
    n_classes = block.design.n_classes
    if block.balanced:
        sums = sums if sums is not None else [block.sums(block.member, slab) for slab in columns]
        sums = [s / block.count[..., None] for s in sums]
    else:
        sums = [block.sums(block.weighted, slab) for slab in columns]
    total = np.zeros((len(block), n_classes, n_classes))
    for held, part in zip(block.design.held, sums, strict=True):
        member = block.label[:, held, None] == np.arange(n_classes)
        total += part @ (member * block.weights[:, held, None])
    return (total + total.transpose(0, 2, 1)) / 2


def class_totals(
    values: Float[np.ndarray, "b n"], label: Int[np.ndarray, "b n"], n_classes: int
) -> Float[np.ndarray, "b {n_classes}"]:
    """Sum of the values over the texts of each class, labelling by labelling."""
    cell = label + n_classes * np.arange(len(label))[:, None]
    return np.bincount(cell.ravel(), values.ravel(), len(label) * n_classes).reshape(len(label), n_classes)


def _membership(label: np.ndarray, n_classes: int, weights: np.ndarray | None = None) -> csr_array:
    b, n = label.shape
    order = np.argsort(label, axis=1, kind="stable")
    values = np.ones(b * n) if weights is None else np.take_along_axis(weights, order, 1).ravel()
    ends = np.cumsum(class_totals(np.ones(label.shape), label, n_classes).astype(np.int64))
    starts = np.concatenate([[0], ends])
    return csr_array((values, order.ravel(), starts), shape=(b * n_classes, n))


# Nearest centroids on held-out topics: a centroid is a mean of texts, so that its inner products and its length are
# linear and quadratic forms in the Gram matrix. Sums over all texts are made once; each fold subtracts its own part.


@dataclass(frozen=True, eq=False, repr=False)
class FoldedGram(Brief):
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
