"""kill -9 at random moments of a tiny study, then resume: is every table byte-identical to an uninterrupted run?

    python -m benchmarks.kill_resume [--kills 30] [--model tiny-llama] [--seed 0]

Every study runs in a child that is forked after the imports, so that the moments fall into the study and not into the
start of Python.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from lens_emotion.run.config import StudyConfig
from lens_emotion.run.look import verify_run
from lens_emotion.study.pipeline import run_study

SMALL = {"n_permutations": 20, "doses": (2.0,), "story_tokens": 24, "jeong_tokens": 24, "steered_tokens": 8}
LEFT_BEHIND = (".partial", ".set_aside", ".kept")


@dataclass(frozen=True)
class Outcome:
    """What became of one kill.

    Attributes:
        after: seconds after which the study was killed.
        at: the step it was in.
        finished: True if it was done before the signal came.
        different: tables that are not byte-identical after resuming.
        faults: what `verify_run` found after resuming, and what was left behind.
        batches: journals of unfinished steps there were after the kill.
    """

    after: float
    at: str
    finished: bool
    different: tuple[str, ...]
    faults: tuple[str, ...]
    batches: int


def study(config: StudyConfig, folder: Path, kill_after: float | None = None) -> tuple[bool, float, str]:
    """Run a study in a child; (finished, seconds, last step it spoke of)."""
    told = folder.with_suffix(".said")
    told.write_text("")
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _child(config, folder, told)
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if kill_after is not None and time.monotonic() - started >= kill_after:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            break
        time.sleep(0.002)
    finished = os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0
    if os.WIFEXITED(status) and not finished:
        raise RuntimeError(f"the study failed: {told.read_text()}")
    lines = told.read_text().splitlines()
    return finished, time.monotonic() - started, lines[-1] if lines else "starting"


def _child(config: StudyConfig, folder: Path, told: Path) -> None:
    def say(model: str, doing: str) -> None:
        with told.open("a") as file:
            file.write(f"{doing}\n")

    try:
        run_study(config, folder, "kill_resume", say)
        os._exit(0)
    except BaseException:
        told.write_text(traceback.format_exc())
        os._exit(1)


def tables(folder: Path) -> dict[str, bytes]:
    """Every table of a run."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.csv"))}


def kill_and_resume(config: StudyConfig, folder: Path, after: float, wanted: dict[str, bytes]) -> Outcome:
    """Kill one study and resume it."""
    finished, _, at = study(config, folder, after)
    batches = len(list(folder.rglob("*.journal")))
    study(config, folder)
    found = tables(folder)
    different = [name for name in sorted({*wanted, *found}) if wanted.get(name) != found.get(name)]
    faults = [str(d) for d in verify_run(folder).damages]
    faults += [f"left behind: {p}" for name in LEFT_BEHIND for p in folder.rglob(name)]
    faults += [f"left behind: {p}" for p in folder.rglob("*.tmp")]
    return Outcome(after, at, finished, tuple(different), tuple(faults), batches)


def kills(config: StudyConfig, root: Path, n: int, seed: int) -> list[Outcome]:
    """Kill `n` studies at moments drawn evenly from the time that an uninterrupted one takes, and resume them."""
    study(config, root / "warm")
    finished, seconds, _ = study(config, root / "whole")
    assert finished
    wanted, drawn, outcomes = tables(root / "whole"), random.Random(seed), []
    for k in range(n):
        folder = root / f"killed-{k}"
        outcomes.append(kill_and_resume(config, folder, drawn.uniform(0, seconds), wanted))
        shutil.rmtree(folder)
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--model", default="tiny-llama")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    config = StudyConfig(models=(args.model,), device="cpu", **SMALL)
    with tempfile.TemporaryDirectory() as root:
        outcomes = kills(config, Path(root), args.kills, args.seed)
        n_tables = len(tables(Path(root) / "whole"))
    for o in sorted(outcomes, key=lambda o: o.after):
        word = "finished before" if o.finished else f"killed in: {o.at}"
        state = "; ".join([*o.different, *o.faults]) or f"all {n_tables} tables byte-identical"
        print(f"{o.after:6.2f} s  {word:<48} {o.batches} unfinished steps with batches  {state}")
    good = sum(not o.different and not o.faults for o in outcomes)
    killed = sum(not o.finished for o in outcomes)
    print(f"{killed} of {len(outcomes)} killed before the end; {good} of {len(outcomes)} resumed byte-identical")
    return int(good < len(outcomes))


if __name__ == "__main__":
    sys.exit(main())
