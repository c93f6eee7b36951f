"""The next token under steering: log-probabilities at content tokens, and their KL from the unsteered ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lens_emotion.extraction.batching import TOKEN_BUDGET, run_halving
from lens_emotion.extraction.capture import residual_cache
from lens_emotion.models.access import Model, hook_name
from lens_emotion.models.head import CHUNK, read_out
from lens_emotion.models.prompting import TokenisedText, pad, pad_id
from lens_emotion.models.threads import fitting_threads
from lens_emotion.steering.hooks import RowEdits
from lens_emotion.steering.interventions import Intervention


def mean_kl(
    model: Model, texts: Sequence[TokenisedText], done: Sequence[Intervention], reference: Sequence[Tensor]
) -> list[float]:
    """Mean KL(steered || unsteered) in nats over all content tokens, one number per intervention."""
    rows = [(k, t) for k in range(len(done)) for t in range(len(texts))]
    width = max(len(t) for t in texts)
    size = max(1, TOKEN_BUDGET // width)
    totals = [0.0] * len(done)

    def run(batch: list[int]) -> list[tuple[int, float]]:
        mine = [rows[i] for i in batch]
        steered = log_probabilities(model, [texts[t] for _, t in mine], [done[k] for k, _ in mine])
        return [(k, _kl(log_p, reference[t])) for (k, t), log_p in zip(mine, steered, strict=True)]

    for start in range(0, len(rows), size):
        for k, value in run_halving(list(range(start, min(start + size, len(rows)))), run):
            totals[k] += value
    n_tokens = sum(len(r) for r in reference)
    return [total / n_tokens for total in totals]


def _kl(log_p: Float[Tensor, "rows d_vocab"], log_q: Float[Tensor, "rows d_vocab"]) -> float:
    """Sum over rows of KL(p || q)."""
    parts = [
        (log_p[i : i + CHUNK].exp() * (log_p[i : i + CHUNK] - log_q[i : i + CHUNK])).sum(dtype=torch.float64)
        for i in range(0, len(log_p), CHUNK)
    ]
    return float(sum(parts))


@torch.inference_mode()
def log_probabilities(
    model: Model, texts: Sequence[TokenisedText], done: Sequence[Intervention | None]
) -> list[Float[Tensor, "rows d_vocab"]]:
    """Log-probabilities of the next token at every content token, each text under its own intervention."""
    tokens, mask = pad([t.ids for t in texts], pad_id(model))
    last = hook_name(model.cfg.n_layers - 1)
    edits = RowEdits(done, model.cfg.d_model)
    with fitting_threads(model), model.hooks(fwd_hooks=edits.hooks()):
        residual = residual_cache(model, tokens, mask)[last]
    out = []
    for row, text in enumerate(texts):
        h = residual[row, : len(text)][torch.tensor(text.content, device=residual.device)]
        parts = [read_out(model, h[i : i + CHUNK]).float().log_softmax(-1) for i in range(0, len(h), CHUNK)]
        out.append(torch.cat(parts))
    return out
