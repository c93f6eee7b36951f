"""What a model weighs, without loading it: the shapes of the catalog's models, and of any folder's config.json.

The numbers are those of the models' public configs; the parameters that follow agree with the catalog's to 1%.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lens_emotion.models.catalog import find_spec
from lens_emotion.models.checkpoint import check_sizes, read_config
from lens_emotion.models.loading import resolve


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder.

    Attributes:
        n_heads, n_kv_heads, d_head: attention; keys and values have `n_kv_heads` of them.
        d_mlp: width of the feed-forward layer; gated: three matrices instead of two.
        d_vocab: tokens; tied: the head shares the embedding.
        n_positions: learned positions (GPT-2), else 0.
    """

    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_mlp: int
    d_vocab: int
    tied: bool = True
    gated: bool = True
    n_positions: int = 0

    @property
    def body(self) -> int:
        """Parameters of the blocks: what every token passes through."""
        attention = 2 * self.d_model * self.d_head * (self.n_heads + self.n_kv_heads)
        return self.n_layers * (attention + (2 + self.gated) * self.d_model * self.d_mlp)

    @property
    def head(self) -> int:
        """Parameters of the map from states to tokens."""
        return self.d_model * self.d_vocab

    @property
    def parameters(self) -> int:
        """All weights, but for norms and biases (less than 1%)."""
        return self.body + self.head * (1 if self.tied else 2) + self.n_positions * self.d_model

    @property
    def kv_per_token(self) -> int:
        """Numbers that decoding keeps for a token: a key and a value of every layer."""
        return 2 * self.n_layers * self.n_kv_heads * self.d_head


def _gpt2(n_layers: int, d_model: int, n_heads: int) -> Shape:
    width = d_model // n_heads
    return Shape(n_layers, d_model, n_heads, n_heads, width, 4 * d_model, 50257, gated=False, n_positions=1024)


_SHARED = {  # the names that a shape is of, base and instruct
    "gpt2": _gpt2(12, 768, 12),
    "gpt2-medium": _gpt2(24, 1024, 16),
    "gpt2-large": _gpt2(36, 1280, 20),
    "gpt2-xl": _gpt2(48, 1600, 25),
    "gemma-3-270m gemma-3-270m-it": Shape(18, 640, 4, 1, 256, 2048, 262144),
    "gemma-3-1b-pt gemma-3-1b-it": Shape(26, 1152, 4, 1, 256, 6912, 262144),
    "gemma-2-2b gemma-2-2b-it": Shape(26, 2304, 8, 4, 256, 9216, 256000),
    "gemma-2-9b gemma-2-9b-it": Shape(42, 3584, 16, 8, 256, 14336, 256000),
    "qwen2.5-0.5b qwen2.5-0.5b-instruct": Shape(24, 896, 14, 2, 64, 4864, 151936),
    "qwen2.5-1.5b qwen2.5-1.5b-instruct": Shape(28, 1536, 12, 2, 128, 8960, 151936),
    "qwen2.5-3b-instruct": Shape(36, 2048, 16, 2, 128, 11008, 151936),
    "qwen2.5-7b-instruct": Shape(28, 3584, 28, 4, 128, 18944, 152064, tied=False),
    "qwen3-0.6b": Shape(28, 1024, 16, 8, 128, 3072, 151936),
    "qwen3-1.7b": Shape(28, 2048, 16, 8, 128, 6144, 151936),
    "smollm2-135m smollm2-135m-instruct": Shape(30, 576, 9, 3, 64, 1536, 49152),
    "smollm2-360m-instruct": Shape(32, 960, 15, 5, 64, 2560, 49152),
    "smollm2-1.7b-instruct": Shape(24, 2048, 32, 32, 64, 8192, 49152),
    "tinyllama-1.1b-chat": Shape(22, 2048, 32, 4, 64, 5632, 32000, tied=False),
    "llama-3.2-1b llama-3.2-1b-instruct": Shape(16, 2048, 32, 8, 64, 8192, 128256),
    "llama-3.2-3b llama-3.2-3b-instruct": Shape(28, 3072, 24, 8, 128, 8192, 128256),
    "llama-3.1-8b llama-3.1-8b-instruct": Shape(32, 4096, 32, 8, 128, 14336, 128256, tied=False),
    "mistral-7b-v0.3 mistral-7b-instruct-v0.3": Shape(32, 4096, 32, 8, 128, 14336, 32768, tied=False),
}
SHAPES: dict[str, Shape] = {name: shape for names, shape in _SHARED.items() for name in names.split()}


def shape_of(name: str) -> Shape | None:
    """The shape of a model by name, hub id or folder; None where it cannot be known without asking the hub."""
    spec = find_spec(name)
    if spec is not None and spec.name in SHAPES:
        return SHAPES[spec.name]
    source = resolve(name)
    if source.gguf_file:
        return None
    path: Any = Path(source.location) / "config.json"
    if source.on_hub:
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(source.location, "config.json")
        if not isinstance(path, str):
            return None
    config = read_config(Path(path))
    check_sizes(config, name)
    return shape_from(config)


def shape_from(config: Mapping[str, Any]) -> Shape | None:
    """The shape that a Hugging Face config.json describes; None if it names no sizes."""
    config = config.get("text_config") or config
    try:
        if "n_embd" in config:
            width = config["n_embd"] // config["n_head"]
            inner = config.get("n_inner") or 4 * config["n_embd"]
            places = (config["n_layer"], config["n_embd"], config["n_head"], config["n_head"], width, inner)
            return Shape(*places, config["vocab_size"], gated=False, n_positions=config["n_positions"])
        heads = config["num_attention_heads"]
        return Shape(
            n_layers=config["num_hidden_layers"],
            d_model=config["hidden_size"],
            n_heads=heads,
            n_kv_heads=config.get("num_key_value_heads") or heads,
            d_head=config.get("head_dim") or config["hidden_size"] // heads,
            d_mlp=config["intermediate_size"],
            d_vocab=config["vocab_size"],
            tied=bool(config.get("tie_word_embeddings", str(config.get("model_type", "")).startswith("gemma"))),
        )
    except (KeyError, TypeError):
        return None
