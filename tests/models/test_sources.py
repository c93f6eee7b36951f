"""What a model's name means, and which models are refused: one line, before weights are read."""

from __future__ import annotations

import json
import os
import shutil
from inspect import unwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import tiny

from lens_emotion.errors import LensEmotionError, ModelUnavailableError, UnknownModelError, UnsupportedModelError
from lens_emotion.extraction.comprehension import default_stimuli
from lens_emotion.models import loading
from lens_emotion.models.catalog import TINY, find_spec
from lens_emotion.models.checkpoint import check_kind, check_loaded, check_vocabulary
from lens_emotion.models.loading import load_model, resolve, tiny_folder
from lens_emotion.models.placement import choose_device, choose_dtype
from lens_emotion.run.config import StudyConfig, read_study_file
from lens_emotion.run.inputs import check_inputs, texts_for

SOURCE = tiny_folder(TINY[3])  # tiny-llama
CONFIG = json.loads((SOURCE / "config.json").read_text())


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Makes a copy of tiny-llama with another config; the working directory is beside it."""
    monkeypatch.chdir(tmp_path)

    def make(name, **changes):
        shutil.copytree(SOURCE, tmp_path / name)
        (tmp_path / name / "config.json").write_text(json.dumps(CONFIG | changes))
        return tmp_path / name

    return make


@pytest.mark.parametrize("name", ["", " ", "\n", None, 3, 0, b"tiny-llama", [], (), True])
def test_no_name_is_no_model(name):
    assert find_spec(name) is None
    with pytest.raises(UnknownModelError, match="names no model; give a name"):
        unwrap(resolve)(name)  # the suite's own check of types aside


@pytest.mark.parametrize("name", [".", "/", "//", "..", "...", "./", "./.", "....//"])
def test_dots_and_slashes_are_folders_without_a_model(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelUnavailableError, match=r"no config\.json|no folder"):
        resolve(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("x" * 300, "no model"),
        ("org/" + "x" * 300, "no hub id"),
        ("a\0b", "no model"),
        ("/a\0b", "no folder"),
        ("a\nb/c", "no hub id"),
        ("org/mo del", "no hub id"),
        ("ö/ü", "no hub id"),
        ("org/..", "no hub id"),
        ("org/-x", "no hub id"),
        ("~nobody-of-that-name/x", "no folder"),
        ("org/model/", "no folder"),
        ("tiny-llama/", "no folder"),
        ("C:\\models\\x", "no folder"),
        ("a/b/c", "no folder"),
        ("https://huggingface.co/org/model", "give the hub id"),
        ("gpt2 ", "did you mean gpt2"),
        ("-", "no model '-': Give a name"),
        ("x.gguf", "no file"),
    ],
)
def test_a_name_that_nothing_bears_is_one_error(name, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((UnknownModelError, ModelUnavailableError), match=words):
        resolve(name)


def test_a_path_is_a_path_and_a_name_is_the_catalogs(made):
    own = made("tiny-gpt2", rope_theta=1.0)
    for path in (own, Path("tiny-gpt2"), "./tiny-gpt2", str(own), os.path.relpath(own, own)):
        if str(path) != ".":
            assert resolve(path).location.endswith("tiny-gpt2")
    with pytest.raises(UnknownModelError, match=r"give \./tiny-gpt2 for the folder"):
        resolve("tiny-gpt2")
    assert load_model(Path("tiny-gpt2"), device="cpu").cfg.n_layers == 6


@pytest.mark.parametrize("name", ["gpt2", "GPT2", "openai-community/gpt2", "qwen3-0.6b"])
def test_a_folder_called_as_a_model_of_the_hub_is_refused_with_both_spellings(made, name):
    with pytest.raises(UnknownModelError, match=f"'{name}' is a model of the catalog and a folder") as told:
        made(name, architectures=["LlamaForCausalLM"])
        resolve(name)
    assert f"./{name}" in str(told.value) and "for that of the hub" in str(told.value)


def test_an_empty_folder_or_a_file_of_that_name_is_in_nobodys_way(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpt2").mkdir()
    (tmp_path / "tiny-llama").write_text("")
    assert resolve("gpt2").on_hub and resolve("tiny-llama").spec is TINY[3]


def test_a_study_file_may_not_mean_two_models_by_one_name(made):
    folder = made("gpt2")
    file = folder.parent / "study.toml"
    file.write_text('[[models]]\nname = "gpt2"\n')
    with pytest.raises(LensEmotionError, match=r"line 2.*give \./gpt2"):
        read_study_file(file)


@pytest.mark.parametrize(
    "given", [{"scenarios": "x.txt"}, {"prompts": "x.txt"}, {"judge": "~no/one"}, {"device": "gpu"}]
)
def test_what_a_study_is_given_is_looked_at_before_it_begins_though_its_step_is_off(given, tmp_path, monkeypatch):
    """A file of scenarios that ended in neither .toml nor .json was passed over for those of the package."""
    monkeypatch.chdir(tmp_path)
    Path("x.txt").write_text("calm")
    with pytest.raises(LensEmotionError):
        check_inputs(StudyConfig(models=("tiny-llama",), generation=False, steering=False, **given))


# Whose stimuli: the catalog's only for the model that it is.


def test_a_folder_is_a_model_of_the_catalog_by_its_weights_not_by_its_name(made):
    copied = made("renamed")
    assert resolve(copied).spec is TINY[3] and resolve(copied).label == "renamed"
    other = made("tiny-gpt2")
    assert resolve(other).spec is TINY[3], "its weights are tiny-llama's"
    assert resolve(other).label == "tiny-gpt2-local"
    weights = other / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert resolve(other).spec is None and texts_for(str(other), None).name == "passages"
    assert default_stimuli(load_model(other, device="cpu")) == "passages"
    gpt2 = made("gpt2", num_hidden_layers=12, hidden_size=768)
    (gpt2 / "model.safetensors").write_bytes(data)
    assert resolve(gpt2).label == "gpt2-local", "sizes alone do not make a Llama a GPT-2"


def test_an_own_object_reads_passages_unless_it_is_one_of_the_tiny_five(llama):
    """Objects that `load_model` did not make bear neither name nor row."""
    assert default_stimuli(llama) == "world-en"
    own = _bare("tiny-llama")
    assert default_stimuli(own) == "world-en"
    with torch.no_grad():
        next(own.original_model.parameters()).add_(0.1)
        own.blocks[0].mlp.W_out.add_(0.1)
    assert default_stimuli(own) == "passages"
    stub = SimpleNamespace(cfg=SimpleNamespace(n_layers=12, d_model=64, architecture="LlamaForCausalLM"))
    assert default_stimuli(stub) == "passages"
    assert default_stimuli(SimpleNamespace(**vars(stub), lens_emotion_name="")) == "passages"


def _bare(name):
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(
        tiny_folder(find_spec(name)), dtype=torch.float32, attn_implementation="eager"
    )
    options = {"tokenizer": tiny(name).tokenizer, "dtype": torch.float32, "device": "cpu"}
    return TransformerBridge.boot_transformers("own", hf_model=plain, **options).eval()


# Kinds of models, told by the config.


EXPERTS = [
    {"architectures": ["MixtralForCausalLM"], "num_local_experts": 8},
    {"architectures": ["MixtralForCausalLM"]},
    {"architectures": ["Qwen3MoeForCausalLM"], "num_experts": 128},
    {"architectures": ["GptOssForCausalLM"], "num_local_experts": 32},
    {"architectures": ["DeepseekV3ForCausalLM"], "n_routed_experts": 256},
    {"architectures": ["OlmoeForCausalLM"], "num_experts": None},
    {"architectures": ["DbrxForCausalLM"], "ffn_config": {"moe_num_experts": 16}},
    {"architectures": ["Llama4ForConditionalGeneration"], "text_config": {"num_local_experts": 16}},
    {"architectures": ["LlamaForCausalLM"], "num_experts": 4},
]
OTHERS = [
    ({"architectures": ["BertModel"]}, "--judge"),
    ({"architectures": ["BertForMaskedLM"]}, "--judge"),
    ({"architectures": ["BertLMHeadModel"]}, "--judge"),
    ({"architectures": ["MPNetModel"]}, "--judge"),
    ({"architectures": ["RobertaForSequenceClassification"]}, "--judge"),
    ({"architectures": ["LlamaModel"]}, "--judge"),
    ({"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True}, "encoder with a decoder"),
    ({"architectures": ["BartForCausalLM"], "is_encoder_decoder": True}, "encoder with a decoder"),
    ({"architectures": ["ViTModel"], "image_size": 224}, "no language model"),
    ({"architectures": ["WhisperModel"], "num_mel_bins": 80}, "no language model"),
    ({}, "no architecture"),
    ({"architectures": []}, "no architecture"),
    ({"architectures": None}, "no architecture"),
    ({"architectures": [3]}, "no architecture"),
]
DENSE = [
    CONFIG,
    {"architectures": ["GPT2LMHeadModel"]},
    {"architectures": ["GraniteMoeHybridForCausalLM"], "num_local_experts": 0},
    {"architectures": ["Qwen2ForCausalLM"], "id2label": {0: "a"}, "num_experts": 1},
    {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": {}, "vision_config": {}},
    {"architectures": ["AcmeForCausalLM"]},
]


@pytest.mark.parametrize("config", EXPERTS, ids=lambda c: c["architectures"][0])
def test_a_mixture_of_experts_is_refused(config):
    with pytest.raises(UnsupportedModelError, match="mixture of experts"):
        check_kind(config, "it")


@pytest.mark.parametrize(("config", "words"), OTHERS)
def test_what_is_no_decoder_is_refused(config, words):
    with pytest.raises(UnsupportedModelError, match=words):
        check_kind(config, "it")


@pytest.mark.parametrize("config", DENSE, ids=lambda c: c["architectures"][0])
def test_dense_decoders_pass(config):
    check_kind(config, "it")


def test_a_folder_of_another_kind_is_refused_before_a_study_begins(made):
    folder = made("experts", architectures=["MixtralForCausalLM"], num_local_experts=4)
    with pytest.raises(UnsupportedModelError, match="mixture of experts"):
        check_inputs(StudyConfig(models=("tiny-llama", str(folder))))


# Files.


@pytest.mark.parametrize(
    "text", ["{nope", "[1]", "", "null", "3", '"x"', b"\xff\xfe\0", "[" * 100_000], ids=lambda t: repr(t[:8])
)
def test_a_config_that_is_no_table_is_one_error(made, text):
    folder = made("m")
    (folder / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ModelUnavailableError, match=r"cannot read .*config\.json"):
        resolve(folder)


def test_a_config_of_a_gigabyte_is_not_read(made):
    folder = made("m")
    os.truncate(folder / "config.json", 10**9)  # a hole, no bytes
    with pytest.raises(ModelUnavailableError, match=r"more than .* MiB"):
        resolve(folder)


def test_weights_that_are_not_whole_are_named(made):
    folder = made("m")
    weights = folder / "model.safetensors"
    good = weights.read_bytes()
    for data in (b"", b"x" * 90, b"\xff" * 16, good[:-1], good + b"x"):
        weights.write_bytes(data)
        with pytest.raises(ModelUnavailableError, match="cut off or damaged"):
            resolve(folder)
    weights.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(ModelUnavailableError, match="git lfs pull"):
        resolve(folder)
    weights.rename(folder / "weights.safetensors")
    with pytest.raises(ModelUnavailableError, match="rename"):
        resolve(folder)


def test_missing_shards_and_a_broken_index_are_named(made):
    folder = made("m")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00003.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {str(i): f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)}}))
    with pytest.raises(ModelUnavailableError, match=r"lacks 2 of 3 files .*model-00002-of-00003"):
        resolve(folder)
    for text in ("{}", '{"weight_map": {"a": 3}}', '{"weight_map": []}'):
        index.write_text(text)
        with pytest.raises(ModelUnavailableError, match="weight_map"):
            resolve(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_hidden_layers": 9}, "files lack"),
        ({"num_hidden_layers": 4}, "says 4 layers, but the files hold more"),
        ({"num_hidden_layers": 0}, "num_hidden_layers = 0"),
        ({"tie_word_embeddings": False}, "lack 1 weights .*lm_head"),
        ({"attention_bias": True}, "files lack"),
        ({"hidden_size": 128}, "other sizes"),
        ({"intermediate_size": 100}, "other sizes"),
        ({"num_hidden_layers": "six"}, "num_hidden_layers"),
        ({"vocab_size": 100}, "other sizes"),
        ({"model_type": "nonsense"}, "newer transformers"),
    ],
    ids=str,
)
def test_a_config_that_does_not_fit_the_weights_is_refused(made, changes, words):
    with pytest.raises(ModelUnavailableError, match=words):
        load_model(made("m", **changes), device="cpu")


def test_what_else_files_hold_is_no_fault():
    check_loaded(
        {"missing_keys": [], "unexpected_keys": ["lm_head.bias", "model.layers.5.rotary_emb.inv_freq"]}, "m", 6
    )
    gemma = SimpleNamespace(get_text_config=lambda: SimpleNamespace(vocab_size=262144))
    check_vocabulary(SimpleNamespace(vocab_size=262144, __len__=lambda: 262145), gemma, "gemma")


def test_folders_that_may_not_be_read_say_so(made, monkeypatch):
    folder = made("m")

    def forbidden(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_dir", forbidden)
    with pytest.raises(ModelUnavailableError, match="may not read"):
        resolve(str(folder))


def test_other_files_say_what_they_are(made):
    folder = made("m")
    gguf = folder / "x.gguf"
    for path, words in ((folder / "model.safetensors", "is a file; give the folder"), (gguf, "is cut off")):
        gguf.write_bytes(b"GGUF")
        with pytest.raises(ModelUnavailableError, match=words):
            load_model(path, device="cpu")
    (folder / "adapter_config.json").write_text("{}")
    (folder / "config.json").unlink()
    with pytest.raises(ModelUnavailableError, match="merge"):
        resolve(folder)


def test_a_control_vector_is_no_model(tmp_path):
    pytest.importorskip("gguf")
    from lens_emotion.vectors.interchange import ControlFile, write_control_file

    path = write_control_file(tmp_path / "cv.gguf", ControlFile({2: torch.arange(1.0, 9.0)}, "llama"))
    with pytest.raises(ModelUnavailableError, match="control vector, no model; `lens-emotion vectors import`"):
        load_model(path)


# Devices, precisions, revisions.


@pytest.mark.parametrize(
    "device", ["gpu", "cpu:3", "tpu", "", "meta", "cuda:x", "CPU", "cpu ", [], "mps:1", "hip", "a\nb"]
)
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(UnsupportedModelError, match="device"):
        unwrap(choose_device)(device)


def test_a_gpu_too_many_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == "cuda:1" and choose_device(None) == "cuda"
    with pytest.raises(UnsupportedModelError, match="the last of its kind here is cuda:1"):
        choose_device("cuda:7")


@pytest.mark.parametrize("dtype", ["fp16", "int8", torch.int8, torch.bool, torch.float8_e5m2, "", None, 16, []])
def test_precisions_that_weights_do_not_have_are_refused(dtype):
    with pytest.raises(UnsupportedModelError, match="unknown dtype"):
        unwrap(choose_dtype)(dtype, "cpu", "llama")


def test_a_revision_is_of_a_hub_repository(monkeypatch):
    for name in ("tiny-llama", SOURCE):
        with pytest.raises(UnsupportedModelError, match="leave it out"):
            load_model(name, revision="main")
    with pytest.raises(UnsupportedModelError, match="it is empty"):
        load_model("gpt2", revision="")


def test_a_revision_that_is_not_cached_is_one_error_offline(monkeypatch):
    import huggingface_hub

    asked = []

    def cached(repo, file, revision=None):
        asked.append(revision)
        return str(SOURCE / file) if revision is None else None

    class Offline:
        def model_info(self, *args, **kwargs):
            raise OSError("offline mode is enabled")

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", cached)
    monkeypatch.setattr(huggingface_hub, "HfApi", Offline)
    monkeypatch.setattr(loading, "_from_pretrained", lambda *_, **__: pytest.fail("began to load"))
    with pytest.raises(ModelUnavailableError, match="at revision v1 from the hub"):
        load_model("gpt2", revision="v1")
    assert asked[-1] == "v1"
