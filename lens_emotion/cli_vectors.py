"""The command line, `lens-emotion vectors ...`: arguments only, nothing heavy is imported before a command needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

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
    from lens_emotion.console_vectors import export_and_print

    export_and_print(file, emotion, form, dose, layer, out)


@vectors_app.command("import")
def import_vectors(
    file: Annotated[Path, typer.Argument(help="GGUF control vector.")],
    model: Annotated[str, typer.Option(help="The model it was made on: name, hub id, folder or .gguf file.")],
    out: Annotated[Path, typer.Option(help="Vector file to write.")] = Path("imported.safetensors"),
    name: Annotated[str, typer.Option(help="Name of the vector; default that of the file.")] = "",
) -> None:
    """Read a GGUF control vector of another tool as a vector file."""
    from lens_emotion.console_vectors import import_and_print

    import_and_print(file, model, name, out)


@vectors_app.command("push")
def push(
    file: Annotated[Path, typer.Argument(help="Vector file.")],
    repo: Annotated[str, typer.Argument(help="Repository of the Hub, user/name; made if there is none.")],
    licence: Annotated[str, typer.Option(help="Licence of the vectors, as the Hub names it; mind the model's.")],
    public: Annotated[bool, typer.Option("--public", help="Make a new repository public.")] = False,
) -> None:
    """Put a vector file and a model card on the Hugging Face Hub."""
    from lens_emotion.console_vectors import push_and_print

    push_and_print(file, repo, licence, public)


@vectors_app.command("pull")
def pull(
    repo: Annotated[str, typer.Argument(help="Repository of the Hub, user/name.")],
    out: Annotated[Path, typer.Option(help="Vector file to write.")] = Path("pulled.safetensors"),
    revision: Annotated[Optional[str], typer.Option(help="Branch, tag or commit.")] = None,  # noqa: UP045
    model: Annotated[Optional[str], typer.Option(help="Refuse unless made on this model.")] = None,  # noqa: UP045
) -> None:
    """Fetch a vector file from the Hugging Face Hub and check it."""
    from lens_emotion.console_vectors import pull_and_print

    pull_and_print(repo, revision, model, out)
