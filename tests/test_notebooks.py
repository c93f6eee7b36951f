"""Every notebook runs from top to bottom on a tiny model, and is what its source says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
from make_notebooks import NOTEBOOKS, build  # noqa: E402


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_runs_top_to_bottom(name, monkeypatch):
    from nbclient import NotebookClient

    monkeypatch.setenv("PLOTLY_RENDERER", "json")
    notebook = build(NOTEBOOKS[name])
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    assert sum(bool(c.get("outputs")) for c in notebook.cells if c.cell_type == "code") >= 8


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_committed_notebook_is_up_to_date_and_has_its_outputs(name):
    committed = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    assert [(c.cell_type, c.source) for c in committed.cells] == [tuple(c) for c in NOTEBOOKS[name]]
    images = [o for c in committed.cells for o in c.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(images) >= 3
