"""More than noise? And how far could two readings agree at all? Reliability, shuffled names, noise ceilings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Float

from lens_emotion.audits.finding import CRITICAL, MAJOR, MINOR, Fault, Reply, Seen, Unasked, layer_words
from lens_emotion.audits.subject import Arm, Subject, Table, VectorSet
from lens_emotion.audits.wording import listed, spread
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.stats.design import tied
from lens_emotion.stats.tests import max_corrected_p, p_text
from lens_emotion.vectors.recipes import emotion_vectors

ALPHA = 0.05
HALF = 0.5  # reliability below which noise is more than signal; a ceiling below which no agreement can be seen
OF_CEILING = 0.9  # of the noise ceiling, from which noise alone explains a disagreement
HIGH = 0.9  # a ceiling from which a disagreement is not noise
SHUFFLES = 999
ROUNDING = 1e-9


def noise(subject: Subject) -> Iterator[Reply]:
    """Differences that do not reproduce: over halves of the topics, beyond shuffled labels."""
    for arm in subject.arms:
        yield _noise_of(arm, subject.is_run)
    for table in subject.tables:
        if table.has("reliability"):
            yield from _noise_of_table(table)
    pairs = list(_alike(subject.vectors))
    for a, b in pairs:
        yield _shuffled(a, b)
    paired = {id(s) for pair in pairs for s in pair}
    read = {arm.model for arm in subject.arms}
    for s in subject.vectors:
        if id(s) not in paired and s.model not in read:
            yield Unasked(f"{s.name}: directions alone do not tell signal from noise; give activations, or two halves")


def _noise_of(arm: Arm, in_run: bool) -> Reply:
    design = arm.design
    if isinstance(design, str) or tied(design.copies):
        return Unasked(f"{arm.name}: {design if isinstance(design, str) else design.copies}")
    found = arm.by_layer
    if isinstance(found, str):
        return Unasked(f"{arm.name}: {found}")
    best = found.iloc[int(found["reliability"].fillna(-np.inf).to_numpy().argmax())]
    p = min(1.0, float(found["p"].min()))
    where = f"{arm.name}, best of {found['p'].count()} layers"
    if p > ALPHA and p <= arm.floor + ROUNDING:  # all that so few shuffles could say
        return Unasked(
            f"{where}: none of {arm.n_permutations} label shuffles does as well, but so few give no p below {p:.2g}"
        )
    if p > ALPHA:
        what = f"emotions are not told apart beyond shuffled labels ({p_text(p)}, corrected over layers)"
        return Fault(MAJOR if in_run else CRITICAL, what, where, float(best.reliability), "is all their reliability")
    if best.reliability < HALF:
        what = f"there is signal ({p_text(p)}), but more noise: split-half reliability {best.reliability:.2f}"
        share = 100 * (1 - float(best.reliability))
        return Fault(MINOR, what, where, share, "% of the variance of the vectors is noise")
    return Seen(f"{arm.name}: reliability {best.reliability:.2f}, {p_text(p)} over layers")


def _noise_of_table(table: Table) -> Iterator[Reply]:
    """The best reliability of each model and recipe, for one that is good says nothing of another."""
    frame = table.frame.dropna(subset=["reliability"])
    if (frame["reliability"].abs() > 1).any():
        most = frame["reliability"].abs().max()
        yield Unasked(f"{table.name}: a reliability is at most 1, not {most:g}; give shares, or a % behind them")
        return
    keys = [c for c in ("model", "method") if table.has(c)]
    groups = frame.groupby(keys, dropna=False)["reliability"].max() if keys else frame["reliability"].agg(["max"])
    for good in (True, False):
        held = groups[(groups >= HALF) == good].sort_values()
        if held.empty:
            continue
        called = f"{keys[0]}s" if len(keys) == 1 else "recipes of models"
        of = f" of {len(held)} of {len(groups)} {called}" if len(groups) > 1 else ""
        names = listed([" ".join(map(str, k)) if isinstance(k, tuple) else str(k) for k in held.index])
        where = f"{table.name}, {names}" if keys else table.name
        if good:
            yield Seen(f"{where}: the best reliability{of} is {spread(held.tolist())}")
            continue
        what = f"the best reliability{of} is {spread(held.tolist())}: more noise than signal"
        lost = 100 * (1 - max(float(held.min()), 0.0))
        yield Fault(MAJOR, what, where, lost, "% of the variance of the vectors is noise")


def _alike(sets: tuple[VectorSet, ...]) -> Iterator[tuple[VectorSet, VectorSet]]:
    """Pairs of sets of the same emotions, width and layers, of one model as far as is known."""
    for a, b in combinations(sets, 2):
        shared = [e for e in a.emotions if e in b.emotions]
        same = a.values.shape[2] == b.values.shape[2] and bool(set(a.layers) & set(b.layers))
        if same and len(shared) >= 2 and (a.model == b.model or not a.model or not b.model):
            yield a, b


def _shuffled(a: VectorSet, b: VectorSet) -> Reply:
    """Whether two sets know each other's emotions: cosines of equal names against those of shuffled names."""
    shared = [e for e in a.emotions if e in b.emotions]
    where = f"{a.name} against {b.name}"
    if len(shared) < 4:
        return Unasked(f"{where}: {len(shared)} shared emotions have too few orders for p < 0.05; 4 are needed")
    layers = [k for k in a.layers if k in b.layers]
    rows = [s.values[[s.emotions.index(e) for e in shared]][:, [s.layers.index(k) for k in layers]] for s in (a, b)]
    whole = np.isfinite(rows[0]).all((0, 2)) & np.isfinite(rows[1]).all((0, 2))
    if not whole.any():
        return Unasked(f"{where}: no layer at which both are finite")
    u, v = (_centred_units(x[:, whole].astype(float)) for x in rows)
    cosines = np.einsum("eld,fld->lef", u, v)
    observed = np.trace(cosines, axis1=1, axis2=2) / len(shared)
    rng, n = np.random.default_rng(0), len(shared)
    orders = np.array([rng.permutation(n) for _ in range(SHUFFLES)])
    null = cosines[:, np.arange(n)[None], orders].mean(-1).T
    p = float(np.min(max_corrected_p(observed, null)))
    best = float(observed.max())
    at = layer_words([int(np.asarray(layers)[whole][observed.argmax()])])
    if p > ALPHA:
        what = f"the vectors of one set do not know the emotions of the other beyond shuffled names ({p_text(p)})"
        return Fault(MAJOR, what, where, best, "is the best mean cosine of equal names (centred)")
    return Seen(f"{where}: cosine of equal names {best:.2f} at {at}, {p_text(p)}")


def _centred_units(rows: Float[np.ndarray, "e l d"]) -> Float[np.ndarray, "e l d"]:
    unit = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-30)
    left = unit - unit.mean(0)
    return left / np.maximum(np.linalg.norm(left, axis=-1, keepdims=True), 1e-30)


def ceiling(subject: Subject) -> Iterator[Reply]:
    """Two recipes or precisions whose disagreement is that of two noisy measurements, or is not."""
    for a, b in combinations(subject.arms, 2):
        if a.model == b.model and len(set(a.acts.emotions) & set(b.acts.emotions)) > 2:
            reply = _agreement(a, b)
            # a run says nothing of how its readings agree: where noise hides it, there is nothing to correct
            hidden = subject.is_run and isinstance(reply, Fault) and reply.severity == MAJOR
            yield Unasked(f"{reply.where}: {reply.what}") if hidden and isinstance(reply, Fault) else reply
    for table in subject.tables:
        if table.has("cosine", "reliability_a", "reliability_b"):
            yield from _agreement_of_table(table)
        elif table.has("cosine") and {"reliability_a", "reliability_b"} & set(table.frame):
            yield Unasked(f"{table.name} has the reliability of one side only (reliability_a, reliability_b)")
    if len(subject.vectors) > 1 and not subject.arms:
        yield Unasked("vectors without activations have no reliability; give both readings, or a table with "
                      "cosine, reliability_a and reliability_b")  # fmt: skip


@dataclass(frozen=True)
class Agreement:
    """Mean cosine of two sets of centred vectors at a layer, and the most that noise leaves of it."""

    layer: int
    cosine: float
    ceiling: float


def _agreement(a: Arm, b: Arm) -> Reply:
    where = f"{a.name} against {b.name}"
    if a.acts.values.shape[1:] != b.acts.values.shape[1:]:
        return Unasked(f"{where}: {a.acts.n_layers} and {b.acts.n_layers} layers")
    found_a, found_b = a.by_layer, b.by_layer
    if isinstance(found_a, str) or isinstance(found_b, str):
        return Unasked(f"{where}: {found_a if isinstance(found_a, str) else found_b}")
    product = found_a["reliability"].clip(0).to_numpy() * found_b["reliability"].clip(0).to_numpy()
    if np.isnan(product).all():
        return Unasked(f"{where}: no layer with a reliability of both")
    layer = int(np.nanargmax(product))
    found = Agreement(layer, _cosine(a.acts, b.acts, layer), float(np.sqrt(product[layer])))
    if _same_texts(a.acts, b.acts):
        return _same(found, a.acts, b.acts, where)
    return _judged(found.cosine, found.ceiling, f"{where}, layer {layer}")


def _cosine(a: PooledActivations, b: PooledActivations, layer: int) -> float:
    """Mean over shared emotions of the cosine of their centred vectors."""
    shared = [e for e in a.emotions if e in b.emotions]
    u, v = (emotion_vectors(x.of(*shared), "centred") for x in (a, b))
    rows = [w.directions[[w.emotions.index(e) for e in shared], layer] for w in (u, v)]
    return float((rows[0] * rows[1]).sum(-1).mean())


def _same_texts(a: PooledActivations, b: PooledActivations) -> bool:
    return {r.text for r in a.emotional.records} == {r.text for r in b.emotional.records}


def _same(found: Agreement, a: PooledActivations, b: PooledActivations, where: str) -> Reply:
    """Of the same texts: their noise is shared, so that nothing but the reading can part the vectors."""
    differ = [
        f
        for f in ("dtype", "backend", "pooling", "transformer_lens", "variant")
        if getattr(a.header, f) != getattr(b.header, f)
    ]
    at = f"{where}, layer {found.layer}"
    if set(differ) <= {"dtype", "backend", "transformer_lens"} and found.cosine < HIGH:
        what = (
            f"the same texts in another {' and '.join(differ) or 'reading'} part the vectors: cosine {found.cosine:.2f}"
        )
        return Fault(MAJOR, what, at, 1 - found.cosine, "of cosine is the reading's doing, not noise")
    return Seen(f"{at}: the same texts, so that noise is shared; cosine {found.cosine:.2f}")


def _judged(cosine: float, most: float, where: str) -> Reply:
    if most < HALF:
        what = f"cosine {cosine:.2f}, where two noisy readings of one thing would reach {most:.2f}: too little to tell"
        return Fault(MAJOR, what, where, 1 - most, "of cosine is lost to noise")
    if most < HIGH and cosine >= OF_CEILING * most:
        what = f"cosine {cosine:.2f} at a noise ceiling of {most:.2f}: the two do not disagree beyond noise"
        share = 100 * min(1.0, (1 - most) / max(1 - cosine, 1e-9))
        return Fault(MINOR, what, where, share, "% of the disagreement is noise")
    return Seen(f"{where}: cosine {cosine:.2f}, noise ceiling {most:.2f}, {cosine / most:.2f} without noise")


def _agreement_of_table(table: Table) -> Iterator[Reply]:
    """One reply for all the rows of which the same is to be said: that of the worst, and how many they are."""
    columns = ["cosine", "reliability_a", "reliability_b"]
    frame = table.frame.dropna(subset=columns)
    if frame.empty:
        yield Unasked(f"{table.name}: no row has a cosine and both reliabilities")
        return
    if (most := float(frame[columns].abs().to_numpy().max())) > 1 + ROUNDING:
        yield Unasked(f"{table.name}: cosines and reliabilities are at most 1, not {most:g}; give shares")
        return
    frame = frame.assign(most=(frame["reliability_a"].clip(0) * frame["reliability_b"].clip(0)) ** 0.5)
    names = [c for c in ("model", "method", "layer") if c in frame]
    replies: dict[str, list[tuple[int, Reply]]] = {}
    for i, row in enumerate(frame.to_dict("records")):
        of = ", ".join(f"{c} {listed([row[c]])}" for c in names if pd.notna(row[c])) or f"row {i + 1}"
        reply = _judged(float(row["cosine"]), float(row["most"]), f"{table.name}, {of}")
        replies.setdefault(reply.severity if isinstance(reply, Fault) else "", []).append((i, reply))
    for held in replies.values():
        yield held[0][1] if len(held) == 1 else _all_of(frame.iloc[[i for i, _ in held]], held, len(frame), table.name)


def _all_of(rows: pd.DataFrame, held: list[tuple[int, Reply]], n: int, name: str) -> Reply:
    """The fault that moves most, and how many rows say the same; the range of rows that are in order."""
    if faults := [reply for _, reply in held if isinstance(reply, Fault)]:
        worst = max(faults, key=lambda r: r.moves)
        return replace(worst, where=f"{worst.where} (the worst of {len(held)} such rows, of {n} in all)")
    cosines, ceilings = (spread(rows[c].tolist()) for c in ("cosine", "most"))
    return Seen(f"{name}: cosine {cosines}, noise ceiling {ceilings} in {len(held)} of {n} rows")
