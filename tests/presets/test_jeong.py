"""The published protocol: what it does to the letter, and the nulls that show when its number says nothing."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny
from planted import planted

import lens_emotion as le
from lens_emotion.errors import ArtifactError, DoseError, LensEmotionError, StimulusError
from lens_emotion.models.access import hook_name
from lens_emotion.models.prompting import encode
from lens_emotion.presets import jeong, numbers, suppression
from lens_emotion.stats.cosines import mean_pairwise_cosine
from lens_emotion.steering.experiment import everywhere
from lens_emotion.stimuli.library import load_stimuli

PROMPTS = ["The door opened and", "In the morning Anna went to the school. She looked"]
LOOP = "很好" * 12


def at_last_token(acts):
    return replace(acts, header=acts.header.with_(pooling="last_token"))


@pytest.fixture(scope="module")
def last():
    texts = load_stimuli("world-en", per_cell=1)
    return le.extract_comprehension(tiny(), texts, pooling=le.last_token(), progress=False)


@pytest.fixture(scope="module")
def twenty_one(last):
    return jeong.extract_comprehension(last)


# extraction


def test_reading_takes_three_passages_and_neutral_is_a_class_of_21(last, twenty_one) -> None:
    assert len(twenty_one) == 21 and twenty_one.emotions[-1] == "neutral"
    few = [i for i, r in enumerate(last.records) if r.topic in last.topics[:3]]
    means = torch.stack([last.values[[i for i in few if last.emotion[i] == e]].mean(0) for e in twenty_one.emotions])
    centred = means - means.mean(0)
    assert torch.allclose(twenty_one.directions, centred / centred.norm(dim=-1, keepdim=True), atol=1e-4)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda a: jeong.extract_comprehension(a), "pooling=le.last_token"),
        (lambda a: jeong.best_layer(a), "pooling=le.last_token"),
        (lambda a: jeong.extract_generation(a), "preset='jeong'"),
    ],
)
def test_states_of_another_protocol_are_refused_with_what_to_give(call, said) -> None:
    with pytest.raises(StimulusError, match=said):
        call(planted().acts)


def test_writing_is_the_mean_less_that_of_neutral_stories(last) -> None:
    written = replace(last, header=last.header.with_(method="generation", variant="jeong, conditioned"))
    found = jeong.extract_generation(written)
    raw = last.of("calm").values.mean(0) - last.neutral.values.mean(0)
    assert torch.allclose(found["calm"].direction, raw / raw.norm(dim=-1, keepdim=True), atol=1e-4)


# the best layer


def test_noise_has_a_best_layer_and_its_null_says_that_it_is_none() -> None:
    noise = at_last_token(planted(n_emotions=20, n_layers=9, d_model=48, signal=0.0, n_topics=4).acts)
    found = jeong.best_layer(noise, n_permutations=100)
    classes = jeong.extract_comprehension(noise)
    assert found.layer == int(mean_pairwise_cosine(classes.directions.transpose(0, 1)).argmin())
    assert found.p > 0.05 and "permuted labels do as well" in found.summary()
    assert found.bound == -0.05 and found.table.mean_cosine.min() >= found.bound - 1e-9
    assert 0 < found.middle_by_chance < 1 and found.dips_by_chance > 0.5


def test_the_bound_hides_planted_signal_too() -> None:
    """Perfect separation lies at the bound as noise does: between them there is a hundredth of a cosine."""
    strong = at_last_token(planted(n_emotions=20, n_layers=3, d_model=256, signal=50.0, n_topics=4).acts)
    noise = at_last_token(planted(n_emotions=20, n_layers=3, d_model=256, signal=0.0, n_topics=4).acts)
    a, b = (jeong.best_layer(x, n_permutations=20).table.mean_cosine.min() for x in (strong, noise))
    assert abs(a - b) < 0.01


# steering


@pytest.mark.parametrize(
    ("millions", "ends"), [(124, (0.01, 0.03)), (1544, (0.005, 0.02)), (8030, (0.002, 0.01)), (None, (0.01, 0.03))]
)
def test_doses_are_those_of_the_size(millions, ends) -> None:
    doses = jeong.doses_for(millions)
    assert len(doses) == 5 and (doses[0], doses[-1]) == ends and list(doses) == sorted(doses)


def test_the_first_token_inflates_the_dose(monkeypatch) -> None:
    """Measured in Qwen2.5-0.5B: 1,292 against 19.8, so that ten tokens have a mean norm of 147."""
    states = torch.zeros(10, 2)
    states[:, 0] = torch.tensor([1292.0, *[19.8] * 9])
    cache = {("resid_post", k): states[None] for k in range(3)}
    monkeypatch.setattr(suppression, "residual_cache", lambda model, tokens: cache)
    monkeypatch.setattr(suppression, "encode", lambda model, text: [0] * 10)
    model = SimpleNamespace(cfg=SimpleNamespace(n_layers=3))
    with_first, without = suppression.unit_of_dose(model, ["a text"])
    assert with_first.tolist() == pytest.approx([147.02] * 3, abs=0.01) and without.tolist() == pytest.approx(
        [19.8] * 3
    )
    assert jeong.inflation(model, ["a text"]) == pytest.approx(7.425, abs=0.01)


@pytest.fixture(scope="module")
def steered(twenty_one):
    return jeong.steer(tiny(), twenty_one, ["calm", "angry"], PROMPTS, doses=[0.03, 0.3], max_new_tokens=10)


def test_one_batch_writes_what_single_calls_write(twenty_one, steered) -> None:
    rows = steered.table[(steered.table.emotion == "calm") & (steered.table.prompt == PROMPTS[1])]
    alone = jeong.steer(tiny(), twenty_one, "calm", PROMPTS[1], doses=[0.03, 0.3], max_new_tokens=10)
    assert rows.text.tolist() == alone.table.text.tolist()


def test_cached_text_is_that_of_a_loop_without_cache(twenty_one, steered) -> None:
    model, n = tiny(), twenty_one.n_layers
    every = everywhere(model, twenty_one, [PROMPTS[0]], 2 * n // 3)
    hooks = le.steering_hooks(every["angry"], 0.3, unit="relative", layers="all")
    ids = encode(model, PROMPTS[0])
    start = len(ids)
    with torch.no_grad():
        for _ in range(10):
            logits = model.run_with_hooks(torch.tensor([ids]), fwd_hooks=hooks)
            ids = [*ids, int(logits[0, -1].argmax())]
    row = steered.table.query("emotion == 'angry' and condition == 'emotion' and dose == 0.3 and prompt == @PROMPTS[0]")
    text = le.models.prompting.decode_text(model, ids[start:])
    assert text.startswith(row.text.iloc[0]) and row.text.iloc[0]  # the loop does not stop at the end of a text


def test_nothing_to_steer_is_said(twenty_one) -> None:
    with pytest.raises(DoseError, match="at least one emotion"):
        jeong.steer(tiny(), twenty_one, [], PROMPTS)
    with pytest.raises(DoseError, match="at least one prompt"):
        jeong.suppression(tiny(), twenty_one, [])


# regimes


@pytest.mark.parametrize(
    ("texts", "spaces", "characters"),
    [
        ([LOOP] * 4, "explosive", "repetitive"),  # one "word" between spaces
        (["the end " * 6] * 4, "repetitive", "repetitive"),
        (["The END of the end the " * 4] * 4, "repetitive", "repetitive"),  # case does not count
        (["she looked at the sea and then went home"] * 4, "surgical", "surgical"),
        (["", "", "she went home now", "he went home now"], "explosive", "explosive"),
        (["the end " * 6] * 2 + ["she went home now"] * 2, "surgical", "surgical"),  # half is not more than half
    ],
)
def test_regimes_by_words_between_spaces(texts, spaces, characters) -> None:
    found = jeong.regimes(texts)
    assert found.table.regime.tolist() == [spaces, characters]
    assert found.regime == spaces and found.hangs == (spaces != characters)


def test_a_best_layer_is_low_among_the_lowest_of_permuted_labels(last) -> None:
    found = jeong.best_layer(last, n_permutations=40, seed=2)
    as_low = (found.null.min(1) <= found.table.mean_cosine.min() + 1e-12).sum()
    assert 0 < as_low < 40 and found.p == pytest.approx((1 + as_low) / 41)
    each = (found.null <= found.table.mean_cosine.to_numpy() + 1e-12).sum(0)
    assert found.table.p.to_numpy() == pytest.approx((1 + each) / 41)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda v: jeong.best_layer(tiny()), "acts is"),
        (lambda v: jeong.best_layer(None), "acts is None"),
        (lambda v: jeong.steer(tiny(), v, "calm", "A", doses="x"), "dose"),
        (lambda v: jeong.steer(tiny(), v, "calm", "A", doses=[float("nan")]), "dose"),
        (lambda v: jeong.steer(tiny(), v, "calm", 3), "prompts is 3"),
        (lambda v: jeong.steer(tiny(), v, "calm", None), "prompts is None"),
        (lambda v: jeong.steer(tiny(), v, "calm", "A", seed="a"), "seed"),
        (lambda v: jeong.steer(tiny(), v["calm"], "calm", "A"), "vectors is"),
        (lambda v: jeong.steer(tiny(), np.ones((2, 2)), "calm", "A"), "vectors is"),
        (lambda v: jeong.steer("tiny-llama", v, "calm", "A"), "no model"),
        (lambda v: jeong.suppression(tiny(), v, ["A"], pair=("calm", "calm")), "two emotions"),
        (lambda v: jeong.suppression(tiny(), v, ["A"], pair="calm"), "two emotions"),
        (lambda v: jeong.suppression(tiny(), v, ["A"], n_random=0), "random direction"),
        (lambda v: jeong.regimes([None]), "list of texts"),
        (lambda v: jeong.regimes("a b c"), "list of texts"),
        (lambda v: jeong.regimes([]), "no texts"),
    ],
)
def test_what_is_of_another_kind_is_answered(call, says, twenty_one, untyped) -> None:
    with pytest.raises(LensEmotionError, match=says):
        call(twenty_one)


# suppression


@pytest.fixture(scope="module")
def suppressed(twenty_one):
    return jeong.suppression(tiny(), twenty_one, PROMPTS, dose=0.05, n_random=19)


def test_the_push_is_that_of_the_public_code(twenty_one, suppressed) -> None:
    """The mean norm over all positions, in the very pass that is steered, one text at a time."""
    model, at = tiny(), suppressed.layer
    push, seen = twenty_one["calm"].at(at), []

    def hook(value, hook):
        return value + push * 0.05 * value.norm(dim=-1, keepdim=True).mean()

    hooks = [(hook_name(k), hook) for k in range(at + 1)]
    hooks.append((hook_name(at), lambda value, hook: seen.append(value[0, -1])))
    with torch.no_grad():
        model.run_with_hooks(torch.tensor([encode(model, PROMPTS[1])]), fwd_hooks=hooks)
    row = suppressed.table[(suppressed.table.scenario == 1) & (suppressed.table.direction == "hostile")].iloc[0]
    assert float(seen[0] @ twenty_one["hostile"].at(at)) == pytest.approx(row.after, abs=1e-3)


def test_most_of_the_steered_projection_is_what_was_added(twenty_one, suppressed) -> None:
    calm = suppressed.means("calm")
    assert calm.after - calm.before == pytest.approx(calm.added, rel=0.5) and calm.added > 0
    assert calm.random_low < calm.before + 0.5 * calm.added < calm.after  # random directions do not do it
    still = jeong.suppression(tiny(), twenty_one, PROMPTS[:1], dose=0.0, n_random=2)
    assert np.allclose(still.table.before, still.table.after) and not still.table.added.any()


def test_a_table_is_read_back_as_it_was_and_a_damaged_one_refused(suppressed, tmp_path) -> None:
    path = suppression.save_suppression(suppressed, tmp_path / "suppression.json")
    back = suppression.load_suppression(path)
    pd.testing.assert_frame_equal(back.table, suppressed.table, check_exact=True)
    assert back.summary() == suppressed.summary()
    good = path.read_text()
    lies = [
        *(('"calm"', x) for x in ("3", '" "')),
        *(('"layer": 4', f'"layer": {x}') for x in ('"4"', "-4")),
        *(('"n_random": 19', f'"n_random": {x}') for x in ("0", "true")),
        *(('"dose": 0.05', f'"dose": {x}') for x in ("-0.05", "1e400")),
        ('"random_low": [', '"random_low": [1e300, '),
        ('"before": [', '"before": [true, '),
        (PROMPTS[0][:3], "\\ud800"),
        ('"added": [', '"added": 0, "more": ['),
    ]
    assert all(old in good for old, _ in lies)
    for bad in ("{}", "[]", good[:-9], *(good.replace(old, new, 1) for old, new in lies)):
        path.write_text(bad)
        with pytest.raises(ArtifactError, match="suppression"):
            suppression.load_suppression(path)


# published numbers


@pytest.mark.parametrize(
    ("model", "what", "ours", "status"),
    [
        ("gpt2", "calm after steering to calm", 35.0, "reproduced"),
        ("openai-community/gpt2", "calm after steering to calm", -5.0, "not reproduced"),
        ("gpt2", "calm after steering to calm", float("nan"), "not testable here"),
        ("tiny-gpt2", "calm after steering to calm", 39.9, "not testable here"),
        ("/folder/gpt2", "calm after steering to calm", 39.9, "not testable here"),
        ("smollm2-1.7b-instruct", "best depth", 0.5, "reproduced"),
    ],
)
def test_a_published_number_beside_ours(model, what, ours, status) -> None:
    table = numbers.compared({model: {what: ours}}, {})
    assert set(table.source) <= {numbers.PAPER, numbers.CODE, numbers.REPORT} and table.why.str.len().min() > 5
    row = table[(table.what == what) & table.model.isin(["gpt2", "smollm2-1.7b-instruct"])]
    spec = le.models.catalog.find_spec(model)
    row = row[row.model == (spec.name if spec and spec.name in set(row.model) else "gpt2")]
    assert row.status.item() == status
