"""What a study runs: models, methods, sizes, seeds. Plain values, so that it can be written into the manifest.

They come from Python, from the command line, or from a study file in TOML or JSON (`StudyForm`), whose paths are taken
from the file's folder:

    stimuli = "stimuli.toml"
    permutations = 200

    [[models]]
    name = "tiny-llama"     # name, hub id, folder or .gguf file; most settings of the file may stand here too
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, fields, replace
from importlib import resources
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_type_hints

from pydantic import BeforeValidator, Field, WrapValidator, create_model
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from lens_emotion.errors import ArtifactError, LensEmotionError
from lens_emotion.files.names import Name
from lens_emotion.files.read import kind_of
from lens_emotion.files.user import (
    LARGEST_DOSE,
    SMALLEST_DOSE,
    STRICT,
    Form,
    Once,
    UserFile,
    is_user_file,
    read_user_file,
    refused_as,
)
from lens_emotion.models.catalog import CATALOG, TINY, find_spec
from lens_emotion.models.checkpoint import check_one_meaning
from lens_emotion.stimuli.library import NAMES
from lens_emotion.stimuli.prompts import read_prompts

PAPER = "paper"
TINY_FIVE: tuple[str, ...] = tuple(spec.name for spec in TINY)
MOST_TOKENS = 100_000  # of one text
DEFAULT_OUT = Path("runs/study")
STORY_SAMPLING = {"temperature": 0.8, "top_p": 0.95}  # how stories are drawn; the manifest says so
READING, WRITING, PRESET, CONTROLS, STEERING, PUBLISHED = ALL_STEPS = (
    "comprehension", "generation", "generation_jeong", "controls", "steering", "published",
)  # fmt: skip


class ConfigError(LensEmotionError):
    """A study setting that makes no sense."""


def _as_given(value: Any, check: Callable[[Any], Any]) -> Any:
    """Checked and kept: a stored step's key is made of the number as it was given, and 2 is not written as 2.0 is."""
    check(value)
    return value


def _by_name(what: str, remedy: str) -> BeforeValidator:
    """A study goes on where it stopped, so that what it runs on is named: an object that was given is answered."""

    def check(value: Any) -> Any:
        objects = [v for v in (value if isinstance(value, tuple | list) else [value]) if not _is_plain(v)]
        if objects:
            words = f"got {type(objects[0]).__name__}; a study names its {what}, so that it can go on later: {remedy}"
            raise PydanticCustomError("by_name", "{words}", {"words": words})
        return value

    return BeforeValidator(check)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | dict | tuple | list | set)


_STIMULI = _by_name("texts", "le.stimuli_from(data).save('mine.json'), then stimuli='mine.json'")
_MODELS = _by_name("models", "names, hub ids, folders or GGUF files")
OwnFile = Annotated[Name, Field(description="file")]
Some = Field(strict=False, min_length=1)  # a list is welcome where a tuple is kept
Dose = Annotated[float, Field(ge=SMALLEST_DOSE, le=LARGEST_DOSE), WrapValidator(_as_given)]


Effect = Annotated[float, Field(gt=0, le=1e6)]


@refused_as(ConfigError)
@dataclass(frozen=True, config=STRICT)
class StudyConfig:
    """Settings of a study.

    Attributes:
        models: names, folders or GGUF files; default the tiny five.
        stimuli: stimulus set, TOML or JSON file; None takes each model's own.
        prompts, scenarios: files of one's own; None takes those of the package that fit the stimuli.
        backend, dtype, device, quantise: as in `load_model`.
        generation: also let the model write stories (topic-crossed).
        jeong: and those of the "jeong" preset.
        steering: also run the dose-response experiment.
        judge: judge file, or folder of a sentence encoder, that judges steered texts; None: word counts for the tiny
            world, else the unsteered model's own states (which the report then says).
        doses: in natural units.
        story_tokens, jeong_tokens, steered_tokens: how much is written.
        n_permutations: label permutations behind every null.
        seed: of sampling, permutations and random directions.
        template: switches of the chat template, as in `load_model`.
        overrides: model -> settings of its own, which go before these.
        smallest: claim -> smallest effect of interest, in place of the package's (`study.claims.smallest`).
        emotions: only these of the texts, prompts and scenarios, beside neutral; None takes all.
        protocol: whose protocol judges the claims: "ours", "published" (arXiv 2604.04064, see `presets.jeong`; without
            our steering experiment) or "both", side by side.

    Example:
        >>> config = le.StudyConfig(models=("tiny-llama",), doses=(1.0, 3.0), generation=False)
        >>> config.steps
        ('comprehension', 'controls', 'steering', 'published')
    """

    models: Annotated[tuple[Name, ...], Some, _MODELS, Field(description="see `lens-emotion models`")] = TINY_FIVE
    stimuli: Annotated[Name, _STIMULI, Field(description=f"file, or {', '.join(NAMES)}")] | None = None
    backend: Literal["auto", "bridge", "hooked"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: Annotated[Name, Field(description="cpu, cuda, mps, or auto: over every GPU there is")] | None = None
    generation: bool = True
    steering: bool = True
    judge: Annotated[Name, Field(description="file, or folder or hub id of a sentence encoder")] | None = None
    doses: Annotated[tuple[Dose, ...], Some, Once, Field(description="0 is always run")] = (
        0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0,
    )  # fmt: skip
    story_tokens: Annotated[int, Field(ge=16, le=MOST_TOKENS)] = 128
    jeong_tokens: Annotated[int, Field(ge=16, le=MOST_TOKENS)] = 256
    steered_tokens: Annotated[int, Field(ge=8, le=MOST_TOKENS)] = 40
    n_permutations: Annotated[int, Field(ge=20, le=1_000_000)] = 200
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0  # what every generator of random numbers takes
    prompts: OwnFile | None = None
    scenarios: OwnFile | None = None
    jeong: bool = True
    quantise: Literal["8bit", "4bit"] | None = None
    template: Annotated[dict[str, Any], Field(description="enable_thinking = true lets Qwen3 think")] = field(
        default_factory=dict
    )
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)
    smallest: Annotated[dict[str, Effect], Field(description="claim -> smallest effect of interest")] = field(
        default_factory=dict
    )
    emotions: Annotated[tuple[Name, ...], Some, Once, Field(description="of the stimulus set")] | None = None
    protocol: Literal["ours", "published", "both"] = "both"

    def __post_init__(self) -> None:
        for name, own in self.overrides.items():
            try:
                replace(self, **own | {"overrides": {}})
            except ConfigError as error:
                raise ConfigError(f"settings of {name}: {error}") from None

    @property
    def steps(self) -> tuple[str, ...]:
        """The stored steps of a study of one model, in the order in which they run."""
        written = (WRITING, PRESET) if self.jeong else (WRITING,)
        steered = {"ours": (STEERING,), "published": (PUBLISHED,), "both": (STEERING, PUBLISHED)}[self.protocol]
        return (READING, *(written if self.generation else ()), CONTROLS, *(steered if self.steering else ()))

    def used(self, step: str) -> dict[str, Any]:
        """The settings that a step's result depends on, beside the model and its texts, as JSON has them."""
        values = {name: getattr(self, name) for name in _USED[step]}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def for_model(self, name: str) -> StudyConfig:
        """The settings of one of the models."""
        return replace(self, **self.overrides.get(name, {}))

    def with_(self, **changes: Any) -> StudyConfig:
        return replace(self, **changes)


_USED: dict[str, tuple[str, ...]] = {
    READING: (),
    WRITING: ("story_tokens", "seed", "template"),
    PRESET: ("jeong_tokens", "template"),
    CONTROLS: (),
    STEERING: ("judge", "doses", "steered_tokens", "seed"),
    PUBLISHED: ("judge", "seed"),
}


def expand(names: Sequence[str]) -> tuple[str, ...]:
    """Model names, with "paper" for those of arXiv 2604.04064, named or inferred."""
    paper = [s.name for s in CATALOG if s.paper]
    return tuple(dict.fromkeys(n for name in names for n in (paper if name == PAPER else [name])))


def parse_doses(words: str) -> tuple[float, ...]:
    """ "1,2,4" -> (1.0, 2.0, 4.0).

    Raises:
        ConfigError: words that are no numbers.
    """
    try:
        return tuple(float(w) for w in words.split(","))
    except ValueError:
        raise ConfigError(f"doses are numbers parted by commas, such as 1,2,4; got {words!r}") from None


def parse_emotions(words: str) -> tuple[str, ...]:
    """ "calm, angry" -> ("calm", "angry")."""
    return tuple(word.strip() for word in words.split(","))


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
    if "emotions" in changed:
        changed["emotions"] = parse_emotions(changed["emotions"])
    if "prompts" in changed:
        changed["jeong"] = bool(read_prompts(changed["prompts"]).jeong)
    own = {m: {k: v for k, v in row.items() if k not in changed} for m, row in config.overrides.items()}
    config = config.with_(**changed, overrides=own, **({"models": expand(models)} if models else {}))
    return config, given.get("out") or out or DEFAULT_OUT


# A study file: its form, made of the settings above, and what is read from it.


_FILES = ("stimuli", "prompts", "scenarios", "judge")
_OF_ONE_MODEL = (
    "backend", "dtype", *_FILES, "story_tokens", "jeong_tokens", "steered_tokens",
    "generation", "steering", "quantise", "device", "doses", "template", "emotions",
)  # fmt: skip
_RENAMED = {"permutations": "n_permutations"}


def _with_settings(*names: str) -> Callable[[type[Form]], type[Form]]:
    """Decorate a table with settings as `StudyConfig` has them; what is not set is left out, never null."""
    hints, outside = get_type_hints(StudyConfig, include_extras=True), {name: key for key, name in _RENAMED.items()}
    kinds = {name: get_args(hints[name])[0] if NoneType in get_args(hints[name]) else hints[name] for name in names}
    own: dict[str, Any] = {name: (kind, Field(None, alias=outside.get(name))) for name, kind in kinds.items()}
    return lambda form: create_model(form.__name__, __base__=form, __doc__=form.__doc__, **own)


@_with_settings(*_OF_ONE_MODEL)
class ModelForm(Form):
    """A model, and settings of its own."""

    name: Name = Field(description="name, hub id, folder or .gguf file")


@_with_settings(*_OF_ONE_MODEL, "n_permutations", "seed", "protocol")
class StudyForm(Form, title="Study"):
    """What a study runs. What a model's table says goes before what the file says; paths are taken from the file's
    folder."""

    out: Name = Field("", description="run folder, inside the file's own folder")
    models: list[ModelForm] = Field(min_length=1)


def read_study_file(path: str | Path) -> tuple[StudyConfig, Path | None]:
    """Read a study's settings, and its run folder if the file names one.

    Raises:
        StimulusError: a fault of syntax or form, a file it names that is missing, a model named twice, a run folder
            outside the file's own; with file and line. Files that it names are checked when the study begins.
    """
    file = read_user_file(path, StudyForm)
    general = _settings(file, file.data, ())
    overrides: dict[str, dict[str, Any]] = {}
    for i, row in enumerate(file.data.models):
        own = _settings(file, row, ("models", i))
        beside = file.beside(row.name)
        try:
            check_one_meaning(row.name, Path(beside))
        except LensEmotionError as error:
            file.fail(("models", i, "name"), str(error))
        is_path = row.name.startswith((".", "~")) or (find_spec(row.name) is None and kind_of(beside) != "")
        for name in expand([beside if is_path else row.name]):
            if name in overrides:
                file.fail(("models", i, "name"), f"{name} stands twice; name every model once")
            overrides[name] = own
    own_settings = {name: row for name, row in overrides.items() if row}
    return StudyConfig(models=tuple(overrides), overrides=own_settings, **general), _out(file)


def _settings(file: UserFile[StudyForm], table: Form, at: tuple[str | int, ...]) -> dict[str, Any]:
    """The settings in a table, with whole paths."""
    found = table.model_dump(exclude={"name", "models", "out"}, exclude_unset=True)
    found |= {name: _path(file, (*at, name), found[name]) for name in _FILES if name in found}
    if "doses" in found:
        found["doses"] = tuple(map(float, found["doses"]))
    if "prompts" in found:
        found["jeong"] = bool(read_prompts(found["prompts"]).jeong)
    return found


def _path(file: UserFile[StudyForm], at: tuple[str | int, ...], name: str) -> str:
    """A file or folder beside the study's file; a set's name or a hub id stays as it is."""
    beside = file.beside(name)
    if kind_of(beside):
        return beside
    if is_user_file(name) or at[-1] in ("prompts", "scenarios"):
        file.fail(at, f"there is no file {beside}; paths are taken from the folder of {file.path.name}")
    if at[-1] == "stimuli" and name not in NAMES:
        file.fail(at, f"no stimulus set '{name}'; give one of {', '.join(NAMES)}, or a file")
    return name


def _out(file: UserFile[StudyForm]) -> Path | None:
    """The run folder, which a file may not place outside its own folder."""
    if not file.data.out:
        return None
    home, out = (Path(os.path.realpath(p)) for p in (file.path.parent, file.beside(file.data.out)))  # also of a loop
    if out == home or not out.is_relative_to(home):
        file.fail(("out",), f"the run folder lies outside {home}; name a folder inside it, or say --out elsewhere")
    return Path(file.beside(file.data.out))


# A study's files to begin with: commented, and one that runs as it stands.


FILES = ("study.toml", "stimuli.toml", "prompts.toml", "scenarios.toml", "judge.toml")


def write_example(folder: str | Path) -> tuple[Path, ...]:
    """Write the example study into a folder, which is made if need be.

    Raises:
        ArtifactError: one of the files is there already (none is touched), or the folder cannot be written.
    """
    from lens_emotion.files.artifacts import atomic_write, ensure_writable  # which need torch

    folder = Path(folder)
    if there := [name for name in FILES if os.path.lexists(folder / name)]:
        raise ArtifactError(f"{folder} holds {', '.join(there)} already; give another folder, or move them away")
    ensure_writable(folder)
    source = resources.files("lens_emotion.stimuli").joinpath("data/example")
    return tuple(atomic_write(folder / name, source.joinpath(name).read_text(encoding="utf-8")) for name in FILES)
