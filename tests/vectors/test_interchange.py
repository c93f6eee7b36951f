"""Vectors for llama.cpp, repeng and steering-vectors, and back: names, numbers, layers; and the schemas of files."""

from __future__ import annotations

import json
import struct
import sys
from dataclasses import dataclass, replace
from importlib import resources
from types import ModuleType, SimpleNamespace

import jsonschema
import pytest
import torch
from conftest import plain, tiny
from safetensors import safe_open
from steered import PROMPT

from lens_emotion.cli.app import main
from lens_emotion.errors import ArtifactError, DoseError, FingerprintError, UnsupportedModelError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.laws.copies import blocks_of
from lens_emotion.models.access import hook_name
from lens_emotion.models.forward import residual_cache
from lens_emotion.models.prompting import encode
from lens_emotion.steering.steer import steer
from lens_emotion.vectors.emotion_vectors import EmotionVectors
from lens_emotion.vectors.interchange import (
    ControlFile,
    as_set,
    displacements,
    from_gguf,
    from_steering_vector,
    read_control_file,
    to_gguf,
    to_steering_vector,
    write_control_file,
)

DOSE, LAYER = 2.5, 3


@dataclass
class Foreign:
    """What the package steering-vectors calls SteeringVector, as far as we touch it."""

    layer_activations: dict
    layer_type: str = "decoder_block"


def gguf_reader(path):
    gguf = pytest.importorskip("gguf")
    return gguf.GGUFReader(path)


def foreign_file(path, parts, hint="llama"):
    """A control vector as repeng writes it: without anything of ours."""
    return write_control_file(path, ControlFile(parts, hint))


def test_a_gguf_file_is_what_llama_cpp_asks_for(vectors, tmp_path):
    path = to_gguf(vectors["calm"], tmp_path / "calm.gguf", dose=DOSE, layers="all")
    read = gguf_reader(path)
    assert str(bytes(read.get_field("general.architecture").parts[-1]), "utf-8") == "controlvector"
    assert str(bytes(read.get_field("controlvector.model_hint").parts[-1]), "utf-8") == "llama"
    assert int(read.get_field("controlvector.layer_count").parts[-1][0]) == vectors.n_layers - 1
    held = {t.name: t for t in read.tensors}
    assert set(held) == {f"direction.{k}" for k in range(1, vectors.n_layers)}
    calm = vectors["calm"]
    for k in range(1, vectors.n_layers):
        tensor = held[f"direction.{k}"]
        assert tensor.tensor_type.name == "F32" and tuple(tensor.shape) == (vectors.d_model,)
        added = torch.from_numpy(tensor.data.copy())
        torch.testing.assert_close(added, DOSE * calm.natural[k] * calm.direction[k])


def test_scale_1_of_a_file_is_what_steering_does_at_the_output_of_that_block(vectors, tmp_path):
    """The layer numbering: direction.k on the output of block k of the plain model equals `steer` at layer k."""
    model, hf = tiny("tiny-llama"), plain("tiny-llama")
    ids = torch.tensor([encode(model, PROMPT)])
    path = to_gguf(vectors["angry"], tmp_path / "v.gguf", DOSE, LAYER)
    (k, added), *none = read_control_file(path).directions.items()
    assert (k, none) == (LAYER, [])
    handle = blocks_of(hf)[k].register_forward_hook(
        lambda m, i, out: (out[0] + added, *out[1:]) if isinstance(out, tuple) else out + added
    )
    try:
        with torch.inference_mode():
            theirs = hf(ids).logits
    finally:
        handle.remove()
    with torch.inference_mode(), steer(model, vectors["angry"], DOSE, layers=LAYER):
        ours = model(ids)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dose", [3.0, -0.7])
def test_our_own_file_comes_back_with_its_units(vectors, tmp_path, dose):
    back = from_gguf(to_gguf(vectors["calm"], tmp_path / "v.gguf", dose, "all"), tiny())
    calm = vectors["calm"]
    torch.testing.assert_close(back.direction, calm.direction, rtol=1e-5, atol=1e-6)
    assert torch.equal(back.natural, calm.natural) and torch.equal(back.residual_norm, calm.residual_norm)
    assert (back.name, back.header) == ("calm", calm.header)


def test_a_foreign_file_steers_by_what_it_holds(vectors, tmp_path):
    model, generator = tiny(), torch.Generator().manual_seed(0)
    parts = {2: torch.randn(64, generator=generator), 4: 3 * torch.randn(64, generator=generator)}
    vector = from_gguf(foreign_file(tmp_path / "mood.gguf", parts), model)
    assert vector.name == "mood" and "does not name its model" in vector.header.notes[0]
    assert (vector.residual_norm > 0).all()
    tokens = torch.tensor([encode(model, PROMPT)])
    before = residual_cache(model, tokens)[hook_name(4)]
    with steer(model, vector, 1, layers=4):
        after = residual_cache(model, tokens)[hook_name(4)]
    torch.testing.assert_close(after - before, parts[4].expand_as(after), rtol=1e-4, atol=1e-4)
    for layer, part in displacements(vector, 1.0, [2, 4]).items():
        torch.testing.assert_close(part, parts[layer])


def test_files_are_refused_where_they_do_not_fit(vectors, tmp_path):
    path = to_gguf(vectors["calm"], tmp_path / "v.gguf")
    with pytest.raises(FingerprintError, match=r"tiny-llama.*tiny-mistral"):
        from_gguf(path, tiny("tiny-mistral"))
    foreign = foreign_file(tmp_path / "wide.gguf", {2: torch.ones(65)})
    with pytest.raises(UnsupportedModelError, match="which model"):
        from_gguf(foreign)
    with pytest.raises(UnsupportedModelError, match="width 65"):
        from_gguf(foreign, tiny())
    with pytest.raises(UnsupportedModelError, match="layers 0 to 5"):
        from_gguf(foreign_file(tmp_path / "deep.gguf", {6: torch.ones(64)}), tiny())
    with pytest.raises(ArtifactError, match="block 0"):
        to_gguf(vectors["calm"], path, layers=[0, 3])
    with pytest.raises(DoseError, match="dose 0"):
        to_gguf(vectors["calm"], path, dose=0)
    with pytest.raises(ArtifactError, match="no finite number"):
        foreign_file(path, {1: torch.full((4,), float("nan"))})
    with pytest.raises(ArtifactError, match="no file"):
        from_gguf(tmp_path / "none.gguf", tiny())


def test_a_changed_number_in_our_own_file_is_found(vectors, tmp_path):
    path = to_gguf(vectors["calm"], tmp_path / "v.gguf")
    data = bytearray(path.read_bytes())
    data[-4] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match="checksum"):
        from_gguf(path, tiny())


def test_a_huge_count_is_refused_at_once(vectors, tmp_path):
    """The package gguf would loop 2^62 times over this array."""
    path = tmp_path / "v.gguf"
    key = b"general.architecture"
    body = struct.pack("<Q", len(key)) + key + struct.pack("<IIQ", 9, 6, 2**62)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + body)
    with pytest.raises(ArtifactError, match="counts"):
        read_control_file(path)


def test_steering_vectors_objects_go_both_ways(vectors, monkeypatch):
    package = ModuleType("steering_vectors")
    package.SteeringVector = Foreign
    monkeypatch.setitem(sys.modules, "steering_vectors", package)
    made = to_steering_vector(vectors["calm"], DOSE, [2, 3])
    assert isinstance(made, Foreign) and made.layer_type == "decoder_block" and sorted(made.layer_activations) == [2, 3]
    back = from_steering_vector(made, tiny(), "calm")
    torch.testing.assert_close(back.direction[2:4], vectors["calm"].direction[2:4])
    torch.testing.assert_close(back.natural[2:4], DOSE * vectors["calm"].natural[2:4])
    with pytest.raises(UnsupportedModelError, match="decoder_block"):
        from_steering_vector(replace(made, layer_type="mlp"), tiny())
    monkeypatch.setitem(sys.modules, "steering_vectors", None)
    with pytest.raises(ArtifactError, match="install"):
        to_steering_vector(vectors["calm"])


def test_single_vectors_make_a_set_that_is_saved(vectors, tmp_path):
    made = as_set([vectors["calm"], vectors["angry"]])
    assert made.emotions == ("calm", "angry") and torch.equal(made["angry"].direction, vectors["angry"].direction)
    assert EmotionVectors.load(made.save(tmp_path / "two.safetensors")).emotions == ("calm", "angry")
    alien = replace(vectors["calm"], name="x", header=vectors.header.with_(fingerprint="0"))
    with pytest.raises(FingerprintError):
        as_set([vectors["calm"], alien])
    with pytest.raises(ArtifactError, match="name"):
        as_set([vectors["calm"], vectors["calm"]])


def schema(name):
    found = json.loads(
        resources.files("lens_emotion.files.schemas").joinpath(f"{name}.json").read_text(encoding="utf-8")
    )
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


def metadata(path):
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["lens_emotion"])


def test_every_file_keeps_to_its_schema(acts, vectors, tmp_path):
    held = {
        "pooled_activations": metadata(acts.save(tmp_path / "a.safetensors")),
        "emotion_vectors": metadata(vectors.save(tmp_path / "v.safetensors")),
        "control_vector": json.loads(read_control_file(to_gguf(vectors["calm"], tmp_path / "v.gguf")).own),
    }
    for name, meta in held.items():
        schema(name).validate(meta)
        for key in meta:
            if key != "notes":
                assert not schema(name).is_valid({k: v for k, v in meta.items() if k != key}), (name, key)
    wrong = held["pooled_activations"] | {"records": [{"emotion": 3}]}
    assert not schema("pooled_activations").is_valid(wrong)


@pytest.mark.parametrize(("key", "value", "words"), [("format", 3, "upgrade"), ("format", "two", "upgrade")])
def test_a_newer_format_says_what_to_do(vectors, tmp_path, monkeypatch, key, value, words):
    from lens_emotion.files import artifacts as seal

    monkeypatch.setattr(seal, "FORMAT", value)
    path = vectors.save(tmp_path / "v.safetensors")
    monkeypatch.undo()
    with pytest.raises(ArtifactError, match=words):
        EmotionVectors.load(path)


def test_a_newer_header_says_what_to_do_and_a_file_without_checksum_is_still_read(vectors, acts, tmp_path, monkeypatch):
    newer = replace(vectors, header=vectors.header.with_(schema=2)).save(tmp_path / "v.safetensors")
    with pytest.raises(ArtifactError, match="upgrade"):
        EmotionVectors.load(newer)
    monkeypatch.setattr("lens_emotion.files.artifacts.sealed", lambda meta, tensors: meta)  # as version 0.1 wrote it
    assert torch.equal(PooledActivations.load(acts.save(tmp_path / "old.safetensors")).values, acts.values)


@pytest.mark.parametrize("change", [{"emotoin": "x"}, {"emotion": 3}, {"n_pooled": True}, {"text": None}])
def test_a_text_record_of_another_form_is_named(acts, tmp_path, monkeypatch, change):
    from lens_emotion.files.artifacts import write_tensors

    rows = [dict(r) for r in metadata(acts.save(tmp_path / "a.safetensors"))["records"]]
    rows[4] |= change
    tensors = {"values": acts.values, "residual_norm": acts.residual_norm}
    path = write_tensors(
        tmp_path / "b.safetensors", "PooledActivations", tensors, {"header": acts.header.to_dict(), "records": rows}
    )
    with pytest.raises(ArtifactError, match=r"b\.safetensors: text 4"):
        PooledActivations.load(path)


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    def call(*args):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["lens-emotion", "vectors", *map(str, args)])
        with pytest.raises(SystemExit) as stopped:
            main()
        printed = capsys.readouterr()
        return SimpleNamespace(code=stopped.value.code or 0, out=printed.out, err=printed.err)

    return call


def test_the_command_line_exports_and_imports(run, vectors, tmp_path):
    file = vectors.save(tmp_path / "v.safetensors")
    done = run("export", file, "0.5*calm - 0.3*angry", "--layer", "2-4", "--dose", "4")
    assert done.code == 0 and "--control-vector" in done.out, done.err
    made = next(tmp_path.glob("*.gguf"))
    assert sorted(read_control_file(made).directions) == [2, 3, 4]
    done = run("import", made, "--model", "tiny-llama", "--name", "mixed", "--out", "back.safetensors")
    assert done.code == 0 and "layers 2-4" in done.out, done.err
    back = EmotionVectors.load(tmp_path / "back.safetensors")["mixed"]
    mixed = 0.5 * vectors["calm"] - 0.3 * vectors["angry"]
    torch.testing.assert_close(back.direction[2:5], mixed.direction[2:5], rtol=1e-4, atol=1e-5)
    done = run("export", file, "calm", "--format", "steering-vectors")
    assert done.code == 0, done.err
    with safe_open(tmp_path / "calm.safetensors", "pt") as held:
        torch.testing.assert_close(held.get_tensor("3"), displacements(vectors["calm"], 3.0)[3])
    for wrong in (["--format", "pickle"], ["--layer", "0"], ["--dose", "0"], ["--layer", "77"]):
        done = run("export", file, "calm", *wrong)
        assert done.code == 2 and done.err.startswith("lens-emotion: ") and done.err.count("\n") == 1
