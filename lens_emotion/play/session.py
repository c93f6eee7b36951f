"""A model with its vectors, and what the page may ask of them: events of a steered text, scores of a text's tokens."""

from __future__ import annotations

import math
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lens_emotion.analysis.tokens import token_scores
from lens_emotion.display import said, visible
from lens_emotion.errors import DoseError, UnsupportedModelError
from lens_emotion.extraction.activations import PooledActivations, check_made_on
from lens_emotion.extraction.comprehension import default_stimuli
from lens_emotion.extraction.kept import READINGS, Say, own_reading
from lens_emotion.models.access import Model, ModelInfo, describe
from lens_emotion.models.catalog import TINY
from lens_emotion.models.layers import layers_in_words, resolve_layer, resolve_layers
from lens_emotion.models.loading import row_of
from lens_emotion.models.prompting import decode_text
from lens_emotion.models.sampling import Sampling
from lens_emotion.models.templates import chat_prompt, has_chat_template
from lens_emotion.play.asks import MAX_CHARACTERS, MAX_EMOTIONS, MAX_TOKENS, Ask, Look, Take, concerning
from lens_emotion.steering.comparison import (
    N_NULLS,
    Push,
    TextComparison,
    check_push,
    compare_texts,
    own_thresholds,
    write_side_by_side,
)
from lens_emotion.steering.dose import Dose, mean_units
from lens_emotion.steering.regimes import Thresholds
from lens_emotion.stimuli.emotions import valence_arousal
from lens_emotion.stimuli.prompts import scenarios
from lens_emotion.vectors.emotion_vectors import EmotionVector, EmotionVectors, mixture, random_like
from lens_emotion.vectors.interchange import as_set, to_gguf

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
WARM = 0.8  # temperature at first: greedy, real models loop; the tiny ones are trained to go on greedily
Event = dict[str, Any]
Emit = Callable[[Event], None]


@dataclass(frozen=True)
class Session:
    """What one playground serves.

    Attributes:
        info: facts of the model, taken before anything runs: while it writes, its parts are not where they were.
        acts: texts that the model read: token scores start from their mean over emotions, and random directions have
            their covariance, as in the analyses.
        thresholds: of regimes, per temperature, made when first needed.
    """

    model: Model
    vectors: EmotionVectors
    info: ModelInfo
    acts: PooledActivations
    turns: Turns = field(default_factory=Turns)
    thresholds: dict[float, Thresholds] = field(default_factory=dict)

    @property
    def openings(self) -> tuple[str, ...]:
        """Scenario openings of the model's own stimuli, one per emotion."""
        found = scenarios(default_stimuli(self.model))
        return tuple(dict.fromkeys(s.opening for s in found[::2]))[:N_UNSTEERED]

    @property
    def temperature(self) -> float:
        """Of sampling, unless another is asked for."""
        return 0.0 if row_of(self.model) in TINY else WARM

    def limits(self, temperature: float, tick: Callable[..., None]) -> Thresholds:
        """Where regimes begin at a temperature; what `tick` raises ends the measuring."""
        if temperature not in self.thresholds:
            sampling = Sampling(temperature, TOP_P, 0)
            made = own_thresholds(self.model, self.openings, sampling, CALIBRATION_TOKENS, tick)
            self.thresholds[temperature] = made
        return self.thresholds[temperature]


def session_of(
    model: Model,
    vectors: EmotionVectors,
    acts: PooledActivations | None = None,
    readings: Path | None = READINGS,
    say: Say = print,
) -> Session:
    """A session of a model and its vectors. The one place where it is settled what token scores are compared with.

    Args:
        acts: texts behind the vectors; None: the model's own, of an earlier call or read now (`own_reading`).
        readings, say: as in `own_reading`.

    Raises:
        FingerprintError: vectors, or activations, of another model.
    """
    info = describe(model)
    check_made_on(info, vectors.header, *([] if acts is None else [acts.header]), may_allow=False)
    return Session(model, vectors, info, own_reading(model, readings, say) if acts is None else acts)


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
        "vectors": visible(f"{vectors.header.recipe}, {said(vectors.header.method)} of {vectors.header.stimuli}"),
        "emotions": [{"name": e, "colour": emotion_colour(e), "at": _norm(e)} for e in vectors.emotions],
        "openings": list(session.openings[:8]),
        "temperature": session.temperature,
        "limits": {"characters": MAX_CHARACTERS, "tokens": MAX_TOKENS, "emotions": MAX_EMOTIONS},
    }


def _norm(emotion: str) -> tuple[float, float] | None:
    """(valence, arousal) of an emotion's word, 1 to 9, as people rate it; None where nobody was asked."""
    norm = valence_arousal().get(emotion)
    known = norm is not None and norm.valence is not None and norm.arousal is not None
    return (norm.valence, norm.arousal) if known else None  # type: ignore[union-attr,return-value]


def push_of(session: Session, ask: Ask) -> Push:
    """The request as a push, checked against model and vectors before anything is written. What is being written now
    is stopped first, since this run takes its place.

    Raises:
        AskError: what is wrong, with which field, and what would fit.
    """
    session.turns.stop()
    with session.turns.wait():
        with concerning("mix"):
            vector = _mixed(session, ask)
        with concerning("chat"):
            if ask.chat and not has_chat_template(session.model):
                raise UnsupportedModelError("this model has no chat template; turn 'chat turn' off")
            prompt = chat_prompt(session.model, ask.prompt) if ask.chat else ask.prompt
        with concerning("dose"):
            dose = Dose(ask.dose, ask.unit)
        push = Push(
            prompt=prompt,
            vector=vector,
            dose=dose,
            layers=_layers(session, ask),
            control=random_like(session.vectors, vector, ask.seed) if ask.control else None,
            max_new_tokens=ask.tokens,
            sampling=Sampling(ask.temperature, TOP_P, ask.seed),
            positions=ask.positions,
        )
        with concerning("layers"):
            vector.check_layers(push.layers)
        with concerning("prompt"):
            check_push(session.model, push)
    return push


def _mixed(session: Session, ask: Ask | Take) -> EmotionVector:
    return mixture(session.vectors, [(weight, emotion) for emotion, weight in ask.mix.items()])


def _layers(session: Session, ask: Ask | Take) -> tuple[int, ...]:
    with concerning("layers"):
        return resolve_layers(range(ask.layers[0], ask.layers[1] + 1), session.vectors.n_layers)


def vector_file(session: Session, take: Take) -> tuple[str, bytes]:
    """A name and the bytes of a vector, as the package writes it: safetensors of every layer, to be loaded with
    `EmotionVectors.load` or `play --vectors`; GGUF of the layers and the dose chosen, for llama.cpp and repeng.

    Raises:
        AskError: what is wrong, with which field, and what would fit.
    """
    with concerning("mix"):
        vector = _mixed(session, take)
    name = re.sub(r"[^A-Za-z0-9]+", "-", vector.name).strip("-")[:60] or "vector"
    layers = _layers(session, take)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.{take.format}"
        if take.format == "safetensors":
            with concerning("mix"):
                as_set([vector]).save(path)
        else:
            with concerning("dose"):
                if take.unit != "natural":
                    raise DoseError("a GGUF file holds a dose in natural units; choose them")
                if not take.dose:
                    raise DoseError("dose 0 makes no vector; raise it")
            with concerning("layers"):
                to_gguf(vector, path, take.dose, list(layers))
        return path.name, path.read_bytes()


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
        written_in = time.monotonic() - started
        emit({"type": "texts", "texts": texts, "tokens": tokens, "seconds": written_in})

        def tick(_: Any) -> None:
            check(stop)

        thresholds, started = session.limits(push.sampling.temperature, tick), time.monotonic()
        # random directions that make up 19 together with the control's own, if there is one
        n_more = N_NULLS - (push.control is not None) if test else 0
        nulls = [random_like(session.vectors, push.vector, push.sampling.seed + 1 + i) for i in range(n_more)]
        found = compare_texts(session.model, push, written, thresholds, len(session.openings), nulls, tick)
        check(stop)
        took = written_in + time.monotonic() - started  # less what only the first run at a temperature costs
        emit(_verdict(found) | {"seconds": took})


def _start(session: Session, push: Push) -> Event:
    natural, relative = mean_units(push.vector, push.dose, push.layers)
    return {
        "type": "start",
        "columns": list(push.columns),
        "vector": push.vector.name,
        "layers": layers_in_words(push.layers, session.vectors.n_layers),
        "natural": plain(natural),
        "relative": plain(relative),
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
        "measures": {column: {k: plain(v) for k, v in row.items()} for column, row in rows.iterrows()},
        "damage": dict(zip(found.table["column"], found.table["damage"], strict=True)),
        "p": found.p,
        "nulls": [plain(x) for x in found.nulls],
        "explosive": found.thresholds.explosive_ratio,
        "unreliable": not found.ratio_reliable,
    }


def look(session: Session, asked: Look) -> Event:
    """Scores of a text's tokens; "band" is where 95% of random directions lie at the same token.

    Raises:
        AskError: what is wrong, with which field, and what would fit.
    """
    with concerning("layer"):
        resolve_layer(asked.layer, session.vectors.n_layers, 0)
    with concerning("emotions"):
        _ = [session.vectors[emotion] for emotion in asked.emotions]
    with session.turns.wait(), concerning("text"):
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
                "scores": [plain(x) for x in read.scores[i]],
                "low": [plain(x) for x in read.null_low[i]],
                "high": [plain(x) for x in read.null_high[i]],
                "p": [plain(x) for x in read.p_corrected[i]],
            }
            for i, emotion in enumerate(read.emotions)
        ],
    }


def plain(value: Any) -> float | None:
    """A number that JSON knows; null for what is not one."""
    return float(value) if math.isfinite(value) else None
