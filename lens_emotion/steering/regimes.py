"""Regimes of steering: inert, surgical, repetitive collapse or explosive (arXiv 2604.04064, claim C6).

Two questions, asked in this order:

1. Is the text still one the model would write? If its surprise, exp(NLL - entropy), is above the ceiling it is
   **explosive**, looping or not: a word said forty times that the model never saw repeated is as unlikely as any word
   salad. If it is below the ceiling but loops, it has **collapsed**: a loop that the model finds likely, which a
   ceiling alone would bless.
2. If it is, did the steering do anything? **Surgical** with an effect beyond the random control, else **inert**.

`looping` is a flag of its own, so that an explosive condition that also loops can be told from one that does not.
Thresholds come from the unsteered texts of the same model (the paper's own are not public). Whole conditions are
labelled from their means; every text gets a label too, and conditions carry the shares of their texts' labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from lens_emotion.errors import AnalysisError
from lens_emotion.stats.tests import wilson_interval

BELOW, ABOVE = "before the first dose", "not up to the last dose"

INERT, SURGICAL, COLLAPSE, EXPLOSIVE = "inert", "surgical", "repetitive collapse", "explosive"
REGIMES = (INERT, SURGICAL, COLLAPSE, EXPLOSIVE)
SHARES = {INERT: "share_inert", SURGICAL: "share_surgical", COLLAPSE: "share_collapse", EXPLOSIVE: "share_explosive"}


@dataclass(frozen=True)
class Thresholds:
    """Where regimes begin.

    Attributes:
        explosive_ratio: surprise (perplexity over the expected one, see `measures.surprise`) above which text is no
            longer the model's.
        loop_share: mean share of its texts that is one loop, above which a condition loops.
        distinct_2: mean share of distinct token pairs below which it loops.
        min_gain: rise in the judge's success rate over the random control that counts as an effect.
        alpha: level of the paired test of that rise (McNemar), where its p-value is known.
        text_loop_share, text_distinct_2: the same two for a single text, whose values scatter more; None: the same.
    """

    explosive_ratio: float
    loop_share: float
    distinct_2: float
    min_gain: float = 0.1
    alpha: float = 0.05
    text_loop_share: float | None = None
    text_distinct_2: float | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is None and name.startswith("text_"):
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
                raise AnalysisError(f"the threshold {name} is {value!r:.40}; give a finite number of at least 0")
        if not 0 < self.alpha < 1 or self.explosive_ratio <= 0:
            raise AnalysisError(
                f"alpha {self.alpha} lies between 0 and 1, explosive_ratio {self.explosive_ratio} above 0"
            )


def thresholds_from(
    excess: Float[np.ndarray, " n"], distinct_2: Float[np.ndarray, " n"], loop_share: Float[np.ndarray, " n"]
) -> Thresholds:
    """Thresholds from unsteered texts of the same model on the same prompts, sampled alike.

    explosive: what the model samples at temperature 1 has an excess of 0 on average, by definition; greedy and sharper
    texts lie below, hotter ones above, where their own mean counts. From there three standard deviations of the
    unsteered texts' excess, but a factor of at least 3 (a model that writes very evenly would otherwise explode at
    once) and at most 10 (one that writes unevenly would never).
    looping: mean loop share 0.25 above the unsteered mean, or mean distinct-2 below 0.7 of it: the bar is relative,
    since greedy texts of small models loop on their own. A single text must also be beyond 95% of the unsteered texts.

    Args:
        excess: NLL less entropy of each text, in nats (see `measures.excess`); texts without tokens (nan) do not count.
    """
    known = excess[np.isfinite(excess)]
    spread = float(known.std(ddof=1)) if len(known) > 1 else 0.0
    centre = max(0.0, float(known.mean())) if len(known) else 0.0
    loops, distinct = float(loop_share.mean() + 0.25), float(0.7 * distinct_2.mean())
    return Thresholds(
        explosive_ratio=float(np.exp(centre) * np.clip(np.exp(3 * spread), 3.0, 10.0)),
        loop_share=loops,
        distinct_2=distinct,
        text_loop_share=max(loops, float(np.quantile(loop_share, 0.95))),
        text_distinct_2=min(distinct, float(np.quantile(distinct_2, 0.05))),
    )


def looping(distinct_2: float, loop_share: float, thresholds: Thresholds) -> bool:
    """Whether a condition repeats itself more than the model does on its own."""
    return loop_share > thresholds.loop_share or distinct_2 < thresholds.distinct_2


def regime(
    surprise: float, distinct_2: float, loop_share: float, gain: float, thresholds: Thresholds, p: float | None = None
) -> str:
    """The regime of a condition from its means.

    Args:
        surprise: of the condition's texts.
        distinct_2, loop_share: means over the condition's texts.
        gain: success rate minus that of the random-direction control.
        p: of the paired test of that gain, if there is one: an effect must also be significant.
    """
    if surprise > thresholds.explosive_ratio:
        return EXPLOSIVE
    if looping(distinct_2, loop_share, thresholds):
        return COLLAPSE
    effect = gain >= thresholds.min_gain and (p is None or p <= thresholds.alpha)
    return SURGICAL if effect else INERT


def text_regimes(
    surprise: Float[np.ndarray, " n"],
    distinct_2: Float[np.ndarray, " n"],
    loop_share: Float[np.ndarray, " n"],
    success: Bool[np.ndarray, " n"],
    thresholds: Thresholds,
) -> list[str]:
    """The regime of every single text, by the same rules; its effect is whether it succeeds.

    Args:
        surprise: of each text; nan (nothing was written) counts as no damage, inf (the model's numbers overflowed) as
            explosive.
    """
    t = thresholds
    loop_above = t.loop_share if t.text_loop_share is None else t.text_loop_share
    distinct_below = t.distinct_2 if t.text_distinct_2 is None else t.text_distinct_2
    conditions = [surprise > t.explosive_ratio, (loop_share > loop_above) | (distinct_2 < distinct_below), success]
    return [str(name) for name in np.select(conditions, [EXPLOSIVE, COLLAPSE, SURGICAL], INERT)]


def regime_shares(labels: Sequence[str] | pd.Series) -> dict[str, float]:
    """Share of texts in each regime with its 95% Wilson interval: share_inert, share_inert_low, ..._high, ..."""
    found = list(labels)
    out: dict[str, float] = {}
    for name, column in SHARES.items():
        k = found.count(name)
        low, high = wilson_interval(k, len(found))
        out |= {column: k / len(found), f"{column}_low": low, f"{column}_high": high}
    return out


def onset_dose(doses: Float[np.ndarray, " n"], ratio: Float[np.ndarray, " n"], threshold: float) -> tuple[float, str]:
    """The dose at which a ratio (the surprise) first passes a threshold, interpolated in log dose and log ratio.

    Args:
        doses: positive, ascending.

    Returns:
        (dose, ""), or (nan, why): the ratio is above it at the first dose already, or at none.
    """
    above = np.flatnonzero(ratio > threshold)
    if len(above) == 0:
        return float("nan"), ABOVE
    first = int(above[0])
    if first == 0:
        return float("nan"), BELOW
    low, high = np.log(ratio[first - 1 : first + 1])
    if not np.isfinite(low + high):  # texts that broke off, or none to interpolate from
        return float(doses[first]), ""
    step = (np.log(threshold) - low) / (high - low)
    start, end = np.log(doses[first - 1 : first + 1])
    return float(np.exp(start + step * (end - start))), ""
