"""Figures as files, and the figures that set models side by side, without a run."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
import pytest
from typer.testing import CliRunner

from lens_emotion import plots
from lens_emotion.cli.app import app
from lens_emotion.report.gallery import ImagesError, check_images, csv, lean_svg, plotly_json, study_command, write_set
from lens_emotion.report.parts import Drawn, FigureSet
from lens_emotion.run.config import StudyConfig
from lens_emotion.steering.verification import Verification


def test_the_command_of_a_run_names_no_folder_of_this_machine():
    config = StudyConfig(models=("/some/where/model",), judge="/some/where/encoder", generation=False, seed=3)
    assert study_command(config) == "lens-emotion study model --no-generation --judge encoder --seed 3"
    assert study_command(StudyConfig()) == "lens-emotion study"
    some = StudyConfig(doses=(1.0, 2.5), emotions=("calm", "angry"))
    own = StudyConfig(models=("a", "b"), overrides={"b": {"dtype": "bfloat16", "seed": 3}})
    assert study_command(own) == "lens-emotion study a b  # with, in a study file, b: dtype = bfloat16, seed = 3"
    assert study_command(some) == "lens-emotion study --doses 1,2.5 --emotions calm,angry"


def test_without_kaleido_the_error_names_the_option_before_any_work(monkeypatch, tmp_path, studied):
    def missing(*args, **kwargs):
        raise ValueError("Image export requires Kaleido")

    monkeypatch.setattr(go.Figure, "to_image", missing)
    with pytest.raises(ImagesError, match="--no-images"):
        check_images()
    monkeypatch.setattr("lens_emotion.study.stored.read_run", lambda *a, **k: pytest.fail("it was analysed"))
    result = CliRunner().invoke(app, ["figures", str(studied.folder), "--out", str(tmp_path)])
    assert isinstance(result.exception, ImagesError)


def test_plotly_json_reads_back_with_six_digits_and_no_nan():
    figure = go.Figure(go.Scatter(x=np.array([1 / 3, np.nan]), y=[2, 10**7]))
    text = plotly_json(figure)
    assert "NaN" not in text and "0.333333" in text and "0.3333333" not in text
    back = pio.from_json(text)
    assert list(back.data[0].y) == [2, 10**7] and np.isnan(np.array(back.data[0].x, dtype=float)[1])


def test_lean_svg_keeps_opacities_and_names_the_font_once(tmp_path):
    path = tmp_path / "a.svg"
    style = "opacity: 1; font-family: system-ui, 'Segoe UI'; fill-opacity: 1; stroke-opacity: 0.25;"
    path.write_text(f'<svg class="x"><text x="1.23456" style="{style}">a</text><text style="{style}">b</text></svg>')
    text = lean_svg(path)
    assert text.count("font-family") == 1 and 'x="1.23"' in text
    assert text.count("fill-opacity: 1") == 2 and text.count("stroke-opacity: 0.25") == 2 and '="opacity' not in text


def test_pictures_are_small_and_of_the_size_shown(tmp_path):
    pytest.importorskip("kaleido")
    figure = plots.theme.titled(go.Figure(go.Scatter(x=[0, 1], y=[0, 1])), "A line", ["n = 2"], 300)
    try:
        folder = write_set(FigureSet("one", ("m",), "", (), (Drawn("line", "?", "", figure, {}),)), tmp_path)
    except ImagesError:
        pytest.skip("no browser for kaleido")
    image = pytest.importorskip("PIL.Image").open(folder / "line.png")
    assert image.size == (
        1240,
        600,
    )  # 620 x 300, for screens of twice the points and (folder / "line.png").stat().st_size < 20_000
    assert (folder / "line.svg").read_text().startswith("<svg")


def test_csv_is_the_same_whatever_the_last_digits():
    table = pd.DataFrame({"value": [1 / 3, 2e-9, 12345.678], "n": [1, 2, 3]})
    assert csv(table) == csv(table.assign(value=table.value * (1 + 1e-12)))
    assert csv(table).splitlines()[1] == "0.333333,1"


def test_panels_say_once_what_all_say_and_in_the_heading_what_one_says():
    def one(best, n):
        figure = go.Figure([go.Scatter(x=[0.5, 1], y=[1, 2], name="curve"), go.Scatter(x=[1], y=[2], name=best)])
        return plots.theme.titled(figure, "t", [f"n = {n} texts", "higher is better"], 300)

    made = plots.panels({"a": one("best 0.5", 3), "b": one("best 1.0", 4), "c": one("best 1.0", 4)}, "All")
    assert made.layout.title.subtitle.text == "3 models, the same y axis · higher is better"
    assert [a.text for a in made.layout.annotations] == [
        "<b>a</b><br>best 0.5",
        "<b>b</b><br>best 1.0",
        "<b>c</b><br>best 1.0",
    ]
    assert [t.name for t in made.data if t.showlegend] == ["curve"]
    assert len({(t.xaxis, t.yaxis) for t in made.data}) == 3


def test_a_figure_about_a_model_says_so_first_and_grows_only_where_it_must():
    short = plots.theme.titled(go.Figure(), "t", ["n = 3"], 300)
    before = short.layout.height
    assert (
        plots.about(short, "gpt<2>").layout.title.subtitle.text == "gpt&lt;2&gt; · n = 3"
        and short.layout.height == before
    )
    long = plots.theme.titled(go.Figure(), "t", ["n" * 80], 300)
    assert (
        plots.about(long, "a model").layout.title.subtitle.text.startswith("a model<br>n") and long.layout.height == 315
    )


def test_verification_draws_k_of_n_with_its_interval_and_the_controls():
    rows = [
        {"model": m, "form": "f", "condition": c, "k": k, "n": 40, "rate": k / 40, "low": k / 40, "high": k / 40 + 0.1,
         "dose": "3", "judge": "j (accuracy 0.3)", "judge_accuracy": 0.3, "chance": 0.05}
        for m in ("a", "b") for c, k in (("emotion", 23), ("random", 3))
    ]  # fmt: skip
    figure = plots.verification(Verification(pd.DataFrame(rows)))
    words = [t.text for t in figure.data if t.mode == "text"]
    assert words == [("\u00a0\u00a0\u00a023/40, dose 3",) * 2, ("\u00a0\u00a0\u00a03/40",) * 2]
    assert (
        "judge: j (accuracy 0.3)" in figure.layout.title.subtitle.text and "0.05" in figure.layout.title.subtitle.text
    )
    assert list(figure.layout.yaxis.ticktext) == ["b", "a"]
