"""What a step's result depends on, and the key made from it: equal keys mean that a stored result may be read back."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from lens_emotion.models.access import ModelInfo
from lens_emotion.run.config import PRESET, READING, STEERING, WRITING, StudyConfig
from lens_emotion.run.inputs import prompts_for, scenarios_for
from lens_emotion.steering.judge_files import judge_content
from lens_emotion.stimuli.sets import StimulusSet

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
        "packages": {package: version_of(package) for package in PACKAGES},
    }


def key_of(inputs: Inputs) -> str:
    """Hex hash of a step's inputs."""
    return _hash(inputs)[:16]


def same_but_for_weights(a: Inputs, b: Inputs) -> bool:
    """Whether two steps have equal inputs where one of the models has not been loaded."""
    if not (a["model"]["fingerprint"] and b["model"]["fingerprint"]):
        a, b = (x | {"model": x["model"] | {"fingerprint": None}} for x in (a, b))
    return _hash(a) == _hash(b)


def _hash(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def version_of(package: str) -> str:
    """Of an installed package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
