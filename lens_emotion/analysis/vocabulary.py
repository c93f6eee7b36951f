"""The vocabulary of a model as text: what each token says, and in which script it is written."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import regex
from jaxtyping import Int

from lens_emotion.models.access import Model, tokenizer_of
from lens_emotion.models.prompting import special_ids
from lens_emotion.stimuli.scripts import BYTES, SCRIPTS, main_script

_BYTE_PIECE = regex.compile(r"<0x([0-9A-Fa-f]{2})>")
_CACHE: WeakKeyDictionary[Any, Vocabulary] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The tokens a text can hold: special tokens and rows of the unembedding without a token are left out.

    Attributes:
        ids: token ids, ascending.
        texts: what each says, with its leading space.
        script: its script, as an index into `SCRIPTS`; tokens that are no whole UTF-8 character are "bytes".
    """

    ids: Int[np.ndarray, " n_tokens"]
    texts: tuple[str, ...]
    script: Int[np.ndarray, " n_tokens"]

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def base_rate(self) -> dict[str, float]:
        """Share of each script among the tokens; scripts without a token are left out."""
        count = Counter(self.script.tolist())
        return {name: count[i] / len(self) for i, name in enumerate(SCRIPTS) if count[i]}


def vocabulary(model: Model) -> Vocabulary:
    """The model's vocabulary (made once per tokenizer; about a second for 150,000 tokens).

    Raises:
        UnsupportedModelError: the model has no tokenizer.
    """
    tokenizer = tokenizer_of(model)
    if tokenizer not in _CACHE:
        _CACHE[tokenizer] = _read(tokenizer, int(model.cfg.d_vocab), special_ids(model))
    return _CACHE[tokenizer]


def _read(tokenizer: Any, d_vocab: int, special: frozenset[int]) -> Vocabulary:
    added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    ids = [i for i in range(min(len(tokenizer), d_vocab)) if i not in special and i not in added]
    pieces = tokenizer.convert_ids_to_tokens(ids)
    known = [(i, piece) for i, piece in zip(ids, pieces, strict=True) if piece is not None]
    texts = _texts(tokenizer, known)
    scripts = [SCRIPTS.index(BYTES if text is None else main_script(text)) for text in texts]
    shown = tuple(piece if text is None else text for text, (_, piece) in zip(texts, known, strict=True))
    return Vocabulary(np.array([i for i, _ in known]), shown, np.array(scripts))


def _texts(tokenizer: Any, known: list[tuple[int, str]]) -> list[str | None]:
    """Text of each token; None where it is a part of a character only.

    Byte-level pieces are decoded (a part of a character comes out as U+FFFD, which is not taken for a letter).
    SentencePiece pieces are read as they stand: decoding one alone would drop its leading space.
    """
    decoder = str(getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", "ByteLevel"))
    if "ByteLevel" in decoder:
        texts = tokenizer.batch_decode([[i] for i, _ in known], clean_up_tokenization_spaces=False)
        return [None if "\ufffd" in text else text for text in texts]
    return [_piece_text(piece) for _, piece in known]


def _piece_text(piece: str) -> str | None:
    byte = _BYTE_PIECE.fullmatch(piece)
    if byte is None:
        return piece.replace("▁", " ")
    value = int(byte.group(1), 16)
    return chr(value) if value < 0x80 else None
