"""The command line. Nothing is computed here, and nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer
import typer.core

from lens_emotion.cli.options import (
    Backend,
    Device,
    Dtype,
    Quantise,
    Stimuli,
)
from lens_emotion.cli.runs import runs_app
from lens_emotion.cli.stimuli import stimuli_app
from lens_emotion.cli.study import init, study
from lens_emotion.cli.vectors import vectors_app
from lens_emotion.errors import LensEmotionError
from lens_emotion.version import __version__

app = typer.Typer(
    name="lens-emotion",
    help="Find, locate, test and steer emotion representations in small language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(stimuli_app, name="stimuli")
app.add_typer(vectors_app, name="vectors")


app.add_typer(runs_app, name="runs")

INTERRUPTED = 130  # exit code of a command that Ctrl-C ended


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
        Optional[bool],  # noqa: UP045
        typer.Option("--version", callback=_version, is_eager=True, help="Print version."),
    ] = None,
) -> None:
    pass


app.command()(study)
app.command()(init)


@app.command()
def figures(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of `lens-emotion study`.")],
    out: Annotated[Path, typer.Option(help="One folder per run is written here, and a gallery README.md.")] = Path(
        "figures"
    ),
    across: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Also compare the models of all runs, in a folder of this name."),
    ] = None,
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Whose figures to show where a figure shows one model; default the first of the run."),
    ] = None,
    images: Annotated[bool, typer.Option(help="PNG and SVG beside the data (needs kaleido and a browser).")] = True,
) -> None:
    """Draw the figures of finished runs: data (CSV), interactive (plotly JSON), PNG and SVG, and a gallery."""
    from lens_emotion.cli.runs import draw_and_print

    draw_and_print(runs, out, across, model, images)


@app.command()
def models(
    family: Annotated[Optional[str], typer.Option(help="Only this family.")] = None,  # noqa: UP045
    hub: Annotated[bool, typer.Option("--hub", help="Show hub ids instead of the paper column.")] = False,
) -> None:
    """List the models known by name (any other hub id or folder works too)."""
    from lens_emotion.cli.say import print_models

    print_models(family, hub)


@app.command()
def extract(
    model: Annotated[str, typer.Argument(help="Name, hub id, folder or .gguf file.")],
    out: Annotated[Path, typer.Option(help="Folder for activations and vectors.")] = Path("extracted"),
    method: Annotated[str, typer.Option(help="comprehension, generation or jeong.")] = "comprehension",
    recipe: Annotated[str, typer.Option(help="centred, neutral or neutral_pca.")] = "centred",
    stimuli: Stimuli = None,
    backend: Backend = "auto",
    dtype: Dtype = "auto",
    device: Device = None,
    quantise: Quantise = None,
) -> None:
    """Read a model once; save activations of every layer and emotion vectors, and say whether they hold."""
    from lens_emotion.cli.say import extract_and_print

    extract_and_print(model, out, method, recipe, stimuli, backend, dtype, device, quantise)


@app.command()
def steer(
    model: Annotated[str, typer.Argument(help="Name, hub id, folder or .gguf file.")],
    emotion: Annotated[str, typer.Argument(help="One of the vectors' emotions, or a mixture: '0.5*calm - 0.3*angry'.")],
    prompt: Annotated[str, typer.Option(help="Text to continue.")] = "The door opened and",
    dose: Annotated[float, typer.Option(help="How far, in the unit given.")] = 3.0,
    unit: Annotated[str, typer.Option(help="natural or relative.")] = "natural",
    layer: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="A layer, a band such as 10-20, or all; default the middle one."),
    ] = None,
    all_layers: Annotated[bool, typer.Option("--all-layers", help="The same as --layer all.")] = False,
    positions: Annotated[str, typer.Option(help="all, generated or prompt.")] = "all",
    mode: Annotated[str, typer.Option(help="add, ablate (dose 1 projects out) or clamp.")] = "add",
    vectors: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Vector file of this model; default: extract now."),
    ] = None,
    tokens: Annotated[int, typer.Option(help="New tokens.")] = 40,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of sampling and of the random control.")] = 0,
    backend: Backend = "auto",
    dtype: Dtype = "auto",
    device: Device = None,
) -> None:
    """Print unsteered, steered and randomly pushed text side by side, with measures."""
    from lens_emotion.cli.model import SteerRequest, steer_and_print

    layers = "all" if all_layers else int(layer) if layer and layer.lstrip("-").isdigit() else layer
    steer_and_print(
        SteerRequest(
            model, emotion, prompt, dose, unit, layers, positions, mode, vectors, tokens, temperature, seed, backend,
            dtype, device,
        )
    )  # fmt: skip


@app.command()
def drift(
    model: Annotated[str, typer.Argument(help="Name, hub id, folder or .gguf file.")],
    dtype: Annotated[str, typer.Option(help="Precision to try: bfloat16, float16 or float32.")] = "bfloat16",
    against: Annotated[str, typer.Option(help="Precision to compare with.")] = "float32",
    quantise: Quantise = None,
    stimuli: Stimuli = None,
    backend: Backend = "auto",
    device: Device = None,
) -> None:
    """Read a model in two precisions: the cosine of both vectors for each emotion, beside their reliability."""
    from lens_emotion.cli.model import drift_and_print

    drift_and_print(model, dtype, against, quantise, stimuli, backend, device)


@app.command()
def check(
    model: Annotated[str, typer.Argument(help="Name, hub id, folder or .gguf file.")],
    vectors: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Vector file of this model; default: made of the texts of the check."),
    ] = None,
    compare: Annotated[bool, typer.Option(help="Load it again, plain and on the other backend, and compare.")] = True,
    backend: Backend = "auto",
    dtype: Dtype = "auto",
    device: Device = None,
) -> None:
    """Try the laws that every number rests on, on a model of your own. Exits with 1 if one is broken."""
    from lens_emotion.cli.model import check_and_print

    if not check_and_print(model, backend, dtype, device, vectors, compare):
        raise typer.Exit(1)


@app.command()
def play(
    model: Annotated[str, typer.Argument(help="Name, hub id, folder or .gguf file.")],
    vectors: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Vector file of this model; default: read its texts, once (kept in runs/play)."),
    ] = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes any that is free.")] = 8765,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
    backend: Backend = "auto",
    dtype: Dtype = "auto",
    device: Device = None,
) -> None:
    """Steer live in a local page: text side by side as it is written, regimes, token scores."""
    from lens_emotion.errors import need_extra

    need_extra("play", "the playground", "starlette", "uvicorn")
    from lens_emotion.cli.model import play_and_print

    play_and_print(model, vectors, port, browser, backend, dtype, device)


if __name__ == "__main__":
    main()
