"""The run-time type checker of the tests: every annotation of the package, shapes included, is checked on every call.

An int fits where a float is asked for, as PEP 484 has it (`dose=4`). jaxtyping binds the names of axes anew for each
call, which takes longer than many a function; so it is asked where an annotation holds a shape, and beartype alone
checks the others, to the same end. Either makes a function's checker when it is first called, not on import.
"""

from __future__ import annotations

import dataclasses
import inspect
from functools import partial, wraps
from types import FunctionType
from typing import Any, get_args

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray, TypeCheckError, config
from jaxtyping._decorator import _destring_annotation

check = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=TypeCheckError))
_with_shapes = jaxtyping.jaxtyped
GIVES_LATER = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR  # jaxtyping knows how


def checked(what: Any = None, *, typechecker: Any) -> Any:
    """In jaxtyping's place: what its import hook puts on every function and class of the package."""
    if what is None:
        return partial(checked, typechecker=typechecker)
    if not inspect.isclass(what):
        return _lazily(what, typechecker)
    if dataclasses.is_dataclass(what) and not hasattr(what.__init__, "__checker__"):
        what.__init__ = _lazily(what.__init__, typechecker)
    return what


def _lazily(function: FunctionType, typechecker: Any) -> FunctionType:
    made: list[Any] = []

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        if config.jaxtyping_disable:
            return function(*args, **kwargs)
        if not made:
            made.append(_made(function, typechecker))
        return made[0](*args, **kwargs)

    call.__checker__ = made
    return call


def _made(function: FunctionType, typechecker: Any) -> Any:
    hints = {name: _destring_annotation(hint, function.__globals__) for name, hint in function.__annotations__.items()}
    if any(map(_holds_a_shape, hints.values())) or function.__code__.co_flags & GIVES_LATER:
        return _with_shapes(function, typechecker=typechecker)
    same = (function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__)
    own = FunctionType(*same)
    own.__kwdefaults__, own.__annotations__ = function.__kwdefaults__, hints
    own.__module__, own.__qualname__ = function.__module__, function.__qualname__
    try:
        return check(own)
    except Exception:  # beartype follows a type that holds itself for ever, but not from jaxtyping's stand-in
        return _with_shapes(function, typechecker=typechecker)


def _holds_a_shape(hint: Any) -> bool:
    return (inspect.isclass(hint) and issubclass(hint, AbstractArray)) or any(map(_holds_a_shape, get_args(hint)))


jaxtyping.jaxtyped = checked
