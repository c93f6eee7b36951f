"""Texts and tables as strangers hand them in: words that only look like ours, too few rows, rows listed twice."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from asked import asked

import lens_emotion as le
from lens_emotion.audits.wording import is_control, names_emotion, regime_kind, unsteered, verdict
from lens_emotion.report.audit_section import audit_html, audit_page

FOUND, PASSED, UNASKED = "found", "passed", "not asked"
CHINESE = "他打开门，看见院子里落满了叶子，心里很平静。"
LOOP = "I was standing in the row, and " * 8
WORDS = ("river", "stone", "garden", "window", "letter", "street", "winter", "candle", "bridge", "market", "kitchen")


def fine(n: int, seed: int = 0) -> list[str]:
    """Texts of different words."""
    rng = np.random.default_rng(seed)
    return [f"text {i}: " + " ".join(f"{w}{rng.integers(1000)}" for w in rng.permutation(WORDS)) for i in range(n)]


def steered(texts: list[str], **columns: object) -> pd.DataFrame:
    return pd.DataFrame({"text": texts} | columns)


def doses(loops: int, texts: int, of: int = 5) -> pd.DataFrame:
    """So many loops among so many texts at each of several doses, all of them called fine."""
    frame = steered(([LOOP] * loops + fine(texts - loops)) * of, status="OK")
    return frame.assign(dose=np.repeat(np.arange(1.0, of + 1), texts))


def arms(column: str, control: str) -> pd.DataFrame:
    """Twenty texts of a vector that are fine, twenty of a control that loop."""
    return steered(fine(20) + [LOOP] * 20, status="ok", **{column: ["steering"] * 20 + [control] * 20})


def listed_by(column: str) -> pd.DataFrame:
    """The same ten texts once for each recipe, in other folds."""
    return pd.concat(
        [steered(fine(10), fold=[(i + k) % 2 for i in range(10)]).assign(**{column: f"m{k}"}) for k in range(2)]
    )


def naming(n: int, of: int, emotions: tuple[str, ...] = ("sad", "calm")) -> pd.DataFrame:
    """Prompts of which n name their emotion."""
    labels = [emotions[i % len(emotions)] for i in range(of)]
    prompts = [f"Someone who feels {e} waits." if i < n else "The bus stopped." for i, e in enumerate(labels)]
    return pd.DataFrame({"prompt": prompts, "emotion": labels})


def told(prompt: str, label: object) -> pd.DataFrame:
    return pd.DataFrame({"prompt": [prompt] * 4, "emotion": [label] * 4})


def chinese(spaces: int, n: int = 20, english: int = 0, **columns: object) -> pd.DataFrame:
    """Chinese texts of which some are called what their spaces say, and English ones that are fine."""
    regimes = ["explosive"] * spaces + ["surgical"] * (n - spaces + english)
    return steered([CHINESE] * n + fine(english), regime=regimes, **columns)


PPL = steered([LOOP] * 3 + fine(9), ppl=[1.5] * 3 + [12.0, 14, 18, 22, 25, 28, 31, 35, 39])
PLAIN = pd.concat([PPL.assign(dose=1.0), steered(fine(6, 1), ppl=[15.0, 18, 20, 22, 25, 28], dose=0.0)])
MISSING = steered([*fine(4), "", None, "nan", "", None, "nan"], fold=[0, 1] * 5)
OUTPUTS = steered(["I cannot help with that."] * 4 + fine(4), scenario=list(range(8)))


@pytest.mark.parametrize(
    ("check", "given", "status", "severity"),
    [
        ("loops", doses(1, 1), FOUND, "critical"),  # one text a dose: all of them together
        ("loops", doses(1, 2), FOUND, "critical"),
        ("loops", doses(0, 1), PASSED, ""),
        ("loops", doses(1, 1, of=1), UNASKED, ""),  # one text can always be chance
        ("loops", doses(0, 1, of=1), UNASKED, ""),
        ("loops", arms("method", "random"), PASSED, ""),
        ("loops", arms("condition", "Random_direction-2"), PASSED, ""),
        ("loops", arms("method", "no steering"), UNASKED, ""),  # where all loop without it, none are too many
        ("loops", arms("method", "brother-prompt"), FOUND, "critical"),
        ("loops", arms("condition", "control vector (repeng)"), FOUND, "critical"),
        ("loops", steered([LOOP] * 3 + fine(9), status=["unsuccessful"] * 3 + ["successful"] * 9), PASSED, ""),
        ("loops", steered([LOOP] * 3 + fine(9), regime=["invalid", "not coherent", "not ok"] + ["ok"] * 9), PASSED, ""),
        ("loops", steered([LOOP] * 9 + fine(3), regime="Coherent, not repetitive"), FOUND, "critical"),
        ("loops", steered([LOOP] * 9 + fine(3), success="Y"), FOUND, "critical"),
        ("loops", steered([LOOP] * 9 + fine(3), success=["fail"] * 9 + ["pass"] * 3), PASSED, ""),
        ("loops", steered([LOOP] * 9 + fine(3), success=0.9), UNASKED, ""),  # a score, of which no line is known
        ("loops", PPL, UNASKED, ""),  # perplexities of what they began from are not there
        ("loops", PLAIN, FOUND, "major"),
        ("loops", PLAIN.assign(text=fine(18)), PASSED, ""),
        ("copies", listed_by("method"), PASSED, ""),
        ("copies", listed_by("model"), PASSED, ""),
        ("copies", listed_by("note"), FOUND, "critical"),
        ("copies", MISSING, PASSED, ""),
        ("copies", OUTPUTS, UNASKED, ""),
        ("copies", OUTPUTS.assign(text=["once"] * 4 + fine(4), dose=1.0), UNASKED, ""),
        ("copies", OUTPUTS.assign(text=fine(4) * 2), FOUND, "major"),
        ("instruction", told("Write about a joyful person.", "joy"), FOUND, "major"),
        ("instruction", told("Write about someone angry.", "anger"), FOUND, "major"),
        ("instruction", told("Be Grief-Stricken now.", "grief_stricken"), FOUND, "major"),
        ("instruction", told("She was proud of it.", "Pride"), FOUND, "major"),
        ("instruction", told("He took his hat, hopping.", "hate"), PASSED, ""),
        ("instruction", told("A hopeless case.", "hope"), PASSED, ""),
        ("instruction", told("Write about someone angry.", 1), UNASKED, ""),
        ("instruction", told("他很高兴地走了。", "joy"), UNASKED, ""),
        ("instruction", told("他很高兴地走了。", "高兴"), FOUND, "major"),
        ("instruction", told("写一个 joyful 的故事，他很高兴地走了。", "joy"), FOUND, "major"),
        ("instruction", naming(1, 500), PASSED, ""),
        ("instruction", naming(500, 500), FOUND, "major"),
        ("instruction", pd.concat([naming(5, 5, ("sad",)), naming(0, 95)]), PASSED, ""),
        ("instruction", pd.concat([naming(5, 5, ("proud",)), naming(0, 95)]), FOUND, "major"),  # all of one emotion
        ("whitespace", steered([CHINESE] * 5, n_words=24), PASSED, ""),
        ("whitespace", steered([CHINESE] * 5, n_words=1), FOUND, "major"),
        ("whitespace", chinese(10), FOUND, "minor"),
        ("whitespace", chinese(10, english=20), FOUND, "major"),
        ("whitespace", chinese(2), UNASKED, ""),
        ("whitespace", chinese(0), PASSED, ""),
        ("whitespace", steered([CHINESE] * 5, regime="C3"), UNASKED, ""),
        ("noise", pd.DataFrame({"model": ["good", "bad"], "reliability": [0.92, 0.03]}), FOUND, "major"),
        ("noise", pd.DataFrame({"model": ["a", "a", "b"], "reliability": [0.92, 0.03, 0.8]}), PASSED, ""),
        ("noise", pd.DataFrame({"reliability": [12.0]}), FOUND, "major"),
        ("noise-ceiling", pd.DataFrame({"cosine": [2.0], "r1": [60.0], "r2": [70.0]}), UNASKED, ""),
        ("overflow", np.zeros((4, 3, 8)), UNASKED, ""),
        ("overflow", pd.DataFrame({"layer": [1], "acc_mean": [np.inf]}), UNASKED, ""),
    ],
)  # fmt: skip
def test_what_strangers_hand_in(check, given, status, severity) -> None:
    outcome = asked(check, given.reset_index(drop=True) if isinstance(given, pd.DataFrame) else given)
    assert outcome.status == status, outcome
    assert ([f.severity for f in outcome.faults][:1] or [""])[0] == severity, outcome.faults


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("OK", "surgical"), ("status: ok", "surgical"), ("token", ""), ("no loops", "surgical"), ("valid", "surgical"),
        ("Invalid", "failed"), ("unsuccessful", "failed"), ("ineffective", "failed"), ("not coherent", "explosive"),
        ("incoherent", "explosive"), ("repetitive but coherent", "repetitive"), ("Explosive", "explosive"), ("", ""),
        ("abnormal", "failed"), ("non-repetitive", "surgical"), ("not fine", "failed"),
    ],
)  # fmt: skip
def test_regimes_are_whole_words(said, kind) -> None:
    assert regime_kind(said) == kind


def test_verdicts_arms_and_word_families() -> None:
    assert [verdict(x) for x in (True, "Y", "pass", 1.0, "No", 0, 0.9, None)] == [True] * 4 + [False] * 2 + [None] * 2
    names = ["brother", "control vector", "minus other", "other emotion", "randomDirection", "Null", "controls"]
    assert is_control(pd.DataFrame({"method": names})).tolist() == [False] * 3 + [True] * 4
    assert unsteered(pd.DataFrame({"condition": ["Unsteered", "steered", None, "no_steering"]})).tolist() == [
        True, False, False, True,
    ]  # fmt: skip
    family = ("a happily ever", "happiness", "so anxious", "lonely", "grieving", "a sad end")
    assert all(map(names_emotion, family, ("happy", "happy", "anxiety", "loneliness", "grief", "sadness")))
    assert names_emotion("他很高兴", "高兴") and not names_emotion("an angel", "anger")


def test_many_rows_are_one_line() -> None:
    frame = pd.DataFrame({"layer": range(60), "cosine": 0.03, "r1": 0.2, "r2": np.linspace(0.1, 0.2, 60)})
    (fault,) = asked("noise-ceiling", frame).faults
    assert "layer 0 " in fault.where and "60 such rows" in fault.where and fault.moves == pytest.approx(1 - 0.02**0.5)
    (seen,) = asked("noise-ceiling", frame.assign(r1=0.95, r2=0.95)).seen
    assert seen == "table: cosine 0.03, noise ceiling 0.95 in 60 of 60 rows"
    models = pd.DataFrame({"model": [f"m{i}" for i in range(40)], "reliability": [0.9] * 20 + [0.1] * 20})
    outcome = asked("noise", models)
    assert len(outcome.faults) == len(outcome.seen) == 1 and "20 of 40 models" in outcome.faults[0].what


def test_nothing_is_said_twice_and_a_page_is_named_after_its_subject(called, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    found = le.audit({"mine": np.full((3, 2, 8), np.nan)})
    assert (
        found.findings["what"][0] not in found.summary()
        and f"overflow ({found.findings['where'][0]})" in found.summary()
    )
    heading = f"Audit of {found.subject}"
    assert f"<h2>{heading}</h2>" in audit_html(found) and f"<title>{heading}</title>" in audit_page(found)
    np.save(tmp_path / "v.npy", np.ones((1, 2, 8)))
    said = called("audit", tmp_path / "v.npy", "--html", tmp_path / "p.html").out
    assert "not asked" in said and "could not be asked:" not in said
    assert "could not be asked:" not in (tmp_path / "p.html").read_text()


def test_a_wall_of_like_findings_is_cut_and_none_is_printed_twice(called, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    for i in range(9):
        np.save(tmp_path / f"v{i}.npy", np.full((3, 2, 8), np.nan))
    said = called("audit", *(tmp_path / f"v{i}.npy" for i in range(9))).out
    assert said.count("% of the layers hold no number") == 5 and "and 4 more of the kind" in said
    twice = called("audit", tmp_path / "v0.npy", tmp_path / "v0.npy").out
    assert twice.count("% of the layers hold no number") == 1


def test_a_table_that_was_read_in_part_says_so() -> None:
    outcome = asked("overflow", pd.DataFrame({"accuracy": [0.4], "acc_mean": [np.inf]}))
    assert outcome.status == PASSED and "acc_mean" in outcome.words
