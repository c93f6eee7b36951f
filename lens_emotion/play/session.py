"""A model with its vectors, and what the page may ask of them: events of a steered text, scores of a text's tokens."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lens_emotion.analysis.tokens import token_scores
from lens_emotion.errors import UnsupportedModelError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.extraction.comprehension import default_stimuli
from lens_emotion.models.access import Model, ModelInfo, describe
from lens_emotion.models.decoding import Sampling
from lens_emotion.models.prompting import chat_prompt, decode_text, has_chat_template
from lens_emotion.play.ask import Ask, Look
from lens_emotion.play.turns import Turns, check
from lens_emotion.steering.comparison import N_NULLS, TextComparison, compare_texts, own_thresholds
from lens_emotion.steering.dose import Dose, layers_in_words, mean_units, resolve_layers
from lens_emotion.steering.regimes import Thresholds
from lens_emotion.steering.side_by_side import Push, check_push, write_side_by_side
from lens_emotion.stimuli.prompts import scenarios
from lens_emotion.vectors.emotion_vectors import EmotionVector, EmotionVectors
from lens_emotion.vectors.mixture import mixture, random_like

N_UNSTEERED, CALIBRATION_TOKENS, TOP_P = 20, 40, 0.95
Event = dict[str, Any]
Emit = Callable[[Event], None]


@dataclass(frozen=True)
class Session:
    """What one playground serves.

    Attributes:
        info: facts of the model, taken before anything runs: while it writes, its parts are not where they were.
        acts: the texts behind the vectors, if they are at hand: token scores then start from the mean of all emotions.
        thresholds: of regimes, per temperature, made when first needed.
    """

    model: Model
    vectors: EmotionVectors
    info: ModelInfo
    acts: PooledActivations | None = None
    turns: Turns = field(default_factory=Turns)
    thresholds: dict[float, Thresholds] = field(default_factory=dict)

    @property
    def openings(self) -> tuple[str, ...]:
        """Scenario openings of the model's own stimuli, one per emotion."""
        found = scenarios(default_stimuli(self.model))
        return tuple(dict.fromkeys(s.opening for s in found[::2]))[:N_UNSTEERED]


def session_of(model: Model, vectors: EmotionVectors, acts: PooledActivations | None = None) -> Session:
    """A session of a model and its vectors.

    Raises:
        FingerprintError: vectors of another model.
    """
    info = describe(model)
    vectors.check_model(info.fingerprint, info.name)
    return Session(model, vectors, info, acts)


def facts(session: Session) -> Event:
    """What the page needs to know before anything is asked."""
    from lens_emotion.plots.theme import emotion_colour

    info, vectors = session.info, session.vectors
    return {
        "model": info.name,
        "family": info.family,
        "layers": info.n_layers,
        "width": info.d_model,
        "device": info.device,
        "dtype": info.dtype,
        "context": info.n_ctx,
        "chat": has_chat_template(session.model),
        "vectors": f"{vectors.header.recipe}, {vectors.header.method} of {vectors.header.stimuli}",
        "emotions": [{"name": e, "colour": emotion_colour(e)} for e in vectors.emotions],
        "openings": list(session.openings[:8]),
    }


def push_of(session: Session, ask: Ask) -> Push:
    """The request as a push, checked against model and vectors before anything is written. What is being written now
    is stopped first, since this run takes its place.

    Raises:
        DoseError, UnknownEmotionError, ContextLengthError, UnsupportedModelError: what is wrong, and what would fit.
    """
    session.turns.stop()
    with session.turns.wait():
        push = _push(session, ask)
        check_push(session.model, push)
    return push


def _push(session: Session, ask: Ask) -> Push:
    vector = mixture(session.vectors, [(weight, emotion) for emotion, weight in ask.mix.items()])
    first, last = ask.layers
    if ask.chat and not has_chat_template(session.model):
        raise UnsupportedModelError("this model has no chat template; turn 'chat turn' off")
    return Push(
        prompt=chat_prompt(session.model, ask.prompt) if ask.chat else ask.prompt,
        vector=vector,
        dose=Dose(ask.dose, ask.unit),
        layers=resolve_layers(range(first, last + 1), session.vectors.n_layers),
        control=random_like(session.vectors, vector, ask.seed) if ask.control else None,
        max_new_tokens=ask.tokens,
        sampling=Sampling(ask.temperature, TOP_P, ask.seed),
        positions=ask.positions,
    )


def write(session: Session, push: Push, test: bool, emit: Emit, stop: threading.Event) -> None:
    """Write the columns and tell every step: start, grow ..., texts, verdict.

    Raises:
        StoppedError: `stop` was set; the model is as it was.
    """
    with session.turns.take(stop):
        emit(_start(session, push))
        started = time.monotonic()

        def grow(ids: dict[str, list[int]]) -> None:
            check(stop)
            emit({"type": "grow", "texts": {c: _shown(session.model, row) for c, row in ids.items()}})

        written = write_side_by_side(session.model, push, grow)
        seconds = time.monotonic() - started
        emit(
            {
                "type": "texts",
                "texts": {c: w.text for c, w in written.items()},
                "tokens": {c: len(w.new_ids) for c, w in written.items()},
                "seconds": seconds,
            }
        )

        def tick(_: Any) -> None:
            check(stop)

        thresholds = _thresholds(session, push.sampling.temperature, tick)
        nulls = _nulls(session, push) if test else ()
        found = compare_texts(session.model, push, written, thresholds, len(session.openings), nulls, tick)
        check(stop)
        emit(_verdict(found))


def _nulls(session: Session, push: Push) -> list[EmotionVector]:
    """Random directions that make up 19 together with the control's own, if there is one."""
    more = N_NULLS - (push.control is not None)
    return [random_like(session.vectors, push.vector, push.sampling.seed + 1 + i) for i in range(more)]


def _start(session: Session, push: Push) -> Event:
    natural, relative = mean_units(push.vector, push.dose, push.layers)
    return {
        "type": "start",
        "columns": list(push.columns),
        "vector": push.vector.name,
        "layers": layers_in_words(push.layers, session.vectors.n_layers),
        "natural": _plain(natural),
        "relative": _plain(relative),
    }


def _shown(model: Model, ids: Sequence[int]) -> str:
    """The text so far; a character whose bytes have not all come yet is held back."""
    return decode_text(model, ids).rstrip("\ufffd")


def _thresholds(session: Session, temperature: float, tick: Callable[..., None]) -> Thresholds:
    if temperature not in session.thresholds:
        sampling = Sampling(temperature, TOP_P, 0)
        made = own_thresholds(session.model, session.openings, sampling, CALIBRATION_TOKENS, tick)
        session.thresholds[temperature] = made
    return session.thresholds[temperature]


def _verdict(found: TextComparison) -> Event:
    rows = found.table.drop(columns=["text", "damage"]).set_index("column")
    return {
        "type": "verdict",
        "regime": found.regime,
        "summary": found.summary(),
        "measures": {column: {k: _plain(v) for k, v in row.items()} for column, row in rows.iterrows()},
        "damage": dict(zip(found.table["column"], found.table["damage"], strict=True)),
        "p": found.p,
        "nulls": [_plain(x) for x in found.nulls],
        "explosive": found.thresholds.explosive_ratio,
    }


def look(session: Session, asked: Look) -> Event:
    """Scores of a text's tokens; "band" is where 95% of random directions lie at the same token.

    Raises:
        StimulusError, ContextLengthError, UnknownEmotionError, AnalysisError: what is wrong, and what would fit.
    """
    with session.turns.wait():
        read = token_scores(session.model, session.vectors, asked.text, asked.emotions, asked.layer, session.acts)
    return {
        "tokens": list(read.tokens),
        "content": read.content.tolist(),
        "layer": read.layer,
        "origin": read.origin,
        "summary": read.summary(),
        "emotions": [
            {
                "name": emotion,
                "scores": [_plain(x) for x in read.scores[i]],
                "low": [_plain(x) for x in read.null_low[i]],
                "high": [_plain(x) for x in read.null_high[i]],
                "p": [_plain(x) for x in read.p_corrected[i]],
            }
            for i, emotion in enumerate(read.emotions)
        ],
    }


def _plain(value: Any) -> float | None:
    """A number that JSON knows; null for what is not one."""
    return float(value) if math.isfinite(value) else None
