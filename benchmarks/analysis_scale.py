"""How long every analysis takes, and how much memory, on activations of the size of a real study.

    python benchmarks/analysis_scale.py --json scale.json
    python benchmarks/analysis_scale.py --texts 260 --layers 4 --width 64 --permutations 50

Texts are planted: 20 emotions crossed with topics, and neutral texts, with a common mean (anisotropy) and one rogue
dimension. Peak memory is the largest resident set of the whole process so far (getrusage), activations and libraries
included. `--laws` draws noise 500 times instead and prints the Kolmogorov-Smirnov p of the decoding p-values.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.stats import kstest

from lens_emotion.analysis.anisotropy import anisotropy
from lens_emotion.analysis.circumplex import circumplex
from lens_emotion.analysis.decoding import decoding
from lens_emotion.analysis.geometry import similarity
from lens_emotion.analysis.layers import layer_sweep
from lens_emotion.analysis.reliability import reliability
from lens_emotion.analysis.separation import separation
from lens_emotion.extraction.activations import Header, PooledActivations, TextRecord
from lens_emotion.stats.design import design_of, label_permutations
from lens_emotion.stimuli.emotions import EMOTIONS, NEUTRAL
from lens_emotion.vectors.recipes import emotion_vectors

if TYPE_CHECKING:  # the script also runs as a file, from where the package `benchmarks` cannot be seen
    from benchmarks.measure import Options, Row

HEADER = Header(
    model="planted",
    fingerprint="0" * 64,
    family="gpt2",
    backend="bridge",
    transformer_lens="none",
    dtype="float32",
    method="comprehension",
    pooling="story_mean(start=0)",
    stimuli="planted",
    stimuli_sha256="0" * 64,
)


def planted(n_emotional: int, n_neutral: int, n_layers: int, width: int, signal: float, seed: int) -> PooledActivations:
    """Emotions crossed with topics, one text each; the neutral texts have topics of their own."""
    emotions = EMOTIONS[: min(len(EMOTIONS), n_emotional // 2)]
    n_topics = n_emotional // len(emotions)
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(len(emotions)), n_topics)
    topic = np.tile(np.arange(n_topics), len(emotions))
    values = torch.empty(len(label) + n_neutral, n_layers, width)
    for layer in range(n_layers):

        def draw(*shape: int) -> np.ndarray:
            return rng.standard_normal((*shape, width), dtype=np.float32) / np.sqrt(width)

        rows = np.concatenate([signal * draw(len(emotions))[label] + draw(n_topics)[topic], draw(n_neutral)])
        rows += 2 * draw(len(rows)) + 10 * draw()
        rows[:, 0] += 5 * rng.standard_normal(len(rows), dtype=np.float32)
        values[:, layer] = torch.from_numpy(rows)
    names = [(emotions[k], f"topic{t}") for k, t in zip(label, topic, strict=True)]
    names += [(NEUTRAL, f"plain{i}") for i in range(n_neutral)]
    records = tuple(TextRecord(f"t{i}", emotion, topic, f"text {i}") for i, (emotion, topic) in enumerate(names))
    return PooledActivations(values, records, values.norm(dim=-1).mean(0), HEADER)


def steps(acts: PooledActivations, n: int) -> dict[str, Callable[[], Any]]:
    """Every analysis with n label permutations."""
    vectors = emotion_vectors(acts)
    found: dict[str, Callable[[], Any]] = {"decoding": lambda: decoding(acts, n)}
    for recipe in ("neutral", "centred", "neutral_pca"):
        found[f"separation ({recipe})"] = lambda recipe=recipe: separation(acts, recipe, n)
    found["reliability"] = lambda: reliability(acts, n_permutations=n)
    found["layer sweep of reliability"] = lambda: layer_sweep(acts, "reliability", n)
    found["anisotropy"] = lambda: anisotropy(acts)
    found["similarity, all layers"] = lambda: [similarity(vectors, layer) for layer in range(acts.n_layers)]
    found["circumplex, all layers"] = lambda: [circumplex(vectors, i, max(n, 100)) for i in range(acts.n_layers)]
    return found


def peak_gb() -> float:
    """Largest resident set so far, in 10^9 bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def measure(acts: PooledActivations, n_permutations: int, only: list[str], show: bool = True) -> list[dict[str, Any]]:
    rows = []
    for name, run in steps(acts, n_permutations).items():
        if only and not any(part in name for part in only):
            continue
        start, cpu = time.perf_counter(), time.process_time()
        run()
        seconds, busy = time.perf_counter() - start, time.process_time() - cpu
        rows.append({"step": name, "seconds": seconds, "cpu_seconds": busy, "peak_gb": peak_gb()})
        if show:
            print(f"{name:28s} {seconds:8.1f} s  {busy:8.1f} s of processor  peak {peak_gb():5.2f} GB", flush=True)
    return rows


def uniform_under_the_null(n_draws: int) -> float:
    """KS p of decoding p-values on noise, ties between accuracies broken at random (accuracy is coarse)."""
    rng, p = np.random.default_rng(0), []
    for seed in range(n_draws):
        result = decoding(planted(24, 0, 1, 8, 0.0, seed), 19, seed)
        observed, null = result.table["accuracy"][0], result.null[:, 0]
        above, ties = (null > observed).sum(), (null == observed).sum()
        p.append((above + rng.random() * (ties + 1)) / (len(null) + 1))
    return float(kstest(p, "uniform").pvalue)


def plain_decoding(acts: PooledActivations, n_permutations: int, seed: int) -> np.ndarray:
    """Accuracies [1 + n_permutations, n_layers] as one would write them in NumPy: loops over layers, labels, folds."""
    design = design_of(acts)
    labels = np.concatenate([design.label[None], label_permutations(design, n_permutations, seed)])
    values = acts.emotional.values.double().numpy()
    found = np.empty((len(labels), acts.n_layers))
    for layer in range(acts.n_layers):
        for row, label in enumerate(labels):
            found[row, layer] = np.mean(_held_out(values[:, layer], label, design.fold) == label)
    return found


def _held_out(x: np.ndarray, label: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """The class of every text by the nearest centroid on centred cosine, from the texts of the other folds."""
    found = np.empty(len(x), dtype=int)
    for k in range(fold.max() + 1):
        train, test = fold != k, fold == k
        centre = x[train].mean(0)
        one_hot = np.eye(label.max() + 1)[label[train]]
        centroids = (one_hot / one_hot.sum(0)).T @ x[train] - centre
        left = x[test] - centre
        cosines = left @ (centroids / np.linalg.norm(centroids, axis=1, keepdims=True)).T
        found[test] = cosines.argmax(1)
    return found


def rows(options: Options) -> list[Row]:
    """Decoding with its permutations against plain NumPy, and every analysis once at a reduced size."""
    from benchmarks.measure import Row, interleaved

    n_layers, width, n = (2, 64, 5) if options.quick else (32, 768, 1000) if options.full else (4, 768, 50)
    acts = planted(240, 12, n_layers, width, 1.0, options.seed)
    ours, plain = decoding(acts, n, options.seed), plain_decoding(acts, n, options.seed)
    if not np.allclose(ours.table["accuracy"], plain[0]) or not np.allclose(ours.null, plain[1:]):
        raise AssertionError("decoding and the plain NumPy loop do not give the same accuracies")
    name = "NumPy, loops over layers, labels and folds"
    calls = {"ours": lambda: decoding(acts, n), name: lambda: plain_decoding(acts, n, options.seed)}
    samples = interleaved(calls, 1 if options.full else 3, warm_up=False)
    size = f"240 texts, {n_layers} layers of {width}, {n} permutations"
    note = "both grow alike with layers and permutations; the same accuracies to the last text"
    found = [
        Row.measured(
            "analysis_scale", f"decoding: {size}", samples, "ours", name, None if options.quick else 10.0, note
        )
    ]
    for step in measure(acts, n, [], show=False):
        found.append(Row("analysis_scale", f"{step['step']}: {size}", step["seconds"], note="once"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=1260, help="one in 21 neutral, but at least 3")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--width", type=int, default=3072)
    parser.add_argument("--permutations", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=0, help="0 leaves torch's own")
    parser.add_argument("--only", nargs="*", default=[], help="steps whose name contains one of these")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--laws", action="store_true")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.laws:
        print(f"KS p of 500 decoding p-values under the null: {uniform_under_the_null(500):.3f}")
        return
    n_neutral = max(3, args.texts // 21)
    acts = planted(args.texts - n_neutral, n_neutral, args.layers, args.width, 1.0, 0)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    size = acts.values.numel() * 4 / 1e9
    print(
        f"{acts!r}: {size:.2f} GB; {args.permutations} permutations; {torch.get_num_threads()} threads; load {load:.1f}"
    )
    rows = measure(acts, args.permutations, args.only)
    total = sum(row["seconds"] for row in rows)
    print(f"{'all':28s} {total:8.1f} s, peak {peak_gb():.2f} GB")
    if args.json:
        facts = {"texts": len(acts), "layers": args.layers, "width": args.width, "permutations": args.permutations}
        facts |= {"threads": torch.get_num_threads(), "load": load, "seconds": total, "peak_gb": peak_gb()}
        args.json.write_text(json.dumps({**facts, "steps": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
