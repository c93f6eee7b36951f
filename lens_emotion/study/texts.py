"""What a model reads, known from its name."""

from __future__ import annotations

from lens_emotion.models.catalog import find_spec
from lens_emotion.models.loading import resolve
from lens_emotion.stimuli.library import PASSAGES, load_stimuli
from lens_emotion.stimuli.sets import StimulusSet


def texts_for(model: str, stimuli: str | None) -> StimulusSet:
    """The stimuli asked for, else those of the model's catalog row, else the natural passages.

    Raises:
        LensEmotionError: an unknown model or stimulus set.
    """
    spec = find_spec(resolve(model).label)
    return load_stimuli(stimuli or (spec.stimuli if spec else PASSAGES))
