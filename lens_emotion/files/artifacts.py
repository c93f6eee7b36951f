"""Safetensors files with a JSON header: written atomically, read with errors that name the fix. No pickle."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lens_emotion.errors import ArtifactError

ELSEWHERE = "give another --out, or say --overwrite"  # of a file that would be lost
TEMPORARY = ".tmp"  # ends the names of files under way; a crash may leave one behind


def atomic_write(path: str | Path, data: bytes | str) -> Path:
    """Write a file so that a reader sees the old content or the new, never a part: temporary file, fsync, rename.

    Raises:
        ArtifactError: the folder cannot be made or written, or the disk is full; the old content is still there.
    """
    path = Path(path)
    raw = data.encode() if isinstance(data, str) else data
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY)
        try:
            put(descriptor, raw)
        finally:
            os.close(descriptor)
        os.umask(mask := os.umask(0))  # which can only be read by setting it
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except OSError as error:
        raise unwritable(path, error) from None
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
    return path


def put(descriptor: int, data: bytes, sync: bool = True) -> None:
    """Write all of `data` and bring it to the disk. Every file of a run is written here, or not at all.

    Without `sync` the system does that within seconds: enough for a killed process, not for a power cut.

    Raises:
        OSError: the disk is full (the system may take a part of the data first, and says so only when asked again).
    """
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
    if sync:
        os.fsync(descriptor)


def unwritable(path: str | Path, error: OSError) -> ArtifactError:
    """The error for a file that cannot be written, with the remedy that fits."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    remedy = "free space, then run the same again" if full else "choose a folder you may write to"
    return ArtifactError(f"cannot write {path}: {error.strerror or error}; {remedy}")


def ensure_writable(folder: str | Path) -> Path:
    """Make the folder and try a write in it, so that a long run does not fail at its end.

    Raises:
        ArtifactError: the folder cannot be made or written.
    """
    folder = Path(folder)
    probe = atomic_write(folder / ".write_test", b"")
    probe.unlink()
    return folder


def check_mine(path: str | Path, kind: str, facts: Mapping[str, Any], overwrite: bool = False) -> None:
    """Whether a command may write here, before any long work: nothing lies there, or what the same command wrote.

    Args:
        kind, facts: of the file that will be written: what its header says. overwrite: the user said so.

    Raises:
        ArtifactError: another file, which would be lost; a folder, device or FIFO in any case.
    """
    path = Path(path)
    if not os.path.lexists(path):
        return
    _check_is_file(path)
    if overwrite:
        return
    held = _meta(path)
    header = found if isinstance(found := held.get("header"), dict) else {}
    other = [f"{name} {header.get(name)}" for name, value in facts.items() if header.get(name) != value]
    if held.get("kind") != kind or other:
        what = f"was made of {', '.join(other)}" if held.get("kind") == kind else "was not written by this command"
        raise ArtifactError(f"{path} lies there and {what}; {ELSEWHERE}")


def save_anew(save: Callable[[Path], Any], path: str | Path, overwrite: bool = False) -> Path:
    """Let an object save itself where nothing lies, or the very same bytes.

    Raises:
        ArtifactError: something else lies there, and `overwrite` is not said; it cannot be written.
    """
    path = Path(path)
    with tempfile.TemporaryDirectory() as folder:
        save(made := Path(folder, path.name))
        data = made.read_bytes()
    if os.path.lexists(path):
        _check_is_file(path)
        if not overwrite and path.read_bytes() != data:
            raise ArtifactError(f"{path} lies there and holds something else; {ELSEWHERE}")
    return atomic_write(path, data)


def _check_is_file(path: Path) -> None:
    if not path.is_file():
        raise ArtifactError(f"{path} is no regular file, and is not written over; give another --out")


def _meta(path: Path) -> dict[str, Any]:
    """The metadata of a file of ours, unchecked; empty for any other file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            found = json.loads((file.metadata() or {}).get("lens_emotion", "{}"))
        return found if isinstance(found, dict) else {}
    except (SafetensorError, OSError, ValueError, RecursionError):
        return {}


def write_tensors(path: str | Path, kind: str, tensors: dict[str, Tensor], meta: dict[str, Any]) -> Path:
    """Write tensors and JSON metadata of one kind of object to a safetensors file, atomically."""
    from safetensors.torch import save

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # one key only: safetensors writes several in no fixed order, and equal content shall be equal bytes
    text = json.dumps(sealed({"kind": kind, **meta}, contiguous), ensure_ascii=False, sort_keys=True)
    return atomic_write(path, save(contiguous, {"lens_emotion": text}))


def read_tensors(path: str | Path, kind: str, names: tuple[str, ...]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_tensors` wrote.

    Raises:
        ArtifactError: no such file, truncated or corrupt, not a lens_emotion file, of another kind or a newer format.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise ArtifactError(f"no file {path}; give the path of a file of {kind}, written by `save`")
    try:
        with safe_open(str(path), framework="pt") as file:
            meta = json.loads((file.metadata() or {}).get("lens_emotion", "{}"))
            present = set(file.keys())
            found = meta.get("kind")
            if found != kind:
                raise ArtifactError(
                    f"{path} holds {found or 'no lens_emotion object'}, not {kind}; give a file written by {kind}.save"
                )
            if missing := [n for n in names if n not in present]:
                raise ArtifactError(f"{path} lacks the tensors {', '.join(missing)}; make it again")
            tensors = {n: file.get_tensor(n) for n in present}
            check_seal(path, meta, tensors)
            return {n: tensors[n] for n in names}, meta
    except (SafetensorError, OSError, KeyError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{path} is truncated or corrupt ({error}); make it again or copy it anew") from None


def check_shapes(path: object, tensors: dict[str, Tensor], axes: dict[str, str]) -> dict[str, Tensor]:
    """The tensors, float32, if their axes fit together.

    Args:
        axes: names of the axes of each tensor, parted by spaces; equal names must have equal sizes.

    Raises:
        ArtifactError: another type, another number of axes, or sizes that contradict one another.
    """
    sizes: dict[str, int] = {}
    for name, words in axes.items():
        shape, given = words.split(), tuple(tensors[name].shape)
        fits = len(shape) == len(given) and all(sizes.setdefault(a, n) == n for a, n in zip(shape, given, strict=True))
        if not fits or tensors[name].dtype != torch.float32:
            raise ArtifactError(
                f"{path}: {name} is {tensors[name].dtype} {given}, which does not fit the other tensors; make it again"
            )
    return {name: tensors[name] for name in axes}


# A checksum over metadata and tensors of an artifact: a flipped bit on a disk is named, not computed with.
#
# Files of format 1 (before version 0.2) carry none and are read without.


FORMAT = 2  # raised whenever an older version would misread a file


def digest(meta: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Hex SHA-256 of the metadata (its own "sha256" left out) and of every tensor's name, type, shape and bytes."""
    own = {k: v for k, v in meta.items() if k != "sha256"}
    found = hashlib.sha256(json.dumps(own, ensure_ascii=False, sort_keys=True).encode("utf-8", "surrogatepass"))
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        found.update(f"|{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        found.update(tensor.flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def sealed(meta: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The metadata with format and checksum."""
    made = {**meta, "format": FORMAT}
    return {**made, "sha256": digest(made, tensors)}


def check_seal(path: object, meta: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Raise unless the file is what was written.

    Raises:
        ArtifactError: of a newer format, without its checksum, or changed since it was written.
    """
    version = meta.get("format", 1)
    if not isinstance(version, int) or version > FORMAT:
        raise ArtifactError(
            f"{path} has file format {version!r}, this version of lens_emotion reads up to {FORMAT}; "
            "upgrade lens-emotion"
        )
    if "sha256" not in meta and version == 1:
        return
    if meta.get("sha256") != digest(meta, tensors):
        raise ArtifactError(
            f"{path} is corrupt: its content does not match its checksum; make it again or copy it anew"
        )
