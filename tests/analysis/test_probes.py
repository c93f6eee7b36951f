"""Fitted probes against a plain scikit-learn pipeline in the space of the states."""

import numpy as np
import pytest
import torch
from planted import planted, pooled
from scipy.stats import kstest
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.model_selection import GroupKFold, LeaveOneGroupOut
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from lens_emotion.analysis.decoding import decoding
from lens_emotion.analysis.probes import LOGISTIC_C, probe
from lens_emotion.errors import AnalysisError
from lens_emotion.stats.design import design_of, label_permutations


def pipeline(kind, known):
    """The definition, written plainly on raw states of d_model numbers."""
    mean = known.mean(0)
    size = np.sqrt(((known - mean) ** 2).sum(1).mean())
    scaled = FunctionTransformer(lambda x: (x - mean) / size)
    if kind == "logistic":
        return make_pipeline(scaled, LogisticRegression(C=LOGISTIC_C, tol=1e-3, max_iter=1000))
    axes = PCA(min(len(known) - 1, known.shape[1]), svd_solver="full")
    return make_pipeline(scaled, axes, LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto"))


def plain_loop(kind, rows, label, fold):
    guess, score = np.empty_like(label), np.empty((len(label), label.max() + 1))
    for train, test in LeaveOneGroupOut().split(rows, label, fold):
        fitted = pipeline(kind, rows[train]).fit(rows[train], label[train])
        guess[test], score[test] = fitted.predict(rows[test]), fitted.predict_log_proba(rows[test])
    return guess, score


@pytest.mark.parametrize("kind", ["lda", "logistic"])
def test_a_probe_in_the_span_of_the_texts_equals_the_pipeline_in_the_space_of_the_states(kind):
    acts = planted(n_emotions=3, n_topics=5, per_cell=2, d_model=40, signal=[1.0, 2.0], common=30, seed=1).acts
    result = probe(acts, kind, layers=[1, 0], n_permutations=1, seed=3)
    design = design_of(acts)
    permuted = label_permutations(design, 1, 3)
    assert result.table["layer"].tolist() == [1, 0]
    for i, layer in enumerate([1, 0]):
        rows = acts.emotional.values[:, layer].double().numpy()
        guess, score = plain_loop(kind, rows, design.label, design.fold)
        np.testing.assert_array_equal(result.predicted[i], guess)
        row = result.table.iloc[i]
        assert row.accuracy == pytest.approx(np.mean(guess == design.label))
        assert row.macro_f1 == pytest.approx(f1_score(design.label, guess, average="macro"))
        assert row.nearest_centroid == decoding(acts, 1).table["accuracy"][layer]
        auc = result.auc[(result.auc["layer"] == layer) & (result.auc["emotion"] == design.emotions[2])]["auc"].item()
        assert auc == pytest.approx(roc_auc_score(design.label == 2, score[:, 2]), abs=0.005)
        for m, labels in enumerate(permuted):
            expected = np.mean(plain_loop(kind, rows, labels, design.fold)[0] == labels)
            # the solver of the regression stops anywhere within its tolerance
            assert result.null[m, i] == pytest.approx(expected, abs=0.05 if kind == "logistic" else 1e-9)


def test_a_rogue_dimension_hides_emotions_from_the_nearest_centroid_but_not_from_a_probe():
    acts = planted(n_emotions=4, n_topics=8, n_layers=1, signal=2.0, rogue=20.0, seed=0).acts
    result = probe(acts, "lda", layers=[0], n_permutations=19)
    row = result.table.iloc[0]
    assert row.nearest_centroid < 0.6 < 0.8 < row.accuracy
    assert row.p_corrected == 1 / 20
    assert "noise" not in result.summary()
    assert result.confusion.to_numpy().sum() == 32


def test_folds_are_those_of_group_k_fold_and_share_no_topic():
    acts = planted(n_emotions=2, n_topics=15, n_layers=1, d_model=8, seed=2).acts
    result = probe(acts, "lda", layers=[0], n_permutations=1)
    for train, test in GroupKFold(12).split(result.label, groups=result.fold):
        assert not {*result.topic[train]} & {*result.topic[test]}
    assert len(set(result.fold)) == 12


def test_probe_p_values_are_uniform_where_emotions_mean_nothing():
    ps = []
    for seed in range(30):
        acts = planted(2, 3, 2, n_layers=1, d_model=4, signal=0.0, n_neutral=0, seed=seed).acts
        result = probe(acts, "lda", layers=[0], n_permutations=4, seed=seed)
        ties = (result.null[:, 0] == result.table["accuracy"][0]).sum()
        # accuracies tie: spread p evenly over what the ties leave open, as the theory of exact tests does
        ps.append(result.table["p"][0] - np.random.default_rng(seed).random() * (ties + 1) / 5)
    assert kstest(ps, "uniform").pvalue > 0.01


def test_layers_are_chosen_without_the_labels_by_default():
    acts = planted(n_emotions=2, n_topics=4, n_layers=8, d_model=8, n_neutral=0).acts
    assert probe(acts, "logistic", n_permutations=1).table["layer"].tolist() == [1, 3, 5]


def test_two_emotions_and_a_class_that_a_fold_does_not_train_on_are_scored():
    acts = planted(n_emotions=2, n_topics=3, n_layers=1, n_neutral=0, signal=6.0).acts
    result = probe(acts, "logistic", layers=[0], n_permutations=1)
    assert result.table["accuracy"][0] == 1.0
    # topics 0 and 12 share a fold, and emotion c has texts of these two only
    names = [(e, f"t{t}") for t in range(13) for e in "ab"] + [("c", "t0"), ("c", "t12")]
    rows = torch.randn(len(names), 1, 6, generator=torch.Generator().manual_seed(0))
    acts = pooled(rows, sorted(names, key=lambda n: int(n[1][1:])))
    result = probe(acts, "lda", layers=[0], n_permutations=1)
    assert not (result.predicted[0] == 2)[result.fold == 0].any()


def test_probe_says_what_is_wrong():
    acts = planted(n_emotions=3, n_topics=2).acts
    with pytest.raises(AnalysisError, match="use kind='logistic'"):
        probe(acts, "lda")
    with pytest.raises(AnalysisError, match="'lda', 'logistic'"):
        probe(acts, "svm")
    with pytest.raises(AnalysisError, match="twice"):
        probe(acts, "logistic", layers=[1, -1])
    with pytest.raises(AnalysisError, match="no layer 7"):
        probe(acts, "logistic", layers=[7])
    with pytest.raises(AnalysisError, match="n_permutations"):
        probe(acts, "logistic", n_permutations=0)
