"""Leakage into another script: found when planted, denied when absent or no larger than random's."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lens_emotion.analysis.lens import Lens
from lens_emotion.errors import AnalysisError
from lens_emotion.steering.dose_result import DoseResponse
from lens_emotion.steering.leakage import leakage
from lens_emotion.steering.regimes import Thresholds
from lens_emotion.stimuli.lexicon import Lexicon, Recall, lexicon
from lens_emotion.study.claims.steering import other_languages

EMOTIONS = ("happy", "sad", "calm", "angry")
WORDS = {"happy": ("高兴",), "sad": ("悲伤",), "calm": ("平静",), "angry": ("愤怒",)}
PLAIN, FILLER = "she walked home ", "桌子"
DOSES = (1.0, 2.0, 4.0)


def planted(
    emotion=(0.0, 0.0, 0.0), random=(0.0, 0.0, 0.0), aligned=False, unsteered=0.0, n=24, seed=0, foreign=FILLER,
    regimes=("inert", "surgical", "explosive"), layer=3,
):  # fmt: skip
    """A stored experiment whose texts hold a foreign word with the given probability at each dose."""
    rng = np.random.default_rng(seed)
    target = [EMOTIONS[i % 4] for i in range(n)]

    def text(rate, i, own):
        word = WORDS[target[i]][0] if own else foreign
        return PLAIN + (word if rng.random() < rate else "and slept")

    rows = [
        {
            "condition": c,
            "dose": d,
            "scenario": i,
            "emotion": target[i],
            "text": text(rate, i, aligned and c == "emotion"),
        }
        for c, rates in (("emotion", emotion), ("random", random))
        for d, rate in zip(DOSES, rates, strict=True)
        for i in range(n)
    ]
    before = pd.DataFrame({"text": [text(unsteered, i, False) for i in range(n)], "prompt": "That day Anna"})
    texts = pd.DataFrame(rows)
    return DoseResponse(
        table=pd.DataFrame({"dose": DOSES, "condition": "emotion", "regime": regimes, "n": n}),
        texts=texts, others=texts.iloc[:0], unsteered=before, scores=pd.DataFrame(), layer=layer,
        judge="none", judge_accuracy=None, judge_independent=True, thresholds=Thresholds(3.0, 0.3, 0.5), n_emotions=4,
    )  # fmt: skip


def known(found=50):
    """The test's words, with a recall that was measured."""
    return Lexicon(WORDS, recall={"Han": Recall(found, 60, 0, 0, 20)})


def test_nothing_leaks_where_every_letter_is_of_the_home_script():
    found = leakage(planted())
    assert found.home == "Latin"
    assert found.onset is None
    assert found.summary().startswith("nothing leaks")
    assert (found.table.foreign == 0).all()


def test_planted_leakage_is_found_with_its_onset():
    found = leakage(planted(emotion=(0.0, 0.5, 1.0)))
    assert found.onset == 2.0
    assert "leaks from dose 2" in found.summary()
    emotion = found.table[found.table.condition == "emotion"].set_index("dose")
    assert emotion.foreign[4.0] == pytest.approx(2 / 15)  # 2 letters of 13 + 2
    assert emotion.low[2.0] < emotion.foreign[2.0] < emotion.high[2.0]
    assert emotion.texts[4.0] == 1.0
    assert (emotion.p_corrected >= emotion.p - 1e-12).all()
    scripts = found.scripts.set_index(["dose", "condition", "script"]).share
    assert scripts[(4.0, "emotion", "Han")] == pytest.approx(2 / 15)


def test_drift_that_random_directions_show_too_is_not_leakage():
    found = leakage(planted(emotion=(0.3, 0.6, 0.9), random=(0.3, 0.6, 0.9), seed=1))
    assert found.onset is None
    assert "no larger than random's" in found.summary()


def test_less_drift_than_random_is_no_leakage_either():
    assert leakage(planted(emotion=(0.1, 0.1, 0.1), random=(0.9, 0.9, 0.9))).onset is None


def test_without_leakage_an_onset_is_rare_though_several_doses_are_tried():
    same = [leakage(planted((0.4,) * 3, (0.4,) * 3, seed=s, n=16)).onset for s in range(15)]
    assert sum(onset is not None for onset in same) <= 3


def test_p_values_over_doses_are_those_of_the_best_dose_in_sds_of_its_flips():
    found = leakage(planted((0.5, 0.4, 0.4), (0.3,) * 3, seed=2, n=16))
    rows = found.table[found.table.condition == "emotion"]
    best = rows.p.min()
    assert 0.01 < best < 0.2 and 1.5 * best < rows.p_corrected.min() <= 3.5 * best  # of three doses, hardly dependent
    assert (rows.p_corrected > rows.p).all()


def test_the_home_script_is_the_prompts_and_any_other_counts():
    cyrillic = leakage(planted(emotion=(0.0, 1.0, 1.0), foreign="доми"))
    assert cyrillic.onset is not None
    assert set(cyrillic.scripts.script) == {"Latin", "Cyrillic"}
    result = planted(emotion=(1.0, 1.0, 1.0), random=(1.0, 1.0, 1.0))
    chinese = result.unsteered.assign(prompt="那天安娜")
    moved = leakage(DoseResponse(**{**result.__dict__, "unsteered": chinese}))
    assert moved.home == "Han"
    assert moved.table[moved.table.condition == "emotion"].foreign.min() > 0.8
    with pytest.raises(AnalysisError, match="no letters"):
        leakage(DoseResponse(**{**result.__dict__, "unsteered": chinese.assign(prompt="12 ...")}))


def test_words_of_the_target_emotion_are_told_from_any_foreign_word():
    aligned = leakage(planted(emotion=(0.0, 0.6, 1.0), aligned=True), WORDS)
    row = aligned.words.set_index("dose").loc[4.0]
    assert row.target == 1.0 and row.others == 0.0 and row.random == 0.0
    assert row.p_random < 0.01 and row.p_others < 0.01
    assert "100% of the texts hold a foreign word of the target emotion" in aligned.summary()
    filler = leakage(planted(emotion=(0.0, 0.6, 1.0)), WORDS)
    assert (filler.words.target == 0).all()
    assert "aligned with the emotion: not distinguishable from noise" in filler.summary()


def test_a_favourite_emotion_of_the_model_is_no_alignment():
    """A model that always says 高兴 hits its emotion in a quarter of the scenarios, another in the rest."""
    found = leakage(planted(emotion=(1.0, 1.0, 1.0), foreign="高兴"), WORDS)
    row = found.words.iloc[0]
    assert row.target == 0.25 and row.others == pytest.approx(0.75)
    assert row.p_others > 0.1


def test_shared_words_count_for_no_emotion_and_missing_ones_are_named():
    shared = {e: (*words, FILLER) for e, words in WORDS.items()}
    assert (leakage(planted(emotion=(1.0, 1.0, 1.0)), shared).words.target == 0).all()
    with pytest.raises(AnalysisError, match="no foreign words for sad"):
        leakage(planted(), {e: w for e, w in WORDS.items() if e != "sad"})


def test_texts_without_letters_leak_nothing():
    result = planted(emotion=(0.0, 0.0, 1.0))
    texts = result.texts.assign(text=[t if i % 3 else "..." for i, t in enumerate(result.texts.text)])
    found = leakage(DoseResponse(**{**result.__dict__, "texts": texts}))
    assert found.table.foreign.notna().all()


NONE, ALL = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
OUTCOMES = {  # what the texts hold -> what may be concluded
    "40 texts without a letter exclude a tenth of them": ({"n": 40}, "excluded"),
    "24 such texts do not": ({"n": 24}, "open"),
    "nor do doses that never break the text": ({"n": 40, "regimes": ("inert",) * 3}, "open"),
    "or that all break it": ({"n": 40, "regimes": ("explosive",) * 3}, "open"),
    "fitting words": ({"n": 40, "emotion": (0.0, 0.6, 1.0), "aligned": True}, "shown"),
    "fitting words that are as frequent at random": (
        {"n": 40, "emotion": ALL, "random": ALL, "foreign": "高兴"},
        "open",
    ),
    "letters everywhere, and in 40 texts no word: those missed are not excluded": ({"n": 40, "emotion": ALL}, "open"),
    "in 60 texts they are": ({"n": 60, "emotion": ALL}, "excluded"),
    "one foreign letter in each text of both conditions": ({"n": 40, "emotion": ALL, "random": ALL}, "open"),
}


@pytest.mark.parametrize("case", OUTCOMES)
def test_absence_is_an_answer_only_as_far_as_the_design_reaches(case):
    texts, outcome = OUTCOMES[case]
    found = leakage(planted(**texts), known())
    assert found.outcome(0.1) == outcome, found.design()
    assert 0 < found.most <= 1 and ("doses do not reach" in found.design()) is not found.spanned


def test_words_that_nobody_tried_exclude_nothing_and_words_that_miss_much_less():
    untried = leakage(planted(emotion=ALL, n=60), WORDS)
    assert untried.recall is None and untried.most == 1.0 and untried.outcome(0.1) == "open"
    assert "not known" in untried.design()
    poor, good = (leakage(planted(emotion=ALL, n=60), known(found)) for found in (20, 58))
    assert good.most < 0.1 < poor.most and good.outcome(0.1) == "excluded" and poor.outcome(0.1) == "open"
    assert good.detectable[1] < poor.detectable[1]
    cyrillic = leakage(planted(emotion=ALL, n=60, foreign="доми"), known())
    assert cyrillic.recall is None  # the recall of Chinese words says nothing of Russian ones


def test_what_is_said_to_be_found_with_power_is_found():
    letters = leakage(planted(n=40)).detectable[0]
    found = [leakage(planted((0.0, 0.0, letters), n=40, seed=s)).onset for s in range(8)]
    assert sum(onset is not None for onset in found) >= 5
    assert np.isnan(leakage(planted(n=4)).detectable[0])  # four texts find nothing at all


def test_the_packages_words_are_looked_for_in_a_real_models_texts():
    """Before: only the tiny models' own 9 words an emotion, none of which is 高兴."""
    found = leakage(planted(emotion=(0.0, 0.6, 1.0), aligned=True), lexicon())
    assert found.outcome(0.1) == "shown" and found.recall > 0.7
    english = planted(emotion=ALL, aligned=False, foreign="she was so happy and glad")
    assert not leakage(english, lexicon()).words.target.any()  # words of the prompts' script are no foreign ones


class Unread(Lens):
    """Of a model that nobody read."""

    def __init__(self):
        """Holds nothing."""

    def summary(self):
        return "no script stands out."


LEAKS = {"n": 40, "emotion": (0.0, 0.6, 1.0), "aligned": True}
VERDICTS = {  # one layer, one layer's vector at all layers -> C7
    "silent by both": ({"n": 40}, {"n": 40}, "not supported"),
    "silent with one layer, the other not asked": ({"n": 40}, None, "not supported"),
    "silent with one layer, leaking with all": ({"n": 40}, LEAKS, "supported"),
    "leaking with one layer": (LEAKS, {"n": 40}, "supported"),
    "silent with one layer, too few texts with all": ({"n": 40}, {"n": 12}, "undetermined"),
    "too few texts": ({"n": 12}, None, "undetermined"),
    "letters that do not fit": ({"n": 40, "emotion": (0.0, 0.6, 1.0)}, None, "undetermined"),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_other_languages_are_denied_only_where_both_protocols_exclude_them(case):
    one, every, verdict = VERDICTS[case]
    steering, lens = planted(**one), Unread()
    everywhere = None if every is None else leakage(planted(**every, layer="all"), known())
    claim = other_languages("m", steering, lens, leakage(steering, known()), everywhere)
    assert claim.verdict == verdict, claim.sentence
    assert "layer 3" in claim.sentence and "are not excluded" in claim.sentence
    assert ("one vector at all layers" in claim.sentence) is (every is not None)
    assert ("Asked with one layer only" in claim.sentence) is (every is None)
