"""The steps of a study that run the model: read, write, steer. Each is stored, and read back if nothing changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from lens_emotion.analysis.decoding import decoding
from lens_emotion.display import Brief
from lens_emotion.errors import StimulusError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.extraction.comprehension import default_stimuli, extract_poolings, read_stimuli
from lens_emotion.extraction.generation import STORY_START, NoStoriesError, extract_generation
from lens_emotion.extraction.pooling import Pooling, last_token, story_mean
from lens_emotion.extraction.static import static_embeddings
from lens_emotion.files.journal import Journal
from lens_emotion.files.user import is_user_file
from lens_emotion.models.access import Model, ModelInfo, describe, parameter_count
from lens_emotion.models.catalog import find_spec
from lens_emotion.models.prompting import tokenise_text
from lens_emotion.models.sampling import Sampling
from lens_emotion.models.templates import chat_prompt, has_chat_template
from lens_emotion.presets import jeong
from lens_emotion.presets.protocol import PROTOCOL, doses_for
from lens_emotion.presets.suppression import Suppression, load_suppression, save_suppression
from lens_emotion.run.config import CONTROLS, PRESET, PUBLISHED, READING, STEERING, STORY_SAMPLING, WRITING, StudyConfig
from lens_emotion.run.inputs import (
    EVERYWHERE_DOSES,
    EVERYWHERE_TOKENS,
    LANGUAGES_OF,
    Identity,
    about,
    prompts_for,
    scenarios_for,
    step_inputs,
    suppressed_in,
)
from lens_emotion.run.store import Inputs, Store, hash_of
from lens_emotion.steering.dose_result import DoseResponse, load_dose_response, save_dose_response
from lens_emotion.steering.experiment import dose_response, everywhere
from lens_emotion.steering.judge_files import judge_from_file
from lens_emotion.steering.judges import Judge, encoder_judge, states_judge, word_count_judge, world_words
from lens_emotion.stimuli.emotions import OPPOSITE_PAIRS
from lens_emotion.stimuli.library import WORLDS, load_stimuli, more_neutral, twins_of
from lens_emotion.stimuli.sets import StimulusSet, read_written, write_written
from lens_emotion.study.results import Evidence
from lens_emotion.vectors.recipes import emotion_vectors

Say = Callable[[str, str], None]  # (model, what is being done)
DOSES, EVERYWHERE, STORIES = "dose_response.json", "everywhere.json", "stories.json"
SUPPRESSION = "suppression.json"


def silent(model: str, doing: str) -> None:
    """Say nothing."""


@dataclass(frozen=True, eq=False, repr=False)
class ModelRun(Brief):
    """One model of a study: loaded, with the texts it reads, its settings and its folder."""

    model: Model
    info: ModelInfo
    identity: Identity
    texts: StimulusSet
    config: StudyConfig
    store: Store
    say: Say

    def inputs(self, step: str, read: str | None = None) -> Inputs:
        """What a step's result depends on (see `inputs.step_inputs`)."""
        return step_inputs(step, self.config, self.identity, self.texts, read, self.info.family)

    def doing(self, what: str) -> None:
        self.say(self.info.name, what)


@dataclass(frozen=True, eq=False, repr=False)
class Written(Brief):
    """What a model wrote, and its states over it: none where too few stories hold text, and then why."""

    stories: StimulusSet
    conditioned: PooledActivations | None
    reread: PooledActivations | None
    why: str = ""


def open_model(model: Model, config: StudyConfig, run: Store, say: Say) -> ModelRun:
    """A loaded model's place in a run folder."""
    info = describe(model)
    store = run.model(info.name, lambda said: say(info.name, said))
    texts = about(load_stimuli(config.stimuli or default_stimuli(model)), config.emotions)
    return ModelRun(model, info, Identity.of(model, info), texts, config, store, say)


def gather(run: ModelRun) -> Evidence:
    """Run or read back everything that needs the model."""
    if run.config.generation:
        chat_prompt(run.model, "Write a story.")  # a template that takes no prompt says so before anything long
    story, last = read(run)
    run.store.save("vectors.safetensors", partial(emotion_vectors(story).save, overwrite=True))  # a damaged one too
    stories, jeong = write(run) if run.config.generation else (None, None)
    lacking = {step: found.why for step, found in ((WRITING, stories), (PRESET, jeong)) if found and found.why}
    beside = controls(run, story, stories)
    steering, every = steer(run, story) if STEERING in run.config.steps else (None, None)
    again, suppressed = published(run, story, last) if PUBLISHED in run.config.steps else (None, None)
    spec = find_spec(run.info.name)
    return Evidence(
        info=run.info,
        kind=spec.kind if spec else "instruct" if has_chat_template(run.model) else "base",
        millions=_millions(run),
        comprehension=story,
        last_token=last,
        conditioned=stories.conditioned if stories else None,
        reread=stories.reread if stories else None,
        jeong=jeong.conditioned if jeong else None,
        steering=steering,
        everywhere=every,
        published=again,
        suppression=suppressed,
        stimuli=run.texts.name,
        ratings=run.texts.norms,
        lacking=lacking,
        plain=beside.plain,
        matched=beside.stories,
        shortened=beside.passages,
        static=beside.static,
        twins=beside.twins,
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


def write(run: ModelRun) -> tuple[Written, Written | None]:
    """Generation: the topic-crossed stories, and the paper's preset. What a model writes is data, also nothing at all:
    then there are stories without states, and the study goes on."""
    config = run.config
    run.doing("writing and reading stories")
    sampling = Sampling(**STORY_SAMPLING, top_k=None, seed=config.seed)
    stories = _written(run, WRITING, max_new_tokens=config.story_tokens, sampling=sampling)
    if not config.jeong:
        return stories, None
    run.doing("writing and reading by the paper's preset")
    return stories, _written(run, PRESET, preset="jeong", max_new_tokens=config.jeong_tokens)


def _written(run: ModelRun, step: str, **settings: Any) -> Written:
    def generate(journal: Journal) -> Written:
        try:
            found = extract_generation(run.model, prompts_for(step, run.config, run.texts), journal=journal, **settings)
        except NoStoriesError as error:
            return Written(error.stories, None, None, str(error))
        return Written(found.stories, found.conditioned, found.reread)

    found = run.store.step(step, run.inputs(step), load_written, generate, _save_written)
    for note in (found.why,) if found.conditioned is None else found.conditioned.header.notes:
        run.doing(f"note: {note}")
    return found


def _save_written(result: Written, folder: Path) -> None:
    write_written(folder / STORIES, result.stories, result.why)
    for name in ("conditioned", "reread"):
        if (acts := getattr(result, name)) is not None:
            acts.save(folder / f"{name}.safetensors")


def load_written(folder: Path) -> Written:
    """Stories and states of a stored step.

    Raises:
        ArtifactError: a file is damaged.
    """

    def acts(name: str) -> PooledActivations | None:
        path = folder / f"{name}.safetensors"
        return PooledActivations.load(path) if path.exists() else None

    stories, why = read_written(folder / STORIES)
    return Written(stories, acts("conditioned"), acts("reread"), why)


@dataclass(frozen=True, eq=False, repr=False)
class Controls(Brief):
    """Readings that claims are controlled by.

    Attributes:
        plain: neutral texts beyond those of the set; None where there are none of its kind.
        stories, passages: those of the two that pool more tokens a text, over as many as the others; else None.
        twins: the texts' twins; None where there are none. static: mean static embeddings of the texts and the twins.
    """

    plain: PooledActivations | None = None
    stories: PooledActivations | None = None
    passages: PooledActivations | None = None
    twins: PooledActivations | None = None
    static: PooledActivations | None = None


_CONTROLS = ("plain", "stories", "passages", "twins", "static")  # and their files


def controls(run: ModelRun, story: PooledActivations, written: Written | None) -> Controls:
    """More neutral texts, and stories or passages over as many tokens as the other of the two."""

    def experiment(journal: Journal) -> Controls:
        found = {
            name: read_stimuli(run.model, texts, [pooling], journal=journal)[0]
            for name, (texts, pooling) in _controls_of(run, story, written).items()
        }
        return Controls(**found, static=static_embeddings(run.model, run.texts + twins_of(run.texts)))

    run.doing("reading controls")
    stories = run.store.digest(WRITING, STORIES) if written is not None else None
    inputs = run.inputs(CONTROLS, control_digest(run.store.digest(READING, "story_mean.safetensors"), stories))
    return run.store.step(CONTROLS, inputs, load_controls, experiment, _save_controls)


def _controls_of(
    run: ModelRun, story: PooledActivations, written: Written | None
) -> dict[str, tuple[StimulusSet, Pooling]]:
    found: dict[str, tuple[StimulusSet, Pooling]] = {}
    if len(plain := more_neutral(run.texts)):
        found["plain"] = plain, story_mean()
    if len(twins := twins_of(run.texts)):
        found["twins"] = twins, story_mean()
    if written is None or written.reread is None:
        return found
    kept = {r.text_id for r in written.reread.records}
    told = [s for s in written.stories.items if s.text_id in kept]
    sizes = [sum(tokenise_text(run.model, s.text).content) - STORY_START for s in told]
    told = [s for s, n in zip(told, sizes, strict=True) if n > 0]
    sizes, others = [n for n in sizes if n > 0], [r.n_pooled for r in story.emotional.records]
    if not sizes:
        return found
    if mean(sizes) > mean(others):
        stop = STORY_START + as_long(sizes, mean(others))
        found["stories"] = StimulusSet("stories", tuple(told)), story_mean(STORY_START, stop)
    else:
        found["passages"] = run.texts, story_mean(0, as_long(others, mean(sizes)))
    return found


def as_long(sizes: Sequence[int], target: float) -> int:
    """The number of tokens to which texts of these sizes are cut so that they hold about `target` each, on average."""
    return min(range(1, max(sizes) + 1), key=lambda n: abs(mean(min(size, n) for size in sizes) - target))


def control_digest(read: str, stories: str | None) -> str:
    """Of what the controls are read beside."""
    return hash_of([read, stories])


def _save_controls(found: Controls, folder: Path) -> None:
    for name in _CONTROLS:
        if (acts := getattr(found, name)) is not None:
            acts.save(folder / f"{name}.safetensors")


def load_controls(folder: Path) -> Controls:
    """What a stored step holds; nothing where versions before 0.3 made none.

    Raises:
        ArtifactError: a file is damaged.
    """
    files = {name: folder / f"{name}.safetensors" for name in _CONTROLS}
    return Controls(**{name: PooledActivations.load(path) for name, path in files.items() if path.exists()})


Steered = tuple[DoseResponse, DoseResponse | None]


def steer(run: ModelRun, acts: PooledActivations) -> Steered:
    """The dose-response experiment, along the vectors of what was read (story mean); for the family that the claim of
    another language is about also that of one layer's vector at all layers, in the paper's unit of dose."""
    config, vectors = run.config, emotion_vectors(acts)
    chosen = [s for s in scenarios_for(config, run.texts) if s.emotion in vectors]
    doses: dict[str, Any] = {"doses": config.doses, "max_new_tokens": config.steered_tokens, "seed": config.seed}

    def experiment(journal: Journal) -> Steered:
        judge = choose_judge(run.model, acts, run.texts, config)
        one = dose_response(run.model, vectors, chosen, judge, journal=journal, **doses)
        if run.info.family != LANGUAGES_OF:
            return one, None
        every = everywhere(run.model, vectors, [s.opening for s in chosen])
        other: dict[str, Any] = {"doses": EVERYWHERE_DOSES, "unit": "relative", "layers": "all", "seed": config.seed}
        other |= {"max_new_tokens": EVERYWHERE_TOKENS, "other_emotion": False, "journal": journal}
        return one, dose_response(run.model, every, chosen, judge, **other)

    run.doing("steering")
    return run.store.step(
        STEERING,
        run.inputs(STEERING, run.store.digest(READING, "story_mean.safetensors")),
        load_steered,
        experiment,
        save_steered,
    )


def save_steered(found: Steered, folder: Path) -> None:
    for name, result in zip((DOSES, EVERYWHERE), found, strict=True):
        if result is not None:
            save_dose_response(result, folder / name)


def load_steered(folder: Path) -> Steered:
    """What a stored step of steering holds; the second is None where it was not run.

    Raises:
        ArtifactError: a file is damaged.
    """
    every = folder / EVERYWHERE
    return load_dose_response(folder / DOSES), load_dose_response(every) if every.exists() else None


Republished = tuple[DoseResponse | None, Suppression | None]


def published(run: ModelRun, acts: PooledActivations, last: PooledActivations) -> Republished:
    """The steering of arXiv 2604.04064 as published: two openings an emotion at the five doses of the model's size, and
    the suppression table; beside random directions of the same length, which it has not."""

    def experiment(journal: Journal) -> Republished:
        vectors = jeong.extract_comprehension(last)
        try:
            layer = jeong.best_layer(last, 1).layer
        except StimulusError:  # topics too few, or tied by copies: the code's other choice
            layer = 2 * vectors.n_layers // 3
        known = [s for s in scenarios_for(run.config, run.texts) if s.emotion in vectors]
        chosen, seed = jeong.scenarios_of(known), run.config.seed
        every = everywhere(run.model, vectors, [s.opening for s in chosen], layer)
        how: dict[str, Any] = {"doses": doses_for(_millions(run)), "unit": "relative", "layers": "all", "seed": seed}
        how |= {"max_new_tokens": PROTOCOL.new_tokens, "other_emotion": False, "journal": journal}
        found = dose_response(run.model, every, chosen, choose_judge(run.model, acts, run.texts, run.config), **how)
        pair = next((p for p in (PROTOCOL.pair, *OPPOSITE_PAIRS) if set(p) <= set(vectors.emotions)), None)
        openings = suppressed_in(run.config, run.texts)
        return found, pair and jeong.suppression(run.model, vectors, openings, pair=pair, layer=layer, seed=seed)

    run.doing("steering as published")
    return run.store.step(
        PUBLISHED, run.inputs(PUBLISHED, published_digest(run)), load_published, experiment, _save_published
    )


def _millions(run: ModelRun) -> float:
    spec = find_spec(run.info.name)
    return spec.millions if spec else parameter_count(run.model) / 1e6


def published_digest(run: ModelRun) -> str:
    """Of both poolings of what was read."""
    return hash_of([run.store.digest(READING, f"{name}.safetensors") for name in ("story_mean", "last_token")])


def _save_published(found: Republished, folder: Path) -> None:
    texts, suppressed = found
    if texts is not None:
        save_dose_response(texts, folder / DOSES)
    if suppressed is not None:
        save_suppression(suppressed, folder / SUPPRESSION)


def load_published(folder: Path) -> Republished:
    """What a stored step holds; nothing where versions before 0.3 made none.

    Raises:
        ArtifactError: a file is damaged.
    """
    texts, suppressed = folder / DOSES, folder / SUPPRESSION
    return (
        load_dose_response(texts) if texts.exists() else None,
        load_suppression(suppressed) if suppressed.exists() else None,
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
    return states_judge(model, acts, layer)
