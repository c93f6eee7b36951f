"""A judge says when it is the steered model, or was made from the very texts that made the vectors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import tiny
from test_judges import save_classifier

from lens_emotion.steering.experiment import dose_response
from lens_emotion.steering.judges import Judge, encoder_judge, held_out_accuracy, states_judge, word_count_judge
from lens_emotion.steering.regime_map import regime_map
from lens_emotion.steering.verification import verification
from lens_emotion.stimuli.prompts import scenarios
from lens_emotion.stimuli.sets import Stimulus, StimulusSet
from lens_emotion.study.claims.steering import causal

OWN = "not independent: it judges the model by its own states"
SAME = "trained on the texts that made the vectors"
CELLS = [(e, t, w) for e, w in (("happy", "glad"), ("sad", "sorry")) for t in ("letter", "sea", "train")]
TEXTS = StimulusSet("mine", tuple(Stimulus(f"{e}-{t}", f"{w} {t} day {w}", e, t) for e, t, w in CELLS))


def short(vectors, judge, **more):
    chosen = scenarios("world-en")[:4]
    return dose_response(tiny(), vectors, chosen, judge, doses=(3.0,), max_new_tokens=4, progress=False, **more)


@pytest.mark.parametrize("where", ["result", "summary", "claim", "verification", "map"])
def test_the_steered_models_own_states_are_said_not_to_be_independent(acts, vectors, where):
    judge = states_judge(tiny(), acts, 3)
    result = short(vectors, judge)
    assert not result.judge_independent
    said = {
        "result": lambda: result.judge,
        "summary": result.summary,
        "claim": lambda: causal("tiny-llama", result).sentence + result.judge,
        "verification": lambda: verification({"x": result}).table.to_string() if verification({"x": result}) else OWN,
        "map": lambda: regime_map(
            tiny(),
            vectors,
            scenarios("world-en")[:2],
            judge,
            layers=[3],
            doses=(3.0,),
            max_new_tokens=4,
            progress=False,
        ).summary(),
    }[where]()
    assert OWN in said


def test_another_models_states_are_independent_of_this_model_only(acts, vectors):
    judge = states_judge(tiny(), acts, 3)
    other = vectors.header.with_(fingerprint="f" * 64)
    assert judge.beside(other).independent and OWN not in str(judge.beside(other))
    assert not judge.beside(vectors.header).independent and OWN in str(judge.beside(vectors.header))
    assert not states_judge(tiny(), acts, 3, independent=False).beside(other).independent


@pytest.mark.parametrize(
    ("stimuli", "sha256", "same"),
    [
        ("mine", TEXTS.sha256, True),
        ("renamed", TEXTS.sha256, True),
        ("mine", "of a part of the set", True),
        ("others", "0", False),
        ("stories", "1", False),
        ("", "", False),
    ],
)
def test_an_encoder_says_if_it_was_made_from_the_texts_of_the_vectors(tmp_path, vectors, stimuli, sha256, same):
    save_classifier(tmp_path, ["a", "b"], base_only=True)
    judge = encoder_judge(tmp_path, TEXTS)
    header = vectors.header.with_(stimuli=stimuli, stimuli_sha256=sha256)
    assert judge.independent and judge.beside(header).independent
    assert (SAME in str(judge.beside(header))) == same
    assert judge.accuracy is None or f"accuracy {judge.accuracy:.2f}" in str(judge.beside(header))


def test_steering_results_print_it_beside_the_accuracy(vectors):
    judge = word_count_judge({e: [e] for e in vectors.emotions})
    made = replace(judge, trained_on=(vectors.header.stimuli, ""), accuracy=0.5, n_labelled=100)
    result = short(vectors, made)
    assert SAME in result.judge and SAME in result.summary() and "accuracy 0.50" in result.judge
    assert result.judge_independent
    assert SAME not in short(vectors, replace(made, trained_on=("others", "x"))).judge
    assert short(vectors, judge).judge == str(judge)


def test_accuracy_is_held_out_by_topic_and_by_copy():
    rng = np.random.default_rng(0)
    labels = [f"e{k}" for k in range(4)] * 8
    topics = np.repeat([f"t{i}" for i in range(8)], 4).tolist()
    texts = [" ".join(f"w{n}" for n in rng.integers(0, 999, 14)) for _ in labels]
    rows = rng.standard_normal((32, 400))
    for topic in (1, 3, 5, 7):  # every second topic repeats the one before
        at, of = np.arange(4) + 4 * topic, np.arange(4) + 4 * (topic - 1)
        rows[at] = rows[of]
        for i, j in zip(at, of, strict=True):
            texts[i] = texts[j]
    assert held_out_accuracy(rows, labels, topics, [f"text {i}" for i in range(32)]) > 0.7
    assert held_out_accuracy(rows, labels, topics, texts) < 0.5
    assert held_out_accuracy(rows, labels, ["one"] * 32, [f"text {i}" for i in range(32)]) is None


def test_a_judge_without_a_past_is_as_it_was(vectors):
    judge = Judge("x", ("a", "b"), lambda texts: np.full((len(texts), 2), 0.5), 0.4)
    assert judge.beside(vectors.header) == judge and str(judge) == "x (accuracy 0.40, chance 0.50)"
