"""What models say side by side, and analyses of one model beyond its card: read off stored runs, no model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lens_emotion.analysis.compare import ModelComparison, compare_models
from lens_emotion.analysis.families import RSAMatrix, rsa_many
from lens_emotion.analysis.geometry import Opposites, opposites
from lens_emotion.analysis.mixed import RANDOM, Mixed, decoding_rows, mixed_effects
from lens_emotion.analysis.rsa import HumanRSA, rsa_human
from lens_emotion.display import Brief
from lens_emotion.errors import AnalysisError, StimulusError
from lens_emotion.steering.architecture import ArchitectureTest, by_architecture
from lens_emotion.steering.verification import Verification, verification
from lens_emotion.study.claims.over_models import onsets_of
from lens_emotion.study.results import ModelStudy, StoredModel
from lens_emotion.study.verdict import Claims
from lens_emotion.vectors.recipes import emotion_vectors


@dataclass(frozen=True, eq=False, repr=False)
class Across(Brief):
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
    written = [
        (m.name, m.evidence.conditioned, m.evidence.comprehension)
        for m in models
        if m.evidence.conditioned and m.study.versus is not None
    ]
    preset = [
        (m.name, m.evidence.jeong, m.evidence.last_token)
        for m in models
        if m.evidence.jeong and m.study.versus_preset is not None
    ]
    layers = [m.study.comprehension.decoding.best_layer for m in models]
    acts = [(m.name, m.evidence.comprehension) for m in models]
    opposite, human = (None, None) if shown is None else _geometry(shown, seed)
    steered = {m.name: m.study.steering for m in models if m.study.steering is not None}
    onsets = onsets_of([m.study for m in models])
    return Across(
        models=tuple(models),
        claims=claims,
        methods=compare_models(written) if len(written) > 1 else None,
        presets=compare_models(preset) if len(preset) > 1 else None,
        rsa=rsa_many(acts, layers, seed=seed) if len(models) > 1 else None,
        architecture=by_architecture(onsets) if len(onsets) and onsets.onset_natural.count() > 1 else None,
        verification=verification(steered),
        opposites=opposite,
        human=human,
    )


def _geometry(model: StoredModel, seed: int) -> tuple[Opposites | None, HumanRSA | None]:
    vectors = emotion_vectors(model.evidence.comprehension)
    best = model.study.comprehension.decoding.best_layer
    try:
        return opposites(vectors, best, seed=seed), rsa_human(vectors, best, seed=seed)
    except StimulusError:
        return None, None


def mixed_of(models: Sequence[ModelStudy]) -> dict[str, Mixed]:
    """Held-out decoding at the middle layer ("mixed"), and what steering gives the target at the middle of its doses
    ("mixed_steering"), as mixed-effects models over emotions, topics or openings, and models; nothing decides on them.
    """
    outcomes = {
        "mixed": ([r for m in models for r in _decoded_rows(m)], "held-out decoding at half depth, right or wrong"),
        "mixed_steering": (
            [_steered_rows(m) for m in models if m.steering is not None],
            "target score over a random direction's at the middle dose",
        ),
    }
    found = {}
    for name, (rows, said) in outcomes.items():
        try:
            found[name] = mixed_effects(pd.concat(rows), "outcome", RANDOM, said)
        except (AnalysisError, ValueError):  # nothing to set side by side
            continue
    return found


def _facts(m: ModelStudy) -> dict[str, Any]:
    return {"model": m.info.name, "family": m.info.family, "size": m.millions}


def _decoded_rows(m: ModelStudy) -> list[pd.DataFrame]:
    """Of what was read, and of its own stories without their instruction, which names the emotion."""
    methods = {"comprehension": "reading", "generation, reread": "writing"}
    rows = [
        decoding_rows(x.decoding).assign(method=methods[x.name], **_facts(m)) for x in m.methods if x.name in methods
    ]
    return [r.rename(columns={"correct": "outcome"}) for r in rows]


def _steered_rows(m: ModelStudy) -> pd.DataFrame:
    assert m.steering is not None
    texts = m.steering.texts
    doses = sorted(texts["dose"].unique())
    at = texts[texts["dose"] == doses[len(doses) // 2]].set_index(["emotion", "scenario"])
    score = {c: at.loc[at["condition"] == c, "target_score"] for c in ("emotion", "random")}
    gain = (score["emotion"] - score["random"]).rename("outcome").reset_index()
    return gain.rename(columns={"scenario": "topic"}).assign(**_facts(m))
