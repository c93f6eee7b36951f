"""What this package needs to know of a TransformerLens model, whichever class it is.

Every public function takes a `TransformerBridge` or a `HookedTransformer`; only this file and `decoding.py` tell
them apart.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.metadata import version
from os import PathLike
from typing import Any

import torch
from transformer_lens.utilities import get_act_name

from lens_emotion.errors import ProcessedModelError, UnsupportedModelError
from lens_emotion.files.artifacts import check_whole
from lens_emotion.files.names import check_name
from lens_emotion.models import hooked
from lens_emotion.models.identity import former_fingerprint, identity_of

Model = Any  # TransformerBridge | HookedTransformer: no common base class across TransformerLens 3.x and 4.x

_FAMILY_OF = {"GPT2": "gpt2", "Gemma": "gemma", "Qwen": "qwen", "Llama": "llama", "Mistral": "mistral"}
_SAMPLE = 64  # rows and columns of the weight sample that identifies a model


@dataclass(frozen=True)
class ModelInfo:
    """Facts of a loaded model that results depend on.

    `fingerprint` changes with the weights and is the same on both backends and for float32 and bfloat16 copies of one
    model (`models.identity` says how finely it looks); `former` is what versions before 0.2 called so, by which their
    files are known.
    `first_token` and `template` say what stands in front of a text and which switches the chat template gets (of
    models that `load_model` loaded).
    """

    name: str
    family: str
    backend: str
    n_layers: int
    d_model: int
    n_ctx: int
    d_vocab: int
    dtype: str
    device: str
    fingerprint: str
    processed: bool
    transformer_lens: str
    former: str = ""
    first_token: str = ""
    template: str = ""

    def __post_init__(self) -> None:
        for name in ("name", "fingerprint"):
            check_name(f"the model's {name}", getattr(self, name))
        for name in ("n_layers", "d_model", "n_ctx", "d_vocab"):
            check_whole(f"the model's {name}", getattr(self, name), 1)


def backend_of(model: Model) -> str:
    """ "hooked" or "bridge".

    Raises:
        UnsupportedModelError: the object is neither; the message says how to get one.
    """
    from transformer_lens.model_bridge import TransformerBridge

    if isinstance(model, TransformerBridge):
        return "bridge"
    if hooked.is_hooked(model):
        return "hooked"
    raise UnsupportedModelError(f"{shown_kind(model)} is no model of TransformerLens; {way_in(model)}")


def shown_kind(given: object) -> str:
    """What was given where a model, or its name, belongs."""
    return f"{str(given)[:80]!r}" if isinstance(given, str | PathLike) else f"a {type(given).__name__}"


def way_in(given: object) -> str:
    """How what was given becomes a model that every function here takes."""
    if isinstance(given, str | PathLike):
        return f"load it first: le.load_model({os.fspath(given)[:80]!r})"
    if holds_model(given):
        return "wrap it first: le.wrap(model, tokenizer), or load it by its name: le.load_model(name)"
    return "give what le.load_model(name) or le.wrap(model, tokenizer) gives back"


def holds_model(given: object) -> bool:
    """Whether this may be a model of another library, or hold one, as a pipeline does."""
    return isinstance(given, torch.nn.Module) or isinstance(getattr(given, "model", None), torch.nn.Module)


def device_of(model: Model) -> torch.device:
    return torch.device(model.cfg.device)


def hook_name(layer: int) -> str:
    """Name of `resid_post` at a layer, the same on both backends."""
    return str(get_act_name("resid_post", layer))


def tokenizer_of(model: Model) -> Any:
    if getattr(model, "tokenizer", None) is None:
        backend_of(model)
        raise UnsupportedModelError(
            "the model has no tokenizer; pass one when loading (boot_transformers(..., tokenizer=...))"
        )
    return model.tokenizer


def architecture_of(model: Model) -> str:
    cfg = model.cfg
    return str(getattr(cfg, "architecture", None) or getattr(cfg, "original_architecture", None) or "unknown")


def family_of(architecture: str) -> str:
    """One of the five families, or the architecture in lower case where it is another one."""
    for prefix, family in _FAMILY_OF.items():
        if architecture.startswith(prefix):
            return family
    return architecture.removesuffix("ForCausalLM").lower()


def is_processed(model: Model) -> bool:
    """True if the weights were folded or centred, so that `resid_post` is no longer the Hugging Face hidden state."""
    if backend_of(model) == "bridge":
        return bool(getattr(model, "_weights_processed", False))
    if str(model.cfg.normalization_type).endswith("Pre"):
        return True
    if model.cfg.normalization_type != "LN":  # centring applies to LayerNorm models only
        return False
    embedding = model.W_E[:256].float()
    return bool(embedding.mean(-1).abs().max() < 1e-6 * embedding.std().clamp_min(1e-12))


def check_raw_basis(model: Model, allow_processed: bool = False) -> None:
    """Raises ProcessedModelError unless the model is in the raw basis or processing was allowed explicitly."""
    if not allow_processed and is_processed(model):
        raise ProcessedModelError(
            "the model's weights are processed (folded LayerNorm or centred writing weights), so its residual stream "
            "is not the Hugging Face hidden state and its vectors fit no other copy of the model; load it with "
            "HookedTransformer.from_pretrained_no_processing or lens_emotion.load_model, or pass allow_processed=True"
        )


def parameter_count(model: Model) -> int:
    """Parameters of the model, embeddings included, as its checkpoint has them: the same on both backends.

    Both classes hold more: biases of zero where the architecture has none, a HookedTransformer a copy of a tied head
    (which Gemma scales), the Bridge GPT-2's joint projection and its three parts.
    """
    held = dict((getattr(model, "original_model", None) or model).named_parameters())
    joint = any(".qkv." in name for name in held)
    has_biases = str(model.cfg.normalization_type).startswith("LN")  # of the five families, those with LayerNorm

    def is_added(name: str, parameter: torch.Tensor) -> bool:
        part, kind = name.rpartition(".")[::2]
        bias = (kind == "bias" or kind.lstrip("_").startswith("b_")) and not bool(parameter.any())
        return (bias and (not has_biases or "head" in part or part == "unembed")) or (
            joint and any(f".{x}." in f"{part}." for x in "qkv")
        )

    count = sum(p.numel() for name, p in held.items() if not is_added(name, p))
    if "unembed.W_U" in held:
        head, rows = model.W_U[:, :_SAMPLE].T, model.W_E[:_SAMPLE]
        count -= (torch.equal(head, rows) or torch.allclose(head * model.cfg.d_model**0.5, rows)) * model.W_U.numel()
    return count


def describe(model: Model) -> ModelInfo:
    """Facts of a loaded model.

    Args:
        model: TransformerBridge or HookedTransformer.

    Raises:
        UnsupportedModelError: the object is not a TransformerLens model.

    Example:
        >>> facts = le.describe(model)
        >>> facts.name, facts.family, facts.n_layers
        ('tiny-llama', 'llama', 6)
    """
    backend = backend_of(model)
    cfg = model.cfg
    return ModelInfo(
        name=str(getattr(model, "lens_emotion_name", None) or cfg.model_name),
        family=family_of(architecture_of(model)),
        backend=backend,
        n_layers=int(cfg.n_layers),
        d_model=int(cfg.d_model),
        n_ctx=int(cfg.n_ctx),
        d_vocab=int(cfg.d_vocab),
        dtype=str(cfg.dtype).removeprefix("torch."),
        device=str(cfg.device),
        fingerprint=identity_of(model, architecture_of(model)),
        processed=is_processed(model),
        transformer_lens=version("transformer-lens"),
        former=former_fingerprint(model, architecture_of(model)),
        **getattr(model, "lens_emotion_tokens", {}),
    )
