"""Dose-response: both controls, both forms, a dose chosen elsewhere, curves per emotion, side effects, the file."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny

from lens_emotion.errors import AnalysisError, ArtifactError, DoseError
from lens_emotion.steering.dose import Dose
from lens_emotion.steering.dose_result import (
    _frame_from_json,
    _frame_to_json,
    cross_fit,
    load_dose_response,
    save_dose_response,
)
from lens_emotion.steering.experiment import dose_response, everywhere
from lens_emotion.steering.judges import word_count_judge, world_words
from lens_emotion.steering.outcomes import changed, holm, mcnemar_p, target_first
from lens_emotion.steering.regimes import REGIMES, Thresholds
from lens_emotion.steering.side_effects import side_effects_of
from lens_emotion.stimuli.prompts import scenarios

LIMITS = Thresholds(explosive_ratio=4.0, loop_share=0.4, distinct_2=0.5)


@pytest.fixture(scope="module")
def result(vectors):
    """Ten emotions, both openings, three doses, on tiny-llama."""
    chosen = scenarios("world-en")[:20]
    judge = word_count_judge(world_words("world-en"))
    return dose_response(tiny(), vectors, chosen, judge, doses=(0.1, 3.0, 8.0), max_new_tokens=20, progress=False)


def test_mcnemar_is_exact_and_counts_disagreements_only():
    a, b = np.array([True] * 9 + [False] * 31), np.array([False] * 8 + [True] + [False] * 31)
    assert mcnemar_p(a, b) == pytest.approx(2 * 0.5**8)
    assert mcnemar_p(a, a) == 1.0
    assert mcnemar_p(a, b) == mcnemar_p(b, a)


def test_mcnemar_rarely_rejects_without_a_difference():
    rng = np.random.default_rng(0)
    p = [mcnemar_p(*(rng.random((2, 40)) < 0.3)) for _ in range(400)]
    assert np.mean(np.array(p) <= 0.05) <= 0.06


def test_holm_equals_statsmodels():
    from statsmodels.stats.multitest import multipletests

    p = np.random.default_rng(1).random(8) ** 3
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])


def test_changed_is_about_texts_and_not_about_the_emotion():
    rng = np.random.default_rng(0)
    control = pd.DataFrame({"edit_distance": rng.random(40), "nll": rng.random(40)})
    assert not changed(control, control)
    assert changed(control.assign(nll=control.nll + 0.3 * rng.random(40)), control)
    assert changed(control.assign(edit_distance=control.edit_distance + 0.3 * rng.random(40)), control)


def test_another_emotions_vector_has_its_direction_and_the_targets_length(vectors):
    drawn = [vectors.other(seed, like="calm") for seed in range(30)]
    assert len({v.name for v in drawn}) > 8
    for vector in drawn:
        assert vector.name != "calm"
        assert (vector.direction == vectors[vector.name].direction).all()
        for dose in (Dose(3.0), Dose(0.2, "relative")):
            assert (dose.length(vector) == dose.length(vectors["calm"])).all()


def test_one_layers_vectors_stand_at_all_layers_and_so_do_their_controls(vectors):
    """The paper's public code: one layer's vector everywhere, dosed by the norm of all positions, the first too."""
    openings = [s.opening for s in scenarios("world-en")[:2]]
    made = everywhere(tiny(), vectors, openings, layer=1)
    for vector in (made["calm"], made.random(5, like="calm"), made.other(2, like="calm")):
        assert (vector.direction == vector.direction[0]).all() and vector.layers == tuple(range(made.n_layers))
    assert (made["calm"].direction[0] == vectors["calm"].at(1)).all()
    assert (made.natural == vectors.natural[:, 1:2]).all() and len(set(made.residual_norm.tolist())) > 1
    alone = (
        everywhere(tiny(), vectors, openings[:1]).residual_norm
        + everywhere(tiny(), vectors, openings[1:]).residual_norm
    )
    torch.testing.assert_close(alone / 2, made.residual_norm)
    settings = {"doses": (0.01, 0.05), "unit": "relative", "layers": "all", "max_new_tokens": 8, "progress": False}
    judge = word_count_judge(world_words("world-en"))
    found = dose_response(tiny(), made, scenarios("world-en")[:2], judge, other_emotion=False, **settings)
    assert found.layer == "all" and set(found.texts.condition) == {"emotion", "random"} and found.others.empty
    with pytest.raises(DoseError, match="at least one opening"):
        everywhere(tiny(), vectors, [])


def test_every_control_stands_beside_the_emotion(result):
    emotion = result.table[result.table.condition == "emotion"]
    assert emotion[["other_success", "other_moved", "p_random", "p_other", "p_corrected"]].notna().all().all()
    assert (emotion.p_corrected >= emotion.p_random).all()
    assert (emotion.other_success <= emotion.other_moved).all()
    random = result.table[result.table.condition == "random"]
    assert random.p_random.isna().all()
    assert (result.others.steered != result.others.emotion).all()
    mine = result.texts[result.texts.condition == "emotion"]
    assert (mine.steered == mine.emotion).all()
    assert "another emotion's vector" in result.summary() and "random directions" in result.summary()


def test_tests_and_counts_can_be_recomputed_from_the_texts(result):
    for row in result.table[result.table.condition == "emotion"].itertuples():
        at = result.texts[result.texts.dose == row.dose]
        mine, random = (at[at.condition == c].sort_values("scenario") for c in ("emotion", "random"))
        other = result.others[result.others.dose == row.dose].sort_values("scenario")
        assert row.success == mine.success.sum() and row.moved == (mine.target_score > mine.unsteered_score).sum()
        assert row.p_random == mcnemar_p(mine.success.to_numpy(), random.success.to_numpy())
        assert row.p_other == mcnemar_p(mine.success.to_numpy(), other.success.to_numpy())


def test_forms_show_the_papers_count_beside_the_controlled_one(result):
    forms = result.forms
    assert len(forms) == 6
    wide = forms.pivot(index="dose", columns="form", values="emotion")
    assert (wide.paper >= wide.controlled).all()
    assert ((forms.low <= forms.rate) & (forms.rate <= forms.high)).all()


def test_texts_are_labelled_and_further_from_the_unsteered_with_dose(result):
    assert set(result.texts.text_regime) <= set(REGIMES)
    mine = result.table[result.table.condition == "emotion"].set_index("dose")
    assert all(a < b for a, b in pairwise(mine.edit_distance))
    assert (result.texts.edit_distance.between(0, 1)).all()
    assert (result.unsteered.edit_distance == 0).all()


def test_curves_per_emotion_average_to_the_table(result):
    curves = result.by_emotion
    assert list(dict.fromkeys(curves.emotion)) == list(dict.fromkeys(result.texts.emotion))
    assert (curves.n == 2).all()
    for row in result.table[result.table.condition == "emotion"].itertuples():
        assert curves[curves.dose == row.dose].success.sum() == row.success
    strong = curves[curves.dose == 8.0]
    assert (strong.target_score > strong.other).mean() > 0.8


def test_side_effects_of_steering_are_the_effect_on_the_diagonal_and_spill_beside_it(result):
    found = result.side_effects(8.0)
    assert found.matrix.shape == (10, 20)
    assert found.target > 0.5 and found.p_target < 0.01
    at = result.texts[(result.texts.dose == 8.0) & (result.texts.emotion == "sad")]
    scores = at.groupby("condition").target_score.mean()
    assert found.matrix.loc["sad", "sad"] == pytest.approx(scores.emotion - scores.random, abs=1e-5)
    with pytest.raises(DoseError, match="was not run"):
        result.side_effects(5.0)


def test_side_effects_of_noise_are_called_noise():
    rng = np.random.default_rng(0)
    rows = [
        {"condition": c, "dose": 1.0, "scenario": i} | {e: rng.random() for e in ("happy", "sad", "calm")}
        for c in ("emotion", "random")
        for i in range(12)
    ]
    emotions = pd.Series(["happy", "sad", "calm"] * 4)
    found = side_effects_of(pd.DataFrame(rows), emotions, 1.0)
    assert found.p_spill > 0.05 and found.p_target > 0.05
    assert "not distinguishable from noise" in found.summary()
    grouped = side_effects_of(pd.DataFrame(rows), emotions, 1.0, {"happy": "good", "calm": "good"})
    assert grouped.table.target.sum() == 5


def test_a_target_ranks_first_if_its_label_group_does():
    frame = pd.DataFrame({"emotion": ["blissful", "sad"], "score_happy": [0.9, 0.9], "score_blissful": [0.9, 0.9]})
    frame["score_sad"] = [0.1, 0.95]
    assert target_first(frame) == 1  # of equals the first column wins
    assert target_first(frame, {"happy": "joy", "blissful": "joy", "sad": "sadness"}) == 2


def planted_texts(rates, n=40, seed=0, ratio=1.0):
    """Texts of every dose whose success rate is planted: dose -> (emotion, random)."""
    rng = np.random.default_rng(seed)
    rows = []
    for dose, both in rates.items():
        for condition, rate in zip(("emotion", "random"), both, strict=True):
            for i in range(n):
                hit = bool(rng.random() < rate)
                rows.append({"condition": condition, "dose": dose, "scenario": i, "opening": i % 2, "success": hit,
                             "moved": hit, "nll": 1.0 + np.log(ratio) * (dose > 5), "unsteered_nll": 1.0,
                             "entropy": 1.0, "distinct_2": 0.9, "loop_share": 0.0, "edit_distance": 0.5})  # fmt: skip
    return pd.DataFrame(rows)


NONE = pd.DataFrame({"opening": [], "dose": [], "condition": [], "scenario": [], "success": []})


def test_cross_fitting_finds_the_planted_dose_on_either_half():
    found = cross_fit(planted_texts({1.0: (0.1, 0.05), 3.0: (0.9, 0.05), 6.0: (1.0, 0.05)}, ratio=50.0), NONE, LIMITS)
    assert found.table.dose.tolist() == [3.0, 3.0]  # dose 6 succeeds more, but explodes
    assert found.n == 40 and found.success > 30 and found.p < 1e-6
    assert found.low < found.success / 40 < found.high
    assert found.other is None


def test_cross_fitting_is_not_fooled_by_the_best_of_many_doses():
    rates = {float(d): (0.3, 0.3) for d in range(1, 6)}
    p = [cross_fit(planted_texts(rates, seed=s), NONE, LIMITS).p for s in range(10)]
    assert np.mean(np.array(p) <= 0.05) <= 0.2


def test_a_half_without_a_surgical_dose_counts_as_failures():
    found = cross_fit(planted_texts({1.0: (0.1, 0.1)}), NONE, LIMITS)
    assert found.success == 0 and found.n == 40 and found.p == 1.0
    assert found.doses == () and found.told == "none" and "no dose was surgical on either half" in found.summary()
    with pytest.raises(AnalysisError, match="two openings"):
        cross_fit(planted_texts({1.0: (0.9, 0.1)}).assign(opening=0), NONE, LIMITS)


def test_cross_fitted_of_an_experiment_tests_each_scenario_once(result):
    found = result.cross_fitted()
    assert found.n == 20
    assert found.success <= result.at(result.surgical_dose).success
    assert "another emotion's vector" in found.summary()


def test_the_headline_is_the_cross_fitted_success_with_its_interval_and_both_controls(result):
    found = result.headline
    assert found.success == result.cross_fitted().success and found.table.equals(result.cross_fitted().table)
    assert (
        found.rate == f"{found.success}/{found.n} = {found.success / found.n:.2f} [{found.low:.2f}, {found.high:.2f}]"
    )
    assert found.rate in result.summary() and found.controls in result.summary()
    assert f"random directions {found.random}/{found.n}" in found.controls
    assert f"another emotion's vector {found.other}/{found.n}" in found.controls
    assert result.shown_dose in found.doses


def test_the_best_of_eight_useless_doses_is_no_headline():
    """Every dose succeeds as often as random directions do; the best of eight looks better on its own texts."""
    gains, honest = [], []
    for seed in range(12):
        texts = planted_texts({float(d): (0.35, 0.2) for d in range(1, 9)}, seed=seed)
        mine = texts[texts.condition == "emotion"].groupby("dose")["success"].sum()
        found = cross_fit(texts, NONE, LIMITS)
        gains.append(mine.max() - 14)
        honest.append(found.success - 0.35 * sum(found.table.n[found.table.dose.notna()]))
        assert not found.beyond or found.low > found.random / found.n
    assert np.mean(gains) > 3 and np.mean(honest) < 1


def test_with_one_opening_an_emotion_there_is_no_headline_and_it_says_so(result):
    single = {name: getattr(result, name).query("opening == 0") for name in ("texts", "others")}
    alone = replace(result, **single)
    assert alone.headline is None and "one opening an emotion" in alone.summary()
    assert "/" not in alone.summary().split("judge")[0] and alone.shown_dose in set(result.table.dose)


def test_a_file_from_before_surprise_is_judged_anew_from_its_texts(result, tmp_path):
    old = {name: getattr(result, name).drop(columns="surprise") for name in ("texts", "others", "table")}
    old["table"], old["texts"] = old["table"].assign(regime="explosive"), old["texts"].assign(text_regime="explosive")
    before = replace(result, **old, thresholds=Thresholds(10.0, 0.3, 0.3))
    again = load_dose_response(save_dose_response(before, tmp_path / "s.json"))
    assert again.thresholds == result.thresholds and again.summary() == result.summary()
    for name in ("table", "texts", "others"):
        mine, theirs = getattr(again, name), getattr(result, name)
        pd.testing.assert_frame_equal(mine[theirs.columns], theirs, check_dtype=False)


def test_a_result_survives_the_disk_in_every_part(result, tmp_path):
    again = load_dose_response(save_dose_response(result, tmp_path / "s.json"))
    for name in ("table", "texts", "others", "unsteered", "scores"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(result, name), check_dtype=False)
    assert again.summary() == result.summary()
    assert again.thresholds == result.thresholds
    assert again.cross_fitted().summary() == result.cross_fitted().summary()
    assert again.side_effects(3.0).summary() == result.side_effects(3.0).summary()


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_a_result_comes_back_in_the_precision_of_its_judge(result, tmp_path, kind):
    """Sentence encoders score in single precision: a study that had steered for an hour could not be read."""
    frames = {n: getattr(result, n) for n in ("texts", "others", "scores")}
    judged = {"target_score", "unsteered_score", *result.scores.columns} - {"condition", "dose", "scenario"}
    kinds = {n: {c: kind for c in f.columns if c in judged} for n, f in frames.items()}
    lower = replace(result, **{n: f.astype(kinds[n]) for n, f in frames.items()})
    again = load_dose_response(save_dose_response(lower, tmp_path / "s.json"))
    for name in frames:
        pd.testing.assert_frame_equal(getattr(again, name), getattr(lower, name))


def test_a_file_of_a_former_schema_is_refused_so_that_the_step_runs_again(result, tmp_path):
    path = save_dose_response(result, tmp_path / "s.json")
    data = json.loads(path.read_text())
    for damage in ({"schema": 1}, {"schema": None}):
        path.write_text(json.dumps(data | damage))
        with pytest.raises(ArtifactError, match=r"schema.*run the step again"):
            load_dose_response(path)
    del data["schema"]
    path.write_text(json.dumps(data))
    with pytest.raises(ArtifactError, match="no 'schema'"):
        load_dose_response(path)


def test_the_other_emotion_can_be_left_out(vectors):
    judge = word_count_judge(world_words("world-en"))
    options = {"doses": (2.0,), "max_new_tokens": 8, "progress": False, "other_emotion": False}
    result = dose_response(tiny(), vectors, scenarios("world-en")[:4], judge, **options)
    assert len(result.others) == 0
    assert "other_success" not in result.table
    assert result.forms.other.isna().all()
    assert result.by_emotion.other.isna().all()


def test_texts_that_look_like_numbers_or_dates_stay_texts_in_a_stored_table():
    """A steered model may well write "007": read back, it is those letters, and numbers keep their types."""
    frame = pd.DataFrame(
        {
            "text": ["007", "1e5", "2026-11-22"],
            "scenario": [0, 1, 2],
            "dose": [1.0, 2.0, 4.0],
            "score": [0.1 + 0.2, np.nan, 1e-300],
            "looping": [True, False, True],
        }
    )
    back = _frame_from_json(json.loads(json.dumps(_frame_to_json(frame))))
    pd.testing.assert_frame_equal(back, frame, check_exact=True)
    assert [type(t) for t in back["text"]] == [str] * 3


def test_a_dose_that_breaks_the_model_is_a_row_of_the_table_and_survives_the_disk(tmp_path):
    """NaN logits used to be token 0 again and again, an ordinary text."""
    from conftest import tiny
    from steered import PROMPT, vectors_of

    from lens_emotion.steering.dose_result import load_dose_response, save_dose_response
    from lens_emotion.steering.experiment import dose_response
    from lens_emotion.steering.judges import as_judge
    from lens_emotion.steering.regimes import EXPLOSIVE
    from lens_emotion.stimuli.prompts import Scenario

    model = tiny()
    vectors = vectors_of(model)
    vectors = replace(vectors, natural=torch.full_like(vectors.natural, 1e33))  # 1e6 times that is beyond float32
    chosen = [Scenario(f"{e}-{i}", e, PROMPT) for e in vectors.emotions for i in range(2)]

    def scorer(texts):
        assert all(t.strip() for t in texts), "a judge was asked about nothing"
        return [{e: len(t) % (k + 2) for k, e in enumerate(vectors.emotions)} for t in texts]

    judge = as_judge(scorer, vectors.emotions)
    found = dose_response(model, vectors, chosen, judge, doses=(1e-6, 1e6), layers="all", max_new_tokens=5)
    broken = found.table[found.table.dose > 1]
    assert (broken.broken == 6).all() and (broken.no_text == 6).all() and set(broken.regime) == {EXPLOSIVE}
    assert (broken.success == 0).all() and (found.table[found.table.dose < 1].broken == 0).all()
    assert "6 of 12 steered texts broke off (NaN or infinite logits) (dose 1e+06)" in found.summary()
    again = load_dose_response(save_dose_response(found, tmp_path / "doses.json"))
    assert again.table.equals(found.table) and again.texts.equals(found.texts)
