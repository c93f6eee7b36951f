"""The further neutral passages: as many on each topic, as long as the passages, and without any emotion's words."""

from __future__ import annotations

from collections import Counter
from importlib import resources
from pathlib import Path

import pytest

from lens_emotion.stimuli.copies import copies
from lens_emotion.stimuli.emotions import EMOTIONS, NEUTRAL
from lens_emotion.stimuli.library import passages_file
from lens_emotion.stimuli.lint import length_of, lint, opening, stem_pattern
from lens_emotion.stimuli.sets import StimulusFile, StimulusSet, read_stimulus_file


@pytest.fixture(scope="module")
def neutral() -> StimulusFile:
    return read_stimulus_file(Path(str(resources.files("lens_emotion.stimuli").joinpath("data/neutral.json"))))


def test_there_are_four_a_topic_in_both_persons(neutral):
    items = neutral.stimuli.items
    assert {s.emotion for s in items} == {NEUTRAL}
    topics = passages_file().stimuli.topics
    assert Counter((s.topic, s.person) for s in items) == {(t, p): 2 for t in topics for p in ("first", "third")}
    assert {s.text_id for s in items} == {f"neutral-{t}-{k}" for t in topics for k in (2, 3, 4, 5)}
    assert len(items) == 48


def test_no_word_of_any_emotion_is_in_them(neutral):
    pattern = stem_pattern((*EMOTIONS, *(stem for stems in passages_file().forbidden.values() for stem in stems)))
    assert [(s.text_id, found.group()) for s in neutral.stimuli.items if (found := pattern.search(s.text))] == []


def test_they_are_as_long_as_the_passages(neutral):
    known = [length_of(s) for s in passages_file().stimuli.items]
    assert {s.text_id for s in neutral.stimuli.items if not min(known) <= length_of(s) <= max(known)} == set()


def test_they_are_no_copies_and_pass_the_linter_with_the_passages(neutral):
    items = (*passages_file().stimuli.items, *neutral.stimuli.items)
    assert len(set(copies([s.text for s in items]).tolist())) == len(items)
    assert len({opening(s.text, 4) for s in items if s.emotion == NEUTRAL}) == 60
    assert not lint(neutral)
    assert not lint(StimulusFile(StimulusSet("all", items), passages_file().forbidden))
