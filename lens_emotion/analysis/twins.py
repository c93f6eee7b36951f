"""Twins: the same event told with its affect and without. Do the states tell which is which, beyond the words?

A twin keeps the people, the things and the length of its original, so that topic and nouns tell nothing; what is left
is affect, and the words that carry it. Words are therefore asked on the same folds, and the increment is what counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from lens_emotion.analysis.decoding import CENTRED, STANDARDISED
from lens_emotion.analysis.words import FULL, Encoder, Gram, joined, static_rows, word_grams
from lens_emotion.display import Result
from lens_emotion.errors import AnalysisError, StimulusError
from lens_emotion.extraction.activations import PooledActivations, check_same_model
from lens_emotion.files.user import numbers_fit
from lens_emotion.models.access import Model
from lens_emotion.models.layers import place
from lens_emotion.pictures import Line
from lens_emotion.stats.decide import Estimate
from lens_emotion.stats.design import design_of, tied, with_copies
from lens_emotion.stats.gram import moments
from lens_emotion.stats.stacking import ROUNDING, STRENGTHS, increment, outcomes, ridge_scores, stacked
from lens_emotion.stats.tests import check_permutations, null_columns, p_text

TWIN = "-twin"  # at the end of a twin's id, behind that of its original
LEAST_TOPICS = 3


@dataclass(frozen=True, eq=False, repr=False)
class TwinsApart(Result):
    """Accuracy of telling an event from its twin, by one decoder; by the other one in `standardised`.

    Attributes:
        table: layer, depth, accuracy, null_low, null_high, p, p_corrected (signs of pairs flipped; best of the layers),
            words (accuracy of the words alone), both, increment, low, high, increment_p, increment_p_corrected; then
            accuracy, p_corrected and the increment of the standardised decoder.
        chosen: increment at layers chosen on other folds. p, null_high: of it, with the states' signs flipped.
        n_pairs: pairs. against: the sources of words.
    """

    _picture = Line("layer", "accuracy", "null_low", "null_high")

    table: pd.DataFrame
    chosen: Estimate
    p: float
    null_high: float
    words: float
    n_pairs: int
    against: tuple[str, ...]
    copies: str = ""
    decoder: str = CENTRED
    standardised: TwinsApart | None = field(default=None)

    @property
    def best_layer(self) -> int:
        return int(self.table["accuracy"].argmax())

    def summary(self) -> str:
        """One sentence: the best layer, the words alone, the increment."""
        row, e = self.table.iloc[self.best_layer], self.chosen
        other = self.standardised
        beside = "" if other is None else f"; standardised per dimension {other.chosen.value:+.2f}"
        beside += "" if other is None else f" [{other.chosen.low:+.2f}, {other.chosen.high:+.2f}]"
        full = "; the words are at their ceiling, so that nothing could be added" if self.words > FULL else ""
        return (
            f"Told from its twin without affect at {place(self.best_layer, len(self.table), best=True)}: accuracy "
            f"{row.accuracy:.2f} (chance 0.50, flipped signs to {row.null_high:.2f}, {p_text(row.p_corrected)} "
            f"corrected over layers); words alone ({', '.join(self.against) or 'none'}) {self.words:.2f}; increment of "
            f"the state {e.value:+.2f} [{e.low:+.2f}, {e.high:+.2f}], {p_text(self.p)}{beside}{full} ({self.n_pairs} "
            f"pairs, {e.n} topics).{with_copies(self.copies)}"
        )


@numbers_fit(AnalysisError)
def twins_apart(
    acts: PooledActivations,
    twins: PooledActivations,
    static: PooledActivations | Model | None = None,
    encoder: Encoder | None = None,
    n_permutations: int = 100,
    seed: int = 0,
) -> TwinsApart:
    """Which of two tells the event with its affect? The mean difference of other topics' pairs decides, layer by layer.

    Args:
        acts: the originals, as read. twins: their twins (`le.load_stimuli("twins")` for the passages), read by the
            same model; a twin has the id of its original and "-twin".
        static, encoder: as in `beyond_words`; static embeddings that are given hold both.
        n_permutations: sign flips: in each, pairs have their two texts exchanged at random.
        seed: of whatever is drawn at random.

    Raises:
        StimulusError: no pairs, or pairs of fewer than 3 topics. FingerprintError: two models.
        AnalysisError: n_permutations below 1, or embeddings that do not fit.

    Example:
        >>> found = le.twins_apart(acts, twins, model)  # doctest: +SKIP
    """
    check_permutations(n_permutations)
    check_same_model(acts, twins)
    one, other = pairs_of(acts, twins)
    design = design_of(one)
    if design.n_blocks < LEAST_TOPICS:
        raise StimulusError(f"twins are held out by topic, which needs {LEAST_TOPICS}; got {design.n_blocks}")
    n, fold = len(one), design.fold
    label = np.zeros(n, dtype=np.int64)
    sources, log_p = _words_alone(one, other, _static_of(one, other, static), encoder, fold)
    rng = np.random.default_rng(seed)
    signs = np.concatenate([np.ones((1, n)), rng.choice([-1.0, 1.0], (n_permutations, n))])
    found = {}
    for decoder in (CENTRED, STANDARDISED):
        right, joint = [], []
        for gram in _layers(one, other, decoder):
            margins = _margins(gram, fold, signs)
            right.append((margins > 0).mean(1))
            joint.append(joined(log_p, _sided(margins), label, fold))
        result = increment(outcomes(log_p, label), np.stack(joint, axis=1), fold, design.block, seed)
        accuracy = np.stack(right, axis=1)
        c = result.columns
        table = {"layer": np.arange(acts.n_layers), "depth": acts.depth, "accuracy": accuracy[0]}
        table |= null_columns(accuracy[0], accuracy[1:]) | {"words": result.base}
        table |= {name: c[name] for name in ("both", "increment", "low", "high")}
        table |= {"increment_p": c["p"], "increment_p_corrected": c["p_corrected"]}
        found[decoder] = TwinsApart(
            pd.DataFrame(table), result.chosen, result.p, result.null_high, result.base, n, sources,
            design.copies if tied(design.copies) else "", decoder,
        )  # fmt: skip
    mine, beside = found[CENTRED], found[STANDARDISED]
    columns = ("accuracy", "p_corrected", "increment", "low", "high")
    more = {f"{c}_standardised": beside.table[c] for c in columns}
    return replace(mine, table=mine.table.assign(**more), standardised=beside)


def _words_alone(
    one: PooledActivations,
    other: PooledActivations,
    static: Float[np.ndarray, "n2 d"] | None,
    encoder: Encoder | None,
    fold: Int[np.ndarray, " n"],
) -> tuple[tuple[str, ...], Float[np.ndarray, "n 2"]]:
    """The sources by which words differ within pairs, and held-out log-probabilities of their stack."""
    n, texts = len(one), [r.text for r in (*one.records, *other.records)]
    differ = {name: _differences(gram) for name, gram in word_grams(texts, static, encoder).items()}
    sources = {name: gram for name, gram in differ.items() if gram.trace() > ROUNDING * n}
    words = [_margins(gram, fold, np.ones((1, n)))[0] for gram in sources.values()]
    words += [ridge_scores(g, np.ones((n, 1)), fold, s)[:, 0] for g in sources.values() for s in STRENGTHS]
    scores = np.stack([_sided(w) for w in words]) if words else np.zeros((1, n, 2))
    return tuple(sources), stacked(scores[None], np.zeros(n, dtype=np.int64), fold)[0]


def pairs_of(acts: PooledActivations, twins: PooledActivations) -> tuple[PooledActivations, PooledActivations]:
    """The originals that have a twin, and the twins, in one order.

    Raises:
        StimulusError: none has.
    """
    place = {r.text_id: i for i, r in enumerate(twins.records)}
    have = [(i, place[r.text_id + TWIN]) for i, r in enumerate(acts.records) if r.text_id + TWIN in place]
    if not have:
        raise StimulusError(
            f"no text of '{acts.header.stimuli}' has a twin in '{twins.header.stimuli}'; a twin bears the id of its "
            f"original and '{TWIN}', as in le.load_stimuli('twins')"
        )
    sides = []
    for given, rows in zip((acts, twins), zip(*have, strict=True), strict=True):
        at = list(rows)
        sides.append(replace(given, values=given.values[at], records=tuple(given.records[i] for i in at)))
    return sides[0], sides[1]


def _static_of(
    one: PooledActivations, other: PooledActivations, static: PooledActivations | Model | None
) -> Float[np.ndarray, "n2 d"] | None:
    if static is None:
        return None
    sides = [static_rows(side, static, side) for side in (one, other)]
    return np.concatenate([s for s in sides if s is not None])


def _differences(gram: Float[np.ndarray, "n2 n2"]) -> Float[np.ndarray, "n n"]:
    """Inner products of the differences within pairs, from those of all originals followed by all twins."""
    n = len(gram) // 2
    return np.asarray(gram[:n, :n] - gram[:n, n:] - gram[n:, :n] + gram[n:, n:])


def _layers(one: PooledActivations, other: PooledActivations, decoder: str) -> Iterator[Gram]:
    """Inner products of the pairs' differences. The scale of a dimension is that of all texts: which is which plays no
    part in it."""
    for a, b in zip(one.values.cpu().unbind(1), other.values.cpu().unbind(1), strict=True):
        rows = (a - b).double()
        if decoder == STANDARDISED:
            rows = rows / moments(torch.cat([a, b]))[1].double()
        yield (rows @ rows.T).numpy()


def _margins(gram: Gram, fold: Int[np.ndarray, " n"], signs: Float[np.ndarray, "b n"]) -> Float[np.ndarray, "b n"]:
    """Cosine-like margin of each pair with the mean difference of other folds' pairs, under each set of signs."""
    length = np.sqrt(np.maximum(gram.diagonal(), np.finfo(float).tiny))
    apart = fold[:, None] != fold
    return np.asarray(signs * (signs @ (gram * apart / length)))


def _sided(margin: Float[np.ndarray, "*b n"]) -> Float[np.ndarray, "*b n 2"]:
    """A margin as scores of two classes: the first of the two has the affect, or the second."""
    spread = np.sqrt((margin**2).mean(-1, keepdims=True))
    scaled = margin / np.where(spread > 0, spread, 1.0)
    return np.stack([scaled, -scaled], axis=-1)
