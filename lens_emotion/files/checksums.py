"""SHA256SUMS: the checksum of every file of a folder, in the format that `sha256sum -c` checks too."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from lens_emotion.errors import ArtifactError
from lens_emotion.files.artifacts import atomic_write, put, unwritable
from lens_emotion.files.read import check_regular, read_bytes
from lens_emotion.memory import pass_on

try:
    import fcntl as _fcntl
except ImportError:  # Windows
    fcntl: ModuleType | None = None
else:
    fcntl = _fcntl

SEVERAL = fcntl is not None  # whether several processes may add lines to one file
FILE = "SHA256SUMS"
MOST = 16 * 2**20  # bytes of a file of checksums: lines for a hundred thousand files
_DIGITS = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class Damage:
    """A file that is not what was written.

    Attributes:
        path: the file.
        what: what is wrong with it, in words.
    """

    path: Path
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a regular file, read in pieces.

    Raises:
        ArtifactError: a FIFO, a device, a folder, no file. OSError: the disk does not give it.
    """
    check_regular(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sums(folder: Path, names: Iterable[str]) -> Path:
    """Write the checksums of these files of a folder, as they are on the disk now."""
    return _write(folder, {name: sha256_of(folder / name) for name in names})


def note(folder: Path, name: str, digest: str) -> None:
    """Add a line for a file that is about to be written; until it is, its older line holds as well.

    Raises:
        ArtifactError: the file of checksums cannot be written.
    """
    line = f"{digest}  {name}\n".encode()
    try:
        with (folder / FILE).open("a+b", buffering=0) as file:
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed: several processes of one study add lines
            file.seek(0)
            file.truncate(file.readall().rfind(b"\n") + 1)  # a line that a full disk cut short would swallow this one
            put(file.fileno(), line, sync=False)
    except OSError as error:
        raise unwritable(folder / FILE, error) from None


def compact(folder: Path) -> None:
    """One line for every file that is still there: the last one noted."""
    latest = {name: digests[-1] for name, digests in read_sums(folder)[0].items() if (folder / name).is_file()}
    _write(folder, latest)


def _write(folder: Path, digests: dict[str, str]) -> Path:
    lines = [f"{digests[name]}  {name}\n" for name in sorted(digests)]
    return atomic_write(folder / FILE, "".join(lines))


def read_sums(folder: Path) -> tuple[dict[str, list[str]], list[Damage]]:
    """File name -> its checksums in the order noted, and the lines that are none. A last line cut short is no damage:
    the file it speaks of was not written yet."""
    path = folder / FILE
    if not os.path.lexists(path):
        return {}, []
    try:
        raw = read_bytes(path, most=MOST).decode("utf-8", errors="replace")
    except ArtifactError as error:
        return {}, [Damage(path, str(error))]
    found: dict[str, list[str]] = {}
    wrong = []
    for number, line in enumerate(raw.split("\n")[:-1], 1):
        digest, _, name = line.partition("  ")
        if len(digest) == 64 and _DIGITS.issuperset(digest) and (name in found or _is_name(name)):
            found.setdefault(name, []).append(digest)
        else:
            wrong.append(number)
    more = f" (nor are {len(wrong) - 1} more lines)" * (len(wrong) > 1)
    said = [Damage(path, f"line {number} is no checksum of a file of this folder{more}") for number in wrong[:1]]
    return found, said


def _is_name(name: str) -> bool:
    """Whether it is a file's name that this package writes: inside its folder, in UTF-8, of one line."""
    return is_inside(name) and name.isprintable() and "\ufffd" not in name and Path(name).as_posix() == name


def is_inside(name: str) -> bool:
    """Whether a relative path stays inside its folder."""
    parts = Path(name).parts
    return bool(parts) and ".." not in parts and not Path(name).is_absolute()


def damages(folder: Path) -> list[Damage]:
    """Every file of a folder's checksums that is missing or not what was written."""
    noted, found = read_sums(folder)
    told = ((folder / name, _wrong(folder / name, digests)) for name, digests in noted.items())
    return found + [Damage(path, what) for path, what in told if what]


def _wrong(path: Path, digests: Iterable[str]) -> str:
    """What is wrong with a file of which these checksums were noted; "" for nothing."""
    if not os.path.lexists(path):
        return "it is missing"
    try:
        right = sha256_of(path) in digests
    except (ArtifactError, OSError) as error:
        pass_on(error)
        return f"it cannot be read ({getattr(error, 'strerror', None) or error})"
    return "" if right else "its checksum is not the one noted when it was written"


# Files of a folder as bytes by name, as they travel between machines.


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
