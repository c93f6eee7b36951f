"""A model's fingerprint: changed by any weight, the same for every copy of one checkpoint, in whatever form."""

from __future__ import annotations

import copy
import json
import shutil
import warnings
from dataclasses import replace

import pytest
import torch
from conftest import BACKENDS, TINY_NAMES, needs_hooked, tiny

from lens_emotion.errors import FingerprintError
from lens_emotion.extraction import activations
from lens_emotion.models.access import architecture_of, describe
from lens_emotion.models.catalog import TINY
from lens_emotion.models.forward import shortcut
from lens_emotion.models.identity import VERSION, _checkpoint, _converted, _sample, identity_of
from lens_emotion.models.loading import load_model, tiny_folder
from lens_emotion.vectors.emotion_vectors import EmotionVectors


def of(model):
    return identity_of(model, architecture_of(model))


def parameters(model):
    return dict((getattr(model, "original_model", None) or model).named_parameters())


@pytest.mark.parametrize("how", ["dense", "single"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", TINY_NAMES)
def test_perturbing_any_tensor_gives_another_fingerprint(name, backend, how):
    model = load_model(name, backend=backend, device="cpu")
    seen = {of(model)}
    for i, (key, held) in enumerate(parameters(model).items()):
        if ".qkv." in key:
            continue  # the joint tensor of the parts that are tried
        before = held.detach().clone()
        flat = held.data.view(-1) if held.is_contiguous() else held.data.reshape(-1)
        if how == "dense":
            held.data.mul_(1.02).add_(0.01)
        elif held.is_contiguous():
            flat[(7 * i + 3) % flat.numel()] += 0.25
        else:
            held.data[0, -1] += 0.25
        found = of(model)
        assert found not in seen, f"{key} was changed and nobody noticed"
        seen.add(found)
        held.data.copy_(before)
    assert of(model) in seen and len(seen) > 50


@pytest.mark.parametrize("name", TINY_NAMES)
def test_one_checkpoint_is_one_model_in_either_precision_and_on_either_backend(name):
    copies = [load_model(name, backend=b, dtype=d, device="cpu") for b in BACKENDS for d in ("float32", "bfloat16")]
    assert len({describe(m).fingerprint for m in copies}) == 1
    assert describe(copies[0]).fingerprint.startswith(VERSION)


def test_it_does_not_depend_on_parts_that_step_aside_nor_on_deep_copies():
    model = tiny("tiny-gpt2")
    with shortcut(model, whole_blocks=True):
        aside = of(model)
    assert aside == of(model) == of(copy.deepcopy(model))


@needs_hooked
@pytest.mark.parametrize("name", [n for n in TINY_NAMES if n != "tiny-gemma"])
def test_a_hooked_object_in_hand_has_the_fingerprint_of_its_checkpoint(name):
    model = load_model(name, backend="hooked", device="cpu")
    del model.lens_emotion_identity  # as if the user had converted it
    assert of(model) == describe(tiny(name)).fingerprint


@needs_hooked
def test_what_gemmas_conversion_did_is_undone_up_to_rounding():
    """Its numbers are no longer those of the checkpoint to the last bit, so that no hash tells whether it is undone."""
    whole = 1 << 62
    converted = {p[0]: _sample(whole, *p) for p in _converted(tiny("tiny-gemma", "hooked"))}
    source = {p[0]: _sample(whole, *p) for p in _checkpoint(tiny("tiny-gemma").original_model)}
    shared = [n for n in converted if n in source]
    assert sum("norm" in n for n in shared) > 20 and "model.embed_tokens.weight" in shared
    for name in shared:
        found, truth = (x[name].view(torch.bfloat16).float() for x in (converted, source))
        torch.testing.assert_close(found, truth, rtol=2**-7, atol=1e-6, msg=name)


def test_every_row_and_every_column_of_a_large_matrix_counts(monkeypatch):
    from lens_emotion.models import identity

    model = load_model("tiny-llama", device="cpu")
    monkeypatch.setattr(identity, "SMALL", 0)
    monkeypatch.setattr(identity, "WHOLE", 1 << 10)
    monkeypatch.setattr(identity, "EDGE", 8)
    weight, before = parameters(model)["model.embed_tokens._original_component.weight"].data, of(model)
    for where in [(slice(700, 701), slice(None)), (slice(None), slice(33, 34)), (slice(None), slice(None))]:
        kept = weight.clone()
        weight[where] += 0.5
        assert of(model) != before
        weight.copy_(kept)
    assert of(model) == before


class Packed(torch.nn.Parameter):
    """Weights as bitsandbytes packs them: integers that no index or arithmetic of float weights may touch."""

    def __new__(cls, values):
        return super().__new__(cls, values, requires_grad=False)


@pytest.mark.parametrize("bits", [8, 4])
def test_packed_weights_have_a_fingerprint_of_their_own_with_their_scales(bits):
    model, plain = load_model("tiny-llama", device="cpu"), describe(tiny()).fingerprint
    linear = model.blocks[3].mlp.original_component.down_proj.original_component
    weight = linear.weight.data
    scales = weight.abs().amax(1) / 127
    packed = (weight / scales[:, None]).round().to(torch.int8)
    linear.weight = Packed(packed if bits == 8 else packed.view(torch.uint8).flatten()[::2].clone()[:, None])
    if bits == 8:
        linear.weight.SCB = scales
    else:
        linear.weight.quant_state = type("QuantState", (), {"absmax": scales})()
    info = describe(model)  # today: NotImplementedError or TypeError
    assert (info.fingerprint != plain and info.former == "") or bits == 8
    again = of(model)
    scales.mul_(2)
    assert info.fingerprint == again != of(model)
    scales.div_(2)
    if bits == 8:  # the first pass moves the scales from the weight to its module
        linear.state = type("State", (), {"SCB": scales})()
        linear.weight.SCB = None
        assert of(model) == again


def test_weights_that_are_nowhere_are_refused_in_words():
    from transformers import AutoConfig, AutoModelForCausalLM

    from lens_emotion.errors import UnsupportedModelError

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tiny_folder(TINY[3])))
    with pytest.raises(UnsupportedModelError, match="not in memory"):
        identity_of(model, "LlamaForCausalLM")


def test_a_merged_adapter_of_attention_makes_foreign_vectors_foreign(vectors):
    from lens_emotion.steering.steer import steer

    model = load_model("tiny-llama", device="cpu")
    held = parameters(model)
    key = next(k for k in held if "layers.2" in k and "q_proj" in k)
    held[key].data.add_(0.05 * torch.randn(64, 2) @ torch.randn(2, 64))
    with pytest.raises(FingerprintError, match="extract on this model"), steer(model, vectors["calm"], 1):
        pass


def test_a_folder_whose_weights_were_replaced_is_read_again(tmp_path):
    from safetensors.torch import load_file, save_file

    from lens_emotion.run.config import StudyConfig
    from lens_emotion.run.store import Store
    from lens_emotion.stimuli.library import load_stimuli
    from lens_emotion.study.steps import open_model, read, silent

    folder = shutil.copytree(tiny_folder(TINY[3]), tmp_path / "mine")
    config = StudyConfig(models=(str(folder),))
    whole = load_stimuli("world-en", per_cell=1)
    texts = replace(whole, items=whole.items[::12])

    def story_mean():
        store = Store.open(tmp_path / "run")
        run = open_model(load_model(str(folder), device="cpu"), config, store, silent)
        return read(replace(run, texts=texts))[0]

    first = story_mean()
    weights = load_file(folder / "model.safetensors")
    name = next(n for n in weights if "layers.0" in n and "v_proj" in n)
    weights[name] = weights[name] * 0.5
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    second = story_mean()
    assert first.header.fingerprint != second.header.fingerprint
    assert not torch.equal(first.values, second.values)
    assert story_mean().header == second.header


def test_files_of_before_keep_loading_and_say_so_once_by_name(vectors, tmp_path, monkeypatch):
    from lens_emotion.steering.steer import steer

    monkeypatch.setattr(activations, "_TOLD", set())
    former = describe(tiny()).former
    old = replace(vectors, header=vectors.header.with_(fingerprint=former))
    path = old.save(tmp_path / "old.safetensors")
    with pytest.warns(UserWarning, match=r"old\.safetensors is of a version before 0\.2"):
        loaded = EmotionVectors.load(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        EmotionVectors.load(path)
    with steer(tiny(), loaded["calm"], 1):
        pass
    with pytest.raises(FingerprintError), steer(tiny("tiny-mistral"), loaded["calm"], 1):
        pass
    assert json.dumps(loaded.header.to_dict())


def in_json(file, **changes):
    def change(folder):
        path = folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


REPLACED = {
    "a constant of the norms": in_json("config.json", rms_norm_eps=0.5),
    "the positions": in_json("config.json", rope_parameters={"rope_type": "default", "rope_theta": 50.0}),
    "the end of a text": in_json("generation_config.json", eos_token_id=[0, 7]),
    "the template": in_json("tokenizer_config.json", chat_template="{{ messages[0]['content'] }}!"),
}


@pytest.mark.parametrize("what", REPLACED)
def test_a_study_knows_another_configuration_or_tokenizer_too(what, tmp_path):
    from lens_emotion.run.inputs import Identity

    folder = shutil.copytree(tiny_folder(TINY[3]), tmp_path / "mine")
    for path in folder.glob("chat_template*"):
        path.unlink()
    if not (folder / "generation_config.json").exists():
        (folder / "generation_config.json").write_text("{}")

    def identity():
        model = load_model(str(folder), device="cpu")
        return Identity.of(model, describe(model))

    before = identity()
    assert before == identity()
    REPLACED[what](folder)
    assert before != identity()
