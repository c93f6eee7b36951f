"""The regime of a steering condition: inert, surgical, repetitive collapse or explosive (arXiv 2604.04064, claim C6).

Two-sided: a loop has LOW perplexity, so a ceiling on perplexity alone would bless it. Thresholds come from the
unsteered texts of the same model (the paper's own are not public); this first version labels a whole condition.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

INERT, SURGICAL, COLLAPSE, EXPLOSIVE = "inert", "surgical", "repetitive collapse", "explosive"
REGIMES = (INERT, SURGICAL, COLLAPSE, EXPLOSIVE)


@dataclass(frozen=True)
class Thresholds:
    """Where regimes begin.

    Attributes:
        explosive_ratio: perplexity ratio above which text is no longer the model's.
        loop_share: share of a text that is one loop, above which it has collapsed.
        distinct_2: share of distinct token pairs below which it has collapsed.
        min_gain: rise in the judge's success rate over the random control that counts as an effect.
    """

    explosive_ratio: float
    loop_share: float
    distinct_2: float
    min_gain: float = 0.1


def thresholds_from(
    nll: Float[np.ndarray, " n"],
    distinct_2: Float[np.ndarray, " n"],
    loop_share: Float[np.ndarray, " n"],
) -> Thresholds:
    """Thresholds from unsteered texts of the same model on the same prompts.

    explosive: three standard deviations of the unsteered per-text NLL, but a ratio of at least 3 and at most 10;
    collapse: mean loop share 0.25 above the unsteered mean, or mean distinct-2 below 0.7 of the unsteered mean.
    """
    spread = float(np.nanstd(nll, ddof=1)) if np.isfinite(nll).sum() > 1 else 0.0
    return Thresholds(
        explosive_ratio=float(np.clip(np.exp(3 * spread), 3.0, 10.0)),
        loop_share=float(loop_share.mean() + 0.25),
        distinct_2=float(0.7 * distinct_2.mean()),
    )


def regime(perplexity_ratio: float, distinct_2: float, loop_share: float, gain: float, thresholds: Thresholds) -> str:
    """The regime of a condition from its means.

    Args:
        perplexity_ratio: against the unsteered texts.
        distinct_2, loop_share: means over the condition's texts.
        gain: success rate minus that of the random-direction control.
    """
    if loop_share > thresholds.loop_share or distinct_2 < thresholds.distinct_2:
        return COLLAPSE
    if perplexity_ratio > thresholds.explosive_ratio:
        return EXPLOSIVE
    return SURGICAL if gain >= thresholds.min_gain else INERT
