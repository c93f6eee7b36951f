"""Small studies that several files of tests share."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from lens_emotion.run.config import StudyConfig
from lens_emotion.study.results import StudyRun

# every step; run once in a session of tests (`studied` in conftest.py)
SMALL = StudyConfig(
    models=("tiny-llama",), n_permutations=20, doses=(3.0, 8.0), story_tokens=24, jeong_tokens=16, steered_tokens=12
)


def copied(run: StudyRun, folder: Path) -> StudyRun:
    """A run whose folder may be changed."""
    return replace(run, folder=str(shutil.copytree(run.folder, folder)))
