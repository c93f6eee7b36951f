"""HookedTransformer, in this one place: it exists in TransformerLens 3.x only.

TransformerLens maps hub names to HookedTransformer configs by name. Local folders and the tiny models have no such
name, so the config is read off the Hugging Face config of the five families and TransformerLens's own weight
converters do the rest, without any processing (raw basis).
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import torch

from lens_emotion.errors import UnsupportedModelError
from lens_emotion.progress import unheard

# HookedTransformer keeps a mask of n_ctx x n_ctx per layer: two gigabytes at 8,192 tokens and 30 layers
LONGEST_CONTEXT = 2048
REMEDY = (
    "HookedTransformer was removed in TransformerLens 4.0; use backend='bridge' (same hook points, same activations), "
    "or install 'transformer-lens>=3.9,<4'"
)


def available() -> bool:
    """True if the installed TransformerLens still has HookedTransformer (3.x)."""
    return importlib.util.find_spec("transformer_lens.HookedTransformer") is not None


def architectures() -> tuple[str, ...]:
    """Hugging Face classes that `build_hooked` converts."""
    return tuple(_FAMILIES)


def is_hooked(model: Any) -> bool:
    """True if `model` is a HookedTransformer."""
    if not available():
        return False
    from transformer_lens import HookedTransformer

    return isinstance(model, HookedTransformer)


def new_cache(model: Any, batch: int) -> Any:
    """An empty key-value cache for `batch` rows of a HookedTransformer."""
    from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

    return TransformerLensKeyValueCache.init_cache(model.cfg, model.cfg.device, batch)


def keep_rows(cache: Any, rows: torch.Tensor) -> None:
    """Go on with these rows of a cache made by `new_cache`; a row may be taken several times."""
    for entry in cache.entries:
        entry.past_keys = entry.past_keys[rows.to(entry.past_keys.device)]
        entry.past_values = entry.past_values[rows.to(entry.past_values.device)]
    mask = cache.previous_attention_mask
    cache.previous_attention_mask = mask[rows.to(mask.device)]


def build_hooked(hf_model: Any, tokenizer: Any, name: str, dtype: torch.dtype, device: str) -> Any:
    """A HookedTransformer in the raw basis from a loaded Hugging Face model of one of the five families.

    Raises:
        UnsupportedModelError: TransformerLens 4.x is installed, or the architecture has no converter here.
    """
    if not available():
        raise UnsupportedModelError(f"backend='hooked' is not available. {REMEDY}")
    from transformer_lens import HookedTransformer
    from transformer_lens.config import HookedTransformerConfig

    architecture = type(hf_model).__name__
    if architecture not in _FAMILIES:
        raise UnsupportedModelError(
            f"backend='hooked' has no conversion for {architecture}; it fits {', '.join(_FAMILIES)}. "
            "Use backend='bridge', which takes every architecture of TransformerLens"
        )
    describe, family = _FAMILIES[architecture]
    settings = describe(hf_model.config)
    settings |= {"model_name": name, "original_architecture": architecture, "init_weights": False}
    settings |= {"device": device, "dtype": dtype, "d_vocab": hf_model.config.vocab_size}
    config = HookedTransformerConfig.from_dict(settings)
    module = importlib.import_module(f"transformer_lens.pretrained.weight_conversions.{family}")
    with warnings.catch_warnings(), unheard():
        warnings.simplefilter("ignore")
        state = getattr(module, f"convert_{family}_weights")(hf_model, config)
        model = HookedTransformer(config, tokenizer, move_to_device=False)
        model.load_and_process_state_dict(
            state, fold_ln=False, center_writing_weights=False, center_unembed=False, fold_value_biases=False
        )
        model.move_model_modules_to_device()
    _lay_out(model)
    return model.eval()


# how a block's attention and gated MLP ask for a weight: heads side by side, transposed, contiguous
_ORDERS = {"W_O": (2, 0, 1)} | dict.fromkeys(("W_Q", "W_K", "W_V", "_W_K", "_W_V"), (0, 2, 1))
_GATED = dict.fromkeys(("W_in", "W_gate", "W_out"), (1, 0))


@torch.no_grad()
def _lay_out(model: Any) -> None:
    """Keep each weight in memory as its part asks for it in every pass, which copies it otherwise.

    Values, shapes and names are the same, and so is every result; only strides differ. On a CPU, whose batches are
    small, those copies took a fifth of the time of reading.
    """
    orders = _ORDERS | (_GATED if model.cfg.gated_mlp else {})
    for name, weight in model.blocks.named_parameters():
        order = orders.get(name.rpartition(".")[2])
        if order is not None:
            back = sorted(range(len(order)), key=order.__getitem__)
            weight.data = weight.data.permute(order).contiguous().permute(back)


_LOCAL = {"sliding_attention": "local", "full_attention": "global"}


def _rope(config: Any, kind: str = "full_attention") -> dict[str, Any]:
    parameters = getattr(config, "rope_parameters", None) or {}
    return dict(parameters.get(kind, parameters))  # Gemma-3 keeps one set per attention type


def _rope_base(config: Any, kind: str = "full_attention") -> float:
    return float(_rope(config, kind).get("rope_theta", getattr(config, "rope_theta", None) or 10000.0))


def _rope_scaling(config: Any) -> dict[str, Any]:
    """TransformerLens's settings for scaled rotary positions (Llama 3.1 and later)."""
    rope = _rope(config)
    kind = rope.get("rope_type", "default")
    if kind in ("default", None):
        return {}
    if kind != "llama3":
        raise UnsupportedModelError(f"backend='hooked' does not convert rope scaling '{kind}'; use backend='bridge'")
    return {
        "use_NTK_by_parts_rope": True,
        "NTK_by_parts_factor": float(rope["factor"]),
        "NTK_by_parts_low_freq_factor": float(rope["low_freq_factor"]),
        "NTK_by_parts_high_freq_factor": float(rope["high_freq_factor"]),
        "NTK_original_ctx_len": int(rope["original_max_position_embeddings"]),
    }


def _head_dim(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _gpt2(config: Any) -> dict[str, Any]:
    return {
        "d_model": config.n_embd,
        "d_head": config.n_embd // config.n_head,
        "n_heads": config.n_head,
        "d_mlp": config.n_inner or 4 * config.n_embd,
        "n_layers": config.n_layer,
        "n_ctx": config.n_positions,
        "eps": config.layer_norm_epsilon,
        "act_fn": config.activation_function,
        "normalization_type": "LN",
        "scale_attn_by_inverse_layer_idx": config.scale_attn_by_inverse_layer_idx,
    }


def _rotary(config: Any) -> dict[str, Any]:
    """What Llama, Mistral, Qwen and Gemma share: RMS norm, rotary positions, gated MLP, grouped-query attention."""
    return {
        "d_model": config.hidden_size,
        "d_head": _head_dim(config),
        "n_heads": config.num_attention_heads,
        "n_key_value_heads": config.num_key_value_heads,
        "d_mlp": config.intermediate_size,
        "n_layers": config.num_hidden_layers,
        "n_ctx": min(config.max_position_embeddings, LONGEST_CONTEXT),
        "eps": config.rms_norm_eps,
        "act_fn": getattr(config, "hidden_activation", None) or config.hidden_act,
        "normalization_type": "RMS",
        "positional_embedding_type": "rotary",
        "rotary_base": _rope_base(config),
        "rotary_adjacent_pairs": False,
        "rotary_dim": _head_dim(config),
        "final_rms": True,
        "gated_mlp": True,
        **_rope_scaling(config),
    }


def _windowed(config: Any) -> dict[str, Any]:
    """Layers that see a window only, as Mistral has them everywhere, Qwen by layer where it is told to."""
    every = ["sliding_attention"] * config.num_hidden_layers
    types = getattr(config, "layer_types", None) or (every if config.sliding_window else [])
    if "sliding_attention" not in types or not config.sliding_window:
        return _rotary(config)
    local = [_LOCAL[kind] for kind in types]
    return _rotary(config) | {"window_size": config.sliding_window, "use_local_attn": True, "attn_types": local}


def _gemma(config: Any) -> dict[str, Any]:
    return _rotary(config) | {
        "window_size": config.sliding_window,
        "use_local_attn": True,
        "attn_types": [_LOCAL[kind] for kind in config.layer_types],
        "use_normalization_before_and_after": True,
        "attn_scale": float(config.query_pre_attn_scalar) ** 0.5,
    }


def _gemma2(config: Any) -> dict[str, Any]:
    return _gemma(config) | {
        "attn_scores_soft_cap": config.attn_logit_softcapping or -1.0,
        "output_logits_soft_cap": config.final_logit_softcapping or -1.0,
    }


def _gemma3(config: Any) -> dict[str, Any]:
    return _gemma(config) | {
        "rotary_base": int(_rope_base(config)),
        "rotary_base_local": int(_rope_base(config, "sliding_attention")),
        "use_qk_norm": True,
    }


# Hugging Face class -> its settings, and the family whose weight converter TransformerLens has
_FAMILIES: dict[str, tuple[Callable[[Any], dict[str, Any]], str]] = {
    "GPT2LMHeadModel": (_gpt2, "gpt2"),
    "LlamaForCausalLM": (_rotary, "llama"),
    "MistralForCausalLM": (_windowed, "mistral"),
    "Qwen2ForCausalLM": (lambda c: _windowed(c) | {"default_prepend_bos": False}, "qwen2"),
    "Qwen3ForCausalLM": (lambda c: _windowed(c) | {"use_qk_norm": True, "default_prepend_bos": False}, "qwen3"),
    "Gemma2ForCausalLM": (_gemma2, "gemma"),
    "Gemma3ForCausalLM": (_gemma3, "gemma"),
}
