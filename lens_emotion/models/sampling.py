"""How the next token is chosen: greedy, or drawn on the model's device, alike alone and in a batch.

A draw is a function of the row's seed and the step: the words of Philox4x32-10 (Salmon et al. 2011, "Parallel random
numbers: as easy as 1, 2, 3"), which has no state that a row could share with its neighbours. Probabilities are turned
into whole numbers, whose sums do not depend on the order in which a device adds them. Which tokens `top_k` and `top_p`
keep is a threshold, found digit by digit from sums per digit: nothing is sorted, and nothing is asked of the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_emotion.errors import GenerationError
from lens_emotion.files.user import shown

Choose = Callable[[Float[Tensor, "rows d_vocab"], Int[Tensor, " rows"], int], Int[Tensor, " rows"]]
SAMPLER = 2  # raised whenever equal seeds would no longer mean equal draws; 1 drew from torch's generators
COLDEST = 1e-6  # a temperature below it would only send logits beyond float32
HOTTEST = 1e6  # where every token is as likely as any other
LARGEST_SEED = 2**43  # seeds of rows are made of it, and a key of the generator has 64 bits
ONE = 2**40  # the whole number that stands for a probability of 1; what is less likely than 1 in it is never drawn
SHARE = 22  # bits of `top_p`, and of half a random word: their products with ONE have to fit into 64
DIGIT, DIGITS = 10, 3  # a probability in float32, read as a whole number, has 30 bits, and grows with it
AT_ONCE = 2**24  # logits drawn from at a time: they take some forty bytes each meanwhile,
IN_CACHE = 2**18  # which on a CPU stay in its caches: from more at once takes twice as long
WORD = 0xFFFFFFFF
MULTIPLY, WEYL = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)  # of Philox4x32
ROUNDS = 10


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen: temperature 0 is greedy; otherwise nucleus sampling with a seed per row.

    Attributes:
        temperature: the logits are divided by it.
        top_p: only the likeliest tokens that together reach this probability are drawn from (and those as likely as
            the last of them); 1 leaves none out.
        seed: of the draws.
        top_k: only so many of the likeliest tokens are drawn from (and those as likely as the last of them), before
            `top_p` looks at what is left, as in transformers; None leaves none out.

    Raises:
        GenerationError: a temperature that is neither 0 nor at least 1e-6, a `top_p` outside of (0, 1], a seed that is
            no whole number from 0 to 2^43, a `top_k` below 1.

    Example:
        >>> le.Sampling(temperature=0.8, top_p=0.95, seed=1)
        Sampling(temperature=0.8, top_p=0.95, seed=1)
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    top_k: int | None = None

    def __post_init__(self) -> None:
        t, p, seed, k = self.temperature, self.top_p, self.seed, self.top_k
        if not _is_number(t) or not (t == 0 or t >= COLDEST):
            raise GenerationError(f"temperature is {shown(t)}; give 0 (greedy), or {COLDEST:g} to {HOTTEST:g}")
        if not _is_number(p) or not 0 < p <= 1:
            raise GenerationError(f"top_p is {shown(p)}; give a number above 0 and up to 1 (1 leaves no token out)")
        if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= seed <= LARGEST_SEED:
            raise GenerationError(f"seed is {shown(seed)}; give a whole number from 0 to {LARGEST_SEED}")
        if k is not None and (isinstance(k, bool) or not isinstance(k, Integral) or k < 1):
            raise GenerationError(
                f"top_k is {shown(k)}; give a whole number from 1, or None (which leaves no token out)"
            )

    def __repr__(self) -> str:  # without top_k as it always was: keys of journals are made of it
        k = "" if self.top_k is None else f", top_k={self.top_k}"
        return f"Sampling(temperature={self.temperature!r}, top_p={self.top_p!r}, seed={self.seed!r}{k})"

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    @property
    def version(self) -> tuple[int, ...]:
        """Of the sampler, for keys of texts: those of greedy ones do without it."""
        return () if self.greedy else (SAMPLER,)


def _is_number(value: Any) -> bool:
    real = isinstance(value, Real) and not isinstance(value, bool)
    return real and bool(abs(value) <= HOTTEST)  # nor NaN


GREEDY = Sampling()


def chooser(sampling: Sampling, seeds: Sequence[int], steps: int, device: torch.device | str = "cpu") -> Choose:
    """A function of logits, which rows of `seeds` they belong to, and the step, to the chosen tokens.

    Args:
        seeds: one per row; rows of equal seeds draw alike.
        steps: the most that there will be. device: of the logits.
    """
    if sampling.greedy:
        return lambda logits, rows, step: logits.argmax(-1)
    words = random_words(seeds, steps).to(device)  # all at once: they are few beside one row of logits

    def choose(logits: Tensor, rows: Tensor, step: int) -> Tensor:
        drawn = words[rows, step][:, None]
        most = IN_CACHE if logits.device.type == "cpu" else AT_ONCE
        parts = zip(*(t.split(max(1, most // logits.shape[-1])) for t in (logits, drawn)), strict=True)
        return torch.cat([_draw(weights(part, sampling), word) for part, word in parts])

    return choose


def _draw(weight: Int[Tensor, "rows d_vocab"], word: Int[Tensor, "rows 1"]) -> Int[Tensor, " rows"]:
    """The token in whose stretch of the weights laid end to end a random word falls."""
    ends = weight.cumsum(-1)
    high, low, whole = word >> SHARE, word & 2**SHARE - 1, ends[:, -1:]
    place = high * whole + (low * whole >> SHARE) >> SHARE  # word / 2^44 of the whole, in 64 bits
    return torch.searchsorted(ends, place, right=True)[:, 0].clamp_max(weight.shape[-1] - 1)


def weights(logits: Float[Tensor, "rows d_vocab"], sampling: Sampling) -> Int[Tensor, "rows d_vocab"]:
    """What every token weighs in a draw, in whole numbers (`ONE` is all): 0 for those that are left out."""
    probabilities = (logits / sampling.temperature).softmax(-1, dtype=torch.float32)
    weight, order = (probabilities * ONE).long(), probabilities.view(torch.int32)
    if sampling.top_k is not None and sampling.top_k < logits.shape[-1]:
        enough = torch.full_like(weight[:, :1], sampling.top_k)
        weight = weight.masked_fill(order < _least_kept(order, torch.ones_like(weight), enough), 0)
    if sampling.top_p < 1:
        enough = weight.sum(-1, keepdim=True) * int(sampling.top_p * 2**SHARE) >> SHARE
        weight = weight.masked_fill(order < _least_kept(order, weight, enough.clamp_min(1)), 0)
    return weight


def _least_kept(
    order: Int[Tensor, "rows d_vocab"], weight: Int[Tensor, "rows d_vocab"], enough: Int[Tensor, "rows 1"]
) -> Int[Tensor, "rows 1"]:
    """The greatest number in `order` such that what is as great weighs `enough` together; its leading digit first.

    Sums of whole numbers, so that they are the same whoever adds first.
    """
    least = torch.zeros_like(enough)
    for shift in range(DIGIT * (DIGITS - 1), -1, -DIGIT):
        digit = ((order >> shift) & (2**DIGIT - 1)).long()
        of_digit = weight.new_zeros(len(weight), 2**DIGIT).scatter_add_(1, digit, weight)
        below = of_digit.cumsum(1) - of_digit
        reached = weight.sum(1, keepdim=True) - below  # by a digit and all greater ones
        best = ((reached >= enough).sum(1, keepdim=True) - 1).clamp_min(0)
        enough = enough - (reached - of_digit).gather(1, best)
        least = (least << DIGIT) | best
        if shift:
            weight = weight.masked_fill(digit != best, 0)
    return least


def random_words(seeds: Sequence[int], steps: int) -> Int[Tensor, "rows steps"]:
    """44 random bits for every row and step, from the row's seed and the step alone."""
    keys = torch.tensor([(int(seed) & WORD, int(seed) >> 32 & WORD) for seed in seeds])
    step = torch.arange(steps).expand(len(keys), steps)
    high, low, *_ = philox((step, *[torch.zeros_like(step)] * 3), (keys[:, :1], keys[:, 1:]))
    return high << 12 | low >> 20


def philox(counter: Sequence[Tensor], key: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Philox4x32-10: four random words of a counter of four and a key of two, each in the lower half of 64 bits."""
    a, b, c, d = counter
    k, m = key
    for _ in range(ROUNDS):
        left, right = a * MULTIPLY[0], c * MULTIPLY[1]  # wraps in 64 bits, all of which are wanted
        a, b, c, d = (right >> 32 & WORD) ^ b ^ k, right & WORD, (left >> 32 & WORD) ^ d ^ m, left & WORD
        k, m = (k + WEYL[0]) & WORD, (m + WEYL[1]) & WORD
    return a, b, c, d
