"""Errors that say what was given, what would fit, and how to fix it.

Every error a user can cause is a `LensEmotionError`. The command line prints its message as one line and
exits with code 2; a library user catches the type. The words are the same in both places.
"""

from __future__ import annotations

from importlib.util import find_spec

_LONGEST = 2000  # characters of a message: what was given may be a text, or a path of any length


class LensEmotionError(Exception):
    """Base of every error that the user of this package can cause and mend."""

    def __str__(self) -> str:
        return shortened(super().__str__())


def shortened(said: str) -> str:
    """A message that can be read: the middle of one of thousands of characters is left out."""
    return said if len(said) <= _LONGEST else f"{said[: _LONGEST - 500]} ... {said[-490:]}"


class UnknownModelError(LensEmotionError):
    """No model of this name is known; the message lists near matches."""


class ModelUnavailableError(LensEmotionError):
    """The model exists but cannot be had: gated, offline, incomplete folder, no tokenizer."""


class UnsupportedModelError(LensEmotionError):
    """The model, backend or precision is one this package refuses, with the remedy."""


class ModelBusyError(LensEmotionError):
    """A model that another thread is steering."""


class NotFiniteError(UnsupportedModelError):
    """A forward pass that gave NaN or infinity: a precision that overflows, or damaged weights."""


class ProcessedModelError(LensEmotionError):
    """A HookedTransformer whose weights were folded or centred: its residual stream is in another basis."""


class StimulusError(LensEmotionError):
    """Texts that cannot answer the question asked: empty, too short, unknown emotion, a single class."""


class ContextLengthError(StimulusError):
    """A text that does not fit into the model's context window."""


class ArtifactError(LensEmotionError):
    """A file that is missing, truncated, corrupt, of another kind, or cannot be written."""


class FingerprintError(ArtifactError):
    """Activations or vectors of one model met another model."""


class UnknownEmotionError(LensEmotionError):
    """An emotion that the object at hand does not hold; the message lists those it holds."""


class DoseError(LensEmotionError):
    """A steering dose, unit, layer or position that makes no sense for this model."""


class GenerationError(LensEmotionError, ValueError):
    """A setting of writing that makes no sense: temperature, top_p, seed, a number of tokens, no prompts."""


class AnalysisError(LensEmotionError, ValueError):
    """An option of an analysis that makes no sense: an unknown metric, no such layer, no permutations."""


class LayerError(DoseError, AnalysisError):
    """A layer that the model does not have, or words that name none: an error of steering and of analysis alike,
    since both take layers."""


class ArgumentError(LensEmotionError, TypeError):
    """An argument of a name that a function does not have; the message names the one that may be meant."""


class OutOfMemoryError(LensEmotionError, MemoryError):
    """Memory ran out: the machine's, a GPU's, or what a limit leaves (see `memory.room_for`).

    Attributes:
        doing: what was being done. short: what was asked for, and what there was. kept, remedy: how to go on.
    """

    def __init__(self, doing: str = "", short: str = "", kept: str = "", remedy: str = "") -> None:
        super().__init__(doing, short, kept, remedy)
        self.doing, self.short, self.kept, self.remedy = doing, short, kept, remedy

    def __str__(self) -> str:
        kept = self.kept or "no file is left half written"
        remedy = self.remedy or "raise the limit or end other programs, or take a smaller model"
        why = f": {self.short}" if self.short else ""
        return f"out of memory{f' while {self.doing}' if self.doing else ''}{why}; {kept}; {remedy}"


class MissingExtraError(LensEmotionError):
    """A part of the package whose optional libraries are not installed; the message names the extra."""


# Optional libraries: one line that names the fix where they are missing.


def need_extra(extra: str, what: str, *libraries: str) -> None:
    """Raises MissingExtraError unless the libraries of an extra are installed; none of them is imported."""
    if missing := [name for name in libraries if find_spec(name) is None]:
        raise MissingExtraError(f'{what} needs {" and ".join(missing)}: pip install "lens-emotion[{extra}]"')
