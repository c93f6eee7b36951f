"""C5, C6 and C7: every way to every verdict, from planted experiments, with its words, its effect and its p."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from planted_doses import DOSES, IN_ORDER, experiment, nothing, spread, steady
from scipy.stats import ttest_1samp

from lens_emotion.analysis.lens import Lens
from lens_emotion.steering.leakage import LEVEL, Leakage
from lens_emotion.steering.regimes import ABOVE, BELOW, COLLAPSE, EXPLOSIVE, INERT, SURGICAL
from lens_emotion.study.claims.steering import PAPER, causal, leakage_of, onset_of, other_languages, regimes
from lens_emotion.study.verdict import NOT_SUPPORTED, NOT_TESTABLE, SUPPORTED, UNDETERMINED

SD = spread(8, 2 * 8 * 2)
WHOLE = {"loops": (), "breaks": ()}
BOTH = "beyond both controls, seen by a judge from outside"


def wild(emotion, opening, dose):
    """A gain that no one could tell from none: emotions differ far more than they gain."""
    return 0.8 + 4.0 * (-1) ** emotion


CAUSAL = {  # what is planted -> C5, and why
    "gains over both controls": ({"own": steady(2.0)}, SUPPORTED, BOTH),
    "gains a little, surely": ({"own": steady(0.4, 0.1)}, SUPPORTED, BOTH),
    "no gain": ({}, NOT_SUPPORTED, "the gain over random directions is below 0.8"),
    "a loss": ({"own": steady(-1.0)}, NOT_SUPPORTED, "the gain over random directions is below 0.8"),
    "another emotion does as well": (
        {"own": steady(2.0), "other": steady(2.0)}, NOT_SUPPORTED, "over another emotion's vector is below 0.8"),
    "another emotion does better": (
        {"own": steady(2.0), "other": steady(3.0)}, NOT_SUPPORTED, "over another emotion's vector is below 0.8"),
    "another does as well, and doses stop early": (
        {"own": steady(2.0), "other": steady(2.0), **WHOLE}, NOT_SUPPORTED, "another emotion's vector is below 0.8"),
    "no gain, but doses stop early": (WHOLE, UNDETERMINED, "the doses stop before the text breaks; give larger doses"),
    "gains, and doses stop early": ({"own": steady(2.0), **WHOLE}, SUPPORTED, BOTH),
    "neither shown nor excluded": (
        {"own": wild}, UNDETERMINED, "a gain is neither shown nor excluded; 8 emotions find an effect of"),
    "shown over random, open over another": (
        {"own": steady(2.0), "other": lambda k, o, d: 2.0 - wild(k, o, d)}, UNDETERMINED, "neither shown nor excluded"),
    "all broken": (
        {"own": steady(2.0), "loops": DOSES[:2], "breaks": DOSES[2:]}, UNDETERMINED, "every dose breaks the text"),
    "judge not measured": ({"own": steady(2.0), "judge": None}, UNDETERMINED, "(accuracy not measured, its chance"),
    "judge at 1.5 times its chance": (
        {"own": steady(2.0), "judge": 0.1875}, UNDETERMINED, "the judge can hardly tell emotions apart (accuracy 0.19"),
    "judge at 1.5 times its chance, no gain": ({"judge": 0.1875}, UNDETERMINED, "can hardly tell emotions apart"),
    "judge of groups at its chance": (
        {"own": steady(2.0), "judge": 0.6, "groups": {"sad": "low"} | dict.fromkeys(
            ("happy", "afraid", "calm", "angry", "proud", "hopeful", "guilty"), "other")}, UNDETERMINED, "hardly tell"),
    "an able judge that is the model itself": (
        {"own": steady(2.0), "independent": False}, UNDETERMINED, "it succeeds, but only the model itself says so"),
    "no gain, by the model itself": ({"independent": False}, NOT_SUPPORTED, "over random directions is below 0.8"),
    "another emotion was not tried": (
        {"own": steady(2.0), "other": None}, UNDETERMINED, "another emotion's vector was not tried, which may do"),
    "another was not tried, no gain": ({"other": None}, NOT_SUPPORTED, "over random directions is below 0.8"),
}  # fmt: skip


@pytest.mark.parametrize("case", CAUSAL)
def test_c5(case):
    planted, verdict, why = CAUSAL[case]
    made = experiment(**planted)
    claim = causal("m", made)
    assert (claim.code, claim.scope, claim.verdict) == ("C5", "m", verdict) and why in claim.reason, claim.reason
    assert claim.reason in claim.sentence and claim.sentence.startswith("In m") and claim.smallest == 0.8
    table = made.paired().table
    if case == "all broken":
        assert claim.effect is None and claim.p is None
        return
    assert claim.sentence.endswith("Judge: planted.")
    assert claim.effect.value == pytest.approx(table.random.mean())
    assert claim.effect.low <= claim.effect.value <= claim.effect.high
    controls = [table[c] for c in ("random", "other") if table[c].notna().all()]

    def p(gains, limit, side):
        if gains.std() > 1e-9:
            return float(ttest_1samp(gains, limit, alternative=side).pvalue)
        return float(gains.mean() <= limit if side == "greater" else gains.mean() >= limit)

    above, below = max(p(c, 0, "greater") for c in controls), min(p(c, 0.8, "less") for c in controls)
    assert claim.p == pytest.approx(above)  # the weaker of both controls
    assert claim.evidence == pytest.approx((above, min(1.0, 2 * below)))  # either control would do for a no
    assert claim.n == "8 emotions, 16 scenarios"


def test_c5_the_effect_is_that_of_random_directions_in_their_sds():
    claim = causal("m", experiment(steady(2.0), steady(1.0)))
    assert claim.effect.value == pytest.approx(2.0 / SD)
    assert "gains +1.73" in claim.sentence and "+0.87" in claim.sentence


def test_c5_a_users_own_smallest_effect_decides():
    none = experiment(lambda k, o, d: 0.02 + 0.6 * (-1) ** k)
    assert causal("m", none, 0.8).verdict == NOT_SUPPORTED and causal("m", none, 0.2).verdict == UNDETERMINED
    assert "is below 0.7" in causal("m", none, 0.7).reason and "0.2" in causal("m", none, 0.2).reason


def test_c5_a_weak_judge_excludes_less():
    """What would matter is scaled by what the judge sees: half way from chance (1/8) to perfect it is the whole."""

    def little(k, opening, dose):
        return 0.25 + 0.4 * (-1) ** k

    assert causal("m", experiment(little, judge=0.6)).verdict == NOT_SUPPORTED
    weak = causal("m", experiment(little, judge=0.35))
    assert weak.verdict == UNDETERMINED and weak.smallest == pytest.approx(0.8 * 18 / 35)


def test_c5_either_control_may_say_no_at_half_the_level():
    """A gain of nothing with p = .02 against 0.8: enough where one control was tried, not where either of two may."""
    spread_out = (-1.5, -0.9, -0.5, -0.2, 0.2, 0.5, 0.9, 1.5)

    def own(k, opening, dose):
        return 0.99 * spread_out[k]

    one, two = causal("m", experiment(own, None)), causal("m", experiment(own))
    assert 0.0125 < two.evidence[1] / 2 < 0.025
    assert (one.verdict, two.verdict) == (NOT_SUPPORTED, UNDETERMINED)


def test_c5_is_not_testable_without_an_experiment_that_speaks():
    assert causal("m", None).verdict == regimes("m", None).verdict == NOT_TESTABLE
    assert "was not run" in causal("m", None).reason and "was not run" in regimes("m", None).reason
    few = causal("m", experiment(openings=1))
    assert few.verdict == NOT_TESTABLE and "two scenarios of each" in few.reason
    silent = replace(made := experiment(steady(2.0)), unsteered=made.unsteered.assign(text="\n"))
    for claim in (causal("m", silent), regimes("m", silent)):
        assert (claim.verdict, claim.reason) == (NOT_TESTABLE, "16 of 16 unsteered texts hold no text")
    two = causal("m", experiment(n_emotions=2))
    assert two.verdict == NOT_TESTABLE and "at least 3 emotions" in two.reason


def test_c5_tells_the_papers_count_beside_it():
    made = experiment(steady(2.0, 0.0))
    assert made.surgical_dose == 1.0
    said = causal("m", made).sentence
    assert "dose chosen on the same scenarios): 16/16, random directions 8/16, where the paper has " + PAPER in said
    assert "In the paper's form" not in causal("m", experiment()).sentence


SURELY = steady(3.0, 0.1)  # every steered text succeeds, and no other does
REGIMES = {  # the regimes in the order of the doses -> C6, and why
    "in order": (IN_ORDER, SUPPORTED, "follow each other as the dose grows (inert -> surgical -> repetitive collapse"),
    "at once surgical": ((SURGICAL, SURGICAL, COLLAPSE, EXPLOSIVE), SUPPORTED, "(surgical -> repetitive collapse"),
    "explosive before collapse": (
        (INERT, SURGICAL, EXPLOSIVE, COLLAPSE), UNDETERMINED, "which of repetitive and explosive comes first"),
    "surgical after a broken dose": (
        (INERT, SURGICAL, COLLAPSE, SURGICAL), NOT_SUPPORTED, "do not follow each other as the dose grows (inert"),
    "surgical after an explosive dose": ((INERT, EXPLOSIVE, SURGICAL, COLLAPSE), NOT_SUPPORTED, "do not follow each"),
    "broken, then surgical": ((COLLAPSE, EXPLOSIVE, COLLAPSE, SURGICAL), NOT_SUPPORTED, "do not follow each other"),
    "inert after a broken dose": ((SURGICAL, COLLAPSE, INERT, EXPLOSIVE), SUPPORTED, "follow each other"),
    "no surgical, though it steers": (
        (INERT, INERT, COLLAPSE, EXPLOSIVE), UNDETERMINED, f"not seen at these doses: {SURGICAL} ("),
    "no collapse": ((INERT, SURGICAL, EXPLOSIVE, EXPLOSIVE), UNDETERMINED, f"not seen at these doses: {COLLAPSE} ("),
    "no explosion": ((INERT, SURGICAL, COLLAPSE, COLLAPSE), UNDETERMINED, f"not seen at these doses: {EXPLOSIVE} ("),
    "nothing breaks": ((INERT, SURGICAL, SURGICAL, SURGICAL), UNDETERMINED, f"doses: {COLLAPSE}, {EXPLOSIVE} ("),
}  # fmt: skip


@pytest.mark.parametrize("case", REGIMES)
def test_c6(case):
    seen, verdict, why = REGIMES[case]
    claim = regimes("m", experiment(SURELY, regimes=seen))
    assert (claim.code, claim.verdict) == ("C6", verdict) and why in claim.reason, claim.reason
    assert claim.reason in claim.sentence and claim.p is None and claim.n == "4 doses, 16 scenarios each"


def test_c6_needs_that_it_steers_and_a_turn_back_that_is_no_chance():
    late = (INERT, SURGICAL, COLLAPSE, SURGICAL)
    for planted, why in (({}, "over random directions is below 0.8"), ({"own": wild}, "neither shown nor excluded")):
        claim = regimes("m", experiment(regimes=IN_ORDER, **planted))
        assert claim.verdict == UNDETERMINED and "it is not shown that it steers: " in claim.reason
        assert why in claim.reason
    assert regimes("m", experiment(regimes=late)).verdict == UNDETERMINED  # p of that dose is large
    assert regimes("m", experiment(SURELY, regimes=late, judge=0.1)).verdict == UNDETERMINED
    turned = regimes("m", experiment(SURELY, regimes=late))
    table = experiment(SURELY).table
    assert turned.evidence[1] == pytest.approx(table[table.condition == "emotion"].p_corrected.iloc[-1] / 2)
    early = (SURGICAL, EXPLOSIVE, COLLAPSE, COLLAPSE)
    turned = regimes("m", experiment(regimes=early, breaks=(2.0,)))
    assert turned.verdict == NOT_SUPPORTED and turned.evidence[1] == 0.0  # every text of that dose is explosive
    hardly = regimes("m", experiment(regimes=early))  # called so by the table, its texts are whole
    assert hardly.verdict == UNDETERMINED and "which of repetitive and explosive comes first" in hardly.reason
    steers = causal("m", made := experiment(SURELY, regimes=IN_ORDER))
    assert regimes("m", made).evidence == steers.evidence


def test_c6_no_surgical_dose_is_a_no_only_where_steering_is_excluded():
    seen = (INERT, INERT, COLLAPSE, EXPLOSIVE)
    assert regimes("m", experiment(regimes=seen)).verdict == NOT_SUPPORTED
    for planted in ({"judge": 0.1}, {"own": wild}, {"own": steady(2.0)}):
        claim = regimes("m", experiment(regimes=seen, **planted))
        assert claim.verdict == UNDETERMINED and claim.reason.startswith("not seen at these doses: surgical (inert")
    own = experiment(lambda k, o, d: 0.02 + 0.6 * (-1) ** k, regimes=seen)
    assert regimes("m", own, 0.8).verdict == NOT_SUPPORTED and regimes("m", own, 0.2).verdict == UNDETERMINED


def test_c6_goes_by_the_dose_and_not_by_the_order_of_the_table():
    made = experiment(regimes=IN_ORDER)
    turned = replace(made, table=made.table.iloc[::-1].reset_index(drop=True))
    assert regimes("m", turned) == regimes("m", made)
    assert onset_of(turned) == onset_of(made)


def test_c6_the_effect_is_where_perplexity_passes_its_limit():
    """From ratio 1 at dose 4 to 50 at dose 8; 4 lies log(4) / log(50) of the way, in log dose."""
    made = experiment(steady(2.0))
    claim = regimes("m", made)
    expected = 4 * 2 ** (np.log(4) / np.log(50))
    assert claim.effect.value == pytest.approx(expected) and onset_of(made)[1] == pytest.approx(expected / 10)
    at = f"passes 4.0 times the expected one at dose {expected:.1f} natural, {expected / 10:.2f} of the norm"
    assert at in claim.sentence
    assert claim.null == "random directions: inert -> repetitive collapse -> explosive"
    late, early = experiment(breaks=()), experiment(loops=(), breaks=DOSES)
    for made, why, at in ((late, ABOVE, "at no dose"), (early, BELOW, "at every dose")):
        claim = regimes("m", made)
        assert (
            claim.effect is None
            and f"passes 4.0 times the expected one {at}" in claim.sentence
            and onset_of(made)[2] == why
        )


class Unread(Lens):
    """A logit lens that the claim only quotes."""

    def __init__(self):
        """Holds nothing."""

    def summary(self):
        return "no script stands out."


def leaked(
    letters=(0.0, 0.0, 0.0), p_letters=1.0, target=(0.0, 0.0, 0.0), p_random=1.0, p_others=1.0, n=40, spanned=True,
    recall=0.9, layer=3, words=True, random=(0.0,) * 3,
):  # fmt: skip
    """Leakage with these shares of texts at doses 1, 2 and 4, and these p-values, equal over doses."""
    doses = (1.0, 2.0, 4.0)
    rows = [
        {"dose": d, "condition": c, "n": n, "foreign": x / 4, "low": x / 8, "high": x / 2, "texts": x, "texts_low": 0.0,
         "texts_high": 1.0, "p": p / 10, "p_corrected": p}
        for c, shares, p in (("emotion", letters, p_letters), ("random", random, np.nan))
        for d, x in zip(doses, shares, strict=True)
    ]  # fmt: skip
    told = pd.DataFrame(
        {"dose": doses, "n": n, "target": target, "low": 0.0, "high": 1.0, "others": 0.0, "random": 0.0,
         "p_random": p_random, "p_others": p_others}
    )  # fmt: skip
    onset = 1.0 if p_letters <= 0.05 else None
    return Leakage(pd.DataFrame(rows), pd.DataFrame(), told if words else None, "Latin", onset, layer, spanned, recall)


LEAKS = {
    "letters": (0.0, 0.5, 1.0),
    "p_letters": 0.001,
    "target": (0.0, 0.5, 1.0),
    "p_random": 0.002,
    "p_others": 0.003,
}
LANGUAGES = {  # one layer, all layers -> C7, and why
    "fits by the one protocol asked": (
        LEAKS,
        None,
        SUPPORTED,
        "foreign letters come out above random directions, in words",
    ),
    "fits by one of two": (LEAKS, {}, SUPPORTED, "right emotion (layer 3, one vector at all layers)"),
    "fits by the other of two": ({}, LEAKS, SUPPORTED, "right emotion (layer 3, one vector at all layers)"),
    "fits at a level that two protocols share": (LEAKS | {"p_others": 0.02}, {}, UNDETERMINED, "but not known to fit"),
    "fits at the level of one": (
        LEAKS | {"p_others": 0.02},
        None,
        SUPPORTED,
        "in words of the right emotion (layer 3)",
    ),
    "neither": ({}, {}, NOT_SUPPORTED, "the emotion in 10% of the texts are excluded (layer 3, one"),
    "neither, one asked": ({}, None, NOT_SUPPORTED, "the emotion in 10% of the texts are excluded (layer 3)"),
    "excluded by one, too few texts by the other": ({}, {"n": 12}, UNDETERMINED, "but they are not excluded"),
    "doses stop early": ({"spanned": False}, None, UNDETERMINED, "above random directions, but they"),
    "above random but not above other emotions": (
        LEAKS | {"p_others": 0.5},
        None,
        UNDETERMINED,
        "but not known to fit",
    ),
    "above other emotions but not above random": (
        LEAKS | {"p_random": 0.5},
        None,
        UNDETERMINED,
        "but not known to fit",
    ),
    "words fit, letters no more than random's": (LEAKS | {"p_letters": 0.5}, None, UNDETERMINED, "not excluded"),
    "letters, no word list": (LEAKS | {"words": False}, None, UNDETERMINED, "but not known to fit"),
}


@pytest.mark.parametrize("case", LANGUAGES)
def test_c7(case):
    one, every, verdict, why = LANGUAGES[case]
    one, every = leaked(**one), None if every is None else leaked(**every, layer="all")
    claim = other_languages("m", experiment(), Unread(), one, every)
    assert (claim.code, claim.verdict) == ("C7", verdict) and why in claim.reason, claim.reason
    asked = [x for x in (one, every) if x is not None]
    shown = min(asked, key=lambda x: x.p_shown)
    assert claim.effect.value == pytest.approx(float(shown.peak.foreign)) and claim.p == shown.peak.p_corrected
    least = min(1.0, len(asked) * shown.p_shown)
    assert claim.evidence == pytest.approx((least, max(x.p_excluded(0.1) for x in asked)))
    assert ("Asked with one layer only" in claim.sentence) is (
        every is None
    ) and "no script stands out" in claim.sentence
    assert all(x.design() in claim.sentence and x.summary() in claim.sentence for x in asked)


def test_c7_shown_is_the_largest_of_three_p_values():
    assert leaked(**LEAKS).p_shown == 0.003
    assert leaked(**LEAKS | {"p_random": 0.01}).p_shown == 0.005  # two-sided, and above
    assert leaked(**LEAKS | {"p_letters": 0.04}).p_shown == 0.04
    assert leaked(**LEAKS | {"target": (0.0, 0.0, 0.0)}).p_shown == 1.0  # fewer than under random directions
    at_one_dose = leaked(**LEAKS | {"target": (0.2, 0.5, 1.0)})
    words = at_one_dose.words.assign(p_random=[0.001, 0.9, 0.9], p_others=[0.9, 0.001, 0.9])
    assert replace(at_one_dose, words=words).p_shown == pytest.approx(0.45)  # both at one dose, not each somewhere
    assert leaked(**LEAKS | {"p_others": LEVEL}).outcome(0.1) == "shown"
    assert leaked(**LEAKS | {"p_others": LEVEL + 1e-6}).outcome(0.1) != "shown"


def test_c7_excluded_is_the_exact_binomial_at_the_worst_dose():
    """36 texts without any: fewer than a tenth, p = .9 ** 36 = .0225; 35 do not suffice."""
    assert leaked(n=36, recall=None).p_excluded(0.1) == pytest.approx(0.9**36)
    assert (leaked(n=36).outcome(0.1), leaked(n=35).outcome(0.1)) == ("excluded", "open")
    some = leaked(letters=(0.0, 0.1, 0.0), n=40, recall=None)
    assert some.p_excluded(0.1) > 0.2 and some.outcome(0.1) == "open"
    # letters everywhere, words nowhere: as many fitting texts as the words would miss
    words = leaked(letters=(1.0, 1.0, 1.0), n=60, recall=0.9)
    assert words.p_excluded(0.1) == pytest.approx(0.91**60) and words.outcome(0.1) == "excluded"
    assert leaked(letters=(1.0, 1.0, 1.0), n=60, recall=None).p_excluded(0.1) == 1.0
    assert leaked(n=60, spanned=False).p_excluded(0.1) == 1.0
    assert leaked(n=30).outcome(0.2) == "excluded" and leaked(n=30).outcome(0.05) == "open"


def test_c7_the_effect_is_at_the_dose_that_differs_most_from_random():
    made = leaked(letters=(0.2, 0.8, 1.0), random=(0.0, 0.1, 0.9))
    claim = other_languages("m", experiment(), Unread(), made)
    assert made.peak.dose == 2.0 and claim.effect.value == pytest.approx(0.2)
    assert (claim.effect.low, claim.effect.high) == (0.1, 0.4) and claim.null.startswith(
        "random directions 2.5%, p = 1"
    )


def test_c7_a_users_own_smallest_share_decides():
    made = leaked(n=30)
    for smallest, verdict in ((0.1, UNDETERMINED), (0.2, NOT_SUPPORTED)):
        claim = other_languages("m", experiment(), Unread(), made, None, smallest)
        assert (claim.verdict, claim.smallest) == (verdict, smallest)
    assert "in 20% of the texts" in other_languages("m", experiment(), Unread(), made, None, 0.2).reason


def test_c7_is_not_testable_without_each_of_its_parts():
    made, found = experiment(), leaked()
    for parts in ((None, Unread(), found), (made, None, found), (made, Unread(), None)):
        claim = other_languages("m", *parts)
        assert claim.verdict == NOT_TESTABLE and "was not run" in claim.reason
    silent = replace(made, unsteered=made.unsteered.assign(text="\n"))
    assert "hold no text" in other_languages("m", silent, Unread(), found).reason
    assert leakage_of(None, "passages") is None and nothing(0, 0, 1.0) == 0.0
