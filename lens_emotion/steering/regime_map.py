"""Regimes over layer and dose, and the dose at which text breaks (arXiv 2604.04064, claim C6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lens_emotion.display import Result
from lens_emotion.errors import GenerationError
from lens_emotion.files.user import numbers_fit
from lens_emotion.models.access import Model, describe, parameter_count
from lens_emotion.models.layers import resolve_layers
from lens_emotion.models.sampling import GREEDY, Sampling
from lens_emotion.pictures import Tiles
from lens_emotion.progress import track
from lens_emotion.steering.experiment import DOSES, dose_response
from lens_emotion.steering.judges import Judge
from lens_emotion.steering.regimes import EXPLOSIVE, REGIMES, Thresholds, onset_dose, regime_shares
from lens_emotion.stimuli.prompts import Scenario
from lens_emotion.vectors.emotion_vectors import EmotionVectors


@dataclass(frozen=True, eq=False, repr=False)
class RegimeMap(Result):
    """Regimes of one model over single layers and doses.

    Attributes:
        table: one row per layer, dose and condition ("emotion", "random"): layer, depth, the columns of
            `DoseResponse.table`, the random control's success rate (control_rate) and the share of texts in each regime
            with Wilson intervals (share_inert, ...).
        texts: the texts behind it, with layer.
        onsets: one row per layer: onset in both units (see `onset_dose`), censored ("" or why there is no number).
        model, family: what was steered. millions: its parameters.
        thresholds: where the regimes begin. judge: with its accuracy.
    """

    table: pd.DataFrame
    texts: pd.DataFrame
    onsets: pd.DataFrame
    model: str
    family: str
    millions: float
    thresholds: Thresholds
    judge: str

    def _drawn(self) -> str:
        return Tiles("layer", "dose", "regime").html(self.table[self.table.condition == "emotion"])

    def grid(self, condition: str = "emotion", value: str = "regime") -> pd.DataFrame:
        """One column of the table as layers x doses."""
        rows = self.table[self.table.condition == condition]
        return rows.pivot(index="layer", columns="dose", values=value)

    def onset_row(self, layer: int | None = None) -> dict[str, object]:
        """This model's row for `by_architecture`: its onset at one layer (None: the middle one of those run)."""
        layers = self.onsets.layer.tolist()
        chosen = layers[len(layers) // 2] if layer is None else layer
        row = self.onsets[self.onsets.layer == chosen].iloc[0]
        onset = {name: float(row[name]) for name in ("onset_natural", "onset_relative")}
        return {"model": self.model, "family": self.family, "size": self.millions, "layer": chosen, **onset}

    def summary(self) -> str:
        mine = self.table[self.table.condition == "emotion"]
        counts = mine.regime.value_counts()
        cells = ", ".join(f"{counts.get(name, 0)} {name}" for name in REGIMES)
        also = int((mine.looping & (mine.regime == EXPLOSIVE)).sum())
        known = self.onsets[self.onsets.censored == ""]
        onset = (
            f"text breaks at {known.onset_natural.min():.2g} to {known.onset_natural.max():.2g} natural units "
            f"({known.onset_relative.min():.2g} to {known.onset_relative.max():.2g} of the norm)"
            if len(known)
            else "no layer breaks within these doses"
        )
        return (
            f"{self.model}: of {len(mine)} cells (layer x dose) {cells} ({also} of the explosive ones also loop); "
            f"{onset}; judge: {self.judge}"
        )


@numbers_fit(GenerationError)
def regime_map(
    model: Model,
    vectors: EmotionVectors,
    scenarios: Sequence[Scenario],
    judge: Judge,
    *,
    layers: str | Sequence[int] = "all",
    doses: Sequence[float] = DOSES,
    unit: str = "natural",
    max_new_tokens: int = 40,
    sampling: Sampling = GREEDY,
    seed: int = 0,
    progress: bool = True,
) -> RegimeMap:
    """Steer single layers at several doses, and label every cell.

    Args:
        layers: layers to steer, one at a time.
        doses: in `unit`.
        model: TransformerBridge or HookedTransformer.
        vectors: of this model.
        scenarios: openings, each with the emotion to steer towards.
        judge: scores the continuations.
        unit: of the doses.
        max_new_tokens: at most, per text.
        sampling: how tokens are drawn; greedy by default.
        seed: of whatever is drawn at random.
        progress: show a bar.

    Raises:
        DoseError: as `dose_response`.

    Example:
        >>> small = {"layers": [3], "doses": (1.0, 4.0), "max_new_tokens": 8}
        >>> result = le.regime_map(model, vectors, scenes, judge, **small)
        >>> len(result.table)
        4
    """
    chosen = resolve_layers(layers, vectors.n_layers)
    tables, texts, thresholds = [], [], None
    run: dict[str, Any] = {"doses": doses, "unit": unit, "max_new_tokens": max_new_tokens, "sampling": sampling}
    run |= {"seed": seed, "other_emotion": False, "progress": False}
    for layer in track(chosen, "layers", total=len(chosen), show=progress):
        result = dose_response(model, vectors, scenarios, judge, layers=layer, **run)
        thresholds = result.thresholds  # of the unsteered texts, so the same for every layer
        place = {"layer": layer, "depth": (layer + 1) / vectors.n_layers}
        tables.append(_with_shares(result.table, result.texts).assign(**place))
        texts.append(result.texts.assign(**place))
    table = pd.concat(tables, ignore_index=True)
    table = table[["layer", "depth", *[c for c in table.columns if c not in ("layer", "depth")]]]
    info, millions = describe(model), parameter_count(model) / 1e6
    assert thresholds is not None
    onsets, all_texts = _onsets(table, thresholds.explosive_ratio), pd.concat(texts, ignore_index=True)
    return RegimeMap(
        table, all_texts, onsets, info.name, info.family, millions, thresholds, str(judge.beside(vectors.header))
    )


def _with_shares(table: pd.DataFrame, texts: pd.DataFrame) -> pd.DataFrame:
    """The table with the random control's success rate beside it and the shares of the texts' own regimes."""
    labels = texts.groupby(["dose", "condition"])["text_regime"]
    shares = pd.DataFrame([regime_shares(labels.get_group((r.dose, r.condition))) for r in table.itertuples()])
    control = table[table.condition == "random"].set_index("dose")["success_rate"]
    return pd.concat([table, shares], axis=1).assign(control_rate=table["dose"].map(control))


def _onsets(table: pd.DataFrame, threshold: float) -> pd.DataFrame:
    rows = []
    for layer, group in table[table.condition == "emotion"].groupby("layer"):
        group = group.sort_values("dose")
        ratio = group.surprise.to_numpy()
        natural, censored = onset_dose(group.dose_natural.to_numpy(), ratio, threshold)
        relative, _ = onset_dose(group.dose_relative.to_numpy(), ratio, threshold)
        place = {"layer": layer, "depth": float(group.depth.iloc[0])}
        rows.append(place | {"onset_natural": natural, "onset_relative": relative, "censored": censored})
    return pd.DataFrame(rows)
