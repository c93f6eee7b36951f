"""What it takes to make a run again, in words that hold on any machine: no folder of ours, no clock."""

from __future__ import annotations

import re
from typing import Any

from lens_emotion.extraction.header import Header
from lens_emotion.study.results import ModelStudy, StudyRun

_FOLDERS = re.compile(r"(?<![\w.~/\\:])(?:~|[A-Za-z]:(?=[\\/]))?[\\/](?:[^\s'\"\\/]+[\\/])+")


def portable(text: str) -> str:
    """A command or setting with the folders of absolute paths cut away: only the last name of each stays."""
    return _FOLDERS.sub("", text)


def provenance(run: StudyRun) -> dict[str, object]:
    """Command, settings, versions, and of every model its fingerprint and how each kind of text was read."""
    facts: dict[str, Any] = {k: _portable(v) for k, v in run.manifest.items() if k not in ("models", "seconds")}
    return facts | {f"model {m.info.name}": _of_model(m) for m in run.models}


def _portable(value: Any) -> Any:
    if isinstance(value, str):
        return portable(value)
    if isinstance(value, dict):
        return {k: _portable(v) for k, v in value.items()}
    return [_portable(v) for v in value] if isinstance(value, list | tuple) else value


def _of_model(m: ModelStudy) -> dict[str, Any]:
    info = m.info
    facts: dict[str, Any] = {name: getattr(info, name) for name in ("fingerprint", "backend", "dtype")}
    facts |= {"layers": info.n_layers, "dimensions": info.d_model, "judge": m.judge}
    headers = {x.name: x.header for x in m.methods} | {"the paper's reading": m.jeong_reading.header}
    if m.jeong:
        headers["the paper's writing"] = m.jeong.header
    return facts | {name: _of_header(header) for name, header in headers.items()}


def _of_header(header: Header) -> dict[str, Any]:
    kept = ("variant", "pooling", "stimuli", "stimuli_sha256", "seed", "recipe", "notes")
    return {name: _portable(value) for name in kept if (value := getattr(header, name)) not in ("", None, ())}
