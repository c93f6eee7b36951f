"""Files with a right checksum and wrong contents, and objects in memory: what a value means is checked in one place."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from planted import HEADER, planted

from lens_emotion.errors import ArtifactError, DoseError, LensEmotionError
from lens_emotion.extraction.activations import AXES as ACT_AXES
from lens_emotion.extraction.activations import PooledActivations, TextRecord
from lens_emotion.files.artifacts import sealed, write_tensors
from lens_emotion.steering.dose import Dose
from lens_emotion.steering.hooks import steering_hooks
from lens_emotion.vectors import interchange
from lens_emotion.vectors.emotion_vectors import AXES, EmotionVector, EmotionVectors, random_like, unit
from lens_emotion.vectors.interchange import (
    ControlFile,
    as_set,
    displacements,
    from_gguf,
    from_safetensors,
    from_steering_vector,
    to_gguf,
    write_control_file,
)
from lens_emotion.vectors.recipes import emotion_vectors

pytestmark = [pytest.mark.usefixtures("untyped"), pytest.mark.filterwarnings("ignore:.*before 0.2")]
NAN, INF = float("nan"), float("inf")
ACTS = planted(n_layers=3, d_model=8).acts
SET = emotion_vectors(ACTS, "centred")
OTHERS = emotion_vectors(ACTS, "neutral")


def put(*at, value=None, factor=None):
    """A change of one entry, or of a slice, of a tensor."""

    def change(x):
        x = x.clone()
        x[at] = x[at] * factor if value is None else value
        return x

    return change


# tensor of a file -> what is done to it -> what the error says
VECTORS = {
    "a direction of length 100": ("directions", put(1, 2, factor=100), r"length of directions\[1, 2\] is 100: .* 1"),
    "a direction a little off": ("directions", put(0, 0, factor=1.01), r"length of directions\[0, 0\] is 1\.01"),
    "a direction too short to square": ("directions", put(0, 0, value=1e-30), r"length of directions\[0, 0\] is 0: "),
    "a direction of NaN": ("directions", put(0, 1, 2, value=NAN), r"directions\[0, 1, 2\] is nan: .* no finite number"),
    "two infinities": ("directions", put(0, 0, slice(0, 2), value=torch.tensor([INF, -INF])), r"\[0, 0, 0\] is inf"),
    "a negative natural unit": ("natural", put(2, 0, value=-1), r"natural\[2, 0\] is -1: .* not below 0"),
    "a natural unit of 0": ("natural", put(2, 0, value=0), r"natural\[2, 0\] is 0: .* above 0 where there"),
    "a natural unit of NaN": ("natural", put(2, 0, value=NAN), r"natural\[2, 0\] is nan"),
    "a negative norm": ("norms", put(2, 0, value=-1), r"norms\[2, 0\] is -1"),
    "an infinite norm": ("norms", put(2, 0, value=INF), r"norms\[2, 0\] is inf"),
    "norms that are not the recipe's": ("norms", put(1, 1, factor=2), r"norms\[1, 1\] .* must be natural .* 'centred'"),
    "a residual norm of 0": ("residual_norm", put(1, value=0), r"residual_norm\[1\] is 0: .* above 0"),
    "a negative residual norm": ("residual_norm", put(1, value=-3), r"residual_norm\[1\] is -3"),
    "float64": ("directions", torch.Tensor.double, r"directions is float64, expected float32 \[emotions, lay"),
    "half precision": ("natural", torch.Tensor.half, "natural is float16, expected float32"),
    "a layer too few": ("natural", lambda x: x[:, :2], "natural has 2 layers, but directions has 3"),
    "an emotion too few": ("norms", lambda x: x[:2], "norms has 2 emotions, but directions has 4"),
    "an axis too many": ("residual_norm", lambda x: x[None], r"residual_norm has shape \[1, 3\], expected \[layers\]"),
    "no width": ("directions", lambda x: x[..., :0], "directions has no d_model"),
}  # fmt: skip
NAMES = {
    "empty": ["", "b", "c", "d"], "blank": [" ", "b", "c", "d"], "two lines": ["a\nb", "b", "c", "d"],
    "NUL": ["a\0", "b", "c", "d"], "escape": ["a\x1b[2J", "b", "c", "d"], "spaces around": [" a", "b", "c", "d"],
    "composed otherwise": ["cafe\u0301", "b", "c", "d"], "twice": ["a", "a", "c", "d"], "too few": ["a", "b", "c"],
    "too many": ["a", "b", "c", "d", "e"], "numbers": [1, 2, 3, 4], "no list": "abcd", "none": None, "nested": [["a"]],
}  # fmt: skip
HEADERS = {
    "no model": {"model": ""}, "no fingerprint": {"fingerprint": ""}, "two lines": {"model": "a\nb"},
    "a bell": {"recipe": "a\a"}, "a seed below 0": {"seed": -1}, "a seed that is true": {"seed": True},
    "processed by number": {"processed": 1}, "NUL in a note": {"notes": ["a\0"]}, "notes of numbers": {"notes": [1]},
}  # fmt: skip


def tensors_of(x):
    return {name: getattr(x, name) for name in (ACT_AXES if isinstance(x, PooledActivations) else AXES)}


def vector_file(path, tensors=None, **meta):
    said = {"header": HEADER.with_(recipe="centred").to_dict(), "emotions": list(SET.emotions)} | meta
    return write_tensors(path, "EmotionVectors", tensors_of(SET) | (tensors or {}), said)


@pytest.mark.parametrize("lie", VECTORS)
def test_vectors_that_lie_are_refused_in_a_file_in_memory_and_before_writing(lie, tmp_path):
    name, change, words = VECTORS[lie]
    changed = change(getattr(SET, name))
    path = vector_file(tmp_path / "v.safetensors", {name: changed})
    with pytest.raises(ArtifactError, match=rf"v\.safetensors: .*{words}.*; make it again"):
        EmotionVectors.load(path)
    with pytest.raises(ArtifactError, match=words):
        replace(SET, **{name: changed})
    written_into = replace(SET)
    object.__setattr__(written_into, name, changed)
    with pytest.raises(ArtifactError, match=words):
        written_into.save(tmp_path / "w.safetensors")
    assert not (tmp_path / "w.safetensors").exists()


@pytest.mark.parametrize("lie", VECTORS)
def test_one_vector_is_held_to_the_same(lie):
    name, change, _ = VECTORS[lie]
    if "emotion" in lie:
        pytest.skip("has no such axis")
    mine = name.removesuffix("s")
    changed = change(getattr(SET, name))
    parts = [changed] * 4 if name == "residual_norm" else changed
    with pytest.raises(ArtifactError, match=mine):
        for emotion, part in zip(SET, parts, strict=True):
            EmotionVector(**{**SET[emotion].__dict__, mine: part})


@pytest.mark.parametrize("names", NAMES)
def test_names_that_are_none_are_refused(names, tmp_path):
    path = vector_file(tmp_path / "v.safetensors", emotions=NAMES[names])
    with pytest.raises(ArtifactError, match=r"v\.safetensors: .*name"):
        EmotionVectors.load(path)


@pytest.mark.parametrize("lie", HEADERS)
def test_headers_that_lie_are_refused(lie, tmp_path):
    path = vector_file(tmp_path / "v.safetensors", header=HEADER.to_dict() | HEADERS[lie])
    with pytest.raises(ArtifactError, match=r"v\.safetensors: .*header"):
        EmotionVectors.load(path)


@pytest.mark.parametrize("version", [0, -1, True, 1.0, "2", 3])
def test_a_format_that_is_none_does_not_spare_the_checksum(version, tmp_path, monkeypatch):
    monkeypatch.setattr("lens_emotion.files.artifacts.sealed", lambda meta, tensors: meta | {"format": version})
    with pytest.raises(ArtifactError, match="file format"):
        EmotionVectors.load(vector_file(tmp_path / "v.safetensors"))


def test_a_file_of_before_the_checksum_is_held_to_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("lens_emotion.files.artifacts.sealed", lambda meta, tensors: meta)
    assert torch.equal(EmotionVectors.load(vector_file(tmp_path / "v.safetensors")).norms, SET.norms)
    path = vector_file(tmp_path / "v.safetensors", {"natural": -SET.natural})
    with pytest.raises(ArtifactError, match=r"natural\[0, 0\] is -"):
        EmotionVectors.load(path)


ACTIVATIONS = {
    "NaN": ({"values": put(3, 1, 0, value=NAN)}, {}, r"values\[3, 1, 0\] is nan"),
    "infinity": ({"values": put(3, 1, 0, value=-INF)}, {}, r"values\[3, 1, 0\] is -inf"),
    "a norm of 0": ({"residual_norm": put(2, value=0)}, {}, r"residual_norm\[2\] is 0"),
    "float64": ({"values": torch.Tensor.double}, {}, "values is float64"),
    "a layer too many": ({"residual_norm": lambda x: torch.cat([x, x])}, {}, "residual_norm has 6 layers, but"),
    "a text too few": ({"values": lambda x: x[1:]}, {}, "29 rows of activations but 30 text records"),
    "an emotion of two lines": ({}, {"emotion": "a\nb"}, r"text's emotion is 'a\\nb'"),
    "an emotion composed otherwise": ({}, {"emotion": "e\u0301"}, "text's emotion"),
    "NUL": ({}, {"text": "a\0"}, "text's text"),
    "tokens below 0": ({}, {"n_pooled": -1}, "n_pooled of text 't4' is -1; give a whole number of at least 0"),
    "tokens that do not add up": ({}, {"n_pooled": 3}, r"text 't4': n_total is not n_pooled \+ n_skipped \+ n_special"),
}  # fmt: skip


@pytest.mark.parametrize("lie", ACTIVATIONS)
def test_activations_that_lie_are_refused(lie, tmp_path):
    changes, of_text, words = ACTIVATIONS[lie]
    changed = {name: change(getattr(ACTS, name)) for name, change in changes.items()}
    rows = [asdict(r) for r in ACTS.records]
    rows[4] |= of_text
    meta = {"header": HEADER.to_dict(), "records": rows}
    path = write_tensors(tmp_path / "a.safetensors", "PooledActivations", tensors_of(ACTS) | changed, meta)
    with pytest.raises(ArtifactError, match=rf"a\.safetensors: .*{words}"):
        PooledActivations.load(path)
    with pytest.raises(ArtifactError, match=words):
        replace(ACTS, records=tuple(TextRecord(**r) for r in rows), **changed)


# GGUF files of ours whose JSON lies, sealed anew
OWN = {
    "sizes of other directions": ({"natural": [9.0, 9.0, 9.0]}, "direction of layer 1 has length .* but dose 3"),
    "another dose": ({"dose": 0.03}, "direction of layer 1 has length"),
    "dose 0": ({"dose": 0}, "dose is 0"),
    "a dose in words": ({"dose": "3"}, "dose is '3', which does not fit"),
    "a dose beyond": ({"dose": 1e30}, "no number up to"),
    "layers in words": ({"n_layers": "3"}, "n_layers is '3', which does not fit"),
    "more layers": ({"n_layers": 10**12}, "norm has 3 layers, but n_layers is 1000000000000"),
    "fewer layers": ({"n_layers": 1, "norm": [1.0], "natural": [1.0], "residual_norm": [1.0]}, "it holds layer 2"),
    "a negative norm": ({"norm": [1.0, -1.0, 1.0]}, r"norm\[1\] is -1"),
    "a size beyond float32": ({"residual_norm": [1.0, 1e300, 1.0]}, r"residual_norm\[1\] is inf"),
    "truth for a size": ({"residual_norm": [1.0, True, 1.0]}, "residual_norm is"),
    "a name of two lines": ({"name": "a\nb"}, "vector's name"),
    "a wide layer 0": ({"layer_0": [1.0] * 9}, "d_model"),
    "another kind": ({"kind": "EmotionVectors"}, "kind is 'EmotionVectors', expected 'EmotionVector'"),
    "a header without model": ({"header": HEADER.with_(recipe="").to_dict() | {"model": ""}}, "header's model"),
}  # fmt: skip


def own_file(path, **changes):
    calm = OTHERS[OTHERS.emotions[0]]
    parts = displacements(calm, 3.0, [1, 2])
    said = {"kind": "EmotionVector", "name": "calm", "dose": 3.0, "n_layers": 3, "header": calm.header.to_dict()}
    said |= {size: getattr(calm, size).tolist() for size in interchange.SIZES} | changes
    text = json.dumps(sealed(said, {str(k): v for k, v in parts.items()}), sort_keys=True)
    return write_control_file(path, ControlFile(parts, "gpt2", text))


@pytest.mark.parametrize("lie", OWN)
def test_our_own_control_vectors_that_lie_are_refused(lie, tmp_path):
    pytest.importorskip("gguf")
    changes, words = OWN[lie]
    assert from_gguf(own_file(tmp_path / "good.gguf")).name == "calm"
    with pytest.raises(LensEmotionError, match=words):
        from_gguf(own_file(tmp_path / "v.gguf", **changes))


# what other tools hand over: keys are layers, values rows of numbers
FOREIGN = {
    "a layer in words": {"one": torch.ones(8)}, "a layer twice": {"1": torch.ones(8), "01": torch.ones(8)},
    "digits of another script": {"\u0663": torch.ones(8)},
    "a tensor beside": {"1": torch.ones(8), "scale": torch.ones(1)},
    "whole numbers": {"1": torch.ones(8, dtype=torch.int64)}, "a matrix": {"1": torch.ones(2, 4)},
    "NaN": {"1": torch.full((8,), NAN)}, "infinity": {"1": torch.full((8,), INF)}, "nothing": {},
    "a layer beyond": {"3": torch.ones(8)}, "another width": {"1": torch.ones(9)},
    "unequal widths": {"1": torch.ones(8), "2": torch.ones(4)}, "too long for float32": {"1": torch.full((8,), 3e38)},
}  # fmt: skip


@pytest.fixture
def model(monkeypatch):
    """A model of 3 layers and width 8, as far as an import looks at it."""
    info = SimpleNamespace(name="stub", n_layers=3, d_model=8, fingerprint="0" * 64, former="")
    monkeypatch.setattr(interchange, "describe", lambda _: info)
    monkeypatch.setattr(interchange, "make_header", lambda *a, **k: HEADER)
    monkeypatch.setattr(interchange, "tokenise_text", lambda *a: None)
    monkeypatch.setattr(interchange, "read_texts", lambda *a, **k: SimpleNamespace(residual_norm=torch.ones(3)))
    return "stub"


@pytest.mark.parametrize("lie", FOREIGN)
def test_vectors_of_other_tools_that_lie_are_refused(lie, model, tmp_path):
    from safetensors.torch import save_file

    save_file(FOREIGN[lie], tmp_path / "v.safetensors")
    with pytest.raises(LensEmotionError):
        from_safetensors(tmp_path / "v.safetensors", model)
    with pytest.raises(LensEmotionError):
        from_steering_vector(SimpleNamespace(layer_type="decoder_block", layer_activations=FOREIGN[lie]), model)


@pytest.mark.parametrize(
    "parts", [{1.5: torch.ones(8)}, {True: torch.ones(8)}, {1: np.ones(8)}, {1: None}, {1: [1.0] * 8}], ids=str
)
def test_objects_of_steering_vectors_hold_rows_by_layer(parts, model):
    with pytest.raises(ArtifactError, match="layer"):
        from_steering_vector(SimpleNamespace(layer_type="decoder_block", layer_activations=parts), model)


def applied(vector, dose, layer, **how):
    """How far a hook really moves a state at a layer."""
    hooks = steering_hooks(vector, dose, layers=layer, **how)
    state = torch.zeros(1, 1, vector.direction.shape[1])
    for _, hook in hooks:
        state = hook(state, None)
    return state[0, 0]


def foreign(path, model, *parts):
    """What comes of a control vector of another tool, from layer 1 on."""
    written = write_control_file(path, ControlFile(dict(enumerate(parts, 1)), "llama"))
    return from_gguf(written, model, allow_other_model=True)


PUSH = torch.linspace(-1, 1, 8)
WAYS = {
    "made": lambda path, model: SET["happy"],
    "algebra": lambda path, model: 0.5 * SET["happy"] - 2 * OTHERS["sad"],
    "very short": lambda path, model: 1e-30 * SET["happy"],
    "random": lambda path, model: SET.random(3, like="sad"),
    "random like": lambda path, model: random_like(SET, SET["happy"]),
    "other": lambda path, model: SET.other(0, "happy"),
    "loaded": lambda path, model: EmotionVectors.load(SET.save(path))["happy"],
    "as a set": lambda path, model: as_set([SET["happy"], OTHERS["sad"]])["sad"],
    "gguf, ours": lambda path, model: from_gguf(to_gguf(SET["happy"], path, -2.5, "1,2")),
    "gguf, foreign": lambda path, model: foreign(path, model, PUSH, 3 * PUSH),
    "foreign, tiny": lambda path, model: foreign(path, model, 1e-30 * PUSH, 1e-25 * PUSH),
    "foreign, huge": lambda path, model: foreign(path, model, 1e30 * PUSH, 1e25 * PUSH),
    "steering-vectors": lambda path, model: from_steering_vector(
        SimpleNamespace(layer_type="decoder_block", layer_activations={1: PUSH.double(), 2: PUSH[None]}), model
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dose", [3.0, -0.5])
def test_the_dose_that_is_said_is_how_far_a_state_is_moved(way, dose, model, tmp_path):
    if "gguf" in way or "foreign" in way:
        pytest.importorskip("gguf")
    vector = WAYS[way](tmp_path / "v", model)
    for layer in (1, 2):
        moved = applied(vector, dose, layer).double()
        wanted = dose * vector.natural[layer].double() * vector.direction[layer].double()
        torch.testing.assert_close(moved, wanted, rtol=1e-4, atol=0)
        said, _ = Dose(dose).in_units(vector, layer)
        assert moved.norm() == pytest.approx(abs(said) * float(vector.natural[layer]), rel=1e-3)
        assert applied(vector, Dose(0.1, "relative"), layer).norm() == pytest.approx(0.1 * vector.residual_norm[layer])


def test_dose_1_of_a_foreign_file_is_what_it_holds(model, tmp_path):
    pytest.importorskip("gguf")
    for scale in (1e-30, 1.0, 1e30):
        vector = foreign(tmp_path / "v.gguf", model, scale * PUSH)
        torch.testing.assert_close(applied(vector, 1.0, 1) / scale, PUSH, rtol=1e-4, atol=1e-6)


def test_unit_is_to_the_bit_what_it_was_and_right_where_squares_overflow():
    rows = torch.randn(50, 8)
    assert torch.equal(unit(rows), rows / rows.norm(dim=-1, keepdim=True))
    rows[3], rows[4], rows[5] = 0, rows[4] * 1e-30, rows[5] * 1e30
    made = unit(rows)
    assert torch.equal(made[:3], (rows / rows.norm(dim=-1, keepdim=True))[:3]) and not made[3].any()
    torch.testing.assert_close(made[4:6].norm(dim=-1), torch.ones(2))


BAD_STEERING = {
    "dose true": {"dose": True}, "dose NaN": {"dose": NAN}, "dose infinite": {"dose": INF}, "dose words": {"dose": "3"},
    "dose beyond": {"dose": 10**400}, "dose none": {"dose": None}, "dose complex": {"dose": 1j},
    "layer beyond": {"layers": 3}, "layer below": {"layers": -4}, "layer of a fraction": {"layers": 1.5},
    "layers of fractions": {"layers": [1.5]}, "layer true": {"layers": True}, "layers true": {"layers": [True, False]},
    "layer NaN": {"layers": NAN}, "layers of text": {"layers": ["1"]}, "layers none": {"layers": []},
    "layers in words": {"layers": "middle"}, "layers as a table": {"layers": torch.ones(2, 2)},
    "positions in words": {"positions": "first"}, "positions of fractions": {"positions": [1.5]},
    "positions true": {"positions": True}, "positions none": {"positions": None}, "positions empty": {"positions": []},
    "positions of text": {"positions": ["1"]}, "a step of 0": {"positions": slice(0, 3, 0)},
    "a slice of text": {"positions": slice("a", "b")}, "position NaN": {"positions": NAN},
    "a mode that is none": {"mode": "push"}, "a mode in a list": {"mode": ["add"]},
    "a unit that is none": {"unit": "absolute"}, "prompt of 0": {"prompt_length": 0},
    "prompt of a fraction": {"prompt_length": 1.5}, "prompt true": {"prompt_length": True},
    "centre NaN": {"mode": "clamp", "centre": NAN}, "centre in words": {"mode": "clamp", "centre": "mean"},
    "centre of another model": {"mode": "clamp", "centre": torch.ones(5)},
    "centre empty": {"mode": "clamp", "centre": torch.ones(0)},
    "a share above 1": {"mode": "ablate", "dose": 2.0},
    "a name": {"vector": "calm"}, "no vector": {"vector": None}, "a tensor": {"vector": torch.ones(8)},
    "no vectors": {"vector": []}, "two": {"vector": [SET["happy"], SET["sad"]]},
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD_STEERING)
def test_what_makes_no_steering_is_refused_before_a_forward_pass(bad):
    how = {"vector": SET["happy"], "dose": 1.0, "layers": 1} | BAD_STEERING[bad]
    with pytest.raises(DoseError):
        steering_hooks(how.pop("vector"), **how)


@pytest.mark.parametrize("factor", [NAN, INF, True, "2", None, 1j, 10**400, 1e9])
def test_algebra_takes_numbers_only(factor):
    for made in (lambda: factor * SET["happy"], lambda: SET["happy"] / factor):
        with pytest.raises(DoseError):
            made()
    with pytest.raises(DoseError, match="by 0"):
        SET["happy"] / 0


def test_a_layer_without_a_natural_unit_has_no_direction_in_the_controls_either(model):
    row = SimpleNamespace(layer_type="decoder_block", layer_activations={1: PUSH, 2: 2 * PUSH})
    mood, whole = from_steering_vector(row, model, "mood"), SET["happy"]
    both = as_set([mood, replace(whole, header=whole.header.with_(recipe=""))])
    assert (
        both.random(0, like="mood").layers == both.other(0, "mood").layers == random_like(both, mood).layers == (1, 2)
    )


def test_checks_cost_little():
    """Slices are parts of what was checked; they are not read again."""
    large = planted(n_emotions=3, n_topics=4, n_layers=32, d_model=2048, n_neutral=2).acts
    vectors, name = emotion_vectors(large), large.emotions[0]
    began = time.perf_counter()
    for _ in range(100):
        vectors[name]
    assert (time.perf_counter() - began) / 100 < 1e-3
    object.__setattr__(large, "values", large.values * NAN)
    assert len(large.of(name)) == 4  # not read again
