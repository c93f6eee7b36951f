"""Two readings made comparable before they are compared: the same emotions and topics, as many texts, as many tokens.

What more texts, more pooled tokens or other topics give one side is no merit of its method. Accuracy is compared topic
by topic, as the mean over layers; its interval knows that folds share their training texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lens_emotion.analysis.decoding import CENTRED
from lens_emotion.display import Result
from lens_emotion.errors import StimulusError
from lens_emotion.extraction.activations import PooledActivations, restricted
from lens_emotion.stats.decide import Estimate, estimate
from lens_emotion.stats.design import Design, design_of, grams, tied
from lens_emotion.stats.gram import TINY, fold_gram, fold_standardised, moments, observed_scores

ALIKE = 1.02  # ratio of pooled tokens up to which the longer set owes nothing to it: accuracy grows with their root
FAR = 1.25  # and from which two sets are not compared at all
LEAST = 3  # topics; fewer have no interval worth the name
MIN_HALF, SPLITS, HALF_LAYERS = 3, 8, 3  # topics a half, ways to halve them, layers that this is done at


@dataclass(frozen=True, eq=False, repr=False)
class TopicAccuracy(Result):
    """Held-out accuracy of one set by one decoder, topic by topic, mean over layers.

    Attributes:
        topics: names, sorted. units: accuracy on each, its emotions weighing alike. chance: 1 / n_emotions.
        above: accuracy less chance with its interval over topics. tokens: pooled per text, mean. n_texts: emotional.
        shared: texts tested over texts learnt from, in one fold. halves: accuracy within either half of the topics,
            for some ways to halve them, the same ones for sets of the same topics.
        tied: why copies leave nothing to test, "" if they do not. layers: accuracy at each.
    """

    topics: tuple[str, ...]
    units: Float[np.ndarray, " n"]
    chance: float
    above: Estimate
    shared: float
    halves: Float[np.ndarray, "splits 2"]
    tokens: float
    n_texts: int
    tied: str = ""
    layers: Float[np.ndarray, " n_layers"] = field(default_factory=lambda: np.zeros(0))

    @property
    def value(self) -> float:
        return float(self.units.mean())

    @property
    def decodable(self) -> bool:
        """Whether the whole interval lies above chance."""
        return self.above.low > 0 and not self.tied

    def summary(self) -> str:
        return f"accuracy {self.value:.2f} (chance {self.chance:.2f}), {self.n_texts} texts, {self.tokens:.0f} tokens"


def topic_accuracy(acts: PooledActivations, seed: int = 0, decoder: str = CENTRED) -> TopicAccuracy:
    """Held-out accuracy on every topic, by one of the two decoders of `decoding`.

    Raises:
        StimulusError: texts that cannot be decoded, or fewer than 3 topics.
    """
    design, texts = design_of(acts), acts.emotional
    topics, of, label = tuple(sorted(texts.topics)), texts.topic, design.label
    if len(topics) < LEAST:
        raise StimulusError(f"{len(topics)} topics have no interval; give texts of at least {LEAST}")
    found = _right(design, texts.values.detach().cpu(), decoder)
    right = found.mean(0)
    cells = [np.mean([right[(of == t) & (label == k)].mean() for k in set(label[of == t])]) for t in topics]
    units, chance = np.array(cells), 1 / design.n_classes
    shared = 1 / max(int(design.fold.max()), 1)
    pooled = float(np.mean([r.n_pooled for r in texts.records]))
    halves = _halves(design, texts, seed, decoder)
    above = _estimate(units - chance, shared, halves, seed)
    return TopicAccuracy(
        topics, units, chance, above, shared, halves, pooled, len(label), copies_tie(design), found.mean(1)
    )


def copies_tie(design: Design) -> str:
    """Why copies leave nothing to test, "" if they do not."""
    return design.copies if tied(design.copies) else ""


def _right(design: Design, values: Float[Tensor, "n n_layers d"], decoder: str) -> Bool[np.ndarray, "n_layers n"]:
    """Whether each held-out text is given its class, by layer: what `decoding` finds, without its null."""
    folded = (
        (fold_gram(design, gram) for gram in grams(values))
        if decoder == CENTRED
        else (fold_standardised(design, rows) for rows in values.unbind(1))
    )
    return np.stack([observed_scores(layer).argmax(1) == design.label for layer in folded])


def weighed(parts: Sequence[tuple[float, TopicAccuracy]], seed: int = 0) -> Estimate:
    """A weighted sum of accuracies on the same topics (`alike`), paired by topic: a less b is ((1, a), (-1, b))."""
    units = sum(weight * x.units for weight, x in parts)
    halves = sum(weight * x.halves for weight, x in parts)
    return _estimate(np.asarray(units), max(x.shared for _, x in parts), np.asarray(halves), seed)


def odds(parts: Sequence[tuple[float, TopicAccuracy]], seed: int = 0) -> Estimate:
    """The same sum of log odds of accuracy beyond chance, by jackknife over topics: where one set has little room left,
    or hardly any accuracy, equal changes of the states are unequal ones of accuracy."""
    n = len(parts[0][1].units)

    def log_odds(x: TopicAccuracy) -> Float[np.ndarray, " n"]:
        means = np.array([x.value, *((x.units.sum() - x.units) / (n - 1))])
        beyond, least = (means - x.chance) / (1 - x.chance), 0.5 / x.n_texts
        share = np.clip(beyond, least, 1 - least)
        return np.log(share / (1 - share))

    found = np.sum([weight * log_odds(x) for weight, x in parts], axis=0)
    return estimate(n * found[0] - (n - 1) * found[1:], "topics", max(x.shared for _, x in parts), seed)


def blind(smallest: float, *sets: TopicAccuracy) -> str:
    """Why no difference of the smallest size of interest could have shown between these sets, "" if one could."""
    if not any(x.decodable for x in sets):
        return "emotion cannot be decoded above chance in either, so that there is nothing to compare"
    if min(x.value for x in sets) > 1 - smallest:
        return "both are at the ceiling, so that neither can be better"
    layers = np.stack([x.layers for x in sets])
    floor = np.array([x.chance + 2 * np.sqrt(x.chance * (1 - x.chance) / x.n_texts) for x in sets])[:, None]
    if layers.size and ((layers < floor).all(0) | (layers > 1 - smallest).all(0)).mean() > 0.5:
        return "at most layers both are at the floor or at the ceiling, so that neither can be better there"
    return ""


def _estimate(
    units: Float[np.ndarray, " n"], shared: float, halves: Float[np.ndarray, "splits 2"], seed: int
) -> Estimate:
    """With the larger of two errors: of topics that share their training texts, and between halves that share none."""
    apart = float(np.sqrt(np.mean((halves[:, 0] - halves[:, 1]) ** 2) / 4)) if len(halves) else 0.0
    return estimate(units, "topics", shared, seed).widened(apart)


def _halves(design: Design, acts: PooledActivations, seed: int, decoder: str) -> Float[np.ndarray, "splits 2"]:
    """Held-out accuracy within either half of the topics; none where a half could not both learn and test."""
    names = sorted(acts.topics)
    order = np.array([names.index(t) for t in design.topics])  # of the names, so that other sets are halved alike
    if len(names) < 2 * MIN_HALF:
        return np.zeros((0, 2))
    rng = np.random.default_rng(seed)
    chosen = np.unique(np.linspace(0, acts.n_layers - 1, min(acts.n_layers, HALF_LAYERS)).astype(int))
    values = acts.values[:, chosen].detach().cpu()
    if decoder != CENTRED:  # one scale for all halves: labels have no part in it
        centre, unit = moments(values)
        values = (values - centre) / unit
    products = [gram.numpy() for gram in grams(values)]
    found = np.zeros((SPLITS, 2))
    for row in found:
        first = rng.permutation(len(names)) < len(names) // 2
        for side in (0, 1):
            at = np.flatnonzero(first[order[design.topic]] == (side == 0))
            row[side] = np.mean([_accuracy(design, at, gram) for gram in products])
    return found


def _accuracy(design: Design, at: Int[np.ndarray, " m"], gram: Float[np.ndarray, "n n"]) -> float:
    """Of the texts `at` alone, held out within them; by plain matrices, which are quicker for one small labelling."""
    label, inner = design.label[at], gram[np.ix_(at, at)]
    homes, block = np.unique(design.home[at], return_inverse=True)
    if len(homes) < 2:
        return float("nan")
    right = 0
    for f in range(len(homes)):
        held, train = np.flatnonzero(block == f), np.flatnonzero(block != f)
        member = (label[train] == np.arange(design.n_classes)[:, None]).astype(float)
        there = member.sum(1) > 0
        centre = member[there] / member[there].sum(1, keepdims=True) - 1 / len(train)  # less the mean of all
        known = inner[np.ix_(train, train)]
        product = (inner[np.ix_(held, train)] - known.mean(0)) @ centre.T
        length = np.sqrt(np.maximum(((centre @ known) * centre).sum(1), TINY))
        right += int((np.flatnonzero(there)[(product / length).argmax(1)] == label[held]).sum())
    return right / len(at)


def alike(*sets: PooledActivations) -> tuple[PooledActivations, ...]:
    """The sets cut down to the emotions and topics that all of them have, and to as many texts of each pair.

    The first texts of a pair are kept. Neutral texts are left out.

    Raises:
        StimulusError: fewer than 2 emotions or 3 topics in common.
    """
    emotions = tuple(e for e in sets[0].emotions if all(e in x.emotions for x in sets))
    topics = tuple(t for t in sorted(sets[0].emotional.topics) if all(t in x.emotional.topics for x in sets))
    if len(emotions) < 2 or len(topics) < LEAST:
        raise StimulusError(
            f"the sets share {len(emotions)} emotions and {len(topics)} topics; 2 and {LEAST} are needed"
        )
    cut = [restricted(x, emotions, topics).emotional for x in sets]
    cells = [list(zip(x.emotion.tolist(), x.topic.tolist(), strict=True)) for x in cut]
    most = {cell: min(own.count(cell) for own in cells) for cell in set(cells[0])}
    return tuple(x.only(_first(own, most)) for x, own in zip(cut, cells, strict=True))


def _first(cells: list[tuple[str, str]], most: dict[tuple[str, str], int]) -> np.ndarray:
    seen: dict[tuple[str, str], int] = {}
    keep = []
    for cell in cells:
        seen[cell] = seen.get(cell, 0) + 1
        keep.append(seen[cell] <= most.get(cell, 0))
    return np.array(keep)


def comparable(a: TopicAccuracy, b: TopicAccuracy) -> tuple[bool, bool]:
    """Whether "a decodes better than b" could be said, and whether "a does not", given how many tokens each pools: not
    where they would do it."""
    ratio = a.tokens / max(b.tokens, 1e-9)
    return 1 / FAR <= ratio <= ALIKE, 1 / ALIKE <= ratio <= FAR
