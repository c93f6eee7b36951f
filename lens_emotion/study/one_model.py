"""What a study does with one model: measure, analyse, test the claims, write, and what it keeps when it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

from lens_emotion.analysis.anisotropy import anisotropy
from lens_emotion.analysis.circumplex import circumplex, missing_norms
from lens_emotion.analysis.compare import Comparison, compare
from lens_emotion.analysis.decoding import decoding
from lens_emotion.analysis.families import RSAMatrix, rsa_many
from lens_emotion.analysis.geometry import similarity
from lens_emotion.analysis.layers import decoding_sweep
from lens_emotion.analysis.lens import Lens, lens
from lens_emotion.analysis.reliability import reliability
from lens_emotion.analysis.separation import separation
from lens_emotion.analysis.twins import TwinsApart, twins_apart
from lens_emotion.analysis.words import BeyondWords, beyond_words
from lens_emotion.display import Brief
from lens_emotion.errors import AnalysisError, LensEmotionError, StimulusError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.files.checksums import SEVERAL
from lens_emotion.memory import room_for
from lens_emotion.models.access import Model
from lens_emotion.models.forward import SMALL
from lens_emotion.models.loading import load_model
from lens_emotion.models.placement import choose_device
from lens_emotion.models.shapes import shape_of
from lens_emotion.models.threads import one_core
from lens_emotion.run.config import PRESET, WRITING, StudyConfig
from lens_emotion.run.places import Place
from lens_emotion.run.store import Store
from lens_emotion.study.atlas import Atlas, atlas
from lens_emotion.study.claims.over_models import claims_of, partner_of
from lens_emotion.study.claims.published import published_of
from lens_emotion.study.claims.steering import leakage_of
from lens_emotion.study.exhibits import analysed, write_tables
from lens_emotion.study.results import Evidence, JeongStudy, MethodStudy, ModelStudy
from lens_emotion.study.steps import Say, gather, open_model, silent
from lens_emotion.vectors.recipes import emotion_vectors

FACTS = "model.json"
SHUFFLES = 39  # behind the nulls of words and twins: p is at least 0.025
LOADED_WITH = ("backend", "dtype", "device", "quantise", "template")


@dataclass(frozen=True, eq=False, repr=False)
class Outcome(Brief):
    """One model's part of a study.

    Attributes:
        study: its results.
        middle: the texts at the middle layer, for the comparison of geometries.
        evidence: only where a comparison of base and instruct will need it, since activations are large.
    """

    study: ModelStudy
    middle: PooledActivations
    evidence: Evidence | None


@dataclass(frozen=True)
class LensFacts:
    """What model.json says of a logit lens; see `analysis.lens.Lens`."""

    layer: int
    n_layers: int
    model: str
    k: int
    n_random: int
    form: str


def loaded(place: Place, config: StudyConfig) -> Model:
    """The model of a place, under the name that it has there."""
    model = load_model(place.asked, **{setting: getattr(config, setting) for setting in LOADED_WITH})
    model.lens_emotion_name = place.name
    return model


@dataclass(frozen=True, eq=False, repr=False)
class Measured(Brief):
    """All that the analyses of a model need, which is let go.

    Attributes:
        lens, by_layer: what needed the model beyond its steps.
        config: the settings of this model. started: when its part of the study began, by the monotonic clock.
    """

    evidence: Evidence
    lens: Lens
    by_layer: Atlas
    config: StudyConfig
    started: float

    @property
    def size(self) -> int:
        """Bytes of activations."""
        held = [getattr(self.evidence, f.name) for f in fields(self.evidence)]
        return sum(acts.values.nbytes for acts in held if isinstance(acts, PooledActivations))

    def judged(self, say: Say = silent) -> ModelStudy:
        """Every analysis, and the paper's claims (see `judge_model`)."""
        say(self.evidence.name, "analysing")
        small = self.evidence.comprehension.d_model < SMALL
        with room_for(f"analysing {self.evidence.name}"), one_core(small):
            return judge_model(self.evidence, self.lens, self.by_layer, self.config, self.started)


def measured(given: tuple[Place, StudyConfig, Store], say: Say) -> Measured:
    """Load and measure a model: its place, its own settings, and the run folder."""
    place, own, store = given
    say(place.name, place.loading)
    return measure(partial(loaded, place, own), own, store, say)


def fits_beside(asked: str, own: StudyConfig) -> bool:
    """Whether a model is small enough to be measured while others are, each on one core of this machine."""
    with suppress(LensEmotionError):  # what is wrong with it is said when it is loaded
        shape = shape_of(asked) if SEVERAL and choose_device(own.device) == "cpu" else None
        return shape is not None and shape.d_model < SMALL
    return False


def study_model(
    load: Callable[[], Model], config: StudyConfig, names: Sequence[str], store: Store, say: Say
) -> Outcome:
    """Every method on one model, analysed and written into the run folder; stored steps are read back.

    Args:
        load: gives the model, which is let go before the analyses that do not need it.
        config: the settings of this model. names: all models of the study.
        store: the run folder.
    """
    found = measure(load, config, store, say)
    return written(found, found.judged(), names, store)


def written(found: Measured, study: ModelStudy, names: Sequence[str], store: Store) -> Outcome:
    """Write what was found on a model into its folder; what of it a study keeps."""
    evidence, own = found.evidence, store.model(found.evidence.name)
    write_tables(study, own)
    write_facts(own, evidence, found.lens)
    kept = evidence if partner_of(evidence.name, names) else None
    acts = evidence.comprehension
    at = [acts.n_layers // 2]
    middle = replace(acts, values=acts.values[:, at].clone(), residual_norm=acts.residual_norm[at])
    return Outcome(study, middle, kept)


def measure(load: Callable[[], Model], config: StudyConfig, store: Store, say: Say) -> Measured:
    """Run or read back whatever needs the model."""
    started = time.monotonic()
    model = load()
    with one_core(model.cfg.d_model < SMALL):
        run = open_model(model, config, store, say)
        evidence = gather(run)
        acts = evidence.comprehension
        best = decoding(acts, n_permutations=1).best_layer
        tokens = lens(run.model, emotion_vectors(acts), best, seed=config.seed, acts=acts)
        by_layer = atlas(run.model, acts, config, evidence.ratings)
    return Measured(evidence, tokens, by_layer, config, started)


def judge_model(evidence: Evidence, lens: Lens, by_layer: Atlas, config: StudyConfig, started: float) -> ModelStudy:
    """Every analysis of one model, and the paper's claims on it."""
    seed = config.seed
    reading = _method("comprehension", evidence.comprehension, config)
    lacking = dict(evidence.lacking)
    generation, versus = _written(evidence, config, lacking)
    jeong, versus_preset = _by_preset(evidence, config, lacking)
    vectors = emotion_vectors(evidence.comprehension)
    best = reading.decoding.best_layer
    ratings = evidence.ratings or None
    unrated = missing_norms(vectors.emotions, ratings)
    axes = None if unrated else circumplex(vectors, best, seed=seed, acts=evidence.comprehension, ratings=ratings)
    steering = evidence.steering
    study = ModelStudy(
        info=evidence.info,
        kind=evidence.kind,
        millions=evidence.millions,
        stimuli=evidence.stimuli,
        seconds=0.0,
        comprehension=reading,
        generation=generation,
        jeong=jeong,
        jeong_reading=_preset(evidence.last_token, config),
        versus=versus,
        versus_preset=versus_preset,
        anisotropy=anisotropy(evidence.comprehension, seed=seed),
        similarity=similarity(vectors, best),
        circumplex=axes,
        unrated=unrated,
        atlas=by_layer if axes is None else by_layer.with_best(axes),
        lens=lens,
        steering=steering,
        side_effects=steering.side_effects() if steering and steering.surgical_dose is not None else None,
        leakage=leakage_of(steering, evidence.stimuli),
        leakage_everywhere=leakage_of(evidence.everywhere, evidence.stimuli),
        judge=steering.judge if steering else "none",
        more=analysed(evidence, config),
        words=_words(evidence, config),
        twins=_twins(evidence, config),
        published=published_of(evidence, config),
        lacking=lacking,
    )
    claims = claims_of(evidence, study, config)
    return replace(study, claims=claims, seconds=time.monotonic() - started)


def _words(evidence: Evidence, config: StudyConfig) -> BeyondWords | str:
    """What the states tell beyond the words, or why that cannot be asked of these texts."""
    n = min(config.n_permutations, SHUFFLES)
    try:
        return beyond_words(evidence.comprehension, evidence.static, n_permutations=n, seed=config.seed)
    except StimulusError as error:
        return str(error)


def _twins(evidence: Evidence, config: StudyConfig) -> TwinsApart | None:
    """None where the set has no twins, or too few."""
    if evidence.twins is None:
        return None
    n = min(config.n_permutations, SHUFFLES)
    try:
        return twins_apart(evidence.comprehension, evidence.twins, evidence.static, None, n, config.seed)
    except StimulusError:
        return None


def _written(
    evidence: Evidence, config: StudyConfig, lacking: dict[str, str]
) -> tuple[tuple[MethodStudy, ...], Comparison | None]:
    """Every reading of the stories, and writing against reading; nothing, and why, where too few stories are left to
    tell emotions apart on topics that were held out."""
    writing = {"conditioned": evidence.conditioned, "reread": evidence.reread}
    try:
        found = tuple(_method(f"generation, {name}", a, config) for name, a in writing.items() if a is not None)
        return found, _compared(evidence.conditioned, evidence.comprehension, "decoding", config)
    except (StimulusError, AnalysisError) as error:
        lacking[WRITING] = _too_few(evidence.conditioned, error)
        return (), None


def _by_preset(
    evidence: Evidence, config: StudyConfig, lacking: dict[str, str]
) -> tuple[JeongStudy | None, Comparison | None]:
    """The same for the paper's presets."""
    written = evidence.jeong
    try:
        found = _preset(written, config) if written else None
        return found, _compared(written, evidence.last_token, "separation", config)
    except (StimulusError, AnalysisError) as error:
        lacking[PRESET] = _too_few(written, error)
        return None, None


def _too_few(written: PooledActivations | None, error: Exception) -> str:
    notes = "; ".join(written.header.notes) if written else ""
    return f"too few stories are left to tell emotions apart ({notes}): {error}" if notes else str(error)


def _compared(a: PooledActivations | None, b: PooledActivations, metric: str, config: StudyConfig) -> Comparison | None:
    return compare(a, b, metric, n_permutations=config.n_permutations, seed=config.seed) if a else None


def same_geometry(models: Sequence[Outcome], config: StudyConfig) -> RSAMatrix | None:
    """Do the models find the same emotions alike, each at its middle layer? None for too few shared ones, or topics."""
    given = [(m.study.info.name, m.middle) for m in models]
    try:
        found = rsa_many(given, n_permutations=10 * config.n_permutations, seed=config.seed)
    except (StimulusError, AnalysisError):
        return None
    at = {m.study.info.name: m.study.info.n_layers // 2 for m in models}  # of all layers, not of the one kept
    layers = {f"layer_{side}": found.table[side].map(at) for side in "ab"}
    return replace(found, table=found.table.assign(**layers))


def _method(name: str, acts: PooledActivations, config: StudyConfig) -> MethodStudy:
    n, seed = config.n_permutations, config.seed
    separated = separation(acts, n_permutations=n, seed=seed)
    return MethodStudy(
        name=name,
        header=acts.header,
        n_texts=len(acts),
        decoding=separated.decoding,
        sweep=decoding_sweep(separated.decoding, seed),
        separation=separated,
        reliability=reliability(acts, seed=seed, n_permutations=n),
    )


def _preset(acts: PooledActivations, config: StudyConfig) -> JeongStudy:
    result = separation(acts, "neutral", n_permutations=config.n_permutations, seed=config.seed)
    return JeongStudy(acts.header, len(acts), acts.n_layers // 2, result)


def write_facts(store: Store, evidence: Evidence, lens: Lens) -> Path:
    """Write what the tables and activations of a model's folder do not say."""
    facts = {name: getattr(evidence, name) for name in ("kind", "millions", "stimuli")}
    facts |= {"info": asdict(evidence.info), "lens": {f.name: getattr(lens, f.name) for f in fields(LensFacts)}}
    facts |= {"ratings": [asdict(rating) for rating in evidence.ratings]}
    return store.json(FACTS, facts)
