"""Stimulus sets by name: natural passages, and the tiny models' world in one language or two; or from a file."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path

from lens_emotion.errors import StimulusError
from lens_emotion.files.read import kind_of
from lens_emotion.files.user import is_user_file, numbers_fit
from lens_emotion.stimuli.emotions import NEUTRAL
from lens_emotion.stimuli.sets import StimulusFile, StimulusSet, read_stimulus_file
from lens_emotion.stimuli.world_text import world_stimuli

PASSAGES = "passages"
WORLDS = ("world-en", "world-en-zh")
NAMES = (PASSAGES, *WORLDS)


@numbers_fit(StimulusError)
def load_stimuli(name: str | Path | StimulusSet = PASSAGES, per_cell: int = 2) -> StimulusSet:
    """A stimulus set by name, or from a file.

    Args:
        name: "passages" (20 emotions + neutral x 12 topics of natural English), "world-en" or "world-en-zh" (held-out
            stories of the tiny models' world), a TOML or JSON file, or a StimulusSet, which is returned as it is.
        per_cell: stories per emotion and topic drawn from a world.

    Raises:
        StimulusError: an unknown name, or a file that cannot be read.

    Example:
        >>> texts = le.load_stimuli("passages")
        >>> len(texts), len(texts.topics)
        (252, 12)
    """
    if isinstance(name, StimulusSet):
        return name
    if name == PASSAGES:
        return passages_file().stimuli
    if name in WORLDS:
        return world_stimuli(str(name), n_per_cell=per_cell)
    if is_user_file(name) or kind_of(name) == "a file":
        return read_stimulus_file(name).stimuli
    raise StimulusError(f"no stimulus set '{name}'; give one of {', '.join(NAMES)}, or a TOML or JSON file")


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


@cache
def _plain_world(name: str) -> StimulusSet:
    return world_stimuli(name, n_per_cell=4, seed=1, emotions=(NEUTRAL,))


@cache
def neutral_file() -> StimulusFile:
    """Neutral passages beyond those of the set "passages"."""
    return read_stimulus_file(_data("neutral.json"))


@cache
def passages_file() -> StimulusFile:
    """The natural English passages with their word rules."""
    return read_stimulus_file(_data("passages.json"))


def _data(name: str) -> Path:
    return Path(str(resources.files("lens_emotion.stimuli").joinpath(f"data/{name}")))
