"""Poolings: which tokens of a text become its one row per layer.

A pooling is a callable from the content mask of a batch to weights over positions, so that it knows nothing of layers
or models, and one can see (`preview`) what it takes. Pads, BOS, template tokens and position 0 are never in the mask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformer_lens import ActivationCache

from lens_emotion.errors import StimulusError
from lens_emotion.models.access import hook_name

Weights = Callable[[Bool[Tensor, "batch pos"]], Float[Tensor, "batch pos"]]


@dataclass(frozen=True)
class Pooling:
    """A named pooling.

    Attributes:
        name: goes into the header of the activations.
        weights: content mask -> weights that sum to 1 per row.
        min_content: content tokens a text needs; shorter ones are refused before any forward pass.
    """

    name: str
    weights: Weights
    min_content: int = 1


def story_mean(start: int = 0) -> Pooling:
    """Mean over content tokens from the `start`-th on, counted from the first content token, not from column 0."""

    def weights(mask: Bool[Tensor, "batch pos"]) -> Float[Tensor, "batch pos"]:
        chosen = mask & (mask.cumsum(1) > start)
        return chosen.float() / chosen.sum(1, keepdim=True)

    return Pooling(f"story_mean(start={start})", weights, min_content=start + 1)


def last_token() -> Pooling:
    """The last content token, never a pad or the template's end token."""

    def weights(mask: Bool[Tensor, "batch pos"]) -> Float[Tensor, "batch pos"]:
        return (mask & (mask.cumsum(1) == mask.sum(1, keepdim=True))).float()

    return Pooling("last_token", weights)


def middle_token() -> Pooling:
    """The content token at index n // 2 of n: arXiv 2604.04064 takes prompt_len + generated_len // 2."""

    def weights(mask: Bool[Tensor, "batch pos"]) -> Float[Tensor, "batch pos"]:
        return (mask & (mask.cumsum(1) == mask.sum(1, keepdim=True) // 2 + 1)).float()

    return Pooling("middle_token", weights)


def check_content(pooling: Pooling, n_content: int, text: str) -> None:
    """Raises StimulusError if a text has too few content tokens for the pooling (it would become a zero vector)."""
    if n_content < pooling.min_content:
        raise StimulusError(
            f"text too short for {pooling.name}: {n_content} content tokens, {pooling.min_content} needed: "
            f"{text[:60]!r}; lengthen it or pool from an earlier token"
        )


def pool_cache(
    cache: ActivationCache, content: Bool[Tensor, "batch pos"], pooling: Pooling
) -> Float[Tensor, "batch n_layers d_model"]:
    """One float32 row per text and layer, on the CPU, from a cache that holds `resid_post` of every layer.

    Works on any ActivationCache with these entries, not only on those of `residual_cache`.
    """
    weights = pooling.weights(content.cpu())[None]
    return torch.stack([pool_layer(cache[hook_name(layer)], weights)[0].cpu() for layer in layers_of(cache)], 1)


def pool_layer(
    hidden: Float[Tensor, "batch pos d_model"], weights: Float[Tensor, "n_poolings batch pos"]
) -> Float[Tensor, "n_poolings batch d_model"]:
    """Weighted sums over positions of one layer, in float32, on its device."""
    return torch.einsum("kbp,bpd->kbd", weights.to(hidden.device), hidden.float())


def norm_sums(cache: ActivationCache, content: Bool[Tensor, "batch pos"]) -> Float[Tensor, " n_layers"]:
    """Sum over content tokens of ||resid_post||, per layer, in float64 (squares overflow half precision)."""
    return torch.stack([norm_sum(cache[hook_name(layer)], content).cpu() for layer in layers_of(cache)])


def norm_sum(hidden: Float[Tensor, "batch pos d_model"], content: Bool[Tensor, "batch pos"]) -> Float[Tensor, ""]:
    """Sum over content tokens of the norms of one layer, in float64, on its device."""
    norms = torch.linalg.vector_norm(hidden, dim=-1, dtype=torch.float32)
    return torch.where(content.to(hidden.device), norms, 0).sum(dtype=torch.float64)


def layers_of(cache: ActivationCache) -> range:
    """Layers whose `resid_post` the cache holds, which must be 0, 1, ... without a gap.

    Raises:
        StimulusError: the cache holds no `resid_post` of layer 0.
    """
    n = 0
    while hook_name(n) in cache.cache_dict:
        n += 1
    if n == 0:
        raise StimulusError(
            f"the cache holds no {hook_name(0)}; name it in names_filter when running the model with its cache"
        )
    return range(n)
