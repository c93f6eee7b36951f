"""Read a story while it is written: `resid_post` of the last position at every step of cached decoding.

The states are those of reading the finished story with its prompt, without a second pass over it. They are held for
one decoding batch, as `residual_cache` holds one reading batch, then pooled and freed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens import ActivationCache

from lens_emotion.display import Brief
from lens_emotion.extraction.pooling import Pooling, layers_of, pool_cache
from lens_emotion.files.journal import Record, are_ids, are_tensors, is_count
from lens_emotion.models.access import Model, device_of, hook_name
from lens_emotion.models.forward import check_finite_layers


@dataclass(frozen=True, eq=False, repr=False)
class StoryStates(Brief):
    """A story's pooled row, the tokens that entered it, and the norms of all its content tokens, summed per layer."""

    row: Float[Tensor, "n_layers d_model"]
    n_pooled: int
    norm_sum: Float[Tensor, " n_layers"]


Written = tuple[tuple[int, ...], StoryStates | None]  # new token ids, and what was read of them


@dataclass(frozen=True, eq=False, repr=False)
class Watch(Brief):
    """Hooks for `generate_tokens`, and what they saw.

    Attributes:
        hooks: one function for all layers, under a filter of names: the Bridge looks up each name given in 6 ms.
        keep: to be told which rows go on (`on_keep`).
        cache: `resid_post` of every row of the batch; position 0 is the last prompt token, position j the j-th new one.
    """

    hooks: list[tuple[Callable[[str], bool], Callable[..., Any]]]
    keep: Callable[[Int[Tensor, " rows"]], None]
    cache: ActivationCache


def watch(model: Model, n_rows: int, max_new_tokens: int) -> Watch:
    """Watch a batch of `n_rows` rows write up to `max_new_tokens` tokens (generate with `read_last=True`)."""
    n_layers, device = model.cfg.n_layers, device_of(model)
    held = torch.zeros(n_layers, n_rows, max_new_tokens + 1, model.cfg.d_model, dtype=model.cfg.dtype, device=device)
    alive = [torch.arange(n_rows, device=device)]
    passing: list[Tensor] = []  # the layers of the pass under way
    seen = [0]

    def hold(tensor: Tensor, hook: Any) -> None:
        # a whole prompt must not outlive its layer for the sake of its last token
        passing.append(tensor[:, -1].clone() if tensor.shape[1] > 1 else tensor[:, -1])
        if len(passing) == n_layers:
            held[:, alive[0], seen[0]] = torch.stack(passing)
            seen[0] += 1
            passing.clear()

    def keep(rows: Int[Tensor, " rows"]) -> None:
        alive[0] = alive[0][rows]

    names = [hook_name(layer) for layer in range(n_layers)]
    cache = ActivationCache(dict(zip(names, held, strict=True)), model)
    return Watch([(frozenset(names).__contains__, hold)], keep, cache)


def states_of(cache: ActivationCache, content: Sequence[Sequence[bool]], pooling: Pooling) -> list[StoryStates]:
    """Pool what a `Watch` saw.

    Args:
        cache: from `watch`.
        content: per row, True for the positions to be read; position 0 is the last prompt token.
        pooling: rows it finds nothing in become NaN.

    Raises:
        NotFiniteError: states that hold NaN or infinity.
    """
    width = cache[hook_name(0)].shape[1]
    mask = torch.tensor([[*row, *[False] * (width - len(row))] for row in content], dtype=torch.bool)
    rows = pool_cache(cache, mask, pooling)
    taken = (pooling.weights(mask) > 0).sum(1).tolist()
    lengths = [cache[hook_name(layer)].float().norm(dim=-1).double().cpu() for layer in layers_of(cache)]
    norms = torch.stack([torch.where(mask, each, 0).sum(1) for each in lengths], 1)
    finite = rows.isfinite().all(-1) & norms.isfinite() | (torch.tensor(taken) == 0)[:, None]
    check_finite_layers(cache.model, finite.all(0))
    return [StoryStates(row, n, norm) for row, n, norm in zip(rows, taken, norms, strict=True)]


def as_record(rows: Sequence[Written]) -> Record:
    """A written batch as a record of a journal, in the order of its rows."""
    states = [s for _, s in rows if s is not None]
    values = {"new_ids": [list(new) for new, _ in rows], "n_pooled": [s.n_pooled for s in states]}
    if not states:
        return Record(values)
    pooled, norms = torch.stack([s.row for s in states]), torch.stack([s.norm_sum for s in states])
    return Record(values, {"pooled": pooled, "norm_sums": norms})


def is_written(record: Record, model: Model, n_rows: int, new_tokens: int, watched: bool) -> bool:
    """Whether a record holds what `as_record` makes of so many rows of this model."""
    values, found = record.values, record.tensors
    if not are_ids(values.get("new_ids"), n_rows, new_tokens, model.cfg.d_vocab):
        return False
    counts, n_states = values.get("n_pooled"), n_rows if watched else 0
    if not isinstance(counts, list) or len(counts) != n_states:
        return False
    if not all(is_count(n, new_tokens + 2) for n in counts):
        return False
    layers = (n_states, model.cfg.n_layers)
    if not are_tensors(found, {"pooled": (*layers, model.cfg.d_model), "norm_sums": layers} if watched else {}):
        return False
    read = torch.tensor(counts) > 0  # what nothing was read of has no numbers
    return all(bool(tensor.isfinite()[read].all()) for tensor in found.values())


def from_record(record: Record) -> list[Written]:
    """The rows of a written batch."""
    new = [tuple(int(i) for i in ids) for ids in record.values["new_ids"]]
    if not record.tensors:
        return [(ids, None) for ids in new]
    read = zip(record.tensors["pooled"], record.values["n_pooled"], record.tensors["norm_sums"], strict=True)
    return list(zip(new, (StoryStates(row, n, norm) for row, n, norm in read), strict=True))
