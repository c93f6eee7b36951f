"""The project's own result: figures, tables and the page of findings from one sealed study of three small models.

    python scripts/make_findings.py --study FOLDER    # all of it: hours on two cores; FOLDER holds models/ and judge/
    python scripts/make_findings.py --run RUN         # figures, data and page of a finished run
    python scripts/make_findings.py                   # the page alone, from the data in figures/: no model, no run

The design is figures/three-small-models/study.toml. Of a run its tables are kept in figures/three-small-models/data, and
of docs/findings.md whatever stands between two marks, so that page and data cannot part.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
NAME = "three-small-models"
SET = ROOT / "figures" / NAME
DATA, DESIGN, PAGE = SET / "data", SET / "study.toml", ROOT / "docs" / "findings.md"
OVER = ("claims.csv", "protocols.csv", "published_numbers.csv", "rsa.csv")  # tables of the run that the page needs
OF_A_MODEL = ("words.csv", "words_baselines.csv", "published_suppression.csv", "published_regimes.csv", "steering.csv")
OURS = ("C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "X1")
ALL = "all models"
TITLES = {
    "smollm2-135m-instruct": "SmolLM2-135M-I",
    "qwen2.5-coder-0.5b-instruct": "Qwen2.5-Coder-0.5B-I",
    "qwen2.5-coder-1.5b-instruct": "Qwen2.5-Coder-1.5B-I",
    ALL: "all three",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given = parser.add_mutually_exclusive_group()
    given.add_argument("--study", type=Path, help="run the study in this folder, which holds models/ and judge/")
    given.add_argument("--run", type=Path, help="a finished run folder")
    args = parser.parse_args()
    run = study(args.study) if args.study else args.run
    if run:
        keep(run)
    write()


def study(folder: Path) -> Path:
    """Run the sealed design, or go on with it."""
    shutil.copyfile(DESIGN, folder / "study.toml")
    _call("study", "study.toml", "--seal", "--out", f"runs/{NAME}", at=folder)
    return folder / "runs" / NAME


def _call(*words: str | Path, at: Path = ROOT, allowed: tuple[int, ...] = (0,)) -> None:
    done = subprocess.run([sys.executable, "-m", "lens_emotion", *map(str, words)], cwd=at)
    if done.returncode not in allowed:
        sys.exit(f"lens-emotion {words[0]} ended with {done.returncode}")


def keep(run: Path) -> None:
    """Figures, and the tables that the page is made of."""
    run = run.resolve()
    _call("figures", run, ROOT / "figures" / "tiny-five" / "run" if False else run, "--out", ROOT / "figures")
