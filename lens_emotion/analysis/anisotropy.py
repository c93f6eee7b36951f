"""Anisotropy: how alike any two states are, emotion aside: the baseline of every cosine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from lens_emotion.analysis.design import coordinates
from lens_emotion.analysis.results import place, result_html
from lens_emotion.analysis.separation import mean_pairwise_cosine
from lens_emotion.errors import StimulusError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.stimuli.emotions import NEUTRAL
from lens_emotion.vectors.emotion_vectors import unit
from lens_emotion.vectors.recipes import check_finite


@dataclass(frozen=True, eq=False)
class Anisotropy:
    """Mean pairwise cosines of states, per layer. All are scale-free and compare across models.

    Attributes:
        table: layer, depth, neutral_raw (raw states of neutral texts, J's baseline), all_raw (raw states of
            all texts), neutral_centred (neutral texts minus the mean of all texts), random_matched (expected
            |cosine| of two random directions with the covariance of all texts; 0 would be white in many
            dimensions).
        n_neutral: neutral texts. n_texts: all texts, neutral included.
    """

    table: pd.DataFrame
    n_neutral: int
    n_texts: int

    def summary(self) -> str:
        """One sentence on the middle layer and the range over layers."""
        raw, n = self.table["neutral_raw"], len(self.table)
        middle = self.table.iloc[n // 2]
        return (
            f"Two of {self.n_neutral} neutral texts have a raw cosine of {middle.neutral_raw:.2f} on "
            f"average at {place(n // 2, n)} ({raw.min():.2f} to {raw.max():.2f} over layers), "
            f"{middle.neutral_centred:.2f} once the common mean is subtracted; covariance-matched random "
            f"directions reach |cosine| {middle.random_matched:.2f}."
        )

    def _repr_html_(self) -> str:
        return result_html(self)


def anisotropy(acts: PooledActivations, n_random: int = 500, seed: int = 0) -> Anisotropy:
    """Anisotropy baselines at every layer (J: mean pairwise cosine of raw neutral states), in closed form.

    `random_matched` is the mean |cosine| over all pairs of `n_random` draws.

    Raises:
        StimulusError: fewer than 3 neutral texts.
        ArtifactError: activations that are not finite.
    """
    neutral = torch.from_numpy(acts.emotion == NEUTRAL)
    if int(neutral.sum()) < 3:
        raise StimulusError(
            "anisotropy is measured on neutral texts and needs at least 3; these activations hold "
            f"{int(neutral.sum())}; extract with neutral texts (20 or more give a steady figure)"
        )
    check_finite(acts.values)
    values = acts.values.detach().cpu()
    rows = coordinates(values)
    table = pd.DataFrame(
        {
            "layer": np.arange(acts.n_layers),
            "depth": acts.depth,
            "neutral_raw": _mean_cosines(values[neutral]),
            "all_raw": _mean_cosines(values),
            "neutral_centred": _mean_cosines(rows[neutral]),
            "random_matched": _random_matched(rows, n_random, seed),
        }
    )
    return Anisotropy(table, int(neutral.sum()), len(acts))


def _mean_cosines(values: Float[Tensor, "n l d"]) -> Float[np.ndarray, " l"]:
    return np.array([float(mean_pairwise_cosine(rows)) for rows in values.unbind(1)])


def _random_matched(rows: Float[Tensor, "n l r"], n_random: int, seed: int) -> Float[np.ndarray, " l"]:
    """Draws with the texts' covariance are random mixtures of the centred texts."""
    generator = torch.Generator().manual_seed(seed)
    mixture = torch.randn(n_random, len(rows), generator=generator, dtype=rows.dtype)
    pairs = torch.triu_indices(n_random, n_random, offset=1)
    values = []
    for layer in rows.unbind(1):
        draws = unit(mixture @ layer)
        values.append(float((draws @ draws.T)[pairs[0], pairs[1]].abs().mean()))
    return np.array(values)
