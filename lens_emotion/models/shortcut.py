"""Parts of a Bridge that nobody listens to step aside for the length of a pass.

A TransformerBridge wraps every part of a block, so that every inner quantity can be hooked: attention is computed by
hand (scores, softmax, a copy of the keys for every group), each norm twice, each projection behind two hook points.
Where no hook is set inside a block, the Hugging Face parts do the same arithmetic, with fused attention where the
architecture has it. `resid_post` and the blocks' own hooks are fired as ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from lens_emotion.models.access import Model, backend_of

Undo = list[tuple[dict[str, Any], str, Any]]  # what to write back: table, name, value


@contextmanager
def shortcut(model: Model, *, whole_blocks: bool = False) -> Iterator[bool]:
    """Inside, blocks without hooks on their parts run their Hugging Face parts; afterwards all is as before.

    Set hooks before entering: a hook on a part (an attention pattern, a norm, `resid_mid`) keeps its block as it is,
    and one such block keeps eager attention for all. HookedTransformer and processed weights are left alone.

    Args:
        model: TransformerBridge or HookedTransformer.
        whole_blocks: blocks without any hook step aside as well; only where no hook on `resid_post` is set later.

    Yields:
        True if the parts of every block have stepped aside, so that nobody sees scores, patterns or masks.
    """
    undo: Undo = []
    try:
        yield backend_of(model) == "bridge" and _untouched(model) and _step_aside(model, whole_blocks, undo)
    finally:
        for table, name, value in reversed(undo):
            table[name] = value


def _untouched(model: Model) -> bool:
    """True for a Bridge whose Hugging Face parts still are the model: raw weights, one device."""
    touched = getattr(model, "_weights_processed", False) or getattr(model, "compatibility_mode", False)
    return not touched and (getattr(model.cfg, "n_devices", 1) or 1) == 1 and hasattr(model, "blocks")


def _step_aside(model: Model, whole_blocks: bool, undo: Undo) -> bool:
    table = model.blocks._modules  # the list of blocks is the Hugging Face model's own
    blocks = [(name, block) for name, block in table.items() if getattr(block, "original_component", None) is not None]
    able = [(name, block) for name, block in blocks if _silent(block) and _same_weights(block)]
    configs = [model.original_model.config, model.original_model.base_model.config]
    for name, block in able:
        configs += _unwrap(block.original_component, undo)
        if whole_blocks and not _hooked(block) and not _hooked(block.hook_in) and not _hooked(block.hook_out):
            _swap(table, name, block.original_component, undo)
    everywhere = len(able) == len(table)
    if everywhere and _fused_attention_fits(model.original_model):
        for config in configs:
            _swap(config.__dict__, "_attn_implementation_internal", "sdpa", undo)
    return everywhere


def _swap(table: dict[str, Any], name: str, value: Any, undo: Undo) -> None:
    undo.append((table, name, table.get(name)))
    table[name] = value


def _unwrap(module: nn.Module, undo: Undo) -> list[Any]:
    """Replace every wrapper below a Hugging Face module by what it wraps; returns the configs of these parts."""
    configs = []
    for name, part in list(module._modules.items()):
        original = getattr(part, "original_component", None)
        if original is not None:
            _swap(module._modules, name, original, undo)
            part = original
        if part is not None:
            configs += [part.config] if hasattr(part, "config") else []
            configs += _unwrap(part, undo)
    return configs


def _silent(block: nn.Module) -> bool:
    """True if no hook is set on what would step aside; TransformerLens's own hooks there only feed hook points.

    Hooks on the Hugging Face parts are no matter: those parts run.
    """
    from transformer_lens.hook_points import HookPoint
    from transformer_lens.model_bridge.generalized_components.base import GeneralizedComponent

    own = frozenset(handle.id for handle in getattr(block, "_capture_hook_handles", ()))
    kept = (block, block.hook_in, block.hook_out)
    parts = (part for part in block.modules() if isinstance(part, HookPoint | GeneralizedComponent))
    return not any(_hooked(part, own) for part in parts if part not in kept)


def _hooked(module: nn.Module, own: frozenset[int] = frozenset()) -> bool:
    tables = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(not own.issuperset(table) for table in tables if table)


def _same_weights(block: nn.Module) -> bool:
    """True if the wrappers compute with the Hugging Face parts' weights, or views of them (GPT-2's split q, k, v)."""
    original: Any = block.original_component
    theirs = {p.untyped_storage().data_ptr() for p in _unwrapped_parameters(original)}
    return all(p.untyped_storage().data_ptr() in theirs for p in block.parameters())


def _unwrapped_parameters(module: nn.Module) -> Iterator[nn.Parameter]:
    original: Any = getattr(module, "original_component", None)
    if original is not None:
        yield from _unwrapped_parameters(original)
        return
    yield from (p for p in module._parameters.values() if p is not None)
    for part in module._modules.values():
        if part is not None:
            yield from _unwrapped_parameters(part)


def _fused_attention_fits(hf_model: Any) -> bool:
    """True if the architecture's fused attention computes what its eager attention does."""
    config = hf_model.config.get_text_config()
    odd = ("attn_logit_softcapping", "reorder_and_upcast_attn", "output_attentions")
    eager = getattr(config, "_attn_implementation", None) == "eager"
    return eager and bool(getattr(hf_model, "_supports_sdpa", False)) and not any(getattr(config, k, None) for k in odd)
