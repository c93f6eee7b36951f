"""Representational similarity with people: are emotions alike in a model that people rate alike?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from lens_emotion.analysis.rdm import mantel, ranks, rho, shared_emotions, vector_ranks
from lens_emotion.analysis.results import ALPHA, NOISE, check_permutations, p_text, place, resolve_layer, result_html
from lens_emotion.analysis.stats import max_corrected_p, permutation_p
from lens_emotion.stimuli.emotions import Norm, valence_arousal
from lens_emotion.vectors.emotion_vectors import EmotionVectors

SPACES = {"valence and arousal": (0, 1), "valence": (0,), "arousal": (1,)}


@dataclass(frozen=True, eq=False)
class HumanRSA:
    """Spearman correlation of a model's emotion distances with distances between human ratings of the words.

    Attributes:
        table: layer, depth, space ("valence and arousal", "valence", "arousal"), rho, p (Mantel, this layer),
            p_corrected (best of all layers, per space).
        layer: the layer asked for. n_layers: of how many. model: its name.
        emotions: emotions with ratings.
        n_permutations: relabellings.
    """

    table: pd.DataFrame
    layer: int
    n_layers: int
    model: str
    emotions: tuple[str, ...]
    n_permutations: int

    def summary(self) -> str:
        """One sentence on the layer asked for."""
        rows = self.table[self.table["layer"] == self.layer]
        parts = [
            f"{r['space']} rho = {r['rho']:.2f} ({p_text(r['p'])}{'' if r['p'] <= ALPHA else ', ' + NOISE})"
            for _, r in rows.iterrows()
        ]
        return (
            f"Distances of {len(self.emotions)} emotions in {self.model} at {place(self.layer, self.n_layers)} against "
            f"human ratings: {'; '.join(parts)}."
        )

    def _repr_html_(self) -> str:
        return result_html(self)


def rsa_human(
    vectors: EmotionVectors,
    layer: int | None = None,
    n_permutations: int = 2000,
    seed: int = 0,
    ratings: Sequence[Norm] | None = None,
) -> HumanRSA:
    """Distances of the emotion vectors against Euclidean distances in standardised human valence and arousal.

    Emotions without ratings are left out; nothing is imputed. `ratings` are a stimulus set's own `norms`.

    Raises:
        StimulusError: fewer than 4 emotions with ratings.
        AnalysisError: no such layer, or n_permutations below 1.
    """
    check_permutations(n_permutations)
    layer = resolve_layer(layer, vectors.n_layers, vectors.n_layers // 2)
    known = {n.emotion: n for n in ratings} if ratings else valence_arousal()
    rated = tuple(e for e in known if known[e].valence is not None and known[e].arousal is not None)
    emotions = shared_emotions(vectors.emotions, rated)
    human = ranks(_human_distances(np.array([(known[e].valence, known[e].arousal) for e in emotions], dtype=float)))
    model = vector_ranks(vectors, emotions)
    observed, null = rho(model, human), mantel(model, human, n_permutations, seed)
    parts = [
        pd.DataFrame(
            {
                "layer": np.arange(vectors.n_layers),
                "depth": (np.arange(vectors.n_layers) + 1) / vectors.n_layers,
                "space": space,
                "rho": observed[:, i],
                "p": permutation_p(observed[:, i], null[:, :, i]),
                "p_corrected": max_corrected_p(observed[:, i], null[:, :, i]),
            }
        )
        for i, space in enumerate(SPACES)
    ]
    table = pd.concat(parts, ignore_index=True)
    return HumanRSA(table, layer, vectors.n_layers, vectors.header.model, emotions, n_permutations)


def _human_distances(ratings: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "3 n n"]:
    z = (ratings - ratings.mean(0)) / ratings.std(0)
    gaps = (z[:, None] - z[None]) ** 2
    return np.stack([np.sqrt(gaps[..., list(axes)].sum(-1)) for axes in SPACES.values()])
