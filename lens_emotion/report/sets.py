"""Which figures belong to a run, and which to several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from lens_emotion.errors import LensEmotionError
from lens_emotion.report import many_models as many
from lens_emotion.report import one_model as one
from lens_emotion.report.parts import Drawn, FigureSet
from lens_emotion.run.config import StudyConfig
from lens_emotion.study.across import across, geometry, verification
from lens_emotion.study.stored import StoredModel, StoredRun


class FiguresError(LensEmotionError):
    """Runs from which the figures asked for cannot be drawn."""


def run_set(run: StoredRun, shown: str | None = None) -> FigureSet:
    """All figures of one run: those over its models, and those of one of them.

    Args:
        shown: the model of the figures that show one; default the first. Leakage and tokens are shown of the first Qwen
            where none is named, since the paper's claim is of Qwen.

    Raises:
        FiguresError: the run has no model of that name.
    """
    studies = [m.study for m in run.models]
    chosen = _chosen(run, shown)
    speaks = next((m for m in run.models if m.study.info.family == "qwen"), chosen) if shown is None else chosen
    found, m = across(run.models, run.config.seed), chosen.study
    several = len(studies) > 1
    figures: list[Drawn] = [many.claims(run.claims)]
    figures += many.methods(found) if several else one.methods(m)
    figures += many.depth(studies) if several else one.depth(m)
    figures += one.separation(m)
    figures += many.geometry(found)
    figures += one.space(m, geometry(chosen, run.config.seed))
    figures += many.steering(studies, found, verification(run.models))
    figures += one.steering(m)
    figures += one.languages(speaks.study)
    names = tuple(x.name for x in run.models)
    note = chosen.name if speaks is chosen else f"{chosen.name} (leakage and tokens: {speaks.name})"
    return FigureSet(run.name, names, note if several else "", (study_command(run.config),), tuple(figures))


def across_set(name: str, runs: Sequence[StoredRun]) -> FigureSet:
    """The figures that set the models of several runs side by side.

    Raises:
        FiguresError: fewer than two models, or one name twice.
    """
    models: list[StoredModel] = [m for run in runs for m in run.models]
    names = tuple(m.name for m in models)
    if len(names) < 2 or len(set(names)) < len(names):
        raise FiguresError(f"comparing models takes at least two with distinct names; got {', '.join(names)}")
    studies = [m.study for m in models]
    found = across(models, runs[0].config.seed)
    figures = [*many.methods(found), *many.depth(studies), *many.geometry(found)]
    figures += many.steering(studies, found, verification(models))
    missing = {} if found.architecture else {"architecture": "fewer than two models break within their doses"}
    commands = tuple(study_command(run.config) for run in runs)
    return FigureSet(name, names, "", commands, tuple(figures), missing=missing)


def _chosen(run: StoredRun, shown: str | None) -> StoredModel:
    for model in run.models:
        if shown in (None, model.name):
            return model
    raise FiguresError(f"{run.name} has no model '{shown}'; it has {', '.join(m.name for m in run.models)}")


def study_command(config: StudyConfig) -> str:
    """The command that makes such a run: options that differ from the defaults, folders by their last name."""
    default = StudyConfig()
    words = ["lens-emotion", "study", *(() if config.models == default.models else map(_last, config.models))]
    flags = {"n_permutations": "permutations"}
    for name in (f.name for f in fields(StudyConfig)):
        value = getattr(config, name)
        if name in ("models", "jeong_tokens", "steered_tokens") or value == getattr(default, name):
            continue
        flag = flags.get(name, name).replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--no-{flag}")
        else:
            shown = ",".join(f"{x:g}" for x in value) if isinstance(value, tuple) else _last(str(value))
            words += [f"--{flag}", shown]
    return " ".join(words)


def _last(path: str) -> str:
    return Path(path).name if Path(path).is_absolute() else path
