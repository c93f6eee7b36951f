"""Held-out decoding: can the emotion of a text on an unseen topic be read off the states, layer by layer?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lens_emotion.analysis.design import Design, design_of, grams, label_permutations
from lens_emotion.analysis.results import ALPHA, NOISE, check_permutations, p_text, place, result_html
from lens_emotion.analysis.stats import max_corrected_p, percentile_band, permutation_p
from lens_emotion.extraction.activations import PooledActivations

CELLS = 4_000_000  # texts x permutations x classes held at once: bounds the memory to some 100 MB


@dataclass(frozen=True, eq=False)
class Decoding:
    """Held-out decoding of every layer.

    Attributes:
        table: layer, depth, accuracy, macro_f1, chance (1/n_emotions), null_mean, null_low, null_high (95% of
            the label permutations), p (this layer alone), p_corrected (against the best layer of each
            permutation).
        emotions: names of the classes.
        label: true class of each text.
        predicted: class each held-out text was given, per layer.
        topic: topic of each text; fold: its fold.
        null: accuracy of each label permutation at each layer.
    """

    table: pd.DataFrame
    emotions: tuple[str, ...]
    label: Int[np.ndarray, " n_texts"]
    predicted: Int[np.ndarray, "n_layers n_texts"]
    topic: np.ndarray
    fold: Int[np.ndarray, " n_texts"]
    null: Float[np.ndarray, "n_permutations n_layers"]

    @property
    def n_texts(self) -> int:
        return len(self.label)

    @property
    def n_topics(self) -> int:
        return len(set(self.topic))

    @property
    def n_permutations(self) -> int:
        return len(self.null)

    @property
    def correct(self) -> Bool[np.ndarray, "n_layers n_texts"]:
        return self.predicted == self.label

    @cached_property
    def best_layer(self) -> int:
        """Layer of the highest accuracy (the earliest of equals). A chosen layer: see p_corrected."""
        return int(self.table["accuracy"].argmax())

    @property
    def best_accuracy(self) -> float:
        """Accuracy at the best layer: a maximum over layers, so biased upwards."""
        return float(self.table["accuracy"].max())

    @property
    def confusion(self) -> pd.DataFrame:
        """Counts at the best layer; rows true, columns predicted."""
        counts = _confusion(self.label, self.predicted[self.best_layer], len(self.emotions))
        names = list(self.emotions)
        return pd.DataFrame(counts, pd.Index(names, name="true"), pd.Index(names, name="predicted"))

    def summary(self) -> str:
        """One sentence on the best layer."""
        row = self.table.iloc[self.best_layer]
        verdict = "" if row.p_corrected <= ALPHA else f": {NOISE}"
        return (
            f"Held-out {len(self.emotions)}-way decoding at "
            f"{place(self.best_layer, len(self.table), best=True)}: accuracy {row.accuracy:.2f} (chance "
            f"{row.chance:.2f}, null {row.null_low:.2f} to {row.null_high:.2f}, {p_text(row.p_corrected)} "
            f"corrected over layers; {self.n_texts} texts, {self.n_topics} topics){verdict}."
        )

    def _repr_html_(self) -> str:
        return result_html(self)


def decoding(acts: PooledActivations, n_permutations: int = 200, seed: int = 0) -> Decoding:
    """Nearest centroid on centred cosine at every layer, tested on topics that the centroids have not seen.

    Each fold holds out one topic (one of 12 groups of topics if there are more). The mean of the TRAINING
    texts is subtracted from all; a held-out text gets the class whose training centroid has the largest
    cosine with it. Neutral texts are left out. Exact copies share a topic, hence a fold. The null shuffles
    labels within topics (`label_permutations`) and repeats everything; one shuffle serves all layers, so
    `p_corrected` accounts for the best layer's accuracy being a maximum over layers.

    Raises:
        StimulusError: fewer than 2 emotions or topics, or an emotion with texts of one topic only.
        AnalysisError: n_permutations below 1.
    """
    check_permutations(n_permutations)
    design = design_of(acts)
    labels = np.concatenate([design.label[None], label_permutations(design, n_permutations, seed)])
    texts = acts.emotional
    predicted, accuracy = [], []
    for gram in grams(texts.values):
        guesses = [predict(gram, block, design.fold, design.n_classes) for block in _blocks(labels, design)]
        guess = np.concatenate(guesses)
        predicted.append(guess[0])
        accuracy.append((guess == labels).mean(axis=1))
    scores = np.stack(accuracy, axis=1)
    return Decoding(
        table=_table(acts, design, np.stack(predicted), scores),
        emotions=design.emotions,
        label=design.label,
        predicted=np.stack(predicted),
        topic=texts.topic,
        fold=design.fold,
        null=scores[1:],
    )


def _blocks(labels: np.ndarray, design: Design) -> list[np.ndarray]:
    per_block = max(1, CELLS // (labels.shape[1] * design.n_classes))
    return [labels[i : i + per_block] for i in range(0, len(labels), per_block)]


def predict(
    gram: Float[Tensor, "n n"], labels: Int[np.ndarray, "b n"], fold: Int[np.ndarray, " n"], n_classes: int
) -> Int[np.ndarray, "b n"]:
    """Held-out nearest-centroid predictions for b labellings of the same texts, from inner products alone.

    A centroid is a weighted sum of texts, so its inner products and its norm are linear and quadratic forms
    in the Gram matrix. The forms of all texts are made once; each fold subtracts the part of its own held-out
    texts.
    """
    member = torch.nn.functional.one_hot(torch.from_numpy(labels.T.copy()), n_classes).to(gram.dtype)
    dots = torch.einsum("ij,jbk->ibk", gram, member)
    quads = member * dots
    totals = member.sum(0), quads.sum(0)
    guess = np.empty_like(labels)
    for f in np.unique(fold):
        held, train = (torch.from_numpy(np.flatnonzero(x)) for x in (fold == f, fold != f))
        scores = _fold_scores(gram, member, dots, quads, totals, held, train)
        guess[:, held.numpy()] = scores.argmax(-1).T.numpy()
    return guess


def _fold_scores(
    gram: Tensor,
    member: Tensor,
    dots: Tensor,
    quads: Tensor,
    totals: tuple[Tensor, Tensor],
    held: Tensor,
    train: Tensor,
) -> Float[Tensor, "held b k"]:
    """Cosines of held-out texts with training centroids, text lengths left out (argmax ignores them)."""
    inside = member[held]
    within = torch.einsum("ij,jbk->ibk", gram[held][:, held], inside)
    count = totals[0] - inside.sum(0)
    square = totals[1] - 2 * quads[held].sum(0) + (inside * within).sum(0)
    # x . m and m . m, with m the mean of the training texts: all that centring needs
    with_mean = gram[:, train].mean(1)
    mean_mean = with_mean[train].mean()
    per_text = 1 / count.clamp_min(1)
    offset = torch.einsum("i,ibk->bk", with_mean[train], member[train]) * per_text
    norm = (square * per_text**2 - 2 * offset + mean_mean).clamp_min(torch.finfo(gram.dtype).tiny).sqrt()
    product = (dots[held] - within) * per_text - offset - with_mean[held][:, None, None] + mean_mean
    return torch.where(count > 0, product / norm, -torch.inf)


def _table(acts: PooledActivations, design: Design, predicted: np.ndarray, scores: np.ndarray) -> pd.DataFrame:
    low, high = percentile_band(scores[1:])
    return pd.DataFrame(
        {
            "layer": np.arange(acts.n_layers),
            "depth": acts.depth,
            "accuracy": scores[0],
            "macro_f1": [_macro_f1(_confusion(design.label, p, design.n_classes)) for p in predicted],
            "chance": 1 / design.n_classes,
            "null_mean": scores[1:].mean(axis=0),
            "null_low": low,
            "null_high": high,
            "p": permutation_p(scores[0], scores[1:]),
            "p_corrected": max_corrected_p(scores[0], scores[1:]),
        }
    )


def _confusion(true: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    return np.bincount(true * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)


def _macro_f1(confusion: np.ndarray) -> float:
    hits, seen, given = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    return float(np.mean(2 * hits / np.maximum(seen + given, 1)))
