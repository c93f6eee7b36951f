"""Writing against reading as a paired experiment: same model, same emotions, same topics, same layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from scipy.stats import t as student
from scipy.stats import wilcoxon

from lens_emotion.analysis.decoding import Decoding, decoding
from lens_emotion.analysis.reliability import reliability
from lens_emotion.display import Brief, Result, said
from lens_emotion.errors import AnalysisError, StimulusError
from lens_emotion.extraction.activations import PooledActivations, check_same_model, codes, restricted, shared_emotions
from lens_emotion.files.user import numbers_fit
from lens_emotion.models.layers import resolve_layer
from lens_emotion.pictures import Dots, Line
from lens_emotion.stats.cosines import mean_pairwise_cosine
from lens_emotion.stats.intervals import half_width
from lens_emotion.stats.tests import (
    ALPHA,
    EffectSize,
    check_permutations,
    cohens_d,
    mann_whitney,
    max_corrected_p,
    p_text,
    paired_dz,
    permutation_p,
    permutation_test,
)

METRICS = ("decoding", "separation", "reliability")
LEAST_TOPICS = 6  # with fewer, no pattern of sign flips reaches p = 0.05 on both sides
PAIRED = "sign flips, paired"
RANKS = "Wilcoxon, paired over emotions"
JEONG = "Mann-Whitney on mean cosines, unpaired, layers taken as independent (arXiv 2604.04064)"


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Result):
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

    _picture = Line("layer", "accuracy_estimate", "accuracy_low", "accuracy_high", band="95% interval", reference=0.0)

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
        better = self.better
        verdict = f"{said(better)} tells the emotions apart better" if better else "no difference that is not noise"
        parts = [self._part(m) for m in dict.fromkeys((self.metric, "decoding"))]
        dropped = f" Dropped: {self.dropped}." * bool(self.dropped)
        names = f"{said(self.name_a)} against {said(self.name_b)}"
        return f"{names}, mean over layers: {'; '.join(parts)}: {verdict}.{dropped}"

    def _part(self, measure: str) -> str:
        row = self.row(PAIRED, measure)
        name = {"decoding": "held-out accuracy", "separation": "mean pairwise cosine"}.get(measure, measure)
        less = " less the bias of noise" * (measure == "separation")
        return (
            f"{name} {row.a:.2f} against {row.b:.2f}, difference {row.estimate:.2f}{less} "
            f"({row.low:.2f} to {row.high:.2f}, {p_text(row.p)}, {row.n} {row.unit})"
        )


@numbers_fit(AnalysisError)
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
        seed: of whatever is drawn at random.

    Raises:
        FingerprintError: different models, or one model in different bases.
        StimulusError: fewer than 2 shared emotions or topics; "separation" with fewer than 2 neutral texts.
        AnalysisError: another metric, no such layer, or no permutations.

    Example:
        >>> result = le.compare(stories, acts, n_permutations=50)
        >>> result.metric
        'decoding'
    """
    if metric not in METRICS:
        raise AnalysisError(f"metric is one of {', '.join(map(repr, METRICS))}; got {metric!r}")
    check_permutations(n_permutations)
    a, b, unit, dropped = pair_up(a, b)
    least = min(len(a.neutral), len(b.neutral))
    if metric == "separation" and least < 2:
        raise StimulusError(
            f"the separation metric subtracts the mean of neutral texts, and a set holds {least}; extract both "
            "sets with at least 2 neutral texts, or compare by metric='decoding'"
        )
    used = [resolve_layer(int(x), a.n_layers, 0) for x in (range(a.n_layers) if layers is None else layers)]
    depth, (name_a, name_b) = a.depth[used], _names(a, b)
    a, b = (replace(x, values=x.values[:, used], residual_norm=x.residual_norm[used]) for x in (a, b))
    decoded = decoding(a, 1, seed), decoding(b, 1, seed)
    accuracy = decoding_contributions(*decoded, unit)
    measured = {"decoding": accuracy}
    if metric != "decoding":
        measured[metric] = _contributions(a, b, metric, unit, seed)
    main = measured[metric]
    columns = {"layer": used, "depth": depth, **main.columns(n_permutations, seed)}
    beside = accuracy.columns(n_permutations, seed)
    columns |= {f"accuracy_{name}": value for name, value in beside.items()}
    overall = [_overall(PAIRED, name, x, n_permutations, seed) for name, x in measured.items()]
    if metric == "decoding":
        by_emotion = decoding_contributions(*decoded, "emotions")
    else:
        by_emotion = _contributions(a, b, metric, "emotions", seed)
    overall += [_overall(RANKS, metric, by_emotion, n_permutations, seed), _jeong(a, b)]
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
    kept = shared if unit == "topics" else [*x.topics, *y.topics]
    return restricted(a, x.emotions, kept), restricted(b, x.emotions, kept), unit, ", ".join(said)


def _names(a: PooledActivations, b: PooledActivations) -> tuple[str, str]:
    x, y = a.header, b.header
    for fields in (("method",), ("method", "variant"), ("method", "variant", "pooling"), ("method", "stimuli")):
        names = tuple(" ".join(filter(None, (str(getattr(h, f)) for f in fields))) for h in (x, y))
        if names[0] != names[1]:
            return names[0], names[1]
    return "a", "b"


def _contributions(a: PooledActivations, b: PooledActivations, metric: str, unit: str, seed: int) -> Contributions:
    if metric == "separation":
        return cosine_contributions(a, b, unit)
    tables = [reliability(x, seed=seed).table for x in (a, b)]
    x, y = (t.pivot(index="emotion", columns="layer", values="reliability").sort_index().to_numpy() for t in tables)
    known = np.isfinite(x).all(1) & np.isfinite(y).all(1)  # emotions without it in either set are left out
    return Contributions(x[known].mean(0), y[known].mean(0), x[known] - y[known], (), "emotions")


def _overall(test: str, measure: str, x: Contributions, n_permutations: int, seed: int) -> dict[str, object]:
    """The mean over layers, tested over its units by sign flips, or by Wilcoxon's signed ranks (units that share their
    topics, and for cosines their pairs)."""
    flat = x.over_layers
    units = flat.units[:, 0]
    row = {name: float(v[0]) for name, v in flat.estimates().items()}
    if test == PAIRED:
        p = float(flat.p(n_permutations, seed)[0][0])
    else:
        p = float(wilcoxon(units).pvalue) if np.any(units) else 1.0
    effect = effect_columns(paired_dz(units, np.zeros_like(units)))
    return {"test": test, "measure": measure, "unit": x.unit, "n": len(units), **row, "p": p, **effect}


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


# Generation against comprehension over models: every model is one pair.

PLACES = ("middle", "best")
PAIRED_MODELS = "sign flips, paired over models"
JEONG_MODELS = "Mann-Whitney, unpaired over models (arXiv 2604.04064)"


@dataclass(frozen=True, eq=False, repr=False)
class ModelComparison(Result):
    """Two methods over models.

    Attributes:
        table: model, place ("middle" layer n_layers // 2, or "best": the layer of the highest accuracy averaged over
            both methods, the same for both), layer, depth, cosine_a, cosine_b (mean pairwise, "neutral" recipe; NaN
            without neutral texts), accuracy_a, accuracy_b, chance, dropped.
        tests: measure ("accuracy" or "mean cosine"), place, test, n (models), a, b, difference, low, high (95%, t over
            models), p, effect, d, d_low, d_high, warning.
    """

    _picture = Dots(("model", "place"), "accuracy_a")

    table: pd.DataFrame
    tests: pd.DataFrame

    def row(self, measure: str, place: str = "middle", test: str = PAIRED_MODELS) -> pd.Series:
        """One of the tests."""
        t = self.tests
        return t[(t["measure"] == measure) & (t["place"] == place) & (t["test"] == test)].iloc[0]

    def summary(self) -> str:
        """The paired tests at the middle layer, the unpaired one beside them; accuracy alone decides."""
        accuracy = self.row("accuracy")
        least = 2 / 2**accuracy.n
        if accuracy.p <= ALPHA:
            verdict = f"{'a' if accuracy.difference > 0 else 'b'} tells the emotions apart better"
        else:
            verdict = "no difference that is not noise"
            if least > ALPHA:
                verdict += f" ({accuracy.n} models cannot give p below {least:.2g})"
        text = f"Over {accuracy.n} models at the middle layer: {self._part(accuracy)}"
        if (self.tests["measure"] == "mean cosine").any():
            jeong = self.row("mean cosine", test=JEONG_MODELS)
            text += f"; {self._part(self.row('mean cosine'))}, unpaired {p_text(jeong.p)}, Cohen's d {jeong.d:.2f}"
            text += f" ({jeong.warning})" * bool(jeong.warning)
        return f"{text}: {verdict}."

    @staticmethod
    def _part(row: pd.Series) -> str:
        return (
            f"{row.measure} {row.a:.2f} against {row.b:.2f}, difference {row.difference:.2f} "
            f"({row.low:.2f} to {row.high:.2f}, paired {p_text(row.p)})"
        )


def compare_models(pairs: Sequence[tuple[str, PooledActivations, PooledActivations]]) -> ModelComparison:
    """Compare two methods over models, every model being one pair (name, a, b).

    Within a model both sets are cut down to what they share (`compare`). Over models, the differences' signs are
    flipped, in all 2^n ways up to 14 models; beside it stands the unpaired test of arXiv 2604.04064. Models of one
    family are no independent sample of models, which neither test knows.

    Args:
        pairs: (name, a, b) of each model, as `compare` takes a and b.

    Raises:
        AnalysisError: fewer than 2 models, or one name twice.
        FingerprintError, StimulusError: as in `compare`.

    Example:
        >>> result = le.compare_models([("one", stories, acts), ("two", stories, acts)])
        >>> len(result.table)
        4
    """
    names = [name for name, _, _ in pairs]
    if len(names) < 2 or len(set(names)) < len(names):
        raise AnalysisError(f"give at least 2 models, each once; got {', '.join(names) or 'none'}")
    table = pd.DataFrame([row for pair in pairs for row in _model(*pair)])
    rows: list[dict[str, object]] = []
    for place in PLACES:
        at = table[table["place"] == place]
        rows += _tests("accuracy", place, at["accuracy_a"].to_numpy(), at["accuracy_b"].to_numpy())
        at = at.dropna(subset=["cosine_a", "cosine_b"])
        if len(at) > 1:
            rows += _tests("mean cosine", place, at["cosine_a"].to_numpy(), at["cosine_b"].to_numpy())
    return ModelComparison(table, pd.DataFrame(rows))


def _model(name: str, a: PooledActivations, b: PooledActivations) -> list[dict[str, object]]:
    a, b, unit, dropped = pair_up(a, b)
    accuracy = decoding_contributions(decoding(a, 1), decoding(b, 1), unit)
    plain = min(len(a.neutral), len(b.neutral)) > 0
    cosines = [mean_cosines(x) if plain else np.full(a.n_layers, np.nan) for x in (a, b)]
    layers = {"middle": a.n_layers // 2, "best": int((accuracy.a + accuracy.b).argmax())}
    return [
        {
            "model": name,
            "place": place,
            "layer": layer,
            "depth": a.depth[layer],
            "cosine_a": cosines[0][layer],
            "cosine_b": cosines[1][layer],
            "accuracy_a": accuracy.a[layer],
            "accuracy_b": accuracy.b[layer],
            "chance": 1 / len(a.emotions),
            "dropped": dropped,
        }
        for place, layer in layers.items()
    ]


def _tests(measure: str, place: str, a: np.ndarray, b: np.ndarray) -> list[dict[str, object]]:
    d = a - b
    half = student.ppf(0.975, len(d) - 1) * d.std(ddof=1) / np.sqrt(len(d))
    where = {"measure": measure, "place": place}
    values = {"n": len(d), "a": a.mean(), "b": b.mean(), "difference": d.mean()}
    paired = {**values, "low": d.mean() - half, "high": d.mean() + half, "p": permutation_test(a, b, paired=True).p}
    return [
        {**where, "test": PAIRED_MODELS, **paired, **effect_columns(paired_dz(a, b))},
        {**where, "test": JEONG_MODELS, "n": len(d), **unpaired(a, b)},
    ]


# Two methods on the same topics and emotions: paired contributions, sign flips, and intervals over them.

BLOCK = 2_000_000  # numbers of null draws held at once


@dataclass(frozen=True, eq=False, repr=False)
class Contributions(Brief):
    """What every paired unit, and every text that is not paired, contributes to a difference between two methods.

    Attributes:
        a, b: the value of either method at each layer.
        units: contribution of each paired unit (a topic, an emotion); their mean is the estimate of a - b.
        others: influence of the unpaired samples (neutral texts of a, of b), each of mean 0.
        unit: "topics" or "emotions".
    """

    a: Float[np.ndarray, " n_layers"]
    b: Float[np.ndarray, " n_layers"]
    units: Float[np.ndarray, "n_units n_layers"]
    others: tuple[Float[np.ndarray, "_ n_layers"], ...]
    unit: str

    @property
    def estimate(self) -> Float[np.ndarray, " n_layers"]:
        """The difference, for cosines less the bias that noise brings (it lowers them): what intervals and p are of."""
        return self.units.mean(0)

    @property
    def over_layers(self) -> Contributions:
        """The same of the mean over layers, as a single layer."""
        a, b, units, *others = (x.mean(-1, keepdims=True) for x in (self.a, self.b, self.units, *self.others))
        return Contributions(a, b, units, tuple(others), self.unit)

    @property
    def difference(self) -> Float[np.ndarray, " n_layers"]:
        return self.a - self.b

    def estimates(self) -> dict[str, np.ndarray]:
        """a, b, difference, estimate, low and high at each layer."""
        half = self.half_width()
        ends = {"estimate": self.estimate, "low": self.estimate - half, "high": self.estimate + half}
        return {"a": self.a, "b": self.b, "difference": self.difference, **ends}

    def columns(self, n_permutations: int, seed: int) -> dict[str, np.ndarray]:
        """`estimates` with p and p_corrected."""
        p, corrected = self.p(n_permutations, seed)
        return {**self.estimates(), "p": p, "p_corrected": corrected}

    def half_width(self) -> Float[np.ndarray, " n_layers"]:
        """Half of the 95% interval of the estimate: t on the units, the variances of the unpaired samples added."""
        parts = [self.units, *self.others]
        ends = np.cumsum([0, *map(len, parts)])
        strata = [np.arange(start, end) for start, end in pairwise(ends)]
        return half_width(np.concatenate([-x / (len(x) - 1) for x in parts]), strata)

    def p(
        self, n_permutations: int, seed: int
    ) -> tuple[Float[np.ndarray, " n_layers"], Float[np.ndarray, " n_layers"]]:
        """Two-sided p at each layer, and for the best of the layers.

        The label of the method is swapped within units at random (their sign flips; one swap serves all layers). A
        sample that is not paired cannot be swapped, but it varies as well: its influences, with random signs, widen
        the null. Left out, they make one difference in five significant where there is none (8 topics, 8 neutral
        texts).
        """
        rng = np.random.default_rng(seed)
        null = np.zeros((n_permutations, self.units.shape[1]))
        for part in (self.units, *self.others):
            for rows in np.array_split(np.arange(n_permutations), 1 + n_permutations * len(part) // BLOCK):
                null[rows] += rng.choice([-1.0, 1.0], (len(rows), len(part))) @ part / len(part)
        alone = permutation_p(np.abs(self.estimate), np.abs(null))
        return alone, max_corrected_p(self.estimate, null, "two-sided", standardise=True)


def decoding_contributions(a: Decoding, b: Decoding, unit: str) -> Contributions:
    """Held-out accuracy on the units: topics (over the emotions that a topic has in both) or emotions (recall).

    The centroids are taken as given: a unit's contribution is what its own held-out texts say. On planted data with no
    difference this keeps its level; retraining without the unit (a jackknife) does not, accuracy not being smooth.
    """
    cells = [_cell_accuracy(x, unit) for x in (a, b)]
    both = [cells[0][key].keys() & cells[1][key].keys() for key in cells[0]]
    rows = [
        np.array([np.mean([x[key][i] for i in sorted(inner)], axis=0) for key, inner in zip(x, both, strict=True)])
        for x in cells
    ]
    return Contributions(rows[0].mean(0), rows[1].mean(0), rows[0] - rows[1], (), unit)


def _cell_accuracy(decoded: Decoding, unit: str) -> dict[str, dict[str, Float[np.ndarray, " n_layers"]]]:
    """Accuracy of each topic's emotions, or of each emotion as a whole, sorted by name."""
    emotion = np.array(decoded.emotions)[decoded.label]
    outer, inner = (decoded.topic, emotion) if unit == "topics" else (emotion, np.full(len(emotion), "all"))
    return {
        str(o): {str(i): decoded.correct[:, (outer == o) & (inner == i)].mean(1) for i in set(inner[outer == o])}
        for o in sorted(set(outer))
    }


def paired_accuracies(a: Decoding, b: Decoding, unit: str) -> pd.DataFrame:
    """Held-out accuracy of every topic or emotion that both decoded, mean over layers: unit, name, a, b, difference."""
    x, y = (_cell_accuracy(d, unit) for d in (a, b))
    rows = []
    for name in x:
        inner = sorted(x[name].keys() & y[name].keys())
        values = [float(np.mean([side[name][i] for i in inner])) for side in (x, y)]
        rows.append({"unit": unit, "name": name, "a": values[0], "b": values[1], "difference": values[0] - values[1]})
    return pd.DataFrame(rows)


def cosine_contributions(a: PooledActivations, b: PooledActivations, unit: str) -> Contributions:
    """Mean pairwise cosine of the vectors by the "neutral" recipe, split into jackknife pseudo-values of the units.

    Sources: Tukey 1958 (n times the whole less n - 1 times the rest). Needs neutral texts in both sets.
    """
    whole, units, plain = zip(*(_cosine_parts(x, unit) for x in (a, b)), strict=True)
    n = len(units[0])
    pseudo = n * (whole[0] - whole[1]) - (n - 1) * (units[0] - units[1])
    others = tuple((len(x) - 1) * (x.mean(0) - x) * sign for x, sign in zip(plain, (1, -1), strict=True))
    return Contributions(whole[0], whole[1], pseudo, others, unit)


def mean_cosines(acts: PooledActivations) -> Float[np.ndarray, " n_layers"]:
    """Mean pairwise cosine of the emotion vectors by the "neutral" recipe at every layer (J)."""
    return _cosine_parts(acts, "emotions", leave_out=False)[0]


def _cosine_parts(
    acts: PooledActivations, unit: str, leave_out: bool = True
) -> tuple[Float[np.ndarray, " n_layers"], Float[np.ndarray, "n n_layers"], Float[np.ndarray, "m n_layers"]]:
    """The mean cosine; without each unit (sorted by name); without each neutral text."""
    texts = acts.emotional
    emotions, topics = tuple(sorted(texts.emotions)), tuple(sorted(texts.topics))
    cell = codes(texts.emotion, emotions) * len(topics) + codes(texts.topic, topics)
    count = np.bincount(cell, minlength=len(emotions) * len(topics))
    average = torch.from_numpy((cell == np.arange(len(count))[:, None]) / np.maximum(count, 1)[:, None])
    present = (count > 0).reshape(len(emotions), len(topics))
    whole, units, plain = [], [], []
    for layer in range(acts.n_layers):
        rows, neutral = (x.values[:, layer].cpu().double() for x in (texts, acts.neutral))
        means = (average @ rows).reshape(*present.shape, -1)
        origin = neutral.mean(0)
        vectors = _over_topics(means, present) - origin
        whole.append(mean_pairwise_cosine(vectors))
        if leave_out:
            units.append(_without_each(means, present, vectors, origin, unit))
            shifts = (neutral - origin) / (len(neutral) - 1)
            plain.append(torch.stack([mean_pairwise_cosine(vectors + shift) for shift in shifts]))
    stacked = [torch.stack(x, dim=-1).numpy() if x else np.zeros((0, acts.n_layers)) for x in (whole, units, plain)]
    return stacked[0], stacked[1], stacked[2]


def _over_topics(means: torch.Tensor, present: Bool[np.ndarray, "k t"]) -> torch.Tensor:
    return means.sum(1) / torch.from_numpy(present.sum(1, keepdims=True))


def _without_each(
    means: torch.Tensor, present: np.ndarray, vectors: torch.Tensor, origin: torch.Tensor, unit: str
) -> torch.Tensor:
    k, n_topics = present.shape
    if unit == "topics":
        kept = [np.delete(np.arange(n_topics), t) for t in range(n_topics)]
        return torch.stack([mean_pairwise_cosine(_over_topics(means[:, t], present[:, t]) - origin) for t in kept])
    return torch.stack([mean_pairwise_cosine(vectors[np.delete(np.arange(k), e)]) for e in range(k)])
