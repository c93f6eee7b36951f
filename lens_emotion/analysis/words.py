"""Emotion, or the words? What the states tell of a text's emotion beyond what its words tell, on the same folds.

A text on a sad event uses sad words, and whoever counts words can tell it from a happy one. That states decode proves a
representation only where they tell more: than a bag of words, than the mean static embedding of the same model (what
layer 0 is given), than a sentence encoder where one is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import TfidfVectorizer

from lens_emotion.analysis.decoding import CENTRED, STANDARDISED
from lens_emotion.display import Result
from lens_emotion.errors import AnalysisError, StimulusError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.extraction.static import static_embeddings
from lens_emotion.files.user import numbers_fit
from lens_emotion.models.access import Model, backend_of
from lens_emotion.models.threads import one_core
from lens_emotion.pictures import Line
from lens_emotion.stats.decide import Estimate
from lens_emotion.stats.design import Design, design_of, grams, inner_products, label_permutations, tied, with_copies
from lens_emotion.stats.gram import fold_gram, fold_standardised, observed_scores
from lens_emotion.stats.stacking import (
    STEPS,
    STRENGTHS,
    evened,
    increment,
    outcomes,
    ridge_scores,
    shuffled_within,
    stacked,
)
from lens_emotion.stats.tests import check_permutations, max_corrected_p, p_text, percentile_band, permutation_p
from lens_emotion.stimuli.copies import words_of

BAG, STATIC, ENCODER = "bag of words", "static embeddings", "sentence encoder"
EVERY = "all, stacked"
LEAST_TOPICS = 3  # fewer have no interval
FULL = 0.95  # accuracy of the words beyond which a state has no room
AT_ONCE = 20  # shuffled stacks held in memory together
Encoder = Callable[[list[str]], Any]
Gram = Float[np.ndarray, "n n"]


@dataclass(frozen=True, eq=False, repr=False)
class BeyondWords(Result):
    """What states add to the words, by one decoder; by the other one in `standardised`.

    Attributes:
        table: layer, depth, state (held-out accuracy of the state alone), state_p (permuted labels, best of the
            layers), words (of the words alone), both (of the two
            stacked), increment (both less words), low, high (95% over topics), null_low, null_high, p, p_corrected
            (states of other texts of the fold in place of a text's own; best of the layers), bits, bits_low, bits_high
            (increment of the log score per text); then the standardised decoder's, as increment_standardised and so on.
        baselines: source, decoder, accuracy, chance, null_high, p (permuted labels): each of the words' decoders, and
            all of them stacked.
        chosen: increment of accuracy at layers that were chosen on other folds, with its interval over topics.
        p, null_high: of it among shuffled states. layers: chosen for each fold.
        words, both: accuracies behind it. state: best accuracy of the state alone. chance: 1 / n_emotions.
        against: the sources of words. copies: as in `decoding`. decoder: of the states.
    """

    _picture = Line("layer", "increment", "low", "high")

    table: pd.DataFrame
    baselines: pd.DataFrame
    chosen: Estimate
    p: float
    null_high: float
    layers: tuple[int, ...]
    words: float
    both: float
    against: tuple[str, ...]
    emotions: tuple[str, ...]
    n_texts: int
    n_permutations: int
    copies: str = ""
    decoder: str = CENTRED
    standardised: BeyondWords | None = field(default=None)

    @property
    def state(self) -> float:
        return float(self.table["state"].max())

    @property
    def chance(self) -> float:
        return 1 / len(self.emotions)

    @property
    def tied(self) -> bool:
        return tied(self.copies)

    @property
    def full(self) -> bool:
        """Whether the words leave a state no room, so that an increment of 0 says nothing."""
        return self.words > FULL

    @property
    def n_topics(self) -> int:
        return self.chosen.n

    def summary(self) -> str:
        """One sentence: words alone, words and state, the increment by either decoder."""
        row = self.baselines.iloc[-1]
        said = "" if self.standardised is None else f"; standardised per dimension {_gain(self.standardised)}"
        said += "; the words are at their ceiling, which leaves the state no room" if self.full else ""
        return (
            f"Words alone ({', '.join(self.against) or 'none'}) tell {len(self.emotions)} emotions apart with accuracy "
            f"{self.words:.2f} (chance {self.chance:.2f}, permuted labels to {row.null_high:.2f}); with the state "
            f"{self.both:.2f} at layers chosen on other topics: {_gain(self)}{said} ({self.n_texts} texts, "
            f"{self.n_topics} topics).{with_copies(self.copies)}"
        )


def _gain(found: BeyondWords) -> str:
    e = found.chosen
    return f"{e.value:+.2f} [{e.low:+.2f}, {e.high:+.2f}], shuffled states to {found.null_high:+.2f}, {p_text(found.p)}"


@numbers_fit(AnalysisError)
def beyond_words(
    acts: PooledActivations,
    static: PooledActivations | Model | None = None,
    encoder: Encoder | None = None,
    n_permutations: int = 39,
    seed: int = 0,
) -> BeyondWords:
    """The increment in held-out accuracy of the state over the words, at every layer, by both decoders of `decoding`.

    The words are decoded from a bag of words (tf-idf), from mean static embeddings of the same model and, where one is
    given, from a sentence encoder: each by its nearest centroid (centred cosine) and by ridge regression of three
    strengths. Their held-out scores are stacked, and so are the stack and the state: see `stats.stacking`. Folds,
    copies and neutral texts are as in `decoding`. tf-idf weights know the texts, not their labels.

    Args:
        acts: pooled activations of labelled texts.
        static: the model that read them, or what `static_embeddings` gave; None leaves static embeddings out, and the
            words' share is then underrated.
        encoder: texts -> embeddings [n_texts, d], such as `SentenceTransformer(...).encode` or `le.sentence_encoder`.
            It reads sentences, not words, so that the question is harder: more than another reader finds?
        n_permutations: behind the null, in which a text's state is that of another one of its fold.
        seed: of whatever is drawn at random.

    Raises:
        StimulusError: fewer than 2 emotions or 3 topics, or an emotion with texts of one topic only.
        AnalysisError: embeddings of other texts, or of another shape than texts x d; n_permutations below 1.
        UnsupportedModelError: a static that is neither a model nor activations.

    Example:
        >>> found = le.beyond_words(acts, model, n_permutations=20)
        >>> bool(found.chosen.low <= found.chosen.value <= found.chosen.high)
        True
    """
    check_permutations(n_permutations)
    design, texts = design_of(acts), acts.emotional
    if design.n_blocks < LEAST_TOPICS:
        raise StimulusError(
            f"the increment has an interval over topics, which needs {LEAST_TOPICS} of them (copies joined); got "
            f"{design.n_blocks}"
        )
    sources = word_grams([r.text for r in texts.records], static_rows(acts, static, texts), encoder)
    labels = label_permutations(design, n_permutations, seed)
    order = shuffled_within(design.fold, n_permutations, seed)
    values = texts.values.detach().cpu()
    found = {}
    with one_core():  # thousands of small systems
        log_p, table = _words_alone(design, sources, labels)
        for decoder in (CENTRED, STANDARDISED):
            scores = _state_scores(design, values, decoder)
            found[decoder] = _beyond(acts, design, log_p, scores, order, labels, decoder, table, tuple(sources), seed)
    one, other = found[CENTRED], found[STANDARDISED]
    more = {f"{c}_standardised": other.table[c] for c in other.table if c not in ("layer", "depth", "words")}
    return replace(one, table=one.table.assign(**more), standardised=other)


def _state_scores(design: Design, values: torch.Tensor, decoder: str) -> Iterator[Float[np.ndarray, "n k"]]:
    """Held-out cosines of every layer."""
    if decoder == CENTRED:
        return (observed_scores(fold_gram(design, gram)) for gram in grams(values))
    return (observed_scores(fold_standardised(design, rows)) for rows in values.unbind(1))


def _words_alone(
    design: Design, sources: Mapping[str, Gram], labels: Int[np.ndarray, "b n"]
) -> tuple[Float[np.ndarray, "n k"], pd.DataFrame]:
    """Held-out log-probabilities of all decoders of words, stacked, and the accuracy of each."""
    target = np.eye(design.n_classes)[design.label] - 1 / design.n_classes
    decoders: dict[tuple[str, str], np.ndarray] = {}
    for name, gram in sources.items():
        decoders[name, CENTRED] = observed_scores(fold_gram(design, torch.from_numpy(gram.copy())))
        for strength in STRENGTHS:
            decoders[name, f"ridge {strength:g}"] = ridge_scores(gram, target, design.fold, strength)
    scores = [evened(s) for s in decoders.values()] or [np.zeros(target.shape)]
    log_p = stacked(np.stack(scores)[None], design.label, design.fold)[0]
    rows = []
    for (source, decoder), s in [*decoders.items(), ((EVERY, "stacked"), log_p)]:
        guess = s.argmax(1)
        null = (labels == guess).mean(1)
        value = float((guess == design.label).mean())
        facts = {"source": source, "decoder": decoder, "accuracy": value, "chance": 1 / design.n_classes}
        rows.append(facts | {"null_high": float(percentile_band(null)[1]), "p": float(permutation_p(value, null))})
    return log_p, pd.DataFrame(rows)


def _beyond(
    acts: PooledActivations,
    design: Design,
    log_p: Float[np.ndarray, "n k"],
    scores: Iterator[Float[np.ndarray, "n k"]],
    order: Int[np.ndarray, "b n"],
    labels: Int[np.ndarray, "p n"],
    decoder: str,
    baselines: pd.DataFrame,
    against: tuple[str, ...],
    seed: int,
) -> BeyondWords:
    base, guesses, joint = outcomes(log_p, design.label), [], []
    for layer in scores:
        guesses.append(layer.argmax(1))
        joint.append(joined(log_p, evened(layer)[order], design.label, design.fold))
    found = increment(base, np.stack(joint, axis=1), design.fold, design.block, seed)
    guess = np.stack(guesses)
    state, null = (guess == design.label).mean(1), (labels[:, None] == guess).mean(2)
    facts = {"layer": np.arange(acts.n_layers), "depth": acts.depth, "state": state}
    facts |= {"state_p": max_corrected_p(state, null), "words": found.base}
    table = pd.DataFrame(facts | found.columns)
    return BeyondWords(
        table=table,
        baselines=baselines,
        chosen=found.chosen,
        p=found.p,
        null_high=found.null_high,
        layers=found.layers,
        words=found.base,
        both=found.both,
        against=against,
        emotions=design.emotions,
        n_texts=len(design.label),
        n_permutations=len(order) - 1,
        copies=design.copies,
        decoder=decoder,
    )


def joined(
    base: Float[np.ndarray, "n k"],
    scores: Float[np.ndarray, "b n k"],
    label: Int[np.ndarray, " n"],
    fold: Int[np.ndarray, " n"],
) -> Float[np.ndarray, "b n 2"]:
    """Outcomes of stacking log-probabilities with each of several sets of scores, the first as observed. Shuffled ones
    need next to no weight, which a step from none and one without the fold find."""
    found = []
    for part in (slice(0, 1), *(slice(i, i + AT_ONCE) for i in range(1, len(scores), AT_ONCE))):
        mine = scores[part].astype(np.float32)
        pair = np.stack([np.broadcast_to(base.astype(np.float32), mine.shape), mine], axis=1)
        steps = 1 if part.start else STEPS
        found.append(outcomes(stacked(pair, label, fold, start=(1.0, 0.0), steps=steps), label))
    return np.concatenate(found)


# What the words are, as inner products of texts; `analysis.twins` asks the same of pairs.


def word_grams(
    texts: Sequence[str], static: Float[np.ndarray, "n d"] | None = None, encoder: Encoder | None = None
) -> dict[str, Gram]:
    """Centred inner products of the texts by each source, scaled to a mean square of 1; one that is the same for all
    texts says nothing and is left out."""
    found = {BAG: bag_rows(texts)}
    if static is not None:
        found[STATIC] = static
    if encoder is not None:
        found[ENCODER] = _embedded(texts, encoder)
    made = {}
    for name, rows in found.items():
        rows = rows - rows.mean(0)
        gram = inner_products(torch.from_numpy(np.ascontiguousarray(rows, dtype=float))).numpy()
        size = float(gram.trace()) / len(gram)
        if size > 1e-12:
            made[name] = gram / size
    return made


def bag_rows(texts: Sequence[str]) -> Float[np.ndarray, "n r"]:
    """tf-idf of the words (pairs of characters in scripts without spaces), rotated into the span of the texts."""
    counts: csr_array = TfidfVectorizer(analyzer=words_of, sublinear_tf=True).fit_transform(texts)
    if counts.shape[1] <= counts.shape[0]:
        return np.asarray(counts.todense())
    values, axes = np.linalg.eigh(np.asarray((counts @ counts.T).todense()))
    return np.asarray(axes * np.sqrt(np.maximum(values, 0)))


def static_rows(
    acts: PooledActivations, static: PooledActivations | Model | None, texts: PooledActivations
) -> Float[np.ndarray, "n d"] | None:
    """The static embeddings of these texts, made where a model is given; matched by what the texts say.

    Raises:
        AnalysisError: embeddings that lack a text.
    """
    if static is None:
        return None
    if isinstance(static, PooledActivations) and static.n_layers > 1:
        raise AnalysisError(
            f"static holds states of {static.n_layers} layers, not the words' embeddings; give the model, or "
            "le.static_embeddings(model, acts)"
        )
    if not isinstance(static, PooledActivations):
        backend_of(static)  # whatever is no model says so
    made = static if isinstance(static, PooledActivations) else static_embeddings(static, acts)
    place = {r.text: i for i, r in enumerate(made.records)}
    if lacking := [r.text_id for r in texts.records if r.text not in place]:
        raise AnalysisError(
            f"the static embeddings lack {len(lacking)} of {len(texts)} texts ({lacking[0]!r} first); make them of "
            "these activations: le.static_embeddings(model, acts)"
        )
    return made.values[[place[r.text] for r in texts.records], 0].double().numpy()


def _embedded(texts: Sequence[str], encoder: Encoder) -> Float[np.ndarray, "n d"]:
    if not isinstance(encoder, str | bytes):  # a SentenceTransformer is callable too, with tokens
        encoder = getattr(encoder, "encode", encoder)
    if not callable(encoder):
        raise AnalysisError(
            f"encoder is a function of a list of texts, not {type(encoder).__name__}; give "
            "le.sentence_encoder(folder), or SentenceTransformer(name).encode"
        )
    rows = _numbers(encoder(list(texts)))
    if rows is None or rows.ndim != 2 or len(rows) != len(texts) or not rows.shape[1]:
        given = "no table of numbers" if rows is None else f"shape {rows.shape}"
        raise AnalysisError(f"the encoder gave {given}; return finite numbers, {len(texts)} texts x d")
    if not np.isfinite(rows).all():
        raise AnalysisError(f"the encoder gave NaN or infinity; return finite numbers, {len(texts)} texts x d")
    return rows


def _numbers(given: Any) -> np.ndarray | None:
    """Of an array, a tensor of any precision and device, or a list of these; None: no numbers, or uneven widths."""
    if isinstance(given, list | tuple) and any(isinstance(row, torch.Tensor) for row in given):
        parts = [_numbers(row) for row in given]
        return None if any(p is None for p in parts) else _numbers([p.tolist() for p in parts if p is not None])
    given = given.detach().cpu().double() if isinstance(given, torch.Tensor) and not given.is_complex() else given
    try:
        rows = np.asarray(given)
        return rows.astype(float) if rows.dtype.kind in "fiub" else None
    except (TypeError, ValueError, RuntimeError):
        return None
