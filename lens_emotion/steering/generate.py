"""Many steering conditions as few large batches: every row of a batch may carry its own vector, dose and prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lens_emotion.extraction.batching import plan_batches, run_halving
from lens_emotion.extraction.generation import GENERATION_BUDGET
from lens_emotion.models.access import Model
from lens_emotion.models.decoding import GREEDY, Sampling, generate_tokens
from lens_emotion.models.prompting import decode_text, encode
from lens_emotion.progress import track
from lens_emotion.steering.dose import Dose, displacement
from lens_emotion.steering.hooks import check_fits, row_hooks
from lens_emotion.vectors.emotion_vectors import EmotionVector

NO_DOSE = Dose(0.0)


@dataclass(frozen=True)
class Condition:
    """One text to generate: a prompt, and what to add while it is continued (no vector: unsteered)."""

    prompt: str
    vector: EmotionVector | None = None
    dose: Dose = NO_DOSE
    seed: int = 0


@dataclass(frozen=True)
class Continuation:
    """What came of a condition."""

    prompt_ids: tuple[int, ...]
    new_ids: tuple[int, ...]
    text: str


def generate_steered(
    model: Model,
    conditions: Sequence[Condition],
    layers: Sequence[int],
    *,
    max_new_tokens: int = 40,
    sampling: Sampling = GREEDY,
    positions: str = "all",
    token_budget: int = GENERATION_BUDGET,
    label: str = "steering",
    progress: bool = True,
) -> list[Continuation]:
    """Continue every condition's prompt under its own steering, batched; equal to one-by-one.

    Args:
        layers: layers to steer (see `dose.resolve_layers`).
        sampling: greedy, or sampled with the seed of each condition.
        positions: "all" or "generated".

    Raises:
        FingerprintError, UnsupportedModelError, ContextLengthError: before anything is generated.
    """
    checked: dict[int, EmotionVector] = {id(c.vector): c.vector for c in conditions if c.vector is not None}
    for vector in checked.values():
        check_fits(model, vector, allow_processed=True)
    prompts = {c.prompt: tuple(encode(model, c.prompt)) for c in conditions}
    out: list[Continuation | None] = [None] * len(conditions)

    def run(rows: list[int]) -> list[tuple[int, Continuation]]:
        chosen = [conditions[i] for i in rows]
        ids = [prompts[c.prompt] for c in chosen]
        hooks = row_hooks(_deltas(model, chosen), layers, positions)
        seeds = [sampling.seed * 1_000_003 + c.seed for c in chosen]
        new = generate_tokens(model, ids, max_new_tokens, sampling, hooks, seeds)
        return [(i, Continuation(p, tuple(n), decode_text(model, n))) for i, p, n in zip(rows, ids, new, strict=True)]

    batches = plan_batches([len(prompts[c.prompt]) + max_new_tokens for c in conditions], token_budget)
    for batch in track(batches, label, total=len(conditions), step=len, show=progress):
        for i, continuation in run_halving(batch, run):
            out[i] = continuation
    return [c for c in out if c is not None]


def _deltas(model: Model, conditions: Sequence[Condition]) -> torch.Tensor:
    none = torch.zeros(model.cfg.n_layers, model.cfg.d_model)
    return torch.stack([none if c.vector is None else displacement(c.vector, c.dose) for c in conditions])
