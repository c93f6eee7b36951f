"""What `lens-emotion runs` prints."""

from __future__ import annotations

from math import isnan
from pathlib import Path

from rich.text import Text

from lens_emotion.cli.say import out, say_line, table
from lens_emotion.run.look import compare_runs, list_runs, remove, spare_in, verify_run

SHOWN = 20  # tables that differ; the rest are counted


def print_runs(folder: Path) -> None:
    """One line per run, latest first."""
    runs = list_runs(folder)
    if not runs:
        say_line(f"no runs in {folder}; `lens-emotion study --out {folder}/NAME` makes one")
        return
    made = table("run", "date", "models", "steps", "size", "time", right=(3, 4, 5))
    made.columns[0].no_wrap = False
    for run in runs:
        steps = Text(f"{run.steps_done}/{run.steps_total}", style="" if run.done else "yellow")
        models = [Path(m).name for m in run.models]
        shown = ", ".join(models) if len(models) < 4 else f"{models[0]} ... {models[-1]} ({len(models)})"
        date = run.created[:16].replace("T", " ") or "unreadable"
        made.add_row(run.path.name, date, shown, steps, size(run.n_bytes), duration(run.seconds))
    out.print(made)
    if any(not r.done for r in runs):
        say_line("[yellow]yellow[/]: not finished; the same `lens-emotion study` command goes on where it stopped")


def verify_and_print(run: Path) -> bool:
    """True if every file is what was written."""
    found = verify_run(run)
    for damage in found.damages:
        say_line(Text(f"damaged  {damage}", style="red"))
    for note in found.notes:
        say_line(Text(f"note     {note}", style="dim"))
    if found.damages:
        say_line(f"{len(found.damages)} of {found.n_files} files are damaged; `lens-emotion study` makes them again")
    else:
        say_line(f"all {found.n_files} files of {run} are what was written")
    return not found.damages


def prune_and_print(run: Path, delete: bool) -> None:
    """What the study of a run does not need, removed if asked to."""
    found = spare_in(run)
    if not found:
        say_line(f"{run} holds nothing beside its study")
        return
    for spare in found:
        say_line(f"{size(spare.n_bytes):>9}  {spare.path.relative_to(run)}  ({spare.why})")
    whole = size(sum(spare.n_bytes for spare in found))
    if delete:
        remove(run, found)
    say_line(f"{whole} removed" if delete else f"{whole} in all; --delete removes it")


def compare_and_print(a: Path, b: Path) -> None:
    """Settings and versions that differ, then tables that differ, the largest difference first."""
    found = compare_runs(a, b)
    say_line(f"A: {a}\nB: {b}")
    if len(found.settings):
        made = table("differs", "A", "B")
        for row in found.settings.to_dict("records"):
            made.add_row(row["what"], _short(row["a"]), _short(row["b"]))
        out.print(made)
    for path in found.damaged:
        say_line(Text(f"damaged, not compared: {path}", style="red"))
    lonely = found.tables.note.str.startswith("only")
    for (note, model), rows in found.tables[lonely].groupby(["note", "model"], sort=False):
        say_line(f"{note}: {len(rows)} tables of {model or 'all models'}")
    different = found.tables[((found.tables.differing > 0) | (found.tables.note != "")) & ~lonely]
    different = different.sort_values(["largest", "differing"], ascending=False, kind="stable")
    if len(different):
        made = table("table", "model", "cells", "largest", "where", right=(2, 3))
        made.columns[0].no_wrap = False
        for row in different.head(SHOWN).to_dict("records"):
            cells = row["note"] or f"{row['differing']}/{row['cells']}"
            largest = "" if row["note"] else "text" if isnan(row["largest"]) else f"{row['largest']:.3g}"
            made.add_row(row["table"], row["model"] or "all", cells, largest, row["at"])
        out.print(made)
    if len(different) > SHOWN:
        say_line(f"... and {len(different) - SHOWN} more tables")
    say_line(found.summary())


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


def _short(value: str) -> str:
    return value if len(value) <= 60 else value[:57] + "..."
