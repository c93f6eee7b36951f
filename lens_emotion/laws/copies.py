"""Laws of a model and its copies: any weight identifies it, its blocks compute what its source's do, and
HookedTransformer, Bridge and plain Hugging Face read the same residual stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lens_emotion.laws.reading import states_alone
from lens_emotion.laws.subject import LawResult, Subject, deviation, found
from lens_emotion.models import hooked
from lens_emotion.models.access import Model, architecture_of, backend_of, device_of
from lens_emotion.models.conversion import blocks_of, deviations, tolerance, trace_of
from lens_emotion.models.identity import identity_of
from lens_emotion.models.loading import quiet_loading, resolve, tokenizer_of_source, weights_of_source

ALONE = "it is loaded once only: compare=False (--no-compare), or a model object without the name it could be loaded by"
States = Callable[[Sequence[int]], Float[Tensor, "n_layers pos d_model"]]


@torch.no_grad()
def any_weight_counts(subject: Subject) -> LawResult:
    """Changing a row of any parameter tensor, one after the other, changes the model's fingerprint; with all of them
    put back it is what it was."""
    model = subject.model
    architecture, unnoticed, tried = architecture_of(model), [], 0
    before = identity_of(model, architecture)
    for name, held in dict((getattr(model, "original_model", None) or model).named_parameters()).items():
        row = held.data[held.shape[0] // 2 : held.shape[0] // 2 + 1] if held.dim() else held.data
        kept = row.clone()
        row.copy_(kept * 2 + 1 if held.is_floating_point() else kept ^ 1)
        if identity_of(model, architecture) == before:
            unnoticed.append(name)
        row.copy_(kept)
        tried += 1
    unnoticed += [] if identity_of(model, architecture) == before else ["what was put back"]
    note = f"unnoticed: {', '.join(unnoticed[:3])}" if unnoticed else f"{tried} tensors"
    return found(float(len(unnoticed)), 0.0, "tensors", note)


def blocks_compute_what_the_source_does(subject: Subject) -> LawResult:
    """Every block, given what the source's block is given, adds what that adds; so do embedding and head."""
    if subject.source is None:
        return LawResult("", float("nan"), 0.0, skipped=ALONE)
    apart = deviations(subject.model, trace_of(*subject.source()))
    where, worst = max(apart, key=lambda pair: float("inf") if pair[1] != pair[1] else pair[1])
    return found(worst, tolerance(subject.model.cfg.dtype), note=f"worst at {where}")


def copies_agree(subject: Subject) -> LawResult:
    """`resid_post` of this model equals the hidden states of every other implementation, at every layer."""
    if subject.copies is None:
        return LawResult("", float("nan"), 0.0, skipped=ALONE)
    mine = [states_alone(subject.model, ids) for ids in subject.ids]
    worst: dict[str, float] = {}
    for name, states in subject.copies():
        apart = [deviation(m, states(ids)) for m, ids in zip(mine, subject.ids, strict=True)]
        worst[name] = float(torch.tensor(apart).max())
    note = ", ".join(f"{name} {value:.1e}" for name, value in worst.items())
    return found(float(torch.tensor(list(worst.values())).max()), subject.tolerance, note=note)


def source_of(model: Model, name: str, revision: str | None = None) -> tuple[Any, Any]:
    """The plain Hugging Face model, in the precision, the bits and the place of `model`, and its tokenizer."""
    source, placed = resolve(name), getattr(model, "lens_emotion_placed", {})
    with quiet_loading():
        plain = weights_of_source(source, model.cfg.dtype, revision, **placed)
        return plain if placed else plain.to(str(device_of(model))), tokenizer_of_source(source, revision)


def other_copies(model: Model, name: str, revision: str | None = None) -> Iterator[tuple[str, States]]:
    """Plain Hugging Face, then the backend that `model` is not, loaded anew in its precision and on its device."""
    from transformer_lens.model_bridge import TransformerBridge

    source, mine, place = resolve(name), backend_of(model), str(device_of(model))
    plain, tokenizer = source_of(model, name, revision)
    yield "Hugging Face", lambda ids: plain_states(plain, ids)
    known = type(plain).__name__ in hooked.architectures() and not getattr(model, "lens_emotion_placed", {})
    if mine == "bridge" and hooked.available() and known:
        with quiet_loading():
            other = hooked.build_hooked(plain, tokenizer, source.label, model.cfg.dtype, place)
        yield "HookedTransformer", lambda ids: states_alone(other, ids)
    elif mine == "hooked":
        with quiet_loading():
            other = TransformerBridge.boot_transformers(
                source.label, hf_model=plain, tokenizer=tokenizer, dtype=model.cfg.dtype, device=place
            ).eval()
        yield "Bridge", lambda ids: states_alone(other, ids)


@torch.inference_mode()
def plain_states(plain: nn.Module, ids: Sequence[int]) -> Float[Tensor, "n_layers pos d_model"]:
    """Output of every block of a plain Hugging Face model (its last `hidden_states` entry is already normed)."""
    seen: list[Tensor] = []
    with ExitStack() as hooks:
        for block in blocks_of(plain):
            handle = block.register_forward_hook(
                lambda _m, _i, out: seen.append(out[0] if isinstance(out, tuple) else out)
            )
            hooks.callback(handle.remove)
        plain(torch.tensor([list(ids)], device=next(plain.parameters()).device), use_cache=False)
    return torch.stack([state[0] for state in seen])
