"""run_study: models x methods, end to end, into a run folder that can be interrupted and continued."""

from __future__ import annotations

import time
from pathlib import Path

from lens_emotion.analysis.decoding import decoding
from lens_emotion.analysis.lens import lens
from lens_emotion.extraction.comprehension import default_stimuli
from lens_emotion.models.access import describe
from lens_emotion.models.loading import load_model
from lens_emotion.stimuli.library import load_stimuli
from lens_emotion.study.atlas import atlas
from lens_emotion.study.claims.over_models import all_claims, partner_of
from lens_emotion.study.config import StudyConfig
from lens_emotion.study.evidence import Evidence
from lens_emotion.study.inputs import check_inputs
from lens_emotion.study.judging import judge_model, same_geometry
from lens_emotion.study.lock import writing
from lens_emotion.study.results import ModelStudy, StudyRun
from lens_emotion.study.steps import Say, gather
from lens_emotion.study.store import Store, manifest
from lens_emotion.study.stored import write_facts
from lens_emotion.study.tables import write_tables
from lens_emotion.vectors.emotion_vectors import EmotionVectors
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
        LensEmotionError: unknown models, unreadable stimuli, unwritable folders and folders that another process
            writes into are found before anything runs. Results of before any other error are kept.
    """
    check_inputs(config)
    with writing(folder):
        return _run(config, Store.open(folder), command, say)


def _run(config: StudyConfig, store: Store, command: str, say: Say) -> StudyRun:
    started = time.monotonic()
    store.json("manifest.json", manifest(config, command, [], 0.0, done=False))
    found: list[ModelStudy] = []
    vectors: list[tuple[str, EmotionVectors]] = []
    paired: dict[str, Evidence] = {}  # only what a comparison of base and instruct will need stays in memory
    for name in config.models:
        evidence, study = _study_model(name, config.for_model(name), store, say)
        found.append(study)
        vectors.append((study.info.name, emotion_vectors(evidence.comprehension)))
        if partner_of(study.info.name, config.models):
            paired[study.info.name] = evidence
    claims = all_claims(found, paired, config)
    alike = same_geometry(vectors, config) if len(vectors) > 1 else None
    store.json("claims.json", claims.to_json())
    store.table("claims", claims.table)
    if alike:
        store.table("rsa", alike.table)
    summary = [{"name": m.info.name, "fingerprint": m.info.fingerprint, "seconds": round(m.seconds, 1)} for m in found]
    facts = manifest(config, command, summary, time.monotonic() - started)
    store.json("manifest.json", facts)
    store.close()
    return StudyRun(str(store.root), facts, tuple(found), claims, alike)


def _study_model(name: str, config: StudyConfig, run: Store, say: Say) -> tuple[Evidence, ModelStudy]:
    started = time.monotonic()
    say(name, "loading")
    model = load_model(name, backend=config.backend, dtype=config.dtype, device=config.device, quantise=config.quantise)
    info = describe(model)
    store = run.model(info.name, lambda said: say(info.name, said))
    texts = load_stimuli(config.stimuli or default_stimuli(model))
    evidence = gather(model, info, texts, config, store, say)
    say(info.name, "analysing")
    acts = evidence.comprehension
    best = decoding(acts, n_permutations=1).best_layer
    tokens = lens(model, emotion_vectors(acts), best, seed=config.seed, acts=acts)
    by_layer = atlas(model, acts, config, evidence.ratings)
    del model
    study = judge_model(evidence, tokens, by_layer, config, started)
    write_tables(study, store)
    write_facts(store, evidence, tokens)
    return evidence, study
