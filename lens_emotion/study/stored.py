"""A finished run, read back from its folder without its models: what was measured, and every analysis made of it anew.
Token scores of texts, which need the model, are left out.

RUN/MODEL/model.json    the model's facts and what its logit lens was made with (the rest of it stands in tables/)
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from lens_emotion.analysis.lens import Lens
from lens_emotion.errors import ArtifactError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.models.access import ModelInfo
from lens_emotion.run.config import PRESET, READING, STEERING, WRITING, StudyConfig
from lens_emotion.run.store import Store
from lens_emotion.stimuli.emotions import Norm
from lens_emotion.study.atlas import atlas_of
from lens_emotion.study.claims.over_models import all_claims, partner_of
from lens_emotion.study.one_model import FACTS, judge_model
from lens_emotion.study.results import Evidence, StoredModel, StoredRun
from lens_emotion.study.steps import DOSES, STORIES, Say, load_steered, load_written, silent


def read_run(folder: str | Path, say: Say = silent) -> StoredRun:
    """Read a run folder and analyse it again with its own settings; nothing is written, no model is loaded.

    Args:
        folder: of `lens-emotion study`. say: told (model, step) as it goes on.

    Raises:
        ArtifactError: no run folder, unfinished, or of a version that stored less.
    """
    root = Path(folder)
    manifest = manifest_of(root)
    config = StudyConfig(**manifest["config"])
    again = f"; run the study of {root} once more with --out {root} (finished steps are kept)"
    found = []
    for row, asked in zip(manifest["models"], config.models, strict=True):
        say(row["name"], "analysing")
        found.append(_model(Store(root).model(row["name"]).root, config.for_model(asked), again))
    studies = [m.study for m in found]
    names = [m.name for m in found]
    paired = {m.name: m.evidence for m in found if partner_of(m.name, names)}
    return StoredRun(root.resolve().name, config, tuple(found), all_claims(studies, paired, config))


def manifest_of(root: Path) -> dict[str, Any]:
    """A run's manifest.

    Raises:
        ArtifactError: no run folder, or unfinished.
    """
    if root.is_file():
        raise ArtifactError(f"{root} is a file, no run; give the run's folder")
    return _json(root / "manifest.json", f"{root} is no finished run; make one with `lens-emotion study --out {root}`")


def _model(folder: Path, config: StudyConfig, again: str) -> StoredModel:
    facts = _json(folder / FACTS, f"{folder} holds no {FACTS}{again}")
    info = ModelInfo(**facts["info"])

    def acts(name: str) -> PooledActivations | None:
        path = folder / f"{name}.safetensors"
        if not path.exists():
            return None
        found = PooledActivations.load(path)
        return replace(found, header=found.header.with_(model=info.name))

    story, last = acts(f"{READING}/story_mean"), acts(f"{READING}/last_token")
    if story is None or last is None:
        raise ArtifactError(f"{folder} holds no activations of comprehension{again}")
    steered = (folder / STEERING / DOSES).exists()
    steering, every = load_steered(folder / STEERING) if steered else (None, None)
    told = [step for step in (WRITING, PRESET) if (folder / step / STORIES).exists()]
    lacking = {step: load_written(folder / step).why for step in told}
    evidence = Evidence(
        info=info,
        kind=facts["kind"],
        millions=facts["millions"],
        comprehension=story,
        last_token=last,
        conditioned=acts(f"{WRITING}/conditioned"),
        reread=acts(f"{WRITING}/reread"),
        jeong=acts(f"{PRESET}/conditioned"),
        steering=steering,
        everywhere=every,
        stimuli=facts["stimuli"],
        ratings=tuple(Norm(**rating) for rating in facts.get("ratings", ())),
        lacking={step: why for step, why in lacking.items() if why},
    )
    by_layer = atlas_of(evidence.comprehension, config, evidence.ratings)
    tokens = _lens(folder, facts["lens"])
    return StoredModel(evidence, judge_model(evidence, tokens, by_layer, config, time.monotonic()))


def _lens(folder: Path, facts: dict[str, Any]) -> Lens:
    # a token may read "nan" or "None": nothing in this table is missing
    table = pd.read_csv(folder / "tables" / "lens.csv", na_filter=False)
    return Lens(table, pd.read_csv(folder / "tables" / "lens_scripts.csv"), **facts)


def _json(path: Path, missing: str) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(missing) from None
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from None
    if not isinstance(data, dict):
        raise ArtifactError(f"{path} holds no facts of a run")
    return data
