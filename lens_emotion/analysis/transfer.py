"""Transfer: do emotion directions learned on some texts (stories) name the emotion of others (passages)?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from lens_emotion.analysis.decoding import auc_table
from lens_emotion.display import Result
from lens_emotion.errors import AnalysisError, StimulusError
from lens_emotion.extraction.activations import PooledActivations, check_same_model, codes, shared_emotions
from lens_emotion.files.user import numbers_fit
from lens_emotion.models.layers import place, resolve_layer
from lens_emotion.pictures import Line
from lens_emotion.stats.design import Design, design_of, label_permutations, linked_topics
from lens_emotion.stats.tests import (
    bootstrap_over_groups,
    check_permutations,
    noise_note,
    null_columns,
    p_text,
    percentile_band,
)
from lens_emotion.vectors.emotion_vectors import unit

CENTRINGS = ("train mean", "own mean")
Rows = Int[np.ndarray, " _"]


@dataclass(frozen=True, eq=False, repr=False)
class Transfer(Result):
    """Accuracy on one set of texts of centroids learned on another.

    Attributes:
        table: centring, layer, depth, accuracy, low, high (95% bootstrap over the topics of the test texts), chance
            (1/n_emotions), null_mean, null_low, null_high (95% of the permutations of the test labels), p (this layer
            alone), p_corrected (best of the layers, within a centring).
        auc: centring, layer, depth, emotion, auc, auc_low, auc_high (see `decoding`).
        emotions: the shared emotions, which alone were used; left_out: those that only one of the sets holds.
        shared_topics: topics that both sets hold, and whether their texts were kept from training is `excluded`.
        label: true class of each test text; predicted: the class it was given, per centring and layer.
        train, test: what was read and how, in words.
    """

    _picture = Line("layer", "accuracy", "null_low", "null_high", group="centring", reference="chance")

    table: pd.DataFrame
    auc: pd.DataFrame
    emotions: tuple[str, ...]
    left_out: tuple[str, ...]
    shared_topics: tuple[str, ...]
    excluded: bool
    label: Int[np.ndarray, " n_test"]
    predicted: Int[np.ndarray, "2 n_layers n_test"]
    train: str
    test: str

    def best(self, centring: str = "own mean") -> pd.Series:
        """Row of the highest accuracy under a centring (the earliest of equals)."""
        rows = self.table[self.table["centring"] == centring]
        return rows.iloc[int(rows["accuracy"].argmax())]

    def summary(self) -> str:
        """Where the texts came from, then one sentence per centring on its best layer."""
        said = [f"Learned on {self.train}, tested on {self.test}: {len(self.emotions)} shared emotions"]
        if self.left_out:
            said.append(f" ({len(self.left_out)} left out: {', '.join(self.left_out)})")
        if self.shared_topics:
            fate = "never trained and tested on together" if self.excluded else "trained AND tested on"
            said.append(f", {len(self.shared_topics)} shared topics {fate}")
        return "".join(said) + ". " + " ".join(self._sentence(c) for c in CENTRINGS)

    def _sentence(self, centring: str) -> str:
        row = self.best(centring)
        n_layers = int(self.table["layer"].max()) + 1

        return (
            f"Centred on the {centring}, accuracy is {row.accuracy:.2f} ({row.low:.2f} to {row.high:.2f}) at "
            f"{place(int(row.layer), n_layers, best=True)}, chance {row.chance:.2f}, {p_text(row.p_corrected)} "
            f"corrected over layers{noise_note(row.p_corrected)}."
        )


@numbers_fit(AnalysisError)
def transfer(
    train: PooledActivations,
    test: PooledActivations,
    n_permutations: int = 200,
    seed: int = 0,
    exclude_shared_topics: bool = True,
) -> Transfer:
    """Nearest centroid on centred cosine, learned on one set of texts and tested on another.

    A test text gets the shared emotion whose training centroid (less the mean of the training texts) has the largest
    cosine with it. Two centrings of the test texts are reported. "train mean": the mean of the training texts is
    subtracted from them as well; nothing of the test set is used, and a shift between the sets (stories are longer
    than passages) counts against the transfer. "own mean": their own mean is; the shift is gone, at the price of using
    the test texts as a group, though not their labels.

    The null shuffles the TEST labels within topics (`label_permutations`), the centroids staying as they are.

    Args:
        exclude_shared_topics: a test text whose topic the training set also holds (by name, or by a copy of one of
            its texts) is tested against centroids, and a training mean, without that topic.
        train, test: activations of one model that share at least two emotions.
        n_permutations: permutations behind the null; p is at least 1 / (n + 1).
        seed: of whatever is drawn at random.

    Raises:
        FingerprintError: the sets come from different models, or from one model in different bases.
        StimulusError: fewer than 2 shared emotions, no training text of an emotion once a shared topic is left out, or
            a test set that leaves nothing to permute (see `design_of`).
        AnalysisError: n_permutations below 1.

    Example:
        >>> result = le.transfer(acts, stories, n_permutations=20)
        >>> sorted(set(result.table.centring))
        ['own mean', 'train mean']
    """
    check_permutations(n_permutations)
    check_same_model(train, test)
    known, new, left_out = shared_emotions(train, test)
    design = design_of(new)
    rows = training_rows(*linked_topics(known, new), exclude_shared_topics)
    scores = cross_scores(known, new, rows, design.emotions)
    permuted = label_permutations(design, n_permutations, seed)
    predicted, chance = scores.argmax(3), 1 / design.n_classes
    parts, aucs = [], []
    for name, guess, score in zip(CENTRINGS, predicted, scores, strict=True):
        correct, null = guess == design.label, (guess == permuted[:, None]).mean(2)
        accuracy = correct.mean(1)
        ends = percentile_band(bootstrap_over_groups(correct.T.astype(float), design.topic, seed=seed))
        where = {"centring": name, "layer": np.arange(test.n_layers), "depth": test.depth}
        found = {"accuracy": accuracy, "low": ends[0], "high": ends[1], "chance": chance, "null_mean": null.mean(0)}
        parts.append(pd.DataFrame({**where, **found, **null_columns(accuracy, null)}))
        aucs.append(auc_table(score, design, test.depth))
        aucs[-1].insert(0, "centring", name)
    return Transfer(
        table=pd.concat(parts, ignore_index=True),
        auc=pd.concat(aucs, ignore_index=True),
        emotions=design.emotions,
        left_out=left_out,
        shared_topics=tuple(t for t in new.topics if t in known.topics),
        excluded=exclude_shared_topics,
        label=design.label,
        predicted=predicted,
        train=_words(train),
        test=_words(test),
    )


def training_rows(known_topic: np.ndarray, new_topic: np.ndarray, exclude: bool) -> list[tuple[Rows, Rows]]:
    """Pairs (test texts, the texts they may be tested against): all, or those of other topics."""
    if not exclude:
        return [(np.arange(len(new_topic)), np.arange(len(known_topic)))]
    shared = [t for t in dict.fromkeys(new_topic) if t in set(known_topic)]
    rows = [(np.flatnonzero(new_topic == t), np.flatnonzero(known_topic != t)) for t in shared]
    fresh = np.flatnonzero(~np.isin(new_topic, shared))
    return [*rows, (fresh, np.arange(len(known_topic)))] if len(fresh) else rows


def cross_scores(
    known: PooledActivations, new: PooledActivations, rows: list[tuple[Rows, Rows]], emotions: tuple[str, ...]
) -> Float[np.ndarray, "2 n_layers n_new k"]:
    """Cosine of every new text with the centroids of the known ones, by both centrings (in the order of CENTRINGS).

    Centroids are plain means of a class's training texts less the mean of all training texts, as in `decoding`.

    Raises:
        StimulusError: an emotion without training texts.
    """
    label = codes(known.emotion, emotions)
    weights = [torch.from_numpy(_centroid_weights(label, train, emotions)) for _, train in rows]
    scores = np.empty((2, known.n_layers, len(new), len(emotions)))
    for layer in range(known.n_layers):
        x, y = known.values[:, layer].cpu().double(), new.values[:, layer].cpu().double()
        x, y = x - x.mean(0), y - x.mean(0)  # digits that a large common mean would eat
        for (test, train), weight in zip(rows, weights, strict=True):
            centroids = unit(weight @ x)
            for c, origin in enumerate((x[train].mean(0), y.mean(0))):
                scores[c, layer, test] = (unit(y[test] - origin) @ centroids.T).numpy()
    return scores


def _centroid_weights(label: Int[np.ndarray, " m"], train: Rows, emotions: tuple[str, ...]) -> Float[np.ndarray, "k m"]:
    member = np.zeros((len(emotions), len(label)))
    member[label[train], train] = 1.0
    count = member.sum(1, keepdims=True)
    if not count.all():
        raise StimulusError(
            f"no training text of '{emotions[int(count.argmin())]}' is left once a shared topic is kept out; give the "
            "training set texts of more topics, or pass exclude_shared_topics=False"
        )
    everyone = np.zeros(len(label))
    everyone[train] = 1 / len(train)
    return member / count - everyone


def _words(acts: PooledActivations) -> str:
    head = acts.header
    return f"{head.stimuli} ({head.method}{f': {head.variant}' * bool(head.variant)}, {head.pooling})"


# Transfer between the texts of one set: from one person, language, topic or split to another.

ATTRIBUTES = ("topic", "person", "split", "language")
OTHERS = "all others"


@dataclass(frozen=True, eq=False, repr=False)
class TransferWithin(Result):
    """Accuracy on the texts of one level of centroids learned on another level, or on all others.

    Attributes:
        table: train (a level, or "all others"), test (a level), centring, layer, depth, n_texts (tested), accuracy,
            chance, null_mean, null_low, null_high, p (this cell and layer alone), p_corrected (best of all layers and
            cells of a centring). Where a level is tested on itself, the topic of a test text is held out.
        left_out_level: centring, layer, depth, accuracy, chance, null_mean, null_low, null_high, p, p_corrected (best
            of the layers): mean over levels of the accuracy on a level of centroids learned on all others.
        by: the attribute; levels: its values.
        emotions: those that every level holds, which alone were used; left_out: the others.
        impossible: (train, test) cells without training texts of some emotion once shared topics are held out.
        n_layers: layers of the model.
    """

    _picture = Line("layer", "accuracy", "null_low", "null_high", reference="chance")

    table: pd.DataFrame
    left_out_level: pd.DataFrame
    by: str
    levels: tuple[str, ...]
    emotions: tuple[str, ...]
    left_out: tuple[str, ...]
    impossible: tuple[tuple[str, str], ...]
    n_layers: int

    def matrix(self, layer: int | None = None, centring: str = "own mean") -> pd.DataFrame:
        """Accuracy, rows the training level ("all others" last), columns the tested one; NaN where impossible.

        By default at the middle layer, which is chosen without a look at the labels.
        """
        layer = resolve_layer(layer, self.n_layers, self.n_layers // 2)
        rows = self.table[(self.table["layer"] == layer) & (self.table["centring"] == centring)]
        if rows.empty:
            raise AnalysisError(f"no centring {centring!r}; known: {' and '.join(map(repr, CENTRINGS))}")
        grid = rows.pivot(index="train", columns="test", values="accuracy")
        return grid.reindex(index=[*self.levels, OTHERS], columns=list(self.levels))

    def summary(self) -> str:
        """One sentence on learning from all other levels, per centring, at its best layer."""
        left_out = f"; {len(self.left_out)} emotions left out" * bool(self.left_out)
        head = (
            f"Transfer to a left-out {self.by} ({len(self.levels)} levels, {len(self.emotions)} emotions{left_out}): "
        )
        if self.left_out_level.empty:
            return head + "no level can be tested, since the others lack texts of some emotion on other topics."
        return head + "; ".join(self._part(c) for c in CENTRINGS) + "."

    def _part(self, centring: str) -> str:
        rows = self.left_out_level[self.left_out_level["centring"] == centring]
        row = rows.iloc[int(rows["accuracy"].argmax())]

        return (
            f"centred on the {centring} {row.accuracy:.2f} at {place(int(row.layer), self.n_layers, best=True)} "
            f"(chance {row.chance:.2f}, null {row.null_low:.2f} to {row.null_high:.2f}, {p_text(row.p_corrected)} "
            f"corrected over layers{noise_note(row.p_corrected, ', ')})"
        )


@numbers_fit(AnalysisError)
def transfer_within(
    acts: PooledActivations, by: str = "person", n_permutations: int = 200, seed: int = 0
) -> TransferWithin:
    """`transfer` from every level of an attribute, and from all other levels together, to every level.

    A test text is never tested against centroids of its own topic, whatever the level. The null shuffles labels within
    topic and level, one shuffle for all cells and layers. Texts without a level ("") are left out.

    Args:
        by: "topic", "person", "split" or "language", as in `TextRecord`.
        acts: pooled activations of labelled texts.
        n_permutations: permutations behind the null; p is at least 1 / (n + 1).
        seed: of whatever is drawn at random.

    Raises:
        AnalysisError: another attribute, fewer than 2 levels, or no permutations.
        StimulusError: fewer than 2 emotions that every level holds, or nothing to permute.

    Example:
        >>> result = le.transfer_within(acts.of("calm", "angry", "sad"), "topic", n_permutations=3)
        >>> len(result.levels)
        12
    """
    check_permutations(n_permutations)
    texts, level, left_out = _levelled(acts, by)
    levels = tuple(dict.fromkeys(level))
    # topics and units are cut by level, so that labels are shuffled within both
    whole = design_of(texts)
    topics, topic = _crossed(np.array(whole.topics)[whole.topic], level)
    design = Design(whole.label, topic, _crossed(whole.unit, level)[1], whole.emotions, topics, topic)
    permuted = label_permutations(design, n_permutations, seed)
    cells = [(train, test) for test in levels for train in (*levels, OTHERS)]
    hits = {c: h for c in cells if (h := _cell(texts, level, design, permuted, *c)) is not None}
    if not hits:
        raise StimulusError(f"no {by} can be tested: no level holds every emotion on topics that another level lacks")
    sizes = {name: int((level == name).sum()) for name in levels}
    return TransferWithin(
        table=_cells_table(acts, hits, sizes, design.n_classes),
        left_out_level=_mean_table(acts, [h for (train, _), h in hits.items() if train == OTHERS], design.n_classes),
        by=by,
        levels=levels,
        emotions=design.emotions,
        left_out=left_out,
        impossible=tuple(c for c in cells if c not in hits),
        n_layers=acts.n_layers,
    )


def _levelled(acts: PooledActivations, by: str) -> tuple[PooledActivations, np.ndarray, tuple[str, ...]]:
    """Texts with a level, of emotions that every level holds; their levels; the emotions left out."""
    if by not in ATTRIBUTES:
        raise AnalysisError(f"by is one of {', '.join(map(repr, ATTRIBUTES))}; got {by!r}")
    texts = acts.emotional
    level = np.array([getattr(r, by) for r in texts.records])
    levels = [name for name in dict.fromkeys(level) if name]
    if len(levels) < 2:
        raise AnalysisError(
            f"transfer needs at least 2 levels of {by}; these texts hold {', '.join(map(repr, levels)) or 'none'}"
        )
    held = [set(texts.emotion[level == name]) for name in levels]
    common = [e for e in texts.emotions if all(e in h for h in held)]
    if len(common) < 2:
        raise StimulusError(
            f"only {len(common)} emotions occur at every level of {by} ({', '.join(map(repr, levels))}); "
            "at least 2 are needed"
        )
    keep = (level != "") & np.isin(texts.emotion, common)
    return texts.only(keep), level[keep], tuple(e for e in texts.emotions if e not in common)


def _crossed(a: np.ndarray, b: np.ndarray) -> tuple[tuple[str, ...], Int[np.ndarray, " n"]]:
    names, code = np.unique([f"{x}|{y}" for x, y in zip(a, b, strict=True)], return_inverse=True)
    return tuple(map(str, names)), code.astype(np.int64)


def _cell(
    texts: PooledActivations, level: np.ndarray, design: Design, permuted: Int[np.ndarray, "m n"], train: str, test: str
) -> Float[np.ndarray, "b 2 n_layers"] | None:
    """Accuracy under the true labels and every permutation; None where an emotion has no training texts."""
    at = level == test
    known, new = texts.only(~at if train == OTHERS else level == train), texts.only(at)
    try:
        scores = cross_scores(known, new, training_rows(*linked_topics(known, new), True), design.emotions)
    except StimulusError:
        return None
    labels = np.concatenate([design.label[None], permuted])[:, at]
    return (scores.argmax(3) == labels[:, None, None]).mean(3)


def _cells_table(
    acts: PooledActivations, hits: dict[tuple[str, str], np.ndarray], sizes: dict[str, int], n_classes: int
) -> pd.DataFrame:
    cells = pd.DataFrame(list(hits), columns=["train", "test"])
    cells["n_texts"] = cells["test"].map(sizes)
    values = np.stack(list(hits.values()), axis=1)  # b, cells, centrings, layers
    tables = []
    for c, centring in enumerate(CENTRINGS):
        flat = values[:, :, c].reshape(len(values), -1)
        rows = cells.loc[cells.index.repeat(acts.n_layers)].reset_index(drop=True)
        tables.append(
            rows.assign(
                centring=centring,
                layer=np.tile(np.arange(acts.n_layers), len(cells)),
                depth=np.tile(acts.depth, len(cells)),
                accuracy=flat[0],
                chance=1 / n_classes,
                null_mean=flat[1:].mean(0),
                # cells differ in size, hence in the width of their nulls
                **null_columns(flat[0], flat[1:], standardise=True),
            )
        )
    return pd.concat(tables, ignore_index=True)


def _mean_table(acts: PooledActivations, hits: list[np.ndarray], n_classes: int) -> pd.DataFrame:
    if not hits:
        return pd.DataFrame()
    where, parts = {"layer": np.arange(acts.n_layers), "depth": acts.depth}, []
    for centring, found in zip(CENTRINGS, np.mean(hits, axis=0).swapaxes(0, 1), strict=True):
        values = {"accuracy": found[0], "chance": 1 / n_classes, "null_mean": found[1:].mean(0)}
        parts.append(pd.DataFrame({"centring": centring, **where, **values, **null_columns(found[0], found[1:])}))
    return pd.concat(parts, ignore_index=True)
