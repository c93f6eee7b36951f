"""A study from a file, in TOML or JSON; schema: lens_emotion/schemas/study.json.

Paths are taken from the file's folder.

stimuli = "stimuli.toml"
permutations = 200

[[models]]
name = "tiny-llama"     # name, hub id, folder or .gguf file; any setting of the file may stand here too
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from lens_emotion.stimuli.library import NAMES
from lens_emotion.stimuli.prompt_files import read_prompts
from lens_emotion.study.config import StudyConfig, expand, parse_doses
from lens_emotion.user_files import UserFile, is_user_file, read_user_file

_FILES = ("stimuli", "prompts", "scenarios", "judge")
_RENAMED = {"permutations": "n_permutations"}


DEFAULT_OUT = Path("runs/study")


def asked_for(models: Sequence[str], path: Path | None, given: Mapping[str, Any]) -> tuple[StudyConfig, Path]:
    """Settings and run folder of a command: what was given goes before the file, and the file before the defaults.

    Args:
        models: names of models, or one study file.
        path: the study file, if it was named as such.
        given: the options that stood on the command line; others are passed over.
    """
    if path is None and len(models) == 1 and is_user_file(models[0]):
        path, models = Path(models[0]), ()
    config, out = read_study_file(path) if path else (StudyConfig(), None)
    known = {f.name for f in fields(StudyConfig)} - {"models", "overrides"}  # of the command line
    changed = {name: value for key, value in given.items() if (name := _RENAMED.get(key, key)) in known}
    if "doses" in changed:
        changed["doses"] = parse_doses(changed["doses"])
    if "prompts" in changed:
        changed["jeong"] = bool(read_prompts(changed["prompts"]).jeong)
    own = {m: {k: v for k, v in row.items() if k not in changed} for m, row in config.overrides.items()}
    config = config.with_(**changed, overrides=own, **({"models": expand(models)} if models else {}))
    return config, given.get("out") or out or DEFAULT_OUT


def read_study_file(path: str | Path) -> tuple[StudyConfig, Path | None]:
    """Read a study's settings, and its run folder if the file names one.

    Raises:
        StimulusError: a fault of syntax or form, a file it names that is missing, a model named twice, a run folder
            outside the file's own; with file and line. Files that it names are checked when the study begins.
        ConfigError: a setting that makes no sense.
    """
    file = read_user_file(path, "study")
    general = _settings(file, file.data, ())
    overrides: dict[str, dict[str, Any]] = {}
    for i, row in enumerate(file.data["models"]):
        own = _settings(file, row, ("models", i))
        for name in expand([_model(file, row["name"])]):
            if name in overrides:
                file.fail(("models", i, "name"), f"{name} stands twice; name every model once")
            overrides[name] = own
    own_settings = {name: row for name, row in overrides.items() if row}
    return StudyConfig(models=tuple(overrides), overrides=own_settings, **general), _out(file)


def _settings(file: UserFile, row: dict[str, Any], at: tuple[str | int, ...]) -> dict[str, Any]:
    """The settings in a table, with whole paths."""
    known = {f.name for f in fields(StudyConfig)} - {"models", "overrides"}
    found = {name: value for key, value in row.items() if (name := _RENAMED.get(key, key)) in known}
    for name in set(_FILES) & set(found):
        found[name] = _path(file, (*at, name), str(found[name]))
    if "doses" in found:
        found["doses"] = tuple(map(float, found["doses"]))
    if "prompts" in found:
        found["jeong"] = bool(read_prompts(found["prompts"]).jeong)
    return found


def _path(file: UserFile, at: tuple[str | int, ...], name: str) -> str:
    """A file or folder beside the study's file; a set's name or a hub id stays as it is."""
    beside = file.beside(name)
    if Path(beside).exists():
        return beside
    if is_user_file(name) or at[-1] in ("prompts", "scenarios"):
        file.fail(at, f"there is no file {beside}; paths are taken from the folder of {file.path.name}")
    if at[-1] == "stimuli" and name not in NAMES:
        file.fail(at, f"no stimulus set '{name}'; give one of {', '.join(NAMES)}, or a file")
    return name


def _model(file: UserFile, name: str) -> str:
    beside = file.beside(name)
    return beside if name.startswith((".", "~")) or Path(beside).exists() else name


def _out(file: UserFile) -> Path | None:
    """The run folder, which a file may not place outside its own folder."""
    if "out" not in file.data:
        return None
    home, out = file.path.parent.resolve(), Path(file.beside(file.data["out"]))
    if out.resolve() == home or not out.resolve().is_relative_to(home):
        file.fail(("out",), f"the run folder lies outside {home}; name a folder inside it, or say --out elsewhere")
    return out
