"""One prompt continued side by side: unsteered, steered, and pushed as far in a random direction.

What the playground, the explorer and anyone with one prompt needs. A sweep over doses and scenarios is
`experiment.dose_response`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from lens_emotion.models.access import Model
from lens_emotion.models.decoding import GREEDY, Sampling
from lens_emotion.models.prompting import check_length, encode
from lens_emotion.steering.dose import Dose
from lens_emotion.steering.generate import Condition, Continuation, generate_steered
from lens_emotion.steering.hooks import check_fits
from lens_emotion.steering.positions import Positions, check_positions
from lens_emotion.vectors.emotion_vectors import EmotionVector

UNSTEERED, STEERED, RANDOM = "unsteered", "steered", "random"
COLUMNS = (UNSTEERED, STEERED, RANDOM)
Written = Mapping[str, Continuation]  # column -> what was written
OnGrowth = Callable[[dict[str, list[int]]], None]  # column -> its new tokens so far


@dataclass(frozen=True)
class Push:
    """What is done to one prompt.

    Attributes:
        vector: one vector, or a mixture of some.
        dose: how far, at every one of `layers`.
        layers: from 0.
        control: a random direction of the same sizes (`vectors.mixture.random_like`); None: no third column.
        sampling: the same draws in every column, so that columns differ by the push alone.
    """

    prompt: str
    vector: EmotionVector
    dose: Dose
    layers: tuple[int, ...]
    control: EmotionVector | None = None
    max_new_tokens: int = 40
    sampling: Sampling = GREEDY
    positions: Positions = "all"

    @property
    def columns(self) -> tuple[str, ...]:
        return COLUMNS if self.control is not None else COLUMNS[:2]

    @property
    def read_layer(self) -> int:
        """Where texts are read for their effect: the middle one of the steered layers."""
        return self.layers[len(self.layers) // 2]


def check_push(model: Model, push: Push) -> None:
    """Raise what `write_side_by_side` would, before anything is computed.

    Raises:
        FingerprintError, UnsupportedModelError, DoseError, ContextLengthError: see `generate_steered`.
    """
    check_fits(model, push.vector, allow_processed=True)
    check_positions(push.positions)
    check_length(model, len(encode(model, push.prompt)), push.prompt, push.max_new_tokens)


def write_side_by_side(model: Model, push: Push, on_growth: OnGrowth | None = None) -> dict[str, Continuation]:
    """Continue the prompt in all columns at once; each text is what `steer` and `generate_tokens` give alone.

    Args:
        on_growth: told after every step all new tokens so far of the columns that grew; what it raises ends the
            writing and leaves no hook behind.
    """
    check_push(model, push)
    vectors = (None, push.vector, push.control)
    written = generate_steered(
        model,
        [Condition(push.prompt, v, push.dose, push.sampling.seed) for v in vectors[: len(push.columns)]],
        push.layers,
        max_new_tokens=push.max_new_tokens,
        sampling=replace(push.sampling, seed=0),  # the condition carries it
        positions=push.positions,
        progress=False,
        on_ids=(lambda ids: on_growth({COLUMNS[i]: row for i, row in ids.items()})) if on_growth else None,
    )
    return dict(zip(push.columns, written, strict=True))
