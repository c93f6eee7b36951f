"""A set behaves as a sequence, is short at a prompt, and says what it does not suffice for."""

from __future__ import annotations

import pytest

import lens_emotion as le
from lens_emotion.errors import StimulusError

SET = le.load_stimuli("passages")


def test_a_set_is_a_sequence_of_its_texts():
    assert [s.text for s in SET] == SET.texts and len(SET) == len(list(SET))
    assert SET[0] == SET.items[0] and SET[-1] == SET.items[-1] and SET[3] in SET
    assert SET["calm-letter"].emotion == "calm"
    few = SET[:12]
    assert isinstance(few, le.StimulusSet) and few.emotions == ("happy",) and few.name == SET.name
    with pytest.raises(StimulusError, match=r"no text with the id 'calm'; \.only\('calm'\)"):
        SET["calm"]


def test_two_sets_make_one():
    mine = le.stimuli_from({"calm": ["a b", "c d"], "angry": ["e f"]})
    both = mine + SET.only("neutral")
    assert len(both) == 15 and both.emotions == ("calm", "angry") and not any("neutral" in x for x in both.limits)
    with pytest.raises(StimulusError, match="occurs twice, and 2 other ids too"):
        mine + mine


def test_a_set_is_short_at_a_prompt_and_a_table_in_a_notebook():
    assert repr(SET) == "StimulusSet('passages': 252 texts, 20 emotions, 12 topics, 12 neutral texts)"
    assert "<table" in SET._repr_html_() and len(SET._repr_html_()) < 60_000
    assert list(SET.table.columns) == ["text_id", "emotion", "topic", "text", "person", "language"]


@pytest.mark.parametrize("items", [["a text"], [("a", "b")], [None], "text"])
def test_items_that_are_no_stimuli_and_ids_that_stand_twice_are_refused(untyped, items):
    with pytest.raises(StimulusError, match=r"le\.stimuli_from"):
        le.StimulusSet("mine", items)
    with pytest.raises(StimulusError, match="the id 'a' occurs twice"):
        le.StimulusSet("mine", [le.Stimulus("a", "b", "c", "d")] * 2)


CROSSED = [(e, t) for e in ("calm", "angry") for t in ("a", "b")]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([*CROSSED, ("neutral", "a")], []),
        (CROSSED, ["No neutral texts", "'centred' works", "le.load_stimuli().only('neutral')"]),
        ([(e, "a") for e, _ in CROSSED] + [("neutral", "b")], ["One topic", "vectors, steering", "Give topic="]),
        ([(e, f"{i}") for i, (e, _) in enumerate(CROSSED)] + [("neutral", "b")], ["No two texts share a topic"]),
        ([(e, "a") for e, _ in CROSSED], ["One topic", "No neutral texts"]),
        ([("calm", "a"), ("calm", "b")], ["'calm' alone", "at least two emotions"]),
        ([("neutral", "a")], []),
    ],
)
def test_a_set_says_what_it_does_not_suffice_for(labels, words):
    texts = [f"Text number {i}." for i in range(len(labels))]
    found = le.stimuli_from(texts, [e for e, _ in labels], [t for _, t in labels])
    assert all(word in found.summary() for word in words) and bool(found.limits) == bool(words)
    assert (".limits" in repr(found)) == bool(words)
    assert le.lint(found).summary().endswith(found.summary())


def test_lint_takes_any_shape_and_says_faults_in_a_table():
    rows = [
        {"text": f"{w} day in the park.", "emotion": e, "topic": "a"} for w, e in (("A calm", "calm"), ("One", "sad"))
    ]
    found = le.lint(rows, le.stimuli.lint.LintRules(min_words=3), forbidden={"sad": ["day$"]})
    assert [f.kind for f in found] == list(found.table["kind"]) == ["leaked word", "leaked word"]
    assert found.summary().startswith("2 faults (2 leaked word)") and not le.lint("passages")
