"""run_study: models x methods, end to end, into a run folder that can be interrupted and continued."""

from __future__ import annotations

import time
from pathlib import Path

from lens_emotion.analysis.decoding import decoding
from lens_emotion.analysis.lens import lens
from lens_emotion.extraction.comprehension import default_stimuli
from lens_emotion.models.access import describe
from lens_emotion.models.loading import load_model, resolve
from lens_emotion.stimuli.library import load_stimuli
from lens_emotion.study.claims.over_models import all_claims, partner_of
from lens_emotion.study.config import StudyConfig
from lens_emotion.study.evidence import Evidence
from lens_emotion.study.judging import judge_model
from lens_emotion.study.results import ModelStudy, StudyRun
from lens_emotion.study.steps import Say, gather
from lens_emotion.study.store import Store, manifest
from lens_emotion.study.stored import write_facts
from lens_emotion.study.tables import write_tables
from lens_emotion.vectors.recipes import emotion_vectors


def _silent(model: str, doing: str) -> None:
    return None


def run_study(config: StudyConfig, folder: str | Path, command: str = "", say: Say = _silent) -> StudyRun:
    """Run every method on every model, then test the paper's claims; steps already in the folder are read back.

    Args:
        config: what to run.
        folder: run folder; made if it does not exist.
        command: the command line or call, for the manifest.
        say: told (model, step) as the study goes on.

    Returns:
        The results, also written as tables next to activations and vectors, and claims.json.

    Raises:
        LensEmotionError: unknown models, unreadable stimuli and unwritable folders are found before anything runs.
    """
    started = time.monotonic()
    for name in config.models:
        resolve(name)
    if config.stimuli:
        load_stimuli(config.stimuli)
    store = Store.open(folder)
    found: list[ModelStudy] = []
    paired: dict[str, Evidence] = {}  # only what a comparison of base and instruct will need stays in memory
    for name in config.models:
        evidence, study = _study_model(name, config, store, say)
        found.append(study)
        if partner_of(study.info.name, config.models):
            paired[study.info.name] = evidence
    claims = all_claims(found, paired, config)
    store.json("claims.json", claims.to_json())
    store.table("claims", claims.table)
    summary = [{"name": m.info.name, "fingerprint": m.info.fingerprint, "seconds": round(m.seconds, 1)} for m in found]
    facts = manifest(config, command, summary, time.monotonic() - started)
    store.json("manifest.json", facts)
    return StudyRun(str(store.root), facts, tuple(found), claims)


def _study_model(name: str, config: StudyConfig, run: Store, say: Say) -> tuple[Evidence, ModelStudy]:
    started = time.monotonic()
    say(name, "loading")
    model = load_model(name, backend=config.backend, dtype=config.dtype, device=config.device)
    info = describe(model)
    store = run.model(info.name)
    texts = load_stimuli(config.stimuli or default_stimuli(model))
    evidence = gather(model, info, texts, config, store, say)
    say(info.name, "analysing")
    acts = evidence.comprehension
    best = decoding(acts, n_permutations=1).best_layer
    tokens = lens(model, emotion_vectors(acts), best, seed=config.seed, acts=acts)
    del model
    study = judge_model(evidence, tokens, config, started)
    write_tables(study, store)
    write_facts(store, evidence, tokens)
    return evidence, study
