"""What keys of arrays and names of files say: layers, emotions at layers, one emotion a file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# names of an only array that say nothing of what it is
PLAIN = frozenset({"arr_0", "vector", "vectors", "direction", "directions", "values", "data", "array", "v", "tensor"})
_WORD = r"(?:layers?|blocks?|l)"
_KEYS = (  # "joy.layer.3.weight", "joy_l3"; "layers.3.joy"; "joy.3"; "3/joy"
    re.compile(rf"(?P<emotion>.+?)[._/ -]+{_WORD}[._/ -]?(?P<layer>\d+)(?P<rest>[._/ -]\D*)?", re.IGNORECASE),
    re.compile(rf"{_WORD}[._/ -]?(?P<layer>\d+)[._/ -]+(?P<emotion>\D.*)", re.IGNORECASE),
    re.compile(r"(?P<emotion>\D*?[^\W\d_])[._/ -](?P<layer>\d+)"),
    re.compile(r"(?P<layer>\d+)[._/ -](?P<emotion>[^\W\d_]\D*)"),
)
_SAYS_LAYER = 2  # of these forms hold the word; in the others, numbers that several names share are those of layers


def layer_of(key: Any) -> int | None:
    """The layer that a key names: 3, "3", "layer_3", "blocks.3.hook_resid_post", "direction.3"."""
    if isinstance(key, int | np.integer) and not isinstance(key, bool):
        return int(key)
    digits = "".join(c if c.isdigit() else " " for c in str(key)).split()
    plain = str(key).lower().strip("0123456789._-") in ("", "layer", "layers", "direction", "block", "blocks", "l")
    hooked = ".hook_resid" in str(key) or str(key).startswith("model.layers.")
    return int(digits[0]) if len(digits) == 1 and (plain or hooked) else None


def emotions_at_layers(keys: Sequence[Any]) -> dict[str, dict[int, Any]] | None:
    """Emotion -> layer -> key, where every key names both in one form; None of other keys."""
    for i, form in enumerate(_KEYS):
        found = [form.fullmatch(str(key)) for key in keys]
        if len(keys) < 2 or not all(found) or len({m["rest"] for m in found if m and "rest" in form.groupindex}) > 1:
            continue
        made: dict[str, dict[int, Any]] = {}
        for key, match in zip(keys, found, strict=True):
            assert match is not None
            made.setdefault(match["emotion"], {})[int(match["layer"])] = key
        whole = sum(map(len, made.values())) == len(keys)
        grid = len(made) > 1 and len({tuple(sorted(at)) for at in made.values()}) == 1
        if whole and (i < _SAYS_LAYER or (grid and len(keys) > len(made))):
            return made
    return None


def named_rows(parts: Mapping[Any, Any]) -> tuple[Any, tuple[str, ...]] | None:
    """Keys of the only set of vectors among arrays, and the names of its rows, where one array of words holds these."""
    arrays = {k: v for k, v in parts.items() if isinstance(v, np.ndarray) or hasattr(v, "detach")}
    words = [v for v in parts.values() if _are_words(v)]
    sets = [k for k, v in arrays.items() if len(v.shape) in (2, 3) and not _are_words(v)]
    if len(sets) != 1 or not words:
        return None
    n = parts[sets[0]].shape[0]
    names = next((a for a in words if len(a) == n), words[0])
    return sets[0], tuple(map(str, names))


def _are_words(thing: Any) -> bool:
    if isinstance(thing, np.ndarray):
        return thing.ndim == 1 and thing.dtype.kind in "US"
    return isinstance(thing, list | tuple) and len(thing) > 0 and all(isinstance(x, str) for x in thing)
