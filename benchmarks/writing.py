"""What writing costs on top of Hugging Face's `generate`, and what reading while writing adds to it.

    python -m benchmarks.writing [--model FOLDER ...]

Every way writes as many tokens to the same prompts, greedily; how many of the texts are identical stands in the note.
"""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch

from benchmarks.measure import Call, Options, Row, interleaved
from benchmarks.subjects import loaded, plain_model
from benchmarks.table import run_alone
from lens_emotion.extraction.while_writing import watch
from lens_emotion.models import decoding
from lens_emotion.models.access import Model
from lens_emotion.models.decoding import generate_tokens
from lens_emotion.models.forward import residual_cache
from lens_emotion.models.prompting import encode, pad, pad_id

NAME = "writing"
OURS, WATCHED, REREAD, THEIRS = "writing", "reading while writing", "writing, then reading", "Hugging Face generate"
PROMPTS = (
    "The door opened and",
    "When I came home in the evening, I",
    "She read the letter twice before she",
    "On the way to the station, he",
)


def rows(options: Options) -> list[Row]:
    """Writing against Hugging Face's generate, and reading while writing against writing alone."""
    n_rows, n_tokens = (4, 8) if options.quick else (8, 32)
    found = []
    with patch.object(decoding, "stop_ids", lambda model: torch.tensor([-1])):  # nobody may stop early
        for name, model in loaded(options):
            found += _rows_of(name, model, plain_model(name, options), n_rows, n_tokens, options)
    return found


def _rows_of(name: str, model: Model, plain: Any, n_rows: int, n_tokens: int, options: Options) -> list[Row]:
    prompts = [encode(model, PROMPTS[i % len(PROMPTS)]) for i in range(n_rows)]
    ways = _ways(model, plain, prompts, n_tokens)
    texts = {way: call() for way, call in ways.items()}
    same = sum(a == b for a, b in zip(texts[OURS], texts[THEIRS], strict=True))
    samples = interleaved(ways, min(3, options.repeats), warm_up=False)  # the texts above were the warm-up
    what = f"{n_rows} texts of {n_tokens} tokens, {name}"
    read_too = f"written and read while it is written, every layer: {what}"
    identical = f"{same} of {n_rows} texts identical"
    return [
        Row.measured(NAME, what, samples, OURS, THEIRS, 1 / 1.10, identical),
        Row.measured(NAME, read_too, samples, WATCHED, OURS, 1 / 1.10),
        Row.measured(NAME, read_too, samples, WATCHED, REREAD, 1.0),
    ]


def _ways(model: Model, plain: Any, prompts: list[list[int]], n: int) -> dict[str, Call]:
    tokens, mask = pad(prompts, pad_id(model), side="left")
    settings = {"max_new_tokens": n, "min_new_tokens": n, "do_sample": False, "pad_token_id": pad_id(model)}

    def theirs() -> list[list[int]]:
        with torch.inference_mode():
            return plain.generate(tokens, attention_mask=mask.long(), **settings)[:, tokens.shape[1] :].tolist()

    def while_writing() -> list[list[int]]:
        seen = watch(model, len(prompts), n)
        return generate_tokens(model, prompts, n, fwd_hooks=seen.hooks, on_keep=seen.keep, read_last=True)

    def reread() -> list[list[int]]:
        new = generate_tokens(model, prompts, n)
        residual_cache(model, *pad([[*p, *w] for p, w in zip(prompts, new, strict=True)], pad_id(model)))
        return new

    return {THEIRS: theirs, OURS: lambda: generate_tokens(model, prompts, n), WATCHED: while_writing, REREAD: reread}


if __name__ == "__main__":
    run_alone(rows)
