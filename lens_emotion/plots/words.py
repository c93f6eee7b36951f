"""Words inside figures. Plotly reads labels and hover texts as HTML and TeX: what a model wrote must do neither."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from html import escape

from lens_emotion.plots.theme import emotion_colour
from lens_emotion.stimuli.emotions import valence_arousal

VISIBLE = {"\n": "⏎", "\t": "⇥", "\r": "␍", "\v": "␋", "\f": "␌"}
LONGEST_TEXT = 360  # characters of a text that fit a hover label


def plain(text: object) -> str:
    """Any text as it stands: no tags, no entities, no TeX, and nothing invisible that could turn the line round."""
    shown = "".join(VISIBLE.get(c, "" if unicodedata.category(c) in ("Cc", "Cf") else c) for c in str(text))
    return escape(shown, quote=False).replace("$", "&#36;")


def token_text(token: str) -> str:
    """A token in a label: the space that it begins with is shown as a low bar, so that ' a' and 'a' differ."""
    return plain(token.replace(" ", "␣") if not token.strip(" ") else token.strip(" ")) or "∅"


def wrapped(text: object, width: int = 64, longest: int = LONGEST_TEXT) -> str:
    """A text for a hover label: escaped, in lines, cut with an ellipsis."""
    words = str(text)
    words = words if len(words) <= longest else words[:longest].rstrip() + " …"
    lines = [line for part in words.splitlines() or [""] for line in textwrap.wrap(part, width) or [""]]
    return "<br>".join(plain(line) for line in lines)


def swatch(emotion: str, before: bool = False) -> str:
    """An emotion's name with a small square of its colour, for the ticks of an axis."""
    square = f'<span style="color:{emotion_colour(emotion)}">■</span>'
    return f"{square} {plain(emotion)}" if before else f"{plain(emotion)} {square}"


def by_valence(names: Iterable[str]) -> list[str]:
    """From unpleasant to pleasant by human ratings; names without a rating come last, in their own order."""
    norms = valence_arousal()

    def key(name: str) -> tuple[bool, float]:
        valence = norms[name].valence if name in norms else None
        return (valence is None, valence or 0.0)

    return sorted(names, key=key)


def emotion_ticks(names: Sequence[str], at: Sequence[float] | None = None) -> dict[str, object]:
    """Options of an axis that names every one of these emotions, with its colour."""
    places = list(range(len(names))) if at is None else list(at)
    return {"tickmode": "array", "tickvals": places, "ticktext": [swatch(name) for name in names], "ticks": ""}


def p_words(p: float) -> str:
    """'p = 0.005', 'p = 3e-07', or nothing where there is no p."""
    if p != p:
        return ""
    return f"p = {p:.3f}" if p >= 0.001 else f"p = {p:.1g}"
