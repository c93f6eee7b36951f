"""What stands in front of a text is the tokenizer's own rule, or a convention that the catalog declares; special tokens
are never pooled, and every end stops a text."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from conftest import BACKENDS, tiny
from transformers import AutoTokenizer

from lens_emotion.errors import UnsupportedModelError
from lens_emotion.extraction.comprehension import preview
from lens_emotion.models.access import describe
from lens_emotion.models.catalog import CATALOG, find_spec
from lens_emotion.models.decoding import ends_of, generate_tokens, stop_ids
from lens_emotion.models.loading import load_model, tiny_folder
from lens_emotion.models.prompting import decode_text, encode, special_ids, tokenise_prompt, tokenise_text

BOS, EOS, TURN, MARK = "<|begin_of_text|>", "<|end_of_text|>", "<end_of_turn>", "<start_of_turn>"
TEXT = "Anna was in the kitchen."
TWO, BEHIND = [BOS, BOS, "$A", EOS], ["$A", EOS]


def folder_of(path, name="tiny-llama", post=None, markers=(), generation=None, **config):
    """A copy of a tiny model with another tokenizer: its post-processor, added special tokens, and settings."""
    folder = shutil.copytree(tiny_folder(find_spec(name)), path / name)
    file = folder / "tokenizer.json"
    made = json.loads(file.read_text())
    ids = {token["content"]: token["id"] for token in made["added_tokens"]}
    if post is not None:
        parts = [
            {"Sequence": {"id": "A", "type_id": 0}} if p == "$A" else {"SpecialToken": {"id": p, "type_id": 0}}
            for p in post
        ]
        named = {p: {"id": p, "ids": [ids[p]], "tokens": [p]} for p in post if p != "$A"}
        made["post_processor"] = {"type": "TemplateProcessing", "single": parts, "pair": parts, "special_tokens": named}
    for marker in markers:  # in the place of ordinary tokens that the texts here do not need
        old = max(made["model"]["vocab"], key=made["model"]["vocab"].get)
        index = made["model"]["vocab"].pop(old)
        made["model"]["merges"] = [m for m in made["model"]["merges"] if "".join(m) != old]
        made["model"]["vocab"][marker] = index
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        made["added_tokens"].append({"id": index, "content": marker, "special": True} | flags)
    file.write_text(json.dumps(made))
    settings = json.loads((folder / "tokenizer_config.json").read_text()) | config
    (folder / "tokenizer_config.json").write_text(json.dumps({k: v for k, v in settings.items() if v is not None}))
    if generation:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    return str(folder)


RULES = {  # what the tokenizer's files say -> what stands in front, in words
    "names a BOS, adds none": ({"post": ["$A"]}, [], "nothing in front: the tokenizer adds none"),
    "add_bos_token = false": ({"post": ["$A"], "add_bos_token": False}, [], "the tokenizer adds none"),
    "both say so": ({"post": [BOS, "$A"], "add_bos_token": True}, [BOS], "the tokenizer's rule"),
    "post-processor": ({"post": [BOS, "$A"]}, [BOS], f"{BOS} in front: the tokenizer's rule"),
    "no BOS, yet add_bos_token": ({"post": ["$A"], "bos_token": None, "add_bos_token": True}, [], "adds none"),
    "two in front and an end behind": ({"post": TWO}, [BOS, BOS], f"{EOS}, which it puts behind, is left off"),
    "an end behind alone": ({"post": BEHIND}, [], f"{EOS}, which it puts behind, is left off"),
    "BOS equal to EOS, no GPT-2": ({"post": ["$A"], "bos_token": EOS}, [], "the tokenizer adds none"),
}


@pytest.mark.parametrize("rule", RULES)
def test_the_first_token_is_what_the_tokenizer_puts_in_front(rule, tmp_path):
    made, front, words = RULES[rule]
    for backend in BACKENDS[: 2 if rule == "names a BOS, adds none" else 1]:
        model = load_model(folder_of(tmp_path / backend, **made), backend=backend, device="cpu")
        own = list(model.tokenizer(TEXT, add_special_tokens=False).input_ids)
        ids = model.tokenizer.convert_tokens_to_ids(front)
        assert encode(model, TEXT) == [*ids, *own]
        as_saved = list(AutoTokenizer.from_pretrained(model.lens_emotion_source[0])(TEXT).input_ids)
        assert encode(model, TEXT) == [i for i in as_saved if i != model.tokenizer.eos_token_id]
        assert encode(model, "".join(front) + TEXT) == [*ids, *own]  # never twice
        assert words in preview(model, TEXT).first and words in preview(model, TEXT).summary()
        assert words in describe(model).first_token
        content = tokenise_text(model, TEXT).content
        assert sum(content) == len(own) - (not front)


def test_a_template_that_writes_the_bos_gets_no_second_one(tmp_path):
    for post, template in ((["$A"], "{{ bos_token }}"), ([BOS, "$A"], "{{ bos_token }}"), ([BOS, "$A"], "")):
        folder = folder_of(tmp_path / f"{len(post)}{len(template)}", post=post)
        model = load_model(folder, device="cpu", template={"chat_template": template + "[{{ messages[0].content }}]"})
        ids = tokenise_prompt(model, TEXT).ids
        bos = model.tokenizer.convert_tokens_to_ids(BOS)
        assert ids[0] == bos and ids.count(bos) == 1


GPT2 = "<|endoftext|>"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, f"{GPT2} in front: GPT-2's convention"),
        ({"post": [GPT2, "$A"]}, f"{GPT2} in front: the tokenizer's rule"),
        ({"bos_token": None}, "nothing in front"),  # not the tokenizer GPT-2 was trained with
    ],
)
def test_gpt2_has_a_declared_convention_also_in_a_folder(change, words, tmp_path):
    model = load_model(folder_of(tmp_path, "tiny-gpt2", **change), device="cpu")
    assert preview(model, TEXT).first.startswith(words)
    assert (encode(model, TEXT)[0] == 0) == (GPT2 in words)
    if not change:
        assert encode(model, TEXT) == encode(tiny("tiny-gpt2"), TEXT)


def test_the_catalog_declares_a_first_token_for_gpt2_alone():
    assert {spec.family for spec in CATALOG if spec.first_token} == {"gpt2"}
    assert find_spec("openai-community/gpt2").first_token == GPT2


def test_a_model_that_the_user_booted_follows_the_rule_of_its_files(tmp_path):
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoModelForCausalLM

    folder = folder_of(tmp_path, post=["$A"])
    hf_model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    own = AutoTokenizer.from_pretrained(folder)
    model = TransformerBridge.boot_transformers("own", hf_model=hf_model, tokenizer=own, device="cpu")
    assert model.tokenizer(TEXT).input_ids[0] == 0  # TransformerLens adds what the tokenizer does not
    assert encode(model, TEXT) == list(own(TEXT).input_ids)


def test_every_token_marked_special_is_left_out(tmp_path):
    model = load_model(folder_of(tmp_path, markers=(MARK, TURN)), device="cpu")
    marked = {model.tokenizer.convert_tokens_to_ids(token) for token in (MARK, TURN)}
    assert not marked & set(model.tokenizer.all_special_ids) and marked <= special_ids(model)
    read = tokenise_text(model, f"{MARK}Anna smiled.{TURN} Ben")
    assert {i for i, taken in zip(read.ids, read.content, strict=True) if taken}.isdisjoint(marked)
    assert decode_text(model, read.ids).split() == ["Anna", "smiled.", "Ben"]


@pytest.mark.parametrize("template", [None, "{% for m in messages %}{{ m.content }}" + TURN + "\n{% endfor %}"])
def test_a_turn_ends_where_the_template_ends_it(template, tmp_path):
    turn = {"chat_template": template} if template else {}
    model = load_model(folder_of(tmp_path, markers=(MARK, TURN), **turn), device="cpu")
    assert model.tokenizer.convert_tokens_to_ids(TURN) in stop_ids(model)
    assert model.tokenizer.convert_tokens_to_ids(MARK) not in stop_ids(model)


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no') }}",
        "{% if messages|length > 1 %}{{ raise_exception('one turn') }}{% endif %}" + MARK + "{{ messages[0].content }}",
        MARK + "{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}" + TURN + "{% endfor %}",
        MARK + "nothing of it",
    ],
)
def test_a_template_that_takes_no_second_turn_leaves_the_families_own_ends(template, tmp_path):
    model = load_model(folder_of(tmp_path, markers=(MARK, TURN), chat_template=template), device="cpu")
    assert set(model.tokenizer.convert_ids_to_tokens(stop_ids(model).tolist())) == {EOS, TURN}


def test_a_turn_may_end_with_any_marker(tmp_path):
    template = "{% for m in messages %}{{ m.content }}<|done|>{% endfor %}"
    model = load_model(folder_of(tmp_path, markers=("<|done|>", TURN), chat_template=template), device="cpu")
    ends = model.tokenizer.convert_ids_to_tokens(stop_ids(model).tolist())
    assert set(ends) == {EOS, "<|done|>"}


@pytest.mark.parametrize("backend", BACKENDS)
def test_several_ends_in_the_generation_settings_hold_on_both_backends(backend, tmp_path):
    point = encode(tiny(), ".")[-1]
    folder = folder_of(tmp_path, generation={"eos_token_id": [1, point]})
    model, free = load_model(folder, backend=backend, device="cpu"), tiny("tiny-llama", backend)
    assert stop_ids(model).tolist() == sorted({1, point})
    ids = encode(model, "Anna was in the kitchen and")
    whole = generate_tokens(free, [ids], 40)[0]
    assert point in whole and generate_tokens(model, [ids], 40)[0] == whole[: whole.index(point)]


def test_a_pad_beyond_the_vocabulary_is_not_fed():

    from lens_emotion.models.prompting import pad_id

    tokenizer = SimpleNamespace(pad_token_id=100, eos_token_id=7)
    assert pad_id(SimpleNamespace(tokenizer=tokenizer, cfg=SimpleNamespace(d_vocab=100))) == 7


def test_tiny_models_read_what_they_always_read():
    first = {name: encode(tiny(name), TEXT)[:2] for name in ("tiny-gpt2", "tiny-gemma", "tiny-qwen", "tiny-llama")}
    bos = {name: ids[0] for name, ids in first.items() if ids[0] < 3}
    assert bos == {"tiny-gpt2": 0, "tiny-gemma": 1, "tiny-llama": 0}
    assert torch.equal(stop_ids(tiny("tiny-gemma")), torch.tensor([2]))


@pytest.mark.parametrize("end", [10**6, -1, [2, 10**6]])
def test_an_end_token_that_no_text_can_hold_is_refused(end):
    settings, cfg = SimpleNamespace(eos_token_id=end), SimpleNamespace(d_vocab=100)
    model = SimpleNamespace(lens_emotion_generation=settings, cfg=cfg, tokenizer=tiny().tokenizer)
    with pytest.raises(UnsupportedModelError, match="generation_config"):
        ends_of(model)
