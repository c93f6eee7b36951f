"""Keys: equal ones promise equal results, so that whatever a result depends on gives another key."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import tiny
from steered import EMOTIONS, PROMPT, vectors_of

from lens_emotion.errors import ArtifactError
from lens_emotion.extraction import comprehension, generation, reader
from lens_emotion.extraction.comprehension import extract_poolings
from lens_emotion.extraction.generation import CAPTURES, extract_generation
from lens_emotion.extraction.pooling import last_token, story_mean
from lens_emotion.files.journal import Journal
from lens_emotion.models import sampling
from lens_emotion.models.access import describe
from lens_emotion.models.prompting import tokenise_text
from lens_emotion.models.sampling import GREEDY, Sampling
from lens_emotion.run.config import PRESET, READING, STEERING, WRITING, StudyConfig
from lens_emotion.run.inputs import Identity, same_but_for_weights, step_inputs
from lens_emotion.run.store import find, keep, key_of, read_record, step_damages
from lens_emotion.steering import generate
from lens_emotion.steering.dose import Dose
from lens_emotion.steering.generate import Condition, generate_steered, row_key
from lens_emotion.stimuli.prompts import StoryPrompt
from lens_emotion.stimuli.sets import Stimulus, StimulusSet

ITEMS = [Stimulus(f"{e}-{t}", f"Anna was {e} in the {t}.", e, t) for e in ("calm", "angry", "neutral") for t in "ab"]
TEXTS = StimulusSet("mine", tuple(ITEMS))
PROMPTS = [StoryPrompt(i.text_id, f"Tell of it: {i.text}", i.emotion, i.topic) for i in ITEMS]
DRAWN = Sampling(0.8, 0.9, 3)
ROW = {"prompt_ids": (1, 2, 3), "sampling": DRAWN, "positions": "all", "max_new_tokens": 8, "layers": (2,)}


@pytest.fixture(scope="module")
def two():
    vectors = vectors_of(tiny())
    return vectors[EMOTIONS[0]], vectors[EMOTIONS[1]]


def text_key(two, info=None, condition=None, **change):
    info = replace(describe(tiny()), **(info or {}))
    done = replace(Condition(PROMPT, two[0], Dose(2.0), seed=1), **(condition or {}))
    given = ROW | change
    return row_key(info, done, given.pop("prompt_ids"), **given)


CHANGES_OF_A_TEXT = {
    "weights": {"info": {"fingerprint": "other"}},
    "backend": {"info": {"backend": "hooked"}},
    "precision": {"info": {"dtype": "bfloat16"}},
    "processing": {"info": {"processed": True}},
    "prompt": {"prompt_ids": (1, 2, 4)},
    "length": {"max_new_tokens": 9},
    "positions": {"positions": "generated"},
    "places": {"positions": [0, 1]},
    "layer": {"layers": (3,)},
    "layers": {"layers": (2, 3)},
    "dose": {"condition": {"dose": Dose(2.5)}},
    "unit": {"condition": {"dose": Dose(2.0, "relative")}},
    "mode": {"condition": {"mode": "ablate", "dose": Dose(1.0)}},
    "clamp": {"condition": {"mode": "clamp"}},
    "centre": {"condition": {"mode": "clamp", "centre": 0.5}},
    "seed of the text": {"condition": {"seed": 2}},
    "seed": {"sampling": replace(DRAWN, seed=4)},
    "temperature": {"sampling": replace(DRAWN, temperature=0.9)},
    "nucleus": {"sampling": replace(DRAWN, top_p=0.8)},
    "greedy": {"sampling": GREEDY},
    "unsteered": {"condition": {"vector": None}},
}


def test_a_texts_key_changes_with_all_that_it_depends_on(two):
    found = {"as it is": text_key(two)} | {name: text_key(two, **c) for name, c in CHANGES_OF_A_TEXT.items()}
    found["vector"] = text_key(two, condition={"vector": two[1]})
    found["ablated"] = text_key(two, condition={"vector": two, "mode": "ablate", "dose": Dose(1.0)})
    half = text_key(two, condition={"vector": two, "mode": "ablate", "dose": Dose(0.5)})
    assert len({*found.values(), half}) == len(found) + 1, found
    assert found["as it is"] == text_key(two)


def test_texts_of_another_sampler_have_other_keys_and_greedy_ones_do_not(two, monkeypatch):
    def keys():
        written = [
            keys_of(
                monkeypatch, generation, lambda s=s: extract_generation(tiny(), PROMPTS, sampling=s, max_new_tokens=24)
            )
            for s in (DRAWN, GREEDY)
        ]
        return [text_key(two), *written, text_key(two, sampling=GREEDY)]

    before = keys()
    monkeypatch.setattr(sampling, "SAMPLER", sampling.SAMPLER + 1)
    assert [a == b for a, b in zip(before, keys(), strict=True)] == [False, False, True, True]


def test_what_changes_no_text_changes_no_key(two):
    greedy = {"sampling": GREEDY}
    assert text_key(two, **greedy) == text_key(two, condition={"seed": 9}, **greedy)
    assert text_key(two, layers=(3,)) == text_key(two, condition={"layers": 3})
    idle = {"dose": Dose(0.0)}
    assert text_key(two, condition=idle) == text_key(two, condition=idle, layers=(4,))
    assert text_key(two) == text_key(two, info={"device": "cuda:1", "name": "other"})


# Keys of batches, as the journals get them: nothing is read, written or steered.


def keys_of(monkeypatch, module, call, **patches):
    """The keys that a step asks its journal for."""
    found: list[str] = []

    def stopped(journal, batches, key, *_):
        found.extend(key(batch) for batch in batches)
        raise InterruptedError

    with monkeypatch.context() as patched:
        patched.setattr(module, "remembered_batches", stopped)
        for name, value in patches.items():
            patched.setattr(module, name, value)
        with pytest.raises(InterruptedError):
            call()
    assert found
    return found[0]


def test_a_read_batchs_key_changes_with_texts_mask_poolings_and_device(monkeypatch):
    mean = story_mean()

    def key(poolings=(mean,), chosen=TEXTS, budget=300, **patches):
        call = lambda: extract_poolings(tiny(), list(poolings), chosen, token_budget=budget)  # noqa: E731
        return keys_of(monkeypatch, reader, call, **patches)

    def unmasked(found):
        return replace(found, content=(False, False, *found.content[2:]))

    found = [key(), key([last_token()]), key([mean, last_token()]), key(chosen=TEXTS.only(topics=["b"]))]
    found += [key(budget=20), key(device_of=lambda model: torch.device("cuda", 0))]
    with monkeypatch.context() as other:
        other.setattr(comprehension, "tokenise_text", lambda model, text: unmasked(tokenise_text(model, text)))
        found.append(key())
    assert len(set(found)) == len(found) and key() == found[0]


def test_a_written_batchs_key_changes_with_prompts_sampling_length_and_reading(monkeypatch):
    prompts = PROMPTS
    model = tiny()

    def key(**change):
        given = {"prompts": prompts, "max_new_tokens": 24} | change
        return keys_of(monkeypatch, generation, lambda: extract_generation(model, **given))

    found = [key(), key(prompts=prompts[1:]), key(max_new_tokens=25), key(sampling=Sampling(0.8, 0.95, 1))]
    found += [key(sampling=GREEDY), key(sampling=Sampling(0.7, 0.95, 0)), key(pooling=story_mean(2))]
    found.append(key(capture=CAPTURES[1]))
    assert len(set(found)) == len(found) and key() == found[0]


def test_equal_prompts_in_other_batches_have_other_keys(monkeypatch):
    prompts = PROMPTS
    same = [replace(p, text=prompts[0].text) for p in prompts]
    asked: list[str] = []

    def stopped(journal, batches, key, *_):
        asked.extend(key(batch) for batch in batches)
        raise InterruptedError

    monkeypatch.setattr(generation, "remembered_batches", stopped)
    monkeypatch.setattr(generation, "writing_budget", lambda *a, **k: 1)
    with pytest.raises(InterruptedError):
        extract_generation(tiny(), same, max_new_tokens=24)
    assert len(set(asked)) == len(same)


def test_a_steered_batchs_key_changes_with_the_device(monkeypatch, tmp_path, two):
    def key(device):
        info = replace(describe(tiny()), device=device)
        call = lambda: generate_steered(  # noqa: E731
            tiny(), [Condition(PROMPT, two[0], Dose(2.0))], [2], max_new_tokens=4, journal=Journal.open(tmp_path / "j")
        )
        return keys_of(monkeypatch, generate, call, describe=lambda model: info)

    assert key("cpu") != key("cuda:0") and key("cpu") == key("cpu")


# Keys of steps.

MODEL = Identity("f/t", "bridge", "float32", "cpu")
JUDGE = 'kind = "words"\nname = "mine"\n[words.en]\ncalm = ["{0}"]\nangry = ["cross"]\n'
CONFIG = StudyConfig(models=("tiny-llama",))


def step_key(step, model=MODEL, read="r", family="llama", texts=TEXTS, **settings):
    return key_of(step_inputs(step, CONFIG.with_(**settings), model, texts, read, family))


@pytest.mark.parametrize("step", [READING, WRITING, PRESET, STEERING])
def test_a_steps_key_changes_with_the_model(step):
    others = [replace(MODEL, **{f: "other"}) for f in ("fingerprint", "backend", "dtype", "device")]
    found = [step_key(step, m) for m in (MODEL, *others)] + [step_key(step, quantise="8bit")]
    assert len(set(found)) == len(found)


def test_a_steps_key_changes_with_the_settings_it_uses_and_with_no_others():
    uses = {
        READING: {},
        WRITING: {"story_tokens": 64, "seed": 1, "template": {"enable_thinking": True}},
        PRESET: {"jeong_tokens": 64, "template": {"enable_thinking": True}},
        STEERING: {"doses": (1.0,), "steered_tokens": 16, "seed": 1},
    }
    every = {name: value for used in uses.values() for name, value in used.items()} | {"n_permutations": 20}
    for step, used in uses.items():
        for name, value in every.items():
            assert (step_key(step, **{name: value}) != step_key(step)) == (name in used), (step, name)


def test_a_steps_key_changes_with_its_texts_prompts_openings_and_what_was_read(tmp_path):
    some = TEXTS.only(["calm", "neutral"])
    for step in (READING, WRITING, PRESET, STEERING):
        assert step_key(step, texts=some) != step_key(step), step
    assert step_key(STEERING, read="s") != step_key(STEERING) != step_key(STEERING, family="qwen")
    assert step_key(READING, read="s") == step_key(READING)
    opening = '[[scenarios]]\nemotion = "calm"\nopening = "{0}"\n'
    prompt = 'templates = ["{0} {{topic}}, {{emotion}}."]\ntopics = {{ a = "dogs", b = "cats" }}\n'
    prompt += 'emotions = {{ calm = "calm", angry = "angry" }}\n'
    for setting, form, step in (("scenarios", opening, STEERING), ("prompts", prompt, WRITING)):
        made = []
        for words in ("Tell of", "Write of"):
            path = tmp_path / f"{setting}.toml"
            path.write_text(form.format(words))
            made.append(step_key(step, **{setting: str(path)}))
        assert made[0] != made[1], setting


def test_a_steps_key_changes_with_the_content_of_its_judge_not_with_its_name_alone(tmp_path):
    path = tmp_path / "judge.toml"
    found = []
    for word in ("quiet", "still"):
        path.write_text(JUDGE.format(word))
        found.append(step_key(STEERING, judge=str(path)))
    assert found[0] != found[1] and step_key(STEERING) not in found


def test_steps_are_the_same_but_for_weights_only_where_nothing_else_differs():
    unloaded, other = replace(MODEL, fingerprint=None), replace(MODEL, fingerprint="g/t")
    of = {name: step_inputs(READING, CONFIG, m, TEXTS) for name, m in (("a", MODEL), ("?", unloaded), ("b", other))}
    assert same_but_for_weights(of["a"], of["?"]) and same_but_for_weights(of["?"], of["b"])
    assert not same_but_for_weights(of["a"], of["b"])
    for field in ("backend", "dtype", "device"):
        changed = step_inputs(READING, CONFIG, replace(unloaded, **{field: "other"}), TEXTS)
        assert not same_but_for_weights(of["a"], changed), field
    assert not same_but_for_weights(of["a"], step_inputs(PRESET, CONFIG, unloaded, TEXTS))


def test_the_model_of_a_key_is_its_weights_precision_and_tokens(monkeypatch):
    model = tiny()
    info = describe(model)
    own = Identity.of(model, info)
    assert own == Identity.of(model, info) and own.device == "cpu"
    assert Identity.of(model, replace(info, device="cuda:1")).device == "cuda"
    changes = [replace(info, **{f: "other"}) for f in ("fingerprint", "backend", "dtype", "first_token", "device")]
    found = [own, *(Identity.of(model, i) for i in changes)]
    for value in ([7, 8], [7]):  # an end more, from the generation settings
        with monkeypatch.context() as patched:
            settings = type("Settings", (), {"eos_token_id": value})()
            patched.setattr(model.original_model, "generation_config", settings)
            found.append(Identity.of(model, info))
    with monkeypatch.context() as patched:
        patched.setattr(model.tokenizer, "chat_template", "{{ messages[0].content }}!")
        found.append(Identity.of(model, info))
    assert len(set(found)) == len(found)


# Steps that are kept are found by their key, whole.


def stored(root, **inputs):
    def save(folder):
        folder.mkdir()
        (folder / "a.csv").write_text("1\n")

    return keep(root, "reading", {"settings": 1} | inputs, save, 1.0)


def test_a_step_is_found_under_its_own_key_alone(tmp_path):
    folder = stored(tmp_path)
    key = read_record(folder).key
    assert find(tmp_path, "reading", key) == folder and find(tmp_path, "reading", "0" * 16) is None
    stored(tmp_path, more=1)
    assert find(tmp_path, "reading", key).parent.name == ".kept"
    assert read_record(tmp_path / "reading").inputs == {"settings": 1, "more": 1}


def test_a_file_without_a_checksum_and_a_foreign_key_are_damage(tmp_path):
    folder = stored(tmp_path)
    assert step_damages(folder) == []
    (folder / "b.csv").write_text("2\n")
    assert [d.what for d in step_damages(folder)] == ["it has no checksum"]
    (folder / "b.csv").unlink()
    record = folder / "step.json"
    record.write_text(record.read_text().replace('"settings": 1', '"settings": 2'))
    assert read_record(folder) is None and step_damages(folder)


def test_a_model_in_another_form_is_no_identity():
    inputs = step_inputs(READING, CONFIG, MODEL, TEXTS)
    with pytest.raises(ArtifactError, match="model of a stored step"):
        same_but_for_weights(inputs, inputs | {"model": None})
