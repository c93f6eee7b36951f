"""Make the thumbnails of docs/gallery.md by running the code of that page.

    python scripts/make_docs_gallery.py

A minute; it needs Chrome or Chromium (through kaleido) and Pillow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
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
    drawn = dict(figures())
    with TemporaryDirectory() as scratch:
        pictures = [Path(scratch) / f"{name}.png" for name in drawn]
        pio.write_images(
            list(drawn.values()),
            [str(path) for path in pictures],
            width=[960 if figure.layout.meta["wide"] else 620 for figure in drawn.values()],
            height=[int(figure.layout.height) for figure in drawn.values()],
        )
        for path in pictures:
            Image.open(path).convert("RGB").save(IMAGES / f"{path.stem}.webp", quality=82, method=6)
    made = list(IMAGES.iterdir())
    print(f"{len(made)} thumbnails, {sum(path.stat().st_size for path in made) // 1000} kB")


if __name__ == "__main__":
    main()
