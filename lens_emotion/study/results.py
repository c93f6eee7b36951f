"""What a study holds for one model: results, each of them with its null or control inside."""

from __future__ import annotations

from dataclasses import dataclass

from lens_emotion.analysis.anisotropy import Anisotropy
from lens_emotion.analysis.decoding import Decoding
from lens_emotion.analysis.geometry import Circumplex, Similarity
from lens_emotion.analysis.layers import LayerSweep
from lens_emotion.analysis.reliability import Reliability
from lens_emotion.analysis.separation import Separation
from lens_emotion.extraction.header import Header
from lens_emotion.models.access import ModelInfo
from lens_emotion.steering.experiment import DoseResponse


@dataclass(frozen=True, eq=False)
class MethodStudy:
    """One way of reading emotions off a model, judged.

    Attributes:
        name: "comprehension", "generation, conditioned" or "generation, reread".
        header: provenance of the activations.
        n_texts: texts read, neutral ones included.
        sweep: held-out decoding over all layers, with null band and best depth.
        separation: mean pairwise cosine in its company (recipe "neutral").
    """

    name: str
    header: Header
    n_texts: int
    decoding: Decoding
    sweep: LayerSweep
    separation: Separation
    reliability: Reliability


@dataclass(frozen=True, eq=False)
class JeongStudy:
    """The paper's own generation preset (arXiv 2604.04064): middle token, layer n_layers // 2, in its company."""

    header: Header
    n_texts: int
    layer: int
    separation: Separation

    @property
    def mean_cosine(self) -> float:
        return float(self.separation.table.mean_cosine.iloc[self.layer])

    @property
    def distinguishable(self) -> bool:
        return self.separation.distinguishable(self.layer)


@dataclass(frozen=True, eq=False)
class ModelStudy:
    """Everything a study found on one model."""

    info: ModelInfo
    kind: str
    stimuli: str
    seconds: float
    comprehension: MethodStudy
    generation: tuple[MethodStudy, ...]
    jeong: JeongStudy | None
    anisotropy: Anisotropy
    similarity: Similarity
    circumplex: Circumplex
    steering: DoseResponse | None
    judge: str

    @property
    def methods(self) -> tuple[MethodStudy, ...]:
        return (self.comprehension, *self.generation)


@dataclass(frozen=True, eq=False)
class StudyRun:
    """A finished study: where it lies, what was asked, what was found."""

    folder: str
    manifest: dict[str, object]
    models: tuple[ModelStudy, ...]
