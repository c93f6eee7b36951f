"""Tokens: content without specials, and generation that does not depend on its batch."""

from __future__ import annotations

import pytest
import torch
from conftest import plain, tiny

from lens_emotion.errors import ContextLengthError, StimulusError
from lens_emotion.extraction.comprehension import preview
from lens_emotion.extraction.pooling import story_mean
from lens_emotion.models.decoding import generate_tokens
from lens_emotion.models.prompting import encode, pad, tokenise_text
from lens_emotion.models.sampling import Sampling

PROMPTS = ("Anna was in the kitchen", "Ben", "It rained at the market, and Nora walked to the sea. She")


def test_preview_accounts_for_every_token(model):
    roles = preview(model, "Anna was in the kitchen and she smiled.", story_mean(start=2))
    names = [r.role for r in roles]
    assert names[0] == "special"
    assert names.count("skipped") == 2
    assert names[1:3] == ["skipped", "skipped"]
    assert set(names[3:]) == {"pooled"}
    assert "".join(r.token for r in roles if r.position > 0).strip().endswith("smiled.")


@pytest.mark.parametrize("text", ["", "   \n"])
def test_empty_text_is_refused(llama, text):
    with pytest.raises(StimulusError, match="empty text"):
        tokenise_text(llama, text)


def test_text_too_short_for_the_pooling_is_refused_not_zero(llama):
    with pytest.raises(StimulusError, match="too short"):
        preview(llama, "Anna smiled.", story_mean(start=50))


def test_text_longer_than_the_context_is_refused(llama):
    with pytest.raises(ContextLengthError, match=str(llama.cfg.n_ctx)):
        tokenise_text(llama, "Anna smiled. " * 200)


def test_batched_generation_equals_one_by_one(model):
    rows = [encode(model, p) for p in PROMPTS]
    together = generate_tokens(model, rows, 20)
    assert together == [generate_tokens(model, [row], 20)[0] for row in rows]


def test_sampled_generation_equals_one_by_one_and_repeats_with_its_seed(model):
    rows = [encode(model, p) for p in PROMPTS]
    sampling = Sampling(temperature=0.9, top_p=0.9, seed=7)
    together = generate_tokens(model, rows, 20, sampling, row_seeds=[1, 2, 3])
    singles = [
        generate_tokens(model, [r], 20, sampling, row_seeds=[s])[0] for r, s in zip(rows, (1, 2, 3), strict=True)
    ]
    assert together == singles
    assert together == generate_tokens(model, rows, 20, sampling, row_seeds=[1, 2, 3])
    assert together != generate_tokens(model, rows, 20, sampling, row_seeds=[4, 5, 6])


@pytest.mark.parametrize("name", ["tiny-gpt2", "tiny-mistral", "tiny-gemma"])
def test_cached_greedy_generation_equals_plain_forward_passes(name):
    """Beyond the sliding window, too: 90 tokens against a window of 64."""
    model, reference = tiny(name), plain(name)
    ids = encode(model, PROMPTS[2])
    written = generate_tokens(model, [ids], 90)[0]
    grown = list(ids)
    for token in written:
        with torch.no_grad():
            assert int(reference(torch.tensor([grown])).logits[0, -1].argmax()) == token
        grown.append(token)


def test_pad_puts_tokens_on_the_side_asked_for():
    tokens, mask = pad([[5, 6], [7]], 0, side="left")
    assert tokens.tolist() == [[5, 6], [0, 7]]
    assert mask.tolist() == [[True, True], [False, True]]
