"""Held-out decoding: can the emotion of a text on an unseen topic be read off the states, layer by layer?

Two decoders answer, since each is blind where the other sees: a cosine of centred states follows the few dimensions
that are a thousand times larger than all others (massive activations; Sun et al. 2024), and one that has every
dimension at SD 1 listens to the small ones as much.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lens_emotion.display import Result
from lens_emotion.errors import AnalysisError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.files.user import numbers_fit
from lens_emotion.models.layers import place
from lens_emotion.pictures import Line
from lens_emotion.stats.design import Design, design_of, grams, label_permutations, tied, with_copies
from lens_emotion.stats.gram import (
    Labellings,
    accuracies,
    fold_gram,
    fold_standardised,
    labellings,
    observed_scores,
    over_blocks,
)
from lens_emotion.stats.intervals import half_width
from lens_emotion.stats.tests import ALPHA, check_permutations, noise_note, null_columns, p_text, wilson_interval
from lens_emotion.stimuli.emotions import NEUTRAL

DECODERS = CENTRED, STANDARDISED = "centred cosine", "standardised"


@dataclass(frozen=True, eq=False, repr=False)
class Decoding(Result):
    """Held-out decoding of every layer: by the centred cosine and, in `standardised`, with every dimension at SD 1.

    Attributes:
        table: layer, depth, accuracy, macro_f1, chance (1/n_emotions), null_mean, null_low, null_high (95% of
            the label permutations), p (this layer alone), p_corrected (against the best layer of each
            permutation); then accuracy, null_low, null_high, p and p_corrected of the standardised decoder, as
            accuracy_standardised and so on.
        auc: layer, depth, emotion, auc (one against the rest, from the held-out cosines; chance 0.5), auc_low,
            auc_high (95%, jackknife over topics).
        emotions: names of the classes.
        label: true class of each text.
        predicted: class each held-out text was given, per layer.
        topic: topic of each text; fold: its fold.
        null: accuracy of each label permutation at each layer.
        copies: which texts are copies of others, and how they were kept in one fold; empty if none is.
        decoder: "centred cosine", or "standardised".
        standardised: the same by the other decoder, under the same permutations; None in that one itself.
    """

    _picture = Line("layer", "accuracy", "null_low", "null_high", reference="chance")

    table: pd.DataFrame
    auc: pd.DataFrame
    emotions: tuple[str, ...]
    label: Int[np.ndarray, " n_texts"]
    predicted: Int[np.ndarray, "n_layers n_texts"]
    topic: np.ndarray
    fold: Int[np.ndarray, " n_texts"]
    null: Float[np.ndarray, "n_permutations n_layers"]
    copies: str = ""
    decoder: str = CENTRED
    standardised: Decoding | None = None

    @property
    def tied(self) -> bool:
        """True if copies leave nothing to test: neither a high accuracy nor a high p means anything then."""
        return tied(self.copies)

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
        counts = confusion_counts(self.label, self.predicted[self.best_layer], len(self.emotions))
        names = list(self.emotions)
        return pd.DataFrame(counts, pd.Index(names, name="true"), pd.Index(names, name="predicted"))

    @property
    def by_emotion(self) -> pd.DataFrame:
        """Per emotion at the best layer: n (texts), recall with its 95% Wilson interval, precision, f1, auc, auc_low,
        auc_high, chance (of recall: 1/n_emotions). Precision is NaN where no text was given the emotion.

        The layer is chosen for its accuracy, so all of these are biased upwards a little.
        """
        counts = self.confusion.to_numpy()
        hits, n, given = counts.diagonal(), counts.sum(1), counts.sum(0)
        low, high = np.array([wilson_interval(int(h), int(m)) for h, m in zip(hits, n, strict=True)]).T
        auc = self.auc[self.auc["layer"] == self.best_layer]
        return pd.DataFrame(
            {
                "emotion": list(self.emotions),
                "n": n,
                "recall": hits / n,
                "recall_low": low,
                "recall_high": high,
                "precision": np.where(given > 0, hits / np.maximum(given, 1), np.nan),
                "f1": f1_scores(counts),
                **{c: auc[c].to_numpy() for c in ("auc", "auc_low", "auc_high")},
                "chance": 1 / len(self.emotions),
            }
        )

    def above_chance(self, layer: int | None = None) -> bool:
        """True if this decoder lies above its null (p <= 0.05): at a layer chosen beforehand, or at the best of all."""
        column, at = ("p_corrected", self.best_layer) if layer is None else ("p", layer)
        return not self.tied and float(self.table[column].iloc[at]) <= ALPHA

    def hangs(self, layer: int | None = None) -> str:
        """What each decoder says, where one finds emotion and the other does not; empty where they agree."""
        if self.standardised is None or self.above_chance(layer) == self.standardised.above_chance(layer):
            return ""
        found = {d.decoder: "above chance" if d.above_chance(layer) else "not" for d in (self, self.standardised)}
        return f"undetermined: it hangs on the decoder ({'; '.join(f'{k}: {v}' for k, v in found.items())})"

    def summary(self) -> str:
        """One sentence on the best layer of each decoder."""
        row, other = self.table.iloc[self.best_layer], self.standardised
        beside = ""
        if other is not None:
            at = other.table.iloc[other.best_layer]
            where = "" if other.best_layer == self.best_layer else f" at {place(other.best_layer, len(self.table))}"
            beside = f"; standardised per dimension {at.accuracy:.2f}{where}, {p_text(at.p_corrected)} corrected"
        hangs = self.hangs()
        note = f": {hangs}" if hangs else noise_note(row.p_corrected, tied=self.tied, draws=self.n_permutations)
        return (
            f"Held-out {len(self.emotions)}-way decoding at "
            f"{place(self.best_layer, len(self.table), best=True)}: accuracy {row.accuracy:.2f} (chance "
            f"{row.chance:.2f}, null {row.null_low:.2f} to {row.null_high:.2f}, {p_text(row.p_corrected)} "
            f"corrected over layers{beside}; {self.n_texts} texts, {self.n_topics} topics)"
            f"{note}.{with_copies(self.copies)}"
        )


@numbers_fit(AnalysisError)
def decoding(acts: PooledActivations, n_permutations: int = 200, seed: int = 0) -> Decoding:
    """Nearest centroid by cosine at every layer, tested on topics that the centroids have not seen.

    Each fold holds out one topic (one of 12 groups of topics if there are more). The mean of the TRAINING
    texts is subtracted from all; a held-out text gets the class whose training centroid has the largest
    cosine with it. The second decoder also divides every dimension by its SD over the training texts (one that is
    constant there is left out). Neutral texts are left out. Texts that are the same as another, or nearly so
    (`stimuli.copies`), share its fold. The null shuffles labels within topics (`label_permutations`) and repeats
    everything; one shuffle serves both decoders (labels play no part in the scale) and all layers, so `p_corrected`
    accounts for the best layer's accuracy being a maximum over layers.

    Args:
        acts: pooled activations of labelled texts.
        n_permutations: permutations behind the null; p is at least 1 / (n + 1).
        seed: of whatever is drawn at random.

    Raises:
        StimulusError: fewer than 2 emotions or topics, or an emotion with texts of one topic only.
        AnalysisError: n_permutations below 1.

    Example:
        >>> result = le.decoding(acts, n_permutations=20)
        >>> bool(result.table.accuracy.max() > result.table.chance.max())
        True
    """
    design, blocks = permuted(acts, n_permutations, seed)
    found = Found(design, blocks)
    values = acts.emotional.values.detach().cpu()
    for gram, rows in zip(grams(values), values.unbind(1), strict=True):
        found.add(gram, rows)
    return found.decoding(acts)


class Found:
    """What both decoders found, layer by layer: held-out scores of the true labels, accuracies of all labellings."""

    def __init__(self, design: Design, blocks: list[Labellings]) -> None:
        self.design, self.blocks = design, blocks
        self.scores: dict[str, list[np.ndarray]] = {CENTRED: [], STANDARDISED: []}
        self.accuracy: dict[str, list[np.ndarray]] = {CENTRED: [], STANDARDISED: []}

    def add(self, gram: Float[Tensor, "n n"], rows: Float[Tensor, "n d_model"]) -> None:
        """The next layer: inner products of the texts, any common vector subtracted, and the texts themselves."""
        for decoder in self.scores:
            folded = fold_gram(self.design, gram) if decoder == CENTRED else fold_standardised(self.design, rows)
            self.scores[decoder].append(observed_scores(folded))
            self.accuracy[decoder].append(over_blocks(partial(accuracies, folded), self.blocks))

    def decoding(self, acts: PooledActivations) -> Decoding:
        """The result, of all layers."""
        one, other = (
            decoded(acts, self.design, np.stack(self.scores[name]), np.stack(self.accuracy[name], axis=1), name)
            for name in (CENTRED, STANDARDISED)
        )
        return replace(one, table=beside(one.table, other.table, "accuracy"), standardised=other)


def beside(table: pd.DataFrame, other: pd.DataFrame, value: str) -> pd.DataFrame:
    """The table, with the value of the standardised decoder and what belongs to it under names of their own."""
    columns = (value, "null_low", "null_high", "p", "p_corrected")
    return table.assign(**{f"{c}_standardised": other[c] for c in columns})


def permuted(acts: PooledActivations, n_permutations: int, seed: int) -> tuple[Design, list[Labellings]]:
    """The design, and the labels as they are followed by their permutations, in blocks.

    Raises:
        AnalysisError: n_permutations below 1.
    """
    check_permutations(n_permutations)
    design = design_of(acts)
    labels = np.concatenate([design.label[None], label_permutations(design, n_permutations, seed)])
    return design, labellings(design, labels)


def decoded(
    acts: PooledActivations,
    design: Design,
    scores: Float[np.ndarray, "n_layers n_texts k"],
    accuracy: Float[np.ndarray, "b n_layers"],
    decoder: str = CENTRED,
) -> Decoding:
    """The result, from the held-out scores of the true labels and the accuracies of true and permuted labels."""
    predicted, k = scores.argmax(2), design.n_classes
    table = {
        "layer": np.arange(acts.n_layers),
        "depth": acts.depth,
        "accuracy": accuracy[0],
        "macro_f1": [float(f1_scores(confusion_counts(design.label, p, k)).mean()) for p in predicted],
        "chance": 1 / k,
        "null_mean": accuracy[1:].mean(axis=0),
        **null_columns(accuracy[0], accuracy[1:]),
    }
    return Decoding(
        table=pd.DataFrame(table),
        auc=auc_table(scores, design, acts.depth),
        emotions=design.emotions,
        label=design.label,
        predicted=predicted,
        topic=acts.topic[acts.emotion != NEUTRAL],
        fold=design.fold,
        null=accuracy[1:],
        copies=design.copies,
        decoder=decoder,
    )


def confusion_counts(true: np.ndarray, predicted: np.ndarray, n_classes: int) -> Int[np.ndarray, "k k"]:
    """Rows true, columns predicted."""
    return np.bincount(true * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)


def f1_scores(confusion: Int[np.ndarray, "k k"]) -> Float[np.ndarray, " k"]:
    """F1 of each class; 0 for one that is neither there nor predicted."""
    hits, seen, given = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    return 2 * hits / np.maximum(seen + given, 1)


# Area under the ROC curve of one emotion against the rest, with an interval over topics.


def auc_table(
    scores: Float[np.ndarray, "n_layers n_texts k"], design: Design, depth: Float[np.ndarray, " n_layers"]
) -> pd.DataFrame:
    """layer, depth, emotion, auc, auc_low, auc_high: how well a class's held-out score ranks its texts first."""
    k, n_layers = design.n_classes, len(depth)
    found = [_ranked(layer[:, c], design.label == c, design.block) for layer in scores for c in range(k)]
    where = {
        "layer": np.repeat(np.arange(n_layers), k),
        "depth": np.repeat(depth, k),
        "emotion": np.tile(np.array(design.emotions), n_layers),
    }
    values = _with_interval(*(np.array(x) for x in zip(*found, strict=True)))
    return pd.DataFrame({**where, **dict(zip(("auc", "auc_low", "auc_high"), values, strict=True))})


def auc(
    score: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"], topic: Int[np.ndarray, " n"]
) -> tuple[float, float, float]:
    """Share of (positive, negative) pairs in which the positive scores higher, ties counting half; its 95% interval.

    The interval is a jackknife over topics (t on topics - 1), the scores taken as given: that a left-out topic would
    also have moved the centroids of the others is not in it. Clipped to 0..1; NaN if leaving out a topic leaves no
    pair.
    """
    value, left = _ranked(score, positive, topic)
    found = _with_interval(np.array([value]), left[None])
    return float(found[0][0]), float(found[1][0]), float(found[2][0])


def _ranked(score: np.ndarray, positive: np.ndarray, topic: np.ndarray) -> tuple[float, Float[np.ndarray, " g"]]:
    """The area, and what it is without each topic."""
    n = int(topic.max()) + 1
    high, low = score[positive][:, None], score[~positive]
    won = (high > low) + 0.5 * (high == low)
    # pairs won, and all pairs, by the topic of the positive and that of the negative
    cell = (topic[positive][:, None] * n + topic[~positive]).ravel()
    wins, pairs = (np.bincount(cell, w, n * n).reshape(n, n) for w in (won.ravel(), None))
    left = [x.sum() - x.sum(0) - x.sum(1) + x.diagonal() for x in (wins, pairs)]
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(wins.sum() / pairs.sum()), left[0] / left[1]


def _with_interval(
    value: Float[np.ndarray, " m"], left: Float[np.ndarray, "m g"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with np.errstate(invalid="ignore"):
        spread = half_width(left.T)
    # as max(0, NaN) is 0 in Python: no interval is the widest
    return value, np.fmax(0.0, value - spread), np.fmin(1.0, value + spread)
