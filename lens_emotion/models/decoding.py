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
from lens_emotion.models.access import Model, backend_of, device_of, tokenizer_of
from lens_emotion.models.forward import fitting_threads, read_out, shortcut
from lens_emotion.models.prompting import check_length, pad, pad_id, special_ids
from lens_emotion.models.templates import turn_end
from lens_emotion.models.turns import turn

Step = Callable[[Int[Tensor, "batch new"], Bool[Tensor, "batch new"]], Float[Tensor, "batch d_vocab"]]
Keep = Callable[[Int[Tensor, " rows"]], None]
OnStep = Callable[[dict[int, int]], None]  # row -> its new token
TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>")
SMALLEST = 8  # batches of so few rows are not made smaller when rows finish


@dataclass(frozen=True)
class Decoder:
    """A cached model mid-text.

    Attributes:
        step: feeds new tokens and returns the logits after the last of them.
        keep: goes on with these rows of the batch, in any order and number (a row may be taken several times).
    """

    step: Step
    keep: Keep


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
    fwd_hooks: Sequence[tuple[str | Callable[[str], bool], Callable[..., Any]]] = (),
    row_seeds: Sequence[int] | None = None,
    *,
    share_prompts: bool = False,
    on_keep: Keep | None = None,
    read_last: bool = False,
    on_step: OnStep | None = None,
) -> list[list[int]]:
    """Continue each prompt by up to `max_new_tokens` tokens; the end-of-text token is not part of what returns.

    Rows that have finished leave the batch once they are half of it, unless hooks are in place that cannot follow.

    Args:
        model: TransformerBridge or HookedTransformer.
        prompts: token ids per row; rows are padded on the left.
        sampling: greedy or sampled.
        fwd_hooks: hook functions, each with a name or a filter of names, in place during every pass, prompt included.
        row_seeds: one per row for sampling; default sampling.seed + row index.
        share_prompts: read every distinct prompt once, and without `fwd_hooks` but for its last token. Only for hooks
            that leave the rest of the prompt as it is.
        on_keep: told which rows go on when others leave, for hooks that hold something per row.
        read_last: feed the last token too, for hooks that read what was written (it is chosen, but never read).
        on_step: told after every step which rows got which token, those that go on only. What it raises ends the
            generation; hooks are gone then too.

    Returns:
        New token ids per row.

    Raises:
        ContextLengthError: prompt and new tokens do not fit into the context.
    """
    for row in prompts:
        check_length(model, len(row), "prompt", max_new_tokens)
    device, stop = device_of(model), stop_ids(model).to(device_of(model))
    choose = _chooser(sampling, row_seeds or [sampling.seed + i for i in range(len(prompts))])
    written = torch.full((len(prompts), max_new_tokens), -1)
    alive = torch.arange(len(prompts))  # rows still in the batch
    finished = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    with turn(model), fitting_threads(model):
        decoder, tokens, mask = _begin(model, prompts, share_prompts)
        with model.hooks(fwd_hooks=list(fwd_hooks)), shortcut(model, whole_blocks=True):
            for position in range(max_new_tokens):
                chosen = choose(decoder.step(tokens, mask).float(), alive).to(device)
                written[alive, position] = torch.where(finished, -1, chosen).cpu()
                finished |= torch.isin(chosen, stop)
                going = (~finished).nonzero()[:, 0]
                if len(going) == 0:
                    break
                if on_step:
                    on_step(dict(zip(alive[going.cpu()].tolist(), chosen[going].tolist(), strict=True)))
                if (on_keep or not fwd_hooks) and len(alive) > SMALLEST and 2 * len(going) <= len(alive):
                    for keep in (decoder.keep, on_keep):
                        if keep:
                            keep(going)
                    alive, finished, chosen = alive[going.cpu()], finished[going], chosen[going]
                tokens, mask = chosen[:, None], torch.ones_like(chosen[:, None], dtype=torch.bool)
            else:
                if read_last:
                    decoder.step(tokens, mask)
    stop_set = {-1, *stop.tolist()}
    return [[t for t in row if t not in stop_set] for row in written.tolist()]


def _begin(
    model: Model, prompts: Sequence[Sequence[int]], share: bool
) -> tuple[Decoder, Int[Tensor, "batch new"], Bool[Tensor, "batch new"]]:
    """A decoder, and what it is to read first: whole prompts, or their last tokens if the rest has been read."""
    device = device_of(model)
    distinct = list(dict.fromkeys(tuple(p) for p in prompts))
    share = share and len(distinct) < len(prompts) and max(len(p) for p in distinct) > 1
    tokens, mask = (t.to(device) for t in pad(distinct if share else prompts, pad_id(model), side="left"))
    decoder = make_decoder(model, len(tokens))
    if not share:
        return decoder, tokens, mask
    with shortcut(model, whole_blocks=True):
        decoder.step(tokens[:, :-1], mask[:, :-1])
    rows = torch.tensor([distinct.index(tuple(p)) for p in prompts], device=device)
    decoder.keep(rows)
    return decoder, tokens[rows, -1:], mask[rows, -1:]


def stop_ids(model: Model) -> Int[Tensor, " n_stop"]:
    """Ids that end a text: the tokenizer's EOS, those of the model's generation settings (one or several), and the
    special token with which its chat template ends a turn."""
    eos = tokenizer_of(model).eos_token_id
    found = ends_of(model) | _turn_ends(model) | ({int(eos)} if eos is not None else set())
    return torch.tensor(sorted(found), dtype=torch.long)


def ends_of(model: Model) -> set[int]:
    """The end tokens of the model's generation settings, one or several."""
    own = getattr(getattr(model, "original_model", None), "generation_config", None)
    configured = getattr(own or getattr(model, "lens_emotion_generation", None), "eos_token_id", None)
    several = configured if isinstance(configured, list | tuple) else [configured]
    return {int(i) for i in several if i is not None}


def _turn_ends(model: Model) -> set[int]:
    """The first special token that the template writes behind an assistant's turn; where there is none to be had, the
    turn ends of the families by name."""
    special, tokenizer = special_ids(model), tokenizer_of(model)
    behind = [i for i in tokenizer(turn_end(model), add_special_tokens=False).input_ids if i in special]
    named = [tokenizer.convert_tokens_to_ids(token) for token in TURN_ENDS if token in tokenizer.get_vocab()]
    return set(behind[:1] or special.intersection(named))


def make_decoder(model: Model, batch: int) -> Decoder:
    """An empty decoder for `batch` rows.

    Prompts come first, left-padded; afterwards one token per row. Positions count real tokens only, so that a padded
    row is computed exactly as if it stood alone. The head runs on the last position alone.
    """
    return _hooked_decoder(model, batch) if backend_of(model) == "hooked" else _bridge_decoder(model)


def _bridge_decoder(model: Model) -> Decoder:
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

    def keep(rows: Int[Tensor, " rows"]) -> None:
        cache.reorder_cache(rows)
        seen[:] = [part[rows] for part in seen]

    return Decoder(step, keep)


def _hooked_decoder(model: Model, batch: int) -> Decoder:
    cache = hooked.new_cache(model, batch)
    n_layers = model.cfg.n_layers

    def step(tokens: Int[Tensor, "batch new"], mask: Bool[Tensor, "batch new"]) -> Float[Tensor, "batch d_vocab"]:
        residual = model(tokens, attention_mask=mask.long(), past_kv_cache=cache, stop_at_layer=n_layers)
        return read_out(model, residual[:, -1])

    return Decoder(step, lambda rows: hooked.keep_rows(cache, rows))


def _chooser(sampling: Sampling, seeds: Sequence[int]) -> Callable[..., Tensor]:
    """A function of the logits of some rows, and which rows these are (None: all)."""
    if sampling.greedy:
        return lambda logits, rows=None: logits.argmax(-1)
    generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]

    def choose(logits: Tensor, rows: Tensor | None = None) -> Tensor:
        weights, order = nucleus((logits / sampling.temperature).softmax(-1), sampling.top_p)
        cumulative = weights.double().cumsum(-1).cpu()
        drawing = generators if rows is None else [generators[row] for row in rows.tolist()]
        uniform = torch.cat([torch.rand(1, generator=g, dtype=torch.float64) for g in drawing])
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
