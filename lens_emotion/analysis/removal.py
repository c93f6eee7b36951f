"""Is emotion more than what all texts vary by? What is left of it without the main directions of neutral text.

A model's states vary along a few directions, whatever the text says. If emotion were no more than that, it would lie in
these directions as much as the differences between neutral texts do. So the main components of neutral texts are
projected out, at several shares of their variance, and what is left is compared: of the emotions' displacements (from
products of different topics, so that noise has no part in it), of neutral texts that had no say in the components, and
of held-out accuracy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.stats import t as student
from torch import Tensor

from lens_emotion.analysis.decoding import CENTRED, decoding, permuted
from lens_emotion.analysis.matched import topic_accuracy
from lens_emotion.display import Result
from lens_emotion.errors import StimulusError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.models.layers import place
from lens_emotion.pictures import Line
from lens_emotion.stats.decide import Estimate
from lens_emotion.stats.design import Design, grams
from lens_emotion.stats.gram import Labellings, accuracies, fold_gram, moments, over_blocks
from lens_emotion.stats.tests import null_columns
from lens_emotion.vectors.recipes import neutral_components

SHARES = (0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
MOST = 0.9  # share from which on what is left decides; long texts vary along their lesser directions clearly, too
LEAST_NEUTRAL = 12  # texts; from 6 emotion that lay wholly inside their directions came out as more in 8% of the worlds
FOLDS = 12


@dataclass(frozen=True, eq=False, repr=False)
class Removal(Result):
    """What is left of emotion, and of neutral text, without the main components of neutral text, at one layer.

    Attributes:
        table: one row per share of variance removed: share, components, emotion (share of the emotions' squared
            displacement that is left), neutral (the same of held-out neutral texts), more (emotion less neutral) with
            low and high (95%), accuracy, null_high (97.5% of the label permutations) and p.
        layer, n_layers: where. n_neutral: neutral texts. before: accuracy with everything; chance.
        before_p: p-value of the accuracy with everything, at this layer.
        after: accuracy less chance at nine tenths, with its interval.
        decoder: "centred cosine"; or "standardised", where every dimension is first brought to SD 1.
        standardised: the same, standardised; None in that one itself, or where it was not asked for.
    """

    _picture = Line("share", "accuracy")

    table: pd.DataFrame
    layer: int
    n_layers: int
    n_neutral: int
    before: float
    chance: float
    before_p: float
    after: Estimate
    decoder: str = CENTRED
    standardised: Removal | None = None

    def row(self, share: float) -> pd.Series:
        return self.table[np.isclose(self.table["share"], share)].iloc[0]

    @property
    def least(self) -> pd.Series:
        """Of the shares from nine tenths on, that at which the lead of emotion over neutral text is least sure."""
        last = self.table[self.table["share"] >= MOST]
        return last.iloc[int(last["low"].to_numpy().argmin())]

    def summary(self) -> str:
        """What is left at half of the neutral variance, and at nine tenths."""
        half, most = self.row(0.5), self.row(MOST)
        where, more = place(self.layer, self.n_layers), f"{half.more:+.2f} [{half.low:+.2f}, {half.high:+.2f}]"
        return (
            f"Without the components that explain half of {self.n_neutral} neutral texts, {half.emotion:.0%} of the "
            f"emotions' displacement is left at {where} and {half.neutral:.0%} of what other neutral texts differ by "
            f"(difference {more}); accuracy goes from {self.before:.2f} to {half.accuracy:.2f}, and to "
            f"{most.accuracy:.2f} at {most['share']:.0%} (chance {self.chance:.2f})."
        )


def removal(
    acts: PooledActivations,
    neutral: PooledActivations | None = None,
    layer: int | None = None,
    n_permutations: int = 200,
    seed: int = 0,
    decoder: str = CENTRED,
) -> Removal:
    """Project the main components of neutral text out of one layer, share by share.

    A few massive dimensions are most of the variance of any text, so that removing their components says nothing about
    the others: with decoder="standardised" every dimension is brought to SD 1 over the emotional texts before all else.
    Texts count by their directions from the median text, not by their lengths.

    Args:
        neutral: more neutral texts of the same model and pooling, beside those of `acts`.
        layer: default the one that decodes best.

    Raises:
        StimulusError: fewer than 12 neutral texts, or texts that cannot be decoded.
    """
    at = decoding(acts, 1, seed).best_layer if layer is None else layer
    rows = acts.emotional.values[:, at].cpu().double()
    plain = torch.cat([x.neutral.values[:, at].cpu().double() for x in (acts, neutral) if x is not None])
    if len(plain) < LEAST_NEUTRAL:
        raise StimulusError(f"{len(plain)} neutral texts; give {LEAST_NEUTRAL} at least, best 40 or more")
    if decoder != CENTRED:
        centre, unit = moments(rows)
        rows, plain = (rows - centre) / unit, (plain - centre) / unit
    rows, plain = _directions(rows), _directions(plain)
    emotional = replace(acts.emotional, values=rows[:, None].float(), residual_norm=acts.residual_norm[at : at + 1])
    topics, null = _topic_displacements(emotional), permuted(emotional, n_permutations, seed)
    found = []
    for share in SHARES:
        basis = neutral_components(plain[:, None], share)[0]
        left = _without(rows, basis)
        if share == MOST:
            last = left
        mine, theirs = _left(topics, basis), _left_of_neutral(plain, share)
        more, half = mine[0] - theirs[0], _half(mine[1], theirs[1], len(topics), len(plain))
        ends = {"low": more - half, "high": more + half}
        found.append(
            {"share": share, "components": len(basis), "emotion": mine[0], "neutral": theirs[0], "more": more, **ends}
            | _judged(left, *null)
        )
    whole, after = _judged(rows, *null), topic_accuracy(replace(emotional, values=last[:, None].float()), seed)
    n, before, p = len(plain), whole["accuracy"], whole["p"]
    return Removal(pd.DataFrame(found), at, acts.n_layers, n, before, after.chance, p, after.above, decoder)


def _judged(rows: Float[Tensor, "n d"], design: Design, blocks: list[Labellings]) -> dict[str, float]:
    """Held-out accuracy and its null, as `decoding` has them, by the centred cosine alone."""
    folded = fold_gram(design, next(grams(rows[:, None].float())))
    found = over_blocks(partial(accuracies, folded), blocks)[:, None]
    null = null_columns(found[0], found[1:])
    return {"accuracy": float(found[0, 0]), "null_high": float(null["null_high"][0]), "p": float(null["p"][0])}


def _directions(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Of each text from the median of all, so that a few texts that lie far out are not the components by themselves
    (spherical components; Locantore et al. 1999)."""
    apart = rows - rows.median(0).values
    return apart / apart.norm(dim=1, keepdim=True).clamp_min(torch.finfo(apart.dtype).tiny)


def _without(rows: Float[Tensor, "n d"], basis: Float[Tensor, "k d"]) -> Float[Tensor, "n d"]:
    return rows - (rows @ basis.T) @ basis


def _topic_displacements(acts: PooledActivations) -> Float[Tensor, "topics emotions d"]:
    """On every topic, each emotion's mean state less the mean of the emotions that the topic has; 0 where it is not."""
    values = acts.values[:, 0].cpu().double()
    out = torch.zeros(len(acts.topics), len(acts.emotions), values.shape[1], dtype=torch.double)
    for t, topic in enumerate(acts.topics):
        cells = {e: (acts.topic == topic) & (acts.emotion == emotion) for e, emotion in enumerate(acts.emotions)}
        there = [e for e, mask in cells.items() if mask.any()]
        means = torch.stack([values[torch.from_numpy(np.flatnonzero(cells[e]))].mean(0) for e in there])
        out[t, there] = means - means.mean(0)
    return out


def _left(topics: Float[Tensor, "t e d"], basis: Float[Tensor, "k d"]) -> tuple[float, float]:
    """Share of the squared displacement that lies outside the components, over pairs of different topics, and its
    jackknife error over topics."""
    inside = topics @ basis.T

    def pairs(rows: Tensor) -> tuple[Tensor, Tensor]:
        """Sum over pairs of different topics: of all, and without each topic."""
        total, own = rows.sum(0), (rows**2).sum((1, 2))
        cross = (rows * total).sum((1, 2))
        return (total**2).sum() - own.sum(), (total**2).sum() - 2 * cross + 2 * own - own.sum()

    (whole, whole_left), (within, within_left) = pairs(topics), pairs(inside)
    left = (1 - within_left / whole_left).numpy()
    n = len(left)
    return float(1 - within / whole), float(np.sqrt((n - 1) / n * ((left - left.mean()) ** 2).sum()))


def _left_of_neutral(plain: Float[Tensor, "m d"], share: float) -> tuple[float, float]:
    """The same of neutral texts that had no say in the components (12 folds), and its error over texts."""
    fold = np.arange(len(plain)) % min(FOLDS, len(plain))
    outside, whole = np.zeros(len(plain)), np.zeros(len(plain))
    for f in range(int(fold.max()) + 1):
        train, held = (torch.from_numpy(np.flatnonzero(x)) for x in (fold != f, fold == f))
        rows = plain[held] - plain[train].mean(0)
        basis = neutral_components(plain[train][:, None], share)[0]
        outside[fold == f], whole[fold == f] = (_without(rows, basis) ** 2).sum(1), (rows**2).sum(1)
    ratio = float(outside.sum() / whole.sum())
    scatter = (outside - ratio * whole) / whole.mean()
    return ratio, float(scatter.std(ddof=1) / np.sqrt(len(plain)))


def _half(a: float, b: float, n: int, m: int) -> float:
    """Half of the 95% interval of a difference of two means (Welch and Satterthwaite)."""
    total = a**2 + b**2
    freedom = total**2 / max(a**4 / (n - 1) + b**4 / (m - 1), 1e-300)
    return float(student.ppf(0.975, max(freedom, 1)) * np.sqrt(total))
