"""Doses solved for: the dose of equal effect on the next token (iso-KL), and the edge where a behaviour changes.

Equal natural doses are equal ways along a direction, not equal effects. KL(steered || unsteered) of the next token is
an effect in nats that no judge is needed for: emotions, layers and models can be compared at the same KL.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from lens_emotion.display import Result
from lens_emotion.errors import DoseError
from lens_emotion.files.user import numbers_fit
from lens_emotion.models.access import Model, hook_name
from lens_emotion.models.forward import CHUNK, TOKEN_BUDGET, fitting_threads, read_out, residual_cache, run_halving
from lens_emotion.models.layers import Layers, layers_in_words, resolve_layers
from lens_emotion.models.prompting import TokenisedText, pad, pad_id, tokenise_text
from lens_emotion.models.threads import turn
from lens_emotion.pictures import Dots
from lens_emotion.steering.dose import Dose, mean_units
from lens_emotion.steering.hooks import Intervention, RowEdits, check_fits
from lens_emotion.vectors.emotion_vectors import EmotionVector, EmotionVectors

HIGHEST = {"natural": 64.0, "relative": 4.0}  # beyond these no model of any family still writes
FIRST = {"natural": 1.0, "relative": 0.05}


@dataclass(frozen=True, eq=False, repr=False)
class IsoKL(Result):
    """Doses at which several vectors change the next token equally much.

    Attributes:
        table: one row per vector: emotion, dose, dose_natural, dose_relative, kl (achieved, nats), n_evaluations,
            monotone (False: the KL was seen to fall as the dose rose, so that other doses may reach the target too).
        evaluations: every dose tried: emotion, dose, kl.
        target_kl: in nats per token.
        tol: relative tolerance on the KL.
        unit: of `dose`.
        layers: steered layers in words.
        n_tokens: content positions the mean runs over.
    """

    _picture = Dots(("emotion",), "dose_natural")

    table: pd.DataFrame
    evaluations: pd.DataFrame
    target_kl: float
    tol: float
    unit: str
    layers: str
    n_tokens: int

    def summary(self) -> str:
        doses, bent = self.table.dose_natural, self.table[~self.table.monotone].emotion.tolist()
        spread = f"{doses.min():.3g}" if len(doses) == 1 else f"{doses.min():.3g} to {doses.max():.3g}"
        warning = f"; the KL does not rise steadily for {', '.join(bent)}: other doses may reach it too" if bent else ""
        return (
            f"KL {self.target_kl:g} nats per token (within {self.tol:.0%}, mean of {self.n_tokens} tokens, layers "
            f"{self.layers}) takes {spread} natural units for {len(doses)} vector{'s' * (len(doses) > 1)}{warning}"
        )

    def dose(self, emotion: str) -> Dose:
        """The dose of one vector."""
        rows = self.table[self.table.emotion == emotion]
        if rows.empty:
            raise DoseError(f"no dose was solved for '{emotion}'; this result holds {', '.join(self.table.emotion)}")
        return Dose(float(rows.iloc[0].dose), self.unit)


@dataclass(frozen=True)
class KLDose:
    """The dose of one vector whose mean next-token KL is the target; the fields are those of `IsoKL.table`."""

    dose: Dose
    dose_natural: float
    dose_relative: float
    kl: float
    target_kl: float
    n_evaluations: int
    monotone: bool


@dataclass(frozen=True)
class Edge:
    """Where a behaviour changes: the label is `before` at `low` and another at `high`, and they are `tol` apart.

    Attributes:
        low, high: the bracket that is left.
        before, after: the labels there.
        evaluations: (dose, label) in the order tried.
    """

    low: float
    high: float
    before: Any
    after: Any
    evaluations: tuple[tuple[float, Any], ...] = field(default=(), repr=False)

    @property
    def dose(self) -> float:
        """The middle of the bracket."""
        return (self.low + self.high) / 2

    @property
    def n_evaluations(self) -> int:
        return len(self.evaluations)


@numbers_fit(DoseError)
def solve_kl(
    model: Model,
    vector: EmotionVector,
    prompts: Sequence[str],
    target_kl: float,
    layers: Layers = None,
    *,
    unit: str = "natural",
    tol: float = 0.02,
    highest: float | None = None,
    max_evaluations: int = 40,
) -> KLDose:
    """The dose at which mean next-token KL(steered || unsteered) over the prompts' content tokens is `target_kl` nats.

    See `iso_kl` for arguments and errors.
    """
    options: dict[str, Any] = {"unit": unit, "tol": tol, "highest": highest, "max_evaluations": max_evaluations}
    result = iso_kl(model, [vector], prompts, target_kl, layers, **options)
    (row,) = result.table.drop(columns=["emotion", "dose"]).to_dict("records")
    return KLDose(dose=result.dose(vector.name), target_kl=target_kl, **{str(k): v for k, v in row.items()})


@numbers_fit(DoseError)
def iso_kl(
    model: Model,
    vectors: EmotionVectors | Sequence[EmotionVector],
    prompts: Sequence[str],
    target_kl: float,
    layers: Layers = None,
    *,
    unit: str = "natural",
    tol: float = 0.02,
    highest: float | None = None,
    max_evaluations: int = 40,
) -> IsoKL:
    """Doses of equal KL, all vectors solved together: each step is one batched pass with one dose per vector.

    The bracket is doubled until it holds the target, then narrowed by interpolation of sqrt(KL), which is nearly
    linear in the dose, kept away from the bracket's ends so that it always shrinks.

    Args:
        vectors: a set, or any vectors (mixtures and `vectors.random()` too). Steered with mode "add" at all positions.
        prompts: texts whose content tokens (BOS and the first token left out) are averaged over.
        target_kl: nats per token.
        tol: relative tolerance on the KL achieved.
        highest: dose at which the search gives up; 64 natural or 4 relative units if not given.
        model: TransformerBridge or HookedTransformer.
        layers: where; None for the middle layer.
        unit: of the doses.
        max_evaluations: passes over the prompts after which the search gives up.

    Raises:
        DoseError: the target is not positive, or out of reach; the message says what was reached.
        FingerprintError, UnsupportedModelError: the vectors are not this model's.

    Example:
        >>> result = le.iso_kl(model, [vectors["calm"], vectors["angry"]], ["The door opened and"], target_kl=0.1)
        >>> len(result.table)
        2
    """
    if not target_kl > 0 or not tol > 0:
        raise DoseError(
            f"target_kl is {target_kl:g} and tol {tol:g}; both must be positive (0.1 nats is a light touch)"
        )
    chosen = list(vectors[e] for e in vectors) if isinstance(vectors, EmotionVectors) else list(vectors)
    if not chosen or not prompts:
        raise DoseError("nothing to solve: give at least one vector and one prompt")
    check_fits(model, *chosen, allow_processed=True)
    where = resolve_layers(layers, model.cfg.n_layers)
    texts = [tokenise_text(model, p) for p in prompts]
    reference = log_probabilities(model, texts, [None] * len(texts))
    limit = highest or HIGHEST[Dose(0.0, unit).unit]
    searches = [_Search(v.name, target_kl, tol, limit, FIRST[unit]) for v in chosen]
    while open_ := [k for k, s in enumerate(searches) if not s.closed]:
        doses = [searches[k].next() for k in open_]
        done = [Intervention((chosen[k],), Dose(d, unit), where) for k, d in zip(open_, doses, strict=True)]
        for k, dose, kl in zip(open_, doses, mean_kl(model, texts, done, reference), strict=True):
            searches[k].add(dose, kl, max_evaluations)
    rows = []
    for vector, search in zip(chosen, searches, strict=True):
        dose, kl = search.best
        natural, relative = mean_units(vector, Dose(dose, unit), where)
        found = {"emotion": vector.name, "dose": dose, "dose_natural": natural, "dose_relative": relative, "kl": kl}
        rows.append(found | {"n_evaluations": len(search.tried), "monotone": search.monotone})
    tried = [{"emotion": s.name, "dose": d, "kl": kl} for s in searches for d, kl in s.tried]
    n_tokens = sum(sum(t.content) for t in texts)
    words = layers_in_words(where, model.cfg.n_layers)
    return IsoKL(pd.DataFrame(rows), pd.DataFrame(tried), target_kl, tol, unit, words, n_tokens)


class _Search:
    """One vector's search: the doses tried and the bracket they leave."""

    def __init__(self, name: str, target: float, tol: float, limit: float, first: float) -> None:
        self.name, self.target, self.tol, self.limit = name, target, tol, limit
        self.first = min(first, limit)
        self.tried: list[tuple[float, float]] = []

    @property
    def best(self) -> tuple[float, float]:
        """The dose tried whose KL is nearest to the target, and that KL."""
        return min(self.tried, key=lambda p: abs(p[1] - self.target))

    @property
    def closed(self) -> bool:
        return bool(self.tried) and abs(self.best[1] - self.target) <= self.tol * self.target

    @property
    def monotone(self) -> bool:
        values = [kl for _, kl in sorted(self.tried)]
        return all(b >= a for a, b in pairwise(values))

    def add(self, dose: float, kl: float, most: int) -> None:
        """Raises DoseError where the target is out of reach, or not met after `most` doses."""
        self.tried.append((dose, kl))
        if self.closed:
            return
        if dose >= self.limit and kl < self.target:
            raise DoseError(
                f"KL {self.target:g} is out of reach for '{self.name}': at dose {dose:g}, the highest tried, it is "
                f"{kl:.3g} nats per token; ask for a smaller KL, steer more layers, or raise `highest`"
            )
        if len(self.tried) >= most:
            raise DoseError(
                f"KL {self.target:g} within {self.tol:.1%} was not met for '{self.name}' in {most} evaluations; "
                f"nearest: {self.best[1]:.4g} at dose {self.best[0]:.4g}; widen `tol`"
            )

    def next(self) -> float:
        if not self.tried:
            return self.first
        above = [p for p in self.tried if p[1] >= self.target]
        if not above:
            return min(2 * max(self.tried)[0], self.limit)
        high = min(above)
        low = max((p for p in self.tried if p[0] < high[0]), default=(0.0, 0.0))
        ends, goal = np.sqrt([low[1], high[1]]), self.target**0.5
        share = (goal - ends[0]) / (ends[1] - ends[0])
        return float(low[0] + np.clip(share, 0.05, 0.95) * (high[0] - low[0]))


def solve_edge(evaluate: Callable[[float], Any], low: float, high: float, tol: float = 0.1) -> Edge:
    """The dose between `low` and `high` where what `evaluate` says changes, by bisection.

    Args:
        evaluate: dose -> True or False, or a label such as a regime. If more than two labels lie between the ends,
            the edge found is one where the label at `low` ends.
        tol: width of the bracket that is left, in the unit of the doses.

    Raises:
        DoseError: the ends say the same, or are no bracket.
    """
    if not low < high or not tol > 0:
        raise DoseError(f"no bracket: low {low:g}, high {high:g}, tol {tol:g}; give low < high and a positive tol")
    tried = [(float(d), evaluate(float(d))) for d in (low, high)]
    (left, before), (right, after) = tried
    if before == after:
        raise DoseError(f"no edge between {low:g} and {high:g}: both ends say {before!r}; widen the bracket")
    while right - left > tol:
        middle = (left + right) / 2
        label = evaluate(middle)
        tried.append((middle, label))
        if label == before:
            left = middle
        else:
            right, after = middle, label
    return Edge(left, right, before, after, tuple(tried))


# The next token under steering: log-probabilities at content tokens, and their KL from the unsteered ones.
def mean_kl(
    model: Model, texts: Sequence[TokenisedText], done: Sequence[Intervention], reference: Sequence[Tensor]
) -> list[float]:
    """Mean KL(steered || unsteered) in nats over all content tokens, one number per intervention."""
    rows = [(k, t) for k in range(len(done)) for t in range(len(texts))]
    width = max(len(t) for t in texts)
    size = max(1, TOKEN_BUDGET // width)
    totals = [0.0] * len(done)

    def run(batch: list[int]) -> list[tuple[int, float]]:
        mine = [rows[i] for i in batch]
        steered = log_probabilities(model, [texts[t] for _, t in mine], [done[k] for k, _ in mine])
        return [(k, _kl(log_p, reference[t])) for (k, t), log_p in zip(mine, steered, strict=True)]

    for start in range(0, len(rows), size):
        for k, value in run_halving(list(range(start, min(start + size, len(rows)))), run, model, "solving a dose"):
            totals[k] += value
    n_tokens = sum(len(r) for r in reference)
    return [total / n_tokens for total in totals]


def _kl(log_p: Float[Tensor, "rows d_vocab"], log_q: Float[Tensor, "rows d_vocab"]) -> float:
    """Sum over rows of KL(p || q)."""
    parts = zip(log_p.split(CHUNK), log_q.split(CHUNK), strict=True)
    return float(sum((p.exp() * (p - q)).sum(dtype=torch.float64) for p, q in parts))


@torch.inference_mode()
def log_probabilities(
    model: Model, texts: Sequence[TokenisedText], done: Sequence[Intervention | None]
) -> list[Float[Tensor, "rows d_vocab"]]:
    """Log-probabilities of the next token at every content token, each text under its own intervention."""
    tokens, mask = pad([t.ids for t in texts], pad_id(model))
    last = hook_name(model.cfg.n_layers - 1)
    edits = RowEdits(done, model.cfg.d_model)
    with turn(model), fitting_threads(model), model.hooks(fwd_hooks=edits.hooks()):
        residual = residual_cache(model, tokens, mask)[last]
    out = []
    for row, text in enumerate(texts):
        h = residual[row, : len(text)][torch.tensor(text.content, device=residual.device)]
        out.append(torch.cat([read_out(model, part).float().log_softmax(-1) for part in h.split(CHUNK)]))
    return out
