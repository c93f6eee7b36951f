"""What writing costs on top of Hugging Face's `generate`, and what reading while writing adds to it.

    python -m benchmarks.generation                                     # a tiny model
    python -m benchmarks.generation --model FOLDER --json FILE --threads 1

Every way writes the same number of tokens to the same prompts, greedily; the texts must be identical. The ways take
turns; medians of the ratios within a round. CPU seconds are given beside wall seconds, since a busy machine spoils the
latter.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.extraction import compared, load_pair, show
from lens_emotion.extraction.while_writing import watch
from lens_emotion.models import decoding
from lens_emotion.models.access import Model
from lens_emotion.models.decoding import generate_tokens
from lens_emotion.models.prompting import encode, pad, pad_id

PROMPTS = (
    "The door opened and",
    "When I came home in the evening, I",
    "She read the letter twice before she",
    "On the way to the station, he",
)


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    model, plain = load_pair(options.model)
    prompts = [encode(model, PROMPTS[i % len(PROMPTS)]) for i in range(options.rows)]
    with patch.object(decoding, "stop_ids", lambda model: torch.tensor([-1])):  # nobody may stop early
        ways = _ways(model, plain, prompts, options.tokens)
        texts = {name: way() for name, way in ways.items()}
        table = compared(ways, options.repeats)
    for name, row in table.items():
        row["identical_texts"] = sum(a == b for a, b in zip(texts[name], texts["Hugging Face generate"], strict=True))
    rows = {
        "generation / Hugging Face generate": ("generation", "Hugging Face generate"),
        "before: generation, no part steps aside / Hugging Face generate": ("whole Bridge", "Hugging Face generate"),
        "extracting while writing / generation": ("while writing", "generation"),
        "writing, then reading again / generation": ("reread", "generation"),
    }
    show(options, table, rows, {"rows": options.rows, "tokens": options.tokens})


def _ways(model: Model, plain: Any, prompts: list[list[int]], n: int) -> dict[str, Callable[[], Any]]:
    tokens, mask = pad(prompts, pad_id(model), side="left")
    settings = {"max_new_tokens": n, "min_new_tokens": n, "do_sample": False, "pad_token_id": pad_id(model)}

    def theirs() -> list[list[int]]:
        with torch.inference_mode():
            return plain.generate(tokens, attention_mask=mask.long(), **settings)[:, tokens.shape[1] :].tolist()

    def whole() -> list[list[int]]:
        with patch.object(decoding, "shortcut", lambda *args, **more: nullcontext(False)):
            return generate_tokens(model, prompts, n)

    def while_writing() -> list[list[int]]:
        seen = watch(model, len(prompts), n)
        return generate_tokens(model, prompts, n, fwd_hooks=seen.hooks, on_keep=seen.keep, read_last=True)

    def reread() -> list[list[int]]:
        from lens_emotion.extraction.capture import residual_cache

        new = generate_tokens(model, prompts, n)
        residual_cache(model, *pad([[*p, *w] for p, w in zip(prompts, new, strict=True)], pad_id(model)))
        return new

    return {
        "Hugging Face generate": theirs,
        "generation": lambda: generate_tokens(model, prompts, n),
        "whole Bridge": whole,
        "while writing": while_writing,
        "reread": reread,
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="tiny-llama", help="name or folder")
    parser.add_argument("--json", type=Path, help="write the table there")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
