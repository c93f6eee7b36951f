"""From text to tokens: chat templates, exactly one BOS, and the spans of a prompt.

A tokenised text knows which of its tokens are content. Everything else (BOS, template, instruction, pads) and
position 0 are never pooled: the first position is an attention sink with massive activations in most models, whether
or not it is a BOS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lens_emotion.errors import ContextLengthError, StimulusError
from lens_emotion.models.access import Model, tokenizer_of


@dataclass(frozen=True)
class TokenisedText:
    """Token ids of one text and which of them are content.

    Attributes:
        ids: token ids, BOS first where the model has one.
        content: True for the tokens whose activations may be pooled.
        prompt_length: number of tokens before the first generated (or content) token.
    """

    ids: tuple[int, ...]
    content: tuple[bool, ...]
    prompt_length: int = 0

    def __len__(self) -> int:
        return len(self.ids)


def bos_id(model: Model) -> int | None:
    """The id of the beginning-of-text token, or None for models that have none (Qwen, SmolLM2).

    A BOS that the chat template repeats before every turn is a turn marker (SmolLM2's "<|im_start|>") and is not
    prepended. TransformerLens fills a missing BOS with the EOS token: the tokenizer's own settings are asked instead.
    """
    tokenizer = tokenizer_of(model)
    own = tokenizer.init_kwargs.get("bos_token", tokenizer.bos_token)
    if own is None or str(own) == "":
        return None
    if has_chat_template(model):
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        if str(tokenizer.apply_chat_template(turns, tokenize=False)).count(str(own)) > 1:
            return None
    return int(tokenizer.convert_tokens_to_ids(str(own)))


def has_chat_template(model: Model) -> bool:
    return bool(getattr(tokenizer_of(model), "chat_template", None))


def chat_prompt(model: Model, instruction: str) -> str:
    """The instruction as the model expects it: through its chat template where it has one, else as it stands."""
    if not has_chat_template(model):
        return instruction
    turns = [{"role": "user", "content": instruction}]
    return str(tokenizer_of(model).apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


def encode(model: Model, text: str) -> list[int]:
    """Token ids with exactly one BOS (none for models without), whether or not the text already begins with it.

    Raises:
        StimulusError: half of a surrogate pair, as bytes that are no UTF-8 become on a command line.
    """
    tokenizer = tokenizer_of(model)
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise StimulusError(
            f"{text[:80]!r} holds half of a surrogate pair, which is no text; write the character itself"
        )
    ids = list(tokenizer(text, add_special_tokens=False).input_ids)
    bos = bos_id(model)
    if bos is None:
        return ids
    while ids and ids[0] == bos:
        ids.pop(0)
    return [bos, *ids]


def tokenise_text(model: Model, text: str) -> TokenisedText:
    """A text to be read as it stands: content is everything but position 0 and special tokens.

    Raises:
        StimulusError: empty text, or nothing left to pool.
        ContextLengthError: longer than the model's context.
    """
    if not text.strip():
        raise StimulusError("empty text; every stimulus needs at least two tokens of text")
    ids = encode(model, text)
    check_length(model, len(ids), text)
    special = special_ids(model)
    content = tuple(position > 0 and token not in special for position, token in enumerate(ids))
    if not any(content):
        raise StimulusError(
            f"text too short: {text!r} has {len(ids)} token(s), and position 0 is never pooled (attention sink); "
            "give at least two tokens of text"
        )
    return TokenisedText(tuple(ids), content)


def tokenise_prompt(model: Model, instruction: str) -> TokenisedText:
    """An instruction to be answered: through the chat template, no content of its own."""
    ids = encode(model, chat_prompt(model, instruction))
    check_length(model, len(ids), instruction)
    return TokenisedText(tuple(ids), (False,) * len(ids), prompt_length=len(ids))


def special_ids(model: Model) -> frozenset[int]:
    return frozenset(tokenizer_of(model).all_special_ids)


def check_length(model: Model, length: int, text: str, new_tokens: int = 0) -> None:
    """Raises ContextLengthError if the tokens (and those to be generated) do not fit into the context."""
    limit = int(model.cfg.n_ctx)
    if length + new_tokens > limit:
        asked = f"{length} tokens" + (f" and {new_tokens} new ones" if new_tokens else "")
        raise ContextLengthError(
            f"text of {asked} does not fit into the context of {limit} tokens: {text[:60]!r}...; shorten it"
        )


def pad_id(model: Model) -> int:
    tokenizer = tokenizer_of(model)
    for candidate in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if candidate is not None:
            return int(candidate)
    return 0


def pad(
    rows: Sequence[Sequence[int]], fill: int, side: str = "right"
) -> tuple[Int[Tensor, "batch pos"], Bool[Tensor, "batch pos"]]:
    """Rows of ids as one tensor, and a mask that is True where there is a token.

    Extraction pads on the right, generation on the left.
    """
    width = max(len(row) for row in rows)
    tokens = torch.full((len(rows), width), fill, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.bool)
    for i, row in enumerate(rows):
        where = slice(0, len(row)) if side == "right" else slice(width - len(row), width)
        tokens[i, where] = torch.tensor(row, dtype=torch.long)
        mask[i, where] = True
    return tokens, mask


def decode_text(model: Model, ids: Sequence[int]) -> str:
    """Text of generated ids, special tokens left out."""
    tokenizer: Any = tokenizer_of(model)
    return str(tokenizer.decode(list(ids), skip_special_tokens=True))
