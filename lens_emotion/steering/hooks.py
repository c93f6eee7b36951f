"""Hooks on `resid_post` that add, ablate or clamp, and the context manager that leaves nothing behind.

A hook is bound to its layer in a closure, never to `hook.name`: inside a hook the Bridge reports another name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformer_lens.utilities import get_act_name

from lens_emotion.display import Brief
from lens_emotion.errors import DoseError, UnsupportedModelError
from lens_emotion.extraction.activations import PooledActivations, check_made_on
from lens_emotion.models.access import Model, check_raw_basis, describe, hook_name
from lens_emotion.models.forward import MOST
from lens_emotion.models.layers import Layers, resolve_layers, whole_numbers
from lens_emotion.models.threads import turn
from lens_emotion.steering.dose import Dose, as_dose, displacement
from lens_emotion.vectors.emotion_vectors import EmotionVector, EmotionVectors


def steering_hooks(
    vector: Vectors,
    dose: float | Dose = 1.0,
    *,
    unit: str = "natural",
    layers: Layers = None,
    positions: Positions = "all",
    mode: str = "add",
    centre: Centre = 0.0,
    prompt_length: int | Sequence[int] | None = None,
) -> list[Hook]:
    """Hooks for `model.hooks(fwd_hooks=...)` or `model.run_with_hooks`. Dose 0 gives no hooks: the identity to the bit.

    Args:
        vector: what to add; a mixture such as 0.5 * v["calm"] - 0.3 * v["angry"] is one too. Several for "ablate".
        dose: in natural units unless `unit` says "relative"; negative pushes the other way.
        unit: "natural", or "relative" for shares of the mean residual norm.
        layers: None for the middle layer, "all", a band such as "10-20", one layer or several.
        positions: "all", "generated", "prompt", or positions of the prompt (see `hooks.Tracker`). All but "all"
            count tokens, which takes two more hooks in the first block.
        mode: "add", "ablate" or "clamp"; what dose and centre mean there says `hooks.Intervention`.
        centre: for "clamp", the projection at dose 0: one number or one per layer; 0 is the origin.
        prompt_length: tokens of the prompt, where a growing text is read again at every step (no cache).

    Raises:
        DoseError: an unknown unit, layer, position or mode.

    Example:
        >>> hooks = le.steering_hooks(vectors["calm"], dose=3, layers="2-4")
        >>> len(hooks)
        3
        >>> with model.hooks(fwd_hooks=hooks):
        ...     logits = model("The door opened")
    """
    vectors = as_vectors(vector)
    n_layers = vectors[0].n_layers if vectors else 1
    dose = as_dose(dose, unit)
    done = Intervention(vectors, dose, resolve_layers(layers, n_layers), mode, centre)
    tracker = Tracker(positions, prompt_length)
    return [] if done.idle else _edit_hooks({layer: done.at(layer) for layer in done.layers}, tracker)


def _edit_hooks(edits: Mapping[int, Edit], tracker: Tracker) -> list[Hook]:
    """Hooks that do what `edits` holds at the time, at the tracker's positions, elsewhere nothing to the bit."""

    def at(layer: int) -> Hook:
        def hook_fn(residual: Float[Tensor, "batch pos d_model"], hook: Any) -> Float[Tensor, "batch pos d_model"]:
            where, changed = tracker.steered(residual), edits[layer].apply(residual)
            return changed if where is None else changed.where(where[:, :, None], residual)

        return hook_name(layer), hook_fn

    return tracker.hooks() + [at(layer) for layer in edits] if edits else []


@contextmanager
def steer(
    model: Model,
    vector: Vectors,
    dose: float | Dose = 1.0,
    *,
    unit: str = "natural",
    layers: Layers = None,
    positions: Positions = "all",
    mode: str = "add",
    centre: Centre = 0.0,
    prompt_length: int | Sequence[int] | None = None,
    allow_other_model: bool = False,
    allow_processed: bool = False,
) -> Iterator[list[Hook]]:
    """Steer everything the model does inside the `with` block; hooks are gone afterwards, also after an exception.

        with le.steer(model, vectors["calm"], dose=3):
            print(model.generate("The door opened and", max_new_tokens=40))

    Args:
        model: TransformerBridge or HookedTransformer.
        vector: what to add; a mixture such as 0.5 * v["calm"] - 0.3 * v["angry"] is one too. Several for "ablate".
        dose: in natural units unless `unit` says "relative"; negative pushes the other way.
        unit: "natural", or "relative" for shares of the mean residual norm.
        layers: None for the middle layer, "all", a band such as "10-20", one layer or several.
        positions: "all", "generated", "prompt", or positions of the prompt.
        mode: "add", "ablate" (the direction is taken out) or "clamp" (the projection is held at the dose).
        centre: for "clamp", the projection at dose 0: one number or one per layer; 0 is the origin.
        prompt_length: tokens of the prompt, where a growing text is read again at every step (no cache).
        allow_other_model, allow_processed: accept vectors of another model, or processed weights.

    Yields:
        The hooks in place.

    Raises:
        FingerprintError: the vector comes from another model (unless `allow_other_model`).
        ProcessedModelError: the model's weights are processed (unless `allow_processed`).
        UnsupportedModelError: the vector has another shape than the model.
        DoseError: an unknown unit, layer, position or mode.

    Example:
        >>> with le.steer(model, vectors["calm"], dose=3):
        ...     text = model.generate("The door opened and", max_new_tokens=5, verbose=False)
        >>> text.startswith("The door opened and")
        True
    """
    check_fits(model, *as_vectors(vector), allow_other_model=allow_other_model, allow_processed=allow_processed)
    how: dict[str, Any] = {"positions": positions, "mode": mode, "centre": centre, "prompt_length": prompt_length}
    hooks = steering_hooks(vector, dose, unit=unit, layers=layers, **how)
    with turn(model, steering=True), model.hooks(fwd_hooks=hooks):
        yield hooks


def ablate(
    model: Model,
    vectors: Vectors,
    layers: Layers = "all",
    *,
    positions: Positions = "all",
    allow_other_model: bool = False,
    allow_processed: bool = False,
) -> AbstractContextManager[list[Hook]]:
    """Take directions out of the residual stream inside the `with` block: one vector, several, or a whole set.

        with le.ablate(model, [vectors["angry"], vectors["hostile"]]):
            print(model.generate("The door opened and", max_new_tokens=40))

    Args:
        model: TransformerBridge or HookedTransformer.
        vectors: one vector, several, or a set: all their directions go.
        layers: where; "all" by default.
        positions: as in `steer`.
        allow_other_model, allow_processed: accept vectors of another model, or processed weights.

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


def check_fits(
    model: Model, *vectors: EmotionVector, allow_other_model: bool = False, allow_processed: bool = False
) -> None:
    """Raise unless the vectors belong into this model's residual stream (see `steer`)."""
    check_raw_basis(model, allow_processed)
    info = describe(model)
    shape = (info.n_layers, info.d_model)
    for vector in vectors:
        if tuple(vector.direction.shape) != shape:
            raise UnsupportedModelError(
                f"the vector has shape {tuple(vector.direction.shape)} (layers, d_model), the model {shape}; "
                "extract vectors on this model"
            )
        vector.__post_init__()  # a tensor may have been written into
        if not allow_other_model:
            check_made_on(info, vector.header)


class RowEdits:
    """Another intervention for every row of a batch (None: none): many conditions in one forward pass.

    Rows may differ in vector, dose, mode and layers. When rows leave the batch, `keep` tells which go on.
    """

    def __init__(self, rows: Sequence[Intervention | None], d_model: int, positions: Positions = "all") -> None:
        active = [row if row is not None and not row.idle else None for row in rows]
        layers = sorted({layer for row in active if row is not None for layer in row.layers})
        self._tracker = Tracker(positions)
        self._edits: dict[int, Edit] = {}
        for layer in layers:
            edits = [row.at(layer) if row is not None and layer in row.layers else Edit() for row in active]
            self._edits[layer] = stack_edits(edits, d_model)

    def hooks(self) -> list[Hook]:
        """Hooks for the whole batch; none if no row is steered."""
        return _edit_hooks(self._edits, self._tracker)

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Go on with these rows only."""
        self._tracker.keep(rows)
        self._edits.update({layer: edit.keep(rows) for layer, edit in self._edits.items()})


# What is done to `resid_post`: add a vector, ablate directions, or clamp the projection on one.
#
# All three are one form, h -> h - (h B^T) B + delta, so that the rows of a batch may differ in kind: `add` has no B,
# `ablate` no delta, `clamp` takes the projection out and puts the target in.
SAME = 1e-4  # directions whose part outside the others' span is shorter than this add nothing to the span
Vectors = EmotionVector | EmotionVectors | Sequence[EmotionVector]
Centre = float | Float[Tensor, " n_layers"]


@dataclass(frozen=True, eq=False, repr=False)
class Edit(Brief):
    """h -> h - (h B^T) B + delta at one layer, the same for all rows of a batch or one per row (leading axis)."""

    delta: Float[Tensor, "*rows d_model"] | None = None
    basis: Float[Tensor, "*rows k d_model"] | None = None

    def apply(self, residual: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        if self.basis is None:
            return residual if self.delta is None else residual + self._added(residual)
        h = residual.float()  # a projection is a difference of large numbers in deep layers
        basis = self.basis.to(h.device, h.dtype)
        h = h - (h @ basis.mT) @ basis
        return (h if self.delta is None else h + self._added(h)).to(residual.dtype)

    def _added(self, like: Tensor) -> Tensor:
        assert self.delta is not None
        return (self.delta if self.delta.ndim == 1 else self.delta[:, None, :]).to(like.device, like.dtype)

    def keep(self, rows: Tensor) -> Edit:
        """These rows of a batch."""
        return Edit(*(None if x is None else x[rows.to(x.device)] for x in (self.delta, self.basis)))


@dataclass(frozen=True, eq=False, repr=False)
class Intervention(Brief):
    """One thing done at some layers.

    Attributes:
        vectors: one vector; several for "ablate" (their span).
        dose: "add": how far. "clamp": how far from `centre` the projection is set. "ablate": the share of the
            projection that is taken out, 1 for all of it (no unit).
        layers: layers it is done at.
        mode: "add", "ablate" or "clamp".
        centre: for "clamp", the projection at dose 0, in raw units of the residual stream: one number or one per layer
            (see `projection_centre`). 0 is the origin of the residual stream, not the mean of texts.
    """

    vectors: tuple[EmotionVector, ...]
    dose: Dose
    layers: tuple[int, ...]
    mode: str = "add"
    centre: Centre = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.dose, Dose):
            raise DoseError(f"the dose is {self.dose!r:.60}; give Dose(3), or Dose(0.1, 'relative')")
        check_mode(self.mode, self.dose)
        for vector in self.vectors:
            check_centre(self.centre, vector.n_layers)
            if not self.idle:
                vector.check_layers(self.layers)
        if not self.vectors:
            raise DoseError("no vector given; give at least one")
        if self.mode != "ablate" and len(self.vectors) > 1:
            raise DoseError(f"mode '{self.mode}' takes one vector; mix several into one: 0.5 * v['calm'] + v['happy']")

    @property
    def idle(self) -> bool:
        """True if it leaves everything as it is, to the bit: dose 0 (a clamp at dose 0 still sets the projection)."""
        return bool(self.mode != "clamp" and self.dose.value == 0)

    def at(self, layer: int) -> Edit:
        """What it does at one of its layers."""
        return MODES[self.mode](self, layer)


def _add(what: Intervention, layer: int) -> Edit:
    return Edit(delta=displacement(what.vectors[0], what.dose)[layer])


def _ablate(what: Intervention, layer: int) -> Edit:
    return Edit(basis=what.dose.value**0.5 * span([v.at(layer) for v in what.vectors]))


def _clamp(what: Intervention, layer: int) -> Edit:
    vector = what.vectors[0]
    centre = torch.as_tensor(what.centre).expand(vector.n_layers)[layer]
    return Edit((centre + what.dose.length(vector)[layer]) * vector.at(layer), vector.at(layer)[None])


# a steering method is a function of an intervention and a layer; its name here is what `mode` takes everywhere
MODES: dict[str, Callable[[Intervention, int], Edit]] = {"add": _add, "ablate": _ablate, "clamp": _clamp}


def check_centre(centre: Centre, n_layers: int) -> None:
    """Raises DoseError unless this is a finite number, or one for each layer."""
    try:
        numbers = torch.as_tensor(centre, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise DoseError(f"centre {centre!r:.60} is no number; give one, or one per layer") from None
    if tuple(numbers.shape) not in ((), (n_layers,)) or not bool(torch.isfinite(numbers).all()):
        raise DoseError(
            f"centre has shape {list(numbers.shape)} and runs from {numbers.min():g} to {numbers.max():g}; "
            f"give a finite number, or one for each of {n_layers} layers"
            if numbers.numel()
            else "centre is empty; give a number"
        )


def check_mode(mode: str, dose: Dose) -> None:
    """Raises DoseError for an unknown mode, or a dose that it cannot take."""
    if not isinstance(mode, str) or mode not in MODES:
        raise DoseError(f"unknown mode {mode!r:.60}; use {', '.join(MODES)}")
    if mode == "ablate" and not 0 <= dose.value <= 1:
        raise DoseError(
            f"dose {dose.value:g} for mode 'ablate': it is the share of the projection taken out, from 0 to 1"
        )


def as_vectors(vectors: Vectors) -> tuple[EmotionVector, ...]:
    """One vector, several, or all of a set."""
    if isinstance(vectors, EmotionVector):
        return (vectors,)
    if isinstance(vectors, EmotionVectors):
        return tuple(vectors[emotion] for emotion in vectors.emotions)
    found = tuple(vectors) if isinstance(vectors, Iterable) and not isinstance(vectors, str) else (vectors,)
    if wrong := [v for v in found if not isinstance(v, EmotionVector)]:
        raise DoseError(f"{wrong[0]!r:.60} is no EmotionVector; give vectors['calm'], or a mixture of some")
    return found


def span(directions: Sequence[Float[Tensor, " d_model"]]) -> Float[Tensor, "k d_model"]:
    """Orthonormal rows that span the directions; k is their rank."""
    _, sizes, rows = torch.linalg.svd(torch.stack(list(directions)).double(), full_matrices=False)
    return rows[sizes > SAME * sizes.max().clamp_min(SAME)].float()


def stack_edits(edits: Sequence[Edit], d_model: int) -> Edit:
    """Edits of single rows as the edit of a batch; what a row lacks is filled with zeros, which do nothing."""
    rank = max((e.basis.shape[0] for e in edits if e.basis is not None), default=0)
    zero = torch.zeros(d_model)
    delta = torch.stack([zero if e.delta is None else e.delta for e in edits])
    if rank == 0:
        return Edit(delta)
    basis = torch.zeros(len(edits), rank, d_model)
    for row, edit in enumerate(edits):
        if edit.basis is not None:
            basis[row, : edit.basis.shape[0]] = edit.basis
    return Edit(delta, basis)


def projection_centre(acts: PooledActivations, vector: EmotionVector) -> Float[Tensor, " n_layers"]:
    """Mean projection of texts on a direction, per layer: the mean of the emotions' means (the origin of the natural
    unit), so that a clamp at dose 1 sets what an average text of the emotion has. `acts.of("neutral")` gives the
    neutral texts' own centre."""
    groups = acts.emotions or tuple(dict.fromkeys(str(e) for e in acts.emotion))
    means = torch.stack([acts.values[acts.emotion == e].mean(0) for e in groups]).mean(0)
    return (means * vector.direction).sum(-1)


# Which tokens are steered, and how a hook knows: it sees a slice of one forward pass, never the text.
#
# What a block's attention scores show is enough. As many keys as queries: a new prompt begins. More keys than queries:
# the text goes on from a cache. A masked diagonal: a pad. The scores are hooked in the first block, before the first
# `resid_post`, so every layer of a pass knows its positions. Both backends show them, in every generation loop.
Hook = tuple[str, Callable[..., Any]]
Positions = str | int | slice | Sequence[int]
NAMES = ("all", "generated", "prompt")


def check_positions(positions: Positions) -> Positions:
    """Raises DoseError unless these are positions (see `Tracker`)."""
    if isinstance(positions, str):
        if positions not in NAMES:
            raise DoseError(
                f"unknown positions '{positions}'; use {', '.join(NAMES)}, or positions of the prompt: 3, [0, -1], "
                "slice(2, 6)"
            )
        return positions
    try:
        if isinstance(positions, slice):
            positions.indices(1)
        elif not whole_numbers(positions):
            raise DoseError("no position given; give at least one, or 'all'")
    except (TypeError, ValueError) as error:
        raise DoseError(
            f"positions {positions!r:.60} are none ({error}); use 3, [0, -1], slice(2, 6) or 'all'"
        ) from None
    return positions


def _lengths(prompt_length: int | Sequence[int]) -> list[int]:
    """Raises DoseError unless these are numbers of tokens."""
    try:
        if (found := whole_numbers(prompt_length)) and min(found) > 0 and max(found) <= MOST:
            return found
    except (TypeError, ValueError):
        pass
    raise DoseError(f"prompt_length is {prompt_length!r:.60}; give the number of tokens of the prompt, or one per row")


class Tracker:
    """Counts the tokens of every row over the forward passes of a text, and says which of the present ones to steer.

    It starts anew with every prompt, so that one set of hooks serves any number of texts. Pads must be masked
    (`attention_mask`), as every generation loop does; then they are never counted, on whichever side they stand.

    positions:
        "all": every position of every pass.
        "generated": the last token of the prompt, from which the first new token is predicted, and all later ones.
        "prompt": the tokens of the prompt, its last one included; nothing after it.
        3, [0, -1], slice(2, 6): tokens of the prompt, counted from 0 over real tokens (BOS too), negative ones from
            the prompt's end; nothing after the prompt.
    prompt_length: real tokens of the prompt, one number or one per row. Needed only where a growing text is read again
        from its start at every step (no cache); otherwise the prompt is the first pass.
    """

    def __init__(self, positions: Positions = "all", prompt_length: int | Sequence[int] | None = None) -> None:
        self.positions = check_positions(positions)
        self.given = None if prompt_length is None else torch.tensor(_lengths(prompt_length)).squeeze()
        self._seen: Tensor | None = None  # real tokens per row so far
        self._length: Tensor | None = None  # real tokens of the prompt per row
        self._columns = 0  # tokens per row so far, pads counted
        self._mask: Tensor | None = None
        self._start: Tensor | None = None  # what the last prompt looked like, to notice a text read again
        self._incoming: Tensor | None = None

    def hooks(self) -> list[Hook]:
        """Hooks that must be in place beside the steering hooks; none for "all"."""
        if self.positions == "all":
            return []
        return [(get_act_name("resid_pre", 0), self._enter), (get_act_name("attn_scores", 0), self._count)]

    def steered(self, residual: Float[Tensor, "batch pos d_model"]) -> Bool[Tensor, "batch pos"] | None:
        """True where the present pass is to be steered; None for everywhere.

        Raises:
            UnsupportedModelError: the model shows no attention scores.
        """
        if self.positions == "all":
            return None
        if self._mask is None or self._mask.shape != residual.shape[:2]:
            raise UnsupportedModelError(
                "the model shows no attention scores of its first block, so positions cannot be told apart; load it "
                "with attn_implementation='eager' (lens_emotion.load_model does), or use positions='all'"
            )
        return self._mask.to(residual.device)

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Go on with these rows of the batch only."""
        if self._seen is not None and self._length is not None:
            self._seen, self._length = (x[rows.to(x.device)] for x in (self._seen, self._length))

    def _enter(self, residual: Float[Tensor, "batch pos d_model"], hook: Any) -> None:
        self._incoming = residual

    def _count(self, scores: Float[Tensor, "batch heads query key"], hook: Any) -> None:
        batch, _, new, keys = scores.shape
        if new == keys:
            self._begin(scores)
        elif self._seen is not None and len(self._seen) == batch and keys - new <= self._columns:
            self._go_on(new)
        else:
            self._join(batch, new, keys, scores.device)

    def _begin(self, scores: Float[Tensor, "batch heads query query"]) -> None:
        """A new prompt: no token attends to a pad, not even the pad itself."""
        real = scores[:, 0].diagonal(dim1=-2, dim2=-1) > torch.finfo(scores.dtype).min / 2
        self._refuse_growing(real)
        self._seen, self._columns = real.sum(1), real.shape[1]
        self._length = self._seen if self.given is None else self.given.to(real.device).expand(len(real))
        self._mask = self._choose(real.cumsum(1) - 1, self._length) & real

    def _go_on(self, new: int) -> None:
        assert self._seen is not None and self._length is not None
        index = self._seen[:, None] + torch.arange(new, device=self._seen.device)
        self._seen, self._columns = self._seen + new, self._columns + new
        self._mask = self._choose(index, self._length)

    def _join(self, batch: int, new: int, keys: int, device: torch.device) -> None:
        """A cache filled elsewhere: the prompt ends with this pass, but where it began is not known."""
        if not isinstance(self.positions, str) or self.given is not None:
            raise DoseError(
                "the model goes on from a cache that was filled outside of this steering, so positions cannot be "
                "counted; begin to steer before the prompt is read, or use positions 'all', 'generated' or 'prompt' "
                "without prompt_length"
            )
        self._length = torch.full((batch,), keys, device=device)
        self._seen, self._columns = self._length, keys
        self._mask = self._choose(torch.arange(keys - new, keys, device=device).expand(batch, new), self._length)

    def _choose(self, index: Int[Tensor, "batch pos"], length: Int[Tensor, " batch"]) -> Bool[Tensor, "batch pos"]:
        """Where the tokens of these indices are to be steered, for prompts of these lengths."""
        end = length[:, None]
        if self.positions == "generated":
            return index >= end - 1
        if self.positions == "prompt":
            return index < end
        chosen = [_of_prompt(self.positions, int(n)) for n in length]
        hit = [torch.isin(row, torch.tensor(c, device=row.device)) for row, c in zip(index, chosen, strict=True)]
        return torch.stack(hit)

    def _refuse_growing(self, real: Bool[Tensor, "batch pos"]) -> None:
        """A text that is read again from its start, one token longer, looks like a new prompt but is not one."""
        now, before, self._start = self._incoming, self._start, self._incoming
        if self.given is not None or now is None or before is None:
            return
        if now.shape[0] == before.shape[0] and now.shape[1] == before.shape[1] + 1 and torch.equal(now[:, :-1], before):
            raise DoseError(
                f"positions {self.positions!r}: the text grows by a token at a time without a key-value cache, so its "
                "prompt has no visible end; generate with the cache, or say how many tokens are prompt "
                "(prompt_length=...)"
            )


def _of_prompt(positions: Positions, length: int) -> list[int]:
    """Indices in a prompt of `length` tokens."""
    if isinstance(positions, slice):
        return list(range(*positions.indices(length)))
    assert not isinstance(positions, str)
    wanted = whole_numbers(positions)
    if bad := [p for p in wanted if not -length <= p < length]:
        raise DoseError(
            f"no position {bad[0]} in a prompt of {length} tokens: 0 to {length - 1}, or -{length} to -1; a slice "
            "takes what there is"
        )
    return [p % length for p in wanted]
