"""What a study is given, checked before anything is loaded, and what of it each step's result depends on.

The key of a stored step is a hash of its inputs (`store.key_of`): equal keys mean that it may be read back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lens_emotion.errors import StimulusError, UnknownModelError
from lens_emotion.files.user import is_user_file
from lens_emotion.models.access import ModelInfo
from lens_emotion.models.loading import check_hub_id, check_quantise, choose_device, resolve
from lens_emotion.run.config import PRESET, READING, STEERING, WRITING, StudyConfig
from lens_emotion.run.store import Inputs, hash_of, safe_name, version_of
from lens_emotion.steering.judge_files import judge_content, read_judge_file, words_of
from lens_emotion.stimuli.emotions import NEUTRAL
from lens_emotion.stimuli.library import PASSAGES, WORLDS, load_stimuli
from lens_emotion.stimuli.prompts import Scenario, StoryPrompt, read_prompts, read_scenarios, scenarios, story_prompts
from lens_emotion.stimuli.sets import StimulusSet

SCHEMAS = {READING: 2, WRITING: 2, PRESET: 2, STEERING: 3}  # raised when the code of a step gives other results
PACKAGES = ("torch", "transformers", "transformer-lens")  # a step's numbers may change with these


def texts_for(model: str, stimuli: str | None) -> StimulusSet:
    """The stimuli asked for, else those of the model's catalog row, else the natural passages.

    Raises:
        LensEmotionError: an unknown model or stimulus set.
    """
    spec = resolve(model).spec
    return load_stimuli(stimuli or (spec.stimuli if spec else PASSAGES))


def prompts_for(step: str, config: StudyConfig, texts: StimulusSet) -> tuple[StoryPrompt, ...]:
    """The story prompts of a step: those of the file given, else those that suit the readers of these texts.

    Of the texts' emotions only, and neutral ones: stories and passages are compared emotion by emotion.
    """
    preset = "jeong" if step == PRESET else "topic-crossed"
    source = config.prompts or (texts.name if texts.name in WORLDS else PASSAGES)
    return tuple(p for p in story_prompts(preset, source) if p.emotion in (*texts.emotions, NEUTRAL))


def scenarios_for(config: StudyConfig, texts: StimulusSet) -> Sequence[Scenario]:
    """The steering scenarios whose emotion is among the texts', of the file given or those of the package."""
    return [s for s in scenarios(config.scenarios or texts.name) if s.emotion in texts.emotions]


def check_inputs(config: StudyConfig) -> None:
    """Check every model's inputs.

    Raises:
        LensEmotionError: an unknown model, two models of one name, a file with a fault, emotions that prompts,
            scenarios or judge lack.
    """
    places: dict[str, str] = {}
    for name in config.models:
        place = safe_name(resolve(name).label)
        if (other := places.setdefault(place, name)) != name:
            raise UnknownModelError(
                f"'{other}' and '{name}' are both called {place}, and would share a folder of the run; name one model "
                "once, or rename a folder"
            )
    for name in config.models:
        own = config.for_model(name)
        check_quantise(own.quantise)
        choose_device(own.device)
        _check_files(own)
        texts = texts_for(name, own.stimuli)
        if all(item.emotion != NEUTRAL for item in texts.items):
            raise StimulusError(
                f"the stimulus set '{texts.name}' has no text of emotion '{NEUTRAL}', which a study compares with; add "
                "one for each topic, or use lens-emotion extract"
            )
        for step in own.steps:
            if step in (WRITING, PRESET):
                _check_prompts(step, own, texts)
            elif step == STEERING:
                _check_steering(own, texts)


def _check_files(config: StudyConfig) -> None:
    """A fault in a file is said also where its step is off; what is no TOML or JSON is never passed over."""
    if config.prompts:
        read_prompts(config.prompts)
    if config.scenarios:
        read_scenarios(config.scenarios)
    if config.judge and is_user_file(config.judge):
        read_judge_file(config.judge)
    elif config.judge and not Path(config.judge).is_dir():
        check_hub_id(config.judge)


def _check_prompts(step: str, config: StudyConfig, texts: StimulusSet) -> None:
    have = {p.emotion for p in prompts_for(step, config, texts)}
    if missing := [e for e in (*texts.emotions, NEUTRAL) if e not in have]:
        raise StimulusError(
            f"{config.prompts or 'the story prompts of the package'} ask for no {', '.join(missing)}, which "
            f"'{texts.name}' holds; give a file of prompts (prompts = ...), or leave writing out (generation = false, "
            "--no-generation)"
        )


def _check_steering(config: StudyConfig, texts: StimulusSet) -> None:
    wanted = {s.emotion for s in scenarios_for(config, texts)}
    if not wanted:
        raise StimulusError(
            f"{config.scenarios or 'the scenarios of the package'} have none of the emotions of '{texts.name}' "
            f"({', '.join(texts.emotions)}); give a file of scenarios (scenarios = ...), or leave steering out "
            "(steering = false, --no-steering)"
        )
    if not (config.judge and is_user_file(config.judge)):
        return
    file = read_judge_file(config.judge)
    known = set(words_of(file)) if file.data.kind == "words" else set(file.data.labels or wanted)
    if missing := sorted(wanted - known):
        raise StimulusError(f"the judge {config.judge} knows no {', '.join(missing)}, towards which is steered; add it")


@dataclass(frozen=True)
class Identity:
    """The model as a key knows it; a fingerprint None (not loaded) fits any."""

    fingerprint: str | None
    backend: str
    dtype: str
    device: str

    @staticmethod
    def of(info: ModelInfo) -> Identity:
        return Identity(info.fingerprint, info.backend, info.dtype, info.device.split(":")[0])


def step_inputs(step: str, config: StudyConfig, model: Identity, texts: StimulusSet, read: str | None = None) -> Inputs:
    """Everything that the step's result depends on.

    Args:
        texts: what the model reads.
        read: checksum of what reading found, for steering.
    """
    content: Inputs = {"texts": texts.sha256}
    if step in (WRITING, PRESET):
        content = {"prompts": hash_of([p.text for p in prompts_for(step, config, texts)])}
    elif step == STEERING:
        openings = [(s.emotion, s.opening) for s in scenarios_for(config, texts)]
        judge = judge_content(config.judge) if config.judge else None
        content |= {"scenarios": hash_of(openings), "read": read, "judge": judge}
    return {
        "step": step,
        "schema": SCHEMAS[step],
        "model": vars(model) | {},
        "settings": config.used(step) | ({"quantise": config.quantise} if config.quantise else {}),
        "content": content,
        "packages": {package: version_of(package) for package in PACKAGES},
    }


def same_but_for_weights(a: Inputs, b: Inputs) -> bool:
    """Whether two steps have equal inputs where one of the models has not been loaded."""
    if not (a["model"]["fingerprint"] and b["model"]["fingerprint"]):
        a, b = (x | {"model": x["model"] | {"fingerprint": None}} for x in (a, b))
    return hash_of(a) == hash_of(b)
