"""Separation: the mean pairwise cosine of the emotion vectors (J), never without what tells it from noise."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from lens_emotion.analysis.decoding import Decoding, Found, decoding, permuted
from lens_emotion.display import Brief, Result
from lens_emotion.errors import AnalysisError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.files.user import numbers_fit
from lens_emotion.models.layers import place, resolve_layer
from lens_emotion.pictures import Line
from lens_emotion.stats.cosines import (
    ROUNDING,
    Corrected,
    corrected_cosine,
    mean_cosine,
    mean_pairwise_cosine,
    recipe_grams,
    topic_means,
    vector_products,
)
from lens_emotion.stats.design import design_of, grams, with_copies
from lens_emotion.stats.gram import Labellings, mean_products, over_blocks
from lens_emotion.stats.split_half import class_halves, half_cosines, layer_half_cosines, mean_reliability, topic_halves
from lens_emotion.stats.tests import UNTOLD, noise, p_text, percentile_band, permutation_p
from lens_emotion.stimuli.emotions import NEUTRAL
from lens_emotion.vectors.recipes import (
    RECIPES,
    Recipe,
    apply_steps,
    class_means,
    class_weights,
    recipe_steps,
    without_neutral_components,
)


@dataclass(frozen=True, eq=False, repr=False)
class Separation(Result):
    """How far apart the emotion vectors lie, and whether there is anything there to be apart.

    Attributes:
        table: layer, depth, mean_cosine (lower = further apart), cosine_low, cosine_high (95%, jackknife over
            topics), null_low, null_high (95% of label permutations), p (mean_cosine below its null),
            disattenuated (mean cosine corrected for noise: `cosines.corrected_cosine`; NaN where there is no such
            estimate) with its interval disattenuated_low, disattenuated_high, accuracy (held-out decoding), chance,
            accuracy_p (this layer alone), accuracy_p_corrected (best of all layers), the same three by the standardised
            decoder (accuracy_standardised, accuracy_p_standardised, accuracy_p_corrected_standardised), reliability
            (split-half, Spearman-Brown, mean over emotions; `reliability` has its null).
        recipe: recipe of the vectors whose cosine is taken.
        forced: the recipe's vectors cancel, so that their mean cosine lies near -1/(n-1) whatever the model: it and all
            that is made of it are NaN in the table.
        decoding: the decoding behind `accuracy`.
        null: mean cosine of each label permutation at each layer.
        why_uncorrected: per layer, why `disattenuated` is NaN; empty where it is not.
    """

    _picture = Line("layer", "accuracy", reference="chance")

    table: pd.DataFrame
    recipe: str
    decoding: Decoding
    null: Float[np.ndarray, "n_permutations n_layers"]
    why_uncorrected: tuple[str, ...]
    forced: bool = False

    @property
    def best_layer(self) -> int:
        """Layer of the highest held-out accuracy: a low cosine alone would choose noise."""
        return self.decoding.best_layer

    def distinguishable(self, layer: int | None = None) -> bool:
        """True if held-out decoding lies above its permutation null (p <= 0.05), by the centred cosine.

        `decoding.hangs(layer)` says whether the standardised decoder sees it otherwise. With a layer chosen beforehand:
        its own p. With none: the best layer, its p corrected for the choice. The mean cosine has no say: noise lowers
        it as well as separation does.
        """
        return self.decoding.above_chance(None if layer is None else resolve_layer(layer, len(self.table), 0))

    @property
    def tied(self) -> bool:
        """True if copies leave nothing to test: then "not distinguishable" would be said of what nobody could tell."""
        return self.decoding.tied

    def summary(self, layer: int | None = None) -> str:
        """One sentence on a layer; by default the best in accuracy, its p corrected for the choice."""
        at = resolve_layer(layer, len(self.table), self.best_layer)
        row = self.table.iloc[at]
        verdict = UNTOLD if self.tied else noise(len(self.null))
        verdict = "emotions are told apart on unseen topics" if self.distinguishable(layer) else verdict
        verdict = self.decoding.hangs(None if layer is None else at) or verdict
        p, corrected = ("accuracy_p_corrected", " corrected over layers") if layer is None else ("accuracy_p", "")
        also = f"{with_copies(self.decoding.copies)}{self._forced()}"
        return (
            f"At {place(at, len(self.table), best=layer is None)} {self._cosine(at)}held-out accuracy "
            f"{'is ' * self.forced}{row.accuracy:.2f} (chance {row.chance:.2f}, {p_text(row[p])}{corrected}; "
            f"standardised per dimension {row.accuracy_standardised:.2f}, {p_text(row[f'{p}_standardised'])}), "
            f"split-half reliability {row.reliability:.2f}: {verdict}.{also}"
        )

    def _cosine(self, layer: int) -> str:
        if self.forced:
            return ""
        row = self.table.iloc[layer]
        return (
            f"the mean pairwise cosine is {row.mean_cosine:.2f} by the {self.recipe} recipe (label-permutation null "
            f"{row.null_low:.2f} to {row.null_high:.2f}, {p_text(row.p)}; {self._free_of_noise(layer)}), "
        )

    def _forced(self) -> str:
        if not self.forced:
            return ""
        n = len(self.decoding.emotions)
        return (
            f" No mean cosine: the {self.recipe} recipe forces it near -1/(n-1) = {-1 / (n - 1):.2f}; the recipe "
            "'neutral' has one, given neutral texts."
        )

    def _free_of_noise(self, layer: int) -> str:
        if self.why_uncorrected[layer]:
            return f"not corrected for noise: {self.why_uncorrected[layer]}"
        row = self.table.iloc[layer]
        value = f"{row.disattenuated:.2f} corrected for noise"
        if np.isnan(row.disattenuated_low):
            return f"{value}, without interval"
        return f"{value}, 95% {row.disattenuated_low:.2f} to {row.disattenuated_high:.2f}"


@numbers_fit(AnalysisError)
def separation(
    acts: PooledActivations, recipe: Recipe | None = None, n_permutations: int = 200, seed: int = 0
) -> Separation:
    """J's separation at every layer, with a label-permutation null, held-out decoding and reliability.

    Args:
        acts: emotional texts on crossed topics; neutral texts too where the recipe needs them.
        recipe: of the vectors; by default "neutral", J's, and "centred" where there are no neutral texts. Under
            "centred" and "neutral_pca" the mean cosine is forced near -1/(n-1), and not shown.
        n_permutations: label permutations, the same for cosine and decoding.
        seed: of permutations and splits.

    Raises:
        StimulusError: a single class or topic, or no neutral texts for a recipe that needs them.
        UnknownRecipeError: no recipe of that name.
        AnalysisError: n_permutations below 1.

    Example:
        >>> result = le.separation(acts, "neutral", n_permutations=20)
        >>> list(result.table)[:3]
        ['layer', 'depth', 'mean_cosine']
    """
    if recipe is None:
        recipe = "neutral" if NEUTRAL in acts.emotion else "centred"
    name, _ = recipe_steps(recipe)
    options = n_permutations, seed
    layers = _named(acts, recipe, *options) if isinstance(recipe, str) else _of_function(acts, recipe, *options)
    corrected, by_layer = layers.corrected, layers.decoding.table
    values = [(c.raw, c.raw_half, c.corrected, c.corrected_half) for c in corrected]
    observed, half, free, free_half = np.array(values).T
    low, high = percentile_band(layers.null)
    table = pd.DataFrame(
        {
            "layer": by_layer["layer"],
            "depth": by_layer["depth"],
            "mean_cosine": layers.observed,
            "cosine_low": np.maximum(-1, observed - half),
            "cosine_high": np.minimum(1, observed + half),
            "null_low": low,
            "null_high": high,
            "p": permutation_p(layers.observed, layers.null, "less"),
            "disattenuated": free,
            "disattenuated_low": free - free_half,
            "disattenuated_high": free + free_half,
            "accuracy": by_layer["accuracy"],
            "chance": by_layer["chance"],
            "accuracy_p": by_layer["p"],
            "accuracy_p_corrected": by_layer["p_corrected"],
            "accuracy_standardised": by_layer["accuracy_standardised"],
            "accuracy_p_standardised": by_layer["p_standardised"],
            "accuracy_p_corrected_standardised": by_layer["p_corrected_standardised"],
            "reliability": layers.reliability,
        }
    )
    if forced := cancel(acts, recipe):
        table[_OF_THE_COSINE] = np.nan
    return Separation(table, name, layers.decoding, layers.null, tuple(c.why_not for c in corrected), forced)


_OF_THE_COSINE = [
    "mean_cosine", "cosine_low", "cosine_high", "null_low", "null_high", "p",
    "disattenuated", "disattenuated_low", "disattenuated_high",
]  # fmt: skip


def cancel(acts: PooledActivations, recipe: Recipe) -> bool:
    """Whether a recipe's vectors sum to zero at every layer, as deviations from their mean do: their mean cosine then
    says how many they are, not how they lie."""
    _, steps = recipe_steps(recipe)
    made = apply_steps(steps, class_means(acts), acts.neutral.values.cpu().double())
    return bool((made.sum(0).norm(dim=-1) <= 1e-6 * made.norm(dim=-1).sum(0)).all())


# The mean pairwise cosine under label permutations, and with it, in one pass over the layers, its company.

N_SPLITS = 20  # halvings behind the reliability, as many as `reliability` makes


def cosine_null(
    acts: PooledActivations, recipe: Recipe, n_permutations: int, seed: int
) -> tuple[Float[np.ndarray, " n_layers"], Float[np.ndarray, "m n_layers"]]:
    """Mean pairwise cosine per layer, as observed and under label permutations (of the emotional texts)."""
    _, blocks = permuted(acts, n_permutations, seed)
    if not isinstance(recipe, str):
        return _cosines_of_function(acts, recipe, blocks)
    recipe_steps(recipe)
    emotional = np.flatnonzero(acts.emotion != NEUTRAL)
    scores = []
    for gram in recipe_grams(acts, recipe):
        own, least = gram[emotional][:, emotional].numpy(), ROUNDING * float(gram.diagonal().mean())
        scores.append(over_blocks(partial(_block_cosines, recipe, least, own), blocks))
    together = np.stack(scores, axis=1)
    return together[0], together[1:]


@dataclass(frozen=True, eq=False, repr=False)
class Layers(Brief):
    """What one pass over the layers gives."""

    decoding: Decoding
    observed: Float[np.ndarray, " n_layers"]
    null: Float[np.ndarray, "m n_layers"]
    corrected: list[Corrected]
    reliability: Float[np.ndarray, " n_layers"]


def _named(acts: PooledActivations, recipe: str, n_permutations: int, seed: int) -> Layers:
    """Decoding, cosines and reliability from one Gram matrix and one set of class sums per layer."""
    design, blocks = permuted(acts, n_permutations, seed)
    emotional = np.flatnonzero(acts.emotion != NEUTRAL)
    halves = class_halves(design, design.label[None], topic_halves(design.n_blocks, N_SPLITS, seed))
    means = topic_means(acts, design, blocks[0].weights[0], recipe)
    # subtracting a vector from all texts changes no held-out score; projecting does
    values = acts.emotional.values.detach().cpu()
    plain = grams(values) if without_neutral_components in RECIPES[recipe] else None
    found, cosines, corrected, reliable = Found(design, blocks), [], [], []
    for gram, rows in zip(recipe_grams(acts, recipe), values.unbind(1), strict=True):
        own = gram[emotional][:, emotional]
        as_read = next(plain) if plain else own
        least = ROUNDING * float(gram.diagonal().mean())
        found.add(as_read, rows)
        cosines.append(over_blocks(partial(_block_cosines, recipe, least, own.numpy()), blocks))
        corrected.append(corrected_cosine(gram.numpy(), means, recipe))
        reliable.append(mean_reliability(layer_half_cosines(as_read, design, halves)[0]))
    together = np.stack(cosines, axis=1)
    return Layers(found.decoding(acts), together[0], together[1:], corrected, np.array(reliable))


def _of_function(acts: PooledActivations, recipe: Recipe, n_permutations: int, seed: int) -> Layers:
    observed, null = cosine_null(acts, recipe, n_permutations, seed)
    why_not = "the recipe is a function, which is not known to commute with taking means"
    corrected = [Corrected(float(v), np.nan, np.nan, np.nan, why_not) for v in observed]
    design = design_of(acts)
    halves = topic_halves(design.n_blocks, N_SPLITS, seed)
    r = half_cosines(acts, design, design.label[None], halves)[:, 0]
    return Layers(decoding(acts, n_permutations, seed), observed, null, corrected, mean_reliability(r))


def _block_cosines(
    recipe: str, least: float, gram: Float[np.ndarray, "n n"], block: Labellings
) -> Float[np.ndarray, " b"]:
    return mean_cosine(vector_products(recipe, mean_products(gram, block)), least)


def _cosines_of_function(
    acts: PooledActivations, recipe: Recipe, blocks: list[Labellings]
) -> tuple[Float[np.ndarray, " n_layers"], Float[np.ndarray, "m n_layers"]]:
    """One labelling at a time, in full coordinates: nothing is known of the function."""
    _, steps = recipe_steps(recipe)
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
