"""Vectors on the Hugging Face Hub: one safetensors file and a model card, pushed in one commit. No pickle."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lens_emotion.errors import ArtifactError
from lens_emotion.models.access import Model, describe
from lens_emotion.models.loading import first_line
from lens_emotion.vectors.card import Finding, model_card
from lens_emotion.vectors.emotion_vectors import EmotionVectors

if TYPE_CHECKING:
    from huggingface_hub import HfApi

FILE = "vectors.safetensors"


def push_vectors(
    vectors: EmotionVectors,
    repo_id: str,
    *,
    licence: str,
    findings: Sequence[Finding] = (),
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

    Returns:
        The address of the commit.

    Raises:
        ArtifactError: not logged in, no right to write there, the Hub cannot be reached.
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

    Raises:
        ArtifactError: no such repository or file, the Hub cannot be reached, not a file of vectors, damaged.
        FingerprintError: made on another model than the one given.
    """
    from huggingface_hub import HfApi

    api = api or HfApi()
    with _plainly(f"cannot pull {filename} from {repo_id}", "check the names and the connection"):
        path = api.hf_hub_download(repo_id, filename, revision=revision)
    vectors = EmotionVectors.load(path)
    if model is not None:
        info = describe(model)
        vectors.check_model(info.fingerprint, info.name)
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
