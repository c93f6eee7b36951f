"""Measure what the tiny models can do, with plain transformers and forward hooks, and print a table.

    python scripts/probe_tiny.py lens_emotion/models/tiny/tiny-llama [more folders ...]

Decoding: 20-way nearest centroid on centred cosine over held-out stories, folds by topic. Obedience: how often a
sampled story uses the asked emotion's own words most. Steering: emotion mean minus the mean of all emotions at a middle
layer, dose 1 = the length of that difference, against a random direction of the same length; perplexities are of the
continuation under the unsteered model. Geometry: correlation of the vectors' principal components with human norms.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lens_emotion.stimuli.emotions import EMOTIONS, NEUTRAL, valence_arousal
from lens_emotion.stimuli.sets import StimulusSet
from lens_emotion.stimuli.world import World, load_world
from lens_emotion.stimuli.world_text import N_TEMPLATES, instruction, world_scenarios, world_stimuli

DOSES = (0, 1, 2, 3, 4, 5, 6, 8, 12, 16)
STEERED_TOKENS = 40
HAN = re.compile("[\u4e00-\u9fff]")


@dataclass(frozen=True)
class Loaded:
    """A tiny model with its tokenizer, its world and its decoder blocks."""

    model: torch.nn.Module
    tokenizer: object
    world: World
    blocks: Sequence[torch.nn.Module]


def load(folder: Path) -> Loaded:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    blocks = model.transformer.h if hasattr(model, "transformer") else model.model.layers
    world = load_world("en-zh" if "qwen" in folder.name else "en")
    return Loaded(model, AutoTokenizer.from_pretrained(folder), world, blocks)


def block_output(output: object) -> torch.Tensor:
    return output[0] if isinstance(output, tuple) else output


@torch.no_grad()
def story_means(loaded: Loaded, stimuli: StimulusSet) -> torch.Tensor:
    """[text, layer, d_model]: mean of each block's output over the story's tokens, the first one left out."""
    kept: list[torch.Tensor] = []
    hooks = [
        b.register_forward_hook(lambda _m, _i, out: kept.append(block_output(out)[0, 1:].mean(0)))
        for b in loaded.blocks
    ]
    rows = []
    for text in stimuli.texts:
        kept.clear()
        loaded.model(**loaded.tokenizer(text, return_tensors="pt"))
        rows.append(torch.stack(kept))
    for hook in hooks:
        hook.remove()
    return torch.stack(rows)


def decoding(states: torch.Tensor, emotion: torch.Tensor, topic: torch.Tensor) -> list[float]:
    """20-way accuracy per layer, each topic held out in turn."""
    hits = torch.zeros(states.shape[1])
    for held_out in topic.unique():
        test, train = topic == held_out, topic != held_out
        centre = states[train].mean(0)
        means = torch.stack([states[train & (emotion == e)].mean(0) for e in range(len(EMOTIONS))]) - centre
        cosine = torch.einsum(
            "tld,eld->tle",
            torch.nn.functional.normalize(states[test] - centre, dim=-1),
            torch.nn.functional.normalize(means, dim=-1),
        )
        hits += (cosine.argmax(-1) == emotion[test, None]).float().sum(0)
    return (hits / len(emotion)).tolist()


@contextmanager
def adding(block: torch.nn.Module, vectors: torch.Tensor) -> Iterator[None]:
    """Adds vectors[row] to the block's output at every position of the row."""

    def add(_module: object, _inputs: object, output: object) -> object:
        steered = block_output(output) + vectors[:, None, :]
        return (steered, *output[1:]) if isinstance(output, tuple) else steered

    hook = block.register_forward_hook(add)
    try:
        yield
    finally:
        hook.remove()


@torch.no_grad()
def continue_texts(
    loaded: Loaded, prompts: Sequence[str], n_tokens: int, temperature: float, seed: int, stop: bool
) -> list[list[int]]:
    """Sampled continuations; prompts of one length are batched, so that no row is padded. `stop` cuts at EOS."""
    generator = torch.Generator().manual_seed(seed)
    ids = [loaded.tokenizer(prompt)["input_ids"] for prompt in prompts]
    assert len({len(row) for row in ids}) == 1
    tokens, cache = torch.tensor(ids), None
    eos = loaded.tokenizer.eos_token_id
    new: list[torch.Tensor] = []
    for _ in range(n_tokens):
        out = loaded.model(tokens if cache is None else new[-1][:, None], past_key_values=cache, use_cache=True)
        cache, logits = out.past_key_values, out.logits[:, -1].float()
        if not stop:
            logits[:, eos] = -torch.inf
        new.append(torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)[:, 0])
    rows = torch.stack(new, 1).tolist()
    return [row[: row.index(eos)] if stop and eos in row else row for row in rows]


@torch.no_grad()
def mean_nll(loaded: Loaded, prompt: str, continuation: list[int]) -> float:
    """Mean negative log-likelihood of the continuation under the unsteered model."""
    start = loaded.tokenizer(prompt)["input_ids"]
    logits = loaded.model(torch.tensor([start + continuation])).logits[0, len(start) - 1 : -1].float()
    return torch.nn.functional.cross_entropy(logits, torch.tensor(continuation)).item()


def own_counts(world: World, text: str) -> list[int]:
    """How often each emotion's own words occur, their Chinese forms included."""
    words = re.findall("[a-z]+", text.lower())
    counts = []
    for emotion in EMOTIONS:
        own = world.own_words[emotion]
        chinese = sum(text.count(world.translations[word]) for word in own if word in world.translations)
        counts.append(sum(word in own for word in words) + chinese)
    return counts


def is_top(counts: Sequence[int], index: int) -> bool:
    return counts[index] > 0 and counts[index] > max(c for i, c in enumerate(counts) if i != index)


def obedience(loaded: Loaded, n: int = 200, seed: int = 0) -> float:
    """Share of sampled stories (temperature 0.8) that use the asked emotion's own words more than any other's."""
    rng, hits = random.Random(seed), 0
    for i in range(n):
        index = i % len(EMOTIONS)
        topic = rng.choice(loaded.world.topics)
        prompt = instruction(loaded.world, EMOTIONS[index], topic, rng.randrange(N_TEMPLATES)) + "\n"
        row = continue_texts(loaded, [prompt], 100, 0.8, seed + i, stop=True)[0]
        hits += is_top(own_counts(loaded.world, loaded.tokenizer.decode(row)), index)
    return hits / n


@dataclass(frozen=True)
class DoseRow:
    """One dose: emotions (of 20) whose own words come out on top, perplexity ratio, loops, Chinese words."""

    dose: float
    top: int
    perplexity_ratio: float
    distinct2: float
    chinese_right: float
    chinese_other: float

    def __str__(self) -> str:
        return (
            f"dose {self.dose:4g}  top-1 {self.top:2d}/20  perplexity ratio {self.perplexity_ratio:8.2f}"
            f"  distinct-2 {self.distinct2:.2f}"
            f"  Chinese own words {self.chinese_right:.2f} right {self.chinese_other:.2f} other"
        )


def steering(loaded: Loaded, layer: int, directions: torch.Tensor, temperature: float, seed: int) -> list[DoseRow]:
    """Every emotion's direction at every dose on the first ten scenario openings."""
    prompts = [opening for _, opening in world_scenarios("world-en")][::4]
    base: list[float] = []
    rows = []
    for dose in DOSES:
        top, ratios, distinct, right, other = 0, [], [], 0, 0
        texts: list[list[str]] = [[] for _ in EMOTIONS]
        for j, prompt in enumerate(prompts):
            with adding(loaded.blocks[layer], dose * directions):
                outs = continue_texts(
                    loaded, [prompt] * len(EMOTIONS), STEERED_TOKENS, temperature, seed + j, stop=False
                )
            losses = [mean_nll(loaded, prompt, out) for out in outs]
            if dose == 0:
                base.append(sum(losses) / len(losses))
            ratios += [loss - base[j] for loss in losses]
            distinct += [len(set(itertools.pairwise(out))) / (len(out) - 1) for out in outs]
            for texts_of_emotion, out in zip(texts, outs, strict=True):
                texts_of_emotion.append(loaded.tokenizer.decode(out))
        for index, emotion in enumerate(EMOTIONS):
            text = "\n".join(texts[index])
            top += is_top(own_counts(loaded.world, text), index)
            own, rest = chinese_words(loaded.world, emotion, text)
            right, other = right + own, other + rest
        n = len(EMOTIONS) * len(prompts)
        ratio = torch.tensor(ratios).mean().exp().item()
        rows.append(DoseRow(dose, top, ratio, sum(distinct) / n, right / n, other / n))
    return rows


def chinese_words(world: World, emotion: str, text: str) -> tuple[int, int]:
    """Chinese own words of the emotion in the text, and Chinese own words of all others."""
    counts = {
        e: sum(text.count(world.translations[word]) for word in world.own_words[e] if word in world.translations)
        for e in EMOTIONS
    }
    return counts[emotion], sum(counts.values()) - counts[emotion]


def geometry(vectors: torch.Tensor) -> dict[str, float]:
    """|correlation| of the first two principal components with human valence and arousal."""
    norms = valence_arousal()
    centred = vectors - vectors.mean(0)
    u, s, _ = torch.linalg.svd(centred, full_matrices=False)
    known = [i for i, e in enumerate(EMOTIONS) if norms[e].valence is not None]
    result = {}
    for k in range(3):
        for name in ("valence", "arousal"):
            rating = torch.tensor([getattr(norms[EMOTIONS[i]], name) for i in known])
            result[f"PC{k + 1}-{name}"] = torch.corrcoef(torch.stack([(u * s)[known, k], rating]))[0, 1].abs().item()
    return result


def probe(folder: Path, temperature: float, show: bool) -> dict[str, object]:
    loaded = load(folder)
    stimuli = world_stimuli("world-en", n_per_cell=2)
    states = story_means(loaded, stimuli)
    emotional = torch.tensor([s.emotion != NEUTRAL for s in stimuli.items])
    states = states[emotional]
    items = [s for s in stimuli.items if s.emotion != NEUTRAL]
    emotion = torch.tensor([EMOTIONS.index(s.emotion) for s in items])
    topic = torch.tensor([stimuli.topics.index(s.topic) for s in items])
    accuracy = decoding(states, emotion, topic)
    layer = len(loaded.blocks) // 2
    means = torch.stack([states[emotion == e, layer].mean(0) for e in range(len(EMOTIONS))])
    directions = means - means.mean(0)
    noise = torch.randn(directions.shape, generator=torch.Generator().manual_seed(0))
    noise = noise / noise.norm(dim=-1, keepdim=True) * directions.norm(dim=-1, keepdim=True)
    norm = states[:, layer].norm(dim=-1).mean().item()
    result = {
        "decoding": [round(a, 3) for a in accuracy],
        "obedience": obedience(loaded),
        "geometry": {k: round(v, 2) for k, v in geometry(directions).items()},
        "natural size / residual norm": round(directions.norm(dim=-1).mean().item() / norm, 3),
    }
    print(f"== {folder.name}: {json.dumps(result)}", flush=True)
    for label, vectors in (("emotion", directions), ("random", noise)):
        for row in steering(loaded, layer, vectors, temperature, seed=0):
            print(f"{label:8s} {row}", flush=True)
    if show:
        show_texts(loaded, layer, directions, temperature)
    return result


def show_texts(loaded: Loaded, layer: int, directions: torch.Tensor, temperature: float) -> None:
    prompt = world_scenarios("world-en")[8][1]
    for emotion in ("sad", "angry"):
        for dose in DOSES:
            with adding(loaded.blocks[layer], dose * directions[EMOTIONS.index(emotion)][None]):
                out = continue_texts(loaded, [prompt], STEERED_TOKENS, temperature, 0, stop=False)[0]
            print(f"{emotion} {dose}: {prompt} |{loaded.tokenizer.decode(out)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--show", action="store_true", help="also print steered texts")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for folder in args.folders:
        probe(folder, args.temperature, args.show)


if __name__ == "__main__":
    main()
