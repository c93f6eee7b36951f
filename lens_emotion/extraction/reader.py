"""Read tokenised texts through a model into PooledActivations: batches, progress, token accounting."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lens_emotion.display import Brief
from lens_emotion.errors import ContextLengthError, StimulusError
from lens_emotion.extraction.activations import Header, PooledActivations, TextRecord
from lens_emotion.extraction.pooling import Pooling, check_content, norm_sum, pool_layer
from lens_emotion.files.journal import Journal, Record, are_tensors, batch_key, remembered_batches
from lens_emotion.models.access import Model, check_raw_basis, describe, device_of
from lens_emotion.models.forward import (
    body,
    budget_for,
    check_finite_layers,
    fitting_threads,
    plan_batches,
    run_halving,
)
from lens_emotion.models.prompting import TokenisedText, pad, pad_id
from lens_emotion.progress import track


@dataclass(frozen=True)
class Reading:
    """A text ready to be read: its tokens, and the labels it will carry."""

    tokens: TokenisedText
    record: TextRecord


def make_header(
    model: Model, method: str, pooling: str, stimuli: str, sha256: str, *, allow_processed: bool, **more: Any
) -> Header:
    """The header of activations read from this model.

    Raises:
        ProcessedModelError: the model's weights are processed and that was not allowed.
    """
    check_raw_basis(model, allow_processed)
    info = describe(model)
    shared = ("fingerprint", "family", "backend", "transformer_lens", "dtype", "processed")
    more |= {"model": info.name, **{name: getattr(info, name) for name in shared}}
    return Header(method=method, pooling=pooling, stimuli=stimuli, stimuli_sha256=sha256, **more)


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
        GenerationError: a token budget below 1.
        NotFiniteError: states that hold NaN or infinity.
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
        found = run_halving(batch, run, model, label)
        rows, taken = (torch.cat([getattr(p, name) for p in found], 1) for name in ("rows", "n_pooled"))
        return Record({}, {"rows": rows, "n_pooled": taken, "norms": torch.stack([p.norms for p in found])})

    def key(batch: list[int]) -> str:
        named = (header.with_(notes=()).to_dict(), [p.name for p in poolings], str(device_of(model)))
        return batch_key(label, named, [(i, readings[i].tokens.ids, readings[i].tokens.content) for i in batch])

    def fits(batch: list[int], kept: Record) -> bool:
        return _is_pooled(kept, [sum(readings[i].tokens.content) for i in batch], values.shape)

    batches = plan_batches([len(r.tokens) for r in readings], budget_for(model, token_budget))
    with fitting_threads(model), pooled_reader(model, poolings) as read:
        finished = remembered_batches(journal, batches, key, record, fits)
        for batch, kept in track(finished, label, len(readings), step=lambda pair: len(pair[0]), show=progress):
            found = kept.tensors
            values[:, batch], counts[:, batch] = found["rows"], found["n_pooled"]
            _check_taken(counts[:, batch], [readings[i].record for i in batch], poolings)
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


def _check_taken(
    counts: Int[Tensor, "n_poolings batch"], records: Sequence[TextRecord], poolings: Sequence[Pooling]
) -> None:
    """Raises StimulusError for a text of which a pooling took no token: it has no row."""
    for k, i in (counts == 0).nonzero().tolist()[:1]:
        raise StimulusError(
            f"{poolings[k].name} takes no token of text '{records[i].text_id}'; pool from an earlier token, or set "
            "min_content, which refuses short texts before anything is read"
        )


def _is_pooled(kept: Record, n_content: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether a record holds a batch of texts of so many content tokens; `shape` is that of all texts' rows."""
    n_poolings, _, n_layers, width = shape
    found, batch = kept.tensors, (n_poolings, len(n_content))
    shapes = {"rows": (*batch, n_layers, width), "n_pooled": batch}
    parts = len(found["norms"]) if "norms" in found and found["norms"].ndim else 0  # of a batch that was halved
    if not parts or not are_tensors(found, shapes | {"norms": (parts, n_layers)}):
        return False
    taken, norms = found["n_pooled"], found["norms"]
    if taken.is_floating_point() or found["rows"].dtype != torch.float32 or not norms.is_floating_point():
        return False
    counted = bool(((taken >= 0) & (taken <= torch.tensor(n_content))).all())
    finite = found["rows"].isfinite().all(-1).all(-1) | (taken == 0)
    return counted and bool(finite.all()) and bool((norms.isfinite() & (norms >= 0)).all())


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


@dataclass(frozen=True, eq=False, repr=False)
class Pooled(Brief):
    """One batch, pooled: float32 rows, the tokens that entered each, and norms summed over content in float64."""

    rows: Float[Tensor, "n_poolings batch n_layers d_model"]
    n_pooled: Int[Tensor, "n_poolings batch"]
    norms: Float[Tensor, " n_layers"]


ReadBatch = Callable[[Int[Tensor, "batch pos"], Bool[Tensor, "batch pos"], Bool[Tensor, "batch pos"]], Pooled]


@contextmanager
def pooled_reader(model: Model, poolings: Sequence[Pooling]) -> Iterator[ReadBatch]:
    """Inside, `read(tokens, mask, content)` runs a batch and pools every layer when it is computed.

    Hooks are set once for all batches: on small models that costs as much as reading a batch.

    Yields:
        read: token ids, the mask of real tokens and the mask of content [batch, pos] -> Pooled, on the CPU.
    """
    reading: list[tuple[Tensor, Tensor]] = []  # weights and content of the batch under way
    rows: list[Tensor] = []
    norms: list[Tensor] = []

    def see(tensor: Tensor) -> None:
        weights, content = reading[0]
        rows.append(pool_layer(tensor, weights))
        norms.append(norm_sum(tensor, content))

    with body(model, see) as run:

        def read(tokens: Tensor, mask: Tensor, content: Tensor) -> Pooled:
            weights = torch.stack([p.weights(content) for p in poolings])
            device = device_of(model)
            reading.append((weights.to(device), content.to(device)))
            try:
                run(tokens.to(device), mask.to(device))
                pooled = Pooled(torch.stack(rows, 2).cpu(), (weights > 0).sum(-1), torch.stack(norms).cpu())
                if bool(weights.isfinite().all()):  # a pooling that finds nothing is no fault of the model
                    check_finite_layers(model, pooled.rows.isfinite().all(-1).all(0).all(0) & pooled.norms.isfinite())
                return pooled
            finally:
                for kept in (reading, rows, norms):
                    kept.clear()

        yield read
