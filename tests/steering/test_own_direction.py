"""Steering with what users hold: arrays, words, a dose for each layer; in force by `with` or from start to stop."""

from __future__ import annotations

import gc
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny
from steered import no_hooks_left

import lens_emotion as le
from lens_emotion.errors import (
    ArgumentError,
    ArtifactError,
    DoseError,
    LayerError,
    UnknownEmotionError,
    UnsupportedModelError,
)
from lens_emotion.models.access import hook_name
from lens_emotion.models.forward import residual_cache
from lens_emotion.models.prompting import encode
from lens_emotion.steering import steer as steering

WIDTH, LAYERS = 64, 6
ARRAY = np.random.default_rng(0).normal(size=WIDTH)
MANY = np.random.default_rng(1).normal(size=(LAYERS, WIDTH))
SIZES = torch.nn.Parameter(torch.tensor(ARRAY, dtype=torch.bfloat16))
PROMPT = "The door opened and"

pytestmark = pytest.mark.usefixtures("untyped")


def added(model, steering, layer):
    """What steering adds at a layer."""
    ids = torch.tensor([encode(model, PROMPT)])
    before = residual_cache(model, ids)[hook_name(layer)]
    with steering:
        return (residual_cache(model, ids)[hook_name(layer)] - before)[0, -1]


@pytest.mark.parametrize(
    ("given", "layers", "expected"),
    [
        (ARRAY, None, {3: ARRAY}),
        (ARRAY.astype(np.float16), None, {3: ARRAY.astype(np.float16)}),
        (ARRAY.tolist(), 2, {2: ARRAY}),
        (tuple(np.float32(x) for x in ARRAY), 2, {2: ARRAY}),
        (torch.tensor(ARRAY), -1, {5: ARRAY}),
        (SIZES, None, {3: SIZES.detach().float().numpy()}),
        (ARRAY[None], None, {3: ARRAY}),
        (pd.Series(ARRAY, index=range(7, 7 + WIDTH)), None, {3: ARRAY}),
        (pd.Series(ARRAY, dtype=object), None, {3: ARRAY}),
        (MANY, None, {3: MANY[3]}),
        (MANY, "1-2", {1: MANY[1], 2: MANY[2]}),
        ({2: ARRAY, -1: MANY[0]}, None, {2: ARRAY, 5: MANY[0]}),
        ({"2": ARRAY}, None, {2: ARRAY}),
        ({2: ARRAY, 4: MANY[0]}, 4, {4: MANY[0]}),
        (SimpleNamespace(layer_activations={1: torch.tensor(ARRAY)}, layer_type="decoder_block"), None, {1: ARRAY}),
        (SimpleNamespace(model_type="llama", directions={1: ARRAY, 2: MANY[1]}), None, {1: ARRAY, 2: MANY[1]}),
    ],
    ids=range(16),
)
def test_numbers_in_any_form_are_added_as_they_are(given, layers, expected):
    model = tiny()
    made = le.steer(model, given, layers=layers, dose=1)
    assert made.done.layers == tuple(sorted(expected))
    first = min(expected)  # layers behind it are moved by it too
    torch.testing.assert_close(
        added(model, made, first), torch.as_tensor(np.asarray(expected[first])).float(), atol=1e-4, rtol=1e-4
    )
    assert no_hooks_left(model)


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        (ARRAY[:5], UnsupportedModelError, "5 numbers at layer 3.*d_model 64"),
        (MANY[:3], UnsupportedModelError, "6 layers and d_model 64"),
        (np.vstack([MANY, MANY[:1]]), UnsupportedModelError, r"hidden_states begin with the embeddings.*array\[1:\]"),
        ({2: ARRAY[:5]}, UnsupportedModelError, "5 numbers at layer 2"),
        ({9: ARRAY}, LayerError, "no layer 9"),
        ({2.5: ARRAY}, LayerError, "2.5 is no layer"),
        ({-1: ARRAY, 5: ARRAY}, LayerError, "two of the layers"),
        (ARRAY * np.nan, ArtifactError, "NaN"),
        (ARRAY * 0, ArtifactError, "zero everywhere"),
        (ARRAY.astype(complex), ArtifactError, "complex"),
        (ARRAY > 0, ArtifactError, "bool"),
        ([ARRAY, MANY[0]], DoseError, "takes one vector"),
        ([], DoseError, "nothing to steer with"),
        (None, DoseError, "nothing to steer with"),
        (3, DoseError, "nothing to steer with"),
        ("clam", UnknownEmotionError, "calm"),
        ({"clam": 1}, UnknownEmotionError, "calm"),
        ("0.5*calm - - angry", DoseError, "cannot read"),
    ],
    ids=range(18),
)
def test_what_cannot_be_steered_with_is_told_before_anything_is_read(given, error, says, vectors, monkeypatch):
    monkeypatch.setattr(steering, "extract_comprehension", lambda *a, **k: pytest.fail("the model read"))
    with pytest.raises(error, match=f"(?s){says}"):
        le.steer(tiny(), given, vectors=vectors)


@pytest.mark.parametrize("name", [None, 5, "", "two\nlines"])
def test_a_name_that_is_none(name):
    with pytest.raises((ArtifactError, ArgumentError), match="name is"):
        le.vector(ARRAY, tiny(), name=name)


def test_a_direction_says_where_it_stands():
    assert "at layer 2 of 6, width 64" in repr(le.vector(ARRAY, tiny(), layer=2))
    assert "at layers 1, 4 of 6" in repr(le.vector(ARRAY, tiny(), layer=[1, 4]))
    assert "6 layers x 64" in repr(le.vector(MANY, tiny()))


def test_a_direction_of_ones_own_has_a_name_is_mixed_and_steers_at_its_only_layer(vectors, tmp_path):
    probe = le.vector(ARRAY, tiny(), layer=1, name="probe")
    assert (probe.name, probe.layers, le.steer(tiny(), probe).start().done.layers) == ("probe", (1,), (1,))
    le.steer(tiny(), probe).start().stop()
    assert (2 * probe + vectors["calm"]).layers == tuple(range(LAYERS))
    assert float(probe.natural[1]) == pytest.approx(np.linalg.norm(ARRAY), rel=1e-5)
    with pytest.raises(LayerError, match="it has 1"):
        le.steer(tiny(), probe, layers=2)


def test_words_are_looked_up_or_made_of_the_models_own_stimuli_once(vectors, acts, monkeypatch, tmp_path):
    reads = []
    monkeypatch.setattr(steering, "extract_comprehension", lambda *a, **k: reads.append(a) or acts)
    monkeypatch.setattr(steering, "_MADE", {})
    mixed = 0.5 * vectors["calm"] - 0.3 * vectors["angry"]
    path = vectors.save(tmp_path / "v.safetensors")
    for source, n_reads in ((vectors, 0), (path, 0), (str(path), 0), (None, 1), (None, 1)):
        for words in ("0.5*calm - 0.3*angry", {"calm": 0.5, "angry": -0.3}):
            made = le.steer(tiny(), words, vectors=source)
            made.used = True
            assert torch.equal(made.done.vectors[0].direction, mixed.direction)
        assert len(reads) == n_reads
    with pytest.raises(UnknownEmotionError):
        steering._MADE.clear()
        le.steer(tiny(), "clam")
    assert len(reads) == 1
    both = (
        le.ablate(tiny(), ["calm", ARRAY], vectors=None)
        if False
        else le.steer(tiny(), ["calm", ARRAY], vectors=vectors, mode="ablate")
    )
    both.used = True
    assert [v.name for v in both.done.vectors] == ["calm", "own"]


def test_a_dose_for_each_layer(vectors):
    model, calm = tiny(), vectors["calm"]
    made = le.steer(model, calm, {2: 2, -2: np.float64(-1)})
    assert made.done.layers == (2, 4)
    torch.testing.assert_close(added(model, made, 2), 2 * calm.natural[2] * calm.at(2), atol=1e-5, rtol=1e-4)
    assert torch.equal(made.done.at(4).delta, -calm.natural[4] * calm.at(4))
    half = le.steer(model, calm, {2: 0.5}, mode="ablate")
    half.used = True
    assert torch.allclose(half.done.at(2).basis.abs(), 0.5**0.5 * calm.at(2)[None].abs(), atol=1e-6)
    relative = le.steer(model, calm, {"1-2": le.Dose(0.1, "relative")})
    relative.used = True
    assert torch.allclose(relative.done.at(1).delta.norm(), 0.1 * calm.residual_norm[1])
    assert len(le.steering_hooks(calm, {1: 1, 2: 2})) == 2 and le.steering_hooks(calm, {1: 0}) == []


@pytest.mark.parametrize(
    ("dose", "more", "says"),
    [
        ({}, {}, "one unit"),
        ({9: 1}, {}, "no layer 9"),
        ({-1: 1, 5: 2}, {}, "stands twice"),
        ({None: 1}, {}, "none"),
        ({2: "3"}, {}, "no number"),
        ({2: le.Dose(1), 3: le.Dose(1, "relative")}, {}, "2 units"),
        ({2: 1}, {"layers": 3}, "leave layers= out"),
        ({2: 0.5, 3: -0.1}, {"mode": "ablate"}, "0.5, -0.1"),
        ([2, 1], {}, "one per layer"),
    ],
    ids=range(9),
)
def test_doses_that_make_no_sense_say_why(dose, more, says, vectors):
    with pytest.raises(DoseError, match=says):
        le.steer(tiny(), vectors["calm"], dose, **more)


def test_without_with_it_says_so_and_start_and_stop_do(vectors, recwarn):
    model, calm = tiny(), vectors["calm"]
    with pytest.warns(UserWarning, match=r"never used: write `with le.steer"):
        le.steer(model, calm, 3)
        gc.collect()
    made = le.steer(model, calm, 3)
    assert "not in force: write `with" in repr(made) and "calm, dose 3 natural, layer 3" in repr(made)
    assert made.start() is made and "; in force" in repr(made) and not no_hooks_left(model)
    with pytest.raises(DoseError, match="already"):
        made._begin()
    again = le.steer(model, calm, 1).start()  # a cell that is run twice steers once
    assert "not in force" in repr(made) and steering.in_force(model) == [again]
    with le.steer(model, calm, 2), pytest.raises(DoseError, match="leave the block"):
        le.steer(model, calm, 2).start()
    again.stop()
    again.stop()
    assert no_hooks_left(model) and not steering.in_force(model)


def test_what_began_inside_ends_with_it_and_steerings_nest(vectors):
    model, calm = tiny(), vectors["calm"]
    outer, inner = le.steer(model, calm, 1), le.steer(model, vectors["angry"], 1)
    with outer:
        inner.start()
        assert len(steering.in_force(model)) == 2
        with steering.aside(model):
            ids = torch.tensor([encode(model, PROMPT)])
            plain = residual_cache(model, ids)[hook_name(4)]
    assert no_hooks_left(model) and torch.equal(plain, residual_cache(model, ids)[hook_name(4)])
    with outer, inner:  # each can be used again
        assert not torch.equal(plain, residual_cache(model, ids)[hook_name(4)])
    assert no_hooks_left(model)
