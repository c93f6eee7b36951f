"""Chat templates: an instruction as the model was trained to be asked, the same today and tomorrow.

A template is a program that came with the model. It may have switches (Qwen3 thinks aloud unless it is told not to),
write today's date, refuse what it is given, or never end: what comes out is a prompt that holds the instruction, or
one error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lens_emotion.errors import StimulusError
from lens_emotion.models.access import Model, tokenizer_of
from lens_emotion.models.catalog import TEMPLATE, find_spec
from lens_emotion.models.first_token import rule_of
from lens_emotion.models.rendering import RenderError, names_in, render

GIVEN = frozenset({"messages", "conversation", "add_generation_prompt", "raise_exception", "strftime_now"})
ANSWER = "an answer"


def has_chat_template(model: Model) -> bool:
    return bool(_switches(model).get("chat_template") or getattr(tokenizer_of(model), "chat_template", None))


def chat_prompt(model: Model, instruction: str | Sequence[Mapping[str, str]]) -> str:
    """The instruction as the model expects it: through its chat template where it has one, else as it stands.

    Args:
        instruction: what the user says; or the turns so far, `[{"role": "user", "content": "..."}, ...]`, which need a
            template.

    Raises:
        StimulusError: the template refuses it, fails, does not end, or leaves the instruction out; or there are several
            templates and none is the default.
    """
    if not isinstance(instruction, str):
        return _holding(model, _turns(model, instruction), add_generation_prompt=True)
    if not has_chat_template(model):
        return instruction
    return _holding(model, [("user", instruction)], add_generation_prompt=True)


def check_template(model: Model) -> None:
    """Raises StimulusError where the model has no chat template."""
    if not has_chat_template(model):
        raise StimulusError(
            f"{_name(model)} has no chat template (a base model?); give prompts as they stand, without chat, or a "
            "template with load_model(..., template={'chat_template': '...'})"
        )


def _turns(model: Model, given: Any) -> list[tuple[str, str]]:
    """Turns in transformers' form as (role, text)."""
    check_template(model)
    try:
        turns = [(turn["role"], turn["content"]) for turn in given]
    except (TypeError, KeyError, IndexError):
        turns = []
    if not turns or not all(isinstance(part, str) for turn in turns for part in turn):
        raise StimulusError(
            f"{' '.join(repr(given).split())[:60]} are no turns; give [{{'role': 'user', 'content': 'a text'}}, ...]"
        )
    return turns


def turn_end(model: Model) -> str:
    """What the template writes behind an assistant's words; empty without a template, or if it takes no second turn."""
    if not has_chat_template(model):
        return ""
    turns = [("user", "a question"), ("assistant", ANSWER)]
    try:
        return _holding(model, turns, add_generation_prompt=False).rpartition(ANSWER)[2]
    except StimulusError:
        return ""


def _holding(model: Model, turns: Sequence[tuple[str, str]], *, add_generation_prompt: bool) -> str:
    """Turns (role, text) through the template, which must give the last text back; some read lists of parts only."""
    wrapped: tuple[Callable[[str], Any], ...] = (str, lambda text: [{"type": "text", "text": text}])
    written = ""
    for wrap in wrapped:
        said = [{"role": role, "content": wrap(text)} for role, text in turns]
        written = _rendered(model, said, add_generation_prompt)
        if turns[-1][1].strip() in written:
            return written
    raise _refused(model, f"it leaves the text out and writes {written[:80]!r}")


def _rendered(model: Model, turns: list[dict[str, Any]], add_generation_prompt: bool) -> str:
    """The turns through the model's chat template, with its switches.

    Raises:
        StimulusError: whatever goes wrong in it, in one line.
    """
    settings = _switches(model)
    source = _source(tokenizer_of(model), _name(model), settings.pop("chat_template", None))
    if rule_of(model).bos is None:
        settings.setdefault("bos_token", "")  # TransformerLens calls the EOS a BOS where there is none
    if re.search("[\ud800-\udfff]", source):
        raise _refused(model, "it holds half of a surrogate pair, which is no text")
    said = {"messages": turns, "tools": None, "documents": None, "add_generation_prompt": add_generation_prompt}
    try:
        times = 16 if re.search("random|lipsum", source) else 2
        written = render(source, {**tokenizer_of(model).special_tokens_map, **said, **settings}, times)
    except RenderError as error:
        raise _refused(model, str(error)) from None
    if len(written) > 1:
        raise _refused(model, "it writes another prompt each time (a random choice?)")
    if re.search("[\ud800-\udfff]", made := written.pop()):
        raise _refused(model, "it writes half of a surrogate pair, which is no text")
    return made


def check_switches(tokenizer: Any, name: str, asked: Any) -> None:
    """Refuse switches of the user's that the template of a model of this name does not know.

    Raises:
        StimulusError: no names with values, no template, several without a default, or none that names the switch.
    """
    if not isinstance(asked, Mapping) or not all(isinstance(switch, str) for switch in asked):
        raise StimulusError(f"template={asked!r} is not a mapping of switches; give {{'enable_thinking': True}}")
    own = set(asked) - {"chat_template"}
    if own and not (asked.get("chat_template") or getattr(tokenizer, "chat_template", None)):
        raise StimulusError(f"template={asked}, but {name} has no chat template; leave it out")
    if unknown := sorted(own - _named(_source(tokenizer, name, asked.get("chat_template"))) if asked else ()):
        raise StimulusError(
            f"the chat template of {name} has no {', '.join(unknown)}; give switches that it names "
            "(tokenizer.chat_template)"
        )


def switches(model: Model) -> dict[str, Any]:
    """The switches in force that the model's template names: the catalog's, then the user's; none without template."""
    settings = _switches(model)
    asked = settings.pop("chat_template", None)
    if not has_chat_template(model):
        return {}
    try:
        source = _source(tokenizer_of(model), _name(model), asked)
    except StimulusError:  # several templates, none the default: told when one is needed
        return {}
    named = {name: value for name, value in settings.items() if name in _named(source)}
    return named | ({"chat_template": asked} if asked else {})


def _switches(model: Model) -> dict[str, Any]:
    spec = find_spec(_name(model))
    return {**(spec.template if spec else TEMPLATE), **(getattr(model, "lens_emotion_template", None) or {})}


def _source(tokenizer: Any, name: str, asked: str | None) -> str:
    """The template's text: the one asked for by name, the text given instead, the default, or the only one."""
    own = tokenizer.chat_template
    named = own if isinstance(own, Mapping) else {"default": own} if own else {}
    chosen = asked if asked and "{" in asked else named.get(asked or "default")
    if chosen is None:
        raise StimulusError(
            f"{name} has the chat templates {', '.join(named) or '(none)'}, and "
            f"{f'none called {asked!r}' if asked else 'none is the default'}; choose one with "
            f"load_model(..., template={{'chat_template': {next(iter(named), '{{ a Jinja text }}')!r}}})"
        )
    return str(chosen)


def _named(source: str) -> set[str]:
    """The names that a template asks to be given, but for those that it always gets."""
    try:
        return names_in(source) - GIVEN
    except RenderError:  # told when it is used
        return set(re.findall(r"[A-Za-z_]\w*", source)) - GIVEN


def _name(model: Model) -> str:
    return str(getattr(model, "lens_emotion_name", "") or model.cfg.model_name)


def _refused(model: Model, why: str) -> StimulusError:
    return StimulusError(
        f"the chat template of {_name(model)} does not take the prompt: {why}; give the model another template with "
        "load_model(..., template={'chat_template': '...'}), or switches that it names"
    )
