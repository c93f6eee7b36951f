"""For the tests of figures: one real result of every analysis that has one, planted or from a tiny model."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
from conftest import tiny
from planted import planted, twins

import lens_emotion as le
from lens_emotion.extraction.pooling import story_mean
from lens_emotion.steering.judges import word_count_judge, world_words
from lens_emotion.study.verdict import ALL_MODELS, NOT_TESTABLE, SUPPORTED, UNDETERMINED, Claim, Claims, Effect

SMALL = {"n_emotions": 5, "n_topics": 8, "n_layers": 4, "d_model": 24, "n_neutral": 8}


def read(seed=0, signal=1.5, method="comprehension", model="planted"):
    acts = planted(**SMALL, signal=signal, seed=seed).acts
    return replace(acts, header=replace(acts.header, method=method, model=model))


def two_methods():
    a, b = read(), read(signal=0.8, method="generation", seed=1)
    return b, a


def claims_result():
    return Claims((
        Claim("C1", "m<1>", SUPPORTED, "a <b>reason</b>", "s", Effect("accuracy, writing less reading", 0.2, 0.1, 0.3),
              "0", 0.01, "8 topics"),
        Claim("C1", "m2", UNDETERMINED, "wide", "s", Effect("accuracy, writing less reading", 0.1, -0.1, 0.3)),
        Claim("C1", ALL_MODELS, UNDETERMINED, "r", "s",
              Effect("accuracy, writing less reading", 0.15, 0.1, 0.2, over_models=True)),
        Claim("C6", "m2", SUPPORTED, "r", "s", Effect("explosive from dose (natural)", 4.0)),
        Claim("C6", ALL_MODELS, UNDETERMINED, "r", "s", Effect("variance of log onset", 1.1, 0.2, 24.0)),
        Claim("C8", ALL_MODELS, NOT_TESTABLE, "no pair", "s"),
    ))  # fmt: skip


def results_of(acts, vectors):
    """One result of every analysis that has a figure (those of test_plots.py have theirs there)."""
    a, b = two_methods()
    v = le.emotion_vectors(a)
    judge, scenes = word_count_judge(world_words("world-en")), le.scenarios("world-en")
    short = {"max_new_tokens": 12, "progress": False}
    steering = le.dose_response(tiny(), vectors, scenes[::4], judge, doses=(0.5, 3.0, 8.0), **short)
    grid = le.regime_map(tiny(), vectors, scenes[::8], judge, layers=[2, 4], doses=(0.1, 3.0, 8.0), **short)
    onsets = [
        (f, 100.0 * 2**i, 2.0 + i, 0.3 + 0.1 * i) for i, f in enumerate(("gpt2", "gpt2", "qwen", "qwen", "llama"))
    ]
    frame = pd.DataFrame(onsets, columns=["family", "size", "onset_natural", "onset_relative"])
    return {
        "compare": le.compare(a, b, n_permutations=50),
        "compare_models": le.compare_models([(f"m{i}", read(i), read(i, 0.5, "generation")) for i in range(3)]),
        "reliability": le.reliability(a, n_splits=5, n_permutations=20),
        "opposites": le.opposites(vectors, n_permutations=50),
        "rsa": le.rsa_activations(read(0), read(0, 1.0, model="other"), n_splits=3, n_permutations=50),
        "rsa_many": le.rsa_many([(f"m{i}", read(i)) for i in range(3)], n_splits=3, n_permutations=50),
        "rsa_human": le.rsa_human(vectors, n_permutations=50),
        "base_vs_instruct": le.base_vs_instruct(a, b, n_permutations=50, n_draws=50),
        "drift": le.drift(a, replace(a, values=a.values * 1.01 + 0.01)),
        "probe": le.probe(a, n_permutations=3, progress=False),
        "transfer": le.transfer(b, a, n_permutations=20),
        "transfer_within": le.transfer_within(a, "topic", n_permutations=10),
        "lens": le.lens(tiny(), vectors, n_random=30),
        "token_scores": le.token_scores(tiny(), vectors, "Anna ran. <b>Ben</b> cried.", ["happy", "sad"], acts=acts),
        "preview": le.preview(tiny(), "Anna laughed <i>and</i> Ben cried.", story_mean(3)),
        "claims": claims_result(),
        "regime_map": grid,
        "side_effects": steering.side_effects(3.0),
        "leakage": le.leakage(steering, world_words("world-en-zh", "zh")),
        "by_architecture": le.by_architecture(frame.assign(model=[f"m{i}" for i in range(5)]), n_draws=99),
        "layer_sweep": le.layer_sweep(a, n_permutations=20),
        "beyond_words": le.beyond_words(a, n_permutations=5),
        "twins_apart": le.twins_apart(*twins(1.0, own_words=False), n_permutations=20),
        "separation": le.separation(a, n_permutations=20),
        "decoding": le.decoding(a, n_permutations=20),
        "confusion": le.decoding(a, n_permutations=20),
        "anisotropy": le.anisotropy(a),
        "similarity": le.similarity(v),
        "circumplex": le.circumplex(vectors),
        "dose_response": steering,
    }  # fmt: skip
