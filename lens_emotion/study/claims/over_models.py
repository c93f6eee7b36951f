"""The claims over all models of a run, and C8, which needs a base model and its instruct version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from lens_emotion.errors import AnalysisError
from lens_emotion.models.catalog import CATALOG, find_spec
from lens_emotion.run.config import StudyConfig
from lens_emotion.stats.tests import ALPHA
from lens_emotion.steering.architecture import by_architecture
from lens_emotion.steering.dose_result import DoseResponse
from lens_emotion.steering.regimes import ABOVE, BELOW
from lens_emotion.study.claims.methods import better_by_writing, other_readings, tuning
from lens_emotion.study.claims.methods import over_models as writing_over_models
from lens_emotion.study.claims.reading import (
    beyond_anisotropy,
    middle_layers,
    more_than_words,
    u_shape,
    without_neutral,
)
from lens_emotion.study.claims.smallest import smallest_of
from lens_emotion.study.claims.steering import causal, onset_of, other_languages, regimes
from lens_emotion.study.results import Evidence, ModelStudy
from lens_emotion.study.verdict import (
    ALL_MODELS,
    NOT_SUPPORTED,
    SUPPORTED,
    UNDETERMINED,
    Claim,
    Claims,
    Effect,
    combined,
    untestable,
)

UNIVERSAL = {"C2", "C3", "C6"}  # "whatever the architecture": one contradiction suffices
NO_PAIR = "no base model and its instruct version are both in this run"


def all_claims(models: Sequence[ModelStudy], paired: Mapping[str, Evidence], config: StudyConfig) -> Claims:
    """C1 to C8, and X1, on every model and over all of them.

    Args:
        paired: evidence of the models whose base or instruct partner is in the run too.
    """
    single = [c for m in models for c in m.claims]
    by_code = {code: [c for c in single if c.code == code] for code in ("C1", "C2", "C3", "C4", "C5", "C6", "C7", "X1")}
    overall = [
        writing_over_models(models, by_code["C1"]),
        *(combined(code, by_code[code], code in UNIVERSAL) for code in ("C2", "C3", "C4", "C5")),
        architecture(models, combined("C6", by_code["C6"], True)),
        entanglement(models, by_code["C7"]),
        *instruction_tuning(paired, config),
        combined("X1", by_code["X1"], universal=False),
    ]
    return Claims(tuple([*single, *overall]))


def partner_of(name: str, names: Sequence[str]) -> str | None:
    """The instruct version of a base model, or the other way round, if it is among `names` (catalog names)."""
    spec = find_spec(name)
    if spec is None or not spec.hub_id:
        return None
    present = {s.name for n in names if (s := find_spec(n)) is not None}
    same = [
        s.name
        for s in CATALOG
        if s.name in present
        and s.kind != spec.kind
        and (s.family, s.millions, s.n_layers, s.d_model) == (spec.family, spec.millions, spec.n_layers, spec.d_model)
    ]
    return same[0] if same else None


def architecture(models: Sequence[ModelStudy], regimes: Claim) -> Claim:
    """C6 over models: do the regimes occur in order in each, and does family rather than size set their onset?

    Both halves are needed: the order in every model, and family explaining the onset given size (p <= 0.05, in natural
    units), by more at least (lower end) than size could at most (upper end). Not supported if the order is
    contradicted, or size matters, and more, where family is not shown to. Where neither is shown, or both matter, the
    verdict stays open. One unit is one checkpoint, and models that do not break within their doses count as that.
    """
    onsets = onsets_of(models)
    try:
        test = by_architecture(onsets) if len(onsets) else None
    except AnalysisError:
        test = None  # no model breaks within its doses
    if test is None:
        unknown = (
            f"{regimes.reason}; that family sets the onset cannot be asked, since no model breaks within its doses"
        )
        return replace(regimes, verdict=UNDETERMINED, reason=unknown) if regimes.verdict == SUPPORTED else regimes
    natural = test.table[test.table.unit == "natural"].set_index("factor")
    family_p, size_p = float(natural.p["family"]), float(natural.p["log size"])
    by_family = family_p <= ALPHA and natural.least["family"] > natural.most["log size"]
    by_size = natural.spread["log size"] > natural.spread["family"]
    if regimes.verdict == NOT_SUPPORTED or (size_p <= ALPHA < family_p and by_size):
        verdict = NOT_SUPPORTED
    else:
        verdict = SUPPORTED if by_family and regimes.verdict == SUPPORTED else UNDETERMINED
    known, n = not np.isnan(test.variance_ratio), len(test.models)
    effect = Effect(
        "variance of log onset between models, natural / relative", test.variance_ratio, test.low, test.high
    )
    return Claim(
        "C6",
        ALL_MODELS,
        verdict,
        f"{regimes.reason}; family against size: {natural.verdict['family']}, {natural.verdict['log size']}",
        f"{regimes.sentence} {test.summary()[0].upper()}{test.summary()[1:]}.",
        effect if known else None,
        "1: the unit of dose makes no difference" if known else "",
        None if np.isnan(family_p) else family_p,
        f"{n} checkpoint{'s' * (n != 1)}",
    )


def onsets_of(models: Sequence[ModelStudy]) -> pd.DataFrame:
    """A row per steered model: model, checkpoint (base and instruct are one), family, size, onset_natural,
    onset_relative (NaN where text does not break within the doses), and the doses between which they lie."""
    rows = []
    for m in models:
        if m.steering is not None:
            natural, relative, why = onset_of(m.steering)
            spec = find_spec(m.info.name)
            twin = f"{m.info.family} {spec.millions:g} {spec.n_layers}" if spec else m.info.name
            facts = {"model": m.info.name, "checkpoint": twin, "family": m.info.family, "size": m.millions or np.nan}
            rows.append(facts | {"onset_natural": natural, "onset_relative": relative} | _ends(m.steering, why))
    return pd.DataFrame(rows)


def _ends(steering: DoseResponse, why: str) -> dict[str, float]:
    """Between which doses an onset lies that was not seen."""
    rows = steering.table[steering.table.condition == "emotion"]
    ends: dict[str, float] = {}
    for unit in ("natural", "relative"):
        doses = rows[f"dose_{unit}"]
        low, high = {ABOVE: (doses.max(), np.inf), BELOW: (0.0, doses.min())}.get(why, (np.nan, np.nan))
        ends |= {f"low_{unit}": float(low), f"high_{unit}": float(high)}
    return ends


def entanglement(models: Sequence[ModelStudy], per_model: Sequence[Claim]) -> Claim:
    """C7 over models: the paper claims it of Qwen, so Qwen models decide; the others stand beside them."""
    qwen = {m.info.name for m in models if m.info.family == "qwen"}
    mine = [c for c in per_model if c.scope in qwen]
    if not mine:
        return untestable("C7", ALL_MODELS, "no Qwen model is in this run")
    verdict = combined("C7", mine, universal=False)
    others = [f"{c.scope}: {c.verdict}" for c in per_model if c.scope not in qwen]
    beside = f"; other families: {', '.join(others)}" if others else ""
    sentence = verdict.sentence.rstrip(".") + beside + "."
    return replace(verdict, reason=verdict.reason + beside, sentence=sentence)


def instruction_tuning(paired: Mapping[str, Evidence], config: StudyConfig) -> list[Claim]:
    """C8: one claim per pair of base and instruct, and one over all pairs."""
    pairs = []
    for name, evidence in paired.items():
        other = partner_of(name, tuple(paired))
        if evidence.kind == "base" and other is not None:
            pairs.append(tuning(evidence, paired[other], smallest_of(config.smallest)["C8"], config.seed))
    if not pairs:
        return [untestable("C8", ALL_MODELS, NO_PAIR)]
    return [*pairs, combined("C8", pairs, universal=False)]


# The claims that one model can answer: C1 to C7, and X1.


def claims_of(evidence: Evidence, study: ModelStudy, config: StudyConfig) -> tuple[Claim, ...]:
    """C1 to C7 and X1 on one model, from its activations, its experiments and the analyses made of them."""
    name, n, seed, smallest = evidence.name, config.n_permutations, config.seed, smallest_of(config.smallest)
    reading, why = study.comprehension, next(iter(study.lacking.values()), "")
    beside = other_readings(study.versus, study.jeong, study.jeong_reading)
    left = without_neutral(evidence.comprehension, reading.decoding, evidence.plain, n, seed)
    steers = causal(name, evidence.steering, smallest["C5"])
    return (
        better_by_writing(name, evidence.bare, evidence.passages, beside, smallest["C1"], why, seed),
        middle_layers(name, reading.sweep),
        u_shape(name, reading.sweep, reading.separation),
        beyond_anisotropy(name, left, smallest["C4"]),
        steers,
        regimes(name, evidence.steering, smallest["C5"], steers),
        other_languages(name, evidence.steering, study.lens, study.leakage, study.leakage_everywhere, smallest["C7"]),
        more_than_words(name, study.words, smallest["X1"]),
    )
