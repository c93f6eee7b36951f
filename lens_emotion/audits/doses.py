"""What a dose is a multiple of: a mean length with the first token in it, or one that changes with the prompt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from lens_emotion.audits.finding import MAJOR, MINOR, Fault, Reply, Seen, Unasked
from lens_emotion.audits.subject import Arm, Subject, Table, TokenNorms

INSIDE = 1.1  # times, from which the first token is in the unit
# median over layers of E||h|| over the length of single tokens: 0.70 to 1.27 in nine models without the first token,
# 1.9 in Qwen2.5-0.5B with it (passages of 70 tokens)
SINGLE = 1.6
SHORT, LONG = 10, 100  # tokens
CHANGES = 1.25  # times, from which a unit that follows the prompt's length is said
STEADY = 0.8  # of Spearman's rho between length and unit


def first_token(subject: Subject) -> Iterator[Reply]:
    """The first token's length, many times that of the others, in the mean that doses multiply."""
    for norms in subject.norms:
        yield from _inside(norms)
    for table in subject.tables:
        if table.has("unit", "unit_without"):
            yield _ratio(float((table.frame["unit"] / table.frame["unit_without"]).median()), table.name)
        elif table.has("position", "norm"):
            for norms in _by_position(table):
                yield from _inside(norms)
    for arm in subject.arms:
        yield from _single(arm)


def _inside(norms: TokenNorms) -> Iterator[Reply]:
    """With a unit that was told: which mean it is. Without: what the first token would do to one that holds it."""
    with_first = float(np.mean([x.mean() for x in norms.norms]))
    rest = [x[1:] for x in norms.norms if len(x) > 1]
    if not rest:
        yield Unasked(f"{norms.name} holds prompts of one token only")
        return
    without = float(np.mean([x.mean() for x in rest]))
    first = float(np.mean([x[0] for x in norms.norms]))
    times = with_first / without
    if times < INSIDE:
        yield Seen(f"{norms.name}: the first token is {first / without:.2g} times as long as the others")
    elif norms.unit is None:
        what = f"the first token is {first / without:.3g} times as long as the others; does the unit hold it?"
        yield Fault(MINOR, what, norms.name, times, "times as long is a unit that holds it")
    elif abs(np.log(norms.unit / without)) < abs(np.log(norms.unit / with_first)):
        yield Seen(f"{norms.name}: the unit {norms.unit:.3g} leaves the first token out ({with_first:.3g} with it)")
    else:
        yield _ratio(norms.unit / without, norms.name)


def _ratio(times: float, where: str) -> Reply:
    if times < INSIDE:
        return Seen(f"{where}: the unit is {times:.2f} times the mean length without the first token")
    what = (
        "the length that doses multiply holds the first token, or is otherwise not that of the tokens that are steered"
    )
    return Fault(MAJOR, what, where, times, "times the dose that is said, in lengths of the other tokens")


def _by_position(table: Table) -> list[TokenNorms]:
    """The lengths of a table as sequences, one per model and layer."""
    frame = table.frame
    keys = [c for c in ("model", "layer", "prompt") if c in frame]
    groups = frame.groupby(keys) if keys else [("", frame)]
    made = []
    for key, group in groups:
        ordered = group.sort_values("position")
        if ordered["position"].min() == 0:
            unit = float(group["unit"].median()) if "unit" in group and group["unit"].notna().any() else None
            called = ", ".join(map(str, key if isinstance(key, tuple) else (key,)))
            made.append(TokenNorms(f"{table.name} {called}".strip(), [ordered["norm"].to_numpy(float)], unit))
    return made


def _single(arm: Arm) -> Iterator[Reply]:
    """E||h|| of a reading against its rows, where these are single tokens."""
    acts = arm.acts
    if not len(acts) or np.median(acts.n_tokens) > 1:
        yield Unasked(f"{arm.name} pools several tokens, whose mean is shorter than they are")
        return
    length = acts.values.norm(dim=-1).median(0).values
    times = float(np.median((acts.residual_norm / length).numpy()))
    if times < SINGLE:
        yield Seen(f"{arm.name}: E||h|| is {times:.2f} times the length of single tokens (median over layers)")
    else:
        yield _ratio(times, f"{arm.name}, median over layers")


def prompt_length(subject: Subject) -> Iterator[Reply]:
    """A push that fades, or grows, with the length of the prompt, under one and the same dose."""
    for norms in subject.norms:
        others = np.concatenate([x[1:] for x in norms.norms if len(x) > 1] or [np.array([])])
        if not len(others):
            yield Unasked(f"{norms.name} holds prompts of one token only")
            continue
        first, rest = float(np.mean([x[0] for x in norms.norms])), float(others.mean())
        short, long = (first / n + rest * (n - 1) / n for n in (SHORT, LONG))
        yield _follows(
            short / long, f"a prompt of {SHORT} tokens against one of {LONG}", norms.name, norms.unit is not None
        )
    for table in subject.tables:
        column = next((c for c in ("push", "unit") if table.has(c)), None)
        if column and table.has("prompt_tokens"):
            yield from _over_lengths(table, column)
        elif table.has("unit", "unit_without") and table.on_tokens:
            spread = float(table.frame["unit"].max() / table.frame["unit"].min())
            yield Seen(f"{table.name}: one unit for every prompt (over doses it differs by {spread:.3f} times)")


def _over_lengths(table: Table, column: str) -> Iterator[Reply]:
    """Lengths that were measured, at each dose."""
    frame = table.frame.dropna(subset=["prompt_tokens", column])
    keys = [c for c in ("model", "dose", "layer", "emotion") if c in frame]
    ratios, rhos, ends = [], [], (0.0, 0.0)
    for _, group in frame.groupby(keys, dropna=False) if keys else [("", frame)]:
        mean = group.groupby("prompt_tokens")[column].mean()
        if len(mean) >= 3 and mean.min() > 0:
            ratios.append(float(mean.iloc[0] / mean.iloc[-1]))
            rhos.append(0.0 if mean.nunique() == 1 else float(spearmanr(mean.index, mean).statistic))
            ends = float(mean.index[0]), float(mean.index[-1])
    if not ratios:
        yield Unasked(f"{table.name} has prompts of fewer than three lengths at one dose")
        return
    times, rho = float(np.median(ratios)), float(np.median(rhos))
    if abs(rho) < STEADY:
        yield Seen(f"{table.name}: {column} does not follow the prompt's length (rho {rho:+.2f})")
    else:
        yield _follows(times, f"prompts of {ends[0]:g} tokens against {ends[1]:g} (rho {rho:+.2f})", table.name, True)


def _follows(times: float, between: str, where: str, told: bool) -> Reply:
    apart = max(times, 1 / times)
    if apart < CHANGES:
        return Seen(f"{where}: the unit differs by {apart:.2f} times ({between})")
    what = f"one and the same dose is another push: {between}"
    return Fault(MAJOR if told else MINOR, what, where, times, "times the push in the shorter")


def norms_of(given: Any, unit: float | None = None) -> TokenNorms:
    """Lengths by position of one prompt, of several, or [prompts, positions] padded with NaN.

    Raises:
        ValueError: no numbers.
    """
    rows = [given] if np.ndim(given[0]) == 0 else list(given)
    arrays = [np.asarray(pd.Series(np.asarray(r, dtype=float)).dropna()) for r in rows]
    return TokenNorms("token norms", [x for x in arrays if len(x)], unit)
