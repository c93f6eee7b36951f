"""Mean NLL of many texts: `mean_nll` against transformers, text by text and in batches with logits everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.measure import Options, Row, interleaved
from benchmarks.subjects import is_real, loaded, plain_model, texts, token_ids
from benchmarks.table import run_alone
from lens_emotion.models.access import Model
from lens_emotion.models.prompting import pad
from lens_emotion.steering.measures import likelihood, mean_nll

NAME = "scoring"
SMALL = 10_000_000  # parameters of a model that can score all texts in seconds
BATCH = 16
ALONE, BATCHED = "transformers, text by text", f"transformers, batches of {BATCH}"


def rows(options: Options) -> list[Row]:
    """Mean NLL of up to 400 texts given one token of prompt: time, and memory beyond the model's."""
    found = []
    for name, model in loaded(options):
        found += _rows_of(name, model, options)
    return found


def _rows_of(name: str, model: Model, options: Options) -> list[Row]:
    plain = plain_model(name, options)
    small = plain.num_parameters() < SMALL
    n = 40 if options.quick else 400 if small or options.full else 24
    repeats = options.repeats if small else 1 if options.full else 3
    ids = token_ids(model, texts(n, is_real(options)))
    prompts, bodies = [i[:1] for i in ids], [i[1:] for i in ids]
    ways = {
        "ours": lambda: mean_nll(model, prompts, bodies),
        "ours, with entropy": lambda: likelihood(model, prompts, bodies),
        ALONE: lambda: one_by_one(plain, ids),
        BATCHED: lambda: batched(plain, ids),
    }
    _agree(ways["ours"](), ways[ALONE](), ways[BATCHED]())
    samples = interleaved(ways, repeats, warm_up=False)  # the check above was the warm-up
    what = f"mean NLL of {n} texts, {name}"
    whole = max(len(i) for i in ids) * BATCH * model.cfg.d_vocab * 4 / 2**20
    return [
        Row.measured(NAME, what, samples, "ours", ALONE, 1.0),
        Row.measured(NAME, what, samples, "ours", BATCHED, 1.0),
        Row.measured(NAME, f"entropy and {what}", samples, "ours, with entropy", BATCHED, note="entropy: ours only"),
        *Row.peak(NAME, f"peak memory: {what}", samples, "ours", BATCHED, 1.0, f"its logits alone: {whole:.0f} MiB"),
    ]


@torch.inference_mode()
def one_by_one(plain: Any, ids: Sequence[Sequence[int]]) -> np.ndarray:
    """The loop of the documentation: one text a call, the loss that the model returns."""
    found = []
    for row in ids:
        tokens = torch.tensor([row])
        found.append(plain(input_ids=tokens, labels=tokens).loss.item())
    return np.array(found)


@torch.inference_mode()
def batched(plain: Any, ids: Sequence[Sequence[int]]) -> np.ndarray:
    """Batches in order of length, log-softmax of the logits of every position."""
    found, order = np.empty(len(ids)), sorted(range(len(ids)), key=lambda i: -len(ids[i]))
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        tokens, mask = pad([ids[i] for i in batch], 0)
        log_p = plain(input_ids=tokens, attention_mask=mask.long()).logits[:, :-1].float().log_softmax(-1)
        nll = -log_p.gather(2, tokens[:, 1:, None])[..., 0] * mask[:, 1:]
        found[batch] = (nll.sum(1) / mask[:, 1:].sum(1)).numpy()
    return found


def _agree(*found: np.ndarray) -> None:
    """Raises AssertionError unless every way gives the same numbers: speed of something else is no speed."""
    for other in found[1:]:
        np.testing.assert_allclose(found[0], other, rtol=2e-3)


if __name__ == "__main__":
    run_alone(rows)
