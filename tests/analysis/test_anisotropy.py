"""Anisotropy against loops over pairs, planted baselines, and laws of scale."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from planted import planted, pooled

from lens_emotion.analysis.anisotropy import anisotropy
from lens_emotion.errors import AnalysisError
from lens_emotion.stimuli.emotions import EMOTIONS, NEUTRAL
from lens_emotion.vectors.recipes import class_means, emotion_vectors


def _pairs(rows):
    rows = np.asarray(rows, dtype=float)
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in combinations(rows, 2)]
    return float(np.mean(cosines))


def _shifted(shift, common=2.0, n_topics=12, n_neutral=24, noise=2.0, seed=0, d=64):
    """Neutral texts around one vector of length `common`; emotional ones around it plus an orthogonal `shift`."""
    rng = np.random.default_rng(seed)
    base, apart = np.linalg.qr(rng.standard_normal((d, 2)))[0].T
    names = [(e, f"topic{t}") for e in EMOTIONS[:5] for t in range(n_topics)]
    names += [(NEUTRAL, f"plain{i}") for i in range(n_neutral)]
    rows = common * base + noise * rng.standard_normal((len(names), d)) / np.sqrt(d)
    rows[: 5 * n_topics] += shift * apart
    return pooled(torch.from_numpy(rows[:, None]).float(), names)


@pytest.mark.parametrize("common, d_model", [(0.0, 24), (5.0, 24), (30.0, 96)])
def test_every_cosine_equals_the_loop_over_pairs(common, d_model):
    acts = planted(common=common, d_model=d_model, topic_effect=0.5, seed=3).acts
    row = anisotropy(acts).table.iloc[1]
    all_texts = acts.values[:, 1].double().numpy()
    neutral = acts.emotion == NEUTRAL
    centred = all_texts - all_texts.mean(0)
    assert row.neutral_raw == pytest.approx(_pairs(all_texts[neutral]))
    assert row.all_raw == pytest.approx(_pairs(all_texts))
    assert row.neutral_centred == pytest.approx(_pairs(centred[neutral]))
    assert row.all_centred == pytest.approx(_pairs(centred))
    assert row.emotion_raw == pytest.approx(_pairs(class_means(acts)[:, 1]))
    for recipe, column in (("neutral", "neutral"), ("centred", "centred"), ("neutral_pca", "projected")):
        made = emotion_vectors(acts, recipe).at(1)
        assert row[f"emotion_{column}"] == pytest.approx(_pairs(made), abs=1e-5)


def test_projecting_out_neutral_components_leaves_nothing_along_them():
    acts = planted(common=3.0, rogue=30.0, n_neutral=40, seed=1).acts
    row = anisotropy(acts).table.iloc[0]
    rows = acts.values[:, 0].double().numpy()
    neutral = rows[acts.emotion == NEUTRAL]
    _, size, axes = np.linalg.svd(neutral - neutral.mean(0), full_matrices=False)
    k = int(np.searchsorted(np.cumsum(size**2) / np.sum(size**2), 0.5)) + 1
    kept = (rows - rows.mean(0)) @ (np.eye(24) - axes[:k].T @ axes[:k])
    assert k == 1 and row.all_projected == pytest.approx(_pairs(kept))


def test_rogue_dimensions_and_effective_dimension_equal_their_definitions():
    acts = planted(rogue=9.0, d_model=40, common=2.0, seed=4).acts
    row = anisotropy(acts).table.iloc[1]
    rows = acts.values[:, 1].double().numpy()
    eigen = np.linalg.eigvalsh(np.cov(rows.T))
    assert row.effective_dim == pytest.approx(eigen.sum() ** 2 / (eigen**2).sum(), rel=1e-4)
    energy = np.sort(np.mean(rows**2 / np.sum(rows**2, axis=1, keepdims=True), axis=0))[::-1]
    for k in (1, 3, 10):
        assert row[f"top{k}"] == pytest.approx(energy[:k].sum())
    assert row.top1 > 0.5 and row.effective_dim < 3


def test_effective_dimension_of_white_states_is_their_width_and_of_wide_ones_below_the_texts():
    white = planted(n_emotions=8, n_topics=60, d_model=12, n_layers=1, signal=0.0, topic_effect=0.0).acts
    assert anisotropy(white, n_draws=2).table["effective_dim"][0] == pytest.approx(12, rel=0.05)
    wide = planted(d_model=300, n_layers=1, signal=0.0, topic_effect=0.0).acts
    assert anisotropy(wide, n_draws=2).table["effective_dim"][0] < len(wide) - 1


def test_nothing_changes_when_all_states_are_scaled():
    acts = planted(common=3.0, rogue=2.0).acts
    big = replace(acts, values=acts.values * 3e4)
    a, b = anisotropy(acts).table, anisotropy(big).table
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_random_matched_equals_the_loop_over_draws():
    acts = planted(rogue=3.0).acts
    values = acts.values.double()
    mixture = torch.randn(30, len(acts), generator=torch.Generator().manual_seed(7)).double().numpy()
    draws = mixture @ (values[:, 0] - values[:, 0].mean(0)).numpy()
    unit = draws / np.linalg.norm(draws, axis=1, keepdims=True)
    expected = np.mean([abs(a @ b) for a, b in combinations(unit, 2)])
    assert anisotropy(acts, n_random=30, seed=7).table["random_matched"][0] == pytest.approx(expected, abs=1e-6)


def test_the_share_of_the_baseline_is_one_where_emotions_share_nothing_else_and_falls_as_they_do():
    same = anisotropy(_shifted(0.0)).table.iloc[0]
    assert same.baseline_share > 0.95 and same.baseline_high == 1.0
    # along the baseline 2, across it 2: half of the squared common direction (less some noise)
    half = anisotropy(_shifted(2.0)).table.iloc[0]
    assert half.baseline_share == pytest.approx(0.5, abs=0.08) and half.baseline_low < 0.5 < half.baseline_high
    nearly = anisotropy(_shifted(8.0)).table.iloc[0]
    assert nearly.baseline_share < 0.1 and 0 <= nearly.baseline_low <= nearly.baseline_high <= 1


def test_few_noisy_neutral_texts_do_not_shrink_the_share():
    few = [anisotropy(_shifted(2.0, n_neutral=10, noise=4.0, seed=s), n_random=2, n_draws=2) for s in range(40)]
    many = [anisotropy(_shifted(2.0, n_neutral=200, noise=4.0, seed=s), n_random=2, n_draws=2) for s in range(40)]
    a, b = (np.mean([r.table["baseline_share"][0] for r in results]) for results in (few, many))
    assert a == pytest.approx(b, abs=0.06)


def test_the_interval_covers_the_true_share():
    """Truth: the share of a sample so large that it has no noise."""
    truth = anisotropy(_shifted(1.5, n_topics=2000, n_neutral=2000), n_random=2, n_draws=2).table["baseline_share"][0]
    hits = []
    for seed in range(80):
        row = anisotropy(_shifted(1.5, n_topics=40, seed=seed), n_random=2, n_draws=100, seed=seed).table.iloc[0]
        hits.append(row.baseline_low <= truth <= row.baseline_high)
    assert np.mean(hits) >= 0.85


def test_without_neutral_agreement_nothing_is_explained():
    rng = np.random.default_rng(0)
    acts = _shifted(3.0)
    values = acts.values.clone()
    plain = rng.standard_normal((24, 64))
    values[acts.emotion == NEUTRAL, 0] = torch.from_numpy(np.concatenate([plain[:12], -plain[:12]])).float()
    row = anisotropy(replace(acts, values=values)).table.iloc[0]
    assert row.neutral_raw < 0 and row.baseline_share == 0


def test_neutral_texts_alone_leave_the_columns_on_emotions_empty():
    acts = planted(n_neutral=10).acts
    row = anisotropy(acts.neutral).table.iloc[0]
    assert row.filter(regex="emotion|baseline").isna().all() and not np.isnan(row.neutral_raw)
    assert "emotion means" not in anisotropy(acts.neutral).summary()
    assert "emotion means" in anisotropy(acts).summary()


def test_one_topic_has_a_share_but_no_interval():
    acts = planted(n_topics=1, per_cell=3).acts
    row = anisotropy(acts).table.iloc[0]
    assert np.isnan(row.baseline_low) and np.isnan(row.emotion_high) and not np.isnan(row.baseline_share)
    assert "over topics" not in anisotropy(acts).summary()


def test_equal_seeds_give_equal_tables_and_draws_are_checked():
    acts = planted().acts
    assert anisotropy(acts, seed=3).table.equals(anisotropy(acts, seed=3).table)
    with pytest.raises(AnalysisError, match="n_draws"):
        anisotropy(acts, n_draws=0)
