"""Vectors of other tools steer where they have a direction, on the architecture they were made on, or not at all."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import BACKENDS, tiny

from lens_emotion.analysis.lens import lens
from lens_emotion.analysis.tokens import token_scores
from lens_emotion.errors import LayerError, UnsupportedModelError
from lens_emotion.steering.comparison import Push, check_push
from lens_emotion.steering.dose import Dose
from lens_emotion.steering.experiment import dose_response
from lens_emotion.steering.generate import Condition, generate_steered
from lens_emotion.steering.grid import steering_grid
from lens_emotion.steering.hooks import steering_hooks
from lens_emotion.steering.judges import word_count_judge
from lens_emotion.steering.steer import ablate, steer
from lens_emotion.stimuli.prompts import Scenario
from lens_emotion.vectors.emotion_vectors import EmotionVectors, parse_mixture
from lens_emotion.vectors.interchange import (
    ControlFile,
    as_set,
    displacements,
    from_gguf,
    from_safetensors,
    hint_of,
    to_gguf,
    write_control_file,
)

PROMPT = "The door opened and"


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A file of another tool with directions at layers 2 and 4 of six, and none in the middle."""
    parts = {2: torch.randn(64), 4: torch.randn(64)}
    return write_control_file(tmp_path_factory.mktemp("other") / "my-mood.gguf", ControlFile(parts, "llama"))


@pytest.fixture(scope="module")
def mood(imported):
    return from_gguf(imported, tiny())


JUDGE = word_count_judge({"my-mood": ["a"], "x": ["b"]})
WAYS = {
    "steering_hooks": lambda v: steering_hooks(v, 1.0),
    "steer": lambda v: steer(tiny(), v, 1.0).__enter__(),
    "a band": lambda v: steer(tiny(), v, 1.0, layers="2-4").__enter__(),
    "all": lambda v: steer(tiny(), v, 1.0, layers="all").__enter__(),
    "relative": lambda v: steer(tiny(), v, 0.1, unit="relative").__enter__(),
    "clamp": lambda v: steer(tiny(), v, 1.0, mode="clamp").__enter__(),
    "ablate": lambda v: ablate(tiny(), v).__enter__(),
    "a set": lambda v: ablate(tiny(), as_set([v]), layers=3).__enter__(),
    "generate_steered": lambda v: generate_steered(tiny(), [Condition(PROMPT, v, Dose(1.0))], [3], max_new_tokens=2),
    "dose_response": lambda v: dose_response(
        tiny(), as_set([v]), [Scenario("s", "my-mood", PROMPT)], JUDGE, doses=[1.0]
    ),
    "grid": lambda v: steering_grid(tiny(), as_set([v]), [PROMPT], layer_sets=[2, 3], doses=[1.0]),
    "play": lambda v: check_push(tiny(), Push(PROMPT, v, Dose(1.0), (3,))),
    "lens": lambda v: lens(tiny(), v, n_random=3),
    "lens of a set": lambda v: lens(tiny(), as_set([v]), 3, n_random=3),
    "token_scores": lambda v: token_scores(tiny(), as_set([v]), "Anna was in the kitchen.", layer=3, n_random=3),
    "export": lambda v: displacements(v),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_layer_without_direction_is_refused_and_those_it_has_are_named(mood, way, monkeypatch):
    monkeypatch.setattr(
        "lens_emotion.steering.generate.generate_tokens", lambda *a, **k: pytest.fail("the model wrote")
    )
    with pytest.raises(LayerError, match=r"'my-mood' has no direction at layer .*3.*: it has 2,4"):
        WAYS[way](mood)


def test_a_vector_that_is_zero_everywhere_is_refused_and_dose_0_is_not(mood, vectors):
    calm = vectors["calm"]
    with pytest.raises(LayerError, match="it is zero"):
        steering_hooks(calm - calm, 1.0)
    assert steering_hooks(mood, 0.0) == []
    assert mood.layers == (2, 4) and len(steering_hooks(mood, 1.0, layers=[2, 4])) == 2
    assert sorted(displacements(mood, 1.0, "all")) == [2, 4]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("hint", "name"),
    [
        ("llama", "tiny-llama"), ("llama", "tiny-mistral"), ("mistral", "tiny-mistral"), ("qwen2", "tiny-qwen"),
        ("qwen", "tiny-qwen"), ("gemma2", "tiny-gemma"), ("gemma", "tiny-gemma"), ("gpt2", "tiny-gpt2"),
    ],
)  # fmt: skip
def test_hints_of_the_architecture_are_taken(hint, name, backend, tmp_path):
    model = tiny(name, backend)
    path = write_control_file(tmp_path / "v.gguf", ControlFile({2: torch.ones(model.cfg.d_model)}, hint))
    assert from_gguf(path, model).layers == (2,)


@pytest.mark.parametrize(
    ("hint", "name"),
    [
        ("qwen2", "tiny-llama"), ("qwen3", "tiny-qwen"), ("gemma3", "tiny-gemma"),
        ("gemma", "tiny-gpt2"), ("gpt2", "tiny-mistral"), ("phi3", "tiny-llama"),
    ],
)  # fmt: skip
def test_a_hint_of_another_architecture_is_refused_unless_told_otherwise(hint, name, tmp_path):
    model = tiny(name)
    path = write_control_file(tmp_path / "v.gguf", ControlFile({2: torch.ones(model.cfg.d_model)}, hint))
    with pytest.raises(UnsupportedModelError, match=f"architecture '{hint}', {name} is .*allow_other_model"):
        from_gguf(path, model)
    assert hint in from_gguf(path, model, allow_other_model=True).header.notes[0]


@pytest.mark.parametrize(
    ("given", "name", "hint"),
    [
        ("LlamaForCausalLM", "", "llama"), ("MistralForCausalLM", "", "llama"), ("mistral", "m", "llama"),
        ("MixtralForCausalLM", "", "llama"), ("GPT2LMHeadModel", "", "gpt2"), ("Qwen2ForCausalLM", "", "qwen2"),
        ("Qwen3ForCausalLM", "", "qwen3"), ("qwen3_moe", "", "qwen3moe"), ("Gemma2ForCausalLM", "", "gemma2"),
        ("Gemma3ForCausalLM", "", "gemma3"), ("gemma3_text", "", "gemma3"), ("GemmaForCausalLM", "", "gemma"),
        ("Gemma3ForConditionalGeneration", "", "gemma3"), ("Phi3ForCausalLM", "", "phi3"), ("phi", "", "phi2"),
        ("GPTNeoXForCausalLM", "", "gptneox"), ("gpt_neox", "", "gptneox"), ("Olmo2ForCausalLM", "", "olmo2"),
        ("qwen", "Qwen/Qwen2.5-1.5B", "qwen2"), ("qwen", "Qwen/Qwen3-0.6B", "qwen3"),
        ("gemma", "google/gemma-3-1b-it", "gemma3"), ("gemma", "gemma-2-2b", "gemma2"),
        ("qwen", "/models/mine", "qwen"),
    ],
)  # fmt: skip
def test_hints_are_llama_cpps_names(given, name, hint):
    assert hint_of(given, name) == hint


@pytest.mark.parametrize("name", ["my-mood", "in love", "sad - or so", "a*b", "тоска-зелёная", "3.5"])
def test_names_with_signs_come_through_without_quotes(name, vectors, tmp_path):
    named = replace(vectors["calm"], name=name)
    back = from_gguf(to_gguf(named, tmp_path / "v.gguf", layers="all"), tiny())
    assert back.name == name
    assert parse_mixture(name, [name, "my"]) == [(1.0, name)]
    assert parse_mixture(f"0.5*{name} - calm", ["calm", name]) == [(0.5, name), (-1.0, "calm")]


def test_a_known_name_is_not_found_inside_a_longer_word():
    assert parse_mixture("calmer", ["calm"]) == [(1.0, "calmer")]
    assert parse_mixture("calm-happy", ["calm", "happy"]) == [(1.0, "calm"), (-1.0, "happy")]


def test_layer_0_comes_through(vectors, tmp_path):
    calm = vectors["calm"]
    back = from_gguf(to_gguf(calm, tmp_path / "v.gguf", layers="all"), tiny())
    assert back.layers == tuple(range(6))
    torch.testing.assert_close(back.direction, calm.direction)
    only = as_set([calm]).save(tmp_path / "only.safetensors")
    assert EmotionVectors.load(only)["calm"].layers[0] == 0


@pytest.fixture
def run(called, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return called


def test_the_command_line_imports_and_steers_only_where_there_is_a_direction(run, imported, tmp_path):
    done = run("vectors", "import", imported, "--model", "tiny-llama")
    assert done.code == 0 and "layers 2,4" in done.out, done.err
    file = tmp_path / "imported.safetensors"
    done = run("steer", "tiny-llama", "my-mood", "--vectors", file, "--tokens", 3)
    assert (done.code, done.out) == (2, "") and "it has 2,4" in done.err and done.err.count("\n") == 1
    done = run("steer", "tiny-llama", "my-mood", "--vectors", file, "--tokens", 3, "--layer", "2,4")
    assert done.code == 0 and "nan" not in done.out, done.err
    other = ("vectors", "import", imported, "--model", "tiny-gpt2", "--out", "other.safetensors")
    done = run(*other)
    assert done.code == 2 and "'llama', tiny-gpt2 is 'gpt2'" in done.err and done.err.count("\n") == 1
    assert run(*other, "--allow-other-model").code == 0


def test_what_is_exported_for_steering_vectors_is_imported_layer_0_too(run, vectors, tmp_path):
    named = as_set([replace(vectors["calm"], name="my-calm")]).save(tmp_path / "v.safetensors")
    done = run("vectors", "export", named, "my-calm", "--format", "steering-vectors", "--layer", "0-2", "--dose", 1)
    assert done.code == 0, done.err
    (made,) = set(tmp_path.glob("*.safetensors")) - {named}
    back = from_safetensors(made, tiny())
    assert back.layers == (0, 1, 2)
    torch.testing.assert_close(back.direction[:3], vectors["calm"].direction[:3])
    assert run("vectors", "import", made, "--model", "tiny-llama", "--name", "x", "--out", "x.safetensors").code == 0
    done = run("vectors", "import", named, "--model", "tiny-llama")
    assert done.code == 2 and "named after layers" in done.err
