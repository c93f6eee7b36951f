"""`steer` keeps what it has read for the next call, and asks through a chat template where that is wanted."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from conftest import tiny

from lens_emotion.extraction import kept
from lens_emotion.stimuli.sets import Stimulus, StimulusSet

TEXTS = StimulusSet("own", tuple(Stimulus(e, f"Anna was {e}.", e, "home") for e in ("calm", "sad")))


@pytest.fixture
def steer(called, monkeypatch, tmp_path, acts):
    """`lens-emotion steer tiny-llama calm` in a folder of its own; texts are read once only."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lens_emotion.models.loading.load_model", lambda *_, **__: tiny())
    for room in ("extraction.kept", "stimuli.library"):  # of the model's own hundreds only the name counts here
        monkeypatch.setattr(f"lens_emotion.{room}.load_stimuli", lambda _: TEXTS)
    reads = iter([acts])
    monkeypatch.setattr(kept, "extract_comprehension", lambda _: next(reads))
    return lambda *more: called("steer", "tiny-llama", "calm", "--tokens", "4", *more)


def test_a_second_call_reads_no_text_and_prints_the_same(steer, tmp_path):
    first, second = steer(), steer()
    assert first.code == second.code == 0, first.err + second.err
    assert "kept for the next time" in first.out and "of an earlier call" in second.out
    assert first.out.splitlines()[1:] == second.out.splitlines()[1:]
    assert [p.name for p in (tmp_path / kept.READINGS).iterdir()] == [kept.reading_name(tiny())]


def test_readings_are_found_by_all_that_they_depend_on(monkeypatch):
    from dataclasses import replace

    info = kept.describe(tiny())
    names = set()
    monkeypatch.setattr(kept, "load_stimuli", lambda name: SimpleNamespace(sha256=name))
    changes = ({}, {"fingerprint": "v2-other"}, {"dtype": "bfloat16"}, {"backend": "hooked"}, {"first_token": "none"},
               {"transformer_lens": "4.9"})  # fmt: skip
    for change in changes:
        monkeypatch.setattr(kept, "describe", lambda _, change=change: replace(info, **change))
        names.add(kept.reading_name(tiny()))
    assert len(names) == len(changes)


def test_chat_asks_through_the_template_and_says_where_there_is_none(steer, monkeypatch):
    done = steer("--chat")
    assert done.code == 2 and "tiny-llama has no chat template" in done.err and done.err.count("\n") == 1
    asked = []

    def write(model, conditions, *args, **options):
        asked.extend(c.prompt for c in conditions)
        raise StopIteration

    monkeypatch.setattr("lens_emotion.models.templates.has_chat_template", lambda _: True)
    monkeypatch.setattr("lens_emotion.models.templates.chat_prompt", lambda _, said: f"<user>{said}<model>")
    monkeypatch.setattr("lens_emotion.steering.generate.generate_steered", write)
    steer("--chat", "--prompt", "How are you?")
    assert asked == ["<user>How are you?<model>"] * 3
