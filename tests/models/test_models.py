"""Loading: the same residual stream on every backend, and errors that name the fix."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from conftest import BACKENDS, TINY_NAMES, needs_hooked, plain, tiny
from safetensors import safe_open

from lens_emotion.errors import (
    LensEmotionError,
    ModelUnavailableError,
    ProcessedModelError,
    UnknownModelError,
    UnsupportedModelError,
)
from lens_emotion.models import hooked, placement
from lens_emotion.models.access import check_raw_basis, describe, hook_name, parameter_count
from lens_emotion.models.catalog import CATALOG, TINY, find_spec
from lens_emotion.models.forward import residual_cache
from lens_emotion.models.loading import load_model, tiny_folder
from lens_emotion.models.prompting import pad, tokenise_text

TEXTS = (
    "Anna was in the kitchen and she smiled.",
    "Ben walked to the market.",
    "It rained. Nora read a book by the sea.",
)


def hidden_states(model, tokens, mask):
    """Outputs of the blocks of a plain Hugging Face model, caught by forward hooks."""
    blocks = model.transformer.h if hasattr(model, "transformer") else model.model.layers
    caught, handles = {}, []
    for i, block in enumerate(blocks):

        def keep(module, inputs, output, i=i):
            caught[i] = output[0] if isinstance(output, tuple) else output

        handles.append(block.register_forward_hook(keep))
    with torch.no_grad():
        model(tokens, attention_mask=mask.long())
    for handle in handles:
        handle.remove()
    return caught


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", TINY_NAMES)
def test_resid_post_agrees_with_hugging_face_padded_and_one_by_one(name, backend):
    model = tiny(name, backend)
    rows = [tokenise_text(model, text).ids for text in TEXTS]
    tokens, mask = pad(rows, 0)
    batched = residual_cache(model, tokens, mask)
    for i, row in enumerate(rows):
        single = residual_cache(model, torch.tensor([row]))
        truth = hidden_states(plain(name), torch.tensor([row]), torch.ones(1, len(row)))
        for layer in range(model.cfg.n_layers):
            reference = truth[layer][0]
            for got in (single[hook_name(layer)][0], batched[hook_name(layer)][i, : len(row)]):
                assert (got - reference).norm() / reference.norm() < 1e-4


@pytest.mark.parametrize("spec", TINY, ids=lambda s: s.name)
def test_catalog_rows_of_the_tiny_models_are_true(spec):
    info = describe(tiny(spec.name))
    parameters = sum(p.numel() for p in plain(spec.name).parameters())
    assert (info.family, info.n_layers, info.d_model) == (spec.family, spec.n_layers, spec.d_model)
    assert parameters / 1e6 == pytest.approx(spec.millions, abs=0.06)
    assert (tiny_folder(spec) / "model.safetensors").stat().st_size < 1.5e6


def test_mistral_has_a_sliding_window_shorter_than_its_context():
    config = plain("tiny-mistral").config
    assert config.sliding_window < config.max_position_embeddings


def test_catalog_holds_the_papers_models_and_no_name_twice():
    names = [s.name for s in CATALOG]
    assert len(set(names)) == len(names)
    assert {s.name for s in CATALOG if s.paper == "named"} == {
        "gpt2",
        "llama-3.2-3b",
        "llama-3.2-3b-instruct",
        "llama-3.1-8b",
        "llama-3.1-8b-instruct",
        "mistral-7b-instruct-v0.3",
    }
    assert {s.family for s in CATALOG} == {"gpt2", "gemma", "qwen", "llama", "mistral"}
    assert find_spec("OpenAI-Community/GPT2") is find_spec("gpt2")


@needs_hooked
@pytest.mark.parametrize("name", TINY_NAMES)
def test_fingerprint_is_the_same_on_both_backends(name):
    assert describe(tiny(name)).fingerprint == describe(tiny(name, "hooked")).fingerprint


def test_fingerprint_survives_bfloat16_and_tells_models_apart():
    half = load_model("tiny-llama", dtype="bfloat16", device="cpu")
    assert describe(half).fingerprint == describe(tiny()).fingerprint
    assert len({describe(tiny(name)).fingerprint for name in TINY_NAMES}) == len(TINY_NAMES)


def test_unknown_name_lists_near_matches():
    with pytest.raises(UnknownModelError, match="tiny-llama"):
        load_model("tiny-lama")


@pytest.mark.parametrize(
    ("name", "words"), [("/no/such/folder", "no folder"), ("missing.gguf", "no file"), ("./nowhere", "no folder")]
)
def test_missing_paths_are_named(name, words):
    with pytest.raises(ModelUnavailableError, match=words):
        load_model(name)


def test_folder_without_config_tokenizer_or_weights_says_which(tmp_path):
    source = tiny_folder(TINY[0])
    with pytest.raises(ModelUnavailableError, match=r"config\.json"):
        load_model(str(tmp_path))
    shutil.copy(source / "config.json", tmp_path)
    with pytest.raises(ModelUnavailableError, match="no tokenizer"):
        load_model(str(tmp_path))
    for file in source.glob("tokenizer*"):
        shutil.copy(file, tmp_path)
    with pytest.raises(ModelUnavailableError, match="safetensors"):
        load_model(str(tmp_path))


def test_truncated_weights_are_an_error_with_the_folder_in_it(tmp_path):
    folder = tmp_path / "cut"
    shutil.copytree(tiny_folder(TINY[0]), folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ModelUnavailableError, match="cut"):
        load_model(str(folder))


def test_a_local_folder_loads_like_the_name(tmp_path):
    model = load_model(str(tiny_folder(TINY[3])), device="cpu")
    assert describe(model).fingerprint == describe(tiny(TINY[3].name)).fingerprint


def test_hub_that_cannot_be_reached_or_gates_is_one_line(monkeypatch):
    import huggingface_hub

    class Unreachable:
        def model_info(self, *args, **kwargs):
            raise OSError("[Errno -2] Name or service not known")

    monkeypatch.setattr(huggingface_hub, "HfApi", Unreachable)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *a, **k: None)
    with pytest.raises(ModelUnavailableError, match="cannot fetch openai-community/gpt2"):
        load_model("gpt2")
    with pytest.raises(ModelUnavailableError, match="gated"):
        load_model("llama-3.2-1b")


def test_unknown_backend_dtype_and_device_are_refused():
    with pytest.raises(UnsupportedModelError, match="backend"):
        load_model("tiny-llama", backend="fast")
    with pytest.raises(UnsupportedModelError, match="dtype"):
        load_model("tiny-llama", dtype="float8")
    if not torch.cuda.is_available():
        with pytest.raises(UnsupportedModelError, match="cuda"):
            load_model("tiny-llama", device="cuda")


def test_float16_is_refused_for_gemma_only():
    with pytest.raises(UnsupportedModelError, match="bfloat16"):
        load_model("tiny-gemma", dtype="float16", device="cpu")
    assert placement.choose_dtype("float16", "cpu", "llama") == torch.float16


def test_hooked_backend_without_hooked_transformer_says_what_to_do(monkeypatch):
    monkeypatch.setattr(hooked, "available", lambda: False)
    with pytest.raises(UnsupportedModelError, match="bridge"):
        load_model("tiny-llama", backend="hooked")


def test_something_that_is_no_model_is_refused():
    with pytest.raises(UnsupportedModelError, match="load_model"):
        describe(torch.nn.Linear(2, 2))


@needs_hooked
def test_processed_hooked_transformer_is_refused_unless_allowed():
    import copy

    model = copy.deepcopy(tiny("tiny-gpt2", "hooked"))
    check_raw_basis(model)
    model.process_weights_(fold_ln=False, center_writing_weights=True, center_unembed=False)
    with pytest.raises(ProcessedModelError, match="from_pretrained_no_processing"):
        check_raw_basis(model)
    check_raw_basis(model, allow_processed=True)


def test_bridge_in_compatibility_mode_is_refused():
    model = load_model("tiny-gpt2", device="cpu")
    model.enable_compatibility_mode(disable_warnings=True)
    with pytest.raises(ProcessedModelError):
        check_raw_basis(model)


def test_gguf_file_loads_with_the_weights_it_was_written_from(tmp_path):
    gguf = pytest.importorskip("gguf")
    path = tmp_path / "small.gguf"
    _write_llama_gguf(gguf, path)
    model = load_model(str(path), device="cpu")
    assert describe(model).family == "llama"
    reference = plain("tiny-llama")
    rows = torch.tensor([[1, 5, 9, 12, 40]])
    truth = hidden_states(reference, rows, torch.ones(1, 5))[5]
    got = residual_cache(model, rows)[hook_name(5)]
    assert (got - truth).norm() / truth.norm() < 1e-3


def _write_llama_gguf(gguf, path):
    """tiny-llama as a float32 GGUF file, with llama.cpp's names and its permuted query and key rows."""
    reference = plain("tiny-llama")
    config = reference.config
    tokens = json.loads((tiny_folder(TINY[3]) / "tokenizer.json").read_text(encoding="utf-8"))
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    vocabulary = {**tokens["model"]["vocab"], **{t["content"]: t["id"] for t in tokens["added_tokens"]}}
    writer.add_token_list(sorted(vocabulary, key=vocabulary.__getitem__))
    writer.add_token_merges([" ".join(pair) for pair in tokens["model"]["merges"]])
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_id)
    names = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in reference.state_dict().items():
        if name == "lm_head.weight":
            continue
        if name.startswith("model.layers."):
            _, _, layer, rest = name.split(".", 3)
            target = f"blk.{layer}.{names[rest.removesuffix('.weight')]}.weight"
            for key, n in heads.items():
                if key in rest:  # llama.cpp stores rotary pairs interleaved
                    tensor = tensor.reshape(n, 2, -1, tensor.shape[1]).swapaxes(1, 2).reshape(tensor.shape)
        else:
            target = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}[name]
        writer.add_tensor(target, tensor.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_every_error_of_loading_is_a_lens_emotion_error():
    for kind in (UnknownModelError, ModelUnavailableError, UnsupportedModelError, ProcessedModelError):
        assert issubclass(kind, LensEmotionError)


def test_both_backends_count_the_parameters_of_the_checkpoint(model):
    folder = tiny_folder(find_spec(describe(model).name))
    with safe_open(folder / "model.safetensors", "pt") as checkpoint:
        stored = sum(checkpoint.get_tensor(name).numel() for name in checkpoint.keys())  # noqa: SIM118 - not a dict
    assert parameter_count(model) == stored
