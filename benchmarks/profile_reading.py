"""Where the time of reading goes, operation by operation: ours beside the bare body, run_with_cache and generation.

    python -m benchmarks.profile_reading [--model FOLDER ...] [--threads N]

Shares are of the processor time inside PyTorch's operators and of what Python does between them. The profiler itself
takes time at every operation, so that the shares of small operations are upper bounds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.measure import Options, add_options, options_from
from benchmarks.reading import as_reading, body, everything, hidden_states, read
from benchmarks.subjects import is_real, loaded, plain_model, texts, token_ids

GROUPS = {
    "matrix products": ("aten::addmm", "aten::mm", "aten::bmm", "aten::linear", "aten::matmul", "aten::_addmm", "mkl"),
    "attention": ("aten::_scaled_dot", "aten::scaled_dot", "aten::_softmax", "aten::softmax"),
    "copies": ("aten::copy_", "aten::clone", "aten::cat", "aten::contiguous", "aten::_to_copy", "aten::repeat"),
    "element by element": ("aten::mul", "aten::add", "aten::silu", "aten::gelu", "aten::pow", "aten::tanh", "aten::neg",
                           "aten::rsqrt", "aten::mean", "aten::native_layer_norm", "aten::sub", "aten::div"),
}  # fmt: skip
REST = "other operators"


def shares(call: Callable[[], Any]) -> dict[str, float]:
    """Seconds by kind of operation; what is left of the clock is Python and waiting."""
    call()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        start = time.perf_counter()
        call()
        seconds = time.perf_counter() - start
    out = dict.fromkeys((*GROUPS, REST), 0.0)
    for event in found.key_averages():
        kind = next((g for g, names in GROUPS.items() if event.key.startswith(names)), REST)
        out[kind] += event.self_cpu_time_total / 1e6
    return {**out, "Python between operators": max(0.0, seconds - sum(out.values())), "in all": seconds}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.profile_reading", description=(__doc__ or "").split(":")[0]
    )
    add_options(parser)
    options = options_from(parser.parse_args(arguments))
    torch.set_num_threads(options.threads)
    for name, model in loaded(options):
        _print(name, model, options)
    return 0


def _print(name: str, model: Any, options: Options) -> None:
    plain = plain_model(name, options)
    ids = token_ids(model, texts(16, is_real(options)))
    readings = [as_reading(row) for row in ids]
    ways: dict[str, Callable[[], Any]] = {
        "bare body": lambda: body(model, plain, readings),
        "ours": lambda: read(model, readings),
        "output_hidden_states": lambda: hidden_states(plain, ids),
        "run_with_cache": lambda: everything(model, ids),
    }
    found = {way: shares(call) for way, call in ways.items()}
    print(f"{name}, {len(ids)} texts, {sum(map(len, ids))} tokens, {options.threads} threads; seconds")
    print(f"{'':<26}" + "".join(f"{way:>22}" for way in ways))
    for kind in next(iter(found.values())):
        print(f"{kind:<26}" + "".join(f"{found[way][kind]:>22.3f}" for way in ways))


if __name__ == "__main__":
    sys.exit(main())
