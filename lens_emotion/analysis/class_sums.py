"""Sums over classes, for many labellings of the same texts at once: the bulk of every label-permutation null.

All that decoding and cosines need of a labelling are the sums, over the texts of each class, of the columns of a Gram
matrix. They are made once per layer, fold by fold (a slab of columns fits in the cache), by sparse products: a text
belongs to one class, so a one-hot matrix is all but empty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from torch import Tensor
from torch.nn.functional import embedding_bag

from lens_emotion.analysis.design import Design

CELLS = 2_000_000  # labellings x classes x texts held at once by one thread: some 16 MB


@dataclass(frozen=True, eq=False)
class Labellings:
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
