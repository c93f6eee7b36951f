"""Layer sweeps, anisotropy and geometry on planted truth."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny
from planted import HEADER, planted

from lens_emotion.analysis.anisotropy import anisotropy
from lens_emotion.analysis.circumplex import circumplex
from lens_emotion.analysis.decoding import decoding
from lens_emotion.analysis.geometry import similarity
from lens_emotion.analysis.layers import _wider, decoding_sweep, layer_sweep
from lens_emotion.analysis.reliability import reliability
from lens_emotion.analysis.separation import separation
from lens_emotion.errors import AnalysisError, StimulusError
from lens_emotion.models.access import hook_name
from lens_emotion.stats.tests import bootstrap_over_groups
from lens_emotion.stimuli.emotions import EMOTIONS, valence_arousal
from lens_emotion.vectors.emotion_vectors import EmotionVectors, unit
from lens_emotion.vectors.recipes import emotion_vectors

COLUMNS = ["layer", "depth", "value", "null_low", "null_high", "p", "p_corrected"]


def _one_layer_of_signal(signal=8.0):
    return planted(n_emotions=4, n_topics=6, n_layers=5, signal=[0.0, 0.0, 0.0, signal, 0.0], common=5.0).acts


@pytest.mark.parametrize("metric", ["decoding", "separation", "reliability"])
def test_the_layer_with_the_signal_is_found_and_significant(metric):
    sweep = layer_sweep(_one_layer_of_signal(), metric, n_permutations=39)
    both = [f"{c}_standardised" for c in COLUMNS[2:]] if metric == "decoding" else []
    assert list(sweep.table.columns) == COLUMNS + both
    assert sweep.best_layer == 3 and sweep.best_depth == 0.8
    assert sweep.table["p_corrected"][3] == 1 / 40
    assert sweep.higher_is_better == (metric != "separation")
    assert "noise" not in sweep.summary() and metric in sweep.summary()


def test_the_sweep_of_noise_says_noise():
    acts = planted(n_emotions=4, n_topics=6, n_layers=5, signal=0.0, seed=2).acts
    assert layer_sweep(acts, n_permutations=39).summary().endswith("not distinguishable from noise.")


def test_sweep_values_are_those_of_the_analysis_behind_them():
    acts = planted(n_layers=3, signal=1.0, seed=5).acts
    sweeps = {
        m: layer_sweep(acts, m, 20, seed=1).table for m in ("decoding", "separation", "reliability", "anisotropy")
    }
    decoded, separated = decoding(acts, 20, 1).table, separation(acts, n_permutations=20, seed=1).table
    for column in ("null_low", "null_high", "p", "p_corrected"):
        np.testing.assert_array_equal(sweeps["decoding"][column], decoded[column])
    np.testing.assert_array_equal(sweeps["decoding"]["value"], decoded["accuracy"])
    np.testing.assert_array_equal(sweeps["separation"][["value", "p"]], separated[["mean_cosine", "p"]])
    np.testing.assert_allclose(sweeps["reliability"]["value"], reliability(acts, seed=1).by_layer["reliability"])
    np.testing.assert_array_equal(sweeps["anisotropy"]["value"], anisotropy(acts, seed=1).table["neutral_raw"])


def test_best_depth_interval_is_narrow_for_one_layer_and_wide_for_equal_ones():
    sharp = layer_sweep(_one_layer_of_signal(), n_permutations=5)
    assert (sharp.best_depth_low, sharp.best_depth_high) == (0.8, 0.8)
    flat = layer_sweep(planted(n_emotions=4, n_topics=6, n_layers=5, signal=0.6).acts, n_permutations=5)
    assert flat.best_depth_high - flat.best_depth_low >= 0.4
    assert layer_sweep(_one_layer_of_signal(), "separation", 5).best_depth_low is None


def test_the_shape_over_depth_is_tested_over_topics_where_topics_have_curves():
    hill = planted(n_emotions=6, n_topics=10, n_layers=9, signal=[0, 1, 2, 3, 4, 3, 2, 1, 0], seed=3).acts
    sweep = layer_sweep(hill, n_permutations=19)
    assert sweep.shape.verdict == "inverted U" and sweep.shape.n_units == 10
    assert "shape over depth (over units): inverted U" in sweep.summary()
    rising = planted(n_emotions=6, n_topics=10, n_layers=9, signal=np.linspace(0, 4, 9), seed=3).acts
    assert "U" not in layer_sweep(rising, n_permutations=19).shape.verdict
    assert layer_sweep(hill, "anisotropy", 1).shape.form == "single curve"
    assert layer_sweep(planted(n_layers=4).acts, n_permutations=2).shape is None


def test_a_cache_is_swept_like_the_activations_made_of_it():
    from transformer_lens import ActivationCache

    from lens_emotion.extraction.comprehension import activations_from_cache

    model = tiny()
    rng = torch.Generator().manual_seed(0)
    shape = (12, 5, model.cfg.d_model)
    cache = ActivationCache(
        {hook_name(layer): torch.randn(shape, generator=rng) for layer in range(model.cfg.n_layers)}, model
    )
    content = torch.ones(12, 5, dtype=torch.bool)
    content[:, 0] = False
    labels = {"emotions": ["happy", "sad", "calm"] * 4, "topics": [f"t{i // 3}" for i in range(12)]}
    swept = layer_sweep(cache, n_permutations=5, model=model, content=content, **labels)
    acts = activations_from_cache(model, cache, content, **labels)
    np.testing.assert_array_equal(swept.table, layer_sweep(acts, n_permutations=5).table)
    with pytest.raises(AnalysisError, match="needs tokens, topics too"):
        layer_sweep(cache, model=model, emotions=labels["emotions"])
    with pytest.raises(AnalysisError, match="leave out emotions"):
        layer_sweep(acts, emotions=labels["emotions"])


def test_anisotropy_has_no_label_null_and_says_so_by_nan():
    sweep = layer_sweep(planted().acts, "anisotropy", 5)
    assert sweep.table[["null_low", "null_high", "p", "p_corrected"]].isna().all(axis=None)
    assert sweep.n_permutations == 0 and "null" not in sweep.summary()


def test_a_function_is_a_metric_and_gets_relabelled_texts():
    acts = _one_layer_of_signal(20.0)

    def spread(acts):
        return emotion_vectors(acts).natural.mean(0)

    sweep = layer_sweep(acts, spread, n_permutations=19)
    assert sweep.metric == "spread" and sweep.best_layer == 3
    assert sweep.table["p_corrected"][3] == 1 / 20 and sweep.table["p"][0] > 0.05
    assert not layer_sweep(acts, spread, 2, higher_is_better=False).higher_is_better


def test_wrong_metrics_are_refused_with_what_fits():
    acts = planted().acts
    with pytest.raises(AnalysisError, match="decoding, separation, reliability, anisotropy"):
        layer_sweep(acts, "accuracy")
    with pytest.raises(AnalysisError, match="one value per layer"):
        layer_sweep(acts, lambda acts: [1.0], 2)


@pytest.mark.parametrize("common", [0.0, 1.0, 30.0])
def test_anisotropy_equals_the_loop_over_pairs_up_to_099(common):
    acts = planted(common=common, n_neutral=8, signal=0.0, topic_effect=0.0, d_model=48).acts
    table = anisotropy(acts).table
    rows = acts.neutral.values[:, 1].double()
    brute = [float(torch.cosine_similarity(rows[i], rows[j], dim=0)) for i in range(8) for j in range(i)]
    assert table["neutral_raw"][1] == pytest.approx(np.mean(brute))
    if common == 30.0:
        assert table["neutral_raw"].min() > 0.98
    assert table["neutral_centred"].abs().max() < 0.5


def test_random_directions_of_white_states_are_as_alike_as_theory_says():
    acts = planted(n_emotions=8, n_topics=20, n_layers=1, d_model=16, signal=0.0, topic_effect=0.0, n_neutral=400).acts
    # E|cos| of two isotropic directions is near sqrt(2 / (pi d))
    assert anisotropy(acts).table["random_matched"][0] == pytest.approx(np.sqrt(2 / (np.pi * 16)), rel=0.1)


def test_a_rogue_dimension_makes_matched_random_directions_alike():
    table = anisotropy(planted(d_model=48, rogue=20.0, n_neutral=30).acts).table
    assert table["random_matched"].min() > 0.8


def test_anisotropy_needs_three_neutral_texts():
    with pytest.raises(StimulusError, match="at least 3"):
        anisotropy(planted(n_neutral=2).acts)


def _vectors(rows, emotions):
    sizes = torch.ones(len(emotions), 1)
    return EmotionVectors(unit(rows)[:, None], tuple(emotions), sizes, sizes, torch.ones(1), HEADER)


def _on_a_circumplex(noise=0.0, seed=0):
    """Vectors whose first axis is valence and second arousal."""
    rng = np.random.default_rng(seed)
    norms = [(valence_arousal()[e].valence or 5.0, valence_arousal()[e].arousal or 5.0) for e in EMOTIONS]
    plane = np.array(norms) - 5
    axes = np.linalg.qr(rng.standard_normal((32, 3)))[0]
    rows = plane @ (axes[:, :2] * [1.0, 0.8]).T + 8 * axes[:, 2] + noise * rng.standard_normal((20, 32))
    return _vectors(torch.from_numpy(rows).float(), EMOTIONS)


def test_planted_valence_and_arousal_are_found():
    result = circumplex(_on_a_circumplex(0.1), n_permutations=200)
    found = result.correlations.set_index(["component", "norm"])
    assert found.loc[("pc1", "valence"), "abs_r"] > 0.95
    assert found.loc[("pc2", "arousal"), "abs_r"] > 0.9
    assert found.loc[("pc1", "valence"), "p"] == 1 / 201
    assert (found["p_corrected"] >= found["p"]).all()
    assert "PC1" in result.summary() and len(result.table) == 20


def test_emotions_without_norms_are_left_out_not_imputed():
    result = circumplex(_on_a_circumplex(0.1), n_permutations=50)
    assert result.correlations["n"].unique().tolist() == [19]
    row = result.table.set_index("emotion").loc["exasperated"]
    assert np.isnan(row.valence) and not np.isnan(row.pc1)
    kept = result.table.dropna()
    assert result.correlations["r"][0] == pytest.approx(np.corrcoef(kept.pc1, kept.valence)[0, 1])


def test_the_sign_of_a_component_does_not_hang_on_the_sign_of_the_solver():
    vectors = _on_a_circumplex(0.5)
    a = circumplex(vectors, n_permutations=20)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1)).tolist()
    b = circumplex(_vectors(vectors.at(0)[order], [EMOTIONS[i] for i in order]), n_permutations=20)
    scores = b.table.set_index("emotion").loc[list(EMOTIONS), ["pc1", "pc2"]]
    np.testing.assert_allclose(a.table[["pc1", "pc2"]], scores, atol=1e-5)


def test_random_vectors_have_uniform_p_for_valence():
    from scipy.stats import kstest

    rng, p = np.random.default_rng(0), []
    for _ in range(200):
        rows = torch.from_numpy(rng.standard_normal((20, 8))).float()
        p.append(circumplex(_vectors(rows, EMOTIONS), n_permutations=39).correlations["p"][0])
    assert kstest(np.array(p) - rng.random(200) / 40, "uniform").pvalue > 0.01


def test_too_few_emotions_with_norms_are_refused():
    with pytest.raises(StimulusError, match="at least 4"):
        circumplex(_vectors(torch.eye(4), ["happy", "sad", "calm", "exasperated"]))


def test_similarity_puts_relatives_side_by_side():
    base = torch.eye(3, 8)
    rows = torch.stack([base[0], base[1], base[0] + 0.2 * base[2], base[1] + 0.2 * base[2]])
    result = similarity(_vectors(rows, ["happy", "sad", "blissful", "gloomy"]))
    order = list(result.order)
    assert abs(order.index("happy") - order.index("blissful")) == 1
    assert abs(order.index("sad") - order.index("gloomy")) == 1
    assert len(result.table) == 6
    assert result.mean_pairwise_cosine == pytest.approx(result.table["cosine"].mean(), abs=1e-6)
    assert list(result.ordered.index) == order and "<table" in result._repr_html_()


def test_similarity_takes_the_middle_layer_or_the_one_named():
    vectors = emotion_vectors(planted(n_layers=4).acts)
    assert similarity(vectors).layer == 2 and similarity(vectors, -1).layer == 3
    np.testing.assert_allclose(similarity(vectors, 1).matrix, vectors.cosine(1), atol=1e-6)
    with pytest.raises(AnalysisError, match="no layer 4"):
        similarity(vectors, 4)
    with pytest.raises(StimulusError, match="at least 2"):
        similarity(_vectors(torch.ones(1, 3), ["happy"]))


def test_the_sweep_of_a_decoding_made_already_is_the_same_sweep():
    acts = planted(n_layers=6, signal=(0, 1, 2, 3, 2, 1), n_topics=8).acts
    one, other = layer_sweep(acts, "decoding", 30, seed=3), decoding_sweep(decoding(acts, 30, seed=3), seed=3)
    pd.testing.assert_frame_equal(one.table, other.table)
    assert (one.best_depth_low, one.best_depth_high) == (other.best_depth_low, other.best_depth_high)
    assert one.summary() == other.summary()


def test_the_sweep_holds_both_decoders_with_their_best_depths():
    acts = planted(n_emotions=5, n_layers=4, signal=(0, 3, 0, 0), n_topics=8).acts
    decoded = decoding(acts, 19)
    sweep, own = decoding_sweep(decoded), decoding_sweep(decoded.standardised)
    np.testing.assert_array_equal(sweep.table["value_standardised"], decoded.standardised.table["accuracy"])
    assert (sweep.standardised.best_depth_low, sweep.standardised.best_layer) == (own.best_depth_low, own.best_layer)
    assert "Standardised per dimension it is highest at" in sweep.summary()


def test_draws_of_few_topics_are_as_wide_as_students_t_and_keep_their_ties():
    value = np.array([0.2, 0.5, 0.5])
    draws = np.array([[0.1, 0.6, 0.6], [0.3, 0.4, 0.4]])
    for n, wider in ((5, 2.7764451 / 1.9599640 * np.sqrt(5 / 4)), (12, 2.2009852 / 1.9599640 * np.sqrt(12 / 11))):
        found = _wider(draws, value, n)
        assert found == pytest.approx(value + wider * np.array([[-0.1, 0.1, 0.1], [0.1, -0.1, -0.1]]))
        assert (found[:, 1] == found[:, 2]).all()
    assert _wider(draws, value, 1) is draws


def test_the_best_depth_of_a_decoding_is_of_such_draws():
    decoded = decoding(planted(n_emotions=5, n_topics=4, n_layers=6, d_model=12, signal=1.0).acts, 1)
    plain = bootstrap_over_groups(decoded.correct.T.astype(float), decoded.topic)
    wide = _wider(plain, decoded.table["accuracy"].to_numpy(), 4)
    first = (wide.argmax(1) + 1) / 6
    found = decoding_sweep(decoded).best_draws[:, 0]
    assert found.tolist() == first.tolist() != ((plain.argmax(1) + 1) / 6).tolist()
