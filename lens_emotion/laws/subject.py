"""What the laws are tried on: a model, a few texts it reads, and vectors of its own residual stream."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lens_emotion.display import Brief
from lens_emotion.extraction.activations import PooledActivations, TextRecord
from lens_emotion.extraction.pooling import story_mean
from lens_emotion.extraction.reader import Reading, make_header, read_texts
from lens_emotion.memory import pass_on
from lens_emotion.models.access import Model, describe
from lens_emotion.models.prompting import tokenise_text
from lens_emotion.steering.hooks import check_fits
from lens_emotion.vectors.emotion_vectors import EmotionVector, EmotionVectors
from lens_emotion.vectors.recipes import emotion_vectors

# Of different lengths, so that batches have pads; the words are those that the tiny models know too.
TEXTS = (
    ("happy", "kitchen", "Anna was in the kitchen and she smiled at the old cat by the door."),
    ("happy", "market", "It was a fine day at the market and Ben smiled."),
    ("sad", "kitchen", "Anna was alone in the kitchen. She cried."),
    ("sad", "market", "It rained at the market, and Ben walked home slowly and alone, and then he cried."),
    ("angry", "kitchen", "In the kitchen Anna shouted at the door."),
    ("angry", "market", "Ben shouted."),
)
# Of the worst position at the worst layer. Float32: what differs is the order of sums. Half precisions: their rounding
# (2^-11, 2^-8) piles up over the layers; two sound implementations in bfloat16 were measured up to 0.053 apart.
TOLERANCES = {"float32": 1e-4, "float64": 1e-4, "float16": 2e-2, "bfloat16": 0.15}


@dataclass(frozen=True, eq=False, repr=False)
class Subject(Brief):
    """A model under test.

    Attributes:
        ids: tokens of the texts, of different lengths.
        acts: the texts as this model reads them.
        vectors: directions in its residual stream.
        tolerance: largest relative deviation that its precision explains.
        copies: gives (name, function from token ids to [layer, pos, d_model]) of other implementations, None if there
            are none to be had.
        source: loads the plain Hugging Face model it was made of, and its tokenizer.
    """

    model: Model
    ids: tuple[tuple[int, ...], ...]
    acts: PooledActivations
    vectors: EmotionVectors
    tolerance: float
    copies: Callable[[], Any] | None = None
    source: Callable[[], tuple[Any, Any]] | None = None

    @property
    def n_layers(self) -> int:
        return self.acts.n_layers

    @property
    def vector(self) -> EmotionVector:
        """The first of its vectors."""
        return self.vectors[self.vectors.emotions[0]]


def make_subject(
    model: Model,
    vectors: EmotionVectors | None = None,
    copies: Callable[[], Any] | None = None,
    source: Callable[[], tuple[Any, Any]] | None = None,
) -> Subject:
    """Read the texts; without vectors of the user's, make some of what was read.

    Raises:
        ProcessedModelError: the model's weights are processed.
        FingerprintError, UnsupportedModelError: the vectors belong to another model.
    """
    tokenised = [tokenise_text(model, text) for _, _, text in TEXTS]
    records = [TextRecord(f"law-{i}", e, t, x) for i, (e, t, x) in enumerate(TEXTS)]
    header = make_header(model, "comprehension", "", "laws", "", allow_processed=False)
    readings = [Reading(t, r) for t, r in zip(tokenised, records, strict=True)]
    acts = read_texts(model, readings, story_mean(), header, progress=False)
    vectors = vectors or emotion_vectors(acts)
    check_fits(model, vectors[vectors.emotions[0]])
    ids = tuple(t.ids for t in tokenised)
    return Subject(model, ids, acts, vectors, TOLERANCES.get(describe(model).dtype, 0.15), copies, source)


def deviation(got: Float[Tensor, "*rows d"], truth: Float[Tensor, "*rows d"]) -> float:
    """Largest distance of a row from its true one, as a share of the true one's length; nan if a number is none."""
    got, truth = got.double().cpu(), truth.double().cpu()
    shares = (got - truth).norm(dim=-1) / truth.norm(dim=-1).clamp_min(torch.finfo(torch.float32).tiny)
    return float(shares.max())


@dataclass(frozen=True)
class LawResult:
    """One law on one model.

    Attributes:
        deviation: measured; nan if the law could not be tried.
        tolerance: largest deviation at which it holds; 0 where equality is to the bit.
        unit: what the deviation counts.
        meaning: what a failure would mean, and what to do.
        note: what happened, where that is more than a number.
        skipped: why the law does not apply here; empty if it was tried.
    """

    law: str
    deviation: float
    tolerance: float
    unit: str = "relative"
    meaning: str = ""
    note: str = ""
    skipped: str = ""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """True if it holds or does not apply; nan never holds."""
        return bool(self.skipped) or self.deviation <= self.tolerance


@dataclass(frozen=True)
class Law:
    """A law's name, how it is measured, and what a failure means."""

    name: str
    measure: Callable[[Subject], LawResult]
    meaning: str


def found(deviation: float, tolerance: float, unit: str = "relative", note: str = "") -> LawResult:
    """What a measure returns; `apply_law` adds the law's name and meaning."""
    return LawResult("", deviation, tolerance, unit, note=note)


def apply_law(law: Law, subject: Subject) -> LawResult:
    """Try one law; one that cannot be tried has failed, and the others are still tried."""
    started = time.perf_counter()
    try:
        result = law.measure(subject)
    except Exception as error:  # anything the model raises is the finding
        pass_on(error)  # but that there is no room for it
        lines = str(error).strip().splitlines() or [""]
        result = found(float("nan"), 0.0, note=f"{type(error).__name__}: {lines[0]}"[:300])
    return replace(result, law=law.name, meaning=law.meaning, seconds=time.perf_counter() - started)
