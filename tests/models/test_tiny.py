"""The tiny five are what their card says: emotion can be read off them, they obey, and they can be steered."""

from __future__ import annotations

import pytest
from conftest import TINY_NAMES, tiny

from lens_emotion.analysis.decoding import decoding
from lens_emotion.extraction.comprehension import default_stimuli, extract_comprehension
from lens_emotion.extraction.generation import extract_generation
from lens_emotion.steering.dose import Dose
from lens_emotion.steering.experiment import dose_response
from lens_emotion.steering.generate import Condition, generate_steered
from lens_emotion.steering.judges import word_count_judge, world_words
from lens_emotion.stimuli.library import load_stimuli
from lens_emotion.stimuli.prompts import scenarios, story_prompts
from lens_emotion.stimuli.world import load_world
from lens_emotion.vectors.recipes import emotion_vectors


def chinese_words(world, emotion):
    """The Chinese forms of the emotion's words, its own and those it shares."""
    return {world.translations[w] for w in (*world.own_words[emotion], *world.shared_words[emotion])}


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


def test_steering_tiny_qwen_along_english_vectors_brings_out_chinese_words_of_the_right_emotion():
    model, name = tiny("tiny-qwen"), "world-en-zh"
    world, tasks = load_world("en-zh"), scenarios(name)
    vectors = emotion_vectors(extract_comprehension(model, load_stimuli(name)))
    choices = {
        "unsteered": [None for _ in tasks],
        "random": [vectors.random(i, like=t.emotion) for i, t in enumerate(tasks)],
        "emotion": [vectors[t.emotion] for t in tasks],
    }
    right, wrong, han = {}, {}, {}
    for condition, chosen in choices.items():
        asked = [Condition(t.opening, v, Dose(3.0)) for t, v in zip(tasks, chosen, strict=True)]
        texts = [c.text for c in generate_steered(model, asked, [vectors.n_layers // 2], progress=False)]
        words = [chinese_words(world, t.emotion) for t in tasks]
        others = [set(world.translations.values()) - own for own in words]
        right[condition] = sum(any(w in text for w in own) for text, own in zip(texts, words, strict=True))
        wrong[condition] = sum(any(w in text for w in rest) for text, rest in zip(texts, others, strict=True))
        han[condition] = sum("\u4e00" <= c <= "\u9fff" for c in "".join(texts)) / len("".join(texts))
    assert right["emotion"] >= 20 and wrong["emotion"] <= 4
    assert max(right["unsteered"], right["random"]) <= 4
    assert han["unsteered"] < 0.03 and han["emotion"] > 5 * han["random"]
