"""Sets made alike, accuracy by topic, and what neutral text leaves of emotion: against definitions said plainly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from planted import planted, pooled

from lens_emotion.analysis.decoding import CENTRED, STANDARDISED, decoding
from lens_emotion.analysis.matched import alike, comparable, topic_accuracy, weighed
from lens_emotion.analysis.removal import SHARES, _left, removal
from lens_emotion.errors import StimulusError
from lens_emotion.stats.decide import estimate
from lens_emotion.vectors.recipes import neutral_components

READ = {"n_emotions": 4, "n_topics": 8, "n_layers": 3, "d_model": 16, "signal": 1.2}


def cells(acts):
    return [(r.emotion, r.topic, r.text) for r in acts.records]


def test_sets_are_cut_to_what_all_have_and_to_as_many_texts_of_each_kind():
    def named(*names, seed):
        values = torch.randn(len(names), 2, 5, generator=torch.Generator().manual_seed(seed))
        return pooled(values, [(e, t) for e, t, _ in names], [text for _, _, text in names])

    common = [(e, t, f"{e} {t}") for e in ("happy", "sad") for t in ("a", "b", "c")]
    one = named(
        *common, ("happy", "a", "again"), ("happy", "d", "alone"), ("calm", "a", "x"), ("neutral", "n", "y"), seed=0
    )
    two = named(
        ("sad", "b", "more"), *common, ("sad", "b", "and more"), ("happy", "a", "twice"), ("neutral", "n", "z"), seed=1
    )
    first, second = alike(one, two)
    assert cells(first) == [*common, ("happy", "a", "again")]
    assert sorted((e, t) for e, t, _ in cells(second)) == sorted((e, t) for e, t, _ in cells(first))
    assert ("sad", "b", "more") in cells(second) and ("sad", "b", "sad b") not in cells(second)  # the first is kept
    assert torch.equal(first.values[0], one.values[0]) and first.emotions == ("happy", "sad")
    assert [len(x) for x in alike(one, two, named(*common, seed=2))] == [6, 6, 6]
    with pytest.raises(StimulusError, match="share 2 emotions and 2 topics"):
        alike(one.only(one.topic != "c"), two)
    with pytest.raises(StimulusError, match="share 1 emotions and 3 topics"):
        alike(one.only(one.emotion != "sad"), two)


@pytest.mark.parametrize("decoder", [CENTRED, STANDARDISED])
def test_accuracy_by_topic_is_that_of_decoding(decoder):
    acts = planted(**READ, seed=1).acts
    found, whole = topic_accuracy(acts, decoder=decoder), decoding(acts, 1)
    made = whole if decoder == CENTRED else whole.standardised
    assert found.topics == tuple(sorted(set(made.topic))) and found.chance == 0.25
    for topic, unit in zip(found.topics, found.units, strict=True):
        assert unit == pytest.approx(made.correct[:, made.topic == topic].mean())
    assert found.value == pytest.approx(made.table.accuracy.mean()) and found.n_texts == 32
    assert found.above.value == pytest.approx(found.value - 0.25) and found.decodable == (found.above.low > 0)
    assert found.shared == 1 / 7 and found.tokens == 4.0 and found.tied == ""
    assert 0 < found.above.low < found.above.value < found.above.high
    by_halves = np.sqrt(np.mean((found.halves[:, 0] - found.halves[:, 1]) ** 2) / 4)
    sharing = estimate(found.units - 0.25, "topics", 1 / 7)
    assert found.above.error == pytest.approx(max(sharing.error, by_halves))


def test_emotions_weigh_alike_on_every_topic():
    acts = planted(n_emotions=2, n_topics=4, n_layers=1, d_model=8, signal=9.0, noise=0.1, n_neutral=0).acts
    values, names = [acts.values], [(r.emotion, r.topic) for r in acts.records]
    wrong = [i for i, (e, t) in enumerate(names) if t == "topic0" and e == names[0][0]]
    right = next(i for i, (e, t) in enumerate(names) if t == "topic0" and e != names[0][0])
    for _ in range(3):  # three texts more of one emotion, which look like the other
        values.append(acts.values[right : right + 1] + 0.01)
        names.append(names[wrong[0]])
    found = topic_accuracy(pooled(torch.cat(values), names))
    assert found.units[0] == pytest.approx((1 / 4 + 1) / 2) and found.units[1:].tolist() == [1.0] * 3


def test_a_difference_is_paired_by_topic_and_its_error_is_the_larger_one():
    one, two = (topic_accuracy(planted(**READ, seed=s).acts) for s in (1, 2))
    found = weighed(((1, one), (-1, two)))
    units, halves = one.units - two.units, one.halves - two.halves
    assert found.value == pytest.approx(units.mean()) and found.n == 8
    by_halves = float(np.sqrt(np.mean((halves[:, 0] - halves[:, 1]) ** 2) / 4))
    expected = estimate(units, "topics", 1 / 7).widened(by_halves)
    assert (found.low, found.high, found.error) == pytest.approx((expected.low, expected.high, expected.error))
    apart = replace(two, halves=two.halves + np.array([[0.0, 0.8]]))  # halves that share nothing know of a larger error
    wide = weighed(((1, one), (-1, apart)))
    assert wide.error > 2 * found.error and wide.low < found.low and wide.value == found.value
    assert weighed(((1, one), (-1, replace(two, shared=1.0)))).error > found.error
    again = weighed(((2, one), (-1, one), (-1, one)))
    assert again.value == pytest.approx(0, abs=1e-12) and again.says(0.1) == "excluded"


@pytest.mark.parametrize(
    ("tokens", "better", "no_better"),
    [(100.0, True, True), (102.0, True, True), (102.1, False, True), (125.0, False, True), (125.1, False, False),
     (98.1, True, True), (98.0, True, False), (80.0, True, False), (79.9, False, False)],
)  # fmt: skip
def test_more_tokens_are_no_merit_of_the_side_that_pools_them(tokens, better, no_better):
    one = topic_accuracy(planted(n_topics=3, n_layers=1, d_model=8).acts)
    assert comparable(replace(one, tokens=tokens), replace(one, tokens=100.0)) == (better, no_better)


def test_few_topics_have_no_interval():
    with pytest.raises(StimulusError, match="2 topics have no interval"):
        topic_accuracy(planted(n_topics=2, per_cell=2).acts)
    assert topic_accuracy(planted(n_topics=5).acts).halves.shape == (0, 2)
    assert topic_accuracy(planted(n_topics=6).acts).halves.shape[0] > 0


def test_removal_counts_what_lies_outside_of_neutral_variance():
    """Displacements without noise: the share left is that of the emotions' directions, in one line. Of neutral texts,
    as of emotional ones, the directions from the median text count, not the lengths."""

    def turned(rows):
        return (rows - rows.median(0).values) / (rows - rows.median(0).values).norm(dim=1, keepdim=True)

    made = planted(
        n_emotions=4, n_topics=6, n_layers=2, d_model=24, signal=3.0, noise=0.0, topic_effect=0.0, n_neutral=30
    )
    neutral = torch.from_numpy(made.acts.emotion == "neutral")
    sizes = torch.linspace(3, 0.2, 24)
    values = made.acts.values.clone()
    values[neutral] = torch.randn(30, 2, 24, generator=torch.Generator().manual_seed(0)) * sizes
    acts = replace(made.acts, values=values)
    found = removal(acts, layer=1, n_permutations=9)
    rows, emotion = turned(acts.emotional.values[:, 1].double()), acts.emotional.emotion
    centred = torch.stack([rows[torch.from_numpy(emotion == e)].mean(0) for e in acts.emotions])
    centred, plain = centred - centred.mean(0), turned(values[neutral][:, 1].double())
    for share in SHARES:
        basis = neutral_components(plain[:, None], share)[0]
        row = found.row(share)
        left = 1 - float(((centred @ basis.T) ** 2).sum() / (centred**2).sum())
        assert row.emotion == pytest.approx(left, abs=1e-5) and row.components == len(basis)
        assert row.more == pytest.approx(row.emotion - row.neutral) and row.low < row.more < row.high
    assert found.table.components.is_monotonic_increasing and found.table.share.tolist() == list(SHARES)
    assert found.table.neutral.is_monotonic_decreasing
    assert found.before == 1.0 and found.chance == 0.25 and found.before_p == 0.1
    assert (found.layer, found.n_layers, found.n_neutral) == (1, 2, 30)


def test_what_is_left_counts_pairs_of_topics_and_its_error_is_a_jackknife():
    """Products of a topic with itself hold its noise, and are left out."""
    draw = torch.Generator().manual_seed(0)
    shared = torch.randn(1, 3, 8, generator=draw, dtype=torch.double)
    topics = shared + torch.randn(6, 3, 8, generator=draw, dtype=torch.double)
    basis = torch.linalg.qr(torch.randn(8, 2, generator=draw, dtype=torch.double))[0].T

    def share(chosen):
        pairs = [(s, t) for s in chosen for t in chosen if s != t]
        inside = [((topics[s] @ basis.T) * (topics[t] @ basis.T)).sum() for s, t in pairs]
        return 1 - float(sum(inside) / sum((topics[s] * topics[t]).sum() for s, t in pairs))

    without = np.array([share([t for t in range(6) if t != k]) for k in range(6)])
    error = np.sqrt(5 / 6 * ((without - without.mean()) ** 2).sum())
    assert _left(topics, basis) == pytest.approx((share(range(6)), error))


def test_removal_takes_neutral_texts_that_had_no_say_and_needs_twelve():
    """Of texts that made the components, nine tenths would be gone by construction."""
    made = planted(n_emotions=2, n_topics=4, n_layers=1, d_model=40, n_neutral=24)
    found = removal(made.acts, layer=0, n_permutations=5)
    assert found.row(0.9).neutral > 0.3  # twenty-odd directions of forty say nothing of the next text
    more = planted(n_emotions=2, n_topics=4, n_layers=1, d_model=40, n_neutral=10, seed=1).acts
    assert removal(made.acts, more, layer=0, n_permutations=5).n_neutral == 34
    few = planted(n_emotions=2, n_topics=4, n_layers=1, d_model=40, n_neutral=11).acts
    with pytest.raises(StimulusError, match="11 neutral texts; give 12"):
        removal(few, layer=0, n_permutations=5)
