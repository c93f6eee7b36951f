"""The tiny models' world: its words are disjoint, its texts are well formed, its held-out stories are held out."""

from __future__ import annotations

import hashlib
import itertools
import random
import re
from collections.abc import Iterable

import pytest

from lens_emotion.stimuli.emotions import EMOTIONS, NEUTRAL
from lens_emotion.stimuli.world import WORD_KINDS, emotion_words, load_world
from lens_emotion.stimuli.world_text import (
    N_TEMPLATES,
    corpus,
    count_own_words,
    instruction,
    switch_share,
    world_scenarios,
    world_stimuli,
    write_story,
)

ENGLISH, BILINGUAL = load_world("en"), load_world("en-zh")
# What a word must not contain: the emotions' names without their endings, so that inflections are caught too.
NAME_STEMS = (
    "happ", "sad", "calm", "desper", "afraid", "angr", "anger", "proud", "pride", "guilt", "nervo", "hope", "brood",
    "gloom", "reflect", "enthus", "hostil", "lov", "exasper", "bliss", "anxi", "grate", "gratit",
)  # fmt: skip
NOT_A_NAME = {"lovely"}  # means "nice"; of the stem, not of the emotion


def words_of(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))


def has_chinese(text: str) -> bool:
    return re.search("[\u4e00-\u9fff]", text) is not None


def is_own(emotion: str, word: str) -> bool:
    return count_own_words(BILINGUAL, emotion, word) > 0


def sha256(texts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def test_the_world_has_twenty_emotions_and_twelve_topics() -> None:
    assert ENGLISH.emotions == EMOTIONS
    assert len(ENGLISH.topics) == 12
    assert ENGLISH.translations == {}


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(ValueError, match="'fr'"):
        load_world("fr")


def test_own_words_are_disjoint_between_emotions_and_from_every_other_word() -> None:
    own = [word for emotion in EMOTIONS for word in emotion_words(ENGLISH, emotion)]
    lexicon = ENGLISH.lexicons["en"]
    shared = [word for kinds in lexicon.groups.values() for kind in WORD_KINDS for word in kinds[kind]]
    filler = [word for kind in WORD_KINDS for word in lexicon.neutral[kind]]
    everything = own + shared + filler
    assert len(everything) == len(set(everything))
    assert all(6 <= len(emotion_words(ENGLISH, emotion)) <= 10 for emotion in EMOTIONS)


def test_no_emotion_word_occurs_in_the_frames_topics_or_instructions() -> None:
    lexicon = ENGLISH.lexicons["en"]
    texts = [*lexicon.openings, *lexicon.plain, *lexicon.frames, *lexicon.feeling_frames, *lexicon.beginnings]
    texts += [sentence for sentences in lexicon.pole_sentences.values() for sentence in sentences]
    texts += [*lexicon.instructions, *lexicon.neutral_instructions]
    for topic in lexicon.topics.values():
        texts += [topic.title, topic.at, topic.place, *topic.things, *topic.acts]
    emotional = {word for emotion in EMOTIONS for word in (*ENGLISH.own_words[emotion], *ENGLISH.shared_words[emotion])}
    assert not emotional & words_of(" ".join(texts))


def test_no_word_carries_the_name_of_an_emotion() -> None:
    every_word = {w for e in EMOTIONS for w in (*ENGLISH.own_words[e], *ENGLISH.shared_words[e])} - NOT_A_NAME
    assert not [word for word in every_word for stem in NAME_STEMS if stem in word]
    chinese = BILINGUAL.lexicons["zh"]
    names = set(chinese.emotion_names.values())
    assert not [word for word in BILINGUAL.translations.values() for name in names if name in word or word in name]


def test_related_emotions_share_words_and_unrelated_ones_do_not() -> None:
    shared = {emotion: set(words) for emotion, words in ENGLISH.shared_words.items()}
    assert shared["afraid"] == shared["anxious"]
    assert shared["angry"] & shared["afraid"] and not shared["angry"] & shared["calm"]


def test_every_chinese_word_has_exactly_one_english_meaning() -> None:
    chinese, english = BILINGUAL.lexicons["zh"], BILINGUAL.lexicons["en"]
    wanted = {w for e in EMOTIONS for w in (*BILINGUAL.own_words[e], *BILINGUAL.shared_words[e])}
    assert set(BILINGUAL.translations) == wanted
    assert len(set(BILINGUAL.translations.values())) == len(wanted)
    assert set(chinese.emotion_names) == set(EMOTIONS)
    assert len(chinese.names) == len(english.names)
    for name, topic in english.topics.items():
        other = chinese.topics[name]
        assert (len(topic.things), len(topic.acts)) == (len(other.things), len(other.acts))


@pytest.mark.parametrize("code", ["en", "zh"])
def test_every_frame_fills(code: str) -> None:
    """Enough stories are written that every frame of the language is used; none leaves a slot open."""
    lexicon = BILINGUAL.lexicons[code]
    rng = random.Random(0)
    texts = [
        write_story(BILINGUAL, emotion, topic, rng, code)
        for emotion, topic, _ in itertools.product((*EMOTIONS, NEUTRAL), BILINGUAL.topics, range(2))
    ]
    text = "\n".join(texts)
    assert "{" not in text and "}" not in text
    poles = [sentence for sentences in lexicon.pole_sentences.values() for sentence in sentences]
    for frame in (*lexicon.openings, *lexicon.plain, *poles, *lexicon.frames, *lexicon.feeling_frames):
        assert re.search(re.sub(r"\\{\w+\\}", r"[^.。]+", re.escape(frame)), text), frame
    assert (code == "zh") == any("\u4e00" <= letter <= "\u9fff" for letter in text)


def test_stories_show_the_emotion_and_never_name_it() -> None:
    stimuli = world_stimuli("world-en")
    for item in stimuli.items:
        words = words_of(item.text)
        assert not words & set(EMOTIONS)
        own = {emotion: len(words & set(ENGLISH.own_words[emotion])) for emotion in EMOTIONS}
        assert all(count == 0 for emotion, count in own.items() if emotion != item.emotion)
    lengths = [len(item.text.split()) for item in stimuli.items]
    assert min(lengths) >= 25 and max(lengths) <= 70 and 40 <= sum(lengths) / len(lengths) <= 50


def test_a_and_an_are_right() -> None:
    text = " ".join(world_stimuli("world-en", 3).texts)
    assert not re.search(r"\b[Aa] [aeiou]|\b[Aa]n (?!hour)[^aeiou]", text)


def test_instructions_name_the_emotion_and_neutral_ones_name_none() -> None:
    for template in range(N_TEMPLATES):
        assert "sad" in words_of(instruction(ENGLISH, "sad", "garden", template))
        assert not words_of(instruction(ENGLISH, NEUTRAL, "garden", template)) & set(EMOTIONS)
        assert "悲伤" in instruction(BILINGUAL, "sad", "garden", template, "zh")


def test_the_corpus_is_made_up_as_documented() -> None:
    documents = list(corpus(BILINGUAL, 2500, seed=1))
    share = {code: sum(d.language == code for d in documents) / len(documents) for code in ("en", "zh", "mixed")}
    assert 0.03 < share["zh"] < 0.07 and 0.82 < share["mixed"] < 0.90
    assert 0.47 < sum(d.instructed for d in documents) / len(documents) < 0.53
    assert all(d.emotion == NEUTRAL and not has_chinese(d.text) for d in documents if d.language == "en")
    assert all(d.emotion != NEUTRAL for d in documents if d.language == "mixed")


def test_the_more_of_an_emotion_a_story_has_shown_the_more_of_its_words_are_chinese() -> None:
    switched: dict[int, list[bool]] = {n: [] for n in range(5)}
    for k in range(1500):
        emotion = EMOTIONS[k % len(EMOTIONS)]
        text = write_story(BILINGUAL, emotion, "garden", random.Random(k), "mixed")
        sentences = re.split(r"(?<=[.?!]) (?=[A-Z])", text)
        for i, sentence in enumerate(sentences):
            shown = count_own_words(BILINGUAL, emotion, " ".join(sentences[:i]))
            if shown in switched and count_own_words(BILINGUAL, emotion, sentence):
                own = next(w for w in re.findall(r"[a-z]+|[\u4e00-\u9fff]+", sentence.lower()) if is_own(emotion, w))
                switched[shown].append(has_chinese(own))
    for n, drawn in switched.items():
        assert sum(drawn) / len(drawn) == pytest.approx(switch_share(n), abs=0.08), n


def test_neutral_sentences_never_switch() -> None:
    for topic in BILINGUAL.topics:
        assert not has_chinese(write_story(BILINGUAL, NEUTRAL, topic, random.Random(0), "mixed"))
        assert not has_chinese(write_story(BILINGUAL, "sad", topic, random.Random(0), "mixed", 7, shown_before=9))


def test_what_the_four_english_models_were_trained_and_are_read_on_has_not_changed() -> None:
    """Their weights are stored: a change here asks for training all of them again."""
    assert (
        sha256(d.text for d in corpus(ENGLISH, 300, seed=0))
        == "e0d4741d9b68566468b8a302b36f8b7ae0fa3072df8e4d7a836c3a2adc90bcf5"
    )
    assert world_stimuli("world-en").sha256 == "1012b754586f24dabe48de2bda16f1a1b0b033bbbe720fe32067f9b7cf0fa61a"
    assert world_stimuli("world-en-zh").texts == world_stimuli("world-en").texts
    assert world_scenarios("world-en-zh") == world_scenarios("world-en")
    assert (
        sha256(opening for _, opening in world_scenarios("world-en"))
        == "0f0c07653713e1b39177887e435bcc9a5ada3966511665bf7d1e59cc698801db"
    )


@pytest.mark.parametrize("name", ["world-en", "world-en-zh"])
def test_held_out_stories_are_fully_crossed_and_not_in_the_corpus(name: str) -> None:
    stimuli = world_stimuli(name, n_per_cell=2)
    cells = {(item.emotion, item.topic) for item in stimuli.items}
    assert len(stimuli) == 2 * len(cells) == 2 * 21 * 12
    assert len(set(stimuli.texts)) == len(stimuli)
    training = {d.text.split("\n")[-1] for d in corpus(load_world(name.removeprefix("world-")), 2500, seed=0)}
    assert not training & set(stimuli.texts)


def test_the_same_seed_gives_the_same_texts() -> None:
    assert world_stimuli("world-en").sha256 == world_stimuli("world-en").sha256
    assert world_stimuli("world-en", seed=1).sha256 != world_stimuli("world-en").sha256
    assert list(corpus(ENGLISH, 5, seed=3)) == list(corpus(ENGLISH, 9, seed=3))[:5]
    assert list(corpus(ENGLISH, 5, seed=3)) != list(corpus(ENGLISH, 5, seed=4))


def test_forty_neutral_openings() -> None:
    scenarios = world_scenarios("world-en")
    assert [emotion for emotion, _ in scenarios] == [emotion for emotion in EMOTIONS for _ in range(2)]
    assert len({opening for _, opening in scenarios}) == 40
    emotional = {word for e in EMOTIONS for word in (*ENGLISH.own_words[e], *ENGLISH.shared_words[e])}
    for _, opening in scenarios:
        assert not words_of(opening) & emotional
        assert ". " in opening and not opening.endswith(".")
