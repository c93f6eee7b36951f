"""How much of an outcome is the emotion's, the topic's, the model's? A mixed-effects view beside the claims' own tests.

The claims test one factor at a time and hold the others fixed. Here all of them vary at once: emotions, topics and
models are crossed random effects (each could have been another), family, size and method are fixed ones. Fitted by REML
(statsmodels' MixedLM). The outcome may be 0 or 1: means of it are what is compared, on the scale of proportions, where
effects are differences of accuracies (a linear probability model; the variational fit of the logistic one gives the
fixed effects half their standard error, and Laplace's does not converge).

What varies between models is tested on as many degrees of freedom as there are models, not texts: Student's t with
models less coefficients (between-within; Schluchter and Elashoff 1990), which keeps the level with five of them. The
interval of a variance is Williams and Tukey's: that of the means of its levels, less what their texts contribute.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import chi2, f, t

from lens_emotion.analysis.decoding import Decoding
from lens_emotion.display import Result
from lens_emotion.errors import AnalysisError
from lens_emotion.stats.tests import p_text

RANDOM = ("emotion", "topic", "model")
METHOD, FAMILY, SIZE, REST = "method", "family", "log2 size", "text and chance"
AT_BOUND = 1e-3  # share of the variance below which an estimate is taken to lie at 0
OPTIMISERS = ("powell", "bfgs", "lbfgs")  # the first reaches the maximum near a bound, where gradients fail
MIN_DF = 2
EXTREME = 0.05  # a proportion nearer to 0 or 1 has no room to differ


@dataclass(frozen=True, eq=False, repr=False)
class Mixed(Result):
    """A mixed-effects model of one outcome.

    Attributes:
        table: one row per effect. Fixed ones (kind "fixed"): estimate (a difference of means; the first row is the mean
            itself), low, high (95%, Student), df, p. Random ones ("random"): levels, variance, its 95% interval (low,
            high), share (of the variance that is not of the fixed effects), share_low, share_high.
        outcome: what was counted, in words. n: rows.
        family_p: of all families at once (F), None where there are too few.
        left_out: fixed effects that this design cannot tell, and why. warnings: what the fit says of itself.
    """

    table: pd.DataFrame
    outcome: str
    n: int
    family_p: float | None = None
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def fixed(self) -> pd.DataFrame:
        return self.table[self.table.kind == "fixed"].dropna(axis=1, how="all").set_index("effect")

    @property
    def random(self) -> pd.DataFrame:
        return self.table[self.table.kind == "random"].dropna(axis=1, how="all").set_index("effect")

    def summary(self) -> str:
        shares = [
            f"{e} {r.share:.0%}" + ("" if np.isnan(r.share_low) else f" [{r.share_low:.0%}, {r.share_high:.0%}]")
            for e, r in self.random.iterrows()
        ]
        mean, *effects = self.fixed.iterrows()
        told = [f"{e} {r.estimate:+.2f} [{r.low:+.2f}, {r.high:+.2f}], {p_text(r.p)}" for e, r in effects]
        families = [] if self.family_p is None else [f"families: {p_text(self.family_p)}"]
        return (
            f"{self.outcome}: mean {mean[1].estimate:.2f} [{mean[1].low:.2f}, {mean[1].high:.2f}] over {self.n} rows; "
            f"of the variance, {', '.join(shares)}"
            + "".join(f"; {x}" for x in [*told, *families, *self.left_out])
            + "".join(f". Warning: {w}" for w in self.warnings)
        )


def mixed_effects(
    rows: pd.DataFrame, outcome: str = "correct", random: Sequence[str] = RANDOM, said: str = ""
) -> Mixed:
    """Crossed random intercepts of `random`, fixed effects of what else the rows tell apart.

    Args:
        rows: one per observation: the outcome, a column for each of `random` (one with a single level is left out),
            and, if known, "family" and "size" of its model and "method" ("reading", "writing").
        said: the outcome in words.
        outcome: column of what is explained.
        random: columns whose levels are a sample of others.

    Raises:
        AnalysisError: a missing column, an outcome that is not finite or does not vary, or no factor of several levels.

    Example:
        >>> import pandas as pd
        >>> rows = pd.DataFrame({"correct": [0, 1, 1, 0, 1, 1, 0, 1] * 3, "emotion": ["calm", "sad"] * 12})
        >>> rows["topic"] = ["a", "b", "c", "d"] * 6
        >>> result = le.mixed_effects(rows, random=("emotion", "topic"))
        >>> result.outcome
        'correct'
    """
    _check(rows, outcome, random)
    factors = [name for name in random if 1 < rows[name].nunique() < len(rows)]  # one row a level: no part of its own
    design, left_out = _fixed(rows)
    codes = {name: rows[name].astype(str).to_numpy() for name in factors}
    if METHOD in design and (
        unit := next((x for x in ("model", "topic") if rows.get(x, pd.Series()).nunique() > 2), "")
    ):
        codes[f"{unit} by method"] = (rows[unit].astype(str) + "/" + rows[METHOD].astype(str)).to_numpy()
    fitted, said_of_it = _fit(rows[outcome].to_numpy(dtype=float), design, codes)
    df = _degrees(rows, design, factors)
    families = sorted(set(rows[FAMILY]))[1:] if FAMILY in design else []
    fixed, family_p = _fixed_rows(fitted, design, df, [f"{x} over the first" for x in families])
    variances = _random_rows(fitted, codes, sum(design[x].shape[1] for x in (FAMILY, SIZE) if x in design))
    bounds = [r["effect"] for r in variances if r["share"] < AT_BOUND and r["effect"] != REST]
    if bounds:
        said_of_it.append(f"the variance of {', '.join(bounds)} is at its bound of 0")
    mean = float(rows[outcome].mean())
    if set(rows[outcome]) <= {0, 1} and not EXTREME <= mean <= 1 - EXTREME:
        said_of_it.append(f"a mean of {mean:.2f} is too near its end for differences of proportions")
    return Mixed(
        pd.DataFrame([*fixed, *variances]), said or outcome, len(rows), family_p, tuple(left_out), tuple(said_of_it)
    )


def _check(rows: pd.DataFrame, outcome: str, random: Sequence[str]) -> None:
    if missing := [c for c in (outcome, *random) if c not in rows]:
        raise AnalysisError(f"the rows lack {', '.join(missing)}; give one row per observation with these columns")
    values = rows[outcome].to_numpy(dtype=float)
    if not np.isfinite(values).all() or values.min(initial=np.inf) == values.max(initial=-np.inf) or len(values) < 3:
        raise AnalysisError(f"'{outcome}' is not finite, or the same in all {len(values)} rows: nothing to explain")
    if not any(1 < rows[name].nunique() < len(values) for name in random):
        raise AnalysisError(f"none of {', '.join(random)} has two levels with several rows; give more rows")


def _fixed(rows: pd.DataFrame) -> tuple[dict[str, Float[np.ndarray, "n k"]], list[str]]:
    """Columns of each fixed effect that the rows can tell, centred so that the first is the mean; those left out."""
    columns = {"mean": np.ones((len(rows), 1))}
    left_out: list[str] = []
    if METHOD in rows and rows[METHOD].nunique() == 2:
        columns[METHOD] = _centred((rows[METHOD] == "writing").to_numpy(dtype=float)[:, None])
    if "model" not in rows or rows["model"].nunique() < 2:
        return columns, left_out
    models = rows.drop_duplicates("model")
    spare = len(models) - 1
    if FAMILY in rows and models[FAMILY].nunique() > 1:
        counts = models[FAMILY].value_counts()
        if (counts > 1).sum() > 1 and spare - (len(counts) - 1) >= MIN_DF:
            columns[FAMILY] = _centred(pd.get_dummies(rows[FAMILY].astype(str), drop_first=True).to_numpy(dtype=float))
            spare -= len(counts) - 1
        else:
            left_out.append("family is within model: it needs two families of two models each")
    if "size" in rows and models["size"].notna().all() and models["size"].nunique() > 2 and spare - 1 >= MIN_DF:
        columns[SIZE] = _centred(np.log2(rows["size"].to_numpy(dtype=float))[:, None])
    elif "size" in rows:
        left_out.append("size is within model: it needs three sizes, and models to spare")
    return columns, left_out


def _centred(x: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n k"]:
    return x - x.mean(0)


def _fit(
    y: Float[np.ndarray, " n"], design: dict[str, Float[np.ndarray, "n k"]], codes: dict[str, np.ndarray]
) -> tuple[Any, list[str]]:
    """REML by the first optimiser that converges, else the best of all, and a warning."""
    from statsmodels.regression.mixed_linear_model import MixedLM, VCSpec  # a second of imports

    levels = {name: np.unique(code, return_inverse=True) for name, code in codes.items()}
    mats = [[np.eye(len(found))[at]] for found, at in levels.values()]
    spec = VCSpec(list(levels), [[list(found)] for found, _ in levels.values()], mats)
    fits = []
    for method in OPTIMISERS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said in the result
            model = MixedLM(y, np.hstack(list(design.values())), np.zeros(len(y)), exog_vc=spec)
            fits.append(model.fit(reml=True, method=method))
        if fits[-1].converged:
            return fits[-1], []
    return max(fits, key=lambda r: float(r.llf)), ["the fit did not converge; its numbers are a guide only"]


def _degrees(rows: pd.DataFrame, design: dict[str, Float[np.ndarray, "n k"]], factors: Sequence[str]) -> dict[str, int]:
    """Of each fixed effect: the levels that it varies between, less the coefficients spent between them."""
    least = min(rows[name].nunique() for name in factors)
    between = sum(design[name].shape[1] for name in (FAMILY, SIZE) if name in design)
    models = rows["model"].nunique() if "model" in rows else 1
    unit = models if models > 2 else rows["topic"].nunique() if "topic" in rows else len(rows)
    return {
        "mean": max(least - 1 - (between if least == models else 0), 1),
        METHOD: max(unit - 1, 1),
        FAMILY: models - 1 - between,
        SIZE: models - 1 - between,
    }


def _fixed_rows(
    fitted: Any, design: dict[str, Float[np.ndarray, "n k"]], df: dict[str, int], families: Sequence[str]
) -> tuple[list[dict[str, Any]], float | None]:
    """A row per coefficient, and the p-value of all families at once."""
    names = [n for effect, x in design.items() for n in (families if effect == FAMILY else [effect] * x.shape[1])]
    owner = [effect for effect, x in design.items() for _ in range(x.shape[1])]
    at, cov = np.asarray(fitted.fe_params), np.asarray(fitted.cov_params())[: len(names), : len(names)]
    rows = []
    for k, (name, effect) in enumerate(zip(names, owner, strict=True)):
        error, half = float(np.sqrt(cov[k, k])), float(t.ppf(0.975, df[effect]))
        ends = {"low": at[k] - half * error, "high": at[k] + half * error}
        p = float(2 * t.sf(abs(at[k]) / error, df[effect])) if effect != "mean" else np.nan
        rows.append({"effect": name, "kind": "fixed", "estimate": float(at[k]), **ends, "df": df[effect], "p": p})
    mine = [k for k, effect in enumerate(owner) if effect == FAMILY]
    if not mine:
        return rows, None
    wald = float(at[mine] @ np.linalg.solve(cov[np.ix_(mine, mine)], at[mine])) / len(mine)
    return rows, float(f.sf(wald, len(mine), df[FAMILY]))


def _random_rows(fitted: Any, codes: dict[str, np.ndarray], lost: int) -> list[dict[str, Any]]:
    """Variance and share of each factor, and of what is left. `lost`: coefficients spent between models."""
    names, rest = list(codes), float(fitted.scale)
    variance = dict(zip(fitted.model.exog_vc.names, np.asarray(fitted.vcomp, dtype=float), strict=True))
    total, n = sum(variance.values()) + rest, len(next(iter(codes.values())))
    rows = []
    for name in names:
        levels = len(set(codes[name]))
        df = max((levels // 2 if name.endswith(METHOD) else levels) - 1 - (lost if name == "model" else 0), 1)
        noise = rest * levels / n  # of a level's mean
        mean_square = (variance[name] + noise) * df
        low, high = (max(mean_square / chi2.ppf(q, df) - noise, 0.0) for q in (0.975, 0.025))
        others = total - variance[name]
        share = {
            "share": variance[name] / total,
            "share_low": low / (low + others),
            "share_high": high / (high + others),
        }
        rows.append(
            {"effect": name, "kind": "random", "levels": levels, "variance": variance[name], "low": low, "high": high}
            | share
        )
    left = {"share": rest / total, "share_low": np.nan, "share_high": np.nan}
    return [*rows, {"effect": REST, "kind": "random", "levels": n, "variance": rest} | left]


def decoding_rows(found: Decoding, **facts: Any) -> pd.DataFrame:
    """One row per text: whether its held-out decoding is right at the middle layer, which nobody chose for its result.

    Args:
        facts: constant columns (model, family, size, method).
    """
    right = found.correct[len(found.correct) // 2]
    emotions = [found.emotions[k] for k in found.label]
    return pd.DataFrame({"emotion": emotions, "topic": found.topic, "correct": right.astype(float)}).assign(**facts)
