"""The command line, `lens-emotion vectors ...`: arguments only, nothing heavy is imported before a command needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.text import Text

from lens_emotion.cli.say import say_line
from lens_emotion.errors import ArtifactError
from lens_emotion.files.artifacts import write_tensors
from lens_emotion.models.layers import Layers, layers_in_words, resolve_layers
from lens_emotion.models.loading import load_model
from lens_emotion.vectors.emotion_vectors import EmotionVectors, mixture, parse_mixture
from lens_emotion.vectors.hub import pull_vectors, push_vectors
from lens_emotion.vectors.interchange import as_set, displacements, from_gguf, to_gguf

vectors_app = typer.Typer(no_args_is_help=True, help="Vector files: for llama.cpp, repeng and the Hub, and from them.")


@vectors_app.command("export")
def export_vectors(
    file: Annotated[Path, typer.Argument(help="Vector file (see `lens-emotion extract`).")],
    emotion: Annotated[str, typer.Argument(help="One of its emotions, or a mixture: '0.5*calm - 0.3*angry'.")],
    form: Annotated[str, typer.Option("--format", help="gguf or steering-vectors.")] = "gguf",
    dose: Annotated[float, typer.Option(help="Natural units that scale 1 of the other tool shall be.")] = 3.0,
    layer: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="A layer, a band such as 10-20, or all; default the middle one."),
    ] = None,
    out: Annotated[Optional[Path], typer.Option(help="File to write; default named after the emotion.")] = None,  # noqa: UP045
) -> None:
    """Write one vector as a GGUF control vector (llama.cpp, repeng) or for steering-vectors."""

    export_and_print(file, emotion, form, dose, layer, out)


@vectors_app.command("import")
def import_vectors(
    file: Annotated[Path, typer.Argument(help="GGUF control vector.")],
    model: Annotated[str, typer.Option(help="The model it was made on: name, hub id, folder or .gguf file.")],
    out: Annotated[Path, typer.Option(help="Vector file to write.")] = Path("imported.safetensors"),
    name: Annotated[str, typer.Option(help="Name of the vector; default that of the file.")] = "",
) -> None:
    """Read a GGUF control vector of another tool as a vector file."""

    import_and_print(file, model, name, out)


@vectors_app.command("push")
def push(
    file: Annotated[Path, typer.Argument(help="Vector file.")],
    repo: Annotated[str, typer.Argument(help="Repository of the Hub, user/name; made if there is none.")],
    licence: Annotated[str, typer.Option(help="Licence of the vectors, as the Hub names it; mind the model's.")],
    public: Annotated[bool, typer.Option("--public", help="Make a new repository public.")] = False,
) -> None:
    """Put a vector file and a model card on the Hugging Face Hub."""

    push_and_print(file, repo, licence, public)


@vectors_app.command("pull")
def pull(
    repo: Annotated[str, typer.Argument(help="Repository of the Hub, user/name.")],
    out: Annotated[Path, typer.Option(help="Vector file to write.")] = Path("pulled.safetensors"),
    revision: Annotated[Optional[str], typer.Option(help="Branch, tag or commit.")] = None,  # noqa: UP045
    model: Annotated[Optional[str], typer.Option(help="Refuse unless made on this model.")] = None,  # noqa: UP045
) -> None:
    """Fetch a vector file from the Hugging Face Hub and check it."""

    pull_and_print(repo, revision, model, out)


# -------- console_vectors
# What `lens-emotion vectors` does: files of vectors for other tools and from them, and the Hub.


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
