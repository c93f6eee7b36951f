"""Distance matrices of emotions, their rank correlation, and its Mantel null: the parts of every RSA."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import rankdata
from torch import Tensor

from lens_emotion.errors import StimulusError
from lens_emotion.vectors.emotion_vectors import EmotionVectors, unit

# Ranks are kept centred and of length 1: Spearman's rho of two matrices is then one inner product.
Ranks = Float[np.ndarray, "_ n n"]
LEAST = 4  # emotions: 6 distances


def distances(directions: Float[Tensor, "n m d_model"]) -> Float[np.ndarray, "m n n"]:
    """1 - cosine of every two of the n directions, for each of m layers (or samples)."""
    rows = unit(directions.detach().cpu().double()).transpose(0, 1)
    return (1 - rows @ rows.transpose(1, 2)).numpy()


def ranks(distance: Float[np.ndarray, "m n n"]) -> Ranks:
    """Ranks of the distances of each matrix (ties share one), each pair once; NaN where all distances are equal."""
    n = distance.shape[-1]
    upper = np.triu_indices(n, 1)
    # equal distances come out of a matrix product a few bits apart
    values = rankdata(distance[:, upper[0], upper[1]].round(10), axis=1)
    values = values - values.mean(1, keepdims=True)
    with np.errstate(invalid="ignore"):
        values = values / np.sqrt((values**2).sum(1, keepdims=True))
    square = np.zeros_like(distance)
    square[:, upper[0], upper[1]] = values
    return square + square.transpose(0, 2, 1)


def rho(a: Ranks, b: Ranks) -> Float[np.ndarray, "n_a n_b"]:
    """Spearman's rho of every matrix of a with every matrix of b."""
    upper = np.triu_indices(a.shape[-1], 1)
    return np.asarray(a[:, upper[0], upper[1]] @ b[:, upper[0], upper[1]].T)


def relabellings(n: int, n_permutations: int, seed: int) -> Int[np.ndarray, "n_permutations n"]:
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(n) for _ in range(n_permutations)])


def mantel(a: Ranks, b: Ranks, n_permutations: int, seed: int) -> Float[np.ndarray, "m n_a n_b"]:
    """rho when the emotions of b are relabelled: rows and columns together, the same for all matrices."""
    names = relabellings(a.shape[-1], n_permutations, seed)
    return np.stack([rho(a, b[:, p][:, :, p]) for p in names])


def shared_emotions(a: tuple[str, ...], b: tuple[str, ...]) -> tuple[str, ...]:
    """Emotions of a that b has too. Raises StimulusError below 4."""
    shared = tuple(e for e in a if e in b)
    if len(shared) < LEAST:
        raise StimulusError(
            f"RSA needs at least {LEAST} emotions in common, there are {len(shared)} ({', '.join(shared) or 'none'}); "
            "extract both with the same emotions"
        )
    return shared


def vector_ranks(vectors: EmotionVectors, emotions: tuple[str, ...]) -> Ranks:
    """Ranked distances between some of the emotions, per layer."""
    return ranks(distances(vectors.directions[[vectors.emotions.index(e) for e in emotions]]))
