"""Reading, writing and grids on any device, by one command: the table of benchmarks/README.md.

    python -m benchmarks.accelerator --shape 3b 8b --json benchmarks/accelerator.json --readme benchmarks/README.md
    python -m benchmarks.accelerator --shape FOLDER [--device cpu] [--dtype float32]      (a real model)

Shapes are random weights: times do not depend on them, and their logits are so flat that a nucleus is nearly the whole
vocabulary, which is where sampling is slowest. Nobody may stop early. Ways take turns, and the median counts.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

import lens_emotion as le
from benchmarks import reading
from benchmarks.measure import Call, Options, Row, Sample, facts, interleaved
from benchmarks.reading import BODY, HIDDEN
from benchmarks.steering_grid import PROMPTS
from benchmarks.subjects import tiny_tokenizer
from benchmarks.table import merged, read_json, text_table, write_json
from lens_emotion.extraction.while_writing import watch
from lens_emotion.models import decoding
from lens_emotion.models.access import Model
from lens_emotion.models.decoding import generate_tokens
from lens_emotion.models.loading import quiet_loading
from lens_emotion.models.placement import choose_device
from lens_emotion.models.prompting import encode, pad, pad_id
from lens_emotion.models.sampling import GREEDY, Sampling
from lens_emotion.steering.dose import Dose
from lens_emotion.steering.generate import Condition, generate_steered
from lens_emotion.steering.grid import steering_grid
from lens_emotion.vectors.emotion_vectors import EmotionVectors

NAME = "accelerator"
BEGIN, END = "<!-- begin of the accelerator's table: written by the command above it -->", "<!-- end of that table -->"
FLAT = Sampling(1.0, 0.9)
HF = "Hugging Face generate"
ALL_SHAPES: dict[str, dict[str, Any]] = {
    "3b": {
        "num_hidden_layers": 28, "hidden_size": 3072, "intermediate_size": 8192, "num_attention_heads": 24,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128256, "tie_word_embeddings": True,
    },
    "8b": {
        "num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
        "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128256, "tie_word_embeddings": False,
    },
    "tiny": {
        "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 1700, "tie_word_embeddings": True,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """How much is read and written: texts to read; rows of a batch, greedy and sampled; tokens; texts of the grids."""

    n_texts: int = 1260
    greedy: tuple[int, ...] = (8, 64, 256)
    sampled: tuple[int, ...] = (64, 256)
    watched: int = 64
    tokens: int = 64
    grids: tuple[tuple[int, int, int], ...] = ((20, 5, 1), (20, 5, 5))  # emotions, doses, layers: 404 and 2,004 texts
    alone: int = 4
    repeats: int = 3


ON_CPU = Sizes(24, (8, 32), (8, 32), 8, 16, ((5, 2, 1),), 2, 3)
TINY = Sizes(6, (2, 3), (2,), 2, 3, ((2, 1, 1),), 1, 1)

# One H100, bf16, torch 2.11, transformers 5.17, before this table had a command: ours, the other way.
BEFORE = {
    ("every layer read, against the bare body", "3b"): "1.656 / 1.234 s (1.34x as long)",
    ("every layer read, against the bare body", "8b"): "3.096 / 2.576 s (1.20x)",
    ("every layer read, against output_hidden_states", "3b"): "1.656 / 2.164 s",
    ("every layer read, against output_hidden_states", "8b"): "3.096 / 4.246 s",
    ("memory above the model while reading", "3b"): "627 / 576 MiB",
    ("memory above the model while reading", "8b"): "1,004 / 928 MiB",
    ("8 x 64 greedy", "3b"): "1.19 / 1.06 s",
    ("64 x 64 greedy", "3b"): "1.17 / 1.20 s",
    ("64 x 64 sampled", "3b"): "7.18 / 1.17 s",
    ("256 x 64 greedy", "3b"): "1.26 / 1.18 s",
    ("256 x 64 sampled", "3b"): "not finished after 60 s / 1.47 s",
    ("64 x 64 sampled, against greedy", "3b"): "7.18 / 1.17 s",
    ("256 x 64 sampled, against greedy", "3b"): "not finished after 60 s / 1.26 s",
    ("64 x 64 read while written, against written", "3b"): "1.34x as long",
    ("grid of 404 texts, against one by one", "8b"): "7,001 tokens/s (172 times one by one)",
    ("grid of 2,004 texts, against one by one", "8b"): "7,100 tokens/s",
    ("grid of 404 texts, against Hugging Face", "8b"): "7,001 tokens/s",
    ("grid of 2,004 texts, against Hugging Face", "8b"): "7,100 tokens/s",
}


def subject(shape: str, device: str, dtype: torch.dtype) -> tuple[Model, Any]:
    """A model on the Bridge, and the same weights (not a copy) in transformers alone with fused attention."""
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    if shape in ALL_SHAPES:
        config = LlamaConfig(**ALL_SHAPES[shape], max_position_embeddings=2048, bos_token_id=0, eos_token_id=1)
        config.architectures, config.dtype = ["LlamaForCausalLM"], dtype
        config._attn_implementation = "eager"  # what the Bridge needs; it uses fused attention where it can
        torch.manual_seed(0)
        with _default(dtype), torch.device(device):
            held = LlamaForCausalLM(config).eval()
        tokenizer = tiny_tokenizer()
    else:
        held = AutoModelForCausalLM.from_pretrained(shape, dtype=dtype, attn_implementation="eager").eval().to(device)
        tokenizer = AutoTokenizer.from_pretrained(shape)
    shared = {id(t): t for t in (*held.parameters(), *held.buffers())}
    plain = copy.deepcopy(held, shared)
    plain.set_attn_implementation("sdpa")
    name = f"random-{shape}" if shape in ALL_SHAPES else Path(shape).name
    with quiet_loading():
        model = TransformerBridge.boot_transformers(
            name, hf_model=held, tokenizer=tokenizer, dtype=dtype, device=device
        )
    model.lens_emotion_name = name
    return model.eval(), plain


@contextmanager
def _default(dtype: torch.dtype) -> Any:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def measured(shape: str, device: str, dtype: torch.dtype, sizes: Sizes) -> list[Row]:
    """All rows of one shape."""
    model, plain = subject(shape, device, dtype)
    with patch.object(decoding, "stop_ids", lambda model: torch.tensor([-1])):  # nobody may stop early
        found = _read(model, plain, sizes) + _written(model, plain, sizes) + _watched(model, sizes)
        found += [row for grid in sizes.grids for row in _grid(model, plain, grid, sizes)]
    where = torch.cuda.get_device_name() if device.startswith("cuda") else device
    note = f"{where}, {str(dtype).removeprefix('torch.')}"
    return [Row(**{**vars(row), "what": f"{row.what}, {Path(shape).name}", "note": note}) for row in found]


def _read(model: Model, plain: Any, sizes: Sizes) -> list[Row]:
    generator = torch.Generator().manual_seed(0)
    lengths = [20 + 37 * i % 100 for i in range(sizes.n_texts)]  # 69.5 tokens in the mean
    ids = [torch.randint(100, 1000, (n,), generator=generator).tolist() for n in lengths]
    readings = [reading.as_reading(row) for row in ids]
    ways: dict[str, Call] = {
        "ours": lambda: reading.read(model, readings),
        BODY: lambda: reading.body(model, plain, readings),
        HIDDEN: lambda: reading.hidden_states(plain, ids),
    }
    samples = interleaved(ways, sizes.repeats)
    what = "every layer read, against"
    return [
        Row.measured(NAME, f"{what} the bare body", samples, "ours", BODY, 1 / 1.10),
        Row.measured(NAME, f"{what} output_hidden_states", samples, "ours", HIDDEN, 1.0),
        *Row.peak(NAME, "memory above the model while reading", samples, "ours", BODY),
    ]


def _written(model: Model, plain: Any, sizes: Sizes) -> list[Row]:
    found = []
    for n in sorted({*sizes.greedy, *sizes.sampled}):
        prompts, size = _prompts(model, n), f"{n} x {sizes.tokens}"
        ways: dict[str, Call] = {"greedy": lambda p=prompts: generate_tokens(model, p, sizes.tokens)}
        ways[f"{HF}, greedy"] = lambda p=prompts: _theirs(model, plain, p, sizes.tokens, GREEDY)
        if n in sizes.sampled:
            ways["sampled"] = lambda p=prompts: generate_tokens(model, p, sizes.tokens, FLAT)
            ways["top_p = 1"] = lambda p=prompts: generate_tokens(model, p, sizes.tokens, Sampling(1.0))
            ways[f"{HF}, sampled"] = lambda p=prompts: _theirs(model, plain, p, sizes.tokens, FLAT)
        samples = interleaved(ways, sizes.repeats)
        found.append(Row.measured(NAME, f"{size} greedy", samples, "greedy", f"{HF}, greedy"))
        if n in sizes.sampled:
            found.append(Row.measured(NAME, f"{size} sampled", samples, "sampled", f"{HF}, sampled"))
            found.append(Row.measured(NAME, f"{size} sampled, against greedy", samples, "sampled", "greedy", 1 / 1.15))
            every = f"{size} sampled with top_p = 1, against greedy"
            found.append(Row.measured(NAME, every, samples, "top_p = 1", "greedy", 1 / 1.15))
    return found


def _prompts(model: Model, n: int) -> list[list[int]]:
    return [encode(model, PROMPTS[i % len(PROMPTS)]) for i in range(n)]


@torch.inference_mode()
def _theirs(model: Model, plain: Any, prompts: list[list[int]], n: int, how: Sampling) -> list[list[int]]:
    tokens, mask = (t.to(plain.device) for t in pad(prompts, pad_id(model), side="left"))
    settings: dict[str, Any] = {"max_new_tokens": n, "min_new_tokens": n, "pad_token_id": pad_id(model)}
    settings["do_sample"] = not how.greedy
    if not how.greedy:
        settings |= {"temperature": how.temperature, "top_p": how.top_p, "top_k": 0}
    return plain.generate(tokens, attention_mask=mask.long(), **settings)[:, tokens.shape[1] :].tolist()


def _watched(model: Model, sizes: Sizes) -> list[Row]:
    prompts = _prompts(model, sizes.watched)

    def while_writing() -> list[list[int]]:
        seen = watch(model, len(prompts), sizes.tokens)
        hooks: dict[str, Any] = {"fwd_hooks": seen.hooks, "on_keep": seen.keep, "read_last": True}
        return generate_tokens(model, prompts, sizes.tokens, **hooks)

    ways: dict[str, Call] = {"read": while_writing, "written": lambda: generate_tokens(model, prompts, sizes.tokens)}
    samples = interleaved(ways, sizes.repeats)
    what = f"{len(prompts)} x {sizes.tokens} read while written, against written"
    return [Row.measured(NAME, what, samples, "read", "written")]


def _grid(model: Model, plain: Any, size: tuple[int, int, int], sizes: Sizes) -> list[Row]:
    """Seconds for a thousand tokens: of the grid, one text at a time, and of Hugging Face's largest batch unsteered."""
    n_emotions, n_doses, n_sets = size
    vectors = _vectors(model, n_emotions)
    layers = [(layer % model.cfg.n_layers,) for layer in range(1, n_sets + 1)]
    doses, emotions = [1.0 + k for k in range(n_doses)], list(vectors.emotions)[:n_emotions]
    how: dict[str, Any] = {"positions": "generated", "max_new_tokens": sizes.tokens, "progress": False}
    n = len(PROMPTS) * (1 + n_emotions * n_doses * len(set(layers)))
    most = _prompts(model, max(sizes.greedy))
    single = [Condition(PROMPTS[i % 4], vectors[emotions[0]], Dose(1.0)) for i in range(sizes.alone)]
    tokens = {"grid": n, "one by one": len(single), HF: len(most)}
    ways: dict[str, Call] = {
        "grid": lambda: steering_grid(
            model, vectors, PROMPTS, emotions, layers, doses, controls=(), **how
        ),
        "one by one": lambda: [generate_steered(model, [c], layers[0], **how) for c in single],
        HF: lambda: _theirs(model, plain, most, sizes.tokens, GREEDY),
    }  # fmt: skip
    samples = {name: _per_thousand(s, tokens[name] * sizes.tokens) for name, s in _taken(ways, sizes).items()}
    what = f"grid of {n:,} texts, against"
    return [
        Row(**{**vars(Row.measured(NAME, f"{what} {words}", samples, "grid", way)), "unit": "s per 1,000 tokens"})
        for words, way in (("one by one", "one by one"), ("Hugging Face", HF))
    ]


def _taken(ways: dict[str, Callable[[], Any]], sizes: Sizes) -> dict[str, Sample]:
    return interleaved(ways, 1 if sizes.repeats == 1 else 2, warm_up=sizes.repeats > 1)


def _per_thousand(sample: Sample, tokens: int) -> Sample:
    return Sample(
        tuple(1000 * t / tokens for t in sample.times), sample.peaks, tuple(1000 * t / tokens for t in sample.cpu)
    )


def _vectors(model: Model, n_emotions: int) -> EmotionVectors:
    texts = le.load_stimuli("world-en", per_cell=1)
    chosen = texts.only(emotions=texts.emotions[:n_emotions], topics=texts.topics[:2])
    return le.emotion_vectors(le.extract_comprehension(model, chosen, progress=False))


def markdown(rows: Sequence[Row]) -> str:
    """The table: what was before, what is, and what is still to be measured."""
    here = {(row.what.rpartition(", ")[0], row.what.rpartition(", ")[2]): row for row in rows}
    lines = ["| what (ours against the other) | shape | before, one H100, bf16 | ours | other | ratio | goal | on |"]
    lines += ["| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for key in sorted(dict.fromkeys([*BEFORE, *here]), key=lambda key: (key[1], [*BEFORE, *here].index(key))):
        row, cells = here.get(key), ["to be measured", "", "", "", ""]
        if row is not None:
            met = "" if row.goal is None else f"{row.goal:.2f}x, {'met' if row.met else '**missed**'}"
            numbers = [f"{v:.3g} {row.unit}" for v in (row.ours, row.baseline) if v is not None]
            cells = [*numbers, f"{row.ratio:.2f}x", met, row.note]
        lines.append("| " + " | ".join([*key, BEFORE.get(key, ""), *cells]) + " |")
    return "\n".join(lines)


def write_readme(path: Path, rows: Sequence[Row]) -> None:
    """Put the table between its markers; raises ValueError if there are none."""
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{path} needs one line '{BEGIN}' and one '{END}' after it: the table goes between them")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    path.write_text(f"{before}{BEGIN}\n\n{markdown(rows)}\n\n{END}{after}", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accelerator", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--shape", nargs="+", default=["3b", "8b"], help="3b, 8b, tiny, or the folder of a model")
    parser.add_argument("--device", default=None, help="default: the accelerator where there is one")
    parser.add_argument("--dtype", default=None, help="default bfloat16 on an accelerator, float32 on a CPU")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="keep the rows there, beside those of other shapes")
    parser.add_argument("--readme", type=Path, help="write the table into this file, between its markers")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    device = str(choose_device(args.device))
    dtype = getattr(torch, args.dtype or ("float32" if device == "cpu" else "bfloat16"))
    rows: list[Row] = []
    for shape in args.shape:
        sizes = TINY if shape == "tiny" else ON_CPU if device == "cpu" else Sizes()
        rows += measured(shape, device, dtype, sizes)
    print(text_table(rows))
    if args.json:
        rows = merged(read_json(args.json)["rows"] if args.json.exists() else [], rows)
        write_json(args.json, facts(Options(models=tuple(args.shape), threads=args.threads)), rows, {})
    if args.readme:
        write_readme(args.readme, rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
