"""The published table of suppression: does steering towards one emotion push a state off another?

As in the author's code of April (see `presets.jeong`): all layers are pushed along one layer's vector, and the last
token of six texts is projected on two emotions, before and after. Beside it stand random directions of the same length,
and what the push itself adds along each direction, which is arithmetic and no effect of the model's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from lens_emotion.display import Result
from lens_emotion.errors import ArtifactError, DoseError
from lens_emotion.files.artifacts import atomic_write
from lens_emotion.files.read import read_json
from lens_emotion.files.user import LARGEST_DOSE, numbers_fit
from lens_emotion.habits import answering
from lens_emotion.models.access import Model, describe, hook_name
from lens_emotion.models.forward import residual_cache
from lens_emotion.models.layers import resolve_layer
from lens_emotion.models.prompting import encode
from lens_emotion.presets.protocol import PROTOCOL
from lens_emotion.stats.tests import percentile_band
from lens_emotion.vectors.emotion_vectors import EmotionVectors


@dataclass(frozen=True, eq=False, repr=False)
class Suppression(Result):
    """Projections of a prompt's last token on two emotions, before and after steering towards one of them.

    Attributes:
        table: scenario, prompt, direction (of projection), before, after; random_low, random_mean, random_high (after
            random directions of the same length), added (what the steering itself has put along that direction by that
            layer: the sum of what was added, no effect of the model's).
        steered, suppressed: the pair. dose: as a share. layer: where it is read. n_random: directions.
        inflation: by how much the first token raises the unit of dose, mean over prompts and layers.
    """

    table: pd.DataFrame
    steered: str
    suppressed: str
    dose: float
    layer: int
    n_random: int
    inflation: float

    def means(self, direction: str) -> pd.Series:
        """Over scenarios."""
        rows = self.table[self.table.direction == direction]
        return rows[["before", "after", "random_low", "random_mean", "random_high", "added"]].mean()

    @property
    def beyond_random(self) -> bool:
        """Whether the suppressed emotion falls in the mean, and below what random directions make of it."""
        rows = self.table[self.table.direction == self.suppressed]
        below = rows.after.to_numpy() < rows.random_low.to_numpy()
        return bool(rows.after.mean() < rows.before.mean() and below.mean() > 0.5)

    def summary(self) -> str:
        """Both projections, their control, and the part that is arithmetic."""
        said = []
        for name in (self.steered, self.suppressed):
            m = self.means(name)
            said.append(
                f"{name} {m.before:+.1f} -> {m.after:+.1f} (random directions {m.random_low:+.1f} to "
                f"{m.random_high:+.1f}; {m.added:+.1f} is what was added)"
            )
        return f"Steering to {self.steered} at {self.dose:g}, read at layer {self.layer}: {', '.join(said)}"


def texts_in(given: str | Sequence[str], what: str) -> list[str]:
    """One text or several, each once.

    Raises:
        DoseError: something else.
    """
    found = [given] if isinstance(given, str) else given
    if not isinstance(found, list | tuple) or not all(isinstance(text, str) for text in found):
        raise DoseError(f"{what} is {given!r:.80}; give a text, or a list of texts")
    return list(dict.fromkeys(found))


def unit_of_dose(
    model: Model, prompts: Sequence[str]
) -> tuple[Float[np.ndarray, " n_layers"], Float[np.ndarray, " n_layers"]]:
    """Mean norm of `resid_post` over all positions of the prompts, as published, and without their first token."""
    with_first, without = [], []
    for prompt in dict.fromkeys(prompts):
        cache = residual_cache(model, torch.tensor([encode(model, prompt)]))
        norms = torch.stack([cache["resid_post", k][0].float().norm(dim=-1).cpu() for k in range(model.cfg.n_layers)])
        with_first.append(norms.mean(1))
        without.append(norms[:, 1:].mean(1) if norms.shape[1] > 1 else norms.mean(1))
    return torch.stack(with_first).mean(0).numpy(), torch.stack(without).mean(0).numpy()


def inflation(model: Model, prompts: Sequence[str]) -> float:
    """By how much the first token raises the unit of dose of these prompts, mean over layers; 1 is not at all.

    Example:
        >>> le.presets.jeong.inflation(model, ["The door opened and"]) > 1
        True
    """
    with_first, without = unit_of_dose(model, prompts)
    return float((with_first / without).mean())


@numbers_fit(DoseError)
def suppression(
    model: Model,
    vectors: EmotionVectors,
    prompts: str | Sequence[str],
    *,
    dose: float = PROTOCOL.suppression_dose,
    pair: tuple[str, str] = PROTOCOL.pair,
    layer: int | None = None,
    n_random: int = 19,
    seed: int = 0,
) -> Suppression:
    """The published table: steer all layers towards one emotion and read how far the last token of each prompt lies
    along it and along another, beside dose 0 and random directions.

    The push is that of the public code to the letter: the mean norm is taken in the very pass that is steered.

    Args:
        vectors: of this model (`extract_comprehension`). prompts: the published table has six.
        layer: where vectors come from and states are read; None for two thirds of the depth.
        n_random: directions of the control. seed: of them.

    Raises:
        DoseError: no prompts. UnknownEmotionError: an emotion without a vector.

    Example:
        >>> vectors = le.presets.jeong.extract_comprehension(model)
        >>> found = le.presets.jeong.suppression(model, vectors, ["The door opened and", "In the morning she"])
        >>> found.table.direction.tolist()
        ['calm', 'hostile', 'calm', 'hostile']
    """
    openings = texts_in(prompts, "prompts")
    if not isinstance(pair, list | tuple) or len(set(pair)) != 2:
        raise DoseError(f"pair is {pair!r:.80}; give two emotions, ('calm', 'hostile') for one")
    if not openings or n_random < 1:
        raise DoseError("nothing to steer: give at least one prompt, and one random direction")
    n = vectors.n_layers
    at = resolve_layer(layer, n, 2 * n // 3)
    read = torch.stack([vectors[name].at(at).float() for name in pair])
    rng = torch.Generator().manual_seed(seed)
    drawn = torch.randn(n_random, read.shape[1], generator=rng)
    pushes = torch.cat([torch.zeros_like(read[:1]), read[:1], drawn / drawn.norm(dim=-1, keepdim=True)])
    rows = []
    for i, prompt in enumerate(openings):
        states, added = _pushed(model, encode(model, prompt), pushes, dose, at)
        seen = (states @ read.T).double().numpy()  # rows: unsteered, steered, random directions
        for k, name in enumerate(pair):
            low, high = percentile_band(seen[2:, k])
            control = {"random_low": float(low), "random_mean": seen[2:, k].mean(), "random_high": float(high)}
            along = float(added * (read[0] @ read[k]))
            row = {"scenario": i, "prompt": prompt, "direction": name, "before": seen[0, k], "after": seen[1, k]}
            rows.append(row | control | {"added": along})
    return Suppression(pd.DataFrame(rows), *pair, dose, at, n_random, inflation(model, openings))


def _pushed(
    model: Model, ids: Sequence[int], pushes: Float[Tensor, "rows d_model"], dose: float, layer: int
) -> tuple[Float[Tensor, "rows d_model"], float]:
    """States of the last token at a layer, one row per push, and the length added to the second row by then."""
    states, lengths = list[Tensor](), list[float]()

    def hook(at: int) -> Callable[..., Tensor]:
        def push(value: Float[Tensor, "rows pos d_model"], hook: object) -> Float[Tensor, "rows pos d_model"]:
            unit = value.float().norm(dim=-1).mean(1)  # of each row, over all positions, the first one too
            moved = value + (dose * unit[:, None] * pushes.to(value.device))[:, None].to(value.dtype)
            lengths.append(dose * float(unit[1]))
            if at == layer:
                states.append(moved[:, -1].detach().float().cpu())
            return moved

        return push

    rows = torch.tensor([list(ids)], device=describe(model).device).repeat(len(pushes), 1)
    with torch.no_grad():
        model.run_with_hooks(rows, fwd_hooks=[(hook_name(k), hook(k)) for k in range(layer + 1)])
    return states[0], sum(lengths)


_MOST = 1e9  # of any number of the table
_PLAIN = ("steered", "suppressed", "dose", "layer", "n_random", "inflation")
_WORDS = ("prompt", "direction")
_NUMBERS = ("scenario", "before", "after", "random_low", "random_mean", "random_high", "added")


def save_suppression(found: Suppression, path: str | Path) -> Path:
    """Write as JSON, atomically."""
    data = {name: getattr(found, name) for name in _PLAIN} | {"table": found.table.to_dict("list")}
    return atomic_write(path, json.dumps(data, ensure_ascii=False) + "\n")


def load_suppression(path: str | Path) -> Suppression:
    """Read a file written by `save_suppression`. Raises ArtifactError if it is damaged or of another kind."""
    try:
        data = read_json(path)
        columns = {name: data["table"][name] for name in ("scenario", *_WORDS, *_NUMBERS[1:])}
        if not all(isinstance(column, list) for column in columns.values()):
            raise ValueError("a column is no list")
        table = pd.DataFrame(columns)
        found = Suppression(table, **{name: data[name] for name in _PLAIN})
        _check(found)
        return found
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        said = " ".join(str(error).split())[:200]
        raise ArtifactError(f"{path} is no readable suppression table ({said}); run the step again") from None


def _check(found: Suppression) -> None:
    """Raises ValueError for what cannot be meant."""
    for name, kind in (("dose", float), ("inflation", float), ("layer", int), ("n_random", int)):
        if type(getattr(found, name)) is not kind:
            raise ValueError(f"{name} is of another kind")
    if not (0 <= found.dose <= LARGEST_DOSE and 0 < found.inflation <= _MOST):
        raise ValueError(f"a dose of {found.dose:g}, or a unit {found.inflation:g} times as long")
    if not (0 <= found.layer <= _MOST and 1 <= found.n_random <= _MOST) or found.table.empty:
        raise ValueError("no layer, random direction or scenario")
    _check_table(found)


def _check_table(found: Suppression) -> None:
    for name in _WORDS:
        for word in dict.fromkeys(found.table[name]):
            if not isinstance(word, str) or not word.strip():
                raise ValueError(f"{word!r:.40} is no text")
            word.encode()  # half a character is none
    if {found.steered, found.suppressed} != set(found.table["direction"]):
        raise ValueError("its directions are not those of its table")
    for name in _NUMBERS:
        if any(type(x) not in (int, float) for x in found.table[name].tolist()):
            raise ValueError(f"{name} holds what is no number")
    numbers = found.table[list(_NUMBERS)].to_numpy(float)
    if not np.isfinite(numbers).all() or np.abs(numbers).max() > _MOST:
        raise ValueError("a number is none, or beyond any state's length")
    if not (numbers[:, 3] <= numbers[:, 5]).all():
        raise ValueError("a band that ends before it begins")


suppression = answering(suppression, __name__)  # like the public names of the package
