"""Measures of steered text: distances, likelihood and entropy, scripts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import tiny

from lens_emotion.models.prompting import encode
from lens_emotion.steering.measures import edit_distance, letter_shares, likelihood, mean_nll, script_shares


def plain_edit_distance(a, b):
    """The textbook table."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        new = [i]
        for j, y in enumerate(b, 1):
            new.append(min(new[-1] + 1, row[j] + 1, row[j - 1] + (x != y)))
        row = new
    return row[-1] / max(len(a), len(b), 1)


def test_edit_distance_equals_the_textbook_table():
    rng = np.random.default_rng(0)
    for _ in range(300):
        a, b = (rng.integers(5, size=rng.integers(0, 90)).tolist() for _ in range(2))
        assert edit_distance(a, b) == pytest.approx(plain_edit_distance(a, b)), (a, b)
        assert edit_distance(a, b) == edit_distance(b, a)


def test_edit_distance_is_0_for_equal_texts_and_1_for_texts_without_a_common_token():
    assert edit_distance([1, 2, 3], [1, 2, 3]) == 0.0
    assert edit_distance([], []) == 0.0
    assert edit_distance([1, 2, 3], [4, 5, 6, 7]) == 1.0
    assert edit_distance([], [1]) == edit_distance([1], []) == 1.0
    assert edit_distance([1, 2, 3, 4], [2, 3, 4, 5]) == 0.5  # one taken away, one put in: not compared place by place


def test_entropy_and_nll_equal_the_plain_computation(llama):
    prompt, text = encode(llama, "That morning Anna was in the kitchen. She"), encode(llama, " smiled at the cat.")
    with torch.no_grad():
        log_p = llama(torch.tensor([[*prompt, *text]]))[0].float().log_softmax(-1)
    log_p = log_p[len(prompt) - 1 : -1]
    found = likelihood(llama, [prompt, prompt], [text, []])
    assert found.entropy[0] == pytest.approx(float(-(log_p.exp() * log_p).sum(-1).mean()), rel=1e-4)
    assert found.nll[0] == pytest.approx(float(-log_p[range(len(text)), text].mean()), rel=1e-4)
    assert np.isnan(found.nll[1]) and np.isnan(found.entropy[1])


def test_likelihood_of_a_batch_equals_one_by_one():
    model = tiny()
    prompts = [encode(model, p) for p in ("Ben", "That morning Anna was in the kitchen. She", "It rained")]
    texts = [encode(model, t) for t in (" walked past the door and smiled.", " was angry.", " cat")]
    together = likelihood(model, prompts, texts)
    alone = np.concatenate([mean_nll(model, [p], [t]) for p, t in zip(prompts, texts, strict=True)])
    np.testing.assert_allclose(together.nll, alone, rtol=1e-4)


def test_shares_of_scripts_are_shares_of_letters():
    assert letter_shares("Anna, 12 高兴!") == pytest.approx({"Latin": 4 / 6, "Han": 2 / 6})
    assert letter_shares("12 ...") == {}
    shares = script_shares(["Anna", "高兴", "да", ""])
    assert list(shares["Latin"][:3]) == [1.0, 0.0, 0.0]
    assert list(shares["Cyrillic"][:3]) == [0.0, 0.0, 1.0]
    assert np.isnan(shares["Han"][3])
