"""Controls that control: whose random directions, which threshold, whose texts a judge learnt from, a text alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny
from planted_doses import LIMITS, experiment, steady
from scipy.stats import wilcoxon
from steered import vectors_of
from test_judges import save_classifier

from lens_emotion.steering.experiment import _plan
from lens_emotion.steering.grid import _control
from lens_emotion.steering.judges import Judge, encoder_judge, held_out_accuracy, states_judge
from lens_emotion.steering.outcomes import changed, condition_row, dose_table, rate, with_targets
from lens_emotion.steering.regimes import COLLAPSE, EXPLOSIVE, INERT, SURGICAL, looping, regime, text_regimes
from lens_emotion.stimuli.prompts import Scenario
from lens_emotion.stimuli.sets import Stimulus, StimulusSet


def planned(seed=0, doses=(1.0, 2.0), other=True):
    vectors = vectors_of(tiny())
    scenarios = [Scenario(f"{e}-{k}", e, f"Opening {k}") for e in vectors.emotions for k in range(3)]
    plan, conditions = _plan(vectors, scenarios, doses, "natural", seed, other)
    return vectors, plan.assign(direction=[c.vector.direction.numpy().tobytes() for c in conditions]), conditions


def test_every_scenario_has_its_own_random_direction_and_another_for_its_threshold():
    _, plan, conditions = planned()
    drawn = plan[plan.condition.isin(["random", "null"])]
    assert drawn.groupby(["condition", "scenario"]).direction.nunique().eq(1).all()  # one for all doses
    assert drawn.direction.nunique() == 2 * 9  # no scenario shares another's, nor its own threshold's
    again, elsewhere = planned()[1], planned(seed=1)[1]
    assert again.direction.tolist() == plan.direction.tolist()
    other = elsewhere[elsewhere.condition.isin(["random", "null"])]
    assert not set(other.direction) & set(drawn.direction)
    assert all(c.seed == i for c, i in zip(conditions, plan.scenario, strict=True))


def test_controls_are_as_long_as_the_emotion_they_stand_for_and_other_is_another():
    vectors, plan, conditions = planned()
    for row, made in zip(plan.itertuples(), conditions, strict=True):
        mine = vectors[vectors.emotions[row.scenario // 3]]
        assert torch.equal(made.dose.length(made.vector), made.dose.length(mine)) and made.dose.value == row.dose
        assert (row.steered == mine.name) == (row.condition == "emotion")
        assert (row.steered in vectors.emotions) == (row.condition in ("emotion", "other"))
    assert "other" not in set(planned(other=False)[1].condition)


def test_the_grids_random_direction_hangs_on_emotion_and_prompt_alone():
    vectors = vectors_of(tiny())
    drawn = {(e, p): _control(vectors, "random", e, p).direction for e in vectors.emotions for p in ("a", "b", "c")}
    assert len({d.numpy().tobytes() for d in drawn.values()}) == 9
    assert torch.equal(_control(vectors, "random", "sad", "b").direction, drawn["sad", "b"])
    for emotion in vectors.emotions:
        assert all(_control(vectors, "other", emotion, p).name not in (emotion, "") for p in "abcdef")


def judged(null, emotion, random, unsteered=0.0, text="said"):
    """Texts of one dose with these target scores, through the package's own table."""
    n = len(emotion)
    scenarios = [Scenario(str(i), "sad", "Opening") for i in range(n)]
    rows = pd.concat(
        [
            pd.DataFrame({"condition": c, "dose": 1.0, "scenario": range(n), "score_sad": scores, "text": text})
            for c, scores in (("emotion", emotion), ("random", random), ("null", null))
        ],
        ignore_index=True,
    ).assign(score_calm=0.0, nll=1.0, entropy=1.0, broken=False, distinct_2=0.9, loop_share=0.0, edit_distance=0.5)
    before = pd.DataFrame({"score_sad": [unsteered] * n, "score_calm": 0.0, "nll": 1.0})
    judge = Judge("j", ("sad", "calm"), lambda t: np.zeros((len(t), 2)))
    return with_targets(rows, before, scenarios, judge, LIMITS)


def test_success_needs_the_95th_percentile_of_the_other_random_directions():
    null = np.arange(21.0)  # whose 95th percentile is 19
    texts = judged(null, emotion=np.arange(21.0), random=np.full(21, 100.0))
    mine = texts[texts.condition == "emotion"]
    assert mine.success.tolist() == [x > 19 for x in range(21)] and mine.moved.tolist() == [x > 0 for x in range(21)]
    assert texts[texts.condition == "random"].success.all()
    below = judged(null - 100, np.arange(21.0), np.zeros(21), unsteered=10.0)
    assert below[below.condition == "emotion"].success.tolist() == [x > 10 for x in range(21)]
    silent = judged(null, np.full(21, 50.0), np.zeros(21), text=" \n")
    assert not silent.moved.any() and not silent.success.any()


def test_the_table_of_doses_tests_emotion_against_random_and_corrects_for_the_doses():
    made = experiment(steady(3.0, 0.0), loops=(), breaks=())
    emotion = made.table[made.table.condition == "emotion"]
    assert emotion.success.tolist() == [16] * 4 and emotion.other_success.tolist() == [0] * 4
    assert emotion.p_random.tolist() == pytest.approx([2 * 0.5**16] * 4)
    assert emotion.p_corrected.tolist() == pytest.approx([4 * 2 * 0.5**16] * 4)
    random = made.table[made.table.condition == "random"]
    assert random.p_random.isna().all() and random.p_corrected.isna().all() and random.success.tolist() == [0] * 4
    assert set(emotion.regime) == {SURGICAL} and set(random.regime) == {INERT} and not random.changed.any()
    moved = made.texts.assign(  # what random directions do as well is no gain, and says so
        success=True, nll=made.texts.nll + 1e-3 * np.arange(len(made.texts)) * made.texts.condition.eq("emotion")
    )
    same = dose_table(moved, {d: (d, d) for d in set(moved.dose)}, LIMITS)
    assert set(same.regime) == {INERT} and set(same[same.condition == "emotion"].changed) == {True}
    assert not same[same.condition == "random"].changed.any()
    few = moved.assign(success=moved.condition.eq("emotion") & (moved.scenario < 5))  # 5 of 16 more, p = .0625
    assert set(dose_table(few, {d: (d, d) for d in set(few.dose)}, LIMITS).regime) == {INERT}
    six = moved.assign(success=moved.condition.eq("emotion") & (moved.scenario < 6))
    assert SURGICAL in set(dose_table(six, {d: (d, d) for d in set(six.dose)}, LIMITS).regime)
    texts = pd.concat([made.texts, made.others])
    again = dose_table(texts.assign(score_sad=0.0), {d: (d, d) for d in set(texts.dose)}, LIMITS)
    assert again.success.tolist() == made.table.success.tolist()
    low, high = rate("success", pd.Series([True] * 37 + [False] * 3))["success_low"], 0.974
    assert round(low, 3) == 0.801 and round(rate("x", pd.Series([True] * 37 + [False] * 3))["x_high"], 3) == high


def test_a_condition_gains_over_its_control_and_is_changed_at_the_level_of_its_thresholds():
    def texts(hits, nll=0.0):
        rows = {"success": np.arange(100) < hits, "moved": True, "nll": 1.0 + nll, "unsteered_nll": 1.0, "entropy": 1.0}
        return pd.DataFrame(rows | {"distinct_2": 0.9, "loop_share": 0.0, "edit_distance": 0.5})

    control = texts(50)
    sure = condition_row(texts(56), control, None, LIMITS)  # 6 of 100 more: p = .031, and less than a tenth
    assert sure["regime"] == INERT and sure["p_random"] == pytest.approx(2 * 0.5**6) and not sure["changed"]
    assert condition_row(texts(61), control, None, LIMITS)["regime"] == SURGICAL
    wave = np.where(np.arange(100) % 9 < 5, 0.125, -0.125)  # p = .2 or so
    assert not condition_row(texts(50, wave), control, None, LIMITS)["changed"]
    assert condition_row(texts(50, 0.1), control, None, LIMITS)["changed"]


def test_texts_are_changed_at_a_level_that_two_measures_share():
    """Distances that differ with p between .025 and .05 by one measure of the two are no change."""
    steps = np.arange(1.0, 13.0)
    control = pd.DataFrame({"edit_distance": np.zeros(12), "nll": np.zeros(12)})
    for signs, lies in (([-1] * 3 + [1] * 9, (0.025, 0.05)), ([-1] * 2 + [1] * 10, (0.0, 0.025))):
        order = steps * np.r_[signs] if lies[0] == 0 else steps[[0, 4, 7, 1, 2, 3, 5, 6, 8, 9, 10, 11]] * np.r_[signs]
        p = wilcoxon(order, zero_method="zsplit", method="asymptotic").pvalue
        assert lies[0] < p < lies[1]
        for measure in ("edit_distance", "nll"):
            assert changed(control.assign(**{measure: order}), control) == (lies[1] == 0.025)
            assert changed(control.assign(**{measure: order}), control, alpha=0.1)
    broken = control.assign(nll=np.inf)
    assert not changed(broken, broken)


EDGES = [  # perplexity ratio, distinct-2, loop share, gain, p; LIMITS has 4, .5, .4, .1 and .05
    ((4.0, 0.9, 0.0, 0.5, 0.01), SURGICAL),
    ((4.001, 0.9, 0.0, 0.5, 0.01), EXPLOSIVE),
    ((1.0, 0.5, 0.4, 0.5, 0.01), SURGICAL),
    ((1.0, 0.499, 0.0, 0.5, 0.01), COLLAPSE),
    ((1.0, 0.9, 0.401, 0.5, 0.01), COLLAPSE),
    ((1.0, 0.9, 0.0, 0.1, 0.05), SURGICAL),
    ((1.0, 0.9, 0.0, 0.099, 0.01), INERT),
    ((1.0, 0.9, 0.0, 0.1, 0.051), INERT),
    ((1.0, 0.9, 0.0, 0.1, None), SURGICAL),
]


@pytest.mark.parametrize(("case", "name"), EDGES)
def test_the_limits_of_a_regime_belong_to_the_calmer_one(case, name):
    ratio, distinct, loops, gain, p = case
    assert regime(ratio, distinct, loops, gain, LIMITS, p) == name
    assert looping(distinct, loops, LIMITS) == (name == COLLAPSE)
    one = [np.array([x]) for x in (ratio, distinct, loops)]
    (text,) = text_regimes(*one, np.array([name == SURGICAL]), LIMITS)
    assert text == name


def test_held_out_accuracy_of_noise_is_chance_and_of_its_own_texts_would_not_be():
    rng = np.random.default_rng(0)
    labels, topics = [f"e{k}" for k in range(4)] * 30, np.repeat([f"t{i}" for i in range(30)], 4).tolist()
    rows = rng.standard_normal((120, 300)) + np.repeat(rng.standard_normal((30, 300)), 4, axis=0)
    texts = [f"text {i}" for i in range(120)]
    assert abs(held_out_accuracy(rows, labels, topics, texts) - 0.25) < 0.1
    means = np.stack([rows[np.array(labels) == e].mean(0) for e in sorted(set(labels))])
    seen = ((rows - means.mean(0)) @ (means - means.mean(0)).T).argmax(1)
    assert (seen == np.arange(120) % 4).mean() > 0.8  # what accuracy would be on texts that were learnt


@pytest.fixture
def encoder(tmp_path):
    words = {"happy": "glad", "sad": "sorry", "calm": "scared", "angry": "cross"}
    texts = {
        (e, t): f"{word} day {' '.join(list(words.values())[: t + 1])}" for e, word in words.items() for t in range(3)
    }
    items = [Stimulus(f"{e}-{t}", text, e, f"t{t}") for (e, t), text in texts.items()]
    save_classifier(tmp_path, ["a", "b"], base_only=True)
    return lambda batch: encoder_judge(tmp_path, StimulusSet("mine", tuple(items)), batch_size=batch)


TEXTS = ["glad", "sorry day sorry day sorry day sorry day sorry day", "scared cross", "", "day"]


def test_a_text_has_the_score_of_itself_whoever_shares_its_batch(encoder):
    whole = encoder(32)
    together, alone = whole.score(TEXTS), np.concatenate([whole.score([t]) for t in TEXTS])
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(encoder(1).score(TEXTS), together, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(whole.score(TEXTS[::-1])[::-1], together, rtol=1e-3, atol=1e-6)
    assert encoder(1).accuracy == whole.accuracy and np.ptp(together, axis=0).min() > 1e-4


def test_a_models_states_judge_a_text_alone_as_they_do_in_a_batch(acts):
    judge = states_judge(tiny(), acts, 3)
    texts = [acts.records[0].text, "Anna", acts.records[7].text + " " + acts.records[8].text, "", "Ben walked home."]
    together, alone = judge.score(texts), np.concatenate([judge.score([t]) for t in texts])
    np.testing.assert_allclose(together, alone, rtol=2e-2, atol=1e-4)
    assert (together.argmax(1) == alone.argmax(1)).all() and np.ptp(together, axis=0).max() > 0.1
