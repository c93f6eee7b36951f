"""What reading every layer costs on top of the bare Hugging Face body: no head, no hooks, the same batches.

    python -m benchmarks.extraction                                     # a tiny model
    python -m benchmarks.extraction --model FOLDER --json FILE --threads 1

Two sets of texts of random tokens: all of one length, and of mixed lengths. The ideal for mixed lengths is the bare
body on the same number of tokens cut into rows of one length, so that nothing is padded. The ways take turns; medians
of the ratios within a round. CPU seconds are given beside wall seconds, since a busy machine spoils the latter.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch

import lens_emotion as le
from lens_emotion.extraction import capture
from lens_emotion.extraction.activations import TextRecord
from lens_emotion.extraction.batching import budget_for, plan_batches
from lens_emotion.extraction.pooling import story_mean
from lens_emotion.extraction.reader import Reading, make_header, read_poolings
from lens_emotion.models import hooked
from lens_emotion.models.access import Model
from lens_emotion.models.loading import resolve
from lens_emotion.models.prompting import TokenisedText, pad

Ways = Mapping[str, Callable[[], Any]]
LENGTH = 128
LENGTHS = (16, 24, 40, 48, 64, 72, 96, 112, 128, 200)  # of the mixed texts, in turn


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    model, plain = load_pair(options.model)
    even, mixed = _readings([LENGTH] * options.texts), _readings([LENGTHS[i % 10] for i in range(options.texts)])
    ways = {
        "body": lambda: _body(model, plain, even),
        "body, masked": lambda: _body(model, plain, even, masked=True),
        "reading": lambda: _read(model, even),
        "whole Bridge": lambda: _whole(model, even),
        "body, mixed": lambda: _body(model, plain, mixed),
        "ideal": lambda: _body(model, plain, _readings(_rectangle(mixed))),
        "reading, mixed": lambda: _read(model, mixed),
        "reading, mixed, one big batch": lambda: _read(model, mixed, 10**9),
    }
    rows = {
        "reading all layers / bare body": ("reading", "body"),
        "reading all layers / bare body given a mask": ("reading", "body, masked"),
        "before: reading, no part steps aside / bare body": ("whole Bridge", "body"),
        "mixed lengths: reading / bare body, same batches": ("reading, mixed", "body, mixed"),
        "mixed lengths: reading / bare body without pads": ("reading, mixed", "ideal"),
        "mixed lengths, one batch / bare body without pads": ("reading, mixed, one big batch", "ideal"),
    }
    if hooked.available() and options.hooked:
        other = le.load_model(options.model, backend="hooked", device="cpu")
        ways["HookedTransformer"] = lambda: _read(other, even)
        rows["HookedTransformer: reading / bare body"] = ("HookedTransformer", "body")
    table = compared(ways, options.repeats)
    sizes = {"texts": options.texts, "tokens": LENGTH, "mixed_tokens": sum(len(r.tokens) for r in mixed)}
    show(options, table, rows, sizes)
    batch = even[: budget_for(model) // LENGTH]
    named = model.cfg.n_layers * LENGTH * len(batch) * model.cfg.d_model * 4
    if (peak := peak_bytes(lambda: _read(model, batch))) is not None:
        print(
            f"peak memory of one batch beyond the model / its named residuals: {peak / named:.2f} of {named >> 20} MiB"
        )


def peak_bytes(call: Callable[[], Any]) -> int | None:
    """What a call held at most beyond what was there before it; None where the system does not say (not Linux)."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        return None
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    reset.write_text("5")  # the high-water mark starts anew
    before = _field(status, "VmRSS")
    call()
    return _field(status, "VmHWM") - before


def _field(status: Path, name: str) -> int:
    return 1024 * int(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith(name)))


def load_pair(name: str) -> tuple[Model, Any]:
    """A Bridge, and the same model as plain Hugging Face with its default attention."""
    from transformers import AutoModelForCausalLM

    model = le.load_model(name, device="cpu")
    plain = AutoModelForCausalLM.from_pretrained(resolve(name).location, dtype=torch.float32)
    return model, plain.eval()


def compared(ways: Ways, repeats: int) -> dict[str, dict[str, Any]]:
    """Each way once to warm up, then in turns: wall and CPU seconds of every round."""
    table: dict[str, dict[str, Any]] = {name: {"wall": [], "cpu": []} for name in ways}
    for run in range(repeats + 1):
        for name, way in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            way()
            if run:
                table[name]["wall"].append(time.perf_counter() - wall)
                table[name]["cpu"].append(time.process_time() - cpu)
    return table


def show(
    options: argparse.Namespace, table: Mapping[str, Any], rows: Mapping[str, tuple[str, str]], sizes: Mapping[str, int]
) -> None:
    """Print the ratios, and write them with every round's seconds where `--json` says."""
    ratios = {}
    print(f"{'ratio':64} {'CPU':>7} {'wall':>7}   seconds of the baseline (CPU, wall)")
    for name, (ours, base) in rows.items():
        part = {k: median(a / b for a, b in zip(table[ours][k], table[base][k], strict=True)) for k in ("cpu", "wall")}
        ratios[name] = part | {"baseline": base}
        seconds = [median(table[base][k]) for k in ("cpu", "wall")]
        print(f"{name:64} {part['cpu']:7.3f} {part['wall']:7.3f}   {seconds[0]:.2f}, {seconds[1]:.2f}")
    for name, row in table.items():
        if "identical_texts" in row:
            print(f"{name}: {row['identical_texts']} of {sizes['rows']} texts as Hugging Face writes them")
    if options.json:
        report = {"model": options.model, "threads": options.threads, **sizes, "ratios": ratios, "rounds": dict(table)}
        options.json.write_text(json.dumps(report, indent=1))


def _readings(lengths: list[int]) -> list[Reading]:
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(100, 1000, (n,), generator=generator).tolist() for n in lengths]
    texts = [TokenisedText(tuple(row), (False, *[True] * (len(row) - 1))) for row in rows]
    return [Reading(text, TextRecord(str(i), "calm", "t", str(i))) for i, text in enumerate(texts)]


def _rectangle(readings: list[Reading]) -> list[int]:
    """The same number of tokens as rows of one length, their mean."""
    total = sum(len(r.tokens) for r in readings)
    return [round(total / len(readings))] * len(readings)


def _read(model: Model, readings: list[Reading], budget: int | None = None) -> Any:
    header = make_header(model, "comprehension", "", "random tokens", "", allow_processed=False)
    return read_poolings(model, readings, [story_mean()], header, budget, progress=False)


def _whole(model: Model, readings: list[Reading]) -> Any:
    with patch.object(capture, "shortcut", lambda *args, **more: nullcontext(False)):
        return _read(model, readings)


@torch.inference_mode()
def _body(model: Model, plain: Any, readings: list[Reading], masked: bool = False) -> None:
    """The Hugging Face model without its head, on the batches that reading takes."""
    for batch in plan_batches([len(r.tokens) for r in readings], budget_for(model)):
        tokens, mask = pad([readings[i].tokens.ids for i in batch], 0)
        plain.base_model(tokens, attention_mask=mask.long() if masked else None, use_cache=False)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="tiny-llama", help="name or folder")
    parser.add_argument("--json", type=Path, help="write the table there")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--texts", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--hooked", action="store_true", help="HookedTransformer too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
