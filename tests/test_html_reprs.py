"""What a notebook shows of a foreign file is text, never markup."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from planted import HEADER, planted

import lens_emotion as le

SCRIPT = "<script>alert(1)</script>"
PACKAGE = Path(le.__file__).parent


def hostile() -> le.PooledActivations:
    """Activations, as if from a file, whose header and labels hold markup."""
    emotions = (SCRIPT, "sad", "calm", "angry")
    return replace(planted(emotions=emotions).acts, header=replace(HEADER, model=SCRIPT, method=SCRIPT))


@pytest.mark.parametrize("show", [lambda a: a, le.emotion_vectors, lambda a: le.similarity(le.emotion_vectors(a))])
def test_markup_in_a_header_or_label_is_escaped(show) -> None:  # type: ignore[no-untyped-def]
    page = show(hostile())._repr_html_()
    assert "<script" not in page and "&lt;script" in page


def test_every_html_form_escapes_its_words() -> None:
    for file in PACKAGE.rglob("*.py"):
        for line in re.findall(r".*<p>.*\{.*", file.read_text(encoding="utf-8")):
            words = line.replace("{SHOWN}", "").replace("{len(table):,}", "")  # numbers
            assert "{" not in words or "escape(" in line or "_repr_html_()" in line or "{words}" in line, (
                f"{file.name}: {line.strip()}"
            )
