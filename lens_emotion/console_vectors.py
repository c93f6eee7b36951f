"""What `lens-emotion vectors` does: files of vectors for other tools and from them, and the Hub."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text

from lens_emotion.artifacts import write_tensors
from lens_emotion.console import say_line
from lens_emotion.console_steer import mixture, parse_mixture
from lens_emotion.errors import ArtifactError
from lens_emotion.models.loading import load_model
from lens_emotion.steering.dose import Layers, layers_in_words, resolve_layers
from lens_emotion.vectors.emotion_vectors import EmotionVectors
from lens_emotion.vectors.hub import pull_vectors, push_vectors
from lens_emotion.vectors.interchange import as_set, displacements, from_gguf, to_gguf

FORMATS = ("gguf", "steering-vectors")
PLAIN = "SteeringVector"


def export_and_print(file: Path, emotion: str, form: str, dose: float, layers: Layers, out: Path | None) -> None:
    """Write one vector, or a mixture, for another tool."""
    if form not in FORMATS:
        raise ArtifactError(f"unknown format '{form}'; use {' or '.join(FORMATS)}")
    vectors = EmotionVectors.load(file)
    vector = mixture(vectors, parse_mixture(emotion))
    everywhere = layers == "all"
    chosen = resolve_layers(layers, vectors.n_layers)
    name = "".join(c if c.isalnum() else "_" for c in emotion).strip("_")
    if form == "gguf":
        made = to_gguf(vector, out or Path(f"{name}.gguf"), dose, "all" if everywhere else chosen)
        use = f"llama-cli -m MODEL.gguf --control-vector {made}   (layer 0 is beyond llama.cpp)"
    else:
        parts = {str(k): v for k, v in displacements(vector, dose, chosen).items()}
        made = write_tensors(out or Path(f"{name}.safetensors"), PLAIN, parts, {"layer_type": "decoder_block"})
        use = "SteeringVector({int(k): v for k, v in safetensors.torch.load_file(FILE).items()}).apply(model)"
    words = layers_in_words(chosen, vectors.n_layers)
    say_line(Text(f"{made}: {vector.name} of {vectors.header.model}, dose {dose:g} natural at layers {words}"))
    say_line(Text(f"scale 1 is that dose: {use}"))


def import_and_print(file: Path, model: str, name: str, out: Path) -> None:
    """Read a GGUF control vector onto a model and save it as a vector file."""
    vector = from_gguf(file, load_model(model), name)
    made = as_set([vector]).save(out)
    layers = [k for k in range(vector.n_layers) if float(vector.direction[k].norm()) > 0]
    say_line(
        Text(f"{made}: {vector.name} at layers {layers_in_words(layers, vector.n_layers)}; dose 1 is the file's own")
    )
    for note in vector.header.notes:
        say_line(Text(f"note: {note}"))


def push_and_print(file: Path, repo_id: str, licence: str, public: bool) -> None:
    """Push a vector file with a model card."""
    address = push_vectors(EmotionVectors.load(file), repo_id, licence=licence, private=not public)
    say_line(Text(f"pushed: {address}"))


def pull_and_print(repo_id: str, revision: str | None, model: str | None, out: Path) -> None:
    """Fetch a vector file, check it, and keep it."""
    vectors = pull_vectors(repo_id, model=load_model(model) if model else None, revision=revision)
    say_line(Text(f"{vectors.save(out)}: {vectors!r}"))
