"""What the page asks for: JSON in, a checked request out, every limit in one place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from reprlib import Repr
from typing import Any

from lens_emotion.errors import LensEmotionError
from lens_emotion.files.read import strict_json
from lens_emotion.steering.dose import UNITS
from lens_emotion.steering.hooks import NAMES

MAX_BODY = 64 * 1024  # bytes of a request
MAX_CHARACTERS = 8_000  # of a prompt or a text to read
MAX_TOKENS = 256  # new ones
MAX_EMOTIONS = 8  # of a mixture
LAYERS = ("first_layer", "last_layer")
FORMATS = ("safetensors", "gguf")
_SHORT = Repr()  # a wrong value in a message
MAX_DOSE, MAX_WEIGHT, MAX_TEMPERATURE = 64.0, 4.0, 2.0


class AskError(LensEmotionError):
    """A request that cannot be met: no JSON, a field of another kind or out of range, or one that the model refuses.

    Attributes:
        field: which one, so that the page says it beside that control; "" where it is none alone.
    """

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


@contextmanager
def concerning(field: str) -> Iterator[None]:
    """What the package refuses in the block was asked for by this field.

    Raises:
        AskError: in place of any other error that the user can mend.
    """
    try:
        yield
    except AskError:
        raise
    except LensEmotionError as error:
        raise AskError(str(error), field) from None


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
class Take:
    """A vector to be taken along, as a file: the mixture at every layer, or one dose of it at some layers."""

    mix: dict[str, float]
    dose: float
    unit: str
    layers: tuple[int, int]
    format: str


@dataclass(frozen=True)
class Look:
    """A text to be read: token scores on some emotions at one layer (None: the middle one)."""

    text: str
    emotions: tuple[str, ...]
    layer: int | None


def read_ask(body: bytes) -> Ask:
    """The request to write.

    Raises:
        AskError: what is wrong, and what would fit.
    """
    data = _object(body, Ask)
    return Ask(
        prompt=_text(data, "prompt"),
        **_what(data),
        tokens=_whole(data, "tokens", 40, 1, MAX_TOKENS),
        temperature=_number(data, "temperature", 0.0, 0.0, MAX_TEMPERATURE),
        seed=_whole(data, "seed", 0, 0, 2**31 - 1),
        positions=_choice(data, "positions", NAMES),
        control=_flag(data, "control"),
        test=_flag(data, "test"),
        chat=_flag(data, "chat"),
    )


def read_take(body: bytes) -> Take:
    """The request for a file.

    Raises:
        AskError: what is wrong, and what would fit.
    """
    data = _object(body, Take)
    return Take(**_what(data), format=_choice(data, "format", FORMATS))


def read_look(body: bytes) -> Look:
    """The request to read a text.

    Raises:
        AskError: what is wrong, and what would fit.
    """
    data = _object(body, Look)
    emotions = data.get("emotions")
    if not isinstance(emotions, list) or not 1 <= len(emotions) <= MAX_EMOTIONS:
        raise AskError(f"choose 1 to {MAX_EMOTIONS} emotions to read a text for", "emotions")
    layer = None if data.get("layer") is None else _whole(data, "layer", 0, 0, 10_000)
    if wrong := [e for e in emotions if not isinstance(e, str)]:
        raise AskError(f"{str(wrong[0])[:40]} is no emotion; choose emotions by name", "emotions")
    return Look(_text(data, "text"), tuple(emotions), layer)


def _what(data: Mapping[str, Any]) -> dict[str, Any]:
    """What is added, how much of it, and where."""
    mix = data.get("mix")
    if not isinstance(mix, dict) or not mix:
        raise AskError("no emotion chosen; choose at least one", "mix")
    if len(mix) > MAX_EMOTIONS:
        raise AskError(f"{len(mix)} emotions in one mixture; {MAX_EMOTIONS} at most", "mix")
    first, last = (_whole(data, name, 0, 0, 10_000) for name in ("first_layer", "last_layer"))
    weights = {str(name): _number(mix, str(name), 0.0, -MAX_WEIGHT, MAX_WEIGHT, "mix") for name in mix}
    return {
        "mix": weights,
        "dose": _number(data, "dose", 3.0, -MAX_DOSE, MAX_DOSE),
        "unit": _choice(data, "unit", UNITS),
        "layers": (min(first, last), max(first, last)),
    }


def _object(body: bytes, kind: type) -> dict[str, Any]:
    """A request's fields; one that is not known would be passed over, and something else be run than was asked."""
    known = [name for f in fields(kind) for name in (LAYERS if f.name == "layers" else (f.name,))]
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
        raise AskError(f"{name} is {str(value)[:40]}, neither true nor false; reload the page", name)
    return value


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not value.strip():
        raise AskError(f"the {name} is empty; give some text", name)
    if any("\ud800" <= c <= "\udfff" for c in value):
        raise AskError(f"the {name} holds half a character (a lone surrogate); paste the text again", name)
    if len(value) > MAX_CHARACTERS:
        raise AskError(f"the {name} has {len(value):,} characters; {MAX_CHARACTERS:,} at most: shorten it", name)
    return value


def _number(
    data: Mapping[str, Any], name: str, default: float, low: float, high: float, field: str | None = None
) -> float:
    value = data.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:  # nor NaN
        said = f"{value:g}" if isinstance(value, float) else _SHORT.repr(value)  # a whole number has any length
        raise AskError(f"{name} is {said}; give a number from {low:g} to {high:g}", field or name)
    return float(value)


def _whole(data: Mapping[str, Any], name: str, default: int, low: int, high: int) -> int:
    value = _number(data, name, default, low, high)
    if value != int(value):
        raise AskError(f"{name} is {value:g}; give a whole number", name)
    return int(value)


def _choice(data: Mapping[str, Any], name: str, known: tuple[str, ...]) -> str:
    value = data.get(name, known[0])
    if value not in known:
        raise AskError(f"{name} is {_SHORT.repr(value)}; use {', '.join(known)}", name)
    return str(value)
