"""What reading every layer costs on top of the bare Hugging Face body, and what the usual ways cost (time; see memory).

    python -m benchmarks.reading [--model FOLDER ...] [--full]

The bare body: no head, no hooks, the batches that we take. The usual ways: `output_hidden_states` of the model with
its head, and `run_with_cache` of everything; both in batches of 16 in the order given. Two sets of texts: natural
passages, and mixed lengths (10 to 400 tokens, log-uniform). The ideal for mixed lengths is the bare body on as many
tokens in rows of one length, so that nothing is padded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from benchmarks.measure import Call, Options, Row, Sample, interleaved, run_once
from benchmarks.subjects import hooked_twin, is_real, loaded, plain_model, texts, token_ids
from benchmarks.table import run_alone
from lens_emotion.extraction.activations import TextRecord
from lens_emotion.extraction.pooling import story_mean
from lens_emotion.extraction.reader import Reading, make_header, read_poolings
from lens_emotion.models.access import Model
from lens_emotion.models.forward import budget_for, plan_batches
from lens_emotion.models.prompting import TokenisedText, pad

NAME = "reading"
BODY, HIDDEN, EVERYTHING = "bare body", "output_hidden_states, head", "run_with_cache of everything"
BATCH = 16
SECONDS = 4.0  # that the bare body shall take at most: so many texts are read
SHORTEST, LONGEST, N_MIXED = 10, 400, 1000


def rows(options: Options) -> list[Row]:
    """Every layer of passages and of mixed lengths, against the bare body and the usual ways."""
    found = []
    for name, model in loaded(options):
        plain = plain_model(name, options)
        found += _passages(name, model, plain, options)
        found += _mixed(name, model, plain, options)
    return found


def _passages(name: str, model: Model, plain: Any, options: Options) -> list[Row]:
    ids = token_ids(model, texts(_affordable(plain, options), is_real(options)))
    readings = [as_reading(row) for row in ids]
    ways: dict[str, Call] = {
        "ours": lambda: read(model, readings),
        BODY: lambda: body(model, plain, readings),
        HIDDEN: lambda: hidden_states(plain, ids),
        EVERYTHING: lambda: everything(model, ids),
    }
    if (twin := hooked_twin(name, options)) is not None:
        ways["HookedTransformer"] = lambda: read(twin, readings)
    _agree(ways["ours"](), ways[HIDDEN]())
    samples = interleaved(ways, min(3, options.repeats), warm_up=False)  # the check above was the warm-up
    what = f"every layer of {len(ids)} passages ({sum(map(len, ids)):,} tokens), {name}"
    found = [
        Row.measured(NAME, what, samples, "ours", BODY, 1 / 1.10),
        Row.measured(NAME, what, samples, "ours", HIDDEN, 1.0, limit(samples, HIDDEN)),
        Row.measured(NAME, what, samples, "ours", EVERYTHING, 2.0, limit(samples, EVERYTHING)),
    ]
    if twin is not None:
        found.append(Row.measured(NAME, f"HookedTransformer: {what}", samples, "HookedTransformer", BODY))
    return found


def _mixed(name: str, model: Model, plain: Any, options: Options) -> list[Row]:
    n = N_MIXED if options.full else 40 if options.quick else 120
    lengths = mixed_lengths(n, model.cfg.n_ctx)
    readings, even = _random(lengths), _random([round(sum(lengths) / n)] * n)
    ways: dict[str, Call] = {"ours": lambda: read(model, readings), BODY: lambda: body(model, plain, even)}
    samples = interleaved(ways, 1 if options.full else 2, warm_up=False)
    whole = mixed_lengths(N_MIXED, model.cfg.n_ctx)
    note = (
        f"padding: {padding(lengths, model):.3f} tokens a real one here, {padding(whole, model):.3f} with 1,000 texts"
    )
    what = f"every layer of {n} texts of {min(lengths)} to {max(lengths)} tokens, {name}"
    row = Row.measured(NAME, what, samples, "ours", BODY, 1 / 1.15, note)
    return [replace(row, baseline_name=f"{BODY} without a pad")]


def limit(samples: Mapping[str, Sample], way: str) -> str:
    """What no way of reading that runs the body can exceed, in words."""
    return f"the bare body alone would be {samples[way].seconds / samples[BODY].seconds:.2f}x"


def _affordable(plain: Any, options: Options) -> int:
    """Texts that the bare body reads in about `SECONDS`."""
    if options.quick:
        return 20
    probe = torch.randint(5, 100, (4, 64), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        seconds = [run_once(lambda: plain.base_model(probe, use_cache=False)).seconds for _ in range(3)]
    return max(16, min(240, int(SECONDS / (min(seconds) / 4))))


def mixed_lengths(n: int, longest: int = LONGEST) -> list[int]:
    """n lengths from 10 to 400 tokens, spread evenly over their logarithm, in a fixed shuffled order."""
    top = min(LONGEST, longest - 1)
    steps = [SHORTEST * (top / SHORTEST) ** ((i + 0.5) / n) for i in range(n)]
    order = torch.randperm(n, generator=torch.Generator().manual_seed(0)).tolist()
    return [round(steps[i]) for i in order]


def padding(lengths: Sequence[int], model: Model) -> float:
    """Tokens that the batches hold over those that are real: what no implementation of padded batches gets below."""
    batches = plan_batches(list(lengths), budget_for(model))
    return sum(len(b) * max(lengths[i] for i in b) for b in batches) / math.fsum(lengths)


def _random(lengths: Sequence[int]) -> list[Reading]:
    generator = torch.Generator().manual_seed(0)
    return [as_reading(torch.randint(100, 1000, (n,), generator=generator).tolist()) for n in lengths]


def as_reading(ids: Sequence[int]) -> Reading:
    content = (False, *[True] * (len(ids) - 1))
    return Reading(TokenisedText(tuple(ids), content), TextRecord("x", "calm", "t", "x"))


def read(model: Model, readings: list[Reading]) -> torch.Tensor:
    header = make_header(model, "comprehension", "", "random tokens", "", allow_processed=False)
    return read_poolings(model, readings, [story_mean()], header, progress=False)[0].values


@torch.inference_mode()
def body(model: Model, plain: Any, readings: list[Reading]) -> None:
    """The Hugging Face model without its head, on the batches that reading takes, pads on the right and no mask."""
    for batch in plan_batches([len(r.tokens) for r in readings], budget_for(model)):
        tokens, _ = pad([readings[i].tokens.ids for i in batch], 0)
        plain.base_model(tokens.to(plain.device), use_cache=False)


@torch.inference_mode()
def hidden_states(plain: Any, ids: list[list[int]]) -> torch.Tensor:
    """As its documentation shows it: batches in the order given, the whole model, every hidden state, then a mean."""
    found = []
    for start in range(0, len(ids), BATCH):
        tokens, mask = (t.to(plain.device) for t in pad(ids[start : start + BATCH], 0))
        states = plain(tokens, attention_mask=mask.long(), output_hidden_states=True, use_cache=False).hidden_states
        content = mask.clone()
        content[:, 0] = False
        weights = content.float() / content.sum(1, keepdim=True)
        found.append(torch.stack([torch.einsum("bp,bpd->bd", weights, s.float()) for s in states[1:]], 1))
    return torch.cat(found)


@torch.inference_mode()
def everything(model: Model, ids: list[list[int]]) -> None:
    """`run_with_cache` without a filter of names, as most notebooks call it."""
    for start in range(0, len(ids), BATCH):
        tokens, mask = pad(ids[start : start + BATCH], 0)
        model.run_with_cache(tokens, attention_mask=mask.long())


def _agree(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Raises AssertionError unless the rows are the same; Hugging Face gives its last one after the final norm."""
    torch.testing.assert_close(ours[:, :-1], theirs[:, :-1], rtol=1e-3, atol=1e-3 * float(theirs.abs().mean()))


if __name__ == "__main__":
    run_alone(rows)
