"""Files of a folder as bytes by name, as they travel between machines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from lens_emotion.artifacts import atomic_write
from lens_emotion.checksums import is_inside
from lens_emotion.errors import ArtifactError

Files = Mapping[str, bytes]


def read_files(folder: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """Name (from the folder, with /) -> content of the files that are wanted."""
    names = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: path.read_bytes() for name, path in names.items() if wanted(name)}


def write_files(folder: Path, files: Files) -> None:
    """Write files into a folder.

    Raises:
        ArtifactError: a name that leads out of the folder, before anything is written; a disk that is full.
    """
    check_inside(folder, files)
    for name, data in files.items():
        atomic_write(folder / name, data)


def check_inside(folder: Path, names: Iterable[str]) -> None:
    """Raises ArtifactError for a name that leads out of the folder."""
    if wrong := [name for name in names if not is_inside(name)]:
        raise ArtifactError(f"'{wrong[0]}' leads out of {folder}; nothing was written")
