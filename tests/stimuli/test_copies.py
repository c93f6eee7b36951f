"""Copies are found whatever was done to hide them, in any script, and different texts are none."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest

from lens_emotion.stimuli.copies import components, copies, copies_note
from lens_emotion.stimuli.library import load_stimuli
from lens_emotion.stimuli.world import load_world
from lens_emotion.stimuli.world_text import write_story

TEXT = (
    "The letter lay on the table when Mara came home, and she read it twice before she took off her coat. Outside a "
    "dog barked at nothing, the kettle began to sing, and nobody in the house said a single word until it was dark."
)
OTHER = load_stimuli("passages").texts[0]
CHINESE = "玛拉回到家的时候信就放在桌子上她读了两遍才脱下外套外面有一只狗在叫水壶开始响起来天黑以前屋里没有人说一句话"
THAI = "จดหมายวางอยู่บนโต๊ะเมื่อมาร่ากลับถึงบ้านและเธออ่านมันสองครั้งก่อนที่จะถอดเสื้อคลุมออก"


@pytest.mark.parametrize(
    "copy",
    [
        TEXT,
        TEXT.upper(),
        TEXT.replace(" ", "\n  "),
        TEXT.replace(",", ";").replace(".", "!"),
        TEXT.replace("Mara", "Ben").replace("dog", "cat"),
        TEXT + " " + OTHER,
        OTHER + " " + TEXT,
        TEXT[: len(TEXT) // 2],
        " ".join(reversed(TEXT.split(". "))),
    ],
    ids=["same", "case", "spaces", "punctuation", "names", "appended", "in front", "cut", "sentences swapped"],
)
def test_a_copy_is_found(copy):
    assert copies([TEXT, "Something else was said by somebody else.", copy]).tolist() == [0, 1, 0]


@pytest.mark.parametrize("text", [CHINESE, THAI, "我很高兴", "Hi!"])
def test_scripts_without_spaces_and_short_texts(text):
    assert copies([text, OTHER, text + "。"]).tolist() == [0, 1, 0]
    assert copies([text, text[::-1]]).tolist() == [0, 1]


@pytest.mark.parametrize(
    "texts",
    [
        [f"she felt so {how} about the {what} today" for how in ("calm", "angry", "sad") for what in ("dog", "sea")],
        [f"{TEXT} {' '.join(t.split()[:30])}" for t in load_stimuli("passages").texts[:20]],
        [],
        ["one"],
        ["", "", " "],
        ["yes", "no"],
        ["!?", "?!"],
        ["a b c d e f", "f e d c b a"],
        [TEXT, OTHER],
    ],
    ids=["pattern", "frame", "none", "one", "unknown", "words", "signs", "other order", "passages"],
)
def test_what_is_no_copy(texts):
    assert copies(texts).tolist() == list(range(len(texts)))
    assert copies_note(texts, texts) == ""


@pytest.mark.parametrize("name", ["passages", "world-en-zh"])
def test_shipped_texts_hold_no_copies_and_the_look_is_quick(name):
    texts = load_stimuli(name).texts
    start = time.perf_counter()
    found = copies([*texts, "so that nothing is remembered"])
    assert time.perf_counter() - start < 1  # 0.01 s on an idle core
    assert found.tolist() == list(range(len(texts) + 1))


def changed(words, kind, at=3):
    """A near-copy: every n-th word, all the small words, or the second half are others."""
    if kind == "half":
        return [*words[: len(words) // 2], *(f"other{at}x{i}" for i in range(len(words) - len(words) // 2))]
    if kind == "small":
        small = SMALL.split()
        return [small[(small.index(w) + 7 * (at + i)) % len(small)] if w in small else w for i, w in enumerate(words)]
    return [f"w{at}x{i}" if i % kind == 3 else w for i, w in enumerate(words)]


SMALL = "he she it they him her them his its their a an the i we you my your our this that"


@pytest.mark.parametrize("kind", [8, 6, 4, "small", "half"])
def test_a_near_copy_of_any_passage_is_found(kind):
    texts = load_stimuli("passages").texts
    copied = [" ".join(changed(t.lower().split(), kind, i)) for i, t in enumerate(texts[::5])]
    found = copies([*texts, *copied]).tolist()
    assert found == [*range(len(texts)), *range(0, len(texts), 5)]


@pytest.mark.parametrize("kind", [8, "small", "half", "end"])
@pytest.mark.parametrize("n", [12, 100])
def test_copies_that_are_many_are_no_frame(kind, n):
    words = TEXT.lower().split()
    near = [[*words, f"number{i}", "end"] if kind == "end" else changed(words, kind, i) for i in range(1, n)]
    near.insert(0, words)
    others = load_stimuli("passages").texts[: n if kind == "half" else 4]
    assert copies([*map(" ".join, near), *others]).tolist() == [0] * n + list(range(1, len(others) + 1))


@pytest.mark.parametrize("n", [12, 40])
def test_a_frame_however_long_makes_no_copies(n):
    texts = [f"{TEXT} {TEXT[::-1]} {' '.join(t.split()[:30])} {TEXT}" for t in load_stimuli("passages").texts[:n]]
    assert copies(texts).tolist() == list(range(n))


def test_different_stories_of_the_templated_worlds_are_no_copies():
    world = load_world("en-zh")
    for language in ("en", "zh"):
        told = [
            write_story(world, e, t, random.Random(f"{e}{t}"), language) for e in world.emotions for t in world.topics
        ]
        assert len(set(copies(told).tolist())) == len(told)


def test_ten_thousand_texts_and_a_frame_that_all_share():
    rng = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(3000)])
    frame = " ".join(rng.choice(words, 40))
    texts = [f"{frame} {' '.join(rng.choice(words, 40))}" for _ in range(9_999)]
    start = time.perf_counter()
    found = copies([*texts, texts[7] + " at last"])
    assert time.perf_counter() - start < 20  # 3 s on an idle core
    assert found[-1] == 7 and len(set(found.tolist())) == 9_999


def test_only_texts_of_one_label():
    near = TEXT.replace("dog", "cat")
    assert copies([TEXT, near, near]).tolist() == [0, 0, 0]
    assert copies([TEXT, near, near], labels=["a", "b", "a"]).tolist() == [0, 1, 0]
    assert copies_note([TEXT, near, OTHER], ["a", "b", "c"]).startswith("2 of 3 texts are the same")


def test_copies_of_copies_belong_together():
    assert components(5, np.array([3, 1]), np.array([1, 4])).tolist() == [0, 1, 2, 1, 1]
