"""Drift: the same texts read by the same model in another precision, backend or version of TransformerLens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from lens_emotion.analysis.decoding import decoding
from lens_emotion.analysis.reliability import reliability
from lens_emotion.display import Result
from lens_emotion.errors import AnalysisError, StimulusError
from lens_emotion.extraction.activations import PooledActivations, check_same_model
from lens_emotion.models.layers import place
from lens_emotion.pictures import Line
from lens_emotion.stats.tests import mcnemar, p_text
from lens_emotion.vectors.recipes import emotion_vectors

FACTORS = ("dtype", "backend", "transformer_lens", "pooling")


@dataclass(frozen=True, eq=False, repr=False)
class Drift(Result):
    """How far two readings of the same texts lie apart.

    Attributes:
        table: layer, depth, emotion, cosine (between the emotion vectors of both readings, "centred" recipe),
            reliability (split-half of the first: how well the texts themselves fix that vector).
        by_layer: layer, depth, cosine_min, cosine_mean (over emotions), relative_mean, relative_max (over texts:
            ||a - b|| / ||a||), accuracy_a, accuracy_b, difference (held-out decoding, a - b), agreement (share of texts
            given the same emotion), p (exact McNemar test of the accuracies).
        differs: what differs between the headers, e.g. "dtype float32 against bfloat16".
        n_texts: texts compared.
    """

    _picture = Line("layer", "cosine", group="emotion")

    table: pd.DataFrame
    by_layer: pd.DataFrame
    differs: str
    n_texts: int

    @property
    def worst(self) -> pd.Series:
        """Row of the smallest cosine."""
        return self.table.iloc[int(self.table["cosine"].argmin())]

    @property
    def by_emotion(self) -> pd.DataFrame:
        """emotion; cosine and reliability at the middle layer; cosine_min, layer_min, reliability_min at the worst."""
        middle = self.table[self.table.layer == len(self.by_layer) // 2].set_index("emotion")
        worst = self.table.loc[self.table.groupby("emotion", sort=False)["cosine"].idxmin()].set_index("emotion")
        renamed = {"cosine": "cosine_min", "layer": "layer_min", "reliability": "reliability_min"}
        both = middle[["cosine", "reliability"]].join(worst[list(renamed)].rename(columns=renamed))
        return both.reset_index()

    def summary(self) -> str:
        """The worst emotion and layer, and what became of decoding."""
        row, n = self.worst, len(self.by_layer)
        most = self.by_layer.iloc[int(self.by_layer["difference"].abs().argmax())]
        cosine = f"{row.cosine:.4f}" if row.cosine < 0.9995 else f"1 - {max(0.0, 1 - row.cosine):.0e}"
        lowest = min(1.0, float(self.by_layer["p"].min()) * n)
        return (
            f"{self.n_texts} texts, {self.differs}: the emotion vectors differ most for {row.emotion} at "
            f"{place(int(row.layer), n)}, cosine {cosine} (split-half reliability {row.reliability:.2f}); "
            f"states differ by at most {self.by_layer['relative_max'].max():.2g} of their length; held-out accuracy "
            f"changes by at most {abs(most.difference):.3f} (layer {int(most.layer)}; smallest {p_text(lowest)} over "
            "layers, Bonferroni)."
        )


def drift(a: PooledActivations, b: PooledActivations, allow_other_weights: bool = False) -> Drift:
    """Compare two readings of the same texts, matched by text_id.

    The fingerprint hashes weights rounded to bfloat16, so that it is the same for float32 and bfloat16 copies of a
    model and on both backends: it must be equal here. A float16 copy has been rounded on the way, and its hash may
    differ, as may that of quantised weights: for those, and only those, pass allow_other_weights=True.

    Args:
        a, b: activations of the same texts, read twice.
        allow_other_weights: the fingerprints may differ, as those of float16 and quantised copies do.

    Raises:
        FingerprintError: other weights, or another basis, without `allow_other_weights`.
        StimulusError: a text that only one of the sets holds, that stands twice, or reads or is labelled otherwise.
        AnalysisError: another number of layers, or another width.

    Example:
        >>> result = le.drift(acts, acts)
        >>> len(result.table)
        120
    """
    if not allow_other_weights:
        check_same_model(a, b)
    if a.values.shape[1:] != b.values.shape[1:]:
        raise AnalysisError(
            f"one set has {a.n_layers} layers of {a.d_model}, the other {b.n_layers} of {b.d_model}; drift compares "
            "readings of one model"
        )
    b = _matched(a, b)
    va, vb = (emotion_vectors(x, "centred").directions.double() for x in (a, b))
    cosine = (va * vb).sum(-1).T.numpy()
    table = reliability(a).table[["layer", "depth", "emotion", "reliability"]]
    table.insert(3, "cosine", cosine.ravel())
    pairs = [(f, getattr(a.header, f), getattr(b.header, f)) for f in FACTORS]
    differs = ", ".join(f"{f.replace('_', ' ')} {x} against {y}" for f, x, y in pairs if x != y)
    return Drift(table, _by_layer(a, b, cosine), differs or "headers alike", len(a))


def _matched(a: PooledActivations, b: PooledActivations) -> PooledActivations:
    """b in the order of a."""
    ids = [[r.text_id for r in x.records] for x in (a, b)]
    if any(len(set(x)) < len(x) for x in ids):
        raise StimulusError("a text_id stands twice, so that texts cannot be matched; give every text its own")
    missing = [
        f"{side} lacks {', '.join(lost[:10])}{f' and {len(lost) - 10} more' * (len(lost) > 10)}"
        for side, lost in (
            ("the second set", sorted({*ids[0]} - {*ids[1]})),
            ("the first", sorted({*ids[1]} - {*ids[0]})),
        )
        if lost
    ]
    if missing:
        raise StimulusError(f"drift compares readings of the same texts, but {'; '.join(missing)}; read the same texts")
    at = {text_id: i for i, text_id in enumerate(ids[1])}
    order = [at[i] for i in ids[0]]
    records = tuple(b.records[i] for i in order)
    for x, y in zip(a.records, records, strict=True):
        if (x.text, x.emotion, x.topic) != (y.text, y.emotion, y.topic):
            raise StimulusError(f"text '{x.text_id}' is another text, or labelled otherwise, in the second set")
    return PooledActivations(b.values[order], records, b.residual_norm, b.header)


def _by_layer(a: PooledActivations, b: PooledActivations, cosine: Float[np.ndarray, "n_layers k"]) -> pd.DataFrame:
    relative = np.empty((a.n_layers, len(a)))  # length of the difference of a text's two rows, as a share of the first
    for layer in range(a.n_layers):
        first, second = (x.values[:, layer].cpu().double() for x in (a, b))
        relative[layer] = (first - second).norm(dim=1) / first.norm(dim=1)
    x, y = decoding(a, 1), decoding(b, 1)
    gained, lost = (x.correct & ~y.correct).sum(1), (y.correct & ~x.correct).sum(1)
    columns = {
        "layer": np.arange(a.n_layers),
        "depth": a.depth,
        "cosine_min": cosine.min(1),
        "cosine_mean": cosine.mean(1),
        "relative_mean": relative.mean(1),
        "relative_max": relative.max(1),
        "accuracy_a": x.correct.mean(1),
        "accuracy_b": y.correct.mean(1),
        "difference": x.correct.mean(1) - y.correct.mean(1),
        "agreement": (x.predicted == y.predicted).mean(1),
        "p": [mcnemar(int(g), int(m)).p for g, m in zip(gained, lost, strict=True)],
    }
    return pd.DataFrame(columns)
