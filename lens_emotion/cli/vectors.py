"""`lens-emotion vectors`: vector files for other tools and from them, and the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from lens_emotion.cli.model import Overwrite
from lens_emotion.cli.say import say_line, say_prose
from lens_emotion.errors import ArtifactError

FORMATS = ("gguf", "steering-vectors")

vectors_app = typer.Typer(no_args_is_help=True, help="Vector files: for llama.cpp, repeng and the Hub, and from them.")


@vectors_app.command("export")
def export_vectors(
    file: Annotated[Path, typer.Argument(help="Vector file (see `lens-emotion extract`).")],
    emotion: Annotated[str, typer.Argument(help="One of its emotions, or a mixture: '0.5*calm - 0.3*angry'.")],
    form: Annotated[str, typer.Option("--format", help="gguf or steering-vectors.")] = "gguf",
    dose: Annotated[float, typer.Option(help="Natural units that scale 1 of the other tool shall be.")] = 3.0,
    layer: Annotated[
        str | None, typer.Option(help="A layer, a band such as 10-20, or all; default the middle one.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; default named after the emotion.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write one vector as a GGUF control vector (llama.cpp, repeng) or for steering-vectors."""
    from lens_emotion.files.artifacts import save_anew, write_tensors
    from lens_emotion.models.layers import layers_in_words, resolve_layers
    from lens_emotion.vectors.emotion_vectors import EmotionVectors, mixture, parse_mixture
    from lens_emotion.vectors.interchange import PLAIN, displacements, to_gguf

    if form not in FORMATS:
        raise ArtifactError(f"unknown format '{form}'; use {' or '.join(FORMATS)}")
    vectors = EmotionVectors.load(file)
    vector = mixture(vectors, parse_mixture(emotion, vectors.emotions))
    chosen = resolve_layers(layer, vectors.n_layers)
    name = "".join(c if c.isalnum() else "_" for c in emotion).strip("_")
    if form == "gguf":
        where = "all" if layer == "all" else chosen
        to = out or Path(f"{name}.gguf")
        made = save_anew(lambda path: to_gguf(vector, path, dose, where), to, overwrite, [file])
        use = f"llama-cli -m MODEL.gguf --control-vector {made}   (layer 0 is beyond llama.cpp)"
    else:
        parts = {str(k): v for k, v in displacements(vector, dose, chosen).items()}
        meta = {"layer_type": "decoder_block"}
        to = out or Path(f"{name}.safetensors")
        made = save_anew(lambda path: write_tensors(path, PLAIN, parts, meta), to, overwrite, [file])
        use = "SteeringVector({int(k): v for k, v in safetensors.torch.load_file(FILE).items()}).apply(model)"
    words = layers_in_words(chosen, vectors.n_layers)
    say_line(Text(f"{made}: {vector.name} of {vectors.header.model}, dose {dose:g} natural at layers {words}"))
    say_line(Text(f"scale 1 is that dose: {use}"))


@vectors_app.command("import")
def import_vectors(
    file: Annotated[Path, typer.Argument(help="GGUF control vector, or safetensors with one tensor per layer.")],
    model: Annotated[str, typer.Option(help="The model it was made on: name, hub id, folder or .gguf file.")],
    out: Annotated[Path, typer.Option(help="Vector file to write.")] = Path("imported.safetensors"),
    name: Annotated[str, typer.Option(help="Name of the vector; default that of the file.")] = "",
    other_model: Annotated[
        bool, typer.Option("--allow-other-model", help="Take a file whose model hint names another architecture.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Read a control vector of another tool (GGUF, or what steering-vectors takes) as a vector file."""
    from lens_emotion.files.artifacts import check_mine, save_anew
    from lens_emotion.files.names import check_name
    from lens_emotion.models.layers import layers_in_words
    from lens_emotion.models.loading import load_model, resolve
    from lens_emotion.vectors.interchange import as_set, from_gguf, from_safetensors

    check_name("--name", name, empty=True)
    check_mine(out, "EmotionVectors", {"model": resolve(model).label}, overwrite)
    loaded = load_model(model)
    plain = file.suffix == ".safetensors"
    vector = from_safetensors(file, loaded, name) if plain else from_gguf(file, loaded, name, other_model)
    made = save_anew(as_set([vector]).save, out, overwrite, [file])
    where = layers_in_words(vector.layers, vector.n_layers)
    say_line(Text(f"{made}: {vector.name} at layers {where}; dose 1 is the file's own"))
    for note in vector.header.notes:
        say_prose(f"note: {note}")


@vectors_app.command("push")
def push(
    file: Annotated[Path, typer.Argument(help="Vector file.")],
    repo: Annotated[str, typer.Argument(help="Repository of the Hub, user/name; made if there is none.")],
    licence: Annotated[str, typer.Option(help="Licence of the vectors, as the Hub names it; mind the model's.")],
    public: Annotated[bool, typer.Option("--public", help="Make a new repository public.")] = False,
) -> None:
    """Put a vector file and a model card on the Hugging Face Hub."""
    from lens_emotion.vectors.emotion_vectors import EmotionVectors
    from lens_emotion.vectors.hub import push_vectors

    address = push_vectors(EmotionVectors.load(file), repo, licence=licence, private=not public)
    say_line(Text(f"pushed: {address}"))


@vectors_app.command("pull")
def pull(
    repo: Annotated[str, typer.Argument(help="Repository of the Hub, user/name.")],
    out: Annotated[Path, typer.Option(help="Vector file to write.")] = Path("pulled.safetensors"),
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
    model: Annotated[str | None, typer.Option(help="Refuse unless made on this model.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Fetch a vector file from the Hugging Face Hub and check it."""
    from lens_emotion.files.artifacts import check_mine, save_anew
    from lens_emotion.models.loading import load_model
    from lens_emotion.vectors.hub import pull_vectors

    check_mine(out, "EmotionVectors", {}, overwrite)
    vectors = pull_vectors(repo, model=load_model(model) if model else None, revision=revision)
    say_line(Text(f"{save_anew(vectors.save, out, overwrite)}: {vectors!r}"))
