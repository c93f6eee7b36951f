"""Axes, opposites and layers of similarity on planted truth, with brute-force oracles."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from planted import HEADER, planted
from scipy.stats import kstest
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from lens_emotion import plots
from lens_emotion.analysis.circumplex import _weights, aligned_scores, circumplex, principal_scores, redrawn_directions
from lens_emotion.analysis.geometry import opposites, similarity, similarity_by_layer
from lens_emotion.errors import AnalysisError, StimulusError
from lens_emotion.stimuli.emotions import EMOTIONS, NEUTRAL, OPPOSITE_PAIRS, valence_arousal
from lens_emotion.vectors.emotion_vectors import EmotionVectors, unit
from lens_emotion.vectors.recipes import emotion_vectors


def _vectors(rows, emotions=EMOTIONS):
    """Vectors from rows [n_emotions, n_layers, d]."""
    rows = torch.as_tensor(np.asarray(rows)).float()
    sizes = torch.ones(rows.shape[:2])
    return EmotionVectors(unit(rows), tuple(emotions[: len(rows)]), sizes, sizes, torch.ones(rows.shape[1]), HEADER)


def _ratings():
    known = valence_arousal()
    return np.array([(known[e].valence or 5.0, known[e].arousal or 5.0) for e in EMOTIONS]) - 5


def _circumplex_acts(n_topics=12, noise=1.0, turn=0.0, d=32, seed=0):
    """Texts whose emotion means lie on the human plane, turned by an angle within it."""
    rng = np.random.default_rng(seed)
    acts = planted(20, n_topics, n_layers=1, d_model=d, signal=0.0, noise=noise, topic_effect=0.5, seed=seed).acts
    axes = np.linalg.qr(rng.standard_normal((d, 2)))[0]
    spin = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    means = np.concatenate([_ratings() * [1.0, 0.7] @ spin @ axes.T / 3, np.zeros((1, d))])
    index = [EMOTIONS.index(e) if e != NEUTRAL else -1 for e in acts.emotion]
    return replace(acts, values=acts.values + torch.from_numpy(means[index][:, None]).float())


def test_the_plane_equals_scikit_learn():
    vectors = _vectors(np.random.default_rng(1).standard_normal((20, 1, 6)))
    result = circumplex(vectors, n_permutations=20)
    kept = result.table.dropna()
    scores = kept[["pc1", "pc2"]].to_numpy()
    for row in result.plane.itertuples():
        y = kept[row.norm].to_numpy()
        fit = LinearRegression().fit(scores, y)
        predicted = cross_val_predict(LinearRegression(), scores, y, cv=LeaveOneOut())
        others = (y.sum() - y) / (len(y) - 1)
        held_out = 1 - ((y - predicted) ** 2).sum() / ((y - others) ** 2).sum()
        assert row.r2 == pytest.approx(fit.score(scores, y))
        assert row.r2_adjusted == pytest.approx(1 - (1 - row.r2) * 18 / 16)
        assert row.r2_held_out == pytest.approx(held_out) and row.n == 19


def test_the_plane_does_not_care_how_its_axes_are_turned_but_the_axes_do():
    straight, turned = (
        circumplex(emotion_vectors(_circumplex_acts(turn=t)), n_permutations=99) for t in (0, np.pi / 4)
    )
    a, b = (r.plane.set_index("norm")["r2_held_out"] for r in (straight, turned))
    assert a.min() > 0.8 and b.min() > 0.7
    # unit vectors of few emotions are not quite a circle: the axes of both are those of the data
    rng = np.random.default_rng(0)
    ring = rng.standard_normal((20, 2))
    ring /= np.linalg.norm(ring, axis=1, keepdims=True)
    y = ring @ [1.0, 0.4]
    from lens_emotion.analysis.circumplex import _explained

    for angle in (0.3, 1.0, 2.0):
        spin = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        for whole, part in zip(_explained(ring, y[:, None]), _explained(ring @ spin, y[:, None]), strict=True):
            assert whole == pytest.approx(part)


def test_p_of_the_plane_is_uniform_for_random_vectors():
    rng, p = np.random.default_rng(0), []
    for _ in range(120):
        rows = rng.standard_normal((20, 1, 8))
        p.append(circumplex(_vectors(rows), n_permutations=39, n_draws=2).plane["p"][0])
    assert kstest(np.array(p) - rng.random(120) / 40, "uniform").pvalue > 0.01


@pytest.mark.parametrize("over", ["topics", "emotions"])
def test_the_interval_lies_around_r_and_is_wide_for_noise(over):
    acts = _circumplex_acts()
    vectors = emotion_vectors(acts)
    result = circumplex(vectors, n_permutations=20, acts=acts if over == "topics" else None, n_draws=300)
    found = result.correlations.set_index(["component", "norm"]).loc[("pc1", "valence")]
    assert result.bootstrap == over and f"95% over {over}" in result.summary()
    assert found.low <= found.abs_r <= found.high + 0.02 and found.low > 0.7
    noise = planted(20, 6, n_layers=1, signal=0.0).acts
    unsure = circumplex(
        emotion_vectors(noise), n_permutations=20, acts=noise if over == "topics" else None, n_draws=300
    ).correlations
    assert (unsure["high"] - unsure["low"]).min() > 0.3 and (unsure["low"] < 0).any()


def test_more_topics_make_the_interval_narrower():
    widths = []
    for n_topics in (4, 40):
        acts = _circumplex_acts(n_topics, noise=4.0)
        found = circumplex(emotion_vectors(acts), n_permutations=5, acts=acts, n_draws=200).correlations
        widths.append((found["high"] - found["low"])[0])
    assert widths[1] < widths[0] / 2


@pytest.mark.parametrize("recipe", ["centred", "neutral", "neutral_pca"])
def test_redrawn_vectors_equal_vectors_of_the_redrawn_texts(recipe):
    acts = planted(5, 4, per_cell=2, n_layers=2, d_model=16).acts
    grams = redrawn_directions(emotion_vectors(acts, recipe), acts, 1, 6, seed=3)
    times = np.random.default_rng(3).multinomial(4, np.full(4, 0.25), size=6)
    assert len(grams) == 6
    for gram, count in zip(grams, times, strict=True):
        rows = [i for i, t in enumerate(acts.topic) for _ in range(1 if "plain" in t else count[int(t[5:])])]
        # a topic drawn twice is two topics
        seen: dict = {}
        records = []
        for i in rows:
            seen[i] = seen.get(i, 0) + 1
            records.append(replace(acts.records[i], topic=f"{acts.records[i].topic}#{seen[i]}"))
        u = emotion_vectors(replace(acts, values=acts.values[rows], records=tuple(records)), recipe).at(1).double()
        u = u - u.mean(0)
        torch.testing.assert_close(gram, u @ u.T, atol=1e-5, rtol=1e-4)


def test_scores_from_inner_products_equal_principal_scores_whatever_sign_and_order():
    rng = np.random.default_rng(2)
    rows = torch.from_numpy(rng.standard_normal((10, 30)) * np.r_[5, 4, np.ones(28)])
    scores, _ = principal_scores(rows)
    centred = rows - rows.mean(0)
    gram = (centred @ centred.T)[None]
    np.testing.assert_allclose(aligned_scores(gram, scores)[0], scores, atol=1e-8)
    swapped = scores[:, ::-1] * [-1.0, 1.0]
    np.testing.assert_allclose(aligned_scores(gram, swapped)[0], swapped, atol=1e-8)


def test_draws_that_leave_an_emotion_without_texts_are_dropped():
    acts = planted(3, 3).acts
    sparse = acts.only(~((acts.emotion == "happy") & (acts.topic != "topic0")))
    weights = _weights(sparse, 200, 0)
    assert 1 < len(weights) < 201 and np.allclose(weights.sum(-1), 1)


def test_activations_that_do_not_fit_the_vectors_are_refused():
    acts, other = _circumplex_acts(), _circumplex_acts(seed=5)
    with pytest.raises(AnalysisError, match="do not give these vectors"):
        circumplex(emotion_vectors(acts), acts=other, n_permutations=5)
    with pytest.raises(AnalysisError, match="leave acts out"):
        circumplex(emotion_vectors(acts, lambda v, n: v - v.mean(0)), acts=acts, n_permutations=5)
    one = planted(20, 1, n_layers=1).acts
    with pytest.raises(StimulusError, match="at least 2 topics"):
        circumplex(emotion_vectors(one), acts=one, n_permutations=5)


def test_opposites_equal_the_loop_over_pairs_and_relabellings():
    vectors = _vectors(np.random.default_rng(0).standard_normal((20, 3, 10)))
    result = opposites(vectors, 1, n_permutations=50, seed=6)
    u = vectors.at(1).double().numpy()
    index = [(EMOTIONS.index(a), EMOTIONS.index(b)) for a, b in OPPOSITE_PAIRS]
    cosine = {pair: u[pair[0]] @ u[pair[1]] for pair in combinations(range(20), 2)}
    chosen = [tuple(sorted(pair)) for pair in index]
    others = [c for pair, c in cosine.items() if pair not in chosen]
    row = result.by_layer.iloc[1]
    assert len(others) == result.n_others == 186
    assert row.opposite == pytest.approx(np.mean([cosine[p] for p in chosen]), abs=1e-6)
    assert row.other == pytest.approx(np.mean(others), abs=1e-6)
    for pair, found in zip(chosen, result.table.itertuples(), strict=True):
        assert found.cosine == pytest.approx(cosine[pair], abs=1e-6)
        assert found.p == pytest.approx((sum(c <= cosine[pair] for c in others) + 1) / 187)
        assert found.rank == sum(c < cosine[pair] - 1e-9 for c in cosine.values()) + 1
    rng = np.random.default_rng(6)
    null = []
    for _ in range(50):
        p = rng.permutation(20)
        null.append(np.mean([u[p[a]] @ u[p[b]] for a, b in index]))
    assert row.p == pytest.approx((np.sum(np.array(null) <= row.opposite + 1e-12) + 1) / 51)


def test_planted_opposites_are_found_at_their_layer():
    rows = np.random.default_rng(1).standard_normal((20, 3, 16))
    for a, b in OPPOSITE_PAIRS:
        rows[EMOTIONS.index(b), 2] = -rows[EMOTIONS.index(a), 2] + 0.3 * rows[EMOTIONS.index(b), 2]
    result = opposites(_vectors(rows), 2, n_permutations=199)
    assert result.by_layer["p_corrected"][2] == 1 / 200 and result.by_layer["p"][:2].min() > 0.05
    assert result.table["rank"].max() == 4 and "noise" not in result.summary()
    assert "noise" in opposites(_vectors(rows), 0, n_permutations=199).summary() and "<table" in result._repr_html_()


def test_p_of_opposites_is_uniform_for_random_vectors():
    rng, p = np.random.default_rng(3), []
    for _ in range(200):
        p.append(opposites(_vectors(rng.standard_normal((20, 1, 8))), n_permutations=39).by_layer["p"][0])
    assert kstest(np.array(p) - rng.random(200) / 40, "uniform").pvalue > 0.01


def test_absent_pairs_are_left_out_and_none_is_refused():
    vectors = _vectors(np.random.default_rng(0).standard_normal((4, 1, 5)), ["happy", "sad", "calm", "angry"])
    assert opposites(vectors, n_permutations=9).table["opposite"].tolist() == ["sad"]
    with pytest.raises(StimulusError, match="one whole pair"):
        opposites(_vectors(np.eye(4)[:, None], ["happy", "calm", "angry", "afraid"]))
    own = opposites(vectors, pairs=[("calm", "angry")], n_permutations=9)
    assert own.table["emotion"].tolist() == ["calm"]


def test_the_mean_cosine_of_vectors_that_cancel_is_not_shown():
    acts = planted(n_neutral=4).acts
    centred, neutral = (emotion_vectors(acts, recipe) for recipe in ("centred", "neutral"))
    for make in (similarity, similarity_by_layer):
        assert "mean" not in make(centred).summary() and "mean pairwise cosine" in make(neutral).summary()
    titles = [str(plots.similarity(similarity(v)).layout.title.to_plotly_json()) for v in (centred, neutral)]
    assert ["mean pairwise" in title for title in titles] == [False, True]


def test_similarity_by_layer_is_similarity_at_each_layer_in_one_order():
    vectors = _vectors(np.random.default_rng(0).standard_normal((6, 4, 9)))
    result = similarity_by_layer(vectors)
    assert len(result.layers) == 4 and len({at.order for at in result.layers}) == 1
    assert sorted(result.order) == sorted(vectors.emotions)
    for at in range(4):
        alone = similarity(vectors, at)
        np.testing.assert_array_equal(result.layers[at].matrix, alone.matrix)
        rows = result.table[result.table["layer"] == at].set_index(["emotion", "other"])["cosine"]
        pairs = alone.table.set_index(["emotion", "other"])["cosine"]
        np.testing.assert_allclose(rows.loc[pairs.index], pairs)
    assert len(result.table) == 4 * 15 and "lowest" in result.summary()
