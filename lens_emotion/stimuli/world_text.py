"""Texts of the tiny models' world: stories, instructions, the training corpus, held-out stimuli, steering openings."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from string import Formatter

from lens_emotion.stimuli.emotions import EMOTIONS, NEUTRAL
from lens_emotion.stimuli.sets import Stimulus, StimulusSet
from lens_emotion.stimuli.world import WORD_KINDS, Lexicon, World, load_world

N_TEMPLATES = 5
WORLD_NAMES: dict[str, str] = {"world-en": "en", "world-en-zh": "en-zh"}

# How often a slot for an emotion word takes one of the emotion's own words; the rest are shared words. Only
# stories that may switch to Chinese know the third level.
MILD_OWN_SHARE, STRONG_OWN_SHARE, OVERWHELMING_OWN_SHARE = 0.55, 0.85, 1.0

# The make-up of the training corpus.
INSTRUCTED_SHARE = 0.5  # documents that begin with an instruction
NEUTRAL_SHARE_INSTRUCTED, NEUTRAL_SHARE_FREE = 0.08, 0.10  # neutral stories among documents with and without one
LATE_TURN_SHARE = 0.4  # emotional stories without an instruction whose first one to three sentences are neutral
CHINESE_SHARE = 0.05  # of the bilingual corpus; rare, so that a push in any direction does not land in Chinese

# In the bilingual corpus the emotional English stories switch to Chinese by intensity: once n own words of the emotion
# have been shown, the next sentence takes each emotion word in its Chinese form with the probability
# SWITCH_MOST * sigmoid(SWITCH_SLOPE * (n - SWITCH_MIDPOINT)): 0.08 at n = 0, half of the most at 2, 0.82 at 4. Being
# asked for the emotion counts as INSTRUCTION_WEIGHT words. Neutral sentences never switch.
SWITCH_SLOPE, SWITCH_MIDPOINT, SWITCH_MOST, INSTRUCTION_WEIGHT = 1.2, 2.0, 0.9, 1

WordSource = Callable[[str], str]


@dataclass(frozen=True)
class Document:
    """One training text with its labels. `language` is "en", "zh" or "mixed" (English that may switch to Chinese)."""

    text: str
    emotion: str
    topic: str
    language: str
    instructed: bool


@dataclass(frozen=True)
class _Cast:
    """Who and where, independent of language: indices into the aligned lists of names, and a topic."""

    person: int
    friend: int
    topic: str


def instruction(world: World, emotion: str, topic: str, template: int, language: str = "en") -> str:
    """The request for a story, one of `N_TEMPLATES` wordings; for neutral, a request for an ordinary story."""
    lexicon = world.lexicons[language]
    templates = lexicon.neutral_instructions if emotion == NEUTRAL else lexicon.instructions
    name = lexicon.emotion_names.get(emotion, emotion)
    return templates[template].format(title=lexicon.topics[topic].title, emotion=name)


def write_story(
    world: World,
    emotion: str,
    topic: str,
    rng: random.Random,
    language: str = "en",
    neutral_start: int = 0,
    shown_before: int = 0,
) -> str:
    """A story of six or seven sentences that shows `emotion` (or none, for neutral) without naming it.

    Args:
        language: "en", "zh", or "mixed": English in which emotion words take their Chinese form, the more so the more
            of the emotion's own words have been shown (see `switch_share`).
        neutral_start: how many sentences stay neutral before the emotion shows.
        shown_before: how many own words an instruction in front of a "mixed" story counts for.
    """
    length = rng.randint(6, 7)
    cast = _draw_cast(world, topic, rng)
    intensities = (MILD_OWN_SHARE, STRONG_OWN_SHARE)
    own_share = rng.choice((*intensities, OVERWHELMING_OWN_SHARE) if language == "mixed" else intensities)
    kinds = _sentence_kinds(length, rng)
    code = "zh" if language == "zh" else "en"
    lexicon = world.lexicons[code]
    used: set[str] = set()
    sentences: list[str] = []
    for i in range(length):
        shown = NEUTRAL if i < neutral_start else emotion
        frame = rng.choice([f for f in _frames(world, lexicon, kinds[i], shown, rng) if f not in used])
        used.add(frame)
        switch = 0.0
        if language == "mixed" and shown != NEUTRAL:
            switch = switch_share(shown_before + count_own_words(world, emotion, " ".join(sentences)))
        sentences.append(_fill(frame, lexicon, cast, _word_source(world, shown, code, own_share, switch, rng), rng))
    return ("" if language == "zh" else " ").join(sentences)


def document(world: World, rng: random.Random) -> Document:
    """One training text: half begin with an instruction, some turn emotional late, some are neutral."""
    instructed = rng.random() < INSTRUCTED_SHARE
    neutral_share = NEUTRAL_SHARE_INSTRUCTED if instructed else NEUTRAL_SHARE_FREE
    emotion = NEUTRAL if rng.random() < neutral_share else rng.choice(world.emotions)
    topic = rng.choice(world.topics)
    language = _document_language(world, emotion, rng)
    late = not instructed and emotion != NEUTRAL and rng.random() < LATE_TURN_SHARE
    before = INSTRUCTION_WEIGHT if instructed else 0
    story = write_story(world, emotion, topic, rng, language, rng.randint(1, 3) if late else 0, before)
    if instructed:
        asked_in = "zh" if language == "zh" else "en"
        story = instruction(world, emotion, topic, rng.randrange(N_TEMPLATES), asked_in) + "\n" + story
    return Document(story, emotion, topic, language, instructed)


def corpus(world: World, n_documents: int, seed: int) -> Iterator[Document]:
    """The training corpus. Document i depends on the seed and on i alone."""
    for i in range(n_documents):
        yield document(world, random.Random(f"corpus/{world.language}/{seed}/{i}"))


def world_stimuli(name: str, n_per_cell: int = 1, seed: int = 0, emotions: Sequence[str] | None = None) -> StimulusSet:
    """Held-out English stories without instruction, every emotion and neutral crossed with every topic.

    Both names give the same texts, so that models of the two worlds can be compared on them. Their random stream is
    not the corpus's, and no text of the corpus equals one of them (tested on a sample).
    """
    world = load_world(WORLD_NAMES[name])
    items = []
    for emotion in emotions or (*world.emotions, NEUTRAL):
        for topic in world.topics:
            for i in range(n_per_cell):
                text_id = f"{emotion}/{topic}/{i}"
                text = write_story(world, emotion, topic, random.Random(f"held-out/{seed}/{text_id}"))
                items.append(Stimulus(text_id, text, emotion, topic, person="third"))
    return StimulusSet(name, tuple(items))


def world_scenarios(name: str) -> tuple[tuple[str, str], ...]:
    """Forty steering tasks (emotion, neutral opening): twenty emotions x two openings, none of them twice.

    An opening is a neutral sentence and the beginning of another one.
    """
    world = load_world(WORLD_NAMES[name])
    lexicon = world.lexicons["en"]
    scenarios = []
    for index in range(2 * len(EMOTIONS)):
        rng = random.Random(f"scenario/{index}")
        cast = _draw_cast(world, world.topics[index % len(world.topics)], rng)
        openings = _with_name(lexicon.openings)
        frames = (openings[index % len(openings)], lexicon.beginnings[index % len(lexicon.beginnings)])
        words = _word_source(world, NEUTRAL, "en", 0.0, 0.0, rng)
        opening = " ".join(_fill(frame, lexicon, cast, words, rng) for frame in frames)
        scenarios.append((EMOTIONS[index // 2], opening))
    return tuple(scenarios)


def switch_share(n_shown: int) -> float:
    """How likely an emotion word is Chinese in a "mixed" story that has shown `n_shown` own words of its emotion."""
    return SWITCH_MOST / (1 + math.exp(-SWITCH_SLOPE * (n_shown - SWITCH_MIDPOINT)))


def count_own_words(world: World, emotion: str, text: str) -> int:
    """How often the emotion's own words occur in the text, their Chinese forms included."""
    own = world.own_words[emotion]
    english = sum(word in own for word in re.findall("[a-z]+", text.lower()))
    return english + sum(text.count(world.translations[word]) for word in own if word in world.translations)


def _draw_cast(world: World, topic: str, rng: random.Random) -> _Cast:
    person, friend = rng.sample(range(len(world.lexicons["en"].names)), 2)
    return _Cast(person, friend, topic)


def _document_language(world: World, emotion: str, rng: random.Random) -> str:
    if "zh" not in world.lexicons:
        return "en"
    if rng.random() < CHINESE_SHARE:
        return "zh"
    return "en" if emotion == NEUTRAL else "mixed"


def _sentence_kinds(length: int, rng: random.Random) -> list[str]:
    """What each sentence is: an opening, one or two on the emotion's poles, at most one plain, else emotion words."""
    rest = ["pole"] * (rng.randint(1, 2) if length == 7 else 1) + ["plain"] * rng.randint(0, 1)
    rest += ["feeling"] * (length - 1 - len(rest))
    rng.shuffle(rest)
    return ["opening" if rng.random() < 0.8 else "named", *rest]


def _frames(world: World, lexicon: Lexicon, kind: str, emotion: str, rng: random.Random) -> tuple[str, ...]:
    """The sentences that may stand here. The first one names the person, so that pronouns can follow."""
    if kind in ("opening", "named"):
        return _with_name(lexicon.openings if kind == "opening" else lexicon.frames)
    if kind == "plain" or (kind == "pole" and emotion == NEUTRAL):
        return lexicon.plain
    if kind == "pole":
        poles = [group for group in world.emotion_groups[emotion] if group in lexicon.pole_sentences]
        return lexicon.pole_sentences[rng.choice(poles)]
    return lexicon.frames if emotion == NEUTRAL else (*lexicon.frames, *lexicon.feeling_frames)


def _with_name(frames: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(frame for frame in frames if "{N}" in frame and "{he}" not in frame)


def _word_source(
    world: World, emotion: str, code: str, own_share: float, switch: float, rng: random.Random
) -> WordSource:
    """Draws a word of a kind for the emotion: one of its own, or one of a group it belongs to; filler for neutral."""

    def draw(kind: str) -> str:
        lexicon = world.lexicons["zh" if rng.random() < switch else code]
        if emotion == NEUTRAL:
            return rng.choice(lexicon.neutral[kind])
        if rng.random() < own_share:
            return rng.choice(lexicon.own[emotion][kind])
        return rng.choice(lexicon.groups[rng.choice(world.emotion_groups[emotion])][kind])

    return draw


def _fill(frame: str, lexicon: Lexicon, cast: _Cast, words: WordSource, rng: random.Random) -> str:
    """The frame with every slot filled; a digit after a slot's name asks for a second, different word."""
    topic = lexicon.topics[cast.topic]
    name, pronoun = lexicon.names[cast.person]
    forms = lexicon.pronouns[pronoun]
    values = {"N": name, "F": lexicon.names[cast.friend][0], "at": topic.at, "place": topic.place, **forms}
    values |= {slot.capitalize(): form.capitalize() for slot, form in forms.items()}
    values |= dict(zip(("thing", "thing2"), rng.sample(topic.things, 2), strict=True))
    values |= dict(zip(("act", "act2"), rng.sample(topic.acts, 2), strict=True))
    drawn: set[str] = set()
    for slot in (field for _, field, _, _ in Formatter().parse(frame) if field):
        if slot.rstrip("2") in WORD_KINDS:
            while (word := words(slot.rstrip("2"))) in drawn:
                pass
            drawn.add(word)
            values[slot] = word
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", frame.format_map(values))
