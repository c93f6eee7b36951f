"""The stimuli are what they claim, and the linter finds what it should."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from lens_emotion.errors import StimulusError, UnknownEmotionError
from lens_emotion.stimuli.emotions import EMOTIONS, NEUTRAL, valence_arousal
from lens_emotion.stimuli.library import load_stimuli, passages_file
from lens_emotion.stimuli.lint import LintRules, lint, stem_pattern
from lens_emotion.stimuli.prompts import scenarios, story_prompts
from lens_emotion.stimuli.sets import Stimulus, StimulusFile, StimulusSet, read_stimulus_file


def test_passages_are_fully_crossed_and_clean():
    file = passages_file()
    assert file.stimuli.emotions == EMOTIONS
    assert len(file.stimuli.topics) == 12
    assert len(file.stimuli) == 21 * 12
    assert not lint(file)


def test_passages_alternate_first_and_third_person():
    for emotion in (*EMOTIONS, NEUTRAL):
        persons = [s.person for s in passages_file().stimuli.items if s.emotion == emotion]
        assert persons.count("first") == persons.count("third") == 6


def changed(index, **fields):
    file = passages_file()
    items = list(file.stimuli.items)
    items[index] = replace(items[index], **fields)
    return StimulusFile(StimulusSet("changed", tuple(items)), file.forbidden)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"text": passages_file().stimuli.items[0].text + " She was so happily surprised."}, "leaked word"),
        ({"topic": "moon"}, "missing cell"),
        ({"text": passages_file().stimuli.items[5].text}, "duplicate opening"),
        ({"text": passages_file().stimuli.items[30].text.upper()}, "copy"),
        ({"text": passages_file().stimuli.items[30].text + " And then it was over, as it had to be."}, "copy"),
        ({"text": "Too short."}, "length"),
    ],
)
def test_linter_finds_a_planted_fault(fields, kind):
    assert kind in {f.kind for f in lint(changed(0, **fields))}


def test_linter_finds_length_skew():
    file = passages_file()
    items = tuple(
        replace(s, text=s.text + " and on and on it went for a good while") if s.emotion == "calm" else s
        for s in file.stimuli.items
    )
    found = lint(StimulusFile(StimulusSet("long", items), {}), LintRules(max_words=200, max_skew=1.1))
    assert [f.kind for f in found] == ["length skew"]


def test_stems_match_word_beginnings_and_whole_words_only():
    pattern = stem_pattern(("happ", "sad$"))
    assert pattern.search("Unhappy") is None
    assert pattern.search("so happily")
    assert pattern.search("a sad day")
    assert pattern.search("a saddle") is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not valid JSON"),
        ("[]", "items"),
        ('{"items": []}', "no items"),
        ('{"items": [{"emotion": "happy", "topic": "x"}]}', "item 1"),
        ('{"items": [{"emotion": "happy", "topic": "x", "text": " "}]}', "text"),
        ('{"items": [3]}', "item 1"),
        ('{"items": [{"id": "a", "emotion": "e", "topic": "t", "text": "x"}, '
         '{"id": "a", "emotion": "e", "topic": "t", "text": "y"}]}', "twice"),
    ],
)  # fmt: skip
def test_faulty_files_are_refused_with_the_place(tmp_path, content, words):
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(StimulusError, match=words) as caught:
        read_stimulus_file(path)
    assert "mine.json" in str(caught.value)


def test_missing_file_and_unknown_set_are_named(tmp_path):
    with pytest.raises(StimulusError, match="no file"):
        read_stimulus_file(tmp_path / "none.json")
    with pytest.raises(StimulusError, match="passages"):
        load_stimuli("poems")


def test_a_users_set_survives_the_disk(tmp_path):
    mine = StimulusSet("mine", (Stimulus("a", "快乐的一天", "happy", "day", "third", "zh"),))
    assert read_stimulus_file(mine.save(tmp_path / "m.json")).stimuli == mine
    assert json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))["items"][0]["text"] == "快乐的一天"


def test_the_hash_changes_with_any_text_or_label():
    base = passages_file().stimuli
    assert changed(3, text="x").stimuli.sha256 != base.sha256
    assert changed(3, emotion="sad").stimuli.sha256 != base.sha256
    assert StimulusSet("other name", base.items).sha256 == base.sha256


def test_only_keeps_what_was_asked_and_refuses_what_is_not_there():
    few = load_stimuli("passages").only(("happy", "sad"), ("letter",))
    assert len(few) == 2
    with pytest.raises(UnknownEmotionError, match="topic 'moon'"):
        load_stimuli("passages").only(topics=["moon"])


@pytest.mark.parametrize("stimuli", ["passages", "world-en", "world-en-zh"])
def test_prompts_follow_the_presets(stimuli):
    jeong, crossed = story_prompts("jeong", stimuli), story_prompts("topic-crossed", stimuli)
    assert len(jeong) == 21 * 10
    assert len(crossed) == 21 * 12
    for emotion in EMOTIONS:
        mine = [p for p in jeong if p.emotion == emotion]
        assert len({p.text for p in mine}) == 5
        assert all(emotion in p.text for p in mine)
    assert len({p.prompt_id for p in crossed}) == len(crossed)
    for p in crossed:
        if p.emotion == NEUTRAL:
            assert not any(f" {e} " in f" {p.text} " for e in EMOTIONS)
    with pytest.raises(StimulusError, match="preset"):
        story_prompts("random", stimuli)


@pytest.mark.parametrize("stimuli", ["passages", "world-en", "world-en-zh"])
def test_forty_scenarios_with_distinct_neutral_openings(stimuli):
    found = scenarios(stimuli)
    assert len(found) == 40
    assert [s.emotion for s in found].count("calm") == 2
    assert len({s.opening for s in found}) == 40
    for s in found:
        assert not any(e in s.opening.lower().split() for e in EMOTIONS)


def test_norms_leave_exasperated_out():
    norms = valence_arousal()
    assert set(norms) == set(EMOTIONS)
    assert norms["exasperated"].valence is None
    assert norms["happy"].valence == 8.47
    assert norms["calm"].arousal == 1.67
