"""How fast a step goes here: from steps of earlier runs on the same kind of device, else from a stated assumption."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lens_emotion.errors import LensEmotionError
from lens_emotion.models.loading import resolve
from lens_emotion.models.shapes import Shape, shape_of
from lens_emotion.stimuli.sets import StimulusSet
from lens_emotion.study.config import StudyConfig
from lens_emotion.study.estimate import work_of
from lens_emotion.study.keys import READING
from lens_emotion.study.run_check import step_folders
from lens_emotion.study.runs import read_manifest
from lens_emotion.study.step_store import read_record
from lens_emotion.study.store import safe_name
from lens_emotion.study.texts import texts_for

NEAR = 8.0  # how many times larger or smaller a model may be for its speed to say something about another
ASSUMED = {"cpu": (6e10, 2e10), "cuda": (5e13, 5e12), "mps": (2e12, 4e11)}
ANALYSIS = 1.5  # seconds a layer for 200 permutations: measured on the tiny five, two processors


@dataclass(frozen=True)
class Measured:
    """A stored step as a measurement of speed."""

    step: str
    model: str
    parameters: int
    device: str
    dtype: str
    flops_per_second: float


def measured_in(folders: Sequence[Path]) -> list[Measured]:
    """The speeds of all stored steps of these runs; what cannot be read is passed over."""
    found = []
    for run in folders:
        settings = read_manifest(run).get("config", {})
        for model in settings.get("models", ()):
            try:
                shape = shape_of(model)
                texts = texts_for(model, settings.get("stimuli"))
            except (LensEmotionError, OSError, json.JSONDecodeError):
                continue
            if shape is not None:
                found += _of_model(run, str(model), shape, texts)
    return found


def _of_model(run: Path, model: str, shape: Shape, texts: StimulusSet) -> list[Measured]:
    found, place = [], run / safe_name(resolve(model).label)
    for folder in step_folders(run):
        record = read_record(folder)
        if record is None or folder.parent != place or record.seconds <= 0:
            continue
        used: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record.inputs["settings"].items()}
        work = work_of(record.name, StudyConfig(**used), texts, shape)
        on = record.inputs["model"]
        speed = work.flops / record.seconds
        found.append(Measured(record.name, model, shape.parameters, on["device"], on["dtype"], speed))
    return found


def rate(step: str, shape: Shape, device: str, dtype: str, known: Sequence[Measured]) -> tuple[float, str]:
    """Operations a second, and in words where the number comes from."""
    near = [m for m in known if (m.step, m.device, m.dtype) == (step, device, dtype)]
    near = [m for m in near if _distance(m, shape) <= math.log(NEAR)]
    if near:
        best = min(near, key=lambda m: _distance(m, shape))
        return best.flops_per_second, f"measured on {best.model}"
    reading, writing = ASSUMED.get(device, ASSUMED["cpu"])
    return (reading if step == READING else writing), "assumed"


def _distance(measured: Measured, shape: Shape) -> float:
    return abs(math.log(measured.parameters / shape.parameters))


def analysis_seconds(shape: Shape, n_permutations: int) -> float:
    """Seconds of all analyses of one model, which hardly depend on its width."""
    return ANALYSIS * shape.n_layers * (0.4 + 0.6 * n_permutations / 200)
