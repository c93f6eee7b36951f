"""`generate`: texts of a model, steered or not, with their ids and measures; the same alone and in a batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from lens_emotion.display import Result
from lens_emotion.errors import DoseError, GenerationError, StimulusError
from lens_emotion.files.user import shown
from lens_emotion.models.access import Model
from lens_emotion.models.decoding import GREEDY, Sampling
from lens_emotion.models.templates import chat_prompt, check_template
from lens_emotion.steering.generate import Condition, Continuation, generate_steered
from lens_emotion.steering.measures import likelihood, repetition
from lens_emotion.steering.steer import Direction, Steering, aside, in_force, steer

Prompt = str | Sequence[Mapping[str, str]]  # a text, or turns of a chat: [{"role": "user", "content": "..."}]
COLUMNS = ("prompt", "prompts", "text")  # what holds prompts in a table, or a row
SEEDS = 1_000_003  # of texts: as many as lie between two seeds of `Sampling`


@dataclass(frozen=True, eq=False, repr=False)
class GeneratedTexts(Result):
    """Texts that a model wrote, in the order of the prompts: `for text in texts`, `texts[0]`, `print(texts)`.

    Attributes:
        prompts: what was given, as the model read it (a chat's through the template).
        texts: what was written, without the prompt and special tokens.
        ids: its tokens. prompt_ids: those of the prompts.
        broken: steering pushed the model beyond the numbers that it can hold, and the text ends there.
        nll: mean negative log-likelihood per token under the unsteered model, in nats; nan for a text without tokens.
        entropy: mean entropy of the unsteered model's next token, in nats.
        distinct: share of distinct pairs of tokens. loop: share of the text that is one loop.
        steering: what was done, in words; empty where nothing was.
        sampling, max_new_tokens: how they were written.
    """

    prompts: tuple[str, ...]
    texts: tuple[str, ...]
    ids: tuple[tuple[int, ...], ...]
    prompt_ids: tuple[tuple[int, ...], ...]
    broken: tuple[bool, ...]
    nll: Float[np.ndarray, " n_texts"]
    entropy: Float[np.ndarray, " n_texts"]
    distinct: Float[np.ndarray, " n_texts"]
    loop: Float[np.ndarray, " n_texts"]
    steering: str
    sampling: Sampling
    max_new_tokens: int

    def __len__(self) -> int:
        return len(self.texts)

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)

    def __getitem__(self, index: int) -> str:
        return self.texts[index]

    def __str__(self) -> str:
        return "\n\n".join(prompt + text for prompt, text in zip(self.prompts, self.texts, strict=True))

    @property
    def table(self) -> pd.DataFrame:
        """One row per text: prompt, text, its number of tokens and its measures."""
        held = {name: getattr(self, name) for name in ("nll", "entropy", "distinct", "loop", "broken")}
        n = [len(ids) for ids in self.ids]
        return pd.DataFrame({"prompt": self.prompts, "text": self.texts, "n_tokens": n, **held})

    def summary(self) -> str:
        s = self.sampling
        drawn = "greedy" if s.greedy else f"temperature {s.temperature:g}, seed {s.seed}"
        nll = self.nll[~np.isnan(self.nll)]
        likely = f"{nll.mean():.2f} nats per token under the unsteered model" if len(nll) else "no tokens"
        how = self.steering or "unsteered"
        return f"{len(self)} text(s) of up to {self.max_new_tokens} tokens, {how}, {drawn}: {likely}"


def generate(
    model: Model,
    prompts: Prompt | Sequence[Prompt],
    steering: Steering | Direction | None = None,
    sampling: Sampling = GREEDY,
    *,
    max_new_tokens: int = 40,
    chat: bool = False,
    progress: bool = True,
) -> GeneratedTexts:
    """Continue prompts, steered or not. The same call gives the same texts, and a prompt the same text in any batch.

        texts = le.generate(model, "The door opened and", steering=le.steer(model, vectors["calm"], dose=3))
        print(texts)  # texts.ids, texts.table

    Args:
        model: TransformerBridge or HookedTransformer.
        prompts: one, or several as one batch (a list, a Series, a table with a column "prompt" or "text", scenarios).
            A prompt is a text, or the turns of a chat as transformers takes them,
            `[{"role": "user", "content": "..."}]`, which go through the model's chat template.
        steering: what `le.steer(model, ...)` gives, or what it takes (at dose 1). None: what is in force, inside
            `with le.steer(...)`, else nothing.
        sampling: greedy, or `le.Sampling(temperature=0.8, top_p=0.95, top_k=50, seed=0)`. Draws depend on its seed and
            on the prompt; a prompt given twice gets two texts.
        max_new_tokens: at most; a text may end before.
        chat: put texts through the chat template, as what the user says.
        progress: show a bar.

    Raises:
        GenerationError: no prompts, a number of tokens below 1, a sampling that is none.
        StimulusError: what is no prompt, an empty one of a model without a first token, a chat without a template.
        ContextLengthError: too long.
        DoseError: a steering of another model, or beside one in force; and what `steer` raises.

    Example:
        >>> push = le.steer(model, vectors["calm"], dose=3)
        >>> texts = le.generate(model, ["The door opened and", "Then"], push, le.Sampling(0.8, seed=1))
        >>> len(texts), texts.table.columns[2]
        (2, 'n_tokens')
    """
    if not isinstance(sampling, Sampling):
        raise GenerationError(
            f"sampling is {shown(sampling)}; give le.Sampling(temperature=0.8, top_p=0.95, top_k=50, seed=0), or leave "
            "it out for greedy text"
        )
    texts = [_read(model, prompt, chat) for prompt in _several(prompts)]
    done = _steering(model, steering)
    with aside(model):
        conditions = [_condition(text, done, seed) for text, seed in zip(texts, _seeds(texts), strict=True)]
        how: dict[str, Any] = {"max_new_tokens": max_new_tokens, "sampling": sampling, "progress": progress}
        if done is not None:
            how |= {"positions": done.positions, "allow_other_model": done.allow_other_model}
        written = generate_steered(model, conditions, (), **how)
        return _measured(model, texts, written, "" if done is None else done.words, sampling, max_new_tokens)


def _several(prompts: Any) -> list[Any]:
    """Prompts as a list; one text, or one chat, is one. Of a table, its column of prompts."""
    if hasattr(prompts, "columns"):
        named = [name for name in COLUMNS if name in prompts.columns]
        if not named:
            there = ", ".join(map(str, prompts.columns))
            raise StimulusError(f"which column holds the prompts? It has {there}; give one: table['...']")
        prompts = prompts[named[0]]
    if isinstance(prompts, str | bytes) or not hasattr(prompts, "__iter__") or isinstance(prompts, Mapping):
        return [prompts]
    listed = list(prompts)
    return [listed] if listed and isinstance(listed[0], Mapping) and "role" in listed[0] else listed


def _read(model: Model, prompt: Any, chat: bool) -> str:
    """A prompt as the model reads it; of a row, or of a `Scenario` and its like, its text."""
    if isinstance(prompt, Mapping) and "role" not in prompt:
        prompt = next((prompt[name] for name in COLUMNS if name in prompt), prompt)
    prompt = getattr(prompt, "text", getattr(prompt, "opening", prompt))
    if isinstance(prompt, str) and not chat:
        return prompt
    if isinstance(prompt, Mapping) and "role" in prompt:
        prompt = [prompt]
    turns = isinstance(prompt, Sequence) and bool(prompt) and all(isinstance(turn, Mapping) for turn in prompt)
    if not isinstance(prompt, str) and not turns:
        raise StimulusError(f"{shown(prompt)} is no prompt; give a text, or turns [{{'role': ..., 'content': ...}}]")
    check_template(model)
    return chat_prompt(model, prompt)


def _steering(model: Model, given: Any) -> Steering | None:
    """What is to be done: given, made of what is given, or in force."""
    now = in_force(model)
    if given is None:
        if len(now) > 1:
            raise DoseError(f"{len(now)} steerings are in force; le.generate takes one: mix their vectors into one")
        return now[0] if now else None
    made = given if isinstance(given, Steering) else steer(model, given)
    made.used = True
    if made.model is not model:
        raise DoseError(
            "the steering was made for another model object; make it with le.steer(model, ...) for this one"
        )
    if any(steering is not made for steering in now):
        raise DoseError("a steering is in force already, and steering= gives another; leave the block, or mix the two")
    return made


def _condition(text: str, steering: Steering | None, seed: int) -> Condition:
    if steering is None:
        return Condition(text, seed=seed)
    done = steering.done
    return Condition(text, done.vectors, done.dose, seed, done.layers, done.mode, done.centre)


def _seeds(texts: Sequence[str]) -> list[int]:
    """A seed for each text that depends on the prompt and on how often it came before, not on the others."""
    before: dict[str, int] = {}
    seeds = []
    for text in texts:
        before[text] = before.get(text, -1) + 1
        digest = hashlib.sha256(f"{before[text]}|{text}".encode("utf-8", "surrogatepass")).digest()
        seeds.append(int.from_bytes(digest[:8], "big") % SEEDS)
    return seeds


def _measured(
    model: Model, prompts: Sequence[str], written: Sequence[Continuation], steering: str, sampling: Sampling, most: int
) -> GeneratedTexts:
    """Texts with their measures, under the model as it stands."""
    prompt_ids, ids = (tuple(getattr(w, name) for w in written) for name in ("prompt_ids", "new_ids"))
    scored, (distinct, loop) = likelihood(model, prompt_ids, ids), repetition(ids)
    said = tuple(w.text for w in written), ids, prompt_ids, tuple(w.broken for w in written)
    return GeneratedTexts(
        tuple(prompts), *said, scored.nll, scored.entropy, distinct, loop, steering, sampling, most
    )  # fmt: skip
