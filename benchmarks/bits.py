"""What changes the last bits: the same texts read, and the same tables made, in other ways.

    python -m benchmarks.bits [MODEL ...] [--texts N] [--way WAY]      default the tiny five; names or folders

Per model and way, against float32 on a Bridge with one thread and the batches of a CPU: the largest distance of any
text's row at any layer as a share of its length, the largest change of any cell of three tables, and of held-out
accuracy; and how many of 24 stories (greedy) begin otherwise. Figures of one machine stand in docs/precision.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

import lens_emotion as le
from lens_emotion.models.catalog import TINY
from lens_emotion.models.decoding import generate_tokens
from lens_emotion.models.hooked import available
from lens_emotion.models.prompting import encode
from lens_emotion.run.inputs import texts_for

WAYS: dict[str, Mapping[str, Any]] = {
    "again": {},
    "two threads": {"threads": 2},
    "one text a batch": {"budget": 1},
    "HookedTransformer": {"backend": "hooked"},
    "bfloat16": {"dtype": "bfloat16"},
}


def measured(
    name: str, most: int, threads: int = 1, budget: int | None = None, backend: str = "bridge", dtype: str = "float32"
) -> tuple[le.PooledActivations, list[pd.DataFrame], list[list[int]]]:
    """Activations, tables and greedy stories of a model, read in one of the ways."""
    model = le.load_model(name, backend=backend, dtype=dtype, device="cpu")
    items = texts_for(name, None).items
    texts = le.StimulusSet("texts", items[:: -(-len(items) // most)])
    torch.set_num_threads(threads)
    with threadpool_limits(threads):
        acts = le.extract_comprehension(model, texts, token_budget=budget, progress=False)
        found = [f(acts, n_permutations=10) for f in (le.decoding, le.reliability, le.separation)]
        prompts = [tuple(encode(model, p.text)) for p in le.story_prompts()[::7][:24]]
        parts = [[p] for p in prompts] if budget else [prompts]
        stories = [list(new) for part in parts for new in generate_tokens(model, part, 24)]
    return acts, [f.table for f in found], stories


def apart(a: Any, b: Any) -> tuple[float, float, float, int]:
    """Of rows (relative), cells (absolute), accuracies (absolute), stories (number)."""
    x, y = a[0].values.double(), b[0].values.double()
    rows = float(((x - y).norm(dim=-1) / y.norm(dim=-1)).max())
    pairs = [(s.select_dtypes("number"), t.select_dtypes("number")) for s, t in zip(a[1], b[1], strict=True)]
    cells = max(float(np.nanmax(np.abs(s.to_numpy(float) - t.to_numpy(float)))) for s, t in pairs)
    accuracy = float((a[1][0]["accuracy"] - b[1][0]["accuracy"]).abs().max())
    return rows, cells, accuracy, sum(s != t for s, t in zip(a[2], b[2], strict=True))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", default=[spec.name for spec in TINY])
    parser.add_argument("--texts", type=int, default=150, help="at most so many, spread over the set")
    parser.add_argument("--way", choices=WAYS, help="this one alone")
    args = parser.parse_args()
    print("| model | way | states | tables | accuracy | stories of 24 |\n|---|---|---|---|---|---|")
    for name in args.models:
        reference = measured(name, args.texts)
        for way, options in WAYS.items():
            if args.way not in (None, way) or (options.get("backend") == "hooked" and not available()):
                continue
            rows, cells, accuracy, stories = apart(measured(name, args.texts, **options), reference)
            print(f"| {name} | {way} | {rows:.1e} | {cells:.1e} | {accuracy:.3g} | {stories} |", flush=True)


if __name__ == "__main__":
    main()
