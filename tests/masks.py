"""Random masks for laws of pooling, seeded."""

from __future__ import annotations

import torch


def random_masks(n: int, least: int, width: int = 12, rows: int = 4):
    """Content masks with at least `least` true positions per row."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(n):
        mask = torch.rand(rows, width, generator=generator) < 0.5
        for row in mask:
            missing = least - int(row.sum())
            if missing > 0:
                row[torch.nonzero(~row).flatten()[:missing]] = True
        yield mask
