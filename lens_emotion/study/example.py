"""A study's files to begin with: commented, and one that runs as it stands."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from lens_emotion.artifacts import atomic_write, ensure_writable
from lens_emotion.errors import ArtifactError

FILES = ("study.toml", "stimuli.toml", "prompts.toml", "scenarios.toml", "judge.toml")


def write_example(folder: str | Path) -> tuple[Path, ...]:
    """Write the example study into a folder, which is made if need be.

    Raises:
        ArtifactError: one of the files is there already (none is touched), or the folder cannot be written.
    """
    folder = Path(folder)
    if there := [name for name in FILES if (folder / name).exists()]:
        raise ArtifactError(f"{folder} holds {', '.join(there)} already; give another folder, or move them away")
    ensure_writable(folder)
    source = resources.files("lens_emotion.stimuli").joinpath("data/example")
    return tuple(atomic_write(folder / name, source.joinpath(name).read_text(encoding="utf-8")) for name in FILES)
