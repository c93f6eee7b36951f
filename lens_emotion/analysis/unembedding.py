"""Directions read through the end of the model: folded final norm, then the unembedding, in pieces of vocabulary.

No [direction, d_vocab] tensor exists: the best tokens, the moments and the sums over scripts are kept while one pass
goes through the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_emotion.analysis.vocabulary import Vocabulary
from lens_emotion.models.access import Model, device_of
from lens_emotion.stimuli.scripts import SCRIPTS

PIECE = 16_384  # tokens at a time: 16,384 x 3,072 weights in float32 are 200 MB
Logits = Callable[[Int[Tensor, " tokens"]], Float[Tensor, "rows tokens"]]


def final_norm_scale(model: Model) -> tuple[Float[Tensor, " d_model"], bool]:
    """The learned scale of the final norm in float32, and whether it subtracts the mean (LayerNorm).

    Measured on the model's own norm with a vector of signs, since its weight means different things: Gemma scales by
    1 + w, which one backend stores as it is and the other already added up. Works on any dtype: signs are exact.
    """
    d_model, device = int(model.cfg.d_model), device_of(model)
    dtype = next(model.ln_final.parameters()).dtype
    signs = torch.ones(d_model, device=device)
    signs[1::2] = -1
    # far from 0, where the norm's epsilon would count
    probes = 64 * torch.stack([signs, torch.ones_like(signs)])
    zero = torch.zeros(1, 1, d_model, device=device, dtype=dtype)
    with torch.inference_mode():
        bias = model.ln_final(zero)[0, 0].float()
        answer, constant = (model.ln_final(p.to(dtype)[None, None])[0, 0].float() - bias for p in probes)
    centred = bool(constant.abs().max() < 1e-2 * answer.abs().max())
    inner = signs - signs.mean() if centred else signs
    return (answer * inner.pow(2).mean().sqrt() / inner).clone(), centred


def fold(model: Model, directions: Float[Tensor, "rows d_model"]) -> Float[Tensor, "rows d_model"]:
    """Directions as the final norm would weigh them: w * v, after centring v for a LayerNorm; its bias left out."""
    scale, centred = final_norm_scale(model)
    rows = directions.to(scale.device).float()
    return (rows - rows.mean(-1, keepdim=True) if centred else rows) * scale


def direction_logits(model: Model, directions: Float[Tensor, "rows d_model"]) -> Logits:
    """What the directions add to the logits of chosen tokens, up to one positive factor per direction."""
    rows, weight = fold(model, directions), model.W_U

    def of(ids: Int[Tensor, " tokens"]) -> Float[Tensor, "rows tokens"]:
        return rows @ weight[:, ids.to(weight.device)].detach().float()

    return of


def state_logits(model: Model, state: Float[Tensor, " d_model"], steps: Float[Tensor, "rows d_model"]) -> Logits:
    """Logits of chosen tokens at `state + step` less those at `state`, through the true final norm and soft cap."""
    device, dtype = device_of(model), next(model.ln_final.parameters()).dtype
    points = torch.cat([state[None], state + steps]).to(device, dtype)
    with torch.inference_mode():
        normed = model.ln_final(points[:, None])[:, 0].float().clone()
    weight, bias = model.W_U, model.b_U
    cap = getattr(model.cfg, "output_logits_soft_cap", None)

    def of(ids: Int[Tensor, " tokens"]) -> Float[Tensor, "rows tokens"]:
        chosen = ids.to(weight.device)
        logits = normed @ weight[:, chosen].detach().float() + bias[chosen].detach().float()
        logits = cap * torch.tanh(logits / cap) if cap and cap > 0 else logits
        return logits[1:] - logits[0]

    return of


@dataclass(frozen=True, eq=False)
class Scan:
    """One pass of directions through the vocabulary.

    Attributes:
        top, bottom: indices into the vocabulary of the k highest and lowest logits, best first.
        top_z, bottom_z: their logits, standardised over the vocabulary per direction.
        script_z: mean standardised logit of each script in `SCRIPTS`; NaN for scripts without tokens.
        share_up, share_down: share of each script among the top and bottom k.
    """

    top: Int[Tensor, "rows k"]
    bottom: Int[Tensor, "rows k"]
    top_z: Float[Tensor, "rows k"]
    bottom_z: Float[Tensor, "rows k"]
    script_z: Float[Tensor, "rows n_scripts"]
    share_up: Float[Tensor, "rows n_scripts"]
    share_down: Float[Tensor, "rows n_scripts"]


@torch.inference_mode()
def scan(logits: Logits, words: Vocabulary, k: int) -> Scan:
    """Run once through the vocabulary; `k` is cut to its size. Float64 sums."""
    k, script = min(k, len(words)), torch.from_numpy(words.script)
    member = torch.nn.functional.one_hot(script, len(SCRIPTS)).double()
    sums: list[Tensor] = []
    squares: list[Tensor] = []
    best: dict[int, tuple[Tensor, Tensor]] = {}
    for start, values in _pieces(logits, words):
        sums.append(values @ member[start : start + values.shape[1]])
        squares.append((values**2).sum(1))
        for sign in (1, -1):
            best[sign] = _merge(best.get(sign), sign * values, start, k)
    total, n = torch.stack(sums).sum(0), len(words)
    mean = total.sum(1) / n
    spread = (torch.stack(squares).sum(0) / n - mean**2).clamp_min(0).sqrt()
    spread = spread.clamp_min(torch.finfo(spread.dtype).tiny)[:, None]
    (high, top), (low, bottom) = best[1], best[-1]
    return Scan(
        top=top,
        bottom=bottom,
        top_z=(high - mean[:, None]) / spread,
        bottom_z=(-low - mean[:, None]) / spread,
        script_z=(total / member.sum(0) - mean[:, None]) / spread,
        share_up=member[top].mean(1),
        share_down=member[bottom].mean(1),
    )


def _pieces(logits: Logits, words: Vocabulary) -> Iterator[tuple[int, Float[Tensor, "rows tokens"]]]:
    ids = torch.from_numpy(words.ids)
    for start in range(0, len(ids), PIECE):
        yield start, logits(ids[start : start + PIECE]).cpu().double()


def _merge(
    known: tuple[Tensor, Tensor] | None, values: Float[Tensor, "rows tokens"], start: int, k: int
) -> tuple[Tensor, Tensor]:
    """The k highest of those known and a new piece, with their places in the vocabulary."""
    found, place = values.topk(min(k, values.shape[1]), dim=1)
    place = place + start
    if known is not None:
        found, place = torch.cat([known[0], found], 1), torch.cat([known[1], place], 1)
        found, order = found.topk(min(k, found.shape[1]), dim=1)
        place = place.gather(1, order)
    return found, place
