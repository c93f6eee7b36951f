"""run_study: models x methods, end to end, into a run folder that can be interrupted and continued."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from lens_emotion.errors import StimulusError
from lens_emotion.files.user import is_user_file
from lens_emotion.models.loading import check_quantise, resolve
from lens_emotion.run.config import StudyConfig
from lens_emotion.run.keys import PRESET, STEERING, WRITING, prompts_for, scenarios_for, steps_of, texts_for
from lens_emotion.run.lock import writing
from lens_emotion.run.store import Store, manifest
from lens_emotion.steering.judge_files import read_judge_file, words_of
from lens_emotion.stimuli.emotions import NEUTRAL
from lens_emotion.stimuli.sets import StimulusSet
from lens_emotion.study.claims.over_models import all_claims
from lens_emotion.study.one_model import Outcome, loaded, same_geometry, study_model
from lens_emotion.study.results import StudyRun
from lens_emotion.study.steps import Say
from lens_emotion.study.workers import Executor, distributed


def _silent(model: str, doing: str) -> None:
    return None


def run_study(
    config: StudyConfig, folder: str | Path, command: str = "", say: Say = _silent, executor: Executor | None = None
) -> StudyRun:
    """Run every method on every model, then test the paper's claims; steps already in the folder are read back.

    Args:
        config: what to run.
        folder: run folder; made if it does not exist.
        command: the command line or call, for the manifest.
        say: told (model, step) as the study goes on.
        executor: who runs the models; None for this process (see `executor_named`).

    Returns:
        The results, also written as tables next to activations and vectors, and claims.json.

    Raises:
        LensEmotionError: unknown models, unreadable stimuli, unwritable folders and folders that another process
            writes into are found before anything runs. Results of before any other error are kept.
    """
    check_inputs(config)
    with writing(folder):
        return _run(config, Store.open(folder), command, say, executor)


def _run(config: StudyConfig, store: Store, command: str, say: Say, executor: Executor | None) -> StudyRun:
    started = time.monotonic()
    store.json("manifest.json", manifest(config, command, [], 0.0, done=False))
    found = list(distributed(config, store, say, executor) if executor else _here(config, store, say))
    studies = tuple(o.study for o in found)
    claims = all_claims(studies, {o.study.info.name: o.evidence for o in found if o.evidence}, config)
    alike = same_geometry([(o.study.info.name, o.vectors) for o in found], config) if len(found) > 1 else None
    store.json("claims.json", claims.to_json())
    store.table("claims", claims.table)
    if alike:
        store.table("rsa", alike.table)
    summary = [
        {"name": m.info.name, "fingerprint": m.info.fingerprint, "seconds": round(m.seconds, 1)} for m in studies
    ]
    facts = manifest(config, command, summary, time.monotonic() - started)
    store.json("manifest.json", facts)
    store.close()
    return StudyRun(str(store.root), facts, studies, claims, alike)


def _here(config: StudyConfig, store: Store, say: Say) -> Iterator[Outcome]:
    """One model after the other in this process, one in memory at a time."""
    for name in config.models:
        say(name, "loading")
        own = config.for_model(name)
        yield study_model(partial(loaded, name, own), own, config.models, store, say)


def check_inputs(config: StudyConfig) -> None:
    """Check what is given, before anything is loaded: do emotions, prompts, scenarios and judge go together?

    Raises:
        LensEmotionError: an unknown model, a file with a fault, emotions that prompts, scenarios or judge lack.
    """
    for name in config.models:
        resolve(name)
        own = config.for_model(name)
        check_quantise(own.quantise)
        texts = texts_for(name, own.stimuli)
        _check_neutral(texts)
        for step in steps_of(own):
            if step in (WRITING, PRESET):
                _check_prompts(step, own, texts)
            elif step == STEERING:
                _check_steering(own, texts)


def _check_neutral(texts: StimulusSet) -> None:
    if all(item.emotion != NEUTRAL for item in texts.items):
        raise StimulusError(
            f"the stimulus set '{texts.name}' has no text of emotion '{NEUTRAL}', which a study compares with; add one "
            "for each topic, or use lens-emotion extract"
        )


def _check_prompts(step: str, config: StudyConfig, texts: StimulusSet) -> None:
    have = {p.emotion for p in prompts_for(step, config, texts)}
    if missing := [e for e in (*texts.emotions, NEUTRAL) if e not in have]:
        raise StimulusError(
            f"{config.prompts or 'the story prompts of the package'} ask for no {', '.join(missing)}, which "
            f"'{texts.name}' holds; give a file of prompts (prompts = ...), or leave writing out (generation = false, "
            "--no-generation)"
        )


def _check_steering(config: StudyConfig, texts: StimulusSet) -> None:
    wanted = {s.emotion for s in scenarios_for(config, texts)}
    if not wanted:
        raise StimulusError(
            f"{config.scenarios or 'the scenarios of the package'} have none of the emotions of '{texts.name}' "
            f"({', '.join(texts.emotions)}); give a file of scenarios (scenarios = ...), or leave steering out "
            "(steering = false, --no-steering)"
        )
    if not (config.judge and is_user_file(config.judge)):
        return
    file = read_judge_file(config.judge)
    known = set(words_of(file)) if file.data.kind == "words" else set(file.data.labels or wanted)
    if missing := sorted(wanted - known):
        raise StimulusError(f"the judge {config.judge} knows no {', '.join(missing)}, towards which is steered; add it")
