"""Stimulus sets by name: natural passages, the tiny models' world in one or two languages; or texts of your own."""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path

from lens_emotion.errors import StimulusError
from lens_emotion.files.read import kind_of
from lens_emotion.files.user import is_user_file, numbers_fit
from lens_emotion.stimuli.emotions import NEUTRAL
from lens_emotion.stimuli.sets import StimulusFile, StimulusSet, read_stimulus_file
from lens_emotion.stimuli.tables import Data, Given, Names, is_table_file, read_texts, rows_of_file, set_of
from lens_emotion.stimuli.world_text import world_stimuli

PASSAGES, TWINS = "passages", "twins"
WORLDS = ("world-en", "world-en-zh")
NAMES = (PASSAGES, *WORLDS, TWINS)


@numbers_fit(StimulusError)
def load_stimuli(name: Data = PASSAGES, per_cell: int = 2) -> StimulusSet:
    """A stimulus set by name, or from a file.

    Args:
        name: "passages" (20 emotions + neutral x 12 topics of natural English), "world-en" or "world-en-zh" (held-out
            stories of the tiny models' world), "twins" (the passages' events told again without their affect, each
            under the emotion that it lacks, for `twins_apart`), a TOML, JSON, JSONL or CSV file, or texts in any shape
            that `stimuli_from` takes (a StimulusSet is returned as it is).
        per_cell: stories per emotion and topic drawn from a world.

    Raises:
        StimulusError: an unknown name, or a file that cannot be read.

    Example:
        >>> texts = le.load_stimuli("passages")
        >>> len(texts), len(texts.topics)
        (252, 12)
    """
    return _world(str(name), per_cell) if isinstance(name, str) and name in WORLDS else with_rules(name).stimuli


def with_rules(name: Data, per_cell: int = 2) -> StimulusFile:
    """As `load_stimuli`, with the word rules that the set of a file has."""
    if not isinstance(name, str | Path):
        return StimulusFile(stimuli_from(name), {})
    if name == PASSAGES:
        return passages_file()
    if name == TWINS:
        return twins_file()
    if name in WORLDS:
        return StimulusFile(_world(str(name), per_cell), {})
    if is_user_file(name) or is_table_file(name) or kind_of(name) == "a file":
        return read_texts(name)
    close = get_close_matches(str(name), NAMES, n=1)
    raise StimulusError(
        f"no stimulus set {str(name)[:60]!r}{f' (did you mean {close[0]!r}?)' if close else ''}; give one of "
        f"{', '.join(NAMES)}, a TOML, JSON, JSONL or CSV file, or texts with labels: le.stimuli_from(texts, labels)"
    )


def stimuli_from(
    data: Data,
    labels: Given = None,
    topics: Given = None,
    *,
    text: str | None = None,
    emotion: str | None = None,
    topic: str | None = None,
    id: Given = None,
    person: Given = None,
    language: Given = None,
    label_names: Names = None,
    name: str = "own",
) -> StimulusSet:
    """A stimulus set from texts in the shape in which you have them.

        le.stimuli_from(df)                                        # columns text, emotion (or label), topic ...
        le.stimuli_from(df, text="utterance", emotion="feeling", topic="situation")
        le.stimuli_from(texts, labels)                             # two lists
        le.stimuli_from({"calm": [...], "angry": [...]})           # texts by emotion
        le.stimuli_from("mine.csv")                                # or .tsv, .jsonl, .json, .toml

    `extract_comprehension`, `lint` and `load_stimuli` take the same shapes where their columns can be guessed.

    Args:
        data: a pandas (or polars) DataFrame, a Hugging Face dataset (one split), NumPy records, a list of dicts or of
            texts, a dict of columns or of texts by emotion, a file's path, or a StimulusSet.
        labels, topics: emotion and topic of each text, where they stand beside the data. "neutral" is the neutral
            class. Texts without topics count as independent: each is a topic of its own (`StimulusSet.limits`).
        text, emotion, topic: names of columns, where they cannot be guessed.
        id, person, language: names of columns, or values, one per text; one language may be that of all texts ("de").
        label_names: names of labels that are numbers: ["sad", "happy"], or {0: "sad", 1: "happy"}.
        name: of the set, printed with every result; of a file, its own.

    Raises:
        StimulusError: columns that cannot be guessed, labels that are missing or numbers without names, an empty text,
            an id that stands twice; with the row, and the remedy.

    Example:
        >>> own = le.stimuli_from(["She sang.", "He wept."], ["happy", "sad"], ["a concert", "a funeral"])
        >>> own.emotions
        ('happy', 'sad')
    """
    if (labels is not None and emotion is not None) or (topics is not None and topic is not None):
        raise StimulusError("labels= and emotion= (topics= and topic=) say the same: give values, or a column's name")
    given: dict[str, Given] = {"text": text, "emotion": emotion if labels is None else labels}
    given |= {"topic": topic if topics is None else topics, "id": id, "person": person, "language": language}
    if isinstance(data, StimulusSet) and all(value is None for value in given.values()):
        return data
    if not isinstance(data, str | Path):
        return set_of(data, given, label_names, name)
    if (rows := rows_of_file(data)) is not None:
        return set_of(rows, given, label_names, Path(data).stem, str(data))
    found = load_stimuli(data)
    return found if all(value is None for value in given.values()) else set_of(found, given, label_names, found.name)


def more_neutral(texts: StimulusSet) -> StimulusSet:
    """Neutral texts of the same kind as a set's, none of them in it: 48 passages in English, or four stories a topic of
    the tiny models' world. None for sets in other languages, which bring their own."""
    if texts.name in WORLDS:
        found = _plain_world(texts.name)
    elif {item.language for item in texts.items} == {"en"}:
        found = neutral_file().stimuli
    else:
        found = StimulusSet("neutral", ())
    known = set(texts.texts)
    return StimulusSet("neutral", tuple(i for i in found.items if i.emotion == NEUTRAL and i.text not in known))


@lru_cache(maxsize=8)
def _world(name: str, per_cell: int) -> StimulusSet:
    """Written once: a study and its plan ask for the same stories dozens of times."""
    return world_stimuli(name, n_per_cell=per_cell)


@cache
def _plain_world(name: str) -> StimulusSet:
    return world_stimuli(name, n_per_cell=4, seed=1, emotions=(NEUTRAL,))


@cache
def neutral_file() -> StimulusFile:
    """Neutral passages beyond those of the set "passages"."""
    return read_stimulus_file(_data("neutral.json"))


def twins_of(texts: StimulusSet) -> StimulusSet:
    """The twins of a set's texts (`analysis.twins`); none of sets that have none."""
    twins, have = twins_file().stimuli, {f"{s.text_id}-twin": s.text for s in texts.items}
    originals = {f"{s.text_id}-twin": s.text for s in passages_file().stimuli.items} if texts.items else {}
    return StimulusSet(TWINS, tuple(s for s in twins.items if have.get(s.text_id, "") == originals.get(s.text_id)))


@cache
def twins_file() -> StimulusFile:
    """The passages' twins: the same events with the affect taken out, of the same length and with the same nouns."""
    return read_stimulus_file(_data("twins.json"))


@cache
def passages_file() -> StimulusFile:
    """The natural English passages with their word rules."""
    return read_stimulus_file(_data("passages.json"))


def _data(name: str) -> Path:
    return Path(str(resources.files("lens_emotion.stimuli").joinpath(f"data/{name}")))
