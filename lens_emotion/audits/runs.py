"""A run folder as a `Subject`: what was read, the vectors, what was steered, and numbers that stand there already."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from lens_emotion.audits.subject import Arm, Subject, Table, VectorSet
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.run.config import PRESET, PUBLISHED, READING, STEERING, WRITING
from lens_emotion.run.look import read_manifest, read_table
from lens_emotion.run.store import Store
from lens_emotion.steering.dose_result import DoseResponse
from lens_emotion.study.steps import DOSES, load_published, load_steered
from lens_emotion.vectors.emotion_vectors import EmotionVectors

# file of a reading -> its table of separation, which holds accuracy, its p and reliability by layer
READINGS = {
    f"{READING}/story_mean": "comprehension",
    f"{READING}/last_token": "jeong_reading",
    f"{WRITING}/conditioned": "generation_conditioned",
    f"{WRITING}/reread": "generation_reread",
    f"{PRESET}/conditioned": "jeong",
}


def run_subject(root: Path) -> Subject:
    """What a run holds; no model is loaded, and nothing that its tables say is computed anew.

    Raises:
        ArtifactError: no run folder, or a damaged file.
    """
    manifest = read_manifest(root)
    found = Subject(f"run {root.name}", is_run=True)
    for name in [row.name for row in manifest.rows] or manifest.names:
        folder = Store(root).model(name).root
        if folder.is_dir():
            found = found + _model(name, folder, manifest.settings.n_permutations)
    return found


def _model(name: str, folder: Path, n_permutations: int) -> Subject:
    arms = []
    for file, measured in READINGS.items():
        path, table = folder / f"{file}.safetensors", folder / "tables" / f"separation_{measured}.csv"
        if path.exists():
            acts = PooledActivations.load(path)
            known = read_table(table) if table.exists() else None
            called = f"{name}, {file.replace('/', ' ')}"
            arms.append(Arm(called, acts, acts.header.fingerprint, known, n_permutations=n_permutations))
    path = folder / "vectors.safetensors"
    vectors = EmotionVectors.load(path) if path.exists() else None
    tables = tuple(_steering(name, folder, vectors)) if (folder / STEERING / DOSES).exists() else ()
    tables += tuple(_published(f"{name}, steering as published", folder / PUBLISHED))
    sets = () if vectors is None else (set_of(vectors, name),)
    return Subject("", vectors=sets, arms=tuple(arms), tables=tables)


def set_of(vectors: EmotionVectors, name: str) -> VectorSet:
    """Displacements of one natural unit."""
    values = (vectors.natural[..., None] * vectors.directions).numpy()
    layers = tuple(range(vectors.n_layers))
    return VectorSet(name, vectors.emotions, values, layers, vectors.header.fingerprint, vectors.residual_norm.numpy())


def _steering(name: str, folder: Path, vectors: EmotionVectors | None) -> Iterator[Table]:
    for what, result in zip(("steering", "steering at all layers"), load_steered(folder / STEERING), strict=True):
        if result is not None:
            yield from experiment_tables(result, f"{name}, {what}")
            if vectors is not None:
                yield _units(result, vectors, f"{name}, {what}")


def _published(name: str, folder: Path) -> Iterator[Table]:
    """The texts of the published protocol, and its unit of dose, which holds the first token."""
    result, suppressed = load_published(folder)
    if result is None:
        return
    yield from experiment_tables(result, name)
    if suppressed is not None:
        doses = result.table.dose[result.table.dose > 0].unique().astype(float)
        frame = pd.DataFrame({"dose": doses, "unit": suppressed.inflation, "unit_without": 1.0})
        yield Table(f"{name}, unit of dose", frame, on_tokens=True)


def _units(result: DoseResponse, vectors: EmotionVectors, name: str) -> Table:
    """The length that its relative doses multiply, beside E||h|| without the first token.

    At all layers (`everywhere`) it is the mean over layers, and the vector that of two thirds of the depth.
    """
    n, rows = vectors.n_layers, result.table[result.table.dose > 0]
    everywhere = result.layer == "all"
    natural = float(vectors.natural[:, 2 * n // 3 if everywhere else int(result.layer)].mean())
    without = float(vectors.residual_norm.mean() if everywhere else vectors.residual_norm[int(result.layer)])
    unit = (rows.dose_natural / rows.dose_relative).to_numpy(float) * natural
    frame = pd.DataFrame({"dose": rows.dose.to_numpy(float), "unit": unit, "unit_without": without})
    return Table(f"{name}, unit of dose", frame.dropna().drop_duplicates(), on_tokens=True)


def experiment_tables(result: DoseResponse, name: str) -> tuple[Table, ...]:
    """A steering experiment under the names of columns that checks ask for: its texts, its headline, its judge."""
    texts = pd.concat([result.texts, result.others], ignore_index=True)
    plain = result.unsteered.assign(condition="unsteered", dose=0.0)
    rows = pd.concat([texts, plain], ignore_index=True)
    called = result.table.set_index(["condition", "dose"])["regime"].to_dict()
    kept = ["condition", "dose", "emotion", "text", "prompt", "loop_share", "success", "perplexity_ratio"]
    frame = rows[[c for c in kept if c in rows]]
    frame = frame.assign(regime=[called.get(of, "") for of in zip(rows["condition"], rows["dose"], strict=True)])
    chance = result.able[1]
    judge = {"judge": result.judge, "judge_accuracy": result.judge_accuracy, "judge_chance": chance}
    judge |= {"independent": result.judge_independent}
    tables = [Table(f"{name}, texts", frame, on_tokens=True), Table(f"{name}, judge", pd.DataFrame([judge]))]
    if (found := result.headline) is not None and found.doses:
        control = max(x for x in (found.random, found.other, 0) if x is not None)
        row = {"success": found.success, "n": found.n, "control": control, "p": found.p, "dose": np.nan}
        tables.append(Table(f"{name}, headline", pd.DataFrame([row]).astype(float)))
    return tuple(tables)
