"""From text to tokens: what stands in front once, and the spans of a prompt.

A tokenised text knows which of its tokens are content. Everything else (special tokens, template, instruction, pads)
and position 0 are never pooled: the first position is an attention sink with massive activations in most models,
whether or not it is a BOS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lens_emotion.errors import ContextLengthError, StimulusError
from lens_emotion.models.access import Model, tokenizer_of
from lens_emotion.models.first_token import first_token, special_of
from lens_emotion.models.templates import chat_prompt


@dataclass(frozen=True)
class TokenisedText:
    """Token ids of one text and which of them are content.

    Attributes:
        ids: token ids, behind what the model's texts begin with.
        content: True for the tokens whose activations may be pooled.
        prompt_length: number of tokens before the first generated (or content) token.
    """

    ids: tuple[int, ...]
    content: tuple[bool, ...]
    prompt_length: int = 0

    def __len__(self) -> int:
        return len(self.ids)


def encode(model: Model, text: str) -> list[int]:
    """Token ids behind what the model's texts begin with (`first_token`), once, whether or not the text brings it.

    Nothing is put behind: what the tokenizer would add there (an EOS) would end a text that goes on.

    Raises:
        StimulusError: no string, or half of a surrogate pair, as bytes that are no UTF-8 become on a command line.
    """
    if not isinstance(text, str):
        raise StimulusError(f"a {type(text).__name__} is no text, {str(text)[:60]!r}; give one string")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise StimulusError(
            f"{text[:80]!r} holds half of a surrogate pair, which is no text; write the character"
        ) from None
    ids = list(tokenizer_of(model)(text, add_special_tokens=False).input_ids)
    front = first_token(model).ids
    if own := set(front) & special_ids(model):
        while ids and ids[0] in own:
            ids.pop(0)
    return [*front, *ids]


def tokenise_text(model: Model, text: str) -> TokenisedText:
    """A text to be read as it stands: content is everything but position 0 and special tokens.

    Raises:
        StimulusError: empty text, or nothing left to pool.
        ContextLengthError: longer than the model's context.
    """
    if isinstance(text, str) and not text.strip():
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
    """Ids of every special token, those without a role too (Gemma's turn markers): never pooled, never in a text."""
    tokenizer = tokenizer_of(model)
    version = (len(tokenizer), tuple(tokenizer.all_special_ids))  # Gemma adds thousands: not collected for every text
    kept = vars(tokenizer).get("lens_emotion_special")
    if kept is None or kept[0] != version:
        kept = tokenizer.lens_emotion_special = (version, special_of(tokenizer))
    return kept[1]


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
        if candidate is not None and candidate < model.cfg.d_vocab:  # TransformerLens may have added it
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
    special = special_ids(model)
    return str(tokenizer_of(model).decode([i for i in ids if i not in special], skip_special_tokens=True))
