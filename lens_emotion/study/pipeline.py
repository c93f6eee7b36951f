"""run_study: models x methods, end to end, into a run folder that can be interrupted and continued."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
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
from lens_emotion.study.beside import Crew, Stage, crew
from lens_emotion.study.claims.over_models import all_claims
from lens_emotion.study.claims.published import protocols_of
from lens_emotion.study.one_model import Measured, Outcome, fits_beside, measured, same_geometry, written
from lens_emotion.study.results import ModelStudy, StudyRun
from lens_emotion.study.seal import sealed_before
from lens_emotion.study.steps import Say, silent
from lens_emotion.study.verdict import SealState
from lens_emotion.study.workers import Executor, distributed


def _may_go_beside(given: tuple[Place, StudyConfig, Store]) -> bool:
    place, own, _ = given
    return fits_beside(place.asked, own)


STAGES = (
    Stage(0, measured, lambda given: 0 if _may_go_beside(given) else None),
    Stage(1, Measured.judged, lambda found: found.size),
)
Then = Callable[[ModelStudy, Store], object]


def run_study(
    config: StudyConfig,
    folder: str | Path = DEFAULT_OUT,
    command: str = "",
    say: Say = silent,
    executor: Executor | None = None,
    seal: bool = False,
    shared: Crew | None = None,
    then: Then = lambda study, store: None,
) -> StudyRun:
    """Run every method on every model, then test the paper's claims; steps already in the folder are read back.

    Args:
        config: what to run.
        folder: run folder; made if it does not exist; by default, as on the command line, runs/study.
        command: the command line or call, for the manifest.
        say: told (model, step) as the study goes on.
        executor: who runs the models; None for this machine (see `executor_named`).
        seal: write sealed.json before any model is read (see `study.seal`); a run that has one keeps it.
        shared: processes that are there already (see `beside.crew`); None begins some, and ends them.
        then: given each model's results and the run folder once they are written, without an executor.

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
        return _run(config, places, store, command, say, executor or shared, state, then)


def _run(
    config: StudyConfig,
    places: Sequence[Place],
    store: Store,
    command: str,
    say: Say,
    by: Executor | Crew | None,
    seal: SealState,
    then: Then,
) -> StudyRun:
    started = time.monotonic()
    sources = {place.name: place.source for place in places}
    sources |= {n: s for n, s in places_before(store.root).items() if n not in sources}
    store.json(MANIFEST, manifest(config, command, [], 0.0, sources, done=False, seal=seal.sha256))
    if by is None or isinstance(by, Crew):
        with nullcontext(by) if by else crew(len(places)) as shared:
            found = list(_here(config, places, store, say, shared, then))
    else:
        found = list(distributed(config, places, store, say, by))
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


def _here(
    config: StudyConfig, places: Sequence[Place], store: Store, say: Say, shared: Crew, then: Then
) -> Iterator[Outcome]:
    """On this machine. A large model is alone in memory, and analysed beside while the next one reads and writes; of
    small ones every process has its own."""
    given = [(place, config.for_model(place.asked), store) for place in places]
    shared.grow(sum(_may_go_beside(each) for each in given))
    error, chains = None, deque(shared.begin(each, STAGES, say) for each in given)
    while chains:  # what was measured is let go once it is written
        try:
            found, study = shared.results(chains.popleft())
        except Exception as failed:  # what else was measured is kept all the same
            error = error or failed
            continue
        made = written(found, study, config.models, store)
        del found
        then(study, store)
        yield made
    if error:
        raise error
