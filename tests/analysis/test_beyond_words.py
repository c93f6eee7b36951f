"""Beyond the words: states that are the words turned add nothing, states with emotion of their own do; and twins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from planted import twins

from benchmarks.verdict_worlds import Worded, worded
from lens_emotion.analysis.twins import pairs_of, twins_apart
from lens_emotion.analysis.words import BAG, ENCODER, STATIC, beyond_words, word_grams
from lens_emotion.errors import AnalysisError, StimulusError, UnsupportedModelError
from lens_emotion.plots import _findings
from lens_emotion.stats.stacking import evened, increment, outcomes, ridge_scores, shuffled_within, stacked
from lens_emotion.study.claims.reading import more_than_words
from lens_emotion.study.verdict import NOT_SUPPORTED, NOT_TESTABLE, SUPPORTED, UNDETERMINED


@pytest.fixture(scope="module")
def more():
    return beyond_words(*worded(Worded(more=0.8), 3))


@pytest.fixture(scope="module")
def same():
    return beyond_words(*worded(Worded(own=0.12, noise=0.0, stretch=0.0), 3))


def test_a_state_with_emotion_that_the_words_lack_adds_it(more):
    for found in (more, more.standardised):
        assert found.chosen.low > 0.05 and found.p <= 0.05
        assert found.both == pytest.approx(found.words + found.chosen.value, abs=0.02)
    assert more.against == (BAG, STATIC)
    claim = more_than_words("m", more)
    assert (claim.code, claim.verdict) == ("X1", SUPPORTED)


def test_a_state_that_is_the_words_turned_adds_nothing_although_it_decodes(same):
    assert same.state > 2 * same.chance, "or there would be nothing to be taken in by"
    assert same.chosen.value < 0.1
    assert more_than_words("m", same).verdict != SUPPORTED


def test_words_at_their_ceiling_are_no_finding_about_the_state(more):
    """An increment of 0 where nothing could be added is not a "no"."""
    full = replace(more, words=0.97, chosen=replace(more.chosen, value=0.0, low=-0.01, high=0.01), p=0.5)
    assert "no room" in full.summary() and "no state could tell more" in _findings.beyond_words(full)
    room = replace(full, words=0.9)
    assert "no room" not in room.summary() and "not shown to tell more" in _findings.beyond_words(room)


def test_too_few_texts_leave_it_open():
    assert more_than_words("m", beyond_words(*worded(Worded(more=0.3, n_topics=3), 0))).verdict == UNDETERMINED


def test_every_number_stands_beside_its_null(more):
    assert set(more.table) >= {"state", "state_p", "words", "increment", "low", "high", "null_high", "p_corrected"}
    assert (more.table["increment"] <= more.table["high"]).all()
    assert {"accuracy", "null_high", "p"} <= set(more.baselines) and len(more.baselines) == 9
    assert more.baselines.iloc[-1]["accuracy"] == more.words
    assert "shuffled states" in more.summary() and "permuted labels" in more.summary()
    assert len(repr(more)) < 800


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({}, SUPPORTED),
        ({"p": 0.2}, UNDETERMINED),
        ({"copies": "all; too many to share a fold, so that what is tested was also learnt"}, NOT_TESTABLE),
        ({"nothing": True}, NOT_SUPPORTED),
        ({"nothing": True, "words": 0.97}, UNDETERMINED),
        ({"nothing": True, "undecoded": True}, UNDETERMINED),
        ({"wide": True}, UNDETERMINED),
    ],
)
def test_the_verdict_follows_its_rule(more, change, verdict):
    def changed(found):
        plain = {k: v for k, v in change.items() if k in ("p", "copies", "words")}
        if "nothing" in change:
            plain["chosen"] = replace(found.chosen, value=0.0, low=-0.05, high=0.05)
        if "wide" in change:
            plain["chosen"] = replace(found.chosen, low=-0.1, high=0.4)
        if "undecoded" in change:
            plain["table"] = found.table.assign(state_p=0.6)
        return replace(found, **plain)

    found = changed(replace(more, standardised=changed(more.standardised)))
    assert more_than_words("m", found).verdict == verdict


def test_where_the_decoders_differ_the_verdict_hangs_on_them(more):
    other = replace(more.standardised, chosen=replace(more.chosen, low=-0.1, high=0.4))
    claim = more_than_words("m", replace(more, standardised=other))
    assert claim.verdict == UNDETERMINED and "hangs on the decoder" in claim.reason
    assert more_than_words("m", "too few topics").verdict == NOT_TESTABLE


def test_a_layer_with_emotion_is_chosen_by_the_other_folds():
    acts, static = worded(Worded(), 5)
    strong = worded(Worded(more=0.8), 5)[0]
    values = acts.values.clone()
    values[:, 1] = strong.values[:, 1]
    found = beyond_words(replace(acts, values=values), static)
    assert set(found.layers) == {1}


def test_an_encoder_is_asked_too_and_a_wrong_one_named(untyped):
    acts, static = worded(Worded(more=0.8), 3)
    place = {r.text: i for i, r in enumerate(acts.records)}
    found = beyond_words(acts, static, lambda texts: acts.values[[place[t] for t in texts], 0].numpy())
    assert ENCODER in found.against
    assert found.words > beyond_words(acts, static).words, "an encoder that knows the state leaves it less to add"
    with pytest.raises(AnalysisError, match="encoder gave shape"):
        beyond_words(acts, static, lambda texts: np.ones(3))
    with pytest.raises(AnalysisError, match="sentence_encoder"):
        beyond_words(acts, static, "minilm")
    with pytest.raises(AnalysisError, match="static embeddings lack"):
        beyond_words(acts, static.only(np.arange(len(acts)) > 3))
    with pytest.raises(StimulusError, match="needs 3"):
        beyond_words(acts.only(np.isin(acts.topic, ["topic0", "topic1"])), static)


def test_texts_whose_words_are_numbers_are_told_at_chance():
    acts, _ = worded(Worded(more=0.8, n_emotions=4), 3)
    records = tuple(replace(r, text=f"text {i}") for i, r in enumerate(acts.records))
    found = beyond_words(replace(acts, records=records))
    assert found.words < 0.4, "chance is .25"


# the engine


def test_a_stack_finds_the_weights_that_made_the_labels_and_ignores_a_blind_source():
    rng = np.random.default_rng(0)
    n, k = 600, 5
    fold = np.arange(n) % 12
    scores = rng.standard_normal((2, n, k))
    made = 2.0 * scores[0] + rng.gumbel(size=(n, k))
    label = made.argmax(1)
    log_p = stacked(scores[None], label, fold)[0]
    assert np.exp(log_p).sum(1) == pytest.approx(1)
    best = 2.0 * scores[0] - np.log(np.exp(2.0 * scores[0]).sum(1, keepdims=True))
    at = np.arange(n)
    assert log_p[at, label].mean() == pytest.approx(best[at, label].mean(), abs=0.02)
    again = stacked(scores[None], label, fold, start=(1.0, 1.0), steps=30)[0]
    assert again == pytest.approx(log_p, abs=0.01)


def test_a_held_out_text_does_not_see_its_own_label():
    rng = np.random.default_rng(1)
    n, k = 60, 3
    fold, label = np.arange(n) % 6, rng.integers(k, size=n)
    gram = np.eye(n)  # texts that have nothing in common: whatever is told of one was learnt from itself
    target = np.eye(k)[label] - 1 / k
    assert np.abs(ridge_scores(gram, target, fold, 0.1)).max() < 1e-9
    rows = rng.standard_normal((n, 8))
    held = fold == 2
    told = ridge_scores(rows @ rows.T, target, fold, 1.0)[held]
    size = float(np.trace(rows @ rows.T)) / n
    fitted = np.linalg.solve(rows[~held].T @ rows[~held] + size * np.eye(8), rows[~held].T @ target[~held])
    assert told == pytest.approx(rows[held] @ fitted, abs=1e-8), "leaving a fold out is what fitting without it gives"


def test_a_source_of_noise_adds_nothing_and_its_null_knows_it():
    rng = np.random.default_rng(2)
    n, k = 240, 6
    fold, label = np.arange(n) % 12, rng.integers(k, size=n)
    noise = rng.standard_normal((3, n, k))
    base = stacked(np.zeros((1, 1, n, k)), label, fold)[0]
    order = shuffled_within(fold, 30, 0)
    assert (fold[order] == fold).all() and (order[0] == np.arange(n)).all()
    pairs = [np.stack([np.broadcast_to(base, (31, n, k)), evened(x)[order]], 1) for x in noise]
    joint = np.stack([outcomes(stacked(p, label, fold), label) for p in pairs], 1)
    found = increment(outcomes(base, label), joint, fold, fold)
    assert found.columns["p_corrected"].min() > 0.05 and found.chosen.low < 0


# twins


def test_twins_are_told_apart_by_a_state_that_knows_affect_and_by_no_other():
    known = twins_apart(*twins(2.0, own_words=False))
    assert known.table["accuracy"].min() > 0.9 and known.table["p_corrected"].max() <= 0.05
    assert known.chosen.low > 0 and known.p <= 0.05 and known.standardised.chosen.low > 0
    blind = twins_apart(*twins(0.0, own_words=False))
    assert blind.words == pytest.approx(0.5)
    assert blind.table["p_corrected"].min() > 0.05 and blind.chosen.low < 0


def test_words_that_tell_twins_apart_leave_the_state_nothing_to_add():
    found = twins_apart(*twins(2.0, own_words=True))
    assert found.words == 1 and found.chosen.value == 0
    assert "at their ceiling" in found.summary()


def test_pairs_are_made_by_id_whatever_the_order():
    told, bare = twins(1.0, own_words=False)
    back = np.argsort(np.random.default_rng(0).random(len(bare)))
    mixed = replace(bare, values=bare.values[back.tolist()], records=tuple(bare.records[i] for i in back))
    one, other = pairs_of(told, mixed)
    assert [r.text_id + "-twin" for r in one.records] == [r.text_id for r in other.records]
    with pytest.raises(StimulusError, match="has a twin"):
        twins_apart(told, told)


def rows_of(texts):
    return np.random.default_rng(0).normal(size=(len(texts), 4))


class Sentences:
    """As a SentenceTransformer: callable, but not with texts."""

    def __call__(self, tokens):
        return tokens["input_ids"]

    def encode(self, texts):
        return rows_of(texts)


@pytest.mark.parametrize(
    "encoder",
    [
        lambda t: torch.tensor(rows_of(t), requires_grad=True),
        lambda t: torch.tensor(rows_of(t)).bfloat16(),
        lambda t: list(torch.tensor(rows_of(t))),
        lambda t: rows_of(t).tolist(),
        Sentences(),
    ],
)
def test_an_encoder_gives_numbers_of_any_kind(encoder):
    assert word_grams(list("abcdef"), encoder=encoder)[ENCODER].shape == (6, 6)


@pytest.mark.parametrize(
    "encoder",
    [
        lambda t: t,
        lambda t: None,
        lambda t: [[1.0] * (1 + i % 2) for i in range(len(t))],
        lambda t: list(map(torch.ones, range(1, len(t) + 1))),
        lambda t: np.ones((len(t), 0)),
        lambda t: rows_of(t) * 1j,
        lambda t: torch.ones(len(t), 2, dtype=torch.complex64),
        lambda t: rows_of(t) * np.nan,
        lambda t: rows_of(t)[:-1],
    ],
)
def test_an_encoder_that_gives_no_table_of_numbers_is_told(encoder):
    with pytest.raises(AnalysisError, match="finite numbers, 6 texts x d"):
        word_grams(list("abcdef"), encoder=encoder)


@pytest.mark.parametrize("static", ["tiny-llama", 3, np.ones((3, 4))])
def test_static_is_a_model_or_embeddings(static):
    acts, _ = worded(Worded(), 0)
    with pytest.raises(UnsupportedModelError):
        beyond_words(acts, static, n_permutations=1)


def test_states_are_no_static_embeddings():
    acts, static = worded(Worded(), 0)
    states = replace(static, values=static.values.repeat(1, 3, 1), residual_norm=static.residual_norm.repeat(3))
    with pytest.raises(AnalysisError, match="states of 3 layers"):
        beyond_words(acts, states, n_permutations=1)
