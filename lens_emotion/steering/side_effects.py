"""SideEffects: what steering towards one emotion does to the scores of all others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from lens_emotion.display import Result, panel
from lens_emotion.pictures import Tiles
from lens_emotion.stats.tests import ALPHA, p_text, permutation_p

N_SWAPS = 999


@dataclass(frozen=True, eq=False, repr=False)
class SideEffects(Result):
    """Mean change in score against the random control, at one dose.

    Attributes:
        matrix: steered emotion x judged emotion; the diagonal is the effect asked for.
        table: the same, one row per pair: steered, judged, change, n (scenarios), target (whether on the diagonal).
        dose: in the unit of the experiment.
        target: mean of the diagonal. spill: mean absolute value off the diagonal.
        null_spill: 95th percentile of the spill when emotion and random texts are swapped at random per scenario.
        p_target, p_spill: permutation p-values of both, from the same swaps.
    """

    _picture = Tiles("steered", "judged", "change")

    matrix: pd.DataFrame
    table: pd.DataFrame
    dose: float
    target: float
    spill: float
    null_spill: float
    p_target: float
    p_spill: float

    def summary(self) -> str:
        off = self.table[~self.table.target]
        spill = f"side effects on other emotions average {self.spill:.3f} ({p_text(self.p_spill)})"
        if self.p_spill > ALPHA or off.empty:
            spill += ", not distinguishable from noise"
        else:
            worst = off.iloc[int(off.change.abs().argmax())]
            spill += f"; the largest: {worst.steered} on {worst.judged} {worst.change:+.3f} (n = {worst.n})"
        return (
            f"at dose {self.dose:g} the target's score rises by {self.target:.3f} over random directions "
            f"({p_text(self.p_target)}); {spill}"
        )

    def _repr_html_(self) -> str:
        return panel(self.summary(), self.matrix, index=True, what="steered × judged", figure=self._drawn())


def side_effects_of(
    scores: pd.DataFrame, emotions: pd.Series, dose: float, groups: Mapping[str, str] | None = None, seed: int = 0
) -> SideEffects:
    """The matrix of side effects from the scores of the emotion and random conditions.

    Args:
        scores: columns condition, dose, scenario, and one per judged emotion.
        emotions: target emotion, indexed by scenario.
        groups: label groups of the judge; emotions of the target's group are no side effect.
    """
    label = dict(groups or {})
    judged = [c for c in scores.columns if c not in ("condition", "dose", "scenario")]
    at = scores[np.isclose(scores.dose, dose)].set_index("scenario")
    pair = [at[at.condition == c][judged].loc[emotions.index] for c in ("emotion", "random")]
    difference = pair[0].to_numpy() - pair[1].to_numpy()
    steered = list(dict.fromkeys(emotions))
    member = np.array([[e == s for e in emotions] for s in steered], dtype=float)
    member /= member.sum(1, keepdims=True)
    on = np.array([[label.get(j, j) == label.get(s, s) for j in judged] for s in steered])
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(N_SWAPS, len(emotions)))
    null = np.stack([_two(member @ (difference * s[:, None]), on) for s in signs])
    observed = _two(member @ difference, on)
    p = permutation_p(observed, null)
    matrix = pd.DataFrame(member @ difference, index=pd.Index(steered, name="steered"), columns=judged)
    counts = emotions.value_counts().loc[steered]
    table = pd.DataFrame(
        {
            "steered": np.repeat(steered, len(judged)),
            "judged": np.tile(judged, len(steered)),
            "change": matrix.to_numpy().reshape(-1),
            "n": np.repeat(counts.to_numpy(), len(judged)),
            "target": on.reshape(-1),
        }
    )
    high = float(np.quantile(null[:, 1], 0.95))
    return SideEffects(matrix, table, dose, observed[0], observed[1], high, float(p[0]), float(p[1]))


def _two(matrix: Float[np.ndarray, "steered judged"], on: np.ndarray) -> Float[np.ndarray, " two"]:
    """(mean of the diagonal, mean absolute value off it)."""
    off = np.abs(matrix[~on])
    return np.array([matrix[on].mean() if on.any() else np.nan, off.mean() if off.size else np.nan])
