"""Figures of a run: same run, same bytes; every figure with its data, its caption and its models; errors that help."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from methods_of import check_methods
from studies import SMALL, copied

from lens_emotion.cli.runs import figures
from lens_emotion.errors import ArtifactError
from lens_emotion.plots._regimes import LETTERS
from lens_emotion.report.gallery import FiguresError, across_set, run_set
from lens_emotion.report.parts import FigureSet
from lens_emotion.study.pipeline import run_study
from lens_emotion.study.results import StoredRun
from lens_emotion.study.stored import read_run

TWO = SMALL.with_(models=("tiny-llama", "tiny-qwen"))


@pytest.fixture(scope="module")
def finished(studied, once):
    """A small run of two tiny models, as the study leaves it, run once; its folder is not to be changed."""
    run = once("two", lambda folder: run_study(TWO, copied(studied, folder).folder))
    return Path(run.folder), run


@pytest.fixture(scope="module")
def stored(finished) -> StoredRun:
    return read_run(finished[0])


@pytest.fixture(scope="module")
def drawn(stored) -> FigureSet:
    return run_set(stored)


@pytest.fixture(scope="module")
def gallery(finished, once):
    """A folder of figures without pictures, drawn once."""

    def draw(folder: Path) -> Path:
        figures([finished[0]], folder, None, None, images=False)
        return folder

    return once("figures_of_two", draw)


pytestmark = pytest.mark.slow


def test_the_methods_paragraphs_of_two_models_name_them_where_they_differ(finished):
    body = check_methods(finished[0])
    assert "tiny-llama (llama" in body and "tiny-qwen (qwen" in body and "doses 3 and 8" in body
    assert "480 texts that the sets world-en and world-en-zh share (" in body  # one text file by two names
    assert "label permutations (20)" in body and "partial conjunction (Benjamini and Heller 2008)" in body


def test_a_run_read_back_says_what_the_study_said(finished, stored):
    _, run = finished
    assert stored.config == TWO
    for mine, theirs in zip(stored.models, run.models, strict=True):
        np.testing.assert_allclose(
            mine.study.comprehension.decoding.table.accuracy, theirs.comprehension.decoding.table.accuracy
        )
        assert mine.study.lens.tokens("happy") == theirs.lens.tokens("happy")
        assert mine.study.steering.summary() == theirs.steering.summary()
    pd.testing.assert_frame_equal(stored.claims.table, run.claims.table)


def test_the_same_run_gives_the_same_bytes_of_data(finished, gallery, tmp_path):
    again = tmp_path / "again"
    figures([finished[0]], again, None, None, images=False)
    files = sorted(p.relative_to(gallery) for p in gallery.rglob("*") if p.is_file())
    assert len(files) > 40 and {p.suffix for p in files} == {".csv", ".json", ".md"}
    for file in files:
        assert (gallery / file).read_bytes() == (again / file).read_bytes(), file


def test_every_figure_has_data_a_question_a_sentence_and_names_its_models(drawn, stored):
    names = [d.name for d in drawn.figures]
    assert len(set(names)) == len(names)
    wanted = {"methods", "layers", "anisotropy", "separation", "reliability", "circumplex", "rsa", "dose_response",
              "regimes", "verification", "leakage", "claims"}  # fmt: skip
    assert wanted <= set(names)
    for d in drawn.figures:
        assert d.question.endswith("?") or "preset" in d.question
        assert len(d.says) > 40 and all(len(t) for t in d.tables.values())
        assert any(m.name in str(d.figure.to_json()) for m in stored.models), d.name


def test_leakage_is_shown_of_the_qwen_model_unless_another_is_named(drawn, stored):
    def subtitle(figures):
        return next(d for d in figures.figures if d.name == "leakage").figure.layout.title.subtitle.text

    assert "tiny-qwen" in subtitle(drawn) and "tiny-qwen" in drawn.shown
    assert "tiny-llama" in subtitle(run_set(stored, "tiny-llama"))
    with pytest.raises(FiguresError, match="no model 'gpt9'; it has tiny-llama, tiny-qwen"):
        run_set(stored, "gpt9")


def test_models_of_one_name_are_not_compared(stored):
    with pytest.raises(FiguresError, match="distinct names"):
        across_set("twice", [stored, stored])


def test_verification_counts_what_the_experiment_counted(drawn, stored):
    table = next(d for d in drawn.figures if d.name == "verification").tables[""]
    steering = stored.models[0].study.steering
    fitted = steering.cross_fitted()
    mine = table[(table.model == "tiny-llama") & table.form.str.startswith("dose chosen")].set_index("condition")
    assert mine.k.to_dict() == {"emotion": fitted.success, "random": fitted.random, "other": fitted.other}
    assert (mine.low <= mine.rate).all() and (mine.rate <= mine.high).all()
    assert mine.low["emotion"] == pytest.approx(fitted.low) and mine.judge_accuracy.iloc[0] == steering.judge_accuracy


def test_regime_strip_bears_the_regime_of_every_dose(drawn, stored):
    figure = next(d for d in drawn.figures if d.name == "regimes").figure
    steering = stored.models[0].study.steering.table
    rows = steering[steering.condition == "emotion"].sort_values("dose")
    letters = [word[3] for word in figure.data[0].text[-1]]  # the first model is on top
    assert letters == [LETTERS[r] for r in rows.regime]


def test_gallery_shows_every_set_and_every_picture_once(finished, gallery):
    page = (gallery / "README.md").read_text()
    index = json.loads((gallery / "two" / "index.json").read_text())
    assert page.count("![") == len(index["figures"])
    for row in index["figures"]:
        assert f"(two/{row['name']}.png)" in page
        assert all((gallery / "two" / file).exists() and f"(two/{file})" in page for file in row["data"])
    assert "lens-emotion study tiny-llama tiny-qwen --doses 3,8" in page and str(finished[0].parent) not in page


def test_an_unfinished_run_and_one_of_before_are_named_with_the_remedy(finished, tmp_path):
    with pytest.raises(ArtifactError, match=r"no finished run; make one with `lens-emotion study --out"):
        read_run(tmp_path)
    before = shutil.copytree(finished[0], tmp_path / "before")
    (before / "tiny-llama" / "model.json").unlink()
    with pytest.raises(ArtifactError, match=r"holds no model.json; run the study .* \(finished steps are kept\)"):
        read_run(before)
