"""Vectors on the Hugging Face Hub: one safetensors file and a model card, pushed in one commit. No pickle."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lens_emotion.display import Result
from lens_emotion.errors import ArtifactError
from lens_emotion.extraction.activations import check_made_on
from lens_emotion.models.access import Model, describe
from lens_emotion.models.loading import first_line
from lens_emotion.vectors.emotion_vectors import EmotionVectors

if TYPE_CHECKING:
    from huggingface_hub import HfApi


FILE = "vectors.safetensors"


def push_vectors(
    vectors: EmotionVectors,
    repo_id: str,
    *,
    licence: str,
    findings: Sequence[Result] = (),
    private: bool = True,
    message: str = "Emotion vectors",
    api: HfApi | None = None,
) -> str:
    """Write vectors and their model card into a repository of the Hub, in one commit; it is made if there is none.

    Args:
        repo_id: "user/name".
        licence: of the vectors, as the Hub names it ("mit", "apache-2.0", ...); mind that of the model.
        findings: results on these vectors, each with its null (`separation(acts)`, ...), for the card.
        private: of a repository that is made now; one that exists stays as it is.
        api: default `HfApi()`, with the token of `hf auth login`.
        vectors: the set to publish.
        message: of the commit.

    Returns:
        The address of the commit.

    Raises:
        ArtifactError: not logged in, no right to write there, the Hub cannot be reached.

    Example:
        >>> le.push_vectors(vectors, "user/name", licence="mit")  # doctest: +SKIP
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api = api or HfApi()
    with tempfile.TemporaryDirectory() as folder, _plainly(f"cannot push to {repo_id}", "log in with `hf auth login`"):
        data = vectors.save(Path(folder) / FILE).read_bytes()
        card = model_card(vectors, repo_id, FILE, licence, findings).encode()
        api.create_repo(repo_id, private=private, exist_ok=True)
        files = [CommitOperationAdd(FILE, data), CommitOperationAdd("README.md", card)]
        return str(api.create_commit(repo_id, files, commit_message=message).commit_url)


def pull_vectors(
    repo_id: str,
    *,
    model: Model | None = None,
    revision: str | None = None,
    filename: str = FILE,
    api: HfApi | None = None,
) -> EmotionVectors:
    """Fetch vectors from the Hub, through the checks of every file: kind, format, checksum and shapes.

    Args:
        model: compare the fingerprint with this model's at once (steering does it in any case).
        revision: branch, tag or commit; a commit cannot change under your feet.
        repo_id: "user/name".
        filename: of the vectors in the repository.
        api: default `HfApi()`, with the token of `hf auth login`.

    Raises:
        ArtifactError: no such repository or file, the Hub cannot be reached, not a file of vectors, damaged.
        FingerprintError: made on another model than the one given.

    Example:
        >>> le.pull_vectors("user/name", model=model, revision="main")  # doctest: +SKIP
    """
    from huggingface_hub import HfApi

    api = api or HfApi()
    with _plainly(f"cannot pull {filename} from {repo_id}", "check the names and the connection"):
        path = api.hf_hub_download(repo_id, filename, revision=revision)
    vectors = EmotionVectors.load(path)
    if model is not None:
        check_made_on(describe(model), vectors.header)
    return vectors


@contextmanager
def _plainly(what: str, fix: str) -> Iterator[None]:
    """The Hub's, httpx's and the socket's errors as one line; those of this package as they are."""
    try:
        yield
    except ArtifactError:
        raise
    except Exception as error:  # they share no base class
        raise ArtifactError(f"{what}: {first_line(error)}; {fix}") from error


# The model card of published vectors: where they come from, how they are used, and what is known of them.
def model_card(
    vectors: EmotionVectors, repo_id: str, filename: str, licence: str, findings: Sequence[Result] = ()
) -> str:
    """Markdown with front matter for the Hub.

    Args:
        findings: results on these vectors (`separation`, `reliability`, ...); without one the card says that nothing is
            known of how well they separate.
    """
    title = (
        f"# {_plain(repo_id)}\n\nDirections of {len(vectors)} emotions in the residual stream of "
        f"`{_plain(vectors.header.model)}`, one per layer ({vectors.n_layers} layers x {vectors.d_model}): "
        f"{', '.join(map(_plain, vectors.emotions))}.\n"
    )
    told = [f"- {_plain(f.summary())}" for f in findings] or [
        "Nothing was measured on these vectors for this card: whether they separate emotions better than noise is open."
    ]
    evidence = "\n".join(("## What is known of them\n", *told, ""))
    usage = _usage(vectors, repo_id, filename)
    return "\n".join((_front(vectors, licence), title, _provenance(vectors), evidence, usage))


def _front(vectors: EmotionVectors, licence: str) -> str:
    rows = [f"license: {_quoted(licence)}", "library_name: lens-emotion"]
    if vectors.header.model.count("/") == 1:
        rows.append(f"base_model: {_quoted(vectors.header.model)}")
    tags = ("emotion", "activation-steering", "mechanistic-interpretability", vectors.header.family)
    rows += ["tags:", *(f"- {_quoted(tag)}" for tag in tags)]
    return "\n".join(("---", *rows, "---", ""))


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


def _usage(vectors: EmotionVectors, repo_id: str, filename: str) -> str:
    code = (
        "import lens_emotion as le\n\n"
        f"model = le.load_model({_quoted(vectors.header.model)})\n"
        f"vectors = le.pull_vectors({json.dumps(repo_id)}, model=model)\n"
        f"with le.steer(model, vectors[{_quoted(vectors.emotions[0])}], dose=3):\n"
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
