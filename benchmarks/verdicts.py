"""Planted worlds through the claims: how often is each verdict given where the truth is known?

    python -m benchmarks.verdicts [--runs 200] [--only C5] [--processes 2] [--log FILE] [--fresh]

A world is true (the effect is there, at the smallest size of interest or above), false (it is not), or unknowable (the
assay could not say: floor, ceiling, a judge at chance, doses too small). Wrong is "supported" where it is false or
unknowable, and "not supported" where it is true or unknowable. At most 5% of the runs of any world may be wrong (the
binomial error of the runs allowed for), and true worlds must be supported in 80%.

Every finished run is a line of the log; what it holds is not run again, so that more runs add to those that are there.
`--fresh` begins anew, which a change of the claims calls for.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import binom

from benchmarks.verdict_cases import FALSE, TRUE, UNKNOWABLE, World, worlds
from lens_emotion.study.verdict import NOT_SUPPORTED, NOT_TESTABLE, SUPPORTED, UNDETERMINED

WRONG = {TRUE: {NOT_SUPPORTED}, FALSE: {SUPPORTED}, UNKNOWABLE: {SUPPORTED, NOT_SUPPORTED}}
VERDICTS = (SUPPORTED, NOT_SUPPORTED, UNDETERMINED, NOT_TESTABLE)
LIMIT, POWER = 0.05, 0.8
AT_ONCE = 5  # seeds of one world that a process takes
DEAR = 4  # times fewer runs of worlds that take long

Run = dict[str, object]


@dataclass(frozen=True)
class Outcome:
    """Counts of the verdicts of a world."""

    world: World
    counts: Counter[str]
    seconds: float

    @property
    def n(self) -> int:
        return self.counts.total()

    @property
    def wrong(self) -> float:
        return sum(self.counts[v] for v in WRONG[self.world.truth]) / max(self.n, 1)

    @property
    def holds(self) -> bool:
        """Whether at most 5% are wrong, and true worlds are seen, up to what so few runs scatter by."""
        few = int(binom.ppf(0.99, self.n, LIMIT))
        least = int(binom.ppf(0.01, self.n, POWER)) if self.world.truth == TRUE and self.world.powered else 0
        return self.wrong * self.n <= few and self.counts[SUPPORTED] >= least

    def line(self) -> str:
        w, n = self.world, max(self.n, 1)
        shares = "".join(f"{self.counts[v] / n:>16.0%}" for v in VERDICTS)
        mark = "" if self.holds else "  BROKEN"
        facts = f"{w.code:<12}{w.name:<52}{w.truth:<12}{self.n:>5}"
        return f"{facts}{shares}{self.wrong:>8.1%}{mark}  {self.seconds / n:.2f} s"


def tried(code: str, name: str, seeds: list[int]) -> list[Run]:
    """The verdicts of one world's draws."""
    world = next(w for w in worlds() if (w.code, w.name) == (code, name))
    found: list[Run] = []
    for seed in seeds:
        start = time.perf_counter()
        claim = world.run(1000 + seed)
        facts = {"claim": code, "world": name, "seed": seed, "verdict": claim.verdict, "reason": claim.reason}
        found.append(facts | {"seconds": round(time.perf_counter() - start, 3)})
    return found


def read(log: Path) -> list[Run]:
    """The finished runs; a last line that was cut off is none."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def wanted(only: str, runs: int, done: list[Run]) -> Iterator[tuple[str, str, list[int]]]:
    """What is still to be run: all worlds to as many runs, a few seeds of each at a time."""
    known = {(str(r["claim"]), str(r["world"]), r["seed"]) for r in done}
    chosen = [w for w in worlds() if not only or w.code == only or only in w.name]
    for first in range(0, runs, AT_ONCE):
        for w in chosen:
            last = min(first + AT_ONCE, runs // DEAR if w.dear else runs)
            seeds = [s for s in range(first, last) if (w.code, w.name, s) not in known]
            if seeds:
                yield w.code, w.name, seeds


def work(only: str, runs: int, processes: int, log: Path) -> None:
    """Run what the log lacks, and add it."""
    with log.open("a", encoding="utf-8") as file, ProcessPoolExecutor(processes) as pool:
        jobs = list(wanted(only, runs, read(log)))
        for found in pool.map(tried, *([job[i] for job in jobs] for i in range(3))):
            file.writelines(json.dumps(r) + "\n" for r in found)
            file.flush()


def outcomes(done: list[Run], only: str = "") -> list[Outcome]:
    found = []
    for w in worlds():
        mine = [r for r in done if (r["claim"], r["world"]) == (w.code, w.name)]
        if mine and (not only or w.code == only or only in w.name):
            counts = Counter(str(r["verdict"]) for r in mine)
            found.append(Outcome(w, counts, sum(float(str(r["seconds"])) for r in mine)))
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdicts", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=200, help=f"of each world; 1 in {DEAR} of those that take long")
    parser.add_argument("--only", default="", help="a claim, or a part of a world's name")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--log", type=Path, default=Path("runs/verdicts.jsonl"), help="finished runs, which stay")
    parser.add_argument("--fresh", action="store_true", help="forget the finished runs")
    parser.add_argument("--show", action="store_true", help="run nothing, print what is there")
    args = parser.parse_args(arguments)
    args.log.parent.mkdir(parents=True, exist_ok=True)
    if args.fresh:
        args.log.unlink(missing_ok=True)
    if not args.show:
        work(args.only, args.runs, args.processes, args.log)
    found = outcomes(read(args.log), args.only)
    print(
        f"{'claim':<12}{'world':<52}{'truth':<12}{'runs':>5}" + "".join(f"{v:>16}" for v in VERDICTS) + f"{'wrong':>8}"
    )
    print("\n".join(o.line() for o in found))
    broken = sum(not o.holds for o in found)
    print(f"{len(found)} worlds: {broken} broken")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
