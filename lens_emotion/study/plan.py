"""plan_study: what a study would run, what of it is stored already, and what it needs. No model is loaded.

Tokens, arithmetic, memory and disk follow from shapes and settings alone, by formulas; only the sizes of records,
tables and reports (on the tiny five) and the characters of a token (on three tokenizers) were measured.
Time is arithmetic over speed, and speed comes from stored steps of earlier runs, else from a stated assumption.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lens_emotion.errors import LensEmotionError
from lens_emotion.extraction.generation import WATCHED_BYTES
from lens_emotion.files.checksums import read_sums
from lens_emotion.models.access import family_of
from lens_emotion.models.catalog import find_spec
from lens_emotion.models.forward import CPU_BUDGET, GENERATION_BUDGET, TOKEN_BUDGET
from lens_emotion.models.loading import choose_device, choose_dtype, resolve
from lens_emotion.models.shapes import Shape, shape_of
from lens_emotion.run.config import StudyConfig
from lens_emotion.run.keys import (
    PRESET,
    READING,
    STEERING,
    WRITING,
    Identity,
    Inputs,
    prompts_for,
    same_but_for_weights,
    scenarios_for,
    step_inputs,
    steps_of,
    texts_for,
)
from lens_emotion.run.look import MANIFEST, read_manifest
from lens_emotion.run.store import KEPT, PARTIAL, read_record, safe_name
from lens_emotion.stimuli.sets import StimulusSet

STORED, BEGUN, TO_RUN = "stored", "begun", "to run"
CHARACTERS = 4.3  # of a token of English, with the tokenizers of the tiny five, SmolLM2 and Qwen2.5
TEMPLATE = 20  # tokens of a chat template around a prompt
RECORD = 240  # bytes of a text's labels in a file of activations, beside the text
STEERED_ROW = 550  # bytes of a steered text's measures and scores in dose_response.json, beside the text
REPORT = (4.6e6, 1.3e5)  # bytes of report.html, and of each model's part of it
PROGRAM = 5e8  # bytes of Python with torch and transformers
ITEM = {"float32": 4, "bfloat16": 2, "float16": 2}
NEAR = 8.0  # how many times larger or smaller a model may be for its speed to say something about another
ASSUMED = {"cpu": (6e10, 2e10), "cuda": (5e13, 5e12), "mps": (2e12, 4e11)}  # operations a second: reading, writing
ANALYSIS = 1.5  # seconds a layer for 200 permutations, hardly dependent on its width: the tiny five, two processors


@dataclass(frozen=True)
class PlannedStep:
    """One step of one model.

    Attributes:
        state: "stored" (if the weights have not changed since), "begun" (some batches are kept) or "to run".
        work: None where the model's shape is not known.
        seconds: to run it; 0 if it is stored. basis: where the speed comes from.
    """

    name: str
    state: str
    work: Work | None
    seconds: float
    basis: str


@dataclass(frozen=True)
class ModelPlan:
    """One model: its steps, and what it needs; `needs` is None where its shape is not known without the hub."""

    name: str
    steps: tuple[PlannedStep, ...]
    needs: Needs | None
    analysis: float

    @property
    def seconds(self) -> float:
        return sum(s.seconds for s in self.steps) + self.analysis


@dataclass(frozen=True)
class StudyPlan:
    """What `lens-emotion study` would do."""

    device: str
    models: tuple[ModelPlan, ...]

    @property
    def seconds(self) -> float:
        return sum(m.seconds for m in self.models)

    @property
    def disk(self) -> float:
        """Bytes of the finished run folder."""
        return sum(m.needs.disk + REPORT[1] for m in self.models if m.needs) + REPORT[0]


def plan_study(config: StudyConfig, folder: str | Path) -> StudyPlan:
    """Plan a study without loading a model or touching the folder.

    Raises:
        LensEmotionError: unknown models or stimuli, a precision or device that cannot be had.
    """
    root, device = Path(folder), choose_device(config.device)
    beside = sorted(root.parent.iterdir()) if root.parent.is_dir() else []  # measured on this machine, most likely
    known = measured_in(dict.fromkeys(p for p in (root, *beside) if (p / MANIFEST).is_file()))
    return StudyPlan(device, tuple(_plan(name, config.for_model(name), root, device, known) for name in config.models))


def _plan(name: str, config: StudyConfig, root: Path, device: str, known: Sequence[Measured]) -> ModelPlan:
    label = resolve(name).label
    spec, shape, texts = find_spec(label), shape_of(name), texts_for(name, config.stimuli)
    dtype = str(choose_dtype(config.dtype, device, spec.family if spec else family_of(label))).removeprefix("torch.")
    backend = "bridge" if config.backend == "auto" else config.backend
    identity = Identity(None, backend, dtype, device.split(":")[0])
    states = _states(config, identity, texts, root / safe_name(label))
    if shape is None:
        unknown = tuple(PlannedStep(step, state, None, 0.0, "shape not known") for step, state in states.items())
        return ModelPlan(label, unknown, None, 0.0)
    steps = []
    for step, state in states.items():
        work = work_of(step, config, texts, shape)
        speed, basis = _speed(step, shape, identity, known)
        steps.append(PlannedStep(step, state, work, 0.0 if state == STORED else work.flops / speed, basis))
    needs = needs_of(config, texts, shape, dtype, identity.device)
    analysis = ANALYSIS * shape.n_layers * (0.4 + 0.6 * config.n_permutations / 200)
    return ModelPlan(label, tuple(steps), needs, analysis)


def _states(config: StudyConfig, model: Identity, texts: StimulusSet, place: Path) -> dict[str, str]:
    """Step -> whether it would be read back from a model's folder, or has finished batches there."""
    found, read = {}, None
    for step in steps_of(config):
        folder = _stored(place, step, step_inputs(step, config, model, texts, read))
        if step == READING:  # what was read is among the inputs of steering
            read = read_sums(folder)[0].get("story_mean.safetensors", ["unknown"])[-1] if folder else "unknown"
        begun = BEGUN if any(place.glob(f"{PARTIAL}/{step}-{'?' * 16}.journal")) else TO_RUN
        found[step] = STORED if folder else begun
    return found


def _stored(place: Path, step: str, wanted: Inputs) -> Path | None:
    """The folder of a step with these inputs, whatever the weights."""
    for folder in (place / step, *sorted(place.glob(f"{KEPT}/{step}-*"))):
        record = read_record(folder)
        if record is not None and same_but_for_weights(wanted, record.inputs):
            return folder
    return None


# What a step does.


@dataclass(frozen=True)
class Work:
    """What a step does.

    Attributes:
        texts: texts read or written.
        read: tokens read in whole texts. written: tokens written one by one, at most.
        flops: arithmetic of both.
    """

    texts: int
    read: int
    written: int
    flops: float


def work_of(step: str, config: StudyConfig, texts: StimulusSet, shape: Shape) -> Work:
    """Tokens and arithmetic of a step: two operations a parameter and token (Kaplan et al. 2020, arXiv 2001.08361)."""
    read, written = 0.0, 0
    if step == READING:
        n, read = len(texts), sum(map(len, texts.texts)) / CHARACTERS
    elif step == STEERING:
        openings = scenarios_for(config, texts)
        length = sum(len(s.opening) for s in openings) / CHARACTERS
        runs, scored = 1 + 4 * len(config.doses), 1 + 3 * len(config.doses)  # emotion, other, random, null (not scored)
        n, new = runs * len(openings), len(openings) * config.steered_tokens
        read, written = (runs + scored) * length + scored * new, runs * new
    else:
        prompts = [p.text for p in prompts_for(step, config, texts)]
        jobs = list(dict.fromkeys(prompts)) if step == PRESET else prompts  # greedy answers are shared
        n, written = len(prompts), len(jobs) * _longest(step, config)
        read = sum(len(p) / CHARACTERS + TEMPLATE for p in jobs) + (written if step == WRITING else 0)
    flops = 2.0 * shape.body * (read + written) + 2.0 * shape.head * written
    return Work(n, round(read), round(written), flops)


def _longest(step: str, config: StudyConfig) -> int:
    """Tokens that a text of a step may grow to, beside its prompt."""
    return {WRITING: config.story_tokens, PRESET: config.jeong_tokens, STEERING: config.steered_tokens}[step]


# Memory and disk.


@dataclass(frozen=True)
class Needs:
    """Bytes.

    Attributes:
        weights: of the model, in its precision.
        device: weights and the largest batch, where the model runs (on a CPU, the program too).
        host: what is held in main memory beside that: the activations of all texts, and once more while judged.
        disk: of the model's folder, without the report.
    """

    weights: float
    device: float
    host: float
    disk: float


def needs_of(config: StudyConfig, texts: StimulusSet, shape: Shape, dtype: str, device: str) -> Needs:
    """Memory and disk of a study of one model."""
    item = ITEM.get(dtype, 4)
    weights = float(shape.parameters * item)
    tokens = max(CPU_BUDGET if device == "cpu" else TOKEN_BUDGET, max(map(len, texts.texts)) / CHARACTERS)
    batches = [tokens * ((shape.n_layers + 4) * shape.d_model + 3 * shape.d_mlp) * item]  # states, one block's inside
    batches += [_decoding(step, config, texts, shape, item) for step in steps_of(config) if step != READING]
    program = PROGRAM if device == "cpu" else 0.0
    host = 2.0 * sum(_rows_kept(config, texts).values()) * shape.n_layers * shape.d_model * 4
    return Needs(weights, weights + max(batches) + program, host, disk_of(config, texts, shape))


def _decoding(step: str, config: StudyConfig, texts: StimulusSet, shape: Shape, item: int) -> float:
    """Bytes of the largest decoding batch: keys and values, logits (in the model's precision, float32 and sorted), and
    the states of stories, which are held while they are written (`generation.watched_length` bounds them)."""
    new = _longest(step, config)
    if step == STEERING:
        prompts = [s.opening for s in scenarios_for(config, texts)]
        n, before, state = len(prompts) * (1 + 4 * len(config.doses)), 0, 0
    else:
        prompts = list({p.text for p in prompts_for(step, config, texts)})
        n, before, state = len(prompts), TEMPLATE, (new + 1) * shape.n_layers * shape.d_model * item
    length = sum(map(len, prompts)) / len(prompts) / CHARACTERS + before + new
    rows = max(1, min(n, int(GENERATION_BUDGET / length)))
    if state:
        least = max(2 * (new + 1), math.ceil(GENERATION_BUDGET * state / WATCHED_BYTES))
        rows = max(1, min(rows, int(GENERATION_BUDGET / max(length, least))))
    return rows * (state + length * shape.kv_per_token * item + shape.d_vocab * (item + 4 + 4))


def disk_of(config: StudyConfig, texts: StimulusSet, shape: Shape) -> float:
    """Bytes of a model's folder: activations in float32, the texts' labels, the steering result, tables, figures."""
    row = shape.n_layers * shape.d_model * 4
    text = {READING: sum(map(len, texts.texts)) / len(texts)}  # characters; stories end at half their length
    text |= {step: CHARACTERS * _longest(step, config) / 2 for step in (WRITING, PRESET)}
    total = sum(n * (row + RECORD + text[step]) for step, n in _rows_kept(config, texts).items())
    for step in _written(config):  # stories.json, and their place in tables
        total += len(prompts_for(step, config, texts)) * (140 + text[step])
    if config.steering:  # dose_response.json and steering_texts.csv
        steered = (1 + 3 * len(config.doses)) * len(scenarios_for(config, texts))
        total += steered * (STEERED_ROW + 60 + 2 * CHARACTERS * config.steered_tokens)
    methods = 1 + 2 * config.generation
    return total + len(texts.emotions) * row + 1.2e5 + methods * 2.5e4 + methods * shape.n_layers * 7e3


def _rows_kept(config: StudyConfig, texts: StimulusSet) -> dict[str, int]:
    """Step -> rows of activations stored: two poolings of what is read, two of stories, one of the preset's."""
    poolings = {WRITING: 2, PRESET: 1}
    written = {step: poolings[step] * len(prompts_for(step, config, texts)) for step in _written(config)}
    return {READING: 2 * len(texts)} | written


def _written(config: StudyConfig) -> tuple[str, ...]:
    """The steps in which the model writes stories."""
    return tuple(step for step in steps_of(config) if step in (WRITING, PRESET))


# Speed.


@dataclass(frozen=True)
class Measured:
    """A stored step as a measurement of speed."""

    step: str
    model: str
    parameters: int
    device: str
    dtype: str
    flops_per_second: float


def measured_in(folders: Iterable[Path]) -> list[Measured]:
    """The speeds of all stored steps of these runs; what cannot be read is passed over."""
    found: list[Measured] = []
    for run in folders:
        settings = read_manifest(run).get("config", {})
        for model in settings.get("models", ()):
            own = settings | settings.get("overrides", {}).get(model, {})
            try:
                found += list(_of_model(run, str(model), own))
            except (LensEmotionError, OSError, json.JSONDecodeError):  # also files that lie there no more
                continue
    return found


def _of_model(run: Path, model: str, settings: dict[str, Any]) -> Iterator[Measured]:
    shape, texts = shape_of(model), texts_for(model, settings.get("stimuli"))
    if shape is None:
        return
    files: dict[str, Any] = {name: settings.get(name) for name in ("prompts", "scenarios")}
    for step in (READING, WRITING, PRESET, STEERING):
        record = read_record(run / safe_name(resolve(model).label) / step)
        if record is None or record.seconds <= 0:
            continue
        used: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record.inputs["settings"].items()}
        speed = work_of(step, StudyConfig(**used, **files), texts, shape).flops / record.seconds
        on = record.inputs["model"]
        yield Measured(step, model, shape.parameters, on["device"], on["dtype"], speed)


def _speed(step: str, shape: Shape, model: Identity, known: Sequence[Measured]) -> tuple[float, str]:
    """Operations a second, and in words where the number comes from: the model nearest in size, else an assumption."""

    def far(measured: Measured) -> float:
        return abs(math.log(measured.parameters / shape.parameters))

    alike = [m for m in known if (m.step, m.device, m.dtype) == (step, model.device, model.dtype)]
    if near := [m for m in alike if far(m) <= math.log(NEAR)]:
        best = min(near, key=far)
        return best.flops_per_second, f"measured on {best.model}"
    reading, writing = ASSUMED.get(model.device, ASSUMED["cpu"])
    return (reading if step == READING else writing), "assumed"
