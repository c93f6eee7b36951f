"""Transfer between sets of texts: against a plain loop, under a null, and under a shift of domain."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from planted import HEADER, planted, pooled
from scipy.stats import kstest
from sklearn.metrics import roc_auc_score

from lens_emotion.analysis.decoding import decoding
from lens_emotion.analysis.transfer import CENTRINGS, OTHERS, training_rows, transfer, transfer_within
from lens_emotion.errors import AnalysisError, FingerprintError, StimulusError


def two_sets(same=True, shift=0.0, signal=3.0, n_topics=6, n_layers=2, seed=0, topics="uv"):
    """Train and test texts of 4 emotions along the same or other directions; the test texts are displaced."""
    rng = np.random.default_rng(seed)
    d, k = 16, 4
    directions = [rng.standard_normal((k, n_layers, d)) / 4 * signal for _ in range(2)]
    emotion, topic = np.repeat(np.arange(k), n_topics), np.tile(np.arange(n_topics), k)
    away, sets = shift * rng.standard_normal((n_layers, d)) / 4, []
    for i, letter in enumerate(topics):
        rows = directions[0 if same else i][emotion] + rng.standard_normal((len(emotion), n_layers, d)) / 4 + i * away
        names = [(f"e{e}", f"{letter}{t}") for e, t in zip(emotion, topic, strict=True)]
        sets.append(pooled(torch.from_numpy(rows).float(), names))
    return sets


def test_a_set_transferred_to_itself_is_held_out_decoding():
    acts = planted(n_emotions=5, n_topics=7, per_cell=2, signal=[0.7, 1.5], topic_effect=2.0, common=50, seed=1).acts
    result, expected = transfer(acts, acts, 5), decoding(acts, 5)
    np.testing.assert_array_equal(result.predicted[0], expected.predicted)
    np.testing.assert_allclose(result.auc["auc"][:10], expected.auc["auc"], atol=1e-12)
    assert result.shared_topics == acts.emotional.topics


def test_transfer_equals_a_plain_loop_by_both_centrings():
    train, test = two_sets(shift=1.0, signal=1.0, topics="uu", seed=2)
    train = train.only(np.arange(len(train)) % 5 != 0)
    result = transfer(train, test, 3)
    for c, centring in enumerate(CENTRINGS):
        x, y = train.values[:, 1].double().numpy(), test.values[:, 1].double().numpy()
        score = np.empty((len(y), 4))
        for i, row in enumerate(y):
            known = train.topic != test.topic[i]
            mean = x[known].mean(0)
            row = row - (mean if centring == "train mean" else y.mean(0))
            for k in range(4):
                centroid = x[known & (train.emotion == f"e{k}")].mean(0) - mean
                score[i, k] = row @ centroid / np.linalg.norm(row) / np.linalg.norm(centroid)
        np.testing.assert_array_equal(result.predicted[c, 1], score.argmax(1))
        rows = result.auc[(result.auc["centring"] == centring) & (result.auc["layer"] == 1)]
        expected = [roc_auc_score(test.emotion == f"e{k}", score[:, k]) for k in range(4)]
        np.testing.assert_allclose(rows["auc"], expected)


def test_no_test_text_meets_its_own_topic_in_training():
    known, new = np.array(["a", "a", "b", "c"]), np.array(["a", "b", "d", "a"])
    seen = []
    for test, train in training_rows(known, new, True):
        assert not {*new[test]} & {*known[train]}
        seen += test.tolist()
    assert sorted(seen) == [0, 1, 2, 3]
    [(test, train)] = training_rows(known, new, False)
    assert len(test) == len(train) == 4


def test_a_topic_that_leaks_is_shut_out_only_by_excluding_shared_topics():
    # noise alone, tested on the very texts that were learned
    train, _ = two_sets(signal=0.0, seed=3)
    assert transfer(train, train, 5, exclude_shared_topics=False).table["accuracy"].min() > 0.5
    assert transfer(train, train, 5).table["accuracy"].max() < 0.5


def test_other_directions_in_the_test_set_leave_transfer_at_chance():
    accuracy = [transfer(*two_sets(same=False, n_layers=1, seed=s), 1).table["accuracy"].mean() for s in range(60)]
    assert np.mean(accuracy) == pytest.approx(0.25, abs=0.06)


def test_transfer_p_values_are_uniform_where_test_emotions_mean_nothing():
    ps = []
    for seed in range(200):
        train, test = two_sets(n_layers=1, n_topics=4, seed=seed)
        noise = torch.randn(test.values.shape, generator=torch.Generator().manual_seed(seed))
        row = transfer(train, replace(test, values=noise), 19, seed).table.iloc[seed % 2]
        ps.append(row.p)
    # accuracies tie, which makes p too large at worst: never too small, and spread over the whole range
    assert kstest(ps, "uniform", alternative="greater").pvalue > 0.01
    assert np.mean(ps) < 0.7


def test_a_shift_of_domain_breaks_the_train_mean_and_not_the_own_mean():
    result = transfer(*two_sets(shift=40.0), n_permutations=19)
    assert result.best("train mean").accuracy < 0.5
    assert result.best("own mean").accuracy > 0.9
    assert result.best("own mean").p_corrected == 1 / 20
    assert result.best("own mean").low <= result.best("own mean").accuracy <= result.best("own mean").high
    assert "not distinguishable from noise" in result.summary()


def test_only_shared_emotions_are_used_and_the_rest_is_named():
    train, test = two_sets()
    result = transfer(train.only(train.emotion != "e1"), test, 5)
    assert result.emotions == ("e0", "e2", "e3") and result.left_out == ("e1",)
    assert result.table["chance"].unique() == pytest.approx([1 / 3])
    assert "1 left out: e1" in result.summary()


def test_transfer_says_what_is_wrong():
    train, test = two_sets()
    with pytest.raises(FingerprintError, match="same model"):
        transfer(train, replace(test, header=HEADER.with_(fingerprint="1" * 64)))
    with pytest.raises(StimulusError, match="share 1 emotions"):
        transfer(train.of("e0", "e1"), test.of("e1", "e2"))
    single = train.only((train.emotion != "e0") | (train.topic == "u0"))
    with pytest.raises(StimulusError, match="no training text of 'e0'"):
        transfer(single, train)
    with pytest.raises(AnalysisError, match="n_permutations"):
        transfer(train, test, 0)


def persons(seed=0, same=True, signal=3.0):
    """One set of texts, half of them in the first person, the other half displaced and in the third."""
    first, third = two_sets(same, 40.0, signal, topics="uu", seed=seed)
    records = [
        replace(r, person=p, text=f"{p} {i}")
        for p, s in (("first", first), ("third", third))
        for i, r in enumerate(s.records)
    ]
    return replace(first, values=torch.cat([first.values, third.values]), records=tuple(records))


def test_transfer_within_equals_transfer_between_the_levels():
    acts = persons(signal=1.0)
    level = np.array([r.person for r in acts.records])
    result = transfer_within(acts, "person", 5)
    expected = transfer(acts.only(level == "first"), acts.only(level == "third"), 5)
    for centring in CENTRINGS:
        cell = result.table[
            (result.table["train"] == "first")
            & (result.table["test"] == "third")
            & (result.table["centring"] == centring)
        ]
        rows = expected.table[expected.table["centring"] == centring]
        np.testing.assert_allclose(cell["accuracy"], rows["accuracy"])
    own = decoding(acts.only(level == "first"), 1).table["accuracy"]
    assert result.matrix(0, "train mean").loc["first", "first"] == own[0]
    assert result.matrix().shape == (3, 2)


def test_transfer_within_finds_planted_emotions_across_persons_and_none_where_there_are_none():
    result = transfer_within(persons(), "person", 19)
    assert result.left_out_level.query("centring == 'own mean'")["p_corrected"].min() == 1 / 20
    assert "p = 0.050" in result.summary()
    assert "not distinguishable from noise" in transfer_within(persons(signal=0.0), "person", 19).summary()


def test_topics_as_levels_leave_the_diagonal_empty():
    acts = planted(n_emotions=3, n_topics=4, n_layers=1).acts
    result = transfer_within(acts, "topic", 5)
    grid = result.matrix()
    assert np.isnan(np.diag(grid.loc[list(result.levels)])).all() and len(result.impossible) == 4
    assert grid.loc[OTHERS].mean() == pytest.approx(result.left_out_level["accuracy"].iloc[1])


def test_transfer_within_says_what_is_wrong():
    acts = planted().acts
    with pytest.raises(AnalysisError, match="at least 2 levels of person; these texts hold none"):
        transfer_within(acts, "person")
    with pytest.raises(AnalysisError, match="'topic', 'person', 'split', 'language'"):
        transfer_within(acts, "emotion")
