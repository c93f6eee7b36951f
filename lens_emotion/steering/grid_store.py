"""Finished rows of a grid as JSON lines: a batch is appended in one write; a line torn by a crash is made again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lens_emotion.artifacts import atomic_write
from lens_emotion.errors import ArtifactError
from lens_emotion.models.access import ModelInfo
from lens_emotion.models.decoding import Sampling
from lens_emotion.seal import digest
from lens_emotion.steering.generate import Condition
from lens_emotion.steering.positions import Positions

FILE = "steering_grid.jsonl"
FORMAT = 1


def row_key(
    info: ModelInfo,
    condition: Condition,
    prompt_ids: Sequence[int],
    *,
    sampling: Sampling,
    positions: Positions,
    max_new_tokens: int,
) -> str:
    """Hash of all that a text depends on: model, backend, precision, what is done at which layer, prompt, sampling."""
    where = positions if isinstance(positions, (str, int, slice)) else [int(p) for p in positions]
    drawn = None if sampling.greedy else (sampling.temperature, sampling.top_p, sampling.seed, condition.seed)
    model = (info.fingerprint, info.backend, info.dtype, info.processed)
    digest = hashlib.sha256(repr((FORMAT, model, list(prompt_ids), repr(where), drawn, max_new_tokens)).encode())
    done = condition.intervention((), info.n_layers)
    if done is not None and not done.idle:
        for layer in done.layers:
            edit = done.at(layer)
            for part in (edit.delta, edit.basis):
                digest.update(f"|{layer}|".encode())
                digest.update(b"" if part is None else part.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


def read_rows(path: Path) -> dict[str, tuple[int, ...]]:
    """Key -> token ids of every whole line; lines that are not whole, or not what was written, are left out.

    Raises:
        ArtifactError: the file cannot be read.
    """
    if not path.exists():
        return {}
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}; give another folder") from None
    found: dict[str, tuple[int, ...]] = {}
    for line in lines:
        try:
            record = json.loads(line)
            if record["sha256"] != digest(record, {}):
                continue
            found[str(record["key"])] = tuple(int(i) for i in record["new_ids"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return found


def append_rows(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Append whole lines in one write and bring them to the disk.

    Raises:
        ArtifactError: the file cannot be written.
    """
    sealed = [{**r, "sha256": digest(r, {})} for r in records]
    data = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in sealed).encode()
    try:
        if not path.exists():
            atomic_write(path, data)
            return
        with path.open("rb") as file:
            torn = bool(file.seek(0, os.SEEK_END)) and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n"
        with path.open("ab", buffering=0) as file:
            file.write(b"\n" * torn + data)  # a torn line must not swallow the next one
            os.fsync(file.fileno())
    except OSError as error:
        raise ArtifactError(
            f"cannot write {path}: {error.strerror or error}; free space or give another folder"
        ) from None
