"""Regimes: order of the questions, thresholds, maps, onset, and whether family or size explains it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import torch
from conftest import tiny
from scipy.stats import ncf
from scipy.stats import t as student

from lens_emotion.errors import AnalysisError
from lens_emotion.models.sampling import Sampling
from lens_emotion.steering.architecture import _scores, by_architecture
from lens_emotion.steering.comparison import own_thresholds
from lens_emotion.steering.generate import Condition, generate_steered
from lens_emotion.steering.judges import word_count_judge, world_words
from lens_emotion.steering.measures import excess, likelihood
from lens_emotion.steering.regime_map import regime_map
from lens_emotion.steering.regimes import (
    ABOVE,
    BELOW,
    COLLAPSE,
    EXPLOSIVE,
    INERT,
    REGIMES,
    SURGICAL,
    Thresholds,
    looping,
    onset_dose,
    regime,
    regime_shares,
    text_regimes,
    thresholds_from,
)
from lens_emotion.stimuli.prompts import scenarios

LIMITS = Thresholds(explosive_ratio=4.0, loop_share=0.4, distinct_2=0.5)


def test_a_loop_the_model_finds_unlikely_is_explosive_and_one_it_finds_likely_is_collapse():
    assert regime(2000.0, 0.1, 0.9, 0.9, LIMITS) == EXPLOSIVE
    assert looping(0.1, 0.9, LIMITS)
    assert regime(1.2, 0.1, 0.9, 0.9, LIMITS) == COLLAPSE
    assert regime(0.3, 0.9, 0.9, 0.9, LIMITS) == COLLAPSE
    assert regime(2000.0, 0.9, 0.0, 0.9, LIMITS) == EXPLOSIVE
    assert not looping(0.9, 0.0, LIMITS)


def test_surgical_needs_an_effect_that_is_large_and_significant():
    assert regime(1.0, 0.9, 0.0, 0.5, LIMITS) == SURGICAL
    assert regime(1.0, 0.9, 0.0, 0.5, LIMITS, p=0.2) == INERT
    assert regime(1.0, 0.9, 0.0, 0.5, LIMITS, p=0.01) == SURGICAL
    assert regime(1.0, 0.9, 0.0, 0.05, LIMITS, p=0.01) == INERT


def test_thresholds_are_relative_to_how_the_model_writes_on_its_own():
    rng = np.random.default_rng(0)
    excess, distinct = rng.normal(-1, 0.5, 100), rng.uniform(0.8, 1.0, 100)
    calm = thresholds_from(excess, distinct, np.zeros(100))
    loops = thresholds_from(excess, distinct, np.linspace(0, 0.9, 100))
    assert calm.loop_share == 0.25
    assert loops.loop_share == pytest.approx(0.45 + 0.25)
    assert loops.text_loop_share > loops.loop_share
    assert calm.explosive_ratio == pytest.approx(np.exp(3 * excess.std(ddof=1)))
    assert thresholds_from(excess * 0 - 1, distinct, np.zeros(100)).explosive_ratio == 3.0
    assert thresholds_from(excess * 4, distinct, np.zeros(100)).explosive_ratio == 10.0
    assert thresholds_from(np.array([np.nan, np.inf]), distinct[:2], np.zeros(2)).explosive_ratio == 3.0  # none known
    hot = thresholds_from(excess * 0 + 2, distinct, np.zeros(100))  # sampled hotter than the model is: its own mean
    assert hot.explosive_ratio == pytest.approx(3 * np.exp(2))


# (mean, SD) of NLL and entropy of ordinary text of 24 tokens, as SmolLM2-135M-Instruct writes it, and a model that is
# sure of itself; greedy text first, whose thresholds must do for all
ORDINARY = {
    "SmolLM2": [(1.17, 0.18, -1.82, 0.24), (2.01, 0.39, -1.11, 0.24), (3.27, 0.74, -0.02, 0.43)],
    "sure": [(0.3, 0.1, -0.3, 0.1), (0.5, 0.2, -0.1, 0.2), (0.6, 0.3, 0.0, 0.3)],
}


@pytest.mark.parametrize("model", ORDINARY)
@pytest.mark.parametrize("n", [4, 20, 40])
def test_ordinary_text_is_hardly_ever_explosive_however_it_is_sampled(model, n):
    """Held-out texts of every sampling, by thresholds of n texts of the same one, and by those of greedy text."""
    rng, none = np.random.default_rng(1), np.zeros(2000)
    for _, _, mean, spread in ORDINARY[model]:
        for centre, sd in {ORDINARY[model][0][2:], (mean, spread)}:
            limits = thresholds_from(rng.normal(centre, sd, n), none[:n] + 1, none[:n])
            labels = text_regimes(np.exp(rng.normal(mean, spread, 2000)), none + 1, none, none > 0, limits)
            assert labels.count(EXPLOSIVE) <= 0.05 * 2000, (mean, centre)
    greedy = thresholds_from(rng.normal(*ORDINARY[model][0][2:], n), none[:n] + 1, none[:n])
    assert text_regimes(np.exp(np.full(1, 2.5)), none[:1] + 1, none[:1], none[:1] > 0, greedy) == [EXPLOSIVE]


def test_hardly_any_unsteered_text_is_labelled_broken():
    rng = np.random.default_rng(1)
    excess, distinct, loops = rng.normal(0, 0.3, 400), rng.uniform(0.4, 1.0, 400), rng.beta(1, 3, 400)
    limits = thresholds_from(excess, distinct, loops)
    labels = text_regimes(np.exp(excess), distinct, loops, np.zeros(400, dtype=bool), limits)
    assert labels.count(INERT) >= 0.88 * 400


@pytest.mark.parametrize("temperature", [0.8, 1.0, 1.4])
def test_sampled_text_of_a_model_is_not_explosive_by_its_greedy_or_sampled_thresholds(temperature):
    """Other draws than those behind the thresholds, by the rules that an experiment and the playground use."""
    model, sampling = tiny(), Sampling(temperature)
    openings = tuple(dict.fromkeys(s.opening for s in scenarios("world-en")))[:16]
    draws = [Condition(opening, seed=100 + 7 * i + k) for i, opening in enumerate(openings) for k in range(2)]
    options = {"max_new_tokens": 20, "progress": False}
    written = generate_steered(model, draws, (0,), sampling=sampling, **options)
    ids = [w.new_ids for w in written]
    scored = likelihood(model, [w.prompt_ids for w in written], ids)
    any_tokens = [torch.randint(10, 400, (20,), generator=torch.Generator().manual_seed(i)).tolist() for i in range(16)]
    salad = likelihood(model, [w.prompt_ids for w in written[:16]], any_tokens)
    broken = excess(salad.nll, salad.entropy)
    surprises, none = np.exp(excess(scored.nll, scored.entropy)), np.zeros(len(ids))
    references = [sampling] if temperature > 1 else [sampling, Sampling()]
    for limits in (own_thresholds(model, openings[:8], reference, 20) for reference in references):
        labels = text_regimes(surprises, none + 1, none, none > 0, limits)
        assert labels.count(EXPLOSIVE) <= 0.07 * len(labels)
        assert (np.exp(broken) > limits.explosive_ratio).mean() > 0.9  # and text of any tokens is


def test_texts_are_labelled_by_the_same_questions_as_conditions():
    found = text_regimes(
        np.array([9.0, 1.0, 1.0, 1.0, np.nan]),
        np.array([0.1, 0.1, 0.9, 0.9, 1.0]),
        np.array([0.9, 0.9, 0.0, 0.0, 0.0]),
        np.array([True, True, True, False, False]),
        LIMITS,
    )
    assert found == [EXPLOSIVE, COLLAPSE, SURGICAL, INERT, INERT]


def test_shares_of_regimes_sum_to_one_and_lie_in_their_intervals():
    shares = regime_shares([INERT] * 3 + [EXPLOSIVE] * 5)
    names = ("share_inert", "share_surgical", "share_collapse", "share_explosive")
    assert sum(shares[n] for n in names) == 1.0
    assert all(shares[f"{n}_low"] <= shares[n] <= shares[f"{n}_high"] for n in names)
    assert shares["share_surgical"] == 0.0 and shares["share_surgical_high"] > 0.2


def test_onset_is_interpolated_in_log_dose_and_says_why_it_is_missing():
    doses = np.array([1.0, 2.0, 4.0, 8.0])
    power = doses**2  # ratio = dose squared passes 9 at dose 3
    assert onset_dose(doses, power, 9.0) == (pytest.approx(3.0), "")
    assert onset_dose(doses * 0.1, power, 9.0)[0] == pytest.approx(0.3)
    dose, why = onset_dose(doses, power, 100.0)
    assert np.isnan(dose) and why == ABOVE
    dose, why = onset_dose(doses, power, 0.5)
    assert np.isnan(dose) and why == BELOW


def planted_onsets(n=12, family=1.0, size=0.0, unit=0.0, seed=0):
    """Models of three families; log onset = family + size + noise, and the relative unit adds its own family shift."""
    rng = np.random.default_rng(seed)
    code, sizes = np.arange(n) % 3, rng.permutation(np.geomspace(100, 8000, n))
    natural = family * code + size * np.log(sizes) + rng.normal(0, 0.3, n)
    shift = rng.normal(0, unit, 3)[code] if unit else 0.0
    return pd.DataFrame(
        {
            "model": [f"m{i}" for i in range(n)],
            "family": np.array(["a", "b", "c"])[code],
            "size": sizes,
            "onset_natural": np.exp(natural),
            "onset_relative": np.exp(natural - 3 + shift),
        }
    )


def verdict(test, unit, factor):
    return test.table[(test.table.unit == unit) & (test.table.factor == factor)].iloc[0]


def test_a_planted_family_effect_is_found_and_size_is_not():
    test = by_architecture(planted_onsets(seed=1))
    assert verdict(test, "natural", "family").p < 0.01
    assert verdict(test, "natural", "family").share > 0.7
    assert verdict(test, "natural", "log size").p > 0.05
    assert "family (natural unit): explains" in test.summary()


def test_a_planted_size_effect_is_found_and_family_is_not():
    test = by_architecture(planted_onsets(family=0.0, size=0.5))
    assert verdict(test, "natural", "log size").p < 0.01
    assert verdict(test, "natural", "family").p > 0.05


def test_an_effect_that_is_only_the_units_vanishes_in_the_natural_unit():
    test = by_architecture(planted_onsets(family=0.0, unit=2.0))
    assert verdict(test, "relative", "family").p < 0.01
    assert verdict(test, "natural", "family").p > 0.05
    assert test.high < 1
    same = by_architecture(planted_onsets(family=0.0))
    assert same.variance_ratio == pytest.approx(1.0)


def test_family_at_least_and_size_at_most_are_ends_of_their_intervals():
    """By least squares: what all families explain beside size (noncentral F), and the slope of size either way."""
    for size in (0.4, -0.4):
        made = planted_onsets(size=size, seed=3)
        test, y = by_architecture(made, n_draws=9), np.log(made.onset_natural.to_numpy())
        log = np.log(made["size"].to_numpy())
        families = np.array([made.family == f for f in "bc"], dtype=float).T
        small, full = (sm.OLS(y, sm.add_constant(x)).fit() for x in (log, np.c_[log, families]))
        row = verdict(test, "natural", "log size")
        assert row.spread == pytest.approx(abs(full.params[1]) * log.std())
        assert row.most == pytest.approx((abs(full.params[1]) + student.ppf(0.9, 8) * full.bse[1]) * log.std())
        row, f = verdict(test, "natural", "family"), full.compare_f_test(small)[0]
        assert row.spread == pytest.approx(np.sqrt((small.ssr - full.ssr) / 12))
        assert ncf.sf(f, 2, 8, 12 * row.least**2 / full.mse_resid) == pytest.approx(0.1)
    assert verdict(by_architecture(planted_onsets(family=0.0, seed=3), n_draws=9), "natural", "family").least == 0


def test_censored_onsets_are_ranked_by_what_is_surely_below_and_above():
    """Broken at 1 and at 2, not up to 4, before 1.5: the last may lie on either side of the first."""
    models = pd.DataFrame({"low_natural": [1.0, 2.0, 4.0, 0.0], "high_natural": [1.0, 2.0, np.inf, 1.5]})
    assert _scores(models, "natural").tolist() == [-2, 1, 3, -2]
    assert _scores(models.iloc[:2], "natural").tolist() == pytest.approx([0, np.log(2)])


def test_p_values_of_family_and_size_are_uniform_without_an_effect():
    tests = [by_architecture(planted_onsets(family=0.0, seed=s), n_draws=199, seed=s) for s in range(60)]
    for factor in ("family", "log size"):
        p = np.array([verdict(t, "natural", factor).p for t in tests])
        assert (p <= 0.1).mean() <= 0.22
        assert 0.35 < p.mean() < 0.65


def test_the_chance_level_of_eta_squared_is_shown_since_it_is_far_from_zero():
    row = verdict(by_architecture(planted_onsets(family=0.0)), "natural", "family")
    assert row.null_mean == pytest.approx(2 / 11, abs=0.02)  # (families - 1) / (models - 1)


def test_one_model_per_family_is_not_testable_and_says_so():
    few = planted_onsets(n=3)
    test = by_architecture(few)
    assert "not testable" in test.summary()
    assert test.table.p.isna().all()
    assert np.isnan(test.variance_ratio)
    with pytest.raises(AnalysisError, match="lacks size"):
        by_architecture(few.drop(columns="size"))
    with pytest.raises(AnalysisError, match="no model has an onset"):
        by_architecture(few.assign(onset_natural=np.nan))


@pytest.fixture(scope="module")
def small_map(vectors):
    judge = word_count_judge(world_words("world-en"))
    chosen = scenarios("world-en")[::4]
    return regime_map(
        tiny(), vectors, chosen, judge, layers=[2, 4], doses=(0.1, 3.0, 8.0), max_new_tokens=20, progress=False
    )


def test_a_map_runs_from_inert_through_surgical_to_explosive(small_map):
    grid = small_map.grid()
    assert grid.shape == (2, 3)
    assert (grid[0.1] == INERT).all()
    assert (grid[8.0] == EXPLOSIVE).all()
    assert SURGICAL in set(grid[3.0])
    assert set(grid.to_numpy().ravel()) <= set(REGIMES)


def test_a_map_carries_control_shares_texts_and_both_units(small_map):
    table = small_map.table
    assert len(table) == 2 * 3 * 2
    assert len(small_map.texts) == 2 * 3 * 2 * 10
    control = table[table.condition == "random"].set_index(["layer", "dose"]).success_rate
    for row in table.itertuples():
        assert row.control_rate == control[(row.layer, row.dose)]
        assert row.dose_relative < row.dose_natural
    shares = ["share_inert", "share_surgical", "share_collapse", "share_explosive"]
    np.testing.assert_allclose(table[shares].sum(axis=1), 1.0)
    assert "cells" in small_map.summary() and "judge" in small_map.summary()


def test_the_onset_is_the_same_length_in_both_units(small_map):
    row = small_map.onset_row(4)
    at = small_map.table[small_map.table.layer == 4].iloc[0]
    assert row["onset_relative"] / row["onset_natural"] == pytest.approx(at.dose_relative / at.dose_natural)
    assert 0.1 < row["onset_natural"] < 8.0
    assert row["family"] == "llama"
    assert row["size"] == pytest.approx(0.4, abs=0.2)
