"""Generation-based extraction: the model writes stories, and its states are read over what it wrote.

Two different quantities come out of one set of stories, and both are named: "conditioned" states are read with the
instruction in front, so they also carry the request; "reread" states are those of the bare story, as any reader's.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformer_lens import ActivationCache

from lens_emotion.display import Brief
from lens_emotion.errors import StimulusError
from lens_emotion.extraction.activations import Header, PooledActivations, TextRecord
from lens_emotion.extraction.comprehension import check_classes, default_stimuli, notes_on_copies
from lens_emotion.extraction.pooling import Pooling, middle_token, story_mean
from lens_emotion.extraction.reader import Reading, account, check_readings, make_header, read_texts
from lens_emotion.extraction.while_writing import (
    StoryStates,
    Written,
    as_record,
    from_record,
    is_written,
    states_of,
    watch,
)
from lens_emotion.files.journal import Journal, Record, batch_key, remembered_batches
from lens_emotion.models.access import Model, check_raw_basis, describe
from lens_emotion.models.decoding import generate_tokens
from lens_emotion.models.forward import check_count, cpu_budgets, plan_batches, run_halving, writing_budget
from lens_emotion.models.prompting import TokenisedText, check_length, decode_text, encode, special_ids, tokenise_prompt
from lens_emotion.models.sampling import GREEDY, Sampling
from lens_emotion.progress import track
from lens_emotion.stimuli.prompts import StoryPrompt, story_prompts
from lens_emotion.stimuli.sets import Stimulus, StimulusSet, has_text, well_formed

CAPTURES = ("while writing", "reread")
STORY_START = 8  # content tokens of a story that are not pooled: its beginning is the prompt's, "Sure, here is"
JEONG_SHORT = 10  # with so few generated tokens or fewer, arXiv 2604.04064 reads the last prompt token
WATCHED_BYTES = 1 << 30  # states held of a batch that is read while it is written: an 8B model's take half a MB a token

ReadAs = Callable[[ActivationCache, Sequence[Sequence[int]]], list[StoryStates]]


@dataclass(frozen=True)
class Story:
    """What the model wrote to one prompt."""

    prompt: StoryPrompt
    prompt_ids: tuple[int, ...]
    new_ids: tuple[int, ...]
    text: str
    states: StoryStates | None = None  # what was read while it was written


class NoStoriesError(StimulusError):
    """Too few stories hold text to tell two emotions apart. `stories` has what was written."""

    stories: StimulusSet


@dataclass(frozen=True, eq=False, repr=False)
class GeneratedActivations(Brief):
    """Stories a model wrote, and its states over them.

    Attributes:
        stories: all that was written, labelled. Stories without text, or too short for the pooling, have no states: the
            header's notes count them.
        conditioned: states with the instruction in front.
        reread: states of the bare story, None for the "jeong" preset, which has no such reading.
    """

    stories: StimulusSet
    conditioned: PooledActivations
    reread: PooledActivations | None

    def _repr_html_(self) -> str:
        parts = [("instruction in front", self.conditioned), ("bare story read again", self.reread)]
        return "".join(f"<p>{name}:</p>{acts._repr_html_()}" for name, acts in parts if acts is not None)


def extract_generation(
    model: Model,
    prompts: Sequence[StoryPrompt] | None = None,
    *,
    preset: str = "topic-crossed",
    stimuli: str | None = None,
    max_new_tokens: int | None = None,
    sampling: Sampling | None = None,
    pooling: Pooling | None = None,
    capture: str = CAPTURES[0],
    allow_processed: bool = False,
    progress: bool = True,
    journal: Journal | None = None,
) -> GeneratedActivations:
    """Let the model write stories and read its states over them, every layer.

    Args:
        model: TransformerBridge or HookedTransformer.
        prompts: story prompts; None takes those of `preset` for the model's stimulus set.
        preset: "topic-crossed" (one story per emotion and topic, sampled at temperature 0.8 with a seed per story,
            story mean) or "jeong" (arXiv 2604.04064: five templates, ten stories per emotion, greedy, the one token
            at prompt_len + generated_len // 2, or the last prompt token if 10 or fewer were generated).
        stimuli: whose prompts to take where `prompts` is None.
        max_new_tokens: default 128 ("topic-crossed") or 256 ("jeong"), less where the context is shorter.
        pooling: default `story_mean(start=8)` ("topic-crossed") or `middle_token()` ("jeong").
        capture: how the conditioned states are had: "while writing" (kept as each token is written) or "reread" (a
            second pass over prompt and story). Equal up to rounding; the bare story always takes a pass of its own.
        journal: keeps finished batches, and those it holds are neither written nor read again.
        sampling: how tokens are drawn; default that of the preset.
        allow_processed: accept processed weights; recorded in the header.
        progress: show a bar.

    Raises:
        StimulusError: a single emotion, an unknown `capture`; NoStoriesError: stories of fewer than two emotions are
            long enough to pool.
        GenerationError: a number of tokens below 1.
        NotFiniteError: states or logits that hold NaN or infinity.
        UnsupportedModelError: the model is in training mode.
        ContextLengthError: a prompt that leaves no room to write.
        ProcessedModelError: processed weights without `allow_processed`.

    Example:
        >>> written = le.extract_generation(model, prompts, max_new_tokens=24)
        >>> len(written.stories), written.reread.values.shape[1:]
        (48, torch.Size([6, 64]))
    """
    if capture not in CAPTURES:
        raise StimulusError(f"unknown capture '{capture}'; use {' or '.join(map(repr, CAPTURES))}")
    check_raw_basis(model, allow_processed)
    jeong = preset == "jeong"
    chosen = tuple(prompts if prompts is not None else story_prompts(preset, stimuli or default_stimuli(model)))
    if wrong := [p for p in chosen if not isinstance(p, StoryPrompt)]:
        raise StimulusError(f"{wrong[0]!r} is no story prompt; give a list of le.StoryPrompt (see story_prompts)")
    sampling = sampling or (GREEDY if jeong else Sampling(temperature=0.8, top_p=0.95, seed=0))
    pooling = pooling or (middle_token() if jeong else story_mean(start=STORY_START))
    check_classes(StimulusSet("prompts", tuple(Stimulus(p.prompt_id, p.text, p.emotion, p.topic) for p in chosen)))
    special = special_ids(model)

    def pool_written(cache: ActivationCache, written: Sequence[Sequence[int]]) -> list[StoryStates]:
        # over the tokens that reading again would take; position 0 is the last prompt token
        content = [[_is_content(new, i, 1, special, jeong) for i in range(len(new) + 1)] for new in written]
        return states_of(cache, content, pooling)

    if max_new_tokens is not None:
        check_count("max_new_tokens", max_new_tokens)
    read_as = pool_written if capture == "while writing" else None
    length, read_name = max_new_tokens or (256 if jeong else 128), (pooling.name, capture, jeong)
    stories = write_stories(model, chosen, length, sampling, progress, read_as, journal, read_name)
    variant = (preset, None if sampling.greedy else sampling.seed)
    return _read(model, stories, pooling, read_as is not None, variant, allow_processed, progress, journal)


def _read(
    model: Model,
    stories: Sequence[Story],
    pooling: Pooling,
    watched: bool,
    variant: tuple[str, int | None],
    allow_processed: bool,
    progress: bool,
    journal: Journal | None,
) -> GeneratedActivations:
    """Both readings of the stories; `variant` is the preset and the seed."""
    preset, seed = variant
    jeong = preset == "jeong"
    special, start = special_ids(model), encode(model, "")  # BOS or nothing
    kept, notes = _usable(stories, pooling, special, start, jeong)
    written = labelled(stories)
    facts: dict[str, Any] = {"allow_processed": allow_processed, "seed": seed, "notes": notes}
    facts["variant"] = f"{preset}, conditioned"
    header = make_header(model, "generation", pooling.name, written.name, written.sha256, **facts)
    items = labelled(kept).items
    records = [TextRecord(i.text_id, i.emotion, i.topic, i.text, split="generated") for i in items]
    readings = [Reading(_conditioned(s, special, jeong), r) for s, r in zip(kept, records, strict=True)]
    if watched:
        conditioned = _gather(model, kept, readings, pooling, header)
    else:
        conditioned = read_texts(model, readings, pooling, header, None, "reading stories", progress, journal)
    if jeong:
        return GeneratedActivations(written, conditioned, None)
    bare = [Reading(_bare(s, special, start), r) for s, r in zip(kept, records, strict=True)]
    header = header.with_(variant=f"{preset}, reread")
    reread = read_texts(model, bare, pooling, header, None, "rereading stories", progress, journal)
    return GeneratedActivations(written, conditioned, reread)


def write_stories(
    model: Model,
    prompts: Sequence[StoryPrompt],
    max_new_tokens: int,
    sampling: Sampling,
    progress: bool = True,
    read_as: ReadAs | None = None,
    journal: Journal | None = None,
    read_name: object = "",
) -> list[Story]:
    """Let the model answer every prompt. Greedy answers to equal prompts are written once and shared.

    `read_as` pools what is watched of a batch while it is written; the stories then carry their states. `journal`
    keeps finished batches under a key that names `read_as` by `read_name`.
    """
    tokenised = [tokenise_prompt(model, p.text).ids for p in prompts]
    room = model.cfg.n_ctx - max(map(len, tokenised))
    check_length(model, max(map(len, tokenised)), "story prompt", new_tokens=min(16, max_new_tokens))
    new_tokens = min(max_new_tokens, room)
    jobs = list(dict.fromkeys(tokenised)) if sampling.greedy else tokenised
    done: list[Written] = [((), None)] * len(jobs)

    def run(rows: list[int]) -> list[Written]:
        seeds = [sampling.seed * 1_000_003 + i for i in rows]
        return _write(model, [jobs[i] for i in rows], new_tokens, sampling, seeds, read_as)

    def write(batch: list[int]) -> Record:
        return as_record(run_halving(batch, run, model, "writing stories"))

    def key(batch: list[int]) -> str:
        rows = [(i, jobs[i]) for i in batch]  # the seeds depend on i
        return batch_key("writing stories", describe(model), new_tokens, sampling, read_name, rows, *sampling.version)

    def fits(batch: list[int], kept: Record) -> bool:
        return is_written(kept, model, len(batch), new_tokens, watched=read_as is not None)

    states = states_per_row(model, new_tokens) if read_as else 0
    budget = writing_budget(model, max(map(len, jobs)), new_tokens, states=states)
    least = watched_length(model, new_tokens) if read_as and budget <= cpu_budgets(model.cfg.d_model)[1] else 0
    batches = plan_batches([max(len(ids) + new_tokens, least) for ids in jobs], budget)
    finished = remembered_batches(journal, batches, key, write, fits)
    for batch, found in track(finished, "writing stories", len(jobs), step=lambda pair: len(pair[0]), show=progress):
        for i, written in zip(batch, from_record(found), strict=True):
            done[i] = written
    answers = dict(zip(jobs, done, strict=True)) if sampling.greedy else {}
    return [
        Story(p, ids, new, well_formed(decode_text(model, new)), states)
        for i, (p, ids) in enumerate(zip(prompts, tokenised, strict=True))
        for new, states in [answers[ids] if sampling.greedy else done[i]]
    ]


def watched_length(model: Model, new_tokens: int) -> int:
    """Length at which a row counts in a small batch that is read while it is written: at most half the rows of another
    decoding batch, and no more than `WATCHED_BYTES` of states. Larger batches are bounded by memory."""
    states = cpu_budgets(model.cfg.d_model)[1] * states_per_row(model, new_tokens)
    return max(2 * (new_tokens + 1), math.ceil(states / WATCHED_BYTES))


def states_per_row(model: Model, new_tokens: int) -> int:
    """Bytes of the states that are held of a row while it is written."""
    return (new_tokens + 1) * model.cfg.n_layers * model.cfg.d_model * model.cfg.dtype.itemsize


def _write(
    model: Model,
    prompts: list[tuple[int, ...]],
    new_tokens: int,
    sampling: Sampling,
    seeds: list[int],
    read_as: ReadAs | None,
) -> list[Written]:
    """One batch: new token ids and, if watched, the states over them."""
    if read_as is None:
        return [(tuple(new), None) for new in generate_tokens(model, prompts, new_tokens, sampling, row_seeds=seeds)]
    seen = watch(model, len(prompts), new_tokens)
    hooks: dict[str, Any] = {"fwd_hooks": seen.hooks, "on_keep": seen.keep, "read_last": True}
    written = generate_tokens(model, prompts, new_tokens, sampling, row_seeds=seeds, **hooks)
    return [(tuple(new), states) for new, states in zip(written, read_as(seen.cache, written), strict=True)]


def _gather(
    model: Model, stories: Sequence[Story], readings: Sequence[Reading], pooling: Pooling, header: Header
) -> PooledActivations:
    """The states that stories carry, as activations."""
    check_readings(model, readings, [pooling])
    states = [s.states for s in stories if s.states is not None]
    n_content = sum(sum(r.tokens.content) for r in readings)
    norm = torch.stack([s.norm_sum for s in states]).sum(0) / max(n_content, 1)
    records = tuple(account(r, s.n_pooled) for r, s in zip(readings, states, strict=True))
    return PooledActivations(torch.stack([s.row for s in states]), records, norm.float(), header)


def labelled(stories: Sequence[Story]) -> StimulusSet:
    """The stories with the labels of their prompts."""
    items = (Stimulus(s.prompt.prompt_id, s.text, s.prompt.emotion, s.prompt.topic) for s in stories)
    return StimulusSet("stories", tuple(items))


def _usable(
    stories: Sequence[Story], pooling: Pooling, special: frozenset[int], start: Sequence[int], jeong: bool
) -> tuple[list[Story], tuple[str, ...]]:
    """Stories that hold text, enough of it to pool, with notes on what was left out or duplicated.

    Raises:
        NoStoriesError: of fewer than two emotions.
    """
    need = 0 if jeong else pooling.min_content + 1  # the bare story also loses position 0 where there is no BOS

    def long_enough(story: Story) -> bool:
        forms = [_conditioned(story, special, jeong)] + ([] if jeong else [_bare(story, special, start)])
        return len(story.new_ids) >= need and all(sum(form.content) >= pooling.min_content for form in forms)

    told = [s for s in stories if has_text(s.text)]
    kept = [s for s in told if long_enough(s)]
    notes = []
    if empty := len(stories) - len(told):
        notes.append(f"{empty} of {len(stories)} stories hold no text and were left out")
    if left := len(told) - len(kept):
        notes.append(f"{left} of {len(stories)} stories had fewer than {need} tokens: left out")
    notes += _unbalanced(stories, kept)
    distinct = len({s.text for s in kept})
    if distinct < len(kept):
        notes.append(f"{distinct} distinct texts among {len(kept)} stories (greedy decoding repeats equal prompts)")
    if len(labelled(kept).emotions) < 2:
        without = f", {empty} hold no text" if empty else ""
        error = NoStoriesError(
            f"the model wrote almost nothing: {len(kept)} of {len(stories)} stories are long enough to read{without}; "
            "raise max_new_tokens, or use a model that follows instructions"
        )
        error.stories = labelled(stories)
        raise error
    return kept, (*notes, *notes_on_copies(labelled(kept).items))


def _unbalanced(stories: Sequence[Story], kept: Sequence[Story]) -> list[str]:
    """A note where emotions that had equal numbers of prompts are left with unequal numbers of stories."""
    asked, left = (Counter(s.prompt.emotion for s in of) for of in (stories, kept))
    counts = {e: left[e] for e in asked}
    few, many = min(counts, key=counts.__getitem__, default=""), max(counts, key=counts.__getitem__, default="")
    if len(set(asked.values())) > 1 or len(set(counts.values())) < 2:
        return []
    return [f"unbalanced: from {counts[few]} stories ({few}) to {counts[many]} ({many}) an emotion are left"]


def _conditioned(story: Story, special: frozenset[int], jeong: bool) -> TokenisedText:
    ids, n = (*story.prompt_ids, *story.new_ids), len(story.prompt_ids)
    content = tuple(_is_content(story.new_ids, i, n, special, jeong) for i in range(len(ids)))
    return TokenisedText(ids, content, n)


def _bare(story: Story, special: frozenset[int], start: Sequence[int]) -> TokenisedText:
    ids = (*start, *story.new_ids)
    return TokenisedText(ids, tuple(i > 0 and token not in special for i, token in enumerate(ids)), len(start))


def _is_content(new: Sequence[int], position: int, start: int, special: frozenset[int], jeong: bool) -> bool:
    """Whether a position is read, where the new tokens begin at `start`."""
    if jeong and len(new) <= JEONG_SHORT:
        return position == start - 1
    return position >= start and new[position - start] not in special
