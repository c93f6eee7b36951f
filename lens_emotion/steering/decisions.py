"""From a judge's scores to the emotion that it names: nothing where several are equal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

UNDECIDED = "undecided"


def highest(scores: Float[np.ndarray, "n_texts n_emotions"]) -> Bool[np.ndarray, "n_texts n_emotions"]:
    """Which emotions have a text's highest score; several where they are equal."""
    return scores == scores.max(1, keepdims=True)


def decided(scores: Float[np.ndarray, "n_texts n_emotions"], emotions: Sequence[str]) -> list[str]:
    """The emotion that each text's scores put first, or "undecided" where several are equal."""
    return [emotions[row.argmax()] if row.sum() == 1 else UNDECIDED for row in highest(scores)]
