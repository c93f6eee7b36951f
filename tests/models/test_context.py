"""Up to the last position of the context, as Hugging Face computes it; and what a batch does when rows have ended."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
import torch
from conftest import BACKENDS, tiny
from transformers import AutoConfig, AutoModelForCausalLM

from lens_emotion.errors import ContextLengthError, NotFiniteError, UnsupportedModelError
from lens_emotion.models import conversion, decoding
from lens_emotion.models.access import hook_name
from lens_emotion.models.catalog import find_spec
from lens_emotion.models.decoding import SMALLEST, ends_of, generate_tokens, stop_ids
from lens_emotion.models.forward import read_out, residual_cache
from lens_emotion.models.loading import load_model, tiny_folder
from lens_emotion.models.prompting import check_length, encode, tokenise_text
from lens_emotion.models.sampling import Sampling, chooser

CONTEXT = 48
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8}
SIZES |= {"num_key_value_heads": 2, "vocab_size": 1600, "max_position_embeddings": CONTEXT}
SCALED = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
SCALED |= {"original_max_position_embeddings": 16, "rope_theta": 100.0}
LOCAL = {"sliding_attention": {"rope_type": "default", "rope_theta": 10.0}}
LOCAL["full_attention"] = {"rope_type": "default", "rope_theta": 1e4}
TURNS = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}
SETTINGS = {  # family, settings, and those that it must not be taken for
    "positions scaled as Llama 3's": ("llama", {"rope_parameters": SCALED}, {"rope_parameters": {"rope_theta": 100.0}}),
    "positions of their own in windows": ("gemma3_text", TURNS | {"rope_parameters": LOCAL}, TURNS),
    "a window": ("mistral", {"sliding_window": 8}, {"sliding_window": None}),
    "soft caps": (
        "gemma2", {"attn_logit_softcapping": 1.0, "final_logit_softcapping": 2.0, "query_pre_attn_scalar": 8},
        {"attn_logit_softcapping": None, "final_logit_softcapping": None, "query_pre_attn_scalar": 8},
    ),
}  # fmt: skip
IDS = list(range(5, 45))


def random_model(family, settings):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(family, **(SIZES | settings)), attn_implementation="eager"
    ).eval()
    for name, parameter in model.named_parameters():
        parameter.data.add_((0.1 if "norm" in name else 0.3) * torch.randn_like(parameter))
    return model


@torch.inference_mode()
def greedy(plain, ids, n, ends):
    """Token by token from the start, without a cache."""
    grown = list(ids)
    for _ in range(n):
        token = int(plain(torch.tensor([grown])).logits[0, -1].argmax())
        if token in ends:
            break
        grown.append(token)
    return grown[len(ids) :]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("setting", SETTINGS)
def test_states_logits_and_texts_are_hugging_faces_up_to_the_end_of_the_context(setting, backend, tmp_path):
    family, settings, otherwise = SETTINGS[setting]
    plain = random_model(family, settings)
    with torch.inference_mode():
        truth = plain(torch.tensor([IDS]), output_hidden_states=True)
        apart = random_model(family, otherwise)(torch.tensor([IDS])).logits - truth.logits
    assert apart.abs().max() > 0.05, "the setting plays no part here"
    folder = shutil.copytree(tiny_folder(find_spec("tiny-llama")), tmp_path / "model")
    plain.save_pretrained(folder)
    try:
        model = load_model(str(folder), backend=backend, device="cpu")
    except UnsupportedModelError as refusal:
        assert backend == "hooked", refusal
        return
    cache = residual_cache(model, torch.tensor([IDS]))
    torch.testing.assert_close(cache[hook_name(0)], truth.hidden_states[1], rtol=1e-4, atol=1e-4)
    logits = read_out(model, cache[hook_name(1)][0])
    torch.testing.assert_close(logits, truth.logits[0], rtol=1e-4, atol=1e-4)
    n, ends = CONTEXT - 30, stop_ids(model).tolist()
    assert generate_tokens(model, [IDS[:30]], n)[0] == greedy(plain, IDS[:30], n, ends)
    two = generate_tokens(model, [IDS[:30], IDS[:4]], n)
    assert two == [greedy(plain, IDS[:k], n, ends) for k in (30, 4)]
    with pytest.raises(ContextLengthError):
        generate_tokens(model, [IDS[:30]], n + 1)


@pytest.mark.parametrize(("length", "new", "fits"), [(10, 0, True), (11, 0, False), (8, 2, True), (8, 3, False)])
def test_what_fills_the_context_exactly_fits(length, new, fits):
    model = SimpleNamespace(cfg=SimpleNamespace(n_ctx=10))
    if fits:
        check_length(model, length, "text", new)
    else:
        with pytest.raises(ContextLengthError, match="context of 10"):
            check_length(model, length, "text", new)


def test_position_0_is_no_content_where_nothing_stands_in_front():
    model = tiny("tiny-qwen")
    read = tokenise_text(model, "Anna smiled at Ben.")
    assert list(read.ids) == list(model.tokenizer("Anna smiled at Ben.", add_special_tokens=False).input_ids)
    assert read.content == (False, *[True] * (len(read) - 1))


# Rows that have ended write no more, and leave the others as they are.

PROMPTS = ("Anna was in the kitchen.", "Ben walked", "It rained at the market, and Nora", "They went to the sea and")


@pytest.mark.parametrize("n_rows", [2, SMALLEST + 4])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(1.5, 0.95, 3)], ids=["greedy", "sampled"])
def test_a_row_that_has_ended_writes_no_more_and_the_others_write_what_they_write_alone(n_rows, sampling, monkeypatch):
    model = tiny()
    prompts = [encode(model, PROMPTS[i % 4]) + encode(model, "She")[1:] * (i // 4) for i in range(n_rows)]
    seeds = [100 + i for i in range(n_rows)]
    monkeypatch.setattr(decoding, "stop_ids", lambda m: torch.tensor([-5]))
    free = [generate_tokens(model, [p], 16, sampling, row_seeds=[s])[0] for p, s in zip(prompts, seeds, strict=True)]
    ends = {free[0][3], free[1][9]} | {row[4 + i % 7] for i, row in enumerate(free) if i % 4 == 2}
    monkeypatch.setattr(decoding, "stop_ids", lambda m: torch.tensor(sorted(ends)))
    wanted = [row[: next((k for k, t in enumerate(row) if t in ends), 16)] for row in free]
    assert len({len(row) for row in wanted}) > 1 and min(map(len, wanted)) < 16
    assert generate_tokens(model, prompts, 16, sampling, row_seeds=seeds) == wanted


@pytest.mark.parametrize("place", ["original_model", "lens_emotion_generation"])
def test_each_of_several_ends_ends_a_text(place):
    settings = SimpleNamespace(eos_token_id=[7, 9])
    held = SimpleNamespace(generation_config=settings) if place == "original_model" else settings
    model = SimpleNamespace(**{place: held}, cfg=SimpleNamespace(d_vocab=100), tokenizer=tiny().tokenizer)
    assert ends_of(model) == {7, 9}
    settings.eos_token_id = 9
    assert ends_of(model) == {9}
    settings.eos_token_id = None
    assert ends_of(model) == set()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_text_ends_at_whichever_end_comes_first(backend, monkeypatch):
    model = tiny("tiny-llama", backend)
    ids = encode(model, PROMPTS[0])
    monkeypatch.setattr(decoding, "ends_of", lambda m: set())
    free = generate_tokens(model, [ids], 20)[0]
    late, early = free[9], free[4]
    for ends, first in (({late}, late), ({late, early}, early), ({early}, early)):
        monkeypatch.setattr(decoding, "ends_of", lambda m, ends=ends: ends)
        assert generate_tokens(model, [ids], 20)[0] == free[: free.index(first)]


def test_rows_draw_by_their_own_seeds_and_a_cold_row_is_greedy():
    logits = torch.tensor([[1.0, 0.9, 0.5, 0.0]]).expand(64, -1)
    rows = torch.arange(64)
    warm, cold, hot = (chooser(Sampling(t), range(64), 2)(logits, rows, 0) for t in (1.0, 0.005, 50.0))
    assert len(warm.unique()) > 2  # equal rows, each with its own draws
    assert (cold == 0).all() and (hot == 3).sum() > 6
    assert torch.equal(chooser(Sampling(1.0), range(64), 2)(logits[32:], rows[32:], 0), warm[32:])
    same = [encode(tiny(), PROMPTS[0])] * 3
    drawn = generate_tokens(tiny(), same, 12, Sampling(1.5, 1.0, 4))
    assert drawn == generate_tokens(tiny(), same, 12, Sampling(1.5, 1.0, 9), row_seeds=[4, 5, 6])
    assert len(set(map(tuple, drawn))) == 3


def test_a_deviation_that_is_no_number_is_no_small_one(monkeypatch):
    model = SimpleNamespace(cfg=SimpleNamespace(dtype=torch.float32))
    trace = conversion.Trace((1,), torch.ones(1, 1, 2), torch.ones(1, 1, 2), torch.ones(1, 3))
    for found, error in (([("layer 0", float("nan"))], NotFiniteError), ([("layer 0", 0.5)], UnsupportedModelError)):
        monkeypatch.setattr(conversion, "deviations", lambda m, t, found=found: found)
        with pytest.raises(error, match="layer 0"):
            conversion.check_conversion(model, trace, "m", "bridge")
