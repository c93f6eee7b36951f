"""Split-half reliability: do two halves of the topics, kept apart, give the same emotion directions?"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_emotion.analysis.design import Design, design_of, grams
from lens_emotion.analysis.results import AnalysisError, place, result_html
from lens_emotion.analysis.stats import spearman_brown
from lens_emotion.extraction.activations import PooledActivations


@dataclass(frozen=True, eq=False)
class Reliability:
    """Split-half reliability of the centred class means.

    Attributes:
        table: layer, depth, emotion, r (cosine between the halves, mean over splits), reliability
            (Spearman-Brown).
        n_splits: random halvings of the topics.
        n_topics: topics that were halved.
    """

    table: pd.DataFrame
    n_splits: int
    n_topics: int

    @property
    def by_layer(self) -> pd.DataFrame:
        """layer, depth, r (mean over emotions), reliability (Spearman-Brown of that mean)."""
        mean = self.table.groupby(["layer", "depth"], as_index=False)["r"].mean()
        return mean.assign(reliability=spearman_brown(mean["r"].to_numpy()))

    def summary(self) -> str:
        """One sentence on the most reliable layer and the middle one."""
        by_layer = self.by_layer
        n, values = len(by_layer), by_layer["reliability"].fillna(-np.inf).to_numpy()
        return (
            f"Split-half reliability over {self.n_topics} topics is {values.max():.2f} at "
            f"{place(int(values.argmax()), n, best=True)} and {values[n // 2]:.2f} at {place(n // 2, n)} "
            "(mean over emotions, Spearman-Brown; 0 is noise, 1 is no noise)."
        )

    def _repr_html_(self) -> str:
        return result_html(self)


def reliability(acts: PooledActivations, n_splits: int = 20, seed: int = 0) -> Reliability:
    """Cosine between the centred class means of two random halves of the topics, per emotion and layer.

    Class means weigh the topics of a half equally. Every text is first centred on the mean of its topic,
    which in a crossed design equals centring the class means of each half on their mean over emotions, and
    takes the topics' own effect out of an incomplete one; where each topic has a single emotion, on the mean
    of all texts. The mean over splits is stepped up by Spearman-Brown to the full number of topics. Noise
    gives about 0.

    Raises:
        StimulusError: fewer than 2 emotions or topics, or an emotion with texts of one topic only.
        AnalysisError: n_splits below 1.
    """
    design = design_of(acts)
    halves = topic_halves(len(design.topics), n_splits, seed)
    r = half_cosines(acts, design, design.label[None], halves)[:, 0]
    names, layers = design.emotions, np.arange(acts.n_layers)
    table = pd.DataFrame(
        {
            "layer": np.repeat(layers, len(names)),
            "depth": np.repeat(acts.depth, len(names)),
            "emotion": np.tile(np.array(names), len(layers)),
            "r": r.ravel(),
            "reliability": spearman_brown(r.ravel()),
        }
    )
    return Reliability(table, n_splits, len(design.topics))


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


def half_cosines(
    acts: PooledActivations,
    design: Design,
    labels: Int[np.ndarray, "b n"],
    halves: Float[np.ndarray, "s n_topics"],
) -> Float[np.ndarray, "n_layers b k"]:
    """Mean over splits of the cosine between half means, for b labellings of the texts at once.

    An emotion that a half lacks leaves that split out; NaN where that happens in every split.
    """
    # texts sorted by label: class means touch only the Gram block of their own class
    order = np.argsort(labels, axis=1, kind="stable")
    ends = np.cumsum(np.bincount(labels[0], minlength=design.n_classes))
    first, second = (
        torch.from_numpy(np.take_along_axis(_half_weights(design, labels, h), order[:, None], axis=2))
        for h in (halves, 1 - halves)
    )
    cosines, centring = [], _centring(design)
    for gram in grams(acts.emotional.values):
        gram = centring @ gram @ centring.T
        blocks = [
            (gram, order[:, s:e], first[..., s:e], second[..., s:e]) for s, e in zip([0, *ends], ends, strict=False)
        ]
        cosines.append(torch.stack([_class_cosine(*block) for block in blocks], dim=-1))
    with warnings.catch_warnings():  # an emotion whose every split is NaN stays NaN, without numpy's remark
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmean(torch.stack(cosines).numpy(), axis=2)


def _class_cosine(gram: Tensor, rows: np.ndarray, a: Tensor, b: Tensor) -> Float[Tensor, "b s"]:
    block = gram[rows[:, :, None], rows[:, None, :]]
    ga, gb = a @ block, b @ block
    return (ga * b).sum(-1) / ((ga * a).sum(-1) * (gb * b).sum(-1)).clamp_min(torch.finfo(gram.dtype).tiny).sqrt()


def _half_weights(design: Design, labels: np.ndarray, halves: np.ndarray) -> Float[np.ndarray, "b s n"]:
    """Weight of each text in its class's half mean; NaN where the half has no topic of that class."""
    n_topics = halves.shape[1]
    cell = labels * n_topics + design.topic
    count = np.stack([np.bincount(row, minlength=design.n_classes * n_topics) for row in cell])
    present = (count > 0).reshape(len(labels), design.n_classes, n_topics)
    topics_in_half = np.einsum("bkt,st->bsk", present.astype(float), halves)
    topics_in_half[topics_in_half == 0] = np.nan
    rows = np.arange(len(labels))[:, None]
    per_text = halves[:, design.topic] / np.take_along_axis(count, cell, axis=1)[:, None]
    return per_text / topics_in_half.transpose(0, 2, 1)[rows, labels].transpose(0, 2, 1)


def _centring(design: Design) -> Float[Tensor, "n n"]:
    """C such that C @ rows are the rows minus their topic's mean; the identity where topics are nested."""
    n = len(design.topic)
    if design.nested:
        return torch.eye(n, dtype=torch.float64)
    same = torch.from_numpy((design.topic[:, None] == design.topic).astype(float))
    return torch.eye(n, dtype=torch.float64) - same / same.sum(1, keepdim=True)
