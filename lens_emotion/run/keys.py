"""What a step's result depends on, and the key made from it: equal keys mean that a stored result may be read back."""

from __future__ import annotations

from dataclasses import dataclass

from lens_emotion.models.access import ModelInfo
from lens_emotion.run.config import PRESET, READING, STEERING, WRITING, StudyConfig
from lens_emotion.run.inputs import prompts_for, scenarios_for
from lens_emotion.run.store import Inputs, hash_of, version_of
from lens_emotion.steering.judge_files import judge_content
from lens_emotion.stimuli.sets import StimulusSet

SCHEMAS = {READING: 1, WRITING: 1, PRESET: 1, STEERING: 2}  # raised when the code of a step gives other results
PACKAGES = ("torch", "transformers", "transformer-lens")  # a step's numbers may change with these


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
