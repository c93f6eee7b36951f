"""How the command line prints: lines, tables, sizes and durations for people."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

out = Console(highlight=False, markup=False, emoji=False)  # a name in brackets, or between colons, is a name


def say_line(*parts: str | Text | tuple[str, str]) -> None:
    """A line of text that the terminal, not rich, breaks: paths stay whole, and a pipe gets one line.

    Args:
        parts: text as it is, or (text, style).
    """
    out.print(Text.assemble(*map(_spelled, parts)), soft_wrap=True)


def say_wrapped(head: Text, words: str, style: str = "", indent: int | None = None) -> None:
    """A head and a sentence behind it, broken between words at the terminal's width (80 in a pipe) and indented.

    Args:
        indent: of the lines after the first; None for the width of the head.
    """
    indent = head.cell_len if indent is None else indent
    taken = " " * head.cell_len  # the head's room: it keeps its own style
    width = max(out.width, indent + 20)
    wrap = textwrap.TextWrapper(width, taken, " " * indent, break_long_words=False, break_on_hyphens=False)
    lines = wrap.wrap(printable(words))
    say_line(head, (lines[0][head.cell_len :] if lines else "", style))
    for line in lines[1:]:
        say_line((line, style))


def _spelled(part: Any) -> Any:
    """What is printed, with control characters and marks that turn a line round spelled out."""
    if isinstance(part, str):
        return printable(part)
    if isinstance(part, tuple):
        return printable(part[0]), part[1]
    if not isinstance(part, Text) or printable(part.plain) == part.plain:
        return part
    made = Text()
    for i, c in enumerate(part.plain):
        made.append(printable(c), part.get_style_at_offset(out, i))
    return made


def printable(text: str) -> str:
    """A model's text for a terminal: control characters are spelled out, line breaks and tabs left."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


class _Table(Table):
    def add_row(self, *cells: Any, **options: Any) -> None:
        super().add_row(*map(_spelled, cells), **options)


def table(*columns: str, title: str = "", right: tuple[int, ...] = ()) -> Table:
    made = _Table(
        title=printable(title) or None, box=None, title_justify="left", header_style="bold underline", pad_edge=False
    )
    made.padding = (0, 2, 0, 0)
    for i, column in enumerate(columns):
        made.add_column(
            printable(column), justify="right" if i in right else "left", overflow="fold", no_wrap=i in right
        )
    return made


def short(models: Sequence[str]) -> list[str]:
    """Names, folders or hub ids by their last part; whole where two share it."""
    last = [Path(m).name for m in models]
    return [name if last.count(name) == 1 else whole for name, whole in zip(last, models, strict=True)]


def size(n_bytes: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if n_bytes >= 10 or unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} GB"


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
