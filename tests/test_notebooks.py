"""Every notebook runs from top to bottom on a tiny model, and is what its source says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
from make_notebooks import NOTEBOOKS, build, on_model  # noqa: E402


def test_there_are_six_notebooks_each_with_one_line_to_change():
    assert [name[:2] for name in NOTEBOOKS] == ["01", "02", "03", "04", "05", "06"]
    for name, cells in NOTEBOOKS.items():
        first = next(text for kind, text in cells if kind == "code")
        assert first.startswith('MODEL = "tiny-'), name
        changed = on_model(cells, "gpt2")
        assert [i for i, (a, b) in enumerate(zip(cells, changed, strict=True)) if a != b] == [
            next(i for i, (kind, _) in enumerate(cells) if kind == "code")
        ]


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_runs_top_to_bottom(name, monkeypatch):
    from nbclient import NotebookClient

    monkeypatch.setenv("PLOTLY_RENDERER", "json")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = build(NOTEBOOKS[name])
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert sum(c.source.count(".show()") for c in code) == sum("application/json" in o.get("data", {}) for c in code
                                                              for o in c.outputs)  # fmt: skip


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_committed_notebook_is_up_to_date_and_has_its_outputs(name):
    committed = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    assert [(c.cell_type, c.source) for c in committed.cells] == [tuple(c) for c in NOTEBOOKS[name]]
    images = [o for c in committed.cells for o in c.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(images) == sum(text.count(".show()") for kind, text in NOTEBOOKS[name] if kind == "code") >= 3
    assert max(len(o.data["image/png"]) * 3 / 4 for o in images) <= 100_000
    assert (ROOT / "notebooks" / f"{name}.ipynb").stat().st_size < 700_000
