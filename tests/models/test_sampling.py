"""Drawing the next token: the right distribution, alike alone and in any batch, without asking the device."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from conftest import BACKENDS, tiny
from scipy.stats import chisquare

from lens_emotion.memory import free_on
from lens_emotion.models import decoding, forward, sampling
from lens_emotion.models.decoding import generate_tokens
from lens_emotion.models.forward import AT_ONCE, GENERATION_BUDGET, SMALL, cpu_budgets, writing_budget
from lens_emotion.models.prompting import encode
from lens_emotion.models.sampling import ONE, SHARE, WORD, Sampling, chooser, philox, random_words, weights

RARE = 1e-4  # no p of a right generator lies below it here: the draws are always the same
GENERATOR = torch.Generator().manual_seed(0)
PEAKED = 3 * torch.randn(4, 3000, generator=GENERATOR)
LOGITS = {
    "peaked": PEAKED,
    "nearly flat": 0.01 * PEAKED,
    "flat": torch.zeros(2, 500),
    "bfloat16, with ties": PEAKED.bfloat16().float(),
    "forbidden tokens": PEAKED.masked_fill(PEAKED < 1, -math.inf),
    "one token": torch.tensor([[0.0, 400.0, -400.0]]),
    "large": 1e4 * PEAKED,
}
SETTINGS = {
    "temperature": Sampling(0.7),
    "nucleus": Sampling(1.0, 0.9),
    "nearly all": Sampling(1.3, 0.9999),
    "the likeliest": Sampling(1.0, 1e-6),
    "top k": Sampling(1.0, top_k=40),
    "both": Sampling(1.2, 0.6, top_k=40),
    "more than there are": Sampling(1.0, top_k=10**6),
}


def test_the_generator_is_philox():
    """The known answers of its authors (Random123, philox4x32_10)."""
    pi = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0)
    for (counter, key), words in {
        ((0,) * 4, (0,) * 2): (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
        ((WORD,) * 4, (WORD,) * 2): (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        pi: (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    }.items():
        given = ([torch.tensor([word]) for word in words] for words in (counter, key))
        assert tuple(int(word) for word in philox(*given)) == words


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("kind", LOGITS)
def test_kept_tokens_are_those_of_a_full_sort_and_weigh_what_they_are_likely(kind, setting):
    logits, how = LOGITS[kind], SETTINGS[setting]
    found = weights(logits, how)
    p = (logits / how.temperature).softmax(-1)
    wanted = (p * ONE).long()
    if how.top_k is not None:
        least = p.sort(-1, descending=True).values[:, min(how.top_k, p.shape[1]) - 1, None]
        wanted = wanted.masked_fill(p < least, 0)
    if how.top_p < 1:
        ordered, order = p.sort(-1, descending=True)
        reached = wanted.gather(1, order).cumsum(-1)
        enough = (wanted.sum(-1, keepdim=True) * int(how.top_p * 2**SHARE) >> SHARE).clamp_min(1)
        last = (reached < enough).sum(1, keepdim=True)
        wanted = wanted.masked_fill(p < ordered.gather(1, last), 0)  # ties of the last one stay
    assert torch.equal(found, wanted) and bool((found.sum(-1) > 0).all())


@pytest.mark.parametrize("how", [Sampling(1.0), Sampling(0.6), Sampling(1.5, 0.8), Sampling(1.0, top_k=5)])
def test_tokens_are_drawn_as_often_as_they_are_likely(how):
    """Over rows at one step, and over the steps of one row."""
    n, logits = 8000, torch.linspace(-2, 2, 12)[None]
    p = weights(logits, how)[0].double()
    p /= p.sum()
    over_rows = chooser(how, range(n), 1)(logits.expand(n, -1), torch.arange(n), 0)
    over_steps = sampling._draw(weights(logits, how).expand(n, -1), random_words([7], n).T)
    for drawn in (over_rows, over_steps):
        counts = torch.bincount(drawn, minlength=12)
        assert bool((counts[p == 0] == 0).all())
        assert chisquare(counts[p > 0].numpy(), n * p[p > 0].numpy()).pvalue > RARE


def test_a_large_vocabulary_is_drawn_from_evenly():
    n, size = 2000, 4000
    drawn = chooser(Sampling(1.0), range(n), 1)(torch.zeros(n, size), torch.arange(n), 0)
    assert chisquare(torch.bincount(drawn // 200, minlength=20).numpy()).pvalue > RARE
    assert len(drawn.unique()) == pytest.approx(size * (1 - (1 - 1 / size) ** n), rel=0.05)


def dependent(words: torch.Tensor) -> list[str]:
    """Neighbours of a table of words [seeds, steps] that go together, by eighths of what words may be."""
    eighth = words >> 41
    pairs = {
        "seeds": (eighth[:-1], eighth[1:]),
        "steps": (eighth[:, :-1], eighth[:, 1:]),
        "a seed on and a step back": (eighth[:-1, 1:], eighth[1:, :-1]),
        "a thousand seeds on": (eighth[:-100], eighth[100:]),
    }
    tables = {name: torch.bincount((8 * a + b).flatten(), minlength=64).numpy() for name, (a, b) in pairs.items()}
    return [name for name, table in tables.items() if chisquare(table).pvalue < RARE]


BROKEN = {
    "one counter for all steps": lambda words: words[:, :1].expand_as(words),
    "one key for all rows": lambda words: words[:1].expand_as(words),
    "a row goes on where its neighbour is": lambda words: torch.stack([words[0].roll(-i) for i in range(len(words))]),
    "seeds and steps add up": lambda words: random_words([0], sum(words.shape))[0][
        torch.arange(len(words))[:, None] + torch.arange(words.shape[1])
    ],
}


def test_rows_steps_and_seeds_are_independent():
    words = random_words(range(300), 300)
    assert int(words.min()) >= 0 and int(words.max()) < 2**44 and words.unique().numel() == words.numel()
    assert not dependent(words) and not dependent(random_words([i * 1_000_003 for i in range(300)], 300))
    assert torch.equal(random_words([5, 3], 9), random_words(range(9), 400)[[5, 3], :9])
    assert not torch.equal(random_words([2**63 - 1], 9), random_words([2**31 - 1], 9))


@pytest.mark.parametrize("how", BROKEN)
def test_a_generator_that_repeats_itself_is_seen(how):
    assert dependent(BROKEN[how](random_words(range(300), 300)))


@pytest.mark.parametrize("how", [Sampling(1.1), Sampling(0.9, 0.8, top_k=30)], ids=["all", "some"])
@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("backend", BACKENDS)
def test_sampled_texts_are_the_same_alone_and_in_any_batch(backend, every, how, monkeypatch):
    model = tiny("tiny-llama", backend)
    monkeypatch.setattr(decoding, "LOOKS", {"cpu": every})
    texts = ("Anna was in the kitchen.", "Ben", "They went to the sea and", "Ben") * 3
    prompts, seeds = [encode(model, text) for text in texts], [11 + i for i in range(len(texts))]
    whole = generate_tokens(model, prompts, 14, how, row_seeds=seeds)
    assert generate_tokens(model, prompts, 14, how, row_seeds=seeds) == whole and whole[1] != whole[3]
    for rows in ([4], [11, 0, 7], [9, 8, 3, 2, 1, 0, 11, 10]):
        found = generate_tokens(model, [prompts[i] for i in rows], 14, how, row_seeds=[seeds[i] for i in rows])
        assert found == [whole[i] for i in rows]


def test_draws_in_parts_are_the_same(monkeypatch):
    rows, how = torch.arange(4), Sampling(0.8, 0.9)
    whole = chooser(how, range(4), 1)(PEAKED, rows, 0)
    monkeypatch.setattr(sampling, "IN_CACHE", 2 * PEAKED.shape[1])
    assert torch.equal(chooser(how, range(4), 1)(PEAKED, rows, 0), whole)


# What an accelerator waits for. On a CPU nothing waits, but the profiler sees the same questions asked.

ASKS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::unique", "aten::masked_select")


def calls_a_step(how, monkeypatch, every=100) -> Counter[str]:
    """Operations for each further step, of a batch with pads."""
    from torch.profiler import ProfilerActivity, profile

    model = tiny()
    monkeypatch.setattr(decoding, "stop_ids", lambda model: torch.tensor([-1]))
    monkeypatch.setattr(decoding, "LOOKS", {"cpu": every})
    prompts = [encode(model, text) for text in ("Anna was in the kitchen.", "Ben walked")]
    found = []
    for n in (2, 5):
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            generate_tokens(model, prompts, n, how)
        found.append(Counter({event.key: event.count for event in seen.key_averages()}))
    return Counter({name: (found[1][name] - found[0][name]) / 3 for name in found[1]})


@pytest.fixture(scope="module")
def steps_profiled():
    with pytest.MonkeyPatch.context() as patched:
        yield {
            name: calls_a_step(how, patched)
            for name, how in {"greedy": Sampling(), "all": Sampling(0.8), "some": Sampling(0.8, 0.9, top_k=50)}.items()
        }


def test_nothing_is_asked_of_the_device_between_two_looks(steps_profiled):
    """But for one question of transformers, whether anything is masked."""
    for how, calls in steps_profiled.items():
        assert sum(calls[name] for name in ASKS) <= 1, (how, calls)


def test_sampling_adds_a_bounded_number_of_operations_and_copies(steps_profiled):
    greedy = steps_profiled["greedy"]
    for how, operations, copies in (("all", 60, 4), ("some", 420, 40)):
        calls = steps_profiled[how]
        assert calls["aten::copy_"] - greedy["aten::copy_"] <= copies, how
        assert calls.total() - greedy.total() <= operations, how
        assert not {"aten::sort", "aten::topk"} & {name for name, n in calls.items() if n}, how


def test_a_look_at_every_step_would_be_seen(monkeypatch):
    real = decoding._look
    monkeypatch.setattr(
        decoding, "_look", lambda rows, finished, *rest: (bool(finished.any()), real(rows, finished, *rest))[1]
    )
    assert sum(calls_a_step(Sampling(), monkeypatch, every=1)[name] for name in ASKS) >= 2


# How much is written at once.


def test_batches_grow_with_an_accelerators_free_memory_by_powers_of_two(monkeypatch):
    model = tiny()

    def budget(free, device="cuda", **more):
        monkeypatch.setattr(forward, "free_on", lambda device: free)
        monkeypatch.setattr(forward, "device_of", lambda model: torch.device(device))
        return writing_budget(model, 16, 64, **more)

    small, large = budget(1e9), budget(64e9)
    usual = cpu_budgets(tiny().cfg.d_model)[1]
    assert usual == AT_ONCE * GENERATION_BUDGET == AT_ONCE * cpu_budgets(SMALL)[1]
    assert large == 64 * small and large & (large - 1) == 0 and large > usual and budget(64.1e9) == large
    assert budget(64e9, states=10**6) < large and budget(64e9, asked=77) == 77 and budget(0.0) == 1
    assert budget(64e9, "cpu") == usual > budget(1e6, "cpu") and budget(None) == usual


def test_free_memory_counts_what_pytorch_holds_in_reserve(monkeypatch):
    for name, value in {"mem_get_info": (10, 80), "memory_reserved": 7, "memory_allocated": 3}.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert free_on(torch.device("cuda", 0)) == 14.0 and free_on(torch.device("meta")) is None
    cpu = free_on(torch.device("cpu"))
    assert cpu is None or cpu > 0
