"""What the benchmarks read: models by folder, tiny ones, random weights of any shape, and texts for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import lens_emotion as le
from benchmarks.measure import Options
from lens_emotion.errors import LensEmotionError
from lens_emotion.models import hooked
from lens_emotion.models.access import Model, tokenizer_of
from lens_emotion.models.loading import quiet_loading, resolve
from lens_emotion.stimuli.sets import Stimulus, StimulusSet

TINY = "tiny-llama"
GPT2_SMALL, GEMMA_270M = "random-gpt2-small", "random-gemma-3-270m"
GPT2_SMALL_VOCABULARY = 50257


def loaded(options: Options, device: str | None = "cpu") -> Iterator[tuple[str, Model]]:
    """Name and model, one at a time (a real one may fill the memory): those given, or a tiny one and random weights in
    GPT-2-small and Gemma-3-270M shape."""
    for folder in options.models:
        yield Path(folder).name, le.load_model(folder, device=device)
    if not options.models:
        yield TINY, le.load_model(TINY, device=device)
        if not options.quick:
            yield GPT2_SMALL, random_model(12, 768, GPT2_SMALL_VOCABULARY)
            yield GEMMA_270M, on_bridge(GEMMA_270M, random_gemma("eager"))


def hooked_twin(name: str, options: Options) -> Model | None:
    """The same model as a HookedTransformer; None where it is not to be had."""
    folders = {Path(f).name: f for f in options.models} | {TINY: TINY}
    if not hooked.available() or name not in folders:
        return None
    try:
        return le.load_model(folders[name], backend="hooked", device="cpu")
    except LensEmotionError:
        return None


def random_model(n_layers: int, width: int, vocabulary: int = 1600) -> Model:
    """A GPT-2 with random weights on the Bridge, as `load_model` makes them; it reads with a tiny model's tokenizer."""
    return on_bridge(f"random-{n_layers}x{width}", random_plain(n_layers, width, vocabulary, "eager"))


def on_bridge(name: str, hf_model: Any) -> Model:
    from transformer_lens.model_bridge import TransformerBridge

    options = {"tokenizer": tiny_tokenizer(), "dtype": torch.float32, "device": "cpu"}
    with quiet_loading():
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


def random_gemma(attention: str = "sdpa") -> Any:
    """Random weights in the shape of google/gemma-3-270m (its config on the Hugging Face hub)."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    shape = {
        "num_hidden_layers": 18, "hidden_size": 640, "intermediate_size": 2048, "vocab_size": 262144, "head_dim": 256,
        "num_attention_heads": 4, "num_key_value_heads": 1, "query_pre_attn_scalar": 256, "sliding_window": 512,
        "max_position_embeddings": 32768, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
        "architectures": ["Gemma3ForCausalLM"],
    }  # fmt: skip
    return Gemma3ForCausalLM(Gemma3TextConfig(**shape, attn_implementation=attention)).eval()


def tiny_tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(resolve("tiny-gpt2").location)


def plain_model(name: str, options: Options, attention: str = "sdpa") -> Any:
    """The weights of a model of `loaded` as transformers gives them to everybody: the baseline of most benchmarks."""
    from transformers import AutoModelForCausalLM

    if name == GPT2_SMALL:
        return random_plain(12, 768, GPT2_SMALL_VOCABULARY, attention)
    if name == GEMMA_270M:
        return random_gemma(attention)
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
