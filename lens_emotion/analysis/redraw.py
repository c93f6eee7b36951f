"""Emotion vectors made again from redrawn topics: the bootstrap behind intervals on their geometry."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lens_emotion.analysis.results import AnalysisError
from lens_emotion.errors import StimulusError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.stimuli.emotions import NEUTRAL
from lens_emotion.vectors.emotion_vectors import EmotionVectors, unit
from lens_emotion.vectors.recipes import RECIPES, apply_steps, check_finite, class_weights, codes

BLOCK = 4_000_000  # numbers of class means held at once


def redrawn_directions(
    vectors: EmotionVectors, acts: PooledActivations, layer: int, n_draws: int, seed: int
) -> Float[Tensor, "b n_emotions n_emotions"]:
    """Inner products of the centred unit directions at a layer, for each bootstrap sample of topics.

    Neutral texts are not redrawn. Draws that leave an emotion without texts are dropped.

    Raises:
        StimulusError: a single topic.
        AnalysisError: n_draws below 1, a recipe without a name, or `acts` do not give these vectors.
    """
    if n_draws < 1:
        raise AnalysisError(f"n_draws is {n_draws}; give at least 1 (1000 is usual)")
    steps = RECIPES.get(vectors.header.recipe)
    if steps is None or vectors.emotions != acts.emotions:
        raise AnalysisError(
            f"vectors by recipe '{vectors.header.recipe}' of {len(vectors)} emotions cannot be made again from these "
            f"activations of {len(acts.emotions)}; a bootstrap over topics needs the activations behind the vectors "
            f"and one of the recipes {', '.join(RECIPES)}; leave acts out to redraw emotions"
        )
    check_finite(acts.values[:, [layer]])
    neutral = acts.emotion == NEUTRAL
    rows = acts.values[:, layer].cpu().double()
    texts, plain = rows[torch.from_numpy(~neutral)], rows[torch.from_numpy(neutral)][:, None]
    weights = _weights(acts, n_draws, seed)
    per_block, grams = max(1, BLOCK // (len(vectors) * texts.shape[1])), []
    for start in range(0, len(weights), per_block):
        means = torch.from_numpy(weights[start : start + per_block]) @ texts
        made = unit(apply_steps(steps, means[:, :, None], plain)[:, :, 0])
        if start == 0:
            _check_same(made[0], vectors.at(layer))
        made = made - made.mean(1, keepdim=True)
        grams.append(made @ made.transpose(1, 2))
    return torch.cat(grams)[1:]


def _weights(acts: PooledActivations, n_draws: int, seed: int) -> Float[np.ndarray, "b k n"]:
    """Weights of the texts in topic-balanced class means: all topics first, then each draw of topics."""
    emotional = acts.emotion != NEUTRAL
    topic = codes(acts.topic[emotional])
    n_topics = int(topic.max()) + 1
    if n_topics < 2:
        raise StimulusError("a bootstrap over topics needs texts of at least 2 topics; leave acts out")
    weights = class_weights(codes(acts.emotion[emotional], acts.emotions), topic, len(acts.emotions))
    rng = np.random.default_rng(seed)
    times = rng.multinomial(n_topics, np.full(n_topics, 1 / n_topics), size=n_draws).astype(float)
    drawn = np.concatenate([np.ones((1, n_topics)), times])[:, None, topic] * weights
    total = drawn.sum(-1, keepdims=True)
    whole = (total > 0).all(axis=(1, 2))
    return drawn[whole] / total[whole]


def _check_same(made: Float[Tensor, "k d"], given: Float[Tensor, "k d"]) -> None:
    if float((made * given.cpu().double()).sum(-1).min()) < 0.999:
        raise AnalysisError(
            "these activations do not give these vectors at this layer (another model, pooling, layer order or neutral "
            "texts); pass the activations that the vectors were made from"
        )
