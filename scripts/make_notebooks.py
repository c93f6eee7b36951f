"""Make the notebooks from plain Python (scripts/notebooks/*.py, cells parted by `# %%`), executed, with their outputs.

python scripts/make_notebooks.py            # writes and executes all
python scripts/make_notebooks.py 02         # those whose names begin with 02
python scripts/make_notebooks.py --no-run   # writes without outputs
python scripts/make_notebooks.py 02 --model gpt2 --out elsewhere   # on another model
"""

from __future__ import annotations

import argparse
import base64
import re
import time
from io import BytesIO
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

SOURCES = Path(__file__).resolve().parent / "notebooks"
FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
LARGE = 80_000  # letters of base64
Cells = list[tuple[str, str]]

# a code host shows the PNG, a live notebook the interactive figure beside it
RENDERER = """import os
import plotly.io as pio
os.environ["LENS_EMOTION_PROGRESS"] = "0"
pio.renderers["png"].width, pio.renderers["png"].height = 1000, None
pio.renderers.default = "plotly_mimetype+png"
"""


def read_cells(path: Path) -> Cells:
    """(kind, text) of every cell of a percent script."""
    cells = []
    for part in re.split(r"^# %%", path.read_text(encoding="utf-8"), flags=re.M)[1:]:
        head, _, body = part.partition("\n")
        if "[markdown]" in head:
            lines = [line.removeprefix("#").removeprefix(" ") for line in body.strip().splitlines()]
            cells.append(("markdown", "\n".join(lines)))
        else:
            cells.append(("code", body.strip()))
    return cells


NOTEBOOKS = {path.stem: read_cells(path) for path in sorted(SOURCES.glob("*.py"))}


def build(cells: Cells) -> nbformat.NotebookNode:
    """A notebook of markdown and code cells, with ids that do not change from one run to the next."""
    make = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    made = [make[kind](text, id=f"cell-{i:02d}") for i, (kind, text) in enumerate(cells)]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return nbformat.v4.new_notebook(cells=made, metadata=metadata)


def execute(notebook: nbformat.NotebookNode) -> None:
    """Run all cells, figures as PNG beside the interactive form."""
    notebook.cells.insert(0, nbformat.v4.new_code_cell(RENDERER, id="renderer"))
    NotebookClient(notebook, timeout=1800, kernel_name="python3").execute(cwd=str(FOLDER))
    notebook.cells.pop(0)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [_lean(o) for o in cell.outputs if o.get("name") != "stderr"]  # progress bars, warnings


def _lean(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Without counters, and a large picture with a palette (its transparent ground stays)."""
    if "execution_count" in output:
        output.execution_count = None
    png = output.get("data", {}).get("image/png")
    if png and len(png) > LARGE:
        made = BytesIO()
        image = Image.open(BytesIO(base64.b64decode(png))).convert("RGBA")
        image.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(made, "PNG", optimize=True)
        output.data["image/png"] = base64.b64encode(made.getvalue()).decode()
    return output


def on_model(cells: Cells, model: str) -> Cells:
    """The same notebook with its one line changed."""
    return [(kind, re.sub(r'^MODEL = ".*"', f"MODEL = {model!r}", text)) for kind, text in cells]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of names; default all")
    parser.add_argument("--no-run", action="store_true", help="write the notebooks without executing them")
    parser.add_argument("--model", help="instead of the one named in the notebook")
    parser.add_argument("--out", type=Path, default=FOLDER)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name, cells in NOTEBOOKS.items():
        if args.names and not name.startswith(tuple(args.names)):
            continue
        started = time.monotonic()
        notebook = build(on_model(cells, args.model) if args.model else cells)
        if not args.no_run:
            execute(notebook)
        path = args.out / f"{name}.ipynb"
        nbformat.write(notebook, path)
        print(f"{path}: {path.stat().st_size / 1e3:.0f} kB, {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
