"""The page of findings says what the data beside the figures say, and the design that was sealed is the one kept."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

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
