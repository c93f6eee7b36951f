"""Which tokens are steered, and how a hook knows: it sees a slice of one forward pass, never the text.

What a block's attention scores show is enough. As many keys as queries: a new prompt begins. More keys than queries:
the text goes on from a cache. A masked diagonal: a pad. The scores are hooked in the first block, before the first
`resid_post`, so every layer of a pass knows its positions. Both backends show them, in every generation loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformer_lens.utilities import get_act_name

from lens_emotion.errors import DoseError, UnsupportedModelError

Hook = tuple[str, Callable[..., Any]]
Positions = str | int | slice | Sequence[int]
NAMES = ("all", "generated", "prompt")


def check_positions(positions: Positions) -> Positions:
    """Raises DoseError unless these are positions (see `Tracker`)."""
    if isinstance(positions, str):
        if positions not in NAMES:
            raise DoseError(
                f"unknown positions '{positions}'; use {', '.join(NAMES)}, or positions of the prompt: 3, [0, -1], "
                "slice(2, 6)"
            )
    elif not isinstance(positions, (int, slice)) and len(positions) == 0:
        raise DoseError("no position given; give at least one, or 'all'")
    return positions


class Tracker:
    """Counts the tokens of every row over the forward passes of a text, and says which of the present ones to steer.

    It starts anew with every prompt, so that one set of hooks serves any number of texts. Pads must be masked
    (`attention_mask`), as every generation loop does; then they are never counted, on whichever side they stand.

    positions:
        "all": every position of every pass.
        "generated": the last token of the prompt, from which the first new token is predicted, and all later ones.
        "prompt": the tokens of the prompt, its last one included; nothing after it.
        3, [0, -1], slice(2, 6): tokens of the prompt, counted from 0 over real tokens (BOS too), negative ones from
            the prompt's end; nothing after the prompt.
    prompt_length: real tokens of the prompt, one number or one per row. Needed only where a growing text is read again
        from its start at every step (no cache); otherwise the prompt is the first pass.
    """

    def __init__(self, positions: Positions = "all", prompt_length: int | Sequence[int] | None = None) -> None:
        self.positions = check_positions(positions)
        self.given = None if prompt_length is None else torch.as_tensor(prompt_length)
        self._seen: Tensor | None = None  # real tokens per row so far
        self._length: Tensor | None = None  # real tokens of the prompt per row
        self._columns = 0  # tokens per row so far, pads counted
        self._mask: Tensor | None = None
        self._start: Tensor | None = None  # what the last prompt looked like, to notice a text read again
        self._incoming: Tensor | None = None

    def hooks(self) -> list[Hook]:
        """Hooks that must be in place beside the steering hooks; none for "all"."""
        if self.positions == "all":
            return []
        return [(get_act_name("resid_pre", 0), self._enter), (get_act_name("attn_scores", 0), self._count)]

    def steered(self, residual: Float[Tensor, "batch pos d_model"]) -> Bool[Tensor, "batch pos"] | None:
        """True where the present pass is to be steered; None for everywhere.

        Raises:
            UnsupportedModelError: the model shows no attention scores.
        """
        if self.positions == "all":
            return None
        if self._mask is None or self._mask.shape != residual.shape[:2]:
            raise UnsupportedModelError(
                "the model shows no attention scores of its first block, so positions cannot be told apart; load it "
                "with attn_implementation='eager' (lens_emotion.load_model does), or use positions='all'"
            )
        return self._mask.to(residual.device)

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Go on with these rows of the batch only."""
        if self._seen is not None and self._length is not None:
            self._seen, self._length = (x[rows.to(x.device)] for x in (self._seen, self._length))

    def _enter(self, residual: Float[Tensor, "batch pos d_model"], hook: Any) -> None:
        self._incoming = residual

    def _count(self, scores: Float[Tensor, "batch heads query key"], hook: Any) -> None:
        batch, _, new, keys = scores.shape
        if new == keys:
            self._begin(scores)
        elif self._seen is not None and len(self._seen) == batch and keys - new <= self._columns:
            self._go_on(new)
        else:
            self._join(batch, new, keys, scores.device)

    def _begin(self, scores: Float[Tensor, "batch heads query query"]) -> None:
        """A new prompt: no token attends to a pad, not even the pad itself."""
        real = scores[:, 0].diagonal(dim1=-2, dim2=-1) > torch.finfo(scores.dtype).min / 2
        self._refuse_growing(real)
        self._seen, self._columns = real.sum(1), real.shape[1]
        self._length = self._seen if self.given is None else self.given.to(real.device).expand(len(real))
        self._mask = self._choose(real.cumsum(1) - 1, self._length) & real

    def _go_on(self, new: int) -> None:
        assert self._seen is not None and self._length is not None
        index = self._seen[:, None] + torch.arange(new, device=self._seen.device)
        self._seen, self._columns = self._seen + new, self._columns + new
        self._mask = self._choose(index, self._length)

    def _join(self, batch: int, new: int, keys: int, device: torch.device) -> None:
        """A cache filled elsewhere: the prompt ends with this pass, but where it began is not known."""
        if not isinstance(self.positions, str) or self.given is not None:
            raise DoseError(
                "the model goes on from a cache that was filled outside of this steering, so positions cannot be "
                "counted; begin to steer before the prompt is read, or use positions 'all', 'generated' or 'prompt' "
                "without prompt_length"
            )
        self._length = torch.full((batch,), keys, device=device)
        self._seen, self._columns = self._length, keys
        self._mask = self._choose(torch.arange(keys - new, keys, device=device).expand(batch, new), self._length)

    def _choose(self, index: Int[Tensor, "batch pos"], length: Int[Tensor, " batch"]) -> Bool[Tensor, "batch pos"]:
        """Where the tokens of these indices are to be steered, for prompts of these lengths."""
        end = length[:, None]
        if self.positions == "generated":
            return index >= end - 1
        if self.positions == "prompt":
            return index < end
        chosen = [_of_prompt(self.positions, int(n)) for n in length]
        hit = [torch.isin(row, torch.tensor(c, device=row.device)) for row, c in zip(index, chosen, strict=True)]
        return torch.stack(hit)

    def _refuse_growing(self, real: Bool[Tensor, "batch pos"]) -> None:
        """A text that is read again from its start, one token longer, looks like a new prompt but is not one."""
        now, before, self._start = self._incoming, self._start, self._incoming
        if self.given is not None or now is None or before is None:
            return
        if now.shape[0] == before.shape[0] and now.shape[1] == before.shape[1] + 1 and torch.equal(now[:, :-1], before):
            raise DoseError(
                f"positions {self.positions!r}: the text grows by a token at a time without a key-value cache, so its "
                "prompt has no visible end; generate with the cache, or say how many tokens are prompt "
                "(prompt_length=...)"
            )


def _of_prompt(positions: Positions, length: int) -> list[int]:
    """Indices in a prompt of `length` tokens."""
    if isinstance(positions, slice):
        return list(range(*positions.indices(length)))
    wanted = [positions] if isinstance(positions, int) else [int(p) for p in positions]
    if bad := [p for p in wanted if not -length <= p < length]:
        raise DoseError(
            f"no position {bad[0]} in a prompt of {length} tokens: 0 to {length - 1}, or -{length} to -1; a slice "
            "takes what there is"
        )
    return [p % length for p in wanted]
