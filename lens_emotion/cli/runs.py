"""The commands of `lens-emotion runs`. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from lens_emotion.cli.say import say_line
from lens_emotion.files.artifacts import ensure_writable
from lens_emotion.report.gallery import FiguresError, across_set, check_images, run_set, write_gallery, write_set
from lens_emotion.report.parts import FigureSet
from lens_emotion.study.stored import read_run


class _ListUnlessNamed(typer.core.TyperGroup):
    """`runs FOLDER` is `runs list FOLDER`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = bool(args) and args[0] in {*self.commands, "-h", "--help"}
        return list(super().parse_args(ctx, args if named else ["list", *args]))


runs_app = typer.Typer(cls=_ListUnlessNamed, help="Run folders: list (runs [FOLDER]), verify, compare, prune.")


@runs_app.command("list")
def list_runs(
    folder: Annotated[Path, typer.Argument(help="A run folder, or a folder of them.")] = Path("runs"),
) -> None:
    """List runs: date, models, steps done, size, time of their steps."""
    from lens_emotion.cli._runs import print_runs

    print_runs(folder)


@runs_app.command("verify")
def verify_run(run: Annotated[Path, typer.Argument(help="A run folder.")]) -> None:
    """Check every checksum of a run; names each damaged file and exits with 1 if there is one."""
    from lens_emotion.cli._runs import verify_and_print

    if not verify_and_print(run):
        raise typer.Exit(1)


@runs_app.command("compare")
def compare_runs(
    a: Annotated[Path, typer.Argument(help="A run folder.")],
    b: Annotated[Path, typer.Argument(help="Another.")],
) -> None:
    """Settings, versions and table cells in which two runs differ, with the largest difference."""
    from lens_emotion.cli._runs import compare_and_print

    compare_and_print(a, b)


@runs_app.command("prune")
def prune_run(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; without, it is only listed.")] = False,
) -> None:
    """List what a run holds beside its study: steps under other settings, damaged steps, old batches."""
    from lens_emotion.cli._runs import prune_and_print

    prune_and_print(run, delete)


# -------- console_figures
# What `lens-emotion figures` prints while it draws.


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
