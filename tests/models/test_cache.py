"""Keys and values with room to grow: those of transformers' own cache, with few copies."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from lens_emotion.models import cache
from lens_emotion.models.cache import RoomyLayer, roomy_cache
from lens_emotion.models.decoding import generate_tokens
from lens_emotion.models.prompting import encode


@pytest.mark.parametrize("least", [1, 32])
def test_keys_and_values_are_those_of_transformers_also_when_rows_leave(monkeypatch, least):
    monkeypatch.setattr(cache, "LEAST", least)
    generator = torch.Generator().manual_seed(0)
    ours, theirs = RoomyLayer(), DynamicLayer()
    rows = 5
    for step, new in enumerate([7, 1, 1, 1, 12, 1, 1, *[1] * 40]):
        pair = [torch.randn(rows, 2, new, 4, generator=generator) for _ in range(2)]
        for mine, other in zip(ours.update(*pair), theirs.update(*pair), strict=True):
            assert torch.equal(mine, other)
        assert ours.get_seq_length() == theirs.get_seq_length()
        assert ours.get_mask_sizes(1) == theirs.get_mask_sizes(1)
        if step in (3, 9, 30):
            kept = torch.tensor([0, rows - 1, 0] if step == 9 else list(range(rows - 1)))
            ours.reorder_cache(kept)
            theirs.reorder_cache(kept)
            rows = len(kept)


def test_all_is_copied_seldom(monkeypatch):
    copies, real = [], cache._longer
    monkeypatch.setattr(cache, "_longer", lambda *given: copies.append(given) or real(*given))
    layer = RoomyLayer()
    for new in (20, *[1] * 300):
        layer.update(torch.zeros(1, 1, new, 2), torch.zeros(1, 1, new, 2))
    assert layer.get_seq_length() == 320 and len(copies) <= 2 * 8  # of 301 times that transformers copies them
    assert layer._room[0].shape[-2] <= 320 * 1.25 + cache.LEAST


@pytest.mark.parametrize("name", ["tiny-gpt2", "tiny-gemma", "tiny-qwen", "tiny-llama", "tiny-mistral"])
def test_what_is_written_is_what_it_was(monkeypatch, name):
    """On every family, by rows of different lengths of which some leave."""
    model = tiny(name)
    prompts = [encode(model, text) for text in ("The door", "Anna was calm. The door opened, and", "A")]
    layers = roomy_cache(model.original_model.config).layers
    assert all(isinstance(layer, RoomyLayer) != layer.is_sliding for layer in layers)  # windows are kept as they are
    mine = generate_tokens(model, prompts * 4, 60)
    monkeypatch.setattr(cache, "roomy_cache", lambda config: DynamicCache(config=config))
    assert generate_tokens(model, prompts * 4, 60) == mine
