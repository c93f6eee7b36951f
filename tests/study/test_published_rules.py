"""The published rules, each at its edge: what just makes it say yes, and what just does not."""

from __future__ import annotations

import math
from types import SimpleNamespace as Some

import pandas as pd
import pytest

import lens_emotion as le
from lens_emotion.presets.protocol import EXPLOSIVE, REPETITIVE, SURGICAL
from lens_emotion.study.claims import published as rules
from lens_emotion.study.claims.published import Found
from lens_emotion.study.power import LEVEL
from lens_emotion.study.verdict import NOT_SUPPORTED, NOT_TESTABLE, SUPPORTED

YES, NO, UNASKED = Found(SUPPORTED, "yes"), Found(NOT_SUPPORTED, "no"), Found(NOT_TESTABLE, "not asked")
pytestmark = pytest.mark.usefixtures("untyped")


def model(name="m", family="llama", **more):
    return Some(info=Some(name=name, family=family), **more)


@pytest.mark.parametrize(
    ("code", "families", "found", "verdict"),
    [
        ("C2", "lq", (YES, YES), SUPPORTED),
        ("C2", "lq", (YES, NO), NOT_SUPPORTED),  # "in every model"
        ("C2", "lq", (YES, UNASKED), SUPPORTED),
        ("C2", "lq", (UNASKED, UNASKED), NOT_TESTABLE),
        ("C7", "ql", (YES, NO), SUPPORTED),  # of Qwen alone
        ("C7", "ql", (NO, YES), NOT_SUPPORTED),
        ("C7", "qq", (YES, NO), SUPPORTED),  # "in any"
        ("C7", "ll", (YES, YES), NOT_TESTABLE),
    ],
)
def test_over_models(code, families, found, verdict):
    models = [model(f"m{i}", {"l": "llama", "q": "qwen"}[f]) for i, f in enumerate(families)]
    assert rules._over(code, models, found).verdict == verdict


def test_over_models_a_sentence_names_those_it_is_said_of():
    found = [Found(SUPPORTED, "yes", why=("all of them", "m0 alone")), Found(SUPPORTED, "yes", why=("all of them",))]
    assert rules._over("C2", [model("m0"), model("m1")], found).why == ("all of them", "m0: m0 alone")
    no = [Found(NOT_SUPPORTED, "no", less=(f"{i} steps", "too few")) for i in range(3)]
    made = rules._over("C2", [model(f"m{i}") for i in range(3)], no)
    assert made.less == ("m0: 0 steps", "too few", "m1: 1 steps", "m2: 2 steps")


def steered(moved, n=16, random=5):
    """Two doses, of which the second moves as many as asked."""
    rows = {"condition": ["emotion"] * 2, "dose": [0.01, 0.02], "moved": [moved - 1, moved]}
    table = pd.DataFrame(rows).assign(dose_natural=0.1, regime="inert")

    def at(dose, condition="emotion"):
        assert dose == 0.02, "the best dose"
        return Some(moved=moved if condition == "emotion" else random, n=n)

    return Some(steering=Some(table=table, at=at), suppression=None)


@pytest.mark.parametrize(("moved", "verdict"), [(9, SUPPORTED), (8, NOT_SUPPORTED)])
def test_steering_holds_in_more_than_half(moved, verdict):
    found = rules._c5(model(), steered(moved))
    assert found.verdict == verdict and "5 of 16" in found.control


def layers(**more):
    curve = pd.DataFrame({"mean_cosine": [-0.046, -0.049, -0.047], "null_low": -0.05, "null_high": -0.04})
    known = {"table": curve, "layer": 1, "depth": 0.5, "bound": -0.05, "p": 0.4, "middle_by_chance": 0.3}
    return Some(layers=Some(**known | {"dips": True, "dips_by_chance": 0.5, "in_the_middle": True} | more), cosines={})


def read():
    return model(comprehension=Some(sweep=Some(best_depth=0.5)))


@pytest.mark.parametrize(("yes", "verdict"), [(True, SUPPORTED), (False, NOT_SUPPORTED)])
def test_the_lowest_layer_decides_where_and_the_shape(yes, verdict):
    assert rules._c2(read(), layers(in_the_middle=yes)).verdict == verdict
    assert rules._c3(read(), layers(dips=yes)).verdict == verdict


@pytest.mark.parametrize(("baseline", "verdict"), [(0.8, SUPPORTED), (-0.049, NOT_SUPPORTED), (None, NOT_TESTABLE)])
def test_vectors_lie_below_neutral_texts(baseline, verdict):
    found = layers()
    found.cosines = {} if baseline is None else {"anisotropy at 50% depth": baseline}
    assert rules._c4(read(), found).verdict == verdict


@pytest.mark.parametrize(("emotion", "before", "verdict"), [(0.1, 0.0, SUPPORTED), (0.1, 0.1, NOT_SUPPORTED)])
def test_letters_of_another_script_beyond_the_unsteered(emotion, before, verdict):
    table = pd.DataFrame({"condition": ["emotion", "random", "unsteered"], "texts": [emotion, 0.2, before]})
    assert rules._c7(model(), Some(leakage=Some(table=table), steering=None)).verdict == verdict


@pytest.mark.parametrize(
    ("regimes", "verdict"),
    [
        ((("llama", SURGICAL), ("qwen", REPETITIVE)), SUPPORTED),
        ((("llama", SURGICAL), ("qwen", SURGICAL)), NOT_SUPPORTED),
        ((("llama", SURGICAL), ("qwen", REPETITIVE), ("qwen", EXPLOSIVE)), NOT_SUPPORTED),
        ((("llama", SURGICAL), ("llama", REPETITIVE)), NOT_TESTABLE),
    ],
)
def test_families_differ_and_their_members_agree(regimes, verdict):
    def labels(regime):
        return Some(regimes={name: Some(regime=regime, hangs=False) for name in ("emotion", "random", "unsteered")})

    models = [model(f"m{i}", family, published=labels(regime)) for i, (family, regime) in enumerate(regimes)]
    assert rules._c6_over(models).verdict == verdict


@pytest.mark.parametrize(
    ("written", "read", "verdict"),
    [
        (-0.25, 0.125, SUPPORTED),
        (-0.25, -0.25, NOT_SUPPORTED),
        (-0.125, 0.25, NOT_SUPPORTED),
        (0.25, 0.0, NOT_SUPPORTED),
    ],
)
def test_tuning_lowers_writing_by_more_than_reading_changes(written, read, verdict, monkeypatch):
    def one(name, kind, a, b):
        return model(
            name, kind=kind, jeong=Some(mean_cosine=a, distinguishable=True), jeong_reading=Some(mean_cosine=b)
        )

    monkeypatch.setattr(rules, "partner_of", lambda name, known: "tuned")
    pair = [one("plain", "base", 0.5, 0.75), one("tuned", "instruct", 0.5 + written, 0.75 + read)]
    assert rules._c8(pair).verdict == verdict


@pytest.mark.parametrize(
    ("lower", "n", "verdict"), [(True, 4, SUPPORTED), (True, 3, NOT_SUPPORTED), (False, 4, NOT_SUPPORTED)]
)
def test_the_test_of_cosines_over_models(lower, n, verdict):
    step = -0.3 if lower else 0.3

    def one(i):
        written, read = Some(mean_cosine=0.6 + step + i / 100, distinguishable=True), Some(mean_cosine=0.6 + i / 100)
        return model(f"m{i}", jeong=written, jeong_reading=read)

    assert rules._c1_over([one(i) for i in range(n)], [YES] * n).verdict == verdict


def test_the_power_of_c7_is_the_binomial_tail():
    """As many texts with a fitting word as a sign test over the doses needs, out of all openings."""
    config = le.StudyConfig(models=("tiny-llama",), doses=(1.0, 2.0))
    row = le.power_of(config).table.set_index("claim").loc["C7"]
    share = row.smallest * float(str(row.assumed).split("the words find ")[1].split("%")[0]) / 100
    enough, n = math.ceil(math.log2(2 / LEVEL)), int(row.here)
    tail = sum(math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(enough, n + 1))
    assert row.power == pytest.approx(
        tail, rel=0.1
    )  # the share of texts that the words find is printed in whole percents
