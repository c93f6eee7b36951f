"""README.md of a folder of figures: every set in it, each picture with its question, its caption and its data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lens_emotion.artifacts import atomic_write
from lens_emotion.figures.files import INDEX
from lens_emotion.study.config import TINY_FIVE

HEAD = """# Figures

Every picture stands beside the data it was drawn from: `NAME.csv` (and `NAME.PART.csv`), `NAME.svg`, `NAME.png`, and
`NAME.json`, the interactive figure (`plotly.io.read_json("NAME.json").show()`). The caption is the analysis's own
sentence, with its null. There is no HTML: a page that works offline carries plotly.js, which is over 4 MiB; a run's
`report.html` has it once, for all figures.

A run folder gives the same bytes of data each time (six significant digits). To draw your own:

    lens-emotion figures RUN [RUN ...] --out figures

This page is written by that command. Folders of models and judges are given by their last name.
"""
TOY = "\nThe tiny models are trained on a written toy world: a check of the tool, not a finding about language models."


def write_gallery(out: Path) -> Path:
    """Write README.md for all sets in a folder, those of earlier calls too."""
    found = {i.parent.name: json.loads(i.read_text(encoding="utf-8")) for i in sorted(out.glob(f"*/{INDEX}"))}
    contents = "".join(
        f"- [{name}](#{_anchor(name)}): {len(data['figures'])} figures of {', '.join(data['models'])}\n"
        for name, data in found.items()
    )
    return atomic_write(out / "README.md", "\n".join([HEAD, contents, *(_page(n, d) for n, d in found.items())]))


def _page(name: str, data: dict[str, Any]) -> str:
    shown = f" Figures of a single model show {data['shown']}." if data["shown"] else ""
    n = len(data["models"])
    lines = [f"## {name}\n", f"{n} model{'s' * (n != 1)}: {', '.join(data['models'])}.{shown} Made by\n"]
    lines += [f"    {command}" for command in [*data["made_by"], data["drawn_by"]]]
    if all(model in TINY_FIVE for model in data["models"]):
        lines.append(TOY)
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


def _anchor(heading: str) -> str:
    """How a code host links to a heading."""
    return "".join(c for c in heading.lower().replace(" ", "-") if c.isalnum() or c in "-_")


def _text(words: str) -> str:
    """Words in which what markdown would take for marks is kept as it is."""
    for mark in ("*", "_", "[", "|"):
        words = words.replace(mark, f"\\{mark}")
    return words
