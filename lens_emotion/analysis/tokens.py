"""Token scores: how far each token of a text lies towards each emotion, beside random directions read the same way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lens_emotion.analysis.lens import ISOTROPIC, MATCHED, random_controls
from lens_emotion.display import Result
from lens_emotion.errors import AnalysisError, UnknownEmotionError
from lens_emotion.extraction.activations import PooledActivations, check_made_on
from lens_emotion.files.user import numbers_fit
from lens_emotion.models.access import Model, check_raw_basis, describe, hook_name, tokenizer_of
from lens_emotion.models.forward import residual_cache
from lens_emotion.models.layers import place, resolve_layer
from lens_emotion.models.prompting import tokenise_text
from lens_emotion.pictures import tinted
from lens_emotion.stats.tests import ALPHA, NOISE, max_corrected_p, percentile_band, permutation_p
from lens_emotion.stimuli.emotions import names
from lens_emotion.vectors.emotion_vectors import EmotionVectors
from lens_emotion.vectors.recipes import class_means

Content = Bool[np.ndarray, " n_tokens"]
SHOWN = 3  # emotions as coloured text in a notebook
OWN_MEAN, EMOTION_MEAN = "mean of this text", "mean of all emotions"


@dataclass(frozen=True, eq=False, repr=False)
class TokenScores(Result):
    """Every token of a text on every emotion, at one layer.

    Attributes:
        tokens: what each token says; content: False for position 0 (attention sink), BOS and other special tokens,
            which have no scores.
        emotions: in the order asked for.
        scores: way along the emotion's direction from the origin, in natural units of that emotion (1: as far as an
            average text of it); NaN for what is no content.
        null_low, null_high: 95% of random directions at the same token, in the same units.
        p: share of random directions that lie as far out, two-sided, this token alone; p_corrected: against the
            farthest token of each direction.
        layer: the layer. n_layers: of how many. model: its name.
        origin: "mean of this text" (its own content tokens), or "mean of all emotions" of the activations given.
        control: "isotropic" random directions, or "matched": random mixtures of the centred texts given.
        n_random: how many.
    """

    tokens: tuple[str, ...]
    content: Content
    emotions: tuple[str, ...]
    scores: Float[np.ndarray, "n_emotions n_tokens"]
    null_low: Float[np.ndarray, "n_emotions n_tokens"]
    null_high: Float[np.ndarray, "n_emotions n_tokens"]
    p: Float[np.ndarray, "n_emotions n_tokens"]
    p_corrected: Float[np.ndarray, "n_emotions n_tokens"]
    layer: int
    n_layers: int
    model: str
    origin: str
    control: str
    n_random: int

    @property
    def table(self) -> pd.DataFrame:
        """One row per token and emotion: position, token, content, emotion, score, null_low, null_high, p,
        p_corrected."""
        k, n = self.scores.shape
        columns = {
            "position": np.repeat(np.arange(n), k),
            "token": np.repeat(np.array(self.tokens, dtype=object), k),
            "content": np.repeat(self.content, k),
            "emotion": np.tile(np.array(self.emotions, dtype=object), n),
            "score": self.scores.T.ravel(),
        }
        rest = ("null_low", "null_high", "p", "p_corrected")
        return pd.DataFrame(columns | {name: getattr(self, name).T.ravel() for name in rest})

    def _drawn(self) -> str:
        """The text with the colours of the emotion that reaches farthest, and for up to `SHOWN` emotions of each."""
        order = sorted(range(len(self.emotions)), key=lambda i: -float(np.nanmax(np.abs(self.scores[i]))))
        top = max(float(np.nanmax(np.abs(self.scores))), 1e-6)
        lines = []
        for i in order[:SHOWN]:
            columns = (self.scores[i], self.null_low[i], self.null_high[i], self.p_corrected[i])
            words = []
            for token, score, low, high, p in zip(self.tokens, *columns, strict=True):
                said = f"{self.emotions[i]} {score:+.2f}, random {low:+.2f} to {high:+.2f}, p = {p:.3f}"
                said = said if np.isfinite(score) else "not scored"
                words.append((token, float(score / top), said, bool(p <= ALPHA and score > 0)))
            lines.append(f"<div><b>{escape(self.emotions[i])}</b></div>{tinted(words)}")
        more = f", the {SHOWN} of {len(order)} emotions that reach farthest" if len(order) > SHOWN else ""
        key = f"blue towards, orange away, strongest {top:.1f} natural units; underlined: towards, beyond chance{more}"
        return "".join(lines) + f'<div style="font-size:85%;opacity:0.8">{key}</div>'

    def summary(self) -> str:
        """One sentence: the token farthest along any emotion, and whether it holds against the farthest of each."""
        rows = self.table[self.table.content]
        top = rows.iloc[int(rows["score"].argmax())]
        held = rows[(rows.p_corrected <= ALPHA) & (rows.score > 0)]
        verdict = f"{held.position.nunique()} of {int(self.content.sum())} tokens lie beyond chance on some emotion"
        return (
            f"At {place(self.layer, self.n_layers)} of {self.model} {top.token!r} lies farthest out, {top.score:.1f} "
            f"natural units towards {top.emotion} from the {self.origin} ({self.n_random} {self.control} random "
            f"directions reach {top.null_high:.1f} there); "
            f"{verdict if len(held) else f'no token: {NOISE}'} (corrected over tokens, not over emotions)."
        )


@numbers_fit(AnalysisError)
def token_scores(
    model: Model,
    vectors: EmotionVectors,
    text: str,
    emotions: Iterable[str] | None = None,
    layer: int | None = None,
    acts: PooledActivations | None = None,
    n_random: int = 200,
    seed: int = 0,
    *,
    allow_other_model: bool = False,
    allow_processed: bool = False,
) -> TokenScores:
    """Read a text once and score its tokens on several emotions at one layer.

    A score is (h - origin) . u / natural: the token's state less the origin, along the emotion's unit direction, in the
    emotion's natural unit. Random directions of length 1 are read in the same way and unit.

    Args:
        emotions: all of the vectors' by default.
        layer: default n_layers // 2; negative counts from the end.
        acts: texts whose mean over emotions is the origin, and whose covariance random directions have. Without them
            the origin is the mean of the text's own content tokens, so that scores say where in the text an emotion
            lies, not how much of it the text has; and random directions are isotropic.
        n_random: random directions, at least 19 for p = 0.05 to be possible.
        model: TransformerBridge or HookedTransformer.
        vectors: of this model.
        text: any text.
        seed: of the random directions.
        allow_other_model, allow_processed: as in `lens`, at your own risk.

    Raises:
        FingerprintError: vectors or activations of another model (unless `allow_other_model`).
        ProcessedModelError: the model's weights are processed (unless `allow_processed`).
        UnknownEmotionError: an emotion without a vector.
        StimulusError, ContextLengthError: a text without content, or one longer than the model's context.
        AnalysisError: no such layer, no emotion, or n_random below 1.

    Example:
        >>> result = le.token_scores(model, vectors, "The door opened.", ["calm", "sad"], acts=acts, n_random=20)
        >>> result.emotions
        ('calm', 'sad')
    """
    at = resolve_layer(layer, vectors.n_layers, vectors.n_layers // 2)
    name = _check_model(model, vectors, acts, allow_other_model, allow_processed)
    for emotion in _chosen(vectors, emotions := None if emotions is None else names(emotions)):
        vectors[emotion].check_layers([at])
    found = _score(model, vectors, text, emotions, (at,), acts, n_random, seed)
    return replace(found[0], model=name)


@numbers_fit(AnalysisError)
def token_scores_by_layer(
    model: Model,
    vectors: EmotionVectors,
    text: str,
    emotions: Iterable[str] | None = None,
    acts: PooledActivations | None = None,
    n_random: int = 200,
    seed: int = 0,
) -> tuple[TokenScores, ...]:
    """`token_scores` at every layer, from one pass over the text.

    Raises:
        As `token_scores`.
    """
    _check_model(model, vectors, acts)
    return _score(model, vectors, text, emotions, range(vectors.n_layers), acts, n_random, seed)


def _score(
    model: Model,
    vectors: EmotionVectors,
    text: str,
    emotions: Iterable[str] | None,
    layers: Sequence[int],
    acts: PooledActivations | None,
    n_random: int,
    seed: int,
) -> tuple[TokenScores, ...]:
    chosen = _chosen(vectors, emotions)
    if n_random < 1:
        raise AnalysisError(f"n_random is {n_random}; give at least 1 (19 for p = 0.05 to be possible)")
    read, tokenizer = tokenise_text(model, text), tokenizer_of(model)
    tokens, content = tuple(str(tokenizer.decode([i])) for i in read.ids), np.array(read.content)
    cache, keep = residual_cache(model, torch.tensor([read.ids])), torch.from_numpy(content)
    centre = None if acts is None else class_means(acts).float().mean(0)
    control, origin = (ISOTROPIC, OWN_MEAN) if acts is None else (MATCHED, EMOTION_MEAN)
    index = [vectors.emotions.index(e) for e in chosen]
    found = []
    for at in layers:
        states = cache[hook_name(at)][0].float().cpu()[keep]
        random = random_controls(vectors.d_model, n_random, seed, None if acts is None else acts.values[:, at])[control]
        away = states - (states.mean(0) if centre is None else centre[at])
        scored = _against(away, vectors.at(at)[index].float(), random, vectors.natural[index, at].numpy(), content)
        scores, low, high, p, corrected = scored
        where = at, vectors.n_layers, vectors.header.model
        found.append(
            TokenScores(tokens, content, chosen, scores, low, high, p, corrected, *where, origin, control, n_random)
        )
    return tuple(found)


def _check_model(
    model: Model,
    vectors: EmotionVectors,
    acts: PooledActivations | None,
    other_model: bool = False,
    processed: bool = False,
) -> str:
    """The model's name, if vectors and activations are of it."""
    info = describe(model)
    check_raw_basis(model, processed)
    if not other_model:
        check_made_on(info, vectors.header, *([acts.header] if acts is not None else []))
    return info.name


def _chosen(vectors: EmotionVectors, emotions: Iterable[str] | None) -> tuple[str, ...]:
    chosen = vectors.emotions if emotions is None else names(emotions)
    if unknown := [e for e in chosen if e not in vectors]:
        raise UnknownEmotionError(f"no vector for '{unknown[0]}'; these vectors hold: {', '.join(vectors.emotions)}")
    if not chosen:
        raise AnalysisError(f"no emotion asked for; these vectors hold: {', '.join(vectors.emotions)}")
    return chosen


def _against(
    states: Float[Tensor, "n d_model"],
    directions: Float[Tensor, "k d_model"],
    random: Float[Tensor, "m d_model"],
    natural: Float[np.ndarray, " k"],
    content: Content,
) -> Float[np.ndarray, "5 k all"]:
    """Projections of the tokens, the band of random directions at each (in natural units), and p alone and against the
    farthest token; NaN at the tokens that are no content."""
    scores, null = ((states @ rows.T).T.double().numpy() for rows in (directions, random))
    units = natural[:, None]
    p = np.stack([permutation_p(np.abs(s), np.abs(null)) for s in scores])
    corrected = np.stack([max_corrected_p(s, null, "two-sided", standardise=True) for s in scores])
    low, high = percentile_band(null)
    full = np.full((5, len(scores), len(content)), np.nan)
    full[:, :, content] = np.stack([scores / units, low / units, high / units, p, corrected])
    return full
