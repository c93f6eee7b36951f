"""Synthetic PooledActivations whose truth is known: directions, topic effects, anisotropy, rogue axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lens_emotion.extraction.activations import Header, PooledActivations, TextRecord
from lens_emotion.stimuli.emotions import EMOTIONS, NEUTRAL

HEADER = Header(
    model="planted",
    fingerprint="0" * 64,
    family="gpt2",
    backend="bridge",
    transformer_lens="3.9.0",
    dtype="float32",
    method="comprehension",
    pooling="story_mean(start=0)",
    stimuli="planted",
    stimuli_sha256="0" * 64,
)


@dataclass(frozen=True)
class Planted:
    """Activations and the unit directions [n_emotions, n_layers, d_model] that were planted in them."""

    acts: PooledActivations
    directions: Tensor


def planted(
    n_emotions: int = 4,
    n_topics: int = 6,
    per_cell: int = 1,
    n_layers: int = 2,
    d_model: int = 24,
    signal: float | Sequence[float] = 4.0,
    noise: float = 1.0,
    topic_effect: float = 1.0,
    common: float = 0.0,
    rogue: float = 0.0,
    n_neutral: int = 6,
    emotions: Sequence[str] = EMOTIONS,
    seed: int = 0,
) -> Planted:
    """Emotion x topic fully crossed texts.

    Args:
        signal: size of the planted direction, one for all layers or one per layer; 0 is noise only.
        noise: size of each text's own vector. topic_effect: of a vector that all texts of a topic share.
        common: size of one vector that all texts share (anisotropy; 30 gives raw cosines near 0.99).
        rogue: size of the noise in one extra-large dimension.
        n_neutral: neutral texts, on topics of their own.
    """
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        """Vectors of expected length 1."""
        return rng.standard_normal((*shape, n_layers, d_model)) / np.sqrt(d_model)

    labels = np.repeat(np.arange(n_emotions), n_topics * per_cell)
    topics = np.tile(np.repeat(np.arange(n_topics), per_cell), n_emotions)
    directions = draw(n_emotions)
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    strength = np.broadcast_to(np.asarray(signal, dtype=float), (n_layers,))[:, None]
    emotional = strength * directions[labels] + topic_effect * draw(n_topics)[topics]
    rows = np.concatenate([emotional, topic_effect * draw(n_neutral)])
    rows += noise * draw(len(rows)) + common * draw()
    rows[..., 0] += rogue * rng.standard_normal(rows.shape[:2])
    names = [(emotions[k], f"topic{t}") for k, t in zip(labels, topics, strict=True)]
    names += [(NEUTRAL, f"plain{i}") for i in range(n_neutral)]
    values = torch.from_numpy(rows).float()
    return Planted(pooled(values, names), torch.from_numpy(directions).float())


def pooled(values: Tensor, names: Sequence[tuple[str, str]], texts: Sequence[str] | None = None) -> PooledActivations:
    """Activations of these values with (emotion, topic) names; texts are all different unless given."""
    texts = texts if texts is not None else [f"text {i}" for i in range(len(names))]
    records = tuple(
        TextRecord(f"t{i}", emotion, topic, texts[i], n_total=5, n_pooled=4, n_special=1)
        for i, (emotion, topic) in enumerate(names)
    )
    return PooledActivations(values, records, values.norm(dim=-1).mean(0), HEADER)


def twins(signal: float, own_words: bool, seed: int = 0):
    """Pairs whose texts are the same but for a sign of affect in the state, and in the words if so asked."""
    rng = np.random.default_rng(seed)
    names = [(e, f"topic{t}") for e in ("happy", "sad", "calm") for t in range(8)]
    values = rng.standard_normal((len(names), 2, 16))
    affect = np.zeros(16)
    affect[0] = signal
    texts = [f"thing{chr(97 + i)} of {t} seen by day" for i, (_, t) in enumerate(names)]
    told = pooled(torch.from_numpy(values + affect).float(), names, [f"{t} alas" if own_words else t for t in texts])
    plain = values + 0.3 * rng.standard_normal(values.shape)
    bare = pooled(torch.from_numpy(plain).float(), names, [f"{t} there" if own_words else t for t in texts])
    return told, replace(bare, records=tuple(replace(r, text_id=f"{r.text_id}-twin") for r in bare.records))
