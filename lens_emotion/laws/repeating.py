"""Laws of repetition: a file gives back what was saved, and a seed gives back what was drawn."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.laws.law import LawResult, found
from lens_emotion.laws.subject import Subject
from lens_emotion.models.decoding import Sampling, generate_tokens
from lens_emotion.vectors.emotion_vectors import EmotionVectors

NEW_TOKENS = 12


def files_are_bit_equal(subject: Subject) -> LawResult:
    """Activations and vectors come back from the disk as they were, labels and header too."""
    acts, vectors = subject.acts, subject.vectors
    with tempfile.TemporaryDirectory() as folder:
        read = PooledActivations.load(acts.save(Path(folder) / "activations.safetensors"))
        back = EmotionVectors.load(vectors.save(Path(folder) / "vectors.safetensors"))
    wrong = sum(_unequal(getattr(read, name), getattr(acts, name)) for name in ("values", "residual_norm"))
    for name in ("directions", "norms", "natural", "residual_norm"):
        wrong += _unequal(getattr(back, name), getattr(vectors, name))
    wrong += (read.records, read.header) != (acts.records, acts.header)
    wrong += (back.emotions, back.header) != (vectors.emotions, vectors.header)
    return found(float(wrong), 0.0, "values")


def _unequal(got: Tensor, truth: Tensor) -> int:
    return int((got != truth).sum()) if got.shape == truth.shape else truth.numel()


def same_seed_same_result(subject: Subject) -> LawResult:
    """Sampling repeats with its seed, and a row of a batch is sampled as it is alone."""
    model, prompts = subject.model, [list(ids) for ids in subject.ids]
    drawn = Sampling(1.0, 0.95, seed=7)
    first, again = (generate_tokens(model, prompts, NEW_TOKENS, drawn) for _ in range(2))
    last = len(prompts) - 1
    alone = generate_tokens(model, prompts[last:], NEW_TOKENS, drawn, row_seeds=[drawn.seed + last])
    repeats = sum(a != b for a, b in zip(first, again, strict=True))
    # in half precision a batch rounds differently, and a draw at the edge between two tokens may fall the other way
    exact = model.cfg.dtype in (torch.float32, torch.float64)
    return found(float(repeats + (exact and alone[0] != first[last])), 0.0, "texts")
