"""What the page asks for: JSON in, a checked request out, every limit in one place."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lens_emotion.errors import DoseError, LensEmotionError, StimulusError
from lens_emotion.steering.dose import UNITS
from lens_emotion.steering.positions import NAMES

MAX_BODY = 64 * 1024  # bytes of a request
MAX_CHARACTERS = 8_000  # of a prompt or a text to read
MAX_TOKENS = 256  # new ones
MAX_EMOTIONS = 8  # of a mixture
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
    data = _object(body)
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
        **{name: data.get(name) is True for name in ("control", "test", "chat")},
    )


def read_look(body: bytes) -> Look:
    """The request to read a text.

    Raises:
        AskError, StimulusError: what is wrong, and what would fit.
    """
    data = _object(body)
    emotions = data.get("emotions")
    if not isinstance(emotions, list) or not 1 <= len(emotions) <= MAX_EMOTIONS:
        raise StimulusError(f"choose 1 to {MAX_EMOTIONS} emotions to read a text for")
    layer = None if data.get("layer") is None else _whole(data, "layer", 0, 0, 10_000)
    return Look(_text(data, "text"), tuple(str(e) for e in emotions), layer)


def _object(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise AskError("the request is not JSON; reload the page") from None
    if not isinstance(data, dict):
        raise AskError("the request is not a JSON object; reload the page")
    return data


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not value.strip():
        raise StimulusError(f"the {name} is empty; give some text")
    if len(value) > MAX_CHARACTERS:
        raise StimulusError(f"the {name} has {len(value):,} characters; {MAX_CHARACTERS:,} at most: shorten it")
    return value


def _number(data: Mapping[str, Any], name: str, default: float, low: float, high: float) -> float:
    value = data.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise AskError(f"{name} is {value!r}; give a number from {low:g} to {high:g}")
    if not low <= value <= high:
        raise AskError(f"{name} is {value:g}; give a number from {low:g} to {high:g}")
    return float(value)


def _whole(data: Mapping[str, Any], name: str, default: int, low: int, high: int) -> int:
    value = _number(data, name, default, low, high)
    if value != int(value):
        raise AskError(f"{name} is {value:g}; give a whole number")
    return int(value)


def _choice(data: Mapping[str, Any], name: str, known: tuple[str, ...]) -> str:
    value = data.get(name, known[0])
    if value not in known:
        raise AskError(f"{name} is {value!r}; use {', '.join(known)}")
    return str(value)
