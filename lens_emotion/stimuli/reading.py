"""Read a stimulus file: TOML or JSON with a name, a language, the items, and what else is known of the emotions.

    {"name": "mine", "language": "en",
     "forbidden": {"happy": ["happ", "joy", "glad$"]},
     "norms": {"happy": {"valence": 8.5, "arousal": 6.0}},
     "items": [{"id": "happy-letter", "emotion": "happy", "topic": "letter", "person": "first", "text": "..."}]}

or, in TOML:

    name = "mine"
    forbidden.happy = ["happ", "joy", "glad$"]
    norms.happy = {valence = 8.5, arousal = 6.0}
    [[items]]
    emotion = "happy"
    topic = "letter"
    text = "..."

Only items with emotion, topic and text are needed. A forbidden entry is a stem, matched at the beginning of a word; a
trailing "$" makes it the whole word. `norms` are ratings by people, for the circumplex, on a scale of your own.
The schema is lens_emotion/schemas/stimuli.json.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from lens_emotion.files.user import UserFile, name_of, read_user_file
from lens_emotion.stimuli.emotions import Norm
from lens_emotion.stimuli.sets import Stimulus, StimulusSet


@dataclass(frozen=True)
class StimulusFile:
    """A stimulus set as read from a file, with its word rules."""

    stimuli: StimulusSet
    forbidden: dict[str, tuple[str, ...]]


def read_stimulus_file(path: str | Path) -> StimulusFile:
    """Read and check the form of a stimulus file (see the module's text for the format).

    Raises:
        StimulusError: no such file, neither JSON nor TOML, a missing or misspelt field, an empty text, a duplicate id,
            no items; with file and line.
    """
    file = read_user_file(path, "stimuli")
    data = file.data
    language = data.get("language", "en")
    items = tuple(_item(i, row, language) for i, row in enumerate(data["items"]))
    check_ids(file, "items", [item.text_id for item in items])
    norms = tuple(
        Norm(name_of(emotion), emotion, float(row["valence"]), float(row["arousal"]))
        for emotion, row in _of_items(file, "norms", items).items()
    )
    forbidden = {name_of(e): tuple(stems) for e, stems in data.get("forbidden", {}).items()}
    return StimulusFile(StimulusSet(data.get("name", file.path.stem), items, norms), forbidden)


def _item(index: int, row: dict[str, str], language: str) -> Stimulus:
    emotion = name_of(row["emotion"])
    return Stimulus(
        row.get("id") or f"{emotion}-{row['topic']}-{index + 1}",
        row["text"].strip(),
        emotion,
        row["topic"],
        row.get("person", ""),
        row.get("language", language),
    )


def _of_items(file: UserFile, field: str, items: tuple[Stimulus, ...]) -> dict[str, dict[str, float]]:
    """A table by emotion, refused where it names one that no item has: most likely misspelt."""
    known = {item.emotion for item in items}
    for emotion in file.data.get(field, {}):
        if name_of(emotion) not in known:
            file.fail((field, emotion), f"no item has this emotion; the items' are {', '.join(sorted(known))}")
    return dict(file.data.get(field, {}))


def check_ids(file: UserFile, field: str, ids: list[str]) -> None:
    """Refuse an id that two entries of a list share."""
    seen: set[str] = set()
    for i, name in enumerate(ids):
        if name in seen:
            file.fail((field, i), f'the id "{name}" occurs twice; ids must be unique')
        seen.add(name)


def write_stimulus_file(path: str | Path, stimuli: StimulusSet) -> Path:
    """Write a stimulus set in the format that `read_stimulus_file` reads."""
    from lens_emotion.files.artifacts import atomic_write

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
    data: dict[str, object] = {"name": stimuli.name, "items": items}
    if stimuli.norms:
        data["norms"] = {n.emotion: {"valence": n.valence, "arousal": n.arousal} for n in stimuli.norms}
    return atomic_write(path, json.dumps(data, ensure_ascii=False, indent=1) + "\n")
