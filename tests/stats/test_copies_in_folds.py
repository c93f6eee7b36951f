"""Texts known from the training folds tell a decoder nothing: accuracy near chance and a valid p without any signal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from planted import planted, pooled

from lens_emotion.analysis.decoding import decoding
from lens_emotion.analysis.probes import probe
from lens_emotion.analysis.reliability import reliability
from lens_emotion.analysis.separation import separation
from lens_emotion.stats.design import design_of, label_permutations

WORDS = np.array([f"w{i}" for i in range(2000)])


def written(rng, n):
    return [" ".join(rng.choice(WORDS, 14)) for _ in range(n)]


def noise(seed, of, n_emotions=5, n_topics=8, nearly=True):
    """Noise with topic effects; `of(rng, emotion, topic)` says which texts are made copies of which earlier ones."""
    rng = np.random.default_rng(seed)
    names = [(f"e{e}", f"t{t}") for t in range(n_topics) for e in range(n_emotions)]
    texts, values = written(rng, len(names)), rng.standard_normal((len(names), 1, 30))
    values += np.repeat(rng.standard_normal((n_topics, 1, 30)), n_emotions, axis=0)
    emotion, topic = np.tile(np.arange(n_emotions), n_topics), np.repeat(np.arange(n_topics), n_emotions)
    for i, j in of(rng, emotion, topic):
        texts[i], values[i] = texts[j] + " so" * nearly, values[j]
    return pooled(torch.from_numpy(values).float(), names, texts)


def to_earlier(share, same_emotion=True, within=99):
    """A share of the texts become copies of a text on an earlier topic."""

    def of(rng, emotion, topic):
        for i in np.flatnonzero(rng.random(len(emotion)) < share):
            fits = (topic < topic[i]) & (topic // within == topic[i] // within)
            fits &= (emotion == emotion[i]) | (not same_emotion)
            if fits.any():
                yield i, rng.choice(np.flatnonzero(fits))

    return of


@pytest.mark.parametrize(
    "of",
    [to_earlier(0.4, within=2), to_earlier(0.2), to_earlier(0.2, same_emotion=False)],
    ids=["two topics", "any topics", "any emotion"],
)
def test_copies_without_signal_leave_accuracy_at_chance_and_p_valid(of):
    found = [decoding(noise(seed, of), 39, seed) for seed in range(40)]
    assert np.mean([d.best_accuracy for d in found]) == pytest.approx(0.2, abs=0.03)
    p = np.array([d.table.p[0] for d in found])
    assert np.mean(p <= 0.05) < 0.2 and 0.4 < p.mean() < 0.7
    assert sum(d.copies != "" for d in found) > 35


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_where_copies_are_everywhere_p_stays_valid_and_the_result_says_so(share):
    found = [decoding(noise(seed, to_earlier(share)), 39, seed) for seed in range(30)]
    assert np.mean([d.table.p[0] <= 0.05 for d in found]) < 0.2
    assert all("copies" in d.copies and d.copies[1:] in d.summary() for d in found)


@pytest.mark.parametrize("same_emotion", [True, False])
def test_copies_never_lie_on_both_sides_of_a_fold_or_a_half(same_emotion):
    acts = noise(1, to_earlier(0.3, same_emotion, within=2))
    design = design_of(acts)
    by_text, by_topic = {}, {}
    for record, fold in zip(acts.records, design.fold, strict=True):
        by_text.setdefault(record.text.removesuffix(" so"), set()).add(fold)
        by_topic.setdefault(record.topic, set()).add(fold)
    assert len(by_text) < len(acts)
    assert all(len(folds) == 1 for folds in [*by_text.values(), *by_topic.values()])
    assert design.n_blocks == len(set(design.fold)) < 8


def test_permutations_move_copies_of_one_emotion_as_one_and_keep_every_topics_counts():
    design = design_of(noise(2, to_earlier(0.4, within=2)))
    labels = label_permutations(design, 30, 0)
    for unit in range(design.unit.max() + 1):
        assert (labels[:, design.unit == unit] == labels[:, design.unit == unit][:, :1]).all()
    for topic in range(8):
        assert (np.sort(labels[:, design.topic == topic]) == np.arange(5)).all()
    assert (labels != design.label).any()


def test_topics_of_one_emotion_each_that_share_copies_swap_together():
    names = [(f"e{k % 3}", f"t{k}") for k in range(12) for _ in range(2)]
    texts = written(np.random.default_rng(0), 24)
    texts[6], texts[14] = texts[0], texts[8]  # t0 and t3 are of e0, t4 and t7 of e1
    design = design_of(pooled(torch.randn(24, 1, 8), names, texts))
    labels = label_permutations(design, 50, 0)
    assert design.nested and design.n_blocks == 10
    assert (labels[:, 0] == labels[:, 6]).all() and (labels[:, 8] == labels[:, 14]).all()
    assert len({tuple(row[[0, 8]]) for row in labels.tolist() and labels}) > 1


def test_sets_without_copies_are_as_they_were():
    acts = planted(n_emotions=4, n_topics=14).acts
    design = design_of(acts)
    assert (design.home == design.topic).all() and (design.block == design.topic).all()
    assert (design.fold == design.topic % 12).all() and design.copies == ""
    assert decoding(acts, 5).copies == "" and "same as another" not in decoding(acts, 5).summary()


def test_greedy_stories_that_are_much_alike_still_give_a_number_and_every_summary_says_so():
    """Five templates, each text twice, and a model that writes much the same under any template."""
    rng = np.random.default_rng(0)
    story = {f"e{e}": written(rng, 2) for e in range(4)}
    names = [(f"e{e}", f"template{t}") for e in range(4) for t in range(5) for _ in range(2)]
    texts = [story[emotion][int(topic[-1]) % 2] + f" {topic}" for emotion, topic in names]
    values = torch.from_numpy(rng.standard_normal((8, 2, 12))).float()
    rows = torch.stack([values[2 * int(e[1]) + int(t[-1]) % 2] for e, t in names])
    acts = pooled(rows, names, texts)
    acts = replace(acts, records=tuple(replace(r, split="generated") for r in acts.records))
    results = [decoding(acts, 20), reliability(acts, 4, n_permutations=9), separation(acts, "centred", 20)]
    results += [probe(acts, "logistic", [0], n_permutations=3, progress=False)]
    for result in results:
        assert "40 of 40 texts are the same as another or nearly so" in result.summary()
    assert results[0].best_accuracy < 1  # each emotion's two stories are learnt and tested apart


def test_one_text_for_all_topics_of_an_emotion_is_said_to_be_learnt():
    names = [(f"e{e}", f"t{t}") for e in range(3) for t in range(4)]
    rows = torch.randn(3, 1, 8).repeat_interleave(4, 0)
    acts = pooled(rows, names, np.repeat(written(np.random.default_rng(1), 3), 4).tolist())
    found, apart = decoding(acts, 20), separation(acts, "centred", n_permutations=20)
    assert found.table.p[0] == 1 and found.tied and "what is tested was also learnt" in found.summary()
    for told in (found.summary(), apart.summary(), reliability(acts, n_permutations=20).summary()):
        assert "not testable" in told and "distinguishable" not in told and "told apart" not in told
    assert not apart.distinguishable()


def test_one_text_that_most_of_a_set_are_near_copies_of_is_no_frame():
    rng = np.random.default_rng(0)
    names = [(f"e{e}", f"t{t}") for e in range(2) for t in range(12)]
    texts, values = [f"{t} {t[::-1]}" for t in written(rng, 24)], torch.randn(24, 1, 24)
    base = texts[0]
    for i in range(15):  # all of one emotion, and three of the other
        texts[i], values[i] = f"{base} number{i} end", values[0] + 0.1 * values[i]
    found = decoding(pooled(values, names, texts), 39)
    assert found.table.p[0] > 0.05 and "15 of 24 texts are the same as another or nearly so" in found.summary()
