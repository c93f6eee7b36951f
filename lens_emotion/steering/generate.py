"""Many steering conditions as few large batches: every row may carry its own vector, dose, mode, layers and prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lens_emotion.errors import DoseError, GenerationError
from lens_emotion.files.journal import Journal, Record, are_ids, batch_key, remembered_batches
from lens_emotion.files.user import shown
from lens_emotion.models.access import Model, ModelInfo, describe
from lens_emotion.models.decoding import OnStep, broken_at, check_prompts, generate_tokens
from lens_emotion.models.forward import not_finite, plan_batches, run_halving, writing_budget
from lens_emotion.models.layers import Layers, resolve_layers
from lens_emotion.models.prompting import decode_text, encode
from lens_emotion.models.sampling import GREEDY, Sampling
from lens_emotion.progress import track
from lens_emotion.steering.dose import Dose, as_dose
from lens_emotion.steering.hooks import Centre, Intervention, Positions, RowEdits, check_fits
from lens_emotion.stimuli.sets import well_formed
from lens_emotion.vectors.emotion_vectors import EmotionVector

NO_DOSE = Dose(0.0)
OnIds = Callable[[dict[int, list[int]]], None]  # index of a condition -> its new tokens so far
ROW_FORMAT = 1  # raised whenever equal keys would no longer mean equal texts


@dataclass(frozen=True)
class Condition:
    """One text to generate: a prompt, and what is done while it is continued (no vector: unsteered).

    Attributes:
        vector: one, or several for mode "ablate".
        layers: where; None for the layers of the whole call.
        mode, centre: see `hooks.Intervention`.
        seed: of sampling, for this text.

    Raises:
        GenerationError: the prompt is no text. DoseError: the vector is none, the dose no number, or the seed a mode.
    """

    prompt: str
    vector: EmotionVector | tuple[EmotionVector, ...] | None = None
    dose: Dose = NO_DOSE
    seed: int = 0
    layers: Layers = None
    mode: str = "add"
    centre: Centre = 0.0

    def __post_init__(self) -> None:
        usage = "Condition(prompt, vectors['calm'], dose, mode=...)"
        if not isinstance(self.prompt, str):
            raise GenerationError(f"the prompt is text, got {shown(self.prompt)}; write {usage}")
        held = tuple(self.vector) if isinstance(self.vector, list | tuple) else self.vector
        for vector in () if held is None else held if isinstance(held, tuple) else (held,):
            if not isinstance(vector, EmotionVector):
                raise DoseError(f"the vector is one of emotion_vectors(acts), got {shown(vector)}; write {usage}")
        if isinstance(self.seed, str):
            raise DoseError(f"the seed is a whole number, got {shown(self.seed)}; write {usage}")
        object.__setattr__(self, "vector", held)
        object.__setattr__(self, "dose", as_dose(self.dose))

    def intervention(self, default: Sequence[int], n_layers: int) -> Intervention | None:
        """What is done, or None if nothing is.

        Raises:
            DoseError: an unknown mode or layer.
        """
        if self.vector is None:
            return None
        vectors = self.vector if isinstance(self.vector, tuple) else (self.vector,)
        layers = tuple(default) if self.layers is None else resolve_layers(self.layers, n_layers)
        return Intervention(vectors, self.dose, layers, self.mode, self.centre)


@dataclass(frozen=True)
class Continuation:
    """What came of a condition.

    Attributes:
        broken: the steering pushed the model beyond the numbers that it can hold (NaN or infinite logits), and the text
            ends there.
    """

    prompt_ids: tuple[int, ...]
    new_ids: tuple[int, ...]
    text: str
    broken: bool = False


def generate_steered(
    model: Model,
    conditions: Sequence[Condition],
    layers: Sequence[int],
    *,
    max_new_tokens: int = 40,
    sampling: Sampling = GREEDY,
    positions: Positions = "all",
    token_budget: int | None = None,
    progress: bool = True,
    on_ids: OnIds | None = None,
    journal: Journal | None = None,
    allow_other_model: bool = False,
) -> list[Continuation]:
    """Continue every condition's prompt under its own steering, batched; equal to one-by-one.

    Args:
        layers: layers to steer where a condition names none (see `models.layers.resolve_layers`).
        sampling: greedy, or sampled with the seed of each condition.
        positions: "all", "generated", "prompt" or positions of the prompt (see `hooks.Tracker`). Under
            "generated" every distinct prompt of a batch is read once.
        token_budget: prompt and new tokens of a batch; default what the device's memory holds.
        on_ids: told after every step all new tokens so far of the conditions that grew. What it raises ends the
            generation and leaves no hook behind. Without a journal only: stored texts do not grow.
        journal: keeps finished batches, and those it holds are not generated again.
        allow_other_model: take vectors of another model, as `steer` does.

    Raises:
        FingerprintError, UnsupportedModelError, DoseError, ContextLengthError: before anything is generated.
        GenerationError, StimulusError: no conditions, a number of tokens below 1, an empty prompt; likewise.
        NotFiniteError: NaN or infinite logits without steering; with it, the text ends there (`Continuation.broken`).
    """
    prompts = _encoded(model, conditions)
    check_prompts(model, list(prompts.values()), max_new_tokens)
    out: list[Continuation | None] = [None] * len(conditions)
    run: dict[str, Any] = {"max_new_tokens": max_new_tokens, "sampling": sampling, "positions": positions}
    any_model: dict[str, Any] = {"allow_other_model": allow_other_model}
    batches = (
        steered_batches(model, conditions, layers, token_budget=token_budget, on_ids=on_ids, **any_model, **run)
        if journal is None
        else _kept_batches(model, conditions, layers, token_budget, journal, run, **any_model)
    )
    for batch in track(batches, "steering", total=len(conditions), step=len, show=progress):
        for i, continuation in batch:
            out[i] = continuation
    return [c for c in out if c is not None]


def _encoded(model: Model, conditions: Sequence[Condition]) -> dict[str, tuple[int, ...]]:
    """Token ids of every distinct prompt: a grid holds each of them many times."""
    return {prompt: tuple(encode(model, prompt)) for prompt in dict.fromkeys(c.prompt for c in conditions)}


def _kept_batches(
    model: Model,
    conditions: Sequence[Condition],
    layers: Sequence[int],
    token_budget: int | None,
    journal: Journal,
    run: dict[str, Any],
    *,
    allow_other_model: bool,
) -> Iterator[list[tuple[int, Continuation]]]:
    """The same batches as without a journal, whatever it holds: rounding depends on who shares a batch."""
    info, prompts = describe(model), _encoded(model, conditions)
    budget = writing_budget(model, max(map(len, prompts.values())), run["max_new_tokens"], token_budget)
    lengths = [len(prompts[c.prompt]) + run["max_new_tokens"] for c in conditions]

    def write(batch: list[int]) -> Record:
        chosen = [conditions[i] for i in batch]
        any_model: dict[str, Any] = {"allow_other_model": allow_other_model}
        found = steered_batches(model, chosen, layers, token_budget=budget, **any_model, **run)
        new = {i: c for part in found for i, c in part}
        rows = [new[i] for i in range(len(batch))]
        return Record({"new_ids": [list(c.new_ids) for c in rows], "broken": [c.broken for c in rows]})

    def key(batch: list[int]) -> str:
        chosen = [conditions[i] for i in batch]
        rows = [row_key(info, c, prompts[c.prompt], layers=layers, **run) for c in chosen]
        return batch_key("steered", info.device, rows)

    def fits(batch: list[int], kept: Record) -> bool:
        broken = kept.values.get("broken", [False] * len(batch))  # which older journals do not have
        listed = isinstance(broken, list) and len(broken) == len(batch) and all(isinstance(b, bool) for b in broken)
        return listed and are_ids(kept.values.get("new_ids"), len(batch), run["max_new_tokens"], model.cfg.d_vocab)

    for batch, record in remembered_batches(journal, plan_batches(lengths, budget), key, write, fits):
        chosen = [conditions[i] for i in batch]
        new_ids = record.values["new_ids"]
        broken = record.values.get("broken", [False] * len(new_ids))
        yield [
            (i, Continuation(prompts[c.prompt], tuple(new), well_formed(decode_text(model, new)), bool(lost)))
            for i, c, new, lost in zip(batch, chosen, new_ids, broken, strict=True)
        ]


def row_key(
    info: ModelInfo,
    condition: Condition,
    prompt_ids: Sequence[int],
    *,
    sampling: Sampling,
    positions: Positions,
    max_new_tokens: int,
    layers: Sequence[int] = (),
) -> str:
    """Hash of all that a text depends on: model, backend, precision, what is done at which layer, prompt, sampling."""
    where = positions if isinstance(positions, (str, int, slice)) else [int(p) for p in positions]
    drawn: tuple[float, ...] | None = None
    if not sampling.greedy:
        drawn = (sampling.temperature, sampling.top_p, sampling.seed, condition.seed)
        drawn += (() if sampling.top_k is None else (sampling.top_k,)) + sampling.version
    model = (info.fingerprint, info.backend, info.dtype, info.processed)
    digest = hashlib.sha256(repr((ROW_FORMAT, model, list(prompt_ids), repr(where), drawn, max_new_tokens)).encode())
    done = condition.intervention(layers, info.n_layers)
    if done is not None and not done.idle:
        for layer in done.layers:
            edit = done.at(layer)
            for part in (edit.delta, edit.basis):
                digest.update(f"|{layer}|".encode())
                digest.update(b"" if part is None else part.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


def steered_batches(
    model: Model,
    conditions: Sequence[Condition],
    layers: Sequence[int],
    *,
    max_new_tokens: int,
    sampling: Sampling = GREEDY,
    positions: Positions = "all",
    token_budget: int | None = None,
    on_ids: OnIds | None = None,
    allow_other_model: bool = False,
) -> Iterator[list[tuple[int, Continuation]]]:
    """What `generate_steered` does, batch by batch: index of each condition, and what came of it."""
    done = [c.intervention(layers, model.cfg.n_layers) for c in conditions]
    vectors = {id(v): v for d in done if d is not None for v in d.vectors}
    if vectors:
        check_fits(model, *vectors.values(), allow_other_model=allow_other_model, allow_processed=True)
    prompts = _encoded(model, conditions)
    if conditions:
        check_prompts(model, list(prompts.values()), max_new_tokens)

    def run(rows: list[int]) -> list[tuple[int, Continuation]]:
        ids = [prompts[conditions[i].prompt] for i in rows]
        edits = RowEdits([done[i] for i in rows], model.cfg.d_model, positions)
        hooks = edits.hooks()
        broken: set[int] = set()
        new = generate_tokens(
            model,
            ids,
            max_new_tokens,
            sampling,
            hooks,
            [sampling.seed * 1_000_003 + conditions[i].seed for i in rows],
            share_prompts=positions == "generated" or not hooks,
            on_keep=edits.keep,
            on_step=_growing(rows, on_ids) if on_ids else None,
            on_broken=broken.update,
        )
        for k in sorted(broken):
            what = done[rows[k]]
            if what is None or what.idle:  # no dose did it
                raise not_finite(model, broken_at(model, [*ids[k], *new[k]]))
        return [
            (i, Continuation(p, tuple(n), well_formed(decode_text(model, n)), k in broken))
            for k, (i, p, n) in enumerate(zip(rows, ids, new, strict=True))
        ]

    if not conditions:
        return
    budget = writing_budget(model, max(map(len, prompts.values())), max_new_tokens, token_budget)
    for batch in plan_batches([len(prompts[c.prompt]) + max_new_tokens for c in conditions], budget):
        yield run_halving(batch, run, model, "steering")


def _growing(rows: Sequence[int], on_ids: OnIds) -> OnStep:
    """New tokens of a batch's rows, as all tokens so far of their conditions: whole, so that a batch may begin anew."""
    so_far: dict[int, list[int]] = {i: [] for i in rows}

    def on_step(new: dict[int, int]) -> None:
        for row, token in new.items():
            so_far[rows[row]].append(token)
        on_ids({rows[row]: list(so_far[rows[row]]) for row in new})

    return on_step
