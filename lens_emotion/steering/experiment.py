"""Dose-response: 40 scenarios steered at several doses, always beside dose 0 and a random direction of equal length.

"Moved towards the target" alone has a chance level near one half, so success asks for more: the target's score must
rise above the unsteered text's AND above the 95th percentile of a random-direction control. A second, independent set
of random directions goes through the same rule and is reported beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from lens_emotion.errors import DoseError
from lens_emotion.models.access import Model
from lens_emotion.models.decoding import GREEDY, Sampling
from lens_emotion.steering.dose import Dose, resolve_layers
from lens_emotion.steering.generate import Condition, Continuation, generate_steered
from lens_emotion.steering.judges import Judge
from lens_emotion.steering.measures import mean_nll, perplexity_ratio, repetition
from lens_emotion.steering.regimes import SURGICAL, Thresholds, regime, thresholds_from
from lens_emotion.stimuli.prompts import Scenario
from lens_emotion.vectors.emotion_vectors import EmotionVectors

DOSES = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
_CONDITIONS = ("emotion", "random", "null")  # "null" sets the success threshold, "random" is the reported control


@dataclass(frozen=True, eq=False)
class DoseResponse:
    """Result of a steering experiment.

    Attributes:
        table: one row per dose and condition ("emotion", "random"): dose in both units, n, success and moved rates
            with Wilson intervals, top_emotions (emotions of which the target ranks first), perplexity ratio,
            distinct-2, loop share, regime.
        texts: one row per generated text.
        unsteered: the texts of dose 0.
        layer: steered layer, or "all" or several.
        judge: name and accuracy of the judge.
        judge_accuracy: measured accuracy, None if unknown.
        thresholds: where the regimes begin.
        n_emotions: number of emotions steered towards.
    """

    table: pd.DataFrame
    texts: pd.DataFrame
    unsteered: pd.DataFrame
    layer: int | str
    judge: str
    judge_accuracy: float | None
    thresholds: Thresholds
    n_emotions: int
    notes: tuple[str, ...] = field(default=())

    @property
    def surgical_dose(self) -> float | None:
        """The surgical dose with the highest success rate (the smaller of equals), None if no dose is surgical."""
        rows = self.table[(self.table.condition == "emotion") & (self.table.regime == SURGICAL)]
        if rows.empty:
            return None
        best = rows.sort_values(["success_rate", "top_emotions", "dose"], ascending=[False, False, True])
        return float(best.iloc[0].dose)

    def at(self, dose: float, condition: str = "emotion") -> pd.Series:
        """The table's row of one dose and condition."""
        rows = self.table[np.isclose(self.table.dose, dose) & (self.table.condition == condition)]
        if rows.empty:
            known = ", ".join(f"{d:g}" for d in sorted(self.table.dose.unique()))
            raise DoseError(f"dose {dose:g} ({condition}) was not run; this result holds {known}")
        return rows.iloc[0]

    def summary(self) -> str:
        dose = self.surgical_dose
        if dose is None:
            return f"no dose was surgical at layer {self.layer} (judge: {self.judge})"
        mine, control = self.at(dose), self.at(dose, "random")
        tried = self.table.dose.nunique()
        return (
            f"at dose {mine.dose_natural:g} natural ({mine.dose_relative:.2g} of the norm, layer {self.layer}; "
            f"the best surgical one of {tried} tried on these scenarios) {mine.success:.0f}/{mine.n:.0f} scenarios "
            f"succeed against {control.success:.0f}/{control.n:.0f} for "
            f"random directions; the target ranks first in {mine.top_emotions:.0f} of {self.n_emotions} emotions "
            f"({control.top_emotions:.0f} for random); perplexity ratio {mine.perplexity_ratio:.2f} "
            f"({control.perplexity_ratio:.2f}); judge: {self.judge}"
        )

    def _repr_html_(self) -> str:
        return f"<p>{self.summary()}</p>{self.table.round(3).to_html(index=False)}"


def dose_response(
    model: Model,
    vectors: EmotionVectors,
    scenarios: Sequence[Scenario],
    judge: Judge,
    *,
    doses: Sequence[float] = DOSES,
    unit: str = "natural",
    layers: int | str | Sequence[int] | None = None,
    max_new_tokens: int = 40,
    sampling: Sampling = GREEDY,
    seed: int = 0,
    progress: bool = True,
) -> DoseResponse:
    """Steer every scenario towards its emotion at every dose, beside dose 0 and random directions of equal length.

    Args:
        doses: in `unit`; 0 is always run.
        layers: None for the middle layer (see `dose.resolve_layers`).
        judge: scores the continuations; scenarios of emotions it does not know raise.

    Raises:
        DoseError: no dose, or scenarios whose emotion has no vector or no judge.
    """
    chosen = resolve_layers(layers, vectors.n_layers)
    _check(vectors, scenarios, judge, doses)
    plan = _plan(vectors, scenarios, doses, unit, seed)
    conditions = [Condition(s.opening, seed=i) for i, s in enumerate(scenarios)] + [row[-1] for row in plan]
    written = generate_steered(
        model, conditions, chosen, max_new_tokens=max_new_tokens, sampling=sampling, progress=progress
    )
    n = len(scenarios)
    measured = _measure(model, written, judge)
    unsteered = measured.iloc[:n].assign(prompt=[s.opening for s in scenarios])
    texts = measured.iloc[n:].reset_index(drop=True)
    for name, position in (("condition", 0), ("dose", 1), ("scenario", 2)):
        texts.insert(position, name, [row[position] for row in plan])
    texts = _with_targets(texts, unsteered, scenarios, judge)
    thresholds = thresholds_from(*(unsteered[c].to_numpy() for c in ("nll", "distinct_2", "loop_share")))
    table = _table(texts, vectors, chosen, unit, thresholds)
    layer = chosen[0] if len(chosen) == 1 else "all" if len(chosen) == vectors.n_layers else str(list(chosen))
    scores = [f"score_{e}" for e in judge.emotions]
    return DoseResponse(
        table=table,
        texts=_label(texts, table).drop(columns=scores),
        unsteered=unsteered.drop(columns=scores),
        layer=layer,
        judge=str(judge),
        judge_accuracy=judge.accuracy,
        thresholds=thresholds,
        n_emotions=len({s.emotion for s in scenarios}),
    )


def _check(vectors: EmotionVectors, scenarios: Sequence[Scenario], judge: Judge, doses: Sequence[float]) -> None:
    if not doses or not scenarios:
        raise DoseError("nothing to steer: give at least one dose and one scenario")
    wanted = {s.emotion for s in scenarios}
    for what, known in (("vector", vectors.emotions), (f"judge ({judge.name})", judge.emotions)):
        if missing := sorted(wanted - set(known)):
            raise DoseError(f"no {what} for {', '.join(missing)}; choose scenarios of: {', '.join(known)}")


def _plan(
    vectors: EmotionVectors, scenarios: Sequence[Scenario], doses: Sequence[float], unit: str, seed: int
) -> list[tuple[str, float, int, Condition]]:
    """(condition, dose, scenario index, what to generate); random directions differ between scenarios."""
    rows = []
    for i, scenario in enumerate(scenarios):
        like = scenario.emotion
        choices = {
            "emotion": vectors[like],
            "random": vectors.random(seed * 10_007 + 2 * i, like=like),
            "null": vectors.random(seed * 10_007 + 2 * i + 1, like=like),
        }
        for dose in doses:
            for condition in _CONDITIONS:
                rows.append(
                    (condition, float(dose), i, Condition(scenario.opening, choices[condition], Dose(dose, unit), i))
                )
    return rows


def _measure(model: Model, written: Sequence[Continuation], judge: Judge) -> pd.DataFrame:
    ids = [c.new_ids for c in written]
    distinct, loops = repetition(ids)
    frame = pd.DataFrame(
        {"text": [c.text for c in written], "nll": mean_nll(model, [c.prompt_ids for c in written], ids)}
    )
    frame["distinct_2"], frame["loop_share"] = distinct, loops
    scores = judge.score([c.text for c in written])
    frame["top_emotion"] = [judge.emotions[k] for k in scores.argmax(1)]
    columns = pd.DataFrame(scores, columns=[f"score_{e}" for e in judge.emotions])
    return pd.concat([frame, columns], axis=1)


def _with_targets(
    texts: pd.DataFrame, unsteered: pd.DataFrame, scenarios: Sequence[Scenario], judge: Judge
) -> pd.DataFrame:
    """Add prompt, emotion, the target's score before and after, the success rule and the perplexity ratio per text."""
    index = texts["scenario"].to_numpy()
    emotion = np.array([s.emotion for s in scenarios])[index]
    column = [judge.emotions.index(e) for e in emotion]
    names = [f"score_{e}" for e in judge.emotions]
    texts["prompt"] = np.array([s.opening for s in scenarios])[index]
    texts["emotion"] = emotion
    texts["target_score"] = texts[names].to_numpy()[np.arange(len(texts)), column]
    before = unsteered[names].to_numpy()[index, column]
    texts["moved"] = texts["target_score"].to_numpy() > before
    null = texts[texts.condition == "null"].groupby("dose")["target_score"].quantile(0.95)
    texts["success"] = texts["moved"] & (texts["target_score"] > texts["dose"].map(null))
    texts["perplexity_ratio"] = np.exp(texts["nll"].to_numpy() - unsteered["nll"].to_numpy()[index])
    texts["unsteered_nll"] = unsteered["nll"].to_numpy()[index]
    return texts


def _table(
    texts: pd.DataFrame, vectors: EmotionVectors, layers: Sequence[int], unit: str, thresholds: Thresholds
) -> pd.DataFrame:
    rows = []
    for dose in sorted(texts.dose.unique().tolist()):
        of_dose = texts[texts.dose == dose]
        control = of_dose[of_dose.condition == "random"]
        natural, relative = mean_units(vectors, Dose(float(dose), unit), layers)
        for condition in ("emotion", "random"):
            group = of_dose[of_dose.condition == condition]
            row = _row(group)
            gain = row["success_rate"] - float(control.success.mean())
            name = regime(row["perplexity_ratio"], row["distinct_2"], row["loop_share"], gain, thresholds)
            rows.append(
                {
                    "dose": dose,
                    "dose_natural": natural,
                    "dose_relative": relative,
                    "condition": condition,
                    **row,
                    "regime": name,
                }
            )
    return pd.DataFrame(rows)


def _row(group: pd.DataFrame) -> dict[str, float]:
    n, k = len(group), int(group.success.sum())
    low, high = binomtest(k, n).proportion_ci(method="wilson")
    return {
        "n": n,
        "success": k,
        "success_rate": k / n,
        "success_low": low,
        "success_high": high,
        "moved_rate": float(group.moved.mean()),
        "top_emotions": target_first(group),
        "perplexity_ratio": perplexity_ratio(group.nll.to_numpy(), group.unsteered_nll.to_numpy()),
        "distinct_2": float(group.distinct_2.mean()),
        "loop_share": float(group.loop_share.mean()),
    }


def target_first(group: pd.DataFrame) -> int:
    """Number of target emotions whose own mean score is the highest of all emotions over their texts."""
    scores = [c for c in group.columns if c.startswith("score_")]
    means = group.groupby("emotion")[scores].mean()
    return int(sum(best == f"score_{emotion}" for emotion, best in means.idxmax(axis=1).items()))


def mean_units(vectors: EmotionVectors, dose: Dose, layers: Sequence[int]) -> tuple[float, float]:
    """The dose as (natural, relative), averaged over emotions and steered layers."""
    both = [dose.in_units(vectors[e], layer) for e in vectors.emotions for layer in layers]
    natural, relative = np.array(both).mean(0)
    return float(natural), float(relative)


def _label(texts: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Each text with the regime of its condition."""
    regimes = table.set_index(["condition", "dose"])["regime"]
    kept = texts[texts.condition != "null"].copy()
    kept["regime"] = [regimes[(c, d)] for c, d in zip(kept.condition, kept.dose, strict=True)]
    return kept.reset_index(drop=True)
