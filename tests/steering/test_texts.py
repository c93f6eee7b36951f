"""`le.generate`: seeded texts, the same alone and in a batch, whoever is in force; top_k; chats."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny

import lens_emotion as le
from lens_emotion.errors import DoseError, FingerprintError, GenerationError, StimulusError
from lens_emotion.models.decoding import GREEDY, Sampling, _chooser
from lens_emotion.steering.measures import likelihood

PROMPTS = ["The door opened and", "Then", "That morning Anna was in the kitchen. She", "Then"]
DRAWN = Sampling(temperature=1.0, top_p=0.95, top_k=30, seed=3)
SHORT = {"max_new_tokens": 8, "progress": False}

pytestmark = pytest.mark.usefixtures("untyped")


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_the_same_text_alone_and_in_a_batch_and_again(sampling, vectors):
    model = tiny()

    def written(prompts):
        push = le.steer(model, vectors["calm"], {2: 2, 4: 1}, positions="generated")
        return le.generate(model, prompts, push, sampling, **SHORT)

    batch = written(PROMPTS)
    assert [written(p).texts[0] for p in PROMPTS[:3]] == list(batch.texts[:3])
    assert written(PROMPTS[::-1]).ids[1] == batch.ids[2] and written(PROMPTS).ids == batch.ids
    assert (batch[1] == batch[3]) == sampling.greedy  # twice the prompt, two draws
    assert le.generate(model, PROMPTS, sampling=sampling, **SHORT).ids != batch.ids
    if not sampling.greedy:
        assert le.generate(model, "Then", None, Sampling(1.0, seed=4), **SHORT).ids[0] != batch.ids[1]


def test_in_force_or_given_is_the_same_and_measures_are_of_the_unsteered_model(vectors):
    model, push = tiny(), le.steer(tiny(), vectors["calm"], 4, positions="generated")
    given = le.generate(model, PROMPTS, push, **SHORT)
    with le.steer(model, vectors["calm"], 4, positions="generated"):
        within = le.generate(model, PROMPTS, **SHORT)
    started = le.steer(model, vectors["calm"], 4, positions="generated").start()
    try:
        assert le.generate(model, PROMPTS, **SHORT).ids == within.ids == given.ids
    finally:
        started.stop()
    plain = likelihood(model, given.prompt_ids, given.ids)
    assert np.allclose(within.nll, plain.nll, rtol=1e-5) and np.array_equal(given.entropy, plain.entropy)
    assert list(within.table.columns[:3]) == ["prompt", "text", "n_tokens"] and len(within.table) == 4
    assert str(within).startswith(PROMPTS[0] + within[0]) and list(within) == list(within.texts)
    assert "calm, dose 4 natural" in repr(within) and "greedy" in repr(within)


def test_what_steer_takes_steers_at_dose_1(vectors):
    model, calm = tiny(), vectors["calm"]
    by_vector = le.generate(model, "Then", calm, **SHORT).ids
    array = (calm.natural[3] * calm.at(3)).numpy()
    assert (
        by_vector
        == le.generate(model, "Then", array, **SHORT).ids
        == le.generate(model, "Then", {3: array}, **SHORT).ids
    )


def test_a_vector_of_another_model_that_was_allowed_writes_too(vectors):
    model, calm = tiny(), vectors["calm"]
    foreign = replace(calm, header=calm.header.with_(fingerprint="of another"))
    with pytest.raises(FingerprintError):
        le.generate(model, "Then", foreign, **SHORT)
    push = le.steer(model, foreign, allow_other_model=True)
    assert le.generate(model, "Then", push, **SHORT).ids == le.generate(model, "Then", calm, **SHORT).ids


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda m, v: le.generate(m, [], **SHORT), GenerationError, "no prompts"),
        (lambda m, v: le.generate(m, 3), StimulusError, "no prompt"),
        (lambda m, v: le.generate(m, [b"a"], **SHORT), StimulusError, "no turns|no chat template|no prompt"),
        (lambda m, v: le.generate(m, "a", sampling=0.8), GenerationError, r"give le.Sampling\(temperature"),
        (lambda m, v: le.generate(m, "a", sampling={"temperature": 1}), GenerationError, "give le.Sampling"),
        (lambda m, v: le.generate(m, "a", max_new_tokens=0), GenerationError, "max_new_tokens"),
        (lambda m, v: le.generate(m, "a", chat=True), StimulusError, "has no chat template"),
        (lambda m, v: le.generate(m, [{"role": "user", "content": "a"}]), StimulusError, "has no chat template"),
        (lambda m, v: le.generate(m, "a", le.steer(tiny("tiny-mistral"), np.ones(64))), DoseError, "another model"),
    ],
    ids=range(9),
)  # fmt: skip
def test_habits_are_answered(call, error, says, vectors):
    with pytest.raises(error, match=says):
        call(tiny(), vectors)


@pytest.mark.parametrize(
    "prompts",
    [
        pd.DataFrame({"prompt": ["One", "Two"], "other": [1, 2]}),
        pd.Series(["One", "Two"]),
        [{"id": 1, "prompt": "One"}, {"id": 2, "text": "Two"}],
        [le.Scenario("a", "calm", "One"), le.Scenario("b", "sad", "Two")],
        [le.StoryPrompt("a", "One", "calm", "t"), "Two"],
        (text for text in ("One", "Two")),
    ],
    ids=range(6),
)
def test_prompts_in_the_shapes_in_which_people_hold_them(prompts):
    assert le.generate(tiny(), prompts, max_new_tokens=1).prompts == ("One", "Two")


@pytest.mark.parametrize("prompts", [pd.DataFrame({"x": ["One"]}), {"x": "One"}, b"One", [b"One"], [3], [["One"]]])
def test_what_is_no_prompt(prompts):
    with pytest.raises(StimulusError, match=r"is no prompt; give a text|which column holds the prompts\? It has x"):
        le.generate(tiny(), prompts)


def test_two_steerings_are_refused(vectors):
    model, calm = tiny(), vectors["calm"]
    with le.steer(model, calm), pytest.raises(DoseError, match="in force already"):
        le.generate(model, "a", calm)
    with le.steer(model, calm), le.steer(model, calm), pytest.raises(DoseError, match="2 steerings"):
        le.generate(model, "a")


def test_chats_go_through_the_template():
    model = tiny()
    model.lens_emotion_template = {
        "chat_template": "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
    }
    try:
        talk = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
        texts = le.generate(model, [talk, talk[1:]], **SHORT)
        assert texts.prompts == ("system: Be kind.\nuser: Hello\nassistant:", "user: Hello\nassistant:")
        assert le.generate(model, talk, **SHORT).prompts == texts.prompts[:1]
        assert le.generate(model, "Hello", chat=True, **SHORT).ids == texts.ids[1:]
        with pytest.raises(StimulusError, match="no turns"):
            le.generate(model, [[{"role": "user"}]])
    finally:
        del model.lens_emotion_template


def test_top_k_is_transformers(untyped):
    from transformers import TopKLogitsWarper, TopPLogitsWarper

    logits = torch.randn(1, 40, generator=torch.Generator().manual_seed(0)) * 2
    chooser = _chooser(Sampling(1.0, 0.8, top_k=6), [0])
    drawn = {int(chooser(logits)) for _ in range(400)}
    warped = TopPLogitsWarper(0.8)(None, TopKLogitsWarper(6)(None, logits))
    assert drawn == set(warped[0].isfinite().nonzero()[:, 0].tolist())
    assert repr(Sampling(1.0)) == "Sampling(temperature=1.0, top_p=1.0, seed=0)" and "top_k=6" in repr(
        Sampling(top_k=6)
    )
    for wrong in (0, -1, 2.5, True, "5"):
        with pytest.raises(GenerationError, match="top_k"):
            Sampling(1.0, top_k=wrong)
