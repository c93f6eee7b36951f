"""What makes no sense is said before any work: settings of writing, empty prompts, training mode, NaN and infinity."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import BACKENDS, tiny
from steered import PROMPT, vectors_of

from lens_emotion.errors import GenerationError, LensEmotionError, NotFiniteError, StimulusError, UnsupportedModelError
from lens_emotion.extraction.comprehension import extract_comprehension
from lens_emotion.extraction.generation import extract_generation
from lens_emotion.extraction.reader import read_texts
from lens_emotion.models.access import describe
from lens_emotion.models.decoding import generate_tokens
from lens_emotion.models.forward import check_count
from lens_emotion.models.loading import load_model
from lens_emotion.models.prompting import encode
from lens_emotion.models.sampling import GREEDY, Sampling
from lens_emotion.steering.dose import Dose
from lens_emotion.steering.generate import Condition, generate_steered
from lens_emotion.steering.measures import likelihood
from lens_emotion.stimuli.library import load_stimuli
from lens_emotion.stimuli.prompts import story_prompts

TEXTS = load_stimuli("world-en", per_cell=1).only(emotions=("happy", "sad"), topics=("garden", "school"))
ASKED = [p for p in story_prompts("topic-crossed", "world-en") if p.emotion in ("happy", "sad")][:14]


def sampling(**given):
    """The checks of `Sampling` without the run-time type checker of the tests, which users do not have."""
    Sampling.__post_init__(SimpleNamespace(**{"temperature": 0.8, "top_p": 1.0, "top_k": None, "seed": 0} | given))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1, -1e-9, 1e-45, 1e-7, True, "0.8", None])
def test_temperatures_that_make_no_sense(value):
    with pytest.raises(GenerationError, match=r"temperature is .*give 0"):
        sampling(temperature=value)


@pytest.mark.parametrize("value", [math.nan, math.inf, 0, 0.0, -0.1, 1.0001, True, "0.9", None])
def test_nuclei_that_make_no_sense(value):
    with pytest.raises(GenerationError, match=r"top_p is .*up to 1"):
        sampling(top_p=value)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1.5, -1, 2**64, True, "7", None])
def test_seeds_that_make_no_sense(value):
    with pytest.raises(GenerationError, match="seed is"):
        sampling(seed=value)


def test_settings_of_other_number_types_are_taken():
    sampling(temperature=np.float32(0.5), top_p=np.float64(1), seed=np.int64(3))
    assert Sampling(1e-6).greedy is False and Sampling(0).greedy and Sampling(1e6, 1, 2**43)


@pytest.mark.parametrize("value", [0, -1, 1.5, math.nan, math.inf, True, "16", None])
def test_numbers_that_make_no_sense(value):
    with pytest.raises(GenerationError, match=r"n is .*a whole number of at least 1"):
        check_count("n", value)


@pytest.mark.parametrize("value", [0, -1, True])
def test_numbers_of_tokens_that_make_no_sense(value, monkeypatch):
    model = tiny()
    monkeypatch.setattr(type(model), "forward", lambda *a, **k: pytest.fail("the model ran"))
    with pytest.raises(GenerationError, match=r"max_new_tokens is .*at least 1"):
        generate_tokens(model, [encode(model, PROMPT)], value)
    with pytest.raises(GenerationError, match="max_new_tokens"):
        generate_steered(model, [Condition(PROMPT)], (0,), max_new_tokens=value)
    with pytest.raises(GenerationError, match="max_new_tokens"):
        extract_generation(model, ASKED, max_new_tokens=value)
    with pytest.raises(GenerationError, match=r"token_budget is .*at least 1"):
        extract_comprehension(model, TEXTS, token_budget=value)


@pytest.mark.parametrize("backend", BACKENDS)
def test_prompts_that_are_not_there(backend):
    bare = tiny("tiny-qwen", backend)  # no token to begin a text with
    with pytest.raises(StimulusError, match="empty prompt"):
        generate_tokens(bare, [encode(bare, PROMPT), encode(bare, "")], 4)
    with pytest.raises(StimulusError, match="empty prompt"):
        generate_steered(bare, [Condition(PROMPT), Condition("")], (0,), max_new_tokens=4)
    with pytest.raises(StimulusError, match="text 1 has an empty prompt"):
        likelihood(bare, [[5], []], [[6, 7], [8]])
    assert np.isnan(likelihood(bare, [[]], [[]]).nll).all()
    for call in (lambda: generate_tokens(bare, [], 4), lambda: generate_steered(bare, [], (0,))):
        with pytest.raises(GenerationError, match="no prompts"):
            call()
    with pytest.raises(GenerationError, match="3 seeds for 1 prompts"):
        generate_tokens(bare, [[5]], 4, row_seeds=[1, 2, 3])
    # a prompt of special tokens alone begins a text, with a first token of the model's own or without
    llama = tiny("tiny-llama", backend)
    assert generate_tokens(llama, [encode(llama, "")], 4)[0]
    assert len(generate_tokens(bare, [[bare.tokenizer.eos_token_id]], 4)) == 1


@contextmanager
def training(model):
    model.train()
    try:
        yield
    finally:
        model.eval()


WORK = {
    "reading": lambda m: extract_comprehension(m, TEXTS),
    "writing": lambda m: generate_tokens(m, [encode(m, PROMPT)], 4),
    "stories": lambda m: extract_generation(m, ASKED, max_new_tokens=16),
    "steering": lambda m: generate_steered(m, [Condition(PROMPT)], (0,), max_new_tokens=4),
    "scoring": lambda m: likelihood(m, [[5, 6]], [[7]]),
}


@pytest.mark.parametrize("what", WORK)
def test_a_model_in_training_mode_is_refused(what):
    model = tiny()
    with training(model), pytest.raises(UnsupportedModelError, match=r"training mode.*model\.eval\(\)"):
        WORK[what](model)


def test_one_part_in_training_mode_is_enough():
    model = tiny("tiny-gpt2")
    part = next(m for m in model.original_model.modules() if isinstance(m, torch.nn.Dropout))
    part.train()
    try:
        with pytest.raises(UnsupportedModelError, match="training mode"):
            WORK["writing"](model)
    finally:
        part.eval()


@pytest.mark.skipif("hooked" not in BACKENDS, reason="TransformerLens 4 has no HookedTransformer")
def test_a_hooked_transformer_has_no_dropout_and_is_made_in_training_mode():
    model = tiny("tiny-gpt2", "hooked")
    plain = extract_comprehension(model, TEXTS).values
    with training(model):  # as HookedTransformer.from_pretrained leaves it
        assert torch.equal(extract_comprehension(model, TEXTS).values, plain)
        model.blocks[0].add_module("noise", torch.nn.Dropout(0.5))
        try:
            with pytest.raises(UnsupportedModelError, match="training mode"):
                WORK["writing"](model)
        finally:
            del model.blocks[0].noise


@contextmanager
def weights(model, change):
    """One weight of layer 1 changed in place."""
    held = next(p for n, p in model.blocks[1].named_parameters() if "W_out" in n or "down_proj" in n)
    kept = held.detach().clone()
    with torch.no_grad():
        change(held)
    try:
        yield
    finally:
        with torch.no_grad():
            held.copy_(kept)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("what", WORK)
def test_weights_that_hold_nan_or_infinity(what, value, backend):
    model = tiny("tiny-llama", backend)
    with (
        weights(model, lambda w: w[(0,) * (w.ndim - 1) + (3,)].fill_(value)),
        pytest.raises(NotFiniteError, match="so does the weight"),
    ):
        WORK[what](model)


@pytest.mark.parametrize("what", ["reading", "writing", "stories"])
def test_states_beyond_the_range_of_a_precision_name_layer_and_remedy(what):
    model = load_model("tiny-llama", dtype="float16", device="cpu")
    with (
        weights(model, lambda w: w.mul_(0).add_(6e4)),
        pytest.raises(NotFiniteError, match=r"layer 1 .*hold NaN.*float16 overflows.*65504.*'bfloat16' or 'float32'"),
    ):
        WORK[what](model)


def test_a_pooling_that_finds_nothing_is_no_fault_of_the_model():
    from lens_emotion.extraction.activations import TextRecord
    from lens_emotion.extraction.pooling import story_mean
    from lens_emotion.extraction.reader import Reading
    from lens_emotion.models.prompting import tokenise_text

    model, header = tiny(), extract_comprehension(tiny(), TEXTS).header
    reading = Reading(tokenise_text(model, "Anna was happy."), TextRecord("a", "happy", "t", ""))
    with pytest.raises(StimulusError, match="takes no token of text 'a'"):
        read_texts(model, [reading], replace(story_mean(start=50), min_content=0), header)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(1.0, 0.9)], ids=["greedy", "sampled"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_dose_that_breaks_the_model_is_data_and_leaves_its_neighbours_alone(backend, sampling):
    model = tiny("tiny-llama", backend)
    vector = vectors_of(model)["calm"]
    far = [replace(vector, natural=size * torch.ones_like(vector.natural)) for size in (1e38, 3e38)]
    steered = [Condition(PROMPT, v, Dose(100.0)) for v in far]
    conditions = [Condition(PROMPT), *steered, Condition(PROMPT, vector, Dose(1.0))]
    run = {"max_new_tokens": 6, "sampling": sampling, "progress": False}
    found = generate_steered(model, conditions, range(vector.n_layers), **run)
    assert [c.broken for c in found] == [False, True, True, False]
    assert found[1].new_ids == found[2].new_ids == () and found[1].text == ""
    for i in (0, 3):
        assert found[i] == generate_steered(model, [conditions[i]], range(vector.n_layers), **run)[0]


def test_broken_logits_without_steering_are_an_error_even_beside_a_broken_dose():
    model = tiny()
    vector = vectors_of(model)["calm"]
    with weights(model, lambda w: w.fill_(math.nan)):
        vector = replace(vector, header=vector.header.with_(fingerprint=describe(model).fingerprint))
        conditions = [Condition(PROMPT), Condition(PROMPT, vector, Dose(0.0)), Condition(PROMPT, vector, Dose(1.0))]
        with pytest.raises(NotFiniteError, match="layer 1"):
            generate_steered(model, conditions, (0,), max_new_tokens=4)


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(0.8, 0.95), Sampling(0.8, top_k=3)], ids=["greedy", "p", "k"])
@pytest.mark.parametrize("value", [-math.inf, math.nan, math.inf])
def test_a_token_that_a_model_forbids_is_no_broken_logit(value, sampling):
    model, told = tiny(), []

    def put(logits, hook):  # the second row's, of a likely token
        logits[1, -1, logits[1, -1].argmax()] = value
        return logits

    hooks = [("unembed.hook_out", put)]
    written = generate_tokens(model, [encode(model, PROMPT)] * 3, 6, sampling, hooks, [0, 1, 2], on_broken=told.extend)
    free = generate_tokens(model, [encode(model, PROMPT)] * 3, 6, sampling, row_seeds=[0, 1, 2])
    assert told == ([] if value == -math.inf else [1])
    assert len(written[1]) == (6 if value == -math.inf else 0)
    assert (written[0], written[2]) == (free[0], free[2])


@pytest.mark.parametrize(
    "options",
    [
        ["--temperature", "nan"],
        ["--temperature", "-1"],
        ["--temperature", "1e-45"],
        ["--seed", "-3"],
        ["--tokens", "0"],
        ["--tokens", "-1"],
        ["--positions", "nowhere"],
    ],
)
def test_the_command_line_says_so_before_a_model_is_loaded(options, monkeypatch, capsys):
    from lens_emotion.cli import app

    monkeypatch.setattr("lens_emotion.models.loading.load_model", lambda *a, **k: pytest.fail("a model was loaded"))
    monkeypatch.setattr("sys.argv", ["lens-emotion", "steer", "tiny-llama", "calm", *options])
    with pytest.raises(SystemExit) as ended:
        app.main()
    said = capsys.readouterr()
    assert ended.value.code == 2 and "Traceback" not in said.err + said.out


def test_what_a_model_writes_does_not_act_on_a_terminal():
    from lens_emotion.cli.say import printable

    assert printable("a\x1b[31mb\x00\n愉快 é") == "a\\x1b[31mb\\x00\n愉快 é"


def test_every_error_is_one_that_the_command_line_knows():
    assert issubclass(GenerationError, LensEmotionError) and issubclass(NotFiniteError, LensEmotionError)


@pytest.mark.parametrize(
    ("emotion", "options", "words"),
    [
        ("calm", ["--layer", "9"], "no layer 9"),
        ("calm", ["--layer", "0"], "no direction at layer 0"),
        ("angry", ["--all-layers"], "it is zero"),
        ("calm - sad", [], "it is zero"),
    ],
)
def test_layers_and_directions_of_a_vector_file_are_looked_at_before_a_model_is_loaded(
    emotion, options, words, tmp_path, monkeypatch, capsys
):
    from lens_emotion.cli import app

    held = vectors_of(tiny())  # calm and sad alike, calm without layer 0, angry none
    directions, natural = held.directions.clone(), held.natural.clone()
    directions[0, 0], natural[0, 0], directions[1], natural[1] = 0, 0, 0, 0
    directions[2], natural[2] = directions[0], natural[0]
    path = replace(held, directions=directions, natural=natural).save(tmp_path / "v.safetensors")
    monkeypatch.setattr("lens_emotion.models.loading.load_model", lambda *a, **k: pytest.fail("a model was loaded"))
    monkeypatch.setattr("sys.argv", ["lens-emotion", "steer", "tiny-llama", emotion, "--vectors", str(path), *options])
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 2 and words in capsys.readouterr().err
