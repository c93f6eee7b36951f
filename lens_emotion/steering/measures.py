"""Measures of a steered text: likelihood and entropy under the unsteered model, repetition, diversity, distance from
the unsteered text, scripts. On tokens, not on words: scripts without spaces must count too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lens_emotion.extraction.batching import TOKEN_BUDGET, plan_batches, run_halving
from lens_emotion.extraction.capture import residual_cache
from lens_emotion.models.access import Model, hook_name
from lens_emotion.models.head import CHUNK, read_out
from lens_emotion.models.prompting import pad, pad_id
from lens_emotion.models.threads import fitting_threads
from lens_emotion.stimuli.scripts import COMMON, scripts_of

ROWS = CHUNK // 4  # of logits at a time: for the entropy they are held several times over


@dataclass(frozen=True, eq=False)
class Likelihood:
    """What the unsteered model makes of each text, given its prompt; nan for a text without tokens.

    Attributes:
        nll: mean negative log-likelihood per token, in nats.
        entropy: mean entropy of the scorer's next-token distribution along the text, in nats. A text whose nll is far
            above its entropy is one the model did not see coming; far below, one it finds trivial (a loop).
    """

    nll: Float[np.ndarray, " n_texts"]
    entropy: Float[np.ndarray, " n_texts"]


def likelihood(
    model: Model, prompts: Sequence[Sequence[int]], texts: Sequence[Sequence[int]], token_budget: int = TOKEN_BUDGET
) -> Likelihood:
    """NLL and entropy of each text (token ids) given its prompt, in one pass, under the model as it stands.

    Call it outside `steer`: the scorer is the unsteered model.
    """
    out = np.full((len(texts), 2), np.nan)
    rows = [[*p, *t] for p, t in zip(prompts, texts, strict=True)]
    scored = [i for i, t in enumerate(texts) if len(t) > 0]
    fill, last = pad_id(model), hook_name(model.cfg.n_layers - 1)

    def run(batch: list[int]) -> list[tuple[int, float, float]]:
        tokens, mask = pad([rows[i] for i in batch], fill)
        residual = residual_cache(model, tokens, mask)[last]
        spans = [(len(prompts[i]), len(rows[i])) for i in batch]
        # one head call for the whole batch: hundreds of calls on short texts cost more than the arithmetic
        states = torch.cat([residual[row, start - 1 : end - 1] for row, (start, end) in enumerate(spans)])
        targets = torch.cat([tokens[row, start:end] for row, (start, end) in enumerate(spans)])
        scores = _nll_and_entropy(model, states, targets).split([end - start for start, end in spans])
        return [(i, *part.mean(0).tolist()) for i, part in zip(batch, scores, strict=True)]

    for batch in plan_batches([len(rows[i]) for i in scored], token_budget):
        with fitting_threads(model):
            found = run_halving([scored[k] for k in batch], run)
        for i, *values in found:
            out[i] = values
    return Likelihood(out[:, 0], out[:, 1])


@torch.inference_mode()
def _nll_and_entropy(
    model: Model, residual: Float[Tensor, "rows d_model"], targets: Int[Tensor, " rows"]
) -> Float[Tensor, "rows 2"]:
    """NLL of the target and entropy of the distribution at every row, in chunks of rows of logits."""
    parts = []
    for start in range(0, len(targets), ROWS):
        log_p = read_out(model, residual[start : start + ROWS]).float().log_softmax(-1)
        chosen = targets[start : start + ROWS].to(log_p.device)
        entropy = torch.special.entr(log_p.exp()).sum(-1)
        parts.append(torch.stack([-log_p.gather(1, chosen[:, None])[:, 0], entropy], 1).double().cpu())
    return torch.cat(parts)


def mean_nll(
    model: Model, prompts: Sequence[Sequence[int]], texts: Sequence[Sequence[int]], token_budget: int = TOKEN_BUDGET
) -> Float[np.ndarray, " n_texts"]:
    """Mean negative log-likelihood per token, in nats, of each text given its prompt (see `likelihood`)."""
    return likelihood(model, prompts, texts, token_budget).nll


def perplexity_ratio(steered_nll: Sequence[float] | np.ndarray, unsteered_nll: Sequence[float] | np.ndarray) -> float:
    """exp(mean NLL of steered texts - mean NLL of unsteered texts): a ratio of geometric means, never a mean of ratios.

    Texts without tokens (nan) are left out. 1 is unchanged, 2 is twice as surprising per token.
    """
    return float(np.exp(np.nanmean(np.asarray(steered_nll)) - np.nanmean(np.asarray(unsteered_nll))))


def distinct_n(ids: Sequence[int], n: int = 2) -> float:
    """Share of distinct n-grams of tokens; 1 for a text too short to hold two of them."""
    grams = list(zip(*(ids[i:] for i in range(n)), strict=False))
    return len(set(grams)) / len(grams) if grams else 1.0


def loop_share(ids: Sequence[int], max_period: int = 20) -> float:
    """Share of the text taken by its longest loop: a stretch that repeats itself with some period at least twice over.

    0 without a loop; near 1 if the whole text is one phrase again and again.
    """
    n, longest = len(ids), 0
    for period in range(1, min(max_period, n // 2) + 1):
        run = 0
        for i in range(period, n):
            run = run + 1 if ids[i] == ids[i - period] else 0
            # the stretch holds its first period too; it is a loop from the third occurrence on
            if run >= 2 * period:
                longest = max(longest, run + period)
    return longest / n if n else 0.0


def repetition(texts: Sequence[Sequence[int]]) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """(distinct-2, loop share) of each text."""
    return np.array([distinct_n(t) for t in texts], dtype=float), np.array([loop_share(t) for t in texts], dtype=float)


def edit_distance(a: Sequence[int], b: Sequence[int]) -> float:
    """Levenshtein distance of two token sequences over the length of the longer: 0 equal, 1 nothing in common.

    Bit-parallel (Myers 1999; Hyyrö 2003): one column of the table is one Python integer.
    """
    n = len(a)
    if not n or not b:
        return float(n != len(b))
    seen: dict[int, int] = {}
    for i, token in enumerate(a):
        seen[token] = seen.get(token, 0) | 1 << i
    full, last = (1 << n) - 1, 1 << (n - 1)
    up, down, distance = full, 0, n
    for token in b:
        here = seen.get(token, 0)
        vertical = here | down
        diagonal = (((here & up) + up) ^ up) | here
        plus, minus = down | (full & ~(diagonal | up)), up & diagonal
        distance += bool(plus & last) - bool(minus & last)
        plus = (plus << 1 | 1) & full
        up = (minus << 1 & full) | (full & ~(vertical | plus))
        down = plus & vertical
    return distance / max(n, len(b))


def letter_shares(text: str) -> dict[str, float]:
    """Share of each script among the letters of a text (digits, punctuation and emoji left out); {} without letters."""
    found = {script: share for script, share in scripts_of(text).items() if script != COMMON}
    total = sum(found.values())
    return {script: share / total for script, share in found.items()} if total else {}


def script_shares(texts: Sequence[str]) -> dict[str, Float[np.ndarray, " n"]]:
    """Script -> its share of the letters of each text, the commonest script first; nan for a text without letters."""
    shares = [letter_shares(t) for t in texts]
    found: Counter[str] = Counter()
    for share in shares:
        found.update({script: int(1e6 * part) for script, part in share.items()})
    return {
        script: np.array([share.get(script, 0.0) if share else np.nan for share in shares], dtype=float)
        for script, _ in found.most_common()
    }
