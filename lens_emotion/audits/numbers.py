"""Are these numbers, and of what? NaN and overflow, cosines that arithmetic bounds, raw units across models."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from lens_emotion.audits.finding import CRITICAL, MAJOR, MINOR, Fault, Reply, Seen, Unasked, layer_words
from lens_emotion.audits.subject import MEASURED, Subject, Table, VectorSet
from lens_emotion.audits.wording import listed
from lens_emotion.stats.cosines import mean_pairwise_cosine

HALF_MAX = 65504.0  # the largest number of float16
NEAR = 0.75  # of the way from 0 to the bound, beyond which a mean cosine is the bound's
SURE = 3.0  # SDs that must lie between that and what random directions give
TIMES = 2.0  # ratio of sizes of two models, from which it matters what they are divided by
ROUNDED = 0.005  # beyond what arithmetic allows, from which a number is no rounded mean cosine
LEAST_SPAN = 5e-5  # of cosine, below which rows do not differ
CANCELLED = 0.5  # mean size over mean absolute size, up to which signs cancel
PAIRED = re.compile(  # the first of two columns that name a pair
    r"^((?:emotion|concept|label|class|vector|word|name|feature|e)?[\W_]*)(a|1|i|first|x|from|left)$"
)
SECOND = {"a": "b", "1": "2", "i": "j", "first": "second", "x": "y", "from": "to", "left": "right"}


def finite(subject: Subject) -> Iterator[Reply]:
    """NaN, infinity, or numbers at the end of half precision, layer by layer."""
    parts = [(s.name, s.values, s.layers) for s in subject.vectors]
    parts += [(a.name, a.acts.values.numpy(), tuple(range(a.acts.n_layers))) for a in subject.arms]
    parts += [(name, x, tuple(range(x.shape[1]))) for name, x in subject.arrays.items()]
    for name, values, layers in parts:
        yield from _finite(name, values, layers)
    for table in subject.tables:
        yield from _finite_table(table)


def _finite(name: str, values: Float[np.ndarray, "n n_layers d"], layers: tuple[int, ...]) -> Iterator[Reply]:
    bad = [k for i, k in enumerate(layers) if not np.isfinite(values[:, i]).all()]
    if bad:
        share = 100 * len(bad) / len(layers)
        what = f"NaN or infinity at {len(bad)} of {len(layers)} layers"
        yield Fault(CRITICAL, what, f"{name}, {layer_words(bad)}", share, "% of the layers hold no number")
        return
    most = float(np.abs(values).max(initial=0))
    if (n := int((np.abs(values) == HALF_MAX).sum())) and most == HALF_MAX:
        yield Fault(MAJOR, f"{n} numbers are cut off at 65,504, the largest of float16", name, n, "numbers are cut off")
    elif most > HALF_MAX:
        what = f"the largest number, {most:,.0f}, is none in float16"
        yield Fault(MINOR, what, name, most / HALF_MAX, "times the largest number of float16")
    elif most == 0:
        yield Unasked(f"{name}: every number is 0, so that there is nothing that could have overflowed")
    else:
        yield Seen(f"{name}: {values.size:,} numbers are finite, the largest {most:.3g}")


def _finite_table(table: Table) -> Iterator[Reply]:
    if table.on_tokens:  # texts of this package that hold nothing have no perplexity, and say so
        return
    if table.unread:
        yield Unasked(f"{table.name}: columns that were not understood ({listed(table.unread)})")
    for column in (c for c in MEASURED if table.has(c)):
        values = table.frame[column].to_numpy(float)
        left, doubtful = table.empty(column)
        bad = ~np.isfinite(values) & ~left & ~doubtful
        if doubtful.any():
            yield Unasked(
                f"{table.name}: {column} is empty in {int(doubtful.sum())} of {len(values)} rows: left, or NaN?"
            )
        if not bad.any():
            if not doubtful.any():
                yield Seen(f"{table.name}: {column} is finite in {int((~left).sum())} rows")
            continue
        where = f"{table.name}, {column}, {int(bad.sum())} of {int((~left).sum())} rows"
        if "layer" in table.frame and (layers := table.frame["layer"][bad].dropna().astype(int)).size:
            where += f", {layer_words(set(layers))}"
        share = 100 * float(bad[~left].mean())
        severity = CRITICAL if np.isinf(values).any() or share >= 25 else MAJOR
        yield Fault(severity, f"{column} is NaN, infinite or missing", where, share, "% of the rows hold no number")


def bound(subject: Subject) -> Iterator[Reply]:
    """A mean pairwise cosine near -1/(n - 1), where centring n vectors on their own mean puts it."""
    for s in subject.vectors:
        yield from _bound_of_set(s)
    for table in subject.tables:
        if table.has("cosine") and not {"reliability_a", "reliability_b"} & set(table.frame):
            yield from _bound_of_table(table)


def _bound_of_set(s: VectorSet) -> Iterator[Reply]:
    n, _, d = s.values.shape
    if n < 2 or not s.whole.any():
        yield Unasked(f"{s.name} is a single vector" if n < 2 else f"{s.name} has no layer with all its vectors")
        return
    least = -1 / (n - 1)
    by_chance = 1 / np.sqrt(d * n * (n - 1) / 2)  # SD of the mean cosine of random directions
    if -_near(n) * least < SURE * by_chance:
        yield Unasked(f"{n} random directions of {d} dimensions come as near to the bound {least:.3f} by chance")
        return
    found = mean_pairwise_cosine(torch.from_numpy(s.values[:, s.whole]).transpose(0, 1)).numpy()
    at = np.asarray(s.layers)[s.whole][found < _near(n) * least]
    if not len(at):
        yield Seen(f"{s.name}: mean cosine {_span(found, 3)}, bound {least:.3f}")
        return
    what = (
        f"the mean pairwise cosine is {_span(found[found < _near(n) * least], 4)}, at its bound -1/({n} - 1) = "
        f"{least:.4f}: these vectors are centred on their own mean, which puts it there whatever the model"
    )
    where = f"{s.name}, {layer_words(map(int, at))}"
    yield Fault(MINOR, what, where, least, "of mean cosine is arithmetic, not separation")


def _near(n: float) -> float:
    """The way from 0 to the bound, beyond which a mean cosine of n vectors is the bound's."""
    return NEAR if n > 2 else 0.98


def _span(values: np.ndarray, digits: int) -> str:
    """The least and the largest, or the one number that both are as written."""
    low, high = (f"{x:.{digits}f}" for x in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def _bound_of_table(table: Table) -> Iterator[Reply]:
    """Every row beside the bound of its own number of classes."""
    frame = table.frame.dropna(subset=["cosine"])
    cosine = frame["cosine"].to_numpy(float)
    if not (np.abs(cosine) <= 1 + ROUNDED).all():
        wrong = cosine[~(np.abs(cosine) <= 1 + ROUNDED)][0]
        yield Unasked(f"{table.name}: {wrong:g} is no cosine, which lies between -1 and 1 (are these percent?)")
        return
    if by := _pair_columns(table):
        yield Unasked(
            f"{table.name}: its cosines are of single pairs ({by}), and the bound is that of a mean over pairs"
        )
        return
    if cosine.min() >= 0:
        yield Seen(f"{table.name}: no cosine is below 0, and the bound of any number of classes is")
        return
    n, guessed = _n_of_rows(table, frame)
    if n is None or not (n >= 2).all():
        yield Unasked(f"{table.name} does not say of how many emotions its cosines are the mean (n_emotions=)")
        return
    least = -1 / (n - 1)
    if (low := cosine < least - ROUNDED).any():
        i = int(low.argmax())
        why = f"{cosine[i]:.3f} is below {least[i]:.3f}, the least that a mean cosine of {n[i]:g} classes can be"
        yield Unasked(f"{table.name}: {why}")
        return
    forced = cosine < least * [_near(k) for k in n]
    if guessed and not forced.all():
        yield Unasked(f"{table.name} does not say of how many emotions its cosines are the mean (n_emotions=)")
        return
    if forced.any():
        yield _at_bound(table, frame, n, forced, guessed)
        return
    yield Seen(f"{table.name}: cosines {_span(cosine, 3)}, bound of {_classes(n)} {_span(least, 3)}")


def _classes(n: np.ndarray) -> str:
    return f"{_span(n, 0)} classes"


def _pair_columns(table: Table) -> str:
    """Columns that name both sides of a pair ("emotion_a", "emotion_b"), if a table has such."""
    names = {str(c).strip().casefold() for c in (*table.unread, *table.frame)}
    found = [c for c in names if (m := PAIRED.match(c)) and f"{m[1]}{SECOND[m[2]]}" in names] + sorted(names & {"pair"})
    return min(found, default="")


def _n_of_rows(table: Table, frame: pd.DataFrame) -> tuple[np.ndarray | None, bool]:
    """How many classes each row is about: as it says, as was told of all; guessed where each layer has one row."""
    said = pd.Series(np.nan if table.n_emotions is None else float(table.n_emotions), index=frame.index)
    if "n_classes" in frame and frame["n_classes"].notna().any():
        return frame["n_classes"].fillna(said).to_numpy(float), False
    if table.n_emotions is not None:
        return said.to_numpy(float), False
    cosine = frame["cosine"].to_numpy(float)
    by = [c for c in ("model", "method", "condition", "layer") if c in frame]
    if "layer" not in by or frame.duplicated(by).any() or len(cosine) < 3 or cosine.min() <= -0.5 or cosine.max() >= 0:
        return None, True
    most = np.floor(1 + 1 / -cosine.min() + 1e-9)  # the most classes whose bound lies below all of them
    return np.full(len(cosine), most), True


def _at_bound(table: Table, frame: pd.DataFrame, n: np.ndarray, forced: np.ndarray, guessed: bool) -> Fault:
    cosine, kinds = frame["cosine"].to_numpy(float)[forced], n[forced]
    what = (
        f"{'mean cosines of' if len(cosine) > 1 else 'a mean cosine of'} {_span(cosine, 4)} at the bound -1/(n - 1) = "
        f"{_span(-1 / (kinds - 1), 4)} of {_classes(kinds)}"
    )
    what += " (as many as these cosines leave possible)" if guessed else ""
    what += ", which centring forces"
    chosen = _chosen(frame)
    if len(chosen) == 1:
        what += f"; the best layer, {chosen[0]}, is the smallest of these"
    elif chosen:
        what += f"; the best layers, {', '.join(chosen)}, are the smallest of their models"
    where = table.name + (f", {int(forced.sum())} of {len(n)} rows" if len(n) > 1 else "")
    severity = CRITICAL if chosen else MAJOR
    spans = [float(np.ptp(cosine[kinds == k])) for k in np.unique(kinds)]
    if max(spans) < LEAST_SPAN:
        return Fault(severity, what, where, float((-1 / (kinds - 1)).max()), "of mean cosine is arithmetic")
    among = "layers" if "layer" in frame and frame["layer"].nunique() > 1 else "rows"
    return Fault(severity, what, where, max(spans), f"of cosine is all that the {among} differ by")


def _chosen(frame: pd.DataFrame) -> list[str]:
    """The layer that a table calls best, of each model, if it is that of the smallest cosine in all of them."""
    if "best" not in frame or "layer" not in frame:
        return []
    groups = list(frame.groupby("model")) if "model" in frame else [("", frame)]
    found = []
    for model, group in groups:
        smallest = float(group["layer"].to_numpy(float)[int(group["cosine"].to_numpy(float).argmin())])
        flag = group["best"].map(lambda x: str(x).strip().lower() in ("true", "yes", "1", "1.0", "*"))
        marked = (
            group["layer"][flag]
            if flag.any() and group["best"].nunique() > 1
            else pd.to_numeric(group["best"], errors="coerce")
        )
        if not (marked.dropna() == smallest).any():
            return []
        found.append(f"{smallest:g}" + (f" ({model})" if len(groups) > 1 else ""))
    return found


def raw_units(subject: Subject) -> Iterator[Reply]:
    """Sizes of several models side by side that are no multiples of the models' own."""
    for table in subject.tables:
        if not table.has("model") or table.frame["model"].nunique() < 2:
            continue
        sizes = [c for c in ("raw", "push") if table.has(c)]
        if not sizes and table.has("norm") and not table.has("position"):  # lengths of tokens are no size that is told
            sizes = ["norm"]
        for column in sizes:
            yield _raw_of_table(table, column)
    models = {s.model or s.name: s for s in subject.vectors if s.unit is not None}
    if len(models) > 1 and not subject.is_run:
        yield _raw_of_sets(list(models.values()))
    elif subject.is_run and len(models) > 1:
        yield Seen(f"{len(models)} models: no table of the run sets raw sizes of models side by side")


def _raw_of_table(table: Table, column: str) -> Reply:
    """Means of each model over the layers, doses and emotions that all of them have."""
    beside = next((c for c in ("relative", "unit", "norm") if c != column and table.has(c)), None)
    frame = table.frame.dropna(subset=["model"]).replace([np.inf, -np.inf], np.nan)
    frame = frame.dropna(subset=[column] if beside is None else [column, beside])
    frame = _in_common(frame)
    if frame["model"].nunique() < 2:
        return Unasked(f"{table.name}: '{column}' is not there for two models at the same dose, emotion or condition")
    if signed := [c for c in (column, beside) if c and _signed(frame[c], frame["model"])]:
        return Unasked(f"{table.name}: '{signed[0]}' of a model is 0, or of both signs, and has no ratio")
    raw = frame[column].groupby(frame["model"]).mean().abs()
    if beside is None:
        times = float(raw.max() / raw.min())
        if times < TIMES:
            return Unasked(
                f"{table.name}: '{column}' of models differs by {times:.2g} times; over their own norms, which are not "
                "there, it may differ by more"
            )
        what = f"'{column}' of models differs by {times:.3g} times, in units that are each model's own"
        return Fault(MAJOR, what, f"{table.name}, {raw.idxmin()} to {raw.idxmax()}", times, "times may be units alone")
    scaled = frame[beside] if beside == "relative" else frame[column] / frame[beside]
    return _compared(table.name, raw, scaled.groupby(frame["model"]).mean().abs())


def _in_common(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows that every model has, of the same layer too where there are such."""
    by = [c for c in ("method", "condition", "emotion", "dose", "prompt_tokens") if c in frame]
    models = frame["model"].nunique()
    for keys in ([*by, "layer"], by):
        keys = [c for c in keys if c in frame]
        if not keys:
            continue
        kept = frame[frame.groupby(keys, dropna=False)["model"].transform("nunique") == models]
        if len(kept):
            return kept
    return frame if not by else frame[:0]


def _signed(sizes: pd.Series, model: pd.Series) -> bool:
    """Whether sizes of a model cancel each other, or are 0."""
    means = sizes.groupby(model).mean().abs()
    return not (means > CANCELLED * sizes.abs().groupby(model).mean()).all()


def _raw_of_sets(sets: list[VectorSet]) -> Reply:
    raw, free = {}, {}
    for s in sets:
        middle = len(s.layers) // 2
        assert s.unit is not None
        raw[s.name] = float(np.linalg.norm(s.values[:, middle], axis=-1).mean())
        free[s.name] = raw[s.name] / float(s.unit[middle])
    if not all(0 < x < np.inf for x in (*raw.values(), *free.values())):
        return Unasked(f"{', '.join(raw)}: vectors or norms in the middle layer that have no length above 0")
    reply = _compared(", ".join(raw), pd.Series(raw), pd.Series(free))
    return replace(reply, severity=MINOR) if isinstance(reply, Fault) else reply


def _compared(where: str, raw: pd.Series, free: pd.Series) -> Fault | Seen:
    """The two models whose own norms differ most: their sizes raw, and over these norms."""
    raw, free = (pd.Series(x.to_numpy(), index=x.index.astype(str)) for x in (raw, free))
    norm = raw / free
    a, b = str(norm.idxmax()), str(norm.idxmin())
    times, over = float(raw[a] / raw[b]), float(free[a] / free[b])
    if times / over < TIMES:
        return Seen(
            f"{where}: sizes differ by {_apart(raw):.3g} times raw and {_apart(free):.3g} over the models' norms"
        )
    what = (
        f"sizes of models differ by units: {a} is {times:.3g} times as large as {b} in raw units, and {over:.3g} times "
        "over the models' own norms"
    )
    return Fault(MAJOR, what, where, times / over, "times is what the units do to that ratio")


def _apart(sizes: pd.Series) -> float:
    return float(sizes.max() / sizes.min())
