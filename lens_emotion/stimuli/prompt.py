"""A prompt and a scenario: what a model is asked to write, and an opening that it is asked to continue."""

from __future__ import annotations

from dataclasses import dataclass

PRESETS = ("topic-crossed", "jeong")
STORIES_PER_EMOTION = 10  # Jeong's protocol


@dataclass(frozen=True)
class StoryPrompt:
    """An instruction to write a story. `topic` groups prompts into folds; for "jeong" it is the template."""

    prompt_id: str
    text: str
    emotion: str
    topic: str


@dataclass(frozen=True)
class Scenario:
    """A neutral opening to be continued under steering towards `emotion` (40 of them: 20 emotions x 2)."""

    scenario_id: str
    emotion: str
    opening: str
