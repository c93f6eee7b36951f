"""Several models side by side: all pairs of them, and base against instruct of one family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_emotion.analysis.decoding import decoding
from lens_emotion.analysis.rsa import (
    Halves,
    disjoint,
    distances,
    half_directions,
    ranks,
    ranks_of_halves,
    relabellings,
    rsa,
    rsa_activations,
    shared_emotions,
)
from lens_emotion.display import Result
from lens_emotion.errors import AnalysisError, StimulusError
from lens_emotion.extraction.activations import PooledActivations, restricted
from lens_emotion.files.user import numbers_fit
from lens_emotion.models.layers import place, resolve_layer
from lens_emotion.pictures import Line, Tiles
from lens_emotion.stats.tests import (
    ALPHA,
    NOISE,
    benjamini_hochberg,
    bootstrap_over_groups,
    check_permutations,
    max_corrected_p,
    p_text,
    percentile_band,
    permutation_p,
)
from lens_emotion.vectors.emotion_vectors import EmotionVectors, unit
from lens_emotion.vectors.recipes import Recipe, emotion_vectors

CEILING = ("ceiling", "disjoint", "disjoint_ceiling", "reliability_a", "reliability_b")


@dataclass(frozen=True, eq=False, repr=False)
class RSAMatrix(Result):
    """Representational similarity of every two of several models.

    Attributes:
        table: one row per pair: a, b, layer_a, layer_b, n_emotions, rho (all texts), p (Mantel, on disjoint topics; of
            rho where not both gave activations, and NaN if those are made of the same texts), q (Benjamini-Hochberg
            over the pairs), ceiling, disjoint, disjoint_ceiling, reliability_a, reliability_b (see `rsa.Ceiling`; NaN
            where not both gave activations).
        names: the models. n_permutations: relabellings.
    """

    _picture = Tiles("a", "b", "rho")

    table: pd.DataFrame
    names: tuple[str, ...]
    n_permutations: int

    @property
    def matrix(self) -> pd.DataFrame:
        """rho, model by model, 1 on the diagonal."""
        return self._square("rho", 1.0)

    @property
    def q(self) -> pd.DataFrame:
        """q, model by model, NaN on the diagonal."""
        return self._square("q", np.nan)

    def _square(self, column: str, diagonal: float) -> pd.DataFrame:
        frame = pd.DataFrame(diagonal, list(self.names), list(self.names))
        for a, b, value in zip(self.table["a"], self.table["b"], self.table[column], strict=True):
            frame.loc[a, b] = frame.loc[b, a] = value
        return frame

    def summary(self) -> str:
        """One sentence: the range, and how many pairs hold after correction."""
        held = int((self.table["q"] <= ALPHA).sum())
        low, high = (self.table.iloc[int(i)] for i in (self.table["rho"].argmin(), self.table["rho"].argmax()))
        untested = int(self.table["p"].isna().sum())
        verdict = "" if held or untested == len(self.table) else f": {NOISE}"
        verdict += f"; {untested} without test, made of the same texts (give activations)" if untested else ""
        return (
            f"{held} of {len(self.table)} pairs of {len(self.names)} models find the same emotions alike (Mantel, "
            f"q <= {ALPHA}); rho from {low.rho:.2f} ({low.a}, {low.b}) to {high.rho:.2f} ({high.a}, {high.b}){verdict}."
        )


@numbers_fit(AnalysisError)
def rsa_many(
    models: Sequence[tuple[str, EmotionVectors | PooledActivations]],
    layers: Sequence[int | None] | None = None,
    recipe: Recipe = "centred",
    n_splits: int = 20,
    n_permutations: int = 2000,
    seed: int = 0,
) -> RSAMatrix:
    """RSA of every two models, one layer each (default the middle ones).

    Two models that both give activations are compared on disjoint topics, and get a noise ceiling (`rsa_activations`);
    otherwise activations become vectors by `recipe`, and those made of the same texts get no p.

    Args:
        models: (name, vectors or activations) each.
        layers: one per model; None takes the middle ones.
        recipe: by which activations become vectors.
        n_splits: random halves of the topics.
        n_permutations: permutations behind the null; p is at least 1 / (n + 1).
        seed: of whatever is drawn at random.

    Raises:
        StimulusError: two models with fewer than 4 emotions in common.
        AnalysisError: fewer than 2 models, names not distinct, layers not one per model, no such layer.

    Example:
        >>> result = le.rsa_many([("read", acts), ("written", stories)], n_splits=3, n_permutations=20)
        >>> len(result.table)
        1
    """
    names = tuple(name for name, _ in models)
    at = list(layers) if layers is not None else [None] * len(models)
    if len(names) < 2 or len(set(names)) < len(names) or len(at) != len(names):
        raise AnalysisError(
            f"rsa_many needs at least 2 models with distinct names and one layer each; got {len(names)} models "
            f"({', '.join(names)}) and {len(at)} layers"
        )
    rows = []
    for i, j in combinations(range(len(models)), 2):
        a, b = models[i][1], models[j][1]
        if isinstance(a, PooledActivations) and isinstance(b, PooledActivations):
            found = rsa_activations(a, b, at[i], at[j], recipe, n_splits, n_permutations, seed)
        else:
            a, b = (emotion_vectors(x, recipe) if isinstance(x, PooledActivations) else x for x in (a, b))
            found = rsa(a, b, at[i], at[j], n_permutations, seed)
        most = [getattr(found.ceiling, c, np.nan) for c in CEILING]
        fields = (found.layer_a, found.layer_b, len(found.emotions), found.rho, found.p, *most)
        rows.append((names[i], names[j], *fields))
    columns = ["a", "b", "layer_a", "layer_b", "n_emotions", "rho", "p", *CEILING]
    table = pd.DataFrame(rows, columns=columns)
    table.insert(7, "q", benjamini_hochberg(table["p"].to_numpy()))
    return RSAMatrix(table, names, n_permutations)


@dataclass(frozen=True, eq=False, repr=False)
class BaseVsInstruct(Result):
    """What instruction tuning changed, layer by layer.

    Attributes:
        table: layer, depth, cosine (of each emotion's vector with its own in the other model, mean over emotions),
            cosine_disjoint (one half of the topics in one model, the other half in the other), cosine_null (95th
            percentile of single halves with emotions relabelled), cosine_p, cosine_p_corrected (all NaN if widths
            differ), rho (RSA of the same layer), rho_disjoint, rho_p, rho_p_corrected (on disjoint topics),
            accuracy_base, accuracy_instruct (held-out decoding), difference (instruct minus base), low, high (95% of
            topics redrawn for both models alike).
        by_emotion: layer, emotion, cosine (empty if widths differ).
        base, instruct: names. emotions, topics: those that both have. n_permutations: relabellings.
    """

    _picture = Line("layer", "difference", "low", "high", band="95% interval", reference=0.0)

    table: pd.DataFrame
    by_emotion: pd.DataFrame
    base: str
    instruct: str
    emotions: tuple[str, ...]
    topics: tuple[str, ...]
    n_permutations: int

    def summary(self, layer: int | None = None) -> str:
        """One sentence on a layer (default the middle one): vectors, distances, decoding."""
        n = len(self.table)
        at = resolve_layer(layer, n, n // 2)
        row = self.table.iloc[at]
        same = f"{row.cosine_disjoint:.2f} on different topics, {p_text(row.cosine_p)}"
        same = "" if np.isnan(row.cosine) else f"have a cosine of {row.cosine:.2f} ({same}), "
        alike = f"{row.rho:.2f} ({row.rho_disjoint:.2f} on different topics, {p_text(row.rho_p)})"
        change = f"{row.difference:+.2f} ({row.low:+.2f} to {row.high:+.2f}, 95% over {len(self.topics)} topics)"
        verdict = f": the change is {NOISE}" if row.low <= 0 <= row.high else ""
        return (
            f"At {place(at, n)} the vectors of {self.base} and {self.instruct} {same}their distances rho = "
            f"{alike}; decoding goes from {row.accuracy_base:.2f} to "
            f"{row.accuracy_instruct:.2f}, {change}{verdict}."
        )


@numbers_fit(AnalysisError)
def base_vs_instruct(
    base: PooledActivations,
    instruct: PooledActivations,
    recipe: Recipe = "centred",
    n_permutations: int = 2000,
    n_draws: int = 2000,
    seed: int = 0,
    n_splits: int = 20,
) -> BaseVsInstruct:
    """Base and instruct of one family on the emotions and topics that both were read on.

    Cosines compare directions, so they need one width and mean something only because the instruct model is a
    fine-tune of the base. Cosines and distances are tested on disjoint topics (see `rsa`). The difference in
    accuracy is paired by topic: one bootstrap sample serves both models.

    Args:
        base, instruct: activations of the two models on the same texts.
        recipe: of the vectors.
        n_permutations: permutations behind the null; p is at least 1 / (n + 1).
        n_draws: of the bootstrap.
        seed: of whatever is drawn at random.
        n_splits: random halves of the topics.

    Raises:
        StimulusError: fewer than 4 emotions or 2 topics in common, or texts that cannot be decoded.
        AnalysisError: different numbers of layers, or n_permutations below 1.

    Example:
        >>> result = le.base_vs_instruct(acts, acts, n_permutations=20, n_draws=20, n_splits=3)
        >>> len(result.table)
        6
    """
    check_permutations(n_permutations)
    if base.n_layers != instruct.n_layers:
        raise AnalysisError(
            f"{base.header.model} has {base.n_layers} layers, {instruct.header.model} {instruct.n_layers}; base and "
            "instruct of one model have the same number; use rsa_activations for different models"
        )
    emotions = shared_emotions(base.emotions, instruct.emotions)
    topics = tuple(t for t in base.emotional.topics if t in instruct.emotional.topics)
    if len(topics) < 2:
        raise StimulusError(f"base and instruct share {len(topics)} topics; a paired comparison needs at least 2")
    base, instruct = (restricted(x, emotions, topics) for x in (base, instruct))
    directions = _directions(base, emotions, recipe), _directions(instruct, emotions, recipe)
    names = relabellings(len(emotions), n_permutations, seed)
    halves = half_directions(base, instruct, emotions, recipe, n_splits, seed)
    cosines, own = _own_cosines(*directions, *halves, names)
    a, b = (ranks(distances(d)) for d in directions)
    across, null = disjoint(_by_layer, ranks_of_halves(halves[0]), ranks_of_halves(halves[1]), names)
    columns = {
        "layer": np.arange(base.n_layers),
        "depth": base.depth,
        **cosines,
        "rho": _by_layer(a, b),
        "rho_disjoint": across,
        "rho_p": permutation_p(across, null),
        "rho_p_corrected": max_corrected_p(across, null),
        **_accuracies(base, instruct, n_draws, seed),
    }
    layer, name = np.indices(own.shape).reshape(2, -1)
    by_emotion = pd.DataFrame({"layer": layer, "emotion": np.array(emotions)[name], "cosine": own.ravel()})
    models = base.header.model, instruct.header.model
    return BaseVsInstruct(pd.DataFrame(columns), by_emotion, *models, emotions, topics, n_permutations)


def _directions(acts: PooledActivations, emotions: tuple[str, ...], recipe: Recipe) -> Float[Tensor, "n l d"]:
    vectors = emotion_vectors(acts, recipe)
    return vectors.directions[[vectors.emotions.index(e) for e in emotions]].double()


def _by_layer(a: Float[np.ndarray, "l n n"], b: Float[np.ndarray, "l n n"]) -> Float[np.ndarray, " l"]:
    """rho of each layer with the same layer."""
    return np.asarray((a * b).sum((1, 2)) / 2)  # every pair stands there twice


def _own_cosines(
    a: Float[Tensor, "n l d"],
    b: Float[Tensor, "n l e"],
    halves_a: Halves,
    halves_b: Halves,
    names: Int[np.ndarray, "m n"],
) -> tuple[dict[str, Float[np.ndarray, " l"]], Float[np.ndarray, "_ n"]]:
    """Mean cosine of each emotion with itself in the other model, against relabelled emotions; and each emotion's."""
    n, layers = a.shape[:2]
    if a.shape[2] != b.shape[2]:
        lacking = ("cosine", "cosine_disjoint", "cosine_null", "cosine_p", "cosine_p_corrected")
        return dict.fromkeys(lacking, np.full(layers, np.nan)), np.empty((0, n))
    own = _cosines(a, b).diagonal(axis1=1, axis2=2)
    # by split and way, the cosines of one half here with the other half there: all that relabelling needs
    across = np.stack([[_cosines(x[w], y[1 - w]) for w in (0, 1)] for x, y in zip(halves_a, halves_b, strict=True)])
    observed = across.diagonal(axis1=3, axis2=4).mean((0, 1, 3))
    at = np.arange(len(names))
    single = across[at % len(across), at // len(across) % 2]
    null = np.stack([x[:, np.arange(n), p].mean(1) for x, p in zip(single, names, strict=True)])
    columns = {
        "cosine": own.mean(1),
        "cosine_disjoint": observed,
        "cosine_null": percentile_band(null, 0.9)[1],
        "cosine_p": permutation_p(observed, null),
        "cosine_p_corrected": max_corrected_p(observed, null, standardise=True),
    }
    return columns, own


def _cosines(a: Float[Tensor, "n l d"], b: Float[Tensor, "n l d"]) -> Float[np.ndarray, "l n n"]:
    return torch.einsum("nld,mld->lnm", unit(a), unit(b)).numpy()


def _accuracies(
    base: PooledActivations, instruct: PooledActivations, n_draws: int, seed: int
) -> dict[str, Float[np.ndarray, " l"]]:
    values, draws = [], []
    for acts in (base, instruct):
        result = decoding(acts, n_permutations=1, seed=seed)
        correct = result.correct.T.astype(float)
        values.append(correct.mean(0))
        # topics are sorted by name inside: one seed and the same topics make the same sample for both
        draws.append(bootstrap_over_groups(correct, result.topic, n_draws, seed))
    low, high = percentile_band(draws[1] - draws[0])
    columns = {"accuracy_base": values[0], "accuracy_instruct": values[1], "difference": values[1] - values[0]}
    return {**columns, "low": low, "high": high}
