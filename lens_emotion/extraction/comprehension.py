"""Comprehension-based extraction: the model reads given text."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, overload

import pandas as pd
from jaxtyping import Bool
from torch import Tensor

from lens_emotion.display import Result
from lens_emotion.errors import StimulusError
from lens_emotion.extraction.activations import PooledActivations, TextRecord
from lens_emotion.extraction.pooling import (
    Mask,
    Pooling,
    Residuals,
    Tokens,
    as_mask,
    check_content,
    check_content_finite,
    content_mask,
    norm_sums,
    pool_cache,
    residuals,
    story_mean,
)
from lens_emotion.extraction.reader import Reading, make_header, read_poolings
from lens_emotion.files.journal import Journal
from lens_emotion.models.access import Model, check_raw_basis, tokenizer_of
from lens_emotion.models.first_token import first_token
from lens_emotion.models.loading import row_of
from lens_emotion.models.prompting import encode, pad, tokenise_text
from lens_emotion.pictures import tinted
from lens_emotion.stimuli.copies import copies_note
from lens_emotion.stimuli.emotions import NEUTRAL, names
from lens_emotion.stimuli.library import PASSAGES, load_stimuli
from lens_emotion.stimuli.sets import ONE_EMOTION, Stimulus, StimulusSet
from lens_emotion.stimuli.tables import Data

ROLES = ("pooled", "skipped", "special")
SHADE = {"pooled": 0.5, "skipped": 0.0, "special": math.nan}  # of a token in a notebook


def default_stimuli(model: Model) -> str:
    """The stimulus set that a model's catalog row names; the natural passages for every other model, whatever it is
    called."""
    spec = row_of(model)
    return spec.stimuli if spec else PASSAGES


def extract_comprehension(
    model: Model,
    stimuli: Data | None = None,
    *,
    emotions: Iterable[str] | None = None,
    pooling: Pooling | None = None,
    token_budget: int | None = None,
    allow_processed: bool = False,
    progress: bool = True,
) -> PooledActivations:
    """Read labelled texts, every layer in one pass, no chat template.

    Args:
        model: TransformerBridge or HookedTransformer.
        stimuli: a StimulusSet, a name ("passages", "world-en", "world-en-zh"), a DataFrame, a list of dicts, a Hugging
            Face dataset, a CSV, JSON, JSONL or TOML file (see `stimuli_from`); None takes the set of the model's
            catalog row.
        emotions: only these, two at least (neutral is kept).
        pooling: default story mean over all content tokens (position 0 excluded). arXiv 2604.04064 uses `last_token()`.
        token_budget: padded tokens per forward pass; default what suits the device (`models.forward`).
        allow_processed: accept a HookedTransformer with processed weights; recorded in the header.
        progress: show a bar.

    Returns:
        PooledActivations [n_texts, n_layers, d_model] in the order of the stimuli.

    Raises:
        StimulusError: no texts, a single emotion, an empty or too short text.
        ContextLengthError: a text longer than the model's context.
        ProcessedModelError: processed weights without `allow_processed`.
        UnknownEmotionError: an emotion the set does not hold.

    Example:
        >>> acts = le.extract_comprehension(model, le.load_stimuli("world-en", per_cell=1))
        >>> acts.values.shape
        torch.Size([252, 6, 64])
        >>> acts.emotions[:3]
        ('happy', 'sad', 'calm')
    """
    options: dict[str, Any] = {"allow_processed": allow_processed, "progress": progress, "token_budget": token_budget}
    return extract_poolings(model, [pooling or story_mean()], stimuli, emotions=emotions, **options)[0]


def extract_poolings(
    model: Model,
    poolings: Sequence[Pooling],
    stimuli: Data | None = None,
    *,
    emotions: Iterable[str] | None = None,
    token_budget: int | None = None,
    allow_processed: bool = False,
    progress: bool = True,
    journal: Journal | None = None,
) -> tuple[PooledActivations, ...]:
    """Read labelled texts once and pool them in several ways; arguments and errors as in `extract_comprehension`.

    Args:
        journal: keeps finished batches, and those it holds are not read again.
        model: TransformerBridge or HookedTransformer.
        poolings: how a text becomes a row, one set of activations each.
        stimuli: a StimulusSet, a name or a file; None takes the set of the model's catalog row.
        emotions: only these (neutral is kept).
        token_budget: padded tokens per forward pass; default what suits the device.
        allow_processed: accept processed weights; recorded in the header.
        progress: show a bar.

    Returns:
        One PooledActivations per pooling, in their order.

    Example:
        >>> mean, last = le.extract_poolings(model, [le.story_mean(), le.last_token()], texts)
        >>> mean.header.pooling, last.header.pooling
        ('story_mean(start=0)', 'last_token')
    """
    chosen = load_stimuli(default_stimuli(model) if stimuli is None else stimuli)
    if emotions is not None:
        neutral = {s.emotion for s in chosen} & {NEUTRAL}
        chosen = chosen.only(emotions=(*names(emotions), *neutral))
        if len(named := {*names(emotions)} - neutral) == 1:
            raise StimulusError(
                f"emotions={emotions!r:.60} leaves one emotion, and a direction is what tells it from others; leave "
                f"it out, read all, and take emotion_vectors(acts)[{next(iter(named))!r}], or name at least two"
            )
    check_classes(chosen)
    options: dict[str, Any] = {"allow_processed": allow_processed, "progress": progress, "token_budget": token_budget}
    return read_stimuli(model, chosen, poolings, journal=journal, notes=chosen.limits, **options)


def read_stimuli(
    model: Model,
    chosen: StimulusSet,
    poolings: Sequence[Pooling],
    *,
    token_budget: int | None = None,
    allow_processed: bool = False,
    progress: bool = True,
    journal: Journal | None = None,
    notes: tuple[str, ...] = (),
) -> tuple[PooledActivations, ...]:
    """As `extract_poolings`, of texts of whatever emotions: also of neutral ones alone; `notes` go into the header."""
    check_raw_basis(model, allow_processed)
    readings = [
        Reading(tokenise_text(model, s.text), TextRecord(s.text_id, s.emotion, s.topic, s.text, s.person, s.language))
        for s in chosen.items
    ]
    more: dict[str, Any] = {"variant": chosen.name, "notes": (*notes, *notes_on_copies(chosen.items))}
    header = make_header(
        model, "comprehension", "", chosen.name, chosen.sha256, allow_processed=allow_processed, **more
    )
    return read_poolings(model, readings, poolings, header, token_budget, "reading texts", progress, journal)


def notes_on_copies(items: Sequence[Stimulus | TextRecord]) -> tuple[str, ...]:
    """What the header says of texts that are copies of others: nothing if none is."""
    said = copies_note([s.text for s in items], [(s.emotion, s.topic) for s in items])
    return (f"{said}; analyses keep them in one fold",) if said else ()


def check_classes(stimuli: StimulusSet) -> None:
    """Raises StimulusError unless there are at least two emotions to tell apart."""
    if len(stimuli.emotions) < 2:
        raise StimulusError(
            f"stimulus set '{stimuli.name}' has {len(stimuli.emotions)} emotion(s) ({', '.join(stimuli.emotions)}): "
            f"a direction is {ONE_EMOTION}"
        )


@dataclass(frozen=True)
class TokenRole:
    """One token of a previewed text: "pooled", "skipped" (content, not taken) or "special" (first token, markers)."""

    position: int
    token: str
    role: str


@dataclass(frozen=True, repr=False)
class Preview(Result, Sequence[TokenRole]):
    """The tokens of a previewed text, in order.

    Attributes:
        first: what stands in front, and by which rule, in words.
    """

    roles: tuple[TokenRole, ...]
    first: str = ""

    @overload
    def __getitem__(self, index: int) -> TokenRole: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[TokenRole]: ...

    def __getitem__(self, index: int | slice) -> TokenRole | Sequence[TokenRole]:
        return self.roles[index]

    def __len__(self) -> int:
        return len(self.roles)

    @property
    def table(self) -> pd.DataFrame:
        """One row per token: position, token, role."""
        return pd.DataFrame([asdict(r) for r in self.roles])

    def _drawn(self) -> str:
        words = [(r.token, SHADE[r.role], r.role, False) for r in self.roles]
        return tinted(words) + '<div style="font-size:85%;opacity:0.8">blue: pooled; faint: special, never pooled</div>'

    def summary(self) -> str:
        """How many tokens are pooled, and which."""
        counts = ", ".join(f"{sum(r.role == role for r in self.roles)} {role}" for role in ROLES)
        pooled = "".join(r.token for r in self.roles if r.role == "pooled")
        return f"{len(self)} tokens: {counts}; {self.first}; pooled: {pooled!r}"


def preview(model: Model, text: str, pooling: Pooling | None = None) -> Preview:
    """Which tokens of a text would be pooled, skipped or left out as special, and what stands in front by which rule.

    Args:
        model: TransformerBridge or HookedTransformer.
        text: any text, as it would be read.
        pooling: which tokens count; default the story mean.

    Raises:
        StimulusError, ContextLengthError: as in `extract_comprehension`.

    Example:
        >>> tokens = le.preview(model, "The door opened.")
        >>> [token.role for token in tokens]
        ['special', 'pooled', 'pooled', 'pooled', 'pooled', 'pooled']
    """
    pooling = pooling or story_mean()
    tokenised = tokenise_text(model, text)
    check_content(pooling, sum(tokenised.content), text)
    content = pad([tokenised.content], 0)[0].bool()
    taken = (pooling.weights(content) > 0)[0].tolist()
    roles = ["pooled" if t else "skipped" if c else "special" for t, c in zip(taken, content[0].tolist(), strict=True)]
    tokenizer = tokenizer_of(model)
    strings = [str(tokenizer.decode([i])) for i in tokenised.ids]
    made = tuple(TokenRole(i, s, r) for i, (s, r) in enumerate(zip(strings, roles, strict=True)))
    return Preview(made, first_token(model).words)


# Start from an ActivationCache you already have: labelled rows for every analysis, without reading again.
def activations_from_cache(
    model: Model,
    cache: Residuals,
    content: Mask | None = None,
    emotions: Sequence[str] | None = None,
    topics: Sequence[str] | None = None,
    *,
    tokens: Tokens | None = None,
    attention_mask: Mask | None = None,
    texts: Sequence[str] | None = None,
    pooling: Pooling | None = None,
    allow_processed: bool = False,
    allow_any_position: bool = False,
) -> PooledActivations:
    """Pool a cache that holds `resid_post` of every layer.

    Args:
        model: the model the cache comes from (for the header; it does not run).
        cache: from `residual_cache`, or from `model.run_with_cache` with those hook points named; also a dict of these
            tensors by hook name, on any device, and one text without its batch dimension.
        content: true for the tokens that may be pooled; None takes `content_mask(model, tokens, attention_mask)`.
        emotions, topics: labels per row; "neutral" is the neutral class, folds never share a topic.
        tokens: the ids that were read. With them a mask of your own is checked token by token, without them only for
            column 0 and, if `texts` are given, for more tokens than a text has.
        texts: what was read, for reports and for finding copies.
        allow_any_position: accept a mask that takes first tokens, pads or special tokens; the header's notes say so.
        pooling: which of these tokens count; default the story mean.
        attention_mask: which of `tokens` are real, for `content_mask`.
        allow_processed: accept processed weights; recorded in the header.

    Raises:
        StimulusError: neither content nor tokens, labels that do not match the rows, a mask that takes what is no
            content, a row without content, a cache that lacks layers or is of another shape.
        NotFiniteError: a content token that is NaN or infinite (what is no content may be).
        ProcessedModelError: processed weights without `allow_processed`.

    Example:
        >>> tokens = model.to_tokens(["The door opened.", "The dog slept in."])
        >>> _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("resid_post"))
        >>> labels = {"emotions": ["calm", "sad"], "topics": ["home", "home"]}
        >>> own = le.activations_from_cache(model, cache, tokens=tokens, **labels)
        >>> own.values.shape
        torch.Size([2, 6, 64])
    """
    pooling = pooling or story_mean()
    if content is None and tokens is None:
        raise StimulusError("which tokens are text? Give tokens (the ids that were read), or a mask as content")
    usual = None if tokens is None else content_mask(model, tokens, attention_mask)
    mask = usual if content is None else as_mask(content)
    assert mask is not None
    named = _labels(len(mask), emotions, topics, texts)
    found = residuals(cache, model, mask)
    said = _taken_wrongly(model, mask, usual, texts)
    if said and not allow_any_position:
        raise StimulusError(
            f"the content mask takes {said}: they are no text, and the first of them outweighs all text; leave out "
            "content and give tokens, use content_mask(model, tokens), or pass allow_any_position=True"
        )
    counts = mask.sum(1).tolist()
    for i, count in enumerate(counts):
        check_content(pooling, count, texts[i] if texts else f"row {i}")
    check_content_finite(found, mask, texts)
    sha256 = hashlib.sha256(json.dumps(named, ensure_ascii=False).encode()).hexdigest()
    taken = (pooling.weights(mask) > 0).sum(1).tolist()
    records = tuple(
        TextRecord(str(i), e, t, x, n_total=count, n_pooled=k, n_skipped=count - k)
        for i, ((e, t, x), count, k) in enumerate(zip(named, counts, taken, strict=True))
    )
    notes = (*((f"the content mask takes {said}, as was asked for",) if said else ()), *notes_on_copies(records))
    more: dict[str, Any] = {"allow_processed": allow_processed, "variant": "own cache", "notes": notes}
    header = make_header(model, "comprehension", pooling.name, "own cache", sha256, **more)
    norm = (norm_sums(found, mask) / max(sum(counts), 1)).float()
    return PooledActivations(pool_cache(found, mask, pooling), records, norm, header)


def _labels(
    n: int, emotions: Sequence[str] | None, topics: Sequence[str] | None, texts: Sequence[str] | None
) -> list[tuple[str, str, str]]:
    """Emotion, topic and text of every row."""
    for name, given in (("emotions", emotions), ("topics", topics), ("texts", texts)):
        if isinstance(given, str):
            raise StimulusError(f"{name} is one string, {given[:60]!r}; give a list of one per row")
    sizes = {"emotions": len(emotions or ()), "topics": len(topics or ()), "texts": n if texts is None else len(texts)}
    if any(size != n for size in sizes.values()):
        raise StimulusError(f"the cache has {n} rows, but there are {sizes}; give one label of each kind per row")
    return list(zip(emotions or (), topics or (), texts or [""] * n, strict=True))


def _taken_wrongly(
    model: Model, mask: Bool[Tensor, "batch pos"], usual: Bool[Tensor, "batch pos"] | None, texts: Sequence[str] | None
) -> str:
    """What a mask takes that is no content, in words; empty if nothing, as far as can be seen."""
    if usual is not None:
        if mask.shape != usual.shape:
            raise StimulusError(
                f"content has shape {tuple(mask.shape)}, tokens {tuple(usual.shape)}; give one per token"
            )
        wrong = (mask & ~usual).nonzero().tolist()
        where = f", first at row {wrong[0][0]}, position {wrong[0][1]}" if wrong else ""
        return f"{len(wrong)} first, special or pad tokens{where}" if wrong else ""
    if bool(mask[:, 0].any()):
        return f"the first token of {int(mask[:, 0].sum())} of {len(mask)} rows"
    longer = [i for i, t in enumerate(texts or ()) if t and int(mask[i].sum()) > len(encode(model, t))]
    return f"more tokens than the text has in row {longer[0]}" if longer else ""
