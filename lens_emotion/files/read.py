"""The one door for files from outside: regular files, of bounded size, in strict UTF-8 and strict JSON.

What is read here is what the file says, or a named error: no FIFO or device is waited for, no key stands twice, no
number is infinite or too long to be one, no text holds half a character. What values mean is checked by those who ask.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

from lens_emotion.errors import ArtifactError, LensEmotionError

MOST = 256 * 2**20  # bytes of a file that is read whole into memory
_PIECE = 2**20
DIGITS = 19  # of the longest whole number: beyond, no counter or seed is meant
_FILE = "a file"
_KINDS = (
    (stat.S_ISREG, _FILE),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_HALF = re.compile("[\ud800-\udfff]")
_SPELLED_HALF = re.compile(r"\\u[dD][89a-fA-F]")
Failing = type[LensEmotionError]


def check_regular(path: str | Path, error: Failing = ArtifactError, remedy: str = "give a file") -> Path:
    """The path, if a regular file that may be read lies there (at the end of its links); nothing is read.

    Raises:
        error: it is missing, a folder, FIFO, socket or device, a link without end, a name that no file can have.
    """
    os.close(_opened(path, error, remedy))
    return Path(path)


def as_path(given: object, error: Failing = ArtifactError) -> Path:
    """A path as it was given.

    Raises:
        error: what is no path: None, a number, bytes, a list of paths.
    """
    if not isinstance(given, str | os.PathLike):
        raise error(f"{given!r:.60} is no path; give one as text or a Path")
    return Path(given)


def whole_path(path: str | Path) -> Path:
    """The path from the root on, its links followed as far as they lead: unlike `Path.resolve`, also one without end.

    Raises:
        ArtifactError: a name that no file can have.
    """
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError) as failed:
        raise _refused(path, failed, ArtifactError, "give another path") from None


def kind_of(path: str | Path) -> str:
    """What lies at a path, at the end of its links: "a file", "a folder", "a FIFO" ...; empty where nothing does, may
    not be looked at, or can, by its name."""
    try:
        return _kind(os.stat(path).st_mode)
    except (OSError, ValueError):
        return ""


def read_bytes(
    path: str | Path, error: Failing = ArtifactError, remedy: str = "copy it anew", most: int = MOST
) -> bytes:
    """A regular file's content.

    Raises:
        error: as `check_regular`; larger than `most` bytes, or the disk does not give it.
    """
    data = _read(path, most + 1, most, error, remedy)
    if data is None or len(data) > most:
        raise error(f"cannot read {path}: it has more than {most / 2**20:.3g} MiB, which is too large for what it is")
    return data


def read_start(path: str | Path, size: int, error: Failing = ArtifactError, remedy: str = "copy it anew") -> bytes:
    """The first bytes of a regular file, or all of a shorter one.

    Raises:
        error: as `check_regular`, or the disk does not give it.
    """
    return _read(path, size, math.inf, error, remedy) or b""


def _read(path: str | Path, size: int, most: float, error: Failing, remedy: str) -> bytes | None:
    """The first bytes of a file; None of one that has more than `most`."""
    descriptor = _opened(path, error, remedy)
    try:
        with os.fdopen(descriptor, "rb") as file:
            if os.fstat(descriptor).st_size > most:
                return None
            # piece by piece, for a file may grow; None is of the kernel's files that would make one wait
            pieces = iter(lambda: file.read(min(size, _PIECE)) or b"", b"")
            return b"".join(islice(pieces, -(-size // _PIECE)))[:size]
    except OSError as failed:
        raise _refused(path, failed, error, remedy) from None


def read_text(path: str | Path, error: Failing = ArtifactError, remedy: str = "copy it anew", most: int = MOST) -> str:
    """A regular file's text in UTF-8; the mark that some editors put in front is left out.

    Raises:
        error: as `read_bytes`; bytes that are no UTF-8.
    """
    data = read_bytes(path, error, remedy, most)
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as failed:
        line = data.count(b"\n", 0, failed.start) + 1
        raise error(f"cannot read {path}, line {line}: it is no text in UTF-8; {remedy}") from None
    if text.startswith("\ufeff"):
        raise error(f"cannot read {path}: two byte order marks stand in front, where one may; {remedy}")
    return text


def read_json(path: str | Path, error: Failing = ArtifactError, remedy: str = "copy it anew", most: int = MOST) -> Any:
    """A JSON file's value.

    Raises:
        error: as `read_text` and `strict_json`.
    """
    text = read_text(path, error, remedy, most)
    try:
        return strict_json(text)
    except ValueError as failed:
        raise error(f"cannot read {path}: {' '.join(str(failed).split())[:200]}; {remedy}") from None


def strict_json(text: str | bytes, infinite: bool = False) -> Any:
    """The value that JSON says; unlike `json.loads`, nothing that JSON does not have or that has two meanings.

    Args:
        infinite: Infinity may stand for a number, as in files of this package that measure texts which broke off.

    Raises:
        JSONDecodeError: no JSON, a key twice in one table, NaN, an infinite number, one of more than 19 digits, half of
            a surrogate pair, tables too deep in one another; with its line.
        UnicodeDecodeError: bytes that are no UTF-8.
    """
    text = (text.decode() if isinstance(text, bytes) else text).removeprefix("\ufeff")
    try:
        found = (_WITH_INFINITY if infinite else _DECODER).decode(text)
        if _SPELLED_HALF.search(text) or _HALF.search(text):
            _check_tokens(text)
    except RecursionError:
        raise json.JSONDecodeError("its tables and lists lie too deep in one another", text, 0) from None
    except ValueError as failed:
        if not isinstance(failed, json.JSONDecodeError):  # of the decoder's readers, who know no place
            _check_tokens(text)
        raise
    return found


_TOKEN = re.compile(r'("[^"\\]*(?:\\.[^"\\]*)*")(\s*:)?|[{}]|-?\w[\w.+-]*', re.DOTALL)


def _check_tokens(text: str) -> None:
    """Raises JSONDecodeError where the first token of JSON stands that has two meanings, or none."""
    keys: list[set[str]] = []  # of the tables that are open
    for token in _TOKEN.finditer(text):
        word = token[0]
        try:
            if token[1]:
                _check_string(json.loads(token[1]) if "\\" in word else token[1][1:-1], keys[-1] if token[2] else None)
            elif word == "{":
                keys.append(set())
            elif word == "}":
                keys.pop()
            else:
                _DECODER.decode(word)
        except ValueError as failed:
            raise json.JSONDecodeError(str(failed), text, token.start()) from None


def _check_string(said: str, keys: set[str] | None) -> None:
    """Raises ValueError for no text, or a key that its table has already."""
    if _HALF.search(said):
        raise ValueError("it holds half of a surrogate pair, which is no text; write the character itself")
    if keys is not None:
        if said in keys:
            raise ValueError(f'the key "{said[:40]}" stands twice in one table')
        keys.add(said)


def _opened(path: str | Path, error: Failing, remedy: str) -> int:
    """A descriptor of a regular file; opened without waiting, for a FIFO would wait for its writer."""
    path = as_path(path, error)  # of a number the system would take the file that is open under it
    try:
        if (kind := _kind(os.stat(path).st_mode)) == _FILE:
            return os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as failed:
        raise _refused(path, failed, error, remedy) from None
    raise error(f"{path} is {kind}, no file to read; {remedy}")


def _kind(mode: int) -> str:
    return next((word for fits, word in _KINDS if fits(mode)), "no regular file")


def _refused(path: object, failed: Exception, error: Failing, remedy: str) -> LensEmotionError:
    if isinstance(failed, FileNotFoundError):
        return error(f"no file {path}; {remedy}")
    why = getattr(failed, "strerror", None) or str(failed)
    return error(f"cannot read {path}: {why}; {remedy}")


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice in one table")
    return found


def _no_constant(said: str) -> Any:
    raise ValueError(f"{said} is no number of JSON")


def _bounded(most: int, read: Callable[[str], Any]) -> Callable[[str], Any]:
    def number(said: str) -> Any:
        if len(said.lstrip("-")) > most or not math.isfinite(found := read(said)):
            raise ValueError(f"the number {said[:24]}{'...' * (len(said) > 24)} is out of range")
        return found

    return number


def _infinity(said: str) -> Any:
    return float(said) if said != "NaN" else _no_constant(said)


_PARTS: dict[str, Any] = {"object_pairs_hook": _no_key_twice, "parse_int": _bounded(DIGITS, int)}
_PARTS |= {"parse_float": _bounded(400, float)}
_DECODER = json.JSONDecoder(parse_constant=_no_constant, **_PARTS)
_WITH_INFINITY = json.JSONDecoder(parse_constant=_infinity, **_PARTS)
