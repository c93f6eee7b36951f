"""The commands of `lens-emotion stimuli`. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

stimuli_app = typer.Typer(no_args_is_help=True, help="Stimulus sets: list, lint, preview, and the file format.")


@stimuli_app.command("list")
def list_stimuli() -> None:
    """List the stimulus sets that ship with the package."""
    from lens_emotion.cli.say import print_stimuli

    print_stimuli()


@stimuli_app.command("lint")
def lint_stimuli(
    file: Annotated[Path, typer.Argument(help="Stimulus set in TOML or JSON (see `lens-emotion stimuli format`).")],
    min_words: Annotated[int, typer.Option(help="Shortest text wanted.")] = 35,
    max_words: Annotated[int, typer.Option(help="Longest text wanted.")] = 70,
) -> None:
    """Check a stimulus set: leaked words, missing cells, duplicate openings, lengths. Exits with 1 on faults."""
    from lens_emotion.cli.say import lint_and_print

    if not lint_and_print(file, min_words, max_words):
        raise typer.Exit(1)


@stimuli_app.command("format")
def stimuli_format() -> None:
    """Print the file format of stimulus sets."""
    from lens_emotion.stimuli import sets

    print((sets.__doc__ or "").strip())


@stimuli_app.command("preview")
def preview_text(
    model: Annotated[str, typer.Argument(help="Name, hub id, folder or .gguf file.")],
    text: Annotated[str, typer.Argument(help="The text.")],
    start: Annotated[int, typer.Option(help="First content token that is pooled.")] = 0,
) -> None:
    """Show which tokens of a text are pooled, skipped or special."""
    from lens_emotion.cli.say import preview_and_print

    preview_and_print(model, text, start)
