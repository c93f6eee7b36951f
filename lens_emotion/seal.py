"""A checksum over metadata and tensors of an artifact: a flipped bit on a disk is named, not computed with.

Files of format 1 (before version 0.2) carry none and are read without.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lens_emotion.errors import ArtifactError

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
