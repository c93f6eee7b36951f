"""Two methods compared in pairs: a planted advantage is found, none is made up, and drift is measured."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from planted import HEADER, planted, pooled
from scipy.stats import kstest, mannwhitneyu, ttest_1samp, wilcoxon

from lens_emotion.analysis.compare import (
    JEONG,
    PAIRED,
    RANKS,
    Contributions,
    compare,
    compare_models,
    cosine_contributions,
    mean_cosines,
)
from lens_emotion.analysis.decoding import decoding
from lens_emotion.analysis.drift import drift
from lens_emotion.analysis.reliability import reliability
from lens_emotion.errors import AnalysisError, FingerprintError, StimulusError
from lens_emotion.stats.cosines import mean_pairwise_cosine
from lens_emotion.vectors.recipes import emotion_vectors


def methods(signal=(2.0, 2.0), seed=0, n_topics=8, n_layers=2, k=5, d=16, n_neutral=6, offset=1.0):
    """Two methods along the same directions; topics, texts and neutral texts of each their own."""
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((k, n_layers, d)) / 4
    emotion, topic = np.repeat(np.arange(k), n_topics), np.tile(np.arange(n_topics), k)
    names = [(f"e{e}", f"t{t}") for e, t in zip(emotion, topic, strict=True)]
    names += [("neutral", f"plain{i}") for i in range(n_neutral)]
    made = []
    for strength, method in zip(signal, ("generation", "comprehension"), strict=True):
        rows = offset + strength * directions[emotion] + rng.standard_normal((n_topics, n_layers, d))[topic] / 4
        rows = np.concatenate([rows, np.zeros((n_neutral, n_layers, d))])
        rows += rng.standard_normal(rows.shape) / 4
        acts = pooled(torch.from_numpy(rows).float(), names)
        made.append(replace(acts, header=HEADER.with_(method=method)))
    return made


def test_a_planted_advantage_is_found_and_named():
    result = compare(*methods((3.0, 0.7)), n_permutations=500)
    assert result.better == "generation" and result.unit == "topics" and result.n_pairs == 8
    assert (result.table["low"] > 0).all() and (result.table["p_corrected"] < 0.05).all()
    assert "writing tells the emotions apart better" in result.summary()


def test_values_are_those_of_the_analyses_themselves():
    a, b = methods((2.0, 1.0), seed=1)
    for x, column in ((a, "a"), (b, "b")):
        np.testing.assert_allclose(compare(a, b).table[column], decoding(x, 1).table["accuracy"])
        made = emotion_vectors(x, "neutral").directions.transpose(0, 1)
        np.testing.assert_allclose(compare(a, b, "separation").table[column], mean_pairwise_cosine(made), atol=1e-6)
        expected = reliability(x).table.groupby("layer")["reliability"].mean()
        np.testing.assert_allclose(compare(a, b, "reliability").table[column], expected)


def test_paired_numbers_equal_those_of_scipy():
    a, b = methods((2.0, 1.0), seed=2)
    result = compare(a, b, layers=[1])
    x, y = (decoding(s, 1) for s in (a, b))
    gap = [x.correct[1][x.topic == t].mean() - y.correct[1][y.topic == t].mean() for t in a.emotional.topics]
    row = result.table.iloc[0]
    expected = ttest_1samp(gap, 0).confidence_interval()
    assert (row.low, row.high) == pytest.approx((expected.low, expected.high))
    signs = 1 - 2 * ((np.arange(256)[:, None] >> np.arange(8)) & 1)
    exact = (np.abs(signs @ gap) >= abs(sum(gap)) - 1e-9).mean()
    assert row.p == pytest.approx(exact, abs=0.02)
    recall = [x.correct[1][x.label == k].mean() - y.correct[1][y.label == k].mean() for k in range(5)]
    assert result.row(RANKS).p == wilcoxon(recall).pvalue
    jeong = compare(a, b).row(JEONG, "mean cosine")
    assert jeong.p == mannwhitneyu(mean_cosines(a), mean_cosines(b)).pvalue and jeong.unit == "layers"


def test_cosine_contributions_are_pseudo_values_of_leaving_topics_and_neutral_texts_out():
    a, b = methods((2.0, 1.0), seed=3)
    found = cosine_contributions(a, b, "topics")
    without = [mean_cosines(a.only(a.topic != f"t{t}")) - mean_cosines(b.only(b.topic != f"t{t}")) for t in range(8)]
    np.testing.assert_allclose(found.units, 8 * found.difference - 7 * np.array(without), atol=1e-6)
    plain = np.array([mean_cosines(b.only(b.topic != f"plain{i}")) for i in range(6)])
    np.testing.assert_allclose(found.others[1], -5 * (plain.mean(0) - plain), atol=1e-6)


def rejections(metric, n, seed=0):
    ps = [compare(*methods((1.2, 1.2), s, n_layers=1), metric, n_permutations=99).table["p"][0] for s in range(n)]
    return np.mean(np.array(ps) <= 0.05)


def test_no_advantage_is_made_up_where_there_is_none():
    assert rejections("decoding", 40) <= 0.15


def test_neutral_texts_that_vary_are_not_taken_for_a_difference_of_cosines():
    size = {"n_layers": 1, "n_topics": 12, "n_neutral": 4, "offset": 0.3}
    found = [cosine_contributions(*methods((1.2, 1.2), s, **size), "topics") for s in range(100)]
    honest = np.mean([x.p(99, 0)[0][0] <= 0.05 for x in found])
    blind = np.mean([replace(x, others=()).p(99, 0)[0][0] <= 0.05 for x in found])
    assert honest <= 0.1 < blind


def test_sign_flip_p_values_are_uniform_and_corrected_ones_hold_for_the_best_layer():
    rng = np.random.default_rng(0)
    zero = np.zeros(6)
    drawn = [Contributions(zero, zero, rng.standard_normal((10, 6)), (), "topics").p(99, s) for s in range(300)]
    assert kstest([p[0] for p, _ in drawn], "uniform").pvalue > 0.01
    assert kstest([corrected.min() for _, corrected in drawn], "uniform").pvalue > 0.01


def test_noise_with_a_lower_cosine_is_not_called_better():
    a, b = methods((0.0, 3.0), seed=4)
    rows = a.values + 6 * torch.randn(a.values.shape, generator=torch.Generator().manual_seed(0))
    result = compare(replace(a, values=rows), b, "separation", n_permutations=500)
    assert result.row(PAIRED).difference < 0
    assert result.better == "comprehension"
    assert "reading tells the emotions apart better" in result.summary()


def test_what_is_not_shared_is_dropped_and_said():
    a, b = methods()
    result = compare(a.only(a.emotion != "e0"), b.only(b.topic != "t0"), n_permutations=50)
    assert result.n_pairs == 7 and result.dropped == "emotions of one set only (e0), 1 topics of one set only"
    renamed = replace(b, records=tuple(replace(r, topic=r.topic + "b") for r in b.records))
    result = compare(a, renamed, "separation", n_permutations=50)
    assert (result.unit, result.n_pairs) == ("emotions", 5) and "only 0 are shared" in result.summary()
    bare = compare(a.emotional, b.emotional, n_permutations=50)
    assert bare.row(JEONG, "mean cosine").warning == "no neutral texts, so no cosines"
    assert "a single layer" in compare(a, b, layers=[1], n_permutations=50).row(JEONG, "mean cosine").warning


def test_compare_says_what_is_wrong():
    a, b = methods()
    with pytest.raises(AnalysisError, match="'decoding', 'separation', 'reliability'"):
        compare(a, b, "cosine")
    with pytest.raises(FingerprintError):
        compare(a, replace(b, header=HEADER.with_(fingerprint="1" * 64)))
    with pytest.raises(StimulusError, match="at least 2 neutral texts"):
        compare(a.emotional, b, "separation")
    with pytest.raises(AnalysisError, match="no layer 5"):
        compare(a, b, layers=[5])


def test_over_models_the_paired_test_sees_a_planted_advantage_and_says_how_small_p_can_be():
    pairs = [(f"m{i}", *methods((2.5, 0.7), seed=i)) for i in range(6)]
    result = compare_models(pairs)
    row = result.row("accuracy")
    assert row.p == 2 / 64 and row.difference > 0.2
    assert "a tells the emotions apart better" in result.summary()
    at = result.table[result.table["place"] == "best"]
    jeong = result.row("mean cosine", "best", "Mann-Whitney, unpaired over models (arXiv 2604.04064)")
    assert jeong.p == mannwhitneyu(at["cosine_a"], at["cosine_b"]).pvalue
    few = compare_models(pairs[:3])
    assert "3 models cannot give p below 0.25" in few.summary()
    same = compare_models([("one", *pairs[0][1:]), ("two", *pairs[0][1:])])
    assert "degenerate" in same.summary()
    with pytest.raises(AnalysisError, match="at least 2 models"):
        compare_models(pairs[:1])


def test_drift_of_a_reading_against_itself_is_nothing():
    acts = planted(seed=5).acts
    shuffled = torch.randperm(len(acts), generator=torch.Generator().manual_seed(0)).tolist()
    other = replace(acts, values=acts.values[shuffled], records=tuple(acts.records[i] for i in shuffled))
    result = drift(acts, other)
    np.testing.assert_allclose(result.table["cosine"], 1, atol=1e-6)
    assert result.by_layer[["relative_max", "difference"]].abs().to_numpy().max() == 0
    assert (result.by_layer["agreement"] == 1).all() and "headers alike" in result.summary()


def test_drift_finds_the_emotion_and_layer_that_moved():
    acts = planted(n_topics=8, n_layers=3, seed=6).acts
    rows = acts.values.clone()
    rows[acts.emotion == "sad", 1] += 0.8 * torch.randn(24, generator=torch.Generator().manual_seed(0))
    result = drift(acts, replace(acts, values=rows, header=HEADER.with_(dtype="bfloat16")))
    assert (result.worst.emotion, result.worst.layer) == ("sad", 1)
    assert (result.by_layer["relative_max"] > 0).tolist() == [False, True, False]
    assert "dtype float32 against bfloat16" in result.summary() and "sad at layer 1" in result.summary()


def test_drift_names_missing_texts_and_refuses_other_weights():
    acts = planted().acts
    with pytest.raises(StimulusError, match="the second set lacks t0, t1;"):
        drift(acts, acts.only(np.arange(len(acts)) > 1))
    with pytest.raises(StimulusError, match="'t0' is another text"):
        drift(acts, replace(acts, records=(replace(acts.records[0], text="other"), *acts.records[1:])))
    half = replace(acts, header=HEADER.with_(fingerprint="1" * 64, dtype="float16"))
    with pytest.raises(FingerprintError):
        drift(acts, half)
    assert drift(acts, half, allow_other_weights=True).n_texts == len(acts)
