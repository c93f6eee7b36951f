"""Measures of a steered text: likelihood under the unsteered model, repetition, diversity. On tokens, not on words:
scripts without spaces must count too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from lens_emotion.extraction.batching import TOKEN_BUDGET, plan_batches, run_halving
from lens_emotion.extraction.capture import residual_cache
from lens_emotion.models.access import Model, hook_name
from lens_emotion.models.head import token_nll
from lens_emotion.models.prompting import pad, pad_id
from lens_emotion.models.threads import fitting_threads


def mean_nll(
    model: Model, prompts: Sequence[Sequence[int]], texts: Sequence[Sequence[int]], token_budget: int = TOKEN_BUDGET
) -> Float[np.ndarray, " n_texts"]:
    """Mean negative log-likelihood per token, in nats, of each text given its prompt, under the model as it stands.

    Empty texts get nan. Call it outside `steer`: the scorer is the unsteered model.
    """
    out = np.full(len(texts), np.nan)
    rows = [[*p, *t] for p, t in zip(prompts, texts, strict=True)]
    scored = [i for i, t in enumerate(texts) if len(t) > 0]
    fill, last = pad_id(model), hook_name(model.cfg.n_layers - 1)

    def run(batch: list[int]) -> list[tuple[int, float]]:
        tokens, mask = pad([rows[i] for i in batch], fill)
        residual = residual_cache(model, tokens, mask)[last]
        found = []
        for row, i in enumerate(batch):
            start, end = len(prompts[i]), len(rows[i])
            nll = token_nll(model, residual[row, start - 1 : end - 1], tokens[row, start:end])
            found.append((i, float(nll.double().mean())))
        return found

    for batch in plan_batches([len(rows[i]) for i in scored], token_budget):
        with fitting_threads(model):
            found = run_halving([scored[k] for k in batch], run)
        for i, value in found:
            out[i] = value
    return out


def perplexity_ratio(steered_nll: Sequence[float] | np.ndarray, unsteered_nll: Sequence[float] | np.ndarray) -> float:
    """exp(mean NLL of steered texts - mean NLL of unsteered texts): a ratio of geometric means, never a mean of ratios.

    Texts without tokens (nan) are left out. 1 is unchanged, 2 is twice as surprising per token.
    """
    return float(np.exp(np.nanmean(np.asarray(steered_nll)) - np.nanmean(np.asarray(unsteered_nll))))


def distinct_n(ids: Sequence[int], n: int = 2) -> float:
    """Share of distinct n-grams of tokens; 1 for a text too short to hold two of them."""
    grams = list(zip(*(ids[i:] for i in range(n)), strict=False))
    return len(set(grams)) / len(grams) if grams else 1.0


def loop_share(ids: Sequence[int], max_period: int = 20) -> float:
    """Share of the text taken by its longest loop: a stretch that repeats itself with some period at least twice over.

    0 without a loop; near 1 if the whole text is one phrase again and again.
    """
    n, longest = len(ids), 0
    for period in range(1, min(max_period, n // 2) + 1):
        run = 0
        for i in range(period, n):
            run = run + 1 if ids[i] == ids[i - period] else 0
            # the stretch holds its first period too; it is a loop from the third occurrence on
            if run >= 2 * period:
                longest = max(longest, run + period)
    return longest / n if n else 0.0


def repetition(texts: Sequence[Sequence[int]]) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """(distinct-2, loop share) of each text."""
    return np.array([distinct_n(t) for t in texts], dtype=float), np.array([loop_share(t) for t in texts], dtype=float)
