"""Transfer: do emotion directions learned on some texts (stories) name the emotion of others (passages)?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from lens_emotion.analysis.auc import auc_table
from lens_emotion.analysis.design import Design, design_of, label_permutations
from lens_emotion.analysis.results import ALPHA, NOISE, check_permutations, p_text, place, result_html
from lens_emotion.analysis.stats import bootstrap_over_groups, max_corrected_p, percentile_band, permutation_p
from lens_emotion.errors import FingerprintError, StimulusError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.vectors.emotion_vectors import unit
from lens_emotion.vectors.recipes import check_finite, codes

CENTRINGS = ("train mean", "own mean")
Rows = Int[np.ndarray, " _"]


@dataclass(frozen=True, eq=False)
class Transfer:
    """Accuracy on one set of texts of centroids learned on another.

    Attributes:
        table: centring, layer, depth, accuracy, low, high (95% bootstrap over the topics of the test texts), chance
            (1/n_emotions), null_mean, null_low, null_high (95% of the permutations of the test labels), p (this layer
            alone), p_corrected (best of the layers, within a centring).
        auc: centring, layer, depth, emotion, auc, auc_low, auc_high (see `decoding`).
        emotions: the shared emotions, which alone were used; left_out: those that only one of the sets holds.
        shared_topics: topics that both sets hold, and whether their texts were kept from training is `excluded`.
        label: true class of each test text; predicted: the class it was given, per centring and layer.
        train, test: what was read and how, in words.
    """

    table: pd.DataFrame
    auc: pd.DataFrame
    emotions: tuple[str, ...]
    left_out: tuple[str, ...]
    shared_topics: tuple[str, ...]
    excluded: bool
    label: Int[np.ndarray, " n_test"]
    predicted: Int[np.ndarray, "2 n_layers n_test"]
    train: str
    test: str

    def best(self, centring: str = "own mean") -> pd.Series:
        """Row of the highest accuracy under a centring (the earliest of equals)."""
        rows = self.table[self.table["centring"] == centring]
        return rows.iloc[int(rows["accuracy"].argmax())]

    def summary(self) -> str:
        """Where the texts came from, then one sentence per centring on its best layer."""
        said = [f"Learned on {self.train}, tested on {self.test}: {len(self.emotions)} shared emotions"]
        if self.left_out:
            said.append(f" ({len(self.left_out)} left out: {', '.join(self.left_out)})")
        if self.shared_topics:
            fate = "never trained and tested on together" if self.excluded else "trained AND tested on"
            said.append(f", {len(self.shared_topics)} shared topics {fate}")
        return "".join(said) + ". " + " ".join(self._sentence(c) for c in CENTRINGS)

    def _sentence(self, centring: str) -> str:
        row = self.best(centring)
        n_layers = int(self.table["layer"].max()) + 1
        verdict = "" if row.p_corrected <= ALPHA else f": {NOISE}"
        return (
            f"Centred on the {centring}, accuracy is {row.accuracy:.2f} ({row.low:.2f} to {row.high:.2f}) at "
            f"{place(int(row.layer), n_layers, best=True)}, chance {row.chance:.2f}, {p_text(row.p_corrected)} "
            f"corrected over layers{verdict}."
        )

    def _repr_html_(self) -> str:
        return result_html(self)


def transfer(
    train: PooledActivations,
    test: PooledActivations,
    n_permutations: int = 200,
    seed: int = 0,
    exclude_shared_topics: bool = True,
) -> Transfer:
    """Nearest centroid on centred cosine, learned on one set of texts and tested on another.

    A test text gets the shared emotion whose training centroid (less the mean of the training texts) has the largest
    cosine with it. Two centrings of the test texts are reported. "train mean": the mean of the training texts is
    subtracted from them as well; nothing of the test set is used, and a shift between the sets (stories are longer
    than passages) counts against the transfer. "own mean": their own mean is; the shift is gone, at the price of using
    the test texts as a group, though not their labels.

    The null shuffles the TEST labels within topics (`label_permutations`), the centroids staying as they are.

    Args:
        exclude_shared_topics: a test text whose topic the training set also holds (by name) is tested against
            centroids, and a training mean, without that topic.

    Raises:
        FingerprintError: the sets come from different models, or from one model in different bases.
        StimulusError: fewer than 2 shared emotions, no training text of an emotion once a shared topic is left out, or
            a test set that leaves nothing to permute (see `design_of`).
        AnalysisError: n_permutations below 1.
    """
    check_permutations(n_permutations)
    check_same_model(train, test)
    known, new, left_out = shared_emotions(train, test)
    design = design_of(new)
    rows = training_rows(known.topic, new.topic, exclude_shared_topics)
    scores = cross_scores(known, new, rows, design.emotions)
    permuted = label_permutations(design, n_permutations, seed)
    parts = [_table(test, name, s, design, permuted, seed) for name, s in zip(CENTRINGS, scores, strict=True)]
    aucs = [auc_table(s, design, test.depth) for s in scores]
    for name, auc in zip(CENTRINGS, aucs, strict=True):
        auc.insert(0, "centring", name)
    return Transfer(
        table=pd.concat(parts, ignore_index=True),
        auc=pd.concat(aucs, ignore_index=True),
        emotions=design.emotions,
        left_out=left_out,
        shared_topics=tuple(t for t in new.topics if t in known.topics),
        excluded=exclude_shared_topics,
        label=design.label,
        predicted=scores.argmax(3),
        train=_words(train),
        test=_words(test),
    )


def check_same_model(a: PooledActivations, b: PooledActivations) -> None:
    """Raises FingerprintError unless both were read by one model in one basis (backend and precision may differ)."""
    x, y = a.header, b.header
    if (x.fingerprint, x.processed) != (y.fingerprint, y.processed):
        raise FingerprintError(
            f"one set was read by {x.model} (fingerprint {x.fingerprint[:12]}, processed={x.processed}), the other by "
            f"{y.model} ({y.fingerprint[:12]}, processed={y.processed}); directions live in one model's residual "
            "stream: read both sets with the same model, loaded the same way"
        )


def shared_emotions(
    a: PooledActivations, b: PooledActivations
) -> tuple[PooledActivations, PooledActivations, tuple[str, ...]]:
    """The texts of the emotions that both sets hold, neutral left out, and the emotions that only one holds.

    Raises:
        StimulusError: fewer than 2 shared emotions.
    """
    shared = [e for e in a.emotions if e in b.emotions]
    if len(shared) < 2:
        raise StimulusError(
            f"the sets share {len(shared)} emotions ({', '.join(a.emotions)} against {', '.join(b.emotions)}); "
            "at least 2 are needed"
        )
    apart = tuple(e for e in dict.fromkeys((*a.emotions, *b.emotions)) if e not in shared)
    return a.of(*shared), b.of(*shared), apart


def training_rows(known_topic: np.ndarray, new_topic: np.ndarray, exclude: bool) -> list[tuple[Rows, Rows]]:
    """Pairs (test texts, the texts they may be tested against): all, or those of other topics."""
    if not exclude:
        return [(np.arange(len(new_topic)), np.arange(len(known_topic)))]
    shared = [t for t in dict.fromkeys(new_topic) if t in set(known_topic)]
    rows = [(np.flatnonzero(new_topic == t), np.flatnonzero(known_topic != t)) for t in shared]
    fresh = np.flatnonzero(~np.isin(new_topic, shared))
    return [*rows, (fresh, np.arange(len(known_topic)))] if len(fresh) else rows


def cross_scores(
    known: PooledActivations, new: PooledActivations, rows: list[tuple[Rows, Rows]], emotions: tuple[str, ...]
) -> Float[np.ndarray, "2 n_layers n_new k"]:
    """Cosine of every new text with the centroids of the known ones, by both centrings (in the order of CENTRINGS).

    Centroids are plain means of a class's training texts less the mean of all training texts, as in `decoding`.

    Raises:
        StimulusError: an emotion without training texts.
    """
    check_finite(known.values)
    check_finite(new.values)
    label = codes(known.emotion, emotions)
    weights = [torch.from_numpy(_centroid_weights(label, train, emotions)) for _, train in rows]
    scores = np.empty((2, known.n_layers, len(new), len(emotions)))
    for layer in range(known.n_layers):
        x, y = known.values[:, layer].cpu().double(), new.values[:, layer].cpu().double()
        x, y = x - x.mean(0), y - x.mean(0)  # digits that a large common mean would eat
        for (test, train), weight in zip(rows, weights, strict=True):
            centroids = unit(weight @ x)
            for c, origin in enumerate((x[train].mean(0), y.mean(0))):
                scores[c, layer, test] = (unit(y[test] - origin) @ centroids.T).numpy()
    return scores


def _centroid_weights(label: Int[np.ndarray, " m"], train: Rows, emotions: tuple[str, ...]) -> Float[np.ndarray, "k m"]:
    member = np.zeros((len(emotions), len(label)))
    member[label[train], train] = 1.0
    count = member.sum(1, keepdims=True)
    if not count.all():
        raise StimulusError(
            f"no training text of '{emotions[int(count.argmin())]}' is left once a shared topic is kept out; give the "
            "training set texts of more topics, or pass exclude_shared_topics=False"
        )
    everyone = np.zeros(len(label))
    everyone[train] = 1 / len(train)
    return member / count - everyone


def _table(
    test: PooledActivations,
    centring: str,
    scores: Float[np.ndarray, "n_layers n k"],
    design: Design,
    permuted: Int[np.ndarray, "m n"],
    seed: int,
) -> pd.DataFrame:
    predicted = scores.argmax(2)
    correct = predicted == design.label
    accuracy = correct.mean(1)
    null = (predicted == permuted[:, None]).mean(2)
    low, high = percentile_band(bootstrap_over_groups(correct.T.astype(float), design.topic, seed=seed))
    columns = {
        "centring": centring,
        "layer": np.arange(test.n_layers),
        "depth": test.depth,
        "accuracy": accuracy,
        "low": low,
        "high": high,
        "chance": 1 / design.n_classes,
        **null_columns(accuracy, null),
    }
    return pd.DataFrame(columns)


def null_columns(
    observed: Float[np.ndarray, " n"], null: Float[np.ndarray, "m n"], standardise: bool = False
) -> dict[str, np.ndarray]:
    """null_mean, null_low, null_high (95%), p (each alone) and p_corrected (best of all) of some accuracies."""
    low, high = percentile_band(null)
    return {
        "null_mean": null.mean(0),
        "null_low": low,
        "null_high": high,
        "p": permutation_p(observed, null),
        "p_corrected": max_corrected_p(observed, null, standardise=standardise),
    }


def _words(acts: PooledActivations) -> str:
    head = acts.header
    return f"{head.stimuli} ({head.method}{f': {head.variant}' * bool(head.variant)}, {head.pooling})"
