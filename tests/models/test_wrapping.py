"""A model object of one's own, from whichever library, becomes a model here, and stays what it was."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import TINY_NAMES, needs_hooked, plain, tiny
from torch import nn

import lens_emotion as le
from lens_emotion.errors import LensEmotionError
from lens_emotion.models.access import describe
from lens_emotion.models.loading import resolve, tokenizer_of_source


def tokenizer(name="tiny-llama"):
    return tokenizer_of_source(resolve(name), None)


def own(name="tiny-llama"):
    """A user's model: as transformers loads it, but in training mode."""
    made = copy.deepcopy(plain(name)).train()
    made.set_attn_implementation("sdpa" if made._supports_sdpa else "eager")
    return made


class Adapter(nn.Module):
    """A layer as PEFT puts one in the place of another, with the names that users of it see."""

    def __init__(self, base, scale=0.5):
        super().__init__()
        self.base_layer, self.merged = base, False
        self.added = nn.Parameter(scale * torch.linspace(-1, 1, base.weight.numel()).view_as(base.weight))
        self.active_adapters, self.disable_adapters = ["mine"], False

    @property
    def weight(self):
        return self.base_layer.weight

    def get_base_layer(self):
        return self.base_layer

    def forward(self, x):
        held = self.base_layer(x)
        if self.merged or self.disable_adapters:
            return held
        embeds = isinstance(self.base_layer, nn.Embedding)
        return held + (nn.functional.embedding(x, self.added) if embeds else nn.functional.linear(x, self.added))

    def merge(self):
        self.base_layer.weight.data += self.added * (not self.merged)
        self.merged = True

    def unmerge(self):
        self.base_layer.weight.data -= self.added
        self.merged = False


class Instead(nn.Module):
    """PEFT's `modules_to_save`: a whole layer in the place of another."""

    def __init__(self, base):
        super().__init__()
        self.original_module, self.modules_to_save = base, nn.ModuleDict({"mine": copy.deepcopy(base)})
        self.modules_to_save["mine"].weight.data *= 1.5
        self.active_adapters, self.disable_adapters = ["mine"], False

    def forward(self, x):
        return (self.original_module if self.disable_adapters else self.modules_to_save["mine"])(x)


def adapted():
    """A model with adapters in it, as `PeftModel.get_base_model()` gives it; the embedding is tied to the head."""
    made = own()
    block = made.model.layers[2]
    block.self_attn.q_proj, block.mlp.down_proj = Adapter(block.self_attn.q_proj), Adapter(block.mlp.down_proj)
    made.model.embed_tokens, made.model.norm = Adapter(made.model.embed_tokens, 0.1), Instead(made.model.norm)
    return made


def peft(base, **config):
    """What `get_peft_model` gives back, as far as it is looked at."""
    made = nn.Module()
    made.inner, made.peft_config, made.get_base_model = base, {"mine": SimpleNamespace(**config)}, lambda: base
    return made


def same(model, other, text="Anna was calm at the market."):
    with torch.inference_mode():
        return torch.equal(model.run_with_cache(text)[1]["blocks.5.hook_resid_post"],
                           other.run_with_cache(text)[1]["blocks.5.hook_resid_post"])  # fmt: skip


@pytest.mark.parametrize("name", TINY_NAMES)
def test_a_plain_model_is_wrapped_into_what_load_model_gives_and_stays_as_it_was(name):
    given = own(name)
    names, ids, attention = list(given.state_dict()), torch.tensor([[5, 6, 7]]), given.config._attn_implementation
    before = given.eval()(ids).logits
    made = le.wrap(given.train(), tokenizer(name))
    assert describe(made) == describe(tiny(name))  # the same fingerprint, name, first token, template
    assert same(made, tiny(name))
    assert given.training and given.config._attn_implementation == attention and list(given.state_dict()) == names
    assert torch.equal(given.eval()(ids).logits, before)
    held = {p.data_ptr() for p in made.original_model.parameters()}
    assert all(p.data_ptr() in held for p in given.parameters())  # nothing is held twice


WAYS = {
    "model": lambda m, t: (m, t),
    "its tokenizer found by its name": lambda m, t: (m,),
    "a processor": lambda m, t: (m, SimpleNamespace(tokenizer=t)),
    "a pipeline": lambda m, t: (SimpleNamespace(model=m, tokenizer=t),),
    "compiled": lambda m, t: (torch.compile(m), t),
    "a subclass": lambda m, t: (type("Mine", (type(m),), {})(m.config).to(m.dtype), t),
    "PEFT": lambda m, t: (peft(m), t),
}


@pytest.mark.parametrize("way", WAYS)
def test_it_may_come_in_any_of_these(way):
    made = le.wrap(*WAYS[way](own(), tokenizer()))
    assert made.cfg.n_layers == 6 and describe(made).backend == "bridge"


@pytest.mark.parametrize("backend", ["bridge", pytest.param("hooked", marks=needs_hooked)])
def test_a_model_of_transformerlens_is_given_back(backend):
    assert le.wrap(tiny("tiny-llama", backend)) is tiny("tiny-llama", backend)


def test_active_adapters_are_merged_into_copies_and_disabled_ones_left_out():
    given = adapted()
    before = {name: held.clone() for name, held in given.state_dict().items()}
    made = le.wrap(peft(given), tokenizer())  # raises if it computed anything else
    assert describe(made).name == "tiny-llama+mine"
    assert describe(made).fingerprint != describe(tiny()).fingerprint and not same(made, tiny())
    assert all(torch.equal(held, before[name]) for name, held in given.state_dict().items())
    for layer in (m for m in given.modules() if isinstance(m, Adapter | Instead)):
        layer.disable_adapters = True
    off = le.wrap(given, tokenizer())
    assert describe(off) == describe(tiny()) and same(off, tiny())


def test_merged_adapters_and_those_that_are_merged_here_are_one_model():
    given, merged = adapted(), adapted()
    given.model.embed_tokens = given.model.embed_tokens.base_layer
    merged.model.embed_tokens, merged.model.norm = given.model.embed_tokens, merged.model.norm.modules_to_save["mine"]
    merged.lm_head.weight = given.lm_head.weight = given.model.embed_tokens.weight
    for layer in (merged.model.layers[2].self_attn.q_proj, merged.model.layers[2].mlp.down_proj):
        layer.merge()
    one, two = le.wrap(given, tokenizer()), le.wrap(merged, tokenizer(), name="mine")
    assert describe(one).fingerprint == describe(two).fingerprint and describe(two).name == "mine"


class Packed(Adapter):
    def __init__(self, base):
        super().__init__(base)
        base.weight = nn.Parameter(base.weight.data.to(torch.int8), requires_grad=False)

    def forward(self, x):
        return nn.functional.linear(x, self.base_layer.weight.to(x))


def packed():
    made = own()
    made.model.layers[0].mlp.up_proj = Packed(made.model.layers[0].mlp.up_proj)
    return made


def on_meta():
    with torch.device("meta"):
        return type(own())(own().config)


def holder():
    made = nn.Module()
    made.pretrained_model = own()
    return made


def encoder():
    from transformers import BertConfig, BertForMaskedLM

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    return BertForMaskedLM(BertConfig(vocab_size=9, **sizes))


def larger():
    made = tokenizer()
    made.__class__ = type("Larger", (type(made),), {"vocab_size": 10**6})
    return made


WRONG = {
    "a name": (lambda: ("gpt2",), r"'gpt2' is a name.*load_model\('gpt2'\)"),
    "a path": (lambda: (Path("x/y"),), r"load_model\('x/y'\)"),
    "swapped": (lambda: (tokenizer(), own()), r"model first: le.wrap\(model, tokenizer\)"),
    "a class": (lambda: (type(own()),), "LlamaForCausalLM.from_pretrained"),
    "nothing": (lambda: (None,), "a NoneType is no causal model"),
    "a body": (lambda: (own().model, tokenizer()), "LlamaModel has no head.*AutoModelForCausalLM"),
    "an encoder": (lambda: (encoder(), tokenizer()), "BertForMaskedLM"),
    "a wrapper": (lambda: (holder(), tokenizer()), "le.wrap\\(model.pretrained_model, tokenizer\\)"),
    "no weights": (lambda: (on_meta(), tokenizer()), "not in memory"),
    "prompts": (lambda: (peft(own(), is_prompt_learning=True), tokenizer()), "'mine' puts tokens of its own in front"),
    "packed": (lambda: (packed(), tokenizer()), "mlp.up_proj cannot be merged.*8 or 4 bit.*bfloat16"),
    "a named tokenizer": (lambda: (own(), "gpt2"), r"the tokenizer is 'gpt2', a name.*AutoTokenizer"),
    "another tokenizer": (lambda: (own(), larger()), "tokenizer has 1,000,000 tokens"),
}  # fmt: skip


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_wrapped_is_answered_with_what_can(what):
    given, said = WRONG[what]
    with pytest.raises(LensEmotionError, match=said):
        le.wrap(*given())


def test_a_tokenizer_that_may_be_another_models_is_doubted():
    short = copy.deepcopy(tokenizer("tiny-gpt2"))
    short.eos_token = None
    with pytest.warns(UserWarning, match="has no end of text; is it this model's"):
        le.wrap(own("tiny-gpt2"), short)


def test_a_model_without_a_tokenizer_asks_for_one():
    given = own()
    given.config._name_or_path = ""
    with pytest.raises(LensEmotionError, match=r"no tokenizer.*le.wrap\(model, tokenizer\)"):
        le.wrap(given)
    assert describe(le.wrap(given, tokenizer())).name == "LlamaForCausalLM"


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda: plain("tiny-llama"), "LlamaForCausalLM is a model object.*le.wrap"),
        (lambda: peft(plain("tiny-llama")), "le.wrap"),
        (lambda: SimpleNamespace(model=plain("tiny-llama")), "le.wrap"),
        (tiny, "is a loaded model: use it as it is"),
        (lambda: None, "names no model"),
    ],
    ids=["plain", "peft", "pipeline", "bridge", "none"],
)
def test_load_model_answers_an_object_where_a_name_belongs(given, said):
    with pytest.raises(LensEmotionError, match=said):
        le.load_model(given())


DOORS = {
    "describe": le.describe, "comprehension": le.extract_comprehension, "generation": le.extract_generation,
    "poolings": lambda model: le.extract_poolings(model, [le.story_mean()]),
    "preview": lambda model: le.preview(model, "Anna was calm."), "check": lambda model: le.check(model),
}  # fmt: skip


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("door", DOORS)
def test_every_door_says_how_an_object_comes_in(door):
    with pytest.raises(LensEmotionError, match=r"LlamaForCausalLM is no model of TransformerLens; wrap it first"):
        DOORS[door](plain("tiny-llama"))
    if door != "check":  # which takes a name
        with pytest.raises(LensEmotionError, match=r"'gpt2' is no model of TransformerLens; load it first"):
            DOORS[door]("gpt2")
