"""What came of steered texts: success of each, and rates, tests and regime of each condition beside its control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy.stats import binomtest, wilcoxon

from lens_emotion.stats.tests import wilson_interval
from lens_emotion.steering.judges import Judge
from lens_emotion.steering.measures import excess, perplexity_ratio, surprise
from lens_emotion.steering.regimes import Thresholds, looping, regime, text_regimes, thresholds_from
from lens_emotion.stimuli.prompts import Scenario
from lens_emotion.stimuli.sets import has_text

CONDITIONS = ("emotion", "random", "other")
NULL_QUANTILE = 0.95  # of the random directions' target scores, which success must exceed


def with_targets(
    texts: pd.DataFrame, unsteered: pd.DataFrame, scenarios: Sequence[Scenario], judge: Judge, thresholds: Thresholds
) -> pd.DataFrame:
    """Add prompt, emotion, opening, the target's score before and after, the success rule and the regime per text."""
    index = texts["scenario"].to_numpy()
    emotions = [s.emotion for s in scenarios]
    names = score_columns(texts)
    column = np.array([names.index(f"score_{emotions[i]}") for i in index])
    out = texts.copy()
    out["prompt"] = np.array([s.opening for s in scenarios])[index]
    out["emotion"] = np.array(emotions)[index]
    out["opening"] = np.array([emotions[:i].count(e) for i, e in enumerate(emotions)])[index]
    out["target_score"] = texts[names].to_numpy()[np.arange(len(texts)), column]
    out["unsteered_score"] = unsteered[names].to_numpy()[index, column]
    # a text that holds nothing shows no emotion, whatever a judge makes of it
    out["moved"] = (out["target_score"] > out["unsteered_score"]) & out["text"].map(has_text)
    null = out[out.condition == "null"].groupby("dose")["target_score"].quantile(NULL_QUANTILE)
    out["success"] = out["moved"] & (out["target_score"] > out["dose"].map(null))
    out["unsteered_nll"] = unsteered["nll"].to_numpy()[index]
    out["perplexity_ratio"] = np.exp(out["nll"] - out["unsteered_nll"])
    return with_text_regimes(out, thresholds)


def with_text_regimes(texts: pd.DataFrame, thresholds: Thresholds) -> pd.DataFrame:
    """Add surprise and regime of every text, from nll, entropy, distinct_2, loop_share and success."""
    out = texts.assign(surprise=np.exp(excess(texts["nll"].to_numpy(), texts["entropy"].to_numpy())))
    ratio, distinct, loops, success = (out[c].to_numpy() for c in ("surprise", "distinct_2", "loop_share", "success"))
    return out.assign(text_regime=text_regimes(ratio, distinct, loops, success, thresholds))


def thresholds_of(unsteered: pd.DataFrame) -> Thresholds:
    """Where regimes begin, from the unsteered texts: columns nll, entropy, distinct_2, loop_share."""
    nll, entropy, distinct, loops = (unsteered[c].to_numpy() for c in ("nll", "entropy", "distinct_2", "loop_share"))
    return thresholds_from(excess(nll, entropy), distinct, loops)


def score_columns(frame: pd.DataFrame) -> list[str]:
    return [c for c in frame.columns if c.startswith("score_")]


def dose_table(
    texts: pd.DataFrame,
    units: Mapping[float, tuple[float, float]],
    thresholds: Thresholds,
    groups: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """One row per dose and condition ("emotion", "random"), with the other-emotion control in columns of the former.

    Args:
        texts: of conditions "emotion", "random" and perhaps "other", with score columns.
        units: dose -> (natural, relative).
        groups: label groups of the judge (see `Judge.groups`).
    """
    rows = []
    for dose in sorted(texts.dose.unique().tolist()):
        of_dose = dict(list(texts[texts.dose == dose].sort_values("scenario").groupby("condition")))
        natural, relative = units[dose]
        for condition in CONDITIONS[:2]:
            place = {"dose": dose, "dose_natural": natural, "dose_relative": relative, "condition": condition}
            row = condition_row(of_dose[condition], of_dose["random"], of_dose.get("other"), thresholds)
            mine = of_dose[condition]
            row |= {"no_text": int((~mine["text"].map(has_text)).sum()), "broken": int(mine["broken"].sum())}
            rows.append(place | row | {"top_emotions": target_first(mine, groups)})
    table = pd.DataFrame(rows)
    table["p_corrected"] = np.nan
    emotion = table.condition == "emotion"
    table.loc[emotion, "p_corrected"] = holm(table.loc[emotion, "p_random"].to_numpy())
    return table


def condition_row(
    mine: pd.DataFrame, random: pd.DataFrame, other: pd.DataFrame | None, thresholds: Thresholds
) -> dict[str, Any]:
    """Rates, tests against the controls, damage and regime of one condition; rows of all frames in scenario order."""
    nll = mine.nll.to_numpy()
    damage = {"perplexity_ratio": perplexity_ratio(nll, mine.unsteered_nll.to_numpy())}
    damage["surprise"] = surprise(nll, mine.entropy.to_numpy())
    damage |= {c: float(mine[c].mean()) for c in ("entropy", "distinct_2", "loop_share", "edit_distance")}
    row: dict[str, Any] = rate("success", mine.success) | rate("moved", mine.moved) | damage
    gain = float(mine.success.mean() - random.success.mean())
    p = mcnemar_p(mine.success.to_numpy(), random.success.to_numpy())
    itself = mine is random
    row["p_random"] = np.nan if itself else p
    row["p_moved"] = np.nan if itself else mcnemar_p(mine.moved.to_numpy(), random.moved.to_numpy())
    if other is not None and not itself:
        row |= {f"other_{k}": v for k, v in (rate("success", other.success) | rate("moved", other.moved)).items()}
        row["p_other"] = mcnemar_p(mine.success.to_numpy(), other.success.to_numpy())
    distinct, loops = damage["distinct_2"], damage["loop_share"]
    row["looping"] = looping(distinct, loops, thresholds)
    row["changed"] = not itself and changed(mine, random, thresholds.alpha)
    row["regime"] = regime(damage["surprise"], distinct, loops, gain, thresholds, p)
    return {"n": len(mine), **row}


def rate(name: str, hits: pd.Series) -> dict[str, float]:
    """Count, share and 95% Wilson interval: success, success_rate, success_low, success_high."""
    k, n = int(hits.sum()), len(hits)
    low, high = wilson_interval(k, n)
    return {name: k, f"{name}_rate": k / n, f"{name}_low": low, f"{name}_high": high}


def changed(mine: pd.DataFrame, control: pd.DataFrame, alpha: float = 0.05) -> bool:
    """Whether texts differ from the control's in edit distance (from unsteered) or NLL: Wilcoxon, alpha shared by both.

    An inert condition that is changed has other texts than the control, but not in the emotion asked for.
    """
    with np.errstate(invalid="ignore"):  # two texts that broke off: inf - inf
        both = [mine[c].to_numpy() - control[c].to_numpy() for c in ("edit_distance", "nll")]
    finite = (difference[np.isfinite(difference)] for difference in both)
    options = {"zero_method": "zsplit", "method": "asymptotic"}
    return any(d.any() and float(wilcoxon(d, **options).pvalue) <= alpha / 2 for d in finite)


def mcnemar_p(a: Bool[np.ndarray, " n"], b: Bool[np.ndarray, " n"]) -> float:
    """Exact two-sided McNemar p-value of two verdicts on the same scenarios; 1 if they never disagree."""
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def holm(p: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """p-values corrected for their number (Holm 1979): they hold whichever of the n is picked."""
    order = np.argsort(p)
    steps = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    out = np.empty(len(p))
    out[order] = np.minimum(steps, 1.0)
    return out


def target_first(group: pd.DataFrame, groups: Mapping[str, str] | None = None) -> int:
    """Number of target emotions whose own mean score is the highest of all emotions over their texts.

    With label groups it is enough that an emotion of the target's group is the highest.
    """
    means = group.groupby("emotion")[score_columns(group)].mean()
    label = dict(groups or {})
    best = [(str(e), str(column).removeprefix("score_")) for e, column in means.idxmax(axis=1).items()]
    return sum(label.get(b, b) == label.get(e, e) for e, b in best)
