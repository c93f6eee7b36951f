"""A linter for stimulus sets: leaked words, missing cells, copies, duplicate openings, length skew.

A set that fails these checks measures something else than emotion: the word itself, a topic that only one emotion
has, a text known from the training folds, a shared first phrase, or length.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import overload

import pandas as pd
import regex

from lens_emotion.display import Result
from lens_emotion.stimuli.copies import copies
from lens_emotion.stimuli.emotions import NEUTRAL
from lens_emotion.stimuli.library import with_rules
from lens_emotion.stimuli.sets import Stimulus, StimulusFile, StimulusSet
from lens_emotion.stimuli.tables import Data

OPENING_WORDS = 3
MOST = 12  # topics named in one finding
SKEW = 1.25  # mean length of the longest emotion over that of the shortest


@dataclass(frozen=True)
class LintRules:
    """What a set is held to. Word counts use whitespace; texts in scripts without spaces count characters."""

    min_words: int = 35
    max_words: int = 70
    max_skew: float = SKEW


@dataclass(frozen=True)
class Finding:
    """One fault: its kind, the text (empty if it is the set's), and what to do."""

    kind: str
    text_id: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind:<18} {self.text_id or '(set)':<24} {self.message}"


@dataclass(frozen=True, repr=False)
class Lint(Result, Sequence[Finding]):
    """The faults of a stimulus set, in a stable order: empty for a clean one.

    Attributes:
        found: the faults. said: the set in a sentence, and what its design does not suffice for, which is no fault.
    """

    found: tuple[Finding, ...]
    said: str

    @overload
    def __getitem__(self, index: int) -> Finding: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Finding]: ...

    def __getitem__(self, index: int | slice) -> Finding | Sequence[Finding]:
        return self.found[index]

    def __len__(self) -> int:
        return len(self.found)

    @property
    def table(self) -> pd.DataFrame:
        """One row per fault: kind, text_id, message."""
        return pd.DataFrame([asdict(f) for f in self.found], columns=["kind", "text_id", "message"])

    def summary(self) -> str:
        """How many faults of each kind, and what the set is."""
        kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(f.kind for f in self.found).items())
        faults = f"{len(self)} fault{'s' * (len(self) != 1)} ({kinds})" if kinds else "Clean"
        return f"{faults}. {self.said}"


def lint(
    stimuli: StimulusFile | Data, rules: LintRules | None = None, forbidden: Mapping[str, Sequence[str]] | None = None
) -> Lint:
    """All faults of a stimulus set: leaked words, missing cells, copies, duplicate openings, lengths.

        found = le.lint(df)
        found.table

    Args:
        stimuli: a set, or texts in any shape that `stimuli_from` takes; of a file or a set by name its own word rules
            hold too.
        rules: limits of length; by default 35 to 70 words, which suit passages.
        forbidden: emotion -> stems that its texts must not use ("joy", or "glad$" for the whole word).

    Raises:
        StimulusError: texts that are none, or cannot be read.

    Example:
        >>> rules = {"happy": ["glad"]}
        >>> len(le.lint(le.stimuli_from({"happy": ["So glad."], "sad": ["He wept."]}), forbidden=rules).table) > 0
        True
    """
    file = stimuli if isinstance(stimuli, StimulusFile) else with_rules(stimuli)
    rules, texts = rules or LintRules(), file.stimuli
    words = file.forbidden | {emotion: tuple(stems) for emotion, stems in (forbidden or {}).items()}
    found = (
        leaked_words(texts, words), missing_cells(texts), copied_texts(texts), duplicate_openings(texts),
        lengths(texts, rules), length_skew(texts, rules),
    )  # fmt: skip
    return Lint(tuple(chain.from_iterable(found)), texts.summary())


def stem_pattern(stems: tuple[str, ...]) -> regex.Pattern[str]:
    """Stems match at the beginning of a word; a trailing "$" makes a stem the whole word."""
    parts = [regex.escape(s[:-1]) + r"\b" if s.endswith("$") else regex.escape(s) for s in stems]
    return regex.compile(r"(?<![\p{L}\p{M}])(?:" + "|".join(parts) + ")", regex.IGNORECASE)


def leaked_words(stimuli: StimulusSet, forbidden: dict[str, tuple[str, ...]]) -> Iterator[Finding]:
    """Texts that use their emotion's own name or one of the words forbidden for it."""
    for emotion in (*stimuli.emotions, NEUTRAL):
        own = () if emotion == NEUTRAL else (emotion,)
        stems = (*own, *forbidden.get(emotion, ()))
        if not stems:
            continue
        pattern = stem_pattern(stems)
        for item in stimuli.items:
            if item.emotion == emotion and (found := pattern.search(item.text)):
                word = regex.match(r"\p{L}+", item.text[found.start() :])
                shown = word.group() if word else found.group()
                yield Finding("leaked word", item.text_id, f"'{shown}' gives {emotion} away; write around it")


def missing_cells(stimuli: StimulusSet) -> Iterator[Finding]:
    """Emotion x topic cells that have no text: the design must be crossed, or topic stands in for emotion.

    Nothing is crossed where every text is a topic of its own, which `StimulusSet.limits` says.
    """
    if len(stimuli.topics) == len(stimuli):
        return
    present = {(s.emotion, s.topic) for s in stimuli.items}
    emotions = [*stimuli.emotions, *([NEUTRAL] if any(s.emotion == NEUTRAL for s in stimuli.items) else [])]
    for emotion in emotions:
        if missing := [t for t in stimuli.topics if (emotion, t) not in present]:
            more = f" and {len(missing) - MOST} more" if len(missing) > MOST else ""
            yield Finding("missing cell", "", f"{emotion} has no text on: {', '.join(missing[:MOST])}{more}")


def copied_texts(stimuli: StimulusSet) -> Iterator[Finding]:
    """Texts that are the same as an earlier one, or nearly so: who holds one out has learnt it from the other."""
    first: dict[int, Stimulus] = {}
    for item, group in zip(stimuli.items, copies(stimuli.texts).tolist(), strict=True):
        of = first.setdefault(group, item)
        if of is not item:
            yield Finding(
                "copy",
                item.text_id,
                f"says nearly the same as {of.text_id} ({of.emotion}, {of.topic}); write another text",
            )


def opening(text: str, words: int = OPENING_WORDS) -> str:
    return " ".join(regex.findall(r"[\p{L}\p{M}\p{N}']+", text.lower())[:words])


def duplicate_openings(stimuli: StimulusSet) -> Iterator[Finding]:
    """Texts that begin with the same words as another."""
    groups: dict[str, list[Stimulus]] = defaultdict(list)
    for item in stimuli.items:
        groups[opening(item.text)].append(item)
    for words, items in groups.items():
        for item in items[1:]:
            yield Finding("duplicate opening", item.text_id, f"begins like {items[0].text_id}: '{words} ...'")


def length_of(item: Stimulus) -> int:
    """Words, or characters for languages written without spaces."""
    return len(item.text) if item.language in ("zh", "ja", "th") else len(item.text.split())


def lengths(stimuli: StimulusSet, rules: LintRules) -> Iterator[Finding]:
    """Texts outside the length limits (a text without spaces is left to `length_skew`)."""
    for item in stimuli.items:
        n = length_of(item)
        if item.language not in ("zh", "ja", "th") and not rules.min_words <= n <= rules.max_words:
            yield Finding("length", item.text_id, f"{n} words; {rules.min_words} to {rules.max_words} wanted")


def length_skew(stimuli: StimulusSet, rules: LintRules) -> Iterator[Finding]:
    """Emotions that differ in mean length so much that length alone could tell them apart."""
    by_emotion: dict[str, list[int]] = defaultdict(list)
    for item in stimuli.items:
        by_emotion[item.emotion].append(length_of(item))
    means = {e: statistics.mean(v) for e, v in by_emotion.items()}
    longest, shortest = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
    if means[longest] > rules.max_skew * means[shortest]:
        yield Finding(
            "length skew",
            "",
            f"{longest} averages {means[longest]:.0f}, {shortest} {means[shortest]:.0f}; "
            f"keep the ratio below {rules.max_skew}",
        )
