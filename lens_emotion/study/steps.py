"""The steps of a study that run the model: read, write, steer. Each is stored, and read back if nothing changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lens_emotion.analysis.decoding import decoding
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.extraction.comprehension import extract_poolings
from lens_emotion.extraction.generation import GeneratedActivations, extract_generation
from lens_emotion.extraction.pooling import last_token, story_mean
from lens_emotion.models.access import Model, ModelInfo, parameter_count
from lens_emotion.models.catalog import find_spec
from lens_emotion.models.decoding import Sampling
from lens_emotion.models.prompting import has_chat_template
from lens_emotion.steering.experiment import DoseResponse, dose_response
from lens_emotion.steering.io import load_dose_response, save_dose_response
from lens_emotion.steering.judges import Judge, encoder_judge, states_judge, word_count_judge, world_words
from lens_emotion.stimuli.library import PASSAGES, WORLDS
from lens_emotion.stimuli.prompts import scenarios
from lens_emotion.stimuli.reading import read_stimulus_file, write_stimulus_file
from lens_emotion.stimuli.sets import StimulusSet
from lens_emotion.study.config import StudyConfig
from lens_emotion.study.evidence import Evidence
from lens_emotion.study.store import Store
from lens_emotion.vectors.emotion_vectors import EmotionVectors
from lens_emotion.vectors.recipes import emotion_vectors

Say = Callable[[str, str], None]  # (model, what is being done)


def gather(model: Model, info: ModelInfo, texts: StimulusSet, config: StudyConfig, store: Store, say: Say) -> Evidence:
    """Run or read back everything that needs the model."""
    say(info.name, f"reading {len(texts)} texts")
    story, last = _comprehension(model, texts, config, store, info)
    vectors = emotion_vectors(story)
    vectors.save(store.root / "vectors.safetensors")
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
        "comprehension",
        config.key("comprehension", info.fingerprint, texts=texts.sha256),
        load,
        lambda: extract_poolings(model, list(poolings.values()), texts),
        save,
    )


def _generation(
    model: Model, texts: StimulusSet, config: StudyConfig, store: Store, info: ModelInfo, say: Say
) -> tuple[GeneratedActivations, GeneratedActivations]:
    """The topic-crossed stories, and the paper's preset."""
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
