"""C1 to C4 and C8: every way to every verdict, from planted results, with its words, its effect and its p."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from planted import planted
from scipy.stats import ttest_1samp

from lens_emotion.analysis.decoding import CENTRED, STANDARDISED, decoding
from lens_emotion.analysis.layers import LayerSweep
from lens_emotion.analysis.matched import TopicAccuracy
from lens_emotion.analysis.removal import Removal
from lens_emotion.analysis.separation import separation
from lens_emotion.analysis.ushape import Coefficient, UShape
from lens_emotion.errors import AnalysisError, StimulusError
from lens_emotion.models.access import ModelInfo
from lens_emotion.stats.decide import Estimate, estimate
from lens_emotion.stats.design import TIED
from lens_emotion.study.claims import methods, reading
from lens_emotion.study.claims.methods import NO_WRITING, better_by_writing, tuning
from lens_emotion.study.claims.reading import beyond_anisotropy, middle_layers, u_shape, without_neutral
from lens_emotion.study.results import Evidence
from lens_emotion.study.verdict import NOT_SUPPORTED, NOT_TESTABLE, SUPPORTED, UNDETERMINED, Claim, hangs_on_decoder

TOPICS = 12
WAVE = np.tile([0.05, -0.05], TOPICS // 2)
NOISE = np.tile([0.6, 0.2, -0.2, -0.6], TOPICS // 4)
CHANCE = 0.05


def right(units, tokens=60.0, tied="", wave=0.1):
    """Accuracy on each topic: a number that waves a little from topic to topic, or all of them."""
    units = np.asarray(units, dtype=float) if np.ndim(units) else units + wave * np.tile([1, 1, -1, -1], TOPICS // 4)
    names = tuple(f"t{i}" for i in range(len(units)))
    none = np.zeros((0, 2))
    return TopicAccuracy(names, units, CHANCE, estimate(units - CHANCE, "topics"), 0.0, none, tokens, 240, tied)


@pytest.fixture(scope="module")
def four():
    """Four sets that are told apart by who they are."""
    return [planted(n_emotions=2, n_topics=3, n_layers=1, d_model=4, seed=s).acts for s in range(4)]


@pytest.fixture
def accurate(monkeypatch, four):
    """Gives the sets these accuracies, and those by the standardised decoder where they are other ones."""

    def plant(*found, standardised=None):
        by = {CENTRED: found, STANDARDISED: standardised or found}
        monkeypatch.setattr(methods, "alike", lambda *sets: sets)
        place = {id(acts): i for i, acts in enumerate(four)}
        monkeypatch.setattr(methods, "topic_accuracy", lambda x, seed, decoder=CENTRED: by[decoder][place[id(x)]])

    return plant


AT = right(CHANCE, wave=0.2)  # not decodable
WRITING = {  # accuracy of stories, of passages -> C1, and why
    "better": (right(0.6), right(0.3), SUPPORTED, "writing tells the emotions apart better"),
    "better, though less than matters": (right(0.35 + WAVE / 10), right(0.3 + 0 * WAVE), SUPPORTED, "apart better"),
    "better, though both are at the ceiling": (right(0.99 + 0 * WAVE), right(0.95 + WAVE / 9), SUPPORTED, "better"),
    "alike": (right(0.5 + WAVE), right(0.5 - WAVE), NOT_SUPPORTED, "writing gains less than 0.1"),
    "worse": (right(0.3), right(0.6), NOT_SUPPORTED, "reading tells them apart better"),
    "worse, and not decodable": (AT, right(0.6), NOT_SUPPORTED, "reading tells them apart better"),
    "neither decodable": (AT, AT, UNDETERMINED, "emotion cannot be decoded above chance in either, so that"),
    "both at the ceiling": (right(0.95 + WAVE), right(0.95 - WAVE), UNDETERMINED, "both are at the ceiling, so that"),
    "one at the ceiling": (right(0.85 + WAVE), right(0.95 - WAVE), NOT_SUPPORTED, "reading tells them apart better"),
    "open": (right(0.5 + NOISE), right(0.5), UNDETERMINED, "neither a gain nor its absence is shown; 12 topics find"),
    "two in a hundred more tokens": (right(0.6, 61.2), right(0.3), SUPPORTED, "tells the emotions apart better"),
    "more tokens": (right(0.6, 75.0), right(0.3), UNDETERMINED, "the stories pool 75 tokens a text, the passages 60"),
    "better with fewer tokens": (right(0.6, 60.0), right(0.3, 75.0), SUPPORTED, "tells the emotions apart better"),
    "worse with more tokens": (right(0.3, 75.0), right(0.6, 60.0), NOT_SUPPORTED, "reading tells them apart better"),
    "fewer tokens": (right(0.3, 60.0), right(0.6, 76.0), UNDETERMINED, "the stories pool 60 tokens a text, the"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRITING)
def test_c1(case, accurate, four):
    written, read, verdict, why = WRITING[case]
    accurate(written, read)
    claim = better_by_writing("m", four[0], four[1], ("Beside it.",))
    assert (claim.code, claim.verdict) == ("C1", verdict) and why in claim.reason, claim.reason
    gain = written.units - read.units
    assert claim.effect.value == pytest.approx(gain.mean()) and claim.effect.low <= gain.mean() <= claim.effect.high
    if gain.std() > 1e-9:
        p = [
            float(ttest_1samp(gain, limit, alternative=side).pvalue) for limit, side in ((0, "greater"), (0.1, "less"))
        ]
        assert claim.p == pytest.approx(p[0]) and claim.evidence == pytest.approx(tuple(p))
    assert claim.n == "12 topics" and claim.smallest == 0.1
    assert f"is {written.value:.2f} for the model's own stories" in claim.sentence and claim.reason in claim.sentence
    assert f"{read.value:.2f} for passages" in claim.sentence and claim.sentence.endswith("Beside it.")


def test_c1_the_ceiling_is_one_less_the_smallest_of_interest_and_no_nearer(accurate, four):
    for level, verdict in ((0.75, NOT_SUPPORTED), (0.7501, UNDETERMINED)):
        accurate(right(np.full(TOPICS, level)), right(np.full(TOPICS, 1.0)))
        assert better_by_writing("m", four[0], four[1], smallest=0.25).verdict == verdict


def test_c1_a_users_own_smallest_gain_decides(accurate, four):
    accurate(right(0.5 + 1.5 * WAVE), right(0.5 - 1.5 * WAVE))
    for smallest, verdict in ((0.05, UNDETERMINED), (0.2, NOT_SUPPORTED)):
        claim = better_by_writing("m", four[0], four[1], smallest=smallest)
        assert (claim.verdict, claim.smallest) == (verdict, smallest)
    assert "less than 0.2" in claim.reason


def test_c1_is_undetermined_where_the_decoders_differ(accurate, four):
    accurate(right(0.6), right(0.3), standardised=(right(0.3), right(0.6)))
    claim = better_by_writing("m", four[0], four[1])
    assert claim.verdict == UNDETERMINED and "it hangs on the decoder (centred cosine: supported" in claim.reason
    accurate(right(0.6), right(0.3), standardised=(right(0.5), right(0.3)))
    same = better_by_writing("m", four[0], four[1])
    assert same.verdict == SUPPORTED and same.effect.value == pytest.approx(0.3)
    assert "Standardised per dimension: In m" in same.sentence and "(difference +0.20" in same.sentence


@pytest.mark.parametrize("side", [0, 1])
def test_c1_is_not_testable_where_copies_tie_either_side(side, accurate, four):
    sets = [right(0.6), right(0.3)]
    sets[side] = right(0.5, tied="copies leave nothing")
    accurate(*sets)
    claim = better_by_writing("m", four[0], four[1])
    assert (claim.verdict, claim.reason) == (NOT_TESTABLE, "copies leave nothing")


def test_c1_is_not_testable_without_stories(four, monkeypatch):
    assert better_by_writing("m", None, four[1]).reason == NO_WRITING
    assert better_by_writing("m", None, four[1], why="it wrote nothing").reason == "it wrote nothing"
    for error in (StimulusError, AnalysisError):

        def refuse(*sets, error=error):
            raise error("too few topics")

        monkeypatch.setattr(methods, "alike", refuse)
        claim = better_by_writing("m", four[0], four[1])
        assert claim.verdict == NOT_TESTABLE and claim.reason.endswith("too few topics")


def models(four, base_kind="base", lacking=None):
    """A base model and its instruct version, whose sets are writing before and after, reading before and after."""

    def one(name, kind, bare, passages):
        info = ModelInfo(name, "llama", "bridge", 1, 4, 256, 1000, "float32", "cpu", "0" * 64, False, "3.9.0")
        return Evidence(
            info, kind, 1.0, passages, passages, bare, bare, None, None, "planted", lacking=dict(lacking or {})
        )

    return one("b", base_kind, four[0], four[2]), one("i", "instruct", four[1], four[3])


FLOOR, CEILING = (right(CHANCE + NOISE), right(CHANCE + NOISE)), (right(0.95 + WAVE), right(0.95 + WAVE))
SAME = (right(0.4), right(0.4))
TUNED = {  # writing before and after, reading before and after -> C8, and why
    "writing gains, reading does not": ((right(0.3), right(0.6)), SAME, SUPPORTED, "writing gains, and gains more"),
    "writing gains, reading gains less": (
        (right(0.3), right(0.6)), (right(0.4), right(0.45)), SUPPORTED, "and gains more than reading"),
    "writing gains, reading loses": ((right(0.3), right(0.6)), (right(0.5), right(0.3)), SUPPORTED, "gains more than"),
    "nothing gains": (SAME, SAME, NOT_SUPPORTED, "writing gains less than 0.1"),
    "writing loses": ((right(0.6), right(0.3)), SAME, NOT_SUPPORTED, "writing gains less than 0.1"),
    "writing loses, reading loses more": (
        (right(0.6), right(0.55)), (right(0.8), right(0.3)), NOT_SUPPORTED, "writing gains less than 0.1"),
    "both gain": ((right(0.3), right(0.6)), (right(0.3), right(0.6)), NOT_SUPPORTED, "less than 0.1 more than reading"),
    "reading gains more": ((right(0.3), right(0.5)), (right(0.3), right(0.7)), NOT_SUPPORTED, "0.1 more than reading"),
    "writing gains, reading at the ceiling": (
        (right(0.3), right(0.6)), CEILING, UNDETERMINED, "writing gains, but reading could not have: both are at the"),
    "writing gains, reading at the floor": (
        (right(0.3), right(0.6)), FLOOR, UNDETERMINED, "writing gains, but reading could not have: emotion cannot be"),
    "nothing gains, reading at the ceiling": (SAME, CEILING, NOT_SUPPORTED, "writing gains less than 0.1"),
    "nothing gains, reading at the floor": (SAME, FLOOR, NOT_SUPPORTED, "writing gains less than 0.1"),
    "writing at the floor": (FLOOR, SAME, UNDETERMINED, "emotion cannot be decoded above chance in either"),
    "writing at the ceiling": (CEILING, SAME, UNDETERMINED, "both are at the ceiling"),
    "writing open, no more than reading, which is at the floor": (
        (right(0.5), right(0.5 + NOISE)), (right(CHANCE + NOISE / 2), right(CHANCE + NOISE * 1.5)), UNDETERMINED,
        "a gain of writing over reading is neither shown nor excluded; 12 topics find"),
    "writing open, no more than reading": (
        (right(0.5), right(0.5 + NOISE)), (right(0.5), right(0.5 + NOISE)), NOT_SUPPORTED, "0.1 more than"),
    "open": ((right(0.5), right(0.5 + NOISE)), SAME, UNDETERMINED, "neither shown nor excluded; 12 topics"),
    "writing gains, more than reading is open": (
        (right(0.3), right(0.6)), (right(0.5), right(0.6 + NOISE)), UNDETERMINED, "neither shown nor excluded"),
    "longer stories": (
        (right(0.3), right(0.6, 76.0)), SAME, UNDETERMINED, "the base model's stories pool 60 tokens a text"),
    "longer passages": ((right(0.3), right(0.6)), (right(0.4, 99.0), right(0.4)), SUPPORTED, "gains more than reading"),
}  # fmt: skip


@pytest.mark.parametrize("case", TUNED)
def test_c8(case, accurate, four):
    (before, after), (read_before, read_after), verdict, why = TUNED[case]
    accurate(before, after, read_before, read_after)
    claim = tuning(*models(four), smallest=0.1)
    assert (claim.code, claim.scope, claim.verdict) == ("C8", "b -> i", verdict) and why in claim.reason, claim.reason
    gain = after.units - before.units
    more = gain - (read_after.units - read_before.units)
    assert claim.effect.value == pytest.approx(more.mean(), abs=1e-9)
    assert f"({before.value:.2f} to {after.value:.2f}) and by" in claim.sentence and claim.reason in claim.sentence
    assert f"({read_before.value:.2f} to {read_after.value:.2f})" in claim.sentence and claim.n == "12 topics"
    found = [estimate(x, "topics") for x in (gain, more)]
    assert claim.p == max(e.p_above() for e in found)
    expected = (claim.p, min(1.0, 2 * min(e.p_below(0.1) for e in found)))
    assert claim.evidence == pytest.approx(expected)


def test_c8_a_users_own_smallest_gain_decides(accurate, four):
    accurate(right(0.5), right(0.5 + 3 * WAVE), *SAME)
    for smallest, verdict in ((0.05, UNDETERMINED), (0.2, NOT_SUPPORTED)):
        assert tuning(*models(four), smallest=smallest).verdict == verdict


def test_c8_gains_in_odds_too(accurate, four):
    """Where reading is near its floor or its ceiling, an equal gain of its states hardly shows in accuracy."""
    for few in ((0.06, 0.08), (0.88, 0.93)):
        accurate(right(0.30, wave=0.02), right(0.42, wave=0.01), *(right(x, wave=0.002) for x in few))
        claim = tuning(*models(four), smallest=0.1)
        assert claim.verdict == UNDETERMINED and "more in accuracy, but not in odds (log odds " in claim.reason
    accurate(right(0.30, wave=0.02), right(0.55, wave=0.01), right(0.4), right(0.4))
    assert tuning(*models(four), smallest=0.1).verdict == SUPPORTED


def test_layers_at_the_floor_and_at_the_ceiling_show_no_difference(accurate, four):
    """Each set is in the middle on average, but at no layer could either be better."""
    layers = np.array([0.05, 0.06, 0.99, 0.98])
    ends, middle = (replace(right(0.5 + WAVE), layers=x) for x in (layers, np.full(4, 0.5)))
    accurate(ends, replace(right(0.5 - WAVE), layers=layers[::1]), ends, ends)
    for claim in (better_by_writing("m", four[0], four[1]), tuning(*models(four), smallest=0.1)):
        assert claim.verdict == UNDETERMINED and "at the floor or at the ceiling" in claim.reason
    accurate(ends, middle, middle, middle)
    assert better_by_writing("m", four[0], four[1]).verdict == NOT_SUPPORTED


def test_c8_is_undetermined_where_the_decoders_differ(accurate, four):
    accurate(right(0.3), right(0.6), *SAME, standardised=(right(0.3), right(0.3), *SAME))
    claim = tuning(*models(four), smallest=0.1)
    assert claim.verdict == UNDETERMINED and "hangs on the decoder (centred cosine: supported" in claim.reason


def test_c8_is_not_testable_without_the_stories_of_both(accurate, four):
    base, instruct = models(four)
    for pair in ((replace(base, reread=None), instruct), (base, replace(instruct, reread=None))):
        assert tuning(*pair).reason == NO_WRITING
    told = replace(instruct, reread=None, lacking={"generation": "it wrote nothing"})
    assert tuning(base, told).reason == "it wrote nothing"
    for place in range(4):
        accurate(*(right(0.5, tied="copies" if i == place else "") for i in range(4)))
        assert (tuning(base, instruct).verdict, tuning(base, instruct).reason) == (NOT_TESTABLE, "copies")


# C2 and C3: sweeps over nine layers whose best is the fifth, at depth 5/9.


def sweep(low=0.4, high=0.6, p_corrected=0.01, value=None, shape=None, standardised=None):
    value = np.r_[0.1, 0.2, 0.3, 0.4, 0.5, 0.4, 0.3, 0.2, 0.1] if value is None else value
    table = pd.DataFrame({"layer": range(9), "depth": np.arange(1, 10) / 9, "value": value, "null_low": 0.0,
                          "null_high": 0.12, "p": 0.001, "p_corrected": 1.0})  # fmt: skip
    table.loc[int(np.argmax(value)), "p_corrected"] = p_corrected
    return LayerSweep(table, "decoding", True, low, high, 99, shape, 240, standardised)


DEPTHS = {
    "inside": ((0.4, 0.6), SUPPORTED, "the interval of the best depth lies in the middle third"),
    "from end to end": ((1 / 3, 2 / 3), SUPPORTED, "the interval of the best depth lies in the middle third"),
    "late": ((0.7, 1.0), NOT_SUPPORTED, "the interval of the best depth lies outside the middle third"),
    "early": ((0.1, 0.3), NOT_SUPPORTED, "the interval of the best depth lies outside the middle third"),
    "best inside, reaching out above": ((0.5, 0.9), UNDETERMINED, "reaches beyond the middle third"),
    "best inside, reaching out below": ((0.1, 0.6), UNDETERMINED, "reaches beyond the middle third"),
    "from the upper end on": ((2 / 3, 1.0), UNDETERMINED, "reaches beyond the middle third"),
    "up to the lower end": ((0.1, 1 / 3), UNDETERMINED, "reaches beyond the middle third"),
    "all depths": ((0.1, 1.0), UNDETERMINED, "reaches beyond the middle third"),
    "no interval": ((None, None), UNDETERMINED, "the best depth has no interval"),
}


@pytest.mark.parametrize("case", DEPTHS)
def test_c2(case):
    (low, high), verdict, why = DEPTHS[case]
    claim = middle_layers("m", sweep(low, high))
    assert (claim.code, claim.verdict) == ("C2", verdict) and why in claim.reason
    assert (claim.effect.value, claim.effect.low, claim.effect.high) == (pytest.approx(5 / 9), low, high)
    assert claim.p == 0.01 and claim.reason in claim.sentence and "best at depth 56%" in claim.sentence
    assert "permuted labels reach 0.12 there (accuracy 0.50)" in claim.null and claim.n == "9 layers, 99 permutations"
    if low is not None:
        assert f"(95% over topics: {low:.0%} to {high:.0%})" in claim.sentence


def test_c2_needs_emotion_to_be_decoded_after_correction():
    assert middle_layers("m", sweep(p_corrected=0.05)).verdict == SUPPORTED
    for p in (0.0501, float("nan")):
        for low, high in ((0.4, 0.6), (0.7, 1.0)):
            claim = middle_layers("m", sweep(low, high, p_corrected=p))
            assert claim.verdict == UNDETERMINED and "cannot be decoded above chance at any layer" in claim.reason


def test_c2_evidence_counts_draws_with_a_best_layer_outside_and_with_one_inside():
    """Of 20 draws 16 are best at half depth alone, 3 tie it with the last layer, 1 is best at the last alone."""
    best = np.array([(0.5, 0.5)] * 16 + [(0.5, 1.0)] * 3 + [(1.0, 1.0)])
    claim = middle_layers("m", replace(sweep(p_corrected=0.04), best_draws=best))
    assert claim.evidence == pytest.approx((5 / 21, 20 / 21))
    sure = middle_layers("m", replace(sweep(p_corrected=0.04), best_draws=best[:1].repeat(999, 0)))
    assert sure.evidence == pytest.approx((0.001, 1.0))  # that anything is decoded is a condition, not a part
    nothing = middle_layers("m", replace(sweep(p_corrected=0.06), best_draws=best))
    assert nothing.evidence == (1.0, 1.0)
    assert middle_layers("m", sweep()).evidence is None


def test_c2_and_c3_are_undetermined_where_the_decoders_differ(separated):
    late = sweep(0.7, 1.0, shape=shaped("monotone or flat"))
    both = sweep(shape=shaped("inverted U"), standardised=late)
    for claim in (middle_layers("m", both), u_shape("m", both, separated)):
        assert claim.verdict == UNDETERMINED and "hangs on the decoder (centred cosine: supported" in claim.reason
    same = sweep(shape=shaped("inverted U"), standardised=sweep(0.45, 0.55, shape=shaped("inverted U")))
    assert middle_layers("m", same).verdict == u_shape("m", same, separated).verdict == SUPPORTED
    assert "45% to 55%" in middle_layers("m", same).sentence


def shaped(verdict, margin=0.05, p_again=1.0):
    first, second = Coefficient(0.9, 0.5, 1.3, 0.002), Coefficient(-0.8, -1.2, -0.4, 0.004)
    return UShape(verdict, 5 / 9, first, second, Coefficient(-1.0, -2.0, 0.0, 0.1), 10, margin, p_again=p_again)


@pytest.fixture(scope="module")
def separated():
    return separation(planted(n_layers=9, d_model=8, n_topics=3).acts, n_permutations=1)


SHAPES = {
    "inverted U": (SUPPORTED, "accuracy rises, then falls, both beyond chance"),
    "monotone or flat": (NOT_SUPPORTED, "accuracy over depth is monotone or flat"),
    "U": (NOT_SUPPORTED, "accuracy over depth is U"),
    "undetermined": (UNDETERMINED, "neither an inverted U nor its absence is established"),
}


def test_c3_is_no_inverted_u_where_accuracy_turns_again(separated):
    claim = u_shape("m", sweep(shape=shaped("several turns", p_again=0.003)), separated)
    assert claim.verdict == NOT_SUPPORTED and claim.reason.startswith("accuracy over depth takes several turns")
    assert claim.evidence == (1.0, 0.003)


@pytest.mark.parametrize("shape", SHAPES)
def test_c3(shape, separated):
    verdict, why = SHAPES[shape]
    claim = u_shape("m", sweep(shape=shaped(shape)), separated)
    assert (claim.code, claim.verdict) == ("C3", verdict) and claim.reason.startswith(why)
    assert (claim.effect.value, claim.effect.low, claim.effect.high) == (-0.8, -1.2, -0.4)
    assert claim.evidence == (0.002, shaped(shape).p_no_turn(rising=True))  # the weaker slope, one-sided
    assert claim.p == 0.004 and claim.smallest == 0.05 and claim.n == "10 topics, 9 layers"
    assert "+0.90 (p = 0.002) per unit depth before the break at 56%" in claim.sentence
    assert f"-0.80 (p = 0.004) after it (two-lines test: {shape})" in claim.sentence
    assert "the mean cosine, as one curve: " in claim.reason
    for p in (0.06, float("nan")):
        floor = u_shape("m", sweep(p_corrected=p, shape=shaped(shape)), separated)
        assert floor.verdict == UNDETERMINED and "cannot be decoded above chance at any layer" in floor.reason
    for level, ceiling in ((0.75, False), (0.7501, True)):
        at = u_shape(
            "m", sweep(value=np.r_[level, np.full(7, 0.9), level], shape=shaped(shape, margin=0.25)), separated
        )
        assert (at.verdict, "at its ceiling at every layer" in at.reason) == (
            UNDETERMINED if ceiling else verdict,
            ceiling,
        )


@pytest.mark.parametrize(("value", "side"), [([0.2, 0.5, 0.8], "after"), ([0.96] * 3, "before")])
def test_c3_a_side_at_its_ceiling_hides_a_turn(value, side, separated):
    curve = np.r_[value, np.full(6, 0.96)] if side == "after" else np.r_[np.full(6, 0.96), 0.7, 0.4, 0.2]
    claim = u_shape("m", sweep(value=curve, shape=shaped("monotone or flat")), separated)
    assert claim.verdict == UNDETERMINED and f"at its ceiling {side} the break" in claim.reason
    low = u_shape("m", sweep(value=curve - 0.1, shape=shaped("monotone or flat")), separated)
    assert low.verdict == NOT_SUPPORTED


def test_c3_is_not_testable_without_a_shape(separated):
    claim = u_shape("m", sweep(), separated)
    assert claim.verdict == NOT_TESTABLE and "too few layers" in claim.reason


# C4: what is left without the main components of neutral text.


def left(low=0.1, high=0.3, p=0.01, after=(0.2, 0.4), before_p=0.01, standardised=None):
    rows = [
        {"share": s, "components": 3, "emotion": 0.6, "neutral": 0.5, "more": 0.0, "low": -1.0, "high": 1.0,
         "accuracy": 0.4, "null_high": 0.15, "p": 1.0}
        for s in (0.25, 0.5, 0.75)
    ]  # fmt: skip
    decides = rows[0] | {"more": (low + high) / 2, "low": low, "high": high, "p": p}
    rows += [decides | {"share": s} for s in (0.9, 0.95, 0.99)]
    found = Estimate(sum(after) / 2, *after, 0.05, 12, "topics")
    return Removal(pd.DataFrame(rows), 2, 4, 40, 0.7, 0.1, before_p, found, standardised=standardised)


INSIDE, NONE = (
    "not shown to lie outside the main directions of neutral text: as much is left of neutral text",
    {"after": (-0.05, 0.05)},
)
OUTSIDE = "emotion lies outside the main directions of neutral text"
REMOVED = {
    "left": ({}, SUPPORTED, OUTSIDE),
    "left, and just decoded": ({"p": 0.05}, SUPPORTED, OUTSIDE),
    "left, little decoded but surely": (NONE, SUPPORTED, OUTSIDE),
    "left, but not decoded": ({"p": 0.051}, UNDETERMINED, INSIDE),
    "left, surely not decoded": ({"p": 0.5, **NONE}, UNDETERMINED, INSIDE),  # a share without noise says otherwise
    "as much as of neutral text": ({"low": 0.0, "p": 0.5, **NONE}, NOT_SUPPORTED, "lies less than 0.1 above chance"),
    "less than of neutral text": ({"low": -0.3, "high": -0.1, "p": 0.5, **NONE}, NOT_SUPPORTED, "less than 0.1 above"),
    "less, but still decoded": ({"low": -0.3, "high": -0.1}, UNDETERMINED, INSIDE),
    "open, and decoding is open": ({"low": -0.1, "p": 0.5, "after": (-0.1, 0.1)}, UNDETERMINED, "; 40 neutral texts"),
    "nothing to begin with": ({"low": 0.0, "before_p": 0.06, "p": 0.5, **NONE}, UNDETERMINED, "to begin with"),
}


@pytest.mark.parametrize("share", [0.9, 0.95, 0.99])
def test_c4_is_decided_where_the_lead_is_least_sure_from_nine_tenths_on(share):
    made = left()
    at = made.table["share"] == share
    table = made.table.assign(
        low=made.table["low"].mask(at, 0.0), more=made.table["more"].mask(at, 0.15), p=made.table["p"].mask(at, 0.03)
    )
    claim = beyond_anisotropy("m", replace(made, table=table))
    assert claim.verdict == UNDETERMINED and (claim.effect.value, claim.effect.low, claim.p) == (0.15, 0.0, 0.03)
    early = made.table["share"] < 0.8
    table = made.table.assign(low=made.table["low"].mask(early, -9.0))
    assert beyond_anisotropy("m", replace(made, table=table)).verdict == SUPPORTED


@pytest.mark.parametrize("case", REMOVED)
def test_c4(case):
    planted_left, verdict, why = REMOVED[case]
    made = left(**planted_left)
    claim = beyond_anisotropy("m", made)
    assert (claim.code, claim.verdict) == ("C4", verdict) and why in claim.reason, claim.reason
    most = made.table.iloc[-1]
    assert (claim.effect.value, claim.effect.low, claim.effect.high) == (most.more, most.low, most.high)
    assert claim.p == most.p and claim.smallest == 0.1 and claim.n == "12 topics, 40 neutral texts"
    assert claim.reason[1:] in claim.sentence and made.summary() in claim.sentence
    assert claim.evidence[1] == pytest.approx(made.after.p_below(0.1)) and claim.evidence[0] >= most.p / 2
    assert ("40 neutral texts" in claim.reason) == (why in (INSIDE, "; 40 neutral texts") and most.high > 0)


def test_c4_evidence_is_the_weaker_of_what_is_left_and_what_is_decoded():
    assert beyond_anisotropy("m", left(0.1, 0.3, p=0.04)).evidence[0] == 0.02
    assert beyond_anisotropy("m", left(0.0, 0.4, p=0.001)).evidence[0] == pytest.approx(0.025, rel=1e-6)


def test_c4_a_users_own_smallest_effect_decides_and_so_does_the_decoder():
    made = left(low=0.0, p=0.5, after=(-0.05, 0.15))
    assert [beyond_anisotropy("m", made, s).verdict for s in (0.1, 0.15, 0.2)] == [UNDETERMINED] * 2 + [NOT_SUPPORTED]
    none = left(low=0.0, p=0.5, **NONE)
    assert "hangs on the decoder" in beyond_anisotropy("m", left(standardised=none)).reason
    both = beyond_anisotropy("m", left(p=0.002, standardised=left(p=0.04)))
    assert both.verdict == SUPPORTED and both.evidence[0] == 0.02 and both.p == 0.002
    assert beyond_anisotropy("m", "copies").reason == "copies"


def test_c4_is_asked_where_either_decoder_sees_emotion_after_correction(monkeypatch):
    acts = planted(n_emotions=3, n_topics=4, n_layers=2, d_model=8).acts
    found = decoding(acts, 5)
    asked = []

    def remove(acts, neutral, layer, n, seed, decoder):
        asked.append((layer, decoder))
        return left()

    monkeypatch.setattr(reading, "removal", remove)

    def says(p_corrected, standardised, p=0.001, copies=""):
        table = found.table.assign(p=p, p_corrected=[1.0, p_corrected], accuracy=[0.1, 0.9])
        other = found.standardised.table.assign(p=p, p_corrected=[standardised, 1.0], accuracy=[0.9, 0.1])
        other = replace(found.standardised, table=other)
        return without_neutral(acts, replace(found, table=table, standardised=other, copies=copies), None, 5, 0)

    begin = "emotion cannot be decoded above chance to begin with"
    assert says(0.06, 0.06) == begin  # p <= .05 < p corrected
    assert says(0.01, 0.01, copies=f"all are; {TIED}") == f"copies leave nothing to test: all are; {TIED}"
    for pair in ((0.05, 1.0), (1.0, 0.05)):
        assert isinstance(says(*pair), Removal)
    assert asked == [(1, CENTRED), (0, STANDARDISED)] * 2 and says(0.01, 0.01).standardised is not None


def test_a_verdict_of_two_decoders_is_that_of_both_or_none():
    one = Claim("C2", "m", SUPPORTED, "inside", "In m, inside.", p=0.01, evidence=(0.01, 0.9))
    other = replace(one, sentence="In m, too.", evidence=(0.02, 0.8))
    same = hangs_on_decoder(one, other)
    assert (same.verdict, same.evidence, same.p) == (SUPPORTED, (0.02, 0.9), 0.01)
    assert same.sentence == "In m, inside. Standardised per dimension: In m, too."
    assert hangs_on_decoder(one, replace(other, evidence=None)).evidence is None
    for verdict in (NOT_SUPPORTED, UNDETERMINED):
        apart = hangs_on_decoder(one, replace(other, verdict=verdict))
        assert apart.verdict == UNDETERMINED and apart.sentence.endswith("It hangs on the decoder.")
        assert hangs_on_decoder(replace(other, verdict=verdict), one).verdict == UNDETERMINED
