"""The command line. Nothing is computed here, and nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from lens_emotion.cli.model import check, drift, extract, models, play, steer
from lens_emotion.cli.runs import figures, runs_app
from lens_emotion.cli.stimuli import stimuli_app
from lens_emotion.cli.study import init, study
from lens_emotion.cli.vectors import vectors_app
from lens_emotion.errors import LensEmotionError
from lens_emotion.version import __version__

INTERRUPTED = 130  # exit code of a command that Ctrl-C ended

app = typer.Typer(
    name="lens-emotion",
    help="Find, locate, test and steer emotion representations in small language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (study, init, figures, models, extract, steer, drift, check, play):
    app.command()(command)
for name, group in {"stimuli": stimuli_app, "vectors": vectors_app, "runs": runs_app}.items():
    app.add_typer(group, name=name)


def main() -> None:
    """Entry point: an error the user can mend is one line on stderr and exit code 2."""
    try:
        app()
    except LensEmotionError as error:
        print(f"lens-emotion: {error}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as end:  # typer makes an exit code of Ctrl-C
        if end.code == INTERRUPTED:
            print("lens-emotion: interrupted; finished steps are kept, run the same command to go on", file=sys.stderr)
        raise


def _version(value: bool | None) -> None:
    if value:
        print(f"lens-emotion {__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool | None, typer.Option("--version", callback=_version, is_eager=True, help="Print version.")
    ] = None,
) -> None:
    pass


if __name__ == "__main__":
    main()
