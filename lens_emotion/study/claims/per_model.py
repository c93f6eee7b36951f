"""The claims that one model can answer: C1 to C7."""

from __future__ import annotations

from lens_emotion.study.claims.methods import better_by_writing
from lens_emotion.study.claims.reading import beyond_anisotropy, middle_layers, u_shape
from lens_emotion.study.claims.steering import causal, other_languages, regimes
from lens_emotion.study.config import StudyConfig
from lens_emotion.study.evidence import Evidence
from lens_emotion.study.results import ModelStudy
from lens_emotion.study.verdict import Claim


def claims_of(evidence: Evidence, study: ModelStudy, config: StudyConfig) -> tuple[Claim, ...]:
    """C1 to C7 on one model, from its activations, its experiments and the analyses made of them."""
    name, n, seed = evidence.name, config.n_permutations, config.seed
    reading = study.comprehension
    return (
        better_by_writing(name, study.versus, study.versus_preset, study.jeong, study.jeong_reading),
        middle_layers(name, reading.sweep),
        u_shape(name, reading.sweep, reading.separation),
        beyond_anisotropy(name, evidence.comprehension, reading.decoding, n, seed),
        causal(name, evidence.steering),
        regimes(name, evidence.steering),
        other_languages(name, evidence.steering, study.lens, study.leakage),
    )
