"""Figures of the house: files, lines, the longest chain of imports, imports against the order, what a call passes.

    python scripts/structure.py                   # from the imports as text; a second
    python scripts/structure.py --trace           # also runs an extraction and one model of a study under a profiler
    python scripts/structure.py --root ../before  # of another checkout

Every import counts, also those inside functions and those for type checkers.
"""

from __future__ import annotations

import argparse
import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = "lens_emotion"
# from left to right; a room imports from rooms before it, and those in one group not from each other
ORDER = (
    ("errors", "version"), ("pictures", "progress", "memory", "habits"), ("display",), ("files",),
    ("models", "stimuli"),
    ("extraction",), ("vectors",), ("stats",), ("analysis",), ("steering",), ("presets",), ("laws", "run"), ("study",),
    ("audits",), ("plots",),
    ("report", "play"), ("cli",), ("__main__",),
)  # fmt: skip
TRACE = """
import sys, tempfile, threading
from pathlib import Path
import lens_emotion as le
home, seen = str(Path(le.__file__).parent), set()
def look(frame, event, argument):
    code = frame.f_code
    if event == "call" and code.co_filename.startswith(home) and not code.co_name.startswith("<"):
        seen.add((code.co_filename, code.co_qualname))
def follow(name, what):
    seen.clear()
    threading.setprofile(look)
    sys.setprofile(look)
    what()
    sys.setprofile(None)
    threading.setprofile(None)
    print("passes", name, len({file for file, _ in seen}), len(seen))
model, texts = le.load_model("tiny-llama"), le.load_stimuli("world-en")
extract, study = le.extract_comprehension, le.run_study
settings = le.StudyConfig(models=("tiny-llama",), n_permutations=20)
calls = {
    "extract_comprehension": lambda folder: extract(model, texts),
    "one model of a study": lambda folder: study(settings, folder),
}
for name, call in calls.items():  # each once before it is followed: texts are then in memory
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        call(first)
        follow(name, lambda: call(second))
"""  # with few permutations: the same functions, sooner


def modules(root: Path) -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """The package's modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in known else node.module)
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name in known}
    return found & known.keys()


def room(module: str) -> str:
    """The room of a module; the package itself is its front door and may name anything."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def against_the_order(graph: dict[str, set[str]]) -> Iterator[str]:
    """Imports that run from right to left, or between rooms of one group."""
    rank = {name: i for i, group in enumerate(ORDER) for name in group}
    for a, targets in graph.items():
        for b in sorted(targets):
            x, y = room(a), room(b)
            if x and y and x != y and (x not in rank or y not in rank or rank[y] >= rank[x]):
                yield f"{a} imports {b}"


def longest_chain(graph: dict[str, set[str]]) -> list[str]:
    """The longest path; modules in a circle are counted once."""

    @cache
    def below(module: str) -> tuple[str, ...]:
        open_.add(module)
        ways = [below(t) for t in sorted(graph[module]) if t not in open_]
        open_.discard(module)
        return (module, *max(ways, key=len, default=()))

    open_: set[str] = set()
    return list(max((below(m) for m in graph), key=len, default=()))


def in_circles(graph: dict[str, set[str]]) -> set[str]:
    """Modules that lie on a circle of imports, or between two."""
    left = set(graph)
    while True:
        imported = {t for m in left for t in graph[m]}
        ends = {m for m in left if not graph[m] & left or m not in imported}
        if not ends:
            return left
        left -= ends


def traced(root: Path) -> dict[str, tuple[int, int]]:
    """Files and functions of the package that a call passes through, counted in a process of its own."""
    quiet = {"PYTHONPATH": str(root), "HF_HUB_OFFLINE": "1", "LENS_EMOTION_PROGRESS": "0"}
    done = subprocess.run(
        [sys.executable, "-c", TRACE], cwd=root, env=os.environ | quiet, stdout=subprocess.PIPE, text=True, check=True
    )
    rows = [
        line.removeprefix("passes ").rsplit(" ", 2) for line in done.stdout.splitlines() if line.startswith("passes ")
    ]
    return {name: (int(files), int(functions)) for name, files, functions in rows}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--root", type=Path, default=Path(__file__).parents[1])
    options.add_argument("--trace", action="store_true", help="also run a study of one model and count what it passes")
    chosen = options.parse_args()
    root = chosen.root.resolve()
    known = modules(root)
    graph = {m: imports(path, known) - {m, PACKAGE} for m, path in known.items() if m != PACKAGE}
    sizes = {m: path.read_text(encoding="utf-8").count("\n") for m, path in known.items()}
    chain, wrong, round_ = longest_chain(graph), list(against_the_order(graph)), in_circles(graph)
    print(f"files {len(known)}, lines {sum(sizes.values()):,}")
    print(f"under 60 lines {sum(n < 60 and not known[m].name.startswith('__') for m, n in sizes.items())}, "
          f"over 600 {[m for m, n in sizes.items() if n > 600]}")  # fmt: skip
    print(f"longest chain of imports {len(chain)}: {' > '.join(m.removeprefix(PACKAGE + '.') for m in chain)}")
    print(f"against the order {len(wrong)}", *wrong, sep="\n  ")
    print(f"files in circles {len(round_)}", *sorted(round_), sep="\n  ")
    if chosen.trace:
        for name, (files, functions) in traced(root).items():
            print(f"{name} passes through {files} files and {functions} functions")


if __name__ == "__main__":
    main()
