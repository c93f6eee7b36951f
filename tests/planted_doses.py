"""Steering experiments whose truth is planted number by number: what each text scores, and at which doses text breaks.

Target scores under random directions are +1 and -1 in turn over doses and openings, so that their SD within emotions
can be said in one line (`spread`); the emotion's vector and another one's add what is planted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from lens_emotion.steering.dose_result import DoseResponse
from lens_emotion.steering.judges import Judge
from lens_emotion.steering.outcomes import dose_table, with_targets
from lens_emotion.steering.regimes import COLLAPSE, EXPLOSIVE, INERT, SURGICAL, Thresholds
from lens_emotion.stimuli.emotions import EMOTIONS
from lens_emotion.stimuli.prompts import Scenario

WHOLE = 2  # of the doses below: text loops at 4 and explodes at 8
LIMITS = Thresholds(explosive_ratio=4.0, loop_share=0.4, distinct_2=0.5)
DOSES = (1.0, 2.0, 4.0, 8.0)
IN_ORDER = (INERT, SURGICAL, COLLAPSE, EXPLOSIVE)
Gain = Callable[[int, int, float], float]  # of the emotion's number, the opening's, and the dose


def steady(size: float, sd: float = 0.3) -> Gain:
    """The same gain at every dose; emotions differ by +sd and -sd in turn."""
    return lambda emotion, opening, dose: size + sd * (-1) ** emotion


def spread(n_emotions: int, n: int) -> float:
    """SD within emotions of n scores that are +1 and -1 in turn, each emotion's mean being estimated."""
    return float(np.sqrt(n / (n - n_emotions)))


def nothing(emotion: int, opening: int, dose: float) -> float:
    return 0.0


def experiment(
    own: Gain = nothing,
    other: Gain | None = nothing,
    *,
    doses: Sequence[float] = DOSES,
    n_emotions: int = 8,
    openings: int = 2,
    loops: Sequence[float] = (4.0,),
    breaks: Sequence[float] = (8.0,),
    regimes: Sequence[str] | None = None,
    judge: float | None = 0.6,
    independent: bool = True,
    groups: Mapping[str, str] | None = None,
) -> DoseResponse:
    """The experiment as the package would have measured it.

    Args:
        loops, breaks: doses at which every steered text loops, or is no longer the model's. regimes: what the table
            calls the doses, in their place where given. judge: its accuracy. openings: per emotion.
    """
    emotions = EMOTIONS[:n_emotions]
    scenarios = [Scenario(f"{e}-{k}", e, f"Opening {k} of {e}") for e in emotions for k in range(openings)]

    def frame(condition: str, dose: float, gain: Gain) -> pd.DataFrame:
        rows = []
        for i, scenario in enumerate(scenarios):
            k, opening = divmod(i, openings)
            sign = (-1) ** (opening + list(doses).index(dose)) if dose else 0
            scores = dict.fromkeys((f"score_{e}" for e in emotions), 0.0)
            scores[f"score_{scenario.emotion}"] = sign + gain(k, opening, dose)
            if condition == "null":  # the bar of success
                scores = dict.fromkeys(scores, 1.5)
            rows.append(
                {"condition": condition, "dose": dose, "scenario": i, "text": f"{condition} {dose} {i}"} | scores
            )
        loop, broken = dose in loops, dose in breaks
        return pd.DataFrame(rows).assign(
            nll=1.0 + np.log(50.0) * broken, entropy=1.0, broken=False, distinct_2=0.1 if loop else 0.9,
            loop_share=0.9 if loop else 0.0, edit_distance=0.5, top_emotion=emotions[0],
        )  # fmt: skip

    unsteered = frame("unsteered", 0.0, nothing).assign(prompt=[s.opening for s in scenarios])
    gains = {"emotion": own, "random": nothing, "null": nothing} | ({"other": other} if other else {})
    texts = pd.concat([frame(c, float(d), gain) for d in doses for c, gain in gains.items()], ignore_index=True)
    scorer = Judge("planted", emotions, lambda t: np.zeros((len(t), len(emotions))), accuracy=judge)
    texts = with_targets(texts, unsteered, scenarios, scorer, LIMITS)
    table = dose_table(texts, {d: (d, d / 10) for d in map(float, doses)}, LIMITS, groups)
    if regimes is not None:
        emotion = (table.condition == "emotion").to_numpy()
        table.loc[emotion, "regime"] = list(regimes)
    kept = texts[texts.condition != "null"]
    scores = kept[["condition", "dose", "scenario", *(f"score_{e}" for e in emotions)]]
    return DoseResponse(
        table=table,
        texts=kept[kept.condition != "other"].reset_index(drop=True),
        others=kept[kept.condition == "other"].reset_index(drop=True),
        unsteered=unsteered,
        scores=scores.rename(columns=lambda c: c.removeprefix("score_")).reset_index(drop=True),
        layer=2,
        judge="planted",
        judge_accuracy=judge,
        judge_independent=independent,
        thresholds=LIMITS,
        n_emotions=n_emotions,
        groups=dict(groups or {}),
    )
