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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lens_emotion.errors import ArtifactError, LensEmotionError

MOST = 256 * 2**20  # bytes of a file that is read whole into memory
DIGITS = 19  # of the longest whole number: beyond, no counter or seed is meant
_KINDS = (
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


def read_bytes(
    path: str | Path, error: Failing = ArtifactError, remedy: str = "copy it anew", most: int = MOST
) -> bytes:
    """A regular file's content.

    Raises:
        error: as `check_regular`; larger than `most` bytes, or the disk does not give it.
    """
    descriptor = _opened(path, error, remedy)
    try:
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(most + 1) if os.fstat(file.fileno()).st_size <= most else None
    except OSError as failed:
        raise _refused(path, failed, error, remedy) from None
    if data is None or len(data) > most:
        raise error(f"cannot read {path}: it has more than {most / 2**20:.0f} MiB, which is too large for what it is")
    return data


def read_text(path: str | Path, error: Failing = ArtifactError, remedy: str = "copy it anew", most: int = MOST) -> str:
    """A regular file's text in UTF-8; the mark that some editors put in front is left out.

    Raises:
        error: as `read_bytes`; bytes that are no UTF-8.
    """
    data = read_bytes(path, error, remedy, most)
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as failed:
        line = data.count(b"\n", 0, failed.start) + 1
        raise error(f"cannot read {path}, line {line}: it is no text in UTF-8; {remedy}") from None


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


def strict_json(text: str | bytes) -> Any:
    """The value that JSON says; unlike `json.loads`, nothing that JSON does not have or that has two meanings.

    Raises:
        ValueError: no JSON (JSONDecodeError), a key twice in one table, NaN, an infinite number, one of more than 19
            digits, half of a surrogate pair, tables too deep in one another.
    """
    text = text.decode() if isinstance(text, bytes) else text
    try:
        found = _DECODER.decode(text.removeprefix("\ufeff"))
    except RecursionError:
        raise ValueError("its tables and lists lie too deep in one another") from None
    if (_SPELLED_HALF.search(text) or _HALF.search(text)) and any(_HALF.search(said) for _, said in strings_of(found)):
        raise ValueError("it holds half of a surrogate pair, which is no text")
    return found


def strings_of(data: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Every string of JSON with its place; a key stands at the place of its table."""
    left: list[tuple[tuple[str | int, ...], Any]] = [((), data)]
    while left:
        at, value = left.pop()
        if isinstance(value, dict):
            left += [((*at, key), inner) for key, inner in value.items()]
            left += [(at, key) for key in value]
        elif isinstance(value, list):
            left += [((*at, i), inner) for i, inner in enumerate(value)]
        elif isinstance(value, str):
            yield at, value


def _opened(path: str | Path, error: Failing, remedy: str) -> int:
    """A descriptor of a regular file; opened without waiting, for a FIFO would wait for its writer."""
    try:
        kind = os.stat(path).st_mode
        if not stat.S_ISREG(kind):
            what = next((word for fits, word in _KINDS if fits(kind)), "no regular file")
            raise error(f"{path} is {what}, no file to read; {remedy}")
        return os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as failed:
        raise _refused(path, failed, error, remedy) from None


def _refused(path: object, failed: Exception, error: Failing, remedy: str) -> LensEmotionError:
    if isinstance(failed, FileNotFoundError):
        return error(f"no file {path}; {remedy}")
    why = getattr(failed, "strerror", None) or str(failed)
    return error(f"cannot read {path}: {why}; {remedy}")


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f'the key "{twice[:40]}" stands twice in one table')
    return found


def _no_constant(said: str) -> Any:
    raise ValueError(f"{said} is no number of JSON")


def _bounded(most: int, read: Callable[[str], Any]) -> Callable[[str], Any]:
    def number(said: str) -> Any:
        if len(said.lstrip("-")) > most or not math.isfinite(found := read(said)):
            raise ValueError(f"the number {said[:24]}{'...' * (len(said) > 24)} is out of range")
        return found

    return number


_DECODER = json.JSONDecoder(
    object_pairs_hook=_no_key_twice,
    parse_constant=_no_constant,
    parse_int=_bounded(DIGITS, int),
    parse_float=_bounded(400, float),
)
