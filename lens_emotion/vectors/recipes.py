"""From activations to emotion vectors: class means, then a recipe of small steps.

A step is a plain function `(vectors, neutral) -> vectors`: `vectors` are the class means, or what an earlier
step made of them, and `neutral` the rows of the neutral texts (perhaps none). A recipe is a chain of steps.
Three have names:

    "centred"      mu_e - mean over emotions
    "neutral"      mu_e - mu_neutral                                    (J: Jeong, arXiv 2604.04064)
    "neutral_pca"  centred, then the top components of neutral text,
                   explaining 50% of its variance, projected out        (S: Sofroniew et al., arXiv
                   2604.07729)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_emotion.errors import FingerprintError, LensEmotionError, StimulusError
from lens_emotion.extraction.activations import PooledActivations, check_emotions, codes
from lens_emotion.stimuli.emotions import NEUTRAL
from lens_emotion.vectors.emotion_vectors import EmotionVectors, unit

Step = Callable[..., Tensor]
Recipe = str | Step | Sequence[Step]


class UnknownRecipeError(LensEmotionError, ValueError):
    """No recipe has this name; the message lists those that exist."""


def minus_mean(
    vectors: Float[Tensor, "*batch n_emotions n_layers d_model"], neutral: Float[Tensor, "n_neutral n_layers d_model"]
) -> Float[Tensor, "*batch n_emotions n_layers d_model"]:
    """Subtract the mean over emotions. Their mean cosine is then forced near -1/(n-1), whatever the model."""
    return vectors - vectors.mean(dim=-3, keepdim=True)


def minus_neutral(
    vectors: Float[Tensor, "*batch n_emotions n_layers d_model"], neutral: Float[Tensor, "n_neutral n_layers d_model"]
) -> Float[Tensor, "*batch n_emotions n_layers d_model"]:
    """Subtract the mean of the neutral texts (J). Raises StimulusError where there are none."""
    _need_neutral(neutral, 1)
    return vectors - neutral.mean(dim=0)


def without_neutral_components(
    vectors: Float[Tensor, "*batch n_emotions n_layers d_model"], neutral: Float[Tensor, "n_neutral n_layers d_model"]
) -> Float[Tensor, "*batch n_emotions n_layers d_model"]:
    """Project out, per layer, the top neutral components (S). Raises StimulusError below 2 neutral texts."""
    cleaned = vectors.clone()
    for layer, basis in enumerate(neutral_components(neutral)):
        basis = basis.to(vectors.dtype)
        cleaned[..., layer, :] -= (vectors[..., layer, :] @ basis.T) @ basis
    return cleaned


RECIPES: dict[str, tuple[Step, ...]] = {
    "centred": (minus_mean,),
    "neutral": (minus_neutral,),
    "neutral_pca": (minus_mean, without_neutral_components),
}


def neutral_components(
    neutral: Float[Tensor, "n_neutral n_layers d_model"], share: float = 0.5
) -> list[Float[Tensor, "k d_model"]]:
    """Fewest principal components of the neutral texts that explain `share` of their variance, per layer.

    Returns one orthonormal basis per layer, float64; k differs between layers.

    Raises:
        StimulusError: fewer than 2 neutral texts, which have no variance.
    """
    _need_neutral(neutral, 2)
    bases = []
    for rows in neutral.double().unbind(1):
        _, size, axes = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)
        explained = (size**2).cumsum(0) / (size**2).sum().clamp_min(torch.finfo(size.dtype).tiny)
        k = int((explained < share - 1e-12).sum()) + 1
        bases.append(axes[: min(k, len(axes))] if size[0] > 0 else axes[:0])
    return bases


def _need_neutral(neutral: Tensor, least: int) -> None:
    if len(neutral) < least:
        raise StimulusError(
            f"this recipe needs at least {least} neutral text{'s' * (least > 1)}, there are {len(neutral)}; "
            "extract with neutral texts, pass neutral=<activations of neutral texts>, or use "
            "recipe='centred'"
        )


def recipe_steps(recipe: Recipe) -> tuple[str, tuple[Step, ...]]:
    """Name and steps of a recipe: a name from `RECIPES`, a step, or a sequence of steps.

    Raises:
        UnknownRecipeError: no recipe of that name.
    """
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise UnknownRecipeError(
                f"no recipe '{recipe}'; known: {', '.join(RECIPES)}; or give a function (vectors, neutral) -> vectors"
            )
        return recipe, RECIPES[recipe]
    listed = isinstance(recipe, Iterable) and bool(getattr(recipe, "ndim", True))
    given: Any = recipe
    steps = tuple(given) if listed and not callable(given) else (given,)
    if not steps or not all(callable(s) for s in steps):
        raise UnknownRecipeError(
            f"a recipe is a name ({', '.join(RECIPES)}), a function (vectors, neutral) -> vectors, or a "
            f"sequence of such functions; got {recipe!r:.60}"
        )
    return " + ".join(getattr(s, "__name__", type(s).__name__) for s in steps), steps


def apply_steps(
    steps: Sequence[Step],
    means: Float[Tensor, "*batch n_emotions n_layers d_model"],
    neutral: Float[Tensor, "n_neutral n_layers d_model"],
) -> Float[Tensor, "*batch n_emotions n_layers d_model"]:
    """Run the class means through the steps, in order; lengths are kept (nothing is scaled to 1)."""
    for step in steps:
        means = step(means, neutral)
    return means


def class_weights(
    label: Int[np.ndarray, "*batch n_texts"], topic: Int[np.ndarray, " n_texts"], n_classes: int
) -> Float[np.ndarray, "*batch n_classes n_texts"]:
    """Weights that make topic-balanced class means: every topic of an emotion counts the same.

    `label` and `topic` are codes from 0. Row k is all zero where class k has no text.
    """
    member = (label[..., None, :] == np.arange(n_classes)[:, None]).astype(float)
    in_topic = (topic[:, None] == np.arange(int(topic.max()) + 1)).astype(float)
    count = member @ in_topic
    per_cell = 1 / np.maximum(count, 1) / np.maximum((count > 0).sum(-1, keepdims=True), 1)
    return member * per_cell[..., topic]


def class_means(acts: PooledActivations) -> Float[Tensor, "n_emotions n_layers d_model"]:
    """Topic-balanced mean state of each emotion, in the order of `acts.emotions`; float64, neutral left out.

    Raises:
        StimulusError: fewer than 2 emotions.
    """
    check_emotions(acts)
    emotional = acts.emotional
    weights = class_weights(codes(emotional.emotion, acts.emotions), codes(emotional.topic), len(acts.emotions))
    rows = torch.from_numpy(weights)
    # one layer at a time: float64 beside a large common mean, without a copy of everything
    return torch.stack([rows @ emotional.values[:, layer].cpu().double() for layer in range(acts.n_layers)], dim=1)


def emotion_vectors(
    acts: PooledActivations, recipe: Recipe = "centred", neutral: PooledActivations | None = None
) -> EmotionVectors:
    """Emotion vectors of every layer by a recipe.

    Args:
        acts: pooled activations of at least two emotions.
        recipe: "centred", "neutral" (J), "neutral_pca" (S), a step `(vectors, neutral) -> vectors` on
            `[n_emotions, n_layers, d_model]` and `[n_neutral, n_layers, d_model]` (float64), or a sequence of
            steps.
        neutral: activations whose neutral texts the recipe uses; those of `acts` if not given.

    Returns:
        Unit directions; `norms` is the recipe's own length, `natural` is ||mu_e - mu|| for every recipe, both
        in the raw units of the residual stream.

    Raises:
        StimulusError: a single class, or the recipe needs neutral texts that are not there.
        UnknownRecipeError: no recipe of that name.
        FingerprintError: `neutral` comes from another model or another pooling.

    Example:
        >>> vectors = le.emotion_vectors(acts, "neutral")
        >>> vectors.directions.shape
        torch.Size([20, 6, 64])
    """
    name, steps = recipe_steps(recipe)
    means = class_means(acts)
    made = apply_steps(steps, means, _neutral_rows(acts, neutral))
    return EmotionVectors(
        directions=unit(made).float(),
        emotions=acts.emotions,
        norms=made.norm(dim=-1).float(),
        natural=minus_mean(means, means[:0]).norm(dim=-1).float(),
        residual_norm=acts.residual_norm,
        header=acts.header.with_(recipe=name),
    )


def _neutral_rows(acts: PooledActivations, neutral: PooledActivations | None) -> Tensor:
    if neutral is None:
        return acts.neutral.values.cpu().double()
    a, b = acts.header, neutral.header
    if (a.fingerprint, a.pooling, a.processed) != (b.fingerprint, b.pooling, b.processed):
        raise FingerprintError(
            f"neutral texts were read by {b.model} with {b.pooling}, the others by {a.model} with "
            f"{a.pooling}; read both with the same model and pooling"
        )
    if not len(neutral.neutral):
        raise StimulusError(
            f"neutral= holds {len(neutral)} texts, none labelled '{NEUTRAL}'; give activations of neutral texts"
        )
    return neutral.neutral.values.cpu().double()
