"""Are these numbers, and of what? NaN and overflow, cosines that arithmetic bounds, raw units across models."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from lens_emotion.audits.finding import CRITICAL, MAJOR, MINOR, Fault, Reply, Seen, Unasked, layer_words
from lens_emotion.audits.subject import MEASURED, Subject, Table, VectorSet
from lens_emotion.stats.cosines import mean_pairwise_cosine

HALF_MAX = 65504.0  # the largest number of float16
NEAR = 0.75  # of the way from 0 to the bound, beyond which a mean cosine is the bound's
SURE = 3.0  # SDs that must lie between that and what random directions give
TIMES = 2.0  # ratio of sizes of two models, from which it matters what they are divided by


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
    else:
        yield Seen(f"{name}: {values.size:,} numbers are finite, the largest {most:.3g}")


def _finite_table(table: Table) -> Iterator[Reply]:
    if table.on_tokens:  # texts of this package that hold nothing have no perplexity, and say so
        return
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
    least, near = -1 / (n - 1), NEAR if n > 2 else 0.98
    by_chance = 1 / np.sqrt(d * n * (n - 1) / 2)  # SD of the mean cosine of random directions
    if -near * least < SURE * by_chance:
        yield Unasked(f"{n} random directions of {d} dimensions come as near to the bound {least:.3f} by chance")
        return
    found = mean_pairwise_cosine(torch.from_numpy(s.values[:, s.whole]).transpose(0, 1)).numpy()
    at = np.asarray(s.layers)[s.whole][found < near * least]
    if not len(at):
        yield Seen(f"{s.name}: mean cosine {found.min():.3f} to {found.max():.3f}, bound {least:.3f}")
        return
    forced = found[found < near * least]
    what = (
        f"the mean pairwise cosine is {forced.min():.4f} to {forced.max():.4f}, at its bound -1/({n} - 1) = "
        f"{least:.4f}: these vectors are centred on their own mean, which puts it there whatever the model"
    )
    where = f"{s.name}, {layer_words(map(int, at))}"
    yield Fault(MINOR, what, where, least, "of mean cosine is arithmetic, not separation")


def _bound_of_table(table: Table) -> Iterator[Reply]:
    frame = table.frame.dropna(subset=["cosine"])
    cosine = frame["cosine"].to_numpy(float)
    guessed = table.n_emotions is None
    n = table.n_emotions
    if n is None and len(cosine) > 2 and cosine.min() > -0.5 and cosine.max() < 0:
        n = int(np.floor(1 + 1 / -cosine.min() + 1e-9))  # the most classes whose bound lies below all of them
    if n is None and cosine.min() >= 0:
        yield Seen(f"{table.name}: every cosine is above 0, and the bound of any number of classes below it")
        return
    if n is None or n < 2:
        yield Unasked(f"{table.name} does not say of how many emotions its cosines are the mean (n_emotions=)")
        return
    least = -1 / (n - 1)
    forced = (cosine < NEAR * least) & (cosine > least - 0.01)
    if not forced.any() or (guessed and not forced.all()):
        yield Seen(f"{table.name}: cosines {cosine.min():.3f} to {cosine.max():.3f}, bound of {n} classes {least:.3f}")
        return
    chosen = _chosen(frame)
    of = f"{n} classes{' (as many as these cosines leave possible)' if guessed else ''}"
    what = (
        f"mean cosines of {cosine[forced].min():.4f} to {cosine[forced].max():.4f} lie at the bound -1/(n - 1) = "
        f"{least:.4f} of {of}, which centring forces"
    )
    if chosen is not None:
        what += f"; the best layer, {chosen:g}, is the smallest of these"
    where = f"{table.name}, {int(forced.sum())} of {len(cosine)} rows"
    span = float(cosine[forced].max() - cosine[forced].min())
    yield Fault(
        CRITICAL if chosen is not None else MAJOR, what, where, span, "of cosine is all that the layers differ by"
    )


def _chosen(frame: pd.DataFrame) -> float | None:
    """The layer that a table calls best, if it is that of the smallest cosine (in every model)."""
    if "best" not in frame or "layer" not in frame:
        return None
    groups = [g for _, g in frame.groupby("model")] if "model" in frame else [frame]
    found = []
    for group in groups:
        smallest = float(group["layer"].to_numpy(float)[int(group["cosine"].to_numpy(float).argmin())])
        flag = group["best"].map(lambda x: str(x).strip().lower() in ("true", "yes", "1", "1.0", "*"))
        marked = (
            group["layer"][flag]
            if flag.any() and group["best"].nunique() > 1
            else pd.to_numeric(group["best"], errors="coerce")
        )
        found.append(bool((marked.dropna() == smallest).any()))
    return smallest if found and all(found) else None


def raw_units(subject: Subject) -> Iterator[Reply]:
    """Sizes of several models side by side that are no multiples of the models' own."""
    for table in subject.tables:
        if not table.has("model") or table.frame["model"].nunique() < 2:
            continue
        sizes = [c for c in ("raw", "push") if table.has(c)] or [c for c in ("norm",) if table.has(c)]  # else its unit
        for column in sizes:
            yield from _raw_of_table(table, column)
    models = {s.model or s.name: s for s in subject.vectors if s.unit is not None}
    if len(models) > 1 and not subject.is_run:
        yield from _raw_of_sets(list(models.values()))
    elif subject.is_run and len(models) > 1:
        yield Seen(f"{len(models)} models: no table of the run sets raw sizes of models side by side")


def _raw_of_table(table: Table, column: str) -> Iterator[Reply]:
    frame = table.frame
    mean = frame.groupby("model")[column].mean().abs()
    raw = float(mean.max() / mean.min()) if mean.min() > 0 else np.inf
    beside = next((c for c in ("relative", "unit", "norm") if c != column and table.has(c)), None)
    if beside is None:
        if raw < TIMES:
            yield Seen(f"{table.name}: {column} of models differs by {raw:.2g} times")
        else:
            what = f"'{column}' of models differs by {raw:.3g} times, in units that are each model's own"
            yield Fault(
                MAJOR, what, f"{table.name}, {mean.idxmin()} to {mean.idxmax()}", raw, "times may be units alone"
            )
        return
    scaled = frame[beside] if beside == "relative" else frame[column] / frame[beside]
    of_model = scaled.groupby(frame["model"]).mean().abs()
    free = float(of_model.max() / of_model.min()) if of_model.min() > 0 else np.inf
    yield _compared(table.name, raw, free)


def _raw_of_sets(sets: list[VectorSet]) -> Iterator[Reply]:
    sizes = []
    for s in sets:
        middle = len(s.layers) // 2
        length = float(np.linalg.norm(s.values[:, middle], axis=-1).mean())
        assert s.unit is not None
        sizes.append((length, length / float(s.unit[middle])))
    raw, free = (float(max(x) / min(x)) if min(x) > 0 else np.inf for x in zip(*sizes, strict=True))
    reply = _compared(", ".join(s.name for s in sets), raw, free)
    yield Fault(MINOR, reply.what, reply.where, reply.moves, reply.unit) if isinstance(reply, Fault) else reply


def _compared(where: str, raw: float, free: float) -> Fault | Seen:
    if max(raw, free) / min(raw, free) < TIMES:
        return Seen(f"{where}: sizes differ by {raw:.3g} times raw and {free:.3g} over the models' own norms")
    what = f"sizes of models differ by {raw:.3g} times in raw units, and by {free:.3g} over the models' own norms"
    return Fault(MAJOR, what, where, raw / free, "times of that are units")
