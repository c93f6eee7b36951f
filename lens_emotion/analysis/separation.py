"""Separation: the mean pairwise cosine of the emotion vectors (J), never without what tells it from noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from lens_emotion.analysis.cosine_null import cosine_null, measure_layers
from lens_emotion.analysis.cosines import mean_pairwise_cosine
from lens_emotion.analysis.decoding import Decoding
from lens_emotion.analysis.results import ALPHA, NOISE, p_text, place, resolve_layer, result_html
from lens_emotion.analysis.stats import percentile_band, permutation_p
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.vectors.recipes import Recipe, recipe_steps

__all__ = ["Separation", "cosine_null", "mean_pairwise_cosine", "separation"]


@dataclass(frozen=True, eq=False)
class Separation:
    """How far apart the emotion vectors lie, and whether there is anything there to be apart.

    Attributes:
        table: layer, depth, mean_cosine (lower = further apart), cosine_low, cosine_high (95%, jackknife over
            topics), null_low, null_high (95% of label permutations), p (mean_cosine below its null),
            disattenuated (mean cosine corrected for noise: `cosines.corrected_cosine`; NaN where there is no such
            estimate) with its interval disattenuated_low, disattenuated_high, accuracy (held-out decoding), chance,
            accuracy_p (this layer alone), accuracy_p_corrected (best of all layers), reliability (split-half,
            Spearman-Brown, mean over emotions; `reliability` has its null).
        recipe: recipe of the vectors whose cosine is taken.
        decoding: the decoding behind `accuracy`.
        null: mean cosine of each label permutation at each layer.
        why_uncorrected: per layer, why `disattenuated` is NaN; empty where it is not.
    """

    table: pd.DataFrame
    recipe: str
    decoding: Decoding
    null: Float[np.ndarray, "n_permutations n_layers"]
    why_uncorrected: tuple[str, ...]

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
            f"to {row.null_high:.2f}, {p_text(row.p)}; {self._free_of_noise(at)}), held-out accuracy "
            f"{row.accuracy:.2f} (chance {row.chance:.2f}, {p_text(self._decoding_p(layer))}{corrected}), "
            f"split-half reliability {row.reliability:.2f}: {verdict}."
        )

    def _free_of_noise(self, layer: int) -> str:
        if self.why_uncorrected[layer]:
            return f"not corrected for noise: {self.why_uncorrected[layer]}"
        row = self.table.iloc[layer]
        value = f"{row.disattenuated:.2f} corrected for noise"
        if np.isnan(row.disattenuated_low):
            return f"{value}, without interval"
        return f"{value}, 95% {row.disattenuated_low:.2f} to {row.disattenuated_high:.2f}"

    def _repr_html_(self) -> str:
        return result_html(self)


def separation(
    acts: PooledActivations, recipe: Recipe = "neutral", n_permutations: int = 200, seed: int = 0
) -> Separation:
    """J's separation at every layer, with a label-permutation null, held-out decoding and reliability.

    Args:
        acts: emotional texts on crossed topics; neutral texts too where the recipe needs them.
        recipe: of the vectors. "neutral" is J's. Under "centred" the value is forced near -1/(n-1), without noise
            too.
        n_permutations: label permutations, the same for cosine and decoding.
        seed: of permutations and splits.

    Raises:
        StimulusError: a single class or topic, or no neutral texts for a recipe that needs them.
        UnknownRecipeError: no recipe of that name.
        AnalysisError: n_permutations below 1.
    """
    name, _ = recipe_steps(recipe)
    layers = measure_layers(acts, recipe, n_permutations, seed)
    null, corrected = layers.null, layers.corrected
    low, high = percentile_band(null)
    observed, half, free, free_half = np.array(
        [(c.raw, c.raw_half, c.corrected, c.corrected_half) for c in corrected]
    ).T
    by_layer = layers.decoding.table
    table = pd.DataFrame(
        {
            "layer": by_layer["layer"],
            "depth": by_layer["depth"],
            "mean_cosine": layers.observed,
            "cosine_low": np.maximum(-1, observed - half),
            "cosine_high": np.minimum(1, observed + half),
            "null_low": low,
            "null_high": high,
            "p": permutation_p(layers.observed, null, "less"),
            "disattenuated": free,
            "disattenuated_low": free - free_half,
            "disattenuated_high": free + free_half,
            "accuracy": by_layer["accuracy"],
            "chance": by_layer["chance"],
            "accuracy_p": by_layer["p"],
            "accuracy_p_corrected": by_layer["p_corrected"],
            "reliability": layers.reliability,
        }
    )
    return Separation(table, name, layers.decoding, null, tuple(c.why_not for c in corrected))
