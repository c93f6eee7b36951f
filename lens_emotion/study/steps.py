"""The steps of a study that run the model: read, write, steer. Each is stored, and read back if nothing changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lens_emotion.analysis.decoding import decoding
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.extraction.comprehension import extract_poolings
from lens_emotion.extraction.generation import GeneratedActivations, extract_generation
from lens_emotion.extraction.pooling import last_token, story_mean
from lens_emotion.journal import Journal
from lens_emotion.models.access import Model, ModelInfo, parameter_count
from lens_emotion.models.catalog import find_spec
from lens_emotion.models.decoding import Sampling
from lens_emotion.models.prompting import has_chat_template
from lens_emotion.steering.experiment import DoseResponse, dose_response
from lens_emotion.steering.io import load_dose_response, save_dose_response
from lens_emotion.steering.judges import Judge, encoder_judge, states_judge, word_count_judge, world_words
from lens_emotion.stimuli.library import WORLDS
from lens_emotion.stimuli.reading import read_stimulus_file, write_stimulus_file
from lens_emotion.stimuli.sets import StimulusSet
from lens_emotion.study.config import StudyConfig
from lens_emotion.study.evidence import Evidence
from lens_emotion.study.keys import (
    PRESET,
    READING,
    STEERING,
    WRITING,
    Identity,
    prompts_for,
    scenarios_for,
    step_inputs,
)
from lens_emotion.study.store import Store
from lens_emotion.vectors.emotion_vectors import EmotionVectors
from lens_emotion.vectors.recipes import emotion_vectors

Say = Callable[[str, str], None]  # (model, what is being done)
DOSES = "dose_response.json"


def gather(model: Model, info: ModelInfo, texts: StimulusSet, config: StudyConfig, store: Store, say: Say) -> Evidence:
    """Run or read back everything that needs the model."""
    say(info.name, f"reading {len(texts)} texts")
    story, last = _comprehension(model, texts, config, store, info)
    vectors = emotion_vectors(story)
    store.save("vectors.safetensors", vectors.save)
    stories, jeong = None, None
    if config.generation:
        stories, jeong = _generation(model, texts, config, store, info, say)
    steering = None
    if config.steering:
        say(info.name, "steering")
        steering = _steering(model, story, vectors, texts, config, store, info)
    spec = find_spec(info.name)
    return Evidence(
        info=info,
        kind=spec.kind if spec else "instruct" if has_chat_template(model) else "base",
        millions=spec.millions if spec else parameter_count(model) / 1e6,
        comprehension=story,
        last_token=last,
        conditioned=stories.conditioned if stories else None,
        reread=stories.reread if stories else None,
        jeong=jeong.conditioned if jeong else None,
        steering=steering,
        stimuli=texts.name,
    )


def _comprehension(
    model: Model, texts: StimulusSet, config: StudyConfig, store: Store, info: ModelInfo
) -> Sequence[PooledActivations]:
    """Story mean, and the paper's last token, out of one pass."""
    poolings = {"story_mean": story_mean(), "last_token": last_token()}

    def load(folder: Path) -> list[PooledActivations]:
        return [PooledActivations.load(folder / f"{name}.safetensors") for name in poolings]

    def save(found: Sequence[PooledActivations], folder: Path) -> None:
        for name, acts in zip(poolings, found, strict=True):
            acts.save(folder / f"{name}.safetensors")

    return store.step(
        READING,
        step_inputs(READING, config, Identity.of(info), texts),
        load,
        lambda journal: extract_poolings(model, list(poolings.values()), texts, journal=journal),
        save,
    )


def _generation(
    model: Model, texts: StimulusSet, config: StudyConfig, store: Store, info: ModelInfo, say: Say
) -> tuple[GeneratedActivations, GeneratedActivations]:
    """The topic-crossed stories, and the paper's preset."""
    prompts = prompts_for(texts)
    say(info.name, "writing and reading stories")
    sampling = Sampling(temperature=0.8, top_p=0.95, seed=config.seed)
    topical: dict[str, Any] = {"max_new_tokens": config.story_tokens, "sampling": sampling}
    stories = store.step(
        WRITING,
        step_inputs(WRITING, config, Identity.of(info), texts),
        _load_generated,
        lambda journal: extract_generation(model, stimuli=prompts, journal=journal, **topical),
        _save_generated,
    )
    say(info.name, "writing and reading the jeong preset")
    preset: dict[str, Any] = {"preset": "jeong", "max_new_tokens": config.jeong_tokens}
    jeong = store.step(
        PRESET,
        step_inputs(PRESET, config, Identity.of(info), texts),
        _load_generated,
        lambda journal: extract_generation(model, stimuli=prompts, journal=journal, **preset),
        _save_generated,
    )
    return stories, jeong


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
    chosen = [s for s in scenarios_for(texts) if s.emotion in vectors]
    doses: dict[str, Any] = {"doses": config.doses, "max_new_tokens": config.steered_tokens, "seed": config.seed}

    def run(journal: Journal) -> DoseResponse:
        judge = choose_judge(model, acts, texts, config)
        return dose_response(model, vectors, chosen, judge, journal=journal, **doses)

    return store.step(
        STEERING,
        step_inputs(STEERING, config, Identity.of(info), texts, store.digest(READING, "story_mean.safetensors")),
        lambda folder: load_dose_response(folder / DOSES),
        run,
        lambda found, folder: save_dose_response(found, folder / DOSES),
    )


def choose_judge(model: Model, acts: PooledActivations, texts: StimulusSet, config: StudyConfig) -> Judge:
    """The judge asked for; else word counts where the texts have a lexicon, else the unsteered model's own states."""
    if config.judge:
        return encoder_judge(config.judge, texts)
    if texts.name in WORLDS:
        return word_count_judge(world_words(texts.name), texts)
    layer = decoding(acts, n_permutations=20).best_layer
    return states_judge(model, acts, layer, independent=False)
