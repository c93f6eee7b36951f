"""Poolings: which tokens of a text become its one row per layer.

A pooling is a callable from the content mask of a batch to weights over positions, so that it knows nothing of layers
or models, and one can see (`preview`) what it takes. Pads, BOS, template tokens and position 0 are never in the mask.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from transformer_lens import ActivationCache

from lens_emotion.errors import NotFiniteError, StimulusError
from lens_emotion.files.user import numbers_fit
from lens_emotion.models.access import Model, describe, hook_name, tokenizer_of
from lens_emotion.models.first_token import first_token
from lens_emotion.models.forward import sent
from lens_emotion.models.layers import layers_in_words
from lens_emotion.models.prompting import pad_id, special_ids

# what users hold: [batch pos] ([batch pos d_model]) of any container and type, one row also without its batch dimension
Tokens = Shaped[Tensor, "..."] | np.ndarray | Sequence[int] | Sequence[Sequence[int]]
Mask = Shaped[Tensor, "..."] | np.ndarray | Sequence[int] | Sequence[Sequence[int]]
Residuals: TypeAlias = ActivationCache | Mapping[str, Shaped[Tensor, "..."] | np.ndarray]
Weights = Callable[[Bool[Tensor, "batch pos"]], Float[Tensor, "batch pos"]]


@dataclass(frozen=True)
class Pooling:
    """A named pooling.

    Attributes:
        name: goes into the header of the activations.
        weights: content mask -> weights that sum to 1 per row.
        min_content: content tokens a text needs; shorter ones are refused before any forward pass.

    Example:
        >>> le.story_mean(start=8).min_content
        9
    """

    name: str
    weights: Weights
    min_content: int = 1


@numbers_fit(StimulusError)
def story_mean(start: int = 0, stop: int | None = None) -> Pooling:
    """Mean over content tokens from the `start`-th on, counted from the first content token, not from column 0.

    Args:
        stop: no token from this one on; None takes all.
        start: the first content token that counts.

    Raises:
        StimulusError: a `stop` that leaves nothing.

    Example:
        >>> le.story_mean(start=8).name
        'story_mean(start=8)'
    """
    if stop is not None and stop <= start:
        raise StimulusError(f"story_mean(start={start}, stop={stop}) takes no token; give a stop above {start}")

    def weights(mask: Bool[Tensor, "batch pos"]) -> Float[Tensor, "batch pos"]:
        nth = mask.cumsum(1)
        chosen = mask & (nth > start) & ((nth <= stop) if stop is not None else mask)
        return chosen.float() / chosen.sum(1, keepdim=True)

    end = "" if stop is None else f", stop={stop}"
    return Pooling(f"story_mean(start={start}{end})", weights, min_content=start + 1)


def last_token() -> Pooling:
    """The last content token, never a pad or the template's end token.

    Example:
        >>> le.last_token().name
        'last_token'
    """

    def weights(mask: Bool[Tensor, "batch pos"]) -> Float[Tensor, "batch pos"]:
        return (mask & (mask.cumsum(1) == mask.sum(1, keepdim=True))).float()

    return Pooling("last_token", weights)


def middle_token() -> Pooling:
    """The content token at index n // 2 of n: arXiv 2604.04064 takes prompt_len + generated_len // 2.

    Example:
        >>> le.middle_token().name
        'middle_token'
    """

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


def content_mask(model: Model, tokens: Tokens, attention_mask: Mask | None = None) -> Bool[Tensor, "batch pos"]:
    """True for the tokens that may be pooled: no pads, no special tokens, and not the first token of a row.

    The first token is an attention sink, BOS or not; under left padding it stands behind the pads.

    Args:
        tokens: ids as the model read them, padded on either side; one row may come without its batch dimension.
        attention_mask: which tokens are real. Without it pads are the pad ids at either end of a row. One of them is
            the BOS where the model has one id for both, and the pad id inside a text is a token like any other.
        model: whose tokens they are; it does not run.

    Raises:
        StimulusError: no ids, ids that the model does not have, rows of unequal length, or a mask of another shape.

    Example:
        >>> tokens = model.to_tokens("The door opened.")
        >>> le.content_mask(model, tokens)[0].tolist()[:2]
        [False, True]
    """
    ids = as_tokens(tokens)
    known = max(model.cfg.d_vocab, len(tokenizer_of(model)))  # TransformerLens may have added a pad
    if unknown := ids[(ids < 0) | (ids >= known)].tolist():
        raise StimulusError(f"tokens hold {unknown[0]}, but the ids of {describe(model).name} are 0 to {known - 1}")
    real = _real(model, ids) if attention_mask is None else as_mask(attention_mask, "attention_mask")
    if real.shape != ids.shape:
        raise StimulusError(
            f"attention_mask has shape {tuple(real.shape)}, tokens {tuple(ids.shape)}; give one per token"
        )
    special = torch.isin(ids, torch.tensor(sorted(special_ids(model)), dtype=ids.dtype))
    return real & (real.cumsum(1) > 1) & ~special


def _real(model: Model, ids: Int[Tensor, "batch pos"]) -> Bool[Tensor, "batch pos"]:
    """All but the runs of pads at the ends of each row."""
    other = ids != pad_id(model)
    leading, trailing = other.cumsum(1) == 0, other.flip(1).cumsum(1).flip(1) == 0
    if pad_id(model) in first_token(model).ids:  # the last of the leading ones begins the text
        leading &= leading.roll(-1, 1)
        leading[:, -1] = False
    return ~(leading | trailing)


def as_tokens(tokens: Tokens) -> Int[Tensor, "batch pos"]:
    """Token ids of any container, on the CPU."""
    try:
        ids = torch.as_tensor(tokens).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise StimulusError("tokens are no rectangle of ids; pad all rows to one length") from None
    if ids.ndim not in (1, 2) or not ids.numel() or ids.is_floating_point() or ids.dtype == torch.bool:
        raise StimulusError(f"tokens of shape {tuple(ids.shape)} and type {ids.dtype}; give ids [batch, pos]")
    return ids.reshape(-1, ids.shape[-1]).long()


def as_mask(mask: Mask, name: str = "content") -> Bool[Tensor, "batch pos"]:
    """A mask of any container and type that holds nothing but 0 and 1, on the CPU."""
    try:
        found = torch.as_tensor(mask).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise StimulusError(f"{name} is no rectangle of true and false; give it as [batch, pos]") from None
    if found.ndim not in (1, 2) or not found.numel() or not bool(((found == 0) | (found == 1)).all()):
        raise StimulusError(f"{name} has shape {tuple(found.shape)}; give true or false (1 or 0) as [batch, pos]")
    return found.reshape(-1, found.shape[-1]).bool()


def residuals(cache: Residuals, model: Model, content: Bool[Tensor, "batch pos"]) -> ActivationCache:
    """`resid_post` of every layer, with its batch dimension, of an ActivationCache or a dict by hook name.

    Raises:
        StimulusError: no cache, layers that are missing, or another shape than the mask and the model ask for.
    """
    if not isinstance(cache, (ActivationCache, Mapping)):
        raise StimulusError(f"a {type(cache).__name__} is no cache; give an ActivationCache or a dict of its tensors")
    held: Mapping[str, Any] = cache.cache_dict if isinstance(cache, ActivationCache) else cache
    n, shape = model.cfg.n_layers, (*content.shape, model.cfg.d_model)
    if missing := [layer for layer in range(n) if hook_name(layer) not in held]:
        raise StimulusError(
            f"the cache lacks resid_post of layer {layers_in_words(missing, n)} of {n}; name {hook_name(missing[0])} "
            "and the like in names_filter when running the model with its cache"
        )
    found = {}
    for layer in range(n):
        hidden = _states(held[hook_name(layer)], layer)
        hidden = hidden.float() if hidden.dtype == torch.float64 else hidden
        found[hook_name(layer)] = hidden[None] if hidden.ndim == 2 else hidden
        if found[hook_name(layer)].shape != shape:
            raise StimulusError(
                f"{hook_name(layer)} has shape {tuple(hidden.shape)}, but mask and model ask for {shape} (batch, pos, "
                "d_model); give the tokens, or the mask, that the cache was made from"
            )
    return ActivationCache(found, model)


def _states(given: Any, layer: int) -> Shaped[Tensor, "..."]:
    try:
        hidden = torch.as_tensor(given).detach()
    except (TypeError, ValueError, RuntimeError):
        hidden = None
    if hidden is None or not hidden.is_floating_point():
        kind = type(given).__name__ if hidden is None else hidden.dtype
        raise StimulusError(f"{hook_name(layer)} is {kind}, which holds no activations; give the tensors of the cache")
    return hidden


def pool_cache(
    cache: ActivationCache, content: Bool[Tensor, "batch pos"], pooling: Pooling
) -> Float[Tensor, "batch n_layers d_model"]:
    """One float32 row per text and layer, on the CPU, from a cache that holds `resid_post` of every layer.

    Works on any ActivationCache with these entries, not only on those of `residual_cache`.
    """
    weights = pooling.weights(content.cpu())[None]
    taken = (weights[0] != 0)[..., None]  # what is not pooled may be NaN, and 0 x NaN is NaN
    rows = (cache[hook_name(layer)] for layer in layers_of(cache))
    return torch.stack([pool_layer(row.where(taken.to(row.device), 0), weights)[0].cpu() for row in rows], 1)


def check_content_finite(
    cache: ActivationCache, content: Bool[Tensor, "batch pos"], texts: Sequence[str] | None = None
) -> None:
    """Raises NotFiniteError naming layer, text and position of the first content token that is NaN or infinite."""
    for layer in layers_of(cache):
        hidden = cache[hook_name(layer)]
        bad = (content.to(hidden.device) & ~torch.isfinite(hidden).all(-1)).nonzero().tolist()
        if bad:
            row, position = bad[0]
            text = f" ({texts[row][:60]!r})" if texts and texts[row] else ""
            raise NotFiniteError(
                f"the cache holds NaN or infinity at layer {layer}, row {row}{text}, position {position}, which is "
                "content; run the model in float32 or bfloat16, or leave the row out"
            )


Rows: TypeAlias = Float[Tensor, "n_poolings batch d_model"]
Norms: TypeAlias = Float[Tensor, "batch pos"]
PARTS = 3  # numbers of 8 or 11 bits (bfloat16, float16) whose sum is a weight of 24 (float32)


def layer_pooler(
    device: torch.device, dtype: torch.dtype, weights: Float[Tensor, "n_poolings batch pos"]
) -> Callable[[Float[Tensor, "batch pos d_model"]], tuple[Rows, Norms]]:
    """A function for layer after layer of a batch: states in `dtype` on `device` -> pooled rows, and norms of tokens.

    Both are float32 and stay on the device, which nothing here waits for. Where it multiplies 16-bit matrices into
    float32 ones, it reads the states as they are: a float32 copy of them would be twice their size, written and read
    again. The weights come in three parts of 16 bits each, so that none of their digits is lost; products of two such
    numbers are exact in float32. Elsewhere one float32 copy serves rows and norms, and none is made of float32 states.

    Args:
        weights: of every pooling; best on the CPU.
    """
    if not multiplies_into_float32(device, dtype):
        there = sent(weights, device)

        def pool_copy(hidden: Tensor) -> tuple[Tensor, Tensor]:
            states = hidden.float()
            return pool_layer(states, there), norms_of(states)

        return pool_copy
    parts, left = [], weights
    for _ in range(PARTS):
        parts.append(left.to(dtype))
        left = left - parts[-1].float()
    factors = sent(torch.cat(parts).transpose(0, 1).contiguous(), device)  # [batch, parts x n_poolings, pos]

    def pool(hidden: Tensor) -> tuple[Tensor, Tensor]:
        found = torch.bmm(factors, hidden, out_dtype=torch.float32)
        return found.unflatten(1, (PARTS, -1)).sum(1).transpose(0, 1), norms_of(hidden)

    return pool


@functools.cache
def multiplies_into_float32(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a device multiplies matrices of 16 bits with float32 results (CUDA and XPU from PyTorch 2.8 on)."""
    if dtype.itemsize != 2 or device.type == "cpu":
        return False
    one = torch.ones(1, 1, 1, dtype=dtype, device=device)
    try:
        return torch.bmm(one, one, out_dtype=torch.float32).dtype == torch.float32
    except (TypeError, RuntimeError):
        return False


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
    return over_content(norms_of(hidden), content.to(hidden.device))


def norms_of(hidden: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos"]:
    """The norm of every token, in float32; on CUDA without a float32 copy of the states."""
    return torch.linalg.vector_norm(hidden, dim=-1, dtype=torch.float32)


def over_content(norms: Float[Tensor, "batch pos"], content: Bool[Tensor, "batch pos"]) -> Float[Tensor, ""]:
    """Their sum over content tokens, in float64."""
    return torch.where(content, norms, 0).sum(dtype=torch.float64)


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
