"""The tests' own checker of types sees wrong types and wrong shapes, of arguments and of what is given back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import typechecker
from jaxtyping import Float, TypeCheckError
from typechecker import checked

on = lambda what: checked(what, typechecker=typechecker.check)  # noqa: E731


@on
def plain(n: int, words: list[str], *more: float, scale: float = 1) -> str:
    return f"{words[0] * n}{scale}" if n else n  # type: ignore[return-value]


@on
def dot(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> Float[np.ndarray, ""]:
    return np.asarray(a @ b) if a[0] else a


@on
def several(n: int) -> Iterator[int]:
    yield from range(n)


@on
@dataclass(frozen=True)
class Row:
    name: str
    values: Float[np.ndarray, " n"]
    weights: Float[np.ndarray, " n"]


@on
@dataclass(frozen=True)
class Named(Row):
    title: str | None = None


ONES, TWO = np.ones(3), np.ones(2)
RIGHT = {
    "plain": lambda: plain(2, ["a"], 1, 2.0, scale=3) == "aa3",
    "shapes": lambda: dot(ONES, ONES) == 3,
    "generator": lambda: list(several(3)) == [0, 1, 2],
    "dataclass": lambda: Row("a", ONES, ONES).name == "a",
    "one made of another": lambda: Named("a", ONES, ONES, "b").title == "b",
}
WRONG = {
    "argument": lambda: plain("2", ["a"]),
    "inside a list": lambda: plain(2, [1]),
    "one of several": lambda: plain(2, ["a"], "x"),
    "by name": lambda: plain(2, ["a"], scale="x"),
    "given back": lambda: plain(0, ["a"]),
    "axes that differ": lambda: dot(ONES, TWO),
    "kind of numbers": lambda: dot(ONES.astype(int), ONES),
    "shape given back": lambda: dot(np.zeros(3), ONES),
    "of a generator": lambda: several("3"),
    "field": lambda: Row(1, ONES, ONES),
    "axes of fields": lambda: Row("a", ONES, TWO),
    "field of one made of another": lambda: Named("a", ONES, ONES, 1),
    "axes of one made of another": lambda: Named("a", ONES, TWO),
}


@pytest.mark.parametrize("call", RIGHT)
def test_what_fits_goes_through(call):
    assert RIGHT[call]()


@pytest.mark.parametrize("call", WRONG)
def test_what_does_not_fit_is_an_error_unless_the_checker_is_off(call, request):
    with pytest.raises(TypeCheckError):
        WRONG[call]()
    request.getfixturevalue("untyped")
    try:
        WRONG[call]()
    except TypeCheckError:
        pytest.fail("checked all the same")
    except Exception:
        pass


def test_the_package_is_checked():
    from lens_emotion.stats.cosines import mean_pairwise_cosine

    with pytest.raises(TypeCheckError):
        mean_pairwise_cosine("no array")
    assert hasattr(mean_pairwise_cosine, "__checker__")
