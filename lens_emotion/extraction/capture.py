"""Forward passes that see `resid_post` and nothing else, without the LM head.

`body` is the one way of stopping before the head. On it stand `residual_cache`, which keeps a pass in an
ActivationCache, and `pooled_reader`, which pools each layer as soon as it is computed, so that a long reading holds one
layer at a time and sets its hooks once. Both give the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformer_lens import ActivationCache

from lens_emotion.extraction.pooling import Pooling, norm_sum, pool_layer
from lens_emotion.models.access import Model, backend_of, device_of, hook_name
from lens_emotion.models.shortcut import shortcut

Run = Callable[[Tensor, Tensor], None]  # tokens, mask of real tokens, both [batch, pos] on the model's device


@contextmanager
def body(model: Model, see: Callable[[Tensor], None], *, last_only: bool = False) -> Iterator[Run]:
    """Inside, `run(tokens, mask)` runs a batch up to the last block; `see` gets `resid_post` of one layer after another.

    The LM head does not run: its logits are the memory peak and 28-63% of the time of models under 1B parameters.
    HookedTransformer stops at its last layer; the Bridge would still run the head then, so an exception of
    TransformerLens's own ends its pass. Hooks are set, and parts of the Bridge step aside (`models.shortcut`), once for
    all batches: set hooks of your own before entering.

    Args:
        model: TransformerBridge or HookedTransformer.
        see: given [batch, pos, d_model], in the model's precision, on its device.
        last_only: only the last layer is seen; whole blocks of the Bridge step aside then.
    """
    names = [hook_name(layer) for layer in range(model.cfg.n_layers)]
    if backend_of(model) == "hooked":
        watched = names[-1:] if last_only else names
        with _hooks(model, watched, lambda tensor, hook: see(tensor)), torch.inference_mode():
            yield lambda tokens, mask: model(tokens, stop_at_layer=len(names), attention_mask=mask.long())
        return
    from transformer_lens.model_bridge.exceptions import StopAtLayerException

    # the last block steps aside as a whole if its output is taken where the final norm takes it
    watched, left = (["ln_final.hook_in"] if last_only else names), [0]  # hooks of the pass still to come

    def see_and_stop(tensor: Tensor, hook: Any) -> None:
        if not left[0]:  # the final norm runs outside of passes too, when logits are read out
            return
        see(tensor)
        left[0] -= 1
        if not left[0]:
            raise StopAtLayerException(tensor)

    with (
        _hooks(model, watched, see_and_stop),
        shortcut(model, whole_blocks=last_only) as unseen,
        torch.inference_mode(),
    ):

        def run(tokens: Tensor, mask: Tensor) -> None:
            left[0] = len(watched)
            # where nobody looks at masks and all pads are on the right, no real token sees one: faster without
            needed = None if unseen and bool((mask[:, 1:] <= mask[:, :-1]).all()) else mask.long()
            with suppress(StopAtLayerException):
                # without output_attentions=False the Bridge would materialise every attention pattern
                model(tokens, attention_mask=needed, output_attentions=False, use_cache=False)

        yield run


def _hooks(model: Model, names: Sequence[str], see: Callable[[Tensor, Any], None]) -> Any:
    """One hook under a filter of names: the Bridge looks up every name given for itself."""
    return model.hooks(fwd_hooks=[(frozenset(names).__contains__, see)])


def residual_cache(
    model: Model, tokens: Int[Tensor, "batch pos"], mask: Bool[Tensor, "batch pos"] | None = None
) -> ActivationCache:
    """Run the model over tokens and keep `blocks.{l}.hook_resid_post` of every layer; the LM head does not run.

    Args:
        model: TransformerBridge or HookedTransformer.
        tokens: token ids, padded on either side.
        mask: True where there is a token; None if nothing is padded.

    Returns:
        ActivationCache with one entry per layer, [batch, pos, d_model], in the model's precision, on its device.
    """
    tokens = tokens.to(device_of(model))
    seen: list[Tensor] = []
    with body(model, seen.append) as run:
        run(tokens, torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask.to(tokens.device))
    return ActivationCache({hook_name(layer): tensor for layer, tensor in enumerate(seen)}, model)


@dataclass(frozen=True, eq=False)
class Pooled:
    """One batch, pooled: float32 rows, the tokens that entered each, and norms summed over content in float64."""

    rows: Float[Tensor, "n_poolings batch n_layers d_model"]
    n_pooled: Int[Tensor, "n_poolings batch"]
    norms: Float[Tensor, " n_layers"]


ReadBatch = Callable[[Int[Tensor, "batch pos"], Bool[Tensor, "batch pos"], Bool[Tensor, "batch pos"]], Pooled]


@contextmanager
def pooled_reader(model: Model, poolings: Sequence[Pooling]) -> Iterator[ReadBatch]:
    """Inside, `read(tokens, mask, content)` runs a batch and pools every layer when it is computed.

    Hooks are set once for all batches: on small models that costs as much as reading a batch.

    Yields:
        read: token ids, the mask of real tokens and the mask of content [batch, pos] -> Pooled, on the CPU.
    """
    reading: list[tuple[Tensor, Tensor]] = []  # weights and content of the batch under way
    rows: list[Tensor] = []
    norms: list[Tensor] = []

    def see(tensor: Tensor) -> None:
        weights, content = reading[0]
        rows.append(pool_layer(tensor, weights))
        norms.append(norm_sum(tensor, content))

    with body(model, see) as run:

        def read(tokens: Tensor, mask: Tensor, content: Tensor) -> Pooled:
            weights = torch.stack([p.weights(content) for p in poolings])
            device = device_of(model)
            reading.append((weights.to(device), content.to(device)))
            try:
                run(tokens.to(device), mask.to(device))
                return Pooled(torch.stack(rows, 2).cpu(), (weights > 0).sum(-1), torch.stack(norms).cpu())
            finally:
                for kept in (reading, rows, norms):
                    kept.clear()

        yield read
