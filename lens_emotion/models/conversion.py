"""Does a converted model compute what its source computes? Measured when it is loaded, block by block.

A configuration can ask for what a TransformerLens class does not have: biases of attention, a window, another scaling.
Lists of such settings are never complete, so a short text goes through the source before it is converted; afterwards
every block of the converted model is given what the source's block was given, and must answer the same. Errors cannot
pile up over layers this way, so that rounding stays small in half precision too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lens_emotion.display import Brief
from lens_emotion.errors import NotFiniteError, UnsupportedModelError
from lens_emotion.models.threads import one_thread

TEXT = "The door opened and a woman came in from the rain, shook out her coat and asked for the last train to town."
SHORT, LONGEST = 24, 128  # tokens: usual, and at most where a window of attention shall be passed
WIDE = 1024  # models narrower than this are run on one thread


@dataclass(frozen=True, eq=False, repr=False)
class Trace(Brief):
    """What a source computes on a short text: states before and after each block, and logits of the last
    positions (a vocabulary is large, and a window long)."""

    ids: tuple[int, ...]
    before: Float[Tensor, "n_layers pos d_model"]
    after: Float[Tensor, "n_layers pos d_model"]
    logits: Float[Tensor, "last d_vocab"]


def blocks_of(plain: nn.Module) -> nn.ModuleList:
    """The list of transformer blocks of a Hugging Face causal model."""
    n_layers = plain.config.get_text_config().num_hidden_layers  # type: ignore[operator, union-attr]
    return next(m for m in plain.modules() if isinstance(m, nn.ModuleList) and len(m) == n_layers)


def trace_of(plain: nn.Module, tokenizer: Any, longest: int = LONGEST) -> Trace:
    """Run a plain Hugging Face model over a short text, long enough to leave a window of attention behind."""
    config: Any = plain.config.get_text_config()  # type: ignore[operator, union-attr]
    window = getattr(config, "sliding_window", None) or 0
    length = min(max(SHORT, window + 8 if window + 8 <= longest else 0), config.max_position_embeddings)
    text = [i for i in tokenizer(TEXT).input_ids if i < config.vocab_size] or [0, 1, 2]
    ids = tuple((text * (length // len(text) + 1))[:length])
    before: list[Tensor] = []
    after: list[Tensor] = []

    def enter(_module: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        before.append(args[0] if args else named["hidden_states"])

    def leave(_module: Any, _args: Any, out: Any) -> None:
        after.append(out[0] if isinstance(out, tuple) else out)

    with ExitStack() as hooks, torch.inference_mode(), one_thread(config.hidden_size < WIDE):
        for block in blocks_of(plain):
            hooks.callback(block.register_forward_pre_hook(enter, with_kwargs=True).remove)
            hooks.callback(block.register_forward_hook(leave).remove)
        place = plain.get_input_embeddings().weight.device  # type: ignore[operator]
        logits = plain(torch.tensor([ids], device=place), use_cache=False).logits
    return Trace(ids, _stacked(before), _stacked(after), logits[0, -SHORT:].float().cpu())


def _stacked(states: Sequence[Tensor]) -> Float[Tensor, "n_layers pos d_model"]:
    return torch.stack([state[0].float().cpu() for state in states])


def deviations(model: Any, trace: Trace) -> list[tuple[str, float]]:
    """How far a converted model is from its source: embeddings, each block given the source's input, and logits.

    A block's deviation is that of the worst position, as a share of what the block adds there (of the state, where it
    adds next to nothing).

    Returns:
        (where, deviation), nan where a number is none.
    """
    first: list[Tensor] = []
    found: list[Tensor] = []
    n_layers, least = len(trace.before), 0.1 if torch.finfo(model.cfg.dtype).bits == 16 else 0.01

    def put(layer: int) -> Callable[..., Tensor]:
        def hook_fn(state: Tensor, hook: Any) -> Tensor:
            if layer == 0:
                first.append(state)
                return state
            return trace.before[layer][None].to(state)

        return hook_fn

    hooks: list[tuple[str, Any]] = [(f"blocks.{layer}.hook_resid_pre", put(layer)) for layer in range(n_layers)]
    hooks += [(f"blocks.{layer}.hook_resid_post", lambda x, hook: found.append(x)) for layer in range(n_layers)]
    with torch.inference_mode(), one_thread(model.cfg.d_model < WIDE):
        logits = model.run_with_hooks(torch.tensor([trace.ids], device=model.cfg.device), fwd_hooks=hooks)
    apart = (_stacked(found) - trace.after).norm(dim=-1)
    added, size = (trace.after - trace.before).norm(dim=-1), trace.after.norm(dim=-1)
    blocks = (apart / torch.maximum(added, least * size).clamp_min(1e-30)).amax(-1).tolist()  # 0 of 0 is 0
    return [
        ("the embedding", _share(_stacked(first)[0], trace.before[0])),
        *((f"layer {layer}", share) for layer, share in enumerate(blocks)),
        ("the head", _share(logits[0, -SHORT:].float().cpu(), trace.logits)),
    ]


def _share(got: Tensor, truth: Tensor) -> float:
    return float(((got - truth).norm(dim=-1) / truth.norm(dim=-1).clamp_min(1e-30)).max())


def tolerance(dtype: torch.dtype) -> float:
    """Largest deviation that rounding explains: 1e-3 in float32, 0.1 in half precision (measured: 2e-5 and 0.02)."""
    return 0.1 if torch.finfo(dtype).bits == 16 else 1e-3


def check_finite_source(trace: Trace, label: str, dtype: torch.dtype) -> None:
    """Raises NotFiniteError where the source's own states are no numbers, naming the first layer."""
    bad = (~torch.isfinite(trace.after)).flatten(1).any(1).nonzero()
    where = f"layer {int(bad[0])}" if len(bad) else "" if bool(torch.isfinite(trace.logits).all()) else "the head"
    if where:
        name = str(dtype).removeprefix("torch.")
        remedy = (
            "its numbers are beyond what float16 holds: use dtype='bfloat16' or 'float32'"
            if dtype == torch.float16
            else "its weights are damaged or hold NaN: copy them anew"
        )
        raise NotFiniteError(f"{label} gives NaN or infinity from {where} on in {name}; {remedy}")


def check_conversion(model: Any, trace: Trace, label: str, backend: str) -> None:
    """Raise unless a converted model computes what its source does.

    Raises:
        UnsupportedModelError: it does not; says where and by how much, and which backend does.
        NotFiniteError: it gives NaN where the source does not.
    """
    limit = tolerance(model.cfg.dtype)
    wrong = [(where, share) for where, share in deviations(model, trace) if not share <= limit]
    if wrong:
        where, share = wrong[0]
        if share != share:
            raise NotFiniteError(
                f"backend='{backend}' gives NaN or infinity at {where}, where {label} itself does not; use "
                f"backend='{'hooked' if backend == 'bridge' else 'bridge'}' or dtype='float32'"
            )
        remedy = (
            "use backend='bridge', which runs the model's own code"
            if backend == "hooked"
            else "this TransformerLens wraps the architecture wrongly: try backend='hooked' or another version"
        )
        raise UnsupportedModelError(
            f"backend='{backend}' does not compute what {label} computes: at {where} it is off by {share:.2g} of what "
            f"is added there (rounding explains {limit:.2g}); its configuration has a setting that was not converted. "
            f"{remedy[0].upper()}{remedy[1:]}"
        )
