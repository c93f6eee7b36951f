"""Verdicts over models: the partial conjunction against brute force, C6 by family and size, pairs, Qwen, own limits."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from planted import planted
from planted_doses import DOSES, experiment

from lens_emotion.errors import AnalysisError
from lens_emotion.models.access import ModelInfo
from lens_emotion.models.catalog import CATALOG
from lens_emotion.run.config import StudyConfig
from lens_emotion.steering.architecture import ArchitectureTest, by_architecture
from lens_emotion.study.claims import over_models as over
from lens_emotion.study.claims.methods import over_models as writing_over_models
from lens_emotion.study.claims.over_models import architecture, entanglement, instruction_tuning, onsets_of, partner_of
from lens_emotion.study.claims.smallest import SMALLEST, smallest_of
from lens_emotion.study.results import Evidence, JeongStudy, ModelStudy
from lens_emotion.study.verdict import (
    ALL_MODELS,
    LEVEL,
    NOT_SUPPORTED,
    NOT_TESTABLE,
    STATEMENTS,
    SUPPORTED,
    UNDETERMINED,
    Claim,
    Claims,
    Effect,
    at_least,
    combined,
    untestable,
)


def claim(scope, verdict, evidence=None, value=0.5, code="C5", **more):
    effect = Effect("gain", value, value - 1, value + 1)
    return Claim(code, scope, verdict, f"why {scope}", "Said.", effect, "0", evidence=evidence, **more)


def yes(scope="a", p=0.001, **more):
    return claim(scope, SUPPORTED, (p, 0.9), **more)


def no(scope="b", p=0.001, **more):
    return claim(scope, NOT_SUPPORTED, (0.9, p), **more)


def unsure(scope="c", **more):
    return claim(scope, UNDETERMINED, (0.001, 0.001), **more)  # small p-values of no verdict do not speak


def conjunction(p, u):
    """The largest of Simes' p over all choices of n - u + 1: each must hold one that is not null."""

    def simes(some):
        return min(1.0, *(len(some) / i * x for i, x in enumerate(sorted(some), 1)))

    return max(map(simes, combinations(p, len(p) - u + 1)))


def test_at_least_u_of_n_is_the_worst_of_simes_over_all_choices():
    rng = np.random.default_rng(0)
    for n in range(1, 7):
        for u in range(1, n + 1):
            for p in rng.random((6, n)) ** 3:
                assert at_least(p, u) == pytest.approx(conjunction(p.tolist(), u))
    assert at_least(np.array([0.9, 0.01, 0.02]), 2) == pytest.approx(0.04)
    assert at_least(np.full(5, 0.02), 1) == pytest.approx(0.02)  # five that agree are no weaker than one


@pytest.mark.parametrize("universal", [True, False])
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_combined_is_what_brute_force_says(n, universal):
    """Every mix of verdicts, strong and weak: ayes of all (or most), noes of one (or most)."""
    kinds = (yes, no, unsure, lambda scope: yes(scope, 0.02), lambda scope: no(scope, 0.02))
    for mix in product(kinds, repeat=n):
        each = [make(f"m{i}") for i, make in enumerate(mix)]
        p_for = [c.evidence[0] if c.verdict == SUPPORTED else 1.0 for c in each]
        p_against = [c.evidence[1] if c.verdict == NOT_SUPPORTED else 1.0 for c in each]
        most = n // 2 + 1
        shown, denied = conjunction(p_for, n if universal else most), conjunction(p_against, 1 if universal else most)
        verdict = SUPPORTED if shown <= 0.025 else NOT_SUPPORTED if denied <= 0.025 else UNDETERMINED
        whole = combined("C5", each, universal)
        assert whole.verdict == verdict and whole.evidence == pytest.approx((shown, denied)), [c.verdict for c in each]
        if n > 1:
            expected = {SUPPORTED: shown, NOT_SUPPORTED: denied, UNDETERMINED: min(shown, denied)}[verdict]
            assert whole.p == pytest.approx(expected)


MIXES = {  # per model -> universal, typical
    "all": ([yes("a"), yes("b"), yes("c")], SUPPORTED, SUPPORTED),
    "all but one, which is open": ([yes("a"), yes("b"), unsure()], UNDETERMINED, SUPPORTED),
    "all but one, which says no": ([yes("a"), yes("c"), no("b")], NOT_SUPPORTED, SUPPORTED),
    "half": ([yes("a"), yes("c"), no("b"), no("d")], NOT_SUPPORTED, UNDETERMINED),
    "most say no": ([yes("a"), no("b"), no("d")], NOT_SUPPORTED, NOT_SUPPORTED),
    "one no": ([no("b"), unsure("c"), unsure("d")], NOT_SUPPORTED, UNDETERMINED),
    "one weak no": ([no("b", 0.02), yes("a"), yes("c")], UNDETERMINED, SUPPORTED),
    "weak ayes": ([yes("a", 0.02), yes("b", 0.02), unsure()], UNDETERMINED, UNDETERMINED),
    "open": ([unsure("a"), unsure("b")], UNDETERMINED, UNDETERMINED),
    "not asked of one": ([yes("a"), yes("b"), untestable("C5", "c", "nothing was run")], SUPPORTED, SUPPORTED),
    "verdicts without p, at their level": ([claim("a", SUPPORTED), claim("b", SUPPORTED)], SUPPORTED, SUPPORTED),
    "one no without p among two": ([claim("a", SUPPORTED), claim("b", NOT_SUPPORTED)], UNDETERMINED, UNDETERMINED),
    "alone": ([no("b", 0.02)], NOT_SUPPORTED, NOT_SUPPORTED),
}


@pytest.mark.parametrize("case", MIXES)
def test_universal_and_typical_claims_over_models(case):
    each, universal, typical = MIXES[case]
    assert [combined("C5", each, u).verdict for u in (True, False)] == [universal, typical]
    assert LEVEL == 0.025


def test_what_a_verdict_over_models_says():
    each = [yes("a", value=0.9), no("b", value=0.1), yes("c", value=0.4), untestable("C5", "d", "nothing")]
    whole = combined("C5", each, universal=False)
    assert (whole.scope, whole.n) == (ALL_MODELS, "3 models") and whole.effect.over_models
    assert whole.reason == "of 3 models (at least 2 asked for): supported in 2 (a, c); not supported in 1 (b)"
    assert (whole.effect.value, whole.effect.low, whole.effect.high) == (0.4, 0.1, 0.9)
    assert "every model asked for" in combined("C5", each, universal=True).reason
    assert whole.sentence == f"{STATEMENTS['C5']}: supported; {whole.reason}."
    given = Effect("mine", 2.0)
    assert combined("C5", each, False, given).effect == given
    undefined = [yes("a", value=math.nan), yes("b", value=0.2)]
    assert combined("C5", undefined, False).effect == undefined[1].effect


def test_one_model_speaks_for_itself():
    one = yes("a", p=0.004, smallest=0.8)
    one = replace(one, p=0.0042, reach="so far", n="12 topics")
    whole = combined("C5", [one, untestable("C5", "b", "nothing")], universal=True)
    assert (whole.reason, whole.p, whole.reach, whole.null, whole.n) == (
        "why a",
        0.0042,
        "so far",
        "0",
        "1 model, 12 topics",
    )
    assert whole.effect == one.effect and whole.smallest == 0.8
    two = combined("C5", [one, replace(one, scope="b")], universal=True)
    other = combined("C5", [one, replace(one, scope="b", n="9 topics")], universal=True)
    assert (two.n, other.n) == ("2 models, each of 12 topics", "2 models")
    assert (two.reach, two.null, two.smallest) == ("", "each model's own, in its row", 0.8)


def test_nothing_to_combine_is_not_testable_for_the_first_reason():
    for each, why in (([], "no model was studied"), ([untestable("C5", "a", "nothing was run")], "nothing was run")):
        whole = combined("C5", each, universal=True)
        assert (whole.scope, whole.verdict, whole.reason) == (ALL_MODELS, NOT_TESTABLE, why)


# Claims of several models: stand-ins that hold what a claim over models reads.


class Studied(ModelStudy):
    """A model's study of which only what is given exists."""

    def __init__(self, name="m", family="llama", millions=100.0, **facts):
        info = ModelInfo(name, family, "bridge", 4, 64, 256, 1000, "float32", "cpu", "0" * 64, False, "3.9.0")
        for key, value in ({"info": info, "millions": millions, "steering": None, "claims": ()} | facts).items():
            object.__setattr__(self, key, value)


def table(family, size, other=0.5, least=0.5, most=0.2, spread=0.6):
    """p-values of family and size in the natural unit, and what they explain: family at least, size at most; the
    relative unit says the opposite."""
    rows = [("natural", "family", family, least, np.nan), ("natural", "log size", size, np.nan, most),
            ("relative", "family", other, most, np.nan), ("relative", "log size", other, np.nan, least)]  # fmt: skip
    return pd.DataFrame(
        [
            {"unit": u, "factor": f, "p": p, "share": 0.5, "null_mean": 0.2, "verdict": f"p = {p:.3f}"}
            | {"spread": spread if f == "log size" else 0.4, "least": least, "most": most}
            for u, f, p, least, most in rows
        ]
    )


IN_ORDER, CONTRADICTED, OPEN = (claim(ALL_MODELS, v, code="C6") for v in (SUPPORTED, NOT_SUPPORTED, UNDETERMINED))
ARCHITECTURE = {  # the order of regimes, p of family, p of size, p in the other unit -> C6
    "only family": (IN_ORDER, 0.05, 0.051, 0.5, SUPPORTED),
    "only family, the other unit says both": (IN_ORDER, 0.01, 0.5, 0.01, SUPPORTED),
    "family and size both, family by more": (IN_ORDER, 0.01, 0.05, 0.5, SUPPORTED),
    "family and size both, size by as much": (IN_ORDER, 0.01, 0.05, 0.5, UNDETERMINED),
    "only family, size may do as much": (IN_ORDER, 0.01, 0.5, 0.5, UNDETERMINED),
    "only size, by less than family may": (IN_ORDER, 0.051, 0.05, 0.5, UNDETERMINED),
    "only size": (IN_ORDER, 0.5, 0.01, 0.5, NOT_SUPPORTED),
    "only size, the order open": (OPEN, 0.5, 0.01, 0.5, NOT_SUPPORTED),
    "neither": (IN_ORDER, 0.051, 0.5, 0.01, UNDETERMINED),
    "only family, the order open": (OPEN, 0.01, 0.5, 0.5, UNDETERMINED),
    "only family, the order contradicted": (CONTRADICTED, 0.01, 0.5, 0.5, NOT_SUPPORTED),
    "family not testable": (IN_ORDER, math.nan, 0.5, 0.01, UNDETERMINED),
    "family not testable, size matters": (IN_ORDER, math.nan, 0.01, 0.5, UNDETERMINED),
    "size not testable": (IN_ORDER, 0.01, math.nan, 0.5, UNDETERMINED),
    "neither testable, the order contradicted": (CONTRADICTED, math.nan, math.nan, 0.5, NOT_SUPPORTED),
}


@pytest.mark.parametrize("case", ARCHITECTURE)
def test_c6_over_models_needs_the_order_and_family_without_size(case, monkeypatch):
    order, family, size, other, verdict = ARCHITECTURE[case]
    ratio = math.nan if "not testable" in case else 0.7
    most = math.nan if "size not" in case else 0.5 if "as much" in case else 0.2
    made = ArchitectureTest(
        table(family, size, other, most=most, spread=0.3 if "by less" in case else 0.6),
        pd.DataFrame({"model": list("abcd")}),
        ratio,
        0.2,
        1.4,
    )
    monkeypatch.setattr(over, "by_architecture", lambda onsets: made)
    found = architecture([Studied(steering=experiment())], order)
    assert (found.code, found.scope, found.verdict) == ("C6", ALL_MODELS, verdict)
    assert found.p == (None if math.isnan(family) else family) and found.n == "4 checkpoints"
    assert found.reason.startswith(f"{order.reason}; family against size: p = {family:.3f}, p = {size:.3f}")
    assert "nset of broken text in 4 models: family (natural unit)" in found.sentence
    if math.isnan(ratio):
        assert found.effect is None
    else:
        assert (found.effect.value, found.effect.low, found.effect.high) == (0.7, 0.2, 1.4)


def test_c6_over_models_is_at_best_open_where_no_onset_is_known(monkeypatch):
    for studied in (Studied(), Studied(steering=experiment(breaks=()))):  # not steered, or nothing breaks
        found = architecture([studied], IN_ORDER)
        assert found.verdict == UNDETERMINED and "cannot be asked, since no model breaks" in found.reason
        assert architecture([studied], CONTRADICTED) == CONTRADICTED

    def refuse(onsets):
        raise AnalysisError("no model has an onset")

    monkeypatch.setattr(over, "by_architecture", refuse)
    assert architecture([Studied(steering=experiment())], OPEN) == OPEN


def test_an_onset_is_known_by_its_ends_where_it_was_not_seen():
    seen, late, early = experiment(), experiment(breaks=()), experiment(loops=(), breaks=DOSES)
    base, tuned = "llama-3.2-3b", "llama-3.2-3b-instruct"
    models = [Studied(base, steering=seen), Studied(tuned, steering=late), Studied("own", "qwen", steering=early)]
    found = onsets_of([*models, Studied("unsteered")])
    assert found.model.tolist() == [base, tuned, "own"] and found.family.tolist() == ["llama", "llama", "qwen"]
    assert found.checkpoint[0] == found.checkpoint[1] != found.checkpoint[2] == "own"
    onset = 4 * 2 ** (math.log(4) / math.log(50))
    for unit, scale in (("natural", 1.0), ("relative", 0.1)):
        assert found[f"onset_{unit}"][0] == pytest.approx(scale * onset) and found[f"onset_{unit}"][1:].isna().all()
        ends = found[[f"low_{unit}", f"high_{unit}"]].to_numpy()
        assert np.isnan(ends[0]).all()
        assert ends[1:].tolist() == [[8.0 * scale, np.inf], [0.0, pytest.approx(1.0 * scale)]]
    fourth = onsets_of([*models, Studied("other", steering=seen)])
    assert len(by_architecture(fourth, n_draws=9).models) == 3  # base and instruct are one checkpoint
    assert onsets_of([Studied(millions=None, steering=seen)])["size"].isna().all()


def test_c7_over_models_is_decided_by_qwen_models():
    models = [Studied("q", "qwen"), Studied("l", "llama")]
    each = [replace(yes("q"), code="C7"), replace(no("l"), code="C7")]
    whole = entanglement(models, each)
    assert whole.verdict == SUPPORTED and whole.reason == "why q; other families: l: not supported"
    assert whole.sentence.endswith("; other families: l: not supported.")
    turned = entanglement([Studied("q", "llama"), Studied("l", "qwen")], each)
    assert turned.verdict == NOT_SUPPORTED and "q: supported" in turned.reason
    none = entanglement([Studied("q", "gemma")], each[:1])
    assert none.verdict == NOT_TESTABLE and "no Qwen model" in none.reason
    three = [replace(make(n), code="C7") for n, make in (("q", yes), ("r", yes), ("s", unsure))]
    assert entanglement([Studied(n, "qwen") for n in "qrs"], three).verdict == SUPPORTED  # of most, not of each


class Measured(Evidence):
    """Evidence of which only what is given exists."""

    def __init__(self, name="m", kind="base", **facts):
        object.__setattr__(self, "info", Studied(name).info)
        object.__setattr__(self, "kind", kind)
        for key, value in facts.items():
            object.__setattr__(self, key, value)


def test_c8_pairs_each_base_model_with_its_instruct_version_once(monkeypatch):
    asked = []

    def tuned(base, instruct, smallest, seed):
        asked.append((base.name, instruct.name, smallest, seed))
        return replace(yes(f"{base.name} -> {instruct.name}"), code="C8")

    monkeypatch.setattr(over, "tuning", tuned)
    names = {"llama-3.2-3b": "base", "llama-3.2-3b-instruct": "instruct", "gpt2": "base"}
    config = StudyConfig(models=("gpt2",), smallest={"C8": 0.3}, seed=4)
    found = instruction_tuning({n: Measured(n, kind) for n, kind in names.items()}, config)
    assert asked == [("llama-3.2-3b", "llama-3.2-3b-instruct", 0.3, 4)]
    assert [c.scope for c in found] == ["llama-3.2-3b -> llama-3.2-3b-instruct", ALL_MODELS]
    assert found[1].verdict == SUPPORTED
    names = [s.name for s in CATALOG]
    bases = [s.name for s in CATALOG if s.kind == "base" and partner_of(s.name, names)][:3]
    kinds = {n: kind for b in bases for n, kind in ((b, "base"), (partner_of(b, names), "instruct"))}
    made = iter((yes, yes, unsure))
    monkeypatch.setattr(over, "tuning", lambda base, *given: replace(next(made)(base.name), code="C8"))
    found = instruction_tuning({n: Measured(n, kind) for n, kind in kinds.items()}, config)
    assert len(found) == 4 and found[-1].verdict == SUPPORTED  # of most pairs, not of each
    alone = instruction_tuning({"gpt2": Measured("gpt2")}, config)
    assert [c.verdict for c in alone] == [NOT_TESTABLE] and "no base model and its instruct" in alone[0].reason


def test_which_claims_are_universal():
    """Two of three models say yes, one cannot say: enough for what is claimed of most, not for "whatever"."""
    codes = ("C1", "C2", "C3", "C4", "C5", "C6", "C7", "X1")
    models = [
        Studied(n, "qwen", jeong=None, claims=tuple(replace(make(n), code=code) for code in codes))
        for n, make in (("a", yes), ("b", yes), ("c", unsure))
    ]
    found = over.all_claims(models, {}, StudyConfig(models=("gpt2",)))
    assert {c.code: c.verdict for c in found.overall} == {
        "C1": SUPPORTED, "C2": UNDETERMINED, "C3": UNDETERMINED, "C4": SUPPORTED, "C5": SUPPORTED, "C6": UNDETERMINED,
        "C7": SUPPORTED, "C8": NOT_TESTABLE, "X1": SUPPORTED,
    }  # fmt: skip
    assert len(found.claims) == 3 * 8 + 9 and found.of("a") == models[0].claims
    assert found.summary().startswith(
        "supported: C1, C4, C5, C7, X1; not supported: none; undetermined: C2, C3, C6; not"
    )


def test_every_claim_of_a_model_is_asked_with_its_own_smallest_effect(monkeypatch):
    asked = {}
    for name, code in (("better_by_writing", "C1"), ("beyond_anisotropy", "C4"), ("causal", "C5"), ("regimes", "C6"),
                       ("other_languages", "C7"), ("middle_layers", "C2"), ("u_shape", "C3"),
                       ("more_than_words", "X1")):  # fmt: skip

        def say(*given, code=code):
            asked[code] = given
            return claim(str(given[0]), UNDETERMINED, code=code)

        monkeypatch.setattr(over, name, say)
    monkeypatch.setattr(over, "other_readings", lambda *given: ("beside",))
    monkeypatch.setattr(over, "without_neutral", lambda *given: ("left", *given))
    own = {"C1": 0.11, "C4": 0.14, "C5": 0.15, "C7": 0.17, "C8": 0.18, "X1": 0.19}
    comprehension = replace(claim("x", SUPPORTED))  # anything with attributes
    object.__setattr__(comprehension, "decoding", "decoding")
    object.__setattr__(comprehension, "sweep", "sweep")
    object.__setattr__(comprehension, "separation", "separation")
    study = Studied(comprehension=comprehension, versus=None, jeong=None, jeong_reading=None, lens="lens",
                    leakage="one", leakage_everywhere="all", words="words",
                    lacking={"generation": "nothing written"})  # fmt: skip
    bare, passages, shorter = (planted(n_emotions=2, n_topics=2, n_layers=1, d_model=4).acts for _ in range(3))
    evidence = Measured(
        comprehension=passages, shortened=shorter, reread=None, matched=bare, plain="plain", steering="steering"
    )
    config = StudyConfig(models=("gpt2",), smallest=own, seed=3, n_permutations=21)
    found = over.claims_of(evidence, study, config)
    assert [c.code for c in found] == ["C1", "C2", "C3", "C4", "C5", "C6", "C7", "X1"]
    assert asked["C1"] == ("m", bare, shorter, ("beside",), 0.11, "nothing written", 3)
    assert asked["C2"] == ("m", "sweep") and asked["C3"] == ("m", "sweep", "separation")
    assert asked["C4"] == ("m", ("left", passages, "decoding", "plain", 21, 3), 0.14)
    assert asked["C5"] == ("m", "steering", 0.15)
    assert asked["C6"] == ("m", "steering", 0.15, found[4])  # C5's verdict is not made twice
    assert asked["X1"] == ("m", "words", 0.19)
    assert asked["C7"] == ("m", "steering", "lens", "one", "all", 0.17)


def test_the_smallest_effects_are_declared_and_a_users_own_replace_them():
    known = {"C1": 0.1, "C4": 0.1, "C5": 0.8, "C7": 0.1, "C8": 0.15, "X1": 0.1}
    assert smallest_of() == smallest_of({}) == known == {c: s.value for c, s in SMALLEST.items()}
    assert smallest_of({"C5": 0.3}) == known | {"C5": 0.3}
    with pytest.raises(AnalysisError, match="no smallest effect of C2; known are C1, C4, C5, C7, C8, X1"):
        smallest_of({"C2": 0.1})
    for wrong in (0.0, -0.1, math.nan, math.inf, 1e6):
        with pytest.raises(AnalysisError, match="the smallest effect of C1 is"):
            smallest_of({"C1": wrong})


class Preset(JeongStudy):
    """The paper's preset with a mean cosine that is given."""

    def __init__(self, cosine):
        object.__setattr__(self, "cosine", cosine)

    mean_cosine = property(lambda self: self.cosine)


def test_c1_over_models_tells_the_papers_unpaired_test_beside_it():
    cosines = [(0.2, 0.6), (0.3, 0.5), (0.1, 0.7)]
    models = [Studied(n, jeong=Preset(a), jeong_reading=Preset(b)) for n, (a, b) in zip("abc", cosines, strict=True)]
    each = [replace(yes(n), code="C1") for n in "abc"]
    whole = writing_over_models(models, each)
    assert whole.verdict == SUPPORTED and "mean cosines of 3 models by its presets, unpaired: 0.20 written, 0.60" in (
        whole.sentence
    )
    assert (
        "Mann-Whitney p = 0.100, Cohen's d -4.00" in whole.sentence and "a lower cosine may be noise" in whole.sentence
    )
    assert writing_over_models(models[:1], each[:1]) == combined("C1", each[:1], universal=False)
    typical = [each[0], each[1], replace(unsure("c"), code="C1")]
    assert writing_over_models(models, typical).verdict == SUPPORTED  # of most, not of each


def test_the_table_of_claims_says_what_its_ends_are():
    over_all = Effect("gain", 0.4, 0.1, 0.9, over_models=True)
    rows = (yes("a", smallest=0.8), replace(unsure("b"), effect=None), replace(no("c"), effect=over_all, p=0.03))
    found = Claims(rows).table
    assert found.ends.tolist() == ["95%", "", "least and greatest"] and found.value.tolist()[::2] == [0.5, 0.4]
    assert found.low.tolist()[::2] == [-0.5, 0.1] and found.high.tolist()[::2] == [1.5, 0.9]
    assert found.p.isna().tolist() == [True, True, False] and found.smallest.isna().tolist() == [False, True, True]
    assert str(over_all) == "gain: median over models 0.40 (0.10 to 0.90)" and str(rows[0].effect).endswith(
        "[-0.50, 1.50]"
    )
    with pytest.raises(ValueError, match="no claim"):
        claim("a", "perhaps")
