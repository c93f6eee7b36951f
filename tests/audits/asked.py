"""One check put to one thing: its outcome. And what is planted in several files."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from planted import planted, pooled

from lens_emotion.audits.audit import CHECKS
from lens_emotion.audits.finding import Outcome, outcome_of
from lens_emotion.audits.reading import subject_of
from lens_emotion.audits.subject import Subject
from lens_emotion.extraction.activations import PooledActivations

CHECK = {check.name: check for check in CHECKS}
NAMES = ("happy", "sad", "calm", "afraid", "angry", "proud", "guilty", "hopeful")


def asked(check: str, given: Any, **options: Any) -> Outcome:
    """What one check replies."""
    subject = given if isinstance(given, Subject) else subject_of(given, **options)
    return outcome_of(CHECK[check], subject)


def random_set(n: int = 8, layers: int = 3, d: int = 256, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, layers, d)).astype(np.float32)


def reading(
    signal: float, seed: int = 0, variant: str = "passages", method: str = "comprehension", **header: Any
) -> PooledActivations:
    """Six emotions on eight topics, with so much signal; the directions are those of seed 0."""
    truth = planted(6, 8, signal=signal, d_model=48, topic_effect=0.5, seed=seed)
    fixed = planted(6, 8, signal=signal, d_model=48, seed=0).directions
    acts = truth.acts
    label = torch.tensor([acts.emotions.index(e) if e in acts.emotions else -1 for e in acts.emotion])
    moved = acts.values + signal * (label >= 0)[:, None, None] * (fixed - truth.directions)[label.clamp_min(0)]
    names = [(r.emotion, r.topic) for r in acts.records]
    made = pooled(moved.contiguous(), names, [f"{variant} {seed}: text {i}" for i in range(len(names))])
    return replace(made, header=made.header.with_(variant=variant, method=method, **header))
