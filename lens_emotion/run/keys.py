"""What a step's result depends on, and the key made from it: equal keys mean that a stored result may be read back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from lens_emotion.models.access import ModelInfo
from lens_emotion.models.catalog import find_spec
from lens_emotion.models.loading import resolve
from lens_emotion.run.config import StudyConfig
from lens_emotion.steering.judge_files import judge_content
from lens_emotion.stimuli.emotions import NEUTRAL
from lens_emotion.stimuli.library import PASSAGES, WORLDS, load_stimuli
from lens_emotion.stimuli.prompts import Scenario, StoryPrompt, scenarios, story_prompts
from lens_emotion.stimuli.sets import StimulusSet

READING, WRITING, PRESET, STEERING = "comprehension", "generation", "generation_jeong", "steering"
SCHEMAS = {READING: 1, WRITING: 1, PRESET: 1, STEERING: 2}  # raised when the code of a step gives other results
PACKAGES = ("torch", "transformers", "transformer-lens")  # a step's numbers may change with these
Inputs = dict[str, Any]


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


def steps_of(config: StudyConfig) -> tuple[str, ...]:
    """The stored steps of a study of one model, in the order in which they run."""
    written = (WRITING, PRESET) if config.jeong else (WRITING,)
    return (READING, *(written if config.generation else ()), *((STEERING,) if config.steering else ()))


def step_inputs(step: str, config: StudyConfig, model: Identity, texts: StimulusSet, read: str | None = None) -> Inputs:
    """Everything that the step's result depends on.

    Args:
        texts: what the model reads.
        read: checksum of what reading found, for steering.
    """
    content: Inputs = {"texts": texts.sha256}
    if step in (WRITING, PRESET):
        content = {"prompts": _hash([p.text for p in prompts_for(step, config, texts)])}
    elif step == STEERING:
        openings = [(s.emotion, s.opening) for s in scenarios_for(config, texts)]
        judge = judge_content(config.judge) if config.judge else None
        content |= {"scenarios": _hash(openings), "read": read, "judge": judge}
    return {
        "step": step,
        "schema": SCHEMAS[step],
        "model": vars(model) | {},
        "settings": config.used(step) | ({"quantise": config.quantise} if config.quantise else {}),
        "content": content,
        "packages": {package: _version(package) for package in PACKAGES},
    }


def key_of(inputs: Inputs) -> str:
    """Hex hash of a step's inputs."""
    return _hash(inputs)[:16]


def same_but_for_weights(a: Inputs, b: Inputs) -> bool:
    """Whether two steps have equal inputs where one of the models has not been loaded."""
    loaded = a["model"]["fingerprint"] and b["model"]["fingerprint"]
    return _hash(_bare(a)) == _hash(_bare(b)) if not loaded else _hash(a) == _hash(b)


def _bare(inputs: Inputs) -> Inputs:
    return inputs | {"model": inputs["model"] | {"fingerprint": None}}


def texts_for(model: str, stimuli: str | None) -> StimulusSet:
    """What a model reads: the stimuli asked for, else those of its catalog row, else the natural passages.

    Raises:
        LensEmotionError: an unknown model or stimulus set.
    """
    spec = find_spec(resolve(model).label)
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


def _hash(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
