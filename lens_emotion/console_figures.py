"""What `lens-emotion figures` prints while it draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lens_emotion.artifacts import ensure_writable
from lens_emotion.console import say_line
from lens_emotion.figures.drawn import FigureSet
from lens_emotion.figures.files import check_images, write_set
from lens_emotion.figures.gallery import write_gallery
from lens_emotion.figures.sets import FiguresError, across_set, run_set
from lens_emotion.study.stored import read_run


def draw_and_print(runs: Sequence[Path], out: Path, across: str | None, model: str | None, images: bool) -> None:
    """Read the runs, write one set each and perhaps one over all, then the gallery.

    Raises:
        FiguresError: two runs, or a run and the set over all, would share a folder.
    """
    names = [run.resolve().name for run in runs] + ([across] if across else [])
    if len(set(names)) < len(names):
        raise FiguresError(f"every set of figures needs a folder of its own name; got {', '.join(names)}")
    ensure_writable(out)
    if images:
        check_images()
    stored = []
    for run in runs:
        stored.append(read_run(run, lambda name, doing: say_line(f"[dim]{name}: {doing}[/]")))
        _write(run_set(stored[-1], model), [run], "", out, images)
    if across:
        _write(across_set(across, stored), runs, f" --across {across}", out, images)
    say_line(f"gallery: {write_gallery(out)}")


def _write(figures: FigureSet, runs: Sequence[Path], option: str, out: Path, images: bool) -> None:
    command = f"lens-emotion figures {' '.join(f'runs/{r.resolve().name}' for r in runs)}{option}"
    folder = write_set(replace(figures, drawn_by=command), out, images)
    tables = sum(len(d.tables) for d in figures.figures)
    say_line(f"{folder}: {len(figures.figures)} figures, {tables} tables")
