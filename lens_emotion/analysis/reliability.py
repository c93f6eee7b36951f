"""Split-half reliability: do two halves of the topics, kept apart, give the same emotion directions?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from lens_emotion.display import Result
from lens_emotion.errors import AnalysisError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.files.user import numbers_fit
from lens_emotion.models.layers import place
from lens_emotion.pictures import Line
from lens_emotion.stats.design import Design, design_of, grams, label_permutations, tied, with_copies
from lens_emotion.stats.intervals import half_width
from lens_emotion.stats.split_half import class_halves, layer_half_cosines, mean_reliability, topic_halves
from lens_emotion.stats.tests import check_permutations, noise_note, null_columns, p_text, permutation_p, spearman_brown


@dataclass(frozen=True, eq=False, repr=False)
class Reliability(Result):
    """Split-half reliability of the centred class means.

    Attributes:
        table: layer, depth, emotion, r (cosine between the halves, mean over splits), reliability
            (Spearman-Brown), low, high (95%, jackknife over topics), p (label permutations; this emotion and layer
            alone), topics and texts (of the emotion).
        by_layer: layer, depth, r (mean over emotions), reliability (Spearman-Brown of that mean), low, high,
            null_low, null_high (95% of the label permutations), p (this layer alone), p_corrected (against the best
            layer of each permutation).
        n_splits: random halvings of the topics.
        n_topics: topics that were halved.
        null: reliability of each label permutation at each layer, mean over emotions.
        copies: as in `decoding`; copies are halved together.
    """

    _picture = Line("layer", "reliability", group="emotion", reference=0.0)

    table: pd.DataFrame
    by_layer: pd.DataFrame
    n_splits: int
    n_topics: int
    null: Float[np.ndarray, "n_permutations n_layers"]
    copies: str = ""

    @property
    def n_permutations(self) -> int:
        return len(self.null)

    def topics_needed(self, target: float = 0.9) -> pd.DataFrame:
        """How many topics, and texts, would make each emotion as reliable as `target`.

        Spearman-Brown prophecy (Spearman 1910, Brown 1910): T topics of reliability rho become
        T * target (1 - rho) / (rho (1 - target)), rounded up; texts at the present number per topic. Infinite where
        the reliability is not above 0 (no number of topics is known to do), NaN where it is NaN.

        Returns:
            layer, depth, emotion, reliability, topics, texts (as they are), topics_needed, texts_needed.

        Raises:
            AnalysisError: a target not between 0 and 1.
        """
        if not 0 < target < 1:
            raise AnalysisError(f"target is {target}; a reliability to reach lies between 0 and 1, like 0.9")
        columns = ["layer", "depth", "emotion", "reliability", "topics", "texts"]
        table = self.table[columns].copy()
        rho = table["reliability"].to_numpy()
        positive = np.where(rho > 0, rho, 1.0)
        times = np.where(rho > 0, target * (1 - rho) / (positive * (1 - target)), np.inf)
        # 1e-9: exactly 30 topics are 30, whatever the rounding
        needed = np.where(np.isnan(rho), np.nan, np.maximum(np.ceil(times * table["topics"].to_numpy() - 1e-9), 1))
        per_topic = (table["texts"] / table["topics"]).to_numpy()
        return table.assign(topics_needed=needed, texts_needed=np.ceil(needed * per_topic - 1e-9))

    def summary(self) -> str:
        """One sentence on the most reliable layer and the middle one."""
        n, values = len(self.by_layer), self.by_layer["reliability"].fillna(-np.inf).to_numpy()
        best, middle = self.by_layer.iloc[int(values.argmax())], self.by_layer.iloc[n // 2]

        return (
            f"Split-half reliability over {self.n_topics} topics is {best.reliability:.2f} "
            f"({best.low:.2f} to {best.high:.2f}) at {place(int(values.argmax()), n, best=True)} and "
            f"{middle.reliability:.2f} at {place(n // 2, n)} (mean over emotions, Spearman-Brown; 0 is noise, 1 is no "
            f"noise; label-permutation null at the best {best.null_low:.2f} to {best.null_high:.2f}, "
            f"{p_text(best.p_corrected)} corrected over layers)"
            f"{noise_note(best.p_corrected, tied=tied(self.copies), draws=self.n_permutations)}."
            f"{with_copies(self.copies)}"
        )


@numbers_fit(AnalysisError)
def reliability(acts: PooledActivations, n_splits: int = 20, seed: int = 0, n_permutations: int = 200) -> Reliability:
    """Cosine between the centred class means of two random halves of the topics, per emotion and layer.

    Class means weigh the topics of a half equally. Every text is first centred on the mean of its topic,
    which in a crossed design equals centring the class means of each half on their mean over emotions, and
    takes the topics' own effect out of an incomplete one; where each topic has a single emotion, on the mean
    of all texts. The mean over splits is stepped up by Spearman-Brown to the full number of topics: it estimates
    signal / (signal + noise / topics), variances of the centred class means. Noise gives about 0. The interval leaves
    out one topic at a time, on the scale of arctanh(r).

    Args:
        acts: pooled activations of labelled texts.
        n_splits: random halves of the topics.
        seed: of whatever is drawn at random.
        n_permutations: permutations behind the null; p is at least 1 / (n + 1).

    Raises:
        StimulusError: fewer than 2 emotions or topics, or an emotion with texts of one topic only.
        AnalysisError: n_splits or n_permutations below 1.

    Example:
        >>> result = le.reliability(acts, n_splits=5, n_permutations=20)
        >>> list(result.table)[:4]
        ['layer', 'depth', 'emotion', 'r']
    """
    check_permutations(n_permutations)
    design = design_of(acts)
    splits = topic_halves(design.n_blocks, n_splits, seed)
    labels = np.concatenate([design.label[None], label_permutations(design, n_permutations, seed)])
    without = 1.0 - (design.block == np.arange(design.n_blocks)[:, None])
    same = np.broadcast_to(design.label, without.shape)
    halves, reduced = class_halves(design, labels, splits), class_halves(design, same, splits, without)
    r, left = [], []
    for gram in grams(acts.emotional.values):
        r.append(layer_half_cosines(gram, design, halves))
        left.append(layer_half_cosines(gram, design, reduced))
    cosines, without_one = np.stack(r, axis=1), np.stack(left, axis=1)
    value, null = mean_reliability(cosines[0]), mean_reliability(cosines[1:])
    mean = np.nanmean(cosines[0], axis=-1)
    low, high = _interval(mean, np.nanmean(without_one, axis=-1))
    columns = {"layer": np.arange(acts.n_layers), "depth": acts.depth, "r": mean, "reliability": value}
    by_layer = pd.DataFrame({**columns, "low": low, "high": high, **null_columns(value, null)})
    return Reliability(
        _table(acts, design, cosines, without_one), by_layer, n_splits, len(design.topics), null, design.copies
    )


def _table(acts: PooledActivations, design: Design, r: np.ndarray, left: np.ndarray) -> pd.DataFrame:
    k, n_layers = design.n_classes, acts.n_layers
    low, high = _interval(r[0], left)
    n_texts = np.bincount(design.label, minlength=k)
    n_topics = np.array([len(set(design.topic[design.label == c])) for c in range(k)])
    return pd.DataFrame(
        {
            "layer": np.repeat(np.arange(n_layers), k),
            "depth": np.repeat(acts.depth, k),
            "emotion": np.tile(np.array(design.emotions), n_layers),
            "r": r[0].ravel(),
            "reliability": spearman_brown(r[0]).ravel(),
            "low": low.ravel(),
            "high": high.ravel(),
            "p": permutation_p(r[0], r[1:]).ravel(),
            "topics": np.tile(n_topics, n_layers),
            "texts": np.tile(n_texts, n_layers),
        }
    )


def _interval(
    r: Float[np.ndarray, "*shape"], left: Float[np.ndarray, "t *shape"]
) -> tuple[Float[np.ndarray, "*shape"], Float[np.ndarray, "*shape"]]:
    near = 1 - 1e-12
    z, replicates = (np.arctanh(np.clip(x, -near, near)) for x in (r, left))
    half = half_width(replicates)
    return spearman_brown(np.tanh(z - half)), spearman_brown(np.tanh(z + half))
