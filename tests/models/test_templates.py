"""Chat templates are programs of strangers: what comes out is the prompt the model expects, or one error."""

from __future__ import annotations

import json
import re
import time
from types import SimpleNamespace

import pytest
from conftest import tiny
from transformers import AutoTokenizer

from lens_emotion.errors import StimulusError
from lens_emotion.models import rendering, templates
from lens_emotion.models.access import describe
from lens_emotion.models.catalog import TEMPLATE, find_spec
from lens_emotion.models.loading import load_model, tiny_folder
from lens_emotion.models.templates import chat_prompt, check_switches, turn_end

ASK = "Write a story about Anna."
CONTENT = "{{ messages[0].content }}"
TURNS = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"


def asked(template, family="llama", **switches):
    """What a model with this template is asked."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder(find_spec(f"tiny-{family}")))
    tokenizer.chat_template = template
    model = SimpleNamespace(tokenizer=tokenizer, cfg=SimpleNamespace(model_name="own-model"))
    model.lens_emotion_template = switches
    return model


QWEN3 = CONTENT + "{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}"
GRANITE = "{% if thinking %}Think. {% endif %}" + CONTENT
LLAMA32 = "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
PARTS = "{% for part in messages[0].content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}"
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + TURNS
ONE_TURN = "{% if messages|length > 1 %}{{ raise_exception('one turn only') }}{% endif %}" + TURNS


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        (None, ASK),
        ("", ASK),
        (TURNS, f"[user]{ASK}"),
        (QWEN3, f"{ASK}<think></think>"),  # thinks unless it is told not to
        (GRANITE, ASK),
        (LLAMA32 + "{{ date_string }}: " + CONTENT, f"26 Jul 2024: {ASK}"),
        ("{{ strftime_now('%Y-%m-%d') }} " + CONTENT, f"2024-07-26 {ASK}"),
        ("{% set day = strftime_now('%-d %B %Y') %}{{ day }} " + CONTENT, f"26 July 2024 {ASK}"),
        ("    {% if true %}\n" + CONTENT + "{{ strftime_now('%A %H:%M') }}{% endif %}", f"{ASK}Friday 00:00"),
        (PARTS, ASK),  # reads a list of parts
        (NO_SYSTEM, f"[user]{ASK}"),
        (ONE_TURN, f"[user]{ASK}"),
        ({"default": TURNS, "tool_use": "?"}, f"[user]{ASK}"),
    ],
)
def test_an_instruction_goes_through_the_template_the_same_on_any_day(template, prompt):
    assert chat_prompt(asked(template), ASK) == prompt


GROWING = "{% set t = namespace(x=['ab']) %}{% for i in range(99) %}{% set t.x = GROWN %}{% endfor %}{{ t.x }}"
BOMBS = (
    "{{ 'a' * 10**9 }}",
    GROWING.replace("GROWN", "t.x ~ t.x"),
    GROWING.replace("GROWN", "t.x + t.x"),
    GROWING.replace("GROWN", "[t.x, t.x]"),
    "{{ '%1000000000d' % 1 }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ ('a' * 9999)|replace('a', 'b' * 999999) }}",
    "{{ 'a'|center(10**9) }}",
)
FOREVER = "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ raise_exception('no users here') }}", "no users here"),
        ("{% for m in messages %}", "Unexpected end of template"),
        ("{{ messages[3].content }}", "has no element 3"),
        ("{{ nobody.knows.this }}", "'nobody' is undefined"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "recursion"),
        (FOREVER, "did not end"),
        ("{% for i in range(10**9) %}{% endfor %}", "Range too big"),
        *((bomb, "MiB|did not end") for bomb in BOMBS),
        ("{{ 7**20000000 }}", "did not end"),
        ("{{ (7**20000000)|string|length }}", "did not end"),
        ("{{ lipsum(n=10**9) }}", "did not end"),
        ("{{ 'a' * 10**7 }}", "writes 10,000,000 characters"),
        (CONTENT + " " * 1_000_001, "a template has 1,000,000 at most"),
        ("{% include 'x' %}", "no loader"),
        ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "recursion"),
        ("hello", "leaves the text out"),
        (CONTENT + "{{ range(90000)|random }}", "another prompt each time"),
        (CONTENT + "{{ ['a', 'b']|random }}", "another prompt each time"),
        ({"rag": TURNS, "tool_use": TURNS}, "chat templates rag, tool_use, and none is the default"),
    ],
)
def test_whatever_goes_wrong_in_a_template_is_one_line_that_names_the_model(template, words, monkeypatch):
    monkeypatch.setattr(rendering, "SECONDS", 0.5)
    started = time.monotonic()
    with pytest.raises(StimulusError) as refused:
        chat_prompt(asked(template), ASK)
    assert re.search(words, str(refused.value)) and "own-model" in str(refused.value) and "\n" not in str(refused.value)
    assert "load_model(..., template=" in str(refused.value) and time.monotonic() - started < 3
    assert turn_end(asked(template)) == ""


@pytest.mark.parametrize(
    "template",
    [
        TURNS + " {%- if add_generation_prompt %}\n   [assistant]\n   {% endif -%}  \n",
        "{% for m in messages %}{% set r = m.role %} {%- generation -%} {{ r }}: {{ m.content }} {% endgeneration %}"
        "{% break %}{% endfor %}{{ r }}",
        "{{ bos_token }}{{ messages|tojson(indent=2) }}{{ {'ü': [1, none, 0.5]}|tojson }}{{ tools is none }}",
        "{% set n = namespace(a='<&>') %}{% set n.a = n.a + messages[0]['content'] %}{{ n.a }}{{ dict(a=1).a }}",
    ],
)
def test_what_is_rendered_is_what_transformers_renders(template):
    model = asked(template)
    theirs = {"tokenize": False, "add_generation_prompt": True}
    assert chat_prompt(model, ASK) == model.tokenizer.apply_chat_template([{"role": "user", "content": ASK}], **theirs)


def test_a_bomb_among_constants_ends_when_switches_are_looked_up(monkeypatch):
    monkeypatch.setattr(rendering, "SECONDS", 0.3)
    started = time.monotonic()
    assert templates.switches(asked("{{ 7**20000000 }}{{ later }}", later=1))["later"] == 1
    assert time.monotonic() - started < 2


def test_what_an_interrupt_leaves_behind_is_not_the_next_answer(monkeypatch):
    """The process that renders is begun again when it has gone, and when its answer was not waited for."""
    chat_prompt(asked(TURNS), ASK)
    process = rendering._running()
    process.kill()
    process.wait()
    assert chat_prompt(asked("again" + TURNS), ASK) == f"again[user]{ASK}"

    def interrupted(_):
        raise KeyboardInterrupt

    process = rendering._running()
    monkeypatch.setattr(process, "stdout", SimpleNamespace(readline=lambda: interrupted(0), close=lambda: None))
    with pytest.raises(KeyboardInterrupt):
        chat_prompt(asked("first" + TURNS), ASK)
    assert chat_prompt(asked("then" + TURNS), ASK) == f"then[user]{ASK}"


def test_one_of_several_templates_is_chosen_by_name_and_a_wrong_name_refused():
    named = {"rag": "R " + TURNS, "tool_use": TURNS}
    assert chat_prompt(asked(named, chat_template="rag"), ASK) == f"R [user]{ASK}"
    assert chat_prompt(asked(named, chat_template="own: " + CONTENT), ASK) == f"own: {ASK}"
    with pytest.raises(StimulusError, match=r"none called 'rga'"):
        chat_prompt(asked(named, chat_template="rga"), ASK)


def test_a_bos_that_transformerlens_made_up_is_not_written():
    template = "{{ bos_token }}" + CONTENT
    model = asked(template, "qwen")
    assert chat_prompt(model, ASK) == ASK
    loaded = load_model("tiny-qwen", device="cpu", template={"chat_template": template})
    assert loaded.tokenizer.bos_token and chat_prompt(loaded, ASK) == ASK


def test_switches_are_declared_overridden_and_recorded(tmp_path):
    assert find_spec("qwen3-0.6b").template == TEMPLATE and TEMPLATE["enable_thinking"] is False
    own = {"chat_template": QWEN3}
    model = load_model("tiny-llama", device="cpu", template=own | {"enable_thinking": True})
    assert chat_prompt(model, ASK) == ASK
    assert json.loads(describe(model).template) == own | {"enable_thinking": True}
    assert json.loads(describe(load_model("tiny-llama", device="cpu", template=own)).template) == (
        own | {"enable_thinking": False}
    )
    assert json.loads(describe(tiny()).template) == {}


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ({"enable_thinking": True}, "has no chat template"),
        ({"chat_template": QWEN3, "enable_thinkng": True}, "has no enable_thinkng"),
        ({"chat_template": TURNS + "{# later #}", "later": True}, "has no later"),
        ({"chat_template": TURNS + "{{ 'later' }}", "later": True}, "has no later"),
        ({"chat_template": TURNS, "m": 1}, "has no m;"),
        ({"chat_template": TURNS, "messages": []}, "has no messages"),
        ({"chat_template": TURNS + "{{ add_generation_prompt }}", "add_generation_prompt": False}, "has no add_gen"),
        ({"chat_template": TURNS + "{{ range(3) }}", "range": 1}, "has no range"),
        ({"chat_template": "rag"}, "none called 'rag'"),
        ("thinking", "not a mapping"),
        ({3: True}, "not a mapping"),
    ],
)
def test_switches_that_no_template_knows_are_refused(template, words):
    with pytest.raises(StimulusError, match=words):
        check_switches(tiny().tokenizer, "tiny-llama", template)


@pytest.mark.parametrize(
    "template",
    [
        "{% if not later is defined %}{% set later = 1 %}{% endif %}" + CONTENT,
        "{% set later = later | default(1) %}" + CONTENT,
        "{% macro a() %}{{ later }}{% endmacro %}{{ a() }}" + CONTENT,
        "{% for m in messages %}{% generation %}{{ later }}{% endgeneration %}{% break %}{% endfor %}" + CONTENT,
    ],
)
def test_a_switch_is_a_name_that_the_template_asks_for(template):
    check_switches(tiny().tokenizer, "tiny-llama", {"chat_template": template, "later": 2})


def test_a_wrong_switch_is_refused_when_the_model_is_loaded():
    with pytest.raises(StimulusError, match="has no enable_thinkng"):
        load_model("tiny-llama", device="cpu", template={"chat_template": QWEN3, "enable_thinkng": True})
