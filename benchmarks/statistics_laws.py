"""Measure the laws of the statistics: p-values uniform under the null, intervals that cover, a U-test that can say no.

    python benchmarks/statistics_laws.py [--draws 1000] [--json FILE]

Prints a table of each law, what was measured and what is wanted, and exits with 1 if a law is broken. Rows without a
wanted range are there to be seen beside the others: why the defaults are what they are.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import binom, kstest

from lens_emotion.analysis.ushape import two_lines
from lens_emotion.stats.intervals import mean_interval
from lens_emotion.stats.tests import EffectSize, cohens_d, hedges_g, paired_dz, permutation_test, wilson_interval

if TYPE_CHECKING:  # the script also runs as a file, from where the package `benchmarks` cannot be seen
    from benchmarks import measure

Row = dict[str, Any]
COVERS = (0.93, 0.97)
ONE_LINE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda x: x,
    "falling": lambda x: -x,
    "logarithm": lambda x: np.log1p(20 * x) / np.log(21),
    "saturating": lambda x: np.minimum(2 * x, 1),
    "sigmoid": lambda x: 1 / (1 + np.exp(-15 * (x - 0.4))),
    "late sigmoid": lambda x: 1 / (1 + np.exp(-15 * (x - 0.8))),
    "flat": lambda x: 0 * x,
}
TURNING: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "U": lambda x: (2 * x - 1) ** 2,
    "inverted U": lambda x: 1 - (2 * x - 1) ** 2,
    "inverted U, late and half": lambda x: np.where(x < 2 / 3, 1.5 * x, 1 - 1.5 * (x - 2 / 3)),
}
TOPICS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "skewed (gamma 2)": lambda rng, n: (rng.gamma(2, size=n) - 2) / np.sqrt(2),
    "skewed (exponential)": lambda rng, n: rng.exponential(size=n) - 1,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000, help="draws per law (500 for p-values)")
    parser.add_argument("--json", help="write the table to this file too")
    options = parser.parse_args()
    rows = []
    for law in (uniform_p, effect_intervals, wilson, topic_intervals, u_test):
        for row in law(options.draws):
            rows.append(row)
            print(f"{row['law']:<34} {row['case']:<58} {row['measured']:.3f}  {row['wanted']:<16} {row['verdict']}")
            sys.stdout.flush()
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=1)
    broken = int((pd.DataFrame(rows)["verdict"] == "BROKEN").sum())
    print(f"{len(rows)} rows, {broken} broken")
    return int(broken > 0)


def rows(options: measure.Options) -> list[measure.Row]:
    """Each law with a wanted range: the case that comes nearest to breaking it. Too few draws to judge when quick."""
    from benchmarks import measure

    draws = 100 if options.quick else 1000
    chosen = (effect_intervals, wilson)
    if not options.quick:
        chosen = (uniform_p, *chosen, topic_intervals, u_test)
    found = []
    for law in chosen:
        bound = [row for row in law(draws) if row["verdict"]]
        for name in dict.fromkeys(str(row["law"]) for row in bound):
            cases = [row for row in bound if row["law"] == name]
            worst = min(cases, key=_margin)
            low, high = worst["range"]
            limit = None if options.quick else (max(low, 0.0), min(high, 1.0))  # all are shares, or p-values
            settings = {"unit": "", "limit": limit, "repeats": draws, "note": f"worst of {len(cases)}: {worst['case']}"}
            found.append(measure.Row("statistics_laws", f"{name}: {law.__name__}", worst["measured"], **settings))
    return found


def _margin(row: Row) -> float:
    """How far inside its range a measured value lies; negative outside."""
    low, high = row["range"]
    return min(row["measured"] - low, high - row["measured"])


def _row(law: str, case: str, measured: float, low: float = -np.inf, high: float = np.inf) -> Row:
    unbound = low == -np.inf and high == np.inf
    wanted = (
        "" if unbound else f"<= {high}" if low == -np.inf else f">= {low}" if high == np.inf else f"{low} to {high}"
    )
    verdict = "" if unbound else "holds" if low <= measured <= high else "BROKEN"
    found = {"law": law, "case": case, "measured": float(measured), "wanted": wanted, "verdict": verdict}
    return found | {"range": (low, high)}


def uniform_p(draws: int) -> Iterator[Row]:
    cases = [(6, 5, False), (15, 15, False), (10, 10, True), (30, 30, True)]
    for n_a, n_b, paired in cases:
        for alternative in ("greater", "two-sided"):
            rng, p = np.random.default_rng(1), []
            for seed in range(500):
                noise = rng.exponential(size=n_a)
                a, b = (noise + rng.standard_normal(n_a), noise + rng.standard_normal(n_b)) if paired else (
                    rng.exponential(size=n_a), rng.exponential(size=n_b))  # fmt: skip
                test = permutation_test(a, b, paired, alternative, n_permutations=199, seed=seed)
                step = (1 + (alternative == "two-sided")) / test.n_arrangements
                p.append(test.p - rng.random() * step)  # between the values a p can take
            kind = f"{'paired' if paired else 'independent'} {n_a}, {n_b}, {'exact' if test.exact else 'random'}"
            yield _row("p uniform (Kolmogorov-Smirnov p)", f"{kind}, {alternative}", kstest(p, "uniform").pvalue, 0.01)


def effect_intervals(draws: int) -> Iterator[Row]:
    functions: dict[str, Callable[..., EffectSize]] = {"d": cohens_d, "g": hedges_g, "d_z": paired_dz}
    for name, function in functions.items():
        for truth in (0.0, 0.5, 2.0):
            rng, hits = np.random.default_rng(2), 0
            for _ in range(draws):
                a, b = rng.standard_normal((2, 8))
                a = truth + a + b if name == "d_z" else truth + a
                found = function(a, b)
                hits += found.low <= truth <= found.high
            yield _row("95% interval covers", f"{name}, 8 texts a side, true value {truth}", hits / draws, *COVERS)


def wilson(draws: int) -> Iterator[Row]:
    for n, truth in ((40, 0.5), (40, 0.9), (160, 0.05), (160, 0.6)):
        ends = [wilson_interval(k, n) for k in range(n + 1)]
        inside = [k for k, (low, high) in enumerate(ends) if low <= truth <= high]
        covered = float(binom.pmf(inside, n, truth).sum())
        yield _row(
            "95% interval covers", f"Wilson, n = {n}, true share {truth} (computed, not drawn)", covered, *COVERS
        )


def topic_intervals(draws: int) -> Iterator[Row]:
    columns = 4 * draws  # as if they were layers: one call, each column a draw of its own
    for n_topics in (8, 20):
        groups = np.repeat(np.arange(n_topics), 5)
        for name, topic in TOPICS.items():
            rng = np.random.default_rng(3)
            values = np.stack([topic(rng, n_topics) for _ in range(columns)], axis=1)[groups]
            values += 0.5 * rng.standard_normal(values.shape)
            for method in ("bootstrap-t", "t", "bca"):
                found = mean_interval(values, groups, method, n_draws=1000)
                covered = ((found.low <= 0) & (found.high >= 0)).mean()
                wanted = COVERS if method == "bootstrap-t" else ()
                yield _row("95% interval covers", f"{method}, {n_topics} topics, {name}", covered, *wanted)


def curves(
    rng: np.random.Generator, shape: Callable[[np.ndarray], np.ndarray], n: int, n_layers: int, rho: float
) -> np.ndarray:
    """A rise of 0.4 over depth, a level per topic (SD 0.1), and noise (SD 0.1) correlated rho between layers."""
    noise = rng.standard_normal((n, n_layers))
    for layer in range(1, n_layers):
        noise[:, layer] = rho * noise[:, layer - 1] + np.sqrt(1 - rho**2) * noise[:, layer]
    depth = (np.arange(n_layers) + 1) / n_layers
    return 0.4 * shape(depth) + 0.1 * rng.standard_normal((n, 1)) + 0.1 * noise


def u_test(draws: int) -> Iterator[Row]:
    for n, n_layers, rho in ((8, 6, 0.3), (8, 12, 0.3), (8, 12, 0.9), (20, 24, 0.6)):
        for name, shape in (ONE_LINE | TURNING).items():
            rng = np.random.default_rng(4)
            repeats = draws if name in ONE_LINE and n == 8 else draws // 4
            found = [two_lines(curves(rng, shape, n, n_layers, rho)).verdict for _ in range(repeats)]
            case = f"{name}: {n} topics, {n_layers} layers, rho {rho}"
            if name in ONE_LINE:
                yield _row(
                    "U-test, false positives", case, np.mean([v in ("U", "inverted U") for v in found]), high=0.06
                )
            else:
                right = "U" if name == "U" else "inverted U"
                yield _row("U-test, power", case, np.mean([v == right for v in found]), 0.6)
    for n_layers, rho in ((12, 0.0), (24, 0.3), (24, 0.7)):
        for name in ("saturating", "flat", "inverted U"):
            rng, shape = np.random.default_rng(5), (ONE_LINE | TURNING)[name]
            found = [two_lines(curves(rng, shape, 8, n_layers, rho).mean(0)).verdict for _ in range(draws // 4)]
            share = np.mean([v in ("U", "inverted U") for v in found])
            yield _row("U-test on a single curve, U found", f"{name}: {n_layers} layers, rho {rho}", share)


if __name__ == "__main__":
    sys.exit(main())
