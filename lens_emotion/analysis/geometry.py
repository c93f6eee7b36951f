"""Geometry of the emotion vectors: who is near whom at a layer, and how that changes over layers.

The main axes (`circumplex`) and pairs of opposites (`opposites`) live beside this file and are found here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from lens_emotion.display import Result
from lens_emotion.errors import AnalysisError, StimulusError
from lens_emotion.files.user import numbers_fit
from lens_emotion.models.layers import place, resolve_layer
from lens_emotion.pictures import Dots, Line, Tiles
from lens_emotion.stats.cosines import mean_pairwise_cosine
from lens_emotion.stats.tests import check_permutations, noise_note, null_columns, p_text, permutation_p
from lens_emotion.stimuli.emotions import OPPOSITE_PAIRS
from lens_emotion.vectors.emotion_vectors import EmotionVectors


@dataclass(frozen=True, eq=False, repr=False)
class Similarity(Result):
    """Cosines between emotion vectors at one layer.

    Attributes:
        matrix: cosine of every emotion with every other, in the order of the vectors.
        order: emotions as hierarchical clustering (average linkage, 1 - cosine) lays them out.
        mean_pairwise_cosine: J's separation at this layer. It is lowered by noise too: see `separation`.
        layer: the layer. n_layers: of how many. recipe: how the vectors were made.
        forced: the vectors cancel, as centred ones do: their mean cosine lies near -1/(n-1), and is not shown.
    """

    _picture = Tiles("emotion", "other", "cosine")

    matrix: pd.DataFrame
    order: tuple[str, ...]
    mean_pairwise_cosine: float
    layer: int
    n_layers: int
    recipe: str
    forced: bool = False

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
        """One sentence: the mean, where it says anything, the nearest and the farthest pair."""
        near, far = self.table.iloc[0], self.table.iloc[-1]
        mean = "cosines" if self.forced else f"a mean pairwise cosine of {self.mean_pairwise_cosine:.2f},"
        return (
            f"At {place(self.layer, self.n_layers)} the {len(self.matrix)} vectors ({self.recipe}) have "
            f"{mean} from {far.emotion}-{far.other} "
            f"({far.cosine:.2f}) to {near.emotion}-{near.other} ({near.cosine:.2f})."
        )


@numbers_fit(AnalysisError)
def similarity(vectors: EmotionVectors, layer: int | None = None) -> Similarity:
    """Cosine matrix of the emotion vectors at a layer (default n_layers // 2; negative counts from the end).

    Args:
        vectors: a set of at least two emotions.
        layer: default n_layers // 2; negative counts from the end.

    Raises:
        StimulusError: fewer than 2 emotions.
        AnalysisError: no such layer.

    Example:
        >>> result = le.similarity(vectors, layer=3)
        >>> result.matrix.shape
        (20, 20)
    """
    if len(vectors) < 2:
        raise StimulusError(f"similarity needs at least 2 emotions; these vectors hold {', '.join(vectors)}")
    at = resolve_layer(layer, vectors.n_layers, vectors.n_layers // 2)
    names = list(vectors.emotions)
    rows = vectors.at(at).double()
    cosine = (rows @ rows.T).clamp(-1, 1).numpy()
    matrix = pd.DataFrame(cosine, pd.Index(names, name="emotion"), names)
    mean = float(mean_pairwise_cosine(rows))
    moved = rows * vectors.norms[:, at, None]
    forced = bool(moved.sum(0).norm() <= 1e-5 * moved.norm(dim=1).sum())
    return Similarity(matrix, _clustered(matrix), mean, at, vectors.n_layers, vectors.header.recipe, forced)


def _clustered(matrix: pd.DataFrame) -> tuple[str, ...]:
    distance = squareform(1 - matrix.to_numpy(), checks=False)
    tree = linkage(distance, method="average", optimal_ordering=True)
    return tuple(str(matrix.index[i]) for i in leaves_list(tree))


@dataclass(frozen=True, eq=False, repr=False)
class SimilarityByLayer(Result):
    """Cosines between emotion vectors at every layer, laid out alike, so that a slider moves colours, not names.

    Attributes:
        layers: one `Similarity` per layer; all have the same `order`, clustered on the mean over layers.
    """

    _picture = Line("layer", "cosine", reference=0.0)

    layers: tuple[Similarity, ...]

    @property
    def order(self) -> tuple[str, ...]:
        return self.layers[0].order

    @property
    def table(self) -> pd.DataFrame:
        """One row per layer and pair: layer, depth, emotion, other, cosine."""
        names = self.layers[0].matrix.index
        upper = np.triu_indices(len(names), 1)
        pairs = pd.DataFrame({"emotion": names[upper[0]], "other": names[upper[1]]})
        parts = []
        for at in self.layers:
            part = pairs.assign(cosine=at.matrix.to_numpy()[upper])
            part.insert(0, "layer", at.layer)
            part.insert(1, "depth", (at.layer + 1) / at.n_layers)
            parts.append(part)
        return pd.concat(parts, ignore_index=True)

    def summary(self) -> str:
        """One sentence: the range of the mean cosine; where it is forced, of the cosines of single pairs."""
        if all(at.forced for at in self.layers):
            table = self.table
            near, far = table.iloc[int(table["cosine"].argmax())], table.iloc[int(table["cosine"].argmin())]
            ends = [f"{p.emotion}-{p.other} at layer {p.layer} ({p.cosine:.2f})" for p in (far, near)]
            what = f"{len(self.order)} vectors ({self.layers[0].recipe})"
            return f"The cosines of the {what} reach from {' to '.join(ends)}."
        means = np.array([at.mean_pairwise_cosine for at in self.layers])
        low, high = int(means.argmin()), int(means.argmax())
        n = len(self.layers)
        return (
            f"The mean pairwise cosine of the {len(self.order)} vectors ({self.layers[0].recipe}) is lowest at "
            f"{place(low, n)}, {means[low]:.2f}, and highest at {place(high, n)}, {means[high]:.2f}."
        )


def similarity_by_layer(vectors: EmotionVectors) -> SimilarityByLayer:
    """`similarity` at every layer, in one common clustered order.

    Args:
        vectors: a set of at least two emotions.

    Raises:
        StimulusError: fewer than 2 emotions.

    Example:
        >>> len(le.similarity_by_layer(vectors).layers)
        6
    """
    layers = [similarity(vectors, layer) for layer in range(vectors.n_layers)]
    mean = pd.DataFrame(np.mean([at.matrix for at in layers], axis=0), list(vectors), list(vectors))
    order = _clustered(mean)
    return SimilarityByLayer(tuple(replace(at, order=order) for at in layers))


# Opposite pairs: do happy and sad, calm and desperate point apart more than any two emotions do?


@dataclass(frozen=True, eq=False, repr=False)
class Opposites(Result):
    """Cosines of opposite pairs against all other pairs.

    Attributes:
        table: at `layer`, emotion, opposite, cosine, rank (1: the lowest of all pairs), p (share of the pairs that are
            no opposites at or below it, (b + 1) / (m + 1)).
        by_layer: layer, depth, opposite (mean cosine of the opposite pairs), other (of all other pairs), null_low,
            null_high (95% of relabellings), p (relabelling, opposite below it), p_corrected (best of all layers).
        layer: the layer. n_layers: of how many. n_others: pairs that are no opposites. n_permutations: relabellings.
    """

    _picture = Dots(("emotion", "opposite"), "cosine")

    table: pd.DataFrame
    by_layer: pd.DataFrame
    layer: int
    n_layers: int
    n_others: int
    n_permutations: int

    def summary(self) -> str:
        """One sentence on the mean of the opposite pairs at the layer."""
        row = self.by_layer.iloc[self.layer]

        return (
            f"At {place(self.layer, self.n_layers)} {len(self.table)} opposite pairs have a mean cosine of "
            f"{row.opposite:.2f}, the other {self.n_others} pairs {row.other:.2f} (relabelled emotions "
            f"{row.null_low:.2f} to {row.null_high:.2f}, {p_text(row.p)})"
            f"{noise_note(row.p, draws=self.n_permutations)}."
        )


@numbers_fit(AnalysisError)
def opposites(
    vectors: EmotionVectors,
    layer: int | None = None,
    pairs: Sequence[tuple[str, str]] = OPPOSITE_PAIRS,
    n_permutations: int = 2000,
    seed: int = 0,
) -> Opposites:
    """Cosine of opposite pairs (J's four by default) against the other pairs, at a layer and at all of them.

    The null gives the emotions each other's names: relabelled pairs keep the number and the overlap of the pairs, and
    one relabelling serves all layers. Pairs of which an emotion is missing are left out.

    Args:
        vectors: a set with both emotions of at least one pair.
        layer: default n_layers // 2; negative counts from the end.
        pairs: which names are opposites.
        n_permutations: permutations behind the null; p is at least 1 / (n + 1).
        seed: of whatever is drawn at random.

    Raises:
        StimulusError: no pair is present, or fewer than 4 emotions.
        AnalysisError: no such layer, or n_permutations below 1.

    Example:
        >>> result = le.opposites(vectors, n_permutations=50)
        >>> result.layer
        3
    """
    check_permutations(n_permutations)
    at = resolve_layer(layer, vectors.n_layers, vectors.n_layers // 2)
    known = [(a, b) for a, b in pairs if a in vectors and b in vectors]
    if not known or len(vectors) < 4:
        raise StimulusError(
            f"opposites need at least 4 emotions and one whole pair of {', '.join('/'.join(p) for p in pairs)}; "
            f"these vectors hold {', '.join(vectors)}"
        )
    index = np.array([[vectors.emotions.index(e) for e in pair] for pair in known])
    cosine = np.stack([vectors.cosine(i).double().numpy() for i in range(vectors.n_layers)])
    rng = np.random.default_rng(seed)
    names = np.stack([rng.permutation(len(vectors)) for _ in range(n_permutations)])
    null = np.stack([cosine[:, p[index[:, 0]], p[index[:, 1]]].mean(1) for p in names])
    chosen, upper = {frozenset(pair) for pair in index.tolist()}, np.stack(np.triu_indices(len(vectors), 1), axis=1)
    others = upper[[frozenset(pair) not in chosen for pair in upper.tolist()]]
    values, rest, every = (cosine[at][i[:, 0], i[:, 1]] for i in (index, others, upper))
    table = pd.DataFrame(known, columns=["emotion", "opposite"]).assign(
        cosine=values,
        rank=[int((every < v - 1e-12).sum()) + 1 for v in values],
        p=[float(permutation_p(v, rest, "less")) for v in values],
    )
    by_layer = _by_layer(cosine, index, others, null)
    return Opposites(table, by_layer, at, vectors.n_layers, len(others), n_permutations)


def _by_layer(
    cosine: Float[np.ndarray, "l n n"],
    index: Int[np.ndarray, "pairs 2"],
    others: Int[np.ndarray, "others 2"],
    null: Float[np.ndarray, "m l"],
) -> pd.DataFrame:
    observed, other = (cosine[:, i[:, 0], i[:, 1]].mean(1) for i in (index, others))
    layer = np.arange(len(cosine))
    columns = {"layer": layer, "depth": (layer + 1) / len(cosine), "opposite": observed, "other": other}
    return pd.DataFrame({**columns, **null_columns(observed, null, "less", standardise=True)})
