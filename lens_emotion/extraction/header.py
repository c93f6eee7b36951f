"""The header every artifact carries: which model, which texts, how read. It travels as JSON inside the file."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from lens_emotion.errors import ArtifactError
from lens_emotion.records import record

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Header:
    """Provenance of activations and vectors.

    Attributes:
        model: name or folder the model was loaded from.
        fingerprint: hash of the model's architecture and weights; equal on every backend and precision.
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
