"""verification: steering of several models as an outside judge sees it, in the controlled form and in the paper's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lens_emotion.display import Result
from lens_emotion.pictures import Dots
from lens_emotion.stats.tests import wilson_interval
from lens_emotion.steering.dose_result import DoseResponse

CROSSED, PAPER = "dose chosen on other scenarios", "the paper's form: target score above unsteered"


@dataclass(frozen=True, eq=False, repr=False)
class Verification(Result):
    """Steering as an outside judge sees it, k of n scenarios beside controls.

    Attributes:
        table: model, form (the dose chosen on other scenarios and the success rule; or the paper's: target score above
            unsteered, at the best surgical dose of the same scenarios), condition (emotion, random, other), k, n, rate,
            low, high (95% Wilson), dose (as words), judge, judge_accuracy, chance (of the judge's task).
    """

    _picture = Dots(("model", "form", "condition"), "rate", "low", "high")

    table: pd.DataFrame

    def summary(self) -> str:
        """k/n of every model and form, the controls in brackets."""
        parts = []
        for (form, model), rows in self.table.groupby(["form", "model"], sort=False):
            k = dict(zip(rows["condition"], rows["k"], strict=True))
            n = int(rows["n"].iloc[0])
            controls = ", ".join(f"{c} {k[c]}/{n}" for c in ("random", "other") if c in k)
            parts.append(f"{model}, {form}: {k['emotion']}/{n} ({controls})")
        return "; ".join(parts) + "."


def verification(steered: Mapping[str, DoseResponse]) -> Verification | None:
    """k of n scenarios of every model, by name; None if there is none."""
    rows = [row for model, result in steered.items() for row in _rows(model, result)]
    return Verification(pd.DataFrame(rows)) if rows else None


def _rows(model: str, steering: DoseResponse) -> Iterator[dict[str, object]]:
    """One row per form and condition that was run."""
    forms: list[tuple[str, str, dict[str, Any], int]] = []
    base = {"model": model, "judge": steering.judge, "judge_accuracy": steering.judge_accuracy}
    base["chance"] = 1 / steering.n_emotions
    if (fitted := steering.headline) is not None:  # else one opening an emotion: no dose can be chosen on the other
        counts = {"emotion": fitted.success, "random": fitted.random, "other": fitted.other}
        forms.append((CROSSED, fitted.told, counts, fitted.n))
    dose = steering.surgical_dose
    if dose is not None:
        at, control = steering.at(dose), steering.at(dose, "random")
        counts = {"emotion": at.moved, "random": control.moved, "other": at.get("other_moved")}
        forms.append((PAPER, f"{dose:g}", counts, int(at.n)))
    for form, words, counts, n in forms:
        for condition, k in counts.items():
            if not pd.isna(k):
                low, high = wilson_interval(int(k), n)
                found = {"condition": condition, "k": int(k), "n": n, "rate": k / n, "low": low, "high": high}
                yield base | {"form": form, "dose": words} | found
