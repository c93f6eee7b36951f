"""What a model is asked to write, and the neutral openings it is asked to continue.

Two sets of story prompts per world of texts: "jeong" follows arXiv 2604.04064 (five templates, ten stories per emotion
cycling through them, ten neutral ones), "topic-crossed" asks for one story per emotion and topic.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from lens_emotion.errors import StimulusError
from lens_emotion.stimuli.emotions import EMOTIONS, NEUTRAL
from lens_emotion.stimuli.library import PASSAGES, WORLDS
from lens_emotion.stimuli.prompt import PRESETS, STORIES_PER_EMOTION, Scenario, StoryPrompt
from lens_emotion.stimuli.prompt_files import read_prompts, read_scenarios
from lens_emotion.user_files import is_user_file


@cache
def _data() -> dict[str, Any]:
    path = resources.files("lens_emotion.stimuli").joinpath("data/prompts.json")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def story_prompts(preset: str = "topic-crossed", stimuli: str = PASSAGES) -> tuple[StoryPrompt, ...]:
    """The story prompts of a preset, in the words that the readers of a stimulus set understand.

    Args:
        stimuli: name of a stimulus set, or a file of prompts (see `prompt_files`).

    Raises:
        StimulusError: an unknown preset or stimulus set, a faulty file.
    """
    if preset not in PRESETS:
        raise StimulusError(f"no prompt preset '{preset}'; give one of {', '.join(PRESETS)}")
    if is_user_file(stimuli):
        return read_prompts(stimuli).of(preset)
    if stimuli in WORLDS:
        return _world_prompts(preset, stimuli)
    return _jeong() if preset == "jeong" else _topic_crossed()


def _jeong() -> tuple[StoryPrompt, ...]:
    templates, mundane = _data()["j_preset"], _data()["j_preset_neutral"]
    prompts = [
        StoryPrompt(f"{e}-{i}", templates[i % len(templates)].format(emotion=e), e, f"template-{i % len(templates)}")
        for e in EMOTIONS
        for i in range(STORIES_PER_EMOTION)
    ]
    neutral = [StoryPrompt(f"{NEUTRAL}-{i}", text, NEUTRAL, f"mundane-{i}") for i, text in enumerate(mundane)]
    return (*prompts, *neutral)


def _topic_crossed() -> tuple[StoryPrompt, ...]:
    data = _data()
    prompts = []
    for row, emotion in enumerate((*EMOTIONS, NEUTRAL)):
        templates = data["topic_crossed_neutral" if emotion == NEUTRAL else "topic_crossed"]
        for column, (key, phrase) in enumerate(data["topics"].items()):
            template = templates[(row + column) % len(templates)]  # a Latin square: template is crossed with neither
            prompts.append(
                StoryPrompt(f"{emotion}-{key}", template.format(emotion=emotion, topic=phrase), emotion, key)
            )
    return tuple(prompts)


def _world_prompts(preset: str, stimuli: str) -> tuple[StoryPrompt, ...]:
    from lens_emotion.stimuli.world import load_world
    from lens_emotion.stimuli.world_text import N_TEMPLATES, instruction

    world = load_world(stimuli.removeprefix("world-"))
    topics = tuple(world.topics)
    prompts = []
    for row, emotion in enumerate((*EMOTIONS, NEUTRAL)):
        if preset == "jeong":
            for i in range(STORIES_PER_EMOTION):
                t = i % N_TEMPLATES
                text = instruction(world, emotion, topics[t], t)
                prompts.append(StoryPrompt(f"{emotion}-{i}", text, emotion, f"template-{t}"))
        else:
            for column, topic in enumerate(topics):
                text = instruction(world, emotion, topic, (row + column) % N_TEMPLATES)
                prompts.append(StoryPrompt(f"{emotion}-{topic}", text, emotion, topic))
    return tuple(prompts)


def scenarios(stimuli: str = PASSAGES) -> tuple[Scenario, ...]:
    """The 40 steering scenarios for readers of a stimulus set, or those of a file (see `prompt_files`)."""
    if is_user_file(stimuli):
        return read_scenarios(stimuli)
    if stimuli in WORLDS:
        from lens_emotion.stimuli.world_text import world_scenarios

        pairs = world_scenarios(stimuli)
    else:
        pairs = tuple((row["emotion"], row["opening"]) for row in _data()["scenarios"])
    return tuple(Scenario(f"{emotion}-{i % 2}", emotion, text) for i, (emotion, text) in enumerate(pairs))


def neutral_sentences() -> tuple[str, ...]:
    """Mundane one-sentence texts without emotion, for the anisotropy baseline."""
    return tuple(_data()["neutral_topics"])
