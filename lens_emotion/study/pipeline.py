"""run_study: models x methods, end to end, into a run folder that can be interrupted and continued."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from lens_emotion.analysis.anisotropy import anisotropy
from lens_emotion.analysis.decoding import decoding
from lens_emotion.analysis.geometry import circumplex, similarity
from lens_emotion.analysis.layers import layer_sweep
from lens_emotion.analysis.reliability import reliability
from lens_emotion.analysis.separation import separation
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.extraction.comprehension import default_stimuli, extract_comprehension
from lens_emotion.extraction.generation import GeneratedActivations, extract_generation
from lens_emotion.models.access import Model, ModelInfo, describe
from lens_emotion.models.catalog import find_spec
from lens_emotion.models.decoding import Sampling
from lens_emotion.models.loading import load_model, resolve
from lens_emotion.models.prompting import has_chat_template
from lens_emotion.steering.experiment import DoseResponse, dose_response
from lens_emotion.steering.io import load_dose_response, save_dose_response
from lens_emotion.steering.judges import Judge, encoder_judge, states_judge, word_count_judge, world_words
from lens_emotion.stimuli.library import PASSAGES, WORLDS, load_stimuli
from lens_emotion.stimuli.prompts import scenarios
from lens_emotion.stimuli.reading import read_stimulus_file, write_stimulus_file
from lens_emotion.stimuli.sets import StimulusSet
from lens_emotion.study.config import StudyConfig
from lens_emotion.study.results import JeongStudy, MethodStudy, ModelStudy, StudyRun
from lens_emotion.study.store import Store, manifest
from lens_emotion.study.tables import write_tables
from lens_emotion.vectors.emotion_vectors import EmotionVectors
from lens_emotion.vectors.recipes import emotion_vectors

Say = Callable[[str, str], None]  # (model, what is being done)


def _silent(model: str, doing: str) -> None:
    return None


def run_study(config: StudyConfig, folder: str | Path, command: str = "", say: Say = _silent) -> StudyRun:
    """Run every method on every model; steps already in the folder are read back.

    Args:
        config: what to run.
        folder: run folder; made if it does not exist.
        command: the command line or call, for the manifest.
        say: told (model, step) as the study goes on.

    Returns:
        The results, also written as tables next to activations and vectors.

    Raises:
        LensEmotionError: unknown models, unreadable stimuli and unwritable folders are found before anything runs.
    """
    started = time.monotonic()
    for name in config.models:
        resolve(name)
    if config.stimuli:
        load_stimuli(config.stimuli)
    store = Store.open(folder)
    found = tuple(_study_model(name, config, store, say) for name in config.models)
    summary = [{"name": m.info.name, "fingerprint": m.info.fingerprint, "seconds": round(m.seconds, 1)} for m in found]
    facts = manifest(config, command, summary, time.monotonic() - started)
    store.json("manifest.json", facts)
    return StudyRun(str(store.root), facts, found)


def _study_model(name: str, config: StudyConfig, run: Store, say: Say) -> ModelStudy:
    started = time.monotonic()
    say(name, "loading")
    model = load_model(name, backend=config.backend, dtype=config.dtype, device=config.device)
    info = describe(model)
    store = run.model(info.name)
    texts = load_stimuli(config.stimuli or default_stimuli(model))
    say(info.name, f"reading {len(texts)} texts")
    acts = _comprehension(model, texts, config, store, info)
    vectors = emotion_vectors(acts)
    vectors.save(store.root / "vectors.safetensors")
    generated, jeong = _generation(model, texts, config, store, info, say) if config.generation else ((), None)
    steering, judge = None, "none"
    if config.steering:
        say(info.name, "steering")
        steering = _steering(model, acts, vectors, texts, config, store, info)
        judge = steering.judge
    say(info.name, "analysing")
    methods = [_judge_method("comprehension", acts, config)]
    methods += [_judge_method(f"generation, {view}", a, config) for view, a in generated]
    spec = find_spec(info.name)
    result = ModelStudy(
        info=info,
        kind=spec.kind if spec else "instruct" if has_chat_template(model) else "base",
        stimuli=texts.name,
        seconds=time.monotonic() - started,
        comprehension=methods[0],
        generation=tuple(methods[1:]),
        jeong=_judge_jeong(jeong, config) if jeong else None,
        anisotropy=anisotropy(acts, seed=config.seed),
        similarity=similarity(vectors, methods[0].decoding.best_layer),
        circumplex=circumplex(vectors, methods[0].decoding.best_layer, seed=config.seed),
        steering=steering,
        judge=judge,
    )
    write_tables(result, store)
    return result


def _comprehension(
    model: Model, texts: StimulusSet, config: StudyConfig, store: Store, info: ModelInfo
) -> PooledActivations:
    return store.step(
        "comprehension.safetensors",
        config.key("comprehension", info.fingerprint, texts=texts.sha256),
        PooledActivations.load,
        lambda: extract_comprehension(model, texts),
        lambda acts, path: acts.save(path),
    )


def _generation(
    model: Model, texts: StimulusSet, config: StudyConfig, store: Store, info: ModelInfo, say: Say
) -> tuple[tuple[tuple[str, PooledActivations], ...], PooledActivations]:
    """Both views of the topic-crossed stories, and the paper's preset."""
    prompts = texts.name if texts.name in WORLDS else PASSAGES
    say(info.name, "writing and reading stories")
    sampling = Sampling(temperature=0.8, top_p=0.95, seed=config.seed)
    stories = store.step(
        "generation",
        config.key("generation", info.fingerprint, prompts=prompts),
        _load_generated,
        lambda: extract_generation(model, stimuli=prompts, max_new_tokens=config.story_tokens, sampling=sampling),
        _save_generated,
    )
    say(info.name, "writing and reading the jeong preset")
    jeong = store.step(
        "generation_jeong",
        config.key("jeong", info.fingerprint, prompts=prompts),
        _load_generated,
        lambda: extract_generation(model, preset="jeong", stimuli=prompts, max_new_tokens=config.jeong_tokens),
        _save_generated,
    )
    assert stories.reread is not None
    return (("conditioned", stories.conditioned), ("reread", stories.reread)), jeong.conditioned


def _save_generated(result: GeneratedActivations, folder: Path) -> None:
    write_stimulus_file(folder / "stories.json", result.stories)
    result.conditioned.save(folder / "conditioned.safetensors")
    if result.reread is not None:
        result.reread.save(folder / "reread.safetensors")


def _load_generated(folder: Path) -> GeneratedActivations:
    reread = folder / "reread.safetensors"
    return GeneratedActivations(
        read_stimulus_file(folder / "stories.json").stimuli,
        PooledActivations.load(folder / "conditioned.safetensors"),
        PooledActivations.load(reread) if reread.exists() else None,
    )


def _steering(
    model: Model,
    acts: PooledActivations,
    vectors: EmotionVectors,
    texts: StimulusSet,
    config: StudyConfig,
    store: Store,
    info: ModelInfo,
) -> DoseResponse:
    chosen = [s for s in scenarios(texts.name) if s.emotion in vectors]

    def run() -> DoseResponse:
        judge = choose_judge(model, acts, texts, config)
        return dose_response(
            model,
            vectors,
            chosen,
            judge,
            doses=config.doses,
            max_new_tokens=config.steered_tokens,
            seed=config.seed,
        )

    key = config.key("steering", info.fingerprint, texts=texts.sha256, scenarios=[s.opening for s in chosen])
    return store.step("steering.json", key, load_dose_response, run, save_dose_response)


def choose_judge(model: Model, acts: PooledActivations, texts: StimulusSet, config: StudyConfig) -> Judge:
    """The judge asked for; else word counts where the texts have a lexicon, else the unsteered model's own states."""
    if config.judge:
        return encoder_judge(config.judge, texts)
    if texts.name in WORLDS:
        return word_count_judge(world_words(texts.name), texts)
    layer = decoding(acts, n_permutations=20).best_layer
    return states_judge(model, acts, layer, independent=False)


def _judge_method(name: str, acts: PooledActivations, config: StudyConfig) -> MethodStudy:
    n, seed = config.n_permutations, config.seed
    separated = separation(acts, n_permutations=n, seed=seed)
    return MethodStudy(
        name=name,
        header=acts.header,
        n_texts=len(acts),
        decoding=separated.decoding,
        sweep=layer_sweep(acts, "decoding", n_permutations=n, seed=seed),
        separation=separated,
        reliability=reliability(acts, seed=seed),
    )


def _judge_jeong(acts: PooledActivations, config: StudyConfig) -> JeongStudy:
    result = separation(acts, "neutral", n_permutations=config.n_permutations, seed=config.seed)
    return JeongStudy(acts.header, len(acts), acts.n_layers // 2, result)


def read_manifest(folder: str | Path) -> dict[str, object]:
    """The manifest of a run folder."""
    return dict(json.loads((Path(folder) / "manifest.json").read_text(encoding="utf-8")))
