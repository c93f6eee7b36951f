"""A DoseResponse as a JSON file: tables and texts, to be read back without running anything again."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from lens_emotion.artifacts import atomic_write
from lens_emotion.errors import ArtifactError
from lens_emotion.records import record
from lens_emotion.seal import digest
from lens_emotion.steering.experiment import DoseResponse
from lens_emotion.steering.regimes import Thresholds

SCHEMA = 4  # raised whenever a file of before cannot be read as the present DoseResponse
_FRAMES = ("table", "texts", "others", "unsteered", "scores")
_PLAIN = ("layer", "judge", "judge_accuracy", "judge_independent", "n_emotions", "groups")


def save_dose_response(result: DoseResponse, path: str | Path) -> Path:
    """Write a result as JSON, atomically."""
    data = {"schema": SCHEMA} | {name: getattr(result, name) for name in _PLAIN}
    data |= {name: _frame_to_json(getattr(result, name)) for name in _FRAMES}
    data |= {"thresholds": asdict(result.thresholds), "notes": list(result.notes)}
    data["sha256"] = digest(data, {})
    return atomic_write(path, json.dumps(data, ensure_ascii=False) + "\n")


def load_dose_response(path: str | Path) -> DoseResponse:
    """Read a file written by `save_dose_response`.

    Raises:
        ArtifactError: missing, truncated, changed since, of another kind, or written by a version with other columns.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        if data["schema"] != SCHEMA:
            raise ValueError(f"its schema is {data['schema']}, this version reads {SCHEMA}")
        if "sha256" in data and data["sha256"] != digest(data, {}):
            raise ValueError("its content does not match its checksum")
        frames = {name: _frame_from_json(data[name]) for name in _FRAMES}
        plain: dict[str, Any] = {name: data[name] for name in _PLAIN}
        thresholds = record(Thresholds, data["thresholds"], "its thresholds")
        plain |= frames
        return DoseResponse(**plain, thresholds=thresholds, notes=tuple(data["notes"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, ArtifactError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ArtifactError(f"{path} is not a readable steering result ({what}); run the step again") from None


def _frame_to_json(frame: pd.DataFrame) -> dict[str, Any]:
    """Exact: floats to the last bit, and with their types, so that a column of 1.0 and 2.0 does not become integers."""
    types = {str(name): kind.name for name, kind in frame.dtypes.items() if kind.kind in "bif"}
    rows = frame.astype(object).where(frame.notna(), None).to_numpy().tolist()
    return {"columns": [str(c) for c in frame.columns], "types": types, "data": rows}


def _frame_from_json(data: dict[str, Any]) -> pd.DataFrame:
    frame = pd.DataFrame(data["data"], columns=data["columns"])
    return frame.astype(data["types"])
