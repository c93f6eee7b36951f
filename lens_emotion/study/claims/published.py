"""The claims by the published rules, beside ours, and which ingredient of the protocol parts the two.

The abstract of arXiv 2604.04064 states results, not thresholds. What is public of its rules is in the author's code of
April; the rest is inferred here in the weakest form that the sentence of the claim allows, and every row says so. Each
number comes with the control that the published rule does not look at, computed by us on the same states and texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lens_emotion.analysis.compare import unpaired
from lens_emotion.analysis.families import RSAMatrix
from lens_emotion.errors import LensEmotionError, StimulusError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.models.catalog import find_spec
from lens_emotion.presets.jeong import best_layer, extract_generation
from lens_emotion.presets.numbers import compared
from lens_emotion.presets.protocol import Regimes, regimes
from lens_emotion.run.config import StudyConfig
from lens_emotion.stats.cosines import mean_pairwise_cosine
from lens_emotion.stats.tests import p_text
from lens_emotion.steering.dose_result import DoseResponse
from lens_emotion.stimuli.emotions import OPPOSITE_PAIRS
from lens_emotion.study.claims.over_models import partner_of
from lens_emotion.study.claims.steering import leakage_of
from lens_emotion.study.results import Evidence, ModelStudy, PublishedStudy
from lens_emotion.study.verdict import ALL_MODELS, NOT_SUPPORTED, NOT_TESTABLE, SUPPORTED, Claims, Judged, Protocols

CODES = ("C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8")
ALPHA = 0.05
RULES: dict[str, tuple[str, str]] = {  # rule, and what of it is inferred
    "C1": (
        "the mean cosine of the vectors is lower for writing than for reading",
        "per model; over models it is public",
    ),
    "C2": ("the layer of the lowest mean cosine of centred vectors lies in the middle third", "the middle third"),
    "C3": ("that curve is lowest inside, and higher at both ends", "the rule; a U by eye"),
    "C4": ("the vectors' mean cosine lies below that of neutral texts at half depth", "the rule"),
    "C5": ("the target's score rises in more than half of the scenarios, at the best dose", "more than half; the dose"),
    "C6": (
        "every model has one regime, by words between spaces; families differ and their members agree",
        "the latter",
    ),
    "C7": ("any steered text holds a letter of another script", "any text; the paper shows examples"),
    "C8": ("tuning lowers the cosine of writing, and by more than it changes that of reading", "the rule"),
}


class Found(NamedTuple):
    """What a published rule says of one model."""

    verdict: str
    number: str = ""
    control: str = ""
    why: tuple[str, ...] = ()  # what of the protocol may make it say yes where ours does not
    less: tuple[str, ...] = ("a lowest cosine of few texts decides, of ours held-out accuracy of all of them",)  # or no


def published_of(evidence: Evidence, config: StudyConfig) -> PublishedStudy | None:
    """A model's states and texts by the published protocol; None in a study of ours alone."""
    if config.protocol == "ours":
        return None
    try:
        layers = best_layer(evidence.last_token, config.n_permutations, config.seed)
    except StimulusError as error:
        return PublishedStudy(str(error), evidence.published, {}, evidence.suppression, None, {})
    steering = evidence.published
    texts = {} if steering is None else _regimes(steering)
    leaked = leakage_of(steering, evidence.stimuli)
    return PublishedStudy(layers, steering, texts, evidence.suppression, leaked, _cosines(evidence))


def _regimes(steering: DoseResponse) -> Mapping[str, Regimes]:
    found = {str(c): regimes(rows.text.tolist()) for c, rows in steering.texts.groupby("condition")}
    return found | {"unsteered": regimes(steering.unsteered.text.tolist())}


def _cosines(evidence: Evidence) -> dict[str, float]:
    """Cosines with a published counterpart: neutral texts' last tokens, and the vectors of writing at half depth."""
    plain, n = evidence.last_token.neutral, evidence.info.n_layers
    found = {}
    if len(plain) > 1:
        at = {"25": n // 4, "50": n // 2, "75": 3 * n // 4}
        cosines = mean_pairwise_cosine(plain.values.transpose(0, 1)).tolist()
        found = {f"anisotropy at {share}% depth": cosines[layer] for share, layer in at.items()}
    return found if evidence.jeong is None else found | _of_writing(evidence.jeong)


def _of_writing(written: PooledActivations) -> dict[str, float]:
    try:
        vectors = extract_generation(written)
    except LensEmotionError:  # too little was written
        return {}
    half = vectors.n_layers // 2
    found = {"mean cosine, writing": float(mean_pairwise_cosine(vectors.directions[:, half]))}
    for a, b in OPPOSITE_PAIRS:
        if a in vectors and b in vectors:
            found[f"cosine {a}/{b}"] = float(vectors[a].at(half) @ vectors[b].at(half))
    return found


# What the published rules say of one model.


def _c1(m: ModelStudy, p: PublishedStudy) -> Found:
    if m.jeong is None:
        return Found(NOT_TESTABLE, "the model's own stories by the preset are not there")
    a, b = (x.separation.table.iloc[x.layer] for x in (m.jeong, m.jeong_reading))
    why = ["one token a text was read, of ours the mean of all"]
    if not m.jeong.distinguishable:
        why.insert(0, "noise lowers a cosine: the stories' own states do not tell the emotions apart")
    if bare := next((x for x in m.generation if x.name.endswith("reread")), None):
        top = [float(x.decoding.table.accuracy.max()) for x in (m.generation[0], bare)]
        why.append(f"the instruction, which names the emotion, is read back (accuracy {top[0]:.2f}, bare {top[1]:.2f})")
    return Found(
        SUPPORTED if a.mean_cosine < b.mean_cosine else NOT_SUPPORTED,
        f"{a.mean_cosine:.2f} written, {b.mean_cosine:.2f} read",
        f"permuted labels {a.null_low:.2f} to {a.null_high:.2f} and {b.null_low:.2f} to {b.null_high:.2f}; held-out "
        f"accuracy of the same states {a.accuracy:.2f} and {b.accuracy:.2f}, chance {a.chance:.2f}",
        tuple(why),
    )


def _c2(m: ModelStudy, p: PublishedStudy) -> Found:
    if isinstance(p.layers, str):
        return Found(NOT_TESTABLE, p.layers)
    x = p.layers
    best = m.comprehension.sweep.best_depth
    why = [f"the last token of three passages an emotion was read; held-out decoding of all is best at {best:.0%}"]
    if x.p > ALPHA:
        why.insert(0, f"the cosine lies at its bound {x.bound:.3f} whatever the labels: its lowest layer says nothing")
    return Found(
        SUPPORTED if x.in_the_middle else NOT_SUPPORTED,
        f"lowest at depth {x.depth:.0%}, mean cosine {x.table.mean_cosine.min():.4f}",
        f"bound {x.bound:.4f}, {p_text(x.p)} against permuted labels; {x.middle_by_chance:.0%} of these are lowest in "
        "the middle third",
        tuple(why),
    )


def _c3(m: ModelStudy, p: PublishedStudy) -> Found:
    if isinstance(p.layers, str):
        return Found(NOT_TESTABLE, p.layers)
    x, curve = p.layers, p.layers.table.mean_cosine
    return Found(
        SUPPORTED if x.dips else NOT_SUPPORTED,
        f"mean cosine {curve.iloc[0]:.4f} at the first layer, {curve.min():.4f} at {x.depth:.0%}, {curve.iloc[-1]:.4f} "
        "at the last",
        f"{x.dips_by_chance:.0%} of permuted labels give such a curve; bound {x.bound:.4f}",
        (
            f"no test: {x.dips_by_chance:.0%} of permuted labels give such a curve",
            "a cosine was taken, of ours held-out accuracy",
        ),
    )


def _c4(m: ModelStudy, p: PublishedStudy) -> Found:
    baseline = p.cosines.get("anisotropy at 50% depth")
    if isinstance(p.layers, str) or baseline is None:
        return Found(NOT_TESTABLE, p.layers if isinstance(p.layers, str) else "fewer than two neutral texts")
    row = p.layers.table.iloc[p.layers.layer]
    return Found(
        SUPPORTED if row.mean_cosine < baseline else NOT_SUPPORTED,
        f"{row.mean_cosine:.3f} at the best layer against {baseline:.3f} of neutral texts",
        f"permuted labels {row.null_low:.3f} to {row.null_high:.3f}, below the same baseline",
        ("vectors around their own mean lie below any baseline: those of permuted labels do, too",),
    )


def _c5(m: ModelStudy, p: PublishedStudy) -> Found:
    if p.steering is None:
        return Found(NOT_TESTABLE, "the published steering was not run")
    rows = p.steering.table[p.steering.table.condition == "emotion"]
    dose = float(rows.dose.iloc[int(rows.moved.to_numpy().argmax())])
    mine, random = p.steering.at(dose), p.steering.at(dose, "random")
    why = [f"no control: random directions raise it in {random.moved:.0f} of {random.n:.0f}"]
    why.append("the dose was chosen on the scenarios that are counted")
    if p.suppression:
        why.append(f"the first token makes the unit of dose {p.suppression.inflation:.1f} times as long")
    return Found(
        SUPPORTED if 2 * mine.moved > mine.n else NOT_SUPPORTED,
        f"{mine.moved:.0f} of {mine.n:.0f} at dose {dose:g} (published 37 of 40)",
        f"random directions of the same length {random.moved:.0f} of {random.n:.0f}",
        tuple(why),
        _small_doses(p.steering),
    )


def _small_doses(steering: DoseResponse) -> tuple[str, ...]:
    """That the published doses are small in natural units, where they are."""
    most = float(steering.table.dose_natural.max())
    ran = f"the published doses, at all layers, end at {most:.2f} natural units each"
    kept = set(steering.table.regime[steering.table.condition == "emotion"])
    return (f"{ran} ({', '.join(sorted(kept))} by our thresholds); ours run from inert to broken text",)


def _c6(m: ModelStudy, p: PublishedStudy) -> Found:
    if not p.regimes:
        return Found(NOT_TESTABLE, "the published steering was not run")
    said = {name: x.regime for name, x in p.regimes.items()}
    why = ["one label is given to all doses at once, and every text set has one"]
    if p.regimes["emotion"].hangs:
        why.insert(0, "words stand between spaces: with the characters of scripts without them the label is another")
    return Found(
        NOT_TESTABLE,
        f"{said['emotion']}: the claim is over families",
        f"random directions {said['random']}, unsteered {said['unsteered']}",
        tuple(why),
    )


def _c7(m: ModelStudy, p: PublishedStudy) -> Found:
    if p.leakage is None:
        return Found(NOT_TESTABLE, "the published steering was not run")
    most = p.leakage.table.groupby("condition").texts.max()
    before = float(most.get("unsteered", 0.0))
    return Found(
        SUPPORTED if most["emotion"] > before else NOT_SUPPORTED,
        f"{most['emotion']:.0%} of the texts at the dose with most",
        f"random directions {most['random']:.0%}, unsteered {before:.0%}",
        ("letters of another script were counted, not words of the emotion", "no control by random directions"),
        () if p.steering is None else _small_doses(p.steering),
    )


_OF_A_MODEL = {"C1": _c1, "C2": _c2, "C3": _c3, "C4": _c4, "C5": _c5, "C6": _c6, "C7": _c7}


# Over models.


def _over(code: str, models: Sequence[ModelStudy], found: Sequence[Found]) -> Found:
    """Of the rows of a run: the test that is public for C1, else "in every model" ("in any" for C7: of Qwen)."""
    if code == "C1":
        told = [(m, f) for m, f in zip(models, found, strict=True) if m.jeong is not None]
        return _c1_over([m for m, _ in told], [f for _, f in told]) if told else found[0]
    if code == "C6":
        return _c6_over(models)
    if code == "C8":
        return _c8(models)
    asked = [(m, f) for m, f in zip(models, found, strict=True) if code != "C7" or m.info.family == "qwen"]
    names = [m.info.name for m, f in asked if f.verdict != NOT_TESTABLE]
    tested = [f for _, f in asked if f.verdict != NOT_TESTABLE]
    if not tested:
        return Found(NOT_TESTABLE, "no Qwen model is in this run" if code == "C7" else found[0].number)
    ayes = sum(f.verdict == SUPPORTED for f in tested)
    holds = ayes > 0 if code == "C7" else ayes == len(tested)
    control = "each model's own, in its row" if len(tested) > 1 else tested[0].control
    why = _said([f.why for f in tested], names)
    less = _said([f.less if f.verdict != SUPPORTED else () for f in tested], names)
    number = f"in {ayes} of {len(tested)} models" if len(tested) > 1 else tested[0].number
    return Found(SUPPORTED if holds else NOT_SUPPORTED, number, control, why, less)


def _said(sentences: Sequence[Sequence[str]], names: Sequence[str]) -> tuple[str, ...]:
    """Every sentence once, with the models that it is said of where it is not said of all."""
    by: dict[str, list[str]] = {}
    for mine, name in zip(sentences, names, strict=True):
        for sentence in dict.fromkeys(mine):
            by.setdefault(sentence, []).append(name)
    return tuple(s if len(of) == len(names) else f"{', '.join(of)}: {s}" for s, of in by.items())


def _c1_over(models: Sequence[ModelStudy], found: Sequence[Found]) -> Found:
    if len(models) < 2:
        return found[0]
    pairs = [(m.jeong.mean_cosine, m.jeong_reading.mean_cosine) for m in models if m.jeong]
    a, b = np.array(pairs, dtype=float).T
    test = unpaired(a, b)
    p = float(str(test["p"]))
    noise = sum(not m.jeong.distinguishable for m in models if m.jeong)
    return Found(
        SUPPORTED if p < ALPHA and a.mean() < b.mean() else NOT_SUPPORTED,
        f"{a.mean():.2f} written, {b.mean():.2f} read, Mann-Whitney {p_text(p)}, d {float(str(test['d'])):.2f} "
        "(published p = 0.007, d = -107.5)",
        f"in {noise} of {len(models)} models the stories' states do not tell the emotions apart",
        (
            "models and both methods are taken as independent, which they are not",
            *_said([f.why for f in found], [m.info.name for m in models]),
        ),
        (f"Mann and Whitney's test of {len(models)} models is unpaired, and needs 4 to reach 0.05",),
    )


def _c6_over(models: Sequence[ModelStudy]) -> Found:
    label = {m.info.name: m.published.regimes for m in models if m.published and m.published.regimes}
    if not label:
        return Found(NOT_TESTABLE, "the published steering was not run")
    families: dict[str, set[str]] = {}
    for m in models:
        if m.info.name in label:
            families.setdefault(m.info.family, set()).add(label[m.info.name]["emotion"].regime)
    number = ", ".join(f"{name} {x['emotion'].regime}" for name, x in label.items())
    control = ", ".join(f"{name} {x['random'].regime}" for name, x in label.items())
    why = ["with one model a family every difference goes with the family", "random directions give labels as well"]
    if any(x["emotion"].hangs for x in label.values()):
        why.insert(0, "words stand between spaces")
    if len(families) < 2:
        return Found(NOT_TESTABLE, f"{number}: one family only", f"random directions: {control}", tuple(why))
    agree = all(len(regimes) == 1 for regimes in families.values())
    differ = len({r for regimes in families.values() for r in regimes}) > 1
    verdict = SUPPORTED if agree and differ else NOT_SUPPORTED
    less = ("one label a model, of ours the dose at which text breaks, with family and size in one model",)
    return Found(verdict, number, f"random directions: {control}", tuple(why), less)


def _c8(models: Sequence[ModelStudy]) -> Found:
    known = {m.info.name: m for m in models if m.jeong is not None}
    pairs = [(m, known[o]) for m in known.values() if m.kind == "base" and (o := partner_of(m.info.name, tuple(known)))]
    if not pairs:
        return Found(NOT_TESTABLE, "no base model and its instruct version are both in this run")
    gains = [(b.jeong.mean_cosine - a.jeong.mean_cosine, b.jeong_reading.mean_cosine - a.jeong_reading.mean_cosine)
             for a, b in pairs if a.jeong and b.jeong]  # fmt: skip
    holds = all(written < 0 and -written > abs(read) for written, read in gains)
    said = "; ".join(
        f"{a.info.name}: {written:+.2f} written, {read:+.2f} read"
        for (a, _), (written, read) in zip(pairs, gains, strict=True)
    )
    noise = sum(not m.jeong.distinguishable for pair in pairs for m in pair if m.jeong)
    return Found(
        SUPPORTED if holds else NOT_SUPPORTED,
        said,
        f"{noise} of {2 * len(pairs)} models' stories do not tell the emotions apart",
        ("noise lowers a cosine", "the instruction, which names the emotion, is read back", "no interval"),
    )


def protocols_of(models: Sequence[ModelStudy], claims: Claims, alike: RSAMatrix | None = None) -> Protocols | None:
    """C1 to C8 by the published rules, beside ours, on every model and over all of them, and the published numbers
    beside ours; None in a study of ours alone.

    Args:
        claims: our verdicts. alike: geometries of every two models.
    """
    asked = [m for m in models if m.published is not None]
    if not asked:
        return None
    ours = {(c.code, c.scope): c.verdict for c in claims.claims}
    rows = []
    for code in CODES:
        one = _OF_A_MODEL.get(code)
        found = [one(m, m.published) for m in asked if one and m.published]
        named = [*zip((m.info.name for m in asked), found, strict=False), (ALL_MODELS, _over(code, asked, found))]
        rows += [_judged(code, scope, f, ours.get((code, scope), NOT_TESTABLE)) for scope, f in named]
    measured = {m.info.name: _measured(m) for m in asked}
    return Protocols(tuple(rows), compared(measured, _measured_over(asked, alike)))


def _judged(code: str, scope: str, found: Found, ours: str) -> Judged:
    rule, inferred = RULES[code]
    differs = found.verdict != ours and found.verdict != NOT_TESTABLE
    why = "; ".join(found.why if found.verdict == SUPPORTED else found.less) if differs else ""
    if differs and ours == NOT_TESTABLE:
        why = f"ours was not run or lacks texts; {why}"
    return Judged(code, scope, rule, inferred, found.number, found.control, found.verdict, ours, why)


def _measured(m: ModelStudy) -> dict[str, float]:
    """Our numbers by the published protocol, under the names of `presets.numbers`."""
    assert m.published
    found = dict(m.published.cosines)
    if not isinstance(m.published.layers, str):
        found["best depth"] = m.published.layers.depth
    if (table := m.published.suppression) is not None:
        for name in (table.steered, table.suppressed):
            means = table.means(name)
            found |= {f"{name} {when} steering to {table.steered}": float(means[when]) for when in ("before", "after")}
    return found


def _measured_over(models: Sequence[ModelStudy], alike: RSAMatrix | None) -> dict[str, float]:
    """Of checkpoints that the paper names or seems to use; tiny models and others say nothing of its numbers."""
    real = {m.info.name: m for m in models if (spec := find_spec(m.info.name)) and spec.paper}
    found: dict[str, float] = {}
    if alike is not None and len(real) > 1:
        pairs = alike.table[alike.table.a.isin(list(real)) & alike.table.b.isin(list(real))]
        twins = [partner_of(a, tuple(real)) == b for a, b in zip(pairs.a, pairs.b, strict=True)]
        family = [real[a].info.family == real[b].info.family for a, b in zip(pairs.a, pairs.b, strict=True)]
        others, own = pairs.rho[~np.array(family, bool)], pairs.rho[np.array(twins, bool)]
        name = "geometry between models of other families"
        found |= {f"{name}, least rho": others.min(), f"{name}, greatest rho": others.max()} if len(others) else {}
        found |= {"geometry between base and instruct, least rho": own.min()} if len(own) else {}
    moved = [m.published.steering.table for m in real.values() if m.published and m.published.steering is not None]
    if moved:
        best = [t[t.condition == "emotion"].sort_values("moved").iloc[-1] for t in moved]
        found["scenarios whose target score rose"] = sum(r.moved for r in best) / sum(r.n for r in best)
    return found
