"""Mistakes put into a copy of the package, one at a time: does a test see each of them?

    python -m benchmarks.mutants [--only PART ...] [--out FILE] [--timeout 120]

The list is benchmarks/mutants/PART.toml: a table [[mutant]] for every mistake, with its `file`, the `old` text (found
there exactly once), the `new` one, and the `tests` that should fail (files, or file::test); `equivalent` says why one
changes nothing that could be seen. A mistake that no test sees is one that a change of tomorrow can bring in.

The checkout is never touched: package and tests are copied to a temporary folder. Results are kept in FILE, a line of
JSON each, under a hash of the mistake, the file and its tests: what has not changed is not run again. Each test is
tried without a mistake first; one that fails then counts for nothing. Exits with 1 if a mistake is unseen, or its
place is no longer found.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LIST = Path(__file__).with_suffix("")
COPIED = ("lens_emotion", "tests", "benchmarks", "scripts", "docs", "pyproject.toml", "README.md", "CHANGELOG.md")
# loaded once, before the processes of the mistakes part: none of these is under test
HEAVY = ("torch", "transformers", "transformer_lens", "pandas", "sklearn.linear_model", "scipy.stats", "pytest")
OUTCOMES = ("seen", "unseen", "equivalent", "stale", "no test", "timeout", "broken")
FAILED, PASSED = 1, 0  # pytest's exit codes
CONFTEST = "tests/conftest.py"


@dataclass(frozen=True)
class Mutant:
    """A mistake: `old` becomes `new` in `file`, and `tests` should fail."""

    part: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...] = ()
    equivalent: str = ""

    @property
    def name(self) -> str:
        """Its place and what is written there, in one line."""
        changed = next((n.strip() for n in self.new.splitlines() if n not in self.old.splitlines()), "(left out)")
        return f"{self.file.removeprefix('lens_emotion/')}: {changed[:90]}"

    def mutated(self, root: Path) -> str | None:
        """The file with its mistake; None if the old text is not there exactly once."""
        path = root / self.file
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        return text.replace(self.old, self.new) if text.count(self.old) == 1 else None

    def key(self, root: Path) -> str:
        """Of all that decides whether it is seen: the mistake, its file and its tests."""
        files = [self.file, CONFTEST, *sorted({t.partition("::")[0] for t in self.tests})]
        return _hash(*map(repr, (self.old, self.new, self.tests)), *_contents(root, files))


def mutants(folder: Path = LIST) -> list[Mutant]:
    """Every mistake of the list, by part."""
    found = []
    for path in sorted(folder.glob("*.toml")):
        for row in tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]:
            found.append(Mutant(path.stem, **{k: tuple(v) if k == "tests" else v for k, v in row.items()}))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutants", description=(__doc__ or "").splitlines()[0])
    parts = sorted({m.part for m in mutants()})
    parser.add_argument("--only", nargs="+", default=parts, metavar="PART", choices=parts, help=", ".join(parts))
    parser.add_argument("--out", type=Path, default=Path("mutants.jsonl"), help="results, read and added to")
    parser.add_argument("--timeout", type=float, default=120, help="seconds for one mistake")
    args = parser.parse_args(arguments)
    chosen = [m for m in mutants() if m.part in args.only]
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = copied(Path(folder))
        kept = Kept(args.out)
        new = [m for m in chosen if not m.equivalent and not kept[m.key(copy)]]
        fails_without(sorted({t for m in new for t in m.tests}), copy, kept)
        results = [(m, tried(m, copy, kept, args.timeout)) for m in _told(chosen)]
    print(table(results))
    for wanted in OUTCOMES[3:] + OUTCOMES[1:2]:
        for mutant in (m for m, outcome in results if outcome == wanted):
            print(f"{wanted}: {mutant.part}: {mutant.name}")
    return int(any(outcome not in ("seen", "equivalent") for _, outcome in results))


def _told(chosen: Sequence[Mutant]) -> Iterator[Mutant]:
    for i, mutant in enumerate(chosen, 1):
        print(f"{i} of {len(chosen)}  {mutant.part}: {mutant.name}", file=sys.stderr, flush=True)
        yield mutant


def table(results: Sequence[tuple[Mutant, str]]) -> str:
    """Counts by part, in Markdown."""
    columns = [o for o in OUTCOMES if o in OUTCOMES[:3] or any(outcome == o for _, outcome in results)]
    lines = [f"| part | {' | '.join(columns)} |", "| --- |" + " --- |" * len(columns)]
    counts: dict[str, Counter[str]] = {}
    for mutant, outcome in results:
        counts.setdefault(mutant.part, Counter())[outcome] += 1
    for part, count in [*counts.items(), ("in all", sum(counts.values(), Counter()))]:
        lines.append(f"| {part} | {' | '.join(str(count[c]) for c in columns)} |")
    return "\n".join(lines)


class Kept:
    """Results of before, a line of JSON each; a new one is added at once."""

    def __init__(self, path: Path) -> None:
        self.path, self.found = path, {}
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        for line in lines:
            with suppress(ValueError):  # cut short
                row = json.loads(line)
                self.found[row["key"]] = row["result"]

    def __getitem__(self, key: str) -> Any:
        return self.found.get(key)

    def add(self, key: str, result: Any, **more: Any) -> Any:
        self.found[key] = result
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": key, "result": result, **more}, ensure_ascii=False) + "\n")
        return result


def copied(folder: Path) -> Path:
    """A copy of the package and its tests, where mistakes are made."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.is_file():
            shutil.copy(source, folder / name)
    return folder


def tried(mutant: Mutant, copy: Path, kept: Kept, timeout: float) -> str:
    """What came of a mistake: one of `OUTCOMES`."""
    changed = mutant.mutated(copy)
    if changed is None:
        return "stale"
    if mutant.equivalent:
        return "equivalent"
    key = mutant.key(copy)
    if kept[key]:
        return kept[key]
    failing = fails_without(mutant.tests, copy, kept)
    tests = [test for test in mutant.tests if test not in failing]
    for test in sorted(failing):
        print(f"  fails without the mistake: {test}", file=sys.stderr)
    if not tests:
        return "no test"
    path = copy / mutant.file
    before = path.read_text(encoding="utf-8")
    began = time.monotonic()
    try:
        _put(path, changed)
        code, failed = run_tests(copy, ["-x", *tests], timeout)
    finally:
        _put(path, before)
    outcome = {FAILED: "seen", PASSED: "unseen", None: "timeout"}.get(code, "broken")
    seconds = round(time.monotonic() - began, 1)
    return kept.add(key, outcome, part=mutant.part, name=mutant.name, by=failed[:1], seconds=seconds)


def fails_without(tests: Sequence[str], copy: Path, kept: Kept) -> set[str]:
    """Those of the tests that fail, or cannot be run, without any mistake; those of one file are run at once."""
    package = [str(p.relative_to(copy)) for p in sorted((copy / "lens_emotion").rglob("*.py"))]
    known = _hash(*_contents(copy, package))
    keys = {t: _hash("without", t, known, *_contents(copy, [CONFTEST, t.partition("::")[0]])) for t in tests}
    for file in dict.fromkeys(test.partition("::")[0] for test in tests):
        asked = [t for t in keys if t.partition("::")[0] == file and kept[keys[t]] is None]
        code, failed = run_tests(copy, asked, 900) if asked else (PASSED, [])
        for test in asked:
            if code in (PASSED, FAILED):
                wrong = any(name == test or name.startswith((f"{test}[", f"{test}::")) for name in failed)
            else:  # one of them may not be there
                wrong = run_tests(copy, [test], 900)[0] != PASSED
            kept.add(keys[test], "fails" if wrong else "passes", name=test)
    return {test for test, key in keys.items() if kept[key] == "fails"}


_written = [0]


def _put(path: Path, text: str) -> None:
    """Write a file with a time of its own, so that no compiled form of another content passes for it."""
    path.write_text(text, encoding="utf-8")
    _written[0] += 1
    at = time.time() - 10**6 + _written[0]
    os.utime(path, (at, at))


def run_tests(copy: Path, arguments: Sequence[str], timeout: float) -> tuple[int | None, list[str]]:
    """Run tests on the copy, in a process of their own; the exit code (None: it took too long) and what failed."""
    for name in HEAVY:
        importlib.import_module(name)
    told = copy / "failed.txt"
    told.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        _run_in_child(copy, arguments, told)
    until = time.monotonic() + timeout
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > until:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None, []
        time.sleep(0.02)
    code = os.waitstatus_to_exitcode(ended[1])
    return code, told.read_text(encoding="utf-8").splitlines() if told.is_file() else []


def _run_in_child(copy: Path, arguments: Sequence[str], told: Path) -> None:
    """Never returns: the process ends with pytest's exit code."""
    code = 3
    try:
        os.setsid()
        with open(copy / "output.txt", "wb") as out:
            for descriptor in (1, 2):
                os.dup2(out.fileno(), descriptor)
        os.chdir(copy)
        os.environ |= {"PYTHONPATH": str(copy), "HF_HUB_OFFLINE": "1", "LENS_EMOTION_PROGRESS": "0"}
        sys.dont_write_bytecode = False  # compiled once, which takes longer than most tests do
        sys.path[:] = [str(copy), *(p for p in sys.path if p and Path(p).resolve() != ROOT)]
        for name in [n for n in sys.modules if n.partition(".")[0] in ("benchmarks", "lens_emotion")]:
            del sys.modules[name]
        code = _pytest(arguments, told)
    finally:
        os._exit(code)


def _pytest(arguments: Sequence[str], told: Path) -> int:
    import pytest

    class Failures:
        def pytest_runtest_logreport(self, report: Any) -> None:
            if report.failed:
                with told.open("a", encoding="utf-8") as file:
                    file.write(f"{report.nodeid}\n")

    return int(pytest.main([*arguments, "-q", "-p", "no:cacheprovider"], plugins=[Failures()]))


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def _contents(root: Path, files: Sequence[str]) -> list[str]:
    return [(root / f).read_text(encoding="utf-8") if (root / f).is_file() else "" for f in files]


if __name__ == "__main__":
    sys.exit(main())
