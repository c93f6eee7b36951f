"""Mixed effects: planted parts are found, none is where none was, and what a design cannot tell it leaves out."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lens_emotion.analysis import mixed
from lens_emotion.analysis.mixed import METHOD, REST, SIZE, mixed_effects
from lens_emotion.errors import AnalysisError


def world(seed=0, models=6, sd=(0.15, 0.08, 0.1), family=0.0, writing=None, families=2, sizes=None):
    """Texts right with a probability that emotion, topic and model (SDs), its family and the method move."""
    rng = np.random.default_rng(seed)
    emotion, topic, model = (rng.normal(0, s, n) for s, n in zip(sd, (12, 5, models), strict=True))
    shape = (range(models), range(12), range(5), range(2 if writing is not None else 1))
    i, j, k, w = (x.ravel() for x in np.meshgrid(*shape, indexing="ij"))
    rate = 0.4 + emotion[j] + topic[k] + model[i] + family * (i % families == 1) + (writing or 0.0) * w
    rows = {"model": [f"m{x}" for x in i], "emotion": [f"e{x}" for x in j], "topic": [f"t{x}" for x in k]}
    rows |= {"family": [f"f{x % families}" for x in i], "correct": (rng.random(len(rate)) < rate).astype(float)}
    rows |= {"method": np.where(w, "writing", "reading")} if writing is not None else {}
    return pd.DataFrame(rows | ({} if sizes is None else {"size": np.array(sizes)[i]}))


def test_parts_that_were_planted_are_found_and_add_up():
    found = mixed_effects(world(sd=(0.2, 0.0, 0.0)))
    assert found.random.share.sum() == pytest.approx(1)
    assert found.random.share["emotion"] > 0.04 > 3 * found.random.share["topic"]
    assert found.random.low["emotion"] < 0.04 < found.random.high["emotion"]
    assert not found.warnings or "bound" in found.warnings[0]
    assert "of the variance, emotion" in found.summary() and f"{REST} " in found.summary()
    flat = mixed_effects(world(sd=(0.2, 0.0, 0.0), seed=3))
    assert any("bound of 0" in w for w in (*found.warnings, *flat.warnings))


def test_a_familys_effect_is_found_on_as_many_degrees_of_freedom_as_there_are_models():
    planted = mixed_effects(world(family=0.4, sd=(0.1, 0.05, 0.02)))
    row = planted.fixed.loc["f1 over the first"]
    assert row.df == 4 and row.low < 0.4 < row.high and planted.family_p == pytest.approx(row.p) and row.p < 0.01
    none = mixed_effects(world(sd=(0.1, 0.05, 0.1), seed=1))
    assert none.family_p > 0.05


def test_a_fit_that_means_little_says_so():
    nearly_all = world(sd=(0.0, 0.0, 0.0)).assign(correct=1.0)
    nearly_all.loc[::50, "correct"] = 0.0
    assert "too near its end" in mixed_effects(nearly_all).summary()


def test_writing_against_reading_is_a_difference_of_accuracies():
    found = mixed_effects(world(writing=0.2, models=5, families=5))
    row = found.fixed.loc[METHOD]
    assert row.low < 0.2 < row.high and row.p < 0.05 and row.df == 4
    assert "model by method" in found.random.index
    alone = mixed_effects(world(writing=0.2, models=1))
    assert alone.fixed.df[METHOD] == 4 and "topic by method" in alone.random.index  # topics less one
    assert set(alone.random.index) == {"emotion", "topic", "topic by method", REST}


LEFT_OUT = {
    "one model a family": ({"models": 3, "families": 3}, "family"),
    "too few models for two families": ({"models": 3}, "family"),
    "two sizes": ({"sizes": [1, 2, 1, 2, 1, 2]}, "size"),
    "no models to spare": ({"models": 4, "sizes": [1, 2, 4, 8]}, "size"),
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_what_the_design_cannot_tell_is_left_out_and_said(case):
    settings, effect = LEFT_OUT[case]
    found = mixed_effects(world(**settings))
    assert any(x.startswith(effect) for x in found.left_out) and found.left_out[0] in found.summary()
    assert SIZE not in found.fixed.index


def test_size_is_told_per_doubling():
    found = mixed_effects(world(models=8, sizes=[1, 2, 4, 8, 16, 32, 64, 128]))
    assert found.fixed.df[SIZE] == 5 and not found.left_out


REFUSED = {
    "the outcome is the same everywhere": world().assign(correct=1.0),
    "it is not finite": world().assign(correct=np.nan),
    "a column is missing": world().drop(columns="topic"),
    "no factor has two levels": world(models=1).query("emotion == 'e0' and topic == 't0'"),
    "no rows": world().iloc[:0],
}


@pytest.mark.parametrize("case", REFUSED)
def test_rows_that_hold_nothing_to_explain_are_refused(case):
    with pytest.raises(AnalysisError, match=r"nothing to explain|rows lack topic|two levels"):
        mixed_effects(REFUSED[case])


def test_statsmodels_is_imported_on_use():
    """It takes a second, which no command shall wait for at its start."""
    tree = ast.parse(Path(mixed.__file__).read_text(encoding="utf-8"))
    assert not [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom) and "statsmodels" in ast.unparse(n)]
