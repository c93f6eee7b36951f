"""Everything that was measured on one model, before it is judged: activations and experiments."""

from __future__ import annotations

from dataclasses import dataclass

from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.models.access import ModelInfo
from lens_emotion.steering.experiment import DoseResponse
from lens_emotion.stimuli.emotions import Norm


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the claims are tested on.

    Attributes:
        info: the model; kind: "base" or "instruct"; millions: parameters, None if unknown.
        comprehension: passages, story mean. last_token: the same pass, last token (the paper's comprehension preset).
        conditioned, reread: the model's own stories, with the instruction in front and bare; None if not run.
        jeong: the paper's generation preset; None if not run.
        steering: the dose-response experiment; None if not run.
        stimuli: name of the stimulus set. ratings: people's ratings of its emotions, where it brings its own.
    """

    info: ModelInfo
    kind: str
    millions: float | None
    comprehension: PooledActivations
    last_token: PooledActivations
    conditioned: PooledActivations | None
    reread: PooledActivations | None
    jeong: PooledActivations | None
    steering: DoseResponse | None
    stimuli: str
    ratings: tuple[Norm, ...] = ()

    @property
    def name(self) -> str:
        return self.info.name
