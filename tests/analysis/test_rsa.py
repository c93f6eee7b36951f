"""Representational similarity against scipy and a brute-force Mantel test, ceilings on planted noise, laws."""

from dataclasses import replace
from uuid import uuid4

import numpy as np
import pytest
import torch
from planted import HEADER, planted, pooled
from scipy.stats import kstest, spearmanr

from lens_emotion.analysis.families import base_vs_instruct, rsa_many
from lens_emotion.analysis.rsa import distances, ranks, rho, rsa, rsa_activations, rsa_human
from lens_emotion.errors import AnalysisError, StimulusError
from lens_emotion.stimuli.emotions import EMOTIONS, NEUTRAL, valence_arousal
from lens_emotion.vectors.emotion_vectors import EmotionVectors, unit
from lens_emotion.vectors.recipes import emotion_vectors


def _vectors(rows, emotions=EMOTIONS, name="planted"):
    """Vectors from rows [n_emotions, n_layers, d]."""
    rows = torch.as_tensor(np.asarray(rows)).float()
    sizes = torch.ones(rows.shape[:2])
    header = replace(HEADER, model=name, stimuli_sha256=uuid4().hex * 2)  # texts of its own
    return EmotionVectors(unit(rows), tuple(emotions[: len(rows)]), sizes, sizes, torch.ones(rows.shape[1]), header)


def _random(n=8, layers=2, d=12, seed=0):
    return _vectors(np.random.default_rng(seed).standard_normal((n, layers, d)))


def _rotated(vectors, d, noise=0.0, seed=0):
    """The same geometry in other axes of another width, with noise."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((d, vectors.d_model)))[0].T
    rows = vectors.directions.numpy() @ turn
    return _vectors(rows + noise * rng.standard_normal(rows.shape))


def _flat(vectors, layer, order=None):
    u = vectors.at(layer).double().numpy()
    u = u if order is None else u[order]
    return (1 - u @ u.T)[np.triu_indices(len(u), 1)]


def _two_models(signal_a=3.0, signal_b=3.0, same=True, n_emotions=8, n_topics=16, d=(24, 40), seed=0):
    """Two models of other widths that read the same design, with the same planted geometry or not."""
    rng = np.random.default_rng(seed)
    a, b = (
        planted(n_emotions, n_topics, n_layers=2, d_model=w, signal=0.0, topic_effect=0.5, seed=seed + i).acts
        for i, w in enumerate(d)
    )
    geometry = rng.standard_normal((n_emotions, 6)) @ np.diag([3, 2, 1, 1, 0.5, 0.5])
    other = geometry if same else rng.standard_normal((n_emotions, 6)) @ np.diag([3, 2, 1, 1, 0.5, 0.5])
    made = []
    for acts, plan, signal in ((a, geometry, signal_a), (b, other, signal_b)):
        axes = np.linalg.qr(rng.standard_normal((acts.d_model, 6)))[0]
        rows = torch.from_numpy(signal / 3 * plan @ axes.T).float()
        index = [EMOTIONS.index(e) if e != NEUTRAL else -1 for e in acts.emotion]
        rows = torch.cat([rows, torch.zeros(1, acts.d_model)])
        made.append(replace(acts, values=acts.values + rows[index][:, None]))
    return made


def test_rho_equals_scipy_at_every_pair_of_layers():
    a, b = _random(layers=3), _random(layers=2, d=20, seed=1)
    result = rsa(a, b, n_permutations=5)
    for row in result.table.itertuples():
        expected = spearmanr(_flat(a, row.layer_a), _flat(b, row.layer_b)).statistic
        assert row.rho == pytest.approx(expected)
    assert result.matrix.shape == (3, 2) and result.layer_a == 1 and result.rho == result.matrix.loc[1, 1]


def test_ties_are_ranked_as_scipy_does():
    a = _vectors(np.eye(6)[:, None].repeat(1, axis=1) + np.array([1, 1, 0, 0, 0, 0])[:, None, None])
    b = _random(6, 1, seed=3)
    assert rsa(a, b, n_permutations=2).rho == pytest.approx(spearmanr(_flat(a, 0).round(10), _flat(b, 0)).statistic)


def test_mantel_p_equals_the_brute_force():
    a, b = _random(6, 1), _rotated(_random(6, 1), 13, noise=0.6)
    result = rsa(a, b, n_permutations=200, seed=4)
    rng = np.random.default_rng(4)
    null = [spearmanr(_flat(a, 0), _flat(b, 0, rng.permutation(6))).statistic for _ in range(200)]
    expected = (np.sum(np.array(null) >= result.rho - 1e-12) + 1) / 201
    assert result.p == pytest.approx(expected)


def test_mantel_p_is_uniform_for_unrelated_models_and_corrected_p_is_safe():
    p, best = [], []
    for seed in range(150):
        result = rsa(_random(8, 2, seed=seed), _random(8, 2, seed=1000 + seed), n_permutations=39)
        p.append(result.p)
        best.append(result.table["p_corrected"].min())
    jitter = np.random.default_rng(0).random(150) / 40
    assert kstest(np.array(p) - jitter, "uniform").pvalue > 0.01
    assert kstest(np.array(best) - jitter, "uniform").pvalue > 0.01


def test_the_same_geometry_is_found_in_other_axes_and_another_width():
    a = _random()
    assert rsa(a, _rotated(a, 30), n_permutations=99).rho == pytest.approx(1, abs=1e-6)
    noisy = rsa(a, _rotated(a, 30, noise=0.05), n_permutations=99)
    assert noisy.p == 0.01 and noisy.rho > 0.8 and "noise" not in noisy.summary()
    unrelated = rsa(a, _random(seed=9), n_permutations=99)
    assert unrelated.p > 0.05 and "not distinguishable from noise" in unrelated.summary()
    assert "<table" in noisy._repr_html_()


def test_only_shared_emotions_count_and_their_order_does_not():
    a, b = _random(8), _random(8, seed=1)
    order = [7, 3, 5, 0, 1, 2]
    mixed = replace(
        b, directions=b.directions[order], emotions=tuple(b.emotions[i] for i in order),
        norms=b.norms[order], natural=b.natural[order],
    )  # fmt: skip
    result = rsa(a, mixed, n_permutations=5)
    kept = sorted(order)
    assert result.emotions == tuple(a.emotions[i] for i in kept)
    upper = np.triu_indices(6, 1)
    flat = [(1 - v.cosine(1).double().numpy())[np.ix_(kept, kept)][upper] for v in (a, b)]
    assert result.rho == pytest.approx(spearmanr(*flat).statistic)
    with pytest.raises(StimulusError, match="at least 4"):
        rsa(a, _vectors(np.ones((3, 1, 4)), EMOTIONS[5:]), n_permutations=5)


def test_the_ceiling_equals_a_loop_over_splits():
    a, b = _two_models(1.0, 1.0, n_topics=6)
    result = rsa_activations(a, b, 1, 0, n_splits=3, n_permutations=5, seed=2)
    from lens_emotion.stats.split_half import topic_halves

    within, across = [], []
    for half in topic_halves(6, 3, 2):
        flats = []
        for acts, layer in ((a, 1), (b, 0)):
            sides = []
            for side in (1, 0):
                keep = [f"topic{t}" for t in range(6) if half[t] == side]
                texts = acts.only(np.isin(acts.topic, keep) & (acts.emotion != NEUTRAL))
                sides.append(_flat(emotion_vectors(texts), layer))
            flats.append(sides)
        within.append([spearmanr(*sides).statistic for sides in flats])
        across.append(np.mean([spearmanr(flats[0][i], flats[1][1 - i]).statistic for i in (0, 1)]))
    r = np.mean(within, axis=0)
    full = 2 * r / (1 + r)
    c = result.ceiling
    assert (c.reliability_a, c.reliability_b) == pytest.approx(tuple(full))
    assert c.ceiling == pytest.approx(np.sqrt(full.prod())) and c.disjoint == pytest.approx(np.mean(across))
    assert c.disjoint_ceiling == pytest.approx(np.sqrt(r.prod()))


def test_models_of_one_geometry_reach_the_ceiling_and_others_do_not():
    ratios, unlike = [], []
    for seed in range(8):
        for same, found in ((True, ratios), (False, unlike)):
            a, b = _two_models(1.2, 1.2, same=same, seed=seed)
            c = rsa_activations(a, b, n_permutations=2, n_splits=10).ceiling
            found.append(c.disjoint / c.disjoint_ceiling)
    assert np.mean(ratios) == pytest.approx(1, abs=0.1) and np.mean(unlike) < 0.5


def test_texts_that_both_models_read_raise_rho_but_not_the_disjoint_comparison():
    """A shared quirk of each text is no shared emotion geometry."""
    rho_same, disjoint = [], []
    for seed in range(8):
        acts = planted(8, 8, n_layers=1, d_model=24, signal=0.0, topic_effect=0.0, seed=seed).acts
        result = rsa_activations(acts, acts, n_permutations=2, n_splits=10)
        rho_same.append(result.rho)
        disjoint.append(result.ceiling.disjoint)
    assert np.mean(rho_same) > 0.99 and abs(np.mean(disjoint)) < 0.15


def test_too_few_topics_for_two_halves_are_refused():
    acts = planted(4, 1).acts
    with pytest.raises(StimulusError, match="both halves"):
        rsa_activations(acts, acts, n_permutations=2)


def test_planted_valence_and_arousal_are_found_in_human_distances():
    known = valence_arousal()
    rated = [e for e in EMOTIONS if known[e].valence]
    ratings = np.array([(known[e].valence, known[e].arousal) for e in rated])
    z = (ratings - ratings.mean(0)) / ratings.std(0)
    rng = np.random.default_rng(0)
    rows = np.column_stack([z, 6 * np.ones(len(z)), 0.1 * rng.standard_normal((len(z), 5))])
    result = rsa_human(_vectors(rows[:, None], rated), n_permutations=99)
    found = result.table.set_index("space")
    assert found.loc["valence and arousal", "rho"] > 0.9 and found.loc["valence and arousal", "p"] == 0.01
    gaps = np.abs(z[:, None, 0] - z[None, :, 0])[np.triu_indices(len(z), 1)]
    flat = _flat(_vectors(rows[:, None], rated), 0)
    assert found.loc["valence", "rho"] == pytest.approx(spearmanr(flat.round(10), gaps.round(10)).statistic, abs=1e-6)
    noise = rsa_human(_random(20, 2), n_permutations=99)
    assert "noise" in noise.summary() and "exasperated" not in noise.emotions
    assert (noise.table["p_corrected"] >= noise.table["p"]).all()


def test_many_models_make_a_symmetric_matrix_with_corrected_p():
    a = _random()
    models = [("a", a), ("b", _rotated(a, 20, 0.02)), ("c", _random(seed=5)), ("acts", planted(8, 4).acts)]
    result = rsa_many(models, n_permutations=199)
    np.testing.assert_array_equal(result.matrix, result.matrix.T)
    assert np.diag(result.matrix).tolist() == [1, 1, 1, 1] and len(result.table) == 6
    assert (result.table["q"] >= result.table["p"]).all() and result.q.loc["a", "b"] <= 0.05
    order = np.argsort(result.table["p"].to_numpy())
    bh = np.minimum.accumulate((result.table["p"].to_numpy()[order] * 6 / np.arange(1, 7))[::-1])[::-1]
    np.testing.assert_allclose(result.table["q"].to_numpy()[order], np.minimum(bh, 1))
    assert result.table["ceiling"].isna().all() and "1 of 6" in result.summary()


def test_many_activations_have_ceilings_and_layers_of_choice():
    a, b = _two_models()
    result = rsa_many([("a", a), ("b", b)], layers=[0, -1], n_permutations=99, n_splits=4)
    row = result.table.iloc[0]
    assert (row.layer_a, row.layer_b) == (0, 1) and 0.5 < row.ceiling <= 1 and row.disjoint > 0.5
    for wrong in ([("a", a)], [("a", a), ("a", b)]):
        with pytest.raises(AnalysisError, match="distinct"):
            rsa_many(wrong)


def test_base_against_instruct_finds_one_model_in_the_other():
    base = planted(6, 8, n_layers=3, signal=1.0, d_model=24).acts
    rng = np.random.default_rng(1)
    emotional = torch.from_numpy(base.emotion != NEUTRAL)[:, None, None]
    louder = planted(6, 8, n_layers=3, signal=1.0, d_model=24).directions[
        [EMOTIONS.index(e) if e != NEUTRAL else 0 for e in base.emotion]
    ]
    noise = torch.from_numpy(0.02 * rng.standard_normal(base.values.shape)).float()
    gain = torch.tensor([0.0, 2.0, 0.0])[:, None]
    instruct = replace(base, values=base.values + noise + emotional * louder * gain)
    result = base_vs_instruct(base, instruct, n_permutations=99)
    row = result.table.iloc[1]
    assert (result.table["cosine_p"] == 0.01).all() and result.table["cosine"].min() > 0.8
    assert row.difference == pytest.approx(row.accuracy_instruct - row.accuracy_base) and row.low > 0
    assert result.table["low"][0] <= 0 <= result.table["high"][0] and "noise" in result.summary(0)
    a, b = emotion_vectors(base), emotion_vectors(instruct)
    expected = [a["happy"].cosine(b["happy"])[i].item() for i in range(3)]
    own = result.by_emotion[result.by_emotion["emotion"] == "happy"]
    np.testing.assert_allclose(own["cosine"], expected, atol=1e-5)
    diagonal = np.diag(rsa(a, b, n_permutations=99).matrix)
    np.testing.assert_allclose(result.table["rho"], diagonal, atol=1e-6)
    apart = rsa_activations(base, instruct, n_permutations=99).table.pivot(index="layer_a", columns="layer_b")
    np.testing.assert_allclose(result.table["rho_disjoint"], np.diag(apart["disjoint"]))
    np.testing.assert_allclose(result.table["rho_p"], np.diag(apart["p"]))


def test_the_paired_interval_is_of_the_difference_not_of_two_accuracies():
    """Topics hard for both models cancel: equal models differ by exactly nothing."""
    acts = planted(6, 8, signal=0.5, topic_effect=3.0).acts
    table = base_vs_instruct(acts, acts, n_permutations=9).table
    assert (table[["difference", "low", "high"]] == 0).all(axis=None)


def test_models_of_other_widths_have_no_cosine_and_of_other_depths_no_comparison():
    base, instruct = planted(6, 4, n_layers=2, d_model=24).acts, planted(6, 4, n_layers=2, d_model=30).acts
    result = base_vs_instruct(base, instruct, n_permutations=9)
    assert result.table["cosine"].isna().all() and result.by_emotion.empty and "cosine" not in result.summary()
    with pytest.raises(AnalysisError, match="same number"):
        base_vs_instruct(base, planted(6, 4, n_layers=3).acts)


def test_equal_distances_have_no_rank_correlation_and_no_small_p():
    flat = _vectors(np.eye(6)[:, None])
    result = rsa(flat, _random(6, 1), n_permutations=9)
    assert np.isnan(result.rho) and np.isnan(result.p)
    assert np.isnan(rho(ranks(distances(flat.directions)), ranks(distances(flat.directions)))).all()


def _read_by_two(seed, signal=0.0, shared=True, k=8, n_topics=8):
    """Two models as random linear maps of what the same texts hold, which is their emotion only in part."""
    rng = np.random.default_rng(seed)
    label, topic = np.repeat(np.arange(k), n_topics), np.tile(np.arange(n_topics), k)
    texts = rng.standard_normal((len(label), 16)) + 1.5 * rng.standard_normal((n_topics, 16))[topic]
    plan, models = rng.standard_normal((2, k, 16)), []
    for i, width in enumerate((24, 40)):
        rows = (texts + signal * plan[0 if shared else i][label]) @ rng.standard_normal((16, width)) / 4
        names = [(EMOTIONS[e], f"topic{t}") for e, t in zip(label, topic, strict=True)]
        models.append(pooled(torch.from_numpy(rows[:, None]).float(), names))
    return models


@pytest.mark.parametrize(
    "signal, shared", [(0.0, True), (0.4, False), (1.5, False)], ids=["no emotion", "unlike", "unlike, strong"]
)
def test_two_models_that_read_the_same_texts_are_not_alike_for_that(signal, shared):
    """In 200 runs a world, with 8 and with 20 emotions, 0 to 2.5%."""
    p = [rsa_activations(*_read_by_two(s, signal, shared), n_splits=6, n_permutations=39).p for s in range(20)]
    assert np.mean(np.array(p) <= 0.05) <= 0.15


def test_two_models_of_one_emotion_geometry_are_found_alike_on_disjoint_topics():
    p = [rsa_activations(*_read_by_two(s, 1.0, k=14), n_splits=6, n_permutations=39).p for s in range(6)]
    assert np.mean(np.array(p) <= 0.05) >= 0.8


def test_no_test_of_two_models_is_passed_by_a_shared_text_set_alone():
    a, b = _read_by_two(3)
    vectors = [replace(emotion_vectors(x), header=replace(x.header, model=n)) for x, n in ((a, "a"), (b, "b"))]
    described = rsa(*vectors, n_permutations=39)
    assert described.rho > 0.4 and described.table[["p", "p_corrected"]].isna().all(axis=None)
    assert "made of the same texts" in described.summary() and "rsa_activations" in described.summary()
    many = rsa_many([("a", vectors[0]), ("b", vectors[1])], n_permutations=39)
    assert many.table["q"].isna().all() and "without test" in many.summary()
    tested = rsa_many([("a", a), ("b", b)], n_permutations=39).table.iloc[0]
    assert tested["q"] > 0.05 and tested[["ceiling", "disjoint", "reliability_a"]].notna().any()
    tuned = replace(a, values=a.values + 0.01)
    families = base_vs_instruct(a, tuned, n_permutations=39, n_splits=6).table.iloc[0]
    assert families.cosine > 0.99 and families.cosine_p > 0.05 and families.rho > 0.99 and families.rho_p > 0.05
