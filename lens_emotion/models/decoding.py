"""Token by token with the key-value cache, on both backends: greedy or sampled, whole batches, hooks in place.

On an accelerator nothing is asked of the device between two looks at which rows have finished (`LOOKS`): to wait for
its answer takes as long as several steps of a small model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lens_emotion.errors import GenerationError, StimulusError, UnsupportedModelError
from lens_emotion.models import hooked
from lens_emotion.models.access import Model, backend_of, device_of, hook_name, tokenizer_of
from lens_emotion.models.forward import (
    check_count,
    check_evaluating,
    fitting_threads,
    not_finite,
    read_out,
    residual_cache,
    shortcut,
)
from lens_emotion.models.prompting import check_length, pad, pad_id, special_ids
from lens_emotion.models.sampling import GREEDY, Choose, Sampling, chooser
from lens_emotion.models.templates import turn_end
from lens_emotion.models.threads import turn

Step = Callable[[Int[Tensor, "batch new"], Bool[Tensor, "batch new"]], Float[Tensor, "batch d_vocab"]]
Keep = Callable[[Int[Tensor, " rows"]], None]
OnStep = Callable[[dict[int, int]], None]  # row -> its new token
TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>")
OnBroken = Callable[[list[int]], None]
LOOKS, SELDOM = {"cpu": 1}, 8  # steps from one look at which rows have finished to the next, by kind of device
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


Begun = tuple[Decoder, Int[Tensor, "batch new"], Bool[Tensor, "batch new"]]  # and what it is to read first


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
    on_broken: OnBroken | None = None,
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
        on_broken: told of rows whose logits are no longer finite, for hooks that may push a model so far: their texts
            end there. None: an error.

    Returns:
        New token ids per row.

    Raises:
        ContextLengthError: prompt and new tokens do not fit into the context.
        GenerationError: no prompts, a number of tokens below 1, seeds that do not match the prompts.
        StimulusError: a prompt without a token.
        UnsupportedModelError: the model is in training mode.
        NotFiniteError: logits that hold NaN or infinity.
    """
    check_prompts(model, prompts, max_new_tokens, row_seeds)
    device = device_of(model)
    written = torch.full((len(prompts), max_new_tokens), -1, device=device)
    seeds = row_seeds or [sampling.seed + i for i in range(len(prompts))]
    choose = chooser(sampling, seeds, max_new_tokens, device)
    stop = stop_ids(model)
    told: dict[str, Any] = {"on_keep": on_keep, "on_step": on_step, "on_broken": on_broken or _refuse}
    try:
        with turn(model), fitting_threads(model):
            begun = _begin(model, prompts, share_prompts)
            _write(
                model, begun, written, choose, stop.to(device), fwd_hooks=list(fwd_hooks), read_last=read_last, **told
            )
    except _BrokenRowError as broken:  # where is found with the hooks gone
        (row,) = broken.args
        raise not_finite(model, broken_at(model, [*prompts[row], *written[row].tolist()])) from None
    stop_set = {-1, *stop.tolist()}
    return [[t for t in row if t not in stop_set] for row in written.tolist()]


class _BrokenRowError(Exception):
    """A row whose logits are not finite, where that is an error."""


def _refuse(rows: list[int]) -> None:
    raise _BrokenRowError(rows[0])


def _write(
    model: Model, begun: Begun, written: Int[Tensor, "rows length"], choose: Choose, stop: Tensor,
    *,
    fwd_hooks: list[Any], on_keep: Keep | None, on_step: OnStep | None, on_broken: OnBroken, read_last: bool,
) -> None:  # fmt: skip
    """Fill `written`, a row per prompt, token by token (see `generate_tokens`); what a row does not write stays -1."""
    decoder, tokens, mask = begun
    rows = torch.arange(len(written), device=tokens.device)  # those still in the batch
    finished, broken = torch.zeros(2, len(rows), dtype=torch.bool, device=tokens.device)
    every, last = 1 if on_step else LOOKS.get(tokens.device.type, SELDOM), written.shape[1] - 1
    with model.hooks(fwd_hooks=fwd_hooks), shortcut(model, whole_blocks=True):
        for position in range(last + 1):
            logits = decoder.step(tokens, mask).float()
            broken |= ~logits.amax(-1).isfinite() & ~finished  # -inf for some tokens is how a model forbids them
            finished |= broken
            chosen = choose(logits, rows, position)
            written[rows, position] = torch.where(finished, -1, chosen)
            finished |= (chosen[:, None] == stop).any(1)
            if position % every == every - 1 or position == last:
                going = _look(rows, finished, broken, chosen, on_step, on_broken)
                if len(going) == 0:
                    return
                if (on_keep or not fwd_hooks) and len(rows) > SMALLEST and 2 * len(going) <= len(rows):
                    for keep in (decoder.keep, on_keep):
                        if keep:
                            keep(going)
                    rows, finished, broken, chosen = rows[going], finished[going], broken[going], chosen[going]
            tokens, mask = chosen[:, None], torch.ones_like(chosen[:, None], dtype=torch.bool)
        if read_last:
            decoder.step(tokens, mask)


def _look(
    rows: Tensor, finished: Tensor, broken: Tensor, chosen: Tensor, on_step: OnStep | None, on_broken: OnBroken
) -> Int[Tensor, " going"]:
    """Which of a batch's rows go on, once those who listen have been told; the one place that waits for the device."""
    names, done, lost, new = torch.stack([rows, finished, broken, chosen]).tolist()
    if any(lost):
        on_broken([name for name, is_lost in zip(names, lost, strict=True) if is_lost])
        broken.zero_()  # told once
    going = [k for k, is_done in enumerate(done) if not is_done]
    if on_step and going:
        on_step({names[k]: new[k] for k in going})
    return torch.tensor(going, dtype=torch.long, device=rows.device)


def check_prompts(
    model: Model, prompts: Sequence[Sequence[int]], max_new_tokens: int, row_seeds: Sequence[int] | None = None
) -> None:
    """What could fail of a generation, found before it begins (see `generate_tokens`)."""
    check_count("max_new_tokens", max_new_tokens)
    if len(prompts) == 0:
        raise GenerationError("no prompts; give at least one")
    if row_seeds is not None and len(row_seeds) != len(prompts):
        raise GenerationError(f"{len(row_seeds)} seeds for {len(prompts)} prompts; give one for each")
    for row in prompts:
        if len(row) == 0:
            raise StimulusError("empty prompt, and the model has no token to begin a text with; give at least one word")
        check_length(model, len(row), "prompt", max_new_tokens)
    check_evaluating(model)


def broken_at(model: Model, ids: Sequence[int]) -> str:
    """Where a text's pass is no longer finite: "the states of layer 3", or "the logits" if all states are."""
    cache = residual_cache(model, torch.tensor([[i for i in ids if i >= 0]]))
    layers = range(model.cfg.n_layers)
    layer = next((k for k in layers if not bool(cache[hook_name(k)].isfinite().all())), None)
    return "the logits" if layer is None else f"the states of layer {layer}"


def _begin(model: Model, prompts: Sequence[Sequence[int]], share: bool) -> Begun:
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
    found = {int(i) for i in several if i is not None}
    known = max(model.cfg.d_vocab, len(tokenizer_of(model)))
    if unknown := sorted(i for i in found if not 0 <= i < known):
        raise UnsupportedModelError(
            f"the generation settings name the end token {unknown[0]}, but ids are 0 to {known - 1}; mend eos_token_id "
            "in the model's generation_config.json (or model.generation_config)"
        )
    return found


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
    from lens_emotion.models.cache import roomy_cache

    cache = roomy_cache(model.original_model.config)
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
