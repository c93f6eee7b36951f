"""What a verdict must not say: planted worlds of one seed each, and the rules that stand behind them."""

import numpy as np
import pytest

from benchmarks import verdicts
from lens_emotion.study.verdict import (
    NOT_SUPPORTED,
    SUPPORTED,
    UNDETERMINED,
    Claim,
    at_least,
    combined,
    hangs_on_decoder,
)


def said(code, name, seed=1):
    return next(w for w in verdicts.worlds([code]) if w.name == name).run(seed)


@pytest.mark.parametrize(
    ("code", "name", "seed"),
    [("C1", "alike, massive dimensions when written", 1), ("C4", "neutral text varies everywhere, massive", 3)],
)
def test_a_verdict_that_one_decoder_gives_alone_is_undetermined_and_says_so(code, name, seed):
    claim = said(code, name, seed)
    assert claim.verdict == UNDETERMINED
    assert "it hangs on the decoder" in claim.reason and "Standardised per dimension" in claim.sentence


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("C2", "at the ceiling everywhere"),
        ("C6", "judge at chance"),
        ("C6", "the model judges itself"),
        ("C6", "every dose breaks"),
        ("C7", "another emotion's words as much"),
        ("C6 families", "no model breaks"),
        ("C6 families", "neither matters, most never break"),
        ("C6 families", "size as much as family"),
        ("C6 families", "families have sizes of their own"),
    ],
)
def test_what_this_design_cannot_know_is_undetermined(code, name):
    assert said(code, name).verdict == UNDETERMINED


def test_a_few_texts_that_lie_far_out_do_not_carry_c4():
    assert said("C4", "wholly inside, heavier tails").verdict != SUPPORTED


@pytest.mark.parametrize("name", ["loops, mends, then steers", "explodes before it loops"])
def test_regimes_out_of_order_contradict_c6(name):
    assert said("C6", name).verdict == NOT_SUPPORTED


def test_families_that_differ_beyond_what_size_could_do_support_c6():
    assert said("C6 families", "families differ").verdict == SUPPORTED
    assert said("C6 families", "size alone").verdict == NOT_SUPPORTED


def claim(verdict, scope="m", evidence=None):
    return Claim("C3", scope, verdict, "planted", "planted", evidence=evidence)


def test_the_verdict_over_one_model_is_its_own():
    one = claim(NOT_SUPPORTED, evidence=(1.0, 0.04))  # either of two controls would do, so that its p is doubled
    assert combined("C3", [one], True).verdict == NOT_SUPPORTED


def test_a_universal_claim_falls_where_every_model_contradicts_it_also_without_p_values():
    assert combined("C3", [claim(NOT_SUPPORTED, f"m{i}") for i in range(5)], True).verdict == NOT_SUPPORTED
    sure = [claim(SUPPORTED, f"m{i}", (0.001, 1.0)) for i in range(4)]
    assert combined("C3", [*sure, claim(NOT_SUPPORTED, "last", (1.0, 0.002))], True).verdict == NOT_SUPPORTED


def test_at_least_is_no_smaller_than_the_share_of_nulls_allows():
    rng = np.random.default_rng(0)
    for n, u in ((5, 1), (5, 3), (5, 5)):
        p = rng.uniform(size=(4000, n))
        p[:, : u - 1] = 1e-6  # as many true ones as do not suffice
        assert np.mean([at_least(row, u) <= 0.05 for row in p]) < 0.06


def test_both_decoders_stand_behind_what_speaks_over_models():
    a, b = claim(SUPPORTED, evidence=(0.001, 0.9)), claim(SUPPORTED, evidence=(0.02, 1.0))
    assert hangs_on_decoder(a, b).evidence == (0.02, 1.0)


def test_finished_runs_are_not_run_again_and_a_cut_off_line_is_none(tmp_path, capsys):
    log = tmp_path / "log.jsonl"
    call = ["--only", "families differ", "--processes", "1", "--log", str(log)]
    verdicts.main([*call, "--runs", "2"])
    first = log.read_text()
    verdicts.main([*call, "--runs", "2"])
    assert log.read_text() == first and len(verdicts.read(log)) == 2
    log.write_text(first + '\n{"claim": "C6 fam')
    verdicts.main([*call, "--runs", "3"])
    assert [r["seed"] for r in verdicts.read(log)] == [0, 1, 2]
    verdicts.main([*call, "--runs", "1", "--fresh"])
    assert len(verdicts.read(log)) == 1
