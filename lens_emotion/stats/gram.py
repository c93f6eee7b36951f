"""Sums over classes, for many labellings of the same texts at once: the bulk of every label-permutation null.

All that decoding and cosines need of a labelling are the sums, over the texts of each class, of the columns of a Gram
matrix, made by sparse products: a text belongs to one class, so a one-hot matrix is all but empty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.linalg.blas import ssyrk
from scipy.sparse import csr_array
from torch import Tensor
from torch.nn.functional import embedding_bag

from lens_emotion.display import Brief
from lens_emotion.models.threads import over_cores
from lens_emotion.stats.design import Design

TINY = float(np.finfo(float).tiny)
CELLS = 500_000  # labellings x classes x texts (or pairs of texts) held at once by one thread: some 4 MB, as caches are
KEPT = 16_000_000  # pairs of texts that are remembered from layer to layer: 64 MB
CONSTANT = 1e-10  # an SD below this share of the mean is the rounding of the mean
SINGLE = 1e-6  # a training SD below this share of the SD of all texts is rounding in single precision


@dataclass(frozen=True, eq=False, repr=False)
class Labellings(Brief):
    """Some labellings of the same texts.

    Attributes:
        design: of the texts.
        label: class of each text in each labelling.
        keeps: remember `pairs`, once made.
    """

    design: Design
    label: Int[np.ndarray, "b n_texts"]
    keeps: bool = True

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
    def cell(self) -> Int[np.ndarray, "b n_texts"]:
        """Number of each text's class and fold."""
        return self.label * len(self.design.held) + self.design.fold

    def by_fold(self, values: Float[np.ndarray, "b n_texts"]) -> Float[np.ndarray, "b k n_folds"]:
        """Sum of the values over the texts of each class in each fold."""
        n_folds = len(self.design.held)
        return class_totals(values, self.cell, self.design.n_classes * n_folds).reshape(len(self), -1, n_folds)

    @cached_property
    def in_fold(self) -> Float[np.ndarray, "b k n_folds"]:
        """Texts of each class in each fold."""
        return self.by_fold(np.ones(self.label.shape))

    @property
    def trained(self) -> Float[np.ndarray, "b k n_folds"]:
        """Texts of each class that are learnt from when a fold is held out."""
        return self.count[..., None] - self.in_fold

    @property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """Every two texts of a class, and each with itself, as places in a table of n * n; and where classes end."""
        return self._kept_pairs if self.keeps else self._pairs()

    @cached_property
    def _kept_pairs(self) -> tuple[Tensor, Tensor]:
        return self._pairs()

    def _pairs(self) -> tuple[Tensor, Tensor]:
        n, sizes = self.label.shape[1], self.count.astype(np.int64).ravel()
        members, place = self.member.indices.astype(np.int32), np.concatenate([[0], np.cumsum(sizes)])
        found: list[np.ndarray] = [np.empty(0, dtype=np.int32)] * len(sizes)
        for size in np.unique(sizes):  # all classes of one size at once; members ascend within a class
            which = np.flatnonzero(sizes == size)
            rows, (low, high) = members[place[which, None] + np.arange(size)], np.triu_indices(size)
            for at, made in zip(which, rows[:, low] * np.int32(n) + rows[:, high], strict=True):
                found[at] = made
        ends = np.concatenate([[0], np.cumsum(sizes * (sizes + 1) // 2)]).astype(np.int32)
        return torch.from_numpy(np.concatenate(found)), torch.from_numpy(ends)

    def sums(
        self, member: csr_array, columns: Float[np.ndarray, "rows m"]
    ) -> Float[np.ndarray, "b {self.design.n_classes} m"]:
        """Per labelling and class, the sum over its texts of the rows of `columns`.

        The same numbers as `member @ columns`, to the bit, but by torch: scipy's sparse product keeps Python's
        lock, so that a second thread would wait for it.
        """
        return _bags(member, member.indices, columns).reshape(len(self), self.design.n_classes, columns.shape[1])

    def both_sums(self, member: csr_array, columns: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "b k k"]:
        """The same over rows and columns alike: sums of the products of every two classes."""
        rows = np.ascontiguousarray(self.sums(member, columns).transpose(0, 2, 1))
        n, k = rows.shape[1:]
        place = member.indices + n * np.repeat(np.arange(len(self)), n)
        return _bags(member, place, rows.reshape(-1, k)).reshape(len(self), k, k)


def _bags(member: csr_array, index: np.ndarray, rows: Float[np.ndarray, "rows m"]) -> Float[np.ndarray, "bk m"]:
    places, weight, ends = (torch.from_numpy(x) for x in (index, member.data, member.indptr.astype(index.dtype)))
    table = torch.from_numpy(np.ascontiguousarray(rows))
    weight = weight.to(table.dtype)
    bags = embedding_bag(places, table, ends, mode="sum", per_sample_weights=weight, include_last_offset=True)
    return np.asarray(bags.numpy())


def labellings(design: Design, labels: Int[np.ndarray, "b n_texts"]) -> list[Labellings]:
    """The labellings in blocks of bounded memory."""
    size = np.bincount(labels[0], minlength=design.n_classes)
    n_pairs = int((size * (size + 1) // 2).sum())
    per_block = max(1, CELLS // max(labels.shape[1] * design.n_classes, n_pairs))
    keeps = len(labels) * n_pairs <= KEPT
    return [Labellings(design, labels[i : i + per_block], keeps) for i in range(0, len(labels), per_block)]


def over_blocks(measure: Callable[[Labellings], np.ndarray], blocks: Sequence[Labellings]) -> np.ndarray:
    """`measure` of every block, one after the other on the first axis; as many at once as torch has threads."""
    return np.concatenate(over_cores(measure, blocks))


def mean_products(gram: Float[np.ndarray, "n n"], block: Labellings) -> Float[np.ndarray, "b k k"]:
    """Inner products of the topic-balanced class means."""
    total = block.both_sums(block.weighted, gram)
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
# linear and quadratic forms in the Gram matrix of the fold's training texts.


@dataclass(frozen=True, eq=False, repr=False)
class FoldedGram(Brief):
    """Inner products of the texts of one layer, as each fold's training texts make them.

    Attributes:
        design: labels and folds.
        products: of every training text (rows) with each text (columns, fold by fold) when that text is held out; 0
            for texts of its own fold.
        length: of each text (fold by fold) when it is held out.
        squares: from a block and its class sums of `products`, the squared length of the sum of the training texts of
            every class, for every fold.
    """

    design: Design
    products: Float[np.ndarray, "n n"]
    length: Float[np.ndarray, " n"]
    squares: Callable[[Labellings, np.ndarray], Float[np.ndarray, "b k n_folds"]]


def fold_gram(design: Design, gram: Float[Tensor, "n n"]) -> FoldedGram:
    """For cosines of texts less the training mean (any common vector subtracted: that mean does not depend on it)."""
    g, order, fold = gram.numpy(), np.concatenate(design.held), np.sort(design.fold)
    kept = (design.fold != np.arange(len(design.held))[:, None]).astype(float)
    with_mean = g @ (kept / kept.sum(1, keepdims=True)).T
    mean_mean = (with_mean.T * kept).sum(1) / kept.sum(1)
    products = g[:, order]
    products -= with_mean[:, fold]
    products -= with_mean[order, fold] - mean_mean[fold]
    length = np.sqrt(np.maximum(products[order, np.arange(len(g))], 0))
    products[design.fold[:, None] == fold] = 0
    return FoldedGram(design, products, length, partial(_centred_squares, g, with_mean, mean_mean))


def _centred_squares(
    gram: np.ndarray, with_mean: np.ndarray, mean_mean: np.ndarray, block: Labellings, sums: np.ndarray
) -> Float[np.ndarray, "b k n_folds"]:
    """From sums that were made already: products between a class's texts in a fold and out of it, then within it."""
    design, trained, held = block.design, block.trained, block.in_fold
    own = np.empty(block.label.shape)
    own[:, np.concatenate(design.held)] = np.take_along_axis(
        sums, block.label[:, np.concatenate(design.held)][:, None], 1
    )[:, 0]
    held_mean = block.by_fold(np.broadcast_to(with_mean[np.arange(len(gram)), design.fold], block.label.shape))
    train_mean = block.sums(block.member, with_mean) - held_mean
    # products[i, x] lacks (i + x) . mean and has mean . mean too much: put back, so that folds can be added up
    across = block.by_fold(own) + held * train_mean + trained * held_mean - held * trained * mean_mean
    within = _within_folds(gram, block)
    train = (across + within).sum(-1, keepdims=True) - 2 * across - within
    return train - 2 * trained * train_mean + trained**2 * mean_mean


def _within_folds(gram: Float[np.ndarray, "n n"], block: Labellings) -> Float[np.ndarray, "b k n_folds"]:
    """Sum of the products of every two texts of a class that share a fold."""
    if block.in_fold.max() <= 1:  # each with itself alone
        return block.by_fold(np.broadcast_to(gram.diagonal(), block.label.shape))
    own = np.empty(block.label.shape)
    for at in block.design.held:
        same = block.label[:, at, None] == block.label[:, None, at]
        own[:, at] = np.einsum("bij,ij->bj", same, gram[np.ix_(at, at)])
    return block.by_fold(own)


def fold_standardised(design: Design, rows: Float[Tensor, "n d_model"]) -> FoldedGram:
    """For cosines of texts less the training mean and over the training SD, dimension by dimension.

    A dimension that is constant over the training texts is left out of that fold. With as much weight in every
    dimension single precision is enough, and several times faster. Every fold has a Gram matrix of its own here.
    """
    n, start = len(rows), 0
    even, shift, factor = _evened(design, rows)
    products, length = np.empty((n, n), dtype=np.float32), np.empty(n, dtype=np.float32)
    grams, scaled = np.zeros((len(design.held), n, n), dtype=np.float32), torch.empty_like(even)
    for f, at in enumerate(design.held):
        z = torch.sub(even, shift[f], out=scaled).mul_(factor[f]).numpy()
        here = slice(start, start := start + len(at))
        np.matmul(z, z[at].T, out=(column := np.empty((n, len(at)), dtype=np.float32)))
        length[here] = np.sqrt(column[at, np.arange(len(at))])
        column[at] = 0
        products[:, here] = column
        gram = ssyrk(1.0, z.T, c=grams[f].T, trans=1, lower=1, overwrite_c=1).T  # its upper half
        gram[at], gram[:, at] = 0, 0
        gram.ravel()[:: n + 1] /= 2  # pairs are counted in one order, and doubled
    pairs = torch.from_numpy(np.ascontiguousarray(grams.reshape(len(grams), -1).T))
    return FoldedGram(design, products, length, partial(_paired_squares, pairs))


def _evened(design: Design, rows: Float[Tensor, "n d"]) -> tuple[Tensor, Tensor, Tensor]:
    """The texts with every dimension at mean 0 and SD 1; by fold, the mean of its training texts and 1 over their SD.

    Training moments come of those of the folds (Chan et al. 1983), so that nothing cancels.
    """
    rows = rows if rows.dtype == torch.float64 else rows.float()
    centre, unit = moments(rows)
    even = ((rows - centre) / unit).float()
    fold = torch.from_numpy(design.fold)
    member = torch.nn.functional.one_hot(fold).T.float()
    size = member.sum(1)
    means = member @ even / size[:, None]
    scatter = member @ (even - means[fold]) ** 2
    kept = (1 - torch.eye(len(size))) * size
    mean = kept @ means / kept.sum(1, keepdim=True)
    between = torch.stack([k @ (means - m) ** 2 for k, m in zip(kept, mean, strict=True)])
    spread = ((scatter.sum(0) - scatter + between) / kept.sum(1, keepdim=True)).sqrt()
    return even, mean, torch.where(spread > SINGLE, 1 / spread, 0.0)


def moments(rows: Float[Tensor, "n *shape"]) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Mean and SD of every dimension; the SD of one that is constant is inf, so that dividing by it leaves it out."""
    centre = rows.mean(0, dtype=torch.float64)
    sd = torch.linalg.vector_norm(rows - centre.to(rows.dtype), dim=0, dtype=torch.float64) / len(rows) ** 0.5
    unit = torch.where(sd > CONSTANT * centre.abs(), sd, torch.inf)
    return centre.to(rows.dtype), unit.to(rows.dtype)


def _paired_squares(pairs: Float[Tensor, "nn n_folds"], block: Labellings, _: np.ndarray) -> np.ndarray:
    index, ends = block.pairs
    found = embedding_bag(index, pairs, ends, mode="sum", include_last_offset=True)
    return 2 * found.numpy().reshape(len(block), block.design.n_classes, -1)


def scores(folded: FoldedGram, block: Labellings) -> Float[np.ndarray, "b k n"]:
    """Cosines of held-out texts (fold by fold) with training centroids, times the texts' own lengths.

    -inf where a class has no training text.
    """
    found = block.sums(block.member, folded.products)
    square = np.maximum(folded.squares(block, found), np.finfo(found.dtype).tiny)
    scale, absent, start = (1 / np.sqrt(square)).astype(found.dtype), block.trained == 0, 0
    for f, at in enumerate(folded.design.held):
        here = found[:, :, start : (start := start + len(at))]
        here *= scale[:, :, f, None]
        if absent[:, :, f].any():
            here[absent[:, :, f]] = -np.inf
    return found


def predict(folded: FoldedGram, block: Labellings) -> Int[np.ndarray, "b n"]:
    """Class of the nearest centroid for each text when its fold is held out; the first of equals."""
    guess = np.empty_like(block.label)
    guess[:, np.concatenate(block.design.held)] = scores(folded, block).argmax(1)
    return guess


def accuracies(folded: FoldedGram, block: Labellings) -> Float[np.ndarray, " b"]:
    """Share of texts whose nearest centroid is that of their class; the first of equals."""
    found, label = scores(folded, block), block.label[:, np.concatenate(block.design.held)]
    best = found.max(1)
    if np.count_nonzero(found == best[:, None]) > best.size:  # equals: slower
        return (found.argmax(1) == label).mean(1)
    return (np.take_along_axis(found, label[:, None], 1)[:, 0] == best).mean(1)


def observed_scores(folded: FoldedGram) -> Float[np.ndarray, "n k"]:
    """Cosine of every text, held out, with the training centroid of every class, under the labels as they are."""
    design = folded.design
    found = scores(folded, Labellings(design, design.label[None]))[0].T
    cosine = np.empty((len(design.label), design.n_classes))
    least = np.finfo(folded.length.dtype).tiny ** 0.5
    cosine[np.concatenate(design.held)] = found / np.maximum(folded.length, least)[:, None]
    return cosine
