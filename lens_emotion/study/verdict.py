"""What a tested claim looks like: a verdict with its effect, interval, null, n, and a sentence to print."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from lens_emotion.display import Result
from lens_emotion.pictures import Tiles
from lens_emotion.stats.decide import Estimate

SUPPORTED, NOT_SUPPORTED, UNDETERMINED, NOT_TESTABLE = (
    "supported",
    "not supported",
    "undetermined",
    "not testable here",
)
VERDICTS = (SUPPORTED, NOT_SUPPORTED, UNDETERMINED, NOT_TESTABLE)
SEALED, EXPLORATORY, BROKEN = "sealed", "exploratory", "broken"  # what a verdict is, by `study.seal`
_SHOWN = 3  # of a broken seal, in a line
ALL_MODELS = "all models"

# arXiv 2604.04064, abstract, in our words
STATEMENTS: dict[str, str] = {
    "C1": "Writing separates emotions better than reading",
    "C2": "Emotion is represented at the middle layers, about half way up",
    "C3": "Separation is U-shaped over depth (accuracy best in the middle), in every architecture",
    "C4": "The representations are more than anisotropy",
    "C5": "Steering is causal, and a judge from outside the model sees it",
    "C6": "Surgical, repetitive and explosive regimes, set apart by architecture rather than by scale",
    "C7": "Steering English text brings out tokens of another language that fit the emotion",
    "C8": "Instruction tuning raises the signal in writing and hardly that in reading",
    "X1": "The states tell more of emotion than the words do (asked by us, not by the paper)",
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
        code: "C1" to "C8" of the paper, "X1" of ours.
        scope: the model's name, or "all models".
        verdict: supported, not supported, undetermined, or not testable here.
        reason: why, in a clause.
        effect: what was measured.
        null: what it is to be read against.
        p: p-value of the test behind the verdict, None where the verdict rests on an interval or on several tests.
        n: how many of what.
        sentence: what a paper could print.
        smallest: the smallest effect of interest that "no" was decided against, None where none plays a part.
        reach: which effect this design finds with power .8, and what would find the smallest of interest.
        evidence: one-sided p-values of the claim and of its opposite, each the largest of the parts that it rests on;
            what verdicts over models are made of.
        rests_on: the mean over independent units that the verdict goes by, where it goes by one; of several, that which
            varies most. What the power of a design is worked out of (`study.power`).
        sealed: "sealed" if its rule was written down before any model was read and still stands, "broken" if it was
            and something changed since, else "exploratory".
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
    smallest: float | None = None
    reach: str = ""
    evidence: tuple[float, float] | None = None
    rests_on: Estimate | None = None
    sealed: str = EXPLORATORY

    def __post_init__(self) -> None:
        if self.code not in STATEMENTS or self.verdict not in VERDICTS:
            raise ValueError(f"no claim {self.code!r} or verdict {self.verdict!r}")

    @property
    def statement(self) -> str:
        return STATEMENTS[self.code]


@dataclass(frozen=True, repr=False)
class Claims(Result):
    """All claims of a run, model by model and over all models."""

    _picture = Tiles("code", "scope", "verdict")

    claims: tuple[Claim, ...]

    @property
    def table(self) -> pd.DataFrame:
        """code, claim, scope, verdict, effect, value, low, high, ends (what low and high are), null, p, n,
        smallest, reach, reason, units and error (standard error of the mean over these that the verdict goes by),
        sealed."""
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
                    "smallest": np.nan if c.smallest is None else c.smallest,
                    "reach": c.reach,
                    "reason": c.reason,
                    "units": np.nan if c.rests_on is None else c.rests_on.n,
                    "error": np.nan if c.rests_on is None else c.rests_on.error,
                    "sealed": c.sealed,
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


@dataclass(frozen=True)
class SealState:
    """What becomes of a run's seal.

    Attributes:
        status: "sealed", "broken", or "exploratory" where there is none.
        date, sha256: of the seal, as far as it can be read.
        broken: what is not as it was sealed, a sentence each.
        codes: the claims that were sealed.
    """

    status: str = EXPLORATORY
    date: str = ""
    sha256: str = ""
    broken: tuple[str, ...] = ()
    codes: frozenset[str] = frozenset()

    def line(self, most: int = _SHOWN) -> str:
        """A sentence for reports and terminals."""
        if self.status == EXPLORATORY:
            return "Exploratory: no design was sealed before the models were read."
        if self.status == SEALED:
            return (
                f"Sealed {self.date[:10]}, before any model was read (sha256 {self.sha256[:12]}): the claims are "
                "judged by the rules that were written down. All else is exploratory."
            )
        more = f"; and {len(self.broken) - most} more" if len(self.broken) > most else ""
        return f"Seal broken: {'; '.join(self.broken[:most])}{more}."

    def marked(self, claims: Claims) -> Claims:
        """The claims, each with what it is: one that was not among those sealed stays exploratory."""
        made = [replace(c, sealed=self.status if c.code in self.codes else EXPLORATORY) for c in claims.claims]
        return replace(claims, claims=tuple(made))


@dataclass(frozen=True)
class Judged:
    """A claim by the published rule, beside our verdict.

    Attributes:
        code, scope: as of a `Claim`.
        rule: of the published verdict, in a clause. inferred: what of it is an inference, "" where it is public.
        number: what the rule looks at. control: its null or control, which the rule does not look at.
        published, ours: the verdicts. difference: what of the protocol, not of the model, parts them; "" where nothing
            does, or where they agree.
    """

    code: str
    scope: str
    rule: str
    inferred: str
    number: str
    control: str
    published: str
    ours: str
    difference: str


@dataclass(frozen=True, repr=False)
class Protocols(Result):
    """Every claim by the published rules and by ours, and the published numbers beside ours.

    Attributes:
        rows: a claim and scope each. numbers: see `presets.numbers.compared`.
    """

    rows: tuple[Judged, ...]
    numbers: pd.DataFrame

    @property
    def table(self) -> pd.DataFrame:
        """code, claim, scope, rule, inferred, number, control, published, ours, difference."""
        rows = [{"code": r.code, "claim": STATEMENTS[r.code]} | asdict(r) for r in self.rows]
        return pd.DataFrame(rows)[["code", "claim", "scope", *list(asdict(self.rows[0]))[2:]]]

    @property
    def parted(self) -> tuple[Judged, ...]:
        """The rows that both protocols could judge, or one of them did, otherwise than the other."""
        return tuple(r for r in self.rows if r.published != r.ours)

    def summary(self) -> str:
        """One line: what the published rules say over all models, where the protocol makes the difference, and what
        ours leaves open that they decide."""
        whole = [r for r in self.rows if r.scope == ALL_MODELS]
        ayes = [r.code for r in whole if r.published == SUPPORTED]
        ours = [r.code for r in whole if r.ours == SUPPORTED]
        decided = [r for r in whole if r.published in (SUPPORTED, NOT_SUPPORTED)]
        made = [r.code for r in decided if r.ours in (SUPPORTED, NOT_SUPPORTED) and r.ours != r.published]
        open_ = [r.code for r in decided if r.ours == UNDETERMINED]
        return (
            f"supported by the published rules: {', '.join(ayes) or 'none'}; by ours: {', '.join(ours) or 'none'}; the "
            f"protocol makes the difference in {', '.join(made) or 'none'}; they decide what ours leaves open in "
            f"{', '.join(open_) or 'none'}"
        )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def hangs_on_decoder(cosine: Claim, standardised: Claim) -> Claim:
    """One verdict from those by either decoder (see `analysis.decoding`): undetermined where they differ. Where they
    agree, the weaker of the two speaks in verdicts over models."""
    sentence = f"{cosine.sentence} Standardised per dimension: {standardised.sentence}"
    if cosine.verdict != standardised.verdict:
        said = f"centred cosine: {cosine.verdict}, {cosine.reason}; standardised: {standardised.verdict}"
        reason = f"it hangs on the decoder ({said}, {standardised.reason})"
        return replace(cosine, verdict=UNDETERMINED, reason=reason, sentence=f"{sentence} It hangs on the decoder.")
    one, other = cosine.evidence, standardised.evidence
    weaker = (max(one[0], other[0]), max(one[1], other[1])) if one and other else None
    means = [c.rests_on for c in (cosine, standardised) if c.rests_on is not None]
    return replace(cosine, sentence=sentence, evidence=weaker, rests_on=max(means, key=lambda e: e.error, default=None))


def untestable(code: str, scope: str, why: str) -> Claim:
    """A claim this run cannot speak about, and what would be needed."""
    return Claim(code, scope, NOT_TESTABLE, why, f"{STATEMENTS[code]}: not testable here, since {why}.")


LEVEL = 0.025  # one-sided, so that verdicts go with 95% intervals


def combined(code: str, per_model: Sequence[Claim], universal: bool, effect: Effect | None = None) -> Claim:
    """The verdict over models, by a partial conjunction of what speaks for the claim in each, and against it.

    A universal claim ("whatever the architecture") is supported if it holds in every model that could be tested, and
    not supported if its opposite holds in one at least (corrected for their number). A typical one is supported if it
    holds in most models, and not supported if its opposite does: ayes and noes are weighed alike. p-values combine by
    Simes' form for "at least u of n" (Benjamini and Heller 2008), which holds for models that read the same texts.
    """
    tested = [c for c in per_model if c.verdict != NOT_TESTABLE]
    if not tested:
        reason = per_model[0].reason if per_model else "no model was studied"
        return untestable(code, ALL_MODELS, reason)
    n = len(tested)
    for_it, against = np.array([_evidence(c) for c in tested]).T
    most = n // 2 + 1
    ayes, noes = (n, 1) if universal else (most, most)
    p_for, p_against = at_least(for_it, ayes), at_least(against, noes)
    verdict = SUPPORTED if p_for <= LEVEL else NOT_SUPPORTED if p_against <= LEVEL else UNDETERMINED
    verdict = tested[0].verdict if n == 1 else verdict
    by = {v: [c.scope for c in tested if c.verdict == v] for v in VERDICTS}
    parts = [f"{v} in {len(names)} ({', '.join(names)})" for v, names in by.items() if names]
    asked = f"{'every model' if universal else f'at least {most}'} asked for"
    reason = f"of {_models(n)} ({asked}): " + "; ".join(parts) if n > 1 else tested[0].reason
    p = {SUPPORTED: p_for, NOT_SUPPORTED: p_against, UNDETERMINED: min(p_for, p_against)}[verdict]
    return Claim(
        code,
        ALL_MODELS,
        verdict,
        reason,
        f"{STATEMENTS[code]}: {verdict}; {reason}.",
        effect or _median_effect(tested),
        tested[0].null if n == 1 else "each model's own, in its row",
        tested[0].p if n == 1 else p,
        _models(n, tested[0].n if len({c.n for c in tested}) == 1 else ""),
        tested[0].smallest,
        tested[0].reach if n == 1 else "",
        (p_for, p_against),
    )


def at_least(p: Float[np.ndarray, " n"], u: int) -> float:
    """p-value of "fewer than u of the n hypotheses hold": small if at least u do (Benjamini and Heller 2008)."""
    m = len(p) - u + 1
    return float(min(1.0, (m / np.arange(1, m + 1) * np.sort(p)[u - 1 :]).min()))


def _evidence(claim: Claim) -> tuple[float, float]:
    """Its p-values for and against; a verdict that has none counts at the level at which it was reached, and an
    undetermined one speaks neither for nor against."""
    for_it, against = claim.evidence or (LEVEL, LEVEL)
    return for_it if claim.verdict == SUPPORTED else 1.0, against if claim.verdict == NOT_SUPPORTED else 1.0


def _models(n: int, each: str = "") -> str:
    """How many, and how many of what is behind each of them."""
    return f"{n} model{'s' * (n != 1)}" + (f", {'each of ' * (n > 1)}{each}" if each else "")


def _median_effect(tested: Sequence[Claim]) -> Effect | None:
    """Median over models; its ends are the least and the greatest."""
    found = [c.effect for c in tested if c.effect is not None and math.isfinite(c.effect.value)]
    if not found:
        return None
    if len(found) == 1:
        return found[0]
    values = [e.value for e in found]
    return Effect(found[0].name, float(np.median(values)), min(values), max(values), over_models=True)
