"""Which name, and so which folder, every model of a run has: the model's own, and behind it an identity where it is
another's too.

`checkpoint-500` and `final` are everyday names. Two models of one name become `final-1f3a9c` and `final-77b0e2`, hashes
of what lies in their files: the same from any folder, on any machine, and beside any other models that a study goes on
with. The manifest says where each came from, so that a model that was alone in its run keeps the plain name.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lens_emotion.errors import ArtifactError, UnknownModelError
from lens_emotion.files.checksums import sha256_of
from lens_emotion.files.read import whole_path
from lens_emotion.models.catalog import find_spec
from lens_emotion.models.checkpoint import weight_files
from lens_emotion.models.loading import Source, resolve
from lens_emotion.run.look import places_before
from lens_emotion.run.store import check_is_free, safe_name

SHORTEST = 6  # hex digits of an identity
_SAID = re.compile(  # beside the weights, what makes a model read and write as it does
    r"(generation_)?config\.json|(tokenizer|vocab|special_tokens|added_tokens|chat_template).*|merges\.txt|spiece\.model"
)
_HUB, _PACKAGE = "hub:", "package:"
_OF_PACKAGE = re.compile(r"(?:^|.*[/\\])lens_emotion[/\\]models[/\\]tiny[/\\]([\w-]+)[/\\]?")  # of any install


@dataclass(frozen=True)
class Place:
    """A model's place in a run.

    Attributes:
        asked: the model as the settings name it.
        name: in tables, figures and claims, and of its folder (`safe_name`); no other model of the run has it.
        source: the whole path of its files; "hub:" and its id; "package:" and the name of a model of this package.
    """

    asked: str
    name: str
    source: str

    @property
    def loading(self) -> str:
        """What is being done, where it came from if the name is not all of it."""
        return "loading" if find_spec(self.asked) or self.asked == self.name else f"loading {self.asked}"


def places_in(models: Sequence[str], folder: str | Path) -> tuple[Place, ...]:
    """The places of a study's models in a run folder, which a study may write into (see `places_of`).

    Raises:
        ArtifactError: the folder holds what no study wrote, or a model where its results would lie.
    """
    root = Path(folder)
    places = places_of(models, places_before(root))
    for place in places:
        own, files = whole_path(root / safe_name(place.name)), _files(resolve(place.asked))
        if own in (files, *files.parents):
            raise ArtifactError(
                f"the results of '{place.asked}' would be written into the model's own folder {own}; give another run "
                "folder (--out)"
            )
    check_is_free(root, [place.name for place in places])
    return places


def places_of(models: Sequence[str], known: Mapping[str, str] | None = None) -> tuple[Place, ...]:
    """A place for every model, none of them another's; no weights are loaded.

    Args:
        known: name -> source of the models that had a place before (see `look.places_before`); one keeps it, and none
            gets that of another model which is still there.

    Raises:
        UnknownModelError: one model twice, by one name or by two.
        LensEmotionError: what `resolve` says of a model that is not there or not whole.
    """
    found = {asked: resolve(asked) for asked in dict.fromkeys(models)}
    _check_once(models, found)
    sources = {asked: _whole(source) for asked, source in found.items()}
    known = {name: _of_package(source) for name, source in (known or {}).items()}
    names = {a: name for a, source in found.items() if (name := _had(source, sources[a], known))}
    taken = {_key(n) for n in names.values()} | {
        _key(n) for n, s in known.items() if _is_there(s, set(sources.values()))
    }
    labels = {a: _key(_plain(found[a].label)) for a in found if a not in names}
    clash = {a: key for a, key in labels.items() if key in taken or list(labels.values()).count(key) > 1}
    whole = {a: identity(found[a]) for a in clash}
    for asked, key in clash.items():  # a name of the catalog is that model's, where it is nobody else's yet
        of_catalog = [a for a in clash if clash[a] == key and find_spec(found[a].label)]
        if of_catalog == [asked] and key not in taken and list(whole.values()).count(whole[asked]) == 1:
            names[asked] = _plain(found[asked].label)
    names |= {a: _plain(found[a].label) for a in labels if a not in clash}
    for digits in range(SHORTEST, 65):
        longer = names | {a: f"{_plain(found[a].label)}-{whole[a][:digits]}" for a in clash if a not in names}
        if len({_key(name) for name in longer.values()}) == len(longer):
            return tuple(Place(a, longer[a], sources[a]) for a in found)
    one, other = next((a, b) for a in longer for b in longer if a != b and _key(longer[a]) == _key(longer[b]))
    raise UnknownModelError(f"'{one}' and '{other}' hold the same files to the byte; name one of them")


def _check_once(models: Sequence[str], found: Mapping[str, Source]) -> None:
    """Raises UnknownModelError for a model that is named twice: nothing is to be gained."""
    seen: dict[object, str] = {}
    for asked in models:
        source = found[asked]
        at = Path(source.location, source.gguf_file or "")
        same: object = source.location.casefold() if source.on_hub else (at.stat().st_dev, at.stat().st_ino)
        if same in seen:
            other = f"'{seen[same]}' and '{asked}' are one model" if seen[same] != asked else f"'{asked}' stands twice"
            raise UnknownModelError(f"{other}; name every model of a study once")
        seen[same] = asked


def _had(source: Source, whole: str, known: Mapping[str, str]) -> str | None:
    """The name that a model had in its run before: the plain one by where it lies, one with an identity by that."""
    if known.get(source.label) == whole:
        return source.label
    marked = [n for n in known if re.fullmatch(re.escape(source.label) + rf"-[0-9a-f]{{{SHORTEST},64}}", n)]
    if not marked:
        return None
    made = identity(source)
    return next((n for n in marked if made.startswith(n.rpartition("-")[2])), None)


def identity(source: Source) -> str:
    """Hex hash of what a model is: the bytes of its weights, configuration and tokenizer; its id, if on the hub."""
    if source.on_hub:
        return hashlib.sha256(_whole(source).encode()).hexdigest()
    folder = Path(source.location)
    if source.gguf_file:
        return sha256_of(folder / source.gguf_file)
    said = [p for p in folder.iterdir() if p.is_file() and _SAID.fullmatch(p.name)]
    files = sorted({p.relative_to(folder).as_posix(): p for p in [*weight_files(folder), *said]}.items())
    return hashlib.sha256("".join(f"{name} {sha256_of(p)}\n" for name, p in files).encode()).hexdigest()


def _whole(source: Source) -> str:
    """Where a model's files are, from whatever folder one asks."""
    if source.on_hub:
        return f"{_HUB}{source.location}"
    return _of_package(str(_files(source)))


def _files(source: Source) -> Path:
    return whole_path(Path(source.location, source.gguf_file or ""))


def _of_package(source: str) -> str:
    """A model that ships with the package by its name, wherever this package, or that of before, is installed."""
    found = _OF_PACKAGE.fullmatch(source)
    spec = find_spec(found[1]) if found else None
    return f"{_PACKAGE}{spec.name}" if spec and not spec.hub_id else source


def _is_there(source: str, asked: set[str]) -> bool:
    """Whether a place is still another model's; one that moved gives it up: its steps know it by its weights."""
    return source not in asked and (source.startswith((_HUB, _PACKAGE)) or os.path.exists(source))


def _plain(label: str) -> str:
    """A label without the spaces that nobody sees: at its ends, and several in a row."""
    return " ".join(label.split()) or label


def _key(name: str) -> str:
    """What two names share that may not stand side by side on some file system: case and spelling of letters."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", safe_name(name)).casefold())
