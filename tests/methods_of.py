"""The methods paragraphs of a run held against its files: no number may come from elsewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd

import lens_emotion as le
from lens_emotion.stimuli.sets import read_written
from lens_emotion.study.methods import REFERENCES
from lens_emotion.study.steps import load_steered

NUMBER = re.compile(r"(?<!\w)\d+(?:\.\d+)*")
READ = "comprehension/story_mean.safetensors"
BY_DEFINITION = {"95"}  # the percentile of random directions that success must exceed


def numbers_said(text: str) -> list[str]:
    """Those of the paragraphs: without the years of works, the claims' names and what is a hash or a name."""
    body = text.split("\nReferences\n")[0]
    for name in REFERENCES:
        body = body.replace(name, "")
    body = re.sub(r"\bC\d\b|fingerprint \S+|SHA-256 \w+|tiny-\w+|<\|\S+|torch \S+|PyTorch \S+", "", body)
    return NUMBER.findall(body)


def numbers_there(folder: Path) -> set[str]:
    """Whatever the files of a run can give, as it may be written."""
    facts = json.loads((folder / "manifest.json").read_text())
    found = set(NUMBER.findall(" ".join(facts["versions"].values())))
    values = [*facts["config"].values(), *facts["sampling"].values()]
    values += [x for v in values if isinstance(v, list) for x in v]
    for own in folder.glob("*/model.json"):
        facts, acts = json.loads(own.read_text()), le.PooledActivations.load(own.parent / READ)
        values += [facts["info"]["n_layers"], facts["info"]["d_model"], len(acts.neutral), len(acts.emotional)]
        values += [len(acts.emotions), len(acts.emotional.topics), round(acts.n_tokens.mean())]
        if (plain := own.parent / "controls" / "plain.safetensors").exists():
            values.append(len(le.PooledActivations.load(plain)))
        found.add(f"{facts['millions']:.3g}")
        values += [len(read_written(path)[0]) for path in own.parent.glob("*/stories.json")]
        if (steered := own.parent / "steering").exists():
            steering = load_steered(steered)[0]
            values += [steering.layer, len(steering.unsteered), steering.n_emotions]
            found |= {f"{d:.2g}" for d in steering.table.dose_relative} | set(NUMBER.findall(steering.judge))
    found |= {f"{v:.2g}" for v in pd.read_csv(folder / "tables" / "claims.csv").smallest.dropna()}
    return found | {f"{v:g}" for v in values if isinstance(v, int | float)} | BY_DEFINITION


def check_methods(folder: Path) -> str:
    """Every number is one of the run's, every work is both cited and listed; the text, for more."""
    text = le.methods_text(folder)
    assert set(numbers_said(text)) - numbers_there(folder) == set()
    body, listed = text.split("\nReferences\n\n")
    assert set(listed.strip().splitlines()) == {whole for name, whole in REFERENCES.items() if name in body}
    assert set(re.findall(r"[A-Z]\w+(?: et al\.| and \w+)? (?:19|20)\d\d", body)) <= set(REFERENCES)
    return body
