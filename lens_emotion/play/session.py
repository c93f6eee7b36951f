"""A model with its vectors, and what the page may ask of them: events of a steered text, scores of a text's tokens."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from reprlib import Repr
from typing import Any

from lens_emotion.analysis.tokens import token_scores
from lens_emotion.display import visible
from lens_emotion.errors import DoseError, LensEmotionError, StimulusError, UnsupportedModelError
from lens_emotion.extraction.activations import PooledActivations, check_made_on
from lens_emotion.extraction.comprehension import default_stimuli
from lens_emotion.files.read import strict_json
from lens_emotion.models.access import Model, ModelInfo, describe
from lens_emotion.models.layers import layers_in_words, resolve_layers
from lens_emotion.models.prompting import decode_text
from lens_emotion.models.sampling import Sampling
from lens_emotion.models.templates import chat_prompt, has_chat_template
from lens_emotion.steering.comparison import (
    N_NULLS,
    Push,
    TextComparison,
    check_push,
    compare_texts,
    own_thresholds,
    write_side_by_side,
)
from lens_emotion.steering.dose import UNITS, Dose, mean_units
from lens_emotion.steering.hooks import NAMES
from lens_emotion.steering.regimes import Thresholds
from lens_emotion.stimuli.prompts import scenarios
from lens_emotion.vectors.emotion_vectors import EmotionVectors, mixture, random_like

# What the page asks for: JSON in, a checked request out, every limit in one place.
MAX_BODY = 64 * 1024  # bytes of a request
MAX_CHARACTERS = 8_000  # of a prompt or a text to read
MAX_TOKENS = 256  # new ones
MAX_EMOTIONS = 8  # of a mixture
_SHORT = Repr()  # a wrong value in a message
MAX_DOSE, MAX_WEIGHT, MAX_TEMPERATURE = 64.0, 4.0, 2.0


class AskError(LensEmotionError):
    """A request that the page would not send: no JSON, a field of another kind or out of range."""


@dataclass(frozen=True)
class Ask:
    """A text to be written.

    Attributes:
        mix: emotion -> weight, in natural units.
        layers: first and last steered layer.
        control: write the random direction's column too.
        test: run 19 random directions behind the verdict.
        chat: put the prompt through the model's chat template.
    """

    prompt: str
    mix: dict[str, float]
    dose: float
    unit: str
    layers: tuple[int, int]
    tokens: int
    temperature: float
    seed: int
    positions: str
    control: bool
    test: bool
    chat: bool


@dataclass(frozen=True)
class Look:
    """A text to be read: token scores on some emotions at one layer (None: the middle one)."""

    text: str
    emotions: tuple[str, ...]
    layer: int | None


def read_ask(body: bytes) -> Ask:
    """The request to write.

    Raises:
        AskError, StimulusError, DoseError: what is wrong, and what would fit.
    """
    data = _object(body, *(f.name for f in fields(Ask) if f.name != "layers"), "first_layer", "last_layer")
    mix = data.get("mix")
    if not isinstance(mix, dict) or not mix:
        raise DoseError("no emotion chosen; choose at least one")
    if len(mix) > MAX_EMOTIONS:
        raise DoseError(f"{len(mix)} emotions in one mixture; {MAX_EMOTIONS} at most")
    first, last = (_whole(data, name, 0, 0, 10_000) for name in ("first_layer", "last_layer"))
    return Ask(
        prompt=_text(data, "prompt"),
        mix={str(name): _number(mix, str(name), 0.0, -MAX_WEIGHT, MAX_WEIGHT) for name in mix},
        dose=_number(data, "dose", 3.0, -MAX_DOSE, MAX_DOSE),
        unit=_choice(data, "unit", UNITS),
        layers=(min(first, last), max(first, last)),
        tokens=_whole(data, "tokens", 40, 1, MAX_TOKENS),
        temperature=_number(data, "temperature", 0.0, 0.0, MAX_TEMPERATURE),
        seed=_whole(data, "seed", 0, 0, 2**31 - 1),
        positions=_choice(data, "positions", NAMES),
        **{name: _flag(data, name) for name in ("control", "test", "chat")},
    )


def read_look(body: bytes) -> Look:
    """The request to read a text.

    Raises:
        AskError, StimulusError: what is wrong, and what would fit.
    """
    data = _object(body, *(f.name for f in fields(Look)))
    emotions = data.get("emotions")
    if not isinstance(emotions, list) or not 1 <= len(emotions) <= MAX_EMOTIONS:
        raise StimulusError(f"choose 1 to {MAX_EMOTIONS} emotions to read a text for")
    layer = None if data.get("layer") is None else _whole(data, "layer", 0, 0, 10_000)
    if wrong := [e for e in emotions if not isinstance(e, str)]:
        raise StimulusError(f"{str(wrong[0])[:40]} is no emotion; choose emotions by name")
    return Look(_text(data, "text"), tuple(emotions), layer)


def _object(body: bytes, *known: str) -> dict[str, Any]:
    """A request's fields; one that is not known would be passed over, and something else be run than was asked."""
    try:
        data = strict_json(body)
    except ValueError as error:
        raise AskError(f"the request is not JSON ({str(error)[:80]}); reload the page") from None
    if not isinstance(data, dict):
        raise AskError("the request is not a JSON object; reload the page")
    if unknown := sorted(data.keys() - set(known)):
        raise AskError(f"no field {unknown[0]!r:.60}; known are {', '.join(known)}")
    return data


def _flag(data: Mapping[str, Any], name: str) -> bool:
    value = data.get(name, False)
    if not isinstance(value, bool):
        raise AskError(f"{name} is {str(value)[:40]}, neither true nor false; reload the page")
    return value


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not value.strip():
        raise StimulusError(f"the {name} is empty; give some text")
    if any("\ud800" <= c <= "\udfff" for c in value):
        raise StimulusError(f"the {name} holds half a character (a lone surrogate); paste the text again")
    if len(value) > MAX_CHARACTERS:
        raise StimulusError(f"the {name} has {len(value):,} characters; {MAX_CHARACTERS:,} at most: shorten it")
    return value


def _number(data: Mapping[str, Any], name: str, default: float, low: float, high: float) -> float:
    value = data.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:  # nor NaN
        said = f"{value:g}" if isinstance(value, float) else _SHORT.repr(value)  # a whole number has any length
        raise AskError(f"{name} is {said}; give a number from {low:g} to {high:g}")
    return float(value)


def _whole(data: Mapping[str, Any], name: str, default: int, low: int, high: int) -> int:
    value = _number(data, name, default, low, high)
    if value != int(value):
        raise AskError(f"{name} is {value:g}; give a whole number")
    return int(value)


def _choice(data: Mapping[str, Any], name: str, known: tuple[str, ...]) -> str:
    value = data.get(name, known[0])
    if value not in known:
        raise AskError(f"{name} is {_SHORT.repr(value)}; use {', '.join(known)}")
    return str(value)


# One generation at a time: who comes new stops the one that runs.


class StoppedError(Exception):
    """The generation was told to stop: by the user, by a newer one, or since nobody listens any more."""


@dataclass
class Turns:
    """The one place at the model."""

    _place: threading.Lock = field(default_factory=threading.Lock)
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _current: threading.Event | None = None

    @contextmanager
    def take(self, stop: threading.Event) -> Iterator[None]:
        """The model for the length of the block, once whoever had it has heard that it must stop.

        Raises:
            StoppedError: `stop` was set while waiting.
        """
        with self._guard:
            if self._current is not None:
                self._current.set()
            self._current = stop
        with self._place:
            check(stop)
            yield

    @contextmanager
    def wait(self) -> Iterator[None]:
        """The model for the length of the block, after whoever has it; nobody is stopped."""
        with self._place:
            yield

    def stop(self) -> None:
        """Stop the one that runs, if one does."""
        with self._guard:
            if self._current is not None:
                self._current.set()


def check(stop: threading.Event) -> None:
    """Raises StoppedError if told to stop."""
    if stop.is_set():
        raise StoppedError


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
    check_made_on(info, vectors.header, may_allow=False)
    return Session(model, vectors, info, acts)


def facts(session: Session) -> Event:
    """What the page needs to know before anything is asked."""
    from lens_emotion.plots.theme import emotion_colour

    info, vectors = session.info, session.vectors
    return {
        "model": visible(info.name),
        "family": info.family,
        "layers": info.n_layers,
        "width": info.d_model,
        "device": info.device,
        "dtype": info.dtype,
        "context": info.n_ctx,
        "chat": has_chat_template(session.model),
        "vectors": visible(f"{vectors.header.recipe}, {vectors.header.method} of {vectors.header.stimuli}"),
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
        vector = mixture(session.vectors, [(weight, emotion) for emotion, weight in ask.mix.items()])
        if ask.chat and not has_chat_template(session.model):
            raise UnsupportedModelError("this model has no chat template; turn 'chat turn' off")
        push = Push(
            prompt=chat_prompt(session.model, ask.prompt) if ask.chat else ask.prompt,
            vector=vector,
            dose=Dose(ask.dose, ask.unit),
            layers=resolve_layers(range(ask.layers[0], ask.layers[1] + 1), session.vectors.n_layers),
            control=random_like(session.vectors, vector, ask.seed) if ask.control else None,
            max_new_tokens=ask.tokens,
            sampling=Sampling(ask.temperature, TOP_P, ask.seed),
            positions=ask.positions,
        )
        check_push(session.model, push)
    return push


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
        tokens = {c: len(w.new_ids) for c, w in written.items()}
        texts = {c: w.text for c, w in written.items()}
        emit({"type": "texts", "texts": texts, "tokens": tokens, "seconds": time.monotonic() - started})

        def tick(_: Any) -> None:
            check(stop)

        temperature = push.sampling.temperature
        if temperature not in session.thresholds:
            sampling = Sampling(temperature, TOP_P, 0)
            made = own_thresholds(session.model, session.openings, sampling, CALIBRATION_TOKENS, tick)
            session.thresholds[temperature] = made
        thresholds = session.thresholds[temperature]
        # random directions that make up 19 together with the control's own, if there is one
        n_more = N_NULLS - (push.control is not None) if test else 0
        nulls = [random_like(session.vectors, push.vector, push.sampling.seed + 1 + i) for i in range(n_more)]
        found = compare_texts(session.model, push, written, thresholds, len(session.openings), nulls, tick)
        check(stop)
        emit(_verdict(found))


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
