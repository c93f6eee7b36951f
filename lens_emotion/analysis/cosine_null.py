"""The mean pairwise cosine under label permutations, and with it, in one pass over the layers, its company."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float

from lens_emotion.analysis.class_sums import Labellings, mean_products, over_blocks, slabs
from lens_emotion.analysis.cosines import (
    ROUNDING,
    Corrected,
    corrected_cosine,
    mean_cosine,
    mean_pairwise_cosine,
    recipe_grams,
    topic_means,
    vector_products,
)
from lens_emotion.analysis.decoding import Decoding, decoded, decoding, permuted
from lens_emotion.analysis.design import design_of, grams
from lens_emotion.analysis.halves import class_halves, half_cosines, layer_half_cosines, topic_halves
from lens_emotion.analysis.heldout import FoldedGram, accuracies, class_slabs, fold_gram, observed_scores
from lens_emotion.analysis.reliability import mean_reliability
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.stimuli.emotions import NEUTRAL
from lens_emotion.vectors.recipes import (
    RECIPES,
    Recipe,
    apply_steps,
    check_finite,
    class_weights,
    recipe_steps,
    without_neutral_components,
)

N_SPLITS = 20  # halvings behind the reliability, as many as `reliability` makes


def cosine_null(
    acts: PooledActivations, recipe: Recipe, n_permutations: int, seed: int
) -> tuple[Float[np.ndarray, " n_layers"], Float[np.ndarray, "m n_layers"]]:
    """Mean pairwise cosine per layer, as observed and under label permutations (of the emotional texts)."""
    design, blocks = permuted(acts, n_permutations, seed)
    if not isinstance(recipe, str):
        return _cosines_of_function(acts, recipe, blocks)
    recipe_steps(recipe)
    emotional = np.flatnonzero(acts.emotion != NEUTRAL)
    scores = []
    for gram in recipe_grams(acts, recipe):
        columns = slabs(design, gram[emotional][:, emotional])
        least = ROUNDING * float(gram.diagonal().mean())
        scores.append(over_blocks(partial(_block_cosines, recipe, least, columns), blocks))
    return _split(scores)


@dataclass(frozen=True, eq=False)
class Layers:
    """What one pass over the layers gives."""

    decoding: Decoding
    observed: Float[np.ndarray, " n_layers"]
    null: Float[np.ndarray, "m n_layers"]
    corrected: list[Corrected]
    reliability: Float[np.ndarray, " n_layers"]


def measure_layers(acts: PooledActivations, recipe: Recipe, n_permutations: int, seed: int) -> Layers:
    """Everything that separation reports, layer by layer."""
    if isinstance(recipe, str):
        return _named(acts, recipe, n_permutations, seed)
    return _of_function(acts, recipe, n_permutations, seed)


def _named(acts: PooledActivations, recipe: str, n_permutations: int, seed: int) -> Layers:
    """Decoding, cosines and reliability from one Gram matrix and one set of class sums per layer."""
    design, blocks = permuted(acts, n_permutations, seed)
    emotional = np.flatnonzero(acts.emotion != NEUTRAL)
    halves = class_halves(design, design.label[None], topic_halves(len(design.topics), N_SPLITS, seed))
    means = topic_means(acts, design, blocks[0].weights[0], recipe)
    # subtracting a vector from all texts changes no held-out score; projecting does
    plain = grams(acts.emotional.values) if without_neutral_components in RECIPES[recipe] else None
    scores, both, corrected, reliable = [], [], [], []
    for gram in recipe_grams(acts, recipe):
        own = gram[emotional][:, emotional]
        as_read = next(plain) if plain else own
        folded = fold_gram(design, as_read)
        columns = slabs(design, own) if plain else None
        least = ROUNDING * float(gram.diagonal().mean())
        scores.append(observed_scores(folded))
        both.append(over_blocks(partial(_block_both, recipe, least, folded, columns), blocks))
        corrected.append(corrected_cosine(gram.numpy(), means, recipe))
        reliable.append(mean_reliability(layer_half_cosines(as_read, design, halves)[0]))
    accuracy, cosines = np.moveaxis(np.stack(both, axis=1), 2, 0)
    result = decoded(acts, design, np.stack(scores), accuracy)
    return Layers(result, cosines[0], cosines[1:], corrected, np.array(reliable))


def _of_function(acts: PooledActivations, recipe: Recipe, n_permutations: int, seed: int) -> Layers:
    observed, null = cosine_null(acts, recipe, n_permutations, seed)
    why_not = "the recipe is a function, which is not known to commute with taking means"
    corrected = [Corrected(float(v), np.nan, np.nan, np.nan, why_not) for v in observed]
    design = design_of(acts)
    halves = topic_halves(len(design.topics), N_SPLITS, seed)
    r = half_cosines(acts, design, design.label[None], halves)[:, 0]
    return Layers(decoding(acts, n_permutations, seed), observed, null, corrected, mean_reliability(r))


def _block_cosines(
    recipe: str, least: float, columns: list[np.ndarray], block: Labellings, sums: list[np.ndarray] | None = None
) -> Float[np.ndarray, " b"]:
    return mean_cosine(vector_products(recipe, mean_products(block, columns, sums)), least)


def _block_both(
    recipe: str, least: float, folded: FoldedGram, projected: list[np.ndarray] | None, block: Labellings
) -> Float[np.ndarray, "b 2"]:
    """Held-out accuracy and mean cosine; `projected` are the recipe's slabs where they are not those of `folded`."""
    sums = class_slabs(folded, block)
    accuracy = accuracies(folded, block, sums)
    if projected is None:
        cosine = _block_cosines(recipe, least, folded.columns, block, sums)
    else:
        cosine = _block_cosines(recipe, least, projected, block)
    return np.stack([accuracy, cosine], axis=1)


def _cosines_of_function(
    acts: PooledActivations, recipe: Recipe, blocks: list[Labellings]
) -> tuple[Float[np.ndarray, " n_layers"], Float[np.ndarray, "m n_layers"]]:
    """One labelling at a time, in full coordinates: nothing is known of the function."""
    _, steps = recipe_steps(recipe)
    check_finite(acts.values)
    rows = acts.values.detach().cpu().double()
    neutral = torch.from_numpy(acts.emotion == NEUTRAL)
    texts, neutral_rows = rows[~neutral], rows[neutral]
    scores = []
    for block in blocks:
        for label in block.label:
            weights = torch.from_numpy(class_weights(label, block.design.topic, block.design.n_classes))
            made = apply_steps(steps, torch.einsum("kn,nld->kld", weights, texts), neutral_rows)
            scores.append(mean_pairwise_cosine(made.transpose(0, 1)).numpy())
    return scores[0], np.stack(scores[1:])


def _split(scores: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    together = np.stack(scores, axis=1)
    return together[0], together[1:]
