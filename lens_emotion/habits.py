"""What a public function answers to a call in another's manner: an argument by another name, or of another kind.

People come from scikit-learn, transformers, steering-vectors or repeng, and write what works there. The answer names
what fits here, before anything is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from functools import wraps
from importlib import import_module
from inspect import signature
from typing import Any

from lens_emotion.errors import ArgumentError

CALLED = {  # what others call an argument
    "layers": ("layer", "layer_ids"),
    "layer": ("layers", "layer_id"),
    "dose": ("strength", "coeff", "coefficient", "multiplier", "alpha", "scale"),
    "doses": ("dose", "strengths", "multipliers"),
    "stimuli": ("df", "data", "dataset", "texts"),
    "emotions": ("labels", "classes"),
    "max_new_tokens": ("max_tokens", "max_length", "n_tokens"),
    "n_permutations": ("n_perm", "permutations", "n_perms"),
    "seed": ("random_state", "rng"),
    "acts": ("activations", "X"),
    "config": ("models",),
    "steering": ("vector", "steer", "control", "control_vector"),
    "sampling": ("temperature", "top_p", "top_k", "do_sample", "sampler"),
}
BESIDE_TEXTS = ("labels", "label", "topics", "label_names")
MADE_BY = {  # an argument's kind, as it is annotated, and where one comes from
    "PooledActivations": "le.extract_comprehension(model, texts), le.extract_generation(model).reread or "
    ".conditioned, or le.PooledActivations.load(path)",
    "EmotionVectors": "le.emotion_vectors(acts), or le.EmotionVectors.load(path)",
    "EmotionVector": "a set's member, vectors['calm'], or le.vector(array, model, layer=...)",
    "DoseResponse": "le.dose_response(model, vectors, scenarios, judge)",
    "Judge": "le.word_count_judge({...}), le.encoder_judge(...), le.classifier_judge(...), le.as_judge(function, ...)",
    "StimulusSet": "le.load_stimuli(name) or le.stimuli_from(data)",
    "pd.DataFrame": "a pandas DataFrame",
    "Iterable[RegimeMap] | pd.DataFrame": "a list of what le.regime_map gives, one for each model, or their rows",
    "Sequence[tuple[str, PooledActivations, PooledActivations]]": "a list of (name, acts, other acts)",
    "Sequence[tuple[str, EmotionVectors | PooledActivations]]": "a list of (name, vectors) or (name, acts)",
    "Mapping[str, Sequence[str]]": "{'calm': ['still', 'quiet'], ...}",
    "Callable[[Sequence[str]], Any]": "what takes a list of texts",
    "str": "a text",
    "str | Path": "a path",
}
_PLAIN = {"str": ("str", "Path"), "str | Path": ("str", "Path"), "pd.DataFrame": ("DataFrame",)}


def answering(function: Callable[..., Any], module: str) -> Callable[..., Any]:
    """A public function that says, of a call that it does not understand, what may be meant.

    Args:
        function: as it is defined.
        module: where pickle finds the answering one.
    """
    known = signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in known.values()):
        return function
    kinds = {p.name: str(p.annotation) for p in known.values() if str(p.annotation) in {*MADE_BY, "Model"}}
    places = tuple(known)

    @wraps(function)
    def answers(*args: Any, **kwargs: Any) -> Any:
        if unknown := [name for name in kwargs if name not in known]:
            raise ArgumentError(_by_another_name(function.__name__, unknown[0], places))
        for name, value in (*zip(places, args, strict=False), *kwargs.items()):
            if name in kinds:
                _check_kind(function.__name__, name, value, kinds[name])
        return function(*args, **kwargs)

    answers.__module__ = module
    return answers


def _by_another_name(function: str, given: str, known: tuple[str, ...]) -> str:
    meant = [name for name in known if given in CALLED.get(name, ())] or get_close_matches(given, known, n=1)
    hint = f"did you mean {meant[0]}=? " if meant else ""
    if "stimuli" in known and given in BESIDE_TEXTS:
        hint = "of texts and what stands beside them make a set first: le.stimuli_from(texts, labels, topics). "
    return f"{function}() has no {given}=; {hint}It takes {', '.join(known)}"


def _check_kind(function: str, name: str, value: Any, kind: str) -> None:
    """Raises ArgumentError for what is of another kind; UnsupportedModelError for what is no model."""
    if kind == "Model":
        import_module("lens_emotion.models.access").backend_of(value)
        return
    if not _fits(value, kind):
        what = "" if "[" in kind or kind in _PLAIN else f"{kind}: "
        got = "None" if value is None else _article(type(value).__name__)
        raise ArgumentError(f"{function}(): {name} is {got}; give {what}{MADE_BY[kind]}")


def _fits(value: Any, kind: str) -> bool:
    outer = kind.partition("[")[0]
    if outer == "Callable":
        return callable(value)
    if outer == "Mapping":
        return isinstance(value, Mapping)
    if kind.startswith("Sequence[tuple["):
        return isinstance(value, list | tuple) and all(isinstance(row, tuple | list) for row in value)
    if kind.startswith("Iterable["):  # a list is looked into, what is read but once is not
        inner, last = kind[len("Iterable[") :].partition("]")[0], _names(value)
        return "DataFrame" in last or isinstance(value, Iterator) or _all_are(value, inner)
    return bool(_names(value) & {*_PLAIN.get(kind, (kind,))})


def _all_are(value: Any, kind: str) -> bool:
    return isinstance(value, list | tuple) and all(kind in _names(v) for v in value)


def _names(value: Any) -> set[str]:
    """What a value is called with all that it descends from: nothing need be imported to compare."""
    return {base.__name__ for base in type(value).__mro__}


def _article(name: str) -> str:
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {'text' if name == 'str' else name}"
