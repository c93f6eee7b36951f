"""The model card of published vectors: where they come from, how they are used, and what is known of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from lens_emotion.vectors.emotion_vectors import EmotionVectors


@runtime_checkable
class Finding(Protocol):
    """A result of an analysis: one sentence that holds its null or interval."""

    def summary(self) -> str: ...


def model_card(
    vectors: EmotionVectors, repo_id: str, filename: str, licence: str, findings: Sequence[Finding] = ()
) -> str:
    """Markdown with front matter for the Hub.

    Args:
        findings: results on these vectors (`separation`, `reliability`, ...); without one the card says that nothing is
            known of how well they separate.
    """
    parts = (_front(vectors, licence), _title(vectors, repo_id), _provenance(vectors), _evidence(findings))
    return "\n".join((*parts, _usage(vectors, repo_id, filename)))


def _front(vectors: EmotionVectors, licence: str) -> str:
    rows = [f"license: {_quoted(licence)}", "library_name: lens-emotion"]
    if vectors.header.model.count("/") == 1:
        rows.append(f"base_model: {_quoted(vectors.header.model)}")
    tags = ("emotion", "activation-steering", "mechanistic-interpretability", vectors.header.family)
    rows += ["tags:", *(f"- {_quoted(tag)}" for tag in tags)]
    return "\n".join(("---", *rows, "---", ""))


def _title(vectors: EmotionVectors, repo_id: str) -> str:
    h = vectors.header
    return (
        f"# {_plain(repo_id)}\n\nDirections of {len(vectors)} emotions in the residual stream of `{_plain(h.model)}`, "
        f"one per layer ({vectors.n_layers} layers x {vectors.d_model}): {', '.join(map(_plain, vectors.emotions))}.\n"
    )


def _provenance(vectors: EmotionVectors) -> str:
    h = vectors.header
    rows = {
        "model": h.model,
        "fingerprint": h.fingerprint,
        "precision": h.dtype,
        "method": f"{h.method} ({h.variant})" if h.variant else h.method,
        "pooling": h.pooling,
        "recipe": h.recipe,
        "stimuli": h.stimuli,
        "stimuli, sha256": h.stimuli_sha256,
        "seed": "none drawn" if h.seed is None else str(h.seed),
        "read with": f"{h.backend}, TransformerLens {h.transformer_lens}",
    }
    lines = [f"| {name} | `{_plain(value)}` |" for name, value in rows.items() if value]
    notes = [f"- {_plain(note)}" for note in h.notes]
    return "\n".join(("## Where they come from\n", "| | |", "| --- | --- |", *lines, "", *notes, ""))


def _evidence(findings: Sequence[Finding]) -> str:
    told = [f"- {_plain(f.summary())}" for f in findings]
    nothing = (
        "Nothing was measured on these vectors for this card: whether they separate emotions better than noise is open."
    )
    return "\n".join(("## What is known of them\n", *(told or [nothing]), ""))


def _usage(vectors: EmotionVectors, repo_id: str, filename: str) -> str:
    emotion = json.dumps(vectors.emotions[0], ensure_ascii=False)
    code = (
        "import lens_emotion as le\n\n"
        f"model = le.load_model({json.dumps(vectors.header.model, ensure_ascii=False)})\n"
        f"vectors = le.pull_vectors({json.dumps(repo_id)}, model=model)\n"
        f"with le.steer(model, vectors[{emotion}], dose=3):\n"
        '    print(model.generate("The door opened and", max_new_tokens=40))\n'
    )
    return (
        f"## Use\n\n```python\n{code}```\n\nA dose is in natural units: 1 is as far as an average text of the emotion "
        "lies from the mean of all emotions. The vectors fit no other model: `pull_vectors` compares the fingerprint. "
        f"The file `{_plain(filename)}` is safetensors; it holds no code.\n"
    )


def _plain(text: str) -> str:
    """Text that cannot end a table cell, a code span or a line."""
    return " ".join(text.split()).replace("`", "'").replace("|", "/")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
