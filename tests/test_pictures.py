"""Pictures of results in notebooks: what they draw, what they leave out, and that names stay text."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from lens_emotion.pictures import Dots, Line, Picture, Scatter, Tiles, tinted

EVIL = "<script>alert(1)</script>\"'&"
LAYERS = pd.DataFrame({"layer": range(4), "accuracy": [0.1, math.nan, 0.5, math.inf], "chance": 0.05, "low": 0.0,
                       "high": 0.2, "group": [EVIL, EVIL, "b", "b"]})  # fmt: skip
PAIRS = pd.DataFrame(
    {"emotion": [EVIL, "b"], "other": ["b", "c"], "cosine": [0.5, math.nan], "regime": ["surgical", "?"]}
)
PICTURES: list[tuple[Picture, pd.DataFrame]] = [
    (Line("layer", "accuracy", "low", "high", reference="chance"), LAYERS),
    (Line("layer", "accuracy", group="group", reference=0.0), LAYERS),
    (Line("layer", "accuracy"), LAYERS[:1]),
    (Dots(("emotion", "other"), "cosine"), PAIRS),
    (Dots(("group",), "accuracy", "low", "high"), LAYERS),
    (Tiles("emotion", "other", "cosine"), PAIRS),
    (Tiles("emotion", "other", "regime"), PAIRS),
    (Scatter("layer", "accuracy", "group"), LAYERS),
]


@pytest.mark.parametrize(("picture", "table"), PICTURES)
def test_a_picture_is_well_formed_finite_and_its_names_are_text(picture, table):
    shown = picture.html(table)
    ElementTree.fromstring(shown)
    assert "<script" not in shown and "nan" not in shown and "inf" not in shown
    assert "http" not in shown and "<svg" in shown


@pytest.mark.parametrize(("picture", "table"), PICTURES)
def test_nothing_to_show_is_no_picture(picture, table):
    empty = table.assign(**{name: np.nan for name in ("accuracy", "low", "high", "cosine", "regime") if name in table})
    if not isinstance(picture, Tiles):
        assert picture.html(empty) == ""


def test_a_line_stands_on_its_null_and_its_reference():
    shown = Line("layer", "accuracy", "low", "high", reference="chance").html(LAYERS)
    assert shown.count('Z"') == 1 and 'stroke-dasharray="4 3"' in shown
    assert "grey: 95% under the null" in shown and "dashed: chance" in shown


def test_many_lines_are_grey_and_large_tables_are_left_to_the_large_figures():
    many = pd.DataFrame({"layer": [0, 1] * 9, "r": range(18), "emotion": [f"e{i // 2}" for i in range(18)]})
    assert Line("layer", "r", group="emotion").html(many).count("rgba(128, 128, 128, 0.45)") == 9
    wide = pd.DataFrame({"a": [0] * 99, "b": range(99), "rho": 1.0})
    assert Tiles("a", "b", "rho").html(wide) == ""
    assert "75 more rows" in Dots(("b",), "rho").html(wide)


def test_tokens_are_tinted_by_their_value_and_underlined_where_they_hold():
    shown = tinted([(EVIL, 1.0, EVIL, True), ("b\n", -0.5, "s", False), ("", math.nan, "", False)])
    ElementTree.fromstring(shown)
    assert shown.count("rgba(0, 114, 178, 0.75)") == 1 and shown.count("rgba(213, 94, 0, 0.38)") == 1
    assert shown.count("border-bottom") == 1 and "⏎" in shown and "∅" in shown
