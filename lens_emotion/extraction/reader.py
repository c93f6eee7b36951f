"""Read tokenised texts through a model into PooledActivations: batches, progress, token accounting."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from lens_emotion.display import Brief
from lens_emotion.errors import ContextLengthError, StimulusError
from lens_emotion.extraction.activations import Header, PooledActivations, TextRecord
from lens_emotion.extraction.pooling import Pooling, check_content, layer_pooler, over_content
from lens_emotion.files.journal import Journal, Record, are_tensors, batch_key, remembered_batches
from lens_emotion.models.access import Model, check_raw_basis, describe, device_of
from lens_emotion.models.forward import body, budget_for, fitting_threads, not_finite, plan_batches, run_halving
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

    begun: dict[int, list[Finish]] = {}  # by its first text: the batch that the device works on already
    batches = plan_batches([len(r.tokens) for r in readings], budget_for(model, token_budget))
    after = dict(pairwise(batch[0] for batch in batches)) if _in_motion(model, journal) else {}
    starts = {batch[0]: batch for batch in batches}

    def start(rows: list[int]) -> list[Finish]:
        tokens, mask = pad([readings[i].tokens.ids for i in rows], fill)
        content = pad([readings[i].tokens.content for i in rows], 0)[0].bool()
        return [read(tokens, mask, content)]

    def record(batch: list[int]) -> Record:
        finishes = begun.pop(batch[0], None) or run_halving(batch, start, model, label)
        if (following := starts.get(after.get(batch[0], -1))) and (journal is None or key(following) not in journal):
            begun[following[0]] = run_halving(following, start, model, label)
        found = [finish() for finish in finishes]
        _check_finite(model, found, [readings[i].record.text_id for i in batch])
        rows, taken = (_joined([getattr(p, name) for p in found]) for name in ("rows", "n_pooled"))
        return Record({}, {"rows": rows, "n_pooled": taken, "norms": torch.stack([p.norms for p in found])})

    def key(batch: list[int]) -> str:
        named = (header.with_(notes=()).to_dict(), [p.name for p in poolings], str(device_of(model)))
        return batch_key(label, named, [(i, readings[i].tokens.ids, readings[i].tokens.content) for i in batch])

    def fits(batch: list[int], kept: Record) -> bool:
        return _is_pooled(kept, [sum(readings[i].tokens.content) for i in batch], values.shape)

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
            tuple(account(r, n) for r, n in zip(readings, counts[k].tolist(), strict=True)),
            norm,
            header.with_(pooling=pooling.name),
        )
        for k, pooling in enumerate(poolings)
    )


def _in_motion(model: Model, journal: Journal | None) -> bool:
    """Whether a batch begins before the one in front is fetched: where the device works while the CPU does.

    A worker's batches are not those of the plan in their order; beside the other workers the device is busy anyway.
    """
    return device_of(model).type == "cuda" and (journal is None or journal.part is None)


def _joined(parts: Sequence[Shaped[Tensor, "n_poolings _ ..."]]) -> Shaped[Tensor, "n_poolings _ ..."]:
    """The parts of a batch, one after the other; one that ran as a whole is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), 1)


def _check_finite(model: Model, found: Sequence[Pooled], text_ids: Sequence[str]) -> None:
    """Raises NotFiniteError naming the first layer that is not finite, and the first text in which it is not."""
    bad = ~torch.cat([p.finite for p in found])
    if bool(bad.any()):
        layer, row = bad.T.nonzero()[0].tolist()
        raise not_finite(model, f"the states of layer {layer} in text '{text_ids[row]}'")


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
    """One batch, pooled, on the CPU.

    Attributes:
        rows: float32.
        n_pooled: tokens that entered each.
        norms: of content tokens, summed in float64.
        finite: False where a text's states are not, though every pooling found tokens in it.
    """

    rows: Float[Tensor, "n_poolings batch n_layers d_model"]
    n_pooled: Int[Tensor, "n_poolings batch"]
    norms: Float[Tensor, " n_layers"]
    finite: Bool[Tensor, "batch n_layers"]


Finish = Callable[[], Pooled]
ReadBatch = Callable[[Int[Tensor, "batch pos"], Bool[Tensor, "batch pos"], Bool[Tensor, "batch pos"]], Finish]


@contextmanager
def pooled_reader(model: Model, poolings: Sequence[Pooling]) -> Iterator[ReadBatch]:
    """Inside, `read(tokens, mask, content)` runs a batch and pools every layer when it is computed.

    Hooks are set once for all batches: on small models that costs as much as reading a batch. On CUDA, `read` only puts
    the batch in motion: nothing waits for the device until the function that it returns is called, and what is
    fetched then is one row per text and layer and one number per token and layer.

    Yields:
        read: token ids, the mask of real tokens and the mask of content [batch, pos], on the CPU -> a function that
            fetches what was pooled.
    """
    rows, norms = list[Tensor](), list[Tensor]()
    under_way: list[Tensor] = []  # weights of the batch that runs
    poolers: dict[tuple[torch.device, torch.dtype], Any] = {}  # made for it

    def see(hidden: Tensor) -> None:
        place = (hidden.device, hidden.dtype)  # a hook of the user's may have changed either
        if place not in poolers:
            poolers[place] = layer_pooler(*place, under_way[0])
        row, norm = poolers[place](hidden)
        rows.append(row)
        norms.append(norm)

    with body(model, see) as run:

        def read(tokens: Tensor, mask: Tensor, content: Tensor) -> Finish:
            weights = torch.stack([p.weights(content) for p in poolings])
            under_way.append(weights)
            try:
                run(tokens, mask)
                stacked = torch.stack(rows, 2)
                fetch = _fetching((stacked, stacked.isfinite().all(-1).all(0), torch.stack(norms)))
            finally:
                for kept in (under_way, poolers, rows, norms):
                    kept.clear()

            def finish() -> Pooled:
                fetched, finite, lengths = fetch()
                finite &= (lengths.isfinite() | ~content).all(-1).T
                finite |= ~weights.isfinite().all(-1).all(0)[:, None]  # what finds nothing is no fault of the model
                sums = torch.stack([over_content(each, content) for each in lengths])
                return Pooled(fetched, (weights > 0).sum(-1), sums, finite)

            return finish

        yield read


def _fetching(found: Sequence[Shaped[Tensor, "..."]]) -> Callable[[], Sequence[Shaped[Tensor, "..."]]]:
    """Begin to copy tensors to the CPU; the function returned waits until they are there."""
    if found[0].device.type != "cuda":
        here = [tensor.cpu() for tensor in found]
        return lambda: here
    here = [tensor.to("cpu", non_blocking=True) for tensor in found]  # into pinned memory
    arrived = torch.cuda.Event()
    arrived.record(torch.cuda.current_stream(found[0].device))

    def fetch() -> Sequence[Tensor]:
        arrived.synchronize()
        return here

    return fetch
