"""Read tokenised texts through a model into PooledActivations: batches, progress, token accounting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from lens_emotion.errors import ContextLengthError
from lens_emotion.extraction.activations import Header, PooledActivations, TextRecord
from lens_emotion.extraction.capture import Pooled, pooled_reader
from lens_emotion.extraction.pooling import Pooling, check_content
from lens_emotion.files.journal import (
    Journal,
    Record,
    batch_key,
    remembered_batches,
)
from lens_emotion.models.access import Model, check_raw_basis, describe, device_of
from lens_emotion.models.decoding import fitting_threads
from lens_emotion.models.prompting import TokenisedText, pad, pad_id
from lens_emotion.progress import track


@dataclass(frozen=True)
class Reading:
    """A text ready to be read: its tokens, and the labels it will carry."""

    tokens: TokenisedText
    record: TextRecord


def make_header(
    model: Model, method: str, pooling: str, stimuli: str, sha256: str, *, allow_processed: bool, **more: object
) -> Header:
    """The header of activations read from this model.

    Raises:
        ProcessedModelError: the model's weights are processed and that was not allowed.
    """
    check_raw_basis(model, allow_processed)
    info = describe(model)
    return Header(
        model=info.name,
        fingerprint=info.fingerprint,
        family=info.family,
        backend=info.backend,
        transformer_lens=info.transformer_lens,
        dtype=info.dtype,
        method=method,
        pooling=pooling,
        stimuli=stimuli,
        stimuli_sha256=sha256,
        processed=info.processed,
    ).with_(**more)


def read_texts(
    model: Model,
    readings: Sequence[Reading],
    pooling: Pooling,
    header: Header,
    token_budget: int | None = None,
    label: str = "reading",
    progress: bool = True,
    journal: Journal | None = None,
) -> PooledActivations:
    """Every text through the model once; one row per text and layer (see `read_poolings`)."""
    return read_poolings(model, readings, [pooling], header, token_budget, label, progress, journal)[0]


def read_poolings(
    model: Model,
    readings: Sequence[Reading],
    poolings: Sequence[Pooling],
    header: Header,
    token_budget: int | None = None,
    label: str = "reading",
    progress: bool = True,
    journal: Journal | None = None,
) -> tuple[PooledActivations, ...]:
    """Every text through the model once, pooled in several ways: one PooledActivations per pooling.

    Args:
        readings: tokens and labels; all are checked before the first forward pass.
        poolings: which content tokens become the row.
        header: provenance to carry; each result names its own pooling.
        token_budget: padded tokens per forward pass; default what suits the device.
        progress: show a progress bar.
        journal: keeps finished batches, and those it holds are not read again.

    Raises:
        StimulusError: a text with too few content tokens for the pooling.
        ContextLengthError: a text longer than the context.
    """
    check_readings(model, readings, poolings)
    fill = pad_id(model)
    values = torch.empty(len(poolings), len(readings), model.cfg.n_layers, model.cfg.d_model)
    norm_total = torch.zeros(model.cfg.n_layers, dtype=torch.float64)
    counts = torch.zeros(len(poolings), len(readings), dtype=torch.long)

    def run(rows: list[int]) -> list[Pooled]:
        tokens, mask = pad([readings[i].tokens.ids for i in rows], fill)
        content = pad([readings[i].tokens.content for i in rows], 0)[0].bool()
        return [read(tokens, mask, content)]

    def record(batch: list[int]) -> Record:
        found = run_halving(batch, run)
        rows, taken = (torch.cat([getattr(p, name) for p in found], 1) for name in ("rows", "n_pooled"))
        return Record({}, {"rows": rows, "n_pooled": taken, "norms": torch.stack([p.norms for p in found])})

    def key(batch: list[int]) -> str:
        named = (header.with_(notes=()).to_dict(), [p.name for p in poolings], str(device_of(model)))
        return batch_key(label, named, [(i, readings[i].tokens.ids, readings[i].tokens.content) for i in batch])

    batches = plan_batches([len(r.tokens) for r in readings], token_budget or budget_for(model))
    with fitting_threads(model), pooled_reader(model, poolings) as read:
        finished = remembered_batches(journal, batches, key, record)
        for batch, kept in track(finished, label, len(readings), step=lambda pair: len(pair[0]), show=progress):
            found = kept.tensors
            values[:, batch], counts[:, batch] = found["rows"], found["n_pooled"]
            for norms in found["norms"]:
                norm_total += norms
    norm = (norm_total / max(sum(sum(r.tokens.content) for r in readings), 1)).float()
    return tuple(
        PooledActivations(
            values[k],
            tuple(account(r, int(n)) for r, n in zip(readings, counts[k], strict=True)),
            norm,
            header.with_(pooling=pooling.name),
        )
        for k, pooling in enumerate(poolings)
    )


def check_readings(model: Model, readings: Sequence[Reading], poolings: Sequence[Pooling]) -> None:
    """Everything that could fail on a text, found before the first forward pass."""
    for reading in readings:
        for pooling in poolings:
            check_content(pooling, sum(reading.tokens.content), reading.record.text)
        if len(reading.tokens) > model.cfg.n_ctx:
            raise ContextLengthError(
                f"text '{reading.record.text_id}' has {len(reading.tokens)} tokens, the context {model.cfg.n_ctx}"
            )


def account(reading: Reading, n_pooled: int) -> TextRecord:
    """The record of a text of which `n_pooled` tokens entered its row."""
    n_content = sum(reading.tokens.content)
    return replace(
        reading.record,
        n_total=len(reading.tokens),
        n_pooled=n_pooled,
        n_skipped=n_content - n_pooled,
        n_special=len(reading.tokens) - n_content,
    )


# -------- batching
# Length-sorted batches under a token budget; a batch that does not fit into memory is halved and tried again.


T = TypeVar("T")

TOKEN_BUDGET = 8192  # padded tokens per forward pass; large enough to saturate a GPU at this scale of model
CPU_BUDGET = 512  # a CPU is saturated long before: smaller batches stay in its caches and need less padding


def budget_for(model: Model) -> int:
    """Padded tokens per forward pass that suit the model's device."""
    return CPU_BUDGET if device_of(model).type == "cpu" else TOKEN_BUDGET


def plan_batches(lengths: Sequence[int], token_budget: int = TOKEN_BUDGET) -> list[list[int]]:
    """Indices of texts in batches: longest first, so that memory peaks at once, and neighbours need little padding.

    Every batch holds at least one text, and its padded size (rows x longest) stays within the budget otherwise.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batches: list[list[int]] = []
    for i in order:
        longest = lengths[batches[-1][0]] if batches else 0
        if batches and (len(batches[-1]) + 1) * longest <= token_budget:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def run_halving(rows: list[int], run: Callable[[list[int]], list[T]]) -> list[T]:
    """Run a batch; out of memory on the accelerator, run its halves. A single row that does not fit raises."""
    try:
        return run(rows)
    except torch.OutOfMemoryError:
        if len(rows) == 1:
            raise
    torch.cuda.empty_cache()
    middle = len(rows) // 2
    return run_halving(rows[:middle], run) + run_halving(rows[middle:], run)
