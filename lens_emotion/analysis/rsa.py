"""Representational similarity: do two models find the same emotions alike? (With people: `rsa_human`.)

Two models that read the same texts have like distances without any emotion in them: a text that lies apart in one lies
apart in the other. So what decides is one half of the topics in one model against the OTHER half in the other. A value
averaged over splits and both ways is held against relabelled values of single splits, one way: there the texts of the
two sides are independent, so that relabelling is exact; an average of such values varies no more than one of them.
(Relabelling the average would be wrong: its terms share texts, which relabelling tears apart.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from scipy.stats import rankdata
from torch import Tensor

from lens_emotion.display import Result
from lens_emotion.errors import AnalysisError, StimulusError
from lens_emotion.extraction.activations import PooledActivations, codes
from lens_emotion.files.user import numbers_fit
from lens_emotion.models.layers import place, resolve_layer
from lens_emotion.pictures import Line, Tiles
from lens_emotion.stats.design import linked_topics
from lens_emotion.stats.split_half import topic_halves
from lens_emotion.stats.tests import (
    check_permutations,
    max_corrected_p,
    noise_note,
    p_text,
    permutation_p,
    spearman_brown,
)
from lens_emotion.stimuli.emotions import NEUTRAL, Norm, valence_arousal
from lens_emotion.vectors.emotion_vectors import EmotionVectors, unit
from lens_emotion.vectors.recipes import Recipe, apply_steps, class_weights, emotion_vectors, recipe_steps

SAME_TEXTS = (
    "no test, since both are made of the same texts, which alone makes distances alike (rsa_activations compares "
    "different topics)"
)


@dataclass(frozen=True)
class Ceiling:
    """How high rho can be, given the noise of both models: from vectors of two halves of the topics, kept apart.

    Attributes:
        reliability_a, reliability_b: rho of the halves within a model, mean over splits, stepped up to all topics
            (Spearman-Brown, approximate for rank correlations).
        ceiling: sqrt(reliability_a * reliability_b); NaN where either is not positive.
        disjoint: rho of one half in model a with the OTHER half in model b, mean over splits: free of what both models
            owe to having read the same texts.
        disjoint_ceiling: the ceiling of `disjoint`, whose halves are noisier.
        n_splits: random halvings.
    """

    reliability_a: float
    reliability_b: float
    ceiling: float
    disjoint: float
    disjoint_ceiling: float
    n_splits: int


@dataclass(frozen=True, eq=False, repr=False)
class RSA(Result):
    """Spearman correlation of two models' emotion distances.

    Attributes:
        table: layer_a, depth_a, layer_b, depth_b, rho (all texts), disjoint (mean rho of one half of the topics in a
            with the other half in b; NaN without activations), p (Mantel, these two layers; of `disjoint` where there
            is one), p_corrected (best of all pairs of layers). Of vectors made of the same texts p is NaN: like
            texts alone make like distances.
        layer_a, layer_b: the layers asked for. n_layers_a, n_layers_b: of how many.
        model_a, model_b: names.
        emotions: emotions that both have.
        n_permutations: relabellings.
        ceiling: noise ceiling at these layers; None without activations.
    """

    _picture = Tiles("layer_a", "layer_b", "rho")

    table: pd.DataFrame
    layer_a: int
    layer_b: int
    n_layers_a: int
    n_layers_b: int
    model_a: str
    model_b: str
    emotions: tuple[str, ...]
    n_permutations: int
    ceiling: Ceiling | None = None

    @property
    def matrix(self) -> pd.DataFrame:
        """rho of every layer of a (rows) with every layer of b (columns)."""
        return self.table.pivot(index="layer_a", columns="layer_b", values="rho")

    @property
    def rho(self) -> float:
        """At the layers asked for."""
        return float(self._row["rho"])

    @property
    def p(self) -> float:
        """Mantel p at the layers asked for, chosen beforehand; on disjoint topics where activations were given."""
        return float(self._row["p"])

    @property
    def _row(self) -> pd.Series:
        return self.table.iloc[self.layer_a * self.n_layers_b + self.layer_b]

    def summary(self) -> str:
        """One sentence on the layers asked for."""
        if self.ceiling is not None:
            c = self.ceiling
            found = (
                f"rho = {self.rho:.2f} (noise ceiling {c.ceiling:.2f}; texts that both read raise it), and "
                f"{c.disjoint:.2f} of {c.disjoint_ceiling:.2f} on different topics (Mantel {p_text(self.p)})"
            )
        elif np.isnan(self.p):
            found = f"rho = {self.rho:.2f}: {SAME_TEXTS}"
        else:
            found = f"rho = {self.rho:.2f} (Mantel {p_text(self.p)})"
        note = "" if np.isnan(self.p) else noise_note(self.p)
        return (
            f"The distances of {len(self.emotions)} emotions in {self.model_a} at "
            f"{place(self.layer_a, self.n_layers_a)} and {self.model_b} at {place(self.layer_b, self.n_layers_b)} "
            f"have {found}{note}."
        )


@numbers_fit(AnalysisError)
def rsa(
    a: EmotionVectors,
    b: EmotionVectors,
    layer_a: int | None = None,
    layer_b: int | None = None,
    n_permutations: int = 2000,
    seed: int = 0,
) -> RSA:
    """Spearman of the two models' distances (1 - cosine) between the emotions they share, at all pairs of layers.

    Widths and depths may differ: only distances between emotions are compared. The Mantel null relabels the emotions
    of b, the same way at all layers. Vectors made of the same texts have no p; `rsa_activations` tests those.

    Args:
        a, b: vectors of two models, or two sets of one.
        layer_a, layer_b: of the headline; default n_layers // 2 of each.
        n_permutations: permutations behind the null; p is at least 1 / (n + 1).
        seed: of whatever is drawn at random.

    Raises:
        StimulusError: fewer than 4 shared emotions.
        AnalysisError: no such layer, or n_permutations below 1.

    Example:
        >>> result = le.rsa(vectors, le.emotion_vectors(stories), n_permutations=50)
        >>> len(result.emotions)
        4
    """
    check_permutations(n_permutations)
    layer_a = resolve_layer(layer_a, a.n_layers, a.n_layers // 2)
    layer_b = resolve_layer(layer_b, b.n_layers, b.n_layers // 2)
    emotions = shared_emotions(a.emotions, b.emotions)
    ranks_a, ranks_b = (vector_ranks(v, emotions) for v in (a, b))
    observed, null = rho(ranks_a, ranks_b), mantel(ranks_a, ranks_b, n_permutations, seed)
    table = _by_layers(observed, np.full(observed.shape, np.nan), observed, null)
    if a.header.stimuli_sha256 == b.header.stimuli_sha256:
        table[["p", "p_corrected"]] = np.nan
    names = a.header.model, b.header.model
    return RSA(table, layer_a, layer_b, a.n_layers, b.n_layers, *names, emotions, n_permutations)


@numbers_fit(AnalysisError)
def rsa_activations(
    a: PooledActivations,
    b: PooledActivations,
    layer_a: int | None = None,
    layer_b: int | None = None,
    recipe: Recipe = "centred",
    n_splits: int = 20,
    n_permutations: int = 2000,
    seed: int = 0,
) -> RSA:
    """`rsa` decided on disjoint topics, with a noise ceiling: vectors of halves of the topics, made by `recipe`.

    Both models' halves hold the same topics (by name; topics that share copies go together), so that what is compared
    are different texts. The null relabels the emotions of single halves (see the head of this file).

    Args:
        a, b: activations of two models on shared topics.
        layer_a, layer_b: of the headline; default n_layers // 2 of each.
        recipe: of the vectors of each half.
        n_splits: random halves of the topics.
        n_permutations: permutations behind the null; p is at least 1 / (n + 1).
        seed: of whatever is drawn at random.

    Raises:
        StimulusError: fewer than 4 shared emotions, or too few topics for two halves with all emotions.
        AnalysisError: no such layer, or n_permutations or n_splits below 1.

    Example:
        >>> result = le.rsa_activations(stories, acts, n_splits=3, n_permutations=20)
        >>> len(result.emotions)
        4
    """
    check_permutations(n_permutations)
    layer_a = resolve_layer(layer_a, a.n_layers, a.n_layers // 2)
    layer_b = resolve_layer(layer_b, b.n_layers, b.n_layers // 2)
    emotions = shared_emotions(a.emotions, b.emotions)
    a, b = (x.only(np.isin(x.emotion, [*emotions, NEUTRAL])) for x in (a, b))
    whole = (vector_ranks(emotion_vectors(x, recipe), emotions) for x in (a, b))
    in_a, in_b = (ranks_of_halves(x) for x in half_directions(a, b, emotions, recipe, n_splits, seed))
    across, null = disjoint(rho, in_a, in_b, relabellings(len(emotions), n_permutations, seed))
    table = _by_layers(rho(*whole), across, across, null)
    names = a.header.model, b.header.model
    ceiling = _ceiling(in_a[:, :, layer_a], in_b[:, :, layer_b], float(across[layer_a, layer_b]))
    return RSA(table, layer_a, layer_b, a.n_layers, b.n_layers, *names, emotions, n_permutations, ceiling)


def _by_layers(
    found: Float[np.ndarray, "l_a l_b"],
    across: Float[np.ndarray, "l_a l_b"],
    tested: Float[np.ndarray, "l_a l_b"],
    null: Float[np.ndarray, "m l_a l_b"],
) -> pd.DataFrame:
    at_a, at_b = np.indices(found.shape).reshape(2, -1)
    draws = null.reshape(len(null), -1)
    return pd.DataFrame(
        {
            "layer_a": at_a,
            "depth_a": (at_a + 1) / found.shape[0],
            "layer_b": at_b,
            "depth_b": (at_b + 1) / found.shape[1],
            "rho": found.ravel(),
            "disjoint": across.ravel(),
            "p": permutation_p(tested.ravel(), draws),
            "p_corrected": max_corrected_p(tested.ravel(), draws),
        }
    )


def _ceiling(a: Float[np.ndarray, "s 2 n n"], b: Float[np.ndarray, "s 2 n n"], across: float) -> Ceiling:
    r_a, r_b = (float((x[:, 0] * x[:, 1]).sum((1, 2)).mean() / 2) for x in (a, b))  # every pair stands there twice
    full_a, full_b = float(spearman_brown(r_a)), float(spearman_brown(r_b))
    return Ceiling(full_a, full_b, _root(full_a, full_b), across, _root(r_a, r_b), len(a))


def _root(a: float, b: float) -> float:
    return float(np.sqrt(a * b)) if a > 0 and b > 0 else float("nan")


# Halves of the topics, kept apart.

Halves = list[tuple[Tensor, Tensor]]  # per split, the directions [n, n_layers, d_model] of either half


def half_directions(
    a: PooledActivations, b: PooledActivations, emotions: tuple[str, ...], recipe: Recipe, n_splits: int, seed: int
) -> tuple[Halves, Halves]:
    """Vectors of both halves of the topics, the same topics in both models, for every split that leaves every emotion
    texts in both halves.

    Raises:
        StimulusError: there is no such split.
    """
    named = linked_topics(a, b)
    topics = tuple(dict.fromkeys([*named[0][a.emotion != NEUTRAL], *named[1][b.emotion != NEUTRAL]]))
    found: tuple[Halves, Halves] = ([], [])
    for half in topic_halves(len(topics), n_splits, seed):
        first = dict(zip(topics, half, strict=True))
        made = [_two_halves(x, t, emotions, recipe, first) for x, t in zip((a, b), named, strict=True)]
        if made[0] is not None and made[1] is not None:
            found[0].append(made[0])
            found[1].append(made[1])
    if not found[0]:
        raise StimulusError(
            f"no split of {len(topics)} topics leaves every emotion texts in both halves; comparing models on "
            "different topics needs more topics per emotion (rsa(vectors, vectors) describes without a test)"
        )
    return found


def _two_halves(
    acts: PooledActivations, topic: np.ndarray, emotions: tuple[str, ...], recipe: Recipe, first: dict[str, float]
) -> tuple[Tensor, Tensor] | None:
    """Directions of each half of the topics; None if a half lacks an emotion."""
    neutral = acts.emotion == NEUTRAL
    label, names = codes(acts.emotion[~neutral], emotions), topic[~neutral]
    side = np.array([first[str(t)] for t in names])
    texts, plain = (acts.values[torch.from_numpy(x)].cpu().double() for x in (~neutral, neutral))
    made: list[Tensor] = []
    for half in (side == 1, side == 0):
        if len(set(label[half])) < len(emotions):
            return None
        weights = torch.from_numpy(class_weights(label[half], codes(names[half]), len(emotions)))
        means = torch.tensordot(weights, texts[torch.from_numpy(half)], dims=1)
        made.append(apply_steps(recipe_steps(recipe)[1], means, plain))
    return made[0], made[1]


def ranks_of_halves(halves: Halves) -> Float[np.ndarray, "s 2 n_layers n n"]:
    """Ranked distances, half by half."""
    return np.stack([[ranks(distances(x)) for x in both] for both in halves])


def disjoint(
    measure: Callable[[np.ndarray, np.ndarray], np.ndarray],
    a: Float[np.ndarray, "s 2 *shape"],
    b: Float[np.ndarray, "s 2 *shape"],
    names: Int[np.ndarray, "m n"],
) -> tuple[np.ndarray, Float[np.ndarray, "m ..."]]:
    """`measure` of one half in a with the other in b, mean over splits and both ways; and of single halves relabelled.

    Args:
        measure: of what a half is in a and in b.
        names: relabellings of the emotions, which are the last two axes of b.
    """
    observed = np.mean([measure(x[w], y[1 - w]) for x, y in zip(a, b, strict=True) for w in (0, 1)], axis=0)
    null = []
    for i, p in enumerate(names):
        split, way = i % len(a), i // len(a) % 2
        null.append(measure(a[split, way], b[split, 1 - way][..., p, :][..., p]))
    return observed, np.stack(null)


# Distance matrices of emotions, their rank correlation, and its Mantel null: the parts of every RSA.
#
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


# Representational similarity with people: are emotions alike in a model that people rate alike?

SPACES = {"valence and arousal": (0, 1), "valence": (0,), "arousal": (1,)}


@dataclass(frozen=True, eq=False, repr=False)
class HumanRSA(Result):
    """Spearman correlation of a model's emotion distances with distances between human ratings of the words.

    Attributes:
        table: layer, depth, space ("valence and arousal", "valence", "arousal"), rho, p (Mantel, this layer),
            p_corrected (best of all layers, per space).
        layer: the layer asked for. n_layers: of how many. model: its name.
        emotions: emotions with ratings.
        n_permutations: relabellings.
    """

    _picture = Line("layer", "rho", group="space", reference=0.0)

    table: pd.DataFrame
    layer: int
    n_layers: int
    model: str
    emotions: tuple[str, ...]
    n_permutations: int

    def summary(self) -> str:
        """One sentence on the layer asked for."""
        rows = self.table[self.table["layer"] == self.layer]
        parts = [
            f"{r['space']} rho = {r['rho']:.2f} ({p_text(r['p'])}{noise_note(r['p'], ', ')})"
            for _, r in rows.iterrows()
        ]
        return (
            f"Distances of {len(self.emotions)} emotions in {self.model} at {place(self.layer, self.n_layers)} against "
            f"human ratings: {'; '.join(parts)}."
        )


@numbers_fit(AnalysisError)
def rsa_human(
    vectors: EmotionVectors,
    layer: int | None = None,
    n_permutations: int = 2000,
    seed: int = 0,
    ratings: Sequence[Norm] | None = None,
) -> HumanRSA:
    """Distances of the emotion vectors against Euclidean distances in standardised human valence and arousal.

    Emotions without ratings are left out; nothing is imputed. `ratings` are a stimulus set's own `norms`.

    Args:
        vectors: a set with at least four rated emotions.
        layer: default n_layers // 2; negative counts from the end.
        n_permutations: permutations behind the null; p is at least 1 / (n + 1).
        seed: of whatever is drawn at random.
        ratings: a stimulus set's own `norms`; default those of the package.

    Raises:
        StimulusError: fewer than 4 emotions with ratings.
        AnalysisError: no such layer, or n_permutations below 1.

    Example:
        >>> result = le.rsa_human(vectors, n_permutations=50)
        >>> result.layer
        3
    """
    check_permutations(n_permutations)
    layer = resolve_layer(layer, vectors.n_layers, vectors.n_layers // 2)
    known = {n.emotion: n for n in ratings} if ratings else valence_arousal()
    rated = tuple(e for e in known if known[e].valence is not None and known[e].arousal is not None)
    emotions = shared_emotions(vectors.emotions, rated)
    rating = np.array([(known[e].valence, known[e].arousal) for e in emotions], dtype=float)
    z = (rating - rating.mean(0)) / rating.std(0)
    gaps = (z[:, None] - z[None]) ** 2
    human = ranks(np.stack([np.sqrt(gaps[..., list(axes)].sum(-1)) for axes in SPACES.values()]))
    model = vector_ranks(vectors, emotions)
    observed, null = rho(model, human), mantel(model, human, n_permutations, seed)
    parts = [
        pd.DataFrame(
            {
                "layer": np.arange(vectors.n_layers),
                "depth": (np.arange(vectors.n_layers) + 1) / vectors.n_layers,
                "space": space,
                "rho": observed[:, i],
                "p": permutation_p(observed[:, i], null[:, :, i]),
                "p_corrected": max_corrected_p(observed[:, i], null[:, :, i]),
            }
        )
        for i, space in enumerate(SPACES)
    ]
    table = pd.concat(parts, ignore_index=True)
    return HumanRSA(table, layer, vectors.n_layers, vectors.header.model, emotions, n_permutations)
