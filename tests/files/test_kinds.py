"""What is given of another kind, in memory, as a path or a number: a typed error of a readable length, or it fits."""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from planted_doses import experiment

import lens_emotion as le
from lens_emotion.errors import LensEmotionError
from lens_emotion.files.artifacts import save_anew
from lens_emotion.files.read import read_json, strict_json
from lens_emotion.run.look import list_runs, verify_run
from lens_emotion.steering.dose_result import load_dose_response
from lens_emotion.steering.judge_files import read_judge_file
from lens_emotion.steering.judges import Judge
from lens_emotion.stimuli.sets import read_stimulus_file, read_written
from lens_emotion.study.stored import read_run
from lens_emotion.vectors.interchange import from_gguf, from_safetensors, read_control_file, to_gguf

pytestmark = pytest.mark.usefixtures("untyped")
ODD = {
    "None": None, "true": True, "nan": float("nan"), "400 digits": 10**400, "-0.0": -0.0, "text": "x", "blank": " ",
    "long": "e" * 70_000, "list": ["a"], "empty": {}, "set": {1}, "bytes": b"x", "object": object(), "complex": 1j,
    "numpy true": np.bool_(True), "0-d": np.array(1.0), "array": np.array([1.0, np.nan]), "tensor": torch.tensor(2.0),
    "words": np.array("x"), "path": Path("x"), "range": range(3),
}  # fmt: skip


@pytest.fixture(scope="module")
def made(acts, vectors):
    """Objects made in memory, each field of which is given otherwise."""
    return {
        "Judge": Judge("a", ("calm", "sad"), len),
        "PooledActivations": acts,
        "StimulusSet": le.StimulusSet("a", (le.Stimulus("a", "b", "calm", "tea"),)),
        "Stimulus": le.Stimulus("a", "b", "calm", "tea"),
        "Scenario": le.Scenario("a", "calm", "b"),
        "StoryPrompt": le.StoryPrompt("a", "b", "calm", "tea"),
        "Header": acts.header,
        "TextRecord": acts.records[0],
        "Dose": le.Dose(2.0),
        "DoseResponse": experiment(doses=(1.0, 2.0), n_emotions=2),
        "EmotionVector": vectors["calm"],
        "EmotionVectors": vectors,
    }


FIELDS = {
    "Judge": "name emotions accuracy groups n_labelled", "PooledActivations": "values records residual_norm header",
    "StimulusSet": "name items norms", "Stimulus": "text_id text emotion topic person language",
    "Scenario": "scenario_id emotion opening", "StoryPrompt": "prompt_id text emotion topic",
    "Header": "model fingerprint stimuli_sha256", "TextRecord": "text_id language n_total", "Dose": "value unit",
    "DoseResponse": "table texts scores judge judge_accuracy judge_independent thresholds notes n_emotions",
    "EmotionVector": "name direction natural header", "EmotionVectors": "directions emotions header",
}  # fmt: skip
FITS = {  # of these fields, what is odd and yet fits
    "name": {"text", "long"}, "judge": {"text", "long"}, "accuracy": {"None", "-0.0"}, "groups": {"None", "empty"},
    "judge_accuracy": {"None", "-0.0"}, "judge_independent": {"true", "numpy true"}, "notes": {"list"},
    "emotions": {"list"}, "text": {"text", "long", "blank"}, "value": {"-0.0", "tensor", "0-d"},
    **{field: {"text", "long"} for field in ("text_id", "emotion", "topic", "person", "language", "scenario_id",
                                             "opening", "prompt_id", "model", "fingerprint", "stimuli_sha256")},
}  # fmt: skip


@pytest.mark.parametrize(("cls", "field"), [(c, f) for c, names in FIELDS.items() for f in names.split()])
def test_a_field_of_another_kind_is_refused_in_the_words_of_this_package(made, cls, field):
    for what, odd in ODD.items():
        try:
            replace(made[cls], **{field: odd})
            assert what in FITS.get(field, ()), (cls, field, what)
        except LensEmotionError as error:
            assert 10 < len(str(error)) <= 2000, (what, str(error)[:80])


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


CALLS = {
    "recipe": lambda acts, vectors, odd: le.emotion_vectors(acts, recipe=odd),
    "mixture": lambda acts, vectors, odd: le.mixture(vectors, odd),
    "of": lambda acts, vectors, odd: acts.of(odd),
    "stimuli": lambda acts, vectors, odd: le.load_stimuli(odd),
    "a label": lambda acts, vectors, odd: le.stimuli_from(["a", "b"], ["calm", odd]),
    "an infinite label": lambda acts, vectors, odd: le.stimuli_from(["a", "b"], ["calm", float("inf")]),
    "layers": lambda acts, vectors, odd: to_gguf(vectors["calm"], "never.gguf", 1.0, odd),
    "emotions of a judge": lambda acts, vectors, odd: le.as_judge(len, odd),
    "labelled": lambda acts, vectors, odd: le.as_judge(len, ("calm",), odd),
    "words": lambda acts, vectors, odd: le.word_count_judge({"calm": odd}),
}
KEPT = {
    "of": {"empty"}, "recipe": {"text"}, "labelled": {"None"}, "words": {"list"}, "layers": {"None", "set"},
    "a label": {"text", "long", "words", "list", "path"}, "emotions of a judge": {"text", "long", "list"},
}  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
def test_an_argument_of_another_kind_is_refused_in_the_words_of_this_package(
    acts, vectors, call, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for what, odd in ODD.items():
        try:
            CALLS[call](acts, vectors, odd)
            assert what in KEPT.get(call, ()), (call, what)
        except LensEmotionError as error:
            assert 10 < len(str(error)) <= 2000, (what, str(error)[:80])


@pytest.mark.parametrize("column", ["dose", "dose_natural", "success", "success_rate", "p_random"])
@pytest.mark.parametrize("frame", ["table", "texts", "scores"])
def test_a_cell_of_another_kind_is_refused(made, frame, column):
    result = made["DoseResponse"]
    if column not in getattr(result, frame):
        return
    endless = [float("inf")] * (column != "dose_natural")  # which may be beyond any number, where the other unit is not
    for odd in (10**400, "x", np.array([1.0, np.nan]), object(), *endless):
        table = getattr(result, frame).copy().astype({column: object})
        table.iat[0, list(table).index(column)] = odd
        with pytest.raises(LensEmotionError):
            replace(result, **{frame: table})


@pytest.mark.parametrize("given", [torch.ones(64).to_sparse(), np.array([10**400] * 64, dtype=object)])
def test_numbers_that_are_stored_otherwise(llama, given):
    if isinstance(given, torch.Tensor):
        assert le.vector(given, llama, layer=2).layers == (2,)
    else:
        with pytest.raises(LensEmotionError):
            le.vector(given, llama, layer=2)


def test_an_empty_mixture_is_refused_before_texts_are_read(llama, monkeypatch):
    monkeypatch.setattr("lens_emotion.steering.steer.extract_comprehension", None)
    monkeypatch.setattr("lens_emotion.steering.steer._MADE", {})
    for empty in ({}, [], ()):
        with pytest.raises(LensEmotionError, match="nothing to steer with"):
            le.steer(llama, empty)


READERS = {
    "load_stimuli": le.load_stimuli, "read_stimulus_file": read_stimulus_file, "read_written": read_written,
    "read_judge_file": read_judge_file, "load_dose_response": load_dose_response, "read_json": read_json,
    "PooledActivations": le.PooledActivations.load, "EmotionVectors": le.EmotionVectors.load, "list_runs": list_runs,
    "verify_run": verify_run, "read_run": read_run, "read_control_file": read_control_file,
    "from_gguf": partial(from_gguf, model=None), "from_safetensors": partial(from_safetensors, model=None),
    "audit": le.audit,
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_path_is_refused_and_no_open_file_is_read(reader):
    """A number would be the file that is open under it: 0 waits for the keyboard."""
    for odd in (None, 0, 1, True, 1.5, b"a.json", ["a.json"]):
        if reader in ("load_stimuli", "audit") and isinstance(odd, list):
            continue
        with pytest.raises(LensEmotionError):
            READERS[reader](odd)


def test_one_mark_in_front_is_an_editors_and_two_are_no_json(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf{}")
    assert read_json(tmp_path / "a.json") == {} == strict_json(b"\xef\xbb\xbf{}")
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf\xef\xbb\xbf{}")
    with pytest.raises(LensEmotionError, match="two byte order marks"):
        read_json(tmp_path / "a.json")


def test_the_command_line_says_one_readable_line_of_a_path_of_any_length(called):
    for words in (["runs", "list", "a/" * 3000], ["stimuli", "lint", "e" * 70_000], ["runs", "verify", "e" * 70_000]):
        said = called(*words)
        assert said.code == 2 and said.err.count("\n") == 1 and len(said.err) <= 2200, words


def test_what_lies_there_is_not_read_whole_to_be_compared(tmp_path):
    """A file of 1 TiB, and kernel files that wait for more: a look at as much as would be written says enough."""
    there = tmp_path / "a.bin"
    there.touch()
    os.truncate(there, 2**40)
    with pytest.raises(LensEmotionError, match="holds something else"):
        save_anew(lambda path: path.write_bytes(b"abc"), there)
    if os.access("/proc/kmsg", os.R_OK):
        with pytest.raises(LensEmotionError):
            save_anew(lambda path: path.write_bytes(b"abc"), "/proc/kmsg")
