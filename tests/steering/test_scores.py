"""What a judge's scores are made of: by hand, without a model."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon

from lens_emotion.errors import StimulusError
from lens_emotion.steering.classifier_judge import _check_map
from lens_emotion.steering.judges import UNDECIDED, Judge, as_judge, centroid_scores, decided, held_out_accuracy
from lens_emotion.steering.outcomes import changed, dose_table, holm, with_targets
from lens_emotion.steering.regimes import Thresholds
from lens_emotion.stimuli.prompts import Scenario

EMOTIONS = ("calm", "angry", "sad")


def test_texts_that_hold_nothing_are_not_shown_and_are_undecided():
    shown = []

    def scorer(texts):
        shown.extend(texts)
        return [[0.1, 0.7, 0.2]] * len(texts)

    scores = as_judge(scorer, EMOTIONS).score(["", "Anna.", " \n", "\x00", "Ben."])
    assert shown == ["Anna.", "Ben."]
    np.testing.assert_allclose(scores[[0, 2, 3]], 1 / 3)
    assert decided(scores, EMOTIONS) == [UNDECIDED, "angry", UNDECIDED, UNDECIDED, "angry"]


def planted(common, n=8, d=12, seed=0):
    """Texts beside a mean that all of them share."""
    rng = np.random.default_rng(seed)
    means = np.eye(3, d) - np.eye(3, d).mean(0) + common * np.ones(d)
    labels = np.repeat(EMOTIONS, n)
    return np.repeat(means, n, 0) + 0.1 * rng.standard_normal((3 * n, d)), labels, np.tile(np.arange(n), 3)


@pytest.mark.parametrize("common", [0.0, 50.0])
def test_what_all_texts_share_plays_no_part(common):
    values, labels, _ = planted(0.0)
    moved, *_ = planted(common)
    scores = centroid_scores(moved, moved, labels, EMOTIONS)
    np.testing.assert_allclose(scores, centroid_scores(values, values, labels, EMOTIONS), atol=1e-6)
    np.testing.assert_allclose(scores.sum(1), 1)
    assert [EMOTIONS[k] for k in scores.argmax(1)] == labels.tolist() and scores.max(1).min() > 0.9


def test_an_accuracy_is_of_topics_that_were_not_learnt():
    """Each text is nearest to itself; its topic's other texts say nothing of it."""
    rng = np.random.default_rng(1)
    values, labels, topics = rng.standard_normal((60, 400)), np.tile(EMOTIONS, 20), np.repeat(np.arange(20), 3)
    texts = [f"text {i} of " + "".join(rng.choice(list("abcdefgh"), 30)) for i in range(60)]
    assert 0.1 < held_out_accuracy(values, labels, topics, texts) < 0.6
    learnt = centroid_scores(values, values, labels, EMOTIONS).argmax(1)
    assert ([EMOTIONS[k] for k in learnt] == labels).all()


def test_label_groups_that_share_a_label_are_refused_also_where_neither_holds_the_other():
    labels = ["joy", "love", "grief", "fear"]
    _check_map({"happy": ("joy", "love"), "loving": ("love", "joy"), "sad": ("grief",)}, labels, "c")
    for other in (("love", "grief"), ("love",), ("joy", "love", "fear")):
        with pytest.raises(StimulusError, match="overlap"):
            _check_map({"happy": ("joy", "love"), "loving": other, "sad": ("fear",)}, labels, "c")


# Outcomes, recomputed text by text.

WHOLE = Thresholds(explosive_ratio=3.0, loop_share=0.5, distinct_2=0.4)
OPENINGS = [Scenario(f"s{i}", EMOTIONS[i % 3], f"Opening {i}.") for i in range(6)]


def steered(seed=0):
    """Texts of every condition at two doses, scores and measures drawn; some score as they did before."""
    rng = np.random.default_rng(seed)
    scores = [f"score_{e}" for e in EMOTIONS]
    unsteered = pd.DataFrame(rng.random((6, 3)).round(1), columns=scores).assign(nll=rng.random(6), text="Before.")
    rows = []
    for dose in (1.0, 4.0):
        for condition in ("emotion", "random", "null", "other"):
            for i in rng.permutation(6):
                row = {
                    "condition": condition,
                    "dose": dose,
                    "scenario": i,
                    "text": ["A text.", "  "][rng.random() < 0.1],
                }
                row |= dict(zip(scores, (rng.random(3) + (condition == "emotion")).round(1), strict=True))
                row |= {c: rng.random() for c in ("nll", "entropy", "distinct_2", "loop_share", "edit_distance")}
                rows.append(row | {"broken": False})
    texts = pd.DataFrame(rows)
    same = texts.index[::5]
    texts.loc[same, scores] = unsteered[scores].to_numpy()[texts.loc[same, "scenario"]]
    return texts, unsteered


@pytest.mark.parametrize("seed", range(3))
def test_success_is_above_the_unsteered_text_and_the_null_directions_of_its_dose(seed):
    texts, unsteered = steered(seed)
    judge = Judge("planted", EMOTIONS, lambda texts: np.zeros((len(texts), 3)))
    out = with_targets(texts, unsteered, OPENINGS, judge, WHOLE)
    target = {i: f"score_{OPENINGS[i].emotion}" for i in range(6)}
    of = {k: texts[texts.condition == k] for k in ("null", "random", "emotion")}
    for at, row in texts.iterrows():
        column, i, got = target[row.scenario], row.scenario, out.loc[at]
        before, after = unsteered.loc[i, column], row[column]
        null = [r[target[r.scenario]] for _, r in of["null"].iterrows() if r.dose == row.dose]
        moved = after > before and bool(row.text.strip())
        assert (got.target_score, got.unsteered_score, got.moved) == (after, before, moved)
        assert got.success == (moved and after > np.quantile(null, 0.95))
        assert got.perplexity_ratio == pytest.approx(math.exp(row.nll - unsteered.loc[i, "nll"]))
        assert (got.emotion, got.opening, got.prompt) == (EMOTIONS[i % 3], i // 3, f"Opening {i}.")
        broken = got.perplexity_ratio > 3 or row.loop_share > 0.5 or row.distinct_2 < 0.4
        assert (got.text_regime in ("explosive", "repetitive collapse")) == broken


def test_the_tables_p_are_corrected_over_doses_for_the_emotion_alone():
    texts, unsteered = steered(1)
    judge = Judge("planted", EMOTIONS, lambda texts: np.zeros((len(texts), 3)))
    out = with_targets(texts, unsteered, OPENINGS, judge, WHOLE)
    table = dose_table(out[out.condition != "null"], {1.0: (1.0, 0.1), 4.0: (4.0, 0.4)}, WHOLE)
    mine = table[table.condition == "emotion"]
    np.testing.assert_allclose(mine.p_corrected, holm(mine.p_random.to_numpy()))
    assert table[table.condition == "random"].p_corrected.isna().all()
    for _, row in table.iterrows():
        found = out[(out.condition == row.condition) & (out.dose == row.dose)]
        assert row.success == found.success.sum() and row.n == 6 and row.success_rate == row.success / 6
    assert (mine.dose_natural.tolist(), mine.dose_relative.tolist()) == ([1.0, 4.0], [0.1, 0.4])
    np.testing.assert_allclose(holm(np.array([0.01, 0.04])), [0.02, 0.04])


def test_texts_are_changed_at_a_level_that_both_measures_share():
    """Between half the level and the level, one measure alone is not enough."""
    options, seen = {"zero_method": "zsplit", "method": "asymptotic"}, set()
    for seed in range(60):
        difference = np.random.default_rng(seed).standard_normal(12) + 0.6
        p = wilcoxon(difference, **options).pvalue
        control = pd.DataFrame({"edit_distance": np.zeros(12), "nll": np.ones(12)})
        for column in control:
            mine = control.assign(**{column: control[column] + difference})
            assert changed(mine, control, 0.05) == (p <= 0.025), (seed, column)
        seen.add(int(p <= 0.025) + int(p <= 0.05))
    assert seen == {0, 1, 2} and not changed(control, control)
