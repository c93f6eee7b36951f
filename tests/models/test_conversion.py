"""A backend that cannot represent a configuration refuses it, because it was measured and not because it was listed."""

from __future__ import annotations

import shutil

import pytest
import torch
from conftest import BACKENDS, TINY_NAMES, needs_hooked, tiny
from transformers import AutoConfig, AutoModelForCausalLM

from lens_emotion.errors import UnsupportedModelError
from lens_emotion.laws.copies import plain_states
from lens_emotion.laws.reading import states_alone
from lens_emotion.models import loading
from lens_emotion.models.catalog import find_spec
from lens_emotion.models.conversion import check_conversion, deviations, tolerance, trace_of
from lens_emotion.models.loading import load_model, tiny_folder

IDS = tuple(range(5, 45))
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "head_dim": 8}
SIZES |= {"num_key_value_heads": 2, "vocab_size": 1600, "max_position_embeddings": 128}
GPT2 = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 128, "vocab_size": 1600}

# a setting, and the tensors that carry it where it is one of biases
SETTINGS = {
    "llama, biases of attention": ("llama", {"attention_bias": True}),
    "llama, biases of the MLP": ("llama", {"mlp_bias": True}),
    "llama, another activation": ("llama", {"hidden_act": "gelu"}),
    "llama, positions scaled linearly": ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0}}),
    "llama, heads of another width": ("llama", {"head_dim": 16}),
    "gemma2, biases of attention": ("gemma2", {"attention_bias": True}),
    "gemma2, scores scaled otherwise": ("gemma2", {"query_pre_attn_scalar": 64}),
    "gemma3, biases of attention": ("gemma3_text", {"attention_bias": True}),
    "gemma3, a soft cap": ("gemma3_text", {"final_logit_softcapping": 2.0}),
    "qwen3, biases of attention": ("qwen3", {"attention_bias": True}),
    "qwen2, a window": ("qwen2", {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 0}),
    "qwen3, a window": ("qwen3", {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}),
    "mistral, a window": ("mistral", {"sliding_window": 16}),
    "gpt2, unscaled attention": ("gpt2", {"scale_attn_weights": False}),
    "gpt2, attention scaled by layer": ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
    "gpt2, an untied head": ("gpt2", {"tie_word_embeddings": False}),
}


def folder_of(tmp_path, family, settings):
    """A model of random weights, biases among them, with a tiny model's tokenizer."""
    folder = shutil.copytree(tiny_folder(find_spec("tiny-llama")), tmp_path / "model")
    config = AutoConfig.for_model(family, **((GPT2 if family == "gpt2" else SIZES) | settings))
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_is_represented_or_refused(setting, backend, tmp_path):
    folder = folder_of(tmp_path, *SETTINGS[setting])
    plain = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    try:
        model = load_model(folder, backend=backend, device="cpu")
    except UnsupportedModelError as refusal:
        assert backend == "hooked" or setting == "gpt2, unscaled attention", refusal  # TransformerLens always scales it
        assert "backend='" in str(refusal)
        return
    got, truth = states_alone(model, IDS), plain_states(plain, IDS)
    torch.testing.assert_close(got, truth, rtol=1e-3, atol=1e-3)
    with torch.inference_mode():
        ours, theirs = model(torch.tensor([IDS])), plain(torch.tensor([IDS])).logits
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@needs_hooked
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "setting", ["llama, biases of attention", "llama, biases of the MLP", "gemma3, biases of attention"]
)
def test_what_finds_no_place_is_refused_by_name_in_either_precision(setting, dtype, tmp_path):
    with pytest.raises(UnsupportedModelError, match=r"has no place for model.layers.0.*bias and \d+ more"):
        load_model(folder_of(tmp_path, *SETTINGS[setting]), backend="hooked", dtype=dtype, device="cpu")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", TINY_NAMES)
def test_a_sound_conversion_is_far_inside_its_tolerance(name, dtype):
    precision = getattr(torch, dtype)
    plain = AutoModelForCausalLM.from_pretrained(
        tiny_folder(find_spec(name)), dtype=precision, attn_implementation="eager"
    ).eval()
    for backend in BACKENDS:
        model = load_model(name, backend=backend, dtype=dtype, device="cpu")
        found = dict(deviations(model, trace_of(plain, model.tokenizer)))
        assert len(found) == model.cfg.n_layers + 2
        assert max(found.values()) < tolerance(precision) / (100 if dtype == "float32" else 3)


def test_a_block_that_adds_something_else_is_found_wherever_it_is():
    model = load_model("tiny-mistral", device="cpu")
    trace = trace_of(tiny_plain("tiny-mistral"), model.tokenizer)
    check_conversion(model, trace, "tiny-mistral", "bridge")
    held = dict(model.original_model.named_parameters())
    weight = next(p for n, p in held.items() if "layers.5" in n and "o_proj" in n)
    weight.data.mul_(1.1)
    with pytest.raises(UnsupportedModelError, match="at layer 5"):
        check_conversion(model, trace, "tiny-mistral", "bridge")


@pytest.mark.parametrize(("value", "dtype"), [(float("nan"), "float32"), (6e4, "float16")])
def test_states_that_are_no_numbers_are_found_at_load_with_their_layer(value, dtype, tmp_path, monkeypatch):
    folder = folder_of(tmp_path, "llama", {})
    plain = loading.weights_of_source

    def broken(*args, **kwargs):
        model = plain(*args, **kwargs)
        model.model.layers[1].mlp.down_proj.weight.data.fill_(value)
        return model

    monkeypatch.setattr(loading, "weights_of_source", broken)
    with pytest.raises(UnsupportedModelError, match=f"NaN or infinity from layer 1 on in {dtype}"):
        load_model(folder, dtype=dtype, device="cpu")


def test_the_window_is_left_behind_where_the_model_has_one():
    assert len(trace_of(tiny_plain("tiny-mistral"), tiny("tiny-mistral").tokenizer).ids) > (
        tiny_plain("tiny-mistral").config.sliding_window
    )


def tiny_plain(name):
    return AutoModelForCausalLM.from_pretrained(tiny_folder(find_spec(name)), dtype=torch.float32).eval()


@needs_hooked
def test_a_scaling_that_is_not_converted_is_found_by_measuring(tmp_path):
    with pytest.raises(UnsupportedModelError, match=r"at layer 0 it is off by"):
        load_model(folder_of(tmp_path, *SETTINGS["gpt2, unscaled attention"]), backend="hooked", device="cpu")
