"""What models say side by side, and analyses of one model beyond its card: read off stored runs, no model is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lens_emotion.analysis.compare import ModelComparison, compare_models
from lens_emotion.analysis.families import RSAMatrix, rsa_many
from lens_emotion.analysis.geometry import Opposites, opposites
from lens_emotion.analysis.rsa import HumanRSA, rsa_human
from lens_emotion.display import Brief
from lens_emotion.errors import AnalysisError, StimulusError
from lens_emotion.stats.tests import wilson_interval
from lens_emotion.steering.architecture import ArchitectureTest, by_architecture
from lens_emotion.study.claims.steering import onset_of
from lens_emotion.study.results import ModelStudy
from lens_emotion.study.stored import StoredModel
from lens_emotion.study.verdict import Claims
from lens_emotion.vectors.recipes import emotion_vectors

CROSSED, PAPER = "dose chosen on other scenarios", "the paper's form: target score above unsteered"


@dataclass(frozen=True, eq=False, repr=False)
class Verification(Brief):
    """Steering as an outside judge sees it, k of n scenarios beside controls.

    Attributes:
        table: model, form (the dose chosen on other scenarios and the success rule; or the paper's: target score above
            unsteered, at the best surgical dose of the same scenarios), condition (emotion, random, other), k, n, rate,
            low, high (95% Wilson), dose (as words), judge, judge_accuracy, chance (of the judge's task).
    """

    table: pd.DataFrame

    def summary(self) -> str:
        """k/n of every model and form, the controls in brackets."""
        parts = []
        for (form, model), rows in self.table.groupby(["form", "model"], sort=False):
            k = dict(zip(rows["condition"], rows["k"], strict=True))
            n = int(rows["n"].iloc[0])
            controls = ", ".join(f"{c} {k[c]}/{n}" for c in ("random", "other") if c in k)
            parts.append(f"{model}, {form}: {k['emotion']}/{n} ({controls})")
        return "; ".join(parts) + "."


@dataclass(frozen=True, eq=False)
class Across:
    """Several models side by side, and what is analysed of one of them beyond its card; None where something lacks.

    Attributes:
        claims: of the run; None where the models are of several runs.
        methods: writing (instruction in front) against reading. presets: the same for the paper's presets.
        rsa: every two models at their best layers. architecture: what the dose at which text breaks goes with.
        verification: None if no model was steered.
        opposites, human: opposite pairs and human ratings at the best layer of the model shown; None for several runs,
            or where too few emotions have what it takes.
    """

    models: tuple[StoredModel, ...]
    claims: Claims | None
    methods: ModelComparison | None
    presets: ModelComparison | None
    rsa: RSAMatrix | None
    architecture: ArchitectureTest | None
    verification: Verification | None
    opposites: Opposites | None
    human: HumanRSA | None


def across(
    models: Sequence[StoredModel], seed: int = 0, claims: Claims | None = None, shown: StoredModel | None = None
) -> Across:
    """Compare methods, geometry and onsets over models, which must have distinct names."""
    written = [(m.name, m.evidence.conditioned, m.evidence.comprehension) for m in models if m.evidence.conditioned]
    preset = [(m.name, m.evidence.jeong, m.evidence.last_token) for m in models if m.evidence.jeong]
    layers = [m.study.comprehension.decoding.best_layer for m in models]
    acts = [(m.name, m.evidence.comprehension) for m in models]
    opposite, human = (None, None) if shown is None else _geometry(shown, seed)
    verified = [row for m in models if m.study.steering is not None for row in _verified(m.study)]
    return Across(
        models=tuple(models),
        claims=claims,
        methods=compare_models(written) if len(written) > 1 else None,
        presets=compare_models(preset) if len(preset) > 1 else None,
        rsa=rsa_many(acts, layers, seed=seed) if len(models) > 1 else None,
        architecture=_architecture([m.study for m in models]),
        verification=Verification(pd.DataFrame(verified)) if verified else None,
        opposites=opposite,
        human=human,
    )


def _architecture(models: Sequence[ModelStudy]) -> ArchitectureTest | None:
    """Onsets by family and size, if at least two models break within their doses."""
    rows = []
    for m in models:
        if m.steering is not None:
            natural, relative, _ = onset_of(m.steering)
            facts = {"model": m.info.name, "family": m.info.family, "size": m.millions or np.nan}
            rows.append(facts | {"onset_natural": natural, "onset_relative": relative})
    known = pd.DataFrame(rows).dropna() if rows else pd.DataFrame()
    return by_architecture(known) if len(known) > 1 else None


def _geometry(model: StoredModel, seed: int) -> tuple[Opposites | None, HumanRSA | None]:
    vectors = emotion_vectors(model.evidence.comprehension)
    best = model.study.comprehension.decoding.best_layer
    try:
        return opposites(vectors, best, seed=seed), rsa_human(vectors, best, seed=seed)
    except StimulusError:
        return None, None


def _verified(m: ModelStudy) -> list[dict[str, object]]:
    """k of n scenarios in both forms."""
    steering = m.steering
    assert steering is not None
    base = {"model": m.info.name, "judge": steering.judge, "judge_accuracy": steering.judge_accuracy}
    base["chance"] = 1 / steering.n_emotions
    rows = []
    try:
        fitted = steering.cross_fitted()
        doses = " and ".join(dict.fromkeys("none" if pd.isna(d) else f"{d:g}" for d in fitted.table["dose"]))
        counts = {"emotion": fitted.success, "random": fitted.random, "other": fitted.other}
        rows += [base | {"form": CROSSED, "dose": doses} | r for r in _rates(counts, fitted.n)]
    except AnalysisError:
        pass  # one opening per emotion: no dose can be chosen on the other
    dose = steering.surgical_dose
    if dose is not None:
        at, control = steering.at(dose), steering.at(dose, "random")
        counts = {"emotion": at.moved, "random": control.moved, "other": at.get("other_moved")}
        rows += [base | {"form": PAPER, "dose": f"{dose:g}"} | r for r in _rates(counts, int(at.n))]
    return rows


def _rates(counts: Mapping[str, Any], n: int) -> list[dict[str, object]]:
    """One row per condition that was run."""
    rows: list[dict[str, object]] = []
    for condition, k in counts.items():
        if k is not None and not pd.isna(k):
            low, high = wilson_interval(int(k), n)
            rows.append({"condition": condition, "k": int(k), "n": n, "rate": k / n, "low": low, "high": high})
    return rows
