"""Length-sorted batches under a token budget; a batch that does not fit into memory is halved and tried again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from lens_emotion.models.access import Model, device_of

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
