"""The page of findings says what the data beside the figures say, and the design that was sealed is the one kept."""

from __future__ import annotations

import importlib.util
import json
import shutil
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import lens_emotion as le
from lens_emotion.run.sealed import read_seal

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "make_findings.py"


@pytest.fixture(scope="module")
def findings() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_findings", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_made_of_the_data(findings) -> None:
    text = findings.PAGE.read_text(encoding="utf-8")
    parts = [found[2] for found in findings.MARK.finditer(text)]
    assert parts and set(parts) <= set(findings.PARTS)
    assert findings.page(text) == text, "run: python scripts/make_findings.py"


def test_the_seal_fits_its_hash_and_the_design_that_is_kept(findings) -> None:
    sealed = read_seal(findings.DATA)
    design = tomllib.loads(findings.DESIGN.read_text(encoding="utf-8"))
    assert sealed is not None and sealed.sha256 in findings.PAGE.read_text(encoding="utf-8")
    assert [Path(name).name for name in sealed.design["models"]] == findings.models()
    assert sealed.design["models"] == [model["name"] for model in design["models"]]
    assert sealed.design["doses"] == design["doses"] and sealed.design["judge"] == design["judge"]


def test_every_part_of_the_page_is_made_of_a_run(findings, studied, tmp_path, monkeypatch) -> None:
    run = Path(studied.folder)
    monkeypatch.setattr(findings, "DATA", tmp_path)
    monkeypatch.setattr(findings, "TITLES", {"tiny-llama": "T", findings.ALL: "all"})
    for name in findings.OVER:
        if (run / "tables" / name).exists():  # a single model is like no other
            shutil.copyfile(run / "tables" / name, tmp_path / name)
    for name in findings.OF_A_MODEL:
        shutil.copyfile(run / "tiny-llama" / "tables" / name, tmp_path / f"tiny-llama.{name}")
    found = json.loads(le.audit(run).findings.to_json(orient="records"))
    (tmp_path / "audit.json").write_text(json.dumps({"findings": found}))
    made = {name: part() for name, part in findings.PARTS.items() if name != "seal"}
    assert f"**{studied.claims.of('tiny-llama')[0].verdict}**" in made["verdicts"]
    assert all("Against: " in line for line in made["reasons"].splitlines() if ": supported" in line)
    assert "tiny-gpt2" not in made["protocols"] and made["protocols"].count("\n") == 2 + len(studied.protocols.rows) - 1
    assert "30 not testable here" in made["reproduced"] and "permuted labels to" in made["words"]
    assert "| T | calm |" in made["suppression"] and "as published" in made["audit"]
