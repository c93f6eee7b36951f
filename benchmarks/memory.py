"""Memory while one batch is read, beyond the model's: ours, the bare Hugging Face body, the residuals of every layer.

Counted are the bytes of the tensors that live at once, operation by operation, so that the figure is the same in every
run. What libraries take for themselves (packed weights, work space) is in nobody's figure, and is the same for both:
they run the same operations.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.measure import Call, Options, Row
from benchmarks.reading import BODY, as_reading, body, read
from benchmarks.subjects import is_real, loaded, plain_model, texts, token_ids
from benchmarks.table import run_alone
from lens_emotion.models.access import Model
from lens_emotion.models.forward import budget_for

NAME = "memory"
GOAL = 1 / 1.5
NOTE = "live tensors; goal: at most 1.5 times these residuals"


def rows(options: Options) -> list[Row]:
    """Most bytes of tensors at once while a full batch is read."""
    found = []
    for name, model in loaded(options):
        found += _rows_of(name, model, plain_model(name, options), options)
    return found


def _rows_of(name: str, model: Model, plain: Any, options: Options) -> list[Row]:
    ids = max(token_ids(model, texts(16, is_real(options))), key=len)
    batch = [as_reading(ids)] * max(1, budget_for(model) // len(ids))
    positions = len(batch) * len(ids)
    named = model.cfg.n_layers * positions * model.cfg.d_model * model.cfg.dtype.itemsize / 2**20
    ours = peak_live(lambda: read(model, batch), model)
    bare = peak_live(lambda: body(model, plain, batch), plain)
    what = f"one batch of {positions} tokens read, {name}"
    return [
        Row(NAME, what, ours, named, "residuals of every layer", "MiB", GOAL, note=NOTE),
        Row(NAME, what, ours, bare, BODY, "MiB", note="what the pass itself needs"),
    ]


def peak_live(call: Call, model: nn.Module) -> float:
    """Most MiB of tensors that live at once while `call` runs, those of the model not counted."""
    call()  # what is made once is made
    seen = Live([*model.parameters(), *model.buffers()])
    with seen:
        call()
    return seen.peak / 2**20


class Live(TorchDispatchMode):
    """Counts the bytes of storages from the operation that makes them until they are let go."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.known = {t.untyped_storage()._cdata for t in known}
        self.sizes: dict[int, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = call(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self.known or key in self.sizes:
            return
        self.sizes[key] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._let_go, key)

    def _let_go(self, key: int) -> None:
        self.now -= self.sizes.pop(key, 0)


if __name__ == "__main__":
    run_alone(rows)
