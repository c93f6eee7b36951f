"""A cache of the user's own: what is pooled is text, whatever the mask, the container and the padding."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from conftest import tiny

import lens_emotion as le
from lens_emotion.analysis.layers import layer_sweep
from lens_emotion.errors import ArgumentError, NotFiniteError, StimulusError
from lens_emotion.extraction.comprehension import activations_from_cache, extract_comprehension
from lens_emotion.extraction.pooling import content_mask
from lens_emotion.models.access import hook_name
from lens_emotion.models.first_token import first_token
from lens_emotion.models.forward import residual_cache
from lens_emotion.models.prompting import pad, pad_id, tokenise_text
from lens_emotion.stimuli.library import load_stimuli

TEXTS = ("Anna was in the kitchen and she smiled.", "Ben walked.", "It rained at the market, and Nora read by the sea.")


@cache
def small():
    texts = load_stimuli("world-en", per_cell=1)
    return texts.only(("happy", "sad"), texts.topics[:2])


@cache
def read(model, side="right"):
    """Tokens, the mask of real tokens, the mask of content, a cache, and labels."""
    stimuli = small()
    rows = [tokenise_text(model, s.text) for s in stimuli.items]
    tokens, real = pad([r.ids for r in rows], pad_id(model), side)
    content = pad([r.content for r in rows], 0, side)[0].bool()
    labels = {"emotions": [s.emotion for s in stimuli.items], "topics": [s.topic for s in stimuli.items]}
    return tokens, real, content, residual_cache(model, tokens, real), labels


@pytest.fixture(scope="module")
def right():
    return read(tiny())


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_mask_takes_the_same_tokens_as_extraction_under_either_padding(model, side):
    rows = [tokenise_text(model, t) for t in TEXTS]
    tokens, real = pad([r.ids for r in rows], pad_id(model), side)
    expected = pad([r.content for r in rows], 0, side)[0].bool()
    assert torch.equal(le.content_mask(model, tokens), expected)
    assert torch.equal(content_mask(model, tokens.numpy(), real.float()), expected)
    assert torch.equal(content_mask(model, rows[0].ids), torch.tensor([rows[0].content]))


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-qwen", "tiny-gpt2"])
def test_first_tokens_pads_and_specials_are_left_out_whatever_ids_they_have(name, monkeypatch):
    from lens_emotion.extraction import pooling

    model, none = tiny(name), list(first_token(tiny(name)).ids)
    row = [*none, 20, 21, 22]
    monkeypatch.setattr(pooling, "pad_id", lambda model: 21)  # a token like any other is the pad
    mask = content_mask(model, [[*row, 21, 21], [21, 21, *row]])
    inner = [False] * len(none) + [bool(none), True, True]
    assert mask.tolist() == [[*inner, False, False], [False, False, *inner]]


def test_pad_bos_and_eos_of_one_id():
    model = tiny("tiny-gpt2")
    assert (pad_id(model),) == first_token(model).ids == (0,)
    tokens = [[0, 20, 21, 0, 0], [0, 0, 0, 20, 21], [0, 20, 0, 21, 22]]
    expected = [[0, 1, 1, 0, 0], [0, 0, 0, 1, 1], [0, 1, 0, 1, 1]]
    assert content_mask(model, tokens).int().tolist() == expected
    without = content_mask(model, [[0, 0, 20, 21]], [[0, 0, 1, 1]])  # no BOS was read: token 20 is the sink
    assert without.int().tolist() == [[0, 0, 0, 1]]


@pytest.mark.parametrize("side", ["right", "left"])
def test_tokens_are_enough_and_give_the_rows_of_extraction(llama, side):
    tokens, _, content, cache, labels = read(llama, side)
    expected = extract_comprehension(llama, small())
    for own in (
        activations_from_cache(llama, cache, tokens=tokens, **labels),
        activations_from_cache(llama, cache, content, **labels),
        activations_from_cache(llama, cache, content, labels["emotions"], labels["topics"], tokens=tokens),
    ):
        torch.testing.assert_close(own.values, expected.values, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(own.residual_norm, expected.residual_norm, rtol=1e-3, atol=1e-4)
        assert own.header.notes == ()


def every(tokens, real, content):
    """Masks that take what is no text, and what the error names."""
    yield "all true", torch.ones_like(content)
    yield "real tokens", real
    yield "ones", np.ones(content.shape)
    yield "all but column 0", torch.ones_like(content).index_fill(1, torch.tensor([0]), False)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("which", range(4), ids=["all true", "real tokens", "ones", "all but column 0"])
def test_a_mask_that_takes_no_text_is_refused_and_taken_only_when_asked_for(side, which):
    model = tiny()
    tokens, real, content, cache, labels = read(model, side)
    mask = [m for _, m in every(tokens, real, content)][which]
    with pytest.raises(
        StimulusError, match=r"first, special or pad tokens, first at row \d, position \d+.*any_position"
    ):
        activations_from_cache(model, cache, mask, tokens=tokens, **labels)
    taken = activations_from_cache(model, cache, mask, tokens=tokens, allow_any_position=True, **labels)
    assert "as was asked for" in taken.header.notes[0] and "first, special or pad tokens" in taken.header.notes[0]


def test_without_tokens_the_first_column_and_too_many_tokens_are_seen(right):
    _, _, content, cache, labels = right
    with pytest.raises(StimulusError, match="the first token of 4 of 4 rows"):
        activations_from_cache(tiny(), cache, torch.ones_like(content), **labels)
    mask = torch.ones_like(content)
    mask[:, 0] = False
    with pytest.raises(StimulusError, match="more tokens than the text has in row"):
        activations_from_cache(tiny(), cache, mask, texts=small().texts, **labels)


def as_dict(cache):
    return {hook_name(layer): cache[hook_name(layer)] for layer in range(tiny().cfg.n_layers)}


@pytest.mark.parametrize(
    ("of_cache", "of_mask"),
    [
        (as_dict, lambda m: m),
        (lambda c: {k: v.numpy() for k, v in as_dict(c).items()}, lambda m: m.numpy()),
        (lambda c: c, lambda m: m.numpy().astype(np.float32)),
        (lambda c: c, lambda m: m.float()),
        (lambda c: c, lambda m: m.long()),
        (lambda c: c, lambda m: m.tolist()),
        (lambda c: {k: v.to(torch.bfloat16) for k, v in as_dict(c).items()}, lambda m: m),
        (lambda c: {k: v.double().requires_grad_() for k, v in as_dict(c).items()}, lambda m: m),
        (lambda c: as_dict(c) | {"hook_embed": torch.zeros(1)}, lambda m: m),
    ],
    ids=["dict", "numpy", "float32 numpy mask", "float mask", "integers", "lists", "bfloat16", "float64", "more hooks"],
)
def test_any_container_and_type(right, of_cache, of_mask):
    _, _, content, cache, labels = right
    expected = activations_from_cache(tiny(), cache, content, **labels)
    own = activations_from_cache(tiny(), of_cache(cache), of_mask(content), **labels)
    torch.testing.assert_close(own.values, expected.values, rtol=1e-2, atol=2e-2)
    assert own.values.dtype == torch.float32 and own.records == expected.records


def test_one_text_without_its_batch_dimension(right):
    tokens, _, content, cache, labels = right
    row = {name: hidden[0] for name, hidden in as_dict(cache).items()}
    one = {k: v[:1] for k, v in labels.items()}
    expected = activations_from_cache(tiny(), cache, content, **labels).values[:1]
    for given in ({"tokens": tokens[0]}, {"content": content[0]}):
        assert torch.equal(activations_from_cache(tiny(), row, **given, **one).values, expected)


def wrong():
    model = tiny()
    tokens, _, content, cache, _ = read(model)
    held, last = as_dict(cache), hook_name(model.cfg.n_layers - 1)
    n = model.cfg.n_layers
    yield "neither content nor tokens", cache, {}, "which tokens are text"
    yield "last layer missing", {k: v for k, v in held.items() if k != last}, {"content": content}, f"layer {n - 1} of"
    gap = {k: v for k, v in held.items() if k not in (hook_name(1), hook_name(2))}
    yield "two missing in between", gap, {"content": content}, "layer 1-2 of"
    yield "empty", {}, {"content": content}, "layer all of"
    yield "mask of other width", cache, {"content": content[:, 1:]}, "mask and model ask for"
    yield "tokens of other width", cache, {"tokens": tokens[:, 1:]}, "mask and model ask for"
    yield "mask unlike tokens", cache, {"content": content[:, 1:], "tokens": tokens}, "mask and model ask for"
    yield "weights", cache, {"content": content * 0.5}, "true or false"
    yield "no content", cache, {"content": torch.zeros_like(content)}, "too short"
    yield "ragged", cache, {"tokens": [[1, 2], [1]]}, "no rectangle"
    yield "words", cache, {"tokens": np.array([["a"]])}, "no rectangle"
    yield "float tokens", cache, {"tokens": tokens.float()}, "give ids"
    yield "no labels", cache, {"content": content, "emotions": None}, "one label of each kind"
    yield "no tokens", cache, {"tokens": torch.empty(1, 0, dtype=torch.long)}, "give ids"
    yield "no mask", cache, {"content": torch.empty(1, 0)}, "true or false"
    yield "ids beyond the vocabulary", cache, {"tokens": tokens + 10**6}, "but the ids of tiny-llama are 0 to"
    yield "negative ids", cache, {"tokens": tokens - 10**6}, "but the ids of tiny-llama are 0 to"
    yield "integer cache", {k: v.long() for k, v in held.items()}, {"content": content}, "holds no activations"
    yield "words as cache", dict.fromkeys(held, np.array(["x"])), {"content": content}, "holds no activations"
    yield "one emotion", cache, {"content": content, "emotions": "calm"}, "emotions is one string, 'calm'"
    yield "other model", {k: v[..., :3] for k, v in held.items()}, {"content": content}, "d_model"


@pytest.mark.parametrize("which", range(21))
def test_what_does_not_fit_is_said(which):
    _, cache, given, message = list(wrong())[which]
    labels = read(tiny())[-1] | {k: v for k, v in given.items() if k == "emotions"}
    with pytest.raises(StimulusError, match=message):
        activations_from_cache(tiny(), cache, **{k: v for k, v in given.items() if k != "emotions"}, **labels)


def test_a_sweep_takes_tokens_too(right):
    tokens, _, content, cache, labels = right
    given = {"model": tiny(), "n_permutations": 3, **labels}
    by_mask, by_tokens = layer_sweep(cache, content=content, **given), layer_sweep(cache, tokens=tokens, **given)
    assert by_mask.table.equals(by_tokens.table)


@pytest.mark.parametrize("side", ["right", "left"])
def test_what_is_never_pooled_may_be_nan_and_what_is_pooled_may_not(side):
    tokens, _, content, cache, labels = read(tiny(), side)
    expected = activations_from_cache(tiny(), cache, content, **labels)
    held = {k: v.masked_fill(~content[..., None], float("nan")) for k, v in as_dict(cache).items()}
    own = activations_from_cache(tiny(), held, tokens=tokens, **labels)
    assert torch.equal(own.values, expected.values) and torch.equal(own.residual_norm, expected.residual_norm)
    last = int(content[2].nonzero()[-1])
    held[hook_name(1)][2, last, 3] = float("inf")
    with pytest.raises(NotFiniteError, match=f"at layer 1, row 2 ..{small().texts[2][:9]}.*position {last}"):
        activations_from_cache(tiny(), held, content, texts=small().texts, **labels)


@pytest.mark.parametrize("given", [None, ["Anna smiled."], 3])
def test_what_is_no_text_is_said(given, untyped):
    with pytest.raises((StimulusError, ArgumentError), match=r"is no text|text is .*; give a text"):
        le.preview(tiny(), given)


def test_prompts_that_are_one_string(untyped):
    with pytest.raises(StimulusError, match="'h' is no story prompt"):
        le.extract_generation(tiny(), "hello")


def test_one_name_is_one_emotion_not_its_letters(untyped):
    texts = load_stimuli("world-en", per_cell=1)
    assert texts.only("happy", texts.topics[0]).emotions == ("happy",)
    with pytest.raises(StimulusError, match="happy"):
        extract_comprehension(tiny(), texts.only(["happy", "sad"]), emotions="happy")


def test_emotions_by_one_name_elsewhere(vectors, untyped):
    assert le.token_scores(tiny(), vectors, TEXTS[0], "happy", 2, n_random=2).emotions == ("happy",)
    grid = le.steering_grid(tiny(), vectors, [TEXTS[1]], "happy", doses=(1,), controls=(), max_new_tokens=1)
    assert set(grid.table.emotion) == {"", "happy"}
    assert le.as_judge(lambda texts: np.ones((len(texts), 1)), "calm").emotions == ("calm",)
