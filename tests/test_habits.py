"""Mistakes of habit are answered with the right way, before any work."""

from __future__ import annotations

import inspect
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import tiny

import lens_emotion as le
from lens_emotion.errors import (
    AnalysisError,
    ArgumentError,
    ArtifactError,
    DoseError,
    GenerationError,
    LensEmotionError,
    StimulusError,
    UnsupportedModelError,
)
from lens_emotion.run.config import ConfigError
from lens_emotion.steering.dose import Dose
from lens_emotion.steering.generate import Condition


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: le.steer(None, None, layer=3), r"steer\(\) has no layer=; did you mean layers=\?"),
        (lambda: le.ablate(None, None, layer=3), "did you mean layers="),
        (lambda: le.steer(None, None, strength=3), "did you mean dose="),
        (lambda: le.steer(None, None, multiplier=3), "did you mean dose="),
        (lambda: le.similarity(None, layers=3), "did you mean layer="),
        (lambda: le.extract_comprehension(None, df=3), "did you mean stimuli="),
        (lambda: le.extract_comprehension(None, emotion="calm"), "did you mean emotions="),
        (lambda: le.separation(None, n_perm=3), "did you mean n_permutations="),
        (lambda: le.separation(None, random_state=3), "did you mean seed="),
        (lambda: le.run_study(models=["tiny-llama"]), "did you mean config="),
        (lambda: le.extract_comprehension(None, ["a"], labels=["sad"]), r"le\.stimuli_from\(texts, labels, topics\)"),
        (lambda: le.load_stimuli(xyz=1), r"has no xyz=; It takes name, per_cell"),
    ],
)
def test_an_argument_by_another_name_is_answered_with_its_own(call, words):
    with pytest.raises(ArgumentError, match=words):
        call()


WRONG = {
    "PooledActivations": "give PooledActivations: le.extract_comprehension",
    "EmotionVectors": r"give EmotionVectors: le\.emotion_vectors\(acts\)",
    "EmotionVector": "give EmotionVector: a set's member",
    "DoseResponse": r"le\.dose_response\(",
    "Judge": "le.word_count_judge",
    "Model": "is no model of TransformerLens; ",
    "StimulusSet": r"le\.stimuli_from\(data\)",
    "str | Path": "give a path",
    "pd.DataFrame": "give a pandas DataFrame",
}
PLACES = [
    (name, parameter.name, str(parameter.annotation))
    for name in sorted(set(le.__all__) - {"plots", "__version__"})
    if hasattr(public := getattr(le, name), "__wrapped__")
    for parameter in inspect.signature(public).parameters.values()
    if str(parameter.annotation) in WRONG
]


@pytest.mark.parametrize(("name", "argument", "kind"), PLACES)
def test_what_is_of_another_kind_is_said_before_anything_else(name, argument, kind):
    for wrong in (None, 3, object()):
        with pytest.raises((ArgumentError, UnsupportedModelError), match=WRONG[kind]) as caught:
            getattr(le, name)(**{argument: wrong})
        assert "\n" not in str(caught.value)


def test_kinds_that_are_lists_and_functions(untyped):
    for call in (
        lambda: le.rsa_many(["tiny-llama"]),
        lambda: le.compare_models(3),
        lambda: le.by_architecture(["x"]),
        lambda: le.word_count_judge(["calm"]),
        lambda: le.as_judge("joy", ["calm"]),
    ):
        with pytest.raises(ArgumentError, match="; give "):
            call()
    with pytest.raises(AnalysisError, match=r"numbers \[n_units, n_layers\]"):
        le.two_lines("curve")
    assert len(PLACES) > 50


def test_no_is_said_only_where_the_permutations_could_have_said_yes(acts):
    for found in (
        le.separation(acts, n_permutations=18),
        le.decoding(acts, n_permutations=3),
        le.layer_sweep(acts, n_permutations=5),
        le.reliability(acts, n_splits=2, n_permutations=5),
    ):
        assert "not testable with" in found.summary() and "19 are needed" in found.summary()
        assert "not distinguishable from noise" not in found.summary()
    assert "not testable" not in le.decoding(acts, n_permutations=19).summary()


@pytest.mark.parametrize("call", [lambda v: v + 1, lambda v: v - np.ones(64), lambda v: v + "calm"])
def test_what_does_not_add_up(vectors, call, untyped):
    with pytest.raises(ArtifactError, match="do not add up; give two vectors"):
        call(vectors["calm"])


@pytest.mark.parametrize(
    ("call", "meant"), [(lambda: le.separtion, "separation"), (lambda: le.plots.similarty, "similarity")]
)
def test_a_name_that_is_none_is_answered_with_the_one_like_it(call, meant):
    with pytest.raises(AttributeError, match=f"did you mean {meant}"):
        call()


def test_every_public_function_answers_and_is_the_function_still():
    for name in set(le.__all__) - {"plots", "__version__"}:
        public = getattr(le, name)
        if hasattr(public, "__wrapped__") and public.__module__ == "lens_emotion":
            with pytest.raises(TypeError, match="has no no_such_argument"):
                public(no_such_argument=1)
            assert pickle.loads(pickle.dumps(public)) is public
    assert le.steer.__wrapped__ is le.steering.steer.steer and le.steer.__doc__ == le.steering.steer.steer.__doc__


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"models": "tiny-llama"}, r"models: expected a list, got 'tiny-llama'; give a list: \['tiny-llama'\]"),
        ({"models": object()}, "models: got object; a study names its models"),
        ({"models": [object()]}, "a study names its models"),
        ({"doses": 3}, r"give a list: \[3\]"),
        ({"stimuli": pd.DataFrame({"text": ["a"]})}, r"got DataFrame.*le\.stimuli_from\(data\)\.save\('mine\.json'\)"),
        ({"stimuli": le.stimuli_from({"calm": ["a"], "sad": ["b"]})}, "got StimulusSet; a study names its texts"),
        ({"model": "tiny-llama"}, "did you mean models"),
    ],
)
def test_a_study_is_told_how_its_settings_are_written(settings, words):
    with pytest.raises(ConfigError, match=words):
        le.StudyConfig(**settings)


def test_a_study_takes_paths_and_says_what_a_positional_argument_was():
    config = le.StudyConfig([Path("a-folder")], stimuli=Path("mine.csv"))
    assert config.models == ("a-folder",) and config.stimuli == "mine.csv"
    with pytest.raises(ConfigError, match=r"^models: expected a list"):
        le.StudyConfig("tiny-llama")


@pytest.mark.parametrize("given", [3, None, ["runs/study"], {"folder": "runs/study"}])
def test_read_run_says_that_it_takes_a_folder(untyped, given):
    with pytest.raises(ArgumentError, match=r"read_run\(\): folder is .*; give a path"):
        le.read_run(given)


@pytest.mark.parametrize("given", ["tiny-llama", ["tiny-llama"], {"models": ["tiny-llama"]}, None])
def test_run_study_says_that_it_takes_a_config(untyped, given):
    with pytest.raises(ConfigError, match=r"le\.run_study\(le\.StudyConfig\(models=\[\.\.\.\]\)\)"):
        le.run_study(given)


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        (("a", 3), DoseError, "the vector is one of emotion_vectors"),
        (("a", "calm"), DoseError, r"vectors\['calm'\]"),
        (("a", ["calm"]), DoseError, r"vectors\['calm'\]"),
        ((3,), GenerationError, "the prompt is text, got 3"),
        (("a", None, "3"), DoseError, "'3' is no number"),
        (("a", None, 3, "ablate"), DoseError, r"the seed is a whole number, got 'ablate'.*mode="),
    ],
)
def test_a_condition_in_the_wrong_order_is_answered(untyped, args, error, words):
    with pytest.raises(error, match=words):
        Condition(*args)


def test_a_conditions_dose_may_be_a_number(untyped, vectors):
    assert Condition("a", vectors["calm"], 3).dose == Dose(3.0)
    several = Condition("a", [calm := vectors["calm"]], 1, mode="ablate").vector
    assert isinstance(several, tuple) and several[0] is calm


@pytest.mark.parametrize("emotions", ["calm", ["calm"], ("calm", "neutral")])
def test_one_emotion_alone_is_answered_before_any_reading(untyped, emotions):
    with pytest.raises(StimulusError, match=r"leaves one emotion.*emotion_vectors\(acts\)\['calm'\]"):
        le.extract_comprehension(tiny(), "passages", emotions=emotions)


@pytest.mark.parametrize(
    "data", [pd.DataFrame({"a": ["x"]}), ["a text", "another"], "none.csv", {"calm": ["a"]}, [], 3, "pasages"]
)
def test_data_that_does_not_fit_is_refused_before_any_reading(untyped, data):
    with pytest.raises(LensEmotionError):
        le.extract_comprehension(tiny(), data)


def test_activations_of_a_list_of_emotions(acts):
    assert len(acts.of(["calm", "angry"])) == len(acts.of("calm", "angry"))
