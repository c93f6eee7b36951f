"""Laws of reading (how texts are batched, padded and read changes nothing of what is read) and of repetition (a file
gives back what was saved, a seed what was drawn).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.extraction.while_writing import watch
from lens_emotion.laws.subject import LawResult, Subject, deviation, found
from lens_emotion.models.access import Model, device_of, hook_name, tokenizer_of
from lens_emotion.models.decoding import Sampling, generate_tokens
from lens_emotion.models.forward import residual_cache
from lens_emotion.models.prompting import bos_id, encode, has_chat_template, pad, pad_id, tokenise_prompt
from lens_emotion.vectors.emotion_vectors import EmotionVectors

NEW_TOKENS, REPEATED_TOKENS = 8, 12


def states_alone(model: Model, ids: Sequence[int]) -> Float[Tensor, "n_layers pos d_model"]:
    """`resid_post` of one text read alone, through `residual_cache`."""
    cache = residual_cache(model, torch.tensor([list(ids)]))
    return torch.stack([cache[hook_name(layer)][0] for layer in range(model.cfg.n_layers)])


def states_together(subject: Subject, side: str) -> list[Float[Tensor, "n_layers pos d_model"]]:
    """`resid_post` of every text, read as one batch padded on one side, pads cut away."""
    tokens, mask = pad(subject.ids, pad_id(subject.model), side)
    cache = residual_cache(subject.model, tokens, mask)
    whole = torch.stack([cache[hook_name(layer)] for layer in range(subject.n_layers)])
    return [whole[:, row][:, where.to(whole.device)] for row, where in enumerate(mask)]


def batch_equals_single(subject: Subject) -> LawResult:
    """Every text in a batch is read as it is read alone."""
    together = states_together(subject, "right")
    worst = [deviation(t, states_alone(subject.model, ids)) for t, ids in zip(together, subject.ids, strict=True)]
    return found(_worst(worst), subject.tolerance)


def right_pad_equals_left_pad(subject: Subject) -> LawResult:
    """Pads on either side are not seen."""
    sides = zip(states_together(subject, "right"), states_together(subject, "left"), strict=True)
    return found(_worst([deviation(right, left) for right, left in sides]), subject.tolerance)


@torch.inference_mode()
def stopping_changes_nothing(subject: Subject) -> LawResult:
    """Reading without the head (and with silent parts stepping aside) equals the whole model's pass."""
    names = [hook_name(layer) for layer in range(subject.n_layers)]
    worst = []
    for ids in subject.ids:
        tokens = torch.tensor([ids], device=device_of(subject.model))
        cache = subject.model.run_with_cache(tokens, names_filter=names)[1]
        truth = torch.stack([cache[name][0] for name in names])
        worst.append(deviation(states_alone(subject.model, ids), truth))
    return found(_worst(worst), subject.tolerance)


def writing_equals_reading(subject: Subject) -> LawResult:
    """States kept while a batch is written are those of each finished text read again."""
    model, prompts = subject.model, [list(ids) for ids in subject.ids]
    seen = watch(model, len(prompts), NEW_TOKENS)
    written = generate_tokens(model, prompts, NEW_TOKENS, fwd_hooks=seen.hooks, on_keep=seen.keep, read_last=True)
    held = torch.stack([seen.cache[hook_name(layer)] for layer in range(subject.n_layers)])
    worst = []
    for row, (prompt, new) in enumerate(zip(prompts, written, strict=True)):
        truth = states_alone(model, [*prompt, *new])[:, len(prompt) - 1 :]
        worst.append(deviation(held[:, row, : truth.shape[1]], truth))
    return found(_worst(worst), subject.tolerance)


def bos_once(subject: Subject) -> LawResult:
    """Exactly one BOS before a text, whether or not the text brings its own; none for models without."""
    model, own = subject.model, bos_id(subject.model)
    if own is None:
        never = tokenizer_of(model).bos_token_id
        extra = [encode(model, "Anna smiled.").count(never)] if never is not None else [0]
        return found(float(max(extra)), 0.0, "tokens", "the model has no BOS: none is put in front")
    word = str(tokenizer_of(model).convert_ids_to_tokens(own))
    rows = [encode(model, "Anna smiled."), encode(model, word + "Anna smiled."), list(subject.ids[0])]
    if has_chat_template(model):
        rows.append(list(tokenise_prompt(model, "Write a story.").ids))
    wrong = [abs(row.count(own) - 1) + int(row[0] != own) for row in rows]
    return found(float(max(wrong)), 0.0, "tokens")


def _worst(values: Sequence[float]) -> float:
    """The largest value; nan if one is nan (`max` would hide it)."""
    return float(torch.tensor(values, dtype=torch.float64).max())


def files_are_bit_equal(subject: Subject) -> LawResult:
    """Activations and vectors come back from the disk as they were, labels and header too."""
    acts, vectors = subject.acts, subject.vectors
    with tempfile.TemporaryDirectory() as folder:
        read = PooledActivations.load(acts.save(Path(folder) / "activations.safetensors"))
        back = EmotionVectors.load(vectors.save(Path(folder) / "vectors.safetensors"))
    wrong = sum(_unequal(getattr(read, name), getattr(acts, name)) for name in ("values", "residual_norm"))
    for name in ("directions", "norms", "natural", "residual_norm"):
        wrong += _unequal(getattr(back, name), getattr(vectors, name))
    wrong += (read.records, read.header) != (acts.records, acts.header)
    wrong += (back.emotions, back.header) != (vectors.emotions, vectors.header)
    return found(float(wrong), 0.0, "values")


def _unequal(got: Tensor, truth: Tensor) -> int:
    return int((got != truth).sum()) if got.shape == truth.shape else truth.numel()


def same_seed_same_result(subject: Subject) -> LawResult:
    """Sampling repeats with its seed, and a row of a batch is sampled as it is alone."""
    model, prompts = subject.model, [list(ids) for ids in subject.ids]
    drawn = Sampling(1.0, 0.95, seed=7)
    first, again = (generate_tokens(model, prompts, REPEATED_TOKENS, drawn) for _ in range(2))
    last = len(prompts) - 1
    alone = generate_tokens(model, prompts[last:], REPEATED_TOKENS, drawn, row_seeds=[drawn.seed + last])
    repeats = sum(a != b for a, b in zip(first, again, strict=True))
    # in half precision a batch rounds differently, and a draw at the edge between two tokens may fall the other way
    exact = model.cfg.dtype in (torch.float32, torch.float64)
    return found(float(repeats + (exact and alone[0] != first[last])), 0.0, "texts")
