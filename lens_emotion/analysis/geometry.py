"""Geometry of the emotion vectors: who is near whom at a layer, and how that changes over layers.

The main axes (`circumplex`) and pairs of opposites (`opposites`) live beside this file and are found here too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from lens_emotion.analysis.circumplex import Circumplex, circumplex, principal_scores
from lens_emotion.analysis.opposites import Opposites, opposites
from lens_emotion.analysis.results import place, resolve_layer, result_html
from lens_emotion.analysis.separation import mean_pairwise_cosine
from lens_emotion.errors import StimulusError
from lens_emotion.vectors.emotion_vectors import EmotionVectors

__all__ = [
    "Circumplex",
    "Opposites",
    "Similarity",
    "SimilarityByLayer",
    "circumplex",
    "opposites",
    "principal_scores",
    "similarity",
    "similarity_by_layer",
]


@dataclass(frozen=True, eq=False)
class Similarity:
    """Cosines between emotion vectors at one layer.

    Attributes:
        matrix: cosine of every emotion with every other, in the order of the vectors.
        order: emotions as hierarchical clustering (average linkage, 1 - cosine) lays them out.
        mean_pairwise_cosine: J's separation at this layer. It is lowered by noise too: see `separation`.
        layer: the layer. n_layers: of how many. recipe: how the vectors were made.
    """

    matrix: pd.DataFrame
    order: tuple[str, ...]
    mean_pairwise_cosine: float
    layer: int
    n_layers: int
    recipe: str

    @property
    def table(self) -> pd.DataFrame:
        """One row per pair: emotion, other, cosine; the most alike first."""
        pairs = [(a, b, self.matrix.loc[a, b]) for a, b in combinations(self.matrix.index, 2)]
        frame = pd.DataFrame(pairs, columns=["emotion", "other", "cosine"])
        return frame.sort_values("cosine", ascending=False, ignore_index=True)

    @property
    def ordered(self) -> pd.DataFrame:
        """The matrix in clustered order."""
        return self.matrix.loc[list(self.order), list(self.order)]

    def summary(self) -> str:
        """One sentence: the mean, the nearest and the farthest pair."""
        near, far = self.table.iloc[0], self.table.iloc[-1]
        return (
            f"At {place(self.layer, self.n_layers)} the {len(self.matrix)} vectors ({self.recipe}) have a "
            f"mean pairwise cosine of {self.mean_pairwise_cosine:.2f}, from {far.emotion}-{far.other} "
            f"({far.cosine:.2f}) to {near.emotion}-{near.other} ({near.cosine:.2f})."
        )

    def _repr_html_(self) -> str:
        return result_html(self)


def similarity(vectors: EmotionVectors, layer: int | None = None) -> Similarity:
    """Cosine matrix of the emotion vectors at a layer (default n_layers // 2; negative counts from the end).

    Raises:
        StimulusError: fewer than 2 emotions.
        AnalysisError: no such layer.
    """
    if len(vectors) < 2:
        raise StimulusError(f"similarity needs at least 2 emotions; these vectors hold {', '.join(vectors)}")
    at = resolve_layer(layer, vectors.n_layers, vectors.n_layers // 2)
    names = list(vectors.emotions)
    rows = vectors.at(at).double()
    cosine = (rows @ rows.T).clamp(-1, 1).numpy()
    matrix = pd.DataFrame(cosine, pd.Index(names, name="emotion"), names)
    mean = float(mean_pairwise_cosine(rows))
    return Similarity(matrix, _clustered(matrix), mean, at, vectors.n_layers, vectors.header.recipe)


def _clustered(matrix: pd.DataFrame) -> tuple[str, ...]:
    distance = squareform(1 - matrix.to_numpy(), checks=False)
    tree = linkage(distance, method="average", optimal_ordering=True)
    return tuple(str(matrix.index[i]) for i in leaves_list(tree))


@dataclass(frozen=True, eq=False)
class SimilarityByLayer:
    """Cosines between emotion vectors at every layer, laid out alike, so that a slider moves colours, not names.

    Attributes:
        layers: one `Similarity` per layer; all have the same `order`, clustered on the mean over layers.
    """

    layers: tuple[Similarity, ...]

    @property
    def order(self) -> tuple[str, ...]:
        return self.layers[0].order

    @property
    def table(self) -> pd.DataFrame:
        """One row per layer and pair: layer, depth, emotion, other, cosine."""
        names = self.layers[0].matrix.index
        upper = np.triu_indices(len(names), 1)
        parts = [
            pd.DataFrame(
                {
                    "layer": at.layer,
                    "depth": (at.layer + 1) / at.n_layers,
                    "emotion": names[upper[0]],
                    "other": names[upper[1]],
                    "cosine": at.matrix.to_numpy()[upper],
                }
            )
            for at in self.layers
        ]
        return pd.concat(parts, ignore_index=True)

    def summary(self) -> str:
        """One sentence: the range of the mean cosine, and how alike neighbouring layers are."""
        means = np.array([at.mean_pairwise_cosine for at in self.layers])
        low, high = int(means.argmin()), int(means.argmax())
        n = len(self.layers)
        return (
            f"The mean pairwise cosine of the {len(self.order)} vectors ({self.layers[0].recipe}) is lowest at "
            f"{place(low, n)}, {means[low]:.2f}, and highest at {place(high, n)}, {means[high]:.2f}."
        )

    def _repr_html_(self) -> str:
        return result_html(self)


def similarity_by_layer(vectors: EmotionVectors) -> SimilarityByLayer:
    """`similarity` at every layer, in one common clustered order.

    Raises:
        StimulusError: fewer than 2 emotions.
    """
    layers = [similarity(vectors, layer) for layer in range(vectors.n_layers)]
    mean = pd.DataFrame(np.mean([at.matrix for at in layers], axis=0), list(vectors), list(vectors))
    order = _clustered(mean)
    return SimilarityByLayer(tuple(replace(at, order=order) for at in layers))
