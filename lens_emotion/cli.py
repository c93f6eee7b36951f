"""The command line. Nothing is computed here, and nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
import typer.core

from lens_emotion.cli_vectors import vectors_app
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
stimuli_app = typer.Typer(no_args_is_help=True, help="Stimulus sets: list, lint, preview, and the file format.")
app.add_typer(stimuli_app, name="stimuli")
app.add_typer(vectors_app, name="vectors")


class _ListUnlessNamed(typer.core.TyperGroup):
    """`runs FOLDER` is `runs list FOLDER`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = bool(args) and args[0] in {*self.commands, "-h", "--help"}
        return list(super().parse_args(ctx, args if named else ["list", *args]))


runs_app = typer.Typer(cls=_ListUnlessNamed, help="Run folders: list (runs [FOLDER]), verify, compare.")
app.add_typer(runs_app, name="runs")

Backend = Annotated[str, typer.Option(help="auto, bridge or hooked (HookedTransformer, TransformerLens 3.x).")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
Device = Annotated[Optional[str], typer.Option(help="cpu, cuda or mps; default the best there is.")]  # noqa: UP045
Stimuli = Annotated[
    Optional[str],  # noqa: UP045 - typer reads the annotation at run time
    typer.Option(help="passages, world-en, world-en-zh or a JSON file; default the model's own set."),
]


def main() -> None:
    """Entry point: an error the user can mend is one line on stderr and exit code 2."""
    try:
        app()
    except LensEmotionError as error:
        print(f"lens-emotion: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("lens-emotion: interrupted; finished steps are kept, run the same command to go on", file=sys.stderr)
        sys.exit(130)


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


@app.command()
def study(
    models: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="Names, hub ids, folders or .gguf files, or 'paper'; default the tiny five."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Run folder; the same folder continues an interrupted study.")] = Path(
        "runs/study"
    ),
    stimuli: Stimuli = None,
    judge: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Sentence encoder (folder or hub id) that judges steered texts."),
    ] = None,
    backend: Backend = "auto",
    dtype: Dtype = "auto",
    device: Device = None,
    seed: Annotated[int, typer.Option(help="Seed of sampling, permutations and random directions.")] = 0,
    permutations: Annotated[int, typer.Option(help="Label permutations behind every null.")] = 200,
    story_tokens: Annotated[int, typer.Option(help="Longest story the model may write.")] = 128,
    doses: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Doses of steering in natural units, e.g. 1,2,4; 0 is always run."),
    ] = None,
    generation: Annotated[bool, typer.Option(help="Let the model write stories and read it over them.")] = True,
    steering: Annotated[bool, typer.Option(help="Run the steering experiment.")] = True,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what would run, and what it needs.")] = False,
) -> None:
    """Run everything for each model and both methods; writes a run folder with tables, figures and report.html."""
    from lens_emotion.study.config import TINY_FIVE, StudyConfig, expand, parse_doses

    config = StudyConfig(
        models=expand(models) if models else TINY_FIVE,
        stimuli=stimuli,
        judge=judge,
        backend=backend,
        dtype=dtype,
        device=device,
        seed=seed,
        n_permutations=permutations,
        story_tokens=story_tokens,
        doses=parse_doses(doses) if doses else StudyConfig.doses,
        generation=generation,
        steering=steering,
    )
    if plan:
        from lens_emotion.console_plan import plan_and_print

        plan_and_print(config, out)
        return
    from lens_emotion.console import run_and_print

    run_and_print(config, out, command=" ".join(["lens-emotion", *sys.argv[1:]]))


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
    from lens_emotion.console_figures import draw_and_print

    draw_and_print(runs, out, across, model, images)


@app.command()
def models(
    family: Annotated[Optional[str], typer.Option(help="Only this family.")] = None,  # noqa: UP045
    hub: Annotated[bool, typer.Option("--hub", help="Show hub ids instead of the paper column.")] = False,
) -> None:
    """List the models known by name (any other hub id or folder works too)."""
    from lens_emotion.console import print_models

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
) -> None:
    """Read a model once; save activations of every layer and emotion vectors, and say whether they hold."""
    from lens_emotion.console import extract_and_print

    extract_and_print(model, out, method, recipe, stimuli, backend, dtype, device)


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
    from lens_emotion.console_steer import SteerRequest, steer_and_print

    layers = "all" if all_layers else int(layer) if layer and layer.lstrip("-").isdigit() else layer
    steer_and_print(
        SteerRequest(
            model, emotion, prompt, dose, unit, layers, positions, mode, vectors, tokens, temperature, seed, backend,
            dtype, device,
        )
    )  # fmt: skip


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
    from lens_emotion.console_check import check_and_print

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
    from lens_emotion.extras import need_extra

    need_extra("play", "the playground", "starlette", "uvicorn")
    from lens_emotion.console_play import play_and_print

    play_and_print(model, vectors, port, browser, backend, dtype, device)


@stimuli_app.command("list")
def list_stimuli() -> None:
    """List the stimulus sets that ship with the package."""
    from lens_emotion.console import print_stimuli

    print_stimuli()


@stimuli_app.command("lint")
def lint_stimuli(
    file: Annotated[Path, typer.Argument(help="Stimulus set in JSON (see `lens-emotion stimuli format`).")],
    min_words: Annotated[int, typer.Option(help="Shortest text wanted.")] = 35,
    max_words: Annotated[int, typer.Option(help="Longest text wanted.")] = 70,
) -> None:
    """Check a stimulus set: leaked words, missing cells, duplicate openings, lengths. Exits with 1 on faults."""
    from lens_emotion.console import lint_and_print

    if not lint_and_print(file, min_words, max_words):
        raise typer.Exit(1)


@stimuli_app.command("format")
def stimuli_format() -> None:
    """Print the file format of stimulus sets."""
    from lens_emotion.stimuli import reading

    print((reading.__doc__ or "").strip())


@stimuli_app.command("preview")
def preview_text(
    model: Annotated[str, typer.Argument(help="Name, hub id, folder or .gguf file.")],
    text: Annotated[str, typer.Argument(help="The text.")],
    start: Annotated[int, typer.Option(help="First content token that is pooled.")] = 0,
) -> None:
    """Show which tokens of a text are pooled, skipped or special."""
    from lens_emotion.console import preview_and_print

    preview_and_print(model, text, start)


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


if __name__ == "__main__":
    main()
