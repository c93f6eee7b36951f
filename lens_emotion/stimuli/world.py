"""The small written world of the tiny models: its emotions, topics and words.

The world is data (`data/world_en.json`, `data/world_zh.json`). Every emotion has words of its own that no other
emotion uses, and shares the words of one to three groups (pleasant, stirred, fear-like, ...) with related emotions.
The groups plant a valence and arousal geometry; the own words make each emotion countable in a text. The Chinese file
is aligned with the English one, word by word, so every Chinese emotion word has one English meaning.
`world_text` writes texts in this world.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from lens_emotion.stimuli.emotions import EMOTIONS, NEUTRAL

WORD_KINDS: tuple[str, ...] = ("adj", "adv", "noun", "verb")
WORLD_LANGUAGES: tuple[str, ...] = ("en", "en-zh")

WordsByKind = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Topic:
    """What a story is about, in one language. `at` says where ("in the kitchen"), `acts` are past-tense phrases."""

    name: str
    title: str
    at: str
    place: str
    things: tuple[str, ...]
    acts: tuple[str, ...]


@dataclass(frozen=True)
class Lexicon:
    """Everything needed to write in one language.

    Attributes:
        own: emotion -> kind -> words that only this emotion uses.
        groups: group -> kind -> words shared by the emotions of the group.
        neutral: kind -> filler words of neutral texts.
        names: (name, "he" or "she").
        pronouns: "he" or "she" -> the forms that fill the slots {he}, {his}, {him}.
        openings, plain: sentences without an emotion word.
        pole_sentences: group -> sentences without a slot for an emotion word that only its emotions use (good or bad
            day, fast or slow), so that the poles show in more than single words.
        frames: sentences with emotion words, neutral filler fits too; feeling_frames: only for an emotion.
        beginnings: unfinished English sentences that end steering openings.
        emotion_names: the name of an emotion in this language where it differs from the English one.
    """

    language: str
    own: Mapping[str, WordsByKind]
    groups: Mapping[str, WordsByKind]
    neutral: WordsByKind
    names: tuple[tuple[str, str], ...]
    pronouns: Mapping[str, Mapping[str, str]]
    topics: Mapping[str, Topic]
    openings: tuple[str, ...]
    plain: tuple[str, ...]
    pole_sentences: Mapping[str, tuple[str, ...]]
    frames: tuple[str, ...]
    feeling_frames: tuple[str, ...]
    beginnings: tuple[str, ...]
    instructions: tuple[str, ...]
    neutral_instructions: tuple[str, ...]
    emotion_names: Mapping[str, str]


@dataclass(frozen=True)
class World:
    """The world in one language ("en") or two ("en-zh").

    Attributes:
        emotions: the twenty emotions, neutral left out.
        topics: the twelve topics.
        own_words: emotion -> English words that only this emotion uses.
        shared_words: emotion -> English words it shares with related emotions.
        translations: English emotion word (own or shared) -> its Chinese form; empty for "en".
        emotion_groups: emotion -> the groups whose words it shares.
        lexicons: language code -> what is needed to write in it.
    """

    language: str
    emotions: tuple[str, ...]
    topics: tuple[str, ...]
    own_words: Mapping[str, tuple[str, ...]]
    shared_words: Mapping[str, tuple[str, ...]]
    translations: Mapping[str, str]
    emotion_groups: Mapping[str, tuple[str, ...]]
    lexicons: Mapping[str, Lexicon]


@cache
def load_world(language: str) -> World:
    """The world of the English tiny models ("en") or of the bilingual one ("en-zh").

    Raises:
        ValueError: any other language.
    """
    if language not in WORLD_LANGUAGES:
        raise ValueError(f"the world is written in {' or '.join(map(repr, WORLD_LANGUAGES))}, not in {language!r}")
    data = _read("en")
    lexicons = {code: _lexicon(_read(code)) for code in language.split("-")}
    english = lexicons["en"]
    groups = {emotion: tuple(data["emotion_groups"][emotion]) for emotion in EMOTIONS}
    return World(
        language=language,
        emotions=EMOTIONS,
        topics=tuple(english.topics),
        own_words={emotion: _all_words(english.own[emotion]) for emotion in EMOTIONS},
        shared_words={
            emotion: tuple(word for group in groups[emotion] for word in _all_words(english.groups[group]))
            for emotion in EMOTIONS
        },
        translations=_aligned(english, lexicons["zh"]) if "zh" in lexicons else {},
        emotion_groups={**groups, NEUTRAL: ()},
        lexicons=lexicons,
    )


def emotion_words(world: World, emotion: str) -> tuple[str, ...]:
    """The English words that only this emotion uses."""
    return world.own_words[emotion]


def _read(code: str) -> dict[str, Any]:
    path = resources.files("lens_emotion.stimuli").joinpath(f"data/world_{code}.json")
    return json.loads(path.read_text(encoding="utf-8"))


def _lexicon(data: dict[str, Any]) -> Lexicon:
    def words(kinds: dict[str, list[str]]) -> WordsByKind:
        return {kind: tuple(kinds[kind]) for kind in WORD_KINDS}

    texts = ("openings", "plain", "frames", "feeling_frames", "beginnings", "instructions", "neutral_instructions")
    return Lexicon(
        language=data["language"],
        own={emotion: words(kinds) for emotion, kinds in data["own"].items()},
        groups={group: words(kinds) for group, kinds in data["groups"].items()},
        neutral=words(data["neutral"]),
        names=tuple((name, pronoun) for name, pronoun in data["names"]),
        pronouns=data["pronouns"],
        topics={
            name: Topic(name, row["title"], row["at"], row["place"], tuple(row["things"]), tuple(row["acts"]))
            for name, row in data["topics"].items()
        },
        pole_sentences={group: tuple(sentences) for group, sentences in data["pole_sentences"].items()},
        emotion_names=data["emotion_names"],
        **{key: tuple(data[key]) for key in texts},
    )


def _all_words(kinds: WordsByKind) -> tuple[str, ...]:
    return tuple(word for kind in WORD_KINDS for word in kinds[kind])


def _aligned(english: Lexicon, chinese: Lexicon) -> dict[str, str]:
    """English -> Chinese for every own and shared word, by position in the two files."""
    pairs = [(english.own[emotion], chinese.own[emotion]) for emotion in english.own]
    pairs += [(english.groups[group], chinese.groups[group]) for group in english.groups]
    return {
        word: counterpart
        for kinds, other in pairs
        for kind in WORD_KINDS
        for word, counterpart in zip(kinds[kind], other[kind], strict=True)
    }
