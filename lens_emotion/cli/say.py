"""How the command line prints: lines, tables, sizes and durations for people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

out = Console(highlight=False, markup=False, emoji=False)  # a name in brackets, or between colons, is a name


def say_line(*parts: str | Text | tuple[str, str]) -> None:
    """A line of text that the terminal, not rich, breaks: paths stay whole, and a pipe gets one line.

    Args:
        parts: text as it is, or (text, style).
    """
    out.print(Text.assemble(*parts), soft_wrap=True)


def printable(text: str) -> str:
    """A model's text for a terminal: control characters are spelled out, line breaks and tabs left."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def table(*columns: str, title: str = "", right: tuple[int, ...] = ()) -> Table:
    made = Table(title=title or None, box=None, title_justify="left", header_style="bold underline", pad_edge=False)
    made.padding = (0, 2, 0, 0)
    for i, column in enumerate(columns):
        made.add_column(column, justify="right" if i in right else "left", overflow="fold", no_wrap=i in right)
    return made


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
