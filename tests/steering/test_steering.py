"""Laws of steering, on both backends and all five families."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import tiny

from lens_emotion.errors import DoseError, FingerprintError, LayerError, UnsupportedModelError
from lens_emotion.extraction.comprehension import extract_comprehension
from lens_emotion.models.access import hook_name
from lens_emotion.models.decoding import generate_tokens
from lens_emotion.models.forward import residual_cache
from lens_emotion.models.layers import resolve_layer, resolve_layers
from lens_emotion.models.prompting import encode
from lens_emotion.models.sampling import Sampling
from lens_emotion.steering.dose import Dose
from lens_emotion.steering.dose_result import load_dose_response, save_dose_response
from lens_emotion.steering.experiment import dose_response
from lens_emotion.steering.generate import Condition, generate_steered
from lens_emotion.steering.hooks import steering_hooks
from lens_emotion.steering.judges import Judge, states_judge, word_count_judge, world_words
from lens_emotion.steering.measures import distinct_n, loop_share, mean_nll, perplexity_ratio
from lens_emotion.steering.regimes import COLLAPSE, EXPLOSIVE, INERT, SURGICAL, Thresholds, regime
from lens_emotion.steering.steer import steer
from lens_emotion.stimuli.library import load_stimuli
from lens_emotion.stimuli.prompts import scenarios
from lens_emotion.vectors.recipes import emotion_vectors

PROMPT = "That morning Anna was in the kitchen. She"


@pytest.fixture(scope="module")
def own_vectors():
    """Vectors of every tiny model, made once."""
    texts = load_stimuli("world-en", per_cell=1)
    made = {}

    def get(model):
        name = model.lens_emotion_name
        if name not in made:
            made[name] = emotion_vectors(extract_comprehension(tiny(name), texts))
        return made[name]

    return get


def logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids]))


def test_dose_zero_is_the_identity_to_the_bit(model, own_vectors):
    ids = encode(model, PROMPT)
    before = logits(model, ids)
    with steer(model, own_vectors(model)["calm"], dose=0.0) as hooks:
        assert torch.equal(logits(model, ids), before)
        assert hooks == []


def test_adding_moves_the_projection_by_exactly_the_dose(model, own_vectors):
    vector, layer = own_vectors(model)["calm"], 3
    tokens = torch.tensor([encode(model, PROMPT)])
    before = residual_cache(model, tokens)[hook_name(layer)]
    for dose, size in (
        (Dose(2.0), 2 * vector.natural[layer]),
        (Dose(0.1, "relative"), 0.1 * vector.residual_norm[layer]),
    ):
        with steer(model, vector, dose, layers=layer):
            after = residual_cache(model, tokens)[hook_name(layer)]
        moved = (after - before) @ vector.at(layer)
        torch.testing.assert_close(moved, torch.full_like(moved, float(size)), rtol=1e-3, atol=1e-3)


def test_steering_leaves_earlier_layers_alone(model, own_vectors):
    tokens = torch.tensor([encode(model, PROMPT)])
    before = residual_cache(model, tokens)
    with steer(model, own_vectors(model)["calm"], dose=5, layers=4):
        after = residual_cache(model, tokens)
    for layer in range(4):
        assert torch.equal(after[hook_name(layer)], before[hook_name(layer)])


def test_hooks_are_gone_after_the_block_and_after_an_exception(model, own_vectors):
    ids = encode(model, PROMPT)
    before = logits(model, ids)
    with pytest.raises(RuntimeError, match="inside"), steer(model, own_vectors(model)["angry"], dose=8):
        assert not torch.equal(logits(model, ids), before)
        raise RuntimeError("inside")
    assert torch.equal(logits(model, ids), before)
    assert all(not point.fwd_hooks for point in model.hook_dict.values())


def test_cached_steered_decoding_equals_uncached(model, own_vectors):
    vector = own_vectors(model)["angry"]
    ids = encode(model, PROMPT)
    hooks = steering_hooks(vector, 4)
    written = generate_tokens(model, [ids], 15, fwd_hooks=hooks)[0]
    grown = list(ids)
    with steer(model, vector, dose=4):
        for token in written:
            assert int(logits(model, grown)[0, -1].argmax()) == token
            grown.append(token)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.8, 0.95, 5)], ids=["greedy", "sampled"])
def test_per_row_steering_equals_row_by_row(model, own_vectors, sampling):
    vectors = own_vectors(model)
    conditions = [
        Condition(PROMPT, seed=0),
        Condition("Ben", vectors["angry"], Dose(4.0), 1),
        Condition("It rained at the market and Nora", vectors["calm"], Dose(0.2, "relative"), 2),
        Condition(PROMPT, 0.5 * vectors["calm"] - 0.3 * vectors["sad"], Dose(3.0), 3),
    ]
    together = generate_steered(model, conditions, [3], max_new_tokens=15, sampling=sampling)
    alone = [generate_steered(model, [c], [3], max_new_tokens=15, sampling=sampling)[0] for c in conditions]
    assert [t.new_ids for t in together] == [t.new_ids for t in alone]


def test_the_models_own_generate_is_steered_too(model, own_vectors):
    options = {"max_new_tokens": 20, "do_sample": False, "verbose": False, "stop_at_eos": True}
    before = model.generate(PROMPT, **options)
    with steer(model, own_vectors(model)["angry"], dose=6):
        during = model.generate(PROMPT, **options)
    assert during != before
    assert model.generate(PROMPT, **options) == before


def test_generated_positions_leave_the_prompt_alone_but_steer_the_first_new_token(llama, vectors):
    ids = encode(llama, PROMPT)
    seen = []
    hooks = steering_hooks(vectors["angry"], 6, layers=3, positions="generated")
    hooks.append((hook_name(3), lambda residual, hook: seen.append(residual.clone())))
    generate_tokens(llama, [ids], 3, fwd_hooks=hooks)
    plain = residual_cache(llama, torch.tensor([ids]))[hook_name(3)]
    torch.testing.assert_close(seen[0][:, :-1], plain[:, :-1], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(seen[0][:, -1], plain[:, -1], atol=1e-2)


def test_vectors_carry_over_between_backends(llama, vectors):
    with steer(llama, vectors["calm"], dose=1):
        pass


def test_vectors_of_another_model_are_refused_unless_allowed(vectors):
    other = tiny("tiny-mistral")
    with pytest.raises(FingerprintError, match="allow_other_model"), steer(other, vectors["calm"]):
        pass
    with steer(other, vectors["calm"], allow_other_model=True):
        pass
    calm = vectors["calm"]
    parts = ("direction", "norm", "natural", "residual_norm")
    short = replace(calm, **{part: getattr(calm, part)[:3] for part in parts})
    with pytest.raises(UnsupportedModelError, match="shape"), steer(tiny(), short):
        pass


def test_doses_without_sense_are_refused(vectors):
    with pytest.raises(DoseError, match="unit"):
        Dose(1.0, "metres")
    with pytest.raises(DoseError, match="no number"):
        Dose(float("nan"))
    for layers in (6, [0, 9], "some", []):
        with pytest.raises(DoseError):
            resolve_layers(layers, 6)
    with pytest.raises(DoseError, match="positions"):
        steering_hooks(vectors["calm"], 1, positions="left")
    assert resolve_layers(None, 6) == (3,)
    assert resolve_layers("all", 3) == (0, 1, 2)
    assert resolve_layers([-1, 0], 6) == (0, 5)


def test_both_units_describe_the_same_length(vectors):
    vector = vectors["calm"]
    natural, relative = Dose(3.0).in_units(vector, 2)
    assert natural == pytest.approx(3.0, rel=1e-5)
    again = Dose(relative, "relative").in_units(vector, 2)
    assert again[0] == pytest.approx(3.0, rel=1e-4)


def test_nll_equals_the_plain_computation(model):
    texts = ["smiled at the cat.", "walked."]
    prompts = [encode(model, PROMPT)] * 2
    ids = [list(model.tokenizer(" " + t, add_special_tokens=False).input_ids) for t in texts]
    got = mean_nll(model, prompts, [*ids, []][:2])
    for i in range(2):
        row = [*prompts[i], *ids[i]]
        log_p = logits(model, row)[0].float().log_softmax(-1)
        expected = -np.mean([float(log_p[k - 1, row[k]]) for k in range(len(prompts[i]), len(row))])
        assert got[i] == pytest.approx(expected, rel=1e-4)
    assert np.isnan(mean_nll(model, prompts[:1], [[]])[0])


def test_perplexity_ratio_is_the_exponential_of_a_mean_not_a_mean_of_exponentials():
    assert perplexity_ratio([1.0, 3.0], [1.0, 1.0]) == pytest.approx(np.e)
    assert perplexity_ratio([np.nan, 2.0], [1.0]) == pytest.approx(np.e)


def test_repetition_is_measured_on_tokens():
    assert loop_share([1, 2] * 10) == 1.0
    assert loop_share([7] * 8) == 1.0
    assert loop_share(list(range(20))) == 0.0
    assert loop_share([1, 2, 1, 2, 3, 4, 5, 6]) == 0.0  # said twice is no loop yet
    assert loop_share([9, 8, *[1, 2, 3] * 4, 5, 6]) == pytest.approx(12 / 16)
    assert distinct_n([1, 2, 3, 4]) == 1.0
    assert distinct_n([1, 1, 1, 1, 1]) == pytest.approx(1 / 4)
    assert distinct_n([1]) == 1.0


def test_regimes_are_two_sided():
    limits = Thresholds(explosive_ratio=4.0, loop_share=0.4, distinct_2=0.5)
    assert regime(1.0, 0.9, 0.0, 0.0, limits) == INERT
    assert regime(1.5, 0.9, 0.0, 0.5, limits) == SURGICAL
    assert regime(0.5, 0.2, 0.9, 0.9, limits) == COLLAPSE  # a loop has LOW perplexity
    assert regime(9.0, 0.9, 0.0, 0.9, limits) == EXPLOSIVE


def test_word_count_judge_knows_the_world_and_abstains_without_words():
    judge = word_count_judge(world_words("world-en-zh"), load_stimuli("world-en"))
    assert judge.accuracy > 0.9
    chinese = world_words("world-en-zh")["angry"][-1]
    scores = judge.score(["nothing here", f"他{chinese}了"])
    assert scores[0] == pytest.approx(np.full(20, 0.05))
    assert judge.emotions[scores[1].argmax()] == "angry"


def test_states_judge_is_better_than_chance_and_says_if_it_is_not_independent(acts):
    judge = states_judge(tiny(), acts, 3, independent=False)
    assert judge.accuracy > 0.5
    assert "not independent" in str(judge)
    assert judge.score(["Anna smiled.", "", "x"]).shape == (3, 20)


def test_dose_response_reports_emotion_beside_random_and_survives_the_disk(vectors, tmp_path):
    judge = word_count_judge(world_words("world-en"), load_stimuli("world-en"))
    result = dose_response(tiny(), vectors, scenarios("world-en")[:8], judge, doses=(1.0, 6.0), max_new_tokens=20)
    assert list(result.table.condition) == ["emotion", "random"] * 2
    assert (result.table.n == 8).all()
    row = result.at(6.0)
    assert row.success_low <= row.success_rate <= row.success_high
    assert row.dose_relative == pytest.approx(
        6.0 * float((vectors.natural[:, 3] / vectors.residual_norm[3]).mean()), rel=1e-3
    )
    assert set(result.texts.condition) == {"emotion", "random"}
    assert len(result.unsteered) == 8
    again = load_dose_response(save_dose_response(result, tmp_path / "s.json"))
    assert again.summary() == result.summary()
    assert again.texts.equals(result.texts) or (again.texts.text == result.texts.text).all()


def test_a_random_judge_gives_no_success_beyond_its_control(vectors):
    rng = np.random.default_rng(0)
    names = vectors.emotions

    def score(texts):
        raw = rng.random((len(texts), len(names)))
        return raw / raw.sum(1, keepdims=True)

    result = dose_response(
        tiny(), vectors, scenarios("world-en"), Judge("dice", names, score), doses=(1.0,), max_new_tokens=8
    )
    assert result.at(1.0).success_rate <= 0.25
    assert result.surgical_dose is None or result.at(1.0).success_rate - result.at(1.0, "random").success_rate < 0.2


def test_scenarios_without_vector_or_judge_are_refused_before_generating(vectors):
    judge = Judge("half", ("happy", "sad"), lambda texts: np.ones((len(texts), 2)) / 2)
    with pytest.raises(DoseError, match="judge"):
        dose_response(tiny(), vectors, scenarios("world-en"), judge)
    with pytest.raises(DoseError, match="at least one"):
        dose_response(tiny(), vectors, [], judge)


@pytest.mark.parametrize("layer", ["3", 1.5, True, [1], "last"])
def test_one_layer_is_a_whole_number(untyped, layer):
    with pytest.raises(LayerError, match="whole number"):
        resolve_layer(layer, 6, default=3)
