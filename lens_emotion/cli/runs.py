"""`lens-emotion runs` and `lens-emotion figures`: finished runs looked at, compared, tidied and drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core
from rich.text import Text

from lens_emotion.cli.model import Overwrite
from lens_emotion.cli.say import duration, say_line, say_prose, say_table, short, size, table

if TYPE_CHECKING:
    from lens_emotion.report.parts import FigureSet

SHOWN = 20  # tables that differ; the rest are counted
WORD = 20  # letters of a word that a column holds at 80
MOST = 500  # damaged files; likewise
RunFolder = Annotated[Path, typer.Argument(help="A run folder.")]


class _ListUnlessNamed(typer.core.TyperGroup):
    """`runs FOLDER` is `runs list FOLDER`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = bool(args) and args[0] in {*self.commands, "-h", "--help"}
        return list(super().parse_args(ctx, args if named else ["list", *args]))


runs_app = typer.Typer(cls=_ListUnlessNamed, help="Run folders: list (runs [FOLDER]), verify, compare, prune.")


@runs_app.command("list")
def list_all(folder: Annotated[Path, typer.Argument(help="A run folder, or a folder of them.")] = Path("runs")) -> None:
    """List runs: date, models, steps done, size, time of their steps."""
    from lens_emotion.run.look import list_runs

    runs = list_runs(folder)
    if not runs:
        say_line(f"no runs in {folder}; `lens-emotion study --out {folder}/NAME` makes one")
        return
    made = table("run", "date", "models", "steps", "size", "time", right=(3, 4, 5), prose=(2,))
    for run in (r for r in runs if not r.unreadable):
        steps = Text(f"{run.steps_done}/{run.steps_total}{'*' * (not run.done)}", style="" if run.done else "yellow")
        models = short(run.models)
        shown = ", ".join(models) if len(models) < 4 else f"{models[0]} ... {models[-1]} ({len(models)})"
        date = run.created[:16].replace("T", " ")
        made.add_row(_one_line(run.path.name), date, shown, steps, size(run.n_bytes), duration(run.seconds))
    if made.row_count:
        say_table(made)
    for run in (r for r in runs if r.unreadable):
        say_line(_one_line(run.path.name), ("  unreadable: ", "yellow"), _one_line(run.unreadable))
    if any(not r.done and not r.unreadable for r in runs):
        say_prose("* not finished; the same `lens-emotion study` command goes on where it stopped")


def _one_line(words: str) -> str:
    """A name may hold a line break; it must not pass for two."""
    return words.replace("\n", "\\n")


@runs_app.command("verify")
def verify(run: RunFolder) -> None:
    """Check every checksum of a run; names each damaged file and exits with 1 if there is one."""
    from lens_emotion.run.look import verify_run

    found = verify_run(run)
    for damage in found.damages[:MOST]:
        say_line(Text(f"damaged  {damage}", style="red"))
    if len(found.damages) > MOST:
        say_line(Text(f"damaged  ... and {len(found.damages) - MOST} more", style="red"))
    for note in found.notes:
        say_line(Text(f"note     {note}", style="dim"))
    if found.damages:
        whole = max(found.n_files, len(found.damages))  # a file without a checksum may be damaged too
        only = {d.path.name for d in found.damages} == {"sealed.json"}
        remedy = "a seal is not made again: take it from a copy" if only else "`lens-emotion study` makes them again"
        say_line(f"{len(found.damages)} of {whole} files are damaged; {remedy}")
        raise typer.Exit(1)
    say_line(f"all {found.n_files} files of {run} are what was written")


@runs_app.command("compare")
def compare(a: RunFolder, b: Annotated[Path, typer.Argument(help="Another.")]) -> None:
    """Settings, versions and table cells in which two runs differ, with the largest difference."""
    from lens_emotion.run.look import compare_runs

    found = compare_runs(a, b)
    say_line(f"A: {a}\nB: {b}")
    if len(found.settings):
        told = [(str(row["what"]), str(row["a"]), str(row["b"])) for row in found.settings.to_dict("records")]
        fits = [all(len(word) <= WORD for value in row[1:] for word in value.split()) for row in told]
        made = table("differs", "A", "B", prose=(1, 2))
        for line in (line for line, short in zip(told, fits, strict=True) if short):
            made.add_row(*line)
        say_table(made)
        for what, first, second in (row for row, short in zip(told, fits, strict=True) if not short):
            say_line(f"{what}\n  A: {first}\n  B: {second}")  # a path stays whole
    for path in found.damaged:
        say_line(Text(f"damaged, not compared: {path}", style="red"))
    lonely = found.different.note.str.startswith("only")
    for (note, model), rows in found.different[lonely].groupby(["note", "model"], sort=False):
        say_line(f"{note}: {len(rows)} tables of {model or 'all models'}")
    different = found.different[~lonely].sort_values(["largest", "differing"], ascending=False, kind="stable")
    if len(different):
        made = table("table", "model", "cells", "largest", "where", right=(2, 3), prose=(4,))
        for row in different.head(SHOWN).to_dict("records"):
            gap = "text" if isnan(row["largest"]) else f"{row['largest']:.3g}"
            seen = (row["note"], "") if row["note"] else (f"{row['differing']}/{row['cells']}", gap)
            made.add_row(row["table"], row["model"] or "all", *seen, row["at"])
        say_table(made)
    if len(different) > SHOWN:
        say_line(f"... and {len(different) - SHOWN} more tables")
    say_prose(found.summary())


@runs_app.command("prune")
def prune(
    run: RunFolder,
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; without, it is only listed.")] = False,
) -> None:
    """List what a run holds beside its study: steps under other settings, damaged steps, old batches."""
    from lens_emotion.run.look import remove, spare_in

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


def figures(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of `lens-emotion study`.")],
    out: Annotated[Path, typer.Option(help="One folder per run is written here, and a gallery README.md.")] = Path(
        "figures"
    ),
    across: Annotated[
        str | None, typer.Option(help="Also compare the models of all runs, in a folder of this name.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Whose figures to show where a figure shows one model; default the first of the run."),
    ] = None,
    images: Annotated[bool, typer.Option(help="PNG and SVG beside the data (needs kaleido and a browser).")] = True,
    overwrite: Overwrite = False,
) -> None:
    """Draw the figures of finished runs: data (CSV), interactive (plotly JSON), PNG and SVG, and a gallery."""
    from lens_emotion.files.artifacts import ensure_writable
    from lens_emotion.files.read import whole_path
    from lens_emotion.report.gallery import (
        FiguresError,
        across_set,
        check_gallery,
        check_images,
        check_set,
        run_set,
        study_command,
        write_gallery,
    )
    from lens_emotion.study.stored import manifest_of, read_run

    _check_names(runs, out, across)
    commands, every = [], []
    for run in runs:  # the last is said before the first is analysed
        facts = manifest_of(run)
        held = [row.name for row in facts.rows]
        commands.append(study_command(facts.settings))
        every += held
        if not overwrite:
            check_set(out / whole_path(run).name, held, commands[-1:])
        if model is not None and model not in held:
            raise FiguresError(f"{whole_path(run).name} has no model '{model}'; it has {', '.join(held)}")
    check_gallery(out, overwrite)
    if images:
        check_images()
    if across and not overwrite:
        check_set(out / across, every, commands)
    ensure_writable(out)
    stored = []
    for run in runs:
        stored.append(read_run(run, lambda name, doing: say_line((f"{name}: {doing}", "dim"))))
        _write(run_set(stored[-1], model), [run], "", out, images)
    if across:
        _write(across_set(across, stored), runs, f" --across {across}", out, images)
    say_line(f"gallery: {write_gallery(out)}")


def _check_names(runs: Sequence[Path], out: Path, across: str | None) -> None:
    """Raises FiguresError for folders that would be written over one another, or into a run."""
    from lens_emotion.files.names import is_name
    from lens_emotion.files.read import whole_path
    from lens_emotion.report.gallery import FiguresError
    from lens_emotion.run.store import MANIFEST

    if across is not None and (Path(across).name != across or across in ("", "..")):
        raise FiguresError(f"--across is the name of a folder inside {out}, not a path; got '{across}'")
    names = [whole_path(run).name for run in runs] + ([across] if across else [])
    if len(set(names)) < len(names):
        raise FiguresError(f"every set of figures needs a folder of its own name; got {', '.join(names)}")
    if (out / MANIFEST).is_file():
        raise FiguresError(f"{out} is a run folder, in which nothing but its study writes; give another --out")
    if (across and not is_name(across)) or across == "README.md":
        raise FiguresError(f"--across is the name of a folder; got {across!r}")


def _write(figures: FigureSet, runs: Sequence[Path], option: str, out: Path, images: bool) -> None:
    from lens_emotion.files.read import whole_path
    from lens_emotion.report.gallery import write_set

    command = f"lens-emotion figures {' '.join(f'runs/{whole_path(r).name}' for r in runs)}{option}"
    folder = write_set(replace(figures, drawn_by=command), out, images)
    tables = sum(len(d.tables) for d in figures.figures)
    say_line(f"{folder}: {len(figures.figures)} figures, {tables} tables")
