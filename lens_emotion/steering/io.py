"""A DoseResponse as a JSON file: tables and texts, to be read back without running anything again."""

from __future__ import annotations

import json
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from lens_emotion.artifacts import atomic_write
from lens_emotion.errors import ArtifactError
from lens_emotion.steering.experiment import DoseResponse
from lens_emotion.steering.regimes import Thresholds

_FRAMES = ("table", "texts", "unsteered")
_PLAIN = ("layer", "judge", "judge_accuracy", "n_emotions")


def save_dose_response(result: DoseResponse, path: str | Path) -> Path:
    """Write a result as JSON, atomically."""
    data = {name: getattr(result, name) for name in _PLAIN}
    data |= {name: json.loads(getattr(result, name).to_json(orient="split", double_precision=15)) for name in _FRAMES}
    data |= {"thresholds": asdict(result.thresholds), "notes": list(result.notes)}
    return atomic_write(path, json.dumps(data, ensure_ascii=False) + "\n")


def load_dose_response(path: str | Path) -> DoseResponse:
    """Read a file written by `save_dose_response`.

    Raises:
        ArtifactError: missing, truncated or of another kind.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        frames = {
            name: pd.read_json(StringIO(json.dumps(data[name])), orient="split", convert_dates=False)
            for name in _FRAMES
        }
        plain: dict[str, Any] = {name: data[name] for name in _PLAIN}
        thresholds = Thresholds(**data["thresholds"])
        plain |= frames
        return DoseResponse(**plain, thresholds=thresholds, notes=tuple(data["notes"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} is not a readable steering result ({error}); run the step again") from None
