"""Files that a user writes, in TOML or JSON: read into a model of their form, and every fault named with its line.

The form of a file is a pydantic model (`Form`), stated once, beside what reads it; the JSON Schemas in
`lens_emotion/files/schemas` are made from these models (`scripts/make_schemas.py`). Neither parser keeps lines, so that
they are looked for when a fault has been found, and reading a good file costs nothing more.
"""

from __future__ import annotations

import difflib
import inspect
import json
import os
import re
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields, replace
from functools import cache, wraps
from pathlib import Path
from typing import Annotated, Any, Generic, NoReturn, NotRequired, Required, TypeVar, cast, get_origin, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from lens_emotion.errors import ArtifactError, LensEmotionError, StimulusError
from lens_emotion.files.names import name_of
from lens_emotion.files.read import as_path, read_text, strict_json

T = TypeVar("T")
F = TypeVar("F", bound="Form")
G = TypeVar("G", bound=Callable[..., Any])
Step = str | int
SUFFIXES = (".toml", ".json")
LARGEST_FILE = 8 * 2**20  # bytes: some 20,000 texts; tomllib reads a MiB in 0.1 to 0.8 s
_LOOKING = 2.0  # seconds for the line of a fault
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, regex_engine="python-re")
_OWN = r"^(_|\$schema$)"  # keys of a table that are the user's, or an editor's
_CLOSERS = ("", "]", '"""', "'''", '"""]', "]]", "}]", "}")  # what may be open at the end of a line of TOML


def _each_once(values: Any) -> Any:
    if len(set(values)) < len(values):
        twice = next(v for i, v in enumerate(values) if v in values[:i])
        raise PydanticCustomError("stands_twice", "{value} stands twice; give each once", {"value": str(twice)})
    return values


Once = AfterValidator(_each_once)  # of a list: 2 and 2.0 are one number


class Form(BaseModel):
    """A table of a file. Types are strict, and unknown fields refused, except for keys that begin with "_"."""

    model_config = ConfigDict(**STRICT, frozen=True, json_schema_extra={"patternProperties": {_OWN: {}}})

    @model_validator(mode="before")
    @classmethod
    def _without_own_keys(cls, data: Any) -> Any:
        return _without_own(data)

    @model_validator(mode="after")
    def _no_name_twice(self) -> Any:
        for table in vars(self).values():
            named = [name_of(key) for key in table] if isinstance(table, dict) else []
            if len(set(named)) < len(named):
                twice = next(n for i, n in enumerate(named) if n in named[:i])
                raise PydanticCustomError("stands_twice", "the name {value} stands twice", {"value": repr(twice)})
        return self


def _without_own(data: Any) -> Any:
    """A table, and the tables in it, without the keys that are the user's own."""
    if not isinstance(data, dict):
        return data
    return {key: _without_own(inner) for key, inner in data.items() if not re.match(_OWN, key)}


def is_user_file(name: object) -> bool:
    """Whether a setting names a file rather than something that ships with the package."""
    return Path(str(name)).suffix.lower() in SUFFIXES


@dataclass(frozen=True)
class UserFile(Generic[T]):
    """A file as read: its data, once in its form, and its text, in which lines are looked up."""

    path: Path
    text: str
    data: T

    def line(self, *at: Step) -> int:
        """Line, from 1, where the value at a path such as ("items", 3, "text") stands, or its nearest parent; 0 where
        looking for it would take seconds."""
        find = _toml_line if self.path.suffix.lower() == ".toml" else _json_line
        until = time.monotonic() + _LOOKING
        for length in range(len(at), 0, -1):
            if (line := find(self.text, at[:length], until)) is not None:
                return line
        return 1

    def fail(self, at: tuple[Step, ...], message: str) -> NoReturn:
        """Raise a StimulusError that names file, line and place."""
        line = self.line(*at)
        where = [str(self.path), *([f"line {line}"] if line else []), *filter(None, [_place(at)])]
        raise StimulusError(f"{', '.join(where)}: {message}")

    def unique(self, field: str, ids: list[str]) -> None:
        """Refuse an id that two entries of a list share."""
        seen: set[str] = set()
        for i, name in enumerate(ids):
            if name in seen:
                self.fail((field, i), f'the id "{name}" occurs twice; ids must be unique')
            seen.add(name)

    def beside(self, name: str) -> str:
        """A path written in this file, taken from the file's own folder."""
        path = Path(os.path.expanduser(name))  # unlike Path.expanduser, leaves ~nobody as it is
        if "\0" in name:
            raise StimulusError(f"{self.path}: {name[:40]!r} holds a NUL, which no file's name has; write it anew")
        return str(path if path.is_absolute() else self.path.parent / path)


def read_user_file(path: str | Path, form: type[F]) -> UserFile[F]:
    """Read a TOML or JSON file into a model of its form.

    Raises:
        StimulusError: no such file, no such format, a fault of syntax or of form, with file and line.
    """
    path = as_path(path, StimulusError)
    text = read_text(path, StimulusError, "give a TOML or JSON file in UTF-8", LARGEST_FILE)
    file: UserFile[Any] = UserFile(path, text, _parse(path, text))
    try:
        return replace(file, data=form.model_validate(file.data))
    except ValidationError as error:
        file.fail(*_fault(error, form))


def fitting(data: Any, form: type[F], what: str) -> F:
    """Data that stands in no TOML or JSON file, in its form.

    Raises:
        StimulusError: it does not fit; with what it is, and the place.
    """
    try:
        return form.model_validate(data)
    except ValidationError as error:
        at, words = _fault(error, form)
        raise StimulusError(f"{', '.join(filter(None, [what, _place(at)]))}: {words}") from None


# Numbers: whoever asks for one takes the same ones, NumPy's included, and refuses the same ones in the same words.

Draws = Annotated[int, Field(le=1_000_000)]  # of permutations, bootstraps, tokens; how few will do, each place says
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]  # what every generator of random numbers takes
SMALLEST_DOSE, LARGEST_DOSE = 1e-6, 1e6  # single precision rounds a smaller push away, and overflows at a larger one
_COUNTED = "n_permutations n_splits n_draws n_random top k per_cell batch_size max_evaluations"
_NUMBERS: dict[str, Any] = {
    "seed": Seed,
    "seeds": list[Seed],
    "doses": Any,  # `Dose` itself says which
    "layer": Annotated[int, Field(ge=-10_000, le=10_000)],
    "start": Annotated[int, Field(ge=0, le=10**9)],
    **dict.fromkeys(("target_kl", "tol", "highest"), Annotated[float, Field(le=1e6)]),
    **dict.fromkeys(_COUNTED.split(), Draws),
}


def plain(value: Any) -> Any:
    """A number or a list of numbers as Python's own, where it is one of NumPy or torch; a path as text."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value)) if type(value) in (list, tuple) else value
    return value.tolist() if hasattr(value, "tolist") and hasattr(value, "dtype") else value


def numbers_fit(error: type[LensEmotionError]) -> Callable[[G], G]:
    """Decorate a function: its arguments that are numbers, by their names, are Python's and in range when it begins."""

    def decorate(function: G) -> G:
        signature = inspect.signature(function)
        kinds = {name: _NUMBERS[name] for name in signature.parameters if name in _NUMBERS}

        @wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            for name in kinds.keys() & bound.arguments.keys():
                if (value := bound.arguments[name]) is None and signature.parameters[name].default is None:
                    continue
                value = list(value) if isinstance(value, tuple) else value
                try:
                    bound.arguments[name] = _adapter(kinds[name]).validate_python(plain(value), strict=True)
                except ValidationError as found:
                    raise error(f"{name}: {_fault(found, kinds[name])[1]}") from None
            return function(*bound.args, **bound.kwargs)

        return cast(G, checked)

    return decorate


def refused_as(error: type[LensEmotionError]) -> Callable[[type[T]], type[T]]:
    """Decorate a pydantic dataclass: arguments that do not fit raise this error, in the words of a file's faults."""

    def decorate(cls: type[T]) -> type[T]:
        made: Any = cls.__init__
        names = [f.name for f in fields(cast(Any, cls))]

        @wraps(made)
        def checked(self: Any, *args: Any, **kwargs: Any) -> None:
            given = {**dict(zip(names, args, strict=False)), **kwargs}
            try:
                made(self, *args[len(names) :], **{name: plain(value) for name, value in given.items()})
            except ValidationError as found:
                at, words = _fault(found, cls)
                raise error(f"{_place(at)}: {words}") from None

        cls.__init__ = checked  # type: ignore[method-assign]
        return cls

    return decorate


# Faults: pydantic says where and of what kind; the words are ours, and what would fit is read off the form's schema.


class _Bare(GenerateJsonSchema):
    """A schema without the titles that pydantic makes of names, and without defaults, which stand for "not set"."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: Any) -> dict[str, Any]:
        return self.generate_inner(schema["schema"])


@cache
def _adapter(form: Any) -> Any:
    return TypeAdapter(form)  # no hint that the run-time type checker of the tests takes


@cache
def schema_of(form: Any) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a form."""
    return _adapter(form).json_schema(schema_generator=_Bare)


_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


def _fault(error: ValidationError, form: Any) -> tuple[tuple[Step, ...], str]:
    """Place and words of the fault to mend first: a misspelt field also leaves a hole, a faulty entry a short list."""
    rank = dict.fromkeys(_UNKNOWN, 0) | {"too_short": 2}
    found = min(error.errors(include_url=False), key=lambda e: rank.get(e["type"], 1))
    at = found["loc"][:-1] if found["type"] == "missing" else found["loc"]
    at = at[:-2] if at and at[-1] == "[key]" else at  # a name of a table's own, which its words show
    return at, _said(found, schema_of(form))


def _said(found: Any, schema: dict[str, Any]) -> str:
    """A complaint in the words of this package: what was given, what would fit."""
    kind, at, given, limits = found["type"], found["loc"], found["input"], found.get("ctx", {})
    if kind in _UNKNOWN:
        known = list(_part(schema, at[:-1])["properties"])
        close = difflib.get_close_matches(at[-1], known, n=1)
        return f'no field "{at[-1]}"; {f"did you mean {close[0]}? " if close else ""}Known are {", ".join(known)}'
    if kind == "missing":
        needed = _part(schema, at[:-1])["required"]
        missing = ", ".join(f'"{k}"' for k in needed if k not in given)
        return f"{missing} is missing; needed are {', '.join(needed)}"
    here = _part(schema, at)
    if kind == "literal_error":
        return f"got {shown(given)}; use {', '.join(map(str, here['enum']))}"
    if kind == "string_pattern_mismatch":
        if at[-1] == "[key]":
            return f"got the name {shown(given)}; give one line that is not empty, without control characters"
        if not str(given).strip():
            return f"got {shown(given)}, which is empty; give text, or leave it out"
        if "\\x1f" in here.get("pattern", ""):
            return f"got {shown(given)}; a name is one line, without control characters"
        return f"got {shown(given)}, which is not {here.get('description', 'of that form')}"
    if kind.endswith("_type") and "type" in here:
        one = {"string": str, "number": int | float}.get(here.get("items", {}).get("type"), ())
        hint = f"; give a list: [{shown(given)}]" if isinstance(given, one) and not isinstance(given, bool) else ""
        return f"expected {_type(here)}, got {shown(given)}{hint}"
    if kind not in _LIMITS:
        return str(found["msg"])[:200]
    note = f" ({here['description']})" if "description" in here else ""
    got = f"got {shown(given)}" if kind != "too_short" else f"only {len(given)}" if given else f"no {at[-1]}"
    return f"{got}; {_LIMITS[kind].format(**limits)}{note}"


_LIMITS = {
    "too_short": "give at least {min_length}",
    "greater_than_equal": "give at least {ge:g}",
    "greater_than": "give more than {gt:g}",
    "less_than_equal": "give at most {le:.12g}",
    "finite_number": "give a finite number",
}


def _part(schema: dict[str, Any], at: tuple[Step, ...]) -> dict[str, Any]:
    """The part of a schema that a place in the data must fit; an entry without words of its own has its list's."""
    here = _resolved(schema, schema)
    for step in at:
        keyed = here.get("properties", {})
        inner = (
            keyed[step]
            if step in keyed
            else here.get("items") or here.get("additionalProperties") or _of_any_name(here)
        )
        words = {} if step in keyed else {k: v for k, v in here.items() if k == "description"}
        here = words | (_resolved(schema, inner) if isinstance(inner, dict) else {})
    return here


def _of_any_name(part: dict[str, Any]) -> Any:
    """What a table holds whose names must fit a pattern."""
    return next((p for key, p in part.get("patternProperties", {}).items() if key != _OWN), {})


def _resolved(schema: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """A part with what it refers to written out; of a value that may be null, what it is otherwise."""
    part = next((p for p in part.get("anyOf", ()) if p.get("type") != "null"), {}) | part
    return schema["$defs"][part["$ref"].rpartition("/")[2]] | part if "$ref" in part else part


def _type(part: dict[str, Any]) -> str:
    names = {"object": "a table", "array": "a list", "string": "text", "boolean": "true or false", "number": "a number"}
    holds = f" with {', '.join(part['required'])}" if part.get("required") else ""
    return names.get(part["type"], f"an {part['type']}") + holds


def shown(value: Any) -> str:
    """A wrong value in a message, on which Python's own words may be long, or none."""
    if isinstance(value, int) and abs(value) >= 10**40:  # of which Python writes 4,300 digits at most
        return "a number of more than 40 digits"
    return (
        "a table"
        if isinstance(value, dict)
        else "a list"
        if isinstance(value, list)
        else " ".join(repr(value).split())[:40]
    )


# Places and their lines.


def _parse(path: Path, text: str) -> Any:
    try:
        return strict_toml(text) if path.suffix.lower() == ".toml" else strict_json(text)
    except json.JSONDecodeError as error:
        raise StimulusError(f"{path}, line {error.lineno}: not valid JSON ({error.msg})") from None
    except tomllib.TOMLDecodeError as error:  # says "(at line 3, column 4)"
        words = str(error)
        line = int(words.partition("(at line ")[2].partition(",")[0] or text.count("\n") + 1)
        key = text.split("\n")[line - 1].partition("=")[0]
        hint = "" if key.isascii() else '; a key with letters beyond a to z stands in quotes: "wütend" = ...'
        raise StimulusError(f"{path}, line {line}: not valid TOML ({words.partition(' (at')[0]}{hint})") from None
    except (RecursionError, ValueError) as error:
        deep = isinstance(error, RecursionError)
        what = "its tables and lists lie too deep in one another" if deep else str(error)[:80]
        raise StimulusError(f"{path}: not valid TOML ({what})") from None


def strict_toml(text: str) -> Any:
    """The data of a TOML file, of which tomllib would take hours for some.

    Raises:
        TOMLDecodeError, RecursionError, ValueError: no TOML, or none that a form has.
    """
    for pattern, what in _ENDLESS.items():
        if found := pattern.search(text):
            raise tomllib.TOMLDecodeError(f"{what} (at line {text.count(chr(10), 0, found.start()) + 1}, column 1)")
    return tomllib.loads(text)


_PART = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""  # of a key
_ENDLESS = {
    re.compile(rf"(?<![\w-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{64}}"): "a key of more than 64 parts",
    re.compile(r"[=,[]\s*+[+-]?\d[\da-fA-Fx_]{999}"): "a number of 1,000 digits",
}


def _place(at: tuple[Step, ...]) -> str:
    """("items", 3, "text") -> "item 4, text"."""
    words: list[str] = []
    for step in at:
        if isinstance(step, int) and words:
            words[-1] = f"{words[-1].removesuffix('s')} {step + 1}"
        else:
            words.append(str(step))
    return ", ".join(words)


def _json_line(text: str, at: tuple[Step, ...], until: float) -> int | None:
    """Line of a value in valid JSON."""
    decoder, place = json.JSONDecoder(), _skip(text, 0)
    for step in at:
        if time.monotonic() > until:
            return 0
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


def _toml_line(text: str, at: tuple[Step, ...], until: float) -> int | None:
    """Line where a value of valid TOML begins: the first whose lines so far, closed where they are open, hold it; 0
    where the time is over first."""
    lines = text.split("\n")
    if not _holds(tomllib.loads(text), at):
        return None
    low, high = 0, len(lines)  # the first `low` lines do not hold it, the first `high` do
    while high - low > 1:
        middle = end = (low + high) // 2
        while (data := _prefix(lines, end, until)) is None:
            end += 1
        if time.monotonic() > until:
            return 0
        low, high = (low, middle) if _holds(data, at) else (end, high)
    return high


def _prefix(lines: list[str], n: int, until: float) -> Any:
    """The first n lines as data; None where what is open at their end cannot be closed; nothing when time is over."""
    for closer in _CLOSERS:
        if time.monotonic() > until:
            return {}
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


# Records: dataclasses from JSON, with the types they declare; a foreign file gives the right object or a named fault.


def record(cls: type[T], data: Any, what: str) -> T:
    """An instance of a dataclass whose fields are strings, numbers, truth values, tuples of these, or None.

    Args:
        what: names the piece of the file in errors ("record 3 of acts.safetensors").

    Raises:
        ArtifactError: not an object, an unknown or missing key, a value of another type.
    """
    try:
        return cls(**_adapter(form_of(cast(Any, cls))).validate_python(data))
    except ValidationError as error:
        found = error.errors(include_url=False)
    if not isinstance(data, dict):
        raise ArtifactError(f"{what} is {type(data).__name__}, not an object; make the file again")
    named = {k: sorted(str(e["loc"][0]) for e in found if e["type"] == k) for k in ("extra_forbidden", "missing")}
    if unknown := named["extra_forbidden"]:
        raise ArtifactError(f"{what} has unknown fields ({', '.join(unknown)[:80]}); make the file again")
    if missing := named["missing"]:
        raise ArtifactError(f"{what} is incomplete (no {', '.join(missing)}); make the file again")
    name = str(found[0]["loc"][0])
    raise ArtifactError(f"{what}: {name} is {str(data[name])[:40]!r}, which does not fit; make the file again")


@cache
def form_of(cls: Any) -> Any:
    """The form of a dataclass as JSON: its fields, of which those without a default are needed."""
    hints, own = get_type_hints(cls, include_extras=True), {}
    for f in fields(cls):
        listed = get_origin(hints[f.name]) is tuple  # which JSON has as a list
        hint = Annotated[hints[f.name], Field(strict=False)] if listed else hints[f.name]
        own[f.name] = Required[hint] if f.default is f.default_factory is MISSING else NotRequired[hint]
    made: Any = TypedDict  # by a call, which type checkers take for a declaration
    form = made(cls.__name__, own)
    form.__pydantic_config__ = ConfigDict(extra="forbid", strict=True, regex_engine="python-re")
    return form
