"""How the command line prints: lines, tables, sizes and durations for people."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

PROSE = 24  # columns that prose needs at least
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


class Grid(Table):
    """Rows under columns, of which only those of prose are broken, between words; names, numbers and verdicts stay
    whole, so that they can be read, copied and searched."""

    prose: tuple[int, ...] = ()

    def add_row(self, *cells: Any, **options: Any) -> None:
        super().add_row(*map(_spelled, cells), **options)

    def words(self) -> list[list[Text]]:
        """The cells of every row."""
        cells = [[c if isinstance(c, Text) else Text(str(c)) for c in column.cells] for column in self.columns]
        return list(map(list, zip(*cells, strict=True)))


def table(*columns: str, title: str = "", right: tuple[int, ...] = (), prose: tuple[int, ...] = ()) -> Grid:
    """An empty grid.

    Args:
        right: columns of numbers. prose: columns that may be broken, between words.
    """
    made = Grid(
        title=printable(title) or None, box=None, title_justify="left", header_style="bold underline", pad_edge=False
    )
    made.padding, made.prose = (0, 2, 0, 0), prose
    for i, column in enumerate(columns):
        made.add_column(printable(column), no_wrap=i not in prose, overflow="fold")
        made.columns[i].justify = "right" if i in right else "left"
    return made


def say_table(made: Grid) -> None:
    """Print a grid: in a pipe a row is a line, however long; in a terminal prose takes the room that is left, and where
    there is none, each row is set below the last, a line for each of its cells."""
    room = width_asked()
    rows = made.words()
    heads = [Text(str(column.header)) for column in made.columns]
    least = whole = 2 * (len(heads) - 1)
    for i, cells in enumerate(zip(heads, *rows, strict=True)):
        longest = max(max((cell_len(line) for line in c.plain.split("\n")), default=0) for c in cells)
        word = max((cell_len(w) for c in cells for w in c.plain.split()), default=0)
        whole += longest
        least += max(word, min(longest, PROSE)) if i in made.prose else longest
    if room is None or least <= room:
        wide = Console(width=max(whole, 1) if room is None else room, highlight=False, markup=False, emoji=False)
        wide.print(made, crop=False)
        return
    label = max(head.cell_len for head in heads[1:])
    for first, *others in rows:
        say_prose(first)
        for head, cell in zip(heads[1:], others, strict=True):
            if cell.plain.strip():
                say_wrapped(Text(f"  {head.plain:<{label}}  "), cell.plain)


def say_prose(*parts: str | Text | tuple[str, str]) -> None:
    """Sentences: in a terminal broken between words at its width, in a pipe one line."""
    text, room = Text.assemble(*map(_spelled, parts)), width_asked()
    for line in text.split("\n", allow_blank=True):
        cuts, begun = [], 0
        for word in re.finditer(r"\S+", line.plain):
            if room is not None and word.start() > begun and cell_len(line.plain[begun : word.end()]) > room:
                cuts.append(begun := word.start())
        for part in line.divide(cuts):
            part.rstrip()
            out.print(part, soft_wrap=True)


def width_asked() -> int | None:
    """Columns of the terminal, or those that COLUMNS asks for; None in a pipe, where a line may be of any length."""
    return out.width if out.is_terminal or os.environ.get("COLUMNS", "").isdigit() else None


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
