"""Two methods on the same topics and emotions: paired contributions, sign flips, and intervals over them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float

from lens_emotion.analysis.decoding import Decoding
from lens_emotion.analysis.jackknife import half_width
from lens_emotion.analysis.separation import mean_pairwise_cosine
from lens_emotion.analysis.stats import max_corrected_p, permutation_p
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.vectors.recipes import codes

BLOCK = 2_000_000  # numbers of null draws held at once


@dataclass(frozen=True, eq=False)
class Contributions:
    """What every paired unit, and every text that is not paired, contributes to a difference between two methods.

    Attributes:
        a, b: the value of either method at each layer.
        units: contribution of each paired unit (a topic, an emotion); their mean is the estimate of a - b.
        others: influence of the unpaired samples (neutral texts of a, of b), each of mean 0.
        unit: "topics" or "emotions".
    """

    a: Float[np.ndarray, " n_layers"]
    b: Float[np.ndarray, " n_layers"]
    units: Float[np.ndarray, "n_units n_layers"]
    others: tuple[Float[np.ndarray, "_ n_layers"], ...]
    unit: str

    @property
    def difference(self) -> Float[np.ndarray, " n_layers"]:
        return self.a - self.b

    @property
    def estimate(self) -> Float[np.ndarray, " n_layers"]:
        """The difference, for cosines less the bias that noise brings (it lowers them): what intervals and p are of."""
        return self.units.mean(0)

    @property
    def over_layers(self) -> Contributions:
        """The same of the mean over layers, as a single layer."""
        a, b, units, *others = (x.mean(-1, keepdims=True) for x in (self.a, self.b, self.units, *self.others))
        return Contributions(a, b, units, tuple(others), self.unit)

    def half_width(self) -> Float[np.ndarray, " n_layers"]:
        """Half of the 95% interval of the estimate: t on the units, the variances of the unpaired samples added."""
        parts = [self.units, *self.others]
        ends = np.cumsum([0, *map(len, parts)])
        strata = [np.arange(start, end) for start, end in pairwise(ends)]
        return half_width(np.concatenate([-x / (len(x) - 1) for x in parts]), strata)

    def p(
        self, n_permutations: int, seed: int
    ) -> tuple[Float[np.ndarray, " n_layers"], Float[np.ndarray, " n_layers"]]:
        """Two-sided p at each layer, and for the best of the layers.

        The label of the method is swapped within units at random (their sign flips; one swap serves all layers). A
        sample that is not paired cannot be swapped, but it varies as well: its influences, with random signs, widen
        the null. Left out, they make one difference in five significant where there is none (8 topics, 8 neutral
        texts).
        """
        rng = np.random.default_rng(seed)
        null = np.zeros((n_permutations, self.units.shape[1]))
        for part in (self.units, *self.others):
            for rows in np.array_split(np.arange(n_permutations), 1 + n_permutations * len(part) // BLOCK):
                null[rows] += rng.choice([-1.0, 1.0], (len(rows), len(part))) @ part / len(part)
        alone = permutation_p(np.abs(self.estimate), np.abs(null))
        return alone, max_corrected_p(self.estimate, null, "two-sided", standardise=True)


def decoding_contributions(a: Decoding, b: Decoding, unit: str) -> Contributions:
    """Held-out accuracy on the units: topics (over the emotions that a topic has in both) or emotions (recall).

    The centroids are taken as given: a unit's contribution is what its own held-out texts say. On planted data with no
    difference this keeps its level; retraining without the unit (a jackknife) does not, accuracy not being smooth.
    """
    cells = [_cell_accuracy(x, unit) for x in (a, b)]
    both = [cells[0][key].keys() & cells[1][key].keys() for key in cells[0]]
    rows = [
        np.array([np.mean([x[key][i] for i in sorted(inner)], axis=0) for key, inner in zip(x, both, strict=True)])
        for x in cells
    ]
    return Contributions(rows[0].mean(0), rows[1].mean(0), rows[0] - rows[1], (), unit)


def _cell_accuracy(decoded: Decoding, unit: str) -> dict[str, dict[str, Float[np.ndarray, " n_layers"]]]:
    """Accuracy of each topic's emotions, or of each emotion as a whole, sorted by name."""
    emotion = np.array(decoded.emotions)[decoded.label]
    outer, inner = (decoded.topic, emotion) if unit == "topics" else (emotion, np.full(len(emotion), "all"))
    return {
        str(o): {str(i): decoded.correct[:, (outer == o) & (inner == i)].mean(1) for i in set(inner[outer == o])}
        for o in sorted(set(outer))
    }


def paired_accuracies(a: Decoding, b: Decoding, unit: str) -> pd.DataFrame:
    """Held-out accuracy of every topic or emotion that both decoded, mean over layers: unit, name, a, b, difference."""
    x, y = (_cell_accuracy(d, unit) for d in (a, b))
    rows = []
    for name in x:
        inner = sorted(x[name].keys() & y[name].keys())
        values = [float(np.mean([side[name][i] for i in inner])) for side in (x, y)]
        rows.append({"unit": unit, "name": name, "a": values[0], "b": values[1], "difference": values[0] - values[1]})
    return pd.DataFrame(rows)


def cosine_contributions(a: PooledActivations, b: PooledActivations, unit: str) -> Contributions:
    """Mean pairwise cosine of the vectors by the "neutral" recipe, split into jackknife pseudo-values of the units.

    Sources: Tukey 1958 (n times the whole less n - 1 times the rest). Needs neutral texts in both sets.
    """
    whole, units, plain = zip(*(_cosine_parts(x, unit) for x in (a, b)), strict=True)
    n = len(units[0])
    pseudo = n * (whole[0] - whole[1]) - (n - 1) * (units[0] - units[1])
    others = tuple((len(x) - 1) * (x.mean(0) - x) * sign for x, sign in zip(plain, (1, -1), strict=True))
    return Contributions(whole[0], whole[1], pseudo, others, unit)


def mean_cosines(acts: PooledActivations) -> Float[np.ndarray, " n_layers"]:
    """Mean pairwise cosine of the emotion vectors by the "neutral" recipe at every layer (J)."""
    return _cosine_parts(acts, "emotions", leave_out=False)[0]


def _cosine_parts(
    acts: PooledActivations, unit: str, leave_out: bool = True
) -> tuple[Float[np.ndarray, " n_layers"], Float[np.ndarray, "n n_layers"], Float[np.ndarray, "m n_layers"]]:
    """The mean cosine; without each unit (sorted by name); without each neutral text."""
    texts = acts.emotional
    emotions, topics = tuple(sorted(texts.emotions)), tuple(sorted(texts.topics))
    cell = codes(texts.emotion, emotions) * len(topics) + codes(texts.topic, topics)
    count = np.bincount(cell, minlength=len(emotions) * len(topics))
    average = torch.from_numpy((cell == np.arange(len(count))[:, None]) / np.maximum(count, 1)[:, None])
    present = (count > 0).reshape(len(emotions), len(topics))
    whole, units, plain = [], [], []
    for layer in range(acts.n_layers):
        rows, neutral = (x.values[:, layer].cpu().double() for x in (texts, acts.neutral))
        means = (average @ rows).reshape(*present.shape, -1)
        origin = neutral.mean(0)
        vectors = _over_topics(means, present) - origin
        whole.append(mean_pairwise_cosine(vectors))
        if leave_out:
            units.append(_without_each(means, present, vectors, origin, unit))
            shifts = (neutral - origin) / (len(neutral) - 1)
            plain.append(torch.stack([mean_pairwise_cosine(vectors + shift) for shift in shifts]))
    stacked = [torch.stack(x, dim=-1).numpy() if x else np.zeros((0, acts.n_layers)) for x in (whole, units, plain)]
    return stacked[0], stacked[1], stacked[2]


def _over_topics(means: torch.Tensor, present: Bool[np.ndarray, "k t"]) -> torch.Tensor:
    return means.sum(1) / torch.from_numpy(present.sum(1, keepdims=True))


def _without_each(
    means: torch.Tensor, present: np.ndarray, vectors: torch.Tensor, origin: torch.Tensor, unit: str
) -> torch.Tensor:
    k, n_topics = present.shape
    if unit == "topics":
        kept = [np.delete(np.arange(n_topics), t) for t in range(n_topics)]
        return torch.stack([mean_pairwise_cosine(_over_topics(means[:, t], present[:, t]) - origin) for t in kept])
    return torch.stack([mean_pairwise_cosine(vectors[np.delete(np.arange(k), e)]) for e in range(k)])


def emotion_contributions(a: Float[np.ndarray, "k n_layers"], b: Float[np.ndarray, "k n_layers"]) -> Contributions:
    """Of a measure that each emotion has by itself (reliability); emotions without it in either set left out."""
    known = np.isfinite(a).all(1) & np.isfinite(b).all(1)
    a, b = a[known], b[known]
    return Contributions(a.mean(0), b.mean(0), a - b, (), "emotions")
