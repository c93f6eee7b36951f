"""U-shapes over depth by the two-lines test: one line up to a break, one from it on, with slopes of opposite sign.

A quadratic coefficient alone calls every bent curve a U, saturating ones included, so that it is told only beside the
two lines. Source: Simonsohn, "Two Lines: A Valid Alternative to the Invalid Testing of U-Shaped Relationships With
Quadratic Regressions", AMPPS 2018. Two things differ here. The layers of one topic are not independent, so slopes are
taken per topic and tested over topics. And the break is chosen for each topic on the OTHER topics: chosen on the same
values it would fall where noise makes a turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.stats import t as student

from lens_emotion.display import Result
from lens_emotion.errors import AnalysisError
from lens_emotion.stats.tests import ALPHA, p_text

MIN_LINE = 3  # layers on a line, the break included
MIN_CURVE = 8  # layers of a single curve: its errors have to be learnt from its own residuals
ROUNDING = 1e-10  # share of the values below which a slope is rounding error
SEVERAL = "several turns"
MARGIN = 0.1  # share of the curve's largest mean below which a turn does not matter


@dataclass(frozen=True)
class Coefficient:
    """A coefficient with its 95% interval and two-sided p (Student)."""

    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True, eq=False, repr=False)
class UShape(Result):
    """Verdict of the two-lines test.

    Attributes:
        verdict: "U" or "inverted U" (both slopes significant, of opposite sign); "several turns" (so they are, but
            wherever the one turn is put, the curve turns again, by `margin` or more); "monotone or flat" (a turn of
            `margin` or more is excluded by the slopes' intervals); "undetermined" (none of these).
        break_depth: depth at which the lines meet (Robin Hood break point of all units).
        first, second: slope per unit depth up to the break and from it on.
        quadratic: coefficient of depth squared; a bend, not a U.
        n_units: units (topics) behind the tests; 1 for a single curve. Then the errors of its layers are taken as
            autoregressive: the weaker form, which cannot tell a turn from noise that drifts over layers.
        margin: change along a line, in units of the values, below which a turn does not matter.
        spans: depth that each line covers.
        p_again: p-value of "there is one turn at most", against several of `margin` or more (Bonferroni over pairs of
            layers); 1 for a single curve, which has no errors of its layers.
    """

    verdict: str
    break_depth: float
    first: Coefficient
    second: Coefficient
    quadratic: Coefficient
    n_units: int
    margin: float
    spans: tuple[float, float] = (0.5, 0.5)
    p_again: float = 1.0

    @property
    def form(self) -> str:
        return "over units" if self.n_units > 1 else "single curve"

    @property
    def first_slope(self) -> float:
        return self.first.value

    @property
    def first_low(self) -> float:
        return self.first.low

    @property
    def first_high(self) -> float:
        return self.first.high

    @property
    def first_p(self) -> float:
        return self.first.p

    @property
    def second_slope(self) -> float:
        return self.second.value

    @property
    def second_low(self) -> float:
        return self.second.low

    @property
    def second_high(self) -> float:
        return self.second.high

    @property
    def second_p(self) -> float:
        return self.second.p

    def p_no_turn(self, rising: bool) -> float:
        """One-sided p-value of "one of the lines changes by less than `margin`": of the first up and the second down
        (rising, an inverted U), or the other way round (a U). Either would do, so that the smaller is doubled."""
        p = []
        for line, span, sign in zip((self.first, self.second), self.spans, (1, -1), strict=True):
            sign, reach = sign if rising else -sign, float(student.ppf(0.975, max(self.n_units - 1, 1)))
            error = max((line.high - line.value) / reach, 1e-300)
            p.append(float(student.cdf((sign * line.value - self.margin / span) / error, max(self.n_units - 1, 1))))
        return min(1.0, 2 * min(p))

    @cached_property
    def table(self) -> pd.DataFrame:
        """Rows first line, second line, quadratic: value, low, high (95%), p."""
        rows = {"first line": self.first, "second line": self.second, "quadratic": self.quadratic}
        return pd.DataFrame([{"term": name, **asdict(row)} for name, row in rows.items()])

    def summary(self) -> str:
        """One sentence: the verdict, both slopes, the quadratic beside them, and which form it is."""
        over = f"over {self.n_units} units" if self.n_units > 1 else "on a single curve, the weaker form"
        why = " (neither a turn nor its absence is established)" if self.verdict == "undetermined" else ""
        return (
            f"Two-lines test {over}: {self.verdict}{why}; slope {self.first.value:+.2f} per unit depth "
            f"({p_text(self.first.p)}) up to depth {self.break_depth:.2f}, {self.second.value:+.2f} "
            f"({p_text(self.second.p)}) from there on; quadratic {self.quadratic.value:+.2f} "
            f"({p_text(self.quadratic.p)})."
        )


def two_lines(
    values: Float[np.ndarray, "n_units n_layers"] | Float[np.ndarray, " n_layers"],
    depth: Float[np.ndarray, " n_layers"] | None = None,
    margin: float | None = None,
) -> UShape:
    """Is a curve over depth a U, an inverted U, or neither?

    Args:
        values: one curve per unit (topic): its value at each layer. Units are what is independent. A single curve is
            taken too, in the weaker form.
        depth: of each layer; (layer + 1) / n_layers if not given.
        margin: change along a line, in units of the values, below which a turn does not matter; by default a tenth of
            the largest absolute mean. It decides only between "monotone or flat" and "undetermined".

    Raises:
        AnalysisError: fewer than 5 layers (8 for a single curve), 2 units, values that are not finite.

    Example:
        >>> import numpy as np
        >>> depth = np.arange(1, 13) / 12
        >>> le.two_lines(np.stack([(depth - 0.5) ** 2 + 0.01 * np.sin(40 * depth + i) for i in range(8)])).verdict
        'U'
    """
    values = _numbers(values)
    _check(values)
    n_layers = values.shape[-1]
    depth = (np.arange(n_layers) + 1) / n_layers if depth is None else depth
    fit = _lines_over_units if values.ndim == 2 and len(values) > 1 else _lines_of_one
    curves = np.atleast_2d(values)
    at, first, second, quadratic = fit(curves - curves.mean(axis=1, keepdims=True), depth)
    margin = MARGIN * float(np.abs(curves.mean(0)).max()) if margin is None else margin
    spans = (float(depth[at] - depth[0]), float(depth[-1] - depth[at]))
    verdict, p_again = _verdict(first, second, spans, margin), 1.0
    if len(curves) > 1 and verdict in ("U", "inverted U"):
        p_again, corrected = _turns_again(curves if verdict == "inverted U" else -curves, margin)
        verdict = SEVERAL if corrected <= ALPHA else "undetermined" if p_again <= ALPHA else verdict
        p_again = corrected
    return UShape(verdict, float(depth[at]), first, second, quadratic, len(curves), margin, spans, p_again)


def _numbers(values: object) -> Float[np.ndarray, "..."]:
    try:
        made = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        made = np.zeros(())
    if made.ndim not in (1, 2):
        raise AnalysisError(f"values are {type(values).__name__}; give one curve per unit: numbers [n_units, n_layers]")
    return made


def _check(values: np.ndarray) -> None:
    single = values.ndim == 1 or len(values) == 1
    least = MIN_CURVE if single else 2 * MIN_LINE - 1
    if values.shape[-1] < least:
        raise AnalysisError(
            f"the two-lines test needs at least {least} layers{' of a single curve' * single}; got {values.shape[-1]}"
        )
    if not single and len(values) < 3:
        raise AnalysisError(
            "the two-lines test needs at least 3 units (topics), or their mean as a single curve; got 2"
        )
    if not np.isfinite(values).all():
        raise AnalysisError("the two-lines test needs finite values at every layer; leave out units that have none")


def _verdict(first: Coefficient, second: Coefficient, spans: tuple[float, float], margin: float) -> str:
    if first.p <= ALPHA and second.p <= ALPHA and first.value * second.value < 0:
        return "U" if first.value < 0 else "inverted U"
    falls = [line.low * span < -margin for line, span in zip((first, second), spans, strict=True)]
    rises = [line.high * span > margin for line, span in zip((first, second), spans, strict=True)]
    possible = (falls[0] and rises[1]) or (rises[0] and falls[1])
    return "undetermined" if possible else "monotone or flat"


def _turns_again(values: Float[np.ndarray, "n n_layers"], margin: float) -> tuple[float, float]:
    """p-value of "it rises up to some layer and falls from there": of the clearest step of `margin` or more the wrong
    way, for the layer that makes it least clear; and the same, corrected for the pairs of layers looked at."""
    n, layers = values.shape
    step = values[:, None, :] - values[:, :, None]  # from layer i to layer j
    error = np.maximum(step.std(0, ddof=1) / np.sqrt(n), np.finfo(float).tiny)
    found = {}
    for sign in (-1, 1):
        p = student.sf(sign * step.mean(0) / error, n - 1)
        found[sign] = np.where(sign * step.mean(0) > margin, p, 1.0)
        found[sign][np.tril_indices(layers)] = 1.0
    clearest = [min(found[-1][: at + 1, : at + 1].min(), found[1][at:, at:].min()) for at in range(layers)]
    p = float(max(clearest))
    return p, min(1.0, p * layers * (layers - 1) / 2)


Lines = tuple[int, Coefficient, Coefficient, Coefficient]


def _lines_over_units(values: Float[np.ndarray, "n n_layers"], depth: Float[np.ndarray, " n_layers"]) -> Lines:
    """Break (of all units) and slopes, each unit's taken at the break of the other units."""
    weights = _line_weights(depth)
    bend = values @ _quadratic_weights(depth)
    everyone = np.arange(len(values))
    rest = [everyone != i for i in everyone]
    at = np.array([_unit_break(values[others], bend[others], weights) for others in rest])
    first, second = (np.einsum("nl,nl->n", values, w[at]) for w in weights)
    scale = float(np.abs(values).max())
    n, slopes = len(values), (first, second, bend)
    found = [_coefficient(float(x.mean()), float(x.std(ddof=1)) / np.sqrt(n), n - 1, scale) for x in slopes]
    return _unit_break(values, bend, weights), found[0], found[1], found[2]


def _coefficient(value: float, error: float, df: int, scale: float) -> Coefficient:
    if abs(value) <= ROUNDING * scale:  # a plateau (accuracy 1 at every layer) has a slope of rounding error
        value = 0.0
    error = max(error, 1e-12 * abs(value))  # units that agree to the last digit still have no p of 0
    p = 2 * float(student.sf(abs(value) / error, df)) if error else 1.0
    reach = float(student.ppf(0.975, df)) * error
    return Coefficient(value, value - reach, value + reach, p)


def _line_weights(depth: Float[np.ndarray, " n_layers"]) -> Float[np.ndarray, "2 n_layers n_layers"]:
    """Slope = weights[line, break] @ curve: least squares on the layers up to the break, and from it on."""
    n = len(depth)
    weights = np.zeros((2, n, n))
    for at in _inner(n, MIN_LINE):
        for line, part in enumerate((slice(0, at + 1), slice(at, n))):
            x = depth[part] - depth[part].mean()
            weights[line, at, part] = x / (x @ x)
    return weights


def _quadratic_weights(depth: Float[np.ndarray, " n_layers"]) -> Float[np.ndarray, " n_layers"]:
    return np.asarray(np.linalg.pinv(np.vander(depth, 3))[0])


def _inner(n_layers: int, least: int) -> Int[np.ndarray, " k"]:
    """Where a break leaves `least` layers on each line."""
    return np.arange(least - 1, n_layers - least + 1)


def _unit_break(values: np.ndarray, bend: np.ndarray, weights: np.ndarray) -> int:
    """Robin Hood break of the mean curve: an extreme of the kind the quadratic coefficients (bend) call for."""
    inner = _inner(values.shape[1], MIN_LINE)
    turned = -values if bend.mean() > 0 else values
    peak = inner[turned.mean(0)[inner].argmax()]
    gap = turned[:, [peak]] - turned[:, inner]
    flat = inner[gap.mean(0) <= gap.std(0, ddof=1) / np.sqrt(len(values))]

    def strength(at: int) -> np.ndarray:
        slopes = values @ weights[:, at].T
        return np.abs(slopes.mean(0)) / np.maximum(slopes.std(0, ddof=1), np.finfo(float).tiny)

    return _robin_hood(flat, strength)


def _robin_hood(flat: Int[np.ndarray, " k"], strength: Callable[[int], Iterable[float]]) -> int:
    """The break among the layers within an error of the extreme: it takes layers from the stronger line.

    First at the median of `flat`; then at the quantile that the strength (|t|) of the second line has of both.
    """
    first, second = map(float, strength(int(flat[round(0.5 * (len(flat) - 1))])))
    scale = max(first, second)
    share = second / scale / (first / scale + second / scale) if scale > 0 else 0.5
    return int(flat[round(share * (len(flat) - 1))])


def _lines_of_one(values: Float[np.ndarray, "1 n_layers"], depth: Float[np.ndarray, " n_layers"]) -> Lines:
    """Simonsohn's interrupted regressions of one curve: the break on the first line, then on the second."""
    curve, inner = values[0], _inner(len(depth), MIN_LINE + 1)
    smooth = np.vander(depth, 4)
    hat = smooth @ np.linalg.pinv(smooth)
    fitted, leverage = hat @ curve, np.diag(hat)
    error = np.sqrt(((curve - fitted) ** 2).sum() / (len(depth) - 4) * leverage)
    turned = -fitted if curve @ _quadratic_weights(depth) > 0 else fitted
    peak = inner[turned[inner].argmax()]
    flat = inner[turned[peak] - turned[inner] <= error[peak]]
    at = _robin_hood(flat, lambda b: [abs(x.value) / max(x.high - x.low, 1e-300) for x in _two_slopes(curve, depth, b)])
    return at, *_two_slopes(curve, depth, at), _autoregressive(curve, np.vander(depth, 3), 0)


def _two_slopes(curve: np.ndarray, depth: np.ndarray, at: int) -> tuple[Coefficient, Coefficient]:
    x, layer = depth - depth[at], np.arange(len(depth))
    found = []
    for column, low in ((1, layer <= at), (2, layer < at)):
        design = np.stack([np.ones(len(x)), np.where(low, x, 0), np.where(low, 0, x), (~low).astype(float)], axis=1)
        found.append(_autoregressive(curve, design, column))
    return found[0], found[1]


def _autoregressive(curve: np.ndarray, design: np.ndarray, column: int) -> Coefficient:
    """Least squares with errors AR(1) over layers.

    Newey-West errors are far too small for 8 to 36 layers (false positives up to 0.36). The correlation of the
    residuals is corrected for its bias in short series (Marriott and Pope 1954), taken as it is beyond 0 only.
    """
    n, k = design.shape
    solve = np.linalg.pinv(design)
    beta = solve @ curve
    residual = curve - design @ beta
    total = residual @ residual
    r = float(residual[1:] @ residual[:-1] / total) if total > 0 else 0.0
    r = min(max(r + (1 + 3 * r) / n + k / n, 0.0), 0.95)
    correlation = r ** np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    variance = total / np.trace((np.eye(n) - design @ solve) @ correlation)
    error = np.sqrt(variance * (solve[column] @ correlation @ solve[column]))
    return _coefficient(float(beta[column]), float(error), n - k, float(np.abs(curve).max()))
