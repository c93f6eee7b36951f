"""What a model is asked to write, and the neutral openings it is asked to continue: of the package, or from files.

Two sets of story prompts per world of texts: "jeong" follows arXiv 2604.04064 (five templates, ten stories per emotion
cycling through them, ten neutral ones), "topic-crossed" asks for one story per emotion and topic.

In a file (`PromptForm`), prompts are templates crossed with topics, so that the wording goes with neither, or are
written one by one:

    templates = ["Write a short story about {topic} in which someone feels {emotion}."]
    neutral_templates = ["Describe {topic} in plain words."]
    topics.letter = "a letter"
    emotions.jealous = "jealous"      # the words that stand for the emotion in a prompt

    [[prompts]]
    emotion = "jealous"
    topic = "exam"
    text = "..."
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from lens_emotion.errors import StimulusError
from lens_emotion.files.names import Name, Text, check_label, name_of, shows
from lens_emotion.files.user import Form, UserFile, is_user_file, read_user_file
from lens_emotion.stimuli.emotions import EMOTIONS, NEUTRAL
from lens_emotion.stimuli.library import PASSAGES, WORLDS

PRESETS = ("topic-crossed", "jeong")
STORIES_PER_EMOTION = 10  # Jeong's protocol


@dataclass(frozen=True)
class StoryPrompt:
    """An instruction to write a story. `topic` groups prompts into folds; for "jeong" it is the template.

    Attributes:
        prompt_id: unique among the prompts.
        text: the instruction, put into the chat template where there is one.
        emotion: which emotion the story is to show.
        topic: the fold; for "jeong" the template.

    Example:
        >>> le.StoryPrompt("calm-letter", "Write about a letter; someone is calm.", "calm", "a letter").topic
        'a letter'
    """

    prompt_id: str
    text: str
    emotion: str
    topic: str

    def __post_init__(self) -> None:
        _check_said(self, "prompt_id", "emotion", "topic", text="text")


@dataclass(frozen=True)
class Scenario:
    """A neutral opening to be continued under steering towards `emotion` (40 of them: 20 emotions x 2).

    Attributes:
        scenario_id: unique among the scenarios.
        emotion: steered towards.
        opening: what is continued; it should be neutral.

    Example:
        >>> le.Scenario("calm-0", "calm", "The phone rang a second time and").opening
        'The phone rang a second time and'
    """

    scenario_id: str
    emotion: str
    opening: str

    def __post_init__(self) -> None:
        _check_said(self, "scenario_id", "emotion", text="opening")


def _check_said(one: StoryPrompt | Scenario, *labels: str, text: str) -> None:
    """Raises StimulusError unless these are labels, and the text tells a model anything."""
    for what in labels:
        check_label(f"the {what} of a {type(one).__name__}", getattr(one, what), error=StimulusError)
    if not isinstance(said := getattr(one, text), str) or not shows(said):
        raise StimulusError(f"the {text} of {getattr(one, labels[0])!r:.60} is {said!a:.40}; give text")


def story_prompts(preset: str = "topic-crossed", stimuli: str = PASSAGES) -> tuple[StoryPrompt, ...]:
    """The story prompts of a preset, in the words that the readers of a stimulus set understand.

    Args:
        stimuli: name of a stimulus set, or a file of prompts (see the module's text).
        preset: "topic-crossed", or "jeong" for that of arXiv 2604.04064.

    Raises:
        StimulusError: an unknown preset or stimulus set, a faulty file.

    Example:
        >>> prompts = le.story_prompts()
        >>> len(prompts), prompts[0].emotion
        (252, 'happy')
    """
    if preset not in PRESETS:
        raise StimulusError(f"no prompt preset '{preset}'; give one of {', '.join(PRESETS)}")
    if is_user_file(stimuli):
        return read_prompts(stimuli).of(preset)
    if stimuli in WORLDS:
        return _world_prompts(preset, stimuli)
    return _jeong() if preset == "jeong" else _topic_crossed()


@cache
def _jeong() -> tuple[StoryPrompt, ...]:
    templates, mundane = _data()["j_preset"], _data()["j_preset_neutral"]
    prompts = [
        StoryPrompt(f"{e}-{i}", templates[i % len(templates)].format(emotion=e), e, f"template-{i % len(templates)}")
        for e in EMOTIONS
        for i in range(STORIES_PER_EMOTION)
    ]
    neutral = [StoryPrompt(f"{NEUTRAL}-{i}", text, NEUTRAL, f"mundane-{i}") for i, text in enumerate(mundane)]
    return (*prompts, *neutral)


@cache
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


@cache
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
    """The 40 steering scenarios for readers of a stimulus set, or those of a file (`ScenarioForm`).

    Args:
        stimuli: name of a stimulus set, or a file of scenarios.

    Example:
        >>> len(le.scenarios()), le.scenarios()[0].emotion
        (40, 'happy')
    """
    if is_user_file(stimuli):
        return read_scenarios(stimuli)
    return _scenarios(stimuli if stimuli in WORLDS else PASSAGES)


@cache
def _scenarios(stimuli: str) -> tuple[Scenario, ...]:
    if stimuli in WORLDS:
        from lens_emotion.stimuli.world_text import world_scenarios

        pairs = world_scenarios(stimuli)
    else:
        pairs = tuple((row["emotion"], row["opening"]) for row in _data()["scenarios"])
    return tuple(Scenario(f"{emotion}-{i % 2}", emotion, text) for i, (emotion, text) in enumerate(pairs))


def neutral_sentences() -> tuple[str, ...]:
    """Mundane one-sentence texts without emotion, for the anisotropy baseline."""
    return tuple(_data()["neutral_topics"])


@cache
def _data() -> dict[str, Any]:
    path = resources.files("lens_emotion.stimuli").joinpath("data/prompts.json")
    return dict(json.loads(path.read_text(encoding="utf-8")))


# Files of prompts and of scenarios: their forms, and what is read from them.


Texts = Annotated[list[Text], Field(min_length=1)]


class PromptRow(Form):
    """One prompt."""

    id: Name = Field("", description="unique")
    emotion: Name = Field(description="an emotion of the stimulus set, or neutral")
    topic: Name = Field(description="groups prompts into folds")
    text: Text = Field(description="the prompt")


class PromptForm(Form, title="Story prompts"):
    """What a model is asked to write: templates crossed with topics, or prompts one by one."""

    emotions: dict[Name, Annotated[Text, Field(description="the word or phrase put in place of {emotion}")]] = Field(
        {}, min_length=2, description="emotion -> its words in a template"
    )
    topics: dict[Name, Annotated[Text, Field(description="the words put in place of {topic}")]] = Field(
        {}, description="topic -> its words in a template"
    )
    templates: Texts = Field([], description="holds {emotion} and {topic}")
    neutral_templates: Texts = Field([], description="holds {topic}")
    plain_templates: Texts = Field([], description="holds {emotion}: the paper's protocol, ten stories an emotion")
    plain_neutral: Texts = Field([], description="a whole prompt without emotion")
    prompts: list[PromptRow] = Field([], min_length=1)


class ScenarioRow(Form):
    """One opening."""

    id: Name = Field("", description="unique")
    emotion: Name = Field(description="an emotion of the stimulus set")
    opening: Text = Field(description="the beginning of a text, without emotion")


class ScenarioForm(Form, title="Scenarios"):
    """Neutral openings that are continued under steering."""

    scenarios: list[ScenarioRow] = Field(min_length=1)


@dataclass(frozen=True)
class PromptFile:
    """Prompts of a file. `jeong` is empty without plain templates: then the paper's protocol is left out."""

    path: str
    crossed: tuple[StoryPrompt, ...]
    jeong: tuple[StoryPrompt, ...]

    def of(self, preset: str) -> tuple[StoryPrompt, ...]:
        """The prompts of a preset.

        Raises:
            StimulusError: the file has none for it.
        """
        found = self.jeong if preset == "jeong" else self.crossed
        if not found:
            raise StimulusError(f'{self.path} has no "plain_templates", which the preset {preset} is made of; add some')
        return found


def read_prompts(path: str | Path) -> PromptFile:
    """Read a file of story prompts.

    Raises:
        StimulusError: a fault of syntax or form, a template without its place holder, with file and line.
    """
    file = read_user_file(path, PromptForm)
    rows = file.data.prompts
    ids = [name_of(row.id) or f"{name_of(row.emotion)}-{name_of(row.topic)}-{i + 1}" for i, row in enumerate(rows)]
    own = [StoryPrompt(n, r.text, name_of(r.emotion), name_of(r.topic)) for n, r in zip(ids, rows, strict=True)]
    crossed = (*_crossed(file), *own)
    file.unique("prompts", ids)
    if not crossed:
        file.fail((), "no prompts; give templates with topics and emotions, or a list of prompts")
    if len({p.emotion for p in crossed} - {NEUTRAL}) < 2:
        file.fail(("prompts",), "prompts for one emotion only; give two at least")
    return PromptFile(str(path), crossed, _plain(file))


def _crossed(file: UserFile[PromptForm]) -> list[StoryPrompt]:
    """Every emotion on every topic, the templates in a Latin square."""
    form, found = file.data, []
    words = _words(file, "templates") | ({NEUTRAL: ""} if form.neutral_templates else {})
    for row, (emotion, phrase) in enumerate(words.items()):
        name, filled = ("neutral_templates", {}) if emotion == NEUTRAL else ("templates", {"emotion": phrase})
        for column, (topic, about) in enumerate(form.topics.items()):
            topic = name_of(topic)
            text = _fill(file, name, row + column, filled | {"topic": about})
            found.append(StoryPrompt(f"{emotion}-{topic}", text, emotion, topic))
    if form.templates and not form.topics:
        file.fail(("templates",), "templates need topics to be crossed with; add a table topics")
    return found


def _plain(file: UserFile[PromptForm]) -> tuple[StoryPrompt, ...]:
    """The paper's protocol: ten stories an emotion, cycling through templates without a topic."""
    form, found = file.data, []
    if form.plain_templates:
        for emotion, words in _words(file, "plain_templates").items():
            for i in range(STORIES_PER_EMOTION):
                text = _fill(file, "plain_templates", i, {"emotion": words})
                topic = f"template-{i % len(form.plain_templates)}"
                found.append(StoryPrompt(f"{emotion}-{i}", text, emotion, topic))
        if not form.plain_neutral:
            file.fail(("plain_templates",), "the paper's protocol needs neutral prompts too; add plain_neutral")
        for i, text in enumerate(form.plain_neutral):
            found.append(StoryPrompt(f"{NEUTRAL}-{i}", text, NEUTRAL, f"plain-{i}"))
    return tuple(found)


def _words(file: UserFile[PromptForm], needed: str) -> dict[str, str]:
    """Emotion -> its words in a template, without neutral; none if there are no such templates."""
    if not getattr(file.data, needed):
        return {}
    words = {name_of(e): w for e, w in file.data.emotions.items()}
    if not words:
        file.fail((needed,), "templates need emotions to be filled with; add a table emotions")
    return {e: w for e, w in words.items() if e != NEUTRAL}


def _fill(file: UserFile[PromptForm], name: str, i: int, words: dict[str, str]) -> str:
    """The i-th template, cyclically, with its place holders filled."""
    templates: Sequence[str] = getattr(file.data, name)
    at = i % len(templates)
    text = template = templates[at]
    for holder, phrase in words.items():
        if f"{{{holder}}}" not in template:
            file.fail((name, at), f"got {template[:40]!r}, which has no {{{holder}}}; write it where the words belong")
        text = text.replace(f"{{{holder}}}", phrase)
    return text


def read_scenarios(path: str | Path) -> tuple[Scenario, ...]:
    """Read a file of scenarios: [[scenarios]] with emotion and opening.

    Raises:
        StimulusError: a fault of syntax or form, two scenarios with one id, with file and line.
    """
    file = read_user_file(path, ScenarioForm)
    count: Counter[str] = Counter()
    found = []
    for row in file.data.scenarios:
        emotion = name_of(row.emotion)
        found.append(Scenario(name_of(row.id) or f"{emotion}-{count[emotion]}", emotion, row.opening))
        count[emotion] += 1
    file.unique("scenarios", [s.scenario_id for s in found])
    return tuple(found)
