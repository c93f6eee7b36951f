"""Anisotropy: how alike any two states are, emotion aside: the baseline of every cosine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lens_emotion.display import Brief, Result
from lens_emotion.errors import AnalysisError, StimulusError
from lens_emotion.extraction.activations import PooledActivations, codes
from lens_emotion.files.user import numbers_fit
from lens_emotion.models.layers import place
from lens_emotion.pictures import Line
from lens_emotion.stats.cosines import mean_pairwise_cosine
from lens_emotion.stats.tests import percentile_band, redrawn
from lens_emotion.stimuli.emotions import NEUTRAL
from lens_emotion.vectors.emotion_vectors import unit
from lens_emotion.vectors.recipes import apply_steps, class_weights, neutral_components, recipe_steps

TOP = (1, 3, 10)  # rogue dimensions: the largest 1, 3 and 10


@dataclass(frozen=True, eq=False, repr=False)
class Anisotropy(Result):
    """Mean pairwise cosines of states, per layer, and what they are made of; scale-free, to compare models.

    Attributes:
        table: one row per layer, with

            - layer, depth;
            - neutral_raw (raw states of neutral texts, J's baseline), all_raw (raw states of all texts),
              neutral_centred (neutral texts minus the mean of all texts), all_centred (all texts, minus their mean),
              all_projected (and the top neutral components projected out);
            - random_matched (expected |cosine| of two random directions with the covariance of all texts; 0 would be
              white in many dimensions);
            - emotion_raw, emotion_low, emotion_high (topic-balanced emotion means as they are, 95% over topics), and
              the same means by the three recipes: emotion_neutral, emotion_centred (forced near -1/(n - 1)),
              emotion_projected (neutral_pca);
            - baseline_share, baseline_low, baseline_high: share of what the emotion means have in common that is the
              state of neutral text (see `anisotropy`), 95% over topics;
            - effective_dim: participation ratio of the covariance of all texts, from 1 to at most n_texts - 1;
            - top1, top3, top10: share of the squared norm of raw states in the 1, 3, 10 largest single dimensions.

            Columns on emotions are NaN below 2 emotions, intervals also below 2 topics.
        n_neutral: neutral texts. n_texts: all texts, neutral included.
    """

    _picture = Line("layer", "emotion_raw", "emotion_low", "emotion_high", band="95% interval", reference=0.0)

    table: pd.DataFrame
    n_neutral: int
    n_texts: int

    def summary(self) -> str:
        """One sentence on the middle layer and the range over layers, one on the emotion means."""
        raw, n = self.table["neutral_raw"], len(self.table)
        middle = self.table.iloc[n // 2]
        text = (
            f"Two of {self.n_neutral} neutral texts have a raw cosine of {middle.neutral_raw:.2f} on "
            f"average at {place(n // 2, n)} ({raw.min():.2f} to {raw.max():.2f} over layers), "
            f"{middle.neutral_centred:.2f} once the common mean is subtracted; covariance-matched random "
            f"directions reach |cosine| {middle.random_matched:.2f}."
        )
        if np.isnan(middle.emotion_raw):
            return text
        between = f" ({middle.baseline_low:.0%} to {middle.baseline_high:.0%}, 95% over topics)"
        return (
            f"{text} There the uncentred emotion means have a cosine of {middle.emotion_raw:.2f}; "
            f"{middle.baseline_share:.0%}{'' if np.isnan(middle.baseline_low) else between} of what they share is the "
            "state of neutral text."
        )


@numbers_fit(AnalysisError)
def anisotropy(acts: PooledActivations, n_random: int = 500, seed: int = 0, n_draws: int = 200) -> Anisotropy:
    """Anisotropy baselines at every layer (J: mean pairwise cosine of raw neutral states), in closed form.

    `random_matched` is the mean |cosine| over all pairs of `n_random` draws.

    `baseline_share` asks how much of the emotions' common direction is no news. Let m be the mean of the unit emotion
    means (uncentred): |m|^2 is the mean cosine over all pairs, each with itself too. The share is the part of |m|^2
    along the mean neutral state, cos^2(m, mu_neutral), divided by the reliability of mu_neutral as a mean of n texts,
    n r / (1 + (n - 1) r) with r = neutral_raw (Spearman-Brown), and cut at 1. So it lies between 0 and 1. The
    bootstrap redraws topics, and neutral texts, `n_draws` times; its draws carry the noise of mu_neutral twice and are
    corrected for that.

    One layer at a time; memory is a few copies of one layer.

    Args:
        acts: pooled activations of labelled texts.
        n_random: random directions of the texts' covariance.
        seed: of whatever is drawn at random.
        n_draws: of the bootstrap.

    Raises:
        StimulusError: fewer than 3 neutral texts.
        AnalysisError: n_draws below 1, or n_random below 2.

    Example:
        >>> result = le.anisotropy(acts, n_draws=20)
        >>> len(result.table)
        6
    """
    if n_draws < 1 or n_random < 2:
        raise AnalysisError(f"anisotropy needs n_draws >= 1 and n_random >= 2; got {n_draws} and {n_random}")
    neutral = torch.from_numpy(acts.emotion == NEUTRAL)
    if int(neutral.sum()) < 3:
        raise StimulusError(
            "anisotropy is measured on neutral texts and needs at least 3; these activations hold "
            f"{int(neutral.sum())}; extract with neutral texts (20 or more give a steady figure)"
        )
    generator = torch.Generator().manual_seed(seed)
    mixture = torch.randn(n_random, len(acts), generator=generator)
    draws = _draws(acts, n_draws, seed)
    layers = []
    for layer, depth in enumerate(acts.depth):
        rows = acts.values[:, layer].detach().cpu().double()
        measures = {**_texts(rows, neutral, mixture), **_emotions(rows, neutral, draws), **_dimensions(rows)}
        layers.append({"layer": layer, "depth": depth, **measures})
    return Anisotropy(pd.DataFrame(layers), int(neutral.sum()), len(acts))


def _texts(rows: Float[Tensor, "n d"], neutral: Bool[Tensor, " n"], mixture: Float[Tensor, "m n"]) -> dict[str, float]:
    """Cosines between texts: raw, centred, and without neutral components."""
    centred = rows - rows.mean(0)
    basis = neutral_components(rows[neutral][:, None])[0]
    # random mixtures of the centred texts have their covariance; float32 does for a mean of |cosines|
    size = centred.abs().max().clamp_min(torch.finfo(centred.dtype).tiny)
    drawn, m = unit(mixture @ (centred / size).float()), len(mixture)
    cosines = (drawn @ drawn.T).double().abs()
    return {
        "neutral_raw": float(mean_pairwise_cosine(rows[neutral])),
        "all_raw": float(mean_pairwise_cosine(rows)),
        "neutral_centred": float(mean_pairwise_cosine(centred[neutral])),
        "all_centred": float(mean_pairwise_cosine(centred)),
        "all_projected": float(mean_pairwise_cosine(centred - (centred @ basis.T) @ basis)),
        "random_matched": float((cosines.sum() - cosines.diagonal().sum()) / (m * (m - 1))),
    }


def _dimensions(rows: Float[Tensor, "n d"]) -> dict[str, float]:
    """Participation ratio (sum of eigenvalues)^2 / (sum of their squares), and the largest single dimensions."""
    centred = rows - rows.mean(0)
    total = (centred**2).sum().clamp_min(torch.finfo(rows.dtype).tiny)
    small = (centred / total.sqrt()).float()  # its Gram matrix has trace 1
    gram = small @ small.T if rows.shape[0] <= rows.shape[1] else small.T @ small
    energy = (unit(rows) ** 2).mean(0).sort(descending=True).values
    share = energy.cumsum(0) / energy.sum().clamp_min(torch.finfo(rows.dtype).tiny)
    top = {f"top{k}": float(share[min(k, len(share)) - 1]) for k in TOP}
    return {"effective_dim": 1 / max(float((gram.double() ** 2).sum()), 1e-300), **top}


@dataclass(frozen=True, eq=False, repr=False)
class _Draws(Brief):
    """Weights of the emotional texts in class means, and how often each draw takes a topic or a neutral text."""

    weights: Float[np.ndarray, "k n"]
    topic: Int[np.ndarray, " n"]
    times: Float[np.ndarray, "b n_topics"]
    neutral: Float[np.ndarray, "b n_neutral"]


def _draws(acts: PooledActivations, n_draws: int, seed: int) -> _Draws | None:
    """None below 2 emotions."""
    emotional = acts.emotion != NEUTRAL
    if len(acts.emotions) < 2:
        return None
    topic = codes(acts.topic[emotional])
    rng = np.random.default_rng(seed)
    weights = class_weights(codes(acts.emotion[emotional], acts.emotions), topic, len(acts.emotions))
    times = redrawn(int(topic.max()) + 1, n_draws, rng)
    return _Draws(weights, topic, times, redrawn(int((~emotional).sum()), n_draws, rng))


def _emotions(rows: Float[Tensor, "n d"], neutral: Bool[Tensor, " n"], draws: _Draws | None) -> dict[str, float]:
    """Cosines of the emotion means by recipe, and the share of the baseline in the raw ones."""
    names = ["emotion_raw", "emotion_low", "emotion_high", "emotion_neutral", "emotion_centred", "emotion_projected"]
    names += ["baseline_share", "baseline_low", "baseline_high"]
    if draws is None:
        return dict.fromkeys(names, float("nan"))
    texts, plain = rows[~neutral], rows[neutral]
    means = torch.from_numpy(draws.weights) @ texts
    values = {"emotion_raw": float(mean_pairwise_cosine(means)), "emotion_low": np.nan, "emotion_high": np.nan}
    for recipe, name in (("neutral", "neutral"), ("centred", "centred"), ("neutral_pca", "projected")):
        made = apply_steps(recipe_steps(recipe)[1], means[:, None], plain[:, None])
        values[f"emotion_{name}"] = float(mean_pairwise_cosine(made[:, 0]))
    # the mean of n neutral texts is reliable to this degree; 0 where they have nothing in common
    r, n = max(float(mean_pairwise_cosine(plain)), 0.0), len(plain)
    reliability = n * r / (1 + (n - 1) * r)
    values["baseline_share"] = _share(_cos2(unit(means).mean(0)[None], plain.mean(0)[None]), reliability).item()
    values |= {"baseline_low": np.nan, "baseline_high": np.nan}
    if draws.times.shape[1] > 1:
        cosine, along = _redrawn(texts, plain, draws)
        # a redrawn mean carries its noise twice: reliability 1 / (2 - reliability) of the mean it redraws
        shares = _share(along, reliability / (2 - reliability))
        for name, found in (("emotion", cosine), ("baseline", shares)):
            low, high = percentile_band(found)
            values |= {f"{name}_low": float(low), f"{name}_high": float(high)}
    return {name: float(values[name]) for name in names}


def _cos2(a: Float[Tensor, "b d"], b: Float[Tensor, "b d"]) -> Float[np.ndarray, " b"]:
    return ((unit(a) * unit(b)).sum(-1) ** 2).numpy()


def _share(cos2: Float[np.ndarray, " b"], reliability: float) -> Float[np.ndarray, " b"]:
    return np.minimum(cos2 / reliability, 1.0) if reliability > 0 else np.zeros_like(cos2)


def _redrawn(
    texts: Float[Tensor, "n d"], plain: Float[Tensor, "p d"], draws: _Draws
) -> tuple[Float[np.ndarray, " b"], Float[np.ndarray, " b"]]:
    """Mean pairwise cosine of the emotion means, and cos^2 of their common direction with neutral text, per draw."""
    total = torch.zeros(len(draws.times), texts.shape[1], dtype=torch.float64)
    count = torch.zeros(len(draws.times), dtype=torch.float64)
    for weights in draws.weights:  # one emotion at a time: [draws, d] is all that is held
        own = np.flatnonzero(weights)
        # texts keep their weight, so that a topic drawn twice counts twice; length does not matter
        mean = torch.from_numpy(draws.times[:, draws.topic[own]] * weights[own]) @ texts[own]
        total += unit(mean)
        count += (mean != 0).any(-1)  # an emotion none of whose topics was drawn is left out
    cosine = ((total**2).sum(-1) - count) / (count * (count - 1)).clamp_min(1)
    neutral = torch.from_numpy(draws.neutral) @ plain
    return cosine.numpy(), _cos2(total, neutral)
