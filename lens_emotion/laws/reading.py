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
from lens_emotion.models.decoding import ends_of, generate_tokens, stop_ids
from lens_emotion.models.first_token import as_saved, first_token, rule_of
from lens_emotion.models.forward import residual_cache
from lens_emotion.models.loading import resolve, tokenizer_of_source
from lens_emotion.models.prompting import decode_text, encode, pad, pad_id, tokenise_prompt, tokenise_text
from lens_emotion.models.sampling import Sampling
from lens_emotion.models.templates import has_chat_template
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


def first_token_is_the_rule(subject: Subject) -> LawResult:
    """Texts are fed as the tokenizer, loaded anew, gives them out (its end left off), or behind the token that the
    catalog declares; never behind two, whether the text or the chat template brings its own."""
    model, rule, first = subject.model, rule_of(subject.model), first_token(subject.model)
    source = getattr(model, "lens_emotion_source", None)
    plain = tokenizer_of_source(resolve(source[0]), source[1]) if source else as_saved(tokenizer_of(model))
    declared = first.ids if not rule.front else ()
    wrong = 0
    for record, ids in zip(subject.acts.records, subject.ids, strict=True):
        truth = list(plain(record.text).input_ids)
        truth = [*declared, *truth[: len(truth) - len(rule.behind)]]
        begun = plain.decode(list(first.ids)) + record.text
        wrong += sum(row != truth for row in (list(ids), encode(model, record.text), encode(model, begun)))
    if first.ids and has_chat_template(model):
        asked, n = list(tokenise_prompt(model, "Write a story.").ids), len(first.ids)
        wrong += asked[:n] != list(first.ids) or asked[n : 2 * n] == list(first.ids)
    return found(float(wrong), 0.0, "texts", first.words)


def special_tokens_stay_out(subject: Subject) -> LawResult:
    """No token that the tokenizer's files mark as special is pooled or stands in a decoded text, and every end that
    the model's generation settings name stops a text."""
    model, tokenizer = subject.model, tokenizer_of(subject.model)
    marked = {i: str(t) for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    room = max(1, int(model.cfg.n_ctx) // 4)
    wrong = 0
    for start in range(0, len(marked), room):
        some = dict(list(marked.items())[start : start + room])
        read = tokenise_text(model, "Anna smiled. " + " ".join(some.values()) + " Ben smiled.")
        wrong += sum(taken and token in marked for token, taken in zip(read.ids, read.content, strict=True))
        wrong += any(word in decode_text(model, list(some)) for word in some.values())
    ends, stops = ends_of(model), set(stop_ids(model).tolist())
    told = ", ".join(str(t) for t in tokenizer.convert_ids_to_tokens(sorted(stops)) if t is not None)
    return found(
        float(wrong + len(ends - stops)), 0.0, "tokens", f"{len(marked)} special tokens; a text ends at {told}"
    )


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
