"""For the tests of steering: vectors of known size without reading a text, and a plain oracle of steered decoding."""

from __future__ import annotations

from functools import cache

import torch
from conftest import tiny

from lens_emotion.extraction.activations import Header
from lens_emotion.models.access import describe, hook_name
from lens_emotion.models.forward import residual_cache
from lens_emotion.models.prompting import encode
from lens_emotion.vectors.emotion_vectors import EmotionVectors, unit

PROMPT = "That morning Anna was in the kitchen. She"
OTHER = "Ben walked"
EMOTIONS = ("calm", "angry", "sad")


@cache
def made_vectors(name: str) -> EmotionVectors:
    """Random directions; one natural unit is half the residual norm of the prompt: enough to change the text."""
    model = tiny(name)
    held = residual_cache(model, torch.tensor([encode(model, PROMPT)]))
    n = model.cfg.n_layers
    norm = torch.stack([held[hook_name(layer)][0, 1:].norm(dim=-1).mean() for layer in range(n)])
    generator = torch.Generator().manual_seed(0)
    directions = unit(torch.randn(len(EMOTIONS), n, model.cfg.d_model, generator=generator))
    natural = (0.5 * norm).expand(len(EMOTIONS), n).clone()
    info = describe(model)
    header = Header(
        name, info.fingerprint, info.family, info.backend, info.transformer_lens, info.dtype, "test", "", "", ""
    )
    return EmotionVectors(directions, EMOTIONS, natural, natural, norm, header)


def vectors_of(model) -> EmotionVectors:
    return made_vectors(model.lens_emotion_name)


def chosen(positions, n_prompt: int, length: int) -> list[bool]:
    """Which of `length` tokens are steered, spelled out."""
    if positions == "all":
        return [True] * length
    if positions == "generated":
        return [i >= n_prompt - 1 for i in range(length)]
    if positions == "prompt":
        return [i < n_prompt for i in range(length)]
    if isinstance(positions, slice):
        inside = set(range(n_prompt)[positions])
    else:
        inside = {range(n_prompt)[p] for p in ([positions] if isinstance(positions, int) else positions)}
    return [i in inside for i in range(length)]


def oracle_logits(model, ids, n_prompt, change, layer, positions):
    """Logits at the end of a whole text read at once, without cache or pads; `change` maps [pos, d] to [pos, d]."""
    where = torch.tensor(chosen(positions, n_prompt, len(ids)))[None, :, None]

    def hook_fn(residual, hook):
        return torch.where(where, change(residual), residual)

    with torch.inference_mode(), model.hooks(fwd_hooks=[(hook_name(layer), hook_fn)]):
        return model(torch.tensor([ids]))[0, -1]


def no_hooks_left(model) -> bool:
    return all(not point.fwd_hooks for point in model.hook_dict.values())
