"""One list of exhibits: whatever shows results reads it, and a row added to it is shown everywhere."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import pytest
from studies import SMALL, copied

from lens_emotion import plots
from lens_emotion.errors import AnalysisError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.plots.theme import titled
from lens_emotion.report.build import build_report
from lens_emotion.report.gallery import run_set, write_gallery, write_set
from lens_emotion.report.sections import PLANS
from lens_emotion.run.store import Store
from lens_emotion.study import exhibits
from lens_emotion.study.exhibits import EXHIBITS, Exhibit, results_of
from lens_emotion.study.pipeline import run_study
from lens_emotion.study.stored import read_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(studied, tmp_path_factory):
    return copied(studied, tmp_path_factory.mktemp("runs") / "one")


@pytest.fixture(scope="module")
def folder(run) -> Path:
    return Path(run.folder)


def names(folder: Path, kind: str) -> set[str]:
    return {path.stem for path in (folder / "tiny-llama" / kind).iterdir()}


def test_every_figure_is_one_of_plots_and_no_two_exhibits_share_a_file():
    for exhibit in EXHIBITS:
        assert not exhibit.figure or exhibit.figure in plots.__all__, exhibit.id
        assert not (exhibit.title or exhibit.question) or exhibit.figure, f"{exhibit.id} has nothing to show"
        assert (exhibit.of is None) == (exhibit.analyse is not None), exhibit.id
    assert max(Counter(exhibit.id for exhibit in EXHIBITS).values()) == 1
    several = [e for e in EXHIBITS if e.question and not e.alone]
    one = [e for e in EXHIBITS if e.question and e.scope != "models"]
    for shown in (several, one):
        assert max(Counter(e.gallery or e.id for e in shown).values()) == 1


def test_sections_name_exhibits_that_there_are_and_no_figure_of_the_page_is_lost():
    placed = [name for plan in PLANS for name in plan.exhibits]
    assert len(placed) == len(set(placed))
    assert set(placed) == {e.id for e in EXHIBITS if e.title}


def test_every_table_and_every_figure_of_a_study_is_written_and_no_other(run, folder):
    (model,) = run.models
    tables = [name for exhibit, result in results_of(model) for name in exhibit.csv(result)]
    assert len(tables) == len(set(tables)) > 30
    assert set(tables) == names(folder, "tables")
    Store(folder).model("tiny-llama").table("of_other_settings", pd.DataFrame({"a": [1]}))
    exhibits.write_tables(model, Store(folder).model("tiny-llama"))
    assert set(tables) == names(folder, "tables")
    page = build_report(run)[0].read_text(encoding="utf-8")
    drawn = {exhibit.id for exhibit, _ in results_of(model) if exhibit.figure}
    assert drawn == names(folder, "figures")
    for exhibit, result in results_of(model):
        assert exhibit.caption(result).replace("'", "&#39;") in page, exhibit.id
        for caption, frame, name in exhibit.listed(result):
            assert caption.replace("'", "&#39;") in page and name in tables and len(frame), exhibit.id
    assert "Further results" not in page


# The recipe of docs/architecture.md, "How to add an analysis", followed: a result, its figure, and its row.


@dataclass(frozen=True, eq=False)
class Lengths:
    """How long the texts of every emotion are: an analysis as small as can be."""

    table: pd.DataFrame

    def summary(self) -> str:
        return f"Texts have {self.table.tokens.min():.0f} to {self.table.tokens.max():.0f} tokens, by emotion."


def lengths(acts: PooledActivations) -> Lengths:
    table = pd.DataFrame({"emotion": acts.emotion, "tokens": acts.n_tokens})
    return Lengths(table.groupby("emotion", as_index=False)["tokens"].mean())


def lengths_figure(result: Lengths) -> go.Figure:
    bars = go.Bar(x=result.table["emotion"], y=result.table["tokens"])
    return titled(go.Figure(bars), "Lengths", [f"n = {len(result.table)} emotions"], height=400)


ROW = Exhibit(
    "lengths",
    analyse=lambda evidence, config: lengths(evidence.comprehension),
    figure="lengths",
    title="Tokens of the texts",
    question="How long are the texts?",
)


def too_few(evidence, config):
    raise AnalysisError("too few topics")


def test_an_analysis_with_a_row_in_the_list_is_shown_everywhere(run, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "lengths", lengths_figure, raising=False)
    monkeypatch.setattr(exhibits, "EXHIBITS", (*EXHIBITS, ROW, Exhibit("none", analyse=too_few, figure="lengths")))
    again = run_study(SMALL, folder)
    assert set(again.models[0].more) == {"lengths"}, "an analysis that finds too few texts is left out"
    result = again.models[0].more["lengths"]
    said = again.models[0].table.set_index("result").summary
    assert said["lengths"] == result.summary()
    pd.testing.assert_frame_equal(pd.read_csv(folder / "tiny-llama" / "tables" / "lengths.csv"), result.table)
    page = build_report(again)[0].read_text(encoding="utf-8")
    assert "lengths" in names(folder, "figures")
    assert "Further results" in page and "Tokens of the texts" in page and result.summary() in page
    out = write_set(run_set(read_run(folder)), tmp_path, images=False)
    assert {"lengths.csv", "lengths.json"} <= {path.name for path in out.iterdir()}
    readme = write_gallery(tmp_path).read_text(encoding="utf-8")
    assert "### How long are the texts?" in readme and result.summary() in readme
