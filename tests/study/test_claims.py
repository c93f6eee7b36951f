"""Claims: planted truth gives the verdict it should, and a claim that cannot be tested says so."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from planted import HEADER, planted
from planted_doses import experiment

from lens_emotion.analysis.compare import compare
from lens_emotion.analysis.decoding import decoding
from lens_emotion.analysis.layers import layer_sweep
from lens_emotion.analysis.separation import separation
from lens_emotion.models.access import ModelInfo
from lens_emotion.report.build import _steering_cell
from lens_emotion.study.claims.methods import better_by_writing, other_readings, tuning
from lens_emotion.study.claims.over_models import partner_of
from lens_emotion.study.claims.reading import beyond_anisotropy, middle_layers, u_shape, without_neutral
from lens_emotion.study.claims.steering import causal, leakage_of, other_languages, regimes
from lens_emotion.study.results import Evidence, JeongStudy
from lens_emotion.study.verdict import (
    ALL_MODELS,
    NOT_SUPPORTED,
    NOT_TESTABLE,
    SUPPORTED,
    UNDETERMINED,
    Claim,
    Claims,
    Effect,
    combined,
)

N = 60  # permutations
MIDDLE_BUMP = (0.0, 0.5, 1.5, 3.0, 3.5, 3.0, 1.5, 0.5, 0.0)
RISING = (0.0, 0.3, 0.7, 1.1, 1.6, 2.1, 2.7, 3.3, 4.0)


def read(signal, seed=0, **more):
    """Nine layers, six emotions, ten topics."""
    options = {"n_emotions": 6, "n_topics": 10, "n_layers": 9, "d_model": 32, "n_neutral": 10}
    return planted(signal=signal, seed=seed, **(options | more)).acts


def sweep(acts):
    return layer_sweep(acts, "decoding", N)


def preset(acts):
    return JeongStudy(acts.header, len(acts), acts.n_layers // 2, separation(acts, n_permutations=N))


def test_a_best_layer_in_the_middle_supports_c2_and_a_late_one_contradicts_it():
    peak = (0.0, 0.0, 0.0, 0.5, 2.0, 0.5, 0.0, 0.0, 0.0)  # layers that decode alike share the draws
    assert middle_layers("m", sweep(read(peak))).verdict == SUPPORTED
    late = middle_layers("m", sweep(read((0, 0, 0, 0, 0, 0, 0, 0.5, 5.0))))
    assert late.verdict == NOT_SUPPORTED and late.effect.low > 2 / 3
    assert middle_layers("m", sweep(read(0.0))).verdict == UNDETERMINED


def test_an_inverted_u_of_accuracy_supports_c3_and_a_rising_curve_never_does():
    acts = read(MIDDLE_BUMP)
    assert u_shape("m", sweep(acts), separation(acts, n_permutations=1)).verdict == SUPPORTED
    for seed in range(3):
        acts = read(RISING, seed)
        assert u_shape("m", sweep(acts), separation(acts, n_permutations=1)).verdict in (NOT_SUPPORTED, UNDETERMINED)


def test_emotion_along_what_neutral_texts_vary_by_contradicts_c4():
    made = planted(n_emotions=2, n_topics=12, n_layers=2, d_model=32, signal=3.0, n_neutral=40)
    neutral, draw = torch.from_numpy(made.acts.emotion == "neutral"), torch.Generator().manual_seed(0)
    elsewhere = torch.linalg.qr(torch.randn(32, 1, generator=draw))[0].T
    inside = made.directions[0] - made.directions[1]  # all that tells the two apart
    for axis, verdict in ((elsewhere, SUPPORTED), (inside, NOT_SUPPORTED)):
        values = made.acts.values.clone()
        values[neutral] += 30 * torch.randn(int(neutral.sum()), 1, 1, generator=draw) * axis
        acts = replace(made.acts, values=values)
        claim = beyond_anisotropy("m", without_neutral(acts, decoding(acts, N), None, N, 0), smallest=0.3)
        assert claim.verdict == verdict and (claim.effect.low > 0.5) == (verdict == SUPPORTED), claim


def test_c4_is_not_testable_where_nothing_is_decoded():
    acts = read(0.0)
    left = without_neutral(acts, decoding(acts, N), None, N, 0)
    claim = beyond_anisotropy("m", left)
    assert claim.verdict == NOT_TESTABLE and claim.reason == left


@pytest.mark.parametrize(("writing", "reading", "verdict"), [(2.5, 0.5, SUPPORTED), (0.5, 2.5, NOT_SUPPORTED)])
def test_c1_goes_by_held_out_accuracy_not_by_the_cosine(writing, reading, verdict):
    written, passages = read(writing, 1, n_layers=2), read(reading, 2, n_layers=2)
    beside = other_readings(compare(written, passages), preset(written), preset(passages))
    claim = better_by_writing("m", written, passages, beside)
    assert claim.verdict == verdict
    assert np.sign(claim.effect.value) == (1 if verdict == SUPPORTED else -1)
    assert "cosine" in claim.sentence and "With the instruction in front" in claim.sentence


def test_noise_with_a_low_cosine_does_not_support_c1():
    """The trap of the field: noise vectors lie far apart, and a common offset makes real ones look alike."""
    written, passages = read(0.0, 3, n_layers=2), read(4.0, 4, n_layers=2, n_neutral=4)
    assert better_by_writing("m", written, passages).verdict == NOT_SUPPORTED


def test_c1_without_writing_is_not_testable():
    assert better_by_writing("m", None, read(2.0)).verdict == NOT_TESTABLE


def evidence(name, kind, written, passages):
    info = ModelInfo(name, "llama", "bridge", 9, 32, 256, 1000, "float32", "cpu", "0" * 64, False, "3.9.0")
    return Evidence(info, kind, 1.0, passages, passages, written, written, None, None, "planted")


def test_c8_is_supported_only_where_writing_gains_more_than_reading():
    weak, strong, passages = (read(size, seed, n_layers=2) for size, seed in ((0.3, 5), (2.0, 5), (0.5, 6)))
    base, gained = evidence("b", "base", weak, passages), evidence("i", "instruct", strong, passages)
    assert tuning(base, gained).verdict == SUPPORTED
    assert tuning(base, evidence("i", "instruct", weak, passages)).verdict == NOT_SUPPORTED
    alike = tuning(evidence("b", "base", weak, weak), evidence("i", "instruct", strong, strong))
    assert alike.verdict == NOT_SUPPORTED and abs(alike.effect.value) < 1e-12


def test_c8_pairs_the_topics_that_are_left():
    """A topic whose stories hold no text was a KeyError; where nothing is left, the claim is not testable."""
    passages, strong = read(1.5, 6, n_layers=2), read(2.5, 5, n_layers=2)
    lacks = strong.only(strong.topic != strong.topics[0])
    gained = tuning(evidence("b", "base", lacks, passages), evidence("i", "instruct", strong, passages))
    assert gained.n == f"{len(strong.emotional.topics) - 1} topics"
    single = strong.only((strong.topic == strong.topics[0]) | (strong.emotion == "neutral"))
    left = tuning(evidence("b", "base", single, passages), evidence("i", "instruct", strong, passages))
    assert left.verdict == NOT_TESTABLE


@pytest.fixture
def steered():
    return experiment(doses=(1.0, 3.0), n_emotions=4, breaks=(3.0,))


EMPTY = {
    "nothing at all": ("", 1.0, r"16 of 16 steered texts hold no text"),
    "line breaks, and unsteered too": ("\n\n", 1.0, r"8 of 8 unsteered texts hold no text"),
    "most at every dose": ("", 0.75, r"12 of 16 steered texts"),
}


@pytest.mark.parametrize("what", EMPTY)
def test_steered_texts_that_hold_no_text_say_nothing_for_or_against(steered, what):
    text, share, words = EMPTY[what]
    emotion = (steered.table.condition == "emotion") & (steered.table.dose > 0)
    table = steered.table.assign(no_text=np.where(emotion, share * steered.table.n, 0).astype(int))
    unsteered = steered.unsteered.assign(text=text) if text else steered.unsteered
    empty = replace(steered, table=table, unsteered=unsteered)
    for claim in (causal("m", empty), regimes("m", empty)):
        assert claim.verdict == NOT_TESTABLE and re.search(words, claim.reason)
    cell = _steering_cell(empty)
    assert cell.value == "not testable" and re.search(words, cell.why)


def test_empty_texts_at_some_doses_are_data(steered):
    last = (steered.table.condition == "emotion") & (steered.table.dose == 3.0)
    table = steered.table.assign(no_text=np.where(last, steered.table.n, 0).astype(int), regime="explosive")
    broken = replace(steered, table=table)
    assert not broken.silent and causal("m", broken).verdict == regimes("m", broken).verdict == NOT_SUPPORTED
    cell = _steering_cell(broken)
    assert cell.value == "no surgical dose" and "explosive" in cell.note and "hold no text" in cell.why


def test_steering_claims_without_an_experiment_are_not_testable():
    assert causal("m", None).verdict == NOT_TESTABLE
    assert regimes("m", None).verdict == NOT_TESTABLE
    assert leakage_of(None, "passages") is None
    assert other_languages("m", None, None, None).verdict == NOT_TESTABLE


def test_partners_are_found_in_the_catalog_and_only_among_the_models_of_the_run():
    run = ("llama-3.2-3b", "meta-llama/Llama-3.2-3B-Instruct", "gpt2", "tiny-llama")
    assert partner_of("llama-3.2-3b", run) == "llama-3.2-3b-instruct"
    assert partner_of("llama-3.2-3b-instruct", run) == "llama-3.2-3b"
    assert partner_of("llama-3.2-3b", ("gpt2",)) is None
    assert partner_of("gpt2", run) is None and partner_of("tiny-llama", run) is None


def claim(scope, verdict, code="C2", value=0.5):
    return Claim(code, scope, verdict, "why", "A sentence.", Effect("x", value, 0.0, 1.0))


def test_verdicts_over_models_follow_one_rule():
    yes, no, open_ = claim("a", SUPPORTED), claim("b", NOT_SUPPORTED), claim("c", UNDETERMINED)
    clear = replace(no, evidence=(1.0, 0.01))
    out = claim("d", NOT_TESTABLE)
    assert combined("C2", [yes, yes, out], universal=True).verdict == SUPPORTED
    assert combined("C2", [yes, no], universal=True).verdict == UNDETERMINED  # one of two at the level is chance
    assert combined("C2", [yes, clear], universal=True).verdict == NOT_SUPPORTED
    assert combined("C2", [yes, no], universal=False).verdict == UNDETERMINED
    assert combined("C2", [no, open_], universal=False).verdict == UNDETERMINED  # most of two are both
    assert combined("C2", [no, no, open_], universal=False).verdict == UNDETERMINED
    assert combined("C2", [clear, clear, open_], universal=False).verdict == NOT_SUPPORTED
    assert combined("C2", [yes, open_], universal=True).verdict == UNDETERMINED
    assert combined("C2", [out], universal=True).verdict == NOT_TESTABLE
    assert combined("C2", [], universal=True).scope == ALL_MODELS


def test_claims_json_holds_plain_values_and_no_nan():
    claims = Claims((claim("a", SUPPORTED, value=float("nan")), combined("C2", [claim("a", SUPPORTED)], True)))
    text = json.dumps(claims.to_json(), allow_nan=False)
    assert json.loads(text)[0]["effect"]["value"] is None
    assert list(claims.table.scope) == ["a", ALL_MODELS] and "supported: C2" in claims.summary()
    assert HEADER.model == "planted"


def test_a_verdict_that_hangs_on_the_decoder_is_undetermined_and_says_so():
    from lens_emotion.study.verdict import hangs_on_decoder

    one = Claim("C2", "m", "supported", "inside", "In m, inside.")
    other = replace(one, verdict="not supported", reason="outside", sentence="In m, outside.")
    apart, same = hangs_on_decoder(one, other), hangs_on_decoder(one, replace(one))
    assert apart.verdict == "undetermined" and same.verdict == "supported"
    said = "it hangs on the decoder (centred cosine: supported, inside; standardised: not supported, outside)"
    assert apart.reason == said and "hangs" not in same.reason
