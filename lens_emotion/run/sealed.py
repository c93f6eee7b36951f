"""A run's sealed.json: what it says, read and held against its own hash (made and compared by `study.seal`)."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lens_emotion.display import Brief
from lens_emotion.errors import ArtifactError
from lens_emotion.files.read import read_json
from lens_emotion.files.user import record

FILE = "sealed.json"
LARGEST = 2**24  # bytes


@dataclass(frozen=True, repr=False)
class Seal(Brief):
    """What a run's sealed.json says.

    Attributes:
        date: UTC, ISO 8601. version: of the package.
        design: the settings, as the manifest has them.
        models: name -> its settings, the checksums of what it reads, the hash of its files.
        thresholds: module -> the constants that decide.
        smallest: claim -> value, unit and why. claims: claim -> statement; "code" -> file of the rules -> its SHA-256.
        power: claim -> what the design finds, and what must be assumed for it (see `study.power`).
        sha256: of the canonical JSON of all the above.
    """

    date: str
    version: str
    design: dict[str, Any]
    models: dict[str, Any]
    thresholds: dict[str, Any]
    smallest: dict[str, Any]
    claims: dict[str, Any]
    power: list[dict[str, Any]]
    sha256: str = ""

    @property
    def digest(self) -> str:
        """The hash of what it holds now; `sha256` is that of what it held when it was written."""
        return sha256_of_json({k: v for k, v in asdict(self).items() if k != "sha256"})


def canonical(data: Any) -> str:
    """JSON in one spelling: keys sorted, no spaces, no character escaped, no number that JSON has not."""
    return json.dumps(data, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def sha256_of_json(data: Any) -> str:
    return hashlib.sha256(canonical(data).encode("utf-8", "surrogatepass")).hexdigest()


def read_seal(run: str | Path) -> Seal | None:
    """The seal of a run folder, None where there is none.

    Args:
        run: the folder of a study.

    Raises:
        ArtifactError: it is no regular file, damaged, of another form, or not what its hash was made of.

    Example:
        >>> le.read_seal("runs/mine").date  # doctest: +SKIP
    """
    path = Path(run) / FILE
    if not os.path.lexists(path):
        return None
    found = record(Seal, read_json(path, remedy="take the seal from a copy", most=LARGEST), str(path))
    if not _is_date(found.date):
        raise ArtifactError(f"{path} was made at {ascii(found.date)[:40]}, which is no date; take the seal from a copy")
    if found.digest != found.sha256:
        raise ArtifactError(
            f"{path} was changed since it was written: its hash is {found.digest[:12]}, it says {found.sha256[:12]!r}; "
            "take the seal from a copy"
        )
    return found


def _is_date(said: str) -> bool:
    try:
        return bool(datetime.fromisoformat(said))
    except ValueError:
        return False
