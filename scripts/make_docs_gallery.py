"""Make the thumbnails of docs/gallery.md by running the code of that page.

    python scripts/make_docs_gallery.py

A minute; it needs Chrome or Chromium (through kaleido) and Pillow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "gallery.md"
IMAGES = ROOT / "docs" / "images" / "gallery"
CODE = re.compile(r'^```python title="gallery"\n(.*?)^```', re.DOTALL | re.MULTILINE)
DRAWS = re.compile(r"^figure = le\.plots\.(\w+)\(", re.MULTILINE)


def figures() -> Iterator[tuple[str, Any]]:
    """Name and figure of every block of the page, in its order; the first block only prepares."""
    names: dict[str, Any] = {}
    for code in CODE.findall(PAGE.read_text(encoding="utf-8")):
        exec(compile(code, str(PAGE), "exec"), names)
        if drawn := DRAWS.search(code):
            yield drawn[1], names["figure"]


def main() -> None:
    import plotly.io as pio
    from PIL import Image

    IMAGES.mkdir(parents=True, exist_ok=True)
    for name, figure in figures():
        wide = bool(figure.layout.meta["wide"])
        made = pio.to_image(figure, "png", width=960 if wide else 620, height=int(figure.layout.height))
        Image.open(BytesIO(made)).convert("RGB").save(IMAGES / f"{name}.webp", quality=82, method=6)
    size = sum(path.stat().st_size for path in IMAGES.iterdir())
    print(f"{len(list(IMAGES.iterdir()))} thumbnails, {size // 1000} kB")


if __name__ == "__main__":
    main()
