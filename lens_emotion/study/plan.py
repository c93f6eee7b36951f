"""plan_study: what a study would run, what of it is stored already, and what it needs. No model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lens_emotion.checksums import read_sums
from lens_emotion.models.access import family_of
from lens_emotion.models.catalog import find_spec
from lens_emotion.models.loading import choose_device, choose_dtype, resolve
from lens_emotion.models.shapes import Shape, shape_of
from lens_emotion.stimuli.sets import StimulusSet
from lens_emotion.study.config import StudyConfig
from lens_emotion.study.estimate import REPORT, Needs, Work, needs_of, work_of
from lens_emotion.study.keys import READING, Identity, Inputs, same_but_for_weights, step_inputs, steps_of
from lens_emotion.study.rates import Measured, analysis_seconds, measured_in, rate
from lens_emotion.study.run_check import MANIFEST
from lens_emotion.study.step_store import KEPT, PARTIAL, read_record
from lens_emotion.study.store import safe_name
from lens_emotion.study.texts import texts_for

STORED, BEGUN, TO_RUN = "stored", "begun", "to run"


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
    shape: Shape | None
    dtype: str
    steps: tuple[PlannedStep, ...]
    needs: Needs | None
    analysis: float

    @property
    def seconds(self) -> float:
        return sum(s.seconds for s in self.steps) + self.analysis


@dataclass(frozen=True)
class StudyPlan:
    """What `lens-emotion study` would do."""

    folder: Path
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
    known = measured_in(_runs_beside(root))
    return StudyPlan(root, device, tuple(_plan(name, config, root, device, known) for name in config.models))


def _plan(name: str, config: StudyConfig, root: Path, device: str, known: Sequence[Measured]) -> ModelPlan:
    label = resolve(name).label
    spec, shape, texts = find_spec(label), shape_of(name), texts_for(name, config.stimuli)
    family = spec.family if spec else family_of(label)
    dtype = str(choose_dtype(config.dtype, device, family)).removeprefix("torch.")
    backend = "bridge" if config.backend == "auto" else config.backend
    identity = Identity(None, backend, dtype, device.split(":")[0])
    place = root / safe_name(label)
    steps = []
    for step in steps_of(config):
        state = state_of(step, config, identity, texts, place)
        work = work_of(step, config, texts, shape) if shape else None
        speed, basis = rate(step, shape, identity.device, dtype, known) if shape else (1.0, "shape not known")
        seconds = work.flops / speed if work and state != STORED else 0.0
        steps.append(PlannedStep(step, state, work, seconds, basis))
    needs = needs_of(config, texts, shape, dtype, identity.device) if shape else None
    analysis = analysis_seconds(shape, config.n_permutations) if shape else 0.0
    return ModelPlan(label, shape, dtype, tuple(steps), needs, analysis)


def state_of(step: str, config: StudyConfig, identity: Identity, texts: StimulusSet, place: Path) -> str:
    """Whether a step of a model's folder would be read back."""
    read = None
    if step != READING:
        if state_of(READING, config, identity, texts, place) != STORED:
            read = "unknown"
        else:
            folder = _matching(place, READING, step_inputs(READING, config, identity, texts))
            read = read_sums(folder)[0].get("story_mean.safetensors", ["unknown"])[-1] if folder else "unknown"
    if _matching(place, step, step_inputs(step, config, identity, texts, read)) is not None:
        return STORED
    return BEGUN if any(place.glob(f"{PARTIAL}/{step}-{'?' * 16}.journal")) else TO_RUN


def _matching(place: Path, step: str, wanted: Inputs) -> Path | None:
    for folder in (place / step, *sorted(place.glob(f"{KEPT}/{step}-*"))):
        record = read_record(folder)
        if record is not None and same_but_for_weights(wanted, record.inputs):
            return folder
    return None


def _runs_beside(root: Path) -> list[Path]:
    """The run folder itself and its neighbours: what was measured on this machine, most likely."""
    folders = [root, *sorted(root.parent.iterdir())] if root.parent.is_dir() else [root]
    return list(dict.fromkeys(p for p in folders if (p / MANIFEST).is_file()))
