"""Decoding against an independent loop, and the design rules behind it."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from planted import planted, pooled
from scipy.stats import norm
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support, roc_auc_score
from sklearn.model_selection import LeaveOneGroupOut
from sklearn.preprocessing import StandardScaler

from lens_emotion.analysis.decoding import auc, decoding
from lens_emotion.errors import AnalysisError, StimulusError
from lens_emotion.stats.design import design_of, grams, label_permutations
from lens_emotion.stats.gram import Labellings, fold_gram, observed_scores, predict
from lens_emotion.stimuli.emotions import EMOTIONS


def _unbalanced():
    acts = planted(n_emotions=4, n_topics=5, per_cell=2, signal=1.0, topic_effect=2.0, n_neutral=5, seed=2).acts
    return acts.only((np.random.default_rng(0).random(len(acts)) < 0.7) | (acts.emotion == "neutral"))


def _copies():
    """Greedy duplicates: both texts of a cell are the same."""
    acts = planted(n_emotions=4, n_topics=5, per_cell=2, signal=1.0, seed=3).acts
    first = np.where(acts.emotion == "neutral", np.arange(len(acts)), np.arange(len(acts)) // 2 * 2)
    return pooled(acts.values[first], [(r.emotion, r.topic) for r in acts.records], [f"text {i}" for i in first])


def _nested():
    acts = planted(n_emotions=3, n_topics=4, per_cell=3, signal=1.0, seed=4).acts
    return pooled(acts.values, [(r.emotion, f"{r.emotion}-{r.topic}") for r in acts.records])


DESIGNS = {
    "crossed": lambda: planted(n_emotions=4, n_topics=5, signal=1.0, seed=1).acts,
    "unbalanced": _unbalanced,
    "copies": _copies,
    "nested": _nested,
    "many topics": lambda: planted(n_emotions=3, n_topics=30, signal=1.0, seed=5).acts,
    "two topics": lambda: planted(n_emotions=4, n_topics=2, per_cell=2, signal=1.0, seed=6).acts,
}


def loop_predictions(rows, label, fold, fit_on="train"):
    """The definition, written plainly: one fold at a time, one class at a time, in the space of the
    states.
    """
    guess = np.empty_like(label)
    for train, test in LeaveOneGroupOut().split(rows, label, fold):
        scaler = StandardScaler(with_std=False).fit(rows[train] if fit_on == "train" else rows)
        known, new = scaler.transform(rows[train]), scaler.transform(rows[test])
        centroids = np.stack([known[label[train] == k].mean(0) for k in range(label.max() + 1)])
        cosine = new @ centroids.T / np.outer(np.linalg.norm(new, axis=1), np.linalg.norm(centroids, axis=1))
        guess[test] = cosine.argmax(1)
    return guess


def test_decoding_equals_a_plain_loop_for_observed_and_permuted_labels():
    acts = planted(n_emotions=5, n_topics=6, per_cell=2, signal=[0.5, 1.5], topic_effect=2.0, seed=1).acts
    result = decoding(acts, n_permutations=5, seed=3)
    design = design_of(acts)
    permuted = label_permutations(design, 5, 3)
    for layer in range(2):
        rows = acts.emotional.values[:, layer].double().numpy()
        expected = loop_predictions(rows, design.label, design.fold)
        np.testing.assert_array_equal(result.predicted[layer], expected)
        row = result.table.iloc[layer]
        assert row.accuracy == pytest.approx(accuracy_score(design.label, expected))
        assert row.macro_f1 == pytest.approx(f1_score(design.label, expected, average="macro"))
        for labels, accuracy in zip(permuted, result.null[:, layer], strict=True):
            assert accuracy == pytest.approx(np.mean(loop_predictions(rows, labels, design.fold) == labels))


def _standardised_loop(rows, label, fold):
    """The same definition with scikit-learn's scaling, fitted on the training texts of every fold."""
    guess = np.empty_like(label)
    for train, test in LeaveOneGroupOut().split(rows, label, fold):
        kept = np.ptp(rows[train], axis=0) > 0
        scaler = StandardScaler().fit(rows[train][:, kept])
        known, new = (scaler.transform(rows[x][:, kept]) for x in (train, test))
        centroids = np.stack([known[label[train] == k].mean(0) for k in range(label.max() + 1)])
        guess[test] = (new @ centroids.T / np.linalg.norm(centroids, axis=1)).argmax(1)
    return guess


def _with_dead_dimensions():
    """One dimension constant in all texts, one in the training texts of a fold, one a thousand times the others."""
    acts = planted(n_emotions=4, n_topics=5, per_cell=2, signal=1.5, seed=7).acts
    values = acts.values.clone()
    values[..., 1], values[..., 2] = 0.1, torch.from_numpy(3.0 * (acts.topic == "topic1"))[:, None]
    values[..., 3] = 1000 + 100 * values[..., 3]
    return replace(acts, values=values)


STANDARDISED = {**DESIGNS, "dead and massive dimensions": _with_dead_dimensions}


@pytest.mark.parametrize("shape", STANDARDISED)
def test_the_standardised_decoder_equals_the_plain_loop_under_true_and_permuted_labels(shape):
    acts = STANDARDISED[shape]()
    result, design = decoding(acts, 6, seed=2).standardised, design_of(acts)
    rows = acts.emotional.values[:, 1].double().numpy()
    every = np.concatenate([design.label[None], label_permutations(design, 6, 2)])
    expected = np.array([_standardised_loop(rows, labels, design.fold) for labels in every])
    np.testing.assert_array_equal(result.predicted[1], expected[0])
    accuracy = (expected == every).mean(1)
    np.testing.assert_allclose([result.table["accuracy"][1], *result.null[:, 1]], accuracy, rtol=1e-12)
    assert result.auc["auc"].between(0, 1).all()


@pytest.mark.parametrize("size", [10.0, 100.0, 1000.0])
def test_massive_dimensions_blind_one_decoder_and_not_the_other_and_the_summary_says_so(size):
    """Three dimensions of mean m and SD m / 10: centred cosine .56 -> .20 (m = 10) -> .07 (m = 1000)."""
    acts = planted(n_emotions=10, n_topics=8, n_layers=1, d_model=64, signal=1.2, topic_effect=0.5, seed=1).acts
    values = acts.values.clone()
    massive = size * (1 + torch.from_numpy(np.random.default_rng(0).standard_normal((len(acts), 1, 3))) / 10)
    values[..., :3] = massive.float()
    before, after = decoding(acts, 39), decoding(replace(acts, values=values), 39)
    at = after.table.iloc[0]
    assert at.accuracy_standardised > before.table["accuracy_standardised"][0] - 0.1 > 0.25
    assert at.p_corrected_standardised == 1 / 40 and f"dimension {at.accuracy_standardised:.2f}" in after.summary()
    if size == 1000.0:
        assert at.accuracy < 0.25 < before.best_accuracy
        assert "it hangs on the decoder (centred cosine: not; standardised: above chance)" in after.summary()
        assert not after.above_chance() and after.standardised.above_chance() and after.hangs(0)
    assert not before.hangs() and "noise" not in before.summary()


def test_states_that_are_all_alike_decode_at_chance_by_either_decoder():
    acts = planted(n_emotions=4, n_topics=4, n_layers=1).acts
    result = decoding(replace(acts, values=torch.full_like(acts.values, 0.1)), 19)
    for found in (result, result.standardised):
        assert found.best_accuracy == 0.25 and found.table["p"][0] == 1


def test_the_centring_mean_comes_from_the_training_fold_alone():
    # few texts and strong topics: a mean that has seen the test topic gives other answers
    acts = planted(n_emotions=3, n_topics=3, n_layers=1, signal=1.0, topic_effect=6.0, seed=5).acts
    design = design_of(acts)
    rows = acts.emotional.values[:, 0].double().numpy()
    honest, leaky = (loop_predictions(rows, design.label, design.fold, fit_on=x) for x in ("train", "all"))
    assert (honest != leaky).any()
    folded = fold_gram(design, next(grams(acts.emotional.values)))
    got = predict(folded, Labellings(design, design.label[None]))[0]
    np.testing.assert_array_equal(got, honest)


@pytest.mark.parametrize("shape", ["unbalanced", "copies", "nested", "many topics", "two topics"])
def test_every_design_decodes_as_the_plain_loop_does_under_permuted_labels_too(shape):
    acts = DESIGNS[shape]()
    result, design = decoding(acts, 6, seed=2), design_of(acts)
    rows = acts.emotional.values[:, 1].double().numpy()
    every = np.concatenate([design.label[None], label_permutations(design, 6, 2)])
    expected = np.array([loop_predictions(rows, labels, design.fold) for labels in every])
    np.testing.assert_array_equal(result.predicted[1], expected[0])
    np.testing.assert_allclose(result.null[:, 1], (expected == every).mean(1)[1:], rtol=1e-12)
    b = (result.null[:, 1] >= result.table["accuracy"][1] - 1e-12).sum()
    assert result.table["p"][1] == (b + 1) / 7


def test_blocks_and_threads_change_nothing(monkeypatch):
    acts = planted(n_emotions=4, n_topics=5, signal=0.5).acts
    whole = decoding(acts, 20)
    monkeypatch.setattr("lens_emotion.stats.gram.CELLS", 3 * 20 * 4)  # three labellings at a time
    torch.set_num_threads(2)
    try:
        parts = decoding(acts, 20)
    finally:
        torch.set_num_threads(1)
    np.testing.assert_array_equal(whole.null, parts.null)
    np.testing.assert_array_equal(whole.table["accuracy"], parts.table["accuracy"])


def test_auc_and_scores_by_emotion_equal_scikit_learn():
    acts = planted(n_emotions=4, n_topics=14, signal=1.0, topic_effect=0.5, seed=9).acts.emotional
    acts = acts.only(np.arange(len(acts)) % 5 != 0)
    result, design = decoding(acts, 5), design_of(acts)
    for layer in range(2):
        scores = observed_scores(fold_gram(design, list(grams(acts.values))[layer]))
        here = result.auc[result.auc["layer"] == layer]
        for k, value in enumerate(here["auc"]):
            assert value == pytest.approx(roc_auc_score(design.label == k, scores[:, k]))
        assert ((here["auc_low"] <= here["auc"]) & (here["auc"] <= here["auc_high"])).all()
    best = result.by_emotion
    guess = result.predicted[result.best_layer]
    oracle = precision_recall_fscore_support(design.label, guess, zero_division=np.nan)
    np.testing.assert_allclose(
        best[["precision", "recall", "f1", "n"]].to_numpy().T[[0, 1, 3]], np.array(oracle)[[0, 1, 3]]
    )
    np.testing.assert_allclose(best["f1"].fillna(0), np.nan_to_num(oracle[2]))
    assert (
        (best["recall_low"] < best["recall"]) & (best["recall"] < best["recall_high"]) | best["recall"].isin([0, 1])
    ).all()


def test_auc_counts_ties_half_and_is_half_for_noise():
    topic = np.repeat(np.arange(4), 2)
    assert auc(np.ones(8), np.arange(8) % 2 == 0, topic)[0] == 0.5
    noise = [decoding(planted(3, 12, n_layers=1, signal=0.0, seed=s).acts, 1).auc["auc"].mean() for s in range(20)]
    assert np.mean(noise) == pytest.approx(0.5, abs=0.04)


def test_the_auc_interval_covers_the_auc_of_the_scores_population():
    rng, hits = np.random.default_rng(0), 0
    # effect 1, variance 1 of a text and 0.25 of its topic, which one pair in 30 shares
    truth = (29 * norm.cdf(1 / np.sqrt(2 * 1.25)) + norm.cdf(1 / np.sqrt(2))) / 30
    positive, topic = np.repeat([True, False], [30, 90]), np.concatenate([np.arange(30), np.tile(np.arange(30), 3)])
    for _ in range(600):
        score = positive + 0.5 * rng.standard_normal(30)[topic] + rng.standard_normal(120)
        _, low, high = auc(score, positive, topic)
        hits += low <= truth <= high
    assert 0.93 <= hits / 600 <= 0.97


def test_held_out_accuracy_comes_near_the_bayes_rate():
    # orthogonal directions of one length in isotropic noise: the nearest true mean is the best rule
    rng, k, d, noise = np.random.default_rng(0), 4, 10, 0.7
    draws = np.eye(k, d)[np.tile(np.arange(k), 50_000)] + noise * rng.standard_normal((200_000, d))
    bayes = (draws[:, :k].argmax(1) == np.tile(np.arange(k), 50_000)).mean()
    found = []
    for _ in range(4):
        label, topic = np.repeat(np.arange(k), 250), np.tile(np.arange(250), k)
        rows = np.eye(k, d)[label] + noise * rng.standard_normal((1000, d)) + 20.0
        names = [(EMOTIONS[i], f"t{t}") for i, t in zip(label, topic, strict=True)]
        found.append(decoding(pooled(torch.from_numpy(rows).float()[:, None], names), 1).best_accuracy)
    assert 0.5 < bayes < 0.9
    assert np.mean(found) == pytest.approx(bayes, abs=0.02)


def test_p_is_uniform_under_the_null_once_ties_are_broken():
    # 500 draws: python benchmarks/analysis_scale.py --laws
    assert benchmark().uniform_under_the_null(150) > 0.01


def test_the_benchmark_runs_every_analysis_at_a_small_size(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [
        "analysis_scale.py", "--texts", "260", "--layers", "2", "--width", "64", "--permutations", "5",
        "--json", str(tmp_path / "scale.json"),
    ])  # fmt: skip
    benchmark().main()
    facts = json.loads((tmp_path / "scale.json").read_text())
    assert {"decoding", "separation (neutral)", "reliability", "anisotropy"} <= {s["step"] for s in facts["steps"]}
    assert all(s["seconds"] >= 0 and s["peak_gb"] > 0 for s in facts["steps"])
    assert "threads" in capsys.readouterr().out


def benchmark():
    path = Path(__file__).parents[2] / "benchmarks" / "analysis_scale.py"
    spec = importlib.util.spec_from_file_location("analysis_scale", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("common, rogue", [(0.0, 0.0), (300.0, 0.0), (30.0, 3.0)])
def test_a_planted_emotion_is_decoded_whatever_the_common_mean_or_a_rogue_dimension(common, rogue):
    truth = planted(n_emotions=4, n_topics=6, signal=8.0, common=common, rogue=rogue, seed=4)
    result = decoding(truth.acts, 40)
    assert result.best_accuracy > 0.9
    assert result.table["p_corrected"].min() == 1 / 41
    assert "noise" not in result.summary()


def test_a_common_mean_changes_no_prediction():
    acts = planted(signal=1.0, seed=6).acts
    shifted = pooled(acts.values + 100.0, [(r.emotion, r.topic) for r in acts.records])
    exact = acts
    np.testing.assert_array_equal(decoding(shifted, 5).predicted, decoding(exact, 5).predicted)


def test_folds_share_no_topic_and_are_twelve_at_most():
    for n_topics, n_folds in ((6, 6), (12, 12), (15, 12)):
        design = design_of(planted(n_emotions=2, n_topics=n_topics, n_layers=1).acts)
        assert len(set(design.fold)) == n_folds
        for t in range(n_topics):
            assert len(set(design.fold[design.topic == t])) == 1


def test_permutations_keep_the_counts_of_every_topic():
    acts = planted(n_emotions=4, n_topics=5, per_cell=2).acts.emotional
    design = design_of(acts.only(np.arange(len(acts)) % 7 != 0))
    permuted = label_permutations(design, 20, 0)
    assert len({tuple(row) for row in permuted}) == 20
    for t in range(5):
        texts = design.topic == t
        for row in permuted:
            assert sorted(row[texts]) == sorted(design.label[texts])


def test_exact_copies_share_a_fold_and_keep_one_label():
    acts = planted(n_emotions=3, n_topics=4, per_cell=2).acts.emotional
    copies = pooled(acts.values, [(r.emotion, r.topic) for r in acts.records], [f"{i // 2}" for i in range(len(acts))])
    design = design_of(copies)
    permuted = label_permutations(design, 20, 0)
    assert (permuted[:, ::2] == permuted[:, 1::2]).all()
    assert (permuted != design.label).any()
    assert (design.fold[::2] == design.fold[1::2]).all()


def test_topics_nested_in_emotions_are_permuted_whole():
    rows = torch.randn(24, 1, 8, generator=torch.Generator().manual_seed(0))
    names = [(("happy", "sad")[i // 12], f"passage{i // 2}") for i in range(24)]
    design = design_of(pooled(rows, names))
    permuted = label_permutations(design, 20, 0)
    assert design.nested and (permuted[:, ::2] == permuted[:, 1::2]).all()
    assert ((permuted == 0).sum(1) == 12).all()
    assert 0 < decoding(pooled(rows, names), 20).table["p"].iloc[0] <= 1


def test_a_design_without_a_null_is_refused():
    sizes = {"a": 1, "b": 2, "c": 3, "d": 4}
    names = [("happy" if t in "ab" else "sad", t) for t, n in sizes.items() for _ in range(n)]
    with pytest.raises(StimulusError, match="no null"):
        decoding(pooled(torch.randn(10, 1, 4), names), 5)


def test_texts_that_cannot_answer_are_refused_with_what_is_needed():
    acts = planted(n_emotions=3, n_topics=3).acts
    with pytest.raises(StimulusError, match="single class"):
        decoding(acts.of("happy"))
    with pytest.raises(StimulusError, match="at least 2 topics"):
        decoding(acts.only(acts.topic == "topic1"))
    with pytest.raises(StimulusError, match="'sad' has texts of one topic only"):
        decoding(acts.only((acts.emotion != "sad") | (acts.topic == "topic0")))
    with pytest.raises(AnalysisError, match="n_permutations is 0"):
        decoding(acts, 0)


def test_p_is_never_zero_and_rarely_small_under_the_null():
    noise = [planted(3, 4, n_layers=1, d_model=6, signal=0.0, seed=s).acts for s in range(200)]
    p = np.array([decoding(acts, 19, s).table["p"][0] for s, acts in enumerate(noise)])
    assert p.min() >= 1 / 20
    # accuracy is coarse, so p may be larger than uniform, never smaller
    for level in (0.05, 0.25, 0.5):
        assert (p <= level).mean() <= level + 3 * np.sqrt(level * (1 - level) / 200)


def test_the_result_tells_what_it_was_made_from():
    result = decoding(planted(n_emotions=4, n_topics=6, n_layers=3, signal=[0.0, 9.0, 0.0]).acts, 10)
    assert (result.n_texts, result.n_topics, result.n_permutations) == (24, 6, 10)
    assert result.best_layer == 1
    assert result.confusion.to_numpy().sum() == 24
    assert list(result.confusion.index) == list(result.emotions)
    assert np.trace(result.confusion.to_numpy()) / 24 == result.best_accuracy
    assert (result.table["p_corrected"] >= result.table["p"]).all()
    assert "<table" in result._repr_html_()
