"""DoseResponse: what a steering experiment found, in both units, beside its controls."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lens_emotion.analysis.results import result_html
from lens_emotion.errors import DoseError
from lens_emotion.steering.cross_fit import CrossFitted, cross_fit
from lens_emotion.steering.regimes import SURGICAL, Thresholds
from lens_emotion.steering.side_effects import SideEffects, side_effects_of


@dataclass(frozen=True, eq=False)
class DoseResponse:
    """Result of a steering experiment.

    Attributes:
        table: one row per dose and condition ("emotion", "random"): dose in both units, n, success and moved (counts,
            rates, Wilson intervals), the same for the other-emotion control (other_...; in rows of "emotion"), exact
            McNemar p against random (p_random, p_moved; p_corrected: Holm over doses) and against the other emotion
            (p_other), top_emotions (emotions of which the target ranks first), perplexity ratio, entropy, distinct-2,
            loop share, edit distance, looping, changed, regime.
        texts: one row per text of these two conditions. others: the same for the other-emotion control.
        unsteered: the texts of dose 0.
        scores: the judge's scores of all of them (condition, dose, scenario, one column per emotion).
        layer: steered layer, or "all" or several.
        judge: name and accuracy of the judge.
        judge_accuracy: measured accuracy, None if unknown.
        judge_independent: False if the judge is the steered model itself.
        thresholds: where the regimes begin.
        n_emotions: number of emotions steered towards.
        groups: label groups of the judge, empty if it tells all its emotions apart.
    """

    table: pd.DataFrame
    texts: pd.DataFrame
    others: pd.DataFrame
    unsteered: pd.DataFrame
    scores: pd.DataFrame
    layer: int | str
    judge: str
    judge_accuracy: float | None
    judge_independent: bool
    thresholds: Thresholds
    n_emotions: int
    groups: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = field(default=())

    @property
    def surgical_dose(self) -> float | None:
        """The surgical dose with the highest success rate (the smaller of equals), None if no dose is surgical.

        Picked on the scenarios it is reported on; `cross_fitted` is the unbiased form.
        """
        rows = self.table[(self.table.condition == "emotion") & (self.table.regime == SURGICAL)]
        if rows.empty:
            return None
        best = rows.sort_values(["success_rate", "top_emotions", "dose"], ascending=[False, False, True])
        return float(best.iloc[0].dose)

    @property
    def forms(self) -> pd.DataFrame:
        """The paper's form (target score above unsteered: k/n) beside the controlled one (the success rule).

        One row per dose and form: emotion, random and other as counts out of n, rate of the emotion condition with
        interval, McNemar p of emotion against random.
        """
        rows = []
        random = self.table[self.table.condition == "random"].set_index("dose")
        for row in self.table[self.table.condition == "emotion"].to_dict("records"):
            for form, name, p in (("paper", "moved", "p_moved"), ("controlled", "success", "p_random")):
                kept = {k: row[f"{name}_{k}"] for k in ("rate", "low", "high")}
                counts = {"emotion": row[name], "random": random.loc[row["dose"], name]}
                counts["other"] = row.get(f"other_{name}", np.nan)
                rows.append({"dose": row["dose"], "form": form, "n": row["n"], **counts, **kept, "p": row[p]})
        return pd.DataFrame(rows)

    @property
    def by_emotion(self) -> pd.DataFrame:
        """Dose-response curve of every emotion: emotion, dose, n, mean target score steered (target_score), unsteered,
        with random directions (random) and with another emotion's vector (other), and successes."""
        keys = ["emotion", "dose"]
        mine = self.texts[self.texts.condition == "emotion"].groupby(keys)
        table = mine.agg(
            n=("success", "size"),
            target_score=("target_score", "mean"),
            unsteered=("unsteered_score", "mean"),
            success=("success", "sum"),
        )
        control = self.texts[self.texts.condition == "random"].groupby(keys)
        table["random"], table["random_success"] = control["target_score"].mean(), control["success"].sum()
        table["other"] = self.others.groupby(keys)["target_score"].mean() if len(self.others) else np.nan
        order = list(dict.fromkeys(self.texts.emotion))
        table = table.reset_index()
        return table.sort_values(
            keys, key=lambda c: c.map(order.index) if c.name == "emotion" else c, ignore_index=True
        )

    def cross_fitted(self) -> CrossFitted:
        """The dose chosen on one opening of each emotion and tested on the other, and the other way round.

        Raises:
            AnalysisError: fewer than two openings per emotion.
        """
        return cross_fit(self.texts, self.others, self.thresholds)

    def side_effects(self, dose: float | None = None) -> SideEffects:
        """Steered emotion x judged emotion: mean change in score against the random control.

        Args:
            dose: one of those run; None for the surgical dose.

        Raises:
            DoseError: the dose was not run, or none is given and no dose is surgical.
        """
        chosen = self.surgical_dose if dose is None else dose
        if chosen is None:
            raise DoseError("no dose was surgical; give the dose whose side effects you want")
        self.at(chosen)
        emotions = self.texts.drop_duplicates("scenario").set_index("scenario")["emotion"].sort_index()
        return side_effects_of(self.scores, emotions, chosen, self.groups)

    def at(self, dose: float, condition: str = "emotion") -> pd.Series:
        """The table's row of one dose and condition."""
        rows = self.table[np.isclose(self.table.dose, dose) & (self.table.condition == condition)]
        if rows.empty:
            known = ", ".join(f"{d:g}" for d in sorted(self.table.dose.unique()))
            raise DoseError(f"dose {dose:g} ({condition}) was not run; this result holds {known}")
        return rows.iloc[0]

    def summary(self) -> str:
        dose = self.surgical_dose
        if dose is None:
            return f"no dose was surgical at layer {self.layer} (judge: {self.judge})"
        mine, control = self.at(dose), self.at(dose, "random")
        tried = self.table.dose.nunique()
        other = f" and {mine.other_success:.0f}/{mine.n:.0f} for another emotion's vector" if len(self.others) else ""
        return (
            f"at dose {mine.dose_natural:g} natural ({mine.dose_relative:.2g} of the norm, layer {self.layer}; "
            f"the best surgical one of {tried} tried on these scenarios) {mine.success:.0f}/{mine.n:.0f} scenarios "
            f"succeed against {control.success:.0f}/{control.n:.0f} for random directions{other}; by the paper's rule "
            f"(score above unsteered) {mine.moved:.0f}/{mine.n:.0f} against {control.moved:.0f}/{control.n:.0f}; the "
            f"target ranks first in {mine.top_emotions:.0f} of {self.n_emotions} emotions "
            f"({control.top_emotions:.0f} for random); perplexity ratio {mine.perplexity_ratio:.2f} "
            f"({control.perplexity_ratio:.2f}); judge: {self.judge}"
        )

    def _repr_html_(self) -> str:
        return result_html(self)
