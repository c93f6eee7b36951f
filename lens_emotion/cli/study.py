"""`lens-emotion study`, what `--plan` says of it, and `lens-emotion init`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from lens_emotion.cli.model import Device, Quantise, Stimuli
from lens_emotion.cli.say import (
    duration,
    printable,
    say_line,
    say_prose,
    say_table,
    say_wrapped,
    short,
    size,
    table,
    width_asked,
)
from lens_emotion.progress import above_bars

if TYPE_CHECKING:
    from lens_emotion.run.config import StudyConfig
    from lens_emotion.run.store import Store
    from lens_emotion.study.beside import Chain, Crew
    from lens_emotion.study.plan import PlannedStep
    from lens_emotion.study.results import ModelStudy
    from lens_emotion.study.workers import Executor as Runner

SHORT = {
    "comprehension": "read",
    "generation": "write",
    "generation_jeong": "preset",
    "steering": "steer",
    "published": "published",
}
COLUMNS = {"controls": "comprehension", "published": "steering"}  # whose column tells of it too, where there is one
MARKS = {"stored": Text("ok", style="green"), "begun": Text("part", style="yellow")}

Models = Annotated[
    list[str] | None,
    typer.Argument(help="Names, hub ids, folders, .gguf files, 'paper', or a study file; default the tiny five."),
]
Config = Annotated[
    Path | None, typer.Option(help="Study file in TOML or JSON (see `lens-emotion init`); options given go before it.")
]
Out = Annotated[
    Path | None, typer.Option(help="Run folder, default runs/study; the same folder continues an interrupted study.")
]
Prompts = Annotated[str | None, typer.Option(help="File of story prompts.")]
Scenarios = Annotated[str | None, typer.Option(help="File of steering scenarios.")]
Judge = Annotated[
    str | None, typer.Option(help="Who judges steered texts: a judge file, or a sentence encoder (folder or hub id).")
]
Backend = Annotated[str | None, typer.Option(help="auto (default), bridge or hooked.")]
Dtype = Annotated[str | None, typer.Option(help="auto (default), float32, bfloat16 or float16.")]
Seed = Annotated[int | None, typer.Option(help="Seed of sampling, permutations and random directions; default 0.")]
Permutations = Annotated[int | None, typer.Option(help="Label permutations behind every null; default 200.")]
StoryTokens = Annotated[int | None, typer.Option(help="Longest story the model may write; default 128.")]
Doses = Annotated[str | None, typer.Option(help="Doses of steering in natural units, e.g. 1,2,4; 0 is always run.")]
Emotions = Annotated[
    str | None, typer.Option(help="Only these emotions of the texts, e.g. calm,angry,sad; default all of them.")
]
Generation = Annotated[
    bool | None,
    typer.Option("--generation/--no-generation", help="Let the model write stories and read it over them (default)."),
]
Steering = Annotated[
    bool | None, typer.Option("--steering/--no-steering", help="Run the steering experiment (default).")
]
Protocol = Annotated[
    str | None,
    typer.Option(help="Whose protocol judges the claims: ours, published (arXiv 2604.04064) or both (default)."),
]
Executor = Annotated[
    str, typer.Option(help="Where it runs: local, or ray (the cluster at RAY_ADDRESS, or one begun on this machine).")
]
Gpus = Annotated[
    float | None, typer.Option(help="With ray: GPUs of each task, 0.5 for two on one; default 1 where there are any.")
]
Cpus = Annotated[float, typer.Option(help="With ray: CPUs, and threads, of each task.")]
Sealed = Annotated[
    bool,
    typer.Option(
        "--seal", help="Write design, rules and power to sealed.json, with hash and date, before a model is read."
    ),
]
Plan = Annotated[bool, typer.Option("--plan", help="Only say what would run, and what it needs.")]


def study(
    models: Models = None,
    config: Config = None,
    out: Out = None,
    stimuli: Stimuli = None,
    prompts: Prompts = None,
    scenarios: Scenarios = None,
    judge: Judge = None,
    backend: Backend = None,
    dtype: Dtype = None,
    device: Device = None,
    quantise: Quantise = None,
    seed: Seed = None,
    permutations: Permutations = None,
    story_tokens: StoryTokens = None,
    doses: Doses = None,
    emotions: Emotions = None,
    generation: Generation = None,
    steering: Steering = None,
    protocol: Protocol = None,
    executor: Executor = "local",
    gpus: Gpus = None,
    cpus: Cpus = 1,
    seal: Sealed = False,
    plan: Plan = False,
) -> None:
    """Run everything for each model and both methods; writes a run folder with tables, figures and report.html."""
    from lens_emotion.run.config import asked_for
    from lens_emotion.study.beside import Crew, crew

    given = {
        "out": out, "stimuli": stimuli, "prompts": prompts, "scenarios": scenarios, "judge": judge, "backend": backend,
        "dtype": dtype, "device": device, "quantise": quantise, "seed": seed, "permutations": permutations,
        "story_tokens": story_tokens, "doses": doses, "emotions": emotions,
        "generation": generation, "steering": steering, "protocol": protocol,
    }  # fmt: skip
    settings, folder = asked_for(models or [], config, {k: v for k, v in given.items() if v is not None})
    started = time.monotonic()
    alone = plan or executor != "local"
    with nullcontext(Crew()) if alone else crew(len(settings.models)) as shared:  # begins while this one reads the rest
        if not plan:  # before what takes seconds to read
            say_line(("lens-emotion study", "bold"), f": {', '.join(short(settings.models))} -> {folder}")
        from lens_emotion.study.workers import executor_named

        with executor_named(executor, gpus, cpus) as runs_it:
            if plan:
                print_plan(settings, folder, seal)
                return
            run_and_print(settings, folder, started, runs_it, seal, shared)


def run_and_print(
    config: StudyConfig, folder: Path, started: float, executor: Runner | None, seal: bool, shared: Crew
) -> None:
    """Run a study with a live line per step, then print the summary and where the report lies."""
    from lens_emotion.memory import room_for
    from lens_emotion.report.build import begin_card, build_report, wanting
    from lens_emotion.run.lock import writing
    from lens_emotion.run.store import check_is_free
    from lens_emotion.study.pipeline import run_study
    from lens_emotion.study.plan import shortages
    from lens_emotion.study.verdict import BROKEN, NOT_SUPPORTED, SEALED, SUPPORTED

    command = " ".join(["lens-emotion", *sys.argv[1:]])

    def say(model: str, doing: str) -> None:
        head = Text(f"{time.monotonic() - started:7.1f} s", style="dim").append(f"  {printable(model):<18} ", "default")
        with above_bars():
            (say_wrapped if width_asked() else say_line)(head, doing)

    check_is_free(folder, ())  # before a lock is laid into it
    with writing(folder):
        for lacking in shortages(config, folder, here=executor is None):
            say_prose(("note: ", "yellow"), f"{lacking}; the study begins all the same")
        cards: dict[str, Chain] = {}

        def draw(m: ModelStudy, store: Store) -> None:
            cards[m.info.name] = begin_card(m, store, shared)

        run = run_study(config, folder, command, say, executor, seal, shared, draw)
        say("report", "drawing figures and writing the page")
        with room_for("drawing the report", kept=f"the study is kept in {folder}: the same command draws it again"):
            report, rows = build_report(run, shared, cards)
    say_prose(("\nSummary", "bold"), " (every number beside its null or control)")
    for row in rows:
        _print_summary(row)
    say_prose(("\nThe paper's claims, over all models", "bold"), " (each model's: claims.json and the report)")
    say_prose((run.seal.line(), {SEALED: "green", BROKEN: "bold red"}.get(run.seal.status, "dim")))
    styles = {SUPPORTED: "green", NOT_SUPPORTED: "yellow"}
    for claim in run.claims.overall:
        verdict = Text(f"{claim.verdict:<18}", style=styles.get(claim.verdict, "dim"))
        say_wrapped(Text(f"  {claim.code}  ").append(verdict), claim.statement)
        for line in (claim.reason, *wanting(run.claims, claim)):
            say_wrapped(Text(" " * 6), line, "dim")
    if run.protocols:
        say_prose(("the paper as published", "bold"), f": {run.protocols.summary()} (tables/protocols.csv)")
    say_line("\nreport: ", (str(report), "bold"))
    say_line(f"tables, activations and vectors: {run.folder}/MODEL/   ({time.monotonic() - started:.0f} s)")


def _print_summary(row: dict[str, object]) -> None:
    """One paragraph per finding, with its note, that fits a narrow terminal."""
    from lens_emotion.report.page import as_cell
    from lens_emotion.report.words import number

    styles = {"good": "green", "noise": "yellow", "plain": ""}
    for i, (label, value) in enumerate(row.items()):
        cell = as_cell(value)
        shown = Text(number(cell.value), style="bold" if i == 0 else styles[cell.tone])
        head = shown if i == 0 else Text(f"  {label:<15} ").append(shown)
        say_wrapped(head.append("  "), f"({cell.said})" if cell.said else "", "dim", indent=18)


def print_plan(config: StudyConfig, folder: Path, seal: bool = False) -> None:
    """One line per model: steps, memory, disk, time; and what becomes of the seal."""
    from lens_emotion.run.inputs import check_inputs
    from lens_emotion.run.places import places_in
    from lens_emotion.run.sealed import FILE as SEAL
    from lens_emotion.study.plan import ANALYSIS, STORED, plan_study
    from lens_emotion.study.seal import foreseen
    from lens_emotion.study.verdict import EXPLORATORY

    check_inputs(config, ask_hub=False)  # a plan is made without a network
    sealed = foreseen(config, places_in(config.models, folder), folder, seal)
    plan = plan_study(config, folder)
    n = f"{len(plan.models)} model{'s' * (len(plan.models) != 1)}"
    say_line(("plan", "bold"), f": {n} on {plan.device} -> {folder} (nothing is loaded or run)")
    present = {s.name for s in plan.models[0].steps}
    column = {name: other if (other := COLUMNS.get(name)) in present else name for name in present}
    names = [s.name for s in plan.models[0].steps if column[s.name] == s.name]
    made = table("model", *(SHORT[s] for s in names), "memory", "RAM", "disk", "time", right=tuple(range(1, 9)))
    for model, name in zip(plan.models, short([m.name for m in plan.models]), strict=True):
        cells = [_planned([s for s in model.steps if column.get(s.name) == name]) for name in names]
        if (needs := model.needs) is None:
            cells += ["?"] * 4
        else:
            cells += [size(needs.device), size(needs.host), size(needs.disk), duration(model.seconds)]
        made.add_row(name, *cells)
    say_table(made)
    say_line(f"together: {size(plan.disk)} on disk with the report, {duration(plan.seconds)}")
    say_prose(
        "steps: ok = stored (if the weights are those it was read from), part = some batches are kept, else the time "
        "it takes; read: with the controls; steer: with the published "
        "protocol. memory: where the model runs, weights and largest batch; RAM: activations "
        "of all texts."
    )
    for words in sorted({s.basis for m in plan.models for s in m.steps if s.state != STORED}):
        say_prose(f"speed: {_explained(words, plan.device)}")
    for note in plan.notes:
        say_prose(("no speed taken from ", "dim"), (note, "dim"))
    say_prose(f"time of the analyses, in 'time': {ANALYSIS:g} s a layer for 200 permutations (measured, 2 processors)")
    if sealed is None:
        say_prose(
            f"seal: design, rules and power would be written to {folder / SEAL} before a model is read; what the "
            "design finds: lens-emotion power"
        )
    elif sealed.status != EXPLORATORY:
        say_prose(sealed.line())


def _planned(steps: Sequence[PlannedStep]) -> Text | str:
    """What is left to do of the steps of one column."""
    left = [s for s in steps if s.state != "stored"]
    mark = MARKS.get(left[0].state if left else "stored")
    return mark or (duration(sum(s.seconds for s in left)) if all(s.work for s in left) else "?")


def _explained(basis: str, device: str) -> str:
    from lens_emotion.study.plan import ASSUMED

    if basis != "assumed":
        return basis if basis.startswith("measured") else f"{basis}: give a local folder, or a name of the catalog"
    sort = device.split(":")[0]
    reading, writing = ASSUMED.get(sort, ASSUMED["cpu"])
    kind = {"cpu": "two CPU cores", "cuda": "a recent data-centre GPU"}.get(sort, device)
    return f"assumed, {reading / 1e9:g} GFLOP/s reading and {writing / 1e9:g} writing ({kind}); no earlier run is near"


def init(folder: Annotated[Path, typer.Argument(help="Folder to write into.")] = Path("my-study")) -> None:
    """Write an example study of your own: passages, prompts, scenarios, judge; commented, and it runs as it stands."""
    from lens_emotion.run.config import write_example

    for path in write_example(folder):
        say_line(str(path))
    say_line(f"run it: lens-emotion study {folder / 'study.toml'}")
