"""What `lens-emotion study --plan` prints."""

from __future__ import annotations

from pathlib import Path

from lens_emotion.console import out, say_line, table
from lens_emotion.console_runs import duration, size
from lens_emotion.study.config import StudyConfig
from lens_emotion.study.plan import BEGUN, STORED, ModelPlan, plan_study
from lens_emotion.study.rates import ANALYSIS, ASSUMED

SHORT = {"comprehension": "read", "generation": "write", "generation_jeong": "preset", "steering": "steer"}
MARKS = {STORED: "[green]ok[/]", BEGUN: "[yellow]part[/]"}


def plan_and_print(config: StudyConfig, folder: Path) -> None:
    """One line per model: steps, memory, disk, time."""
    plan = plan_study(config, folder)
    say_line(f"[bold]plan[/]: {len(plan.models)} models on {plan.device} -> {folder} (nothing is loaded or run)")
    steps = [s.name for s in plan.models[0].steps]
    made = table("model", *(SHORT[s] for s in steps), "memory", "RAM", "disk", "time", right=tuple(range(1, 9)))
    made.columns[0].no_wrap = False
    for model in plan.models:
        made.add_row(model.name.split("/")[-1], *_cells(model))
    out.print(made)
    say_line(f"together: {size(plan.disk)} on disk with the report, {duration(plan.seconds)}")
    say_line("steps: ok = stored (if the weights are those it was read from), part = some batches are kept, else the")
    say_line("time it takes. memory: where the model runs, weights and largest batch; RAM: activations of all texts.")
    basis = sorted({s.basis for m in plan.models for s in m.steps if s.state != STORED})
    for words in basis:
        say_line(f"speed: {_explained(words, plan.device)}")
    say_line(f"time of the analyses, in 'time': {ANALYSIS:g} s a layer for 200 permutations (measured, 2 processors)")


def _cells(model: ModelPlan) -> list[str]:
    steps = [MARKS.get(s.state, duration(s.seconds)) if s.work else MARKS.get(s.state, "?") for s in model.steps]
    if model.needs is None:
        return [*steps, "?", "?", "?", "?"]
    needs = model.needs
    return [*steps, size(needs.device), size(needs.host), size(needs.disk), duration(model.seconds)]


def _explained(basis: str, device: str) -> str:
    if basis != "assumed":
        return basis if basis.startswith("measured") else f"{basis}: give a local folder, or a name of the catalog"
    reading, writing = ASSUMED.get(device.split(":")[0], ASSUMED["cpu"])
    kind = "two CPU cores" if device == "cpu" else "a recent data-centre GPU" if device.startswith("cuda") else device
    return f"assumed, {reading / 1e9:g} GFLOP/s reading and {writing / 1e9:g} writing ({kind}); no earlier run is near"
