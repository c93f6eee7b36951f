"""A finished run, read back from its folder without its models: what was measured, and every analysis made of it anew.
Token scores of texts, which need the model, are left out.

RUN/MODEL/model.json    the model's facts and what its logit lens was made with (the rest of it stands in tables/)
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import Field

from lens_emotion.analysis.lens import Lens
from lens_emotion.errors import ArtifactError
from lens_emotion.extraction.activations import PooledActivations
from lens_emotion.files.names import check_name, name_of
from lens_emotion.files.read import as_path, read_json, whole_path
from lens_emotion.files.user import record
from lens_emotion.models.access import ModelInfo
from lens_emotion.models.forward import SMALL
from lens_emotion.models.threads import one_core
from lens_emotion.run.config import CONTROLS, PRESET, PUBLISHED, READING, STEERING, WRITING, StudyConfig
from lens_emotion.run.look import MANIFEST, Manifest, read_manifest, read_table
from lens_emotion.run.store import Store
from lens_emotion.stimuli.emotions import Norm
from lens_emotion.study.atlas import atlas_of
from lens_emotion.study.claims.over_models import all_claims, partner_of
from lens_emotion.study.claims.published import protocols_of
from lens_emotion.study.one_model import FACTS, LensFacts, judge_model
from lens_emotion.study.results import Evidence, StoredModel, StoredRun
from lens_emotion.study.seal import state_of
from lens_emotion.study.steps import (
    DOSES,
    STORIES,
    Say,
    load_controls,
    load_published,
    load_steered,
    load_written,
    silent,
)

_MOST = 1e9  # of parameters in millions, and of standardised logits


@dataclass(frozen=True)
class ModelFacts:
    """A model's model.json, as `one_model.write_facts` makes it: `info` of ModelInfo, `lens` of LensFacts, `ratings` of
    Norm. Versions before 0.2 wrote no `ratings`."""

    kind: str
    millions: Annotated[float, Field(gt=0, le=_MOST)]
    stimuli: str
    info: dict[str, Any]
    lens: dict[str, Any]
    ratings: tuple[dict[str, Any], ...] = ()

    def __post_init__(self) -> None:
        rated = [name_of(str(row.get("emotion"))) for row in self.ratings]
        if len(set(rated)) < len(rated):
            raise ArtifactError(f"the ratings of {FACTS} name an emotion twice; run the study again")


def read_run(folder: str | Path, say: Say = silent) -> StoredRun:
    """Read a run folder and analyse it again with its own settings; nothing is written, no model is loaded.

    Args:
        folder: of `lens-emotion study`, finished.
        say: told (model, step) as it goes on.

    Returns:
        The run: `.claims`, `.protocols`, and of every model `.evidence` (activations, steered texts) and `.study` (the
        results of all analyses). Tables alone are read faster: RUN/tables and RUN/MODEL/tables are CSV.

    Raises:
        ArtifactError: no run folder, unfinished, or of a version that stored less.

    Example:
        >>> run = le.read_run("runs/study")  # doctest: +SKIP
        >>> run.models[0].study.comprehension.decoding.summary()  # doctest: +SKIP
    """
    root = as_path(folder)
    manifest = manifest_of(root)
    config = manifest.settings
    again = f"; run the study of {root} once more with --out {root} (finished steps are kept)"
    found = []
    for row, asked in zip(manifest.rows, config.models, strict=True):
        say(row.name, "analysing")
        found.append(_model(Store(root).model(row.name).root, config.for_model(asked), again))
    studies = [m.study for m in found]
    names = [m.name for m in found]
    paired = {m.name: m.evidence for m in found if partner_of(m.name, names)}
    seal = state_of(root, config, names=manifest.names)
    claims = seal.marked(all_claims(studies, paired, config))
    return StoredRun(whole_path(root).name, config, tuple(found), claims, protocols_of(studies, claims))


def manifest_of(root: Path) -> Manifest:
    """A finished run's manifest.

    Raises:
        ArtifactError: no run folder, damaged, or unfinished.
    """
    if root.is_file():
        raise ArtifactError(f"{root} is a file, no run; give the run's folder")
    found = read_manifest(root) if os.path.lexists(root / MANIFEST) else None
    if found is None or not found.finished:
        raise ArtifactError(f"{root} is no finished run; make one with `lens-emotion study --out {root}`")
    return found


def _model(folder: Path, config: StudyConfig, again: str) -> StoredModel:
    path = folder / FACTS
    if not os.path.lexists(path):
        raise ArtifactError(f"{folder} holds no {FACTS}{again}")
    facts = record(ModelFacts, read_json(path), str(path))
    info = record(ModelInfo, facts.info, f"info of {path}")
    lens = record(LensFacts, facts.lens, f"lens of {path}")

    def acts(name: str) -> PooledActivations | None:
        path = folder / f"{name}.safetensors"
        if not path.exists():
            return None
        found = PooledActivations.load(path)
        return replace(found, header=found.header.with_(model=info.name))

    story, last = acts(f"{READING}/story_mean"), acts(f"{READING}/last_token")
    if story is None or last is None:
        raise ArtifactError(f"{folder} holds no activations of comprehension{again}")
    shape = (info.n_layers, info.d_model)
    if shape != (story.n_layers, story.d_model) or not 0 <= lens.layer < info.n_layers == lens.n_layers:
        raise ArtifactError(f"{path} speaks of another model than the activations beside it are of{again}")
    if gone := [
        step for step in config.steps if step not in (PRESET, CONTROLS, PUBLISHED) and not (folder / step).is_dir()
    ]:
        raise ArtifactError(f"{folder} lacks {', '.join(gone)}, which its settings ask for{again}")
    steered = (folder / STEERING / DOSES).exists()
    steering, every = load_steered(folder / STEERING) if steered else (None, None)
    beside = load_controls(folder / CONTROLS)
    again_steered, suppressed = load_published(folder / PUBLISHED)
    told = [step for step in (WRITING, PRESET) if (folder / step / STORIES).exists()]
    lacking = {step: load_written(folder / step).why for step in told}
    evidence = Evidence(
        info=info,
        kind=facts.kind,
        millions=facts.millions,
        comprehension=story,
        last_token=last,
        conditioned=acts(f"{WRITING}/conditioned"),
        reread=acts(f"{WRITING}/reread"),
        jeong=acts(f"{PRESET}/conditioned"),
        steering=steering,
        everywhere=every,
        published=again_steered,
        suppression=suppressed,
        plain=beside.plain,
        matched=beside.stories,
        shortened=beside.passages,
        static=beside.static,
        twins=beside.twins,
        stimuli=facts.stimuli,
        ratings=tuple(record(Norm, rating, f"a rating of {path}") for rating in facts.ratings),
        lacking={step: why for step, why in lacking.items() if why},
    )
    tokens = _lens(folder, lens, info.d_vocab)
    with one_core(info.d_model < SMALL):
        by_layer = atlas_of(story, config, evidence.ratings)
        return StoredModel(evidence, judge_model(evidence, tokens, by_layer, config, time.monotonic()))


_WORDS = {"emotion", "side", "token", "control", "script"}  # the other columns of the lens's tables are numbers
_SHARES = ("base_rate", "share", "null_mean", "null_low", "null_high", "p", "p_corrected", "z_p", "z_p_corrected")
_Z = ("mean_z", "z_low", "z_high")
Limits = dict[str, tuple[float, float]]  # the numbers of a table, by column


def _lens(folder: Path, facts: LensFacts, d_vocab: int) -> Lens:
    known: Limits = {"rank": (1, d_vocab), "token_id": (0, d_vocab - 1), "z": (-_MOST, _MOST)}
    shares = dict.fromkeys(_SHARES, (0.0, 1.0)) | dict.fromkeys(_Z, (-_MOST, _MOST))
    tokens = _columns(folder / "tables" / "lens.csv", {"emotion", "side", "token", "script"}, known)
    scripts = _columns(folder / "tables" / "lens_scripts.csv", {"emotion", "side", "control", "script"}, shares)
    return Lens(tokens, scripts, **asdict(facts))


def _columns(path: Path, words: set[str], numbers: Limits) -> pd.DataFrame:
    """A table with these columns of words, and of numbers in these limits; no cell is missing."""
    # a token may read "nan" or "None"
    table = read_table(path, dtype=dict.fromkeys(_WORDS, str), na_filter=False)
    wrong = sorted((words | numbers.keys()) - set(table.columns))
    wrong += [str(name) for name in table if name not in _WORDS and table[name].dtype.kind not in "if"]
    wrong += [name for name, (low, high) in numbers.items() if not wrong and not table[name].between(low, high).all()]
    wrong += [name for name in ("rank", "token_id") if not wrong and name in numbers and table[name].dtype.kind != "i"]
    if wrong or table.empty:
        what = f"column {wrong[0]} is missing, or not what it should be" if wrong else "no rows"
        raise ArtifactError(f"{path}: {what}; run the study again")
    for name in sorted(words - {"token"}):  # which may be a control character
        for said in table[name].unique():
            check_name(f"{name} in {path}", said)
    return table
