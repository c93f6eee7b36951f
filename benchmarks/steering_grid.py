"""How much a grid of steered texts gains from being run as large batches, against one condition at a time with a cache.

    python benchmarks/steering_grid.py                                  # a tiny model, the whole grid both ways
    python benchmarks/steering_grid.py --model FOLDER --vectors FILE --one-emotions 5 --one-doses 2 --one-prompts 2

The one-by-one way may be run on a part of the grid; its time for the whole is then extrapolated by the number of texts,
and the output says so. Greedy texts of both ways must be identical.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import lens_emotion as le
from lens_emotion.models.access import Model
from lens_emotion.steering.dose import Dose
from lens_emotion.steering.generate import Condition, generate_steered
from lens_emotion.steering.grid import GridResult, steering_grid
from lens_emotion.vectors.emotion_vectors import EmotionVectors

if TYPE_CHECKING:  # the script also runs as a file, from where the package `benchmarks` cannot be seen
    from benchmarks.measure import Options, Row

PROMPTS = (
    "The door opened and",
    "When I came home in the evening, I",
    "She read the letter twice before she",
    "On the way to the station, he",
)
DOSES = (0.5, 1.0, 2.0, 3.0, 4.0)


def rows(options: Options) -> list[Row]:
    """A grid of emotions, doses and prompts in large batches against one condition at a time, both with a cache."""
    from benchmarks.measure import Row
    from benchmarks.subjects import loaded

    found = []
    for name, model in loaded(options):
        small = model.cfg.d_model < 512
        settings = _options([])
        settings.tokens = 8 if options.quick else 32 if small else 16
        settings.one_emotions, settings.one_doses, settings.one_prompts = (5, 2, 1) if options.quick else (5, 2, 2)
        report = _both_ways(model, _vectors(model, bool(options.models)), settings)
        note = f"{report['one_by_one_texts']} of {report['texts']} texts one by one, the rest extrapolated; "
        note += f"{report['identical_texts']} identical"
        what = f"{report['texts']} steered texts of {settings.tokens} tokens, {name}"
        times = (report["batched_s"], report["one_by_one_s_for_all"])
        found.append(Row("steering_grid", what, *times, "one by one, with a cache", goal=4.0, note=note))
    return found


def main() -> None:
    options = _options()
    model = le.load_model(options.model, backend=options.backend)
    vectors = EmotionVectors.load(options.vectors) if options.vectors else _own_vectors(model)
    report = _both_ways(model, vectors, options)
    print(json.dumps(report) if options.json else "\n".join(f"{k}: {v}" for k, v in report.items()))
    same, n = report["identical_texts"].split(" of ")
    if same != n:
        raise SystemExit(f"{int(n) - int(same)} of {n} greedy texts differ between the two ways")


def _both_ways(model: Model, vectors: EmotionVectors, options: argparse.Namespace) -> dict[str, Any]:
    result, batched = _timed(lambda: _batched(model, vectors, options))
    steered = result.table[result.table.condition == "emotion"]
    part = steered[
        steered.emotion.isin(list(vectors.emotions)[: options.one_emotions])
        & steered.dose.isin(DOSES[-options.one_doses :])
        & steered.prompt.isin(PROMPTS[: options.one_prompts])
    ]
    alone, one_by_one = _timed(lambda: [_alone(model, vectors, row, options) for row in part.itertuples()])
    same = sum(result.new_ids[i] == ids for i, ids in zip(part.index, alone, strict=True))
    return _report(model, result, options, batched, one_by_one, len(part), same)


def _options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="tiny-llama", help="name or folder")
    parser.add_argument("--backend", default="auto", choices=("auto", "bridge", "hooked"))
    parser.add_argument(
        "--vectors", type=Path, help="vectors of that model; made from the world's stories if not given"
    )
    parser.add_argument("--positions", default="generated", choices=("all", "generated"))
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--token-budget", type=int, default=16384, help="padded tokens of a batch")
    parser.add_argument("--one-emotions", type=int, default=20, help="one-by-one: how many emotions of the grid")
    parser.add_argument("--one-doses", type=int, default=5, help="one-by-one: how many doses, the strongest")
    parser.add_argument("--one-prompts", type=int, default=4, help="one-by-one: how many prompts")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    return parser.parse_args(arguments)


def _vectors(model: Model, real: bool) -> EmotionVectors:
    """Vectors good enough to push along: from a few topics."""
    chosen = le.load_stimuli("passages") if real else le.load_stimuli("world-en", per_cell=1)
    return le.emotion_vectors(le.extract_comprehension(model, chosen.only(topics=chosen.topics[:3]), progress=False))


def _own_vectors(model: Model) -> EmotionVectors:
    return le.emotion_vectors(le.extract_comprehension(model, le.load_stimuli("world-en", per_cell=1)))


def _batched(model: Model, vectors: EmotionVectors, options: argparse.Namespace) -> GridResult:
    return steering_grid(
        model,
        vectors,
        PROMPTS,
        doses=DOSES,
        positions=options.positions,
        controls=(),
        max_new_tokens=options.tokens,
        token_budget=options.token_budget,
    )


def _alone(model: Model, vectors: EmotionVectors, row: Any, options: argparse.Namespace) -> tuple[int, ...]:
    condition = Condition(row.prompt, vectors[row.emotion], Dose(row.dose), int(row.seed), row.layers)
    settings = {"max_new_tokens": options.tokens, "positions": options.positions, "progress": False}
    return generate_steered(model, [condition], (), **settings)[0].new_ids


def _timed(run: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    result = run()
    return result, time.perf_counter() - start


def _report(
    model: Model, result: GridResult, options: argparse.Namespace, batched: float, alone: float, n_alone: int, same: int
) -> dict[str, Any]:
    n = len(result)
    n_steered = int((result.table.condition == "emotion").sum())
    whole = alone * n / n_alone  # the unsteered texts take as long
    return {
        "model": le.describe(model).name,
        "backend": le.describe(model).backend,
        "device": str(model.cfg.device),
        "threads": torch.get_num_threads(),
        "positions": options.positions,
        "texts": n,
        "tokens_per_text": options.tokens,
        "batched_s": round(batched, 2),
        "one_by_one_texts": n_alone,
        "one_by_one_s": round(alone, 2),
        "one_by_one_s_for_all": round(whole, 2),
        "extrapolated": n_alone < n_steered,
        "ratio": round(whole / batched, 2),
        "identical_texts": f"{same} of {n_alone}",
    }


if __name__ == "__main__":
    main()
