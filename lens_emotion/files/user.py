"""Files that a user writes, in TOML or JSON: read, held against a JSON Schema, and every fault named with its line.

A schema lies in `lens_emotion/schemas/NAME.json`. Neither parser keeps lines, so that they are looked for when a fault
has been found, and reading a good file costs nothing more.
"""

from __future__ import annotations

import difflib
import json
import tomllib
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields
from functools import cache
from importlib import resources
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NoReturn, TypeVar, cast, get_args, get_origin, get_type_hints

from lens_emotion.errors import ArtifactError, StimulusError

Step = str | int
SUFFIXES = (".toml", ".json")
_CLOSERS = ("", "]", '"""', "'''", '"""]', "]]", "}]", "}")  # what may be open at the end of a line of TOML


def is_user_file(name: object) -> bool:
    """Whether a setting names a file rather than something that ships with the package."""
    return Path(str(name)).suffix.lower() in SUFFIXES


@dataclass(frozen=True)
class UserFile:
    """A file as parsed: plain data, and its text, in which lines are looked up."""

    path: Path
    text: str
    data: Any  # a table, once the schema has passed it

    def line(self, *at: Step) -> int:
        """Line, from 1, where the value at a path such as ("items", 3, "text") stands, or its nearest parent."""
        find = _toml_line if self.path.suffix.lower() == ".toml" else _json_line
        for length in range(len(at), 0, -1):
            if (line := find(self.text, at[:length])) is not None:
                return line
        return 1

    def fail(self, at: tuple[Step, ...], message: str) -> NoReturn:
        """Raise a StimulusError that names file, line and place."""
        place = _place(at)
        raise StimulusError(f"{self.path}, line {self.line(*at)}{f', {place}' if place else ''}: {message}")

    def beside(self, name: str) -> str:
        """A path written in this file, taken from the file's own folder."""
        path = Path(name).expanduser()
        return str(path if path.is_absolute() else self.path.parent / path)


def read_user_file(path: str | Path, schema: str) -> UserFile:
    """Read a TOML or JSON file and hold it against a schema.

    Args:
        schema: name of a file in `lens_emotion/schemas`, without ".json".

    Raises:
        StimulusError: no such file, no such format, a fault of syntax or of form, with file and line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StimulusError(f"cannot read {path}: {reason}; give a TOML or JSON file in UTF-8") from None
    file = UserFile(path, text, _parse(path, text))
    faults = list(_validator(schema).iter_errors(file.data))
    # a misspelt field also leaves a hole: the misspelling is what to mend
    for fault in sorted(faults, key=lambda f: f.validator != "additionalProperties"):
        at = tuple(fault.absolute_path)
        extra = _unknown(fault)
        file.fail((*at, extra) if extra else at, _said(fault, extra))
    for at in _no_text(file.data):
        file.fail(at, "holds half of a surrogate pair, which is no text; write the character itself")
    return file


def name_of(emotion: str) -> str:
    """An emotion's name in one form (NFC), so that an accent typed as two characters is the same letter."""
    return unicodedata.normalize("NFC", emotion.strip())


def _parse(path: Path, text: str) -> Any:
    try:
        return tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except json.JSONDecodeError as error:
        raise StimulusError(f"{path}, line {error.lineno}: not valid JSON ({error.msg})") from None
    except tomllib.TOMLDecodeError as error:  # says "(at line 3, column 4)"
        words = str(error)
        line = int(words.partition("(at line ")[2].partition(",")[0] or text.count("\n") + 1)
        key = text.split("\n")[line - 1].partition("=")[0]
        hint = "" if key.isascii() else '; a key with letters beyond a to z stands in quotes: "wütend" = ...'
        raise StimulusError(f"{path}, line {line}: not valid TOML ({words.partition(' (at')[0]}{hint})") from None
    except (RecursionError, ValueError) as error:
        kind = path.suffix.lstrip(".").upper() or "JSON"
        raise StimulusError(f"{path}: not valid {kind} ({str(error)[:80]})") from None


@cache
def schema_of(name: str) -> dict[str, Any]:
    """A schema that ships with the package."""
    found = resources.files("lens_emotion.files.schemas").joinpath(f"{name}.json").read_text(encoding="utf-8")
    return dict(json.loads(found))


@cache
def _validator(schema: str) -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(schema_of(schema))


def _unknown(error: Any) -> str | None:
    """The first field that the schema does not know, if that is the fault."""
    if error.validator != "additionalProperties":
        return None
    return next((k for k in error.instance if k not in error.schema.get("properties", {}) and k[:1] not in "_$"), None)


def _said(error: Any, extra: str | None) -> str:
    """A schema's complaint in the words of this package: what was given, what would fit."""
    given, wanted = error.instance, error.validator_value
    if extra:
        known = list(error.schema["properties"])
        close = difflib.get_close_matches(extra, known, n=1)
        return f'no field "{extra}"; {f"did you mean {close[0]}? " if close else ""}Known are {", ".join(known)}'
    if error.validator == "required":
        missing = ", ".join(f'"{k}"' for k in wanted if k not in given)
        return f"{missing} is missing; needed are {', '.join(wanted)}"
    said: dict[str, Callable[[], str]] = {
        "type": lambda: f"expected {_type(wanted, error.schema)}, got {_shown(given)}",
        "enum": lambda: f"got {_shown(given)}; use {', '.join(map(str, wanted))}",
        "minItems": lambda: f"no {error.absolute_path[-1] if error.absolute_path else 'entry'}; give at least {wanted}",
        "minimum": lambda: f"got {_shown(given)}; give at least {wanted}",
        "exclusiveMinimum": lambda: f"got {_shown(given)}; give more than {wanted}",
        "pattern": lambda: (
            f"got {_shown(given)}; it is empty, or not {error.schema.get('description', 'of that form')}"
        ),
    }
    return said.get(error.validator, lambda: str(error.message)[:200])()


def _type(wanted: Any, schema: Any) -> str:
    names = {"object": "a table", "array": "a list", "string": "text", "boolean": "true or false", "number": "a number"}
    kinds = [wanted] if isinstance(wanted, str) else wanted
    holds = f" with {', '.join(schema['required'])}" if schema.get("required") else ""
    return " or ".join(names.get(k, f"an {k}" if k == "integer" else k) for k in kinds) + holds


def _shown(value: Any) -> str:
    return "a table" if isinstance(value, dict) else "a list" if isinstance(value, list) else repr(value)[:40]


def _place(at: tuple[Step, ...]) -> str:
    """("items", 3, "text") -> "item 4, text"."""
    words: list[str] = []
    for step in at:
        if isinstance(step, int) and words:
            words[-1] = f"{words[-1].removesuffix('s')} {step + 1}"
        else:
            words.append(str(step))
    return ", ".join(words)


def _no_text(data: Any) -> Iterator[tuple[Step, ...]]:
    """Places of strings that cannot be encoded (JSON may spell half of a surrogate pair)."""
    left: list[tuple[tuple[Step, ...], Any]] = [((), data)]
    while left:
        at, value = left.pop()
        if isinstance(value, dict):
            left += [((*at, key), inner) for key, inner in value.items()]
            left += [(at, key) for key in value]
        elif isinstance(value, list):
            left += [((*at, i), inner) for i, inner in enumerate(value)]
        elif isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
            yield at


def _json_line(text: str, at: tuple[Step, ...]) -> int | None:
    """Line of a value in valid JSON."""
    decoder, place = json.JSONDecoder(), _skip(text, 0)
    for step in at:
        found = next((p for key, p in _members(text, place, decoder) if key == step), None)
        if found is None:
            return None
        place = found
    return text.count("\n", 0, place) + 1


def _members(text: str, start: int, decoder: json.JSONDecoder) -> Iterator[tuple[Step, int]]:
    """Keys, or numbers, of an object or list that begins at `start`, with where their values begin."""
    keyed, place, index = text[start] == "{", _skip(text, start + 1), 0
    while text[start] in "{[" and text[place] not in "}]":
        key: Step = index
        if keyed:
            key, place = decoder.raw_decode(text, place)
            place = _skip(text, _skip(text, place) + 1)
        yield key, place
        place = _skip(text, decoder.raw_decode(text, place)[1])
        place, index = _skip(text, place + 1) if text[place] == "," else place, index + 1


def _skip(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n":
        place += 1
    return place


def _toml_line(text: str, at: tuple[Step, ...]) -> int | None:
    """Line where a value of valid TOML begins: the first whose lines so far, closed where they are open, hold it."""
    lines = text.split("\n")
    if not _holds(tomllib.loads(text), at):
        return None
    low, high = 0, len(lines)  # the first `low` lines do not hold it, the first `high` do
    while high - low > 1:
        middle = (low + high) // 2
        data, end = next((d, n) for n in range(middle, high + 1) if (d := _prefix(lines, n)) is not None)
        low, high = (low, middle) if _holds(data, at) else (end, high)
    return high


def _prefix(lines: list[str], n: int) -> Any:
    """The first n lines as data; None where what is open at their end cannot be closed."""
    for closer in _CLOSERS:
        try:
            return tomllib.loads("\n".join(lines[:n]) + closer)
        except tomllib.TOMLDecodeError:
            continue
    return tomllib.loads("\n".join(lines)) if n == len(lines) else None


def _holds(data: Any, at: tuple[Step, ...]) -> bool:
    for step in at:
        fits = isinstance(data, list) and isinstance(step, int) and step < len(data)
        if not fits and not (isinstance(data, dict) and step in data):
            return False
        data = data[step]
    return True


# -------- records
# Frozen dataclasses from JSON, with the types they declare: a foreign file gives the right object or a named fault.


T = TypeVar("T")


def record(cls: type[T], data: Any, what: str) -> T:
    """An instance of a dataclass whose fields are strings, numbers, truth values, tuples of these, or None.

    Args:
        what: names the piece of the file in errors ("record 3 of acts.safetensors").

    Raises:
        ArtifactError: not an object, an unknown or missing key, a value of another type.
    """
    if not isinstance(data, dict):
        raise ArtifactError(f"{what} is {type(data).__name__}, not an object; make the file again")
    hints, needed = _declared(cast(Any, cls))
    if unknown := sorted(map(str, set(data) - set(hints))):
        raise ArtifactError(f"{what} has unknown fields ({', '.join(unknown)[:80]}); make the file again")
    if missing := sorted(needed - set(data)):
        raise ArtifactError(f"{what} is incomplete (no {', '.join(missing)}); make the file again")
    for name, value in data.items():
        if not _fits(value, hints[name]):
            raise ArtifactError(f"{what}: {name} is {str(value)[:40]!r}, which does not fit; make the file again")
    return cls(**{name: _value(value, hints[name]) for name, value in data.items()})


@cache
def _declared(cls: Any) -> tuple[dict[str, Any], frozenset[str]]:
    """Type of every field, and the fields without a default."""
    own = fields(cls)
    needed = frozenset(f.name for f in own if f.default is MISSING and f.default_factory is MISSING)
    hints = get_type_hints(cls)
    return {f.name: hints[f.name] for f in own}, needed


def _fits(value: Any, hint: Any) -> bool:
    if isinstance(hint, UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if get_origin(hint) is tuple:
        return isinstance(value, (list, tuple)) and all(_fits(v, get_args(hint)[0]) for v in value)
    if hint in (int, float) and isinstance(value, bool):
        return False
    if hint is float:
        return isinstance(value, (int, float))
    return value is None if hint is NoneType else isinstance(value, hint)


def _value(value: Any, hint: Any) -> Any:
    return tuple(value) if get_origin(hint) is tuple else value
