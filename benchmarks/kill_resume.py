"""kill -9 at random moments of a tiny study, then resume: is every table byte-identical to an uninterrupted run?
And the same of a finished run, of which one file after the other is damaged.

    python -m benchmarks.kill_resume [--kills 30] [--damages 0] [--model tiny-llama | --same-name] [--seed 0]

`--same-name` studies two local models whose folders are both called `model`, on five emotions. Every study runs in a
child that is forked after the imports, so that the moments fall into the study and not into the start of Python.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lens_emotion.models.loading import resolve
from lens_emotion.run.config import ALL_STEPS, StudyConfig
from lens_emotion.run.look import verify_run
from lens_emotion.stimuli.emotions import NEUTRAL
from lens_emotion.stimuli.library import load_stimuli
from lens_emotion.study.pipeline import run_study

SMALL = {"n_permutations": 20, "doses": (2.0,), "story_tokens": 24, "jeong_tokens": 24, "steered_tokens": 8}
LEFT_BEHIND = (".partial", ".set_aside", ".kept")
HARMS = ("flipped byte", "cut in half", "emptied", "deleted", "a folder in its place")


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


def kills(config: StudyConfig, root: Path, n: int, seed: int) -> Iterator[Outcome]:
    """Kill `n` studies at moments drawn evenly from the time that an uninterrupted one takes, and resume them."""
    study(config, root / "warm")
    finished, seconds, _ = study(config, root / "whole")
    assert finished
    wanted, drawn = tables(root / "whole"), random.Random(seed)
    for k in range(n):
        folder = root / f"killed-{k}"
        yield kill_and_resume(config, folder, drawn.uniform(0, seconds), wanted)
        shutil.rmtree(folder)


Found = TypeVar("Found", "Outcome", "Mended")


def same_name(root: Path) -> StudyConfig:
    """A small study of two models in folders of one name."""
    texts = load_stimuli("world-en").only(["happy", "sad", "calm", "angry", "afraid", NEUTRAL])
    items = [{"id": t.text_id, "text": t.text, "emotion": t.emotion, "topic": t.topic} for t in texts.items]
    (root / "few.json").write_text(json.dumps({"name": texts.name, "items": items}), encoding="utf-8")
    made = []
    for place, model in (("a", "tiny-llama"), ("b", "tiny-gpt2")):
        shutil.copytree(resolve(model).location, root / place / "model")
        made.append(str(root / place / "model"))
    return StudyConfig(models=tuple(made), stimuli=str(root / "few.json"), device="cpu", **SMALL)


@dataclass(frozen=True)
class Mended:
    """What became of one damaged file.

    Attributes:
        file: from the run folder. harm: one of `HARMS`.
        named: whether the study said so, of a stored step's file; True of any other, which is made anew each time.
        different, faults: as of `Outcome`; what was set aside may stay.
    """

    file: str
    harm: str
    named: bool
    different: tuple[str, ...]
    faults: tuple[str, ...]


def harm(path: Path, how: str) -> None:
    """Damage a file in one of the ways of `HARMS`."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.unlink()
    if how == HARMS[4]:
        path.mkdir()
        (path / "of the user.txt").write_text("kept")
    elif how != HARMS[3]:
        path.write_bytes(raw if how == HARMS[0] else raw[: len(raw) // 2] if how == HARMS[1] else b"")


def kinds(folder: Path) -> list[list[str]]:
    """The files of a finished run by kind: each of a run's and of its steps' is one, all tables of a model another."""
    found: dict[tuple[str, ...], list[str]] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")):
        name = path.relative_to(folder)
        below = name.parts[1:] if len(name.parts) > 1 and name.parts[0] != "tables" else name.parts
        kind = below[:-1] if below[0] in ("tables", "figures") and len(name.parts) > 2 else below
        found.setdefault(kind, []).append(name.as_posix())
    return list(found.values())


def mend(config: StudyConfig, whole: Path, folder: Path, file: str, how: str) -> Mended:
    """Damage one file of a copy of a finished run, and resume."""
    wanted = tables(whole)
    shutil.copytree(whole, folder)
    harm(folder / file, how)
    study(config, folder)
    said = folder.with_suffix(".said").read_text()
    found = tables(folder)
    different = [name for name in sorted({*wanted, *found}) if wanted.get(name) != found.get(name)]
    faults = [str(d) for d in verify_run(folder).damages]
    kept = [p for p in folder.rglob("of the user.txt") if ".set_aside" in p.parts]
    faults += ["what lay in its place is lost"] * (how == HARMS[4] and not kept)
    step = Path(file).parts[-2] if Path(file).parts[-2:-1] and Path(file).parts[-2] in ALL_STEPS else ""
    named = not step or any(f"/{step}/" in line for line in said.splitlines() if line.startswith("damaged"))
    return Mended(file, how, named, tuple(different), tuple(faults))


def damages(config: StudyConfig, root: Path, n: int, seed: int) -> Iterator[Mended]:
    """Damage `n` files of the finished run `root`/whole one by one, every kind of file in turn, and resume."""
    drawn, groups = random.Random(seed), kinds(root / "whole")
    for k in range(n):
        round_, kind = divmod(k, len(groups))
        how = HARMS[(k + round_) % len(HARMS)]
        yield mend(config, root / "whole", root / f"damaged-{k}", drawn.choice(groups[kind]), how)
        shutil.rmtree(root / f"damaged-{k}")


def _told(one: Found, root: Path) -> Found:
    """Print an outcome when it is there."""
    state = "; ".join([*one.different, *one.faults]) or f"all {len(tables(root / 'whole'))} tables byte-identical"
    if isinstance(one, Outcome):
        word = "finished before" if one.finished else f"killed in: {one.at}"
        print(f"{one.after:6.2f} s  {word:<48} {one.batches} unfinished steps with batches  {state}", flush=True)
    else:
        print(f"{one.harm:<22} {one.file:<56} {state}{'' if one.named else '; not named'}", flush=True)
    return one


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--damages", type=int, default=0)
    parser.add_argument("--model", default="tiny-llama")
    parser.add_argument("--same-name", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        plain = StudyConfig(models=(args.model,), device="cpu", **SMALL)
        config = same_name(Path(root)) if args.same_name else plain
        outcomes = [_told(o, Path(root)) for o in kills(config, Path(root), args.kills, args.seed)]
        mended = [_told(m, Path(root)) for m in damages(config, Path(root), args.damages, args.seed)]
    good = sum(not o.different and not o.faults for o in outcomes)
    killed = sum(not o.finished for o in outcomes)
    print(f"{killed} of {len(outcomes)} killed before the end; {good} of {len(outcomes)} resumed byte-identical")
    sound = sum(m.named and not m.different and not m.faults for m in mended)
    print(f"{sound} of {len(mended)} damaged files: resumed byte-identical, and named where it is a stored step's")
    return int(good < len(outcomes) or sound < len(mended))


if __name__ == "__main__":
    sys.exit(main())
