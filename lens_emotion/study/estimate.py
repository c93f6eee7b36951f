"""What a study of one model needs: tokens, arithmetic, memory and disk, from shapes and settings alone.

Formulas, not measurements, but for the sizes of records, tables and reports, which were measured on the tiny five, and
characters per token, measured on three tokenizers (4.3 in all of them).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from lens_emotion.extraction.batching import CPU_BUDGET, TOKEN_BUDGET
from lens_emotion.extraction.generation import GENERATION_BUDGET, WATCHED_BYTES
from lens_emotion.models.shapes import Shape
from lens_emotion.stimuli.prompts import story_prompts
from lens_emotion.stimuli.sets import StimulusSet
from lens_emotion.study.config import StudyConfig
from lens_emotion.study.keys import PRESET, READING, STEERING, WRITING, prompts_for, scenarios_for, steps_of

CHARACTERS = 4.3  # of a token of English, with the tokenizers of the tiny five, SmolLM2 and Qwen2.5
TEMPLATE = 20  # tokens of a chat template around a prompt
RECORD = 240  # bytes of a text's labels in a file of activations, beside the text
STEERED_ROW = 550  # bytes of a steered text's measures and scores in dose_response.json, beside the text
REPORT = (4.6e6, 1.3e5)  # bytes of report.html, and of each model's part of it
PROGRAM = 5e8  # bytes of Python with torch and transformers
ITEM = {"float32": 4, "bfloat16": 2, "float16": 2}


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


def work_of(step: str, config: StudyConfig, texts: StimulusSet, shape: Shape) -> Work:
    """Tokens and arithmetic of a step: two operations a parameter and token (Kaplan et al. 2020, arXiv 2001.08361)."""
    if step == READING:
        return _work(shape, len(texts), sum(map(len, texts.texts)) / CHARACTERS, 0)
    if step == STEERING:
        openings = scenarios_for(texts)
        length = sum(len(s.opening) for s in openings) / CHARACTERS
        n, scored = 1 + 4 * len(config.doses), 1 + 3 * len(config.doses)  # emotion, other, random, null (not scored)
        new = len(openings) * config.steered_tokens
        return _work(shape, n * len(openings), (n + scored) * length + scored * new, n * new)
    prompts = [p.text for p in story_prompts("jeong" if step == PRESET else "topic-crossed", prompts_for(texts))]
    jobs = list(dict.fromkeys(prompts)) if step == PRESET else prompts  # greedy answers are shared
    new = len(jobs) * (config.jeong_tokens if step == PRESET else config.story_tokens)
    read = sum(len(p) / CHARACTERS + TEMPLATE for p in jobs) + (new if step == WRITING else 0)
    return _work(shape, len(prompts), read, new)


def _work(shape: Shape, texts: int, read: float, written: float) -> Work:
    return Work(texts, round(read), round(written), 2.0 * shape.body * (read + written) + 2.0 * shape.head * written)


def needs_of(config: StudyConfig, texts: StimulusSet, shape: Shape, dtype: str, device: str) -> Needs:
    """Memory and disk of a study of one model."""
    item, steps = ITEM.get(dtype, 4), steps_of(config)
    weights = float(shape.parameters * item)
    batch = _reading_batch(texts, shape, item, device)
    if WRITING in steps:
        lengths = [(WRITING, config.story_tokens), (PRESET, config.jeong_tokens)]
        batch = max(batch, *(_writing_batch(step, new, config, texts, shape, item) for step, new in lengths))
    if STEERING in steps:
        batch = max(batch, _decoding(shape, item, *_rows(STEERING, config.steered_tokens, config, texts, shape)))
    rows = sum(_rows_kept(config, texts).values())
    host = 2.0 * rows * shape.n_layers * shape.d_model * 4
    program = PROGRAM if device == "cpu" else 0.0
    return Needs(weights, weights + batch + program, host, disk_of(config, texts, shape))


def disk_of(config: StudyConfig, texts: StimulusSet, shape: Shape) -> float:
    """Bytes of a model's folder: activations in float32, the texts' labels, the steering result, tables, figures."""
    row = shape.n_layers * shape.d_model * 4
    length = {READING: sum(map(len, texts.texts)) / len(texts)}
    length |= {WRITING: CHARACTERS * config.story_tokens / 2, PRESET: CHARACTERS * config.jeong_tokens / 2}
    total = 0.0
    for step, n in _rows_kept(config, texts).items():
        total += n * (row + RECORD + length[step])
    if config.generation:  # stories.json, and their place in tables
        total += _count(WRITING, texts) * (140 + length[WRITING]) + _count(PRESET, texts) * (140 + length[PRESET])
    if config.steering:
        steered = (1 + 3 * len(config.doses)) * len(scenarios_for(texts))
        total += steered * (STEERED_ROW + CHARACTERS * config.steered_tokens)
        total += steered * (60 + CHARACTERS * config.steered_tokens)  # steering_texts.csv
    methods = 1 + 2 * config.generation
    total += len(texts.emotions) * row + 1.2e5 + methods * 2.5e4 + methods * shape.n_layers * 7e3  # tables, figures
    return total


def _rows_kept(config: StudyConfig, texts: StimulusSet) -> dict[str, int]:
    """Step -> rows of activations stored: two poolings of what is read, two readings of what is written."""
    kept = {READING: 2 * len(texts)}
    if config.generation:
        kept |= {WRITING: 2 * _count(WRITING, texts), PRESET: _count(PRESET, texts)}
    return kept


def _count(step: str, texts: StimulusSet) -> int:
    return len(story_prompts("jeong" if step == PRESET else "topic-crossed", prompts_for(texts)))


def _reading_batch(texts: StimulusSet, shape: Shape, item: int, device: str) -> float:
    """States of every layer of the largest batch, and one block's inner width."""
    budget = CPU_BUDGET if device == "cpu" else TOKEN_BUDGET
    tokens = max(budget, max(map(len, texts.texts)) / CHARACTERS)
    return tokens * ((shape.n_layers + 4) * shape.d_model * item + 3 * shape.d_mlp * item)


def _rows(step: str, new: int, config: StudyConfig, texts: StimulusSet, shape: Shape) -> tuple[int, float]:
    """Rows of the largest decoding batch, and their length."""
    if step == STEERING:
        openings = scenarios_for(texts)
        n = len(openings) * (1 + 4 * len(config.doses))
        length = sum(len(s.opening) for s in openings) / len(openings) / CHARACTERS + new
    else:
        prompts = {p.text for p in story_prompts("jeong" if step == PRESET else "topic-crossed", prompts_for(texts))}
        n, length = len(prompts), sum(map(len, prompts)) / len(prompts) / CHARACTERS + TEMPLATE + new
    return max(1, min(n, int(GENERATION_BUDGET / length))), length


def _writing_batch(step: str, new: int, config: StudyConfig, texts: StimulusSet, shape: Shape, item: int) -> float:
    """A decoding batch whose states are held while it writes: `generation.watched_length` bounds it."""
    n, length = _rows(step, new, config, texts, shape)
    state = (new + 1) * shape.n_layers * shape.d_model * item
    least = max(2 * (new + 1), ceil(GENERATION_BUDGET * state / WATCHED_BYTES))
    rows = max(1, min(n, int(GENERATION_BUDGET / max(length, least))))
    return rows * state + _decoding(shape, item, rows, length)


def _decoding(shape: Shape, item: int, rows: int, length: float) -> float:
    """Keys and values of a decoding batch, and its logits (in the model's precision, float32 and sorted)."""
    return rows * (length * shape.kv_per_token * item + shape.d_vocab * (item + 4 + 4))
