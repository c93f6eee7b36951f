"""What stands in front of a text: what the model's own tokenizer puts there, and nothing else.

TransformerLens reloads every tokenizer with `add_bos_token=True`, so that `model.tokenizer` does not tell: a model
whose tokenizer names a BOS without ever putting it in front (Qwen2.5-Coder) would be read behind a token it never saw
there. So the rule is measured on the tokenizer as it was saved. A family may be read behind a token that its tokenizer
does not add; such a convention is declared in the catalog (GPT-2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lens_emotion.errors import ModelUnavailableError
from lens_emotion.memory import pass_on
from lens_emotion.models.access import Model, architecture_of, family_of, tokenizer_of
from lens_emotion.models.catalog import FIRST_TOKENS, find_spec

PROBE = "Anna smiled at the old cat."
_KEPT = "lens_emotion_rule"  # the tokenizer's attribute that remembers what was measured


@dataclass(frozen=True)
class TokenizerRule:
    """What a tokenizer adds to a text by itself.

    Attributes:
        front, behind: ids that `tokenizer(text)` puts around the text's own.
        bos, eos: what the tokenizer calls its first and last token, before TransformerLens fills what is missing.
    """

    front: tuple[int, ...]
    behind: tuple[int, ...]
    bos: str | None
    eos: str | None


@dataclass(frozen=True)
class FirstToken:
    """Ids in front of every text, and in words by which rule."""

    ids: tuple[int, ...]
    words: str


def special_of(tokenizer: Any) -> frozenset[int]:
    """Ids of a tokenizer's special tokens: those it has a role for, and every added one that is marked special."""
    added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return frozenset(added | set(tokenizer.all_special_ids))


def measure_rule(tokenizer: Any) -> TokenizerRule:
    """What `tokenizer(text)` adds, found by comparing it with the text's own tokens.

    Works for any post-processor. An end put behind (`add_eos_token`) is measured too, to be left off: a text that is
    read here is one that could go on.

    Raises:
        ModelUnavailableError: it cannot read a plain text.
    """
    try:
        whole = list(tokenizer(PROBE).input_ids)
        own = list(tokenizer(PROBE, add_special_tokens=False).input_ids)
    except BaseException as error:  # a tokenizer in Rust that panics raises what is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        pass_on(error)
        what = " ".join(str(error).split())[:120] or type(error).__name__
        raise ModelUnavailableError(
            f"the tokenizer of {tokenizer.name_or_path} fails on a plain text ({what}); copy its files anew"
        ) from None
    special = special_of(tokenizer)
    while own and own[0] in special:  # some add their BOS whatever they are told
        own = own[1:]
    while own and own[-1] in special:
        own = own[:-1]
    starts = [i for i in range(len(whole) - len(own) + 1) if whole[i : i + len(own)] == own]
    if starts:
        start, end = starts[0], starts[0] + len(own)
    else:  # the text itself is cut otherwise next to what is added
        start = next((i for i, token in enumerate(whole) if token not in special), 0)
        end = next((len(whole) - i for i, token in enumerate(reversed(whole)) if token not in special), len(whole))
    return TokenizerRule(tuple(whole[:start]), tuple(whole[end:]), tokenizer.bos_token, tokenizer.eos_token)


def keep_rule(model: Model, rule: TokenizerRule) -> None:
    """Remember what was measured before TransformerLens had the tokenizer."""
    setattr(tokenizer_of(model), _KEPT, rule)


def rule_of(model: Model) -> TokenizerRule:
    """The rule of the model's tokenizer as it was saved; measured once."""
    tokenizer = tokenizer_of(model)
    if not isinstance(vars(tokenizer).get(_KEPT), TokenizerRule):
        keep_rule(model, measure_rule(as_saved(tokenizer)))
    return vars(tokenizer)[_KEPT]


def as_saved(tokenizer: Any) -> Any:
    """The tokenizer as its files have it; itself where they are not to be had."""
    if not tokenizer.name_or_path:
        return tokenizer
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(tokenizer.name_or_path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers and the hub raise many unrelated types here
        pass_on(error)
        return tokenizer


def first_token(model: Model) -> FirstToken:
    """What is put in front of every text for this model, and by which rule."""
    tokenizer, rule = tokenizer_of(model), rule_of(model)

    def told(ids: tuple[int, ...]) -> str:
        return "".join(map(str, tokenizer.convert_ids_to_tokens(list(ids))))

    left_off = f" ({told(rule.behind)}, which it puts behind, is left off)" if rule.behind else ""
    if rule.front:
        return FirstToken(rule.front, f"{told(rule.front)} in front: the tokenizer's rule{left_off}")
    spec = find_spec(str(getattr(model, "lens_emotion_name", "") or model.cfg.model_name))
    token, name = FIRST_TOKENS.get(spec.family if spec else family_of(architecture_of(model)), ("", ""))
    if token and rule.bos == rule.eos == token:
        return FirstToken((int(tokenizer.convert_tokens_to_ids(token)),), f"{token} in front: {name}{left_off}")
    return FirstToken((), f"nothing in front: the tokenizer adds none{left_off}")
