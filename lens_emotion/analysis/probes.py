"""Probes: the question of `decoding` put to linear decoders that are fitted, with the same folds and the same null.

A nearest centroid weighs all directions of the residual stream alike, so that a few dimensions of large variance can
hide an emotion from it. Discriminant analysis and logistic regression learn which directions to distrust.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.special import log_softmax
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression

from lens_emotion.analysis.decoding import auc_table, confusion_counts, decoding, f1_scores
from lens_emotion.display import Result
from lens_emotion.errors import AnalysisError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.files.user import numbers_fit
from lens_emotion.models.layers import Layers, place, resolve_layer, resolve_layers, whole_numbers
from lens_emotion.pictures import Line
from lens_emotion.progress import track
from lens_emotion.stats.design import Design, coordinates, design_of, label_permutations, tied, with_copies
from lens_emotion.stats.tests import check_permutations, noise_note, null_columns, p_text

KINDS = ("lda", "logistic")
# inverse L2 penalty on texts of mean squared length 1: as C = 1 on a hundred standardised features
LOGISTIC_C = 100.0


@dataclass(frozen=True, eq=False, repr=False)
class Probe(Result):
    """Held-out accuracy of a fitted linear decoder at some layers.

    Attributes:
        table: layer, depth, accuracy, macro_f1, nearest_centroid (accuracy of `decoding` there), chance, null_mean,
            null_low, null_high (95% of the label permutations), p (this layer alone), p_corrected (best of the
            layers used).
        auc: layer, depth, emotion, auc, auc_low, auc_high, from held-out log-probabilities (see `decoding`).
        kind: "lda" or "logistic".
        emotions: names of the classes.
        label: true class of each text; predicted: the class it was given when held out, per layer used.
        topic: topic of each text; fold: its fold.
        null: accuracy of each label permutation at each layer used.
        n_layers: layers of the model.
        copies: as in `decoding`.
    """

    _picture = Line("layer", "accuracy", "null_low", "null_high", reference="chance")

    table: pd.DataFrame
    auc: pd.DataFrame
    kind: str
    emotions: tuple[str, ...]
    label: Int[np.ndarray, " n_texts"]
    predicted: Int[np.ndarray, "n_used n_texts"]
    topic: np.ndarray
    fold: Int[np.ndarray, " n_texts"]
    null: Float[np.ndarray, "n_permutations n_used"]
    n_layers: int
    copies: str = ""

    @property
    def correct(self) -> Bool[np.ndarray, "n_used n_texts"]:
        return self.predicted == self.label

    @property
    def best_layer(self) -> int:
        """Layer of the highest accuracy among those used (the earliest of equals)."""
        return int(self.table["layer"].iloc[self._best])

    @property
    def confusion(self) -> pd.DataFrame:
        """Counts at the best layer used; rows true, columns predicted."""
        names = list(self.emotions)
        counts = confusion_counts(self.label, self.predicted[self._best], len(names))
        return pd.DataFrame(counts, pd.Index(names, name="true"), pd.Index(names, name="predicted"))

    @property
    def _best(self) -> int:
        return int(self.table["accuracy"].argmax())

    def summary(self) -> str:
        """One sentence on the best of the layers used, beside the nearest centroid there."""
        row, used = self.table.iloc[self._best], len(self.table)

        return (
            f"Held-out {len(self.emotions)}-way decoding by {self.kind} at {place(self.best_layer, self.n_layers)}"
            f"{f', best of {used} layers used' * (used > 1)}: accuracy {row.accuracy:.2f} (nearest centroid "
            f"{row.nearest_centroid:.2f}, chance {row.chance:.2f}, null {row.null_low:.2f} to {row.null_high:.2f}, "
            f"{p_text(row.p_corrected)} corrected over layers used; {len(self.label)} texts, "
            f"{len(set(self.topic))} topics)"
            f"{noise_note(row.p_corrected, tied=tied(self.copies), draws=len(self.null))}.{with_copies(self.copies)}"
        )


@numbers_fit(AnalysisError)
def probe(
    acts: PooledActivations,
    kind: str = "lda",
    layers: Layers = None,
    n_permutations: int = 39,
    seed: int = 0,
    progress: bool = True,
) -> Probe:
    """Decode the emotion of texts on unseen topics with a linear decoder fitted on the other topics.

    Folds, neutral texts and permutations are those of `decoding`. Everything that is fitted (the mean, the principal
    components, the scale, the decoder) is fitted on the training texts of the fold.

    "lda" is discriminant analysis on the principal components of the training texts, its within-class covariance
    shrunk by Ledoit and Wolf's rule. "logistic" is multinomial regression with an L2 penalty (C = 100 on texts scaled
    to a mean squared length of 1). Both see the texts in their own span (r <= n_texts axes, `design.coordinates`). That
    is a rotation, and neither cares for rotations: an L2 penalty is the length of the weights, the best weights lie in
    the span of the training texts, and principal components turn with the texts. Results are those of the full
    space at a cost that does not grow with d_model.

    Args:
        layers: layers to use; None takes those at a quarter, a half and three quarters of the depth, which are chosen
            without a look at the labels. For layers chosen by their accuracy on these texts (the best layer of
            `decoding`) p is optimistic.
        n_permutations: few by default, since every one fits one decoder per fold and layer.
        acts: pooled activations of labelled texts.
        kind: "lda" or "logistic".
        seed: of whatever is drawn at random.
        progress: show a bar.

    Raises:
        StimulusError: fewer than 2 emotions or topics, or an emotion with texts of one topic only.
        AnalysisError: another kind, no such layer, a layer twice, no permutations, or too few texts for "lda".

    Example:
        >>> result = le.probe(acts.of("calm", "angry", "sad"), layers=[3], n_permutations=3, progress=False)
        >>> result.table.layer.tolist()
        [3]
    """
    if kind not in KINDS:
        raise AnalysisError(f"kind is one of {', '.join(map(repr, KINDS))}; got {kind!r}")
    check_permutations(n_permutations)
    design = design_of(acts)
    least = len(design.label) - max(map(len, design.held))
    if kind == "lda" and least <= design.n_classes:
        raise AnalysisError(
            f"lda needs more training texts than emotions, but the smallest fold trains on {least} texts of "
            f"{design.n_classes} emotions; give more topics, or use kind='logistic'"
        )
    used = _layers(layers, acts.n_layers)
    texts = at_layers(acts.emotional, used)
    labels = np.concatenate([design.label[None], label_permutations(design, n_permutations, seed)])
    scores = np.full((len(labels), len(used), len(design.label), design.n_classes), -np.inf, dtype=np.float32)
    rows = coordinates(texts.values).numpy()
    jobs = [(i, held) for i in range(len(used)) for held in design.held]
    for i, held in track(jobs, f"probing ({kind})", total=len(jobs), show=progress):
        for b, score in enumerate(_fold_scores(kind, rows[:, i], held, labels, design.n_classes)):
            scores[b, i, held] = score
    return _result(acts, kind, design, used, labels, scores)


def at_layers(acts: PooledActivations, layers: Sequence[int]) -> PooledActivations:
    """The same texts at some of the layers, renumbered from 0."""
    chosen = list(layers)
    return replace(acts, values=acts.values[:, chosen], residual_norm=acts.residual_norm[chosen])


def _fold_scores(
    kind: str,
    rows: Float[np.ndarray, "n r"],
    held: Int[np.ndarray, " held"],
    labels: Int[np.ndarray, "b n"],
    n_classes: int,
) -> Iterator[Float[np.ndarray, "held {n_classes}"]]:
    """Log-probabilities of the held-out texts for each labelling; -inf for a class without training texts."""
    train = np.delete(np.arange(len(rows)), held)
    # the last component of n centred texts is empty
    axes = PCA(min(len(train) - 1, rows.shape[1]), svd_solver="full").fit(rows[train])
    known, new = axes.transform(rows[train]), axes.transform(rows[held])
    scale = np.sqrt((known**2).sum(1).mean())
    for label in labels[:, train]:
        if kind == "lda":
            model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        else:
            model = LogisticRegression(C=LOGISTIC_C, tol=1e-3, max_iter=1000)
        with warnings.catch_warnings():  # a class with one training text has no covariance; it adds none
            warnings.filterwarnings("ignore", message="Only one sample")
            model.fit(known / scale, label)
        found = np.atleast_2d(model.decision_function(new / scale).T).T
        if len(model.classes_) == 2:
            found = np.concatenate([np.zeros_like(found), found], axis=1)
        score = np.full((len(held), n_classes), -np.inf)
        score[:, model.classes_] = log_softmax(found, axis=1)
        yield score


def _result(
    acts: PooledActivations,
    kind: str,
    design: Design,
    used: list[int],
    labels: Int[np.ndarray, "b n"],
    scores: Float[np.ndarray, "b n_used n k"],
) -> Probe:
    predicted, k = scores.argmax(3), design.n_classes
    accuracy = (predicted == labels[:, None]).mean(2)
    columns = {
        "layer": used,
        "depth": acts.depth[used],
        "accuracy": accuracy[0],
        "macro_f1": [float(f1_scores(confusion_counts(design.label, p, k)).mean()) for p in predicted[0]],
        "nearest_centroid": decoding(at_layers(acts, used), 1).table["accuracy"].to_numpy(),
        "chance": 1 / k,
        "null_mean": accuracy[1:].mean(axis=0),
        **null_columns(accuracy[0], accuracy[1:]),
    }
    auc = auc_table(scores[0].astype(float), design, acts.depth[used])
    auc["layer"] = np.array(used)[auc["layer"].to_numpy()]
    table, texts = pd.DataFrame(columns), (design.label, predicted[0], acts.emotional.topic, design.fold)
    return Probe(table, auc, kind, design.emotions, *texts, accuracy[1:], acts.n_layers, design.copies)


def _layers(layers: Layers, n_layers: int) -> list[int]:
    if layers is None:
        return sorted({round(n_layers * share) - 1 for share in (0.25, 0.5, 0.75)} - {-1}) or [0]
    asked = resolve_layers(layers, n_layers) if isinstance(layers, str) else whole_numbers(layers)
    used = [resolve_layer(layer, n_layers, 0) for layer in asked]
    if not used or len(set(used)) < len(used):
        raise AnalysisError(f"layers = {list(asked)} names no layer, or one of them twice; give each layer once")
    return used
