"""What a study needs is looked for before any model runs: it used to be missed after hours."""

from __future__ import annotations

import json
import shutil

import pytest

from lens_emotion.errors import ContextLengthError, LensEmotionError, UnsupportedModelError
from lens_emotion.models.catalog import find_spec
from lens_emotion.models.checkpoint import check_encoder
from lens_emotion.models.loading import tiny_folder
from lens_emotion.run.config import WRITING, ConfigError, StudyConfig, asked_for
from lens_emotion.run.inputs import (
    _check_lengths,
    check_inputs,
    check_model,
    check_texts,
    prompts_for,
    scenarios_for,
    texts_for,
)
from lens_emotion.steering.judges import encoder_judge
from lens_emotion.stimuli.library import load_stimuli
from lens_emotion.stimuli.sets import Stimulus, StimulusSet
from lens_emotion.study.pipeline import run_study


def model_folder(home, spoil):
    folder = home / "mine"
    shutil.copytree(tiny_folder(find_spec("tiny-llama")), folder)
    spoil(folder)
    return str(folder)


SPOILT = {
    "no config": lambda f: (f / "config.json").unlink(),
    "config is no JSON": lambda f: (f / "config.json").write_text("{"),
    "unknown architecture": lambda f: (f / "config.json").write_text('{"model_type": "no-such-kind"}'),
    "no tokenizer": lambda f: [p.unlink() for p in f.glob("token*")],
    "tokenizer is no JSON": lambda f: (f / "tokenizer.json").write_text("{"),
    "weights truncated": lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:5000]),
}


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch):
    monkeypatch.setattr("lens_emotion.study.one_model.load_model", lambda *a, **k: pytest.fail("a model was loaded"))


@pytest.mark.parametrize("what", SPOILT)
def test_a_second_model_that_is_not_whole(what, tmp_path):
    config = StudyConfig(models=("tiny-llama", model_folder(tmp_path, SPOILT[what])))
    with pytest.raises(LensEmotionError, match=r"mine|safetensors"):
        run_study(config, tmp_path / "run")


JUDGES = {
    "nowhere": None,
    "nowhere.toml": None,
    "encoder.toml": 'kind = "encoder"\nmodel = "nowhere"\n',
    "classifier.toml": 'kind = "classifier"\nmodel = "nowhere"\n',
    "words.toml": 'kind = "words"\n[words.en]\nhappy = ["glad"]\nsad = ["low"]\n',
}


@pytest.mark.parametrize("name", JUDGES)
def test_a_judge_that_is_not_there_or_knows_too_little(name, tmp_path):
    path = tmp_path / name
    if JUDGES[name]:
        path.write_text(JUDGES[name], encoding="utf-8")
    with pytest.raises(LensEmotionError, match=r"judge|classifier|cannot read"):
        run_study(StudyConfig(models=("tiny-llama",), judge=str(path)), tmp_path / "run")


@pytest.mark.parametrize("what", ["scenarios", "prompts"])
@pytest.mark.parametrize("name", ["nowhere", "nowhere.toml", "notes.txt"])
def test_files_that_are_not_there_do_not_pass_for_none_given(what, name, tmp_path):
    with pytest.raises(LensEmotionError, match=r"nowhere|notes"):
        check_inputs(StudyConfig(models=("tiny-llama",), **{what: str(tmp_path / name)}))


def test_a_device_counts_where_the_model_runs():
    config = StudyConfig(models=("tiny-llama",), device="cuda")
    check_inputs(config, here=False)


def texts(*labels):
    return StimulusSet("own", tuple(Stimulus(str(i), f"text {i}", e, t) for i, (e, t) in enumerate(labels)))


NEUTRAL = [("neutral", t) for t in "abc"]
HOPELESS = {
    "two neutral texts": [*[(e, t) for e in ("happy", "sad") for t in "ab"], *NEUTRAL[:2]],
    "one emotion": [("happy", "a"), ("happy", "b"), *NEUTRAL],
    "one topic": [("happy", "a"), ("sad", "a"), *NEUTRAL],
    "an emotion on one topic": [("happy", "a"), ("happy", "b"), ("sad", "a"), *NEUTRAL],
}


@pytest.mark.parametrize("what", HOPELESS)
def test_texts_that_no_study_can_hold_out(what):
    with pytest.raises(LensEmotionError):
        check_texts(texts(*HOPELESS[what]))


@pytest.mark.parametrize("name", ["passages", "world-en", "world-en-zh"])
def test_the_packages_own_texts_pass(name):
    check_texts(load_stimuli(name))


DECODERS = {
    "a tiny decoder": lambda f: None,
    "named by its head": lambda f: config_with(f, architectures=["GPT2LMHeadModel"]),
    "named by its type": lambda f: config_with(f, architectures=["LlamaForCausalLM"], tie_word_embeddings=False),
    "an encoder with a decoder": lambda f: config_with(f, is_encoder_decoder=True),
    "of pictures": lambda f: config_with(f, architectures=["ViTModel"], image_size=224),
}


def config_with(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


@pytest.mark.parametrize("form", ["folder", "file"])
@pytest.mark.parametrize("what", DECODERS)
def test_what_embeds_no_texts_is_refused_as_a_judge(what, form, tmp_path):
    """It used to end in a TypeError when the model had been read."""
    judge = model_folder(tmp_path, DECODERS[what])
    if form == "file":
        (tmp_path / "judge.toml").write_text('kind = "encoder"\nmodel = "mine"\n', encoding="utf-8")
        judge = str(tmp_path / "judge.toml")
    with pytest.raises(UnsupportedModelError, match=r"cannot judge.*sentence encoder"):
        check_inputs(StudyConfig(models=("tiny-llama",), judge=judge))
    with pytest.raises(UnsupportedModelError, match="cannot judge"):
        encoder_judge(tmp_path / "mine", load_stimuli("passages"))


def test_a_decoder_that_sentence_transformers_made_an_encoder_of_may_judge():
    check_encoder({"architectures": ["Qwen3ForCausalLM"]}, "embedding", sentences=True)
    check_encoder({"architectures": ["BertModel"]}, "minilm", sentences=False)


LONG = "The door opened and Anna went out. " * 60  # more than the 256 tokens of tiny-llama


def test_openings_and_what_is_to_be_written_behind_them_fit_the_context(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(f'[[scenarios]]\nid = "far"\nemotion = "happy"\nopening = "{LONG}"\n', encoding="utf-8")
    config = StudyConfig(models=("tiny-llama",), scenarios=str(path))
    with pytest.raises(ContextLengthError, match=r"scenario 'far' of .*own\.toml has \d+ tokens and 40 new .*256"):
        run_study(config, tmp_path / "run")
    with pytest.raises(ContextLengthError, match=r"scenario .* 5000 new ones"):
        check_inputs(StudyConfig(models=("tiny-llama",), steered_tokens=5000))
    check_inputs(StudyConfig(models=("tiny-llama",), steered_tokens=5000, steering=False))


def test_texts_and_prompts_fit_the_context():
    room = check_model("tiny-llama", StudyConfig(models=("tiny-llama",)))
    room.check("text 'a'", LONG[:600])  # by its bytes too long, by its tokens not
    with pytest.raises(ContextLengthError, match="text 'a' has"):
        room.check("text 'a'", LONG)
    items = (*load_stimuli("world-en").items, Stimulus("far", LONG, "happy", "garden"))
    with pytest.raises(ContextLengthError, match="text 'far' of 'own'"):
        _check_lengths(room, StudyConfig(models=("tiny-llama",)), StimulusSet("own", items))


COUNTS = ("story_tokens", "jeong_tokens", "steered_tokens", "n_permutations")


@pytest.mark.parametrize("most", [10**400, 10**9])
@pytest.mark.parametrize("name", COUNTS)
def test_counts_without_end(name, most):
    with pytest.raises(ConfigError, match=rf"{name}: got (1000|a number of more).*give at most \d+$"):
        StudyConfig(**{name: most})


@pytest.mark.parametrize("alone", [("calm",), ("neutral",), ("calm", "neutral")])
def test_a_study_of_one_emotion_says_what_to_add(alone):
    with pytest.raises(LensEmotionError, match=r"tells emotions from one another.* add one, such as .*happy"):
        check_inputs(StudyConfig(models=("tiny-llama",), emotions=alone))


def test_a_study_of_some_emotions_reads_asks_for_and_steers_those_alone():
    config, _ = asked_for(["tiny-llama"], None, {"emotions": "calm, angry,sad"})
    assert config.emotions == ("calm", "angry", "sad")
    texts = texts_for("tiny-llama", None, config.emotions)
    assert set(texts.emotions) == {"calm", "angry", "sad"} and "neutral" in {s.emotion for s in texts.items}
    assert {p.emotion for p in prompts_for(WRITING, config, texts)} == {"calm", "angry", "sad", "neutral"}
    assert {s.emotion for s in scenarios_for(config, texts)} <= {"calm", "angry", "sad"}
    assert texts_for("tiny-llama", None).emotions != texts.emotions
    with pytest.raises(LensEmotionError, match="no emotion 'clam'"):
        check_inputs(StudyConfig(models=("tiny-llama",), emotions=("clam", "angry")))
    for wrong in ("", "calm,calm", "calm,,sad"):
        with pytest.raises(ConfigError, match="emotion"):
            asked_for(["tiny-llama"], None, {"emotions": wrong})
