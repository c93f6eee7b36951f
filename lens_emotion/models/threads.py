"""As many CPU threads as a model can use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lens_emotion.models.access import Model, device_of

SMALL = 256  # width below which threads wait for each other longer than they compute (measured on the tiny models)


@contextmanager
def fitting_threads(model: Model) -> Iterator[None]:
    """One CPU thread inside the block for models too small to share work, the user's setting otherwise and afterwards.

    On a busy machine the tiny models are up to ten times slower on two threads than on one.
    """
    before = torch.get_num_threads()
    if device_of(model).type == "cpu" and model.cfg.d_model < SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
