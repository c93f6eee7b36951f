"""Area under the ROC curve of one emotion against the rest, with an interval over topics."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from lens_emotion.analysis.design import Design
from lens_emotion.analysis.jackknife import half_width


def auc_table(
    scores: Float[np.ndarray, "n_layers n_texts k"], design: Design, depth: Float[np.ndarray, " n_layers"]
) -> pd.DataFrame:
    """layer, depth, emotion, auc, auc_low, auc_high: how well a class's held-out score ranks its texts first."""
    values = [auc(layer[:, k], design.label == k, design.topic) for layer in scores for k in range(design.n_classes)]
    found, low, high = np.array(values).T
    n_layers = len(depth)
    return pd.DataFrame(
        {
            "layer": np.repeat(np.arange(n_layers), design.n_classes),
            "depth": np.repeat(depth, design.n_classes),
            "emotion": np.tile(np.array(design.emotions), n_layers),
            "auc": found,
            "auc_low": low,
            "auc_high": high,
        }
    )


def auc(
    score: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"], topic: Int[np.ndarray, " n"]
) -> tuple[float, float, float]:
    """Share of (positive, negative) pairs in which the positive scores higher, ties counting half; its 95% interval.

    The interval is a jackknife over topics (t on topics - 1), the scores taken as given: that a left-out topic would
    also have moved the centroids of the others is not in it. Clipped to 0..1; NaN if leaving out a topic leaves no
    pair.
    """
    wins, pairs = _by_topic(score, positive, topic)
    value = wins.sum() / pairs.sum()
    left = [x.sum() - x.sum(0) - x.sum(1) + x.diagonal() for x in (wins, pairs)]
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = half_width(left[0] / left[1])
    return float(value), float(max(0.0, value - spread)), float(min(1.0, value + spread))


def _by_topic(score: np.ndarray, positive: np.ndarray, topic: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs won, and all pairs, by the topic of the positive and that of the negative."""
    n = int(topic.max()) + 1
    high, low = score[positive][:, None], score[~positive]
    won = (high > low) + 0.5 * (high == low)
    cell = topic[positive][:, None] * n + topic[~positive]
    wins = np.bincount(cell.ravel(), won.ravel(), n * n).reshape(n, n)
    return wins, np.bincount(cell.ravel(), minlength=n * n).reshape(n, n)
