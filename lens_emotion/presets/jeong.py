"""The protocol of arXiv 2604.04064 (J) as it was published, to be set beside ours: extraction, best layer, steering,
regimes, suppression.

The abstract names no thresholds; what is here follows the author's public code of April (Neural-MRI), written anew on
texts of ours. That the paper used that code is an inference, and so is whatever `Protocol.inferred` names. Known
differences: that code reads weights that TransformerLens folded and centred, in half precision, and always puts a
first token in front; here the raw model is read as it was trained. Every number comes with the null or control that
the protocol lacks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from lens_emotion.analysis.separation import cosine_null
from lens_emotion.display import Result
from lens_emotion.errors import AnalysisError, DoseError, StimulusError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.extraction.comprehension import extract_comprehension as read_texts
from lens_emotion.extraction.generation import extract_generation as write_and_read
from lens_emotion.extraction.pooling import last_token
from lens_emotion.files.user import numbers_fit
from lens_emotion.habits import answering
from lens_emotion.models.access import Model, describe, parameter_count
from lens_emotion.models.catalog import find_spec
from lens_emotion.models.layers import place, resolve_layer
from lens_emotion.pictures import Line
from lens_emotion.presets.protocol import MIDDLE, PROTOCOL, by_rule, doses_for, regimes, units
from lens_emotion.presets.suppression import inflation, texts_in
from lens_emotion.presets.suppression import suppression as suppression  # a part of the protocol, in a file of its own
from lens_emotion.stats.tests import check_permutations, p_text, percentile_band, permutation_p
from lens_emotion.steering.dose import Dose
from lens_emotion.steering.experiment import everywhere
from lens_emotion.steering.generate import Condition, generate_steered
from lens_emotion.stimuli.emotions import NEUTRAL, OPPOSITE_PAIRS
from lens_emotion.stimuli.prompts import Scenario
from lens_emotion.stimuli.sets import StimulusSet
from lens_emotion.vectors.emotion_vectors import EmotionVectors
from lens_emotion.vectors.recipes import emotion_vectors

_CLASS = "neutral texts"  # the 21st class, under a name that is none of the neutral texts'


# Extraction: works on a model, or on activations that are there already.


def extract_comprehension(
    source: Model | PooledActivations, stimuli: StimulusSet | str | None = None
) -> EmotionVectors:
    """Vectors of reading: last token of three passages an emotion, class means less the mean of all 21 classes.

    Args:
        source: a model, whose texts are read, or activations at the last token.
        stimuli: what a model reads; by default its own set.

    Returns:
        One direction per emotion, and "neutral" as one more where there are neutral texts.

    Raises:
        StimulusError: activations of another pooling, fewer than two emotions.

    Example:
        >>> vectors = le.presets.jeong.extract_comprehension(model)
        >>> len(vectors), vectors.emotions[-1]
        (21, 'neutral')
    """
    read = source if isinstance(source, PooledActivations) else read_texts(source, stimuli, pooling=last_token())
    made = emotion_vectors(_classes(read))
    emotions = tuple(NEUTRAL if e == _CLASS else e for e in made.emotions)
    return replace(made, emotions=emotions, header=made.header.with_(variant="jeong, three passages, last token"))


def extract_generation(source: Model | PooledActivations) -> EmotionVectors:
    """Vectors of writing: the middle token of greedy stories with the instruction in front, emotion mean less neutral
    mean (`le.extract_generation(model, preset="jeong")`, ten stories an emotion from five templates).

    Args:
        source: a model, which writes, or activations of that preset.

    Raises:
        StimulusError: activations of another preset, or what the model wrote is too little.
    """
    if isinstance(source, PooledActivations):
        if not source.header.variant.startswith("jeong"):
            raise StimulusError(
                f"these activations are of '{source.header.variant or source.header.method}'; give those of "
                "le.extract_generation(model, preset='jeong').conditioned, or the model"
            )
        return emotion_vectors(source, "neutral")
    return emotion_vectors(write_and_read(source, preset="jeong").conditioned, "neutral")


def _classes(acts: PooledActivations) -> PooledActivations:
    """The first text on each of an emotion's first three topics, with the neutral texts as a class like the others."""
    if acts.header.pooling != "last_token":
        raise StimulusError(
            f"the preset reads the last token, these activations are '{acts.header.pooling}'; give those of "
            "le.extract_comprehension(model, pooling=le.last_token())"
        )
    taken: dict[str, dict[str, int]] = {}
    for i, (emotion, topic) in enumerate(zip(acts.emotion, acts.topic, strict=True)):
        mine = taken.setdefault(str(emotion), {})
        if topic not in mine and len(mine) < PROTOCOL.passages:
            mine[str(topic)] = i
    kept = sorted(i for mine in taken.values() for i in mine.values())
    few = acts.only(np.isin(np.arange(len(acts)), kept))
    renamed = (replace(r, emotion=_CLASS) if r.emotion == NEUTRAL else r for r in few.records)
    return replace(few, records=tuple(renamed))


# The best layer.


@dataclass(frozen=True, eq=False, repr=False)
class BestLayer(Result):
    """The layer at which the centred vectors have the lowest mean cosine, and whether that says anything.

    Attributes:
        table: layer, depth, mean_cosine, bound (-1/(n-1): the least that vectors around their mean can have), null_low,
            null_high (95% of label permutations), p (below its null).
        null: mean cosine of each label permutation at each layer.
        n_classes, n_texts: behind it.
    """

    _picture = Line("layer", "mean_cosine", "null_low", "null_high", band="95% of label permutations")

    table: pd.DataFrame
    null: Float[np.ndarray, "n_permutations n_layers"]
    n_classes: int
    n_texts: int

    @property
    def layer(self) -> int:
        """By the published rule: the lowest mean cosine."""
        return int(self.table.mean_cosine.to_numpy().argmin())

    @property
    def depth(self) -> float:
        """(layer + 1) / n_layers."""
        return float(self.table.depth.iloc[self.layer])

    @property
    def bound(self) -> float:
        """-1/(n-1)."""
        return -1 / (self.n_classes - 1)

    @property
    def p(self) -> float:
        """Of the lowest cosine over layers, among the lowest over layers of permuted labels."""
        return float(permutation_p(np.array(self.table.mean_cosine.min()), self.null.min(1), "less"))

    @property
    def in_the_middle(self) -> bool:
        """Whether the best layer lies in the middle third."""
        return MIDDLE[0] <= self.depth <= MIDDLE[1]

    @property
    def dips(self) -> bool:
        """Whether the curve is lowest inside, and higher at both ends: a U by eye."""
        return 0 < self.layer < len(self.table) - 1

    @property
    def middle_by_chance(self) -> float:
        """Share of permutations whose lowest layer lies in the middle third."""
        depth = self.table.depth.to_numpy()[self.null.argmin(1)]
        return float(((depth >= MIDDLE[0]) & (depth <= MIDDLE[1])).mean())

    @property
    def dips_by_chance(self) -> float:
        """Share of permutations whose curve is lowest inside."""
        lowest = self.null.argmin(1)
        return float(((lowest > 0) & (lowest < len(self.table) - 1)).mean())

    def summary(self) -> str:
        """One sentence: where, and that permuted labels do as well where they do."""
        row = self.table.iloc[self.layer]
        says = "" if self.p <= 0.05 else ": permuted labels do as well, so that this layer says nothing"
        return (
            f"Lowest mean cosine {row.mean_cosine:.4f} at {place(self.layer, len(self.table), best=True)} of "
            f"{self.n_classes} centred vectors, which cannot lie below {self.bound:.4f}; permuted labels "
            f"{row.null_low:.4f} to {row.null_high:.4f} there, {p_text(self.p)} over layers{says}"
        )


@numbers_fit(AnalysisError)
def best_layer(acts: PooledActivations, n_permutations: int = 200, seed: int = 0) -> BestLayer:
    """The published choice of a layer, argmin of the mean cosine of centred vectors, with its bound and its null.

    Args:
        acts: texts at the last token (of which three an emotion count), as `extract_poolings` or a study keeps them.
        n_permutations: label permutations. seed: of them.

    Raises:
        StimulusError: another pooling, or too few topics to permute labels on. AnalysisError: n_permutations below 1.

    Example:
        >>> acts = le.extract_comprehension(model, pooling=le.last_token())
        >>> print(le.presets.jeong.best_layer(acts, n_permutations=20).bound)
        -0.05
    """
    check_permutations(n_permutations)
    chosen = _classes(acts)
    observed, null = cosine_null(chosen, "centred", n_permutations, seed)
    low, high = percentile_band(null)
    n = len(chosen.emotions)
    table = pd.DataFrame(
        {
            "layer": np.arange(acts.n_layers),
            "depth": acts.depth,
            "mean_cosine": observed,
            "bound": -1 / (n - 1),
            "null_low": low,
            "null_high": high,
            "p": permutation_p(observed, null, "less"),
        }
    )
    return BestLayer(table, null, n, len(chosen))


# Steering: the vector of one layer at all layers, in shares of the mean norm with the first token.


@dataclass(frozen=True, eq=False, repr=False)
class SteeredTexts(Result):
    """Texts by the published steering, beside random directions of the same length.

    Attributes:
        table: prompt, emotion, condition ("emotion" or "random"), dose, text, words (between spaces), regime (`by_rule`
            of this text), regime_counted (the same rule, characters of scripts without spaces counted).
        unsteered: prompt -> greedy text at dose 0.
        layer: where the vectors come from.
        inflation: by how much the first token raises the unit of dose, mean over prompts and layers.
    """

    table: pd.DataFrame
    unsteered: dict[str, str]
    layer: int
    inflation: float

    def summary(self) -> str:
        """The regime of all texts by the published rule, and that of random directions."""
        said = {c: regimes(g.text.tolist()).regime for c, g in self.table.groupby("condition")}
        n = int((self.table.condition == "emotion").sum())
        return (
            f"{n} steered texts: {said['emotion']} by the published rule, random directions {said['random']}, "
            f"unsteered {regimes(list(self.unsteered.values())).regime}; the first token raises the unit of dose "
            f"{self.inflation:.2f} times"
        )


@numbers_fit(DoseError)
def steer(
    model: Model,
    vectors: EmotionVectors,
    emotions: str | Sequence[str],
    prompts: str | Sequence[str],
    *,
    doses: float | Sequence[float] | None = None,
    layer: int | None = None,
    max_new_tokens: int = PROTOCOL.new_tokens,
    seed: int = 0,
) -> SteeredTexts:
    """Steer as published: one layer's unit vector at ALL layers, dose x mean norm over all positions of the prompt WITH
    the first token, greedy.

    The public code writes without a cache and measures the norm anew at every step, so that its push fades as the text
    grows; here it stays that of the prompt, for which cached and uncached text are the same.

    Args:
        vectors: of this model (`extract_comprehension`).
        doses: None for the five of the model's size.
        layer: None for two thirds of the depth; `best_layer(acts).layer` is the other published choice.
        seed: of the random directions.

    Raises:
        DoseError: no emotion, prompt or dose. LayerError: no such layer.

    Example:
        >>> vectors = le.presets.jeong.extract_comprehension(model)
        >>> texts = le.presets.jeong.steer(model, vectors, "calm", "The door opened and", doses=0.03)
        >>> texts.table.condition.tolist()
        ['emotion', 'random']
    """
    wanted, openings = texts_in(emotions, "emotions"), texts_in(prompts, "prompts")
    spec = find_spec(describe(model).name)
    given = doses_for(spec.millions if spec else parameter_count(model) / 1e6) if doses is None else doses
    several: Sequence[Any] = given if isinstance(given, list | tuple) else [given]
    amounts = [Dose(d, "relative") for d in several]
    if not (wanted and openings and amounts):
        raise DoseError("nothing to steer: give at least one emotion, one prompt and one dose")
    n = vectors.n_layers
    at = resolve_layer(layer, n, 2 * n // 3)
    rows, conditions = [], [Condition(p) for p in openings]
    for prompt in openings:
        every = everywhere(model, vectors, [prompt], at)  # the unit is that of this prompt
        for i, emotion in enumerate(wanted):
            for name, vector in (
                ("emotion", every[emotion]),
                ("random", every.random(seed * 10_007 + i, like=emotion)),
            ):
                for dose in amounts:
                    rows.append({"prompt": prompt, "emotion": emotion, "condition": name, "dose": dose.value})
                    conditions.append(Condition(prompt, vector, dose))
    written = generate_steered(model, conditions, range(n), max_new_tokens=max_new_tokens, progress=False)
    plain = dict(zip(openings, [c.text for c in written[: len(openings)]], strict=True))
    table = pd.DataFrame(rows).assign(text=[c.text for c in written[len(openings) :]])
    table["words"] = [len(t.split()) for t in table.text]
    table["regime"] = [by_rule(t.split()) for t in table.text]
    table["regime_counted"] = [by_rule(units(t)) for t in table.text]
    return SteeredTexts(table, plain, at, inflation(model, openings))


def scenarios_of(known: Sequence[Scenario]) -> list[Scenario]:
    """Openings to steer: two an emotion, of the reported opposite pairs, or of all emotions where none is there."""
    paired = {e for pair in OPPOSITE_PAIRS for e in pair}
    chosen = [s for s in known if s.emotion in paired] or list(known)
    count: Counter[str] = Counter()
    kept = []
    for scenario in chosen:
        count[scenario.emotion] += 1
        if count[scenario.emotion] <= PROTOCOL.scenarios:
            kept.append(scenario)
    return kept


for _name in ("extract_comprehension", "extract_generation", "best_layer", "steer"):
    globals()[_name] = answering(globals()[_name], __name__)  # like the public names of the package: `le.steer(3)`
