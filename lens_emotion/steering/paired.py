"""Did steering bring out its emotion? Paired scores of the judge, emotion by emotion, at a dose chosen elsewhere.

A text's score for its target is compared with that of the texts of the same opening under a random direction, and under
the vector of another emotion, of equal length: the difference is this emotion's doing. Openings of one emotion are not
independent, so that the emotions are the units. The dose of each opening is chosen on the other openings; what counts
as success is decided emotion by emotion, since a judge scores some emotions high whatever it reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lens_emotion.display import Result
from lens_emotion.errors import AnalysisError
from lens_emotion.stats.decide import Estimate, estimate
from lens_emotion.steering.measures import surprise
from lens_emotion.steering.regimes import Thresholds, looping

CONTROLS = ("random", "other")
ABLE = 0.2  # of the way from chance to perfect, from which a judge can be believed (Landis and Koch 1977: "fair")


@dataclass(frozen=True, eq=False, repr=False)
class PairedOutcome(Result):
    """Gain of the target's score under its vector, in SDs of the scores under random directions.

    Attributes:
        table: one row per emotion: n (openings), dose (mean of those chosen), gain over "random" and over "other" (NaN
            if it was not run).
        random, other: the mean gain over each control with its interval over emotions; None if it was not run.
        doses: the dose that each half of the openings was tested at, None where every dose broke the text.
        spans: True if the doses run from unbroken to broken texts.
    """

    table: pd.DataFrame
    random: Estimate | None
    other: Estimate | None
    doses: tuple[float | None, ...]
    spans: bool

    def summary(self) -> str:
        """The gain over each control with its interval."""
        said = [
            f"{found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}] over {control}"
            for control, found in (("random directions", self.random), ("another emotion's vector", self.other))
            if found is not None
        ]
        if not said:
            return "every dose breaks the text, so that nothing can be compared"
        doses = " and ".join("none" if d is None else f"{d:g}" for d in dict.fromkeys(self.doses))
        return (
            f"the target's score gains {', '.join(said)}, in SDs under random directions, mean over {len(self.table)} "
            f"emotions (dose {doses}, chosen on other openings)"
        )


def paired_outcome(texts: pd.DataFrame, others: pd.DataFrame, thresholds: Thresholds) -> PairedOutcome:
    """Paired gains at cross-fitted doses.

    Args:
        texts: of the conditions "emotion" and "random" (`DoseResponse.texts`). others: of the control "other".
        thresholds: where text is broken; a dose is chosen among those that leave it whole.

    Raises:
        AnalysisError: fewer than two openings per emotion, or fewer than three emotions.
    """
    half = texts["opening"].to_numpy() % 2
    if len(set(half)) < 2:
        raise AnalysisError("cross-fitting needs two openings per emotion; give two scenarios of each")
    wide = _wide(pd.concat([texts, others]) if len(others) else texts)
    whole = {dose: not _broken(texts, dose, thresholds) for dose in sorted(set(texts["dose"]))}
    doses, rows = [], []
    for tested in (0, 1):
        dose = _chosen(wide[wide["half"] != tested], [d for d, sound in whole.items() if sound])
        doses.append(dose)
        if dose is not None:
            rows.append(wide[(wide["half"] == tested) & (wide["dose"] == dose)])
    # damaged from some dose on, whole below it: between the two, whatever steering can do would have been seen
    spans = any(whole.values()) and not all(whole.values())
    columns = {"n": ("dose", "size"), "dose": ("dose", "mean"), **{c: (c, "mean") for c in CONTROLS}}
    table = pd.concat(rows).groupby("emotion", sort=False).agg(**columns).reset_index() if rows else pd.DataFrame()
    found = {c: _over_emotions(table, c) for c in CONTROLS}
    return PairedOutcome(table, found["random"], found["other"], tuple(doses), spans)


def _wide(texts: pd.DataFrame) -> pd.DataFrame:
    """One row per scenario and dose: emotion, half, gain over each control in SDs of the random scores of its emotion.

    The SD is pooled within emotions, over openings and doses: with two openings an emotion has none of its own.
    """
    random = texts[texts["condition"] == "random"]
    within = random["target_score"] - random.groupby("emotion")["target_score"].transform("mean")
    free = len(random) - random["emotion"].nunique()
    spread = float(np.sqrt((within**2).sum() / max(free, 1))) or 1.0
    scores = texts.pivot_table(index=["scenario", "dose"], columns="condition", values="target_score")
    facts = texts.drop_duplicates("scenario").set_index("scenario")[["emotion", "opening"]]
    wide = scores.reset_index().join(facts.rename(columns={"emotion": "of"}), on="scenario")
    gains = {c: (wide["emotion"] - wide[c]) / spread if c in wide else np.nan for c in CONTROLS}
    return wide[["scenario", "dose"]].assign(**gains, emotion=wide["of"], half=wide["opening"] % 2)


def _broken(texts: pd.DataFrame, dose: float, thresholds: Thresholds) -> bool:
    """Whether the emotion's texts at this dose are no longer the model's, or loop, in the mean over all openings."""
    at = texts[(texts["dose"] == dose) & (texts["condition"] == "emotion")]
    loops = looping(float(at["distinct_2"].mean()), float(at["loop_share"].mean()), thresholds)
    return surprise(at["nll"].to_numpy(), at["entropy"].to_numpy()) > thresholds.explosive_ratio or loops


def _chosen(wide: pd.DataFrame, sound: list[float]) -> float | None:
    """The dose of the largest mean gain over random directions, among those that leave the text whole."""
    gains = wide[wide["dose"].isin(sound)].groupby("dose")["random"].mean()
    return float(str(gains.idxmax())) if len(gains) else None


def _over_emotions(table: pd.DataFrame, control: str) -> Estimate | None:
    if table.empty or table[control].isna().any():
        return None
    return estimate(table[control].to_numpy(), "emotions")


def able(
    accuracy: float | None, emotions: tuple[str, ...] | list[str], groups: Mapping[str, str]
) -> tuple[bool, float]:
    """Whether a judge can tell emotions apart, and its own chance: that of naming its largest group every time."""
    label = [groups.get(e, e) for e in emotions]
    chance = max(label.count(x) for x in set(label)) / len(label)
    return accuracy is not None and accuracy >= chance + ABLE * (1 - chance), chance
