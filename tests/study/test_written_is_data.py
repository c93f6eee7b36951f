"""What a model writes is data: a study goes on whatever it is, says what is missing, and reads all of it back."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny
from typer.testing import CliRunner

from lens_emotion.cli.app import app
from lens_emotion.errors import ArtifactError, StimulusError
from lens_emotion.extraction import generation
from lens_emotion.extraction.generation import NoStoriesError, extract_generation
from lens_emotion.report.build import build_report
from lens_emotion.run.config import StudyConfig
from lens_emotion.steering import generate as steered
from lens_emotion.stimuli.prompts import story_prompts
from lens_emotion.stimuli.sets import (
    Stimulus,
    StimulusSet,
    has_text,
    read_stimulus_file,
    read_written,
    well_formed,
    write_written,
)
from lens_emotion.study import steps
from lens_emotion.study.across import across
from lens_emotion.study.pipeline import run_study
from lens_emotion.study.stored import read_run
from lens_emotion.study.verdict import NOT_TESTABLE

EMPTY = ["", " ", "\n \n\t", "\x00\x00", "\u200b", "\ufffd\ufffd", "\x1b\x07", "\ud800"]
ODD = ["a\x00b", "\x1b[31mred\x1b[0m", "half \ud800 pair", "\ufffdlost", "la la " * 90, "x", "愉快", "</script>"]
CONFIG = StudyConfig(
    models=("tiny-llama",), n_permutations=20, doses=(2.0,), story_tokens=24, jeong_tokens=24, steered_tokens=8
)
PROMPTS = [p for p in story_prompts("topic-crossed", "world-en") if p.emotion in ("happy", "sad", "neutral")]


pytestmark = pytest.mark.slow


@pytest.mark.parametrize("text", EMPTY)
def test_texts_that_hold_nothing(text):
    assert not has_text(text) and not has_text(well_formed(text))


@pytest.mark.parametrize("text", ODD)
def test_texts_that_hold_something(text):
    assert has_text(text)
    well_formed(text).encode()


def test_what_was_written_is_read_back_to_the_letter_and_a_users_file_with_an_empty_text_is_refused(tmp_path):
    items = [Stimulus(f"s{i}", well_formed(text), "happy", "t") for i, text in enumerate(EMPTY + ODD)]
    path = write_written(tmp_path / "stories.json", StimulusSet("stories", tuple(items)), "why")
    assert read_written(path) == (StimulusSet("stories", tuple(items)), "why")
    with pytest.raises(StimulusError, match=r"item 1, text: got '', which is empty"):
        read_stimulus_file(path)
    for damage in ("", "[]", '{"name": 1}', '{"name": "a", "items": [{"id": "x"}]}'):
        path.write_text(damage, encoding="utf-8")
        with pytest.raises(ArtifactError, match="again"):
            read_written(path)


def instead(monkeypatch, room, texts):
    """Let every generation of a room write these texts: index of the text -> what stands in its place, or None."""
    plain, written = room.generate_tokens, [0]

    def generate(model, prompts, limit, *args, **kwargs):
        found = plain(model, prompts, limit, *args, **kwargs)
        for row, _ in enumerate(found):
            written[0] += 1
            if (text := texts(written[0])) is not None:
                found[row] = ids_of(text)[:limit]
        return found

    monkeypatch.setattr(room, "generate_tokens", generate)


def ids_of(text):
    tokenizer = tiny().tokenizer
    return [tokenizer.eos_token_id] * 3 if text == "</s>" else tokenizer(text, add_special_tokens=False).input_ids


def test_stories_without_text_are_kept_counted_and_left_out_of_the_readings(monkeypatch):
    instead(monkeypatch, generation, lambda i: {3: "", 5: "\n \n" * 9, 7: "</s>", 9: "Anna"}.get(i))
    found = extract_generation(tiny(), PROMPTS, max_new_tokens=24)
    assert len(found.stories) == len(PROMPTS) == len(found.conditioned) + 4
    notes = "; ".join(found.conditioned.header.notes)
    assert "3 of 36 stories hold no text" in notes and "1 of 36 stories had fewer than 10 tokens" in notes
    counts = Counter(r.emotion for r in found.conditioned.records)
    assert "unbalanced" in notes and f"from {min(counts.values())} stories" in notes
    assert found.conditioned.records == found.reread.records or len(found.reread) == len(found.conditioned)
    assert np.isfinite(found.conditioned.values).all() and np.isfinite(found.reread.values).all()


def test_special_tokens_are_no_text_however_many(monkeypatch):
    """Long enough by their number, and nothing to pool: this ended a study with 'text too short'."""
    tokenizer = tiny().tokenizer
    plain = generation.generate_tokens
    special = [tokenizer.eos_token_id] * 20 + ids_of("Anna")[:4]

    def generate(*args, **kwargs):
        return [special, *plain(*args, **kwargs)[1:]]

    monkeypatch.setattr(generation, "generate_tokens", generate)
    found = extract_generation(tiny(), PROMPTS, max_new_tokens=24, capture="reread")
    assert any("had fewer than" in note for note in found.conditioned.header.notes)


@pytest.mark.parametrize("text", ["", "\n", "Anna", "</s>"])
def test_stories_of_no_two_emotions_raise_and_carry_what_was_written(monkeypatch, text):
    instead(monkeypatch, generation, lambda i: text)
    with pytest.raises(NoStoriesError, match="0 of 36 stories are long enough") as raised:
        extract_generation(tiny(), PROMPTS, max_new_tokens=24)
    assert len(raised.value.stories) == len(PROMPTS)


KINDS = {  # what stands in a story's place, and whether enough is left to test
    "some": (lambda i: EMPTY[i % 4] if i % 6 == 0 else None, True),
    "most": (lambda i: ["", "\n", "Anna"][i % 3] if i % 40 else None, False),
    "all": (lambda i: "\n \n", False),
}


@pytest.mark.parametrize("kind", [pytest.param(k, marks=[pytest.mark.long] * (k == "some")) for k in KINDS])
def test_a_study_goes_on_and_says_what_is_missing(kind, tmp_path, monkeypatch):
    texts, enough = KINDS[kind]
    instead(monkeypatch, generation, texts)
    instead(monkeypatch, steered, lambda i: [None, *EMPTY[:4], *ODD[:2]][i % 7] if kind != "all" else "\n")
    run = run_study(CONFIG, tmp_path, "pytest")
    page = build_report(run)[0].read_text(encoding="utf-8")
    (model,) = run.models
    c1 = next(c for c in model.claims if c.code == "C1")
    if enough:
        assert not model.lacking and c1.verdict != NOT_TESTABLE
        assert "stories hold no text" in page and "unbalanced" in page
    else:
        assert set(model.lacking) == {"generation", "generation_jeong"} and not model.generation
        assert c1.verdict == NOT_TESTABLE and "stories" in c1.reason
        assert "not testable" in page and model.table.summary.str.startswith("not testable").sum() == 2
    assert (model.steering.table.no_text > 0).all() and "steered texts hold no text" in model.steering.summary()
    stories = json.loads((tmp_path / "tiny-llama" / "generation" / "stories.json").read_text(encoding="utf-8"))
    assert len(stories["items"]) == 252 and any(not has_text(item["text"]) for item in stories["items"])
    for step in ("extract_poolings", "extract_generation", "dose_response"):
        monkeypatch.setattr(steps, step, lambda *a, **k: pytest.fail("a finished step ran again"))
    again = run_study(CONFIG, tmp_path, "pytest").models[0]
    stored = read_run(tmp_path)
    assert again.lacking == stored.models[0].study.lacking == model.lacking
    assert [c.verdict for c in again.claims] == [c.verdict for c in model.claims]
    across(stored.models, claims=stored.claims, shown=stored.models[0])


@pytest.mark.long
def test_the_command_line_ends_well(tmp_path, monkeypatch):
    instead(monkeypatch, generation, lambda i: "\n \n")
    asked = ["study", "tiny-llama", "--out", str(tmp_path / "run"), "--permutations", "20", "--story-tokens", "16"]
    ended = CliRunner().invoke(app, [*asked, "--no-steering"])
    assert ended.exit_code == 0, ended.output
    assert "not testable" in ended.output and "252 hold no text" in " ".join(ended.output.split())
    assert Path(tmp_path / "run" / "report.html").exists()
