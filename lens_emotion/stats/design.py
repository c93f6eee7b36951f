"""The design behind the texts: labels, topics, folds that share no topic, permutations that keep topics.

Also their inner products. Every analysis here sees the texts through their Gram matrix, or through
coordinates in their own span: neither cost nor result then depends on d_model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.linalg.blas import dsyrk
from torch import Tensor

from lens_emotion.display import Brief
from lens_emotion.errors import StimulusError
from lens_emotion.extraction.activations import PooledActivations, check_emotions, check_finite, codes

MAX_FOLDS = 12


@dataclass(frozen=True, eq=False, repr=False)
class Design(Brief):
    """Labels of the emotional texts as codes from 0.

    Attributes:
        label: emotion of each text.
        topic: topic of each text.
        unit: texts that must be relabelled together: exact copies within a topic and emotion (greedy
            duplicates).
        emotions: names of the labels.
        topics: names of the topics.
    """

    label: Int[np.ndarray, " n_texts"]
    topic: Int[np.ndarray, " n_texts"]
    unit: Int[np.ndarray, " n_texts"]
    emotions: tuple[str, ...]
    topics: tuple[str, ...]

    @property
    def n_classes(self) -> int:
        return len(self.emotions)

    @cached_property
    def nested(self) -> bool:
        """True if every topic belongs to one emotion only (no crossing)."""
        return all(len(set(self.label[self.topic == t])) == 1 for t in range(len(self.topics)))

    @cached_property
    def fold(self) -> Int[np.ndarray, " n_texts"]:
        """Fold of each text: its topic, or one of 12 groups of topics. No topic is in two folds."""
        return self.topic % min(len(self.topics), MAX_FOLDS)

    @cached_property
    def held(self) -> tuple[Int[np.ndarray, " held"], ...]:
        """The texts of each fold."""
        return tuple(np.flatnonzero(self.fold == f) for f in range(int(self.fold.max()) + 1))


def design_of(acts: PooledActivations) -> Design:
    """The design of the emotional texts (neutral left out).

    Raises:
        StimulusError: fewer than 2 emotions, fewer than 2 topics, or an emotion with texts of one topic only.
    """
    check_emotions(acts)
    texts = acts.emotional
    topics = texts.topics
    if len(topics) < 2:
        raise StimulusError(
            f"all {len(texts)} texts share the topic {topics[0]!r}; held-out folds need texts of at least 2 "
            "topics (give independent texts a topic each)"
        )
    label, topic = codes(texts.emotion, acts.emotions), codes(texts.topic, topics)
    for k, emotion in enumerate(acts.emotions):
        if len(set(topic[label == k])) < 2:
            raise StimulusError(
                f"'{emotion}' has texts of one topic only ({topics[topic[label == k][0]]!r}), so that no "
                "fold can both learn and test it; give every emotion texts of at least 2 topics"
            )
    # a text that is unknown ("") is a copy of nothing
    keys = [(t, k, r.text or f"#{i}") for i, (t, k, r) in enumerate(zip(topic, label, texts.records, strict=True))]
    order = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return Design(label, topic, np.array([order[k] for k in keys]), acts.emotions, topics)


def label_permutations(design: Design, n: int, seed: int) -> Int[np.ndarray, "n n_texts"]:
    """Labels as they might have been if emotion meant nothing: shuffled within each topic.

    Every topic keeps its counts of emotions, and exact copies keep one label (they move as a unit, among
    units of their size). Where topics are nested in emotions there is nothing to shuffle within them: whole
    topics then exchange their labels with topics of their size.

    Raises:
        StimulusError: the design leaves nothing to permute.
    """
    block = design.topic if design.nested else design.unit
    first = np.unique(block, return_index=True)[1]
    size = np.bincount(block)
    stratum = np.zeros_like(block[first]) if design.nested else design.topic[first]
    groups = [np.flatnonzero((stratum == s) & (size == z)) for s, z in sorted({*zip(stratum, size, strict=True)})]
    groups = [g for g in groups if len(set(design.label[first][g])) > 1]
    if not groups:
        raise StimulusError(
            "no two texts of one topic with different emotions could swap labels (each topic holds one emotion, or "
            "copies in unequal numbers), so there is no null; cross the topics with the emotions"
        )
    rng = np.random.default_rng(seed)
    block_label = np.tile(design.label[first], (n, 1))
    for row in block_label:
        for group in groups:
            row[group] = row[rng.permutation(group)]
    return block_label[:, block]


def grams(values: Float[Tensor, "n_texts n_layers d_model"]) -> Iterator[Float[Tensor, "n_texts n_texts"]]:
    """Inner products of the texts after subtracting their mean, layer by layer, float64.

    Whoever uses them centres anyway; subtracting first keeps the digits that a large common mean would eat.

    Raises:
        ArtifactError: activations that are not finite.
    """
    check_finite(values)
    for layer in values.detach().cpu().unbind(1):
        rows = layer.double()
        yield inner_products(rows - rows.mean(0))


def inner_products(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """rows @ rows.T at half the price, and symmetric to the bit."""
    lower = np.tril(dsyrk(1.0, rows.numpy().T, trans=1, lower=1))
    return torch.from_numpy(lower + np.tril(lower, -1).T)


def coordinates(values: Float[Tensor, "n_texts n_layers d_model"]) -> Float[Tensor, "n_texts n_layers r"]:
    """The texts in an orthonormal basis of their own span, mean subtracted: same distances, r <= n_texts.

    Raises:
        ArtifactError: activations that are not finite.
    """
    check_finite(values)
    layers = []
    for layer in values.detach().cpu().unbind(1):
        rows = layer.double()
        rows = rows - rows.mean(0)
        layers.append(torch.linalg.qr(rows.T)[1].T if rows.shape[1] > rows.shape[0] else rows)
    return torch.stack(layers, dim=1)
