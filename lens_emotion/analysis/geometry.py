"""Geometry of the emotion vectors at one layer: who is near whom, and what the main axes mean."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from torch import Tensor

from lens_emotion.analysis.results import check_permutations, p_text, place, resolve_layer, result_html
from lens_emotion.analysis.separation import mean_pairwise_cosine
from lens_emotion.analysis.stats import max_corrected_p, permutation_p
from lens_emotion.errors import StimulusError
from lens_emotion.stimuli.emotions import valence_arousal
from lens_emotion.vectors.emotion_vectors import EmotionVectors


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
    tree = linkage(squareform(1 - cosine, checks=False), method="average", optimal_ordering=True)
    order = tuple(names[i] for i in leaves_list(tree))
    mean = float(mean_pairwise_cosine(rows))
    return Similarity(matrix, order, mean, at, vectors.n_layers, vectors.header.recipe)


@dataclass(frozen=True, eq=False)
class Circumplex:
    """The two main axes of the emotion vectors at one layer, against human valence and arousal.

    Attributes:
        table: emotion, pc1, pc2 (scores), valence, arousal (norms, 1 to 9; NaN where there are none).
        correlations: component, norm, r (its sign is the sign convention's, without meaning), abs_r, p
            (permutation, on |r|), p_corrected (best of the four), n (emotions that have norms).
        explained: share of variance of pc1 and pc2.
        layer: the layer. n_layers: of how many.
        n_permutations: permutations behind p.
    """

    table: pd.DataFrame
    correlations: pd.DataFrame
    explained: tuple[float, float]
    layer: int
    n_layers: int
    n_permutations: int

    def summary(self) -> str:
        """One sentence: PC1 against valence, PC2 against arousal."""
        by_axis = {(row["component"], row["norm"]): row for _, row in self.correlations.iterrows()}
        parts = []
        for axis, share in zip((("pc1", "valence"), ("pc2", "arousal")), self.explained, strict=True):
            found = f"|r| = {by_axis[axis]['abs_r']:.2f}, {p_text(by_axis[axis]['p'])}"
            parts.append(f"{axis[0].upper()} ({share:.0%} of variance) against {axis[1]} {found}")
        n = self.correlations["n"].iloc[0]
        return f"At {place(self.layer, self.n_layers)}: {'; '.join(parts)} (n = {n} emotions)."

    def _repr_html_(self) -> str:
        return result_html(self)


def circumplex(
    vectors: EmotionVectors, layer: int | None = None, n_permutations: int = 2000, seed: int = 0
) -> Circumplex:
    """PCA of the unit emotion vectors, and how PC1 and PC2 go with human norms (S: r = 0.81, 0.66).

    The sign of a component is arbitrary; here its loading of largest magnitude is positive. To choose the
    sign by the norms would be circular, so |r| is what counts, and the permutations (norms shuffled over
    emotions) take the same absolute value. Emotions without norms enter the PCA but not the correlation;
    nothing is imputed.

    Raises:
        StimulusError: fewer than 4 emotions with norms.
        AnalysisError: no such layer, or n_permutations below 1.
    """
    check_permutations(n_permutations)
    at = resolve_layer(layer, vectors.n_layers, vectors.n_layers // 2)
    norms = _norms(vectors)
    known = ~np.isnan(norms).any(axis=1)
    if known.sum() < 4:
        raise StimulusError(
            f"only {known.sum()} of these {len(vectors)} emotions have valence and arousal norms; at least 4 are needed"
        )
    scores, explained = principal_scores(vectors.at(at))
    columns = {"pc1": scores[:, 0], "pc2": scores[:, 1], "valence": norms[:, 0], "arousal": norms[:, 1]}
    table = pd.DataFrame({"emotion": list(vectors.emotions), **columns})
    correlations = _correlations(scores[known], norms[known], n_permutations, seed)
    return Circumplex(table, correlations, explained, at, vectors.n_layers, n_permutations)


def _norms(vectors: EmotionVectors) -> Float[np.ndarray, "n_emotions 2"]:
    known = valence_arousal()
    rows = [(known[e].valence, known[e].arousal) if e in known else (None, None) for e in vectors]
    return np.array(rows, dtype=float)


def principal_scores(
    rows: Float[Tensor, "n d_model"],
) -> tuple[Float[np.ndarray, "n 2"], tuple[float, float]]:
    """Scores on the first two principal components, and their shares of the variance."""
    rows = rows.double()
    rows = rows - rows.mean(0)
    _, size, axes = torch.linalg.svd(rows, full_matrices=False)
    axes = axes[:2] * torch.sign(axes[:2].gather(1, axes[:2].abs().argmax(1, keepdim=True)))
    share = size**2 / (size**2).sum()
    return (rows @ axes.T).numpy(), (float(share[0]), float(share[1]))


def _correlations(scores: np.ndarray, norms: np.ndarray, n_permutations: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    z_scores, z_norms = (((x - x.mean(0)) / x.std(0)) for x in (scores, norms))
    shuffled = np.stack([rng.permutation(z_norms) for _ in range(n_permutations)])
    r = (z_scores.T @ z_norms / len(scores)).ravel()
    null = (np.einsum("ni,bnj->bij", z_scores, shuffled) / len(scores)).reshape(n_permutations, 4)
    return pd.DataFrame(
        {
            "component": ["pc1", "pc1", "pc2", "pc2"],
            "norm": ["valence", "arousal", "valence", "arousal"],
            "r": r,
            "abs_r": np.abs(r),
            "p": permutation_p(np.abs(r), np.abs(null)),
            "p_corrected": max_corrected_p(r, null, "two-sided"),
            "n": len(scores),
        }
    )
