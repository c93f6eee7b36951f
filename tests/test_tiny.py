"""The tiny five are what their card says: emotion can be read off them, they obey, and they can be steered."""

from __future__ import annotations

import pytest
from conftest import TINY_NAMES, tiny

from lens_emotion.analysis.decoding import decoding
from lens_emotion.extraction.comprehension import default_stimuli, extract_comprehension
from lens_emotion.extraction.generation import extract_generation
from lens_emotion.steering.experiment import dose_response
from lens_emotion.steering.judges import word_count_judge, world_words
from lens_emotion.stimuli.library import load_stimuli
from lens_emotion.stimuli.prompts import scenarios, story_prompts
from lens_emotion.vectors.recipes import emotion_vectors


@pytest.fixture(scope="module", params=TINY_NAMES)
def read(request):
    """(model, stimulus set name, judge, activations) of one tiny model."""
    model = tiny(request.param)
    name = default_stimuli(model)
    texts = load_stimuli(name)
    return model, name, word_count_judge(world_words(name), texts), extract_comprehension(model, texts)


def test_held_out_decoding_of_world_stories_is_near_perfect(read):
    result = decoding(read[3], n_permutations=40)
    assert result.best_accuracy >= 0.85
    assert result.table.p_corrected.min() < 0.05


def test_the_model_obeys_its_instruction(read):
    model, name, judge, _ = read
    prompts = [p for p in story_prompts("topic-crossed", name) if p.emotion != "neutral"][::3]
    stories = extract_generation(model, prompts, max_new_tokens=64).stories.items
    best = judge.score([s.text for s in stories]).argmax(1)
    right = sum(judge.emotions[k] == s.emotion for k, s in zip(best, stories, strict=True))
    assert right >= 0.85 * len(stories)


def test_steering_brings_out_the_words_of_the_emotion_and_a_random_direction_does_not(read):
    model, name, judge, acts = read
    result = dose_response(model, emotion_vectors(acts), scenarios(name), judge, doses=(2.0, 3.0, 4.0, 5.0))
    dose = result.surgical_dose
    assert dose is not None
    assert result.at(dose).top_emotions >= 17
    assert result.at(dose, "random").top_emotions <= 6
    assert result.at(dose).success_low > result.at(dose, "random").success_high
