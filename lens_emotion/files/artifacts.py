"""Safetensors files with a JSON header: written atomically, read with errors that name the fix. No pickle."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from jaxtyping import Bool, Float

from lens_emotion.errors import ArtifactError, LensEmotionError
from lens_emotion.files.read import check_regular, read_start, strict_json

if TYPE_CHECKING:  # torch takes seconds to load, and who looks at files alone has no tensors
    from torch import Tensor

ELSEWHERE = "give another --out, or say --overwrite"  # of a file that would be lost
T = TypeVar("T")
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
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = "free space, then run the same again" if full else "choose a folder you may write to"
    if error.errno == errno.EFBIG:  # there may be space enough
        remedy = "raise the limit on a file's size (ulimit -f), or choose another file system; then run the same again"
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


def same_file(a: str | Path, b: str | Path) -> bool:
    """Whether two paths lead to one file."""
    try:
        return os.path.samefile(a, b)
    except (OSError, ValueError):
        return False


def save_anew(
    save: Callable[[Path], Any], path: str | Path, overwrite: bool = False, inputs: Sequence[Path] = ()
) -> Path:
    """Let an object save itself where nothing lies, or the very same bytes.

    Raises:
        ArtifactError: something else lies there, and `overwrite` is not said; one of the `inputs` that it was made of,
            which is never written over; it cannot be written.
    """
    path = Path(path)
    if any(os.path.lexists(path) and same_file(path, x) for x in inputs):
        raise ArtifactError(f"{path} is what is being read; give another --out")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, path.name)
        try:
            save(made)
        except ArtifactError as error:  # which speaks of the file that it was to write
            raise ArtifactError(str(error).replace(str(made), str(path))) from None
        data = made.read_bytes()
    if os.path.lexists(path):
        _check_is_file(path)
        if not overwrite and read_start(path, len(data) + 1) != data:
            raise ArtifactError(f"{path} lies there and holds something else; {ELSEWHERE}")
    return atomic_write(path, data)


def check_replaces(path: str | Path, kind: str, is_one: Callable[[Path], bool], overwrite: bool = False) -> None:
    """What saving in Python may replace: nothing, or a file of the same kind, as `numpy.save` does.

    Args:
        kind: in words. is_one: whether a regular file is of this kind. overwrite: the user said so.

    Raises:
        ArtifactError: a file of another kind, which would be lost; a folder, device or FIFO in any case.
    """
    path = Path(path)
    if not os.path.lexists(path):
        return
    if not path.is_file():
        raise ArtifactError(f"{path} is no regular file, and is not written over; give another path")
    if not overwrite and not is_one(path):
        raise ArtifactError(f"{path} lies there and is no file of {kind}; give another path, or say overwrite=True")


def _check_is_file(path: Path) -> None:
    if not path.is_file():
        raise ArtifactError(f"{path} is no regular file, and is not written over; give another --out")


def _meta(path: Path) -> dict[str, Any]:
    """The metadata of a file of ours, unchecked; empty for any other file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            found = strict_json((file.metadata() or {}).get("lens_emotion", "{}"))
        return found if isinstance(found, dict) else {}
    except (SafetensorError, OSError, ValueError):
        return {}


def write_tensors(
    path: str | Path, kind: str, tensors: dict[str, Tensor], meta: dict[str, Any], overwrite: bool = False
) -> Path:
    """Write tensors and JSON metadata of one kind of object to a safetensors file, atomically.

    Raises:
        ArtifactError: see `check_replaces`, or the file cannot be written.
    """
    from safetensors.torch import save

    check_replaces(path, kind, lambda held: _meta(held).get("kind") == kind, overwrite)
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

    path = check_regular(path, remedy=f"give the path of a file of {kind}, written by `save`")
    try:
        with safe_open(str(path), framework="pt") as file:
            meta = strict_json((file.metadata() or {}).get("lens_emotion", "{}"))
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


@contextmanager
def from_file(path: str | Path, remedy: str = "make it again or copy it anew") -> Iterator[None]:
    """What an object made inside refuses is said of the file that it is made from."""
    try:
        yield
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}; {remedy}") from None


# What values mean, checked by the objects themselves: the same when they are made in memory, read or written.
MAY_BE_EMPTY = "texts"  # the one axis without entries that is no mistake
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")


def part_of(cls: type[T], **held: Any) -> T:
    """An object of these fields, parts of one that was checked: megabytes need not be read once more."""
    made = object.__new__(cls)
    made.__dict__.update(held)
    return made


def check_tensors(tensors: Mapping[str, Tensor], axes: Mapping[str, str]) -> None:
    """Whether these are finite float32 tensors whose axes fit together.

    Args:
        axes: names of the axes of each tensor, parted by spaces; equal names must have equal sizes.

    Raises:
        ArtifactError: another type, another number of axes, sizes that contradict one another, NaN or infinity.
    """
    import torch

    sizes: dict[str, tuple[int, str]] = {}
    for name, words in axes.items():
        named, tensor = words.split(), tensors[name]
        if not isinstance(tensor, torch.Tensor) or (tensor.dtype, tensor.layout) != (torch.float32, torch.strided):
            raise ArtifactError(f"{name} is {_kind(tensor)}, expected float32 [{', '.join(named)}]: x.float()")
        if tensor.is_meta:
            raise ArtifactError(f"{name} lies on the device 'meta' and holds no numbers; give a tensor on the CPU")
        if tensor.ndim != len(named):
            raise ArtifactError(f"{name} has shape {list(tensor.shape)}, expected [{', '.join(named)}]")
        for axis, n in zip(named, tensor.shape, strict=True):
            held, first = sizes.setdefault(axis, (n, name))
            if n != held:
                raise ArtifactError(f"{name} has {n} {axis}, but {first} has {held}; both need the same")
            if not n and axis != MAY_BE_EMPTY:
                raise ArtifactError(f"{name} has no {axis}; give at least one")
        check_finite(name, tensor)


def _kind(value: object) -> str:
    import torch

    if not isinstance(value, torch.Tensor):
        return f"{type(value).__name__} of {getattr(value, 'dtype', 'no')} type".replace("torch.", "")
    kind, layout = value.dtype, f" ({value.layout})" * (value.layout != torch.strided)
    return f"{kind}{layout}".replace("torch.", "")


def check_finite(name: str, tensor: Float[Tensor, "*shape"]) -> None:
    """Raises ArtifactError naming the first place that holds NaN or infinity; a sum finds out whether there is any."""
    if math.isfinite(float(tensor.detach().sum())):
        return
    refuse_where(name, tensor, ~tensor.isfinite(), "is no finite number")


def refuse_where(name: str, values: Float[Tensor, "*shape"], wrong: Bool[Tensor, "*shape"], why: str) -> None:
    """Raises ArtifactError with the first place and value that is wrong, if any is."""
    if bool(wrong.any()):
        at = wrong.nonzero()[0].tolist()
        raise ArtifactError(f"{name}{at if at else ''} is {float(values[tuple(at)]):g}: it {why}")


def check_text(what: str, said: object) -> None:
    """Raises ArtifactError unless this is text that can be written: no NUL, no half of a surrogate pair."""
    if not isinstance(said, str) or _NO_TEXT.search(said):
        raise ArtifactError(f"{what} is {_shown(said)}; give text without NUL and halves of surrogate pairs")


def check_is(
    what: str, given: object, kind: type | tuple[type, ...], error: type[LensEmotionError] = ArtifactError
) -> None:
    """Raises `error` unless this is of a kind, of which True and False are none unless they are asked for."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(given, kinds) or (isinstance(given, bool) and bool not in kinds):
        raise error(f"{what} is {_shown(given)}; give {' or '.join(k.__name__ for k in kinds)}")


def check_each(what: str, given: object, kind: type, error: type[LensEmotionError] = ArtifactError) -> None:
    """Raises `error` unless this is a tuple or list of one kind of things."""
    check_is(what, given, (tuple, list), error)
    for one in cast(Sequence[object], given):
        check_is(f"one of {what}", one, kind, error)


def check_whole(what: str, n: object, least: int = 0) -> None:
    """Raises ArtifactError unless this is a whole number of at least `least`."""
    if isinstance(n, bool) or not isinstance(n, int) or not least <= n < 2**63:
        raise ArtifactError(f"{what} is {_shown(n)}; give a whole number of at least {least}, and below 2^63")


def _shown(value: object) -> str:
    try:
        return " ".join(ascii(value[:60] if isinstance(value, str) else value).split())[:80]
    except ValueError:  # a number of more digits than Python writes
        return f"of {type(value).__name__}, too long to be shown"


# A checksum over metadata and tensors of an artifact: a flipped bit on a disk is named, not computed with.
#
# Files of format 1 (before version 0.2) carry none and are read without.


FORMAT = 2  # raised whenever an older version would misread a file


def digest(meta: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Hex SHA-256 of the metadata (its own "sha256" left out) and of every tensor's name, type, shape and bytes."""
    import torch

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
    if type(version) is not int or not 1 <= version <= FORMAT:
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
