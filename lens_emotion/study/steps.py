"""The steps of a study that run the model: read, write, steer. Each is stored, and read back if nothing changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lens_emotion.analysis.decoding import decoding
from lens_emotion.display import Brief
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.extraction.comprehension import default_stimuli, extract_poolings
from lens_emotion.extraction.generation import GeneratedActivations, extract_generation
from lens_emotion.extraction.pooling import last_token, story_mean
from lens_emotion.files.journal import Journal
from lens_emotion.files.user import is_user_file
from lens_emotion.models.access import Model, ModelInfo, describe, parameter_count
from lens_emotion.models.catalog import find_spec
from lens_emotion.models.decoding import Sampling
from lens_emotion.models.templates import chat_prompt, has_chat_template
from lens_emotion.run.config import PRESET, READING, STEERING, WRITING, StudyConfig
from lens_emotion.run.inputs import Identity, prompts_for, scenarios_for, step_inputs
from lens_emotion.run.store import Inputs, Store
from lens_emotion.steering.dose_result import DoseResponse, load_dose_response, save_dose_response
from lens_emotion.steering.experiment import dose_response
from lens_emotion.steering.judge_files import judge_from_file
from lens_emotion.steering.judges import Judge, encoder_judge, states_judge, word_count_judge, world_words
from lens_emotion.stimuli.library import WORLDS, load_stimuli
from lens_emotion.stimuli.sets import StimulusSet, read_stimulus_file, write_stimulus_file
from lens_emotion.study.results import Evidence
from lens_emotion.vectors.recipes import emotion_vectors

Say = Callable[[str, str], None]  # (model, what is being done)
DOSES = "dose_response.json"


def silent(model: str, doing: str) -> None:
    """Say nothing."""


@dataclass(frozen=True, eq=False, repr=False)
class ModelRun(Brief):
    """One model of a study: loaded, with the texts it reads, its settings and its folder."""

    model: Model
    info: ModelInfo
    texts: StimulusSet
    config: StudyConfig
    store: Store
    say: Say

    def inputs(self, step: str, read: str | None = None) -> Inputs:
        """What a step's result depends on (see `inputs.step_inputs`)."""
        return step_inputs(step, self.config, Identity.of(self.info), self.texts, read)

    def doing(self, what: str) -> None:
        self.say(self.info.name, what)


def open_model(model: Model, config: StudyConfig, run: Store, say: Say) -> ModelRun:
    """A loaded model's place in a run folder."""
    info = describe(model)
    store = run.model(info.name, lambda said: say(info.name, said))
    return ModelRun(model, info, load_stimuli(config.stimuli or default_stimuli(model)), config, store, say)


def gather(run: ModelRun) -> Evidence:
    """Run or read back everything that needs the model."""
    if run.config.generation:
        chat_prompt(run.model, "Write a story.")  # a template that takes no prompt says so before anything long
    story, last = read(run)
    run.store.save("vectors.safetensors", emotion_vectors(story).save)
    stories, jeong = write(run) if run.config.generation else (None, None)
    steering = steer(run, story) if run.config.steering else None
    spec = find_spec(run.info.name)
    return Evidence(
        info=run.info,
        kind=spec.kind if spec else "instruct" if has_chat_template(run.model) else "base",
        millions=spec.millions if spec else parameter_count(run.model) / 1e6,
        comprehension=story,
        last_token=last,
        conditioned=stories.conditioned if stories else None,
        reread=stories.reread if stories else None,
        jeong=jeong.conditioned if jeong else None,
        steering=steering,
        stimuli=run.texts.name,
        ratings=run.texts.norms,
    )


def read(run: ModelRun) -> Sequence[PooledActivations]:
    """Comprehension: story mean, and the paper's last token, out of one pass."""
    poolings = {"story_mean": story_mean(), "last_token": last_token()}

    def load(folder: Path) -> list[PooledActivations]:
        return [PooledActivations.load(folder / f"{name}.safetensors") for name in poolings]

    def save(found: Sequence[PooledActivations], folder: Path) -> None:
        for name, acts in zip(poolings, found, strict=True):
            acts.save(folder / f"{name}.safetensors")

    run.doing(f"reading {len(run.texts)} texts")
    return run.store.step(
        READING,
        run.inputs(READING),
        load,
        lambda journal: extract_poolings(run.model, list(poolings.values()), run.texts, journal=journal),
        save,
    )


def write(run: ModelRun) -> tuple[GeneratedActivations, GeneratedActivations | None]:
    """Generation: the topic-crossed stories, and the paper's preset."""
    config = run.config
    run.doing("writing and reading stories")
    sampling = Sampling(temperature=0.8, top_p=0.95, seed=config.seed)
    stories = _written(run, WRITING, max_new_tokens=config.story_tokens, sampling=sampling)
    if not config.jeong:
        return stories, None
    run.doing("writing and reading the jeong preset")
    return stories, _written(run, PRESET, preset="jeong", max_new_tokens=config.jeong_tokens)


def _written(run: ModelRun, step: str, **settings: Any) -> GeneratedActivations:
    def generate(journal: Journal) -> GeneratedActivations:
        return extract_generation(run.model, prompts_for(step, run.config, run.texts), journal=journal, **settings)

    return run.store.step(step, run.inputs(step), _load_generated, generate, _save_generated)


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


def steer(run: ModelRun, acts: PooledActivations) -> DoseResponse:
    """The dose-response experiment, along the vectors of what was read (story mean)."""
    config, vectors = run.config, emotion_vectors(acts)
    chosen = [s for s in scenarios_for(config, run.texts) if s.emotion in vectors]
    doses: dict[str, Any] = {"doses": config.doses, "max_new_tokens": config.steered_tokens, "seed": config.seed}

    def experiment(journal: Journal) -> DoseResponse:
        judge = choose_judge(run.model, acts, run.texts, config)
        return dose_response(run.model, vectors, chosen, judge, journal=journal, **doses)

    run.doing("steering")
    return run.store.step(
        STEERING,
        run.inputs(STEERING, run.store.digest(READING, "story_mean.safetensors")),
        lambda folder: load_dose_response(folder / DOSES),
        experiment,
        lambda found, folder: save_dose_response(found, folder / DOSES),
    )


def choose_judge(model: Model, acts: PooledActivations, texts: StimulusSet, config: StudyConfig) -> Judge:
    """The judge asked for; else word counts where the texts have a lexicon, else the unsteered model's own states."""
    if config.judge and is_user_file(config.judge):
        return judge_from_file(config.judge, texts)
    if config.judge:
        return encoder_judge(config.judge, texts)
    if texts.name in WORLDS:
        return word_count_judge(world_words(texts.name), texts)
    layer = decoding(acts, n_permutations=20).best_layer
    return states_judge(model, acts, layer, independent=False)
