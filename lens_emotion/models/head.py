"""The end of the model: final norm and unembedding of chosen residual vectors, and the likelihood of given tokens.

Logits are computed only where they are wanted, and in chunks, so that no [batch, pos, d_vocab] tensor ever exists.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_emotion.models.access import Model

CHUNK = 512  # rows of logits at a time: 512 x 262,144 (Gemma's vocabulary) in float32 is half a gigabyte


def read_out(model: Model, residual: Float[Tensor, "rows d_model"]) -> Float[Tensor, "rows d_vocab"]:
    """Logits of residual vectors after the last block: final norm, unembedding, soft cap where the model has one."""
    logits = model.unembed(model.ln_final(residual[None]))[0]
    cap = getattr(model.cfg, "output_logits_soft_cap", None)
    return cap * torch.tanh(logits / cap) if cap and cap > 0 else logits


@torch.inference_mode()
def token_nll(
    model: Model, residual: Float[Tensor, "rows d_model"], targets: Int[Tensor, " rows"]
) -> Float[Tensor, " rows"]:
    """Negative log-likelihood in nats of each target token, in float32, in chunks of rows."""
    parts = []
    for start in range(0, len(targets), CHUNK):
        logits = read_out(model, residual[start : start + CHUNK]).float()
        chosen = targets[start : start + CHUNK].to(logits.device)
        parts.append(torch.nn.functional.cross_entropy(logits, chosen, reduction="none").cpu())
    return torch.cat(parts) if parts else torch.empty(0)
