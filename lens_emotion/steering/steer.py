"""`steer` and `ablate`: a direction in any form, in force inside a `with` block or from `start` to `stop`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from numpy.typing import ArrayLike
from torch import Tensor

from lens_emotion.errors import DoseError
from lens_emotion.extraction.comprehension import default_stimuli, extract_comprehension
from lens_emotion.models.access import Model, backend_of, describe
from lens_emotion.models.layers import Layers, layers_in_words
from lens_emotion.models.threads import turn
from lens_emotion.steering.dose import AnyDose, LayerDose, as_doses
from lens_emotion.steering.hooks import (
    Centre,
    Hook,
    Intervention,
    Positions,
    Tracker,
    Vectors,
    as_vectors,
    check_fits,
    intervene,
)
from lens_emotion.stimuli.library import load_stimuli
from lens_emotion.vectors.emotion_vectors import EmotionVector, EmotionVectors, mixture, parse_mixture
from lens_emotion.vectors.own import is_array, names_layers
from lens_emotion.vectors.own import vector as own_vector
from lens_emotion.vectors.recipes import emotion_vectors

Direction = Vectors | Mapping[str, float] | Mapping[int, ArrayLike] | ArrayLike | Tensor  # a text is ArrayLike too
VectorSource = EmotionVectors | str | Path | None
_IN_FORCE = "lens_emotion_in_force"  # attribute of a model: its steerings, the innermost last
_MADE: WeakKeyDictionary[Any, tuple[str, EmotionVectors]] = WeakKeyDictionary()  # of models' own stimuli


class Steering:
    """What `steer` gives: steering that is in force inside a `with` block, or from `start` to `stop`.

    Attributes:
        model: what is steered. done: what is done at which layers. positions: at which positions.
    """

    def __init__(self, model: Model, done: Intervention, tracker: Tracker, *, allow_other_model: bool = False) -> None:
        self.model, self.done, self.positions, self.allow_other_model = (
            model,
            done,
            tracker.positions,
            allow_other_model,
        )
        self._hooks = done.hooks(tracker)
        self._stack: ExitStack | None = None
        self._by_start = self.aside = False
        self.used = False

    def __enter__(self) -> list[Hook]:
        self._begin()
        return self._hooks

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> Steering:
        """Steer from now on, until `stop`; what was started before on this model ends (run a cell twice)."""
        if (now := in_force(self.model)) and now[-1]._by_start:
            now[-1].stop()
        elif any(steering._by_start for steering in now):
            raise DoseError("this model is steered by start(), then by a `with` block; leave the block before start()")
        self._begin()
        self._by_start = True
        return self

    def stop(self) -> None:
        """Steer no longer; what began inside of it ends with it. Once is enough, more often does no harm."""
        now = in_force(self.model)
        while self in now:
            last = now.pop()
            last._by_start, stack, last._stack = False, last._stack, None
            if stack is not None:
                stack.close()
        if not now:
            self.model.__dict__.pop(_IN_FORCE, None)

    def _begin(self) -> None:
        if self._stack is not None:
            raise DoseError(f"{self} already; make another with le.steer(...) to steer twice")
        self.used = True
        with ExitStack() as stack:
            stack.enter_context(turn(self.model, steering=True))
            hooks = [(name, self._unless_aside(function)) for name, function in self._hooks]
            stack.enter_context(self.model.hooks(fwd_hooks=hooks))
            self._stack = stack.pop_all()
        self.model.__dict__.setdefault(_IN_FORCE, []).append(self)

    def _unless_aside(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def hook_fn(value: Any, hook: Any) -> Any:
            return None if self.aside else function(value, hook)

        return hook_fn

    @property
    def words(self) -> str:
        """What is done, such as "add calm, dose 3 natural, layer 12"."""
        what, names = self.done, ", ".join(vector.name for vector in self.done.vectors)
        doses = what.dose.by_layer if isinstance(what.dose, LayerDose) else ((None, what.dose.value),)
        far = ", ".join(f"{value:g}" + ("" if layer is None else f" at {layer}") for layer, value in doses)
        return f"{what.mode} {names:.80}, dose {far} {what.dose.unit}, layer {layers_in_words(what.layers, 0)}"

    def __repr__(self) -> str:
        state = "in force" if self._stack is not None else "not in force: write `with le.steer(...):`, or .start()"
        return f"Steering({self.words}; {state})"

    def __del__(self) -> None:
        if not getattr(self, "used", True) and not sys.is_finalizing():
            words = "le.steer(...) was made and never used: write `with le.steer(...):`, or .start() and .stop()"
            warnings.warn(words, UserWarning, stacklevel=2)


def in_force(model: Model) -> list[Steering]:
    """The steerings in force on a model, the innermost last."""
    found: list[Steering] = model.__dict__.get(_IN_FORCE, [])
    return found


@contextmanager
def aside(model: Model) -> Iterator[None]:
    """The model without its steerings inside the block, for this thread."""
    with turn(model):
        paused = [steering for steering in in_force(model) if not steering.aside]
        for steering in paused:
            steering.aside = True
        try:
            yield
        finally:
            for steering in paused:
                steering.aside = False


def steer(
    model: Model,
    vector: Direction,
    dose: AnyDose = 1.0,
    *,
    vectors: VectorSource = None,
    unit: str = "natural",
    layers: Layers = None,
    positions: Positions = "all",
    mode: str = "add",
    centre: Centre = 0.0,
    prompt_length: int | Sequence[int] | None = None,
    allow_other_model: bool = False,
    allow_processed: bool = False,
) -> Steering:
    """Steer everything the model does inside the `with` block; hooks are gone afterwards, also after an exception.

        with le.steer(model, vectors["calm"], dose=3):
            print(le.generate(model, "The door opened and"))

    Without a block: `s = le.steer(...).start()`, then `s.stop()`; or `le.generate(..., steering=le.steer(...))`.

    Args:
        model: what is steered.
        vector: a vector; an array or tensor of your own, of `[d_model]`, `[n_layers, d_model]` or {layer: array} (see
            `le.vector`; dose 1 adds it as it is); an emotion or a mixture in words, "calm" or "0.5*calm - 0.3*angry",
            or {"calm": 0.5, "angry": -0.3}. Several for "ablate".
        dose: in natural units unless `unit` says "relative"; negative pushes the other way. One per layer:
            {12: 2, 14: 1}.
        vectors: where words are looked up, a set or its file. None: made of the model's own stimuli, once per model.
        unit: "natural" or "relative".
        layers: None for the layers that {layer: array} or the doses name, else the middle layer; "all", a band such as
            "10-20", one layer or several. An array of `[d_model]` stands at each.
        positions: "all", "generated", "prompt", or positions of the prompt (see `hooks.Tracker`).
        mode: "add", "ablate" or "clamp".
        centre: of "clamp" (see `hooks.Intervention`).
        prompt_length: tokens of the prompt, where a growing text is read again at every step (no cache).
        allow_other_model: take vectors of another model.
        allow_processed: accept weights that are folded or centred.

    Raises:
        FingerprintError: the vector comes from another model (unless `allow_other_model`).
        ProcessedModelError: the model's weights are processed (unless `allow_processed`).
        UnsupportedModelError: no model of TransformerLens; a vector of another shape than the model.
        UnknownEmotionError: words that name no emotion at hand.
        DoseError: an unknown unit, layer, position or mode; nothing that could be steered with.
        ModelBusyError: another thread steers the model (when the block is entered).

    Example:
        >>> with le.steer(model, "0.5*calm - 0.3*angry", {2: 2, 4: 1}, vectors=vectors):
        ...     text = model.generate("The door opened and", max_new_tokens=5, verbose=False)
        >>> text.startswith("The door opened and")
        True
        >>> le.steer(model, vectors["calm"], dose=3).start().stop()
    """
    backend_of(model)  # raises where it is no model
    amount, tracker = as_doses(dose, unit, model.cfg.n_layers), Tracker(positions, prompt_length)
    where = amount.layers if layers is None and isinstance(amount, LayerDose) else layers
    found = as_directions(model, vector, vectors, where, allow_processed)
    check_fits(model, *found, allow_other_model=allow_other_model, allow_processed=allow_processed)
    if where is None and names_layers(vector):
        layers = found[0].layers
    done = intervene(found, amount, layers, mode, centre)
    return Steering(model, done, tracker, allow_other_model=allow_other_model)


def ablate(
    model: Model,
    vectors: Direction,
    layers: Layers = "all",
    *,
    positions: Positions = "all",
    allow_other_model: bool = False,
    allow_processed: bool = False,
) -> Steering:
    """Take directions out of the residual stream inside the `with` block: one vector, several, or a whole set.

        with le.ablate(model, [vectors["angry"], vectors["hostile"]]):
            print(le.generate(model, "The door opened and"))

    Args:
        model: what is steered.
        vectors: in every form that `steer` takes, one or several.
        layers: where; "all" by default.
        positions, allow_other_model, allow_processed: see `steer`.

    Raises:
        FingerprintError, ProcessedModelError, UnsupportedModelError, DoseError: as in `steer`.

    Example:
        >>> with le.ablate(model, [vectors["angry"], vectors["hostile"]]):
        ...     logits = model("The door opened")
        >>> logits.shape[0]
        1
    """
    allowed: dict[str, Any] = {"allow_other_model": allow_other_model, "allow_processed": allow_processed}
    return steer(model, vectors, layers=layers, positions=positions, mode="ablate", **allowed)


def as_directions(
    model: Model, given: Any, vectors: VectorSource, layers: Layers, allow_processed: bool = False
) -> tuple[EmotionVector, ...]:
    """Vectors of a model from every form that `steer` takes.

    Raises:
        DoseError: a form that it does not take; and what `vector` and `mixture` raise.
    """
    if isinstance(given, EmotionVector | EmotionVectors):
        return as_vectors(given)
    if is_array(given):
        with aside(model):  # whose norm is that of the model as it stands
            return (own_vector(given, model, layers, allow_processed=allow_processed),)
    if isinstance(given, str) or (isinstance(given, Mapping) and given):
        return (_in_words(model, given, vectors, allow_processed),)
    if not isinstance(given, Iterable) or not (parts := list(given)):
        raise DoseError(
            f"{' '.join(repr(given).split())[:60]} is nothing to steer with; give vectors['calm'], 'calm', "
            "'0.5*calm - 0.3*angry', an array of d_model numbers, or {layer: array}"
        )
    return tuple(v for part in parts for v in as_directions(model, part, vectors, layers, allow_processed))


def _in_words(
    model: Model, words: str | Mapping[str, float], vectors: VectorSource, allow_processed: bool
) -> EmotionVector:
    """An emotion or a mixture, looked up, or made of the model's own stimuli once the words are known to name some."""
    if vectors is None:
        return mixture(_own_vectors(model, words, allow_processed), words)
    return mixture(EmotionVectors.load(vectors) if isinstance(vectors, str | Path) else vectors, words)


def _own_vectors(model: Model, words: str | Mapping[str, float], allow_processed: bool) -> EmotionVectors:
    """Vectors of the texts that this model reads by default, kept as long as model and weights stay the same."""
    now = describe(model).fingerprint
    if model in _MADE and _MADE[model][0] == now:
        return _MADE[model][1]
    texts = load_stimuli(default_stimuli(model))
    named = [name for _, name in parse_mixture(words, texts.emotions)] if isinstance(words, str) else list(words)
    texts.only(emotions=tuple(named))
    with aside(model):
        acts = extract_comprehension(model, texts, allow_processed=allow_processed)
    _MADE[model] = (now, emotion_vectors(acts))
    return _MADE[model][1]
