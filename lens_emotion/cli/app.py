"""The command line. Nothing is computed here, and nothing heavy is imported before a command needs it."""

from __future__ import annotations

import atexit
import gc
import io
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from platform import python_version
from traceback import print_exc
from typing import Annotated, Any

import typer

from lens_emotion.cli.audit import audit
from lens_emotion.cli.model import check, drift, extract, models, play, steer
from lens_emotion.cli.power import power
from lens_emotion.cli.runs import figures, runs_app
from lens_emotion.cli.stimuli import stimuli_app
from lens_emotion.cli.study import init, study
from lens_emotion.cli.vectors import vectors_app
from lens_emotion.errors import LensEmotionError, shortened
from lens_emotion.memory import out_of_memory
from lens_emotion.version import __version__

RESTS_ON = ("torch", "transformer-lens", "transformers", "numpy")  # whose versions --version names
INTERRUPTED = 130  # exit code of a command that Ctrl-C ended
_MAIN = threading.main_thread()

app = typer.Typer(
    name="lens-emotion",
    help="Find, locate, test and steer emotion representations in small language models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (study, power, init, figures, audit, models, extract, steer, drift, check, play):
    app.command()(command)
for name, group in {"stimuli": stimuli_app, "vectors": vectors_app, "runs": runs_app}.items():
    app.add_typer(group, name=name)


def main() -> None:
    """Entry point: whatever goes wrong is one line on stderr and exit code 2; 130 after Ctrl-C, 143 after SIGTERM."""
    for stream in (sys.stdout, sys.stderr):  # a name that is no text in this encoding is printed all the same
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    atexit.register(gc.freeze)  # a second sooner at the end: nothing is searched for what goes with the process anyway
    shown = "--traceback" in sys.argv
    given = [a for a in sys.argv[1:] if a != "--traceback"] if shown else None  # wherever it stands
    with _ended_like_ctrl_c() as received:
        try:
            _check_not_empty(sys.argv[1:])
            code = app(given, prog_name="lens-emotion", standalone_mode=False)
        except Exception as error:
            if shown:
                print_exc()
            code = _told(error)
        except SystemExit as end:  # a pipe that was closed; Ctrl-C in older versions of typer
            code = end.code
        except KeyboardInterrupt:
            code = INTERRUPTED
    if code == INTERRUPTED:
        _tell("interrupted; finished steps are kept, run the same command to go on")
    sys.exit(128 + received[0] if received else code or 0)


@contextmanager
def _ended_like_ctrl_c() -> Iterator[list[int]]:
    """What a scheduler, a container or a closed terminal sends ends a command as Ctrl-C does; the signals received."""
    received: list[int] = []

    def end(number: int, _: Any) -> None:
        received.append(number)
        raise KeyboardInterrupt

    names = [n for n in ("SIGTERM", "SIGHUP") if hasattr(signal, n) and threading.current_thread() is _MAIN]
    mine = [s for s in (getattr(signal, n) for n in names) if signal.getsignal(s) is signal.SIG_DFL]  # not `nohup`
    for number in mine:
        signal.signal(number, end)
    try:
        yield received
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)


def _check_not_empty(given: list[str]) -> None:
    """An empty path would be the folder one works in: refused, but for texts, which may be empty."""
    for before, word in zip(["", *given], given, strict=False):
        option, _, value = word.partition("=") if word.startswith("--") else (before, "", word)
        named = option.startswith("--")
        if not value.strip() and ((named and "=" in word) or not word.startswith("--")) and option != "--prompt":
            raise LensEmotionError(f"{option if named else 'an argument'} is empty; give a value, or leave it out")


def _told(error: Exception) -> int:
    """Say what happened and what to do; the exit code."""
    error = out_of_memory(error) or error
    if isinstance(error, LensEmotionError):
        _tell(str(error))
    elif type(error).__name__ == "NoArgsIsHelpError":
        print(error, file=sys.stderr)
    elif isinstance(getattr(error, "exit_code", None), int) and hasattr(error, "format_message"):  # typer's own
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "lens-emotion"
        _tell(f"{error.format_message().rstrip('.')}; see `{command} --help`")
        return int(error.exit_code)  # type: ignore[attr-defined]
    elif type(error).__name__ == "Abort":
        return INTERRUPTED
    elif isinstance(error, OSError):
        _tell(f"{error.strerror or error}: {error.filename or 'a file'}; give another path, or make room or readable")
    else:
        lines = str(error).split("\n")
        _tell(
            f"unforeseen {type(error).__name__}: {lines[0][:300]}; this is a fault of lens-emotion: please report it "
            "with what the same command prints with --traceback"
        )
    return 2


def _tell(message: str) -> None:
    """One line on stderr, whatever characters a name in it has."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in shortened(message.strip()))
    print(f"lens-emotion: {line}", file=sys.stderr)


def _version(value: bool | None) -> None:
    if value:
        print(f"lens-emotion {__version__}\npython {python_version()}")
        for package in RESTS_ON:
            with suppress(PackageNotFoundError):
                print(package, installed(package))
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[
        bool | None, typer.Option("--version", callback=_version, is_eager=True, help="Print versions.")
    ] = None,
    traceback: Annotated[bool, typer.Option("--traceback", help="Print where an error came from too.")] = False,
) -> None:
    pass  # `main` acts on --traceback


if __name__ == "__main__":
    main()
