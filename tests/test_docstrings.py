"""Public functions say what their arguments are, and their examples run as printed (the namespace is that which the
site prints above them: `EXAMPLES` in scripts/docs_site.py)."""

from __future__ import annotations

import doctest
import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
from test_docs import site

import lens_emotion as le

NAMES = [n for n in le.__all__ if callable(getattr(le, n)) and not (n.endswith("Error"))]
PLOTS = [n for n in le.plots.__all__ if callable(getattr(le.plots, n))]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def public() -> list[tuple[str, Callable[..., Any]]]:
    return [*((n, getattr(le, n)) for n in NAMES), *((f"plots.{n}", getattr(le.plots, n)) for n in PLOTS)]


def undocumented(thing: Callable[..., Any]) -> list[str]:
    """Parameters that the docstring's list of arguments does not name."""
    doc = inspect.getdoc(thing) or ""
    listed = re.search(r"^(?:Args|Attributes):\n((?: .*\n?)+)", doc + "\n", re.MULTILINE)
    said = re.findall(r"^    ([\w, ]+):|(?<=\. )([\w, ]+):", listed.group(1), re.MULTILINE) if listed else []
    named = {word for pair in said for group in pair for word in re.split(r",\s*", group) if word}
    return [p for p in inspect.signature(thing).parameters if p not in named]


@pytest.mark.parametrize(("name", "thing"), public(), ids=[n for n, _ in public()])
def test_every_public_function_says_what_its_arguments_are(name: str, thing: Callable[..., Any]) -> None:
    assert undocumented(thing) == []
    assert not re.search(r"^(Args|Raises): see", inspect.getdoc(thing) or "", re.MULTILINE), "said elsewhere"


def test_an_argument_left_out_is_noticed() -> None:
    def function(a: int, b: int, c: int) -> None:
        """Adds.

        Args:
            a, b: numbers.
        """

    assert undocumented(function) == ["c"]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What examples go on from, made once."""
    found: dict[str, Any] = {}
    exec(site().EXAMPLES, found)
    return found


def run(name: str, thing: object, names: dict[str, Any]) -> str:
    """Run the examples of a docstring; what differs from what is printed, "" if nothing does."""
    test = doctest.DocTestParser().get_doctest(inspect.getdoc(thing) or "", names, name, None, None)
    test.globs = names  # not a copy: the figure's example goes on from the analysis's
    assert test.examples, f"{name} has no example"
    said: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(test, out=said.append, clear_globs=False)
    return "".join(said)


@pytest.mark.parametrize("name", sorted({*NAMES, *PLOTS}))
def test_examples_run_as_printed(
    name: str, shared: dict[str, Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch, untyped: None
) -> None:
    monkeypatch.chdir(tmp_path)
    names = dict(shared)
    if name in NAMES:
        assert run(name, getattr(le, name), names) == ""
    if name in PLOTS:
        assert run(f"plots.{name}", getattr(le.plots, name), names) == ""
