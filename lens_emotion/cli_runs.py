"""The commands of `lens-emotion runs`. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core


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
    from lens_emotion.console_runs import print_runs

    print_runs(folder)


@runs_app.command("verify")
def verify_run(run: Annotated[Path, typer.Argument(help="A run folder.")]) -> None:
    """Check every checksum of a run; names each damaged file and exits with 1 if there is one."""
    from lens_emotion.console_runs import verify_and_print

    if not verify_and_print(run):
        raise typer.Exit(1)


@runs_app.command("compare")
def compare_runs(
    a: Annotated[Path, typer.Argument(help="A run folder.")],
    b: Annotated[Path, typer.Argument(help="Another.")],
) -> None:
    """Settings, versions and table cells in which two runs differ, with the largest difference."""
    from lens_emotion.console_runs import compare_and_print

    compare_and_print(a, b)


@runs_app.command("prune")
def prune_run(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; without, it is only listed.")] = False,
) -> None:
    """List what a run holds beside its study: steps under other settings, damaged steps, old batches."""
    from lens_emotion.console_runs import prune_and_print

    prune_and_print(run, delete)
