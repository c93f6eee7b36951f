"""README.md of a folder of figures: every set in it, each picture with its question, its caption and its data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lens_emotion.artifacts import atomic_write
from lens_emotion.figures.files import INDEX

HEAD = """# Figures

Every picture stands beside the data it was drawn from: `NAME.csv` (and `NAME.PART.csv`), `NAME.svg`, `NAME.png`, and
`NAME.json`, the interactive figure (`plotly.io.read_json("NAME.json").show()`). The caption is the analysis's own
sentence, with its null. There is no HTML: a page that works offline carries plotly.js, which is over 4 MiB; a run's
`report.html` has it once, for all figures.

A run folder gives the same bytes of data each time (six significant digits). To draw your own:

    lens-emotion figures RUN [RUN ...] --out figures

This page is written by that command.
"""


def write_gallery(out: Path) -> Path:
    """Write README.md for all sets in a folder, those of earlier calls too."""
    pages = []
    for index in sorted(out.glob(f"*/{INDEX}")):
        data = json.loads(index.read_text(encoding="utf-8"))
        pages.append(_page(index.parent.name, data))
    return atomic_write(out / "README.md", "\n".join([HEAD, *pages]))


def _page(name: str, data: dict[str, Any]) -> str:
    shown = f" Figures of a single model show {data['shown']}." if data["shown"] else ""
    n = len(data["models"])
    lines = [f"## {name}\n", f"{n} model{'s' * (n != 1)}: {', '.join(data['models'])}.{shown} Made by\n"]
    lines += [f"    {command}" for command in [*data["made_by"], data["drawn_by"]]]
    lines += [f"\nNot drawn: {figure} ({why})." for figure, why in data["missing"].items()]
    lines += [_entry(name, row) for row in data["figures"]]
    return "\n".join(lines) + "\n"


def _entry(folder: str, row: dict[str, Any]) -> str:
    """A picture with its question above, and its caption, numbers and files below."""
    at = f"{folder}/{row['name']}"
    files = [f"[{file}]({folder}/{file})" for file in row["data"]]
    files += [f"[{kind}]({at}.{kind})" for kind in ("json", "svg")]
    facts = row["facts"].replace("<br>", " · ")
    return (
        f"\n### {row['question']}\n\n![{row['name']}: {row['question']}]({at}.png)\n\n{_text(row['says'])}\n\n"
        f"*{_text(facts)}*\n\n{' · '.join(files)}"
    )


def _text(words: str) -> str:
    """Words that markdown would take for marks are kept as they are."""
    for mark in ("*", "_", "[", "|"):
        words = words.replace(mark, f"\\{mark}")
    return words
