"""Readings kept for the next time: a model's own texts, read once and stored as `PooledActivations.save` stores them.

A file is found by all that its numbers depend on: the model's weights, precision and backend, the version of
TransformerLens, the texts, and what stands in front of them. Vectors follow from it by any recipe in no time.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from lens_emotion.errors import ArtifactError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.extraction.comprehension import default_stimuli, extract_comprehension
from lens_emotion.models.access import Model, describe
from lens_emotion.stimuli.library import load_stimuli

READINGS = Path("runs") / "readings"
Say = Callable[[str], None]


def own_reading(model: Model, folder: Path | None = READINGS, say: Say = print) -> PooledActivations:
    """The texts of the model's own stimulus set (`default_stimuli`), read now or taken from an earlier call.

    Args:
        model: TransformerBridge or HookedTransformer.
        folder: where readings are kept; None keeps none.
        say: told where they come from, and what is wrong with a file, which is then written anew.

    Returns:
        PooledActivations [n_texts, n_layers, d_model], the same to the bit either way.
    """
    path = None if folder is None else folder / reading_name(model)
    found = _kept(path, model, say)
    if found is None:
        found = extract_comprehension(model)
        try:
            if path is not None:
                say(f"readings kept for the next time: {found.save(path, overwrite=True)}")
        except ArtifactError as error:
            say(f"note: {error}")
    return found


def reading_name(model: Model) -> str:
    """File of a model's readings: its name, and hashes of its weights and of all else that they depend on."""
    info, texts = describe(model), load_stimuli(default_stimuli(model))
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", info.name).strip("-.")[-60:] or "model"
    how = repr((texts.sha256, info.backend, info.transformer_lens, info.first_token))
    return f"{name}-{info.fingerprint[:12]}-{hashlib.sha256(how.encode()).hexdigest()[:12]}-{info.dtype}.safetensors"


def _kept(path: Path | None, model: Model, say: Say) -> PooledActivations | None:
    if path is None or not path.is_file():
        return None
    try:
        acts = PooledActivations.load(path)
    except ArtifactError as error:
        say(f"note: {error}; reading anew")
        return None
    if acts.header.fingerprint != describe(model).fingerprint:
        return None
    say(f"readings of an earlier call: {path}")
    return acts
