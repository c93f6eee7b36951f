"""What a study is given, checked before anything is loaded: do emotions, prompts, scenarios and judge go together?"""

from __future__ import annotations

from lens_emotion.errors import StimulusError
from lens_emotion.models.loading import resolve
from lens_emotion.models.placement import check_quantise
from lens_emotion.steering.judge_files import read_judge_file, words_of
from lens_emotion.stimuli.emotions import NEUTRAL
from lens_emotion.stimuli.sets import StimulusSet
from lens_emotion.study.config import StudyConfig
from lens_emotion.study.keys import PRESET, STEERING, WRITING, prompts_for, scenarios_for, steps_of
from lens_emotion.study.texts import texts_for
from lens_emotion.user_files import is_user_file


def check_inputs(config: StudyConfig) -> None:
    """Check every model's inputs.

    Raises:
        LensEmotionError: an unknown model, a file with a fault, emotions that prompts, scenarios or judge lack.
    """
    for name in config.models:
        resolve(name)
        own = config.for_model(name)
        check_quantise(own.quantise)
        texts = texts_for(name, own.stimuli)
        _check_neutral(texts)
        for step in steps_of(own):
            if step in (WRITING, PRESET):
                _check_prompts(step, own, texts)
            elif step == STEERING:
                _check_steering(own, texts)


def _check_neutral(texts: StimulusSet) -> None:
    if all(item.emotion != NEUTRAL for item in texts.items):
        raise StimulusError(
            f"the stimulus set '{texts.name}' has no text of emotion '{NEUTRAL}', which a study compares with; add one "
            "for each topic, or use lens-emotion extract"
        )


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
    known = set(words_of(file)) if file.data["kind"] == "words" else set(file.data.get("labels", wanted))
    if missing := sorted(wanted - known):
        raise StimulusError(f"the judge {config.judge} knows no {', '.join(missing)}, towards which is steered; add it")
