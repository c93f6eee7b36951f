"""Did steering bring out its emotion? Paired scores of the judge, emotion by emotion, at a dose chosen elsewhere.

A text's score for its target is compared with that of the texts of the same opening under a random direction, and under
the vector of another emotion, of equal length: the difference is this emotion's doing. Openings of one emotion are not
independent, so that the emotions are the units. The dose of each opening is chosen on the other openings. Only whole
texts are compared, on either side: a judge's score of a broken text says nothing of steering.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lens_emotion.display import Result
from lens_emotion.errors import AnalysisError
from lens_emotion.pictures import Dots
from lens_emotion.stats.decide import EXCLUDED, Estimate, estimate
from lens_emotion.steering.regimes import COLLAPSE, EXPLOSIVE

CONTROLS = {"random": "random directions", "other": "another emotion's vector"}
BROKEN = (COLLAPSE, EXPLOSIVE)
WHOLE = 0.5  # of the openings, that must be whole under every condition at a dose that is compared
EVEN = 0.7  # SD of the middle emotion beside the pooled one, below which a few emotions make the unit
LEAST = 3  # emotions with whole texts; fewer have no interval
FLOOR = 0.3  # of the standard error: a judge that counts words gives most emotions one and the same gain
GAP = 3.0  # ratio of the first broken dose to the last whole one, from which what steers may lie between them
ABLE = 0.2  # of the way from chance to perfect, from which a judge can be believed (Landis and Koch 1977: "fair")


@dataclass(frozen=True, eq=False, repr=False)
class PairedOutcome(Result):
    """Gain of the target's score under its vector, in SDs of the scores under random directions.

    Attributes:
        table: one row per emotion that has whole texts: n (openings), dose (mean of those chosen), gain over "random"
            and over "other" (NaN if it was not run).
        random, other: the mean gain over each control with its interval over emotions; None if it was not run.
        doses: the dose that each half of the openings was tested at, None where every dose broke the text.
        at: the mean gain over each control at every dose that leaves the text whole, all openings together.
        typical: SD of the middle emotion's scores as a share of the unit; 1 unless a few emotions scatter far more
            than the others. spans: True if the doses run from whole to broken texts, without a gap in which steering
            could hide.
    """

    _picture = Dots(("emotion",), "random")

    table: pd.DataFrame
    random: Estimate | None
    other: Estimate | None
    doses: tuple[float | None, ...]
    at: Mapping[str, Mapping[float, Estimate]]
    typical: float
    spans: bool

    @property
    def over(self) -> dict[str, Estimate]:
        """Control -> the mean gain over it, of those that were run."""
        return {c: e for c, e in zip(CONTROLS, (self.random, self.other), strict=True) if e is not None}

    def excludes(self, control: str, smallest: float) -> bool:
        """Whether the gain over a control lies below `smallest`, at the doses chosen and at every other: the openings
        that chose may have wanted another dose than those that were tested."""
        return all(e.says(smallest) == EXCLUDED for e in self._everywhere(control))

    def p_below(self, control: str, limit: float) -> float:
        """One-sided p-value of "the gain over a control reaches `limit`", at the doses chosen or at another."""
        return max(e.p_below(limit) for e in self._everywhere(control))

    def _everywhere(self, control: str) -> list[Estimate]:
        return [self.over[control], *self.at[control].values()]

    def summary(self) -> str:
        """The gain over each control with its interval."""
        said = [f"{e.value:+.2f} [{e.low:+.2f}, {e.high:+.2f}] over {CONTROLS[c]}" for c, e in self.over.items()]
        if not said:
            return "every dose breaks the text, so that nothing can be compared"
        doses = " and ".join("none" if d is None else f"{d:g}" for d in dict.fromkeys(self.doses))
        return (
            f"the target's score gains {', '.join(said)}, in SDs under random directions, mean over {len(self.table)} "
            f"emotions (dose {doses}, chosen on other openings)"
        )


def paired_outcome(texts: pd.DataFrame, others: pd.DataFrame) -> PairedOutcome:
    """Paired gains at cross-fitted doses.

    Args:
        texts: of the conditions "emotion" and "random" (`DoseResponse.texts`). others: of the control "other".

    Raises:
        AnalysisError: fewer than two openings per emotion, or fewer than three emotions.
    """
    if (n := texts["emotion"].nunique()) < LEAST:
        raise AnalysisError(f"an interval needs at least {LEAST} emotions; got {n}")
    half = texts["opening"].to_numpy() % 2
    if len(set(half)) < 2:
        raise AnalysisError("cross-fitting needs two openings per emotion; give two scenarios of each")
    wide, typical = _wide(pd.concat([texts, others]) if len(others) else texts)
    sound = wide.groupby("dose")["whole"].mean() >= WHOLE  # by dose, in rising order
    wide, doses, rows = wide[wide["whole"]], [], []
    for tested in (0, 1):
        dose = _chosen(wide[wide["half"] != tested], [float(str(d)) for d, fit in sound.items() if fit])
        doses.append(dose)
        if dose is not None:
            rows.append(wide[(wide["half"] == tested) & (wide["dose"] == dose)])
    table = _by_emotion(pd.concat(rows)) if rows else pd.DataFrame()
    found = {c: _over_emotions(table, c) for c in CONTROLS}
    by_dose = {float(str(d)): _by_emotion(rows) for d, rows in wide.groupby("dose") if sound[d]}
    at = {c: {d: e for d, t in by_dose.items() if (e := _over_emotions(t, c)) is not None} for c in CONTROLS}
    return PairedOutcome(table, found["random"], found["other"], tuple(doses), at, typical, _spans(sound, texts))


def _by_emotion(rows: pd.DataFrame) -> pd.DataFrame:
    columns = {"n": ("dose", "size"), "dose": ("dose", "mean"), **{c: (c, "mean") for c in CONTROLS}}
    return rows.groupby("emotion", sort=False).agg(**columns).reset_index()


def _spans(sound: pd.Series, texts: pd.DataFrame) -> bool:
    """Whether a dose that was compared is followed by one, not far above, that breaks the emotion's own texts: what
    steers in between would have been seen."""
    own = texts[texts["condition"] == "emotion"]
    share = own["text_regime"].isin(BROKEN).groupby(own["dose"]).mean()
    broken = [float(str(d)) for d, much in share.items() if much > 1 - WHOLE]
    return any(fit and any(float(str(d)) < b <= GAP * float(str(d)) for b in broken) for d, fit in sound.items())


def _wide(texts: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """One row per scenario and dose: emotion, half, whether the text is whole under every condition, gain over each
    control in SDs of the random scores of an emotion; and how typical that unit is.

    The SD is pooled within emotions, over openings and doses with whole texts: with two openings a dose has none.
    """
    texts = texts.assign(whole=~texts["text_regime"].isin(BROKEN))
    random = texts[(texts["condition"] == "random") & texts["whole"]]
    pooled, typical = _spread(random)
    spread = pooled or 1.0
    whole = texts.groupby(["scenario", "dose"])["whole"].all()
    scores = texts.pivot_table(index=["scenario", "dose"], columns="condition", values="target_score")
    facts = texts.drop_duplicates("scenario").set_index("scenario")[["emotion", "opening"]]
    wide = scores.assign(whole=whole).reset_index().join(facts.rename(columns={"emotion": "of"}), on="scenario")
    gains = {c: (wide["emotion"] - wide[c]) / spread if c in wide else np.nan for c in CONTROLS}
    return (wide[["scenario", "dose", "whole"]].assign(**gains, emotion=wide["of"], half=wide["opening"] % 2), typical)


def _spread(random: pd.DataFrame) -> tuple[float, float]:
    """SD of the scores within emotions, pooled; and that of the middle emotion beside it, where it is far smaller."""
    within = random.groupby("emotion")["target_score"].agg(["var", "size"]).dropna()
    free = within["size"] - 1
    pooled = float(np.sqrt((within["var"] * free).sum() / max(free.sum(), 1)))
    middle = float(np.sqrt(within["var"].median())) if len(within) else 0.0
    if not pooled:  # the control never moves, which makes no unit: no gain is too small to matter
        return pooled, 0.0
    return pooled, middle / pooled if middle < EVEN * pooled else 1.0


def _chosen(wide: pd.DataFrame, sound: list[float]) -> float | None:
    """The dose of the largest mean gain over random directions, among those that leave the text whole."""
    gains = wide[wide["dose"].isin(sound)].groupby("dose")["random"].mean()
    return float(str(gains.idxmax())) if len(gains) else None


def _over_emotions(table: pd.DataFrame, control: str) -> Estimate | None:
    if len(table) < LEAST or table[control].isna().any():
        return None
    return estimate(table[control].to_numpy(), "emotions", floor=FLOOR)


def able(
    accuracy: float | None, emotions: tuple[str, ...] | list[str], groups: Mapping[str, str]
) -> tuple[bool, float]:
    """Whether a judge can tell emotions apart, and its own chance: that of naming its largest group every time."""
    label = [groups.get(e, e) for e in emotions]
    chance = max(label.count(x) for x in set(label)) / len(label)
    return accuracy is not None and accuracy >= chance + ABLE * (1 - chance), chance
