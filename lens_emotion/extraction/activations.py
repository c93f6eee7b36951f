"""PooledActivations: every text at every layer, with labels and token accounting.

One of these answers every later question (vectors by any recipe, separation, decoding, bootstrap, permutation,
split halves, anisotropy, geometry) without reading the model again.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lens_emotion.display import panel
from lens_emotion.errors import ArtifactError, FingerprintError, StimulusError, UnknownEmotionError
from lens_emotion.files.artifacts import (
    check_each,
    check_is,
    check_tensors,
    check_text,
    check_whole,
    from_file,
    part_of,
    read_tensors,
    refuse_where,
    write_tensors,
)
from lens_emotion.files.names import check_label, check_name
from lens_emotion.files.user import record
from lens_emotion.models.access import ModelInfo
from lens_emotion.models.identity import VERSION
from lens_emotion.stimuli.emotions import NEUTRAL, names

KIND = "PooledActivations"
AXES = {"values": "texts layers d_model", "residual_norm": "layers"}  # of the tensors, also in a file


@dataclass(frozen=True)
class TextRecord:
    """One text, its labels, and what became of its tokens: n_total = n_pooled + n_skipped + n_special.

    Attributes:
        n_total: tokens the model read (pads not counted).
        n_pooled: tokens that entered the row (1 for a single-token pooling).
        n_skipped: content tokens left out by the pooling (before its start, or not the chosen one).
        n_special: BOS, template and instruction tokens, and the attention-sink position 0.
    """

    text_id: str
    emotion: str
    topic: str
    text: str
    person: str = ""
    language: str = "en"
    split: str = ""
    n_total: int = 0
    n_pooled: int = 0
    n_skipped: int = 0
    n_special: int = 0

    def __post_init__(self) -> None:
        check_label("a text's emotion", self.emotion, empty=True)
        check_text("a text's text", self.text)
        for name in ("text_id", "topic", "person", "language", "split"):
            check_name(f"a text's {name}", getattr(self, name), empty=True)
        counts = {name: getattr(self, name) for name in ("n_total", "n_pooled", "n_skipped", "n_special")}
        for name, n in counts.items():
            check_whole(f"{name} of text {self.text_id!r:.60}", n)
        if self.n_total != self.n_pooled + self.n_skipped + self.n_special:
            raise ArtifactError(f"text {self.text_id!r:.60}: n_total is not n_pooled + n_skipped + n_special: {counts}")


@dataclass(frozen=True, eq=False)
class PooledActivations:
    """Pooled residual stream in the raw basis.

    Attributes:
        values: one row per text and layer, float32, `resid_post` of layer l at index l.
        records: labels and token accounting, in the order of `values`.
        residual_norm: mean over all content tokens of the norm of `resid_post`, per layer (position 0 excluded).
        header: model, method, pooling, stimuli.

    Raises:
        ArtifactError: values that are no finite float32 numbers, a norm that is not positive, sizes that contradict one
            another: in memory, when a file is read, and before it is written.

    Example:
        >>> acts.values.shape, acts.header.pooling
        (torch.Size([252, 6, 64]), 'story_mean(start=0)')
        >>> len(acts.of("calm")), len(acts.neutral)
        (12, 12)
    """

    values: Float[Tensor, "n_texts n_layers d_model"]
    records: tuple[TextRecord, ...]
    residual_norm: Float[Tensor, " n_layers"]
    header: Header

    def __post_init__(self) -> None:
        check_tensors({name: getattr(self, name) for name in AXES}, AXES)
        check_each("records", self.records, TextRecord)
        check_is("header", self.header, Header)
        refuse_where("residual_norm", self.residual_norm, self.residual_norm <= 0, "must be above 0, a mean length")
        if len(self.records) != self.values.shape[0]:
            raise ArtifactError(
                f"{self.values.shape[0]} rows of activations but {len(self.records)} text records; they must match"
            )

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        return (
            f"PooledActivations({len(self)} texts x {self.n_layers} layers x {self.d_model}, "
            f"{len(self.emotions)} emotions, {len(self.topics)} topics, {self.header.method}, "
            f"{self.header.pooling}, {self.header.model})"
        )

    def _repr_html_(self) -> str:
        counts = self.table.groupby("emotion", sort=False)[["n_pooled", "n_skipped", "n_special"]].mean()
        return panel(repr(self), counts.round(1), index=True, code=True, what="mean tokens per text")

    @property
    def n_layers(self) -> int:
        return self.values.shape[1]

    @property
    def d_model(self) -> int:
        return self.values.shape[2]

    @cached_property
    def emotion(self) -> np.ndarray:
        """Label of each text, neutral included."""
        return np.array([r.emotion for r in self.records])

    @cached_property
    def topic(self) -> np.ndarray:
        return np.array([r.topic for r in self.records])

    @cached_property
    def text_id(self) -> np.ndarray:
        return np.array([r.text_id for r in self.records])

    @cached_property
    def split(self) -> np.ndarray:
        return np.array([r.split for r in self.records])

    @cached_property
    def n_tokens(self) -> np.ndarray:
        """Tokens pooled per text."""
        return np.array([r.n_pooled for r in self.records])

    @cached_property
    def emotions(self) -> tuple[str, ...]:
        """Emotions present in order of first appearance, neutral left out."""
        return tuple(dict.fromkeys(str(e) for e in self.emotion if e != NEUTRAL))

    @cached_property
    def topics(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(str(t) for t in self.topic))

    @property
    def depth(self) -> np.ndarray:
        """Relative depth (layer + 1) / n_layers of each layer."""
        return (np.arange(self.n_layers) + 1) / self.n_layers

    @property
    def table(self) -> pd.DataFrame:
        """One row per text: labels and token accounting."""
        return pd.DataFrame([asdict(r) for r in self.records])

    def only(self, mask: Bool[np.ndarray, " n_texts"] | Sequence[bool]) -> PooledActivations:
        """The texts where `mask` is True; the residual norm stays that of all texts."""
        keep = np.flatnonzero(np.asarray(mask, dtype=bool))
        values, records = self.values[keep], tuple(self.records[i] for i in keep)
        return part_of(
            PooledActivations, values=values, records=records, residual_norm=self.residual_norm, header=self.header
        )

    def of(self, *emotions: str | Sequence[str]) -> PooledActivations:
        """The texts of these emotions ("neutral" allowed), named one by one or in a list."""
        emotions = tuple(e for given in emotions for e in names(given))
        if unknown := [e for e in emotions if e not in set(self.emotion)]:
            raise UnknownEmotionError(
                f"no texts of '{unknown[0]}' in these activations; they hold: {', '.join(self.emotions)}"
            )
        return self.only(np.isin(self.emotion, emotions))

    @property
    def emotional(self) -> PooledActivations:
        """The texts of all emotions, neutral left out."""
        return self.only(self.emotion != NEUTRAL)

    @property
    def neutral(self) -> PooledActivations:
        """The neutral texts (may be empty)."""
        return self.only(self.emotion == NEUTRAL)

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write to a safetensors file, atomically.

        A file of the same kind that lies there is replaced, as by `numpy.save`; of another kind only with `overwrite`.

        Raises:
            ArtifactError: a file of another kind lies there, or it cannot be written.
        """
        self.__post_init__()  # a tensor may have been written into
        tensors = {name: getattr(self, name) for name in AXES}
        meta = {"header": self.header.to_dict(), "records": [asdict(r) for r in self.records]}
        return write_tensors(path, KIND, tensors, meta, overwrite)

    @staticmethod
    def load(path: str | Path) -> PooledActivations:
        """Read a file written by `save`. Raises ArtifactError if it is missing, corrupt or of another kind."""
        tensors, meta = read_tensors(path, KIND, tuple(AXES))
        with from_file(path):
            if not isinstance(meta.get("records"), list):
                raise ArtifactError("it lists no texts")
            records = tuple(record(TextRecord, r, f"text {i}") for i, r in enumerate(meta["records"]))
            made = PooledActivations(**tensors, records=records, header=Header.from_dict(meta.get("header", {})))
        tell_former(path, made.header)
        return made


# The header every artifact carries: which model, which texts, how read. It travels as JSON inside the file.
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Header:
    """Provenance of activations and vectors.

    Attributes:
        model: name or folder the model was loaded from.
        fingerprint: hash of the model's architecture and weights (`models.identity`); equal on every backend, and in
            float32 and bfloat16.
        family: "gpt2", "gemma", "qwen", "llama", "mistral" or the Hugging Face model type.
        backend: "bridge" or "hooked".
        transformer_lens: version of TransformerLens that produced the activations.
        dtype: precision of the forward pass ("float32", "bfloat16", ...).
        method: "comprehension" or "generation".
        variant: how the method was run ("passages", "topic-crossed, conditioned", "jeong, conditioned", ...).
        pooling: which tokens became the text's row ("story_mean(start=0)", "last_token", "middle_token").
        stimuli: name of the stimulus set; stimuli_sha256 hashes its texts and labels.
        seed: seed of sampling, None where nothing was drawn.
        processed: True if the model's weights were folded or centred (accepted on request only).
        recipe: how vectors were made from activations; empty for activations.
        schema: version of this header.
        notes: facts a reader of the numbers must know (e.g. duplicate greedy stories).
    """

    model: str
    fingerprint: str
    family: str
    backend: str
    transformer_lens: str
    dtype: str
    method: str
    pooling: str
    stimuli: str
    stimuli_sha256: str
    variant: str = ""
    seed: int | None = None
    processed: bool = False
    recipe: str = ""
    schema: int = SCHEMA_VERSION
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        for name in ("model", "fingerprint"):
            check_name(f"the header's {name}", getattr(self, name))
        for name in _WORDS:
            check_name(f"the header's {name}", getattr(self, name), empty=True)
        for note in self.notes if isinstance(self.notes, tuple) else ():
            check_text("a note of the header", note)
        if self.seed is not None:
            check_whole("the header's seed", self.seed)
        if not isinstance(self.processed, bool) or not isinstance(self.notes, tuple):
            raise ArtifactError(
                f"the header's processed is {self.processed!r:.40}, its notes {self.notes!r:.40}; "
                "give True or False, and a tuple of texts"
            )

    def with_(self, **changes: Any) -> Header:
        """A copy with some fields replaced."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Header:
        """Raises ArtifactError when the header is of another schema, lacks a field or holds one of another type."""
        found = data.get("schema") if isinstance(data, dict) else None
        if found != SCHEMA_VERSION:
            newer = isinstance(found, int) and found > SCHEMA_VERSION
            raise ArtifactError(
                f"the file's header has schema {found!r}, this version of lens_emotion reads {SCHEMA_VERSION}; "
                + ("upgrade lens-emotion" if newer else "make the file again with this version")
            )
        return record(Header, data, "the file's header")


_WORDS = ("family", "backend", "transformer_lens", "dtype", "method", "pooling", "stimuli", "stimuli_sha256", "variant",
          "recipe")  # fmt: skip


def codes(names: np.ndarray, order: tuple[str, ...] | None = None) -> Int[np.ndarray, " n_texts"]:
    """Integer code of each name, numbered by `order` or by first appearance."""
    order = order if order is not None else tuple(dict.fromkeys(str(n) for n in names))
    index = {name: i for i, name in enumerate(order)}
    return np.array([index[str(n)] for n in names], dtype=np.int64)


def check_emotions(acts: PooledActivations) -> None:
    """Raises StimulusError when the activations hold fewer than 2 emotions: nothing can be told apart."""
    if len(acts.emotions) < 2:
        held = f"a single class ('{acts.emotions[0]}')" if acts.emotions else "no emotion"
        raise StimulusError(f"the activations hold {held}; texts of at least 2 emotions are needed (neutral aside)")


def check_same_model(a: PooledActivations, b: PooledActivations) -> None:
    """Raises FingerprintError unless both were read by one model in one basis (backend and precision may differ)."""
    x, y = a.header, b.header
    if (x.fingerprint, x.processed) != (y.fingerprint, y.processed):
        aged = x.fingerprint.startswith(VERSION) != y.fingerprint.startswith(VERSION)
        raise FingerprintError(
            f"one set was read by {x.model} (fingerprint {x.fingerprint[:12]}, processed={x.processed}), the other by "
            f"{y.model} ({y.fingerprint[:12]}, processed={y.processed}); directions live in one model's residual "
            "stream: read both sets with the same model, loaded the same way"
            + aged
            * " (one is of a version before 0.2, which knew models by other hashes: read its texts again)"
        )


def _apart(same_name: bool) -> str:
    why = "another checkpoint, a merged adapter, float16, which rounds otherwise than bfloat16, or packed to 8 or 4 bit"
    return f": one name, but other weights ({why})" * same_name


def check_one_model(a: tuple[str, Header], b: tuple[str, Header]) -> None:
    """Raises FingerprintError unless two things, by name and header, come from one model's weights."""
    (one, x), (other, y) = a, b
    if x.fingerprint == y.fingerprint:
        return
    aged = x.fingerprint.startswith(VERSION) != y.fingerprint.startswith(VERSION)
    raise FingerprintError(
        f"cannot combine '{one}' of {x.model} ({x.fingerprint[:12]}) with '{other}' of {y.model} "
        f"({y.fingerprint[:12]}): vectors live in one model's residual stream"
        + (
            "; one is of a version before 0.2, which knew models by other hashes: extract it again"
            if aged
            else f"{_apart(x.model == y.model)}; extract both on the same model, loaded the same way"
        )
    )


def check_made_on(info: ModelInfo, *headers: Header, may_allow: bool = True) -> None:
    """Raises FingerprintError unless activations and vectors of these headers come from this model's weights.

    Those of versions before 0.2 pass by the hash that these versions had. `may_allow`: the caller has an argument
    allow_other_model, which the error then names.
    """
    for header in headers:
        if header.fingerprint not in (info.fingerprint, info.former):
            raise FingerprintError(
                f"made on {header.model} (weights {header.fingerprint[:12]}), not on {info.name} "
                f"({info.fingerprint[:12]}){_apart(header.model == info.name)}; extract on this model"
                + ", or pass allow_other_model=True"
                * may_allow
            )


_TOLD: set[str] = set()


def tell_former(path: str | Path, header: Header) -> None:
    """Say once per file that a version before 0.2 wrote it."""
    if header.fingerprint.startswith(VERSION) or not header.fingerprint or str(path) in _TOLD:
        return
    _TOLD.add(str(path))
    warnings.warn(
        f"{path} is of a version before 0.2, which knew {header.model} by three of its matrices only; it is taken "
        "where these fit. Extract again to be sure that it is of the very same weights",
        stacklevel=3,
    )


def shared_emotions(
    a: PooledActivations, b: PooledActivations
) -> tuple[PooledActivations, PooledActivations, tuple[str, ...]]:
    """The texts of the emotions that both sets hold, neutral left out, and the emotions that only one holds.

    Raises:
        StimulusError: fewer than 2 shared emotions.
    """
    shared = [e for e in a.emotions if e in b.emotions]
    if len(shared) < 2:
        raise StimulusError(
            f"the sets share {len(shared)} emotions ({', '.join(a.emotions)} against {', '.join(b.emotions)}); "
            "at least 2 are needed"
        )
    apart = tuple(e for e in dict.fromkeys((*a.emotions, *b.emotions)) if e not in shared)
    return a.of(*shared), b.of(*shared), apart


def restricted(acts: PooledActivations, emotions: Sequence[str], topics: Sequence[str]) -> PooledActivations:
    """Texts of these emotions on these topics, and all neutral ones."""
    return acts.only((acts.emotion == NEUTRAL) | (np.isin(acts.emotion, emotions) & np.isin(acts.topic, topics)))
