"""What the benchmarks read: models by folder, tiny ones, random weights of any shape, and texts for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import lens_emotion as le
from benchmarks.measure import Options
from lens_emotion.models.access import Model, tokenizer_of
from lens_emotion.models.loading import resolve
from lens_emotion.models.quiet import quiet_loading
from lens_emotion.stimuli.sets import Stimulus, StimulusSet

TINY = "tiny-llama"
GPT2_SMALL = "random-gpt2-small"
GPT2_SMALL_VOCABULARY = 50257


def loaded(options: Options, device: str | None = "cpu") -> Iterator[tuple[str, Model]]:
    """Name and model, one at a time (a real one may fill the memory)."""
    for folder in options.models:
        yield Path(folder).name, le.load_model(folder, device=device)
    if not options.models:
        yield TINY, le.load_model(TINY, device=device)
        if not options.quick:
            yield GPT2_SMALL, random_model(12, 768, GPT2_SMALL_VOCABULARY)


def random_model(n_layers: int, width: int, vocabulary: int = 1600) -> Model:
    """A GPT-2 with random weights on the Bridge, as `load_model` makes them; it reads with a tiny model's tokenizer."""
    from transformer_lens.model_bridge import TransformerBridge

    name = f"random-{n_layers}x{width}"
    options = {"tokenizer": tiny_tokenizer(), "dtype": torch.float32, "device": "cpu"}
    with quiet_loading():
        hf_model = random_plain(n_layers, width, vocabulary, "eager")
        model = TransformerBridge.boot_transformers(name, hf_model=hf_model, **options)
    model.lens_emotion_name = name
    return model.eval()


def random_plain(n_layers: int, width: int, vocabulary: int = 1600, attention: str = "sdpa") -> Any:
    """The same random weights in transformers alone."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    shape = {"n_layer": n_layers, "n_embd": width, "n_head": max(1, width // 64), "vocab_size": vocabulary}
    config = GPT2Config(**shape, n_positions=1024, attn_implementation=attention, bos_token_id=0, eos_token_id=1)
    return GPT2LMHeadModel(config).eval()


def tiny_tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(resolve("tiny-gpt2").location)


def plain_model(name: str, options: Options, attention: str = "sdpa") -> Any:
    """The weights of a model of `loaded` as transformers gives them to everybody: the baseline of most benchmarks."""
    from transformers import AutoModelForCausalLM

    if name == GPT2_SMALL:
        return random_plain(12, 768, GPT2_SMALL_VOCABULARY, attention)
    folders = {Path(f).name: f for f in options.models} | {TINY: resolve(TINY).location}
    settings = {"dtype": torch.float32, "attn_implementation": attention}
    with quiet_loading():
        return AutoModelForCausalLM.from_pretrained(folders[name], **settings).eval()


def texts(n: int, real: bool) -> StimulusSet:
    """n labelled texts: natural passages for real models, stories of the tiny models' world for the others.

    There are 252 passages: beyond that they come again, each with the topic of its round.
    """
    items = le.load_stimuli("passages").items if real else le.load_stimuli("world-en", per_cell=2).items
    chosen = []
    for i in range(n):
        item = items[(i * 37) % len(items)] if n < len(items) else items[i % len(items)]
        chosen.append(Stimulus(f"{item.text_id}/{i}", item.text, item.emotion, f"{item.topic}/{i // len(items)}"))
    return StimulusSet("benchmark", tuple(chosen))


def is_real(options: Options) -> bool:
    return bool(options.models)


def token_ids(model: Model, chosen: StimulusSet) -> list[list[int]]:
    """Ids of every text without special tokens, cut to the model's context."""
    tokenizer = tokenizer_of(model)
    return [list(tokenizer(t, add_special_tokens=False).input_ids)[: model.cfg.n_ctx - 1] for t in chosen.texts]
