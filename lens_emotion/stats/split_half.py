"""Cosines between the class means of two halves of the topics, for many labellings at once."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_emotion.display import Brief
from lens_emotion.errors import AnalysisError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.models.threads import over_cores
from lens_emotion.stats.design import Design, grams
from lens_emotion.stats.gram import Labellings
from lens_emotion.stats.tests import spearman_brown


def topic_halves(n_topics: int, n_splits: int, seed: int) -> Float[np.ndarray, "n_splits n_topics"]:
    """Random halves: 1 for topics of the first half, 0 for those of the second.

    Raises:
        AnalysisError: n_splits below 1.
    """
    if n_splits < 1:
        raise AnalysisError(f"n_splits is {n_splits}; give at least 1 (20 is usual)")
    rng = np.random.default_rng(seed)
    first = np.arange(n_topics) < n_topics // 2
    return np.stack([rng.permutation(first) for _ in range(n_splits)]).astype(float)


@dataclass(frozen=True, eq=False, repr=False)
class ClassHalves(Brief):
    """One class of every labelling: its texts, their weights, and the splits in which they are in the first half.

    Attributes:
        rows: texts of the class. weight: of each in the class mean, up to a factor (cosines do not see it).
        first: 1 in the first half. lacking: splits in which one of the halves has no text of the class.
    """

    rows: Int[np.ndarray, "b m"]
    weight: Float[Tensor, "b m"]
    first: Float[Tensor, "b s m"]
    lacking: torch.Tensor


def class_halves(
    design: Design,
    labels: Int[np.ndarray, "b n"],
    halves: Float[np.ndarray, "s n_blocks"],
    keep: Float[np.ndarray, "b n"] | None = None,
) -> list[ClassHalves]:
    """Every class's texts and halves (of `design.n_blocks`). `keep` is 0 for texts to be left out of a labelling."""
    order = np.argsort(labels, axis=1, kind="stable")
    weights = Labellings(design, labels).weights * (1.0 if keep is None else keep)
    ends = np.cumsum(np.bincount(labels[0], minlength=design.n_classes))
    made = []
    for start, end in zip([0, *ends], ends, strict=False):
        rows = order[:, start:end]
        weight = torch.from_numpy(np.take_along_axis(weights, rows, 1))
        first = torch.from_numpy(halves.T[design.block[rows]]).transpose(1, 2).contiguous()
        used = (weight > 0).double()[:, None]
        n_first, n_all = (first * used).sum(-1), used.sum(-1)
        made.append(ClassHalves(rows, weight, first, (n_first == 0) | (n_first == n_all)))
    return made


def layer_half_cosines(
    gram: Float[Tensor, "n n"], design: Design, halves: list[ClassHalves]
) -> Float[np.ndarray, "b k"]:
    """Mean over splits of the cosine between half means at one layer; NaN where no split has both halves."""
    centred = _centred(gram, design).contiguous()
    cosines = torch.stack(over_cores(partial(_cosine, centred), halves), dim=-1).numpy()
    with warnings.catch_warnings():  # an emotion whose every split is NaN stays NaN, without numpy's remark
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmean(cosines, axis=1)


def half_cosines(
    acts: PooledActivations, design: Design, labels: Int[np.ndarray, "b n"], halves: Float[np.ndarray, "s n_blocks"]
) -> Float[np.ndarray, "n_layers b k"]:
    """Mean over splits of the cosine between half means, for b labellings of the texts at once.

    An emotion that a half lacks leaves that split out; NaN where that happens in every split.
    """
    made = class_halves(design, labels, halves)
    return np.stack([layer_half_cosines(gram, design, made) for gram in grams(acts.emotional.values)])


def _cosine(gram: Tensor, half: ClassHalves) -> Float[Tensor, "b s"]:
    """With h the first half's texts and G their inner products: a.a = hGh, a.b = hG1 - hGh, b.b = 1G1 - 2 hG1 + hGh."""
    at = half.rows[:, :, None] * len(gram) + half.rows[:, None, :]
    block = torch.from_numpy(gram.numpy().ravel().take(at))  # several times faster than indexing by rows and columns
    block *= half.weight[:, :, None]
    block *= half.weight[:, None, :]
    with_first = half.first @ block
    both, one = (with_first * half.first).sum(-1), with_first.sum(-1)
    rest = block.sum((1, 2))[:, None] - 2 * one + both
    cosine = (one - both) / (both * rest).clamp_min(torch.finfo(gram.dtype).tiny).sqrt()
    return cosine.masked_fill(half.lacking, torch.nan)


def _centred(gram: Float[Tensor, "n n"], design: Design) -> Float[Tensor, "n n"]:
    """Inner products after subtracting each topic's mean; the mean of all texts where topics are nested."""
    topic = np.zeros_like(design.topic) if design.nested else design.topic
    member = torch.nn.functional.one_hot(torch.from_numpy(topic)).to(gram.dtype)
    mean = (member / member.sum(0)).T
    rows = gram - (mean @ gram)[topic]
    return rows - (rows @ mean.T)[:, topic]


def mean_reliability(r: Float[np.ndarray, "*b k"]) -> Float[np.ndarray, "*b"]:
    """Spearman-Brown of the mean over emotions (those that have one)."""
    return spearman_brown(np.nanmean(r, axis=-1))
