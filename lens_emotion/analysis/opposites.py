"""Opposite pairs: do happy and sad, calm and desperate point apart more than any two emotions do?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from lens_emotion.analysis.results import ALPHA, NOISE, check_permutations, p_text, place, resolve_layer, result_html
from lens_emotion.analysis.stats import max_corrected_p, percentile_band, permutation_p
from lens_emotion.errors import StimulusError
from lens_emotion.stimuli.emotions import OPPOSITE_PAIRS
from lens_emotion.vectors.emotion_vectors import EmotionVectors


@dataclass(frozen=True, eq=False)
class Opposites:
    """Cosines of opposite pairs against all other pairs.

    Attributes:
        table: at `layer`, emotion, opposite, cosine, rank (1: the lowest of all pairs), p (share of the pairs that are
            no opposites at or below it, (b + 1) / (m + 1)).
        by_layer: layer, depth, opposite (mean cosine of the opposite pairs), other (of all other pairs), null_low,
            null_high (95% of relabellings), p (relabelling, opposite below it), p_corrected (best of all layers).
        layer: the layer. n_layers: of how many. n_others: pairs that are no opposites. n_permutations: relabellings.
    """

    table: pd.DataFrame
    by_layer: pd.DataFrame
    layer: int
    n_layers: int
    n_others: int
    n_permutations: int

    def summary(self) -> str:
        """One sentence on the mean of the opposite pairs at the layer."""
        row = self.by_layer.iloc[self.layer]
        verdict = "" if row.p <= ALPHA else f": {NOISE}"
        return (
            f"At {place(self.layer, self.n_layers)} {len(self.table)} opposite pairs have a mean cosine of "
            f"{row.opposite:.2f}, the other {self.n_others} pairs {row.other:.2f} (relabelled emotions "
            f"{row.null_low:.2f} to {row.null_high:.2f}, {p_text(row.p)}){verdict}."
        )

    def _repr_html_(self) -> str:
        return result_html(self)


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

    Raises:
        StimulusError: no pair is present, or fewer than 4 emotions.
        AnalysisError: no such layer, or n_permutations below 1.
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
    others = _others(index, len(vectors))
    table = _pairs(known, index, cosine[at], others)
    by_layer = _by_layer(cosine, index, others, null)
    return Opposites(table, by_layer, at, vectors.n_layers, len(others), n_permutations)


def _others(index: Int[np.ndarray, "pairs 2"], n: int) -> Int[np.ndarray, "others 2"]:
    """All pairs of n emotions that are no opposites."""
    chosen = {frozenset(pair) for pair in index.tolist()}
    upper = np.stack(np.triu_indices(n, 1), axis=1)
    return upper[[frozenset(pair) not in chosen for pair in upper.tolist()]]


def _pairs(
    known: list[tuple[str, str]],
    index: Int[np.ndarray, "pairs 2"],
    cosine: Float[np.ndarray, "n n"],
    others: Int[np.ndarray, "others 2"],
) -> pd.DataFrame:
    values, rest = cosine[index[:, 0], index[:, 1]], cosine[others[:, 0], others[:, 1]]
    upper = cosine[np.triu_indices(len(cosine), 1)]
    return pd.DataFrame(
        {
            "emotion": [a for a, _ in known],
            "opposite": [b for _, b in known],
            "cosine": values,
            "rank": [int((upper < v - 1e-12).sum()) + 1 for v in values],
            "p": [float(permutation_p(v, rest, "less")) for v in values],
        }
    )


def _by_layer(
    cosine: Float[np.ndarray, "l n n"],
    index: Int[np.ndarray, "pairs 2"],
    others: Int[np.ndarray, "others 2"],
    null: Float[np.ndarray, "m l"],
) -> pd.DataFrame:
    observed = cosine[:, index[:, 0], index[:, 1]].mean(1)
    low, high = percentile_band(null)
    return pd.DataFrame(
        {
            "layer": np.arange(len(cosine)),
            "depth": (np.arange(len(cosine)) + 1) / len(cosine),
            "opposite": observed,
            "other": cosine[:, others[:, 0], others[:, 1]].mean(1),
            "null_low": low,
            "null_high": high,
            "p": permutation_p(observed, null, "less"),
            "p_corrected": max_corrected_p(observed, null, "less", standardise=True),
        }
    )
