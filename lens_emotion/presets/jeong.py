"""The protocol of arXiv 2604.04064 (J) as it was published, to be set beside ours: extraction, best layer, steering,
regimes, suppression.

The abstract names no thresholds; what is here follows the author's public code of April (Neural-MRI), written anew on
texts of ours. That the paper used that code is an inference, and so is whatever `Protocol.inferred` names. Known
differences: that code reads weights that TransformerLens folded and centred, in half precision, and always puts a
first token in front; here the raw model is read as it was trained. Every number comes with the null or control that
the protocol lacks.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from lens_emotion.analysis.separation import cosine_null
from lens_emotion.display import Result
from lens_emotion.errors import AnalysisError, ArtifactError, DoseError, StimulusError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.extraction.comprehension import extract_comprehension as read_texts
from lens_emotion.extraction.generation import extract_generation as write_and_read
from lens_emotion.extraction.pooling import last_token
from lens_emotion.files.artifacts import atomic_write
from lens_emotion.files.read import read_json
from lens_emotion.models.access import Model, describe, hook_name, parameter_count
from lens_emotion.models.catalog import find_spec
from lens_emotion.models.forward import residual_cache
from lens_emotion.models.layers import place, resolve_layer
from lens_emotion.models.prompting import encode
from lens_emotion.pictures import Line
from lens_emotion.presets.protocol import MIDDLE, PROTOCOL, by_rule, doses_for, regimes, units
from lens_emotion.stats.tests import p_text, percentile_band, permutation_p
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
    if n_permutations < 1:
        raise AnalysisError(f"n_permutations is {n_permutations}; give 1 at least")
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
    wanted, openings = _listed(emotions), _listed(prompts)
    spec = find_spec(describe(model).name)
    given = doses_for(spec.millions if spec else parameter_count(model) / 1e6) if doses is None else doses
    amounts = [float(d) for d in (given if isinstance(given, Sequence) else [given])]
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
                    rows.append({"prompt": prompt, "emotion": emotion, "condition": name, "dose": dose})
                    conditions.append(Condition(prompt, vector, Dose(dose, "relative")))
    written = generate_steered(model, conditions, range(n), max_new_tokens=max_new_tokens, progress=False)
    plain = dict(zip(openings, [c.text for c in written[: len(openings)]], strict=True))
    table = pd.DataFrame(rows).assign(text=[c.text for c in written[len(openings) :]])
    table["words"] = [len(t.split()) for t in table.text]
    table["regime"] = [by_rule(t.split()) for t in table.text]
    table["regime_counted"] = [by_rule(units(t)) for t in table.text]
    return SteeredTexts(table, plain, at, inflation(model, openings))


def _listed(given: str | Sequence[str]) -> list[str]:
    return list(dict.fromkeys([given] if isinstance(given, str) else given))


def unit_of_dose(
    model: Model, prompts: Sequence[str]
) -> tuple[Float[np.ndarray, " n_layers"], Float[np.ndarray, " n_layers"]]:
    """Mean norm of `resid_post` over all positions of the prompts, as published, and without their first token."""
    with_first, without = [], []
    for prompt in dict.fromkeys(prompts):
        cache = residual_cache(model, torch.tensor([encode(model, prompt)]))
        norms = torch.stack([cache["resid_post", k][0].float().norm(dim=-1).cpu() for k in range(model.cfg.n_layers)])
        with_first.append(norms.mean(1))
        without.append(norms[:, 1:].mean(1) if norms.shape[1] > 1 else norms.mean(1))
    return torch.stack(with_first).mean(0).numpy(), torch.stack(without).mean(0).numpy()


def inflation(model: Model, prompts: Sequence[str]) -> float:
    """By how much the first token raises the unit of dose of these prompts, mean over layers; 1 is not at all.

    Example:
        >>> le.presets.jeong.inflation(model, ["The door opened and"]) > 1
        True
    """
    with_first, without = unit_of_dose(model, prompts)
    return float((with_first / without).mean())


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


# Suppression: does steering towards one emotion push a state off another?


@dataclass(frozen=True, eq=False, repr=False)
class Suppression(Result):
    """Projections of a prompt's last token on two emotions, before and after steering towards one of them.

    Attributes:
        table: scenario, prompt, direction (of projection), before, after; random_low, random_mean, random_high (after
            random directions of the same length), added (what the steering itself has put along that direction by that
            layer: the sum of what was added, no effect of the model's).
        steered, suppressed: the pair. dose: as a share. layer: where it is read. n_random: directions.
        inflation: by how much the first token raises the unit of dose, mean over prompts and layers.
    """

    table: pd.DataFrame
    steered: str
    suppressed: str
    dose: float
    layer: int
    n_random: int
    inflation: float

    def means(self, direction: str) -> pd.Series:
        """Over scenarios."""
        rows = self.table[self.table.direction == direction]
        return rows[["before", "after", "random_low", "random_mean", "random_high", "added"]].mean()

    @property
    def beyond_random(self) -> bool:
        """Whether the suppressed emotion falls in the mean, and below what random directions make of it."""
        rows = self.table[self.table.direction == self.suppressed]
        below = rows.after.to_numpy() < rows.random_low.to_numpy()
        return bool(rows.after.mean() < rows.before.mean() and below.mean() > 0.5)

    def summary(self) -> str:
        """Both projections, their control, and the part that is arithmetic."""
        said = []
        for name in (self.steered, self.suppressed):
            m = self.means(name)
            said.append(
                f"{name} {m.before:+.1f} -> {m.after:+.1f} (random directions {m.random_low:+.1f} to "
                f"{m.random_high:+.1f}; {m.added:+.1f} is what was added)"
            )
        return f"Steering to {self.steered} at {self.dose:g}, read at layer {self.layer}: {', '.join(said)}"


def suppression(
    model: Model,
    vectors: EmotionVectors,
    prompts: Sequence[str],
    *,
    dose: float = PROTOCOL.suppression_dose,
    pair: tuple[str, str] = PROTOCOL.pair,
    layer: int | None = None,
    n_random: int = 19,
    seed: int = 0,
) -> Suppression:
    """The published table: steer all layers towards one emotion and read how far the last token of each prompt lies
    along it and along another, beside dose 0 and random directions.

    The push is that of the public code to the letter: the mean norm is taken in the very pass that is steered.

    Args:
        vectors: of this model (`extract_comprehension`). prompts: the published table has six.
        layer: where vectors come from and states are read; None for two thirds of the depth.
        n_random: directions of the control. seed: of them.

    Raises:
        DoseError: no prompts. UnknownEmotionError: an emotion without a vector.

    Example:
        >>> vectors = le.presets.jeong.extract_comprehension(model)
        >>> found = le.presets.jeong.suppression(model, vectors, ["The door opened and", "In the morning she"])
        >>> found.table.direction.tolist()
        ['calm', 'hostile', 'calm', 'hostile']
    """
    openings = _listed(prompts)
    if not openings or n_random < 1:
        raise DoseError("nothing to steer: give at least one prompt, and one random direction")
    n = vectors.n_layers
    at = resolve_layer(layer, n, 2 * n // 3)
    read = torch.stack([vectors[name].at(at).float() for name in pair])
    rng = torch.Generator().manual_seed(seed)
    drawn = torch.randn(n_random, read.shape[1], generator=rng)
    pushes = torch.cat([torch.zeros_like(read[:1]), read[:1], drawn / drawn.norm(dim=-1, keepdim=True)])
    rows = []
    for i, prompt in enumerate(openings):
        states, added = _pushed(model, encode(model, prompt), pushes, dose, at)
        seen = (states @ read.T).double().numpy()  # rows: unsteered, steered, random directions
        for k, name in enumerate(pair):
            low, high = percentile_band(seen[2:, k])
            control = {"random_low": float(low), "random_mean": seen[2:, k].mean(), "random_high": float(high)}
            along = float(added * (read[0] @ read[k]))
            row = {"scenario": i, "prompt": prompt, "direction": name, "before": seen[0, k], "after": seen[1, k]}
            rows.append(row | control | {"added": along})
    return Suppression(pd.DataFrame(rows), *pair, dose, at, n_random, inflation(model, openings))


def _pushed(
    model: Model, ids: Sequence[int], pushes: Float[Tensor, "rows d_model"], dose: float, layer: int
) -> tuple[Float[Tensor, "rows d_model"], float]:
    """States of the last token at a layer, one row per push, and the length added to the second row by then."""
    states, lengths = list[Tensor](), list[float]()

    def hook(at: int) -> Callable[..., Tensor]:
        def push(value: Float[Tensor, "rows pos d_model"], hook: object) -> Float[Tensor, "rows pos d_model"]:
            unit = value.float().norm(dim=-1).mean(1)  # of each row, over all positions, the first one too
            moved = value + (dose * unit[:, None] * pushes.to(value.device))[:, None].to(value.dtype)
            lengths.append(dose * float(unit[1]))
            if at == layer:
                states.append(moved[:, -1].detach().float().cpu())
            return moved

        return push

    rows = torch.tensor([list(ids)], device=describe(model).device).repeat(len(pushes), 1)
    with torch.no_grad():
        model.run_with_hooks(rows, fwd_hooks=[(hook_name(k), hook(k)) for k in range(layer + 1)])
    return states[0], sum(lengths)


_PLAIN = ("steered", "suppressed", "dose", "layer", "n_random", "inflation")
_WORDS = ("prompt", "direction")
_NUMBERS = ("scenario", "before", "after", "random_low", "random_mean", "random_high", "added")


def save_suppression(found: Suppression, path: str | Path) -> Path:
    """Write as JSON, atomically."""
    data = {name: getattr(found, name) for name in _PLAIN} | {"table": found.table.to_dict("list")}
    return atomic_write(path, json.dumps(data, ensure_ascii=False) + "\n")


def load_suppression(path: str | Path) -> Suppression:
    """Read a file written by `save_suppression`. Raises ArtifactError if it is damaged or of another kind."""
    try:
        data = read_json(path)
        table = pd.DataFrame({name: data["table"][name] for name in ("scenario", *_WORDS, *_NUMBERS[1:])})
        kinds = {"steered": str, "suppressed": str, "dose": float, "layer": int, "n_random": int, "inflation": float}
        if any(type(data[name]) is not kind for name, kind in kinds.items()) or table.empty:
            raise ValueError("its facts are of another kind")
        if not np.isfinite(table[list(_NUMBERS)].to_numpy(float)).all():
            raise ValueError("a number is none")
        if wrong := [x for name in _WORDS for x in table[name] if not isinstance(x, str)]:
            raise ValueError(f"{wrong[0]!r:.40} is no text")
        if not {data["steered"], data["suppressed"]} == set(table["direction"]):
            raise ValueError("its directions are not those of its table")
        return Suppression(table, **{name: data[name] for name in _PLAIN})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{path} is no readable suppression table ({error}); run the step again") from None
