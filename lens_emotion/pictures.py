"""Small pictures of results for notebooks: SVG and spans written by hand, so that they need no script and no request,
stand in a saved notebook, and take the notebook's own colours of text. The large ones are in `plots`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pandas import DataFrame

TOWARDS, AWAY, PLAIN = (0, 114, 178), (213, 94, 0), (128, 128, 128)
WORDS = {
    "inert": "#c4c8d0", "surgical": "#1f9d74", "repetitive collapse": "#e0b040", "explosive": "#d55e00",
    "another script": "#9b7fe0", "supported": "#1f9d74", "not supported": "#d55e00", "undetermined": "#e0b040",
    "not testable here": "#c4c8d0",
}  # fmt: skip
WIDE, HIGH, LEFT, TOP, BOTTOM = 460, 150, 46, 10, 26
ROWS, CELLS = 24, 40  # of dots, and of a side of tiles: more are for the large figures
Points = Sequence[tuple[float, float]]


class Picture(Protocol):
    """What draws a table."""

    def html(self, table: DataFrame) -> str:
        """HTML of the picture; "" where the table has not what it shows."""
        ...


@dataclass(frozen=True)
class Line:
    """A line over layers or doses, with what it is to be held against: a band (null or interval), a reference.

    Attributes:
        x, y: columns; rows of one x are averaged.
        low, high: columns of the band, which is called `band`.
        group: a line for each of its values.
        reference: a number, or the column that holds one.
    """

    x: str
    y: str
    low: str = ""
    high: str = ""
    band: str = "95% under the null"
    group: str = ""
    reference: float | str | None = None

    def html(self, table: DataFrame) -> str:
        lines = {"": table} if not self.group else dict(iter(table.groupby(self.group, sort=False)))
        curves = {name: self._points(rows, self.y) for name, rows in lines.items()}
        bands = [(self._points(rows, self.low), self._points(rows, self.high)) for rows in lines.values() if self.low]
        level = self._level(table)
        known = [p for points in (*curves.values(), *(side for pair in bands for side in pair)) for p in points]
        if not known:
            return ""
        frame = _Frame([x for x, _ in known], [y for _, y in known] + ([] if level is None else [level]))
        parts = [frame.axes(self.x, self.y)]
        many = len(curves) > len(INKS)  # too many to be told apart by colour
        parts += [] if many else [frame.area(low, high) for low, high in bands]
        parts += [] if level is None else [frame.level(level)]
        for i, points in enumerate(curves.values()):
            parts.append(frame.line(points, f"rgba{(*PLAIN, 0.45)}" if many else INKS[i]))
        key = [] if many or not self.group else [(str(name), INKS[i]) for i, name in enumerate(curves)]
        told = [f"grey: {self.band}"] if bands and not many else []
        told += (
            []
            if level is None
            else ["dashed: " + (self.reference if isinstance(self.reference, str) else f"{level:g}")]
        )
        told += [f"one line each: {self.group}"] if many else []
        return _figure(frame.svg(parts, f"{self.y} over {self.x}"), key, told)

    def _points(self, rows: DataFrame, y: str) -> Points:
        means = rows.groupby(self.x)[y].mean()
        pairs = zip(means.index.astype(float).tolist(), means.tolist(), strict=True)
        return [(x, y) for x, y in pairs if math.isfinite(y)]

    def _level(self, table: DataFrame) -> float | None:
        if isinstance(self.reference, str):
            return float(table[self.reference].mean())
        return self.reference


@dataclass(frozen=True)
class Dots:
    """A value for each row, from `reference` on, with its interval.

    Attributes:
        label: columns that name a row. value, low, high: columns.
    """

    label: tuple[str, ...]
    value: str
    low: str = ""
    high: str = ""
    reference: float = 0.0

    def html(self, table: DataFrame) -> str:
        rows = [row for row in table.to_dict("records") if math.isfinite(row[self.value])][:ROWS]
        if not rows:
            return ""
        ends = [row[name] for row in rows for name in (self.value, self.low, self.high) if name]
        place = _scale([*filter(math.isfinite, ends), self.reference], 190, WIDE - 46)
        zero, parts = place(self.reference), []
        for i, row in enumerate(rows):
            y, x = 14 + 17 * i, place(row[self.value])
            name = escape(" · ".join(str(row[part]) for part in self.label)[:34])
            parts.append(f'<text x="182" y="{y + 4}" text-anchor="end">{name}</text>')
            low, high = (row.get(name, math.nan) for name in (self.low, self.high))
            bar = (place(low), place(high)) if math.isfinite(low) and math.isfinite(high) else (zero, x)
            parts.append(_stroke(f"M{bar[0]:.1f} {y}H{bar[1]:.1f}", f"rgba{(*PLAIN, 0.6)}", 3))
            said = f"{row[self.value]:.2f}"
            parts.append(f'<circle cx="{x:.1f}" cy="{y}" r="4" fill="rgb{TOWARDS}"><title>{said}</title></circle>')
            parts.append(f'<text x="{WIDE - 2}" y="{y + 4}" text-anchor="end">{said}</text>')
        high_ = 17 * len(rows) + 8
        parts.insert(0, _stroke(f"M{zero:.1f} 2V{high_ - 4}", "currentColor", 1, "3 3"))
        more = [f"{len(table) - len(rows)} more rows in the table"] if len(table) > len(rows) else []
        return _figure(_svg(parts, WIDE, high_, self.value), [], [f"dashed: {self.reference:g}", *more])


@dataclass(frozen=True)
class Tiles:
    """A square for each pair: blue above 0, orange below; or the colour of a regime or verdict.

    Attributes:
        row, column: columns of the table; pairs that stand once stand for both orders where both hold the same names.
    """

    row: str
    column: str
    value: str

    def html(self, table: DataFrame) -> str:
        rows, columns = ([*dict.fromkeys(table[name])] for name in (self.row, self.column))
        given = {(r, c): v for r, c, v in zip(table[self.row], table[self.column], table[self.value], strict=True)}
        if self.row + self.column in ("emotionother", "ab"):
            given |= {(c, r): v for (r, c), v in given.items()}
            rows = columns = [*dict.fromkeys([*rows, *columns])]
        if not given or max(len(rows), len(columns)) > CELLS:
            return ""
        numbers = [abs(v) for v in given.values() if not isinstance(v, str) and math.isfinite(v)]
        most, side, left = max(numbers, default=1.0) or 1.0, max(9, min(22, 330 // len(columns))), 120
        parts = []
        for i, r in enumerate(rows):
            parts.append(f'<text x="{left - 6}" y="{(i + 0.5) * side + 4:.1f}" text-anchor="end">{_name(r)}</text>')
            for j, c in enumerate(columns):
                value = given.get((r, c))
                if isinstance(value, str) or (value is not None and math.isfinite(value)):
                    fill = WORDS.get(value, "none") if isinstance(value, str) else _tone(value, most)
                    said = escape(f"{r}, {c}: {value if isinstance(value, str) else f'{value:.2f}'}")
                    where = f'x="{left + j * side}" y="{i * side}" width="{side - 1}" height="{side - 1}"'
                    parts.append(f'<rect {where} fill="{fill}"><title>{said}</title></rect>')
        foot = len(rows) * side + 13
        every = max(1, len(columns) // 8)
        numeric = not any(isinstance(c, str) for c in columns)
        for j, c in enumerate(columns):
            if numeric and j % every == 0:
                x = left + (j + 0.5) * side
                parts.append(f'<text x="{x:.1f}" y="{foot}" text-anchor="middle">{_name(c)}</text>')
        words = [f"rows: {self.row.replace('_', ' ')}, columns: {self.column.replace('_', ' ')}"]
        words += [f"from the left: {', '.join(map(_plain, columns))}"] if not numeric and len(columns) < 8 else []
        named = [name for name in WORDS if name in given.values()]
        words += [] if named else [f"blue above 0, orange below, strongest {most:.2f}"]
        svg = _svg(parts, left + side * len(columns) + 4, foot + 4, self.value)
        return _figure(svg, [(name, WORDS[name]) for name in named], words)


@dataclass(frozen=True)
class Scatter:
    """Named points on a plane."""

    x: str
    y: str
    label: str

    def html(self, table: DataFrame) -> str:
        rows = [row for row in table.to_dict("records") if math.isfinite(row[self.x] + row[self.y])]
        if not rows:
            return ""
        frame = _Frame([row[self.x] for row in rows], [row[self.y] for row in rows], high=300, wide=WIDE)
        parts = [frame.axes(self.x, self.y, "against")]
        for row in rows:
            x, y = frame.at(row[self.x], row[self.y])
            over = x > WIDE - 80
            place = f'x="{x - 6 if over else x + 6:.1f}" y="{y + 4:.1f}" text-anchor="{"end" if over else "start"}"'
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="rgb{TOWARDS}"/>')
            parts.append(f"<text {place}>{_name(row[self.label])}</text>")
        return _figure(frame.svg(parts, f"{self.y} against {self.x}"), [], [])


def tinted(words: Iterable[tuple[str, float, str, bool]]) -> str:
    """Running text, each token on the colour of its value: blue above 0, orange below, underlined where it holds.

    Args:
        words: text; value from -1 to 1, nan for none; what is said on hover; whether it holds against chance.
    """
    spans = []
    for text, value, said, holds in words:
        style = "opacity:0.55" if math.isnan(value) else f"background:{_tone(value, 1.0)}"
        style += ";border-bottom:2px solid currentColor" if holds else ""
        shown = escape(text.replace("\n", "⏎\n")) or "∅"
        spans.append(f'<span style="{style}" title="{escape(said)}">{shown}</span>')
    return f'<div style="white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.9">{"".join(spans)}</div>'


INKS = (f"rgb{TOWARDS}", f"rgb{AWAY}", "#1f9d74", "#9b5fb0")


def _tone(value: float, most: float) -> str:
    if not math.isfinite(value):
        return "none"
    return f"rgba{(*(TOWARDS if value > 0 else AWAY), round(0.75 * min(1.0, abs(value) / most), 2))}"


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)[:18]


def _name(value: object) -> str:
    return escape(_plain(value))


def _scale(values: Sequence[float], start: float, end: float) -> Callable[[float], float]:
    low, high = min(values), max(values)
    return lambda x: start + (end - start) * (x - low) / ((high - low) or 1.0)


def _stroke(path: str, colour: str, width: float, dash: str = "") -> str:
    more = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}"{more}/>'


def _svg(parts: Sequence[str], wide: float, high: float, name: str) -> str:
    style = f"max-width:{wide}px;width:100%;height:auto;font:11px sans-serif;fill:currentColor"
    start = f'<svg viewBox="0 0 {wide} {high}" role="img" aria-label="{escape(name)}" style="{style}">'
    return f"{start}{''.join(parts)}</svg>"


def _figure(svg: str, key: Sequence[tuple[str, str]], words: Sequence[str]) -> str:
    marks = [f'<span style="color:{ink}">■</span> {escape(name)}' for name, ink in key]
    said = " · ".join([*marks, *(escape(w.replace("_", " ")) for w in words)])
    return f'<div>{svg}<div style="font-size:85%;opacity:0.8">{said}</div></div>'


class _Frame:
    """Axes with their ends as numbers."""

    def __init__(self, xs: Sequence[float], ys: Sequence[float], high: float = HIGH, wide: float = WIDE) -> None:
        ys = [*ys, min(ys) + 1] if min(ys) == max(ys) else ys  # a flat line lies at the foot
        self.wide, self.high, self.xs, self.ys = wide, high, (min(xs), max(xs)), (min(ys), max(ys))
        self._x, self._y = _scale(xs, LEFT, wide - 12), _scale(ys, high - BOTTOM, TOP)

    def at(self, x: float, y: float) -> tuple[float, float]:
        return self._x(x), self._y(y)

    def axes(self, x: str, y: str, between: str = "over") -> str:
        left, right, foot = LEFT, self.wide - 12, self.high - BOTTOM
        line = _stroke(f"M{left - 4} {TOP}V{foot + 4}H{right}", f"rgba{(*PLAIN, 0.6)}", 1)
        texts = [
            (left - 7, TOP + 5, "end", f"{self.ys[1]:.3g}"), (left - 7, foot + 3, "end", f"{self.ys[0]:.3g}"),
            (left, self.high - 8, "start", f"{self.xs[0]:.3g}"), (right, self.high - 8, "end", f"{self.xs[1]:.3g}"),
            ((left + right) / 2, self.high - 8, "middle", f"{y} {between} {x}".replace("_", " ")),
        ]  # fmt: skip
        return line + "".join(f'<text x="{a}" y="{b}" text-anchor="{to}">{escape(w)}</text>' for a, b, to, w in texts)

    def line(self, points: Points, colour: str) -> str:
        placed = [self.at(*p) for p in points]
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{colour}"/>' for x, y in placed)
        return _stroke(_path(placed), colour, 2) + (dots if "rgba" not in colour else "")

    def area(self, low: Points, high: Points) -> str:
        edge = [self.at(*p) for p in [*low, *reversed(high)]]
        return f'<path d="{_path(edge)}Z" fill="rgba{(*PLAIN, 0.22)}"/>' if edge else ""

    def level(self, y: float) -> str:
        at = self._y(y)
        return _stroke(f"M{LEFT} {at:.1f}H{self.wide - 12}", "currentColor", 1, "4 3")

    def svg(self, parts: Sequence[str], name: str) -> str:
        return _svg(parts, self.wide, self.high, name)


def _path(points: Points) -> str:
    return "".join(f"{'L' if i else 'M'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(points))
