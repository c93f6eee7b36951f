"""Reading leaves the device to its work: how often it waits for a number and copies states, counted by the profiler.

Without an accelerator a CPU counts for it: what would wait there (`.item()`, a mask that is looked at, a search for
indices) is the same operator here. What only an accelerator takes, PyTorch's fake tensors show.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from math import prod

import pytest
import torch
from conftest import needs_hooked, tiny
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from lens_emotion.errors import NotFiniteError
from lens_emotion.extraction import pooling, reader
from lens_emotion.extraction.activations import TextRecord
from lens_emotion.extraction.pooling import last_token, layer_pooler, story_mean
from lens_emotion.extraction.reader import Reading, make_header, pooled_reader, read_poolings
from lens_emotion.files.journal import Journal
from lens_emotion.models.access import hook_name
from lens_emotion.models.forward import body
from lens_emotion.models.loading import load_model
from lens_emotion.models.prompting import TokenisedText, pad

WAITS = ("aten::_local_scalar_dense", "aten::nonzero")  # .item(), bool(tensor), .tolist(), a mask as an index
N_BATCHES, ROWS, LENGTH, N_LAYERS = 3, 2, 12, 6
# beside the pass itself, and whatever the layers: is all finite, has a text no row; and of the whole reading, whether
# it is one of activations. All of it is asked of the CPU, once what was pooled is there
A_BATCH, A_READING = 2, 6


@pytest.fixture(scope="module")
def half():
    """A tiny model in bfloat16, where a float32 copy of the states is an operation of its own."""
    return load_model("tiny-llama", device="cpu", dtype="bfloat16")


def readings(n=N_BATCHES * ROWS, length=LENGTH):
    content = (False, *[True] * (length - 1))
    texts = [TokenisedText(tuple(range(5 + i, 5 + i + length)), content) for i in range(n)]
    return [Reading(tokens, TextRecord(f"t{i}", "calm", "x", "y")) for i, tokens in enumerate(texts)]


@cache
def header_of(model):
    return make_header(model, "comprehension", "", "test", "", allow_processed=False)


def read(model, journal=None):
    header = header_of(model)
    how = {"token_budget": ROWS * LENGTH, "progress": False, "journal": journal}
    return read_poolings(model, readings(), [story_mean(), last_token()], header, **how)[0]


def counted(call, width):
    """How often something waited for a number, and how many casts took all states of a batch."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as found:
        call()
    shapes = [list(e.input_shapes[0]) for e in found.events() if e.name == "aten::_to_copy" and e.input_shapes]
    return sum(e.name in WAITS for e in found.events()), shapes.count([ROWS, LENGTH, width])


def bare(model):
    """The same batches, each layer seen and left."""
    texts = readings()
    with body(model, lambda hidden: None) as run:
        for start in range(0, len(texts), ROWS):
            run(*pad([r.tokens.ids for r in texts[start : start + ROWS]], 0))


def planted(monkeypatch, plant):
    """Something done to the states of every layer beside pooling them."""
    real = reader.layer_pooler

    def with_plant(*args):
        pool = real(*args)
        return lambda hidden: (plant(hidden), pool(hidden))[1]

    monkeypatch.setattr(reader, "layer_pooler", with_plant)


def first_layer(plant):
    calls = []
    return lambda hidden: (calls.append(1), plant(hidden) if len(calls) % N_LAYERS == 1 else None)


PLANTS = {
    "nothing": (lambda hidden: None, True, True),
    "one number of a batch": (first_layer(lambda hidden: hidden[0, 0, 0].item()), False, True),
    "a number of each layer": (lambda hidden: hidden.sum().item(), False, True),
    "a look whether it is finite": (lambda hidden: bool(hidden.isfinite().all()), False, True),
    "its largest tokens by a mask": (lambda hidden: hidden[hidden > 1], False, True),
    "a float32 copy": (lambda hidden: hidden.float(), True, False),
    "norms from a copy of their own": (lambda hidden: hidden.double().norm(dim=-1), True, False),
}


@pytest.mark.parametrize("what", PLANTS)
def test_waits_do_not_grow_with_layers_and_states_are_cast_once_a_layer_at_most(what, half, monkeypatch):
    plant, few_waits, few_casts = PLANTS[what]
    header_of(half)
    planted(monkeypatch, plant)
    waits, casts = counted(lambda: read(half), half.cfg.d_model)
    waits_below, casts_below = counted(lambda: bare(half), half.cfg.d_model)
    assert (waits - waits_below <= A_BATCH * N_BATCHES + A_READING) == few_waits
    assert (casts - casts_below <= half.cfg.n_layers * N_BATCHES) == few_casts
    assert waits_below <= 2 * N_BATCHES  # are pads on the right; and transformers' own look for packed texts


@needs_hooked
def test_a_hooked_transformer_waits_as_rarely():
    model = tiny("tiny-llama", "hooked")
    header_of(model)
    waits, _ = counted(lambda: read(model), model.cfg.d_model)
    assert waits <= A_BATCH * N_BATCHES + A_READING


class Made(TorchDispatchMode):
    """Keeps type and size of every tensor that an operator makes."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and not func.is_view:
            self.found.append((out.device.type, out.dtype, out.numel()))
        return out


@pytest.mark.parametrize("what", ["nothing", "a number of each layer", "a float32 copy"])
def test_on_cuda_nothing_waits_and_no_float32_copy_of_the_states_is_made(what, llama, monkeypatch):
    size = (ROWS, LENGTH, 4096)
    planted(monkeypatch, PLANTS[what][0])
    monkeypatch.setattr(pooling, "sent", lambda tensor, device: tensor.to(device))  # no memory can be pinned here
    monkeypatch.setattr(reader, "_fetching", lambda found: found)

    @contextmanager
    def three_layers(model, see):
        yield lambda tokens, mask: [see(torch.ones(size, dtype=torch.bfloat16, device="cuda")) for _ in range(3)]

    monkeypatch.setattr(reader, "body", three_layers)
    content = torch.ones(ROWS, LENGTH, dtype=torch.bool)
    with FakeTensorMode(allow_non_fake_inputs=True), Made() as made, pooled_reader(llama, [story_mean()]) as begin:
        if what == "a number of each layer":
            with pytest.raises(DataDependentOutputException):
                begin(content.long(), content, content)
            return
        begin(content.long(), content, content)
    there = [n for device, dtype, n in made.found if device == "cuda" and dtype == torch.float32]
    assert there and (max(there) < prod(size)) == (what == "nothing")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_in_three_parts_lose_no_digit(dtype, monkeypatch):
    real = torch.bmm
    monkeypatch.setattr(pooling, "multiplies_into_float32", lambda *a: True)
    monkeypatch.setattr(torch, "bmm", lambda a, b, out_dtype: real(a.float(), b.float()))  # as CUDA accumulates
    generator = torch.Generator().manual_seed(0)
    hidden = (torch.randn(3, 300, 16, generator=generator) + 5).to(dtype)
    weights = torch.rand(2, 3, 300, generator=generator)
    weights /= weights.sum(-1, keepdim=True)
    rows, norms = layer_pooler(torch.device("cpu"), dtype, weights)(hidden)
    truth = torch.einsum("kbp,bpd->kbd", weights.double(), hidden.double())
    torch.testing.assert_close(rows.double(), truth, rtol=2e-5, atol=0)
    torch.testing.assert_close(norms.double(), hidden.double().norm(dim=-1), rtol=1e-6, atol=0)
    rounded = torch.einsum("kbp,bpd->kbd", weights.to(dtype).double(), hidden.double())
    assert ((rounded - truth) / truth).abs().max() > 2e-5  # what one part would give


@pytest.mark.parametrize("kept", [False, True], ids=["alone", "with a journal"])
def test_a_batch_begins_before_the_one_in_front_is_fetched_and_nothing_else_changes(kept, llama, monkeypatch, tmp_path):
    before, order = read(llama), []
    real = reader.pooled_reader

    @contextmanager
    def watched(model, poolings):
        with real(model, poolings) as begin:

            def begin_and_say(tokens, mask, content):
                finish, n = begin(tokens, mask, content), sum(what == "begun" for what, _ in order)
                order.append(("begun", n))
                return lambda: (order.append(("fetched", n)), finish())[1]

            yield begin_and_say

    monkeypatch.setattr(reader, "pooled_reader", watched)
    monkeypatch.setattr(reader, "_in_motion", lambda model, journal: True)
    found = read(llama, Journal.open(tmp_path / "j") if kept else None)
    assert torch.equal(found.values, before.values) and torch.equal(found.residual_norm, before.residual_norm)
    expected = [("begun", 0), ("begun", 1), ("fetched", 0), ("begun", 2), ("fetched", 1), ("fetched", 2)]
    assert order == expected
    if kept:  # what is kept is neither read nor begun again
        again = read(llama, Journal.open(tmp_path / "j"))
        assert torch.equal(again.values, before.values) and order == expected


def test_states_that_are_not_finite_name_their_layer_and_text(llama):
    def spoil(hidden, hook):
        return hidden.index_fill(0, torch.tensor([1]), torch.nan)  # the second text of the first batch

    with (
        llama.hooks(fwd_hooks=[(hook_name(2), spoil)]),
        pytest.raises(NotFiniteError, match="the states of layer 2 in text 't1' hold NaN or infinity"),
    ):
        read(llama)


@needs_hooked
@pytest.mark.parametrize("name", ["tiny-llama", "tiny-qwen", "tiny-gemma", "tiny-gpt2"])
def test_a_hooked_transformer_copies_no_weight_in_a_pass(name):
    model = tiny(name, "hooked")
    tokens = torch.arange(5, 13)[None]
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU], record_shapes=True) as found:
        model(tokens, stop_at_layer=model.cfg.n_layers)
    gated = ("W_gate", "W_in", "W_out") if model.cfg.gated_mlp else ()
    weights = {n: p for n, p in model.blocks[0].named_parameters() if n.split(".")[1] in (*gated, "W_O", "W_Q")}
    sizes = {tuple(sorted(p.shape)) for p in weights.values()}
    copied = [e for e in found.events() if e.name == "aten::clone" and tuple(sorted(e.input_shapes[0])) in sizes]
    assert weights and not copied
