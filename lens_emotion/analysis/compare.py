"""Generation against comprehension as a paired experiment: same model, same emotions, same topics, same layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import wilcoxon

from lens_emotion.analysis.decoding import Decoding, decoding
from lens_emotion.analysis.effects import EffectSize, cohens_d, paired_dz
from lens_emotion.analysis.paired import (
    Contributions,
    cosine_contributions,
    decoding_contributions,
    emotion_contributions,
    mean_cosines,
    paired_accuracies,
)
from lens_emotion.analysis.reliability import reliability
from lens_emotion.analysis.results import ALPHA, AnalysisError, check_permutations, p_text, resolve_layer, result_html
from lens_emotion.analysis.stats import mann_whitney
from lens_emotion.analysis.transfer import check_same_model, shared_emotions
from lens_emotion.errors import StimulusError
from lens_emotion.extraction.activations import PooledActivations

METRICS = ("decoding", "separation", "reliability")
LEAST_TOPICS = 6  # with fewer, no pattern of sign flips reaches p = 0.05 on both sides
PAIRED = "sign flips, paired"
RANKS = "Wilcoxon, paired over emotions"
JEONG = "Mann-Whitney on mean cosines, unpaired, layers taken as independent (arXiv 2604.04064)"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two methods on one model.

    Attributes:
        table: layer, depth, a, b, difference (a - b), estimate (the same, less the bias that noise brings to a mean
            cosine: jackknife) with low, high (95%, t over the units), p (this layer alone) and p_corrected (best of the
            layers used), and beside it held-out decoding by the same pairing: accuracy_a and so on.
        overall: test, measure, unit, n, a, b, difference, estimate, low, high, p, effect, d, d_low, d_high, warning.
            Means over the layers used: paired sign flips of the metric and of decoding, Wilcoxon's test over emotions,
            and the unpaired test of arXiv 2604.04064 (NaN where it has no neutral texts). d_z is of the units.
        pairs: unit ("emotions", and "topics" where they are paired), name, a, b, difference: held-out accuracy of every
            emotion and topic by either method, mean over the layers used.
        metric: "decoding", "separation" (mean cosine, lower = further apart) or "reliability".
        unit: what is paired: "topics" or "emotions"; n_pairs: how many.
        name_a, name_b: the methods.
        dropped: what only one of the sets held, in words; empty if nothing.
    """

    table: pd.DataFrame
    overall: pd.DataFrame
    pairs: pd.DataFrame
    metric: str
    unit: str
    n_pairs: int
    name_a: str
    name_b: str
    dropped: str

    def row(self, test: str, measure: str | None = None) -> pd.Series:
        """A row of `overall`: by test, and the measure it was made of (the metric by default)."""
        rows = self.overall[(self.overall["test"] == test) & (self.overall["measure"] == (measure or self.metric))]
        return rows.iloc[0]

    @property
    def better(self) -> str | None:
        """The method with the higher held-out accuracy, mean over layers; None if p > 0.05.

        Whatever the metric: a lower cosine alone may be noise.
        """
        row = self.row(PAIRED, "decoding")
        if not row.p <= ALPHA:
            return None
        return self.name_a if row.difference > 0 else self.name_b

    def summary(self) -> str:
        """The metric, then held-out accuracy, which alone decides."""
        verdict = f"{self.better} tells the emotions apart better" if self.better else "no difference that is not noise"
        parts = [self._part(m) for m in dict.fromkeys((self.metric, "decoding"))]
        dropped = f" Dropped: {self.dropped}." * bool(self.dropped)
        return f"{self.name_a} against {self.name_b}, mean over layers: {'; '.join(parts)}: {verdict}.{dropped}"

    def _part(self, measure: str) -> str:
        row = self.row(PAIRED, measure)
        name = {"decoding": "held-out accuracy", "separation": "mean pairwise cosine"}.get(measure, measure)
        less = " less the bias of noise" * (measure == "separation")
        return (
            f"{name} {row.a:.2f} against {row.b:.2f}, difference {row.estimate:.2f}{less} "
            f"({row.low:.2f} to {row.high:.2f}, {p_text(row.p)}, {row.n} {row.unit})"
        )

    def _repr_html_(self) -> str:
        return result_html(self)


def compare(
    a: PooledActivations,
    b: PooledActivations,
    metric: str = "decoding",
    layers: Sequence[int] | None = None,
    n_permutations: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare two readings of one model, paired over what they share.

    Both are cut down to the shared emotions, and to the shared topics if there are at least 6. Topics are then the
    units: the label of the method is swapped within topics at random. With fewer shared topics, and for reliability
    (which no single topic has), emotions are.

    Args:
        a, b: activations of the same model, say `extract_generation(...).reread` and `extract_comprehension(...)`.
        metric: "decoding" (held-out accuracy), "separation" (mean pairwise cosine by the "neutral" recipe; lower is
            further apart, or noisier) or "reliability" (split-half, Spearman-Brown). Decoding always goes beside it.
        layers: layers to use; all by default.
        n_permutations: random swaps.

    Raises:
        FingerprintError: different models, or one model in different bases.
        StimulusError: fewer than 2 shared emotions or topics; "separation" with fewer than 2 neutral texts.
        AnalysisError: another metric, no such layer, or no permutations.
    """
    if metric not in METRICS:
        raise AnalysisError(f"metric is one of {', '.join(map(repr, METRICS))}; got {metric!r}")
    check_permutations(n_permutations)
    a, b, unit, dropped = pair_up(a, b)
    if metric == "separation":
        _need_neutral(a, b)
    used = [resolve_layer(int(x), a.n_layers, 0) for x in (range(a.n_layers) if layers is None else layers)]
    depth, (name_a, name_b) = a.depth[used], _names(a, b)
    a, b = (replace(x, values=x.values[:, used], residual_norm=x.residual_norm[used]) for x in (a, b))
    decoded = decoding(a, 1, seed), decoding(b, 1, seed)
    accuracy = decoding_contributions(*decoded, unit)
    measured = {"decoding": accuracy}
    if metric != "decoding":
        measured[metric] = _contributions(a, b, metric, unit, seed)
    main = measured[metric]
    columns = {"layer": used, "depth": depth, **_columns(main, n_permutations, seed)}
    beside = _columns(accuracy, n_permutations, seed)
    columns |= {f"accuracy_{name}": value for name, value in beside.items()}
    overall = [_overall(name, x, n_permutations, seed) for name, x in measured.items()]
    overall += [_over_emotions(metric, a, b, decoded, seed), _jeong(a, b)]
    pairs = pd.concat([paired_accuracies(*decoded, u) for u in dict.fromkeys(("emotions", unit))], ignore_index=True)
    sizes = main.unit, len(main.units)
    return Comparison(pd.DataFrame(columns), pd.DataFrame(overall), pairs, metric, *sizes, name_a, name_b, dropped)


def pair_up(a: PooledActivations, b: PooledActivations) -> tuple[PooledActivations, PooledActivations, str, str]:
    """Both sets with what they share (and their neutral texts), the unit of pairing, and what was dropped."""
    check_same_model(a, b)
    if a.n_layers != b.n_layers:
        raise AnalysisError(f"one set has {a.n_layers} layers, the other {b.n_layers}; extract both at every layer")
    x, y, apart = shared_emotions(a, b)
    said = [f"emotions of one set only ({', '.join(apart)})"] if apart else []
    shared = [t for t in x.topics if t in y.topics]
    unit = "topics" if len(shared) >= LEAST_TOPICS else "emotions"
    if unit == "topics":
        lost = len({*x.topics, *y.topics}) - len(shared)
        said += [f"{lost} topics of one set only"] if lost else []
    elif {*x.topics} != {*y.topics}:
        said += [f"the pairing of topics (only {len(shared)} are shared)"]
    kept = shared if unit == "topics" else None
    return _cut(a, x.emotions, kept), _cut(b, x.emotions, kept), unit, ", ".join(said)


def _cut(acts: PooledActivations, emotions: Sequence[str], topics: Sequence[str] | None) -> PooledActivations:
    keep = np.isin(acts.emotion, emotions)
    if topics is not None:
        keep &= np.isin(acts.topic, topics)
    neutral = ~np.isin(acts.emotion, acts.emotions)
    return acts.only(keep | neutral)


def _names(a: PooledActivations, b: PooledActivations) -> tuple[str, str]:
    x, y = a.header, b.header
    for fields in (("method",), ("method", "variant"), ("method", "variant", "pooling"), ("method", "stimuli")):
        names = tuple(" ".join(filter(None, (str(getattr(h, f)) for f in fields))) for h in (x, y))
        if names[0] != names[1]:
            return names[0], names[1]
    return "a", "b"


def _need_neutral(*sets: PooledActivations) -> None:
    if least := [len(s.neutral) for s in sets if len(s.neutral) < 2]:
        raise StimulusError(
            f"the separation metric subtracts the mean of neutral texts, and a set holds {min(least)}; extract both "
            "sets with at least 2 neutral texts, or compare by metric='decoding'"
        )


def _contributions(a: PooledActivations, b: PooledActivations, metric: str, unit: str, seed: int) -> Contributions:
    if metric == "separation":
        return cosine_contributions(a, b, unit)
    return emotion_contributions(*(_reliabilities(x, seed) for x in (a, b)))


def _reliabilities(acts: PooledActivations, seed: int) -> Float[np.ndarray, "k n_layers"]:
    wide = reliability(acts, seed=seed).table.pivot(index="emotion", columns="layer", values="reliability")
    return wide.sort_index().to_numpy()


def _columns(x: Contributions, n_permutations: int, seed: int) -> dict[str, np.ndarray]:
    half, (p, corrected) = x.half_width(), x.p(n_permutations, seed)
    ends = {"estimate": x.estimate, "low": x.estimate - half, "high": x.estimate + half}
    return {"a": x.a, "b": x.b, "difference": x.difference, **ends, "p": p, "p_corrected": corrected}


def _overall(measure: str, x: Contributions, n_permutations: int, seed: int) -> dict[str, object]:
    flat = x.over_layers
    row = {name: float(v[0]) for name, v in _columns(flat, n_permutations, seed).items() if name != "p_corrected"}
    units = flat.units[:, 0]
    effect = paired_dz(units, np.zeros_like(units))
    return {"test": PAIRED, "measure": measure, "unit": x.unit, "n": len(units), **row, **effect_columns(effect)}


def _over_emotions(
    metric: str, a: PooledActivations, b: PooledActivations, decoded: tuple[Decoding, Decoding], seed: int
) -> dict[str, object]:
    """Wilcoxon's signed ranks over emotions (units that share their topics, and for cosines their pairs)."""
    x = decoding_contributions(*decoded, "emotions") if metric == "decoding" else None
    flat = (x or _contributions(a, b, metric, "emotions", seed)).over_layers
    units = flat.units[:, 0]
    half, effect = flat.half_width()[0], paired_dz(units, np.zeros_like(units))
    p = float(wilcoxon(units).pvalue) if np.any(units) else 1.0
    middle = float(flat.estimate[0])
    values = {"a": float(flat.a[0]), "b": float(flat.b[0]), "difference": float(flat.difference[0])}
    ends = {"estimate": middle, "low": middle - half, "high": middle + half, "p": p}
    row = {"test": RANKS, "measure": metric, "unit": "emotions", "n": len(units), **values, **ends}
    return {**row, **effect_columns(effect)}


def _jeong(a: PooledActivations, b: PooledActivations) -> dict[str, object]:
    row: dict[str, object] = {"test": JEONG, "measure": "mean cosine", "unit": "layers", "n": a.n_layers}
    if min(len(a.neutral), len(b.neutral)) == 0:
        return {**row, "warning": "no neutral texts, so no cosines"}
    if a.n_layers < 2:
        return {**row, "warning": "a single layer, so nothing to test over layers"}
    return {**row, **unpaired(mean_cosines(a), mean_cosines(b))}


def unpaired(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> dict[str, object]:
    """a, b (means), difference, p of Mann and Whitney's test and Cohen's d: values taken as independent."""
    row = {"a": float(a.mean()), "b": float(b.mean()), "difference": float(a.mean() - b.mean())}
    return {**row, "p": mann_whitney(a, b).p, **effect_columns(cohens_d(a, b))}


def effect_columns(effect: EffectSize) -> dict[str, object]:
    """effect (its name), d, d_low, d_high, warning."""
    ends = {"d_low": effect.low, "d_high": effect.high, "warning": effect.warning}
    return {"effect": effect.name, "d": effect.value, **ends}
