"""Eight and four bit from loading to drift, on stand-ins that hold weights as bitsandbytes does: as integers that only
their own module can read. Real ones need a GPU."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny
from torch import nn
from transformers.pytorch_utils import Conv1D

from lens_emotion.analysis.drift import drift
from lens_emotion.errors import FingerprintError
from lens_emotion.extraction.comprehension import extract_comprehension
from lens_emotion.laws import copies
from lens_emotion.laws.check import check
from lens_emotion.models import loading
from lens_emotion.models.access import describe
from lens_emotion.models.decoding import generate_tokens
from lens_emotion.models.loading import load_model
from lens_emotion.models.prompting import encode
from lens_emotion.steering.steer import steer
from lens_emotion.stimuli.library import load_stimuli
from lens_emotion.vectors.recipes import emotion_vectors


class Packed(nn.Parameter):
    """Integers that refuse float arithmetic, indexing by strides and casts to bfloat16, as packed weights do."""

    def __new__(cls, values):
        return super().__new__(cls, values, requires_grad=False)

    def to(self, *args, **kwargs):
        if any(isinstance(a, torch.dtype) and a.is_floating_point for a in (*args, *kwargs.values())):
            raise NotImplementedError("packed weights cannot be cast")
        return super().to(*args, **kwargs)


class Linear8bit(nn.Linear):
    """Rows scaled to int8; the first pass moves the scales from the weight to the module."""

    def __init__(self, plain):
        super().__init__(plain.in_features, plain.out_features, bias=plain.bias is not None)
        scales = plain.weight.detach().abs().amax(1) / 127
        self.weight = Packed((plain.weight.detach() / scales[:, None]).round().to(torch.int8))
        self.weight.SCB, self.bias = scales, plain.bias
        self.state = type("State", (), {"SCB": None})()

    def forward(self, x):
        if self.weight.SCB is not None:
            self.state.SCB, self.weight.SCB = self.weight.SCB, None
        return nn.functional.linear(x, self.weight.data.float() * self.state.SCB[:, None], self.bias)


class Linear4bit(nn.Linear):
    """Two numbers of 4 bits to a byte, blocks scaled by their largest."""

    def __init__(self, plain):
        super().__init__(plain.in_features, plain.out_features, bias=plain.bias is not None)
        blocks = plain.weight.detach().reshape(-1, 32)
        largest = blocks.abs().amax(1).clamp_min(1e-8)
        codes = (blocks / largest[:, None] * 7).round().to(torch.int8).add(8).to(torch.uint8).flatten()
        self.weight, self.bias = Packed((codes[::2] << 4 | codes[1::2])[:, None]), plain.bias
        self.weight.quant_state = type("QuantState", (), {"absmax": largest})()

    def forward(self, x):
        packed = self.weight.data[:, 0]
        codes = torch.stack([packed >> 4, packed & 15], 1).flatten().float() - 8
        weight = (codes.reshape(-1, 32) / 7 * self.weight.quant_state.absmax[:, None]).reshape(self.out_features, -1)
        return nn.functional.linear(x, weight, self.bias)


@pytest.fixture(params=["8bit", "4bit"])
def packed(request, monkeypatch):
    """tiny-llama through `load_model(quantise=...)`, its linear layers packed by a stand-in for bitsandbytes."""
    whole, kind = loading.weights_of_source, {"8bit": Linear8bit, "4bit": Linear4bit}[request.param]

    def quantised(source, dtype, revision, **placed):
        model = whole(source, dtype, revision)
        if not placed:
            return model
        assert placed["quantization_config"] is not None and placed["device_map"] == {"": "cpu"}
        for module in list(model.model.modules()):
            for name, part in list(module.named_children()):
                if isinstance(part, nn.Linear | Conv1D):
                    setattr(module, name, kind(part))
        return model

    for module in (loading, copies):
        monkeypatch.setattr(module, "weights_of_source", quantised)
    monkeypatch.setattr(loading, "check_placement", lambda *_: None)
    return load_model("tiny-llama", quantise=request.param, device="cpu")


def test_packed_weights_load_read_steer_drift_and_keep_every_law(packed):
    texts = load_stimuli("world-en", per_cell=1)
    texts = texts.only(emotions=("happy", "sad", "angry", "neutral"), topics=texts.topics[:4])
    whole, acts = extract_comprehension(tiny(), texts), extract_comprehension(packed, texts)
    assert describe(packed).fingerprint == acts.header.fingerprint != whole.header.fingerprint
    vectors = emotion_vectors(acts)
    ids = encode(packed, "That morning Anna was in the kitchen. She")
    plain = generate_tokens(packed, [ids], 12)
    with steer(packed, vectors["happy"], 4, layers="all"):
        assert generate_tokens(packed, [ids], 12) != plain
    with pytest.raises(FingerprintError):
        drift(whole, acts)
    found = drift(whole, acts, allow_other_weights=True)
    assert 0 < found.by_layer.relative_max.max() < 0.6 and found.table.cosine.min() > 0.5
    with pytest.raises(FingerprintError), steer(packed, emotion_vectors(whole)["happy"], 1):
        pass
    report = check(packed)
    assert report.ok, report.table[["law", "deviation", "note"]]
    assert describe(packed).fingerprint == acts.header.fingerprint, "the scales moved, the model did not change"
