"""Layer sweeps: one measure at every layer, the null under the curve, and where the best layer lies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import norm
from scipy.stats import t as student

from lens_emotion.analysis.anisotropy import anisotropy
from lens_emotion.analysis.decoding import Decoding, beside, decoding
from lens_emotion.analysis.separation import cosine_null
from lens_emotion.analysis.ushape import UShape, two_lines
from lens_emotion.display import Brief, Result
from lens_emotion.errors import AnalysisError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.extraction.comprehension import activations_from_cache
from lens_emotion.extraction.pooling import Mask, Pooling, Residuals, Tokens
from lens_emotion.files.user import numbers_fit
from lens_emotion.models.access import Model
from lens_emotion.models.layers import place
from lens_emotion.stats.design import design_of, label_permutations
from lens_emotion.stats.split_half import half_cosines, topic_halves
from lens_emotion.stats.tests import (
    ALPHA,
    NOISE,
    bootstrap_over_groups,
    check_permutations,
    null_columns,
    p_text,
    spearman_brown,
)
from lens_emotion.stimuli.emotions import NEUTRAL

Metric = Callable[[PooledActivations], Any]


@dataclass(frozen=True, eq=False, repr=False)
class Curve(Brief):
    """A measure at every layer, and under label permutations: what a metric hands to `layer_sweep`.

    Attributes:
        value: per layer.
        null: per permutation and layer; None where labels play no part in the measure.
        higher_is_better: which end of the curve is the good one.
        draws: bootstrap draws of the value per layer, None where not defined.
        standardise: put layers on one scale before the correction for the best of them; not needed where the
            null is alike at all layers (accuracy).
        units: the curve of each topic, where it has one; the shape is then tested over topics.
    """

    value: Float[np.ndarray, " n_layers"]
    null: Float[np.ndarray, "m n_layers"] | None
    higher_is_better: bool = True
    draws: Float[np.ndarray, "b n_layers"] | None = None
    standardise: bool = True
    units: Float[np.ndarray, "n_units n_layers"] | None = None


@dataclass(frozen=True, eq=False, repr=False)
class LayerSweep(Result):
    """One measure at every layer.

    Attributes:
        table: layer, depth, value, null_low, null_high (95% of label permutations), p (this layer alone),
            p_corrected (for the best of all layers). The last four are NaN where the measure has no label
            null. For "decoding" also value_standardised and so on, of the standardised decoder.
        metric: name of the measure.
        higher_is_better: True if the best layer is that of the highest value.
        best_depth_low, best_depth_high: 95% bootstrap interval over topics of the best layer's depth, or
            None.
        n_permutations: label permutations behind the null (0 where it has none).
        shape: two-lines test for a U over depth: over topics where each has a curve ("decoding"), else on the
            curve alone, the weaker form. None where there are too few layers (5 over topics, 8 alone) or a
            value is NaN.
        n_texts: texts with an emotion.
        standardised: the sweep of the standardised decoder (see `decoding`); None for other metrics.
        best_draws: behind that interval, the first and the last of the depths that are best in each draw (several may
            be, at a ceiling).
    """

    table: pd.DataFrame
    metric: str
    higher_is_better: bool
    best_depth_low: float | None
    best_depth_high: float | None
    n_permutations: int
    shape: UShape | None = None
    n_texts: int = 0
    standardised: LayerSweep | None = None
    best_draws: Float[np.ndarray, "b 2"] | None = None

    @property
    def best_layer(self) -> int:
        """Layer of the best value (the earliest of equals)."""
        return int(_best(self.table["value"].to_numpy()[None], self.higher_is_better)[0])

    @property
    def best_depth(self) -> float:
        """Relative depth (layer + 1) / n_layers of the best layer."""
        return float(self.table["depth"].iloc[self.best_layer])

    def summary(self) -> str:
        """One sentence on the best layer, its null, its interval, and the shape over depth; by both decoders."""
        end = "highest" if self.higher_is_better else "lowest"
        text = f"{self.metric} is {end} at {place(self.best_layer, len(self.table), best=True)}: {self._found()}"
        other = self.standardised
        if other is None:
            return f"{text}."
        at = place(other.best_layer, len(other.table))
        return f"{text}. Standardised per dimension it is {end} at {at}: {other._found()}."

    def _found(self) -> str:
        row = self.table.iloc[self.best_layer]
        text = f"{row.value:.2f}"
        if self.n_permutations:
            text += (
                f" (label-permutation null {row.null_low:.2f} to {row.null_high:.2f}, "
                f"{p_text(row.p_corrected)} corrected over layers)"
            )
        if self.best_depth_low is not None:
            text += f", best depth {self.best_depth_low:.2f} to {self.best_depth_high:.2f} (95%, over topics)"
        if row.p_corrected > ALPHA:
            return f"{text}: {NOISE}"
        shape = "" if self.shape is None else f"; shape over depth ({self.shape.form}): {self.shape.verdict}"
        return text + shape


@numbers_fit(AnalysisError)
def layer_sweep(
    acts: PooledActivations | Residuals,
    metric: str | Metric = "decoding",
    n_permutations: int = 200,
    seed: int = 0,
    higher_is_better: bool = True,
    *,
    model: Model | None = None,
    content: Mask | None = None,
    emotions: Sequence[str] | None = None,
    topics: Sequence[str] | None = None,
    tokens: Tokens | None = None,
    texts: Sequence[str] | None = None,
    pooling: Pooling | None = None,
    allow_processed: bool = False,
) -> LayerSweep:
    """A measure at every layer with its null.

    Args:
        acts: pooled activations of all layers, or an ActivationCache that holds `resid_post` of every layer; a
            cache needs `model`, `tokens` (or `content`), `emotions` and `topics` too.
        metric: "decoding" (held-out accuracy, by both decoders), "separation" (mean pairwise cosine by J's neutral
            recipe; noise lowers it too, so look at "decoding" beside it), "reliability" (split-half), "anisotropy"
            (raw cosine of neutral texts; has no label null), or a function from activations to one value per
            layer, which is called once on the texts as they are and once per permutation on relabelled ones.
        n_permutations: label permutations within topics.
        seed: of permutations, splits and bootstrap.
        higher_is_better: for a function only; the named metrics know.
        model, content, emotions, topics, tokens, texts, pooling, allow_processed: of a cache only; each as in
            `activations_from_cache`.

    Raises:
        AnalysisError: unknown metric, n_permutations below 1, a function that gives not one value per layer, a
            cache without what it needs, or activations with what only a cache needs.
        StimulusError: texts that cannot answer (a single class or topic, no neutral texts).

    Example:
        >>> sweep = le.layer_sweep(acts, "reliability", n_permutations=20)
        >>> len(sweep.table)
        6
    """
    check_permutations(n_permutations)
    labels = {"model": model, "tokens": tokens, "emotions": emotions, "topics": topics}
    options = {"content": content, "texts": texts, "pooling": pooling, "allow_processed": allow_processed or None}
    acts = _activations(acts, labels, {k: v for k, v in options.items() if v is not None})
    if isinstance(metric, str):
        if metric not in ("decoding", *METRICS):
            known = ", ".join(("decoding", *METRICS))
            raise AnalysisError(f"no metric '{metric}'; known: {known}; or give a function of activations")
        if metric == "decoding":
            return decoding_sweep(decoding(acts, n_permutations, seed), seed)
        name, curve = metric, METRICS[metric](acts, n_permutations, seed)
    else:
        name = getattr(metric, "__name__", type(metric).__name__)
        curve = replace(_of_function(acts, metric, n_permutations, seed), higher_is_better=higher_is_better)
    return _sweep(name, curve, acts.depth, len(acts.emotional))


@numbers_fit(AnalysisError)
def decoding_sweep(decoded: Decoding, seed: int = 0) -> LayerSweep:
    """The layer sweep of a decoding that has been made already; the same as `layer_sweep(acts, "decoding")`."""
    made = _sweep("decoding", _of_decoding(decoded, seed), decoded.table["depth"].to_numpy(), decoded.n_texts)
    if decoded.standardised is None:
        return made
    other = decoding_sweep(decoded.standardised, seed)
    return replace(made, table=beside(made.table, other.table, "value"), standardised=other)


def curve_shape(values: Float[np.ndarray, " n_layers"], depth: Float[np.ndarray, " n_layers"]) -> UShape | None:
    """Two-lines test of one curve, the weaker form; None where it has too few layers or undefined values."""
    return _shape(Curve(values, None), depth)


def _sweep(name: str, curve: Curve, depth: np.ndarray, n_texts: int) -> LayerSweep:
    better, n_null, low, high, draws = curve.higher_is_better, 0, None, None, None
    tested: dict[str, Any] = dict.fromkeys(("null_low", "null_high", "p", "p_corrected"), np.nan)
    if curve.null is not None:
        n_null, side = len(curve.null), "greater" if better else "less"
        tested = null_columns(curve.value, curve.null, side, curve.standardise)
    if curve.draws is not None:  # ends are depths that exist, not interpolated between layers
        first, last = depth[_best(curve.draws, better)], depth[::-1][_best(curve.draws[:, ::-1], better)]
        low, high = (float(np.quantile(x, q, method="inverted_cdf")) for x, q in ((first, 0.025), (last, 0.975)))
        draws = np.stack([first, last], axis=1)
    table = pd.DataFrame({"layer": np.arange(len(depth)), "depth": depth, "value": curve.value, **tested})
    return LayerSweep(table, name, better, low, high, n_null, _shape(curve, depth), n_texts, best_draws=draws)


def _activations(
    source: PooledActivations | Residuals, labels: dict[str, Any], options: dict[str, Any]
) -> PooledActivations:
    missing = [k for k, v in labels.items() if v is None and not (k == "tokens" and "content" in options)]
    if isinstance(source, PooledActivations):
        given = [k for k, v in labels.items() if v is not None] + list(options)
        if given:
            raise AnalysisError(f"pooled activations carry their own labels; leave out {', '.join(given)}")
        return source
    if missing:
        raise AnalysisError(
            f"an ActivationCache holds no labels: layer_sweep needs {', '.join(missing)} too, as in "
            "layer_sweep(cache, model=model, tokens=tokens, emotions=emotions, topics=topics)"
        )
    return activations_from_cache(cache=source, **labels, **options)


def _shape(curve: Curve, depth: np.ndarray) -> UShape | None:
    values = curve.value if curve.units is None else curve.units
    try:
        return two_lines(values, depth)
    except AnalysisError:  # too few layers or topics, or a value that is undefined: no shape to speak of
        return None


def _best(values: Float[np.ndarray, "b n_layers"], higher: bool) -> np.ndarray:
    filled = np.where(np.isnan(values), -np.inf, values if higher else -values)
    return filled.argmax(axis=1)


def _of_decoding(result: Decoding, seed: int) -> Curve:
    draws = bootstrap_over_groups(result.correct.T.astype(float), result.topic, seed=seed)
    draws = _wider(draws, result.table["accuracy"].to_numpy(), len(set(result.topic)))
    units = np.stack([result.correct[:, result.topic == t].mean(axis=1) for t in dict.fromkeys(result.topic)])
    return Curve(result.table["accuracy"].to_numpy(), result.null, draws=draws, standardise=False, units=units)


def _wider(
    draws: Float[np.ndarray, "b n_layers"], value: Float[np.ndarray, " n_layers"], n: int
) -> Float[np.ndarray, "b n_layers"]:
    """Draws as far from what was found as Student's t with n topics calls for: a bootstrap of few units is too narrow
    by (n - 1) / n in variance, and knows nothing of the error of its own spread."""
    if n < 2:
        return draws
    return value + (draws - value) * float(student.ppf(0.975, n - 1) / norm.ppf(0.975)) * np.sqrt(n / (n - 1))


def _separation(acts: PooledActivations, n_permutations: int, seed: int) -> Curve:
    value, null = cosine_null(acts, "neutral", n_permutations, seed)
    return Curve(value, null, higher_is_better=False)


def _reliability(acts: PooledActivations, n_permutations: int, seed: int) -> Curve:
    design = design_of(acts)
    labels = np.concatenate([design.label[None], label_permutations(design, n_permutations, seed)])
    halves = topic_halves(design.n_blocks, 20, seed)
    values = spearman_brown(np.nanmean(half_cosines(acts, design, labels, halves), axis=2)).T
    return Curve(values[0], values[1:], standardise=False)


def _anisotropy(acts: PooledActivations, n_permutations: int, seed: int) -> Curve:
    return Curve(anisotropy(acts, seed=seed).table["neutral_raw"].to_numpy(), None, higher_is_better=False)


METRICS: dict[str, Callable[[PooledActivations, int, int], Curve]] = {
    "separation": _separation,
    "reliability": _reliability,
    "anisotropy": _anisotropy,
}


def _of_function(acts: PooledActivations, metric: Metric, n_permutations: int, seed: int) -> Curve:
    design = design_of(acts)
    emotional = np.flatnonzero(acts.emotion != NEUTRAL)
    found = []
    for labels in (design.label, *label_permutations(design, n_permutations, seed)):
        records = list(acts.records)
        for i, k in zip(emotional, labels, strict=True):
            records[i] = replace(records[i], emotion=design.emotions[k])
        values = np.asarray(metric(replace(acts, records=tuple(records))), dtype=float)
        if values.shape != (acts.n_layers,):
            raise AnalysisError(
                f"a metric gives one value per layer, shape ({acts.n_layers},); "
                f"{getattr(metric, '__name__', metric)!s} gave shape {values.shape}"
            )
        found.append(values)
    return Curve(found[0], np.stack(found[1:]))
