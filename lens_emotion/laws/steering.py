"""Laws of steering: what a dose does, and what it leaves alone."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import Tensor

from lens_emotion.laws.reading import states_alone, states_together
from lens_emotion.laws.subject import LawResult, Subject, deviation, found
from lens_emotion.models.access import Model, device_of
from lens_emotion.models.decoding import make_decoder
from lens_emotion.steering.dose import Dose
from lens_emotion.steering.hooks import Intervention, RowEdits
from lens_emotion.steering.steer import steer

HALF = Dose(0.5, "relative")  # of the mean residual norm: far enough to be seen behind rounding in every layer


@torch.inference_mode()
def dose_zero_is_identity(subject: Subject) -> LawResult:
    """Logits under dose 0 are those of the unsteered model, to the bit, in every mode that adds or takes out."""
    tokens = torch.tensor([subject.ids[0]], device=device_of(subject.model))
    before, wrong = subject.model(tokens), 0
    for mode in ("add", "ablate"):
        with steer(subject.model, subject.vector, 0, layers="all", mode=mode):
            wrong += int((subject.model(tokens) != before).sum())
    return found(float(wrong), 0.0, "logits")


def adding_moves_the_projection(subject: Subject) -> LawResult:
    """Adding a·v at a layer moves the projection on v there by a: an error is a share of a or of the state."""
    model, ids, vector = subject.model, subject.ids[0], subject.vector
    before, worst = states_alone(model, ids), []
    for layer in sorted({0, subject.n_layers // 2, subject.n_layers - 1}):
        a, v = float(HALF.length(vector)[layer]), vector.at(layer).double()
        with steer(model, vector, HALF, layers=layer):
            after = states_alone(model, ids)
        plain, steered = (x[layer].double().cpu() for x in (before, after))
        scale = plain.norm(dim=-1).clamp_min(abs(a))
        worst.append((((steered - plain) @ v - a).abs() / scale).max())
    return found(float(torch.stack(worst).max()), subject.tolerance)


@torch.inference_mode()
def cached_equals_uncached(subject: Subject) -> LawResult:
    """Logits of cached decoding are those of the whole text read anew, unsteered, steered, and steered by position."""
    model, worst = subject.model, []
    prompt, following = list(subject.ids[0]), list(subject.ids[1])[-3:]
    steps = [torch.tensor([ids], device=device_of(model)) for ids in (prompt, *([t] for t in following))]
    for positions in (None, "all", "generated"):
        with ExitStack() as steered:
            if positions is not None:
                steered.enter_context(steer(model, subject.vector, HALF, positions=positions))
            decoder = make_decoder(model, 1)
            cached = [decoder.step(ids, torch.ones_like(ids, dtype=torch.bool))[0] for ids in steps]
        for k, logits in enumerate(cached):
            worst.append(deviation(logits, _uncached_logits(subject, prompt, following[:k], positions)))
    return found(float(torch.tensor(worst).max()), subject.tolerance)


def _uncached_logits(subject: Subject, prompt: list[int], following: list[int], positions: str | None) -> Tensor:
    tokens = torch.tensor([prompt + following], device=device_of(subject.model))
    if positions is None:
        return subject.model(tokens)[0, -1]
    known = len(prompt) if positions == "generated" else None
    with steer(subject.model, subject.vector, HALF, positions=positions, prompt_length=known):
        return subject.model(tokens)[0, -1]


def rows_equal_row_by_row(subject: Subject) -> LawResult:
    """A batch whose rows are steered differently equals its rows, each steered alone."""
    model, n = subject.model, subject.n_layers
    vectors = [subject.vectors[emotion] for emotion in subject.vectors.emotions]
    done: list[Intervention | None] = [None]
    for row in range(1, len(subject.ids)):
        layers = ((row * n) // len(subject.ids), n - 1)
        mode = "ablate" if row == 2 else "add"
        dose = Dose(1.0) if mode == "ablate" else Dose(0.2 * row, "relative")
        done.append(Intervention((vectors[row % len(vectors)],), dose, layers, mode))
    with model.hooks(fwd_hooks=RowEdits(done, model.cfg.d_model).hooks()):
        together = states_together(subject, "right")
    worst = []
    for states, ids, one in zip(together, subject.ids, done, strict=True):
        with ExitStack() as steered:
            if one is not None:
                steered.enter_context(steer(model, one.vectors, one.dose, layers=one.layers, mode=one.mode))
            worst.append(deviation(states, states_alone(model, ids)))
    return found(float(torch.tensor(worst).max()), subject.tolerance)


@torch.inference_mode()
def hooks_are_gone(subject: Subject) -> LawResult:
    """After an exception under steering no hook is left and the model answers as before, to the bit."""
    model = subject.model
    tokens = torch.tensor([subject.ids[0]], device=device_of(model))
    before, count = model(tokens), _hooks(model)
    try:
        with steer(model, subject.vector, HALF, layers="all", positions="generated"):
            model(tokens)
            raise InterruptedError
    except InterruptedError:
        left = _hooks(model) - count
    wrong = int((model(tokens) != before).sum())
    note = f"{left} hooks left, {wrong} logits changed" if left or wrong else ""
    return found(float(max(left, wrong)), 0.0, "hooks, logits", note)


def _hooks(model: Model) -> int:
    return sum(len(point.fwd_hooks) for point in model.hook_dict.values())
