"""Any hook on a part keeps its block as it is, of whatever kind it is."""

from __future__ import annotations

import pytest
from torch import nn

from lens_emotion.models.forward import _hooked

KINDS = ("forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook")


@pytest.mark.parametrize("kind", KINDS)
def test_a_hook_of_any_kind_is_one_until_it_is_removed(kind):
    part = nn.Linear(2, 2)
    assert not _hooked(part)
    handle = getattr(part, f"register_{kind}")(lambda *a: None)
    assert _hooked(part) and not _hooked(part, frozenset({handle.id}))
    handle.remove()
    assert not _hooked(part)
