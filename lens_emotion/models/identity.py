"""Which model this is: a hash that changes when any of its weights does.

The hash sees numbers rounded to bfloat16, so that copies of one checkpoint in float32 and bfloat16 are one model: all
of them in models no wider than `SMALL`, else all of a tensor up to `WHOLE` numbers and of a larger one its ends, every
row and every column. A change of single numbers inside a large matrix can escape it; a merged adapter, a changed row
or another checkpoint cannot. Names and layouts are those of the Hugging Face checkpoint on either backend. Packed
weights (8 and 4 bit) are hashed as they are packed, with their scales: they are another model than the one they were
made of.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from math import gcd
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from lens_emotion.errors import UnsupportedModelError
from lens_emotion.models.threads import one_thread

VERSION = "v2-"  # begins a fingerprint; those of before have no such mark
SMALL, WHOLE, EDGE = 256, 1 << 14, 512
_FORMER_SAMPLE = 64

Undo = Callable[[Tensor], Tensor]
# name in the checkpoint, the tensor in the checkpoint's order of numbers, its last size there, how to undo conversion
Part = tuple[str, Tensor, int, Undo | None]


def identity_of(model: Any, architecture: str) -> str:
    """The fingerprint of a TransformerLens or a Hugging Face model.

    Raises:
        UnsupportedModelError: weights that are not in memory (the "meta" device).
    """
    known = getattr(model, "lens_emotion_identity", None)
    if known and known[0] == _digest(model, architecture):
        return str(known[1])
    return _digest(model, architecture)


def remember_source(model: Any, source: nn.Module, architecture: str) -> None:
    """Give a converted model the fingerprint of its source until its weights change: conversion rounds (Gemma's
    embeddings are scaled, its norms shifted), and what was lost in half precision cannot be computed back."""
    model.lens_emotion_identity = (_digest(model, architecture), _digest(source, architecture))


def check_every_tensor(model: Any, source: nn.Module) -> None:
    """Raise if a tensor of the source found no place in a converted model: biases that its class does not have.

    Raises:
        UnsupportedModelError: names the first of them, and the backend that has them.
    """
    there = {name for name, held, *_ in _converted(model) if not name.endswith("bias") or bool(held.any())}
    whole = ((name, held) for name, held, *_ in _checkpoint(source) if name not in there)
    lost = [name for name, held in whole if name != "lm_head.weight" and bool(held.any())]
    if lost:
        raise UnsupportedModelError(
            f"backend='hooked' has no place for {lost[0]}{f' and {len(lost) - 1} more' * (len(lost) > 1)}, so it does "
            "not compute what the model computes. Use backend='bridge', which runs the model's own code"
        )


def _digest(model: Any, architecture: str) -> str:
    root = getattr(model, "original_model", None) or model
    cfg = getattr(root, "cfg", None)
    width = cfg.d_model if cfg is not None else root.config.get_text_config().hidden_size
    whole, parts = (WHOLE if width > SMALL else 1 << 62), _checkpoint if cfg is None else _converted
    with one_thread():  # hundreds of small pieces
        seen = {part[0]: _sample(whole, *part) for part in parts(root)}
    embedding = next((seen[n] for n in seen if n.endswith(("embed_tokens.weight", "wte.weight"))), None)
    digest = hashlib.sha256(architecture.encode())
    for name, numbers in sorted(seen.items()):
        # a head that equals the embedding is tied to it, and a bias of zeros is none: copies of either come and go
        tied = name == "lm_head.weight" and embedding is not None and torch.equal(numbers, embedding)
        if not tied and not (name.endswith("bias") and not bool(numbers.any())):
            digest.update(f"|{name}|{seen[name].numel()}|".encode())
            digest.update(numbers.numpy().data)
    return VERSION + digest.hexdigest()[len(VERSION) :]


def _sample(whole: int, name: str, tensor: Tensor, last: int, undo: Undo | None) -> Tensor:
    """Numbers of a tensor, on the CPU, as integers: floating ones rounded to bfloat16, packed ones as they are."""
    if tensor.is_meta:
        raise UnsupportedModelError(
            f"the weights of {name} are not in memory (device 'meta'); load the model onto a CPU or GPU"
        )
    tensor, n = tensor.detach(), tensor.numel()
    if n <= whole:
        taken = tensor.reshape(-1)
    else:
        # a step that shares no factor with the row length comes through every column, and at least once into each row
        step = next(k for k in range(max(1, last // 2), 0, -1) if gcd(k, last) == 1)
        pieces = (slice(0, EDGE), slice(EDGE, n - EDGE, step), slice(n - EDGE, n))
        if tensor.is_contiguous():
            taken = torch.cat([tensor.view(-1)[piece] for piece in pieces])
        else:
            at = torch.cat([torch.arange(*piece.indices(n), device=tensor.device) for piece in pieces])
            taken = tensor[torch.unravel_index(at, tensor.shape)]
    if taken.is_floating_point():
        taken = undo(taken.float()) if undo else taken
        # adding zero makes -0 a 0: a conversion that subtracts from nothing gives either
        return (taken.to(torch.bfloat16) + 0.0).contiguous().view(torch.int16).cpu()
    return taken.contiguous().cpu()


def _checkpoint(root: nn.Module) -> Iterator[Part]:
    """The parameters of a Hugging Face model, wrapped by a Bridge or not; joint projections of GPT-2 in their parts."""
    seen: set[int] = set()
    gpt2 = type(root).__name__.startswith("GPT2")
    for place, module in root.named_modules(remove_duplicate=False):
        for key, held in module._parameters.items():
            if held is None or id(held) in seen:
                continue
            seen.add(id(held))
            name = f"{place.replace('._original_component', '')}.{key}"
            last = held.shape[-1] if held.dim() else 1
            if not gpt2 or ".attn." not in name:
                yield name, held.data, last, None
            elif (joint := re.sub(r"\.(qkv|c_attn)\.", ".{}.", name)) != name:
                # the Bridge holds both the joint tensor and views of its parts
                pieces = held.data.split(last // 3, dim=-1)
                yield from ((joint.format(x), piece, last // 3, None) for x, piece in zip("qkv", pieces, strict=True))
            else:
                yield name.replace(".attn.c_proj.", ".attn.o."), held.data, last, None
            for values in _scales(module, held):
                yield f"{name}.scales", values, values.shape[-1] if values.dim() else 1, None


def _scales(module: nn.Module, held: Tensor) -> Iterator[Tensor]:
    """What packed numbers are multiplied by, wherever bitsandbytes keeps it (it moves between passes)."""
    rows = getattr(held, "SCB", None)
    rows = getattr(getattr(module, "state", None), "SCB", None) if rows is None else rows
    blocks = getattr(getattr(held, "quant_state", None), "absmax", None)
    yield from (values for values in (rows, blocks) if isinstance(values, Tensor))


# A HookedTransformer's parameters by the names and in the layout of the checkpoint they were converted from. Per name:
# the checkpoint's, of GPT-2 and of the others, and how axes are put back where they were.
MODEL_FIRST = "head model width -> model head width"
HEADS_FIRST = "head model width -> head width model"
HEADS_LAST = "head width model -> model head width"
TURNED = "rows columns -> columns rows"
_BLOCK: dict[str, tuple[str, str, str | None, str | None]] = {
    "attn.W_Q": ("attn.q.weight", "self_attn.q_proj.weight", MODEL_FIRST, HEADS_FIRST),
    "attn.W_K": ("attn.k.weight", "self_attn.k_proj.weight", MODEL_FIRST, HEADS_FIRST),
    "attn.W_V": ("attn.v.weight", "self_attn.v_proj.weight", MODEL_FIRST, HEADS_FIRST),
    "attn.W_O": ("attn.o.weight", "self_attn.o_proj.weight", None, HEADS_LAST),
    "attn.b_Q": ("attn.q.bias", "self_attn.q_proj.bias", None, None),
    "attn.b_K": ("attn.k.bias", "self_attn.k_proj.bias", None, None),
    "attn.b_V": ("attn.v.bias", "self_attn.v_proj.bias", None, None),
    "attn.b_O": ("attn.o.bias", "self_attn.o_proj.bias", None, None),
    "attn.q_norm.w": ("", "self_attn.q_norm.weight", None, None),
    "attn.k_norm.w": ("", "self_attn.k_norm.weight", None, None),
    "mlp.W_in": ("mlp.c_fc.weight", "mlp.up_proj.weight", None, TURNED),
    "mlp.b_in": ("mlp.c_fc.bias", "mlp.up_proj.bias", None, None),
    "mlp.W_gate": ("", "mlp.gate_proj.weight", None, TURNED),
    "mlp.W_out": ("mlp.c_proj.weight", "mlp.down_proj.weight", None, TURNED),
    "mlp.b_out": ("mlp.c_proj.bias", "mlp.down_proj.bias", None, None),
    "ln1.w": ("ln_1.weight", "input_layernorm.weight", None, None),
    "ln1.b": ("ln_1.bias", "input_layernorm.bias", None, None),
    "ln2.w": ("ln_2.weight", "post_attention_layernorm.weight", None, None),
    "ln2.b": ("ln_2.bias", "post_attention_layernorm.bias", None, None),
}
_GEMMA = {
    "ln1_post.w": "post_attention_layernorm.weight",
    "ln2.w": "pre_feedforward_layernorm.weight",
    "ln2_post.w": "post_feedforward_layernorm.weight",
}
_AROUND = {
    "embed.W_E": ("transformer.wte.weight", "model.embed_tokens.weight"),
    "pos_embed.W_pos": ("transformer.wpe.weight", ""),
    "ln_final.w": ("transformer.ln_f.weight", "model.norm.weight"),
    "ln_final.b": ("transformer.ln_f.bias", "model.norm.bias"),
    "unembed.W_U": ("lm_head.weight", "lm_head.weight"),
    "unembed.b_U": ("lm_head.bias", "lm_head.bias"),
}


def _converted(model: Any) -> Iterator[Part]:
    """The parameters of a HookedTransformer as its checkpoint has them; those of other families by their own names."""
    architecture = str(model.cfg.original_architecture)
    gpt2, gemma = architecture.startswith("GPT2"), architecture.startswith("Gemma")
    order: str | None
    for name, held in model.named_parameters():
        place = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
        if place is None:
            found, order = _AROUND.get(name, (name, name))[not gpt2], TURNED if name == "unembed.W_U" else None
        else:
            row = _BLOCK.get(place[2].replace("._", "."), (place[2], place[2], None, None))
            inner, order = (row[0], row[2]) if gpt2 else (row[1], row[3])
            inner = _GEMMA.get(place[2], inner) if gemma else inner
            found = f"{'transformer.h' if gpt2 else 'model.layers'}.{place[1]}.{inner}"
        tensor = rearrange(held.data, order) if order else held.data
        by_head = order == HEADS_FIRST or (order is None and name.endswith("W_O"))  # heads are rows in the checkpoint
        last = tensor.shape[-1] if by_head else tensor.numel() // tensor.shape[0]
        yield found, tensor, last, _unscaled(name, model, held.dtype) if gemma else None


def _unscaled(name: str, model: Any, dtype: torch.dtype) -> Undo | None:
    """Gemma's norms are converted as 1 + w, its embeddings as w times the root of the width."""
    if name == "embed.W_E":
        size = float(torch.tensor(model.cfg.d_model**0.5, dtype=dtype))
        return lambda w: w / size
    return (lambda w: w - 1) if re.search(r"(ln\w*|_norm)\.w$", name) else None


def former_fingerprint(model: Any, architecture: str) -> str:
    """The fingerprint of versions before 0.2, which saw three matrices only; empty where they cannot be read."""
    cfg = model.cfg
    digest = hashlib.sha256(f"{architecture}|{cfg.n_layers}|{cfg.d_model}|{cfg.n_heads}".encode())
    try:
        for layer in sorted({0, cfg.n_layers // 2, cfg.n_layers - 1}):
            weight = model.blocks[layer].mlp.W_out
            rows, columns = (max(1, size // _FORMER_SAMPLE) for size in weight.shape)
            sample = weight[::rows, ::columns].detach().to("cpu", torch.bfloat16).contiguous()
            digest.update(sample.view(torch.int16).numpy().tobytes())
    except (AttributeError, NotImplementedError, TypeError, ValueError, RuntimeError):
        return ""  # packed weights, or a block without such a matrix: no file of before was made of it
    return digest.hexdigest()
