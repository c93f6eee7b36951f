"""Figures: they carry the numbers of their result, say what they show, and hold their labels apart."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lens_emotion import plots
from lens_emotion.stimuli.emotions import EMOTIONS, valence_arousal

SIZES = [(1, 2), (12, 8), (36, 20)]


def layers(n: int) -> pd.DataFrame:
    index = np.arange(n)
    return pd.DataFrame({"layer": index, "depth": (index + 1) / n})


def bump(n: int, seed: int, low: float, high: float) -> np.ndarray:
    depth = (np.arange(n) + 1) / n
    noise = np.random.default_rng(seed).normal(0, 0.015, n)
    return low + (high - low) * np.exp(-((depth - 0.55) ** 2) / 0.05) + noise


def sweep_result(n: int = 24, seed: int = 0, high: float = 0.62) -> SimpleNamespace:
    value = bump(n, seed, 0.08, high)
    null = {"null_low": np.full(n, 0.02), "null_high": 0.09 + 0.01 * np.sin(np.arange(n))}
    p = np.where(value > 0.12, 0.001, 0.3)
    best = int(value.argmax())
    return SimpleNamespace(
        table=layers(n).assign(value=value, p=p, p_corrected=p, **null), metric="held-out accuracy",
        best_layer=best, best_depth=(best + 1) / n, best_depth_low=max(1 / n, (best - 2) / n),
        best_depth_high=min(1.0, (best + 3) / n), higher_is_better=True,
    )  # fmt: skip


def separation_result(n: int = 24, seed: int = 0, high: float = 0.6) -> SimpleNamespace:
    cosine = 0.9 - bump(n, seed + 1, 0.05, 0.5)
    accuracy = bump(n, seed, 0.06, high)
    table = layers(n).assign(
        mean_cosine=cosine, null_low=0.78, null_high=0.93, p=np.where(cosine < 0.78, 0.002, 0.4), accuracy=accuracy,
        chance=0.05, accuracy_p=np.where(accuracy > 0.1, 0.002, 0.5), reliability=bump(n, seed + 2, 0.3, 0.9),
    )  # fmt: skip
    return SimpleNamespace(table=table, n_texts=160)


def decoding_result(n: int = 24, k: int = 20, seed: int = 0) -> SimpleNamespace:
    rng = np.random.default_rng(seed)
    accuracy = bump(n, seed, 0.06, 0.6)
    table = layers(n).assign(
        accuracy=accuracy, macro_f1=accuracy - 0.02, chance=1 / k, null_mean=1 / k, null_low=0.02, null_high=0.09,
        p=0.001, p_corrected=np.where(accuracy > 0.12, 0.001, 0.2),
    )  # fmt: skip
    counts = rng.multinomial(8, [0.4 / k] * (k - 1) + [1 - 0.4 * (k - 1) / k], size=k)
    counts = np.stack([np.roll(row, i + 1) for i, row in enumerate(counts)])
    names = list(EMOTIONS[:k])
    confusion = pd.DataFrame(counts, index=names, columns=names)
    return SimpleNamespace(
        table=table, best_layer=int(accuracy.argmax()), best_accuracy=float(accuracy.max()), confusion=confusion,
        n_texts=8 * k,
    )  # fmt: skip


def anisotropy_result(n: int = 24, seed: int = 0) -> SimpleNamespace:
    raw = 0.95 - bump(n, seed, 0, 0.3)
    table = layers(n).assign(
        neutral_raw=raw, all_raw=raw - 0.04, neutral_centred=bump(n, seed + 1, -0.01, 0.02), random_matched=0.02
    )
    return SimpleNamespace(table=table)


def similarity_result(k: int = 20, seed: int = 0) -> SimpleNamespace:
    rng = np.random.default_rng(seed)
    norms = valence_arousal()
    valence = np.array([(norms[e].valence or 5) - 5 for e in EMOTIONS[:k]])
    x = valence[:, None] * rng.normal(size=12) * 0.3 + rng.normal(size=(k, 12))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    cosine = x @ x.T
    order = tuple(EMOTIONS[i] for i in np.argsort(valence))
    matrix = pd.DataFrame(cosine, index=EMOTIONS[:k], columns=EMOTIONS[:k])
    mean = float(cosine[~np.eye(k, dtype=bool)].mean())
    return SimpleNamespace(matrix=matrix, order=order, layer=12, mean_pairwise_cosine=mean)


def circumplex_result(k: int = 20, seed: int = 0) -> SimpleNamespace:
    rng = np.random.default_rng(seed)
    norms = valence_arousal()
    valence = [norms[e].valence if norms[e].valence is not None else np.nan for e in EMOTIONS[:k]]
    arousal = [norms[e].arousal if norms[e].arousal is not None else np.nan for e in EMOTIONS[:k]]
    pc1 = (np.nan_to_num(valence, nan=3) - 5) * 0.8 + rng.normal(0, 0.4, k)
    pc2 = (np.nan_to_num(arousal, nan=6) - 4.5) * 0.6 + rng.normal(0, 0.4, k)
    table = pd.DataFrame({"emotion": EMOTIONS[:k], "pc1": pc1, "pc2": pc2, "valence": valence, "arousal": arousal})
    pairs = [(c, n) for c in ("pc1", "pc2") for n in ("valence", "arousal")]
    rows = [{"component": c, "norm": n, "r": 0.8, "abs_r": 0.8, "p": 0.001, "n": k - 1} for c, n in pairs]
    return SimpleNamespace(table=table, correlations=pd.DataFrame(rows), explained=(0.31, 0.17), layer=12)


def dose_result(seed: int = 0, doses: tuple[float, ...] = (0, 0.5, 1, 2, 4, 6, 8, 12)) -> SimpleNamespace:
    rng = np.random.default_rng(seed)
    rows = []
    for condition in ("emotion", "random"):
        for i, dose in enumerate(doses):
            strong = i / (len(doses) - 1)
            rate = 0.05 + (0.85 * strong**0.6 if condition == "emotion" else 0.1 * strong) + rng.normal(0, 0.01)
            rate = float(np.clip(rate, 0, 1))
            regime = "inert" if strong < 0.3 else "surgical" if strong < 0.6 else "repetitive collapse"
            regime = "explosive" if strong > 0.9 else regime
            rows.append(
                {"dose": float(dose), "dose_relative": 0.093 * dose, "condition": condition, "n": 40,
                 "success_rate": rate, "success_low": max(0, rate - 0.12), "success_high": min(1, rate + 0.12),
                 "perplexity_ratio": float(np.exp(2.2 * strong**1.5)), "distinct_2": 0.9 - 0.4 * strong,
                 "loop_share": 0.3 * strong, "regime": regime}
            )  # fmt: skip
    return SimpleNamespace(
        table=pd.DataFrame(rows), layer=12, surgical_dose=2.0, judge="MiniLM sentence judge", judge_accuracy=0.61
    )


def every_figure(n: int = 24, k: int = 20, seed: int = 0) -> dict[str, go.Figure]:
    decoded = decoding_result(n, k, seed)
    return {
        "layer_sweep": plots.layer_sweep(sweep_result(n, seed)),
        "separation": plots.separation(separation_result(n, seed)),
        "decoding": plots.decoding(decoded),
        "confusion": plots.confusion(decoded),
        "anisotropy": plots.anisotropy(anisotropy_result(n, seed)),
        "similarity": plots.similarity(similarity_result(k, seed)),
        "circumplex": plots.circumplex(circumplex_result(k, seed)),
        "dose_response": plots.dose_response(dose_result(seed)),
    }
