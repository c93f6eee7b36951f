"""Laws of the model itself: any weight is part of what identifies it, and conversion keeps what it computes."""

from __future__ import annotations

import torch

from lens_emotion.laws.subject import LawResult, Subject, found
from lens_emotion.models.access import architecture_of
from lens_emotion.models.conversion import deviations, tolerance, trace_of
from lens_emotion.models.identity import identity_of


@torch.no_grad()
def any_weight_counts(subject: Subject) -> LawResult:
    """Changing a row of any parameter tensor, one after the other, changes the model's fingerprint; with all of them
    put back it is what it was."""
    model = subject.model
    architecture, unnoticed, tried = architecture_of(model), [], 0
    before = identity_of(model, architecture)
    for name, held in dict((getattr(model, "original_model", None) or model).named_parameters()).items():
        row = held.data[held.shape[0] // 2 : held.shape[0] // 2 + 1] if held.dim() else held.data
        kept = row.clone()
        row.copy_(kept * 2 + 1 if held.is_floating_point() else kept ^ 1)
        if identity_of(model, architecture) == before:
            unnoticed.append(name)
        row.copy_(kept)
        tried += 1
    unnoticed += [] if identity_of(model, architecture) == before else ["what was put back"]
    note = f"unnoticed: {', '.join(unnoticed[:3])}" if unnoticed else f"{tried} tensors"
    return found(float(len(unnoticed)), 0.0, "tensors", note)


def blocks_compute_what_the_source_does(subject: Subject) -> LawResult:
    """Every block, given what the source's block is given, adds what that adds; so do embedding and head."""
    if subject.source is None:
        why = "the model was given as an object: its name or folder is needed to load its source"
        return LawResult("", float("nan"), 0.0, skipped=why)
    apart = deviations(subject.model, trace_of(*subject.source()))
    where, worst = max(apart, key=lambda pair: float("inf") if pair[1] != pair[1] else pair[1])
    return found(worst, tolerance(subject.model.cfg.dtype), note=f"worst at {where}")
