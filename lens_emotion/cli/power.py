"""`lens-emotion power`: what a design finds, before anything is run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lens_emotion.cli.model import Overwrite, Stimuli
from lens_emotion.cli.say import say_line, say_prose, say_table, short, table
from lens_emotion.cli.study import Config, Doses, Emotions, Permutations, Scenarios

if TYPE_CHECKING:
    from lens_emotion.study.power import DesignPower


def power(
    design: Annotated[
        list[str] | None,
        typer.Argument(help="A run folder, whose settings and spread are taken; a study file; or names of models."),
    ] = None,
    config: Config = None,
    pilot: Annotated[Path | None, typer.Option(help="A run folder whose spread is taken for another design.")] = None,
    stimuli: Stimuli = None,
    scenarios: Scenarios = None,
    emotions: Emotions = None,
    doses: Doses = None,
    permutations: Permutations = None,
    wanted: Annotated[float, typer.Option("--power", help="Power asked for.")] = 0.8,
    out: Annotated[Path | None, typer.Option("--json", help="File for the table, as JSON.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Say what a design finds, and how many topics, openings and permutations each claim needs; no model is loaded."""
    from lens_emotion.errors import ArtifactError
    from lens_emotion.files.artifacts import save_anew
    from lens_emotion.files.read import kind_of
    from lens_emotion.run.config import asked_for
    from lens_emotion.run.inputs import check_inputs
    from lens_emotion.run.look import read_manifest
    from lens_emotion.run.store import MANIFEST
    from lens_emotion.study.power import power_of

    given = {
        "stimuli": stimuli, "scenarios": scenarios, "emotions": emotions, "doses": doses, "permutations": permutations,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    runs = [name for name in design or [] if kind_of(Path(name, MANIFEST))]
    if runs and len(design or []) > 1:
        raise ArtifactError(f"{runs[0]} is a run folder beside others; give it alone, or models with --pilot {runs[0]}")
    run = runs[0] if runs else None
    paths = [name for name in design or [] if name.startswith(("/", ".", "~"))]  # others may be names of models
    if gone := [name for name in paths if not kind_of(Path(name).expanduser())]:
        raise ArtifactError(f"{gone[0]} is not there; give a run folder, a study file or names of models")
    settings, _ = asked_for([] if run else design or [], config, given)
    if run and config is None:
        names = {"permutations": "n_permutations"}
        changed = {names.get(name, name): getattr(settings, names.get(name, name)) for name in given}
        settings = read_manifest(Path(run)).settings.with_(**changed)
    if run is None:
        check_inputs(settings, ask_hub=False)
    found = power_of(settings, pilot or run, wanted)
    texts = settings.stimuli or "each model's own texts"
    say_line(("power", "bold"), f": {', '.join(short(settings.models))}, {texts}")
    print_power(found)
    if out is not None:
        say_line(f"written: {save_anew(found.save, out, overwrite)}")


def print_power(found: DesignPower) -> None:
    """A row per claim; below, what was assumed of each."""
    made = table("claim", "smallest", "power", "finds", "here", "needed", "or each", "draws", right=tuple(range(1, 8)))
    for row in found.table.to_dict("records"):
        cells = [_said(row[name]) for name in ("smallest", "power", "finds")]
        here = f"{row['here']} {row['unit']} x {row['each']:g}"
        made.add_row(
            row["claim"], *cells, here, *(_said(row[name], ".0f") for name in ("needed", "needed_each", "draws"))
        )
    say_table(made)
    say_prose(
        "smallest: effect of interest; power: to show it with this design; finds: the effect found with power "
        f"{found.power:g}; needed: units for the smallest, or so many texts in each with the units there are; draws: "
        "permutations."
    )
    for row in found.table.to_dict("records"):
        say_prose((f"{row['claim']}  ", "bold"), (str(row["assumed"]), "dim"))
    say_prose(found.summary())


def _said(value: float, digits: str = ".2f") -> str:
    return "" if math.isnan(value) else format(value, digits)
