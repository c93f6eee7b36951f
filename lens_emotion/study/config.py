"""What a study runs: models, methods, sizes, seeds. Plain values, so that it can be written into the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from lens_emotion.errors import LensEmotionError
from lens_emotion.models.catalog import CATALOG, TINY

PAPER = "paper"
TINY_FIVE: tuple[str, ...] = tuple(spec.name for spec in TINY)


class ConfigError(LensEmotionError):
    """A study setting that makes no sense."""


@dataclass(frozen=True)
class StudyConfig:
    """Settings of a study.

    Attributes:
        models: names, folders or GGUF files; default the tiny five.
        stimuli: stimulus set or JSON file; None takes each model's own.
        backend, dtype, device: as in `load_model`.
        generation: also let the model write stories (topic-crossed and the "jeong" preset).
        steering: also run the dose-response experiment.
        judge: folder of a sentence encoder that judges steered texts; None: word counts for the tiny world, else the
            unsteered model's own states (which the report then says).
        doses: in natural units.
        story_tokens, jeong_tokens, steered_tokens: how much is written.
        n_permutations: label permutations behind every null.
        seed: of sampling, permutations and random directions.
    """

    models: tuple[str, ...] = TINY_FIVE
    stimuli: str | None = None
    backend: str = "auto"
    dtype: str = "auto"
    device: str | None = None
    generation: bool = True
    steering: bool = True
    judge: str | None = None
    doses: tuple[float, ...] = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
    story_tokens: int = 128
    jeong_tokens: int = 256
    steered_tokens: int = 40
    n_permutations: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.models:
            raise ConfigError("no model given; name at least one (see `lens-emotion models`)")
        for name, least in (("story_tokens", 16), ("jeong_tokens", 16), ("steered_tokens", 8), ("n_permutations", 20)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}; give at least {least}")
        if not self.doses or min(self.doses) <= 0:
            raise ConfigError(f"doses are {self.doses}; give positive numbers (dose 0 is always run)")

    def used(self, step: str) -> dict[str, Any]:
        """The settings that a step's result depends on, beside the model and its texts, as JSON has them."""
        values = {name: getattr(self, name) for name in _USED[step]}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def with_(self, **changes: Any) -> StudyConfig:
        return replace(self, **changes)


def expand(names: Sequence[str]) -> tuple[str, ...]:
    """Model names, with "paper" for those of arXiv 2604.04064, named or inferred."""
    paper = [s.name for s in CATALOG if s.paper]
    return tuple(dict.fromkeys(n for name in names for n in (paper if name == PAPER else [name])))


def parse_doses(words: str) -> tuple[float, ...]:
    """ "1,2,4" -> (1.0, 2.0, 4.0).

    Raises:
        ConfigError: words that are no numbers.
    """
    try:
        return tuple(float(w) for w in words.split(","))
    except ValueError:
        raise ConfigError(f"doses are numbers parted by commas, such as 1,2,4; got {words!r}") from None


_USED: dict[str, tuple[str, ...]] = {
    "comprehension": (),
    "generation": ("story_tokens", "seed"),
    "generation_jeong": ("jeong_tokens",),
    "steering": ("judge", "doses", "steered_tokens", "seed"),
}
