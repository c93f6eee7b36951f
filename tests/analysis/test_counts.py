"""Decoding's own small rules: which p decides, what a class without training texts gets, which axis is which."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from planted import planted

from lens_emotion.analysis.decoding import confusion_counts, decoding, f1_scores
from lens_emotion.stats.design import design_of, grams
from lens_emotion.stats.gram import Labellings, fold_gram, fold_standardised, predict, scores


def test_the_best_layer_is_judged_by_its_corrected_p_and_a_chosen_one_by_its_own():
    found = decoding(planted(n_layers=3).acts, 19)
    best = found.best_layer
    for p, corrected in ((0.01, 0.3), (0.3, 0.01)):
        table = found.table.assign(p=p, p_corrected=corrected)
        told = replace(found, table=table)
        assert told.above_chance() == (corrected <= 0.05) and told.above_chance(best) == (p <= 0.05)


def test_rows_of_the_confusion_are_true_and_columns_predicted():
    counts = confusion_counts(np.array([0, 0, 0, 1, 2]), np.array([1, 1, 0, 1, 0]), 3)
    assert counts.tolist() == [[1, 2, 0], [0, 1, 0], [1, 0, 0]]
    np.testing.assert_allclose(f1_scores(counts), [2 / 5, 2 / 4, 0])


@pytest.mark.parametrize("decoder", ["centred", "standardised"])
def test_a_class_that_a_fold_does_not_learn_is_never_its_answer(decoder):
    """Where all other cosines are below 0, a score of 0 would win."""
    acts = planted(n_emotions=3, n_topics=4, n_layers=1, n_neutral=0, signal=0.0).acts
    design = design_of(acts)
    label = np.where(design.topic == 0, design.label, design.label % 2)  # the third on the first topic alone
    block = Labellings(design, label[None])
    rows = acts.emotional.values[:, 0]
    by_cosine = decoder == "centred"
    folded = fold_gram(design, next(grams(rows[:, None]))) if by_cosine else fold_standardised(design, rows)
    order = np.concatenate(design.held)
    absent = design.fold[order] == design.fold[design.topic == 0][0]
    found = scores(folded, block)[0]
    assert np.isneginf(found[2, absent]).all() and np.isfinite(found[2, ~absent]).all()
    assert np.isfinite(found[:2]).all() and not (predict(folded, block)[0][order[absent]] == 2).any()
