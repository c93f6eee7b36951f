"""Frozen dataclasses from JSON, with the types they declare: a foreign file gives the right object or a named fault."""

from __future__ import annotations

from dataclasses import MISSING, fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from lens_emotion.errors import ArtifactError

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
