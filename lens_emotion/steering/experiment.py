"""Dose-response: 40 scenarios steered at several doses, always beside dose 0, random directions of equal length, and
another emotion's vector of equal length.

"Moved towards the target" alone (the paper's rule) has a chance level near one half, so success asks for more: the
target's score must rise above the unsteered text's AND above the 95th percentile of a random-direction control. A
second, independent set of random directions goes through the same rule and is reported beside it, and so is steering
towards a different emotion, judged on the original target: what any strong vector does is not this emotion's doing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lens_emotion.errors import DoseError, GenerationError
from lens_emotion.files.journal import Journal
from lens_emotion.files.user import numbers_fit
from lens_emotion.models.access import Model
from lens_emotion.models.forward import body
from lens_emotion.models.layers import resolve_layers
from lens_emotion.models.prompting import encode
from lens_emotion.models.sampling import GREEDY, Sampling
from lens_emotion.steering.dose import Dose, as_dose
from lens_emotion.steering.dose_result import DoseResponse
from lens_emotion.steering.generate import Condition, Continuation, generate_steered
from lens_emotion.steering.judges import Judge, decided
from lens_emotion.steering.measures import edit_distance, likelihood, repetition
from lens_emotion.steering.outcomes import dose_table, score_columns, thresholds_of, with_targets
from lens_emotion.steering.regimes import Thresholds
from lens_emotion.stimuli.prompts import Scenario
from lens_emotion.vectors.emotion_vectors import EmotionVector, EmotionVectors

DOSES = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
SCORE_DIGITS = 6  # of the stored scores


@numbers_fit(GenerationError)
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
    other_emotion: bool = True,
    progress: bool = True,
    journal: Journal | None = None,
) -> DoseResponse:
    """Steer every scenario towards its emotion at every dose, beside dose 0 and directions of equal length.

    Args:
        doses: in `unit`; 0 is always run.
        layers: None for the middle layer (see `models.layers.resolve_layers`).
        judge: scores the continuations; scenarios of emotions it does not know raise.
        other_emotion: also steer every scenario towards another emotion (drawn with the seed), judged on its own.
        journal: keeps finished batches of texts, and those it holds are not generated again.
        model: TransformerBridge or HookedTransformer.
        vectors: of this model.
        scenarios: openings, each with the emotion to steer towards.
        unit: "natural", or "relative" for shares of the mean residual norm.
        max_new_tokens: at most, per text.
        sampling: how tokens are drawn; greedy by default.
        seed: of the random directions.
        progress: show a bar.

    Raises:
        DoseError: no dose, or scenarios whose emotion has no vector or no judge.

    Example:
        >>> result = le.dose_response(model, vectors, scenes, judge, doses=(1.0, 4.0), max_new_tokens=8, progress=False)
        >>> sorted(set(result.table.condition))
        ['emotion', 'random']
    """
    doses = list(dict.fromkeys(doses))  # 2 and 2.0 are one
    chosen, judge = resolve_layers(layers, vectors.n_layers), judge.beside(vectors.header)
    _check(vectors, scenarios, judge, doses)
    for emotion in dict.fromkeys(s.emotion for s in scenarios):
        vectors[emotion].check_layers(chosen)
    plan, steered = _plan(vectors, scenarios, doses, unit, seed, other_emotion)
    conditions = [Condition(s.opening, seed=i) for i, s in enumerate(scenarios)] + steered
    run: dict[str, Any] = {"max_new_tokens": max_new_tokens, "sampling": sampling, "journal": journal}
    written = generate_steered(model, conditions, chosen, progress=progress, **run)
    texts, unsteered, thresholds = _judged(model, written, scenarios, plan, judge)
    units = {}  # means over emotions and steered layers
    for dose in (as_dose(d, unit) for d in doses):
        pairs = [dose.in_units(vectors[e], at) for e in vectors.emotions for at in chosen]
        natural, relative = np.array(pairs).mean(0).tolist()
        units[dose.value] = (natural, relative)
    table = dose_table(texts, units, thresholds, judge.groups)
    layer = chosen[0] if len(chosen) == 1 else "all" if len(chosen) == vectors.n_layers else str(list(chosen))
    regimes = table.set_index(["condition", "dose"])["regime"].to_dict()
    kept = texts[texts.condition != "null"].reset_index(drop=True)
    kept["regime"] = [regimes.get(of, "") for of in zip(kept.condition, kept.dose, strict=True)]  # "other" has none
    plain = kept.drop(columns=score_columns(kept))
    return DoseResponse(
        table=table,
        texts=plain[plain.condition != "other"].reset_index(drop=True),
        others=plain[plain.condition == "other"].reset_index(drop=True),
        unsteered=unsteered.drop(columns=score_columns(unsteered)),
        scores=_scores(kept, unsteered),
        layer=layer,
        judge=str(judge),
        judge_accuracy=judge.accuracy,
        judge_independent=judge.independent,
        thresholds=thresholds,
        n_emotions=len({s.emotion for s in scenarios}),
        groups=dict(judge.groups or {}),
    )


def _judged(
    model: Model, written: Sequence[Continuation], scenarios: Sequence[Scenario], plan: pd.DataFrame, judge: Judge
) -> tuple[pd.DataFrame, pd.DataFrame, Thresholds]:
    """Measures of the steered texts and of the unsteered ones, and the thresholds that the latter give.

    Texts of the condition "null" are judged, not scored.
    """
    n, ids = len(scenarios), [c.new_ids for c in written]
    unread = [False] * n + (plan["condition"] == "null").tolist()
    read = [() if skip else i for i, skip in zip(ids, unread, strict=True)]
    scored, (distinct, loops) = likelihood(model, [c.prompt_ids for c in written], read), repetition(ids)
    broken = np.array([c.broken for c in written])
    nll = np.where(broken, np.inf, scored.nll)  # whatever was written before: no longer the model's text
    frame = pd.DataFrame({"text": [c.text for c in written], "nll": nll, "entropy": scored.entropy, "broken": broken})
    frame["distinct_2"], frame["loop_share"] = distinct, loops
    before = [*range(n), *plan["scenario"]]  # the place of each text's unsteered one
    frame["edit_distance"] = [edit_distance(mine, ids[place]) for mine, place in zip(ids, before, strict=True)]
    scores = judge.score([c.text for c in written])
    frame["top_emotion"] = decided(scores, judge.emotions)
    measured = pd.concat([frame, pd.DataFrame(scores, columns=[f"score_{e}" for e in judge.emotions])], axis=1)
    unsteered = measured.iloc[:n].assign(prompt=[s.opening for s in scenarios])
    texts = pd.concat([plan, measured.iloc[n:].reset_index(drop=True)], axis=1)
    thresholds = thresholds_of(unsteered)
    texts = with_targets(texts, unsteered, scenarios, judge, thresholds)
    return texts, unsteered, thresholds


def _check(vectors: EmotionVectors, scenarios: Sequence[Scenario], judge: Judge, doses: Sequence[float]) -> None:
    if not doses or not scenarios:
        raise DoseError("nothing to steer: give at least one dose and one scenario")
    wanted = {s.emotion for s in scenarios}
    for what, known in (("vector", vectors.emotions), (f"judge ({judge.name})", judge.emotions)):
        if missing := sorted(wanted - set(known)):
            raise DoseError(f"no {what} for {', '.join(missing)}; choose scenarios of: {', '.join(known)}")


def _plan(
    vectors: EmotionVectors,
    scenarios: Sequence[Scenario],
    doses: Sequence[float],
    unit: str,
    seed: int,
    other_emotion: bool,
) -> tuple[pd.DataFrame, list[Condition]]:
    """Every scenario under every condition at every dose; directions of the controls differ between scenarios.

    "null" sets the success threshold, "random" is the reported control.
    """
    rows, conditions = [], []
    for i, scenario in enumerate(scenarios):
        like = scenario.emotion
        choices = {
            "emotion": vectors[like],
            "random": vectors.random(seed * 10_007 + 2 * i, like=like),
            "null": vectors.random(seed * 10_007 + 2 * i + 1, like=like),
        }
        if other_emotion and len(vectors) > 1:
            choices["other"] = vectors.other(seed * 10_007 + i, like=like)
        for dose in doses:
            for condition, vector in choices.items():
                rows.append({"condition": condition, "dose": float(dose), "scenario": i, "steered": vector.name})
                conditions.append(Condition(scenario.opening, vector, Dose(dose, unit), i))
    return pd.DataFrame(rows), conditions


def _scores(texts: pd.DataFrame, unsteered: pd.DataFrame) -> pd.DataFrame:
    names = score_columns(texts)
    before = unsteered.assign(condition="unsteered", dose=0.0, scenario=range(len(unsteered)))
    frame = pd.concat([before, texts])[["condition", "dose", "scenario", *names]].round(SCORE_DIGITS)
    return frame.rename(columns=lambda c: c.removeprefix("score_")).reset_index(drop=True)


# The other protocol: the vectors of one layer, at all layers.


@dataclass(frozen=True, eq=False, repr=False)
class Everywhere(EmotionVectors):
    """Vectors of one layer that stand at every layer; so do the random directions drawn beside them."""

    def random(self, seed: int = 0, like: str | None = None) -> EmotionVector:
        """One direction, at every layer."""
        drawn = super().random(seed, like)
        return replace(drawn, direction=drawn.direction[:1].repeat(self.n_layers, 1))


def everywhere(
    model: Model, vectors: EmotionVectors, openings: Sequence[str], layer: int | str | None = None
) -> EmotionVectors:
    """One layer's vectors at all layers, in the unit of dose of the public code beside arXiv 2604.04064: multiples of
    the mean norm over all positions of an opening, its first token too, whose norm is many times that of the others.

    For `dose_response(..., unit="relative", layers="all")`. That code measures the norm anew at every step, so that its
    push fades as the text grows; here it stays that of the openings.

    Args:
        layer: where the vectors come from; None for two thirds of the depth, as there.
        model: TransformerBridge or HookedTransformer.
        vectors: of this model.
        openings: over which the norm is averaged.

    Raises:
        LayerError: no such layer. DoseError: no opening.

    Example:
        >>> le.everywhere(model, vectors, ["The door opened and"]).directions.shape
        torch.Size([20, 6, 64])
    """
    if not openings:
        raise DoseError("nothing to steer: give at least one opening")
    n = vectors.n_layers
    (at,) = resolve_layers(2 * n // 3 if layer is None else layer, n)
    sizes: list[Tensor] = []
    seen: list[Tensor] = []
    with body(model, seen.append) as run:
        for opening in dict.fromkeys(openings):
            tokens = torch.tensor([encode(model, opening)])
            run(tokens, torch.ones_like(tokens, dtype=torch.bool))
            sizes.append(torch.stack([states[0].float().norm(dim=-1).mean().cpu() for states in seen]))
            seen.clear()
    here = slice(at, at + 1)
    return Everywhere(
        directions=vectors.directions[:, here].repeat(1, n, 1),
        emotions=vectors.emotions,
        norms=vectors.norms[:, here].repeat(1, n),
        natural=vectors.natural[:, here].repeat(1, n),
        residual_norm=torch.stack(sizes).mean(0),
        header=vectors.header,
    )
