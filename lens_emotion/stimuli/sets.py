"""Stimulus sets and their files: labelled texts, the topics they share, a hash that names exactly these texts.

A file, in JSON or TOML, has a name, a language, the items, and what else is known of the emotions (`StimulusForm`):

    {"name": "mine", "language": "en",
     "forbidden": {"happy": ["happ", "joy", "glad$"]},
     "norms": {"happy": {"valence": 8.5, "arousal": 6.0}},
     "items": [{"id": "happy-letter", "emotion": "happy", "topic": "letter", "person": "first", "text": "..."}]}

    name = "mine"
    forbidden.happy = ["happ", "joy", "glad$"]
    norms.happy = {valence = 8.5, arousal = 6.0}
    [[items]]
    emotion = "happy"
    topic = "letter"
    text = "..."

Only items with emotion, topic and text are needed. A forbidden entry is a stem, matched at the beginning of a word; a
trailing "$" makes it the whole word. `norms` are ratings by people, for the circumplex, on a scale of your own.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, overload

from pydantic import Field

from lens_emotion.display import Result
from lens_emotion.errors import ArtifactError, StimulusError, UnknownEmotionError
from lens_emotion.files.names import Label, Name, Text, check_label, check_name, name_of
from lens_emotion.files.read import read_json
from lens_emotion.files.user import Form, UserFile, read_user_file, record
from lens_emotion.stimuli.emotions import NEUTRAL, Norm, Rating, names

if TYPE_CHECKING:
    import pandas as pd


_LABELS = ("text_id", "emotion", "topic", "person", "language")


@dataclass(frozen=True)
class Stimulus:
    """One labelled text.

    Attributes:
        text_id: unique within its set.
        text: what the model reads.
        emotion: one of the set's emotions, or "neutral".
        topic: what happens in it; folds never share a topic.
        person: "first", "third" or "" where it does not apply.
        language: ISO 639-1 code of the text ("en", "zh", ...).

    Raises:
        StimulusError: an id, emotion or topic that is empty, of which nothing shows, or with white space at its ends
            (`stimuli_from` takes that off).

    Example:
        >>> le.Stimulus("calm-tea", "The tea was still warm, and nobody called.", "calm", "tea").emotion
        'calm'
    """

    text_id: str
    text: str
    emotion: str
    topic: str
    person: str = ""
    language: str = "en"

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise StimulusError(f"the text of {self.text_id!r:.60} is {self.text!r:.40}; give text")
        for what in _LABELS:
            check_label(f"a text's {what}", getattr(self, what), what in ("person", "language"), StimulusError)


@dataclass(frozen=True, repr=False)
class StimulusSet(Result, Sequence[Stimulus]):
    """Labelled texts in a fixed order: `len(s)`, `for one in s`, `s[0]`, `s["happy-letter"]`, `s[:10]`, `s + other`.

    Emotions and topics keep the order in which they first appear.

    Attributes:
        norms: people's ratings of the emotions, where the set brings its own.
        name: of the set, in reports and headers.
        items: the texts, in order.

    Raises:
        StimulusError: an id that stands twice, or items that are no `Stimulus`.

    Example:
        >>> texts = le.StimulusSet("mine", (le.Stimulus("a", "The tea was warm.", "calm", "tea"),))
        >>> len(texts), texts.emotions
        (1, ('calm',))
    """

    name: str
    items: tuple[Stimulus, ...]
    norms: tuple[Norm, ...] = ()

    def __post_init__(self) -> None:
        for what, kind in (("items", Stimulus), ("norms", Norm)):
            given = getattr(self, what)
            if not isinstance(given, tuple | list) or not all(isinstance(s, kind) for s in given):
                raise StimulusError(
                    f"{what} is {given!r:.60}: a StimulusSet is a name and its Stimulus objects, "
                    "StimulusSet('mine', (Stimulus(...), ...)), and perhaps a Norm of each emotion; "
                    "le.stimuli_from(...) makes one of a table, dicts or texts with labels"
                )
        check_name("the name of a stimulus set", self.name, error=StimulusError)
        object.__setattr__(self, "items", tuple(self.items))  # a list is welcome
        ids = Counter(s.text_id for s in self.items)
        if twice := [name for name, n in ids.items() if n > 1]:
            more = f", and {len(twice) - 1} other ids too" * (len(twice) > 1)
            raise StimulusError(
                f"stimulus set '{self.name}': the id {twice[0]!r} occurs twice{more}; ids must be unique: "
                "leave them out, and they are made"
            )

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int | str) -> Stimulus: ...

    @overload
    def __getitem__(self, index: slice) -> StimulusSet: ...

    def __getitem__(self, index: int | str | slice) -> Stimulus | StimulusSet:
        """A text by number or id; of a slice, the set of its texts."""
        if isinstance(index, slice):
            return self._of(self.items[index])
        if not isinstance(index, str):
            return self.items[index]
        if (found := next((s for s in self.items if s.text_id == index), None)) is None:
            only = f"; .only({index!r}) gives its texts" if index in (*self.emotions, NEUTRAL) else ""
            raise StimulusError(f"stimulus set '{self.name}' has no text with the id {index!r}{only}")
        return found

    def __add__(self, other: StimulusSet) -> StimulusSet:
        """The texts of both."""
        rated = {n.emotion: n for n in (*other.norms, *self.norms)}
        return StimulusSet(f"{self.name} + {other.name}", self.items + other.items, tuple(rated.values()))

    def _of(self, items: tuple[Stimulus, ...]) -> StimulusSet:
        kept = {s.emotion for s in items}
        return StimulusSet(self.name, items, tuple(n for n in self.norms if n.emotion in kept))

    @property
    def table(self) -> pd.DataFrame:
        """One row per text: text_id, emotion, topic, text, person, language."""
        import pandas as pd  # which a look at a set's names need not load

        columns = ["text_id", "emotion", "topic", "text", "person", "language"]
        return pd.DataFrame([asdict(s) for s in self.items], columns=columns)

    def __repr__(self) -> str:
        more = "; .limits says what it does not suffice for" if self.limits else ""
        return f"StimulusSet({self._counts}{more})"

    def summary(self) -> str:
        """What the set holds, and what it does not suffice for."""
        return " ".join([f"{self._counts}.", *self.limits])

    @property
    def _counts(self) -> str:
        neutral = sum(s.emotion == NEUTRAL for s in self.items)
        sizes = {"text": len(self), "emotion": len(self.emotions), "topic": len(self.topics), "neutral text": neutral}
        counts = ", ".join(f"{n or 'no'} {word}{'s' * (n != 1)}" for word, n in sizes.items())
        return f"'{self.name}': {counts}"

    @cached_property
    def limits(self) -> tuple[str, ...]:
        """What the set does not suffice for, what works all the same, and how to get there: one sentence each."""
        return limits(self)

    def save(self, path: str | Path) -> Path:
        """Write the set as JSON, which `load_stimuli` and a study read."""
        from lens_emotion.files.artifacts import atomic_write  # which needs torch

        if Path(path).suffix.lower() != ".json":
            raise StimulusError(f"a stimulus set is written as JSON; write to {Path(path).with_suffix('.json')}")
        data: dict[str, object] = {"name": self.name, "items": [_row(item) for item in self.items]}
        if self.norms:
            data["norms"] = {n.emotion: {"valence": n.valence, "arousal": n.arousal} for n in self.norms}
        return atomic_write(path, json.dumps(data, ensure_ascii=False, indent=1) + "\n")

    @cached_property
    def emotions(self) -> tuple[str, ...]:
        """Emotions present, neutral left out."""
        return tuple(dict.fromkeys(s.emotion for s in self.items if s.emotion != NEUTRAL))

    @cached_property
    def topics(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(s.topic for s in self.items))

    @property
    def texts(self) -> list[str]:
        return [s.text for s in self.items]

    @cached_property
    def sha256(self) -> str:
        """Hash of every text with its labels: two sets share it only if they are the same stimuli."""
        rows = [[s.text_id, s.text, s.emotion, s.topic, s.person, s.language] for s in self.items]
        return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()

    def only(self, emotions: Iterable[str] | None = None, topics: Iterable[str] | None = None) -> StimulusSet:
        """The texts of these emotions (neutral included only if named) and topics.

        Raises:
            UnknownEmotionError: an emotion or topic that the set does not hold.
        """
        wanted = set(names(emotions)) if emotions is not None else {*self.emotions, NEUTRAL}
        topic_set = set(names(topics)) if topics is not None else set(self.topics)
        for kind, given, known in (("emotion", wanted - {NEUTRAL}, self.emotions), ("topic", topic_set, self.topics)):
            if unknown := sorted(given - set(known)):
                close = get_close_matches(unknown[0], known, n=1)
                raise UnknownEmotionError(
                    f"stimulus set '{self.name}' has no {kind} {', '.join(map(repr, unknown))}; "
                    f"{f'did you mean {close[0]!r}? ' if close else ''}it has: {', '.join(known)}"
                )
        return self._of(tuple(s for s in self.items if s.emotion in wanted and s.topic in topic_set))


def limits(texts: StimulusSet) -> tuple[str, ...]:
    """What a set's design does not suffice for; nothing is said of neutral texts alone, which are added to others."""
    emotional = [s for s in texts.items if s.emotion != NEUTRAL]
    topics = {s.topic for s in emotional}
    if not emotional:
        return ()
    if len(texts.emotions) < 2:
        return (f"'{texts.emotions[0]}' alone has no direction, which is {ONE_EMOTION}.",)
    found = []
    if len(topics) == 1:
        found.append(_ONE_TOPIC)
    elif len(topics) == len(emotional):
        found.append(_OWN_TOPICS)
    if len(emotional) == len(texts):
        found.append(_NO_NEUTRAL)
    by_case: dict[str, list[str]] = {}
    for emotion in (*texts.emotions, NEUTRAL):
        by_case.setdefault(emotion.casefold(), []).append(emotion)
    alike = [names for names in by_case.values() if len(names) > 1]
    return *found, *(_ALIKE.format(" and ".join(map(repr, names))) for names in alike)


ONE_EMOTION = "what tells an emotion from others, so give texts of at least two emotions (neutral is none)"
_ONE_TOPIC = (
    "One topic: vectors, steering, similarity and token scores work; separation, decoding, reliability, probe and "
    "layer_sweep do not, for they are tested on topics held out. Give topic=..., the situation of each text, at least "
    "two for every emotion (eight or more give steady figures), or no topics where the texts are independent."
)
_OWN_TOPICS = (
    "No two texts share a topic: everything works, but the tests hold out single texts, and cannot tell an emotion "
    "from what its texts speak of. Give topic=..., the situation of each text, best every emotion on every topic."
)
_ALIKE = "{} differ in case alone and count as different names ('neutral' is the neutral class); write them in one way."
_NO_NEUTRAL = (
    "No neutral texts: the recipe 'centred' works, and separation goes by accuracy alone; the recipes 'neutral' and "
    "'neutral_pca', the mean cosine, anisotropy and a study need some. Label some 'neutral', or add those of the "
    "package: stimuli + le.load_stimuli().only('neutral')."
)


# What a model wrote is data, whatever it is: nothing, line breaks, control characters, half of a surrogate pair.


def has_text(text: str) -> bool:
    """Whether a text holds anything to read: a character that is neither space, control, nor "\ufffd" (lost bytes)."""
    return any(c.isprintable() and not c.isspace() and c != "\ufffd" for c in text)


def well_formed(text: str) -> str:
    """A text that can be encoded: half of a surrogate pair becomes "\ufffd"."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def write_written(path: str | Path, stories: StimulusSet, note: str = "") -> Path:
    """Write texts that a model wrote, as they are, with a note on what became of them."""
    from lens_emotion.files.artifacts import atomic_write  # which needs torch

    data = {"name": stories.name, "_note": note, "items": [_row(item) for item in stories.items]}
    return atomic_write(path, json.dumps(data, ensure_ascii=False, indent=1) + "\n")


def read_written(path: str | Path) -> tuple[StimulusSet, str]:
    """Texts that a model wrote, to the letter (also those without a letter), and the note.

    Unlike `read_stimulus_file`, which reads what a user wrote and refuses empty texts.

    Raises:
        ArtifactError: missing, damaged, or of another form.
    """
    try:
        data = read_json(path, remedy="run the step again")
        rows = [{("text_id" if k == "id" else k): v for k, v in row.items()} for row in data["items"]]
        items = tuple(record(Stimulus, row, f"text {i} of {path}") for i, row in enumerate(rows))
        note = data.get("_note", "")
        if not isinstance(note, str):
            raise TypeError("a note that is no text")
        return StimulusSet(data["name"], items), note
    except (KeyError, TypeError, AttributeError, StimulusError) as error:
        raise ArtifactError(f"{path} holds no readable stories ({error}); run the step again") from None


# A set's file: its form, and what is read from it.


class NormRow(Form):
    """People's ratings of an emotion."""

    valence: Rating = Field(description="how pleasant, on any scale that all emotions share")
    arousal: Rating = Field(description="how stirred, likewise")


class ItemRow(Form):
    """One text with its labels."""

    id: Label = Field("", description="unique; made from emotion and topic where it is left out")
    emotion: Name = Field(description="any name; 'neutral' is the neutral class")
    topic: Name = Field(description="what happens; folds never share one")
    person: Label = Field("", description="first, third, or nothing")
    language: Name = Field("", description="where it differs from the file's")
    text: Text = Field(description="what is read")


Stem = Annotated[str, Field(pattern="[^$]", description="a stem; a trailing $ makes it the whole word")]


class StimulusForm(Form, title="Stimulus set"):
    """Labelled texts that a model reads. Keys that begin with '_' are yours."""

    name: Name = Field("", description="printed with every result")
    language: Name = Field("en", description="ISO 639-1 code of the texts")
    forbidden: dict[Name, list[Stem]] = Field({}, description="emotion -> stems that its texts must not use")
    norms: dict[Name, NormRow] = Field({}, description="emotion -> ratings by people, for the circumplex")
    items: list[ItemRow] = Field(min_length=1)


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
    file = read_user_file(path, StimulusForm)
    form = file.data
    items = tuple(item_of(i, row, form.language) for i, row in enumerate(form.items))
    file.unique("items", [item.text_id for item in items])
    forbidden = {name_of(e): tuple(stems) for e, stems in form.forbidden.items()}
    return StimulusFile(StimulusSet(form.name or file.path.stem, items, _norms(file, items)), forbidden)


def item_of(index: int, row: ItemRow, language: str) -> Stimulus:
    """The text that a row says; its id is made of its labels where it has none."""
    emotion = name_of(row.emotion)
    topic = name_of(row.topic)  # "school " is no topic of its own, on whose folds "school" could be tested
    name = name_of(row.id) or f"{emotion}-{topic}-{index + 1}"
    return Stimulus(name, row.text.strip(), emotion, topic, name_of(row.person), name_of(row.language or language))


def _norms(file: UserFile[StimulusForm], items: tuple[Stimulus, ...]) -> tuple[Norm, ...]:
    """The ratings, refused where they name an emotion that no item has: most likely misspelt."""
    known = {item.emotion for item in items}
    for emotion in file.data.norms:
        if name_of(emotion) not in known:
            file.fail(("norms", emotion), f"no item has this emotion; the items' are {', '.join(sorted(known))}")
    return tuple(Norm(name_of(e), e, row.valence, row.arousal) for e, row in file.data.norms.items())


def _row(item: Stimulus) -> dict[str, str]:
    names = ("emotion", "topic", "person", "language", "text")
    return {"id": item.text_id} | {name: getattr(item, name) for name in names}
