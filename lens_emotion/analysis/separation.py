"""Separation: the mean pairwise cosine of the emotion vectors (J), never without what tells it from noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_emotion.analysis.decoding import Decoding, decoding
from lens_emotion.analysis.design import Design, coordinates, design_of, label_permutations
from lens_emotion.analysis.reliability import reliability
from lens_emotion.analysis.results import ALPHA, NOISE, p_text, place, resolve_layer, result_html
from lens_emotion.analysis.stats import percentile_band, permutation_p
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.stimuli.emotions import NEUTRAL
from lens_emotion.vectors.emotion_vectors import unit
from lens_emotion.vectors.recipes import Recipe, apply_steps, class_weights, recipe_steps

CELLS = 4_000_000  # numbers of class means held at once


def mean_pairwise_cosine(directions: Float[Tensor, "*batch n d_model"]) -> Float[Tensor, "*batch"]:
    """Mean cosine over all pairs of the n rows, in closed form: (||sum u||^2 - n) / (n (n - 1)), ||u|| = 1.

    Rows are scaled to length 1 here. The cost is O(n d); float64 inside, float64 out. A row of zeros has
    cosine 0 with every other. NaN for n = 1.
    """
    u = unit(directions.double())
    n = directions.shape[-2]
    own = (u**2).sum((-2, -1))  # n, less the rows of zeros
    total = (u.sum(-2) ** 2).sum(-1)
    return (total - own) / (n * (n - 1)) if n > 1 else torch.full_like(total, torch.nan)


@dataclass(frozen=True, eq=False)
class Separation:
    """How far apart the emotion vectors lie, and whether there is anything there to be apart.

    Attributes:
        table: layer, depth, mean_cosine (lower = further apart), null_low, null_high (95% of label
            permutations), p (mean_cosine below its null), accuracy (held-out decoding), chance, accuracy_p
            (this layer alone), accuracy_p_corrected (best of all layers), reliability (split-half,
            Spearman-Brown, mean over emotions).
        recipe: recipe of the vectors whose cosine is taken.
        decoding: the decoding behind `accuracy`.
        null: mean cosine of each label permutation at each layer.
    """

    table: pd.DataFrame
    recipe: str
    decoding: Decoding
    null: Float[np.ndarray, "n_permutations n_layers"]

    @property
    def best_layer(self) -> int:
        """Layer of the highest held-out accuracy: a low cosine alone would choose noise."""
        return self.decoding.best_layer

    def distinguishable(self, layer: int | None = None) -> bool:
        """True if held-out decoding lies above its permutation null (p <= 0.05).

        With a layer chosen beforehand: its own p. With none: the best layer, its p corrected for the choice.
        The mean cosine has no say: noise lowers it as well as separation does.
        """
        return self._decoding_p(layer) <= ALPHA

    def _decoding_p(self, layer: int | None) -> float:
        at = resolve_layer(layer, len(self.table), self.best_layer)
        column = "accuracy_p_corrected" if layer is None else "accuracy_p"
        return float(self.table[column].iloc[at])

    def summary(self, layer: int | None = None) -> str:
        """One sentence on a layer; by default the best in accuracy, its p corrected for the choice."""
        at = resolve_layer(layer, len(self.table), self.best_layer)
        row = self.table.iloc[at]
        verdict = "emotions are told apart on unseen topics" if self.distinguishable(layer) else NOISE
        corrected = " corrected over layers" * (layer is None)
        return (
            f"At {place(at, len(self.table), best=layer is None)} the mean pairwise cosine is "
            f"{row.mean_cosine:.2f} by the {self.recipe} recipe (label-permutation null {row.null_low:.2f} "
            f"to {row.null_high:.2f}, {p_text(row.p)}), held-out accuracy {row.accuracy:.2f} (chance "
            f"{row.chance:.2f}, {p_text(self._decoding_p(layer))}{corrected}), split-half reliability "
            f"{row.reliability:.2f}: {verdict}."
        )

    def _repr_html_(self) -> str:
        return result_html(self)


def separation(
    acts: PooledActivations, recipe: Recipe = "neutral", n_permutations: int = 200, seed: int = 0
) -> Separation:
    """J's separation at every layer, with a label-permutation null, held-out decoding and reliability.

    Args:
        acts: emotional texts on crossed topics; neutral texts too where the recipe needs them.
        recipe: of the vectors. "neutral" is J's. Under "centred" the value is forced near -1/(n-1).
        n_permutations: label permutations, the same for cosine and decoding.
        seed: of permutations and splits.

    Raises:
        StimulusError: a single class or topic, or no neutral texts for a recipe that needs them.
        UnknownRecipeError: no recipe of that name.
        AnalysisError: n_permutations below 1.
    """
    name, _ = recipe_steps(recipe)
    decoded = decoding(acts, n_permutations, seed)
    observed, null = cosine_null(acts, recipe, n_permutations, seed)
    low, high = percentile_band(null)
    by_layer = decoded.table
    table = pd.DataFrame(
        {
            "layer": by_layer["layer"],
            "depth": by_layer["depth"],
            "mean_cosine": observed,
            "null_low": low,
            "null_high": high,
            "p": permutation_p(observed, null, "less"),
            "accuracy": by_layer["accuracy"],
            "chance": by_layer["chance"],
            "accuracy_p": by_layer["p"],
            "accuracy_p_corrected": by_layer["p_corrected"],
            "reliability": reliability(acts, seed=seed).by_layer["reliability"],
        }
    )
    return Separation(table, name, decoded, null)


def cosine_null(
    acts: PooledActivations, recipe: Recipe, n_permutations: int, seed: int
) -> tuple[Float[np.ndarray, " n_layers"], Float[np.ndarray, "m n_layers"]]:
    """Mean pairwise cosine per layer, as observed and under label permutations (of the emotional texts)."""
    design = design_of(acts)
    labels = np.concatenate([design.label[None], label_permutations(design, n_permutations, seed)])
    _, steps = recipe_steps(recipe)
    # the named recipes do not depend on the choice of axes or origin; a stranger's function might
    rows = coordinates(acts.values) if isinstance(recipe, str) else acts.values.detach().cpu().double()
    neutral = torch.from_numpy(acts.emotion == NEUTRAL)
    texts, neutral_rows = rows[~neutral], rows[neutral]
    values = []
    for block in _blocks(labels, design, rows, batched=isinstance(recipe, str)):
        weights = torch.from_numpy(class_weights(block, design.topic, design.n_classes))
        means = torch.einsum("bkn,nld->bkld", weights, texts)
        if not isinstance(recipe, str):
            means = means[0]
        made = apply_steps(steps, means, neutral_rows)
        values.append(mean_pairwise_cosine(made.transpose(-3, -2)).reshape(-1, acts.n_layers))
    scores = torch.cat(values).numpy()
    return scores[0], scores[1:]


def _blocks(
    labels: Int[np.ndarray, "b n"], design: Design, rows: Tensor, batched: bool
) -> list[Int[np.ndarray, "block n"]]:
    """Permutations in blocks of bounded memory; one by one for a recipe that knows no batch axis."""
    per_block = max(1, CELLS // (design.n_classes * rows[0].numel())) if batched else 1
    return [labels[i : i + per_block] for i in range(0, len(labels), per_block)]
