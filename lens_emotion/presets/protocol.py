"""The constants of the protocol of arXiv 2604.04064 as published, and its rule for what steering made of texts.

The abstract names no thresholds: they are those of the author's public code of April (Neural-MRI), and that the paper
used it is an inference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import regex

from lens_emotion.display import Result
from lens_emotion.errors import AnalysisError
from lens_emotion.stimuli.lexicon import UNSPACED

SURGICAL, REPETITIVE, EXPLOSIVE = "surgical", "repetitive", "explosive"
MIDDLE = (1 / 3, 2 / 3)  # of the depth: what "about half way up" is taken to mean
_WORD = regex.compile(UNSPACED.pattern + r"|[\p{L}\p{M}\p{N}'’]+")


@dataclass(frozen=True)
class Protocol:
    """The constants of the published protocol.

    Attributes:
        passages: short passages an emotion, read at their last token.
        doses: (parameters in millions up to which, doses), as shares of the mean norm with the first token.
        new_tokens: of a steered text, greedy. scenarios: steered openings (an emotion).
        few_words, gram, repeats: a text of fewer words is short; one in which a 3-gram stands three times repeats.
        most_repetitive, most_short: shares of a model's texts above which it is repetitive, else explosive.
        pair: what suppression steers towards, and what it is to suppress. suppression_dose: how far.
        suppression_scenarios: how many texts are read for it.
        inferred: constant -> why it is an inference.
    """

    passages: int = 3
    doses: tuple[tuple[float, tuple[float, ...]], ...] = (
        (500.0, (0.01, 0.015, 0.02, 0.025, 0.03)),
        (5000.0, (0.005, 0.00875, 0.0125, 0.01625, 0.02)),
        (float("inf"), (0.002, 0.004, 0.006, 0.008, 0.01)),
    )
    new_tokens: int = 20
    scenarios: int = 2
    few_words: int = 3
    gram: int = 3
    repeats: int = 3
    most_repetitive: float = 0.5
    most_short: float = 0.3
    pair: tuple[str, str] = ("calm", "hostile")
    suppression_dose: float = 0.02
    suppression_scenarios: int = 6
    inferred: dict[str, str] = field(
        default_factory=lambda: {
            "doses": "the ends are public for 124M, 1-3B and 7-8B; the steps between, and where a class ends, are ours",
            "scenarios": "texts of ours; there one emotion each, here the emotions of the reported opposite pairs",
            "suppression_scenarios": "texts of ours",
        },
        hash=False,
    )


PROTOCOL = Protocol()


def doses_for(millions: float | None) -> tuple[float, ...]:
    """The five published doses of a model of this many million parameters; of an unknown size, those of the smallest.

    Example:
        >>> le.presets.jeong.doses_for(8000)
        (0.002, 0.004, 0.006, 0.008, 0.01)
    """
    size = 0.0 if millions is None or np.isnan(millions) else millions
    return next(doses for most, doses in PROTOCOL.doses if size <= most)


# The regime of texts: words stand between spaces.


def units(text: str) -> list[str]:
    """Words, and every character of a script without spaces."""
    return _WORD.findall(text.casefold())


def by_rule(words: Sequence[str]) -> str:
    """What the public code calls one text of these words: explosive under three, repetitive if a 3-gram stands three
    times, else surgical."""
    if len(words) < PROTOCOL.few_words:
        return EXPLOSIVE
    lower = [w.lower() for w in words]
    grams = Counter(zip(*(lower[i:] for i in range(PROTOCOL.gram)), strict=False))
    return REPETITIVE if grams and max(grams.values()) >= PROTOCOL.repeats else SURGICAL


@dataclass(frozen=True, eq=False, repr=False)
class Regimes(Result):
    """The regime of some texts by the published rule, and what its way of counting words does to it.

    Attributes:
        table: one row per counting ("spaces", as published; "characters", where those of scripts without spaces count):
            n, repetitive, short (shares of the texts), regime.
    """

    table: pd.DataFrame

    @property
    def regime(self) -> str:
        """As published."""
        return str(self.table.regime.iloc[0])

    @property
    def hangs(self) -> bool:
        """Whether the counting alone makes the regime."""
        return bool(self.table.regime.nunique() > 1)

    def summary(self) -> str:
        """The regime, and that of the other counting."""
        a, b = (self.table.iloc[i] for i in (0, 1))
        other = f"; with characters counted: {b.regime} ({b.repetitive:.0%}, {b.short:.0%})"
        return f"{a.regime} by the published rule ({a.repetitive:.0%} of {a.n} repeat, {a.short:.0%} are short){other}"


def regimes(texts: Sequence[str]) -> Regimes:
    """The published regime of a model's texts: repetitive if more than half repeat a 3-gram of words three times, else
    explosive if more than three in ten have under three words, else surgical. Words stand between spaces.

    Raises:
        AnalysisError: no text.

    Example:
        >>> le.presets.jeong.regimes(["很好很好很好很好很好很好"] * 4).table.regime.tolist()
        ['explosive', 'repetitive']
    """
    if isinstance(texts, str) or not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise AnalysisError(f"texts is {texts!r:.80}; give a list of texts")
    if not len(texts):
        raise AnalysisError("no texts to judge; give a list of them")
    rows = []
    for counting, count in (("spaces", str.split), ("characters", units)):
        said = [by_rule(count(text)) for text in texts]
        repetitive, short = (said.count(x) / len(said) for x in (REPETITIVE, EXPLOSIVE))
        regime = EXPLOSIVE if short > PROTOCOL.most_short else SURGICAL
        regime = REPETITIVE if repetitive > PROTOCOL.most_repetitive else regime
        rows.append({"counting": counting, "n": len(said), "repetitive": repetitive, "short": short, "regime": regime})
    return Regimes(pd.DataFrame(rows))
