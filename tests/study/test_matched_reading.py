"""Readings that claims are controlled by: more neutral texts, and both sides of a comparison over as many tokens."""

import numpy as np
import pytest
import torch
from conftest import tiny

import lens_emotion as le
from lens_emotion.errors import StimulusError
from lens_emotion.extraction.comprehension import read_stimuli
from lens_emotion.extraction.pooling import story_mean
from lens_emotion.models.access import describe
from lens_emotion.run.config import CONTROLS, StudyConfig
from lens_emotion.run.store import Store
from lens_emotion.stimuli.library import load_stimuli, more_neutral
from lens_emotion.stimuli.sets import Stimulus, StimulusSet
from lens_emotion.study import steps

WORLD = load_stimuli("world-en")
SET = StimulusSet("world-en", tuple(i for i in WORLD.items if i.emotion in ("happy", "sad", "neutral")))


def test_a_mean_that_stops_takes_the_tokens_between_its_ends():
    mask = torch.tensor([[0, 1, 1, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1, 1]]).bool()
    weights = story_mean(1, 4).weights(mask)
    assert weights[0].tolist() == pytest.approx([0, 0, 1 / 3, 0, 1 / 3, 1 / 3, 0])
    assert weights[1].tolist() == pytest.approx([0, 0, 0, 0, 0, 1 / 2, 1 / 2])
    assert story_mean(8).name == "story_mean(start=8)" and story_mean(8, 60).name == "story_mean(start=8, stop=60)"
    with pytest.raises(StimulusError, match="stop above 8"):
        story_mean(8, 8)


@pytest.mark.parametrize(
    ("sizes", "target", "length"),
    [([10, 10], 4.4, 4), ([2, 10, 10], 6, 8), ([3, 5], 4, 5), ([5, 7], 9, 7), ([1], 1, 1)],
)
def test_texts_are_cut_where_they_hold_as_many_tokens_on_average(sizes, target, length):
    assert steps.as_long(sizes, target) == length
    held = np.mean([min(s, length) for s in sizes])
    assert abs(held - target) <= 0.5 or length == max(sizes)


def test_more_neutral_texts_are_of_the_kind_of_the_set_and_none_of_it():
    for name, n in (("passages", 48), ("world-en", 48)):
        texts = load_stimuli(name)
        found = more_neutral(texts)
        assert len(found) >= n and {i.emotion for i in found.items} == {"neutral"}
        assert not set(found.texts) & set(texts.texts)
    german = StimulusSet("mine", (Stimulus("a", "Er ging nach Hause.", "sad", "t", language="de"),))
    assert len(more_neutral(german)) == 0


def _run(tmp_path, model, story, texts=SET):
    info = describe(model)
    store = Store.open(tmp_path).model("tiny-llama")
    identity = steps.Identity("f", "bridge", "float32", "cpu")
    (store.root / "comprehension").mkdir(parents=True)
    story.save(store.root / "comprehension" / "story_mean.safetensors")
    return steps.ModelRun(model, info, identity, texts, StudyConfig(models=("tiny-llama",)), store, steps.silent)


def _told(model, run, words):
    """Stories of so many words, as if the model had written them."""
    items = [
        Stimulus(f"{e}/{t}", " ".join(f"Finn {e} the pot and went on".split() * 20)[: 6 * words], e, t)
        for e in ("happy", "sad")
        for t in ("cooking", "school", "garden")
    ]
    stories = StimulusSet("stories", tuple(items))
    (run.store.root / "generation").mkdir()
    (run.store.root / "generation" / steps.STORIES).write_text(str(words))
    bare = read_stimuli(model, stories, [story_mean(8)], progress=False)[0]
    return steps.Written(stories, bare, bare)


@pytest.mark.parametrize(("words", "cut"), [(60, "stories"), (8, "passages")])
def test_the_longer_side_is_read_over_as_many_tokens_as_the_other(tmp_path, words, cut):
    model = tiny()
    story = le.extract_comprehension(model, SET, progress=False)
    run = _run(tmp_path, model, story)
    written = _told(model, run, words)
    found = steps.controls(run, story, written)
    assert (found.stories is None) == (cut == "passages") and (found.passages is None) == (cut == "stories")
    sides = {"stories": found.stories or written.reread, "passages": found.passages or story}
    tokens = {k: np.mean([r.n_pooled for r in v.emotional.records]) for k, v in sides.items()}
    assert tokens["stories"] == pytest.approx(tokens["passages"], abs=1)
    before = {"stories": written.reread, "passages": story}[cut]
    assert np.mean([r.n_pooled for r in before.emotional.records]) > 1.2 * tokens[cut]
    assert found.plain is not None and not found.plain.emotional.records
    again = steps.controls(run, story, steps.Written(written.stories, None, written.reread))
    assert torch.equal(again.plain.values, found.plain.values)  # read back
    assert steps.CONTROLS == CONTROLS and (run.store.root / CONTROLS / "step.json").is_file()


def test_a_model_that_wrote_nothing_has_neutral_texts_only(tmp_path):
    model = tiny()
    story = le.extract_comprehension(model, SET, progress=False)
    for name, written in (("none", None), ("empty", steps.Written(StimulusSet("stories", ()), None, None, "nothing"))):
        run = _run(tmp_path / name, model, story)
        (run.store.root / "generation").mkdir()
        (run.store.root / "generation" / steps.STORIES).write_text("{}")
        found = steps.controls(run, story, written)
        assert found.plain is not None and found.stories is None and found.passages is None


def test_runs_of_before_have_no_controls(tmp_path):
    found = steps.load_controls(tmp_path / "controls")
    assert found.plain is found.stories is found.passages is None
