"""Numbers out of range: each field, option and argument, with each bad value, is refused in a line, before any work."""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest
from conftest import tiny

import lens_emotion as le
from lens_emotion.cli import app
from lens_emotion.errors import DoseError, GenerationError, LensEmotionError, StimulusError
from lens_emotion.files.user import plain
from lens_emotion.models.decoding import Sampling
from lens_emotion.models.forward import check_count
from lens_emotion.play.session import read_ask, read_look
from lens_emotion.run.config import ConfigError, StudyConfig, parse_doses, read_study_file
from lens_emotion.steering.dose import Dose, as_dose
from lens_emotion.stimuli.sets import read_stimulus_file

HUGE, ENDLESS = 10**400, 10**5000  # Python writes integers of 4,300 digits at most
NO_NUMBER = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf, "true": True, "text": "3", "none": None, "list": []}
OUT = {"400 digits": HUGE, "5000 digits": ENDLESS, "-400 digits": -HUGE, "1e300": 1e300, "negative": -1}
NO_WHOLE = {"a half": 2.5, "2.0": 2.0, "1e-300": 1e-300, "numpy half": np.float32(2.5), "numpy truth": np.True_}
COUNTS = NO_NUMBER | OUT | NO_WHOLE
DOSES = NO_NUMBER | OUT | {"1e-300": 1e-300, "numpy nan": np.float32("nan"), "zero": 0, "-0.0": -0.0, "list": [[]]}


def one_line(error: pytest.ExceptionInfo, name: str) -> None:
    said = str(error.value)
    assert name.rstrip("s") in said and "\n" not in said and len(said) < 300


@pytest.fixture(scope="module")
def vectors(acts):
    return le.emotion_vectors(acts)


# Settings of a study, in Python, in its file, at the command line.


@pytest.mark.parametrize("bad", COUNTS)
@pytest.mark.parametrize("field", ["seed", "n_permutations", "story_tokens", "jeong_tokens", "steered_tokens"])
def test_a_setting_that_is_no_count_is_refused(field, bad):
    with pytest.raises(ConfigError) as error:
        StudyConfig(**{field: COUNTS[bad]})
    one_line(error, field)
    with pytest.raises(ConfigError):
        StudyConfig(overrides={"tiny-llama": {field: COUNTS[bad]}})


@pytest.mark.parametrize("bad", DOSES)
def test_a_dose_that_is_none_is_refused(bad):
    for doses in ((DOSES[bad],), [1, DOSES[bad]]):
        with pytest.raises(ConfigError) as error:
            StudyConfig(doses=doses)
        one_line(error, "dose")


@pytest.mark.parametrize("doses", [(), [], (2, 2.0), [1, 2, 1], "1,2", 3, {1: 2}, np.array([[1.0, 2.0]]), np.array([])])
def test_doses_are_a_list_of_numbers_that_differ(doses):
    with pytest.raises(ConfigError, match="dose"):
        StudyConfig(doses=doses)


def test_numbers_of_numpy_and_torch_are_numbers():
    import torch

    made = StudyConfig(seed=np.int64(3), n_permutations=torch.tensor(50), doses=np.array([1, 2.5], np.float32))
    assert made == StudyConfig(seed=3, n_permutations=50, doses=(1.0, 2.5)) and type(made.seed) is int
    assert json.dumps(made.used("steering")) == json.dumps(StudyConfig(seed=3, doses=(1.0, 2.5)).used("steering"))
    assert plain((np.int8(1), [np.float32(2)], "a")) == (1, [2.0], "a")


NUMBERS = ["nan", "inf", "-inf", "1e-300", "1e300", "-1", "true", '"3"', "[]", "9" * 400, "9" * 5000, "0x" + "f" * 5000]
FIELDS = ["seed", "permutations", "story_tokens", "jeong_tokens", "steered_tokens", "doses"]


@pytest.mark.parametrize("bad", NUMBERS, ids=lambda text: text[:8])
@pytest.mark.parametrize("field", FIELDS)
def test_a_number_out_of_range_in_a_study_file_is_named_with_its_line(tmp_path, field, bad):
    path = tmp_path / "s.toml"
    path.write_text(f"\n{field} = {f'[1, {bad}]' if field == 'doses' else bad}\n[[models]]\nname = 'tiny-llama'\n")
    with pytest.raises(StimulusError, match=r"s\.toml, line 2"):
        read_study_file(path)
    said = bad.replace("nan", "NaN").replace("inf", "Infinity")
    path = tmp_path / "s.json"
    path.write_text(
        f'{{"models": [{{"name": "tiny-llama"}}],\n"{field}": {f"[1, {said}]" if field == "doses" else said}}}'
    )
    with pytest.raises(StimulusError, match=r"s\.json, line [12]"):
        read_study_file(path)


@pytest.mark.parametrize(
    "words", ["nan", "1e-300", "1e999", "9" * 400, "9" * 5000, "", "1,,2", "1,1.0", "-1", "0", "x"]
)
def test_doses_in_words_are_numbers(words):
    with pytest.raises(ConfigError):
        StudyConfig(doses=parse_doses(words))


@pytest.mark.parametrize("rating", ["nan", "inf", "1e300", "true", '"3"', "9" * 400])
def test_a_rating_is_a_number(tmp_path, rating):
    path = tmp_path / "s.toml"
    path.write_text(f"[norms.a]\nvalence = 1\narousal = {rating}\n[[items]]\nemotion = 'a'\ntopic = 't'\ntext = 'x y'")
    with pytest.raises(StimulusError, match="line 3, norms, a, arousal"):
        read_stimulus_file(path)


BAD_WORDS = ["nan", "inf", "-inf", "1e300", "1e-300", "9" * 400, "9" * 5000, "-1", "true", "[]"]
OPTIONS = {
    "study": ["--seed", "--permutations", "--story-tokens", "--doses"],
    "steer tiny-llama calm": ["--dose", "--tokens", "--temperature", "--seed"],
    "stimuli preview tiny-llama word": ["--start"],
    "play tiny-llama": ["--port"],
}


@pytest.mark.parametrize("bad", BAD_WORDS, ids=lambda text: text[:8])
@pytest.mark.parametrize(("command", "option"), [(c, o) for c, options in OPTIONS.items() for o in options])
def test_an_option_out_of_range_is_one_line_before_a_model_is_loaded(
    command, option, bad, monkeypatch, capsys, tmp_path
):
    if (option, bad) in {("--dose", "-1"), ("--start", "9" * 400)}:
        pytest.skip("pushes away; begins behind any text")
    monkeypatch.setattr("lens_emotion.models.loading.load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lens-emotion", *command.split(), f"{option}={bad}"])
    with pytest.raises(SystemExit) as stopped:
        app.main()
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and len(said.splitlines()) == 1 and "unforeseen" not in said


# Objects and functions of Python.

FIT = ("zero", "-0.0", "negative")  # of doses, outside a study


@pytest.mark.parametrize("bad", COUNTS)
def test_sampling_and_numbers_of_tokens_are_numbers(bad):
    value = COUNTS[bad]
    names = ("temperature", "top_p", "seed") if type(value) in (int, bool) else ("temperature", "top_p")
    for name in names if type(value) in (int, bool, float) else ():  # the tests' type checker refuses the rest
        if (name, value) in {("temperature", 2.5), ("temperature", 2.0), ("top_p", 1e-300), ("top_p", True)}:
            continue
        with pytest.raises(GenerationError) as error:
            Sampling(**{name: value})
        one_line(error, name)
    with pytest.raises(GenerationError, match="tokens is"):
        check_count("tokens", value)


@pytest.mark.parametrize("bad", [b for b in DOSES if isinstance(DOSES[b], int | float) and b not in FIT])
def test_a_dose_is_zero_or_moves_a_state(bad):
    with pytest.raises(DoseError) as error:
        as_dose(DOSES[bad])
    one_line(error, "dose")
    assert as_dose(np.int64(3)).value == 3 and Dose(-0.5).value == -0.5 and as_dose(0).value == 0


FUNCTIONS = {
    "decoding": ("n_permutations", "seed"),
    "separation": ("n_permutations", "seed"),
    "reliability": ("n_splits", "seed", "n_permutations"),
    "anisotropy": ("n_random", "seed", "n_draws"),
    "layer_sweep": ("n_permutations", "seed"),
    "probe": ("n_permutations", "seed"),
    "transfer_within": ("n_permutations", "seed"),
    "opposites": ("n_permutations", "seed", "layer"),
    "lens": ("top", "n_random", "seed", "k", "layer"),
    "story_mean": ("start",),
    "iso_kl": ("max_evaluations",),
    "steering_grid": ("seeds",),
    "token_scores": ("n_random", "seed", "layer"),
}


@pytest.mark.parametrize("bad", [b for b in COUNTS if b not in ("negative", "none", "-400 digits")])
@pytest.mark.parametrize(("function", "name"), [(f, n) for f, names in FUNCTIONS.items() for n in names])
def test_an_argument_that_is_no_count_is_refused_before_any_work(function, name, bad, acts, vectors, monkeypatch):
    monkeypatch.setattr("lens_emotion.models.forward.residual_cache", lambda *_, **__: pytest.fail("the model ran"))
    first = {
        "opposites": (vectors,),
        "lens": (tiny(), vectors),
        "token_scores": (tiny(), vectors, "A day."),
        "story_mean": (),
        "iso_kl": (tiny(), vectors, ["A day."], 0.1),
        "steering_grid": (tiny(), vectors, ["A day."]),
    }
    value = [COUNTS[bad]] if name == "seeds" else COUNTS[bad]
    with pytest.raises(LensEmotionError) as error:
        getattr(le, function)(*first.get(function, (acts,)), **{name: value})
    one_line(error, name)


def test_numpy_counts_give_what_pythons_do(acts):
    mine = le.separation(acts, n_permutations=np.int64(20), seed=np.uint8(1))
    assert mine.table.equals(le.separation(acts, n_permutations=20, seed=1).table)
    with pytest.raises(TypeError, match="did you mean n_permutations="):
        le.separation(acts, n_permutation=20)


# Requests of the page.


@pytest.mark.parametrize("bad", [*NUMBERS, "null", '"nan"', '{"a": 1}'], ids=lambda text: text[:8])
@pytest.mark.parametrize(
    "field", ["dose", "tokens", "temperature", "seed", "first_layer", "last_layer", "mix", "layer"]
)
def test_a_request_out_of_range_is_refused(field, bad):
    bad = bad.replace("nan", "NaN").replace("inf", "Infinity")
    given = f'{{"happy": {bad}}}' if field == "mix" else bad
    ask = f'{{"prompt": "a", "text": "a", "emotions": ["happy"], "mix": {{"happy": 1}}, "{field}": {given}}}'
    if field == "mix":
        ask = f'{{"prompt": "a", "mix": {given}}}'
    if bad in ("1e-300", "-1") and field in ("mix", "dose", "temperature"):
        return  # a weight, a dose: refused, or not, by `Dose` and `Sampling`
    if field == "layer" and bad == "null":
        return  # the middle one
    with pytest.raises(LensEmotionError) as error:
        (read_look if field == "layer" else read_ask)(ask.encode())
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("body", [b'{"prompt": "a", "prompt": "b"}', b"[1]", b"\xff", b'"\\ud800"', b"[" * 60_000, b""])
def test_a_request_with_two_meanings_or_none_is_refused(body):
    for reader in (read_ask, read_look):
        with pytest.raises(LensEmotionError, match="reload the page"):
            reader(body)
