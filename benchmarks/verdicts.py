"""Planted worlds through the claims: how often is each verdict given where the truth is known?

    python -m benchmarks.verdicts [--runs 200] [--only C5 C6] [--processes 2] [--log FILE] [--fresh]

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
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import binom

from benchmarks import verdict_cases, verdict_steering
from benchmarks.verdict_cases import FALSE, TRUE, UNKNOWABLE, World
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


def worlds(only: Sequence[str] = ()) -> Iterator[World]:
    """Every world, claim by claim, or those of some claims or names."""
    for w in (*verdict_cases.worlds(), *verdict_steering.worlds()):
        if not only or w.code in only or w.name in only:
            yield w


def table(found: Sequence[Outcome]) -> str:
    """Two tables in Markdown: claim by claim, then world by world."""
    heads = ["claim", "worlds", "runs", "most wrong", "least power", "broken"]
    rows = []
    for code in dict.fromkeys(o.world.code for o in found):
        mine = [o for o in found if o.world.code == code]
        power = [o.counts[SUPPORTED] / o.n for o in mine if o.world.truth == TRUE and o.world.powered]
        shares = [f"{max(o.wrong for o in mine):.1%}", f"{min(power):.0%}" if power else ""]
        rows.append([code, str(len(mine)), str(sum(o.n for o in mine)), *shares, str(sum(not o.holds for o in mine))])
    every = ["claim", "world", "truth", "runs", *VERDICTS, "wrong"]
    each = []
    for o in found:
        truth = o.world.truth + " (no power asked)" * (o.world.truth == TRUE and not o.world.powered)
        shares = [f"{o.counts[v] / o.n:.0%}" for v in VERDICTS]
        each.append([o.world.code, o.world.name, truth, str(o.n), *shares, f"{o.wrong:.1%}"])
    tables = [[h, ["---"] * len(h), *r] for h, r in ((heads, rows), (every, each))]
    text = "\n\n".join("\n".join("| " + " | ".join(row) + " |" for row in t) for t in tables)
    return f"# Verdicts in planted worlds\n\nMade by `python -m benchmarks.verdicts --table FILE`.\n\n{text}\n"


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


def wanted(only: Sequence[str], runs: int, done: list[Run]) -> Iterator[tuple[str, str, list[int]]]:
    """What is still to be run: all worlds to as many runs, a few seeds of each at a time."""
    known = {(str(r["claim"]), str(r["world"]), r["seed"]) for r in done}
    chosen = list(worlds(only))
    for first in range(0, runs, AT_ONCE):
        for w in chosen:
            last = min(first + AT_ONCE, runs // DEAR if w.dear else runs)
            seeds = [s for s in range(first, last) if (w.code, w.name, s) not in known]
            if seeds:
                yield w.code, w.name, seeds


def work(only: Sequence[str], runs: int, processes: int, log: Path) -> None:
    """Run what the log lacks, and add it."""
    jobs = list(zip(*wanted(only, runs, read(log)), strict=True)) or [(), (), ()]
    with log.open("a", encoding="utf-8") as file, ProcessPoolExecutor(processes) as pool:
        for found in (pool.map if processes > 1 else map)(tried, *jobs):
            file.writelines("\n" + json.dumps(r) for r in found)  # behind a line that was cut off, too
            file.flush()


def outcomes(done: list[Run], only: Sequence[str] = ()) -> list[Outcome]:
    found = []
    for w in worlds(only):
        if mine := [r for r in done if (r["claim"], r["world"]) == (w.code, w.name)]:
            counts = Counter(str(r["verdict"]) for r in mine)
            found.append(Outcome(w, counts, sum(float(str(r["seconds"])) for r in mine)))
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdicts", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=200, help=f"of each world; 1 in {DEAR} of those that take long")
    parser.add_argument("--only", nargs="*", default=(), help="claims, or names of worlds")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--log", type=Path, default=Path("runs/verdicts.jsonl"), help="finished runs, which stay")
    parser.add_argument("--fresh", action="store_true", help="forget the finished runs")
    parser.add_argument("--show", action="store_true", help="run nothing, print what is there")
    parser.add_argument("--table", type=Path, help="write the tables there, in Markdown")
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
    if args.table:
        args.table.write_text(table(found), encoding="utf-8")
    broken = sum(not o.holds for o in found)
    print(f"{len(found)} worlds: {broken} broken")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
