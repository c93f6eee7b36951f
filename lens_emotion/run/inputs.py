"""What a study is given, checked before anything is loaded, and what of it each step's result depends on.

The key of a stored step is a hash of its inputs (`store.key_of`): equal keys mean that it may be read back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec as find_package
from pathlib import Path
from typing import Any

import torch

from lens_emotion.errors import (
    ContextLengthError,
    ModelUnavailableError,
    StimulusError,
    UnknownModelError,
    UnsupportedModelError,
)
from lens_emotion.extraction.activations import Header, PooledActivations, TextRecord
from lens_emotion.files.user import is_user_file, record
from lens_emotion.models import hooked
from lens_emotion.models.access import Model, ModelInfo, family_of, tokenizer_of
from lens_emotion.models.checkpoint import CONFIG, check_vocabulary
from lens_emotion.models.decoding import stop_ids
from lens_emotion.models.loading import (
    check_fits,
    check_hub_id,
    check_reachable,
    config_of_source,
    is_cached,
    quiet_loading,
    resolve,
    tokenizer_of_source,
)
from lens_emotion.models.placement import check_placement, choose_device, choose_dtype
from lens_emotion.models.sampling import SAMPLER
from lens_emotion.presets.jeong import scenarios_of
from lens_emotion.presets.protocol import PROTOCOL
from lens_emotion.run.config import CONTROLS, PRESET, PUBLISHED, READING, STEERING, WRITING, StudyConfig
from lens_emotion.run.store import Inputs, hash_of, version_of
from lens_emotion.stats.design import design_of, label_permutations
from lens_emotion.steering.judge_files import check_judge, judge_content, read_judge_file
from lens_emotion.stimuli.emotions import NEUTRAL
from lens_emotion.stimuli.library import PASSAGES, WORLDS, load_stimuli, more_neutral, twins_of
from lens_emotion.stimuli.prompts import Scenario, StoryPrompt, read_prompts, read_scenarios, scenarios, story_prompts
from lens_emotion.stimuli.sets import StimulusSet

SCHEMAS = {
    READING: 2,
    WRITING: 2,
    PRESET: 2,
    CONTROLS: 2,
    STEERING: 3,
    PUBLISHED: 1,
}  # raised when the code of a step gives other results
LANGUAGES_OF = "qwen"  # the paper's claim of another language is of this family: it is steered at all layers too
EVERYWHERE_DOSES = (0.01, 0.03, 0.05)  # of that, in multiples of the mean norm (see `experiment.everywhere`)
EVERYWHERE_TOKENS = 24
LEAST_STORY = 16  # tokens that there must be room for behind a story prompt
LEAST_NEUTRAL = 3  # below it, what all states have in common cannot be measured
# of a configuration: what does not change what a model computes
_PASSING = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache", "_attn_implementation")
PACKAGES = ("torch", "transformers", "transformer-lens")  # a step's numbers may change with these


def texts_for(model: str, stimuli: str | None, emotions: Sequence[str] | None = None) -> StimulusSet:
    """The stimuli asked for, else those of the model's catalog row, else the natural passages; of these emotions, and
    neutral ones.

    Raises:
        LensEmotionError: an unknown model, stimulus set or emotion.
    """
    spec = resolve(model).spec
    return about(load_stimuli(stimuli or (spec.stimuli if spec else PASSAGES)), emotions)


def about(texts: StimulusSet, emotions: Sequence[str] | None) -> StimulusSet:
    """The texts of these emotions, and neutral ones; all where none are named."""
    if emotions is None:
        return texts
    of_these = texts.only(emotions=(*emotions, NEUTRAL))  # a name that is none is said first
    if len(of_these.emotions) < 2:
        also = next((e for e in texts.emotions if e not in of_these.emotions), "another")
        given = ",".join(emotions)
        raise StimulusError(
            f"emotions={given}: a study tells emotions from one another, so it needs at least 2 beside {NEUTRAL}; "
            f"add one, such as {given},{also}, or leave it out for all {len(texts.emotions)}"
        )
    return of_these


def prompts_for(step: str, config: StudyConfig, texts: StimulusSet) -> tuple[StoryPrompt, ...]:
    """The story prompts of a step: those of the file given, else those that suit the readers of these texts.

    Of the texts' emotions only, and neutral ones: stories and passages are compared emotion by emotion.
    """
    preset = "jeong" if step == PRESET else "topic-crossed"
    source = config.prompts or (texts.name if texts.name in WORLDS else PASSAGES)
    return tuple(p for p in story_prompts(preset, source) if p.emotion in (*texts.emotions, NEUTRAL))


def scenarios_for(config: StudyConfig, texts: StimulusSet) -> Sequence[Scenario]:
    """The steering scenarios whose emotion is among the texts', of the file given or those of the package."""
    return [s for s in scenarios(config.scenarios or texts.name) if s.emotion in texts.emotions]


def suppressed_in(config: StudyConfig, texts: StimulusSet) -> list[str]:
    """The openings over which the published suppression table is read."""
    openings = dict.fromkeys(s.opening for s in scenarios_for(config, texts))
    return list(openings)[: PROTOCOL.suppression_scenarios]


def check_inputs(config: StudyConfig, here: bool = True, ask_hub: bool = True) -> None:
    """Check every model's inputs, so that a study does not end after hours over what was never there: configs and
    tokenizers are read, judges loaded and let go again.

    Args:
        here: models will run on this machine.
        ask_hub: look for hub models that are not cached; else they are taken on trust.

    Raises:
        LensEmotionError: an unknown model, one that is not whole or needs a package, a file
            with a fault, texts that cannot be held out, emotions that prompts, scenarios or judge lack.
    """
    for name in config.models:
        own = config.for_model(name)
        check_placement(own.device, own.quantise, own.backend, name.lower().endswith(".gguf"))
    judged: set[tuple[str, frozenset[str]]] = set()
    for name in config.models:
        own = config.for_model(name)
        room = check_model(name, own, here, ask_hub)
        _check_files(own)
        texts = texts_for(name, own.stimuli, own.emotions)
        check_texts(texts)
        if room is not None:
            _check_lengths(room, own, texts)
        for step in own.steps:
            if step in (WRITING, PRESET):
                _check_prompts(step, own, texts)
            elif step in (STEERING, PUBLISHED):
                wanted = frozenset(_check_scenarios(own, texts))
                if own.judge and (own.judge, wanted) not in judged:
                    check_judge(own.judge, set(wanted))
                    judged.add((own.judge, wanted))


@dataclass(frozen=True)
class Room:
    """How much of a text a model takes in at once: its context, and the tokenizer that counts."""

    label: str
    context: int
    tokenizer: Any

    def check(self, what: str, text: str, new_tokens: int = 0) -> None:
        """Raises ContextLengthError if a text, and what is to be written behind it, does not fit."""
        if len(text.encode(errors="replace")) + 2 + new_tokens <= self.context:  # no token is less than a byte
            return
        n = len(self.tokenizer(text, add_special_tokens=False).input_ids)
        if n + new_tokens > self.context:
            more = f" and {new_tokens} new ones" if new_tokens else ""
            raise ContextLengthError(
                f"{what} has {n} tokens{more}, the context of {self.label} {self.context}; shorten it, or give a model "
                "with a longer one"
            )


def _check_lengths(room: Room, config: StudyConfig, texts: StimulusSet) -> None:
    """Raises ContextLengthError for a text, a prompt or an opening that the model could not take in."""
    for item in texts.items if READING in config.steps else ():
        room.check(f"text '{item.text_id}' of '{texts.name}'", item.text)
    where = f" of {config.prompts}" if config.prompts else ""
    for step in (s for s in config.steps if s in (WRITING, PRESET)):
        for prompt in prompts_for(step, config, texts):
            room.check(f"prompt '{prompt.prompt_id}'{where}", prompt.text, LEAST_STORY)
    where = f" of {config.scenarios}" if config.scenarios else ""
    for scenario in scenarios_for(config, texts) if config.steering else ():
        room.check(f"scenario '{scenario.scenario_id}'{where}", scenario.opening, config.steered_tokens)


def check_model(name: str, config: StudyConfig, here: bool = True, ask_hub: bool = True) -> Room | None:
    """Whether a model is there and whole, as far as can be told without its weights.

    Args:
        here: it will run on this machine, whose devices count.

    Returns:
        What it takes in; None for a GGUF file, whose tokenizer is made with its weights, and for a hub model that is
        not looked for.

    Raises:
        LensEmotionError: no such model, a config, tokenizer or weights that cannot be read, a missing package, a device
            or precision that cannot be had.
    """
    source = resolve(name)
    if config.backend == "hooked" and not hooked.available():
        raise UnsupportedModelError(f"backend='hooked' is not available. {hooked.REMEDY}")
    device = choose_device(config.device if here else "cpu")
    if source.gguf_file:
        if find_package("gguf") is None:
            raise UnsupportedModelError(f"{name} needs the package gguf, which is not installed; pip install gguf")
        with quiet_loading():
            check_fits(source, config_of_source(source, None))
        return None
    if source.on_hub and not ask_hub and not is_cached(source):
        return None
    with quiet_loading():
        check_reachable(source)
        found = config_of_source(source, None)
        check_fits(source, found)
        tokenizer = tokenizer_of_source(source, None)
        check_vocabulary(tokenizer, found, source.label)
    choose_dtype(config.dtype, device, family_of(str((getattr(found, "architectures", None) or [""])[0])))
    context = int(found.get_text_config().max_position_embeddings)
    hooked_too = config.backend == "hooked"
    return Room(source.label, min(context, hooked.LONGEST_CONTEXT) if hooked_too else context, tokenizer)


def check_texts(texts: StimulusSet) -> None:
    """Whether a study can hold topics out of these texts and compare with neutral ones.

    Raises:
        StimulusError: see its message.
    """
    n = sum(item.emotion == NEUTRAL for item in texts.items)
    if n < LEAST_NEUTRAL:
        raise StimulusError(
            f"the stimulus set '{texts.name}' has {n or 'no'} text{'s' * (n != 1)} of emotion '{NEUTRAL}', which a "
            f"study compares with; give {LEAST_NEUTRAL} at least, best one for each topic, or use lens-emotion extract"
        )
    records = tuple(TextRecord(i.text_id, i.emotion, i.topic, i.text) for i in texts.items)
    header = Header("none yet", "none yet", "", "", "", "", "comprehension", "", texts.name, texts.sha256)
    labels = PooledActivations(torch.zeros(len(records), 1, 1), records, torch.ones(1), header)
    label_permutations(design_of(labels), 1, 0)


def _check_files(config: StudyConfig) -> None:
    """A fault in a file is said also where its step is off; what is no TOML or JSON is never passed over."""
    if config.prompts:
        read_prompts(config.prompts)
    if config.scenarios:
        read_scenarios(config.scenarios)
    if config.judge and is_user_file(config.judge):
        read_judge_file(config.judge)
    elif config.judge and Path(config.judge).is_dir():
        if not (Path(config.judge) / CONFIG).is_file():
            raise ModelUnavailableError(f"the judge {config.judge} has no {CONFIG}; give a sentence encoder's folder")
    elif config.judge:
        try:
            check_hub_id(config.judge)
        except UnknownModelError:
            raise UnknownModelError(
                f"no judge '{config.judge}': it is no file, folder or hub id (org/model); give a judge file in TOML or "
                "JSON, or a sentence encoder"
            ) from None


def _check_prompts(step: str, config: StudyConfig, texts: StimulusSet) -> None:
    _check_file("prompts", config.prompts)
    have = {p.emotion for p in prompts_for(step, config, texts)}
    if missing := [e for e in (*texts.emotions, NEUTRAL) if e not in have]:
        raise StimulusError(
            f"{config.prompts or 'the story prompts of the package'} ask for no {', '.join(missing)}, which "
            f"'{texts.name}' holds; give a file of prompts (prompts = ...), or leave writing out (generation = false, "
            "--no-generation)"
        )


def _check_scenarios(config: StudyConfig, texts: StimulusSet) -> set[str]:
    """The emotions towards which is steered."""
    _check_file("scenarios", config.scenarios)
    wanted = {s.emotion for s in scenarios_for(config, texts)}
    if not wanted:
        raise StimulusError(
            f"{config.scenarios or 'the scenarios of the package'} have none of the emotions of '{texts.name}' "
            f"({', '.join(texts.emotions)}); give a file of scenarios (scenarios = ...), or leave steering out "
            "(steering = false, --no-steering)"
        )
    return wanted


def _check_file(what: str, name: str | None) -> None:
    """A file of another kind would pass for "none given", and the package's own be taken in its stead."""
    if name and not is_user_file(name):
        raise StimulusError(f"{what} = {name!r} is no TOML or JSON file; give the path of one")


@dataclass(frozen=True)
class Identity:
    """The model as a key knows it: weights, configuration and tokens; a fingerprint None (not loaded) fits any."""

    fingerprint: str | None
    backend: str
    dtype: str
    device: str

    @staticmethod
    def of(model: Model, info: ModelInfo) -> Identity:
        """Of a loaded model: its weights and configuration, and how its tokenizer cuts, begins and ends a text."""
        tokenizer: Any = tokenizer_of(model)
        fast = getattr(tokenizer, "backend_tokenizer", None)
        cuts = fast.to_str() if fast is not None else sorted(tokenizer.get_vocab().items())
        made = {k: str(v) for k, v in getattr(model, "lens_emotion_config", {}).items() if k not in _PASSING}
        told = hash_of([cuts, info.first_token, str(tokenizer.chat_template), stop_ids(model).tolist(), made])
        return Identity(f"{info.fingerprint}/{told[:16]}", info.backend, info.dtype, info.device.split(":")[0])


def step_inputs(
    step: str, config: StudyConfig, model: Identity, texts: StimulusSet, read: str | None = None, family: str = ""
) -> Inputs:
    """Everything that the step's result depends on.

    Args:
        texts: what the model reads.
        read: checksum of what reading found, for steering; of that and the stories, for the controls; of both
            poolings, for the published protocol.
        family: of the model; one is steered at all layers too.
    """
    content: Inputs = {"texts": texts.sha256}
    if step in (WRITING, PRESET):
        content = {"prompts": hash_of([p.text for p in prompts_for(step, config, texts)])}
        content |= {"sampler": SAMPLER} if step == WRITING else {}
    elif step == CONTROLS:
        content |= {"neutral": more_neutral(texts).sha256, "twins": twins_of(texts).sha256, "read": read}
    elif step == STEERING:
        openings = [(s.emotion, s.opening) for s in scenarios_for(config, texts)]
        judge = judge_content(config.judge) if config.judge else None
        content |= {"scenarios": hash_of(openings), "read": read, "judge": judge}
        if family == LANGUAGES_OF:
            content |= {"everywhere": [*EVERYWHERE_DOSES, EVERYWHERE_TOKENS]}
    elif step == PUBLISHED:
        steered = [(s.emotion, s.opening) for s in scenarios_of(scenarios_for(config, texts))]
        judge = judge_content(config.judge) if config.judge else None
        content |= {"scenarios": hash_of([steered, suppressed_in(config, texts)]), "read": read, "judge": judge}
        content |= {"protocol": hash_of({k: v for k, v in vars(PROTOCOL).items() if k != "inferred"})}
    return {
        "step": step,
        "schema": SCHEMAS[step],
        "model": vars(model) | {},
        "settings": config.used(step) | ({"quantise": config.quantise} if config.quantise else {}),
        "content": content,
        "packages": {package: version_of(package) for package in PACKAGES},
    }


def same_but_for_weights(a: Inputs, b: Inputs) -> bool:
    """Whether two steps have equal inputs where one of the models has not been loaded.

    Raises:
        ArtifactError: inputs of another form than `step_inputs` gives.
    """
    one, two = identity_in(a), identity_in(b)
    if not (one.fingerprint and two.fingerprint):
        one, two = (replace(model, fingerprint=None) for model in (one, two))
    return one == two and hash_of(a | {"model": None}) == hash_of(b | {"model": None})


def identity_in(inputs: Inputs) -> Identity:
    """The model in a step's inputs.

    Raises:
        ArtifactError: there is none.
    """
    return record(Identity, inputs.get("model"), "the model of a stored step")
