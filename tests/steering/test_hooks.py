"""Laws of interventions and positions, on both backends and all five families."""

from __future__ import annotations

import pytest
import torch
from conftest import BACKENDS, tiny
from steered import OTHER, PROMPT, no_hooks_left, oracle_logits, vectors_of

from lens_emotion.errors import DoseError
from lens_emotion.extraction.activations import PooledActivations, TextRecord
from lens_emotion.models.access import hook_name
from lens_emotion.models.decoding import generate_tokens, make_decoder
from lens_emotion.models.forward import residual_cache
from lens_emotion.models.prompting import encode, pad, pad_id
from lens_emotion.steering.dose import Dose
from lens_emotion.steering.hooks import projection_centre, steering_hooks
from lens_emotion.steering.steer import ablate, steer
from lens_emotion.vectors.emotion_vectors import unit

LAYER = 3
POSITIONS = ["generated", "prompt", [0, -1], "all", 2, -2, slice(1, 4), slice(-3, None)]
KINDS = POSITIONS[:3]
MODES = {
    "add": (2.0, lambda h, u, size: h + 2.0 * size * u),
    "ablate": (1.0, lambda h, u, size: h - (h @ u)[..., None] * u),
    "clamp": (1.5, lambda h, u, size: h + (1.5 * size - h @ u)[..., None] * u),
}


def read(model, text):
    return residual_cache(model, torch.tensor([encode(model, text)]))[hook_name(LAYER)]


@pytest.mark.parametrize("mode", ["add", "ablate"])
@pytest.mark.parametrize("positions", ["all", "generated", 2])
def test_dose_zero_is_the_identity_to_the_bit_in_every_mode(model, mode, positions):
    tokens = torch.tensor([encode(model, PROMPT)])
    with torch.inference_mode():
        before = model(tokens)
        with steer(model, vectors_of(model)["calm"], 0, mode=mode, positions=positions) as hooks:
            assert torch.equal(model(tokens), before)
    assert hooks == []


def test_adding_moves_the_projection_by_exactly_the_dose(model):
    vector, before = vectors_of(model)["calm"], read(model, PROMPT)
    for dose, size in (
        (Dose(1.5), 1.5 * vector.natural[LAYER]),
        (Dose(-0.2, "relative"), -0.2 * vector.residual_norm[LAYER]),
    ):
        with steer(model, vector, dose, layers=LAYER):
            moved = (read(model, PROMPT) - before) @ vector.at(LAYER)
        torch.testing.assert_close(moved, torch.full_like(moved, float(size)), rtol=1e-4, atol=1e-4)


def test_an_ablated_projection_is_zero_for_one_vector_and_for_a_span(model):
    vectors = vectors_of(model)
    scale = read(model, PROMPT).norm(dim=-1).max()
    with ablate(model, vectors["calm"]):
        after = residual_cache(model, torch.tensor([encode(model, PROMPT)]))
    for layer in range(vectors.n_layers):
        assert (after[hook_name(layer)] @ vectors["calm"].at(layer)).abs().max() < 1e-5 * scale
    both = [vectors["calm"], vectors["angry"], vectors["calm"] + vectors["angry"]]  # of rank two
    before = read(model, PROMPT)
    with ablate(model, both, LAYER):
        after = read(model, PROMPT)
    for vector in both:
        assert (after @ vector.at(LAYER)).abs().max() < 1e-5 * scale
    plane = unit(torch.linalg.qr(torch.stack([v.at(LAYER) for v in both[:2]]).T)[0].T)
    torch.testing.assert_close(after, before - before @ plane.T @ plane, rtol=1e-4, atol=1e-4)
    with ablate(model, vectors, LAYER):
        assert (read(model, PROMPT) @ vectors.at(LAYER).T).abs().max() < 1e-5 * scale


def test_half_an_ablation_halves_the_projection(llama):
    vector, before = vectors_of(llama)["calm"], read(llama, PROMPT)
    with steer(llama, vector, 0.5, mode="ablate"):
        torch.testing.assert_close(
            read(llama, PROMPT) @ vector.at(LAYER), before @ vector.at(LAYER) / 2, rtol=1e-4, atol=1e-4
        )


def test_a_clamped_projection_equals_its_target_and_nothing_else_moves(model):
    vector, before = vectors_of(model)["calm"], read(model, PROMPT)
    u, centre = vector.at(LAYER), torch.linspace(-3, 4, vector.n_layers)
    for dose in (0.0, -1.0, 2.0):
        with steer(model, vector, dose, layers=LAYER, mode="clamp", centre=centre):
            after = read(model, PROMPT)
        target = torch.full_like(after[..., 0], float(centre[LAYER] + dose * vector.natural[LAYER]))
        torch.testing.assert_close(after @ u, target, rtol=1e-4, atol=1e-3)
        rest = [h - (h @ u)[..., None] * u for h in (before, after)]
        torch.testing.assert_close(*rest, rtol=1e-4, atol=1e-3)


def test_the_centre_of_a_clamp_is_the_mean_of_the_emotions_means(llama):
    vector = vectors_of(llama)["calm"]
    values = torch.randn(5, vector.n_layers, vector.direction.shape[1], generator=torch.Generator().manual_seed(1))
    labels = ["calm", "calm", "calm", "angry", "neutral"]
    records = tuple(TextRecord(str(i), e, "t", "x") for i, e in enumerate(labels))
    acts = PooledActivations(values, records, vector.residual_norm, vector.header)
    mean = (values[:3].mean(0) + values[3]) / 2
    torch.testing.assert_close(projection_centre(acts, vector), (mean * vector.direction).sum(-1))
    neutral = projection_centre(acts.of("neutral"), vector)
    torch.testing.assert_close(neutral, (values[4] * vector.direction).sum(-1))


@pytest.mark.parametrize("mode", MODES)
def test_cached_decoding_equals_uncached_at_every_position_and_mode(model, mode):
    vector = vectors_of(model)["angry"]
    dose, change = MODES[mode]
    ids, forced = encode(model, PROMPT), encode(model, OTHER)[-2:]
    for positions in POSITIONS if mode == "add" else KINDS:
        hooks = steering_hooks(vector, dose, layers=LAYER, positions=positions, mode=mode)
        grown, decoder = list(ids), make_decoder(model, 1)
        with torch.inference_mode(), model.hooks(fwd_hooks=hooks):
            seen = [decoder.step(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool))[0]]
            seen += [decoder.step(torch.tensor([[t]]), torch.ones(1, 1, dtype=torch.bool))[0] for t in forced]
        for logits, token in zip(seen, [*forced, 0], strict=True):
            expected = oracle_logits(
                model, grown, len(ids), lambda h: change(h, vector.at(LAYER), vector.natural[LAYER]), LAYER, positions
            )
            torch.testing.assert_close(logits, expected, rtol=1e-3, atol=2e-3)
            grown.append(token)


@pytest.mark.parametrize("positions", KINDS, ids=str)
def test_the_models_own_generate_and_forward_are_steered_like_ours(model, positions):
    vector, ids = vectors_of(model)["angry"], encode(model, PROMPT)
    hooks = steering_hooks(vector, 2, positions=positions)
    ours = generate_tokens(model, [ids], 4, fwd_hooks=hooks)[0]
    with steer(model, vector, 2, positions=positions):
        options = {"max_new_tokens": 4, "do_sample": False, "verbose": False, "return_type": "tokens"}
        theirs = model.generate(torch.tensor([ids]), **options)[0, len(ids) :].tolist()
    assert theirs[: len(ours)] == ours
    with torch.inference_mode(), steer(model, vector, 2, positions=positions, prompt_length=len(ids)):
        for k, token in enumerate(ours[:3]):  # no cache: the whole text again at every step
            assert int(model(torch.tensor([ids + ours[:k]]))[0, -1].argmax()) == token


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("positions", [*KINDS, slice(-3, None)], ids=str)
def test_pads_on_either_side_are_never_counted(model, side, positions):
    vector = vectors_of(model)["calm"]
    rows = [encode(model, PROMPT), encode(model, "Ben went home"), encode(model, OTHER + " to the")]
    tokens, mask = pad(rows, pad_id(model), side=side)
    with steer(model, vector, 2, layers=LAYER, positions=positions):
        together = residual_cache(model, tokens, mask)[hook_name(LAYER)]
        alone = [residual_cache(model, torch.tensor([row]))[hook_name(LAYER)][0] for row in rows]
    for row, where, expected in zip(together, mask, alone, strict=True):
        torch.testing.assert_close(row[where], expected, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["tiny-gpt2", "tiny-gemma", "tiny-llama"])
@pytest.mark.parametrize("positions", KINDS, ids=str)
def test_left_padding_by_the_models_own_generate_changes_nothing(name, backend, positions):
    model = tiny(name, backend)
    texts = [PROMPT, "Ben went home", "Nora"]
    options = {"max_new_tokens": 4, "do_sample": False, "verbose": False, "stop_at_eos": False}
    before = model.generate(texts[1], **options)
    with steer(model, vectors_of(model)["angry"], 3, positions=positions):
        together = model.generate(texts, **options)
        alone = [model.generate(t, **options) for t in texts]
    assert [t.strip() for t in together] == [t.strip() for t in alone]
    assert alone[1] != before


def test_prompt_positions_steer_nothing_after_the_prompt(model):
    vector, ids = vectors_of(model)["angry"], encode(model, PROMPT)
    added = []
    hooks = steering_hooks(vector, 2, layers=LAYER, positions="prompt")
    watch = [(hook_name(LAYER), lambda h, hook: added.append(h.clone()))]
    generate_tokens(model, [ids], 4, fwd_hooks=[*watch, *hooks, *watch])
    moved = [(b - a).norm(dim=-1) for a, b in zip(added[::2], added[1::2], strict=True)]
    assert (moved[0] > 0).all() and moved[0].shape[1] == len(ids)
    assert len(moved) > 1 and all((m == 0).all() for m in moved[1:])


def test_one_set_of_hooks_counts_anew_for_every_prompt_even_of_one_token(llama):
    vector = vectors_of(llama)["angry"]
    hooks = steering_hooks(vector, 3, layers=LAYER, positions=[0])
    for text in (PROMPT, "Ben", OTHER):
        ids = encode(llama, text)[1:] if text == "Ben" else encode(llama, text)
        fresh = steering_hooks(vector, 3, layers=LAYER, positions=[0])
        assert generate_tokens(llama, [ids], 5, fwd_hooks=hooks) == generate_tokens(llama, [ids], 5, fwd_hooks=fresh)


def test_a_text_read_again_without_a_cache_is_refused_unless_its_prompt_is_told(llama):
    ids = encode(llama, PROMPT)
    with (
        pytest.raises(DoseError, match="prompt_length"),
        torch.inference_mode(),
        steer(llama, vectors_of(llama)["calm"], 1, positions="generated"),
    ):
        llama(torch.tensor([ids]))
        llama(torch.tensor([encode(llama, OTHER)]))  # another text is no growth
        llama(torch.tensor([ids]))
        llama(torch.tensor([[*ids, 5]]))
    assert no_hooks_left(llama)


def test_a_cache_filled_elsewhere_goes_on_where_that_is_possible_and_is_refused_where_not(llama):
    vector, ids = vectors_of(llama)["angry"], encode(llama, PROMPT)

    def go_on(positions):
        decoder = make_decoder(llama, 1)
        with torch.inference_mode():
            decoder.step(torch.tensor([ids[:-1]]), torch.ones(1, len(ids) - 1, dtype=torch.bool))
            with steer(llama, vector, 2, layers=LAYER, positions=positions):
                return decoder.step(torch.tensor([ids[-1:]]), torch.ones(1, 1, dtype=torch.bool))[0]

    expected = oracle_logits(
        llama, ids, len(ids), lambda h: h + 2 * vector.natural[LAYER] * vector.at(LAYER), LAYER, "generated"
    )
    torch.testing.assert_close(go_on("generated"), expected, rtol=1e-3, atol=1e-3)
    with pytest.raises(DoseError, match="filled outside"):
        go_on(0)


def test_hooks_are_gone_after_an_exception_in_every_mode(model):
    for mode in MODES:
        with (
            pytest.raises(RuntimeError, match="inside"),
            steer(model, vectors_of(model)["angry"], 1, mode=mode, positions="generated"),
        ):
            assert not no_hooks_left(model)
            raise RuntimeError("inside")
        assert no_hooks_left(model)


def test_a_band_of_layers_is_the_same_as_its_layers_one_by_one(llama):
    tokens, vector = torch.tensor([encode(llama, PROMPT)]), vectors_of(llama)["calm"]
    with torch.inference_mode():
        found = []
        for layers in ("2-4", range(2, 5), [4, 2, 3], (2, 3, 4)):
            with steer(llama, vector, 1, layers=layers):
                found.append(llama(tokens))
    assert all(torch.equal(found[0], other) for other in found[1:])


def test_interventions_without_sense_are_refused_with_the_remedy():
    vectors = vectors_of(tiny())
    calm = vectors["calm"]
    for options, said in (
        ({"mode": "multiply"}, "add, ablate, clamp"),
        ({"mode": "ablate", "dose": 2.0}, "from 0 to 1"),
        ({"positions": "left"}, "prompt"),
        ({"positions": []}, "at least one"),
    ):
        with pytest.raises(DoseError, match=said):
            steering_hooks(calm, **options)
    with pytest.raises(DoseError, match="one vector"):
        steering_hooks([calm, vectors["sad"]])
    with pytest.raises(DoseError, match="at least one"):
        steering_hooks([], mode="ablate")
    with pytest.raises(DoseError, match="no position 40"), steer(tiny(), calm, positions=[40]):
        tiny()(torch.tensor([encode(tiny(), PROMPT)]))
