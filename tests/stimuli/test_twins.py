"""The passages' twins: the same event, of the same length and with the same nouns, and no word of any emotion."""

from __future__ import annotations

import pytest
import regex
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from lens_emotion.stimuli.copies import copies
from lens_emotion.stimuli.emotions import EMOTIONS, NEUTRAL
from lens_emotion.stimuli.lexicon import lexicon
from lens_emotion.stimuli.library import load_stimuli, passages_file, twins_of
from lens_emotion.stimuli.lint import length_of, stem_pattern

TEXTS = load_stimuli("twins")
ORIGINAL = {f"{s.text_id}-twin": s for s in passages_file().stimuli.items}


def content(text: str) -> set[str]:
    return {w for w in regex.findall(r"\p{L}+", text.lower()) if w not in ENGLISH_STOP_WORDS and len(w) > 2}


def faults(text: str, original: str) -> list[str]:
    """What is wrong with a twin."""
    every = (*EMOTIONS, *(stem for stems in passages_file().forbidden.values() for stem in stems))
    found = [f"says {m.group()!r}" for m in [stem_pattern(every).search(text)] if m]
    found += [f"names {e}" for e in sorted(lexicon("en").named_in(text))]
    n, of = len(text.split()), len(original.split())
    found += [f"{n} words for {of}"] if abs(n - of) > 0.2 * of else []
    shared = len(content(text) & content(original)) / len(content(original))
    return found + ([f"shares {shared:.0%} of the content words"] if shared < 0.33 else [])


def test_every_emotional_passage_has_its_twin_and_nothing_else_has():
    assert set(ORIGINAL) - {s.text_id for s in TEXTS} == {i for i, s in ORIGINAL.items() if s.emotion == NEUTRAL}
    assert len(TEXTS) == 240 and len(set(TEXTS.texts)) == 240
    for s in TEXTS:
        of = ORIGINAL[s.text_id]
        assert (s.emotion, s.topic, s.person) == (of.emotion, of.topic, of.person)


def test_no_twin_has_a_fault():
    assert {s.text_id: f for s in TEXTS if (f := faults(s.text, ORIGINAL[s.text_id].text))} == {}


@pytest.mark.parametrize("change", [lambda t: t + " She was happy.", lambda t: t[:120], lambda t: "word " * 60])
def test_a_bad_twin_is_found(change):
    s = TEXTS[0]
    assert faults(change(s.text), ORIGINAL[s.text_id].text)


def test_on_average_they_are_as_long_and_no_two_are_copies():
    mine = sum(map(length_of, TEXTS)) / len(TEXTS)
    theirs = sum(length_of(ORIGINAL[s.text_id]) for s in TEXTS) / len(TEXTS)
    assert abs(mine - theirs) < 1
    assert len(set(copies(TEXTS.texts).tolist())) == len(TEXTS)


def test_a_set_has_the_twins_of_its_own_texts_alone():
    passages = load_stimuli("passages")
    assert len(twins_of(passages)) == 240
    assert {s.emotion for s in twins_of(passages.only(["happy", "sad"]))} == {"happy", "sad"}
    assert not twins_of(load_stimuli("world-en", per_cell=1))
