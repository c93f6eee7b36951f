"""What a study keeps of one model when it goes on to the next, and how it is made of a loaded model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lens_emotion.analysis.decoding import decoding
from lens_emotion.analysis.lens import Lens, lens
from lens_emotion.display import Brief
from lens_emotion.models.access import Model
from lens_emotion.models.loading import load_model
from lens_emotion.run.config import StudyConfig
from lens_emotion.run.store import Store
from lens_emotion.study.atlas import Atlas, atlas
from lens_emotion.study.claims.over_models import partner_of
from lens_emotion.study.exhibits import write_tables
from lens_emotion.study.judging import judge_model
from lens_emotion.study.results import Evidence, ModelStudy
from lens_emotion.study.steps import Say, gather, open_model
from lens_emotion.study.stored import write_facts
from lens_emotion.vectors.emotion_vectors import EmotionVectors
from lens_emotion.vectors.recipes import emotion_vectors


@dataclass(frozen=True, eq=False, repr=False)
class Outcome(Brief):
    """One model's part of a study.

    Attributes:
        study: its results.
        vectors: for the comparison of geometries.
        evidence: only where a comparison of base and instruct will need it, since activations are large.
    """

    study: ModelStudy
    vectors: EmotionVectors
    evidence: Evidence | None


def loaded(name: str, config: StudyConfig) -> Model:
    return load_model(name, backend=config.backend, dtype=config.dtype, device=config.device, quantise=config.quantise)


def study_model(
    load: Callable[[], Model], config: StudyConfig, names: Sequence[str], store: Store, say: Say
) -> Outcome:
    """Every method on one model, analysed and written into the run folder; stored steps are read back.

    Args:
        load: gives the model, which is let go before the analyses that do not need it.
        config: the settings of this model. names: all models of the study.
        store: the run folder.
    """
    started = time.monotonic()
    evidence, tokens, by_layer, own = _measured(load, config, store, say)
    study = judge_model(evidence, tokens, by_layer, config, started)
    write_tables(study, own)
    write_facts(own, evidence, tokens)
    kept = evidence if partner_of(evidence.name, names) else None
    return Outcome(study, emotion_vectors(evidence.comprehension), kept)


def _measured(
    load: Callable[[], Model], config: StudyConfig, store: Store, say: Say
) -> tuple[Evidence, Lens, Atlas, Store]:
    run = open_model(load(), config, store, say)
    evidence = gather(run)
    run.doing("analysing")
    acts = evidence.comprehension
    best = decoding(acts, n_permutations=1).best_layer
    tokens = lens(run.model, emotion_vectors(acts), best, seed=config.seed, acts=acts)
    return evidence, tokens, atlas(run.model, acts, config, evidence.ratings), run.store
