"""Train one of the five tiny models that ship with the package.

    python scripts/train_tiny.py tiny-llama --out lens_emotion/models/tiny/tiny-llama

Each is a genuine Hugging Face architecture of about 0.35M parameters, trained from scratch on the written world of
`lens_emotion.stimuli.world`. The training is defined by its seed and its number of steps, not by the clock. Weights
are saved as float16.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from lens_emotion.stimuli.world import load_world
from lens_emotion.stimuli.world_text import corpus

N_LAYERS, D_MODEL, N_HEADS, N_KV_HEADS, D_MLP, CONTEXT = 6, 64, 4, 2, 192, 256
SHARED_SIZES = {
    "hidden_size": D_MODEL,
    "intermediate_size": D_MLP,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": N_HEADS,
    "num_key_value_heads": N_KV_HEADS,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.12,
    "tie_word_embeddings": True,
}
MIDDLE_LOSS = 0.5  # weight of the loss of an early exit after half of the blocks, see `early_exit`
TOKENS_PER_STEP = 2048  # in rows of half a context, every fourth step in rows of a whole one
TOKENIZER_DOCUMENTS = 12_000


@dataclass(frozen=True)
class TinySpec:
    """One tiny model: its world, its tokenizer's special tokens, its architecture.

    `prepends_bos` says whether the tokenizer puts the BOS token in front of every text, as the real family does.
    """

    world: str
    vocab_size: int
    bos: str | None
    eos: str
    pad: str | None
    prepends_bos: bool
    config: Callable[..., PreTrainedConfig]
    extra: dict[str, object]
    steps: int = 2000


SPECS: dict[str, TinySpec] = {
    "tiny-gpt2": TinySpec(
        "en", 1600, "<|endoftext|>", "<|endoftext|>", "<|endoftext|>", False, GPT2Config,
        {
            "n_embd": D_MODEL, "n_layer": N_LAYERS, "n_head": N_HEADS, "n_positions": CONTEXT, "n_ctx": CONTEXT,
            "initializer_range": 0.12, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
        },
    ),
    "tiny-gemma": TinySpec(
        "en", 1600, "<bos>", "<eos>", "<pad>", True, Gemma2Config,
        {**SHARED_SIZES, "head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 64},
    ),
    "tiny-qwen": TinySpec(
        "en-zh", 2560, None, "<|endoftext|>", "<|endoftext|>", False, Qwen2Config, SHARED_SIZES, 3000
    ),
    "tiny-llama": TinySpec(
        "en", 1600, "<|begin_of_text|>", "<|end_of_text|>", None, True, LlamaConfig, SHARED_SIZES
    ),
    "tiny-mistral": TinySpec(
        "en", 1600, "<s>", "</s>", None, True, MistralConfig, {**SHARED_SIZES, "sliding_window": 64}
    ),
}  # fmt: skip


def build_tokenizer(spec: TinySpec, seed: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of the model's own world, with the special tokens of its family."""
    tokenizer = Tokenizer(models.BPE())
    if spec.config is Qwen2Config:  # AutoTokenizer splits text of a Qwen2 model in this way, whatever the file says
        tokenizer.normalizer = normalizers.NFC()
        split = pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated")
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = list(dict.fromkeys(token for token in (spec.pad, spec.bos, spec.eos) if token))
    texts = (d.text for d in corpus(load_world(spec.world), TOKENIZER_DOCUMENTS, seed))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=spec.vocab_size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    if spec.prepends_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{spec.bos} $A",
            pair=f"{spec.bos} $A {spec.bos} $B",
            special_tokens=[(spec.bos, tokenizer.token_to_id(spec.bos))],
        )
    names = {"bos_token": spec.bos, "eos_token": spec.eos, "pad_token": spec.pad}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        **{name: token for name, token in names.items() if token},
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, config: PreTrainedConfig, folder: Path) -> None:
    """Writes the tokenizer under a class name that older versions of transformers know too."""
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def build_model(spec: TinySpec, tokenizer: PreTrainedTokenizerFast) -> torch.nn.Module:
    """The untrained model; its configuration names the tokenizer's special tokens and no others."""
    config = spec.config(
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **spec.extra,
    )
    # Gemma's soft-capping of attention scores exists in the eager implementation only.
    return AutoModelForCausalLM.from_config(
        config, attn_implementation="eager" if spec.config is Gemma2Config else None
    )


def batches(spec: TinySpec, tokenizer: PreTrainedTokenizerFast, seed: int) -> Iterator[torch.Tensor]:
    """Rows of packed documents, each closed by EOS, the last one cut. A row starts with a document.

    GPT-2 was trained on text without a BOS in front, yet TransformerLens prepends one: every second row begins with it.
    """
    documents = corpus(load_world(spec.world), sys.maxsize, seed)
    bare_bos = tokenizer.bos_token_id is not None and not spec.prepends_bos
    for step in itertools.count():
        length = CONTEXT if step % 4 == 3 else CONTEXT // 2
        rows = []
        for i in range(TOKENS_PER_STEP // length):
            row = [tokenizer.bos_token_id] if bare_bos and i % 2 else []
            while len(row) < length:
                row += [*tokenizer(next(documents).text)["input_ids"], tokenizer.eos_token_id]
            rows.append(row[:length])
        yield torch.tensor(rows)


def early_exit(model: torch.nn.Module, hidden_states: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Logits read off the residual stream after half of the blocks by the model's own final norm and unembedding.

    Six layers are more than this world needs, and left alone a model infers the emotion in the last two. Training the
    early exit along (as early-exit language models do) has it inferred by mid depth, as in larger models.
    """
    body = model.transformer if hasattr(model, "transformer") else model.model
    norm = body.ln_f if hasattr(body, "ln_f") else body.norm
    return model.get_output_embeddings()(norm(hidden_states[N_LAYERS // 2]))


def loss_of(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())


def train(model: torch.nn.Module, data: Iterator[torch.Tensor], steps: int, learning_rate: float) -> float:
    """AdamW with a cosine schedule after a short warm-up. Returns the mean loss of the last 50 steps."""
    decayed = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98))
    warm_up = max(1, steps // 30)

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    losses: list[float] = []
    started = time.monotonic()
    model.train()
    for step, tokens in enumerate(itertools.islice(data, steps)):
        output = model(tokens[:, :-1], output_hidden_states=True)
        loss = loss_of(output.logits, tokens)
        optimizer.zero_grad()
        (loss + MIDDLE_LOSS * loss_of(early_exit(model, output.hidden_states), tokens)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step:5d}  loss {losses[-1]:.3f}  {time.monotonic() - started:.0f} s", flush=True)
    return sum(losses[-50:]) / len(losses[-50:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(SPECS))
    parser.add_argument("--out", type=Path, required=True, help="folder of the trained model")
    parser.add_argument("--steps", type=int, help="default: 2000")
    parser.add_argument("--learning-rate", type=float, default=8e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    spec = SPECS[args.name]
    tokenizer = build_tokenizer(spec, args.seed)
    model = build_model(spec, tokenizer)
    save_tokenizer(tokenizer, model.config, args.out)
    tokenizer = AutoTokenizer.from_pretrained(args.out)  # train on what users will load
    print(f"{args.name}: {sum(p.numel() for p in model.parameters()):,} parameters, vocabulary {len(tokenizer)}")
    loss = train(model, batches(spec, tokenizer, args.seed), args.steps or spec.steps, args.learning_rate)
    print(f"loss of the last 50 steps: {loss:.4f}")
    model.to(torch.float16).save_pretrained(args.out)


if __name__ == "__main__":
    main()
