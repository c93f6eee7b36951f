"""Tokens as they come, texts side by side, and what one text shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import tiny
from steered import PROMPT, made_vectors

from lens_emotion.errors import ContextLengthError, DoseError, StimulusError
from lens_emotion.models.decoding import generate_tokens
from lens_emotion.models.prompting import encode
from lens_emotion.models.sampling import Sampling
from lens_emotion.steering.comparison import (
    NOT_JUDGED,
    OTHER_SCRIPT,
    RANDOM,
    STEERED,
    UNSTEERED,
    Push,
    compare_texts,
    own_thresholds,
    write_side_by_side,
)
from lens_emotion.steering.dose import Dose
from lens_emotion.steering.generate import Condition, generate_steered
from lens_emotion.steering.measures import foreign_letters
from lens_emotion.steering.regimes import EXPLOSIVE, INERT, SURGICAL, Thresholds
from lens_emotion.vectors.emotion_vectors import mixture, random_like

LENIENT = Thresholds(1e9, 1.0, 0.0)


def push_of(dose: float, control: bool = True, **more) -> Push:
    vectors = made_vectors("tiny-llama")
    vector = vectors["angry"]
    return Push(PROMPT, vector, Dose(dose), (3,), random_like(vectors, vector, 1) if control else None, 12, **more)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(1.2, 0.9, 3)])
def test_telling_every_step_changes_no_token(llama, sampling):
    ids = [encode(llama, text) for text in (PROMPT, "Ben walked", "Ben was", *["Anna"] * 9)]
    told: dict[int, list[int]] = {row: [] for row in range(len(ids))}

    def on_step(new: dict[int, int]) -> None:
        for row, token in new.items():
            told[row].append(token)

    silent = generate_tokens(llama, ids, 60, sampling)
    assert generate_tokens(llama, ids, 60, sampling, on_step=on_step) == silent
    assert [told[row] for row in range(len(ids))] == silent
    assert len({len(row) for row in silent}) > 1, "some rows end early"


def test_what_a_listener_raises_ends_the_writing_and_leaves_no_hook(llama):
    def stop(ids: dict[int, list[int]]) -> None:
        assert any(point.fwd_hooks for point in llama.hook_dict.values())
        if len(ids[0]) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_steered(llama, [Condition(PROMPT, made_vectors("tiny-llama")["sad"], Dose(2.0))], (3,), on_ids=stop)
    assert all(not point.fwd_hooks for point in llama.hook_dict.values())


def test_columns_grow_to_the_texts_and_share_their_draws(llama):
    push, seen = push_of(0.0, sampling=Sampling(1.0, 0.95, 7)), {}
    written = write_side_by_side(llama, push, seen.update)
    assert list(written) == [UNSTEERED, STEERED, RANDOM]
    assert {column: tuple(ids) for column, ids in seen.items()} == {c: w.new_ids for c, w in written.items()}
    assert len({w.text for w in written.values()}) == 1, "without a push, equal draws give equal texts"
    assert len({w.text for w in write_side_by_side(llama, push_of(3.0)).values()}) == 3
    with pytest.raises(ContextLengthError):
        write_side_by_side(llama, Push(PROMPT * 60, push.vector, push.dose, (3,)))


def test_regime_of_one_text_follows_damage_and_control():
    model = tiny()
    thresholds = own_thresholds(model, [PROMPT, "Ben walked", "Anna was", "That morning"], Sampling(), 12)

    def found(push: Push, where: Thresholds = thresholds, nulls=()):
        return compare_texts(model, push, write_side_by_side(model, push), where, 4, nulls)

    assert found(push_of(0.0)).regime == INERT
    assert found(push_of(60.0)).regime == EXPLOSIVE
    strong = found(push_of(60.0), LENIENT)
    assert strong.regime in (SURGICAL, INERT)
    assert (strong.regime == SURGICAL) == (strong.of(STEERED).reading > max(0, strong.of(RANDOM).reading))
    alone = found(push_of(60.0, control=False), LENIENT)
    assert alone.regime in (NOT_JUDGED, INERT)
    assert "no control" in alone.summary()
    vectors = made_vectors("tiny-llama")
    nulls = [random_like(vectors, vectors["angry"], seed) for seed in range(2, 20)]
    tested = found(push_of(6.0), LENIENT, nulls)
    beyond = sum(x >= tested.of(STEERED).reading for x in tested.nulls)
    assert tested.p == (beyond + 1) / 20
    assert (tested.regime == SURGICAL) == (tested.p <= 0.05 and tested.of(STEERED).reading > 0)
    assert "<p>" in tested._repr_html_()
    with pytest.raises(StimulusError, match="at least two"):
        own_thresholds(model, [PROMPT], Sampling())


WRITTEN = {
    "他很生气，摔了门。": ("Anna ran home.", 1.0),
    "She ran 他很生气了吧": ("Anna ran home.", 0.5),
    "She ran — 12:30! 🙂": ("Anna ran home.", 0.0),
    "Она ушла домой.": ("Anna ran home.", 1.0),
    "他走了。": ("他很生气", 0.0),  # Chinese is at home where the prompt is
    "漢字とかな": ("かなの文", 0.0),  # Han is written beside Kana
    "中文": ("한국어", 0.0),
    "かな": ("他很生气", 1.0),
    "12:30!": ("Anna", np.nan),
}


@pytest.mark.parametrize(("text", "home", "share"), [(text, *row) for text, row in WRITTEN.items()])
def test_letters_of_other_scripts_are_counted_against_prompt_and_unsteered_text(text, home, share):
    assert foreign_letters(text, (home,)) == pytest.approx(share, nan_ok=True)


@pytest.mark.parametrize("text", ["他很生气，摔了门，走了。", "Она ушла", "She 他很生气 ran"])
def test_a_text_in_another_script_is_never_surgical(text):
    model, push = tiny(), push_of(4.0)
    written = write_side_by_side(model, push)
    alien = written | {STEERED: replace(written[STEERED], text=text)}
    found = compare_texts(model, push, alien, LENIENT, 4)
    assert found.regime == OTHER_SCRIPT and found.of(STEERED).damage == OTHER_SCRIPT
    assert "of its letters in another script" in found.summary()
    assert compare_texts(model, push, alien, Thresholds(1e-9, 1.0, 0.0), 4).regime == EXPLOSIVE, "damage goes before"


def test_a_ratio_to_a_text_that_loops_is_called_unreliable():
    model, push = tiny(), push_of(4.0)
    written = write_side_by_side(model, push)
    loop = written | {UNSTEERED: replace(written[UNSTEERED], new_ids=written[UNSTEERED].new_ids[:1] * 12)}
    found = compare_texts(model, push, loop, LENIENT, 4)
    assert not found.ratio_reliable and "(unreliable ratio, since 100% of that is one loop)" in found.summary()
    whole = compare_texts(model, push, written, LENIENT, 4)
    assert whole.ratio_reliable and "unreliable" not in whole.summary()


def test_reading_along_the_vector_is_the_mean_projection_of_the_new_tokens():
    from lens_emotion.models.access import hook_name
    from lens_emotion.models.forward import residual_cache

    model, push = tiny(), push_of(4.0)
    written = write_side_by_side(model, push)

    def by_hand(column: str) -> float:
        w = written[column]
        states = residual_cache(model, torch.tensor([[*w.prompt_ids, *w.new_ids]]))[hook_name(3)][0]
        return float((states[len(w.prompt_ids) :] @ push.vector.at(3)).mean() / push.vector.natural[3])

    table = compare_texts(model, push, written, LENIENT, 4).table.set_index("column")
    for column in written:
        assert table.reading[column] == pytest.approx(by_hand(column) - by_hand(UNSTEERED), abs=1e-4)
    assert table.perplexity_ratio[UNSTEERED] == 1
    assert np.isfinite(table.drop(columns=["text", "damage"]).to_numpy(float)).all()


def test_a_random_direction_has_the_sizes_of_the_mixture_it_stands_beside():
    vectors = made_vectors("tiny-llama")
    mixed = mixture(vectors, [(1, "angry"), (-0.5, "calm")])
    assert mixed.name == "angry - 0.5*calm"
    drawn = random_like(vectors, mixed, 3)
    for unit in ("natural", "relative"):
        assert Dose(2.0, unit).length(drawn).equal(Dose(2.0, unit).length(mixed))
    assert drawn.cosine(mixed).abs().max() < 0.5
    for nothing in ([], [(0.0, "calm")]):
        with pytest.raises(DoseError, match="weight other than 0"):
            mixture(vectors, nothing)
