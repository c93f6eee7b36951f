"""The first screen: a sentence by rule for every outcome, ties said, toys named; columns and p in plain words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lens_emotion.analysis.layers import LayerSweep
from lens_emotion.report.headline import (
    ABSENT,
    HANGS,
    NAMES,
    PRESENT,
    UNTOLD,
    alike,
    caution,
    finding,
    floored,
    headline,
    level,
)
from lens_emotion.report.words import entry, header
from lens_emotion.study.results import StudyRun
from lens_emotion.study.verdict import (
    ALL_MODELS,
    NOT_SUPPORTED,
    NOT_TESTABLE,
    STATEMENTS,
    SUPPORTED,
    UNDETERMINED,
    Claim,
    Claims,
)

FIVE = tuple(f"m{i}" for i in range(5))


def claims_of(overall: dict[str, str], steered: tuple[str, ...] = ()) -> Claims:
    whole = [Claim(code, ALL_MODELS, verdict, "why", "said") for code, verdict in overall.items()]
    return Claims((*whole, *(Claim("C5", name, SUPPORTED, "why", "said") for name in steered)))


@pytest.mark.parametrize(
    ("names", "found", "overall", "steered", "said"),
    [
        (FIVE, [PRESENT] * 5, {"C5": SUPPORTED, "C3": NOT_SUPPORTED}, FIVE,
         "Emotion can be read and steered in all five models; no U-shape over depth"),
        (FIVE, [PRESENT] * 5, {"C5": SUPPORTED, "C3": UNDETERMINED}, FIVE[:4],
         "Emotion can be read in all five models and steered in four of them; its shape over depth stays open"),
        (("a", "b"), [PRESENT] * 2, {"C5": SUPPORTED, "C3": SUPPORTED, "C1": SUPPORTED}, ("a", "b"),
         "Emotion can be read and steered in both models; accuracy over depth is best in the middle (an inverted U); "
         "writing separates better than reading"),
        (("a",), [PRESENT], {"C5": SUPPORTED, "C1": NOT_SUPPORTED}, ("a",),
         "Emotion can be read and steered in a; writing separates no better than reading"),
        (("a",), [PRESENT], {"C5": NOT_SUPPORTED}, (),
         "Emotion can be read in a; steering does no more than its controls"),
        (("a",), [PRESENT], {"C5": UNDETERMINED}, (), "Emotion can be read in a; whether it can be steered stays open"),
        (("a",), [PRESENT], {"C5": NOT_TESTABLE}, (), "Emotion can be read in a; steering was not tested"),
        (("a",), [PRESENT], {}, (), "Emotion can be read in a; steering was not tested"),
        (FIVE, [PRESENT, PRESENT, ABSENT, HANGS, UNTOLD], {"C5": UNDETERMINED, "C3": NOT_TESTABLE}, ("m2",),
         "Emotion can be read in two of five models; it can be steered in one of five models"),
        (("a",), [ABSENT], {"C5": UNDETERMINED, "C3": UNDETERMINED}, (),
         "Emotion cannot be told from noise in a; whether it can be steered stays open"),
        (("a", "b"), [ABSENT, HANGS], {"C5": NOT_TESTABLE}, (),
         "Whether emotion can be read stays open in both models; steering was not tested"),
        (("a",), [HANGS], {"C5": SUPPORTED}, ("a",),
         "Whether emotion can be read stays open in a; it can be steered in a"),
        (("a",), [UNTOLD], {}, (), "Whether emotion can be read is not testable in a; steering was not tested"),
        ((), [], {}, (), "Nothing was studied"),
    ],
)  # fmt: skip
def test_a_sentence_for_every_outcome(names, found, overall, steered, said):
    assert finding(names, found, claims_of(overall, steered)) == said


def test_every_claim_has_a_name_on_its_chip():
    assert list(NAMES) == list(STATEMENTS)


def test_toy_models_are_said_to_be_no_finding():
    assert caution(["gpt2"]) == ""
    assert "not a finding" in caution(["tiny-llama"]) and "a toy model" in caution(["tiny-llama"])
    assert "toy models" in caution(["tiny-llama", "tiny-qwen"])
    assert caution(["gpt2", "tiny-qwen"]).startswith("tiny-qwen is a toy model")


def sweep_of(values: list[float], p: float = 0.005) -> LayerSweep:
    n = len(values)
    table = pd.DataFrame({"layer": range(n), "depth": np.arange(1, n + 1) / n, "value": values, "p_corrected": p})
    return LayerSweep(table, "decoding", True, None, None, 200, n_texts=240)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0.99, 1.0, 0.995], "all layers at least 0.99"),
        ([0.2, 0.56, 0.55, 0.3], "2 of 4 layers alike, at least 0.55"),
        ([0.2, 0.9, 0.3], ""),
    ],
)
def test_layers_that_cannot_be_told_apart_are_said_to_be_alike(values, said):
    assert alike(sweep_of(values)) == said
    assert level(sweep_of(values)) == said.startswith("all")
    assert alike(sweep_of(values, p=0.4)) == "", "of noise no layer is best"


def test_p_at_its_floor_says_so():
    assert floored(1 / 2001, 2000) == "p ≤ 0.0005 (floor)"
    for n in range(1, 3000):  # rounded up: p is not above what is said
        said = float(floored(1 / (n + 1), n).split()[2])
        assert entry(1 / (n + 1), "p", (1 / (n + 1),)) == f"≤ {said:.2g} (floor)"
        assert 1 / (n + 1) <= said * (1 + 1e-9) and said <= 1.1 / (n + 1), n
    assert floored(2 / 2001, 2000) == "p = 0.001"
    floors = 1 / 201, 1 / 2001
    assert entry(1 / 2001, "p", floors) == "≤ 0.0005 (floor)" == entry(1 / 2001, "accuracy_p_corrected", floors)
    assert entry(1 / 201, "share", floors) == "0.005", "a share is no p-value"
    assert entry(0.02, "p_corrected", floors) == "0.020"


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("layer_a", "layer of the first"),
        ("disjoint_ceiling", "disjoint ceiling"),
        ("success_low", "success, 95% from"),
        ("other_success_high", "another emotion's vector: success, 95% to"),
        ("null_low", "null: from"),
        ("p_random", "p against random"),
        ("accuracy_p_corrected_standardised", "accuracy, p, corrected, standardised"),
        ("n", "n"),
    ],
)
def test_columns_have_plain_headers(column, words):
    assert header(column) == words and "_" not in header(column)


def test_a_study_of_nothing_has_no_numbers():
    found = headline(StudyRun("folder", {}, (), claims_of({})))
    assert (found.finding, found.caution, found.chips, found.numbers) == ("Nothing was studied", "", (), ())
