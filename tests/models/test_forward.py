"""What was made fast equals the slow way: parts that step aside, masks left out, states kept while writing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from conftest import tiny
from transformer_lens.hook_points import HookPoint

from lens_emotion.errors import StimulusError
from lens_emotion.extraction.generation import extract_generation
from lens_emotion.extraction.pooling import last_token, middle_token, norm_sums, pool_cache, story_mean
from lens_emotion.extraction.reader import pooled_reader
from lens_emotion.extraction.while_writing import watch
from lens_emotion.models.access import hook_name
from lens_emotion.models.decoding import generate_tokens
from lens_emotion.models.forward import (
    AT_ONCE,
    CPU_BUDGET,
    GENERATION_BUDGET,
    SMALL,
    TOKEN_BUDGET,
    _fused_attention_fits,
    budget_for,
    cpu_budgets,
    residual_cache,
    shortcut,
)
from lens_emotion.models.prompting import encode, pad
from lens_emotion.models.sampling import Sampling
from lens_emotion.stimuli.prompts import story_prompts

TEXTS = ("Anna was in the kitchen and she smiled.", "Ben walked.", "It rained at the market, and Nora read by the sea.")


def wrappers(model):
    return [id(part) for part in model.original_model.modules()]


def slow_cache(model, tokens, mask):
    """The Bridge as it is, head and all, nothing stepping aside."""
    names = [hook_name(layer) for layer in range(model.cfg.n_layers)]
    with torch.inference_mode():
        return model.run_with_cache(tokens, names_filter=names, attention_mask=mask.long())[1]


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_short_way_equals_the_whole_bridge(model, side):
    tokens, mask = pad([encode(model, t) for t in TEXTS], 0, side)
    fast, slow = residual_cache(model, tokens, mask), slow_cache(model, tokens, mask)
    for layer in range(model.cfg.n_layers):
        truth = slow[hook_name(layer)][mask]
        torch.testing.assert_close(fast[hook_name(layer)][mask], truth, rtol=1e-4, atol=1e-4)
        assert torch.isfinite(fast[hook_name(layer)]).all()  # pads too: a NaN times weight 0 would be NaN


def test_gaps_inside_a_row_keep_their_mask(model):
    tokens, mask = pad([encode(model, t) for t in TEXTS], 0, "right")
    mask[:, 1] = False
    fast, slow = residual_cache(model, tokens, mask), slow_cache(model, tokens, mask)
    last = hook_name(model.cfg.n_layers - 1)
    torch.testing.assert_close(fast[last][mask], slow[last][mask], rtol=1e-4, atol=1e-4)


def test_everything_is_in_place_after_the_pass_and_after_an_exception(model):
    if not hasattr(model, "adapter"):
        pytest.skip("HookedTransformer has no wrappers")
    before, kind = wrappers(model), model.original_model.config._attn_implementation
    with pytest.raises(RuntimeError, match="stop"), shortcut(model, whole_blocks=True):
        assert wrappers(model) != before
        raise RuntimeError("stop")
    assert wrappers(model) == before
    assert model.original_model.config._attn_implementation == kind


@pytest.mark.parametrize("name", ["attn.hook_pattern", "hook_resid_mid", "mlp.hook_out", "ln1.hook_normalized"])
def test_a_hook_inside_a_block_is_fired_and_obeyed(name):
    llama = tiny("tiny-llama", "bridge")
    tokens = torch.tensor([encode(llama, TEXTS[0])])
    last = hook_name(llama.cfg.n_layers - 1)
    plain, seen = residual_cache(llama, tokens)[last], []

    def zero(tensor, hook):
        seen.append(tensor.shape)
        return torch.zeros_like(tensor)

    with llama.hooks(fwd_hooks=[(f"blocks.2.{name}", zero)]):
        changed = residual_cache(llama, tokens)[last]
        with torch.inference_mode():
            truth = llama.run_with_cache(tokens, names_filter=[last])[1][last]
    assert len(seen) == 2 and not torch.allclose(plain, changed, atol=1e-2)
    torch.testing.assert_close(changed, truth, rtol=1e-4, atol=1e-4)
    ids = encode(llama, TEXTS[0])
    generate_tokens(llama, [ids], 3, fwd_hooks=[(f"blocks.2.{name}", zero)])
    assert len(seen) == 5


def test_torch_hooks_on_a_part_keep_its_block():
    model = tiny("tiny-llama", "bridge")
    tokens, seen = torch.tensor([encode(model, TEXTS[0])]), []
    handle = model.blocks[1].attn.register_forward_hook(lambda *a: seen.append(1))
    try:
        residual_cache(model, tokens)
    finally:
        handle.remove()
    assert seen == [1]


def test_replaced_weights_are_used():
    from lens_emotion.models.loading import load_model

    model = load_model("tiny-gpt2", device="cpu")
    tokens = torch.tensor([encode(model, TEXTS[0])])
    part = model.blocks[1].attn.q.original_component
    part.weight = torch.nn.Parameter(torch.zeros_like(part.weight))
    fast, slow = residual_cache(model, tokens), slow_cache(model, tokens, torch.ones_like(tokens))
    last = hook_name(model.cfg.n_layers - 1)
    torch.testing.assert_close(fast[last], slow[last], rtol=1e-4, atol=1e-4)


def test_no_part_of_a_silent_bridge_runs_its_wrapper(monkeypatch):
    model = tiny("tiny-llama", "bridge")
    fired = []
    real = HookPoint.forward
    monkeypatch.setattr(HookPoint, "forward", lambda self, x: (fired.append(self.name), real(self, x))[1])
    residual_cache(model, torch.tensor([encode(model, TEXTS[0])]))
    inner = [n for n in fired if n and n.startswith("blocks.") and n.split(".")[2] not in ("hook_in", "hook_out")]
    assert fired and inner == []


@pytest.mark.parametrize("side", ["right", "left"])
def test_pooling_layer_by_layer_equals_pooling_the_cache(model, side):
    tokens, mask = pad([encode(model, t) for t in TEXTS], 0, side)
    content = mask & (mask.cumsum(1) > 1)
    poolings = [story_mean(), last_token(), story_mean(start=1)]
    cache = residual_cache(model, tokens, mask)
    with pooled_reader(model, poolings) as read:
        first, again = read(tokens, mask, content)(), read(tokens, mask, content)()
        alone = read(tokens[:1], mask[:1], content[:1])()
    for k, pooling in enumerate(poolings):
        assert torch.equal(first.rows[k], again.rows[k])  # nothing of one batch is left for the next
        torch.testing.assert_close(first.rows[k], pool_cache(cache, content, pooling), rtol=1e-6, atol=1e-5)
        torch.testing.assert_close(alone.rows[k, 0], first.rows[k, 0], rtol=1e-4, atol=1e-4)
        assert first.n_pooled[k].tolist() == (pooling.weights(content) > 0).sum(1).tolist()
    torch.testing.assert_close(first.norms, norm_sums(cache, content), rtol=1e-6, atol=1e-6)


def test_layer_by_layer_sees_what_a_users_hook_changes(llama):
    tokens = torch.tensor([encode(llama, TEXTS[0])])
    mask, last = torch.ones_like(tokens).bool(), llama.cfg.n_layers - 1
    with llama.hooks(fwd_hooks=[(hook_name(1), lambda t, hook: t + 1), (hook_name(last), lambda t, hook: t * 2)]):
        cache = residual_cache(llama, tokens, mask)
        with pooled_reader(llama, [story_mean()]) as read:
            rows = read(tokens, mask, mask)().rows[0]
    torch.testing.assert_close(rows, pool_cache(cache, mask, story_mean()), rtol=1e-6, atol=1e-5)
    plain = pool_cache(residual_cache(llama, tokens, mask), mask, story_mean())
    assert (rows[:, 1] - plain[:, 1] - 1).abs().max() < 1e-4


def test_layer_by_layer_never_runs_the_head_and_leaves_no_hooks_after_an_exception(model):
    ran, tokens = [], torch.tensor([encode(model, TEXTS[0])])
    mask = torch.ones_like(tokens).bool()
    head = model.unembed
    handle = head.register_forward_hook(lambda *a: ran.append(1))
    try:
        with pytest.raises(RuntimeError, match="mine"), pooled_reader(model, [story_mean()]) as read:
            read(tokens, mask, mask)
            with pytest.raises(IndexError):  # a token that does not exist, in mid-reading
                read(tokens + 10**6, mask, mask)
            assert torch.isfinite(read(tokens, mask, mask)().rows).all()
            raise RuntimeError("mine")
    finally:
        handle.remove()
    assert ran == []
    assert all(not point.fwd_hooks for point in model.hook_dict.values())


@pytest.mark.parametrize("preset", ["topic-crossed", "jeong"])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.9, 0.95, 3)], ids=["greedy", "sampled"])
@pytest.mark.parametrize("pooling", [story_mean(start=2), last_token(), middle_token()], ids=lambda p: p.name)
def test_extracting_while_writing_equals_reading_again(llama, preset, sampling, pooling):
    prompts = [p for p in story_prompts(preset, "world-en") if p.emotion in ("happy", "sad")][:12]
    prompts += [p for p in story_prompts(preset, "world-en") if p.emotion == "sad"][:6]
    settings = {"preset": preset, "max_new_tokens": 24, "sampling": sampling, "pooling": pooling, "progress": False}
    prompts = list(dict.fromkeys(prompts))
    once = extract_generation(llama, prompts, capture="while writing", **settings)
    twice = extract_generation(llama, prompts, capture="reread", **settings)
    assert once.stories == twice.stories
    assert once.conditioned.records == twice.conditioned.records
    assert once.conditioned.header == twice.conditioned.header
    torch.testing.assert_close(once.conditioned.values, twice.conditioned.values, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(once.conditioned.residual_norm, twice.conditioned.residual_norm, rtol=1e-4, atol=1e-4)


def test_states_watched_are_those_of_each_token_though_rows_leave_the_batch(model, monkeypatch):
    stop = torch.tensor([encode(model, ".")[-1]])  # not every tiny model ends its texts in time
    monkeypatch.setattr("lens_emotion.models.decoding.stop_ids", lambda model: stop)
    rows = [encode(model, t) for t in TEXTS] * 8  # more than decoding.SMALLEST, so that the batch shrinks
    seen = watch(model, len(rows), 40)
    written = generate_tokens(model, rows, 40, Sampling(1.2, 1.0, 5), seen.hooks, on_keep=seen.keep, read_last=True)
    assert written == generate_tokens(model, rows, 40, Sampling(1.2, 1.0, 5))
    assert len({len(new) for new in written}) > 1
    for i in (0, 5, 11, 23):
        cache = residual_cache(model, torch.tensor([[*rows[i], *written[i]]]))
        for layer in range(model.cfg.n_layers):
            truth = cache[hook_name(layer)][0, len(rows[i]) - 1 :]
            got = seen.cache[hook_name(layer)][i, : len(truth)]
            torch.testing.assert_close(got, truth, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("odd", ["attn_logit_softcapping", "reorder_and_upcast_attn", "output_attentions", None])
def test_attention_is_fused_only_where_that_computes_the_same(odd):
    """Some releases of transformers say of Gemma 2 that it has fused attention, which leaves its soft cap out."""
    config = SimpleNamespace(_attn_implementation="eager", **({odd: 50.0} if odd else {}))
    config.get_text_config = lambda: config
    assert _fused_attention_fits(SimpleNamespace(config=config, _supports_sdpa=True)) == (odd is None)
    assert not _fused_attention_fits(SimpleNamespace(config=config, _supports_sdpa=False))


def test_an_unknown_capture_is_refused(llama):
    with pytest.raises(StimulusError, match="while writing"):
        extract_generation(llama, capture="live")


def test_a_cpu_reads_smaller_batches(llama):
    assert budget_for(llama) == cpu_budgets(SMALL - 1)[0] == AT_ONCE * CPU_BUDGET < TOKEN_BUDGET
    assert cpu_budgets(SMALL) == (CPU_BUDGET, GENERATION_BUDGET)


def test_a_wide_model_is_watched_in_smaller_batches():
    from lens_emotion.extraction.generation import WATCHED_BYTES, watched_length

    for n_layers, d_model in ((6, 64), (30, 576), (32, 4096)):
        model = SimpleNamespace(cfg=SimpleNamespace(n_layers=n_layers, d_model=d_model, dtype=torch.float32))
        rows = max(1, cpu_budgets(d_model)[1] // watched_length(model, 128))
        assert rows * 129 * n_layers * d_model * 4 <= WATCHED_BYTES
