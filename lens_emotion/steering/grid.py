"""steering_grid: emotions x layers x doses x prompts x seeds, with controls, as few large batches; resumable."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lens_emotion.display import Result
from lens_emotion.errors import DoseError, GenerationError
from lens_emotion.files.artifacts import ensure_writable
from lens_emotion.files.journal import append, are_ids, record_bytes, scan
from lens_emotion.files.user import numbers_fit
from lens_emotion.models.access import Model, describe
from lens_emotion.models.layers import Layers, layers_in_words, resolve_layers
from lens_emotion.models.prompting import decode_text, encode
from lens_emotion.models.sampling import GREEDY, Sampling
from lens_emotion.progress import track
from lens_emotion.steering.dose import Dose, as_dose, mean_units
from lens_emotion.steering.generate import Condition, row_key, steered_batches
from lens_emotion.steering.hooks import Positions, check_positions
from lens_emotion.stimuli.emotions import names
from lens_emotion.vectors.emotion_vectors import EmotionVector, EmotionVectors

CONTROLS = ("random", "other")
UNSTEERED = "unsteered"


@dataclass(frozen=True, eq=False, repr=False)
class GridResult(Result):
    """Texts of a grid.

    Attributes:
        table: one row per text: prompt, emotion, layers, dose (in `unit`), dose_natural, dose_relative (means over the
            steered layers), condition ("unsteered", "emotion", "random", "other"), vector (what was added), seed,
            text, n_tokens. Unsteered rows stand once per prompt and seed, with emotion "" and dose 0.
        new_ids: token ids of each text, in the order of the table.
        prompt_ids: token ids of each row's prompt.
        unit: unit of `dose`.
        positions: steered positions.
        sampling: greedy, or temperature and nucleus.
        max_new_tokens: tokens generated at most.
        n_resumed: rows read from the folder instead of generated.
    """

    table: pd.DataFrame
    new_ids: tuple[tuple[int, ...], ...]
    prompt_ids: tuple[tuple[int, ...], ...]
    unit: str
    positions: Positions
    sampling: Sampling
    max_new_tokens: int
    n_resumed: int = 0

    def __len__(self) -> int:
        return len(self.table)

    def summary(self) -> str:
        """How many texts there are, and how many the steering changed at all, beside the same for the controls."""
        base = self.table[self.table.condition == UNSTEERED].set_index(["prompt", "seed"]).text
        parts = []
        for condition, rows in self.table[self.table.condition != UNSTEERED].groupby("condition", sort=False):
            same = base.loc[list(zip(rows.prompt, rows.seed, strict=True))].to_numpy()
            parts.append(f"{int((rows.text.to_numpy() != same).sum())} of {len(rows)} ({condition})")
        return (
            f"{len(self)} texts of {self.table.prompt.nunique()} prompts; texts other than the unsteered one: "
            f"{', '.join(parts)}. That a text changed says nothing about emotion: no judge has read them"
        )


@numbers_fit(GenerationError)
def steering_grid(
    model: Model,
    vectors: EmotionVectors,
    prompts: Sequence[str],
    emotions: Sequence[str] | None = None,
    layer_sets: Sequence[Layers] = (None,),
    doses: Sequence[float] = (1.0, 2.0, 4.0),
    seeds: Sequence[int] = (0,),
    sampling: Sampling = GREEDY,
    positions: Positions = "all",
    controls: Sequence[str] = ("random",),
    folder: str | Path | None = None,
    max_new_tokens: int = 40,
    *,
    unit: str = "natural",
    token_budget: int | None = None,
    progress: bool = True,
) -> GridResult:
    """Continue every prompt under every emotion, layer set, dose and seed, beside the unsteered text and controls.

    Args:
        emotions: all of the vectors' if not given.
        layer_sets: each as `models.layers.resolve_layers` takes it: None (middle), 12, "10-20", [3, 9], "all".
        doses: in `unit`; 0 is always run, once per prompt and seed.
        seeds: of sampling; a single one if greedy.
        positions: see `hooks.Tracker`; "generated" reads every distinct prompt once and is the fastest.
        controls: "random" (a random direction of the emotion's length, another one for every emotion and prompt) and
            "other" (the direction of another emotion at this emotion's length); empty for none.
        folder: where finished batches are kept. Run again with the same folder, only what is missing is generated;
            rows are known by a hash of model, what is added where, prompt, sampling and seed.
        model: TransformerBridge or HookedTransformer.
        vectors: of this model.
        prompts: to be continued.
        sampling: how tokens are drawn; greedy by default.
        max_new_tokens: at most, per text.
        unit: of the doses, "natural" or "relative".
        token_budget: prompt and new tokens of a batch; default what the device's memory holds.
        progress: show a bar.

    Raises:
        DoseError: an empty axis, an unknown layer, unit, control or position, or several seeds for greedy texts.
        UnknownEmotionError, FingerprintError, ContextLengthError, ArtifactError: before anything is generated.

    Example:
        >>> grid = le.steering_grid(model, vectors, ["The door opened and"], ["calm"], doses=(2.0,), max_new_tokens=5)
        >>> sorted(set(grid.table.condition))
        ['emotion', 'random', 'unsteered']
    """
    check_positions(positions)
    _check({"prompt": prompts, "layer set": layer_sets, "dose": doses, "seed": seeds}, sampling, controls)
    chosen = tuple(vectors.emotions if emotions is None else names(emotions))
    if not chosen:
        raise DoseError(f"no emotion given; give some of {', '.join(vectors.emotions)}, or leave emotions out for all")
    sets = list(dict.fromkeys(resolve_layers(layers, vectors.n_layers) for layers in layer_sets))
    for emotion in chosen:
        vectors[emotion].check_layers(sorted({layer for layers in sets for layer in layers}))
    amounts = [a for a in (as_dose(d, unit) for d in dict.fromkeys(doses)) if a.value != 0]
    rows, conditions = _plan(vectors, list(dict.fromkeys(prompts)), chosen, sets, amounts, seeds, controls)
    run: dict[str, Any] = {"max_new_tokens": max_new_tokens, "sampling": sampling, "positions": positions}
    path = None if folder is None else ensure_writable(folder) / FILE
    info, read = describe(model), {p: tuple(encode(model, p)) for p in dict.fromkeys(prompts)}
    keys = [row_key(info, c, read[c.prompt], **run) for c in conditions] if path else []
    kept = read_rows(path, max_new_tokens, model.cfg.d_vocab) if path else {}
    new_ids: list[tuple[int, ...] | None] = [kept.get(k) for k in keys] if path else [None] * len(rows)
    missing = [i for i, ids in enumerate(new_ids) if ids is None]
    batches = steered_batches(model, [conditions[i] for i in missing], (), token_budget=token_budget, **run)
    for batch in track(batches, "steering grid", total=len(missing), step=len, show=progress):
        for i, continuation in batch:
            new_ids[missing[i]] = continuation.new_ids
        if path:
            of_batch = [(missing[i], {"text": c.text, "new_ids": list(c.new_ids)}) for i, c in batch]
            append_rows(path, [{"key": keys[i], **rows[i], **written} for i, written in of_batch])
    ids = tuple(i for i in new_ids if i is not None)
    table = pd.DataFrame(rows).assign(text=[decode_text(model, i) for i in ids], n_tokens=[len(i) for i in ids])
    prompt_ids = tuple(read[p] for p in table.prompt)
    n_resumed = len(rows) - len(missing)
    return GridResult(table, ids, prompt_ids, unit, positions, sampling, max_new_tokens, n_resumed)


def _check(axes: Mapping[str, Sequence[Any]], sampling: Sampling, controls: Sequence[str]) -> None:
    for name, axis in axes.items():
        if axis is None or not hasattr(axis, "__len__"):
            raise DoseError(f"{name}s are {axis!r:.40}; give a list")
    if empty := [name for name, axis in axes.items() if len(axis) == 0]:
        raise DoseError(f"nothing to steer: give at least one {' and one '.join(empty)}")
    for name, axis in (("prompts", axes["prompt"]), ("layer_sets", axes["layer set"])):
        if isinstance(axis, str):
            raise DoseError(f"{name} is one string, {axis!r}; give a list: [{axis!r}]")
    if sampling.greedy and len(set(axes["seed"])) > 1:
        raise DoseError("greedy texts do not depend on the seed; give one seed, or Sampling(temperature=...)")
    if unknown := [c for c in controls if c not in CONTROLS]:
        raise DoseError(f"unknown control '{unknown[0]}'; use {', '.join(CONTROLS)}")


def _plan(
    vectors: EmotionVectors,
    prompts: Sequence[str],
    emotions: Sequence[str],
    sets: Sequence[tuple[int, ...]],
    doses: Sequence[Dose],
    seeds: Sequence[int],
    controls: Sequence[str],
) -> tuple[list[dict[str, Any]], list[Condition]]:
    """The table's first columns, and what is to be generated for each row."""
    plain = {"emotion": "", "layers": "", "dose": 0.0, "dose_natural": 0.0, "dose_relative": 0.0}
    plain |= {"condition": UNSTEERED, "vector": ""}
    seeds = list(dict.fromkeys(seeds))
    rows: list[dict[str, Any]] = [{"prompt": p, **plain, "seed": s} for p in prompts for s in seeds]
    conditions = [Condition(p, seed=s) for p in prompts for s in seeds]
    for emotion in emotions:
        for prompt in prompts:
            added = {"emotion": vectors[emotion]} | {c: _control(vectors, c, emotion, prompt) for c in controls}
            for layers in sets:
                words = layers_in_words(layers, vectors.n_layers)
                for dose in doses:
                    natural, relative = mean_units(vectors[emotion], dose, layers)
                    size = {"dose": dose.value, "dose_natural": natural, "dose_relative": relative}
                    row = {"prompt": prompt, "emotion": emotion, "layers": words, **size}
                    for name, vector in added.items():
                        rows += [{**row, "condition": name, "vector": vector.name, "seed": s} for s in seeds]
                        conditions += [Condition(prompt, vector, dose, s, layers) for s in seeds]
    return rows, conditions


def _control(vectors: EmotionVectors, control: str, emotion: str, prompt: str) -> EmotionVector:
    """Drawn from emotion and prompt alone, so that a grid made larger keeps the controls it had."""
    drawn = int.from_bytes(hashlib.sha256(f"{control}|{emotion}|{prompt}".encode()).digest()[:4], "big")
    return (vectors.random if control == "random" else vectors.other)(drawn, like=emotion)


# Finished rows of a grid as lines of a journal: a batch is appended in one write; a damaged line is made again.
FILE = "steering_grid.jsonl"


def read_rows(path: Path, longest: int = sys.maxsize, below: int = sys.maxsize) -> dict[str, tuple[int, ...]]:
    """Key -> token ids of every whole row; lines that are torn or damaged, or hold other than ids, are left out.

    Args:
        longest: tokens of a row at most. below: what every token id is less than.

    Raises:
        ArtifactError: the file cannot be read.
    """
    found: dict[str, tuple[int, ...]] = {}
    for _, _, values in scan(path):
        if are_ids([values.get("new_ids")], 1, longest, below):
            found[values["key"]] = tuple(values["new_ids"])
    return found


def append_rows(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Append whole rows in one write and bring them to the disk.

    Raises:
        ArtifactError: the file cannot be written.
    """
    append(path, [record_bytes(r["key"], {k: v for k, v in r.items() if k != "key"}) for r in records])
