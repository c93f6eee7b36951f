"""The run of a suite as JSON, as a table on the terminal and as the table in README.md.

python -m benchmarks.table benchmarks/results.json    # write the table of README.md anew
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import Options, Row, Skipped, add_options, options_from

SCHEMA = 1
README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- begin of the table: written by python -m benchmarks -->", "<!-- end of the table -->"
HEAD = ("benchmark", "what", "ours", "baseline", "ratio", "goal", "met", "threads", "n", "note")
DERIVED = ("ratio", "met")


def as_dict(row: Row) -> dict[str, Any]:
    return asdict(row) | {name: getattr(row, name) for name in DERIVED}


def from_dict(values: dict[str, Any]) -> Row:
    known = {f.name: values[f.name] for f in fields(Row) if f.name in values}
    if known.get("limit") is not None:
        known["limit"] = tuple(known["limit"])
    return Row(**known)


def write_json(path: Path, facts: dict[str, Any], rows: Iterable[Row], skipped: dict[str, str]) -> None:
    values = {"schema": SCHEMA, "facts": facts, "rows": [as_dict(r) for r in rows], "skipped": skipped}
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """The run of a suite, `rows` as Row.

    Raises:
        ValueError: another schema.
    """
    values = json.loads(path.read_text(encoding="utf-8"))
    if values.get("schema") != SCHEMA:
        raise ValueError(f"{path} has schema {values.get('schema')}, this suite reads {SCHEMA}; run the suite again")
    return values | {"rows": [from_dict(r) for r in values["rows"]]}


def merged(old: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """The new rows, and the old ones of what was not measured again, in order of benchmark."""
    again = {_subject(r) for r in new}
    return sorted([*(r for r in old if _subject(r) not in again), *new], key=lambda r: r.benchmark)


def _subject(row: Row) -> tuple[str, str]:
    """Benchmark and model (what stands last in `what`): what one call of a benchmark measures anew."""
    return row.benchmark, row.what.rpartition(", ")[2]


def cells(row: Row) -> tuple[str, ...]:
    """The row as text, one cell per column of HEAD."""
    limit = "" if row.limit is None else f"{row.limit[0]:g} to {row.limit[1]:g}"
    goal = limit if row.goal is None else f"{row.goal:g}x"
    met = {True: "yes", False: "**no**", None: ""}[row.met]
    baseline = "" if row.baseline is None else f"{_quantity(row.baseline, row.unit)} ({row.baseline_name})"
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}x"
    busy = "" if row.load is None else f"load {row.load:.1f}"
    note = "; ".join(part for part in (row.note, busy) if part)
    ours = _quantity(row.ours, row.unit)
    return row.benchmark, row.what, ours, baseline, ratio, goal, met, str(row.threads), str(row.repeats), note


def _quantity(value: float, unit: str) -> str:
    if unit == "s" and abs(value) < 1:
        return f"{1000 * value:.3g} ms"
    digits = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{digits} {unit}".strip()


def text_table(rows: Sequence[Row]) -> str:
    """Columns in line, for a terminal."""
    lines = [HEAD, *(cells(r) for r in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD) - 1)]
    return "\n".join(
        "  ".join([*(c.ljust(w) for c, w in zip(line, widths, strict=False)), line[-1]]).rstrip() for line in lines
    )


def markdown(values: dict[str, Any]) -> str:
    """The table of a run (from `read_json`), and what it was run on."""
    lines = [_facts_line(values["facts"]), "", _line(HEAD), _line(["---"] * len(HEAD))]
    lines += [_line(cells(r)) for r in values["rows"]]
    if values["skipped"]:
        lines += ["", "Not run:", *(f"- `{name}`: {why}" for name, why in values["skipped"].items())]
    return "\n".join(lines)


def _line(parts: Iterable[str]) -> str:
    return "| " + " | ".join(p.replace("|", "\\|").replace("\n", " ") for p in parts) + " |"


def _facts_line(facts: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items() if number)
    place = facts["accelerator"] or f"{facts['processors']} processors"
    kind = "Quick run, small sizes: " if facts["options"]["quick"] else ""
    return (
        f"{kind}{facts['date']}, {facts['system']} {facts['machine']}, {place}, Python {facts['python']}, {versions}."
    )


def write_readme(values: dict[str, Any], path: Path = README) -> None:
    """Put the table between the markers of a README; raises ValueError if it has none."""
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{path} needs one line '{BEGIN}' and one '{END}' after it: the table goes between them")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    path.write_text(f"{before}{BEGIN}\n\n{markdown(values)}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    write_readme(read_json(Path(sys.argv[1])))


def run_alone(rows: Callable[[Options], list[Row]]) -> None:
    """What a benchmark does when it is run by itself: its rows as a table on the terminal."""
    parser = argparse.ArgumentParser(description=(rows.__doc__ or "").strip())
    add_options(parser)
    options = options_from(parser.parse_args())
    torch.set_num_threads(options.threads)
    try:
        print(text_table(rows(options)))
    except Skipped as reason:
        print(f"skipped: {reason}")
