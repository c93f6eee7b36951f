"""Keys and values of a text that is being written, with room for what comes.

transformers copies all of them for every token, which is a third of the time that a small model takes on a CPU for a
text of 200 tokens (measured: SmolLM2-135M, 63 rows). Here they are copied when their room is full.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

LEAST, SHARE = 32, 4  # tokens of room when there is none left, or this part of what there is


class RoomyLayer(DynamicLayer):
    """One layer's keys and values, each the beginning of a longer array."""

    keys: Any  # as transformers calls them; None before there are any
    values: Any
    _room: tuple[Tensor, Tensor] | None = None

    def update(
        self,
        key_states: Float[Tensor, "rows heads new d_head"],
        value_states: Float[Tensor, "rows heads new d_head"],
        *args: Any,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        """All keys and values, the new ones last."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        before = self.get_seq_length()
        length = before + key_states.shape[-2]
        if self._room is None or length > self._room[0].shape[-2]:
            held: list[Any] = [self.keys, self.values] if before else [None, None]
            self._room = _longer(key_states, length, held[0]), _longer(value_states, length, held[1])
        keys, values = self._room
        keys[..., before:length, :], values[..., before:length, :] = key_states, value_states
        self.keys, self.values = keys[..., :length, :], values[..., :length, :]
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Int[Tensor, " rows"]) -> None:
        """Go on with these rows."""
        super().reorder_cache(beam_idx)
        self._room = None


def _longer(new: Tensor, length: int, held: Tensor | None) -> Tensor:
    """An array with room for more than `length` tokens, which begins with what is held."""
    room = new.new_empty(*new.shape[:-2], length + max(LEAST, length // SHARE), new.shape[-1])
    if held is not None:
        room[..., : held.shape[-2], :] = held
    return room


def roomy_cache(config: Any) -> DynamicCache:
    """An empty cache for a transformers model; layers that keep a window stay as they are."""
    cache = DynamicCache(config=config)
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    if getattr(cache, "layer_class_to_replicate", None) is DynamicLayer:
        cache.layer_class_to_replicate = RoomyLayer
    return cache
