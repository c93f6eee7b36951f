"""The design behind the texts: labels, topics, folds that share no topic, permutations that keep topics.

Also their inner products. Every analysis here sees the texts through their Gram matrix, or through
coordinates in their own span: neither cost nor result then depends on d_model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.linalg.blas import dsyrk
from torch import Tensor

from lens_emotion.display import Brief
from lens_emotion.errors import StimulusError
from lens_emotion.extraction.activations import PooledActivations, check_emotions, codes
from lens_emotion.stimuli.copies import components, copies, copies_note

MAX_FOLDS = 12

TIED = "too many to share a fold, so that what is tested was also learnt"
UNMOVED = "they tie every label down, so that there is nothing to compare with"


@dataclass(frozen=True, eq=False, repr=False)
class Design(Brief):
    """Labels of the emotional texts as codes from 0.

    Attributes:
        label: emotion of each text.
        topic: topic of each text.
        unit: texts that must be relabelled together: copies of one emotion (greedy duplicates).
        emotions: names of the labels.
        topics: names of the topics.
        home: topic with which each text is held out, and halved: its own, or the first of those linked by copies.
        copies: what a reader must know of copies; empty if there are none.
    """

    label: Int[np.ndarray, " n_texts"]
    topic: Int[np.ndarray, " n_texts"]
    unit: Int[np.ndarray, " n_texts"]
    emotions: tuple[str, ...]
    topics: tuple[str, ...]
    home: Int[np.ndarray, " n_texts"]
    copies: str = ""

    @property
    def n_classes(self) -> int:
        return len(self.emotions)

    @cached_property
    def nested(self) -> bool:
        """True if every topic belongs to one emotion only (no crossing)."""
        return all(len(set(self.label[self.topic == t])) == 1 for t in range(len(self.topics)))

    @cached_property
    def block(self) -> Int[np.ndarray, " n_texts"]:
        """Number of each text's home: what is independent of each other."""
        return np.unique(self.home, return_inverse=True)[1]

    @property
    def n_blocks(self) -> int:
        return int(self.block.max()) + 1

    @cached_property
    def fold(self) -> Int[np.ndarray, " n_texts"]:
        """Fold of each text: its block, or one of 12 groups of blocks. No block is in two folds."""
        return self.block % min(self.n_blocks, MAX_FOLDS)

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
    home, unit, said = homes_of([r.text for r in texts.records], label, topic)
    design = Design(label, topic, unit, acts.emotions, topics, home, said)
    return design if not said or tied(said) or _swaps(design)[1] else replace(design, copies=f"{said}; {UNMOVED}")


def homes_of(
    texts: list[str], label: Int[np.ndarray, " n"], topic: Int[np.ndarray, " n"]
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"], str]:
    """Home and unit of every text, and what to say of copies. A copy in training would answer for the one held out.

    Topics that share copies are held out together. Where that leaves an emotion nothing to learn from (greedy stories
    are much alike), copies go with the first of them, whatever their topic; then those of one emotion only. Where even
    that does not help they stay where they are, and nothing can be tested (`tied`).
    """
    said = copies_note(texts, list(zip(topic.tolist(), label.tolist(), strict=True)))
    unit, group = copies(texts, label.tolist()), copies(texts)
    homes = {
        "topics that share copies share a fold": _joined(topic, group),
        "copies share a fold, that of the first of them": topic[np.unique(group, return_index=True)[1]][group],
        "copies of one emotion share a fold, that of the first": topic[np.unique(unit, return_index=True)[1]][unit],
    }
    for how, home in homes.items():
        if all(len(set(home[label == k])) > 1 for k in set(label.tolist())):
            return home, unit, f"{said}; {how}" if said else ""
    return topic, unit, f"{said}; {TIED}"


def _joined(topic: Int[np.ndarray, " n"], group: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """The first topic of all that are linked to a text's topic by groups that lie in both."""
    first = topic[np.unique(group, return_index=True)[1]][group]
    linked = components(int(topic.max()) + 1, first, topic)
    return np.unique(linked, return_index=True)[1][linked][topic]


def linked_topics(a: PooledActivations, b: PooledActivations) -> tuple[np.ndarray, np.ndarray]:
    """Topic of every text of two sets; topics that share copies, in one set or between them, bear one name."""
    records = [*a.records, *b.records]
    names = np.array([r.topic for r in records])
    home = _joined(codes(names), copies([r.text for r in records]))
    merged = np.array(list(dict.fromkeys(names.tolist())))[home]
    return merged[: len(a)], merged[len(a) :]


def tied(copies: str) -> bool:
    """Whether copies (`Design.copies`) leave nothing to test: neither a high accuracy nor a high p means anything."""
    return copies.endswith((TIED, UNMOVED))


def with_copies(said: str) -> str:
    """What is known of copies, as a sentence that ends a summary; nothing if there are none."""
    return f" {said[0].upper()}{said[1:]}." if said else ""


def label_permutations(design: Design, n: int, seed: int) -> Int[np.ndarray, "n n_texts"]:
    """Labels as they might have been if emotion meant nothing: shuffled within each topic.

    Every topic keeps its counts of emotions, and copies of one emotion keep one label: they move as a unit, among
    units with as many texts on the same topics. Where topics are nested in emotions there is nothing to shuffle within
    them: whole topics (all that share copies) then exchange their labels with topics of their size. Where copies tie
    down every label, the labels stay as they are, which gives p = 1.

    Raises:
        StimulusError: the design leaves nothing to permute.
    """
    block, groups = _swaps(design)
    if not groups and design.copies:
        return np.tile(design.label, (n, 1))  # copies tie all labels down: nothing can be told from chance, p = 1
    if not groups:
        raise StimulusError(
            "no two texts of one topic with different emotions could swap labels (each topic holds one emotion, or "
            "copies in unequal numbers), so there is no null; cross the topics with the emotions"
        )
    rng = np.random.default_rng(seed)
    block_label = np.tile(design.label[np.unique(block, return_index=True)[1]], (n, 1))
    for row in block_label:
        for group in groups:
            row[group] = row[rng.permutation(group)]
    return block_label[:, block]


def _swaps(design: Design) -> tuple[Int[np.ndarray, " n_texts"], list[Int[np.ndarray, " swap"]]]:
    """The unit of each text that is relabelled as one, and the groups of units that may swap labels."""
    unit = _joined(design.topic, design.unit) if design.nested else design.unit
    _, first, block = np.unique(unit, return_index=True, return_inverse=True)
    stratum = np.zeros_like(block) if design.nested else design.topic
    alike: dict[tuple[int, ...], list[int]] = {}  # topic of every text of a unit -> units that may swap
    order = np.argsort(block, kind="stable")
    for k, texts in enumerate(np.split(order, np.cumsum(np.bincount(block))[:-1])):
        alike.setdefault(tuple(sorted(stratum[texts].tolist())), []).append(k)
    groups = [np.array(units) for _, units in sorted(alike.items())]
    groups = [g for g in groups if len(set(design.label[first][g])) > 1]
    return block, groups


def grams(values: Float[Tensor, "n_texts n_layers d_model"]) -> Iterator[Float[Tensor, "n_texts n_texts"]]:
    """Inner products of the texts after subtracting their mean, layer by layer, float64.

    Whoever uses them centres anyway; subtracting first keeps the digits that a large common mean would eat.
    """
    for layer in values.detach().cpu().unbind(1):
        rows = layer.double()
        yield inner_products(rows - rows.mean(0))


def inner_products(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """rows @ rows.T at half the price, and symmetric to the bit."""
    lower = np.tril(dsyrk(1.0, rows.numpy().T, trans=1, lower=1))
    return torch.from_numpy(lower + np.tril(lower, -1).T)


def coordinates(values: Float[Tensor, "n_texts n_layers d_model"]) -> Float[Tensor, "n_texts n_layers r"]:
    """The texts in an orthonormal basis of their own span, mean subtracted: same distances, r <= n_texts."""
    layers = []
    for layer in values.detach().cpu().unbind(1):
        rows = layer.double()
        rows = rows - rows.mean(0)
        layers.append(torch.linalg.qr(rows.T)[1].T if rows.shape[1] > rows.shape[0] else rows)
    return torch.stack(layers, dim=1)
