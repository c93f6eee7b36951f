"""Figures of real results: planted activations and short runs of a tiny model. They draw the result's own numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import tiny
from drawn import two_methods

import lens_emotion as le
from lens_emotion import plots
from lens_emotion.analysis import compare as compare_module
from lens_emotion.analysis import compare as models_module
from lens_emotion.errors import AnalysisError
from lens_emotion.plots._compare import RANK_SUM, SIGN_FLIPS
from lens_emotion.plots.theme import REGIME_COLOURS, by_valence
from lens_emotion.study.verdict import ALL_MODELS


def curve(figure, name, panel="y"):
    """The marks of a named curve, in one panel."""
    found = [t for t in figure.data if t.name == name and "markers" in (t.mode or "") and (t.yaxis or "y") == panel]
    return next(t for t in found if len(t.x) and t.x[0] is not None)


def test_compare_draws_both_methods_their_difference_and_every_pair(figures, results):
    result, figure = results["compare"], figures["compare"]
    np.testing.assert_allclose(curve(figure, "writing").y, result.table["a"])
    np.testing.assert_allclose(curve(figure, "reading").y, result.table["b"])
    difference = next(t for t in figure.data if (t.name or "").startswith("difference") and t.mode == "markers")
    np.testing.assert_allclose(difference.y, result.table["estimate"])
    np.testing.assert_allclose(difference.y + np.array(difference.error_y.array), result.table["high"])
    np.testing.assert_allclose(difference.y - np.array(difference.error_y.arrayminus), result.table["low"])
    dots = [t for t in figure.data if t.name == "writing" and t.mode == "markers"]
    shown = {row[0]: x for t in dots for row, x in zip(t.customdata, t.x, strict=True)}
    assert shown == pytest.approx(dict(zip(result.pairs["name"], result.pairs["a"], strict=True)))
    assert len(result.pairs) == 5 + 8  # emotions and topics
    assert f"{result.row(compare_module.PAIRED).estimate:+.3f}" in figure.layout.title.subtitle.text


def test_pairs_average_to_what_the_table_says(results):
    result = results["compare"]
    topics = result.pairs[result.pairs["unit"] == "topics"]
    assert topics["difference"].mean() == pytest.approx(result.table["difference"].mean())
    np.testing.assert_allclose(topics["difference"], topics["a"] - topics["b"])


def test_compare_shows_accuracy_below_any_other_metric():
    figure = plots.compare(le.compare(*two_methods(), "separation", n_permutations=20))
    titles = [axis.title.text for axis in figure.select_yaxes() if axis.title.text]
    assert titles == ["mean pairwise<br>cosine", "difference", "held-out<br>accuracy", "difference"]
    assert "unpaired" in figure.layout.title.subtitle.text


def test_the_names_of_tests_that_figures_look_for_are_those_of_the_analyses():
    assert compare_module.PAIRED.startswith(SIGN_FLIPS) and models_module.PAIRED.startswith(SIGN_FLIPS)
    assert compare_module.JEONG.startswith(RANK_SUM) and models_module.JEONG.startswith(RANK_SUM)


def test_compare_models_draws_every_model_at_both_places(figures, results):
    result = results["compare_models"]
    dots = [t.x for t in figures["compare_models"].data if t.name == "a"]
    for shown, (column, place) in zip(
        dots, [(c, p) for c in ("accuracy", "cosine") for p in ("middle", "best")], strict=True
    ):
        rows = result.table[result.table["place"] == place]
        np.testing.assert_allclose(shown, rows[f"{column}_a"][::-1])
    heads = " ".join(a.text for a in figures["compare_models"].layout.annotations)
    assert f"{result.row('accuracy').difference:+.2f}" in heads and "unpaired" in heads


def test_reliability_draws_layers_null_and_the_topics_that_would_do(figures, results):
    result, figure = results["reliability"], figures["reliability"]
    np.testing.assert_allclose(curve(figure, "split-half reliability").y, result.by_layer["reliability"])
    best = int(result.by_layer["reliability"].argmax())
    needed = result.topics_needed(0.9)
    needed = needed[needed["layer"] == best].set_index("emotion")["topics_needed"]
    dots = next(t for t in figure.data if t.name == "emotion")
    assert [row[4] for row in dots.customdata] == [needed[row[0]] for row in dots.customdata]


def test_regime_map_has_a_letter_a_colour_and_a_text_in_every_cell(results):
    result = results["regime_map"]
    kinds = [*REGIME_COLOURS, *REGIME_COLOURS, *REGIME_COLOURS]  # every regime occurs, whatever the model did
    result = replace(result, table=result.table.assign(regime=kinds[: len(result.table)]))
    figure = plots.regime_map(result)
    initial = {"inert": "I", "surgical": "S", "repetitive collapse": "R", "explosive": "E"}
    maps = [t for t in figure.data if t.type == "heatmap"]
    for trace, condition in zip(maps, ("emotion", "random"), strict=True):
        grid = result.grid(condition).to_numpy()
        assert [[cell.strip("*") for cell in row] for row in trace.text] == [[initial[c] for c in row] for row in grid]
        assert [[list(initial)[code] for code in row] for row in trace.z] == grid.tolist()
        assert all("perplexity ratio" in cell and "<i>" in cell for row in trace.customdata for cell in row)
    breaks = next(t for t in figure.data if (t.name or "").startswith("text breaks"))
    assert len(breaks.x) == result.onsets["onset_natural"].notna().sum()


def test_side_effects_and_leakage_draw_their_tables(figures, results):
    heat = figures["side_effects"].data[0]
    shown = pd.DataFrame(heat.z, index=list(heat.y), columns=list(heat.x))
    expected = results["side_effects"].matrix
    np.testing.assert_allclose(shown.loc[expected.index, expected.columns], expected)
    leak, table = figures["leakage"], results["leakage"].table
    mine = table[table["condition"] == "emotion"]
    np.testing.assert_allclose(curve(leak, "emotion vector").y, mine["foreign"])
    assert curve(leak, "random direction").error_y.array is not None
    assert not results["leakage"].words["target"].any()  # tiny-llama knows no Chinese: no empty panel
    assert "foreign words in any text" in leak.layout.title.subtitle.text and len(list(leak.select_yaxes())) == 1
    words = results["leakage"].words.assign(target=lambda w: np.linspace(0.1, 0.4, len(w)))
    both = plots.leakage(replace(results["leakage"], words=words))
    np.testing.assert_allclose(curve(both, "words of the target", "y2").y, words["target"])
    assert "in any text" not in both.layout.title.subtitle.text


def test_models_side_by_side_draw_their_matrices(figures, results):
    np.testing.assert_allclose(figures["rsa"].data[0].z, results["rsa"].matrix)
    many = results["rsa_many"]
    z = np.array(figures["rsa_many"].data[0].z, dtype=float)
    off = ~np.eye(3, dtype=bool)
    np.testing.assert_allclose(z[off], many.matrix.to_numpy()[off])
    assert f"{many.table['ceiling'].iloc[0]:.2f}" in figures["rsa_many"].data[0].text[0][1]
    assert "noise ceiling" in figures["rsa"].layout.title.subtitle.text
    human = results["rsa_human"].table
    for space in ("valence", "arousal"):
        np.testing.assert_allclose(
            curve(figures["rsa_human"], space).y, human.loc[human["space"] == space, "rho"]
        )  # fmt: skip
    change = curve(figures["base_vs_instruct"], "instruct less base", "y3")
    np.testing.assert_allclose(change.y, results["base_vs_instruct"].table["difference"])


def test_readings_and_decoders_draw_their_tables(figures, results):
    drift = results["drift"].by_layer
    np.testing.assert_allclose(curve(figures["drift"], "smallest of the emotions").y, drift["cosine_min"])
    np.testing.assert_allclose(curve(figures["drift"], "second reading", "y3").y, drift["accuracy_b"])
    probe = results["probe"].table
    np.testing.assert_allclose(curve(figures["probe"], "lda, fitted").y, probe["accuracy"])
    moved = results["transfer"].table
    own = moved[moved["centring"] == "own mean"]
    np.testing.assert_allclose(curve(figures["transfer"], "centred on the own mean").y, own["accuracy"])
    within = figures["transfer_within"].data[0]
    np.testing.assert_allclose(np.array(within.z, dtype=float), results["transfer_within"].matrix())
    opposite = results["opposites"]
    np.testing.assert_allclose(
        curve(figures["opposites"], f"{len(opposite.table)} opposite pairs").y, opposite.by_layer["opposite"]
    )


def test_lens_draws_z_and_the_share_of_the_leading_script(figures, results):
    result, figure = results["lens"], figures["lens"]
    names = by_valence(dict.fromkeys(result.table["emotion"]))
    up = result.table[(result.table["side"] == "up") & (result.table["rank"] <= 8)]
    expected = [up[up["emotion"] == n]["z"].tolist() for n in names]
    np.testing.assert_allclose(figure.data[0].z, expected)
    share = next(t for t in figure.data if t.name == "the vector")
    rows = result.scripts[(result.scripts["side"] == "up")]
    best = rows.loc[rows.groupby("emotion")["p_corrected"].idxmin()].set_index("emotion").loc[names]
    np.testing.assert_allclose(share.x, best["share"])


def test_by_architecture_draws_every_model_in_both_units(figures, results):
    models = results["by_architecture"].models
    for panel, unit in (("y", "natural"), ("y2", "relative")):
        shown = sorted(v for t in figures["by_architecture"].data if (t.yaxis or "y") == panel for v in t.y)
        assert shown == pytest.approx(sorted(models[f"onset_{unit}"]))


def test_claims_draw_numbers_of_one_unit_and_say_the_others_in_words(figures, results):
    table, figure = results["claims"].table, figures["claims"]
    drawn = [v for t in figure.data if t.error_x.array is not None for v in t.x]
    other = table[(table["code"] == "C6") & (table["scope"] == ALL_MODELS)]["value"].iloc[0]
    assert sorted(drawn) == pytest.approx(sorted(set(table["value"].dropna()) - {other}))
    said = " ".join(w for t in figure.data if t.name == "in words" for w in t.text)
    assert "1.1" in said and "not testable here" in said
    assert "C1: undetermined" in figure.layout.annotations[0].text


def test_token_scores_are_drawn_in_reading_order_and_special_tokens_have_none(figures, results):
    result, figure = results["token_scores"], figures["token_scores"]
    names = by_valence(result.emotions)
    heat = figure.data[0]
    order = [result.emotions.index(n) for n in names]
    np.testing.assert_allclose(np.array(heat.z, dtype=float), result.scores[order])
    assert figure.layout.xaxis.ticktext[0] == "◇"
    assert np.isnan(np.array(heat.z, dtype=float)[:, 0]).all()
    dots = next(t for t in figure.data if t.name == "beyond random directions")
    assert len(dots.x) == (result.p_corrected <= 0.05).sum()


def test_long_texts_break_into_lines_and_no_token_is_lost(vectors):
    text = "Anna laughed and laughed. " * 20
    result = le.token_scores(tiny(), vectors, text, ["happy"], n_random=19)
    figure = plots.token_scores(result)
    heats = [t for t in figure.data if t.type == "heatmap"]
    assert len(heats) > 1
    np.testing.assert_allclose(np.concatenate([t.z[0] for t in heats]).astype(float), result.scores[0])


def test_preview_counts_what_was_averaged_and_shows_every_token(figures, results):
    roles, figure = results["preview"], figures["preview"]
    shown = sum(len(t.x) for t in figure.data if t.mode == "text")
    assert shown == len(roles) == len(figure.layout.shapes)
    pooled = sum(r.role == "pooled" for r in roles)
    assert f"{pooled} pooled" in figure.layout.title.subtitle.text
    lines = [(s.y0, s.x0, s.x1) for s in figure.layout.shapes]
    for y, left, right in lines:
        assert not any(y == y2 and left < l2 < right for y2, l2, _ in lines)


@pytest.mark.parametrize(
    ("figure", "given", "says"),
    [
        ("separation", "opposites", "draws Separation, not Opposites; le.plots.opposites draws that"),
        ("compare", "rsa_many", "not RSAMatrix; le.plots.rsa_many draws that"),
        ("opposites", "acts", r"not PooledActivations; give what le.opposites\(...\) returns"),
        ("confusion", "vectors", r"not EmotionVectors; give what le.decoding\(...\) returns"),
        ("regimes", "opposites", r"draws Mapping\[str, DoseResponse\], not Opposites"),
        ("preview", "text", r"draws Sequence\[TokenRole\], not str; give what le.preview"),
        ("claims", "none", "draws Claims, not NoneType"),
    ],
)
def test_a_figure_of_another_result_says_which_one_draws_it(figure, given, says, results, acts, vectors):
    others = {"acts": acts, "vectors": vectors, "text": "a text", "none": None}
    with pytest.raises(AnalysisError, match=says):
        getattr(plots, figure)(others[given] if given in others else results[given])
