"""Paired gains at a dose that other openings chose: every number against one said in a line, on planted experiments."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from planted_doses import DOSES, LIMITS, WHOLE, experiment, spread, steady

from lens_emotion.errors import AnalysisError
from lens_emotion.steering.dose_result import cross_fit
from lens_emotion.steering.paired import ABLE, able
from lens_emotion.steering.regimes import COLLAPSE, EXPLOSIVE, INERT
from lens_emotion.study.claims.steering import causal
from lens_emotion.study.verdict import UNDETERMINED

SD = spread(8, 2 * 8 * WHOLE)


def best_apart(k, opening, dose):
    """Opening 0 gains most at dose 1, opening 1 at dose 2."""
    return 0.1 * (-1) ** k + (4.0 if dose == opening + 1 else 2.0 if dose < 3 else 0.0)


def test_a_dose_is_chosen_on_the_other_openings():
    found = experiment(best_apart).paired()
    assert found.doses == (2.0, 1.0)  # opening 0 is tested at the best dose of opening 1
    assert found.random.value == pytest.approx(2.0 / SD)  # at the dose it would have chosen itself: 4
    assert found.table.dose.tolist() == [1.5] * 8
    same = experiment(lambda k, opening, dose: best_apart(k, 0, dose)).paired()
    assert same.doses == (1.0, 1.0) and same.random.value == pytest.approx(4.0 / SD)


def test_the_control_of_another_emotion_plays_no_part_in_the_choice():
    found = experiment(best_apart, lambda k, opening, dose: 9.0 * (dose == opening + 1)).paired()
    assert found.doses == (2.0, 1.0)
    assert found.random.value == pytest.approx(2.0 / SD) and found.other.value == pytest.approx(2.0 / SD)


def test_success_is_tested_at_the_dose_of_the_other_openings_too():
    made = experiment(best_apart)
    hits = (made.texts.condition == "emotion") & (
        (made.texts.dose == made.texts.opening + 1) | (made.texts.scenario < 6)
    )
    texts = made.texts.assign(success=hits & (made.texts.dose < 3))
    found = cross_fit(texts, made.others.assign(success=False), LIMITS)
    assert found.table.dose.tolist() == [2.0, 1.0]
    assert found.success == 6 and found.n == 16 and found.table.success.tolist() == [3, 3]


def test_the_smaller_of_equal_doses_is_taken_and_one_that_breaks_text_never_is():
    level = experiment(steady(1.0, 0.0))
    assert level.paired().doses == (1.0, 1.0)
    rising = experiment(lambda k, opening, dose: dose)
    assert rising.paired().doses == (2.0, 2.0)  # text loops at 4 and explodes at 8
    assert rising.paired().random.value == pytest.approx(2.0 / SD)
    texts = level.texts.assign(success=level.texts.condition.eq("emotion"))
    assert cross_fit(texts, level.others, LIMITS).table.dose.tolist() == [1.0, 1.0]
    table = level.table.assign(regime="surgical", success=3, success_rate=3 / 16, top_emotions=2)
    assert replace(level, table=table.iloc[::-1]).surgical_dose == 1.0
    more = table.success.where(table.dose != 2.0, 5)  # more successes beat more emotions that rank first
    ranked = table.assign(success=more, success_rate=more / 16, top_emotions=table.dose.astype(int) % 2)
    assert replace(level, table=ranked).surgical_dose == 2.0
    assert replace(level, table=table.assign(top_emotions=[0, 0, 2, 0, 2, 0, 1, 0])).surgical_dose == 2.0


def test_gains_are_in_sds_of_random_scores_within_emotions():
    """The mean of each emotion is estimated, which costs a degree of freedom; emotions' own levels are no spread."""
    made = experiment(steady(1.0, 0.0), n_emotions=4)
    assert made.paired().random.value == pytest.approx(1.0 / spread(4, 16))
    level = made.texts.scenario // 2 * 100.0  # what the judge gives an emotion whatever it reads
    moved = replace(made, texts=made.texts.assign(target_score=made.texts.target_score + level))
    moved = replace(
        moved, others=made.others.assign(target_score=made.others.target_score + made.others.scenario // 2 * 100.0)
    )
    assert moved.paired().random.value == pytest.approx(1.0 / spread(4, 16))
    assert moved.paired().other.value == pytest.approx(1.0 / spread(4, 16))


def test_emotions_are_the_units_and_an_interval_knows_their_spread():
    found = experiment(steady(1.0, 0.5), openings=4).paired()
    assert found.random.n == found.other.n == 8 and found.table.n.tolist() == [4] * 8
    gains = np.array([1.5, 0.5] * 4) / spread(8, 4 * 8 * WHOLE)
    assert found.random.error == pytest.approx(gains.std(ddof=1) / np.sqrt(8))
    assert found.table.random.tolist() == pytest.approx(gains.tolist())


def test_doses_span_if_some_leave_text_whole_and_some_do_not():
    assert experiment().paired().spans
    assert experiment(loops=(), breaks=(8.0,)).paired().spans and experiment(loops=(8.0,), breaks=()).paired().spans
    assert not experiment(loops=(), breaks=()).paired().spans
    made = experiment()
    for condition, spans in (("emotion", True), ("random", False)):  # the emotion's own texts have to break
        texts = made.texts.assign(text_regime=made.texts.text_regime.where(made.texts.condition == condition, INERT))
        assert replace(made, texts=texts).paired().spans == spans
    assert not experiment(doses=(0.1, 0.2, 8.0), loops=()).paired().spans  # what steers may lie between .2 and 8
    none = experiment(steady(2.0), loops=DOSES[:2], breaks=DOSES[2:]).paired()
    assert not none.spans and none.random is None and none.other is None and none.doses == (None, None)
    assert none.table.empty and none.summary() == "every dose breaks the text, so that nothing can be compared"


def test_a_gain_is_excluded_only_where_no_dose_has_it():
    """Each opening gains at the other's dose: what was chosen shows nothing, while every dose has half of the gain."""
    apart = experiment(lambda k, opening, dose: 2.0 * (dose == opening + 1) + 0.1 * (-1) ** k).paired()
    assert apart.doses == (2.0, 1.0) and set(apart.at) == {"random", "other"}
    assert set(apart.at["random"]) == {1.0, 2.0}  # text loops at 4
    assert apart.at["other"][1.0].value == pytest.approx(1.0 / SD) and apart.at["other"][1.0].n == 8
    assert apart.random.high < 0.5 and not apart.excludes("random", 0.5) and apart.p_below("random", 0.5) > 0.9
    none = experiment(lambda k, opening, dose: 0.1 * (-1) ** k).paired()
    assert none.excludes("random", 0.5) and none.excludes("other", 0.5)
    sure = max(e.p_below(0.5) for e in (none.random, *none.at["random"].values()))
    assert none.p_below("random", 0.5) == sure < 0.05
    assert not none.excludes("random", 0.05)
    for control in ("random", "other"):  # what was found at the doses chosen counts too
        wild = replace(getattr(none, control), low=-2.0, high=2.0, error=1.0)
        open_there = replace(none, **{control: wild})
        assert not open_there.excludes(control, 0.5) and open_there.p_below(control, 0.5) == wild.p_below(0.5) > 0.2
    wide = experiment(lambda k, opening, dose: (2.0 if dose == 2 else 0.05) * (-1) ** k + 0.2 * (dose == 1)).paired()
    assert wide.doses == (1.0, 1.0) and wide.random.high < 0.5
    assert not wide.excludes("random", 0.5)  # one dose that leaves it open is enough


def test_what_was_not_run_is_not_compared():
    found = experiment(steady(1.0), other=None).paired()
    assert found.other is None and found.table.other.isna().all() and "another emotion" not in found.summary()
    said = experiment(steady(1.0, 0.0)).paired().summary()
    assert "+0.87 [+0.87, +0.87] over random directions, +0.87 [+0.87, +0.87] over another emotion's vector" in said
    assert "mean over 8 emotions (dose 1, chosen on other openings)" in said
    assert "dose 2 and 1" in experiment(best_apart).paired().summary()


def test_one_opening_or_two_emotions_do_not_suffice():
    with pytest.raises(AnalysisError, match="two scenarios of each"):
        experiment(openings=1).paired()
    with pytest.raises(AnalysisError, match="at least 3 emotions"):
        experiment(n_emotions=2).paired()
    assert experiment(n_emotions=3).paired().random.n == 3


def test_a_judge_is_able_a_fifth_of_the_way_from_its_own_chance():
    ten, twenty = tuple("abcdefghij"), tuple("abcdefghijklmnopqrst")
    assert able(None, ten, {}) == (False, 0.1)
    for names, chance in ((ten, 0.1), (twenty, 0.05)):
        least = chance + ABLE * (1 - chance)
        assert able(least, names, {}) == (True, chance) and able(least - 1e-9, names, {}) == (False, chance)
        assert not able(1.5 * chance, names, {})[0]
    # nine of ten are one group: naming that group every time is right in nine of ten
    groups = {e: "rest" for e in ten[1:]}
    assert able(0.9, ten, groups) == (False, 0.9) and able(0.92, ten, groups)[0]
    made = experiment(judge=0.3, groups={e: "joy" for e in experiment().scores.columns[3:9]})
    assert made.able == (False, 0.75) and experiment(judge=0.31).able == (True, 0.125)


def test_broken_texts_are_compared_with_nothing():
    """A gain in texts that are broken, on whichever side, is none: also where most texts of the dose are whole."""

    def gain(k, opening, dose):
        return 6.0 * (k < 3)

    made = experiment(gain)
    torn = (made.texts.scenario < 6) & (made.texts.dose < 3) & (made.texts.condition == "emotion")
    for regime in (EXPLOSIVE, COLLAPSE):
        found = replace(made, texts=made.texts.assign(text_regime=made.texts.text_regime.mask(torn, regime))).paired()
        assert found.random.value == pytest.approx(0.0) and found.random.n == found.other.n == 5
    control = (made.texts.dose < 3) & (made.texts.condition == "random") & (made.texts.scenario < 10)
    texts = made.texts.assign(text_regime=made.texts.text_regime.mask(control, EXPLOSIVE))
    assert replace(made, texts=texts).paired().random is None  # five of eight emotions have nothing to be compared with


def test_wild_scores_of_broken_texts_and_of_few_emotions_are_not_the_unit():
    made = experiment(steady(1.0, 0.0))
    wild = made.texts.target_score.where(made.texts.dose < 3, made.texts.target_score * 20)
    assert replace(made, texts=made.texts.assign(target_score=wild)).paired().random.value == pytest.approx(1.0 / SD)
    few = made.texts.target_score.where(made.texts.scenario >= 4, made.texts.target_score * 20)
    found = replace(made, texts=made.texts.assign(target_score=few)).paired()
    assert found.typical == pytest.approx(0.1, abs=0.01) and made.paired().typical == 1.0


@pytest.mark.parametrize("moving", [0, 2, 6])
def test_where_most_emotions_never_move_under_the_control_nothing_is_too_small_to_matter(moving):
    """As with a judge that counts words: random directions bring out none of most emotions."""
    made = experiment()
    gain = 0.3 * (-1) ** (made.texts.scenario // 2) * (made.texts.condition == "emotion")
    scores = made.texts.target_score.where(made.texts.scenario < moving, gain)
    made = replace(made, texts=made.texts.assign(target_score=scores), others=made.others.assign(target_score=0.0))
    assert made.paired().typical == 0.0
    claim = causal("planted", made, 0.8)
    assert claim.verdict == UNDETERMINED and claim.smallest == 0.0
    assert "which size would matter cannot be said" in claim.reach and "what would matter has no unit" in claim.null
    assert "0 would matter" not in claim.null + claim.reach + claim.reason


@pytest.mark.parametrize(("accuracy", "sight"), [(0.6, 1.0), (0.35, 18 / 35), (0.4, 22 / 35), (None, 1.0), (0.2, 1.0)])
def test_what_matters_is_less_to_a_judge_that_hardly_sees_it(accuracy, sight):
    """Half way from its chance (1/8) to perfect it is the whole; a judge that is not able decides nothing anyway."""
    assert experiment(judge=accuracy).sight == pytest.approx(sight)


def test_a_dose_that_breaks_most_pairs_is_not_chosen_for_what_the_others_gain():
    made = experiment(lambda k, opening, dose: 0.5 + 5.0 * (dose == 2))
    torn = (made.texts.dose == 2) & (made.texts.condition == "emotion") & (made.texts.scenario < 10)
    found = replace(made, texts=made.texts.assign(text_regime=made.texts.text_regime.mask(torn, COLLAPSE))).paired()
    assert found.doses == (1.0, 1.0) and found.random.value == pytest.approx(0.5 / SD)
    assert set(found.at["random"]) == {1.0}  # the three emotions that are whole at 2 say nothing of it


def test_emotions_with_fewer_whole_texts_weigh_less_in_the_unit():
    """One emotion has two whole random texts (variance 2), seven have four (variance 4/3)."""
    made = experiment(steady(1.0, 0.0))
    torn = (made.texts.dose == 1) & (made.texts.condition == "random") & (made.texts.scenario < 2)
    found = replace(made, texts=made.texts.assign(text_regime=made.texts.text_regime.mask(torn, EXPLOSIVE))).paired()
    assert found.random.n == 7 and found.random.value == pytest.approx(1 / np.sqrt((2 + 7 * 4) / 22))


def test_an_emotion_or_three_that_stay_away_do_not_hide_what_the_others_gain():
    """As with a judge that counts words: what gains, gains one and the same."""
    made = experiment(lambda k, opening, dose: 0.0 if k in (3, 9, 14) else 5.0 + 0.001 * k, n_emotions=16).paired()
    assert made.random.value == pytest.approx(13 / 16 * 5.0 / spread(16, 64), rel=0.01)
    assert 0.0 < made.random.low < 3.0
