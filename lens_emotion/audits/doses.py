"""What a dose is a multiple of: a mean length with the first token in it, or one that changes with the prompt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import spearmanr

from lens_emotion.audits.finding import MAJOR, MINOR, Fault, Reply, Seen, Unasked
from lens_emotion.audits.subject import Arm, Subject, Table, TokenNorms
from lens_emotion.audits.worst import Part, worst
from lens_emotion.errors import ArtifactError
from lens_emotion.files.user import shown

INSIDE = 1.1  # times, from which the first token is in the unit
# median over layers of E||h|| over the length of single tokens: 0.70 to 1.27 in nine models without the first token,
# 1.9 in Qwen2.5-0.5B with it (passages of 70 tokens)
SINGLE = 1.6
SHORT, LONG = 10, 100  # tokens
CHANGES = 1.25  # times, from which a unit that follows the prompt's length is said
APART = 2.0  # times the shortest prompt that the longest must be, for a unit that follows the length to show
STEADY = 0.8  # of Spearman's rho between length and unit


def first_token(subject: Subject) -> Iterator[Reply]:
    """The first token's length, many times that of the others, in the mean that doses multiply."""
    for norms in subject.norms:
        yield _inside(norms).reply
    for table in subject.tables:
        if table.has("unit", "unit_without"):
            yield from worst(_told(table))
        elif table.has("position", "norm"):
            made = _by_position(table)
            if not made:
                yield Unasked(f"{table.name} has no prompt with lengths at positions 0, 1, 2 and so on, without a gap")
            yield from worst(replace(_inside(x), name=x.name.removeprefix(f"{table.name}, ")) for x in made)
    for arm in subject.arms:
        yield from _single(arm)


@dataclass(frozen=True)
class Means:
    """Mean lengths over prompts: with the first token, without it, and its own. unit: what doses multiply."""

    whole: float
    without: float
    first: float
    unit: float | None

    @property
    def times(self) -> float:
        """How many times as long the mean is with the first token."""
        return self.whole / self.without

    @property
    def leaves_out(self) -> bool:
        """Whether the unit is not above the mean without the first token."""
        return self.unit is not None and self.unit / self.without < INSIDE

    @property
    def neither(self) -> bool:
        """Whether the unit is above the mean without the first token, and nearer to it than to that with it."""
        if self.unit is None or self.leaves_out:
            return False
        return bool(abs(np.log(self.unit / self.without)) < abs(np.log(self.unit / self.whole)))


def _means(norms: TokenNorms) -> Means | None:
    """None where every prompt is of one token."""
    longer = [x for x in norms.norms if len(x) > 1]
    if not longer:
        return None
    whole, rest, first = (float(np.mean([f(x) for x in longer])) for f in (np.mean, lambda x: x[1:].mean(), _first))
    return Means(whole, rest, first, norms.unit)


def _first(lengths: Float[np.ndarray, " n_tokens"]) -> float:
    return float(lengths[0])


def _inside(norms: TokenNorms) -> Part:
    """With a unit that was told: which mean it is. Without: what the first token would do to one that holds it."""
    means = _means(norms)
    if means is None:
        return Part(norms.name, 0, Unasked(f"{norms.name} holds prompts of one token only"))
    long = f"the first token is {means.first / means.without:.3g} times as long as the others"
    reply: Reply
    if means.times < INSIDE:
        reply = Seen(f"{norms.name}: {long}")
    elif means.unit is None:
        what = f"{long}; does the unit hold it?"
        reply = Fault(MINOR, what, norms.name, means.times, "times as long is a unit that holds it")
    elif means.leaves_out:
        reply = Seen(
            f"{norms.name}: the unit {means.unit:.3g} is {means.unit / means.without:.2f} times the mean length "
            f"without the first token ({means.whole:.3g} with it)"
        )
    elif means.neither:
        reply = Unasked(
            f"{norms.name}: the unit {means.unit:.3g} is neither the mean with the first token ({means.whole:.3g}) nor "
            f"that without it ({means.without:.3g}); give the lengths of the texts that it was measured on"
        )
    else:
        reply = _ratio(means.unit / means.without, norms.name)
    return Part(norms.name, means.times if means.unit is None else means.unit / means.without, reply)


def _ratio(times: float, where: str) -> Reply:
    if not 0 < times < np.inf:
        return Unasked(f"{where}: a unit, or a mean length, that is no number above 0")
    if times < INSIDE:
        return Seen(f"{where}: the unit is {times:.2f} times the mean length without the first token")
    what = (
        "the length that doses multiply holds the first token, or is otherwise not that of the tokens that are steered"
    )
    return Fault(MAJOR, what, where, times, "times the dose that is said, in lengths of the other tokens")


def _told(table: Table) -> Iterator[Part]:
    """Tables that say the unit and what it is without the first token: the median of each model."""
    times = table.frame["unit"] / table.frame["unit_without"]
    for called, group in _parts(table.frame.assign(times=times), ("model",)):
        ratio = float(group["times"].median())
        where = f"{table.name}{', ' if called else ''}{called}"
        yield Part(called or table.name, ratio, _ratio(ratio, where))


def _parts(frame: pd.DataFrame, columns: tuple[str, ...]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Rows of one model, layer and so on, with their names as people write them."""
    keys = [c for c in columns if c in frame and frame[c].notna().any()]
    if not keys:
        yield "", frame
        return
    for key, group in frame.groupby(keys, dropna=False):
        named = [f"layer {k:g}" if c == "layer" else str(k) for c, k in zip(keys, key, strict=True)]
        yield ", ".join(named), group


def _by_position(table: Table) -> list[TokenNorms]:
    """The lengths of a table as sequences, by model and layer.

    Prompts need no column of their own: the k-th row of every position makes the k-th sequence, which leaves the means
    as they are where all prompts are equally long.
    """
    columns = [c for c in ("position", "norm", "model", "layer", "prompt", "unit") if c in table.frame]
    frame = table.frame[columns].dropna(subset=["position", "norm"])
    made = []
    for called, group in _parts(frame[np.isfinite(frame["norm"]) & (frame["norm"] > 0)], ("model", "layer")):
        prompts = [c for c in ("prompt",) if c in group]
        turn = group.groupby([*prompts, "position"], dropna=False).cumcount().rename("turn")
        lengths = []
        for _, one in group.groupby([*(group[c] for c in prompts), turn], dropna=False):
            ordered = one.sort_values("position")
            if (ordered["position"].to_numpy() == np.arange(len(ordered))).all():
                lengths.append(ordered["norm"].to_numpy(float))
        units = group["unit"][group["unit"] > 0] if "unit" in group else pd.Series(dtype=float)
        if lengths:
            unit = float(units.median()) if len(units) else None
            made.append(TokenNorms(f"{table.name}{', ' if called else ''}{called}", lengths, unit))
    return made


def _single(arm: Arm) -> Iterator[Reply]:
    """E||h|| of a reading against its rows, where these are single tokens."""
    acts = arm.acts
    if not len(acts) or np.median(acts.n_tokens) > 1:
        yield Unasked(f"{arm.name} pools several tokens, whose mean is shorter than they are")
        return
    length = acts.values.norm(dim=-1).median(0).values
    ratios = (acts.residual_norm / length).numpy()
    if not np.isfinite(ratios).any():
        yield Unasked(f"{arm.name} has no layer with lengths that are numbers above 0")
        return
    times = float(np.median(ratios[np.isfinite(ratios)]))
    if times < SINGLE:
        yield Seen(f"{arm.name}: E||h|| is {times:.2f} times the length of single tokens (median over layers)")
    else:
        yield _ratio(times, f"{arm.name}, median over layers")


def prompt_length(subject: Subject) -> Iterator[Reply]:
    """A push that fades, or grows, with the length of the prompt, under one and the same dose."""
    for norms in subject.norms:
        yield _of_norms(norms)
    for table in subject.tables:
        column = next((c for c in ("push", "unit") if table.has(c)), None)
        if column and table.has("prompt_tokens"):
            yield from worst(_over_lengths(table, column))
        elif table.has("unit", "unit_without") and table.on_tokens:
            spread = float(table.frame["unit"].max() / table.frame["unit"].min())
            yield Seen(f"{table.name}: one unit for every prompt (over doses it differs by {spread:.3f} times)")


def _of_norms(norms: TokenNorms) -> Reply:
    """What the first token does to a mean over prompts of two lengths, if the unit holds it."""
    means = _means(norms)
    if means is None:
        return Unasked(f"{norms.name} holds prompts of one token only")
    if means.times >= INSIDE and means.leaves_out:
        return Seen(
            f"{norms.name}: the unit is {(means.unit or 0) / means.without:.2f} times the mean length without the "
            "first token, and what holds no first token does not change with the number of the others"
        )
    if means.times >= INSIDE and means.neither:
        return Unasked(f"{norms.name}: whether the unit {means.unit:.3g} holds the first token is not known")
    short, long = (means.first / n + means.without * (n - 1) / n for n in (SHORT, LONG))
    between = f"a prompt of {SHORT} tokens against one of {LONG}"
    return _follows(short / long, between, norms.name, norms.unit is not None)


def _over_lengths(table: Table, column: str) -> Iterator[Part]:
    """Lengths that were measured, at each dose: the median over doses, of every model."""
    frame = table.frame.dropna(subset=["prompt_tokens", column])
    for called, rows in _parts(frame, ("model",)):
        yield _of_model(rows, column, f"{table.name}{', ' if called else ''}{called}", called or table.name)


def _of_model(rows: pd.DataFrame, column: str, where: str, called: str) -> Part:
    ratios, rhos, ends = [], [], set()
    for _, group in _parts(rows, ("method", "condition", "dose", "layer", "emotion")):
        mean = group.groupby("prompt_tokens")[column].mean()
        if len(mean) >= 3 and mean.min() > 0 and mean.index[-1] >= APART * mean.index[0]:
            ratios.append(float(mean.iloc[0] / mean.iloc[-1]))
            rhos.append(0.0 if mean.nunique() == 1 else float(spearmanr(mean.index, mean).statistic))
            ends.add(f"prompts of {mean.index[0]:g} tokens against {mean.index[-1]:g}")
    if not ratios:
        why = f"{where} has no dose with prompts of three lengths, the longest {APART:g} times the shortest or more"
        return Part(called, 0, Unasked(why))
    times, rho = float(np.median(ratios)), float(np.median(rhos))
    between = ends.pop() if len(ends) == 1 else f"the shortest prompts against the longest, median of {len(ratios)}"
    bad = float(abs(np.log(times)))
    if abs(rho) < STEADY:
        return Part(called, bad, Seen(f"{where}: {column} does not follow the prompt's length (rho {rho:+.2f})"))
    return Part(called, bad, _follows(times, f"{between} (rho {rho:+.2f})", where, True))


def _follows(times: float, between: str, where: str, told: bool) -> Reply:
    apart = max(times, 1 / times)
    if apart < CHANGES:
        return Seen(f"{where}: the unit differs by {apart:.2f} times ({between})")
    what = f"one and the same dose is another push: {between}"
    more, less = ("shorter", "longer") if times > 1 else ("longer", "shorter")
    return Fault(MAJOR if told else MINOR, what, where, apart, f"times the push of the {less} prompt in the {more}")


def norms_of(given: Any, unit: float | None = None) -> TokenNorms:
    """Lengths by position of one prompt, of several, or [prompts, positions] padded with NaN.

    Raises:
        ValueError: no numbers.
        ArtifactError: lengths, or a unit, that are no numbers above 0.
    """
    rows = [given] if np.ndim(given[0]) == 0 else list(given)
    arrays = [np.asarray(pd.Series(np.asarray(r, dtype=float)).dropna()) for r in rows]
    for i, lengths in enumerate(arrays):
        if (wrong := lengths[~(np.isfinite(lengths) & (lengths > 0))]).size:
            raise ArtifactError(
                f"token_norms of prompt {i + 1} hold {wrong[0]:g}; give lengths above 0, the first token's first, and "
                "fill up shorter prompts with NaN"
            )
    return TokenNorms("token norms", [x for x in arrays if len(x)], _unit(unit))


def _unit(given: Any) -> float | None:
    if given is None:
        return None
    try:
        unit = float(given)
    except (TypeError, ValueError):
        unit = np.nan
    if not 0 < unit < np.inf:
        raise ArtifactError(f"unit is {shown(given)}; give one length above 0, that which doses multiply")
    return unit
