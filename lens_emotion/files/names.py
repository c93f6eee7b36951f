"""What a name is: of an emotion, a topic, a text, a model, a vector, a set, a judge; in files as in memory.

A name is text of one line that shows something: no control character, no half of a surrogate pair, not white space or
invisible characters alone. A label is a name by which things are found and told apart: also in composed letters (NFC),
without white space at its ends. Invisible characters at the ends of a name are refused, so that no two look the same
and differ there; inside what joins letters stays (as in Persian, and in emoji of several parts).

Files and tables of users are read leniently, each label as `name_of` gives it; objects made in memory are not changed,
and refuse what is no label (`check_label`), since what was given would not be found again.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Annotated

import regex
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from lens_emotion.errors import ArtifactError, LensEmotionError

_SIGN = r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]"
_NONE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SEEN = regex.compile(r"[^\p{Z}\p{C}\p{M}\p{Default_Ignorable_Code_Point}\u2800]|\p{Co}")  # \u2800: an empty cell
_UNSEEN = "[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]"  # zero-width and direction marks
_ENDS = re.compile(rf"^\s*{_UNSEEN}|{_UNSEEN}\s*$")
ONE_LINE = "give one line that shows something, without control characters, and nothing invisible at its ends"


def is_name(said: object) -> bool:
    """Whether this is text of one line that shows something."""
    return isinstance(said, str) and shows(said) and not _NONE.search(said) and not _ENDS.search(said)


def shows(said: str) -> bool:
    """Whether a reader sees anything of a text: more than white space, controls, marks without a letter."""
    return _SEEN.search(said) is not None


def name_of(said: str) -> str:
    """A label in one form: composed letters (NFC), so that an accent typed as two characters is the same letter;
    without white space at its ends."""
    return unicodedata.normalize("NFC", said.strip())


def check_name(what: str, said: object, empty: bool = False, error: type[LensEmotionError] = ArtifactError) -> None:
    """Raises `error` unless this is a name; "" only if it may be empty."""
    if not (is_name(said) or (empty and isinstance(said, str) and not said)):
        raise error(f"{what} is {_ascii(said)}; {ONE_LINE}")


def check_label(what: str, said: object, empty: bool = False, error: type[LensEmotionError] = ArtifactError) -> None:
    """Raises `error` unless this is a label: a name by which things are found."""
    check_name(what, said, empty, error)
    if isinstance(said, str) and said != (form := name_of(said)):
        raise error(f"{what} is {_ascii(said)}; give {form!a}, which looks the same and is found")


def check_labels(what: str, said: Iterable[object], error: type[LensEmotionError] = ArtifactError) -> None:
    """Raises `error` unless these are labels, each once."""
    seen: set[object] = set()
    for one in said:
        check_label(what, one, error=error)
        if one in seen:
            raise error(f"{what} is {_ascii(one)} twice; give each once")
        seen.add(one)


def _ascii(value: object) -> str:
    return ascii(value[:60] if isinstance(value, str) else value)[:80]


def _seen(said: str) -> str:
    if not shows(said):
        raise PydanticCustomError("unseen", "got {given}, of which nothing shows; give text", {"given": _ascii(said)})
    return said


def _named(said: str) -> str:
    if said and not is_name(said):
        raise PydanticCustomError("no_name", f"got {{given}}; {ONE_LINE}", {"given": _ascii(said)})
    return said


Text = Annotated[str, Field(pattern=r"\S"), AfterValidator(_seen)]
Name = Annotated[str, Field(pattern=rf"^{_SIGN}*(?=\S){_SIGN}+$(?!\n)"), AfterValidator(_named)]
Label = Annotated[str, Field(pattern=rf"^{_SIGN}*$(?!\n)"), AfterValidator(_named)]  # a name, or empty
