"""Words of the emotions in several languages: which emotions a text names, and how many such texts the words miss.

Longer words go before shorter ones, and a word counts once, so that 欣喜若狂 (bliss) is no 欣喜 (joy); what several
emotions share counts for none of them, and a word behind a negation (不高兴) for none either. Scripts without spaces
are searched anywhere, others by whole words or, where the list says so, by stems.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from importlib import resources
from pathlib import Path

import pandas as pd
import regex

from lens_emotion.display import Brief
from lens_emotion.errors import StimulusError
from lens_emotion.files.read import read_text
from lens_emotion.files.user import strict_toml
from lens_emotion.stimuli.emotions import main_script

LANGUAGES = ("en", "zh", "hant", "ja", "ko", "ru")
UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")
_NOT = "不没沒别別勿莫未"  # directly before a word, or with one character between: 不太高兴, 没有希望
_NEGATED = regex.compile(f"(?:[{_NOT}][太大很再要会會能用有是怎么麼]{{0,2}}|[无無毫并並])$")


@dataclass(frozen=True)
class Recall:
    """How the words fare on sentences that were written without them.

    Attributes:
        found, n: sentences that hold a word of their emotion, of how many. wrong: that hold one of another emotion.
        alarms, n_neutral: neutral sentences that hold one of any, of how many.
    """

    found: int
    n: int
    wrong: int
    alarms: int
    n_neutral: int


@dataclass(frozen=True, eq=False, repr=False)
class Lexicon(Brief):
    """Words by emotion.

    Attributes:
        words: of each emotion, "*" at the end of a stem.
        shared: words that count for no emotion, beside those that stand under several in `words`.
        recall: what was measured, by script of the words; empty where nothing was.
    """

    words: Mapping[str, Sequence[str]]
    shared: Sequence[str] = ()
    recall: Mapping[str, Recall] = field(default_factory=dict)

    @property
    def emotions(self) -> tuple[str, ...]:
        return tuple(self.words)

    @cached_property
    def _owner(self) -> dict[str, str]:
        """Emotion of each word, "" for those that count for none."""
        own = {w.casefold(): e for e, words in self.words.items() for w in words}
        held = Counter(w.casefold() for words in self.words.values() for w in set(words))
        return {w: e if held[w] == 1 else "" for w, e in own.items()} | {w.casefold(): "" for w in self.shared}

    @cached_property
    def _pattern(self) -> regex.Pattern[str]:
        return any_word([*self._owner])

    def named_in(self, text: str) -> frozenset[str]:
        """Emotions that a text holds words of."""
        found = {self._of(m.group()) for m in self._pattern.finditer(text.casefold()) if not _negated(m)}
        return frozenset(found - {""})

    def _of(self, found: str) -> str:
        if (exact := self._owner.get(found)) is not None:
            return exact
        return next(self._owner[stem] for k in range(len(found), 0, -1) if (stem := f"{found[:k]}*") in self._owner)

    def outside(self, script: str) -> Lexicon:
        """The words that are not of a script: the foreign ones beside texts that are."""
        kept = {e: tuple(w for w in words if main_script(w) != script) for e, words in self.words.items()}
        return replace(self, words=kept)

    def measured(self, labelled: Iterable[tuple[str, str]]) -> pd.DataFrame:
        """Emotion of each text (rows) by emotions named in it, "none" where none is: counts.

        Args:
            labelled: pairs of text and emotion; texts of an emotion that the lexicon lacks are neutral.
        """
        rows = [(emotion, named) for text, emotion in labelled for named in self.named_in(text) or ("none",)]
        order = [*self.emotions, *sorted({e for e, _ in rows} - set(self.emotions))]
        frame = pd.DataFrame(rows, columns=["emotion", "named"])
        return pd.crosstab(frame["emotion"], frame["named"]).reindex(order, columns=[*self.emotions, "none"]).fillna(0)

    def recall_on(self, labelled: Iterable[tuple[str, str]]) -> Recall:
        """Recall and false alarms on labelled texts, those of an emotion that the lexicon lacks being neutral."""
        named = [(emotion, self.named_in(text)) for text, emotion in labelled]
        own = [(e, found) for e, found in named if e in self.words]
        neutral = [bool(found) for e, found in named if e not in self.words]
        hits, wrong = sum(e in f for e, f in own), sum(bool(f - {e}) for e, f in own)
        return Recall(hits, len(own), wrong, sum(neutral), len(neutral))


def _negated(match: regex.Match[str]) -> bool:
    return _NEGATED.search(match.string[max(match.start() - 3, 0) : match.start()]) is not None


@cache
def lexicon(*languages: str) -> Lexicon:
    """The package's words of the twenty emotions, in the languages named (`LANGUAGES`), or in all of them.

    Args:
        languages: codes such as "zh" and "ru"; none takes all.

    Raises:
        StimulusError: a language that it lacks.

    Example:
        >>> words = le.lexicon("zh")
        >>> type(words).__name__
        'Lexicon'
    """
    if unknown := [x for x in languages if x not in LANGUAGES]:
        raise StimulusError(f"no words in {', '.join(unknown)}; there are {', '.join(LANGUAGES)}")
    path = Path(str(resources.files("lens_emotion.stimuli").joinpath("data/lexicon.toml")))
    data = strict_toml(read_text(path))
    words = {
        emotion: tuple(dict.fromkeys(w for name in languages or LANGUAGES for w in lists[name].split()))
        for emotion, lists in data["words"].items()
    }
    return Lexicon(words, tuple(data["shared"]), {name: Recall(**found) for name, found in data["recall"].items()})


def any_word(words: Sequence[str]) -> regex.Pattern[str]:
    """Whole words in scripts with spaces, and words that begin with a stem ("stem*"); anywhere in those without.

    Of several that fit at one place the longest is found.
    """

    def part(word: str) -> str:
        if UNSPACED.search(word):
            return regex.escape(word)
        return rf"\b{regex.escape(word[:-1])}\w*" if word.endswith("*") else rf"\b{regex.escape(word)}\b"

    longest_first = sorted(words, key=len, reverse=True)
    return regex.compile("|".join(map(part, longest_first)) or r"(?!)", regex.IGNORECASE)
