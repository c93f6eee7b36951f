"""Checks of what was written and read: spaces, loops, copies, instructions; planted faults and sound texts."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from asked import asked, reading

from lens_emotion.audits.subject import Subject, Table
from lens_emotion.audits.texts import unspaced
from lens_emotion.presets.protocol import by_rule, units
from lens_emotion.stats.design import TIED

CHINESE = "他打开门，看见院子里落满了叶子，心里很平静。"
CHINESE_LOOP = "平静平静" * 20
THAI = "เขาเปิดประตูแล้วเห็นใบไม้เต็มสนาม"
ENGLISH = "He opened the door and saw that the yard was covered with leaves from the old tree."
LOOP = "I was standing in the row, and " * 8
FOUND, PASSED, UNASKED = "found", "passed", "not asked"


def written(*rows: tuple, **columns: object) -> pd.DataFrame:
    """Texts with what they were called."""
    frame = pd.DataFrame(rows, columns=["text", "regime"] if rows and len(rows[0]) == 2 else ["text"])
    return frame.assign(**columns)


def many(loops: int, fine: int, plain_loops: int = 0, **names: str) -> pd.DataFrame:
    """Steered texts that all pass, and twenty unsteered ones, some of which loop."""
    texts = [LOOP] * loops + [f"{ENGLISH} {i}" for i in range(fine)]
    plain = [LOOP] * plain_loops + [f"{ENGLISH} {i}" for i in range(20 - plain_loops)]
    frame = pd.DataFrame({"text": texts + plain, "dose": [0.05] * len(texts) + [0.0] * 20})
    return frame.assign(regime=["surgical"] * len(frame))


def copied(n: int, run: int = 2):
    """A reading of which n texts are alike on every `run` topics."""
    acts = reading(2.0)
    long = [f"{r.text} {' '.join(f'w{i}x{k}' for k in range(30))}" for i, r in enumerate(acts.records)]
    texts = [long[i // run * run] if i < n else long[i] for i in range(len(long))]
    return replace(acts, records=tuple(replace(r, text=t) for r, t in zip(acts.records, texts, strict=True)))


def folded(copies: bool) -> pd.DataFrame:
    texts = [f"{ENGLISH} {i} " + " ".join(f"v{i}{k}" for k in range(30)) for i in range(6)]
    return pd.DataFrame(
        {"text": texts + (texts if copies else [f"no {t[::-1]}" for t in texts]), "fold": [0] * 6 + [1] * 6}
    )


def stories(signal: float, variant: str):
    """Stories read with the instruction or bare: the same texts."""
    made = reading(signal, variant="story", method="generation")
    return replace(made, header=made.header.with_(variant=f"topic-crossed, {variant}"))


def naming(acts, share: float):
    """The same stories, of which a share name their emotion."""
    n = round(share * len(acts))
    records = tuple(
        replace(r, text=f"{r.text} so {r.emotion}." if i < n else r.text) for i, r in enumerate(acts.records)
    )
    return replace(acts, records=records)


def prompts(template: str) -> pd.DataFrame:
    emotions = ["calm", "sad", "proud"]
    return pd.DataFrame({"prompt": [template.format(e) for e in emotions], "emotion": emotions, "text": [ENGLISH] * 3})


@pytest.mark.parametrize(
    ("check", "given", "status", "severity"),
    [
        ("whitespace", written((CHINESE, "explosive"), (ENGLISH, "surgical")), FOUND, "major"),
        ("whitespace", written((THAI, "incoherent"), (CHINESE, "Explosive")), FOUND, "major"),
        ("whitespace", written((CHINESE_LOOP, "explosive"), (ENGLISH, "surgical")), FOUND, "major"),
        ("whitespace", written((CHINESE, "surgical"), (ENGLISH, "surgical")), PASSED, ""),
        ("whitespace", written((CHINESE, "explosive"), ppl_ratio=90.0), PASSED, ""),  # its perplexity says so too
        ("whitespace", written((CHINESE,), (ENGLISH,)), FOUND, "minor"),  # it would be
        ("whitespace", written((CHINESE,), (THAI,), n_words=1), FOUND, "major"),
        ("whitespace", written((CHINESE,), n_words=21, regime="ok"), PASSED, ""),
        ("whitespace", written((ENGLISH, "explosive"), ("", "explosive")), UNASKED, ""),
        ("whitespace", pd.DataFrame({"dose": [1.0]}), UNASKED, ""),
        ("loops", many(10, 30), FOUND, "major"),
        ("loops", many(30, 10), FOUND, "critical"),
        ("loops", many(10, 30, plain_loops=6), PASSED, ""),  # as often without steering
        ("loops", many(0, 30), PASSED, ""),
        ("loops", written((CHINESE_LOOP, "ok"), (LOOP, "ok"), (LOOP, "ok")), FOUND, "critical"),
        ("loops", written((LOOP, "repetitive"), (LOOP, "collapse"), *[(ENGLISH, "ok")] * 2), PASSED, ""),
        ("loops", written((LOOP,), (LOOP,), (LOOP,), ppl_ratio=0.8), FOUND, "critical"),
        ("loops", written((LOOP,), (LOOP,), (ENGLISH,), (THAI,), ppl_ratio=[40.0, 50.0, 1.1, 1.2]), PASSED, ""),
        ("loops", written((LOOP,), (LOOP,), (ENGLISH,), success=[True, True, True]), FOUND, "critical"),
        ("loops", written((LOOP,), (LOOP,), (ENGLISH,), (THAI,), success=[False, False, True, True]), PASSED, ""),
        ("loops", written((LOOP,), (ENGLISH,)), UNASKED, ""),
        ("loops", written((LOOP, "explosive")), UNASKED, ""),  # nothing passes
        ("copies", folded(True), FOUND, "critical"),
        ("copies", folded(False), PASSED, ""),
        ("copies", folded(True).rename(columns={"fold": "topic"}), FOUND, "major"),
        ("copies", folded(True).drop(columns="fold"), UNASKED, ""),
        ("copies", folded(True).assign(fold=1), UNASKED, ""),
        ("copies", copied(0), PASSED, ""),
        ("copies", copied(16), FOUND, "minor"),
        ("copies", copied(48, 8), FOUND, "critical"),  # nothing is left to hold out
        ("instruction", [stories(4.0, "conditioned"), stories(0.2, "reread")], FOUND, "major"),
        ("instruction", [stories(4.0, "conditioned"), stories(4.0, "reread")], PASSED, ""),
        ("instruction", stories(4.0, "conditioned"), FOUND, "major"),
        ("instruction", reading(4.0), UNASKED, ""),
        ("instruction", naming(stories(1.0, "reread"), 0.8), FOUND, "minor"),
        ("instruction", naming(stories(1.0, "reread"), 0.05), PASSED, ""),
        ("instruction", prompts("Write a story about someone who feels {}."), FOUND, "major"),
        ("instruction", prompts("The bus stopped at the corner."), PASSED, ""),
    ],
)  # fmt: skip
def test_a_fault_in_texts_is_found_and_sound_texts_pass(check, given, status, severity) -> None:
    outcome = asked(check, given)
    assert outcome.status == status, outcome
    assert ([f.severity for f in outcome.faults][:1] or [""])[0] == severity, outcome.faults


def test_the_published_rules_and_what_they_make_of_scripts_without_spaces() -> None:
    assert by_rule(ENGLISH.split()) == "surgical" and by_rule([]) == "explosive"
    assert by_rule(CHINESE.split()) == "explosive" and by_rule(units(CHINESE)) == "surgical"
    assert by_rule(CHINESE_LOOP.split()) == "explosive" and by_rule(units(CHINESE_LOOP)) == "repetitive"
    assert unspaced(CHINESE) and unspaced(THAI) and not unspaced(ENGLISH) and not unspaced("한국어 문장 하나")
    assert units("It's 平静.") == ["it's", "平", "静"]


def test_texts_that_were_counted_on_tokens_pass() -> None:
    frame = pd.DataFrame({"text": [CHINESE, ENGLISH], "regime": ["explosive", "surgical"]})
    outcome = asked("whitespace", Subject("own", tables=(Table("own", frame, on_tokens=True),)))
    assert outcome.status == PASSED and "1 would be misjudged" in outcome.seen[0]


def test_how_much_of_an_accuracy_is_copies() -> None:
    (fault,) = asked("copies", copied(16)).faults
    assert "where folds are topics" in fault.what and fault.moves >= 0
    (tied,) = asked("copies", copied(48, 8)).faults
    assert TIED in tied.what


def test_what_the_instruction_adds_is_the_difference() -> None:
    faults = asked("instruction", [stories(4.0, "conditioned"), stories(0.2, "reread")]).faults
    assert 0.3 < faults[0].moves < 0.95
