"""What a config and the headers of the weights tell is told before any weight is read, of every model of a study."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from conftest import TINY_NAMES, plain
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from lens_emotion.errors import LensEmotionError
from lens_emotion.models.catalog import find_spec
from lens_emotion.models.loading import load_model, tiny_folder
from lens_emotion.models.skeleton import check_skeleton, shapes_of
from lens_emotion.run.config import StudyConfig
from lens_emotion.run.inputs import check_inputs

HUGE = 10**400
CONFIGS = {
    "unknown activation": ({"hidden_act": "foo"}, "no model can be made"),
    "unknown rope": ({"rope_scaling": {"type": "foo"}}, "no model can be made"),
    "architecture of another type": ({"architectures": ["GPT2LMHeadModel"]}, "names the architecture GPT2LMHeadModel"),
    "type of another architecture": ({"model_type": "gpt2"}, "names the architecture LlamaForCausalLM"),
    "a type without": ({"architectures": ["FooForCausalLM"]}, "FooForCausalLM"),
    "architecture without a list": ({"architectures": "LlamaForCausalLM"}, "names no architecture"),
    "fewer layers": ({"num_hidden_layers": 3}, "says 3 layers, but the files hold more"),
    "more layers": ({"num_hidden_layers": 7}, "files lack 9 weights"),
    "layers without end": ({"num_hidden_layers": 10**18}, "num_hidden_layers = 1000"),
    "layers of many digits": ({"num_hidden_layers": HUGE}, "out of range"),
    "no layers": ({"num_hidden_layers": 0}, "num_hidden_layers = 0"),
    "half a layer": ({"num_hidden_layers": 6.5}, "num_hidden_layers = 6.5"),
    "layers in words": ({"num_hidden_layers": "6"}, "num_hidden_layers = 6"),
    "true layers": ({"num_hidden_layers": True}, "num_hidden_layers = True"),
    "no context": ({"max_position_embeddings": 0}, "max_position_embeddings = 0"),
    "negative width": ({"hidden_size": -1}, "hidden_size = -1"),
    "no heads": ({"num_attention_heads": 0}, "num_attention_heads = 0"),
    "no words": ({"vocab_size": 0}, "vocab_size = 0"),
    "other width": ({"hidden_size": 128}, "other sizes"),
    "other vocabulary": ({"vocab_size": 1700}, "other sizes"),
    "biases that are not there": ({"attention_bias": True}, "files lack"),
    "an untied head": ({"tie_word_embeddings": False}, "files lack 1 weights"),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of tiny-llama whose weights nobody may read."""
    monkeypatch.setattr("lens_emotion.models.loading.weights_of_source", lambda *a, **k: pytest.fail("weights read"))
    return shutil.copytree(tiny_folder(find_spec("tiny-llama")), tmp_path / "mine")


def refused(name, words):
    with pytest.raises(LensEmotionError, match=words):
        check_inputs(StudyConfig(models=("tiny-llama", str(name))))
    with pytest.raises(LensEmotionError, match=words):
        load_model(name, device="cpu")


@pytest.mark.parametrize("what", CONFIGS)
def test_a_config_of_no_model_or_of_another(what, folder):
    changes, words = CONFIGS[what]
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")
    refused(folder, words)


LAYER = "model.layers.2.self_attn.q_proj"
WEIGHTS = {
    "a layer is missing": (lambda w: {k: v for k, v in w.items() if "layers.5" not in k}, "files lack 9"),
    "one is missing": (lambda w: {k: v for k, v in w.items() if k != "model.norm.weight"}, r"files lack 1 .*norm"),
    "other names": (lambda w: {f"foo.{k}": v for k, v in w.items()}, "files lack 56"),
    "a bias that is not used": (lambda w: w | {f"{LAYER}.bias": torch.ones(64)}, r"does not use .*q_proj\.bias"),
    "another shape": (lambda w: w | {f"{LAYER}.weight": torch.ones(64, 32)}, r"\[64, 32\], not \[64, 64\]"),
}


@pytest.mark.parametrize("what", WEIGHTS)
def test_files_that_hold_another_model(what, folder):
    change, words = WEIGHTS[what]
    held = change(load_file(folder / "model.safetensors"))
    save_file({k: v.contiguous() for k, v in held.items()}, folder / "model.safetensors")
    refused(folder, words)


def test_a_tokenizer_of_another_model(folder, monkeypatch):
    monkeypatch.setattr("lens_emotion.run.inputs.tokenizer_of_source", lambda *a: SimpleNamespace(vocab_size=1601))
    with pytest.raises(LensEmotionError, match="tokenizer has 1,601 tokens, the model 1,600"):
        check_inputs(StudyConfig(models=("tiny-llama", str(folder))))


@pytest.mark.parametrize("begins", [b"", b"GG", b"GGUF", b"hello" * 9, b"\x80\x04pickled" * 9])
def test_a_gguf_file_that_is_none(begins, tmp_path, folder):
    pytest.importorskip("gguf")
    (tmp_path / "x.gguf").write_bytes(begins)
    refused(tmp_path / "x.gguf", r"x\.gguf is (empty|cut off|no GGUF file)")


HARMLESS = ("h.0.attn.bias", "h.0.attn.masked_bias", "h.0.attn.rotary_emb.inv_freq", "v_head.weight")


@pytest.mark.parametrize("name", TINY_NAMES)
def test_the_packages_models_pass_also_with_what_older_files_hold(name, tmp_path):
    made = plain(name)
    config, file = AutoConfig.from_pretrained(tiny_folder(find_spec(name))), tmp_path / "model.safetensors"
    own = load_file(tiny_folder(find_spec(name)) / "model.safetensors")
    first = f"{made.base_model_prefix}."
    older = {k.removeprefix(first): v for k, v in own.items()} | {k: torch.ones(1) for k in HARMLESS}
    older["lm_head.weight"] = made.lm_head.weight.detach().clone()
    save_file(older, file)
    check_skeleton(config, name, [file])
    assert shapes_of([file])["h.0.attn.bias"] == (1,)
