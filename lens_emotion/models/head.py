"""The end of the model: final norm and unembedding of chosen residual vectors.

Logits are computed only where they are wanted, and in chunks, so that no [batch, pos, d_vocab] tensor ever exists.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lens_emotion.models.access import Model

CHUNK = 512  # rows of logits at a time: 512 x 262,144 (Gemma's vocabulary) in float32 is half a gigabyte


def read_out(model: Model, residual: Float[Tensor, "rows d_model"]) -> Float[Tensor, "rows d_vocab"]:
    """Logits of residual vectors after the last block: final norm, unembedding, soft cap where the model has one."""
    logits = model.unembed(model.ln_final(residual[None]))[0]
    cap = getattr(model.cfg, "output_logits_soft_cap", None)
    return cap * torch.tanh(logits / cap) if cap and cap > 0 else logits
