"""Token by token with the key-value cache, on both backends: greedy or sampled, whole batches, hooks in place.

Sampling is identical to one-by-one: every row draws from a generator of its own, seeded by the row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lens_emotion.models import hooked
from lens_emotion.models.access import Model, backend_of, device_of
from lens_emotion.models.head import read_out
from lens_emotion.models.prompting import check_length, pad, pad_id, special_ids, tokenizer_of
from lens_emotion.models.threads import fitting_threads

Step = Callable[[Int[Tensor, "batch new"], Bool[Tensor, "batch new"]], Float[Tensor, "batch d_vocab"]]


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen: temperature 0 is greedy; otherwise nucleus sampling with a seed per row."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    @property
    def greedy(self) -> bool:
        return self.temperature <= 0


GREEDY = Sampling()


@torch.inference_mode()
def generate_tokens(
    model: Model,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    sampling: Sampling = GREEDY,
    fwd_hooks: Sequence[tuple[str, Callable[..., Any]]] = (),
    row_seeds: Sequence[int] | None = None,
) -> list[list[int]]:
    """Continue each prompt by up to `max_new_tokens` tokens; the end-of-text token is not part of what returns.

    Args:
        model: TransformerBridge or HookedTransformer.
        prompts: token ids per row; rows are padded on the left.
        sampling: greedy or sampled.
        fwd_hooks: hook functions in place during every forward pass, prompt included.
        row_seeds: one per row for sampling; default sampling.seed + row index.

    Returns:
        New token ids per row.

    Raises:
        ContextLengthError: prompt and new tokens do not fit into the context.
    """
    for row in prompts:
        check_length(model, len(row), "prompt", max_new_tokens)
    device = device_of(model)
    tokens, mask = (t.to(device) for t in pad(prompts, pad_id(model), side="left"))
    stop = stop_ids(model)
    choose = _chooser(sampling, row_seeds or [sampling.seed + i for i in range(len(prompts))])
    finished = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    produced: list[Tensor] = []
    with fitting_threads(model), model.hooks(fwd_hooks=list(fwd_hooks)):
        step = make_step(model, len(prompts))
        for _ in range(max_new_tokens):
            logits = step(tokens, mask)
            chosen = choose(logits.float()).to(device)
            produced.append(torch.where(finished, -1, chosen))
            finished |= torch.isin(chosen, stop.to(device))
            if bool(finished.all()):
                break
            tokens, mask = chosen[:, None], torch.ones_like(chosen[:, None], dtype=torch.bool)
    stop_set = set(stop.tolist())
    return [[t for t in row if t >= 0 and t not in stop_set] for row in torch.stack(produced, 1).tolist()]


def stop_ids(model: Model) -> Int[Tensor, " n_stop"]:
    """Ids that end a text: the tokenizer's EOS and those of the model's generation settings (end-of-turn tokens)."""
    found = {tokenizer_of(model).eos_token_id}
    hf_model = getattr(model, "original_model", None)
    configured = getattr(getattr(hf_model, "generation_config", None), "eos_token_id", None)
    found |= set(configured) if isinstance(configured, list) else {configured}
    for token in ("<|im_end|>", "<|eot_id|>", "<end_of_turn>"):
        known = tokenizer_of(model).get_vocab().get(token)
        if known in special_ids(model):
            found.add(known)
    return torch.tensor(sorted(i for i in found if i is not None), dtype=torch.long)


def make_step(model: Model, batch: int) -> Step:
    """A function that feeds new tokens through the cached model and returns the logits after the last of them.

    Prompts come first, left-padded; afterwards one token per row. Positions count real tokens only, so that a padded
    row is computed exactly as if it stood alone. The head runs on the last position alone.
    """
    return _hooked_step(model, batch) if backend_of(model) == "hooked" else _bridge_step(model)


def _bridge_step(model: Model) -> Step:
    from transformers import DynamicCache

    cache = DynamicCache(config=model.original_model.config)
    seen: list[Tensor] = []

    def step(tokens: Int[Tensor, "batch new"], mask: Bool[Tensor, "batch new"]) -> Float[Tensor, "batch d_vocab"]:
        seen.append(mask.long())
        whole = torch.cat(seen, 1)
        seen[:] = [whole]
        positions = (whole.cumsum(1) - 1).clamp_min(0)[:, -tokens.shape[1] :]
        logits = model(
            tokens,
            attention_mask=whole,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return logits[:, -1]

    return step


def _hooked_step(model: Model, batch: int) -> Step:
    cache = hooked.new_cache(model, batch)
    n_layers = model.cfg.n_layers

    def step(tokens: Int[Tensor, "batch new"], mask: Bool[Tensor, "batch new"]) -> Float[Tensor, "batch d_vocab"]:
        residual = model(tokens, attention_mask=mask.long(), past_kv_cache=cache, stop_at_layer=n_layers)
        return read_out(model, residual[:, -1])

    return step


def _chooser(sampling: Sampling, seeds: Sequence[int]) -> Callable[[Tensor], Tensor]:
    if sampling.greedy:
        return lambda logits: logits.argmax(-1)
    generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]

    def choose(logits: Tensor) -> Tensor:
        weights, order = nucleus((logits / sampling.temperature).softmax(-1), sampling.top_p)
        cumulative = weights.double().cumsum(-1).cpu()
        uniform = torch.cat([torch.rand(1, generator=g, dtype=torch.float64) for g in generators])
        index = torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None]).clamp_max(weights.shape[1] - 1)
        return order.cpu().gather(1, index)[:, 0]

    return choose


def nucleus(
    probabilities: Float[Tensor, "batch d_vocab"], top_p: float
) -> tuple[Float[Tensor, "batch kept"], Int[Tensor, "batch kept"]]:
    """The most likely tokens of each row, likeliest first, up to the first that brings their sum to `top_p`.

    Sorting a whole vocabulary at every step costs more than a small model's forward pass: the likeliest few hundred
    nearly always suffice, and more are taken only if they do not.

    Returns:
        Weights (zero beyond a row's nucleus) and token ids.
    """
    size = probabilities.shape[-1]
    k = min(256, size)
    while True:
        ordered, order = probabilities.topk(k, dim=-1)
        if k == size or bool((ordered.sum(-1) >= top_p).all()):
            break
        k = min(4 * k, size)
    outside = ordered.cumsum(-1) - ordered >= top_p
    return ordered.masked_fill(outside, 0.0), order
