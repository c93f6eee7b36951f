"""Figures: they carry the numbers of their result, say what they show, and hold their labels apart."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import typing
from dataclasses import replace

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from lens_emotion import plots
from lens_emotion.analysis.anisotropy import Anisotropy
from lens_emotion.analysis.circumplex import Circumplex
from lens_emotion.analysis.decoding import Decoding
from lens_emotion.analysis.geometry import Similarity
from lens_emotion.analysis.layers import LayerSweep
from lens_emotion.analysis.separation import Separation
from lens_emotion.plots._circumplex import LETTER, LINE_HEIGHT, around, overlap, place_labels
from lens_emotion.plots.theme import GREY, INKS, LINE_LENGTH, REGIME_COLOURS
from lens_emotion.steering.dose_result import DoseResponse
from lens_emotion.steering.regimes import Thresholds
from lens_emotion.stimuli.emotions import EMOTIONS, NEUTRAL, valence_arousal

SIZES = [(1, 2), (12, 8), (36, 20)]


def layers(n: int) -> pd.DataFrame:
    index = np.arange(n)
    return pd.DataFrame({"layer": index, "depth": (index + 1) / n})


def bump(n: int, seed: int, low: float, high: float) -> np.ndarray:
    depth = (np.arange(n) + 1) / n
    noise = np.random.default_rng(seed).normal(0, 0.015, n)
    return low + (high - low) * np.exp(-((depth - 0.55) ** 2) / 0.05) + noise


def sweep_result(n: int = 24, seed: int = 0, high: float = 0.62) -> LayerSweep:
    value = bump(n, seed, 0.08, high)
    null = {"null_low": np.full(n, 0.02), "null_high": 0.09 + 0.01 * np.sin(np.arange(n))}
    p = np.where(value > 0.12, 0.001, 0.3)
    best = int(value.argmax())
    ends = {"best_depth_low": max(1 / n, (best - 2) / n), "best_depth_high": min(1.0, (best + 3) / n)}
    table = layers(n).assign(value=value, p=p, p_corrected=p, **null)
    return LayerSweep(table, "held-out accuracy", True, **ends, n_permutations=200)


def separation_result(n: int = 24, seed: int = 0, high: float = 0.6) -> Separation:
    cosine = 0.9 - bump(n, seed + 1, 0.05, 0.5)
    accuracy = bump(n, seed, 0.06, high)
    table = layers(n).assign(
        mean_cosine=cosine, null_low=0.78, null_high=0.93, p=np.where(cosine < 0.78, 0.002, 0.4), accuracy=accuracy,
        chance=0.05, accuracy_p=np.where(accuracy > 0.1, 0.002, 0.5), reliability=bump(n, seed + 2, 0.3, 0.9),
    )  # fmt: skip
    return Separation(table, "neutral", decoding_result(n, seed=seed), np.zeros((3, n)), ())


def decoding_result(n: int = 24, k: int = 20, seed: int = 0) -> Decoding:
    rng = np.random.default_rng(seed)
    accuracy = bump(n, seed, 0.06, 0.6)
    table = layers(n).assign(
        accuracy=accuracy, macro_f1=accuracy - 0.02, chance=1 / k, null_mean=1 / k, null_low=0.02, null_high=0.09,
        p=0.001, p_corrected=np.where(accuracy > 0.12, 0.001, 0.2),
    )  # fmt: skip
    counts = rng.multinomial(8, [0.4 / k] * (k - 1) + [1 - 0.4 * (k - 1) / k], size=k)
    counts = np.stack([np.roll(row, i + 1) for i, row in enumerate(counts)])
    predicted = np.concatenate([np.repeat(np.arange(k), row) for row in counts])
    label = np.repeat(np.arange(k), 8)
    return Decoding(
        table, pd.DataFrame(), EMOTIONS[:k], label, np.tile(predicted, (n, 1)), np.full(8 * k, "a topic"),
        np.zeros(8 * k, dtype=int), np.zeros((3, n)),
    )  # fmt: skip


def anisotropy_result(n: int = 24, seed: int = 0) -> Anisotropy:
    raw = 0.95 - bump(n, seed, 0, 0.3)
    table = layers(n).assign(
        neutral_raw=raw, all_raw=raw - 0.04, neutral_centred=bump(n, seed + 1, -0.01, 0.02), random_matched=0.02
    )
    return Anisotropy(table, n_neutral=40, n_texts=160)


def similarity_result(k: int = 20, seed: int = 0) -> Similarity:
    rng = np.random.default_rng(seed)
    norms = valence_arousal()
    valence = np.array([(norms[e].valence or 5) - 5 for e in EMOTIONS[:k]])
    x = valence[:, None] * rng.normal(size=12) * 0.3 + rng.normal(size=(k, 12))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    cosine = x @ x.T
    order = tuple(EMOTIONS[i] for i in np.argsort(valence))
    matrix = pd.DataFrame(cosine, index=EMOTIONS[:k], columns=EMOTIONS[:k])
    mean = float(cosine[~np.eye(k, dtype=bool)].mean())
    return Similarity(matrix, order, mean, layer=12, n_layers=24, recipe="neutral")


def circumplex_result(k: int = 20, seed: int = 0) -> Circumplex:
    rng = np.random.default_rng(seed)
    norms = valence_arousal()
    valence = [norms[e].valence if norms[e].valence is not None else np.nan for e in EMOTIONS[:k]]
    arousal = [norms[e].arousal if norms[e].arousal is not None else np.nan for e in EMOTIONS[:k]]
    pc1 = (np.nan_to_num(valence, nan=3) - 5) * 0.8 + rng.normal(0, 0.4, k)
    pc2 = (np.nan_to_num(arousal, nan=6) - 4.5) * 0.6 + rng.normal(0, 0.4, k)
    table = pd.DataFrame({"emotion": EMOTIONS[:k], "pc1": pc1, "pc2": pc2, "valence": valence, "arousal": arousal})
    pairs = [(c, n) for c in ("pc1", "pc2") for n in ("valence", "arousal")]
    rows = [
        {"component": c, "norm": n, "r": 0.8, "abs_r": 0.8, "p": 0.001, "p_corrected": 0.002, "n": k - 1}
        for c, n in pairs
    ]
    return Circumplex(
        table, pd.DataFrame(rows), pd.DataFrame(), (0.31, 0.17), layer=12, n_layers=24, n_permutations=200, bootstrap=""
    )


def dose_result(seed: int = 0, doses: tuple[float, ...] = (0, 0.5, 1, 2, 4, 6, 8, 12)) -> DoseResponse:
    rng = np.random.default_rng(seed)
    rows = []
    for condition in ("emotion", "random"):
        for i, dose in enumerate(doses):
            strong = i / (len(doses) - 1)
            rate = 0.05 + (0.85 * strong**0.6 if condition == "emotion" else 0.1 * strong) + rng.normal(0, 0.01)
            rate = float(np.clip(rate, 0, 1))
            regime = "inert" if strong < 0.3 else "surgical" if strong < 0.6 else "repetitive collapse"
            regime = "explosive" if strong > 0.9 else regime
            rows.append(
                {"dose": float(dose), "dose_relative": 0.093 * dose, "condition": condition, "n": 40,
                 "success_rate": rate, "success_low": max(0, rate - 0.12), "success_high": min(1, rate + 0.12),
                 "perplexity_ratio": float(np.exp(2.2 * strong**1.5)), "surprise": 1, "distinct_2": 0.9 - 0.4 * strong,
                 "top_emotions": 0, "loop_share": 0.3 * strong, "regime": regime}
            )  # fmt: skip
    none = pd.DataFrame()
    return DoseResponse(
        pd.DataFrame(rows), none, none, none, none, layer=12, judge="MiniLM sentence judge", judge_accuracy=0.61,
        judge_independent=True, thresholds=Thresholds(3.0, 0.3, 0.3), n_emotions=20,
    )  # fmt: skip


def every_figure(n: int = 24, k: int = 20, seed: int = 0) -> dict[str, go.Figure]:
    decoded = decoding_result(n, k, seed)
    return {
        "layer_sweep": plots.layer_sweep(sweep_result(n, seed)),
        "separation": plots.separation(separation_result(n, seed)),
        "decoding": plots.decoding(decoded),
        "confusion": plots.confusion(decoded),
        "anisotropy": plots.anisotropy(anisotropy_result(n, seed)),
        "similarity": plots.similarity(similarity_result(k, seed)),
        "circumplex": plots.circumplex(circumplex_result(k, seed)),
        "dose_response": plots.dose_response(dose_result(seed)),
    }


def traces(figure: go.Figure, name: str) -> list[go.Scatter]:
    return [trace for trace in figure.data if trace.name == name]


def points(figure: go.Figure, name: str) -> go.Scatter:
    return next(trace for trace in traces(figure, name) if "markers" in trace.mode)


def axes(figure: go.Figure) -> list:
    return [*figure.select_xaxes(), *figure.select_yaxes()]


@pytest.mark.parametrize(("n", "k"), SIZES)
def test_every_figure_has_a_title_axis_titles_and_our_template(n, k):
    for name, figure in every_figure(n, k).items():
        assert figure.layout.title.text, name
        assert figure.layout.title.subtitle.text, name
        assert figure.layout.height >= 400, name
        assert figure.layout.template.layout.paper_bgcolor == "#ffffff", name
        titled = [axis for axis in axes(figure) if axis.title.text]
        hidden = [axis for axis in axes(figure) if axis.showticklabels is False]
        assert len(titled) + len(hidden) == len(axes(figure)), name
        json.loads(figure.to_json())


def test_layer_sweep_carries_values_null_band_and_best_depth():
    result = sweep_result()
    figure = plots.layer_sweep(result)
    curve = points(figure, result.metric)
    np.testing.assert_allclose(curve.y, result.table["value"])
    np.testing.assert_allclose(curve.x, result.table["depth"])
    hollow = [symbol.endswith("open") for symbol in curve.marker.symbol]
    assert hollow == [p > 0.05 for p in result.table["p_corrected"]]
    low, high = traces(figure, "permuted labels (97.5% in the band)")
    assert set(low.y) == {0.0}  # the test looks upwards: the band is open below
    np.testing.assert_allclose(high.y, result.table["null_high"])
    best = next(trace for trace in figure.data if trace.name.startswith("best depth"))
    assert best.x[0] == result.best_depth
    assert best.x[0] + best.error_x.array[0] == pytest.approx(result.best_depth_high)
    assert "%{customdata[0]}" in curve.hovertemplate
    assert list(curve.customdata[:, 0]) == list(result.table["layer"])


def test_layer_sweep_without_null_or_interval_says_so():
    result = sweep_result()
    table = result.table.assign(null_low=np.nan, null_high=np.nan, p=np.nan, p_corrected=np.nan)
    result = replace(result, table=table, best_depth_low=None, best_depth_high=None)
    figure = plots.layer_sweep(result)
    assert "no label null" in figure.layout.title.subtitle.text
    assert not traces(figure, "permuted labels (97.5% in the band)")
    assert "[" not in figure.data[-1].name


def test_separation_never_comes_without_decoding():
    result = separation_result()
    figure = plots.separation(result)
    np.testing.assert_allclose(points(figure, "mean pairwise cosine").y, result.table["mean_cosine"])
    np.testing.assert_allclose(points(figure, "held-out accuracy").y, result.table["accuracy"])
    np.testing.assert_allclose(points(figure, "split-half reliability").y, result.table["reliability"])
    assert traces(figure, "chance (0.05)")[0].y == (0.05, 0.05)
    assert traces(figure, "permuted labels (97.5% in the band)")
    assert figure.layout.xaxis.matches == "x3"
    assert "160 texts" in figure.layout.title.subtitle.text


def test_decoding_and_confusion_carry_their_numbers():
    result = decoding_result()
    np.testing.assert_allclose(points(plots.decoding(result), "held-out accuracy").y, result.table["accuracy"])
    heat = plots.confusion(result).data[0]
    shown = pd.DataFrame(heat.z, index=heat.y, columns=heat.x)
    pd.testing.assert_frame_equal(shown, result.confusion.loc[shown.index, shown.columns], check_names=False)
    assert heat.y[0] == "sad"
    assert heat.y[-1] == "exasperated"


def test_anisotropy_carries_all_four_curves():
    result = anisotropy_result()
    shown = [trace.y for trace in plots.anisotropy(result).data if trace.name != "zero"]
    columns = ("neutral_raw", "all_raw", "neutral_centred", "random_matched")
    np.testing.assert_allclose(shown, [result.table[column] for column in columns])


def test_similarity_is_in_clustered_order_on_a_scale_centred_at_zero():
    result = similarity_result()
    heat = plots.similarity(result).data[0]
    assert tuple(heat.x) == tuple(heat.y) == result.order
    np.testing.assert_allclose(heat.z, result.matrix.loc[list(result.order), list(result.order)])
    assert (heat.zmin, heat.zmid, heat.zmax) == (-1, 0, 1)


def test_circumplex_shows_scores_beside_norms_and_names_what_has_none():
    result = circumplex_result()
    figure = plots.circumplex(result)
    np.testing.assert_allclose(figure.data[0].x, result.table["pc1"])
    assert len(figure.data[1].x) == 19
    assert "no human norm: exasperated" in figure.layout.title.subtitle.text
    assert list(figure.data[0].marker.color) == [plots.emotion_colour(e) for e in result.table["emotion"]]
    assert figure.layout.meta["wide"]


def test_dose_response_carries_rates_intervals_perplexity_and_regimes():
    result = dose_result()
    figure = plots.dose_response(result)
    mine = result.table[result.table["condition"] == "emotion"]
    success, perplexity = traces(figure, "emotion vector")
    np.testing.assert_allclose(success.y, mine["success_rate"])
    np.testing.assert_allclose(np.add(success.y, success.error_y.array), mine["success_high"])
    np.testing.assert_allclose(np.subtract(success.y, success.error_y.arrayminus), mine["success_low"])
    np.testing.assert_allclose(perplexity.y, mine["perplexity_ratio"])
    assert figure.layout.yaxis2.type == "log"
    strip = next(trace for trace in figure.data if trace.type == "heatmap")
    kinds = list(REGIME_COLOURS)
    assert [kinds[code] for code in strip.z[list(strip.y).index("emotion")]] == list(mine["regime"])
    assert "accuracy 0.61" in figure.layout.title.subtitle.text
    assert "no dose chosen on other texts" in figure.layout.title.subtitle.text  # it holds no openings


def test_the_dose_that_is_marked_was_chosen_on_other_openings_and_its_success_is_the_headline():
    """Of eight doses the best on these texts is neither marked nor told."""
    rng, rows = np.random.default_rng(0), []
    for dose in (1.0, 2.0, 4.0):
        for condition in ("emotion", "random"):
            for i in range(40):
                hit = bool(rng.random() < (0.8 if condition == "emotion" and dose == 2 else 0.1))
                rows.append({"condition": condition, "dose": dose, "scenario": i, "opening": i % 2, "success": hit,
                             "moved": hit, "nll": 1.0, "unsteered_nll": 1.0, "entropy": 1.0, "distinct_2": 0.9,
                             "loop_share": 0.0, "edit_distance": 0.5, "target_score": 0.1})  # fmt: skip
    result = replace(dose_result(doses=(1, 2, 4)), texts=pd.DataFrame(rows))
    figure, found = plots.dose_response(result), result.headline
    assert "dose chosen on other openings: 2" in [trace.name for trace in figure.data]
    told = figure.layout.title.subtitle.text
    assert f"{found.rate} succeed" in told and found.controls in told
    assert not any("surgical dose" in (trace.name or "") for trace in figure.data)


def test_a_fact_longer_than_a_line_is_broken_and_keeps_its_words():
    judge = (
        "sentence encoder minilm (accuracy 0.31 [0.26, 0.37], chance 0.05; trained on the texts that made the vectors)"
    )
    lines = plots.dose_response(replace(dose_result(doses=(1, 4)), judge=judge)).layout.title.subtitle.text.split(
        "<br>"
    )
    assert max(map(len, lines)) <= LINE_LENGTH
    assert f"judge: {judge}" in " ".join(lines)


def test_dose_response_without_surgical_dose_or_measured_judge():
    result = replace(dose_result(doses=(1, 4)), judge_accuracy=None, layer="all")
    assert result.surgical_dose is None
    figure = plots.dose_response(result)
    assert not [trace for trace in figure.data if (trace.name or "").startswith("surgical")]
    assert "accuracy not measured" in figure.layout.title.subtitle.text


def test_colours_are_one_per_emotion_and_grey_without_a_norm():
    known = [e for e in EMOTIONS if e != "exasperated"]
    assert len({plots.emotion_colour(e) for e in known}) == len(known)
    assert {plots.emotion_colour(e) for e in ("exasperated", NEUTRAL, "no such word")} == {GREY}


def test_names_of_twenty_points_neither_overlap_nor_leave_the_panel():
    points = np.random.default_rng(3).uniform((40, 30), (390, 370), (20, 2))
    half = np.array([(LETTER * len(name) / 2, LINE_HEIGHT / 2) for name in EMOTIONS])
    boxes = around(points + place_labels(points, EMOTIONS, 430.0, 400.0), half)
    assert overlap(boxes[:, None], boxes)[~np.eye(20, dtype=bool)].max() == 0
    assert boxes.min() >= 0
    assert (boxes[:, 2:] <= (430, 400)).all()


def test_on_paper_is_a_copy_on_white():
    figure = plots.layer_sweep(sweep_result())
    assert plots.on_paper(figure, dark=True).layout.paper_bgcolor == INKS["dark"][0]
    assert figure.layout.paper_bgcolor is None


def test_importing_the_package_does_not_import_plotly():
    code = "import sys, lens_emotion; sys.exit('plotly' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "name", sorted(set(plots.__all__) - {"about", "emotion_colour", "on_paper", "panels", "template"})
)
def test_every_figure_takes_the_result_that_it_says_it_draws(name):
    """A real result type, or several of them: not any object that happens to have the attributes."""
    function = getattr(plots, name)
    drawn = typing.get_type_hints(inspect.unwrap(function))[next(iter(inspect.signature(function).parameters))]
    for kind in [a for a in typing.get_args(drawn) if a is not str] or [drawn]:
        assert kind.__module__.split(".")[1] in ("analysis", "steering", "study", "extraction"), kind


def test_the_component_of_valence_lies_across_whichever_it_is():
    straight = circumplex_result()
    table = straight.table.rename(columns={"pc1": "pc2", "pc2": "pc1"})
    strong = {("pc1", "valence"): 0.2, ("pc1", "arousal"): 0.7, ("pc2", "valence"): 0.9, ("pc2", "arousal"): 0.1}
    r = [strong[c, n] for c, n in zip(straight.correlations["component"], straight.correlations["norm"], strict=True)]
    swapped = replace(straight, table=table, correlations=straight.correlations.assign(abs_r=r))
    figure = plots.circumplex(swapped)
    np.testing.assert_allclose(figure.data[0].x, straight.table["pc1"])
    assert figure.layout.xaxis.title.text.startswith("PC2 score (17%")
    assert figure.layout.yaxis.title.text.startswith("PC1 score (31%")
    assert "valence and PC2: |r| = 0.90, p = 0.002" in figure.layout.title.subtitle.text
    assert "arousal and PC1: |r| = 0.70" in figure.layout.title.subtitle.text
