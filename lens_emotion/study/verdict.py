"""What a tested claim looks like: a verdict with its effect, interval, null, n, and a sentence to print."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from lens_emotion.display import Result

SUPPORTED, NOT_SUPPORTED, UNDETERMINED, NOT_TESTABLE = (
    "supported",
    "not supported",
    "undetermined",
    "not testable here",
)
VERDICTS = (SUPPORTED, NOT_SUPPORTED, UNDETERMINED, NOT_TESTABLE)
ALL_MODELS = "all models"

# arXiv 2604.04064, abstract, in our words
STATEMENTS: dict[str, str] = {
    "C1": "Generation-based extraction separates emotions better than comprehension-based",
    "C2": "Emotion is represented at the middle layers, about half way up",
    "C3": "Separation follows a U-shaped curve over depth, whatever the architecture",
    "C4": "The representations are more than anisotropy",
    "C5": "Steering is causal, and an outside judge sees it",
    "C6": "Surgical, repetitive and explosive regimes, set apart by architecture rather than by scale",
    "C7": "Steering English text brings out tokens of another language that fit the emotion",
    "C8": "Instruction tuning raises the generation-side signal and hardly the comprehension side",
}


@dataclass(frozen=True)
class Effect:
    """A number with its 95% interval, or with its range over models; None where an end is not defined."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    over_models: bool = False

    @property
    def ends(self) -> str:
        """Its two ends in words, "" if they are not known."""
        if self.low is None or self.high is None:
            return ""
        return f"{self.low:.2f} to {self.high:.2f}" if self.over_models else f"[{self.low:.2f}, {self.high:.2f}]"

    def __str__(self) -> str:
        if self.over_models:
            return f"{self.name}: median over models {self.value:.2f}" + (f" ({self.ends})" if self.ends else "")
        return f"{self.name} {self.value:.2f}" + (f" {self.ends}" if self.ends else "")


@dataclass(frozen=True)
class Claim:
    """One claim, tested on one model or over all of a run.

    Attributes:
        code: "C1" to "C8".
        scope: the model's name, or "all models".
        verdict: supported, not supported, undetermined, or not testable here.
        reason: why, in a clause.
        effect: what was measured.
        null: what it is to be read against.
        p: p-value of the test behind the verdict, None where the verdict rests on an interval or on several tests.
        n: how many of what.
        sentence: what a paper could print.
    """

    code: str
    scope: str
    verdict: str
    reason: str
    sentence: str
    effect: Effect | None = None
    null: str = ""
    p: float | None = None
    n: str = ""

    def __post_init__(self) -> None:
        if self.code not in STATEMENTS or self.verdict not in VERDICTS:
            raise ValueError(f"no claim {self.code!r} or verdict {self.verdict!r}")

    @property
    def statement(self) -> str:
        return STATEMENTS[self.code]


@dataclass(frozen=True, repr=False)
class Claims(Result):
    """All claims of a run, model by model and over all models."""

    claims: tuple[Claim, ...]

    @property
    def table(self) -> pd.DataFrame:
        """code, claim, scope, verdict, effect, value, low, high, ends (what low and high are), null, p, n, reason."""
        rows = []
        for c in self.claims:
            e = c.effect or Effect("", math.nan)
            rows.append(
                {
                    "code": c.code,
                    "claim": c.statement,
                    "scope": c.scope,
                    "verdict": c.verdict,
                    "effect": e.name,
                    "value": e.value,
                    "low": np.nan if e.low is None else e.low,
                    "high": np.nan if e.high is None else e.high,
                    "ends": "least and greatest" if e.over_models else "95%" if e.ends else "",
                    "null": c.null,
                    "p": np.nan if c.p is None else c.p,
                    "n": c.n,
                    "reason": c.reason,
                }
            )
        return pd.DataFrame(rows)

    @property
    def overall(self) -> tuple[Claim, ...]:
        """One per claim: the verdict over all models."""
        return tuple(c for c in self.claims if c.scope == ALL_MODELS)

    def of(self, scope: str) -> tuple[Claim, ...]:
        """The claims of one model."""
        return tuple(c for c in self.claims if c.scope == scope)

    def summary(self) -> str:
        """One line: how many claims of the paper this run supports."""
        counts = {v: [c.code for c in self.overall if c.verdict == v] for v in VERDICTS}
        return "; ".join(f"{v}: {', '.join(codes) or 'none'}" for v, codes in counts.items())

    def to_json(self) -> list[dict[str, Any]]:
        """Plain values for claims.json; what is not a number is null."""
        return [{"claim": c.statement, **_plain(asdict(c))} for c in self.claims]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def untestable(code: str, scope: str, why: str) -> Claim:
    """A claim this run cannot speak about, and what would be needed."""
    return Claim(code, scope, NOT_TESTABLE, why, f"{STATEMENTS[code]}: not testable here, since {why}.")


def combined(code: str, per_model: Sequence[Claim], universal: bool, effect: Effect | None = None) -> Claim:
    """The verdict over models from those of each.

    Supported if every model that could be tested supports it; not supported if none does and at least one
    contradicts it, or if the claim is universal ("whatever the architecture") and at least one contradicts it.
    """
    tested = [c for c in per_model if c.verdict != NOT_TESTABLE]
    if not tested:
        reason = per_model[0].reason if per_model else "no model was studied"
        return untestable(code, ALL_MODELS, reason)
    by = {v: [c.scope for c in tested if c.verdict == v] for v in VERDICTS}
    if len(by[SUPPORTED]) == len(tested):
        verdict = SUPPORTED
    elif by[NOT_SUPPORTED] and (universal or not by[SUPPORTED]):
        verdict = NOT_SUPPORTED
    else:
        verdict = UNDETERMINED
    parts = [f"{v} in {len(names)} ({', '.join(names)})" for v, names in by.items() if names]
    reason = f"of {_models(len(tested))}: " + "; ".join(parts) if len(tested) > 1 else tested[0].reason
    ps = [c.p for c in tested if c.p is not None]
    return Claim(
        code,
        ALL_MODELS,
        verdict,
        reason,
        f"{STATEMENTS[code]}: {verdict}; {reason}.",
        effect or _median_effect(tested),
        tested[0].null if len(tested) == 1 else "each model's own, in its row",
        ps[0] if len(tested) == 1 and ps else None,
        _models(len(tested)),
    )


def _models(n: int) -> str:
    return f"{n} model{'s' * (n != 1)}"


def _median_effect(tested: Sequence[Claim]) -> Effect | None:
    """Median over models; its ends are the least and the greatest."""
    found = [c.effect for c in tested if c.effect is not None and math.isfinite(c.effect.value)]
    if not found:
        return None
    if len(found) == 1:
        return found[0]
    values = [e.value for e in found]
    return Effect(found[0].name, float(np.median(values)), min(values), max(values), over_models=True)
