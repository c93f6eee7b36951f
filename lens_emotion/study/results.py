"""What a study holds: what was measured on a model, what it means, and a whole run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import pandas as pd

from lens_emotion.analysis.anisotropy import Anisotropy
from lens_emotion.analysis.circumplex import Circumplex
from lens_emotion.analysis.compare import Comparison
from lens_emotion.analysis.decoding import Decoding
from lens_emotion.analysis.families import RSAMatrix
from lens_emotion.analysis.geometry import Similarity
from lens_emotion.analysis.layers import LayerSweep
from lens_emotion.analysis.lens import Lens
from lens_emotion.analysis.mixed import Mixed
from lens_emotion.analysis.reliability import Reliability
from lens_emotion.analysis.separation import Separation
from lens_emotion.analysis.twins import TwinsApart
from lens_emotion.analysis.words import BeyondWords
from lens_emotion.display import Brief, Result, panel
from lens_emotion.extraction.activations import Header, PooledActivations
from lens_emotion.models.access import ModelInfo
from lens_emotion.presets.jeong import BestLayer, Suppression
from lens_emotion.presets.protocol import Regimes
from lens_emotion.run.config import StudyConfig
from lens_emotion.steering.dose_result import DoseResponse
from lens_emotion.steering.leakage import Leakage
from lens_emotion.steering.side_effects import SideEffects
from lens_emotion.stimuli.emotions import Norm
from lens_emotion.study.atlas import Atlas
from lens_emotion.study.verdict import Claim, Claims, Protocols, SealState


@dataclass(frozen=True, eq=False, repr=False)
class MethodStudy(Brief):
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


@dataclass(frozen=True, eq=False, repr=False)
class JeongStudy(Brief):
    """A preset of the paper (arXiv 2604.04064): one token a text, layer n_layers // 2, in its company."""

    header: Header
    n_texts: int
    layer: int
    separation: Separation

    @property
    def mean_cosine(self) -> float:
        return float(self.separation.table.mean_cosine.iloc[self.layer])

    @property
    def accuracy(self) -> float:
        return float(self.separation.table.accuracy.iloc[self.layer])

    @property
    def distinguishable(self) -> bool:
        return self.separation.distinguishable(self.layer)

    @property
    def testable(self) -> bool:
        """False if copies leave nothing to test."""
        return not self.separation.tied


@dataclass(frozen=True, eq=False, repr=False)
class PublishedStudy(Brief):
    """A model by the protocol of arXiv 2604.04064 as published (see `presets.jeong`), beside what it lacks.

    Attributes:
        layers: the best layer by the lowest cosine, with its bound and null; in words, why there is none.
        steering: one layer's vector at all layers, in shares of the norm with the first token; None if not run.
        regimes: condition ("emotion", "random", "unsteered") -> its regime by words between spaces.
        suppression: None if not run. leakage: foreign letters in the steered texts.
        cosines: what -> cosines that have a published counterpart (`presets.numbers`).
    """

    layers: BestLayer | str
    steering: DoseResponse | None
    regimes: Mapping[str, Regimes]
    suppression: Suppression | None
    leakage: Leakage | None
    cosines: Mapping[str, float]


@dataclass(frozen=True, eq=False, repr=False)
class ModelStudy(Result):
    """Everything a study found on one model.

    Attributes:
        kind: "base" or "instruct". millions: parameters, None if unknown.
        jeong, jeong_reading: the paper's presets for writing (middle token) and reading (last token).
        versus: writing (instruction in front) against reading, paired by topic. None without writing.
        versus_preset: the same for the paper's presets and its cosine. None without writing.
        atlas: similarity, circumplex and two texts token by token, at every layer.
        lens: top tokens of every vector at the best layer, by script, against random directions.
        side_effects: of steering on other emotions at the surgical dose; None without such a dose.
        leakage: foreign letters and words in the steered texts; None without steering. leakage_everywhere: the same of
            one layer's vector at all layers, None where that was not run.
        circumplex: None where too few emotions are rated. unrated: then, in words, the ratings it lacks.
        claims: C1 to C7, and X1, on this model.
        words: what the states tell beyond the words, or why that cannot be had. twins: of texts that have some.
        lacking: part ("generation", "generation_jeong") -> why it was run and could not be analysed.
        published: by the published protocol; None where the study was of ours alone.
        more: results of exhibits that analyse the evidence themselves, by id (see `exhibits`).
    """

    info: ModelInfo
    kind: str
    millions: float | None
    stimuli: str
    seconds: float
    comprehension: MethodStudy
    generation: tuple[MethodStudy, ...]
    jeong: JeongStudy | None
    jeong_reading: JeongStudy
    versus: Comparison | None
    versus_preset: Comparison | None
    anisotropy: Anisotropy
    similarity: Similarity
    circumplex: Circumplex | None
    unrated: str
    atlas: Atlas
    lens: Lens
    steering: DoseResponse | None
    side_effects: SideEffects | None
    leakage: Leakage | None
    judge: str
    claims: tuple[Claim, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)
    lacking: Mapping[str, str] = field(default_factory=dict)
    leakage_everywhere: Leakage | None = None
    words: BeyondWords | str = "the words were not asked"
    twins: TwinsApart | None = None
    published: PublishedStudy | None = None

    @property
    def methods(self) -> tuple[MethodStudy, ...]:
        return (self.comprehension, *self.generation)

    @property
    def table(self) -> pd.DataFrame:
        """One row per result: where it stands in this study, and what it says."""
        methods = [(f"{m.name}.separation", m.separation) for m in self.methods]
        own = [(f.name, getattr(self, f.name)) for f in fields(self)]
        said = [
            (name, found.summary()) for name, found in [*methods, *own, *self.more.items()] if hasattr(found, "summary")
        ]
        said += [(part, f"not testable: {why}") for part, why in self.lacking.items()]
        return pd.DataFrame(said, columns=["result", "summary"])

    def summary(self) -> str:
        """Which model, on which texts, in what time; what was found is in the table."""
        return f"{self.info.name} ({self.info.family}, {self.kind}), {self.stimuli}, {self.seconds:.0f} s"

    def _repr_html_(self) -> str:
        return panel(self.summary(), self.table, what="results")


@dataclass(frozen=True, eq=False, repr=False)
class StudyRun(Result):
    """A finished study: where it lies, what was asked, what was found, and what becomes of the paper's claims.

    `alike` compares the geometry of every two models; None where there is one model, or too few shared emotions.
    `mixed` holds the main outcomes as mixed-effects models, by the name of their table; nothing decides on them.
    `seal` says whether the design was written down before any model was read, and whether it still stands.
    `protocols` judges the claims by the published rules beside ours; None in a study of ours alone.
    """

    folder: str
    manifest: dict[str, object]
    models: tuple[ModelStudy, ...]
    claims: Claims
    alike: RSAMatrix | None = None
    mixed: Mapping[str, Mixed] = field(default_factory=dict)
    seal: SealState = field(default_factory=SealState)
    protocols: Protocols | None = None

    @property
    def table(self) -> pd.DataFrame:
        """The claims, one row each and scope."""
        return self.claims.table

    def _drawn(self) -> str:
        return self.claims._drawn()

    def summary(self) -> str:
        """Which models, and what becomes of the paper's claims."""
        names = ", ".join(m.info.name for m in self.models)
        return f"Study of {names} in {self.folder}; the paper's claims: {self.claims.summary()}"


@dataclass(frozen=True, eq=False, repr=False)
class Evidence(Brief):
    """What the claims are tested on.

    Attributes:
        info: the model; kind: "base" or "instruct"; millions: parameters, None if unknown.
        comprehension: passages, story mean. last_token: the same pass, last token (the paper's comprehension preset).
        conditioned, reread: the model's own stories, with the instruction in front and bare; None if not run.
        jeong: the paper's generation preset; None if not run.
        steering: the dose-response experiment; None if not run. everywhere: that of one layer's vector at all layers,
            of models that the claim of another language is about.
        stimuli: name of the stimulus set. ratings: people's ratings of its emotions, where it brings its own.
        lacking: step -> why it was run and gave no states to analyse.
        plain: neutral texts beyond those of the set. matched, shortened: the bare stories, or the passages, whichever
            pool more tokens a text, over as many as the other.
        static: mean static embeddings of the texts and their twins. twins: the twins, as read; None of sets that have
            none, both of runs of versions that did not ask.
        published, suppression: steering by the published protocol, and its table of suppression; None if not run.
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
    lacking: Mapping[str, str] = field(default_factory=dict)
    everywhere: DoseResponse | None = None
    plain: PooledActivations | None = None
    matched: PooledActivations | None = None
    shortened: PooledActivations | None = None
    static: PooledActivations | None = None
    twins: PooledActivations | None = None
    published: DoseResponse | None = None
    suppression: Suppression | None = None

    @property
    def bare(self) -> PooledActivations | None:
        """The stories without their instruction, over as many tokens as the passages where such a reading is there."""
        return self.reread if self.matched is None else self.matched

    @property
    def passages(self) -> PooledActivations:
        """The passages, over no more tokens than the stories where such a reading is there."""
        return self.comprehension if self.shortened is None else self.shortened

    @property
    def name(self) -> str:
        return self.info.name


@dataclass(frozen=True, eq=False, repr=False)
class StoredModel(Brief):
    """One model of a run: what was measured, and what it means."""

    evidence: Evidence
    study: ModelStudy

    @property
    def name(self) -> str:
        return self.evidence.name


@dataclass(frozen=True, eq=False, repr=False)
class StoredRun(Brief):
    """A run folder: its name, its settings, its models in the order of the study, the paper's claims on them, and
    these by the published rules beside ours (None in a study of ours alone)."""

    name: str
    config: StudyConfig
    models: tuple[StoredModel, ...]
    claims: Claims
    protocols: Protocols | None = None
