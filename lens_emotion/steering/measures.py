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

from lens_emotion.display import Brief
from lens_emotion.errors import StimulusError
from lens_emotion.models.access import Model
from lens_emotion.models.forward import (
    CHUNK,
    body,
    budget_for,
    fitting_threads,
    not_finite,
    plan_batches,
    read_out,
    run_halving,
)
from lens_emotion.models.prompting import pad, pad_id
from lens_emotion.stimuli.emotions import COMMON, scripts_of

ROWS = CHUNK // 4  # of logits at a time: for the entropy they are held several times over


@dataclass(frozen=True, eq=False, repr=False)
class Likelihood(Brief):
    """What the unsteered model makes of each text, given its prompt; nan for a text without tokens.

    Attributes:
        nll: mean negative log-likelihood per token, in nats.
        entropy: mean entropy of the scorer's next-token distribution along the text, in nats. A text whose nll is far
            above its entropy is one the model did not see coming; far below, one it finds trivial (a loop).
    """

    nll: Float[np.ndarray, " n_texts"]
    entropy: Float[np.ndarray, " n_texts"]


def likelihood(
    model: Model, prompts: Sequence[Sequence[int]], texts: Sequence[Sequence[int]], token_budget: int | None = None
) -> Likelihood:
    """NLL and entropy of each text (token ids) given its prompt, in one pass, under the model as it stands.

    Call it outside `steer`: the scorer is the unsteered model.

    Raises:
        StimulusError: a text whose prompt has no token, so that nothing predicts its first one.
        NotFiniteError: logits that hold NaN or infinity.
    """
    values = _scored(model, prompts, texts, token_budget, entropy=True)
    return Likelihood(values[:, 0], values[:, 1])


def mean_nll(
    model: Model, prompts: Sequence[Sequence[int]], texts: Sequence[Sequence[int]], token_budget: int | None = None
) -> Float[np.ndarray, " n_texts"]:
    """Mean negative log-likelihood per token, in nats, of each text given its prompt (see `likelihood`)."""
    return _scored(model, prompts, texts, token_budget, entropy=False)[:, 0]


def _scored(
    model: Model, prompts: Sequence[Sequence[int]], texts: Sequence[Sequence[int]], token_budget: int | None,
    *,
    entropy: bool,
) -> Float[np.ndarray, "n_texts n_scores"]:  # fmt: skip
    """Mean NLL, and entropy if it is asked for, over the tokens of each text; nan for a text without tokens."""
    out = np.full((len(texts), 1 + entropy), np.nan)
    rows = [[*p, *t] for p, t in zip(prompts, texts, strict=True)]
    scored = [i for i, t in enumerate(texts) if len(t) > 0]
    if bare := [i for i in scored if len(prompts[i]) == 0]:
        raise StimulusError(f"text {bare[0]} has an empty prompt: nothing predicts its first token; give a prompt")
    fill, states = pad_id(model), list[torch.Tensor]()

    def run(batch: list[int]) -> list[tuple[int, list[float]]]:
        tokens, mask = pad([rows[i] for i in batch], fill)
        read(tokens, mask)
        residual = states.pop()
        spans = [(len(prompts[i]), len(rows[i])) for i in batch]
        # one head call for the whole batch: hundreds of calls on short texts cost more than the arithmetic
        predicting = torch.cat([residual[row, start - 1 : end - 1] for row, (start, end) in enumerate(spans)])
        targets = torch.cat([tokens[row, start:end] for row, (start, end) in enumerate(spans)])
        scores = _nll_and_entropy(model, predicting, targets, entropy).split([end - start for start, end in spans])
        return [(i, part.mean(0).tolist()) for i, part in zip(batch, scores, strict=True)]

    with fitting_threads(model), body(model, states.append, last_only=True) as read:
        for batch in plan_batches([len(rows[i]) for i in scored], budget_for(model, token_budget)):
            for i, values in run_halving([scored[k] for k in batch], run, model, "scoring texts"):
                out[i] = values
    return out


def _nll_and_entropy(
    model: Model, residual: Float[Tensor, "rows d_model"], targets: Int[Tensor, " rows"], entropy: bool
) -> Float[Tensor, "rows n_scores"]:
    """NLL of the target, and the entropy of the distribution if asked for, in chunks of rows of logits."""
    parts = []
    for start in range(0, len(targets), ROWS):
        logits = read_out(model, residual[start : start + ROWS]).float()
        if not bool(logits.amax(-1).isfinite().all()):
            raise not_finite(model, "the logits of the next token")
        chosen = targets[start : start + ROWS].to(logits.device)
        log_p = logits.log_softmax(-1)
        scores = [-log_p.gather(1, chosen[:, None])[:, 0]]
        if entropy:  # softmax anew costs as much as exp(log_p); log_p is finite, so that 0 log 0 is 0 here too
            scores.append(-logits.softmax(-1).mul_(log_p).sum(-1))
        parts.append(torch.stack(scores, 1).double().cpu())
    return torch.cat(parts)


def perplexity_ratio(steered_nll: Sequence[float] | np.ndarray, unsteered_nll: Sequence[float] | np.ndarray) -> float:
    """exp(mean NLL of steered texts - mean NLL of unsteered texts): a ratio of geometric means, never a mean of ratios.

    Texts without tokens (nan) are left out; nan if no text of a side has any. 1 is unchanged, 2 is twice as surprising
    per token, and a text that broke off (inf) makes it infinite.
    """
    sides = [np.asarray(nll, dtype=float) for nll in (steered_nll, unsteered_nll)]
    steered, unsteered = (float(x[~np.isnan(x)].mean()) if not np.isnan(x).all() else np.nan for x in sides)
    return float(np.exp(steered - unsteered))


def excess(nll: Float[np.ndarray, " n"], entropy: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """NLL less entropy of each text, in nats per token: how much less likely it is than the scorer itself expected.

    0 on average for whatever the scorer samples at temperature 1, whichever the prompt: the entropy is the expected NLL
    of every token. Below 0 for sharper sampling and greedy text; inf for a text that broke off, nan without tokens.
    """
    return np.where(np.isposinf(nll), np.inf, np.asarray(nll, dtype=float) - np.asarray(entropy, dtype=float))


def surprise(nll: Float[np.ndarray, " n"], entropy: Float[np.ndarray, " n"]) -> float:
    """exp of the mean `excess` of some texts: perplexity over the expected one; nan if no text has tokens."""
    return perplexity_ratio(excess(nll, entropy), [0.0])


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


BESIDE = {"Kana": "Han", "Hangul": "Han"}  # written together


def foreign_letters(text: str, home: Sequence[str], least: float = 0.1) -> float:
    """Share of a text's letters in scripts that its prompt and its unsteered text do not use; nan without letters.

    Args:
        home: the texts whose scripts are at home: those that hold `least` of the letters of any of them. Han is at home
            beside Kana and Hangul.
    """
    own = {script for known in home for script, share in letter_shares(known).items() if share >= least}
    own |= {BESIDE[script] for script in own & BESIDE.keys()}
    shares = letter_shares(text)
    return sum(share for script, share in shares.items() if script not in own) if shares else float("nan")
