"""How objects look: a line or two at a prompt; in a notebook a sentence, a figure, the table folded, all escaped."""

from __future__ import annotations

import re
from dataclasses import fields
from html import escape
from reprlib import Repr
from textwrap import shorten
from typing import TYPE_CHECKING, Any, ClassVar

from lens_emotion.pictures import Picture

if TYPE_CHECKING:
    from pandas import DataFrame

SHOWN = 60  # rows of a table; a page with ten thousand is of no use to anyone
SENTENCE = 300  # characters of a summary at a prompt
_HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)  # controls; marks that turn a line round
_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 40
_SHORT.maxtuple = _SHORT.maxlist = _SHORT.maxdict = 3


def visible(text: str, escape: str = "\\") -> str:
    r"""Text for a page: what could hide other text, or show it in another order, is spelled out (\u202e)."""
    return _HIDDEN.sub(lambda found: f"{escape}u{ord(found[0]):04x}", text)


# One word for one thing in all that is shown; the names of functions, files and columns keep the paper's.
_SAID = {"comprehension": "reading", "generation": "writing", "jeong": "the paper's preset"}


def said(name: str) -> str:
    """A method in the words of the glossary: "generation, reread" is "writing, reread"."""
    return re.sub(r"\b(comprehension|generation|jeong)\b", lambda found: _SAID[found[0]], name)


class Result:
    """What a result looks like: `summary()` says it in one sentence, and `.table`, where it has one, is a tidy frame.

    Results are frozen dataclasses with `repr=False`, so that the repr is the one below. `_picture` is what a notebook
    draws of the table; a result that needs more than its table overrides `_drawn`.
    """

    _picture: ClassVar[Picture | None] = None  # results set it without an annotation, which would make it a field

    def summary(self) -> str:
        """One sentence."""
        raise NotImplementedError

    def __repr__(self) -> str:
        table = getattr(self, "table", None)
        shape = "" if table is None else f" [table: {len(table)} rows x {table.shape[1]} columns]"
        return f"{type(self).__name__}: {shorten(self.summary(), SENTENCE, placeholder=' ...')}{shape}"

    def _drawn(self) -> str:
        """The main figure, as HTML that asks for nothing from outside; "" without one."""
        table = getattr(self, "table", None)
        return "" if self._picture is None or table is None or table.empty else self._picture.html(table)

    def _repr_html_(self) -> str:
        return panel(self.summary(), getattr(self, "table", None), figure=self._drawn())


class Brief:
    """The repr of a frozen dataclass (`repr=False`) that holds much: its fields, arrays and frames as their shapes."""

    def __repr__(self) -> str:
        held = ((f.name, getattr(self, f.name)) for f in fields(self))  # type: ignore[arg-type]
        words = ", ".join(f"{name}={_brief(value)}" for name, value in held)
        return f"{type(self).__name__}({shorten(words, SENTENCE, placeholder=' ...')})"


def _brief(value: Any) -> str:
    """A value in a few words: the kind of an object that describes itself, the shape or size of a large one."""
    kind = type(value).__name__
    if isinstance(value, Result | Brief):
        return kind
    if (shape := getattr(value, "shape", None)) is not None and len(shape):
        return f"{kind}[{' x '.join(map(str, shape))}]"
    if isinstance(value, tuple | list | dict) and len(value) > 3:
        return f"{kind} of {len(value)}"
    return _SHORT.repr(value)


def panel(
    lead: str,
    table: DataFrame | None = None,
    *,
    index: bool = False,
    code: bool = False,
    what: str = "table",
    figure: str = "",
) -> str:
    """HTML of an object: one paragraph, its figure, and its table collapsed.

    Args:
        lead: the summary, or the repr (`code`).
        table: shown to `SHOWN` rows.
        index: show the table's row names.
        what: what the table is called.
        figure: HTML, of `pictures`.
    """
    words = escape(lead)
    head = f"<p><code>{words}</code></p>" if code else f"<p>{words}</p>"
    head += figure
    if table is None or table.empty:
        return visible(head)
    size = f"{escape(what)}: {len(table):,} rows × {table.shape[1]} columns"
    rest = f"<p>the first {SHOWN} of {len(table):,} rows</p>" if len(table) > SHOWN else ""
    body = table.head(SHOWN).round(4).to_html(index=index, escape=True, border=0)
    fold = f'<div style="overflow-x:auto">{body}</div>{rest}'
    return visible(f'{head}<details><summary style="cursor:pointer">{size}</summary>{fold}</details>')
