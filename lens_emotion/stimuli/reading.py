"""Read a stimulus file: JSON with a name, a language, the items, and per emotion the words its texts must not use.

    {"name": "mine", "language": "en",
     "forbidden": {"happy": ["happ", "joy", "glad$"]},
     "items": [{"id": "happy-letter", "emotion": "happy", "topic": "letter", "person": "first", "text": "..."}]}

`id`, `person` and `forbidden` may be left out. A forbidden entry is a stem, matched at the beginning of a word; a
trailing "$" makes it the whole word.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lens_emotion.errors import StimulusError
from lens_emotion.stimuli.sets import Stimulus, StimulusSet


@dataclass(frozen=True)
class StimulusFile:
    """A stimulus set as read from a file, with its word rules."""

    stimuli: StimulusSet
    forbidden: dict[str, tuple[str, ...]]


def read_stimulus_file(path: str | Path) -> StimulusFile:
    """Read and check the form of a stimulus file (see the module's text for the format).

    Raises:
        StimulusError: no such file, not JSON, a missing or misspelt field, an empty text, a duplicate id, no items.
    """
    path = Path(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise StimulusError(
            f"cannot read {path}: {getattr(error, 'strerror', None) or error}; give a JSON file"
        ) from None
    except json.JSONDecodeError as error:
        raise StimulusError(f"{path}, line {error.lineno}: not valid JSON ({error.msg})") from None
    except (RecursionError, ValueError) as error:
        raise StimulusError(f"{path}: not valid JSON ({str(error)[:80]})") from None
    if not isinstance(data, dict) or not isinstance(data.get("items"), list):
        raise StimulusError(f'{path}: expected an object with a list "items"; see `lens-emotion stimuli format`')
    for field in ("name", "language"):
        _check_text(f"{path}: {field}", data.get(field, ""))
    language = str(data.get("language", "en"))
    items = tuple(_item(path, i, row, language) for i, row in enumerate(data["items"]))
    if not items:
        raise StimulusError(f"{path}: no items; give at least two emotions with two topics each")
    _unique_ids(path, items)
    forbidden = _forbidden(path, data.get("forbidden", {}))
    return StimulusFile(StimulusSet(str(data.get("name", path.stem)), items), forbidden)


def _item(path: Path, index: int, row: Any, language: str) -> Stimulus:
    where = f"{path}, item {index + 1}"
    if not isinstance(row, dict):
        raise StimulusError(f"{where}: expected an object with emotion, topic and text, got {type(row).__name__}")
    for field in ("emotion", "topic", "text"):
        if not isinstance(row.get(field), str) or not row[field].strip():
            raise StimulusError(f'{where}: "{field}" is missing or empty; every item needs emotion, topic and text')
    for field in ("id", "emotion", "topic", "text", "person", "language"):
        _check_text(f"{where}: {field}", row.get(field, ""))
    name = str(row.get("id") or f"{row['emotion']}-{row['topic']}-{index + 1}")
    person, spoken = str(row.get("person", "")), str(row.get("language", language))
    return Stimulus(name, row["text"].strip(), row["emotion"], row["topic"], person, spoken)


def _check_text(where: str, value: Any) -> None:
    if not isinstance(value, str) or any("\ud800" <= c <= "\udfff" for c in value):
        raise StimulusError(f"{where} is {str(value)[:40]!r}, which is no text")


def _forbidden(path: Path, rules: Any) -> dict[str, tuple[str, ...]]:
    lists = isinstance(rules, dict) and all(isinstance(stems, list) for stems in rules.values())
    if not lists or not all(isinstance(stem, str) and stem.strip("$") for stems in rules.values() for stem in stems):
        raise StimulusError(
            f'{path}: "forbidden" is no object of lists of words, such as {{"happy": ["joy", "glad$"]}}'
        )
    return {emotion: tuple(stems) for emotion, stems in rules.items()}


def _unique_ids(path: Path, items: tuple[Stimulus, ...]) -> None:
    seen: set[str] = set()
    for item in items:
        if item.text_id in seen:
            raise StimulusError(f'{path}: the id "{item.text_id}" occurs twice; ids must be unique')
        seen.add(item.text_id)


def write_stimulus_file(path: str | Path, stimuli: StimulusSet) -> Path:
    """Write a stimulus set in the format that `read_stimulus_file` reads."""
    from lens_emotion.artifacts import atomic_write

    items = [
        {
            "id": s.text_id,
            "emotion": s.emotion,
            "topic": s.topic,
            "person": s.person,
            "language": s.language,
            "text": s.text,
        }
        for s in stimuli.items
    ]
    return atomic_write(path, json.dumps({"name": stimuli.name, "items": items}, ensure_ascii=False, indent=1) + "\n")
