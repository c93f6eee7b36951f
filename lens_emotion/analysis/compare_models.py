"""Generation against comprehension over models: every model is one pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import t as student

from lens_emotion.analysis.compare import effect_columns, pair_up, unpaired
from lens_emotion.analysis.decoding import decoding
from lens_emotion.analysis.effects import paired_dz
from lens_emotion.analysis.paired import decoding_contributions, mean_cosines
from lens_emotion.analysis.results import ALPHA, AnalysisError, p_text, result_html
from lens_emotion.analysis.stats import permutation_test
from lens_emotion.extraction.activations import PooledActivations

PLACES = ("middle", "best")
PAIRED = "sign flips, paired over models"
JEONG = "Mann-Whitney, unpaired over models (arXiv 2604.04064)"


@dataclass(frozen=True, eq=False)
class ModelComparison:
    """Two methods over models.

    Attributes:
        table: model, place ("middle" layer n_layers // 2, or "best": the layer of the highest accuracy averaged over
            both methods, the same for both), layer, depth, cosine_a, cosine_b (mean pairwise, "neutral" recipe; NaN
            without neutral texts), accuracy_a, accuracy_b, chance, dropped.
        tests: measure ("accuracy" or "mean cosine"), place, test, n (models), a, b, difference, low, high (95%, t over
            models), p, effect, d, d_low, d_high, warning.
    """

    table: pd.DataFrame
    tests: pd.DataFrame

    def row(self, measure: str, place: str = "middle", test: str = PAIRED) -> pd.Series:
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
            jeong = self.row("mean cosine", test=JEONG)
            text += f"; {self._part(self.row('mean cosine'))}, unpaired {p_text(jeong.p)}, Cohen's d {jeong.d:.2f}"
            text += f" ({jeong.warning})" * bool(jeong.warning)
        return f"{text}: {verdict}."

    @staticmethod
    def _part(row: pd.Series) -> str:
        return (
            f"{row.measure} {row.a:.2f} against {row.b:.2f}, difference {row.difference:.2f} "
            f"({row.low:.2f} to {row.high:.2f}, paired {p_text(row.p)})"
        )

    def _repr_html_(self) -> str:
        return result_html(self)


def compare_models(pairs: Sequence[tuple[str, PooledActivations, PooledActivations]]) -> ModelComparison:
    """Compare two methods over models, every model being one pair (name, a, b).

    Within a model both sets are cut down to what they share (`compare`). Over models, the differences' signs are
    flipped, in all 2^n ways up to 14 models; beside it stands the unpaired test of arXiv 2604.04064. Models of one
    family are no independent sample of models, which neither test knows.

    Raises:
        AnalysisError: fewer than 2 models, or one name twice.
        FingerprintError, StimulusError: as in `compare`.
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
        {**where, "test": PAIRED, **paired, **effect_columns(paired_dz(a, b))},
        {**where, "test": JEONG, "n": len(d), **unpaired(a, b)},
    ]
