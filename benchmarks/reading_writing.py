"""What `extraction.py` and `generation.py` measure, as rows: they have a way of their own to take turns, and run alone.

Each is run in a process of its own with --json; its ratios are medians within rounds, of wall seconds, with those of
CPU seconds in the note.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import Options, Row, run_alone
from benchmarks.subjects import TINY

NAME = "reading_writing"
ROOT = Path(__file__).parent.parent
SCRIPTS = ("extraction", "generation")


def rows(options: Options) -> list[Row]:
    """Reading every layer and writing, against the bare Hugging Face model."""
    found = []
    for script in SCRIPTS:
        for model in options.models or (TINY,):
            found += rows_of(script, Path(model).name, _report(script, model, options))
    return found


def _report(script: str, model: str, options: Options) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        command = [sys.executable, "-m", f"benchmarks.{script}", "--model", model, "--json", str(path)]
        command += ["--threads", str(options.threads), "--repeats", str(options.repeats)]
        path_of_package = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH", "")) if p)
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path_of_package}
        )
        if done.returncode:
            raise RuntimeError(f"{script}.py failed on {model}: {done.stderr.strip().splitlines()[-1:]}")
        return dict(json.loads(path.read_text()))


def rows_of(script: str, model: str, report: dict[str, Any]) -> list[Row]:
    """One row per ratio of a script's report; what it calls "before" is history, and left out."""
    found = []
    for what, ratio in report["ratios"].items():
        if what.startswith("before"):
            continue
        walls = report["rounds"][ratio["baseline"]]["wall"]
        seconds = median(walls)
        name, _, baseline = what.partition(" / ")
        note = f"of CPU seconds {1 / ratio['cpu']:.2f}x"
        found.append(
            Row(NAME, f"{script}: {name}, {model}", seconds * ratio["wall"], seconds, baseline, repeats=len(walls),
                note=note, threads=report["threads"])
        )  # fmt: skip
    return found


if __name__ == "__main__":
    run_alone(rows)
