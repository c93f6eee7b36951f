"""Transfer between the texts of one set: from one person, language, topic or split to another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from lens_emotion.analysis.design import Design, design_of, label_permutations
from lens_emotion.analysis.results import ALPHA, NOISE, AnalysisError, check_permutations, p_text, place, result_html
from lens_emotion.analysis.transfer import CENTRINGS, cross_scores, null_columns, training_rows
from lens_emotion.errors import StimulusError
from lens_emotion.extraction.activations import PooledActivations

ATTRIBUTES = ("topic", "person", "split", "language")
OTHERS = "all others"


@dataclass(frozen=True, eq=False)
class TransferWithin:
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
        layer = self.n_layers // 2 if layer is None else layer
        rows = self.table[(self.table["layer"] == layer) & (self.table["centring"] == centring)]
        if rows.empty:
            raise AnalysisError(
                f"no accuracies of layer {layer!r}, centring {centring!r}; layers are 0 to {self.n_layers - 1}, "
                f"centrings {' and '.join(map(repr, CENTRINGS))}"
            )
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
        verdict = "" if row.p_corrected <= ALPHA else f", {NOISE}"
        return (
            f"centred on the {centring} {row.accuracy:.2f} at {place(int(row.layer), self.n_layers, best=True)} "
            f"(chance {row.chance:.2f}, null {row.null_low:.2f} to {row.null_high:.2f}, {p_text(row.p_corrected)} "
            f"corrected over layers{verdict})"
        )

    def _repr_html_(self) -> str:
        return result_html(self)


def transfer_within(
    acts: PooledActivations, by: str = "person", n_permutations: int = 200, seed: int = 0
) -> TransferWithin:
    """`transfer` from every level of an attribute, and from all other levels together, to every level.

    A test text is never tested against centroids of its own topic, whatever the level. The null shuffles labels within
    topic and level, one shuffle for all cells and layers. Texts without a level ("") are left out.

    Args:
        by: "topic", "person", "split" or "language", as in `TextRecord`.

    Raises:
        AnalysisError: another attribute, fewer than 2 levels, or no permutations.
        StimulusError: fewer than 2 emotions that every level holds, or nothing to permute.
    """
    check_permutations(n_permutations)
    texts, level, left_out = _levelled(acts, by)
    levels = tuple(dict.fromkeys(level))
    design = _within(design_of(texts), level)
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


def _within(design: Design, level: np.ndarray) -> Design:
    """The design with topics and units cut by level, so that labels are shuffled within both."""
    topics, topic = _crossed(np.array(design.topics)[design.topic], level)
    _, unit = _crossed(design.unit, level)
    return Design(design.label, topic, unit, design.emotions, topics)


def _crossed(a: np.ndarray, b: np.ndarray) -> tuple[tuple[str, ...], Int[np.ndarray, " n"]]:
    names, code = np.unique([f"{x}|{y}" for x, y in zip(a, b, strict=True)], return_inverse=True)
    return tuple(map(str, names)), code.astype(np.int64)


def _cell(
    texts: PooledActivations,
    level: np.ndarray,
    design: Design,
    permuted: Int[np.ndarray, "m n"],
    train: str,
    test: str,
) -> Float[np.ndarray, "b 2 n_layers"] | None:
    """Accuracy under the true labels and every permutation; None where an emotion has no training texts."""
    at = level == test
    known, new = texts.only(~at if train == OTHERS else level == train), texts.only(at)
    try:
        scores = cross_scores(known, new, training_rows(known.topic, new.topic, True), design.emotions)
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
                # cells differ in size, hence in the width of their nulls
                **null_columns(flat[0], flat[1:], standardise=True),
            )
        )
    return pd.concat(tables, ignore_index=True)


def _mean_table(acts: PooledActivations, hits: list[np.ndarray], n_classes: int) -> pd.DataFrame:
    if not hits:
        return pd.DataFrame()
    mean = np.mean(hits, axis=0)
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "centring": centring,
                    "layer": np.arange(acts.n_layers),
                    "depth": acts.depth,
                    "accuracy": mean[0, c],
                    "chance": 1 / n_classes,
                    **null_columns(mean[0, c], mean[1:, c]),
                }
            )
            for c, centring in enumerate(CENTRINGS)
        ],
        ignore_index=True,
    )
