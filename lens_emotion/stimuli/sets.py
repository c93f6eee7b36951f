"""A stimulus set: labelled texts, the topics they share, and a hash that names exactly these texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from lens_emotion.display import Brief
from lens_emotion.errors import UnknownEmotionError
from lens_emotion.stimuli.emotions import NEUTRAL, Norm


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
    """

    text_id: str
    text: str
    emotion: str
    topic: str
    person: str = ""
    language: str = "en"


@dataclass(frozen=True, repr=False)
class StimulusSet(Brief):
    """Labelled texts in a fixed order. Emotions and topics keep the order in which they first appear.

    Attributes:
        norms: people's ratings of the emotions, where the set brings its own.
    """

    name: str
    items: tuple[Stimulus, ...]
    norms: tuple[Norm, ...] = ()

    def __len__(self) -> int:
        return len(self.items)

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
        wanted = set(emotions) if emotions is not None else {*self.emotions, NEUTRAL}
        topic_set = set(topics) if topics is not None else set(self.topics)
        for kind, given, known in (
            ("emotion", wanted - {NEUTRAL}, self.emotions),
            ("topic", topic_set, self.topics),
        ):
            if unknown := sorted(given - set(known)):
                raise UnknownEmotionError(
                    f"stimulus set '{self.name}' has no {kind} {', '.join(map(repr, unknown))}; "
                    f"it has: {', '.join(known)}"
                )
        kept = tuple(s for s in self.items if s.emotion in wanted and s.topic in topic_set)
        return StimulusSet(self.name, kept, tuple(n for n in self.norms if n.emotion in wanted))
