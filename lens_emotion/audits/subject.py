"""What is audited, in one form whatever it was: sets of vectors, readings of texts, tables of results, token norms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from lens_emotion.analysis.reliability import reliability
from lens_emotion.display import Brief
from lens_emotion.errors import AnalysisError, StimulusError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.stats.design import Design, design_of

MEASURED = (
    "cosine",
    "accuracy",
    "norm",
    "raw",
    "reliability",
    "perplexity",
    "perplexity_ratio",
)  # columns that are no names or settings
P_OF_DECODERS = ("accuracy_p_corrected", "accuracy_p_corrected_standardised")


@dataclass(frozen=True, eq=False, repr=False)
class VectorSet(Brief):
    """Directions of some emotions, as they came: any length, NaN allowed.

    Attributes:
        layers: number of each layer, counted from 0. model: whose they are, if that is known.
        unit: E||h|| per layer, the length that relative doses multiply, if known.
    """

    name: str
    emotions: tuple[str, ...]
    values: Float[np.ndarray, "n_emotions n_layers d_model"]
    layers: tuple[int, ...]
    model: str = ""
    unit: Float[np.ndarray, " n_layers"] | None = None

    @cached_property
    def whole(self) -> Bool[np.ndarray, " n_layers"]:
        """Layers at which every number is finite and every emotion has a direction."""
        return np.isfinite(self.values).all((0, 2)) & (self.values != 0).any(2).all(0)


@dataclass(frozen=True, eq=False, repr=False)
class Arm(Brief):
    """One reading of texts.

    Attributes:
        known: what was measured on it before, by layer: accuracy, chance, accuracy_p_corrected, reliability (columns of
            `Separation.table`); None: it is measured here.
        n_permutations: behind its p-values, those of `known` too.
    """

    name: str
    acts: PooledActivations
    model: str
    known: pd.DataFrame | None = None
    seed: int = 0
    n_permutations: int = 99

    @cached_property
    def design(self) -> Design | str:
        """Labels, topics and copies; why there are no held-out folds, where there are none."""
        try:
            return design_of(self.acts)
        except StimulusError as error:
            return str(error)

    @cached_property
    def by_layer(self) -> pd.DataFrame | str:
        """Reliability by layer and its p, corrected over layers (reliability, p); or why there is none."""
        if self.known is not None:
            columns = [c for c in P_OF_DECODERS if c in self.known]
            return pd.DataFrame(
                {"reliability": self.known["reliability"], "p": self.known[columns].min(axis=1) * len(columns)}
            )
        whole = np.flatnonzero(self.acts.values.isfinite().all(2).all(0).numpy(force=True))
        if not len(whole):
            return "no layer at which every number is finite"
        try:
            found = reliability(
                _layers_of(self.acts, whole), seed=self.seed, n_permutations=self.n_permutations
            ).by_layer
        except (StimulusError, AnalysisError) as error:
            return str(error)
        rows = pd.DataFrame({"reliability": found["reliability"], "p": found["p_corrected"]}).set_index(whole)
        return rows.reindex(range(self.acts.n_layers))  # one NaN layer would leave the best of all layers without a p

    @property
    def floor(self) -> float:
        """The least p that so many label shuffles can give, corrected as in `by_layer`."""
        doubled = 1 if self.known is None else sum(c in self.known for c in P_OF_DECODERS)
        return doubled / (self.n_permutations + 1)


def _layers_of(acts: PooledActivations, layers: Int[np.ndarray, " k"]) -> PooledActivations:
    if len(layers) == acts.n_layers:
        return acts
    return replace(acts, values=acts.values[:, layers], residual_norm=acts.residual_norm[layers])


@dataclass(frozen=True, eq=False, repr=False)
class Table(Brief):
    """Rows of results under this package's names of columns (see `table.MEANINGS`).

    Attributes:
        frame: columns that were understood. n_emotions: classes, where known.
        on_tokens: its texts were measured on tokens, by this package. unread: columns that were not understood, and why
            if they seemed to be. told: names of theirs whose meaning was told, not guessed.
    """

    name: str
    frame: pd.DataFrame
    n_emotions: int | None = None
    on_tokens: bool = False
    unread: tuple[str, ...] = ()
    told: tuple[str, ...] = ()

    def has(self, *columns: str) -> bool:
        return all(c in self.frame and self.frame[c].notna().any() for c in columns)

    def empty(self, column: str) -> tuple[Bool[np.ndarray, " rows"], Bool[np.ndarray, " rows"]]:
        """Rows without a number in a column that hold another measurement: left empty, as far as can be seen, as the
        two are never in one row; and the others of these, in which it may be NaN or left empty."""
        none = self.frame[column].isna().to_numpy()
        apart, beside = np.zeros_like(none), np.zeros_like(none)
        for other in (c for c in MEASURED if c != column and self.has(c)):
            there = self.frame[other].notna().to_numpy()
            if (there & ~none).any():
                beside |= there
            else:
                apart |= there
        return none & apart, none & beside & ~apart


@dataclass(frozen=True, eq=False, repr=False)
class TokenNorms(Brief):
    """Length of the residual stream at each position of some prompts, the first token's first.

    Attributes:
        unit: the length that doses multiply, if it was told.
    """

    name: str
    norms: Sequence[Float[np.ndarray, " n_tokens"]]
    unit: float | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Subject(Brief):
    """All that is audited together.

    Attributes:
        arrays: numbers whose middle axis are layers, of which nothing but that is known.
        is_run: a run folder of this package, whose report sets every number beside its null.
        unread: files of a folder that hold nothing that is understood, and why.
    """

    name: str
    vectors: tuple[VectorSet, ...] = ()
    arms: tuple[Arm, ...] = ()
    tables: tuple[Table, ...] = ()
    norms: tuple[TokenNorms, ...] = ()
    arrays: dict[str, Float[np.ndarray, "rows n_layers d_model"]] = field(default_factory=dict)
    is_run: bool = False
    unread: tuple[str, ...] = ()

    def __add__(self, other: Subject) -> Subject:
        return Subject(
            self.name or other.name,
            self.vectors + other.vectors,
            self.arms + other.arms,
            self.tables + other.tables,
            self.norms + other.norms,
            self.arrays | other.arrays,
            self.is_run or other.is_run,
            self.unread + other.unread,
        )

    @property
    def empty(self) -> bool:
        return not (self.vectors or self.arms or self.tables or self.norms or self.arrays)
