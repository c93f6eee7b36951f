"""run_study: models x methods, end to end, into a run folder that can be interrupted and continued."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from lens_emotion.files.user import shown
from lens_emotion.memory import room_for
from lens_emotion.run.config import DEFAULT_OUT, ConfigError, StudyConfig
from lens_emotion.run.inputs import check_inputs
from lens_emotion.run.lock import writing
from lens_emotion.run.look import places_before
from lens_emotion.run.places import Place, places_in
from lens_emotion.run.store import MANIFEST, Store, manifest
from lens_emotion.study.across import mixed_of
from lens_emotion.study.beside import EndedError, analyst
from lens_emotion.study.claims.over_models import all_claims
from lens_emotion.study.claims.published import protocols_of
from lens_emotion.study.one_model import Measured, Outcome, loaded, measure, same_geometry, written
from lens_emotion.study.results import ModelStudy, StudyRun
from lens_emotion.study.seal import sealed_before
from lens_emotion.study.steps import Say, silent
from lens_emotion.study.verdict import SealState
from lens_emotion.study.workers import Executor, distributed


def run_study(
    config: StudyConfig,
    folder: str | Path = DEFAULT_OUT,
    command: str = "",
    say: Say = silent,
    executor: Executor | None = None,
    seal: bool = False,
) -> StudyRun:
    """Run every method on every model, then test the paper's claims; steps already in the folder are read back.

    Args:
        config: what to run.
        folder: run folder; made if it does not exist; by default, as on the command line, runs/study.
        command: the command line or call, for the manifest.
        say: told (model, step) as the study goes on.
        executor: who runs the models; None for this process (see `executor_named`).
        seal: write sealed.json before any model is read (see `study.seal`); a run that has one keeps it.

    Returns:
        The results, also written as tables next to activations and vectors, and claims.json.

    Raises:
        LensEmotionError: unknown models, one model twice, unreadable stimuli, unwritable folders, those that hold what
            no study wrote or that another process writes into, and a seal that would come after the data, are found
            before anything runs.
            Results of before any other error are kept.
        OutOfMemoryError: likewise; what was asked for, and how to go on.

    Example:
        >>> config = le.StudyConfig(models=("tiny-llama",), n_permutations=20)
        >>> run = le.run_study(config, "runs/mine")  # doctest: +SKIP
    """
    if not isinstance(config, StudyConfig):
        raise ConfigError(
            f"config: expected a StudyConfig, got {shown(config)}; write le.run_study(le.StudyConfig(models=[...]))"
        )
    places = places_in(config.models, folder)
    check_inputs(config, here=executor is None)
    kept = f"finished models, steps and batches are kept in {folder}, where the same command goes on, with more memory"
    with writing(folder), room_for("studying", kept=kept):
        store = Store.open(folder)
        state = sealed_before(config, places, store, seal)
        return _run(config, places, store, command, say, executor, state)


def _run(
    config: StudyConfig,
    places: Sequence[Place],
    store: Store,
    command: str,
    say: Say,
    executor: Executor | None,
    seal: SealState,
) -> StudyRun:
    started = time.monotonic()
    sources = {place.name: place.source for place in places}
    sources |= {n: s for n, s in places_before(store.root).items() if n not in sources}
    store.json(MANIFEST, manifest(config, command, [], 0.0, sources, done=False, seal=seal.sha256))
    found = list(distributed(config, places, store, say, executor) if executor else _here(config, places, store, say))
    studies = tuple(o.study for o in found)
    claims = seal.marked(all_claims(studies, {o.study.info.name: o.evidence for o in found if o.evidence}, config))
    alike = same_geometry(found, config) if len(found) > 1 else None
    store.json("claims.json", claims.to_json())
    store.table("claims", claims.table)
    mixed = mixed_of(studies)
    protocols = protocols_of(studies, claims, alike)
    tables = {name: found.table for name, found in mixed.items()} | ({"rsa": alike.table} if alike else {})
    tables |= {"protocols": protocols.table, "published_numbers": protocols.numbers} if protocols else {}
    for name, table in tables.items():
        store.table(name, table)
    summary = [
        {"name": m.info.name, "fingerprint": m.info.fingerprint, "seconds": round(m.seconds, 1)} for m in studies
    ]
    facts = manifest(config, command, summary, time.monotonic() - started, sources, seal=seal.sha256)
    store.json(MANIFEST, facts)
    store.close()
    return StudyRun(str(store.root), facts, studies, claims, alike, mixed, seal, protocols)


def _here(config: StudyConfig, places: Sequence[Place], store: Store, say: Say) -> Iterator[Outcome]:
    """One model after the other in this process, one in memory at a time; each is analysed beside it while the next
    reads and writes."""
    with analyst(len(places)) as beside:
        before: Callable[[], Outcome] | None = None
        for left, place in zip(reversed(range(len(places))), places, strict=True):
            say(place.name, place.loading)
            own = config.for_model(place.asked)
            try:
                found = measure(partial(loaded, place, own), own, store, say)
                judged = beside.judged(found, at_once=left == 0)
            except Exception:
                if before:
                    before()  # it was measured, and is kept whatever becomes of the next
                raise
            if before:
                yield before()
            before = partial(_finished, found, judged, config, store)
            if judged.done():
                yield before()
                before = None


def _finished(found: Measured, judged: Future[ModelStudy], config: StudyConfig, store: Store) -> Outcome:
    try:
        study = judged.result()
    except EndedError:
        study = found.judged()
    return written(found, study, config.models, store)
