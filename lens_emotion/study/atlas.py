"""What a reader turns over layer by layer: similarity, main axes, and two texts token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lens_emotion.analysis.circumplex import Circumplex, circumplex, missing_norms
from lens_emotion.analysis.geometry import SimilarityByLayer, similarity_by_layer
from lens_emotion.analysis.tokens import TokenScores, token_scores_by_layer
from lens_emotion.display import Brief
from lens_emotion.errors import ContextLengthError
from lens_emotion.extraction.activations import PooledActivations, TextRecord
from lens_emotion.models.access import Model
from lens_emotion.run.config import StudyConfig
from lens_emotion.stimuli.emotions import OPPOSITE_PAIRS, Norm
from lens_emotion.vectors.recipes import emotion_vectors

OPENING = 24  # words of a text that are shown
N_DRAWS = 200  # of the bootstrap at every layer; the best layer has the full one


@dataclass(frozen=True, eq=False, repr=False)
class TextByLayer(Brief):
    """The opening of a text, token by token at every layer, with vectors that were made without its topic."""

    emotion: str
    topic: str
    scores: tuple[TokenScores, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Atlas(Brief):
    """One result per layer of each kind; `circumplex` has p-values of each layer alone."""

    similarity: SimilarityByLayer
    circumplex: tuple[Circumplex, ...]
    texts: tuple[TextByLayer, ...]

    def with_best(self, best: Circumplex) -> Atlas:
        """The same with the full circumplex (its intervals over topics) at its own layer."""
        return replace(self, circumplex=tuple(best if c.layer == best.layer else c for c in self.circumplex))


def atlas(model: Model, acts: PooledActivations, config: StudyConfig, ratings: Sequence[Norm] = ()) -> Atlas:
    """Similarity and circumplex (where rated) of every layer, and the first texts of two opposite emotions."""
    return replace(atlas_of(acts, config, ratings), texts=texts_by_layer(model, acts, config.seed))


def atlas_of(acts: PooledActivations, config: StudyConfig, ratings: Sequence[Norm] = ()) -> Atlas:
    """The same without the texts, which need the model."""
    vectors = emotion_vectors(acts)
    layers = () if missing_norms(vectors.emotions, ratings) else range(vectors.n_layers)
    known = ratings or None
    planes = tuple(
        circumplex(vectors, layer, config.n_permutations, config.seed, n_draws=N_DRAWS, ratings=known)
        for layer in layers
    )
    return Atlas(similarity_by_layer(vectors), planes, ())


def texts_by_layer(model: Model, acts: PooledActivations, seed: int = 0) -> tuple[TextByLayer, ...]:
    """Two texts of one topic and of opposite emotions, scored on the opposites; none that the model cannot hold."""
    shown = [e for pair in OPPOSITE_PAIRS for e in pair if e in acts.emotions] or list(acts.emotions[:8])
    found = []
    for record in _examples(acts, shown):
        others = acts.only(acts.topic != record.topic)
        vectors = emotion_vectors(others)
        opening = " ".join(record.text.split()[:OPENING])
        try:
            scores = token_scores_by_layer(model, vectors, opening, shown, others, seed=seed)
        except ContextLengthError:
            continue
        found.append(TextByLayer(record.emotion, record.topic, scores))
    return tuple(found)


def _examples(acts: PooledActivations, shown: list[str]) -> list[TextRecord]:
    """The first text of each of two emotions on the first topic that leaves every emotion texts without it."""
    for topic in acts.topics:
        rest = set(acts.emotion[acts.topic != topic])
        mine = [np.flatnonzero((acts.topic == topic) & (acts.emotion == e)) for e in shown[:2]]
        if all(len(m) for m in mine) and set(acts.emotions) <= rest:
            return [acts.records[int(m[0])] for m in mine]
    return []
