"""What one steered text shows: damage, effect and regime, beside the unsteered text and random directions.

One text is weak evidence, and every sentence here says so. The effect is the model's own reading of the finished
text, unsteered: how far its tokens lie along the vector. That reader is not independent of the writer; a verdict from
outside is `experiment.dose_response` with a judge.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float

from lens_emotion.display import Result
from lens_emotion.errors import StimulusError
from lens_emotion.extraction.activations import TextRecord
from lens_emotion.extraction.pooling import story_mean
from lens_emotion.extraction.reader import Reading, read_texts
from lens_emotion.models.access import Model
from lens_emotion.models.decoding import check_prompts
from lens_emotion.models.prompting import TokenisedText, encode, special_ids
from lens_emotion.models.sampling import GREEDY, Sampling
from lens_emotion.pictures import Dots
from lens_emotion.stats.tests import p_text
from lens_emotion.steering.dose import Dose
from lens_emotion.steering.generate import Condition, Continuation, generate_steered
from lens_emotion.steering.hooks import Positions, check_fits, check_positions
from lens_emotion.steering.measures import edit_distance, excess, foreign_letters, likelihood, repetition
from lens_emotion.steering.regimes import INERT, SURGICAL, Thresholds, text_regimes, thresholds_from
from lens_emotion.vectors.emotion_vectors import EmotionVector

NOT_JUDGED = "effect not judged"
OTHER_SCRIPT = "another script"
MOST_FOREIGN = 0.2  # share of letters in scripts not at home, above which a text is written in another one
BASELINE_LOOP = 0.25  # share of the unsteered text that is one loop, above which a ratio to its perplexity says little
N_NULLS = 19  # the fewest random directions with which p = 0.05 is possible
Tick = Callable[..., None]


@dataclass(frozen=True, eq=False, repr=False)
class TextComparison(Result):
    """One prompt's texts beside one another.

    Attributes:
        table: one row per column: text, n_tokens, perplexity_ratio, surprise, distinct_2, loop_share, edit_distance,
            foreign: share of letters in scripts that neither the prompt nor the unsteered text uses,
            reading: how much further along the vector than the unsteered text the model reads it, in natural units,
            and damage: "explosive", "repetitive collapse", "another script" (over a fifth of the letters) or "".
        regime: of the steered text: inert, surgical, repetitive collapse, explosive, "another script" (never
            surgical), or "effect not judged" where neither damage nor a control says which.
        nulls: readings of random directions of the same length; the column's own control is the first.
        p: share of random directions that are read as far along the vector or further; None if fewer than 19 ran.
        n_unsteered: unsteered texts behind the thresholds.
    """

    _picture = Dots(("column", "damage"), "reading")

    table: pd.DataFrame
    regime: str
    nulls: tuple[float, ...]
    p: float | None
    thresholds: Thresholds
    n_unsteered: int

    def of(self, column: str) -> pd.Series:
        """The row of a column."""
        return self.table[self.table["column"] == column].iloc[0]

    @property
    def ratio_reliable(self) -> bool:
        """False where the unsteered text loops: it is then so likely that any other text is many times less so."""
        return not self.of(UNSTEERED).loop_share > BASELINE_LOOP

    def summary(self) -> str:
        """The regime and why, with its control."""
        row = self.of(STEERED)
        looped = f"unreliable ratio, since {self.of(UNSTEERED).loop_share:.0%} of that is one loop"
        unsure = "" if self.ratio_reliable else f" ({looped})"
        foreign = f", {row.foreign:.0%} of its letters in another script" if row.foreign > 0 else ""
        effect = f"read {row.reading:+.2f} natural units along the vector from the unsteered text"
        if self.p is not None:
            beside = f"{len(self.nulls)} random directions {np.mean(self.nulls):+.2f} on average, {p_text(self.p)}"
        elif self.nulls:
            beside = f"one random direction {self.nulls[0]:+.2f}; being the furthest of three has a chance of 1 in 3"
        else:
            beside = "no random direction beside it, so the effect has no control"
        return (
            f"{self.regime}, from one text: perplexity {row.perplexity_ratio:.2f} times the unsteered text's{unsure} "
            f"and {row.surprise:.2f} times the expected one (explosive above {self.thresholds.explosive_ratio:.1f}, "
            f"set by {self.n_unsteered} unsteered texts), "
            f"{row.loop_share:.0%} of it one loop{foreign}; "
            f"{effect} ({beside}; the model's own reading, not an outside judge)"
        )


def own_thresholds(
    model: Model, prompts: Sequence[str], sampling: Sampling, max_new_tokens: int = 40, tick: Tick | None = None
) -> Thresholds:
    """Where regimes begin for this model, from its unsteered continuations of several prompts, sampled alike.

    Args:
        tick: called after every step; what it raises ends the work.

    Raises:
        StimulusError: fewer than two prompts, which have no spread.
    """
    if len(prompts) < 2:
        raise StimulusError(f"{len(prompts)} prompt(s) for the thresholds of regimes; give at least two")
    conditions = [Condition(prompt, seed=i) for i, prompt in enumerate(prompts)]
    written = generate_steered(
        model, conditions, (0,), max_new_tokens=max_new_tokens, sampling=sampling, progress=False, on_ids=tick
    )
    distinct, loops = repetition([w.new_ids for w in written])
    scored = likelihood(model, [w.prompt_ids for w in written], [w.new_ids for w in written])
    return thresholds_from(excess(scored.nll, scored.entropy), distinct, loops)


def compare_texts(
    model: Model,
    push: Push,
    written: Written,
    thresholds: Thresholds,
    n_unsteered: int,
    nulls: Sequence[EmotionVector] = (),
    tick: Tick | None = None,
) -> TextComparison:
    """Measure the texts of `write_side_by_side`, in a few passes of the unsteered model.

    Args:
        thresholds, n_unsteered: of `own_thresholds`, and the number of texts behind them.
        nulls: more random directions of the same length, each of which writes a text of its own now.
        tick: called after every step of that writing; what it raises ends the work.
        model: which wrote the texts.
        push: what was added.
        written: of `write_side_by_side`.

    Example:
        >>> from lens_emotion.steering.comparison import Push, own_thresholds, write_side_by_side
        >>> push = Push("The door opened and", vectors["calm"], le.Dose(3), (3,), max_new_tokens=8)
        >>> written = write_side_by_side(model, push)
        >>> limits = own_thresholds(model, ["The door opened and", "She read the"], le.Sampling(), 8)
        >>> le.compare_texts(model, push, written, limits, n_unsteered=2).table.column.tolist()
        ['unsteered', 'steered']
    """
    more = _write(model, push, nulls, tick)
    texts = [*written.values(), *more]
    readings = read_along(model, push, texts)
    readings = readings - readings[0]
    table = measure_texts(model, push.prompt, written, readings, thresholds)
    row = table[table.column == STEERED].iloc[0]
    drawn = [*(readings[2:3] if RANDOM in written else []), *readings[len(written) :]]
    furthest = sum(not value < row.reading for value in drawn)  # nan counts against the effect
    p = (furthest + 1) / (len(drawn) + 1) if len(drawn) >= N_NULLS else None
    found = text_regime(row, drawn, p, thresholds)
    return TextComparison(table, found, tuple(float(x) for x in drawn), p, thresholds, n_unsteered)


def _write(model: Model, push: Push, vectors: Sequence[EmotionVector | None], tick: Tick | None) -> list[Continuation]:
    """The prompt continued under each vector in place of the push's."""
    if not vectors:
        return []
    return generate_steered(
        model,
        [Condition(push.prompt, vector, push.dose, push.sampling.seed) for vector in vectors],
        push.layers,
        max_new_tokens=push.max_new_tokens,
        sampling=replace(push.sampling, seed=0),  # the condition carries it
        positions=push.positions,
        progress=False,
        on_ids=tick,
    )


def read_along(model: Model, push: Push, texts: Sequence[Continuation]) -> Float[np.ndarray, " n_texts"]:
    """How far along the vector the unsteered model reads each text: mean projection of its new tokens at
    `push.read_layer`, in natural units, in the direction of the push; nan for a text without tokens."""
    special, layer = special_ids(model), push.read_layer
    out = np.full(len(texts), np.nan)
    readings = {}
    for i, text in enumerate(texts):
        content = (*(False,) * len(text.prompt_ids), *(t not in special for t in text.new_ids))
        if any(content):
            tokens = TokenisedText((*text.prompt_ids, *text.new_ids), content)
            readings[i] = Reading(tokens, TextRecord(str(i), "", "", text.text))
    if readings:
        read = read_texts(model, list(readings.values()), story_mean(), push.vector.header, progress=False)
        along = read.values[:, layer] @ push.vector.at(layer) / push.vector.natural[layer]
        out[list(readings)] = math.copysign(1, push.dose.value) * along.double().numpy()
    return out


def measure_texts(
    model: Model, prompt: str, written: Written, readings: Float[np.ndarray, " n_texts"], thresholds: Thresholds
) -> pd.DataFrame:
    """The table of a `TextComparison`: each text beside the first, which is the unsteered one."""
    texts = list(written.values())
    ids = [t.new_ids for t in texts]
    scored = likelihood(model, [t.prompt_ids for t in texts], ids)
    nll = np.where([t.broken for t in texts], np.inf, scored.nll)
    surprise = np.exp(excess(nll, scored.entropy))
    distinct, loops = repetition(ids)
    regimes = text_regimes(surprise, distinct, loops, np.zeros(len(texts), dtype=bool), thresholds)
    foreign = [foreign_letters(t.text, (prompt, texts[0].text)) for t in texts]
    return pd.DataFrame(
        {
            "column": list(written),
            "text": [t.text for t in texts],
            "n_tokens": [len(row) for row in ids],
            "perplexity_ratio": np.exp(nll - nll[0]),
            "surprise": surprise,
            "distinct_2": distinct,
            "loop_share": loops,
            "edit_distance": [edit_distance(row, ids[0]) for row in ids],
            "foreign": foreign,
            "reading": readings[: len(texts)],
            "damage": [
                name if name != INERT else OTHER_SCRIPT if share > MOST_FOREIGN else ""
                for name, share in zip(regimes, foreign, strict=True)
            ],
        }
    )


def text_regime(row: pd.Series, drawn: Sequence[float], p: float | None, thresholds: Thresholds) -> str:
    """The regime of one text; only damage can be told where nothing was drawn beside it."""
    if row.edit_distance == 0:
        return INERT
    if row.damage:
        return str(row.damage)
    beyond = row.reading > 0 and (p <= thresholds.alpha if p is not None else all(row.reading > x for x in drawn))
    return INERT if not beyond else SURGICAL if drawn else NOT_JUDGED


# One prompt continued side by side: unsteered, steered, and pushed as far in a random direction.
UNSTEERED, STEERED, RANDOM = "unsteered", "steered", "random"
COLUMNS = (UNSTEERED, STEERED, RANDOM)
Written = Mapping[str, Continuation]  # column -> what was written
OnGrowth = Callable[[dict[str, list[int]]], None]  # column -> its new tokens so far


@dataclass(frozen=True)
class Push:
    """What is done to one prompt.

    Attributes:
        vector: one vector, or a mixture of some.
        dose: how far, at every one of `layers`.
        layers: from 0.
        control: a random direction of the same sizes (`vectors.mixture.random_like`); None: no third column.
        sampling: the same draws in every column, so that columns differ by the push alone.
    """

    prompt: str
    vector: EmotionVector
    dose: Dose
    layers: tuple[int, ...]
    control: EmotionVector | None = None
    max_new_tokens: int = 40
    sampling: Sampling = GREEDY
    positions: Positions = "all"

    @property
    def columns(self) -> tuple[str, ...]:
        return COLUMNS if self.control is not None else COLUMNS[:2]

    @property
    def read_layer(self) -> int:
        """Where texts are read for their effect: the middle one of the steered layers."""
        return self.layers[len(self.layers) // 2]


def check_push(model: Model, push: Push) -> None:
    """Raise what `write_side_by_side` would, before anything is computed.

    Raises:
        FingerprintError, UnsupportedModelError, DoseError, ContextLengthError: see `generate_steered`.
    """
    check_fits(model, push.vector, allow_processed=True)
    push.vector.check_layers(push.layers)
    check_positions(push.positions)
    check_prompts(model, [encode(model, push.prompt)], push.max_new_tokens)


def write_side_by_side(model: Model, push: Push, on_growth: OnGrowth | None = None) -> dict[str, Continuation]:
    """Continue the prompt in all columns at once; each text is what `steer` and `generate_tokens` give alone.

    Args:
        on_growth: told after every step all new tokens so far of the columns that grew; what it raises ends the
            writing and leaves no hook behind.
    """
    check_push(model, push)
    vectors = (None, push.vector, push.control)[: len(push.columns)]
    tick = (lambda ids: on_growth({COLUMNS[i]: row for i, row in ids.items()})) if on_growth else None
    return dict(zip(push.columns, _write(model, push, vectors, tick), strict=True))
