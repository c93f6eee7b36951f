"""residual_cache: one forward pass that keeps `resid_post` of every layer and nothing else, without the LM head."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformer_lens import ActivationCache

from lens_emotion.models.access import Model, backend_of, device_of, hook_name
from lens_emotion.models.shortcut import shortcut


def residual_cache(
    model: Model, tokens: Int[Tensor, "batch pos"], mask: Bool[Tensor, "batch pos"] | None = None
) -> ActivationCache:
    """Run the model over tokens and keep `blocks.{l}.hook_resid_post` of every layer.

    The LM head does not run: its logits are the memory peak and 28-63% of the time of models under 1B parameters.
    HookedTransformer stops at its last layer; the Bridge would still run the head then, so it is stopped at the final
    norm instead. Parts of the Bridge without hooks step aside (`models.shortcut`).

    Args:
        model: TransformerBridge or HookedTransformer.
        tokens: token ids, padded on either side.
        mask: True where there is a token; None if nothing is padded.

    Returns:
        ActivationCache with one entry per layer, [batch, pos, d_model], in the model's precision, on its device.
    """
    names = [hook_name(layer) for layer in range(model.cfg.n_layers)]
    tokens = tokens.to(device_of(model))
    mask = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask.to(tokens.device)
    with torch.inference_mode():
        if backend_of(model) == "hooked":
            options = {"stop_at_layer": model.cfg.n_layers, "attention_mask": mask.long()}
            return model.run_with_cache(tokens, names_filter=names, **options)[1]
        with model.hooks(fwd_hooks=[("ln_final.hook_in", _stop)]), shortcut(model) as unseen:
            # without output_attentions=False the Bridge would materialise every attention pattern
            seen_mask = _needed(mask) if unseen else mask.long()
            options = {"attention_mask": seen_mask, "output_attentions": False, "use_cache": False}
            return model.run_with_cache(tokens, names_filter=names, **options)[1]


def _needed(mask: Bool[Tensor, "batch pos"]) -> Int[Tensor, "batch pos"] | None:
    """The mask, or None if all pads are on the right: no real token sees them, and attention is faster without."""
    return None if bool((mask[:, 1:] <= mask[:, :-1]).all()) else mask.long()


def _stop(tensor: Tensor, hook: Any) -> NoReturn:
    from transformer_lens.model_bridge.exceptions import StopAtLayerException

    raise StopAtLayerException(tensor)
